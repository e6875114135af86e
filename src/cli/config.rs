//! `shuntd check` and `shuntd diff`: what they print and how they exit. Nothing here touches a
//! running daemon.

use std::path::Path;

use crate::control::config::diff::{Diff, diff};
use crate::control::config::{self, ConfigError, Machine, Reading};

/// What a command prints and the code it exits with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// For standard output, ending in a newline unless empty.
    pub out: String,
    /// For standard error, ending in a newline unless empty.
    pub err: String,
    /// 0, 1 or [`BAD_INPUT`].
    pub code: u8,
}

/// Exit code for a file that cannot be used.
pub const BAD_INPUT: u8 = 2;
/// Exit code of `diff` for files that differ, as diff(1) has it.
pub const DIFFERENT: u8 = 1;

/// Checks a file: 0 if it can be used (warnings included), [`BAD_INPUT`] if not.
///
/// Take [`Machine::here`] for the machine the file is meant for, or
/// [`Machine::elsewhere`] of it to be only warned of CPUs that do not exist here.
pub fn check(path: &Path, machine: &Machine) -> Outcome {
    match config::load_for(path, machine) {
        Ok(reading) => Outcome { out: summary(path, &reading), err: warnings(&reading), code: 0 },
        Err(error) => refused(&error),
    }
}

/// Compares two files: 0 if a reload from one to the other would change nothing, [`DIFFERENT`] if
/// it would, [`BAD_INPUT`] if either cannot be used. With `json`, a list of changes.
pub fn compare(old: &Path, new: &Path, machine: &Machine, json: bool) -> Outcome {
    let read = |path| config::load_for(path, machine);
    let (old, new) = match (read(old), read(new)) {
        (Ok(old), Ok(new)) => (old, new),
        (Err(error), _) | (_, Err(error)) => return refused(&error),
    };
    let diff = diff(&old.plan, &new.plan);
    let code = if diff.is_empty() { 0 } else { DIFFERENT };
    let out = if json { as_json(&diff) } else { diff.to_string() };
    Outcome { out, err: warnings(&new), code }
}

fn refused(error: &ConfigError) -> Outcome {
    Outcome { out: String::new(), err: format!("{error}\n"), code: BAD_INPUT }
}

fn warnings(reading: &Reading) -> String {
    reading.warnings.iter().map(|warning| format!("{warning}\n")).collect()
}

fn summary(path: &Path, Reading { plan, .. }: &Reading) -> String {
    let backends: usize = plan.services.iter().map(|service| service.backends.len()).sum();
    format!(
        "{}: ok: {}, {}, {}, {}\n",
        path.display(),
        count(plan.daemon.worker_cores.len(), "worker"),
        count(plan.ports.len(), "port"),
        count(plan.services.len(), "service"),
        count(backends, "backend"),
    )
}

fn count(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

fn as_json(diff: &Diff) -> String {
    // Serialising strings and numbers to memory has no way to fail.
    let json = serde_json::to_string_pretty(diff).unwrap_or_default();
    json + "\n"
}
