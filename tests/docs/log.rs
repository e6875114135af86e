//! Lines of the log are for programs, too: the message of an event is always the same, what changes is in its fields.

use std::fs;
use std::path::Path;

use crate::{report, rust_files};

const MACROS: [&str; 5] = ["error!(", "warn!(", "info!(", "debug!(", "trace!("];

/// What stands in the parentheses of each event of a source.
fn events(source: &str) -> Vec<&str> {
    let starts = source.match_indices("tracing::").filter_map(|(at, word)| {
        let rest = &source[at + word.len()..];
        MACROS.iter().find_map(|name| rest.strip_prefix(name))
    });
    starts.map(|rest| &rest[..end(rest)]).collect()
}

/// Where the parenthesis closes that was open before; those within texts do not count.
fn end(rest: &str) -> usize {
    let (mut depth, mut quoted) = (1, false);
    for (at, letter) in rest.char_indices() {
        match letter {
            '"' => quoted = !quoted,
            '(' if !quoted => depth += 1,
            ')' if !quoted => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

/// The texts in quotes.
fn texts(event: &str) -> impl Iterator<Item = &str> {
    event.split('"').skip(1).step_by(2)
}

#[test]
fn messages_have_no_values_in_them() {
    let mut files = Vec::new();
    for folder in ["src/control", "src/dpdk", "src/bin/shuntd"] {
        rust_files(Path::new(folder), &mut files);
    }
    let mut wrong = Vec::new();
    let mut seen = 0;
    for file in files {
        let source = fs::read_to_string(&file).unwrap();
        for event in events(&source) {
            seen += 1;
            let holds = texts(event).find(|text| text.contains('{'));
            wrong.extend(holds.map(|text| format!("{}: {text:?}: make it fields", file.display())));
        }
    }
    assert!(seen > 40, "only {seen} events were found");
    report(&wrong);
}

#[test]
fn a_message_with_a_value_is_seen() {
    let source =
        "tracing::info!(port, \"it is {up}\");\nmatch a { B => tracing::warn!(\"up\"), _ => {} }";
    let found = events(source);
    assert_eq!(found, ["port, \"it is {up}\"", "\"up\""]);
    assert!(texts(found[0]).any(|text| text.contains('{')));
}
