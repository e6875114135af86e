//! Commands of `shunt` without a real daemon, from outside: what their pages in the documents show, exit
//! codes, and files.

#![expect(clippy::unwrap_used, reason = "a test says no by panicking")]

use std::path::Path;
use std::process::{Command, Output, Stdio};

mod capture;
mod completion;
mod doctor;
mod import;

/// Runs a line of ours in a folder.
fn shunt(folder: &Path, line: &str) -> Output {
    let mut words = line.split_whitespace();
    let program = match words.next() {
        Some("shunt") => env!("CARGO_BIN_EXE_shunt"),
        Some("shuntd") => env!("CARGO_BIN_EXE_shuntd"),
        other => unreachable!("{other:?} is none of our programs"),
    };
    let mut command = Command::new(program);
    command.args(words).current_dir(folder).stdin(Stdio::null()).output().unwrap()
}

/// What a program printed.
fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The first fenced block of a language in a page.
fn block(page: &str, language: &str) -> String {
    let (_, rest) = page.split_once(&format!("```{language}\n")).unwrap();
    rest.split_once("```").unwrap().0.to_owned()
}

/// The lines of a page's blocks of commands, without remarks.
fn lines(page: &str) -> Vec<String> {
    let blocks = page.split("```sh\n").skip(1).map(|rest| rest.split_once("```").unwrap().0);
    let lines = blocks.flat_map(str::lines).map(|line| line.split('#').next().unwrap().trim());
    lines.filter(|line| !line.is_empty()).map(str::to_owned).collect()
}
