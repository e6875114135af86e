//! Every line that a page tells people to type is held by something, or stands among the exceptions with a reason.

use std::collections::BTreeSet;
use std::fs;

use super::{command, report};
use crate::shared_typed::{Fate, RULES, Typed, by, of_page, typed};

#[test]
fn every_line_people_are_told_to_type_has_a_fate() {
    let lines = typed();
    assert!(lines.len() > 80, "only {} lines were found", lines.len());
    let unknown = lines.iter().filter(|typed| typed.fate().is_none());
    let say = |typed: &Typed| {
        format!("{}: tests/shared/typed.rs has no rule for `{}`", typed.page, typed.line)
    };
    report(&unknown.map(say).collect::<Vec<_>>());
}

/// A rule that fits nothing is an exception left behind.
#[test]
fn every_rule_is_for_a_line_there_is() {
    let lines = typed();
    let is_first = |words: &str, line: &str| {
        let first = RULES.iter().find(|(words, _)| line.starts_with(words));
        first.is_some_and(|(first, _)| *first == words)
    };
    let idle = RULES.iter().filter(|(words, _)| !lines.iter().any(|it| is_first(words, &it.line)));
    report(&idle.map(|(words, _)| format!("no line begins with `{words}`")).collect::<Vec<_>>());
}

/// Who is said to run a line asks for all that it is said to run.
#[test]
fn lines_that_another_test_runs_are_asked_for_by_it() {
    let files = RULES.iter().filter_map(|(_, fate)| match fate {
        Fate::By(file) => Some(*file),
        _ => None,
    });
    for file in files.collect::<BTreeSet<_>>() {
        let text = fs::read_to_string(file).expect(file);
        assert!(text.contains("by(file!())"), "{file} does not ask");
        assert!(!by(file).is_empty(), "{file} would get nothing");
    }
}

/// What is ours is run, here or by another test.
#[test]
fn no_line_of_our_own_programs_is_left_alone() {
    let ours = typed().into_iter().filter(|typed| command(&typed.line).is_some());
    let left = ours.filter(|typed| matches!(typed.fate(), Some(Fate::Left(_) | Fate::Make)));
    report(&left.map(|typed| format!("{}: `{}`", typed.page, typed.line)).collect::<Vec<_>>());
}

#[test]
fn make_has_the_targets_that_are_named() {
    let makefile = fs::read_to_string("Makefile").unwrap();
    let targets = makefile.lines().filter_map(|line| line.split_once(':'));
    let targets: BTreeSet<_> = targets.map(|(target, _)| target).collect();
    let lines = typed();
    let made = lines.iter().filter(|typed| typed.fate() == Some(Fate::Make));
    let named: BTreeSet<_> =
        made.filter_map(|typed| typed.line.split_whitespace().nth(1)).collect();
    assert!(named.len() > 2, "only {named:?} are named");
    let gone: Vec<_> = named.difference(&targets).collect();
    assert!(gone.is_empty(), "make has no target {gone:?}");
}

#[test]
fn lines_are_found_where_they_are_typed_and_nowhere_else() {
    let page = "# x\n```sh\nmake a # that's why\n\n# only said\nshunt b '{\n  \"c\": 1 }' d\n```\n`make no`\n\
                ```text\n$ shunt e\nwhat it prints\n```\n   ```sh\n   ip f\n   ```\n```toml\ng = 1\n```\n";
    let found = of_page("x.md", page).into_iter();
    let found: Vec<_> = found.map(|it| (it.block, it.line, it.prints.join("|"))).collect();
    let expected = [
        (1, "make a # that's why", ""),
        (1, "shunt b '{\n\"c\": 1 }' d", ""),
        (2, "shunt e", "what it prints"),
        (3, "ip f", ""),
    ];
    let expected =
        expected.map(|(block, line, prints)| (block, line.to_owned(), prints.to_owned()));
    assert_eq!(found, expected);
}
