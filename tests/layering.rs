//! The order of the source tree, held by a test.
//!
//! ```text
//!   wire  ←  dataplane  ←  control  ←  cli, bin        dpdk: io and ports only
//!               ↑ stats ↑ (plain numbers both may name)
//! ```
//!
//! Every rule is a row of a table with its reason. Source is read as text: comments and string
//! literals are blanked first, test modules at the end of a file are left out. The reader is
//! itself tested below, so that a rule that finds nothing is a rule that is kept.
#![allow(clippy::unwrap_used, reason = "a failing test panics")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// What a folder may name of the crate.
struct Layer {
    folder: &'static str,
    may_name: &'static [&'static str],
    because: &'static str,
}

const LAYERS: &[Layer] = &[
    Layer {
        folder: "src/wire",
        may_name: &["wire", "ids"],
        because: "headers are views over bytes: no policy, no I/O",
    },
    Layer {
        folder: "src/dataplane",
        may_name: &["dataplane", "wire", "stats", "ids"],
        because: "a packet's life runs without DPDK under test and never waits for control",
    },
    Layer {
        folder: "src/stats",
        may_name: &["stats", "dataplane", "ids", "wire"],
        because: "numbers are plain data that both planes may name, and know of neither's work",
    },
    Layer {
        folder: "src/control",
        may_name: &["control", "dataplane", "wire", "stats", "ids"],
        because: "the slow side runs in a test with packets in memory, and prints nothing",
    },
    Layer {
        folder: "src/cli",
        may_name: &["cli", "control", "dataplane", "wire", "stats", "ids"],
        because: "asking and printing needs no network card",
    },
    Layer {
        folder: "src/dpdk",
        // The traits its types implement, next to the `unsafe` that makes them true.
        may_name: &["dpdk", "dataplane::io", "wire", "ids"],
        because: "the fence around the library knows nothing of balancing",
    },
];

/// Files below a layer that may name `dpdk` as well.
const MAY_NAME_DPDK: &[(&str, &str)] = &[
    ("src/dataplane/io", "where DPDK's packets, ports and rings meet the platform fence"),
    ("src/dataplane/mem.rs", "tables live in DPDK's memory when it runs"),
    ("src/control/ports", "brings ports up and down"),
    ("src/control/punt", "exchanges packets with the kernel"),
];

/// Words that code below a folder must not use.
struct Ban {
    folder: &'static str,
    except: &'static [&'static str],
    words: &'static [&'static str],
    because: &'static str,
}

const BANS: &[Ban] = &[
    Ban {
        folder: "src",
        except: &["src/dpdk"],
        words: &["unsafe", "dpdk_sys"],
        because: "the FFI stays behind one fence",
    },
    Ban {
        folder: "src/dataplane",
        // The packets of tests and fuzzers, which no worker ever sees.
        except: &["src/dataplane/io/memory.rs"],
        words: &["Mutex", "RwLock", "Condvar"],
        because: "a lock on the packet path is a design error",
    },
    Ban {
        folder: "src/dataplane",
        except: &[],
        words: &["println", "eprintln", "tracing"],
        because: "the packet path counts, it does not talk",
    },
    Ban {
        folder: "src/dataplane",
        except: &[],
        words: &["Instant", "SystemTime"],
        because: "time is an argument",
    },
    Ban {
        folder: "src",
        except: &[],
        words: &["todo", "unimplemented"],
        because: "what is not done is not there",
    },
];

/// A file longer than this is more than one idea.
const LINES_MAX: usize = 600;

/// Where Rust of ours is.
const SOURCES: &[&str] = &["src", "tests", "benches", "fuzz", "lab", "dpdk-sys"];

/// Folders of `src`, as `crate::` names them.
const TOP: &[&str] = &["wire", "dataplane", "stats", "control", "cli", "dpdk", "ids"];

