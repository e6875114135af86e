//! How many instructions the steps of a packet's way take: the figure that no neighbour disturbs.
//!
//! Each step of `benches/subjects` runs under valgrind twice, with different counts; the difference,
//! divided, is what one takes. `benches/instructions.txt` says how many it may take: a step that got
//! dearer fails here and is either mended or its bound raised by whoever says why; one that got
//! cheaper by a tenth fails too, so that the bound follows.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Runs of a step that are compared.
const FEW: u64 = 10_000;
const MANY: u64 = 60_000;
/// A bound may be above what is measured by so much, in percent: compilers differ a little.
const SLACK: u64 = 10;
const BOUNDS: &str = "benches/instructions.txt";

/// The program, built as it is shipped.
///
/// What cargo tells a test of its package (`CARGO_PKG_NAME` and the like) is kept from the build: build scripts
/// that look at it, `ring`'s among them, would run again, and all that depends on them be built anew.
fn program() -> PathBuf {
    let arguments = ["build", "--release", "--quiet", "--example", "instructions"];
    let mut build = Command::new(env!("CARGO"));
    for (name, _) in std::env::vars_os() {
        let of_the_package = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"];
        if name.to_str().is_some_and(|name| of_the_package.iter().any(|it| name.starts_with(it))) {
            build.env_remove(&name);
        }
    }
    let built = build.args(arguments).status().unwrap();
    assert!(built.success(), "benches/instructions.rs does not build");
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or("target".into(), PathBuf::from);
    target.join("release/examples/instructions")
}

/// Instructions of a whole run, as valgrind counts them.
fn counted(program: &Path, step: &str, times: u64) -> u64 {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .args([step, &times.to_string()])
        .output()
        .expect("expected valgrind: `make deps` installs it");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{step}: {said}");
    let total = said.lines().find_map(|line| line.split_once("Collected : "));
    total.unwrap_or_else(|| panic!("valgrind counted nothing: {said}")).1.trim().parse().unwrap()
}

fn bounds() -> BTreeMap<String, u64> {
    let text = std::fs::read_to_string(BOUNDS).unwrap();
    let rows = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    let row = |line: &str| {
        let (step, most) = line.split_once(' ').expect("a step and a number");
        (step.to_owned(), most.trim().parse().expect("a number"))
    };
    rows.map(row).collect()
}

#[test]
fn no_step_takes_more_instructions_than_its_bound() {
    let program = program();
    let listed = Command::new(&program).arg("--list").output().unwrap();
    let steps = String::from_utf8(listed.stdout).unwrap();
    let mut bounds = bounds();
    let (mut report, mut wrong) = (String::new(), 0);
    for step in steps.lines() {
        let each = (counted(&program, step, MANY) - counted(&program, step, FEW)) / (MANY - FEW);
        let most = bounds.remove(step);
        let holds = most.is_some_and(|most| each <= most && most <= each + each * SLACK / 100 + 2);
        wrong += u32::from(!holds);
        let bound = most.map_or_else(|| "none".to_owned(), |most| most.to_string());
        let mark = if holds { "" } else { "  <--" };
        writeln!(report, "{step} {each} (bound {bound}){mark}").unwrap();
    }
    println!("{report}");
    assert!(bounds.is_empty(), "{BOUNDS} has bounds of no step: {bounds:?}");
    assert_eq!(wrong, 0, "{BOUNDS} is not what was counted:\n{report}");
}