#[test]
fn every_layer_names_only_what_lies_below_it() {
    let mut broken = Vec::new();
    for layer in LAYERS {
        let files = rust_files(layer.folder);
        assert!(!files.is_empty(), "no source in {}", layer.folder);
        for file in files {
            let path = display(&file);
            let dpdk_too = MAY_NAME_DPDK.iter().any(|(allowed, _)| is_below(&path, allowed));
            for name in names_of_crate(&code(&file), depth(&path)) {
                let top = name.split(':').next().unwrap_or_default();
                let allowed = layer.may_name.iter().any(|place| covers(place, &name))
                    || !TOP.contains(&top)
                    || (top == "dpdk" && dpdk_too);
                if !allowed {
                    broken.push(format!("{path} names crate::{name}: {}", layer.because));
                }
            }
        }
    }
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn no_folder_uses_a_word_it_must_not() {
    let mut broken = Vec::new();
    for ban in BANS {
        for file in rust_files(ban.folder) {
            let path = display(&file);
            if ban.except.iter().any(|folder| is_below(&path, folder)) {
                continue;
            }
            let code = code(&file);
            for word in words(&code).into_iter().filter(|word| ban.words.contains(word)) {
                broken.push(format!("{path} uses `{word}`: {}", ban.because));
            }
        }
    }
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn every_file_is_one_idea_and_says_at_its_top_what_it_is() {
    let mut broken = Vec::new();
    let files: Vec<_> = SOURCES.iter().flat_map(|folder| rust_files(folder)).collect();
    assert!(files.len() > 30, "only {} source files found", files.len());
    for file in files {
        let (path, text) = (display(&file), fs::read_to_string(&file).unwrap());
        let lines = text.lines().count();
        if lines > LINES_MAX {
            broken.push(format!("{path} has {lines} lines, {LINES_MAX} are allowed: split it"));
        }
        let is_script = path.ends_with("build.rs");
        if !text.starts_with("//!") && !is_script {
            broken.push(format!("{path} does not begin with a module header (`//!`)"));
        }
    }
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn nothing_is_left_for_later() {
    let markers = [["TO", "DO"], ["FIX", "ME"], ["XX", "X"]].map(|halves| halves.concat());
    let mut broken = Vec::new();
    for file in SOURCES.iter().flat_map(|folder| rust_files(folder)) {
        let text = fs::read_to_string(&file).unwrap();
        for (number, line) in text.lines().enumerate() {
            if words(line).into_iter().any(|word| markers.iter().any(|marker| marker == word)) {
                broken.push(format!("{}:{}: {}", display(&file), number + 1, line.trim()));
            }
        }
    }
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

/// All Rust files below a folder, in order; none if there is no such folder. Tests run in the
/// package's root, so the paths are as people write them.
fn rust_files(folder: &str) -> Vec<PathBuf> {
    let mut waiting = vec![PathBuf::from(folder)];
    let mut found = BTreeSet::new();
    while let Some(path) = waiting.pop() {
        if path.is_dir() && !path.ends_with("target") {
            waiting.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.insert(path);
        }
    }
    found.into_iter().collect()
}

fn display(file: &Path) -> String {
    file.display().to_string()
}

/// Is `path` this file or folder, that file with its extension, or something below it?
fn is_below(path: &str, place: &str) -> bool {
    path.strip_prefix(place)
        .is_some_and(|rest| rest.is_empty() || rest == ".rs" || rest.starts_with('/'))
}

/// How many modules a file is below the crate's root: 1 for `src/wire/mod.rs`, 2 for
/// `src/wire/udp.rs`.
fn depth(path: &str) -> usize {
    path.matches('/').count() - usize::from(path.ends_with("/mod.rs"))
}

/// A file's code: comments and literals blanked, test modules cut off.
fn code(file: &Path) -> String {
    if file.ends_with("tests.rs") || file.iter().any(|part| part == "tests") {
        return String::new();
    }
    without_tests(&blanked(&fs::read_to_string(file).unwrap()))
}

/// The text up to its first inline test module, which by custom is the end of the file.
fn without_tests(code: &str) -> String {
    let mut end = code.len();
    for (at, _) in code.match_indices("#[cfg(") {
        let (attribute, rest) = code[at..].split_once(']').unwrap_or_default();
        let module = rest.trim_start().starts_with("mod ");
        let inline = rest.find('{') < rest.find(';').or(Some(usize::MAX));
        if words(attribute).contains(&"test") && module && inline {
            end = end.min(at);
        }
    }
    code[..end].to_owned()
}

/// The text with every comment and literal replaced by blanks.
fn blanked(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = blank_length(rest, out.chars().next_back());
        let (taken, keep) = match length {
            0 => (first.len_utf8(), true),
            length => (length, false),
        };
        let (piece, tail) = rest.split_at(taken);
        if keep {
            out.push_str(piece);
        } else {
            out.extend(piece.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        }
        rest = tail;
    }
    out
}

/// Bytes of the comment or literal that `text` begins with; 0 if it begins with code.
fn blank_length(text: &str, before: Option<char>) -> usize {
    let upto = |end: Option<usize>, more: usize| end.map_or(text.len(), |at| at + more);
    if text.starts_with("//") {
        return upto(text.find('\n'), 0);
    }
    if text.starts_with("/*") {
        return upto(text.find("*/"), 2);
    }
    let in_word = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    if let Some(raw) = text.strip_prefix('r').filter(|_| !in_word) {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        if raw[hashes..].starts_with('"') {
            let close = format!("\"{}", "#".repeat(hashes));
            let from = 1 + hashes + 1;
            return upto(text[from..].find(&close).map(|at| at + from), close.len());
        }
    }
    match text.as_bytes()[0] {
        b'"' => quoted_length(text, '"'),
        // 'a' and '\n' are literals, 'a without a closing quote is a lifetime.
        b'\'' if text[1..].starts_with('\\') || text.chars().nth(2) == Some('\'') => {
            quoted_length(text, '\'')
        }
        _ => 0,
    }
}

/// Bytes up to and with the closing quote.
fn quoted_length(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, character) in text.char_indices().skip(1) {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    text.len()
}

/// Is `name` this module or something in it?
fn covers(place: &str, name: &str) -> bool {
    name.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

fn words(code: &str) -> Vec<&str> {
    code.split(|c: char| !c.is_alphanumeric() && c != '_').filter(|word| !word.is_empty()).collect()
}

/// What stands after `crate::`, or after as many `super::` as lead to the root or past it: the
/// first two segments of each path.
fn names_of_crate(code: &str, depth: usize) -> BTreeSet<String> {
    let squeezed: String = code.chars().filter(|c| !c.is_whitespace()).collect();
    let mut names = BTreeSet::new();
    for (at, root) in squeezed.match_indices("crate::") {
        names.extend(leaves(&squeezed[at + root.len()..], 2));
    }
    let to_root = "super::".repeat(depth);
    for (at, root) in squeezed.match_indices(&to_root) {
        names.extend(leaves(squeezed[at + root.len()..].trim_start_matches("super::"), 2));
    }
    names
}

/// The paths a piece of `use` stands for, cut to `segments`: `a::b` for `a::b::c`, and `a::b`,
/// `a::c`, `d` for `{a::{b, c}, d}`.
fn leaves(path: &str, segments: usize) -> Vec<String> {
    if let Some(group) = path.strip_prefix('{') {
        return items(group).into_iter().flat_map(|item| leaves(item, segments)).collect();
    }
    let end = path.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(path.len());
    let (name, rest) = path.split_at(end);
    match rest.strip_prefix("::") {
        Some(rest) if segments > 1 => {
            leaves(rest, segments - 1).into_iter().map(|leaf| format!("{name}::{leaf}")).collect()
        }
        _ => vec![name.to_owned()],
    }
}

/// The items of a group, up to its closing brace.
fn items(group: &str) -> Vec<&str> {
    let (mut level, mut start, mut items) = (0, 0, Vec::new());
    for (at, character) in group.char_indices() {
        match character {
            '{' => level += 1,
            '}' if level > 0 => level -= 1,
            ',' | '}' if level == 0 => {
                // Nothing stands between a trailing comma and the brace.
                items.extend(Some(&group[start..at]).filter(|item| !item.is_empty()));
                start = at + 1;
                if character == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    items
}

#[test]
fn the_reader_finds_names_wherever_they_stand() {
    let table: [(&str, &[&str]); 10] = [
        ("use crate::wire::udp;", &["wire::udp"]),
        (
            "use crate::{control::reload::Now, wire::{udp, tcp::Flags}, ids};",
            &["control::reload", "ids", "wire::tcp", "wire::udp"],
        ),
        ("fn f() { crate::cli::print() }", &["cli::print"]),
        ("pub(crate) fn f() {}", &[]),
        ("// use crate::control;\n/* crate::cli */", &[]),
        ("let s = \"crate::control\"; let r = r#\"crate::\"cli\"#;", &[]),
        ("use super::super::control::x;", &["control::x"]),
        ("use super::udp;", &[]),
        (
            "use crate::dataplane::{\n    io::Rx,\n    verdict,\n};",
            &["dataplane::io", "dataplane::verdict"],
        ),
        ("let quote = '\"'; use crate::dpdk; let other = '\\'';", &["dpdk"]),
    ];
    for (text, expected) in table {
        let found = names_of_crate(&blanked(text), 2);
        assert_eq!(found.iter().map(String::as_str).collect::<Vec<_>>(), expected, "{text}");
    }
}

#[test]
fn the_reader_leaves_out_inline_test_modules_only() {
    let cut = "use crate::wire;\n#[cfg(test)]\nmod tests {\n use crate::control;\n}";
    assert_eq!(names_of_crate(&without_tests(cut), 2).len(), 1);
    let kept = "#[cfg(test)]\nmod tests;\nfn f() { crate::control::x() }";
    assert_eq!(names_of_crate(&without_tests(kept), 2).len(), 1);
    let other = "#[cfg(unix)]\nmod tests {\n use crate::control;\n}";
    assert_eq!(names_of_crate(&without_tests(other), 2).len(), 1);
}

#[test]
fn a_place_covers_itself_and_what_is_below_it() {
    let table = [
        ("src/control/ports.rs", "src/control/ports", true),
        ("src/control/ports/up.rs", "src/control/ports", true),
        ("src/control/portside.rs", "src/control/ports", false),
        ("src/dataplane/mem.rs", "src/dataplane/mem.rs", true),
    ];
    for (path, place, expected) in table {
        assert_eq!(is_below(path, place), expected, "{path} below {place}");
    }
    assert_eq!((depth("src/wire/mod.rs"), depth("src/wire/udp.rs")), (1, 2));
}
