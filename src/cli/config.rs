//! `shuntd check`, `shuntd diff` and `shuntd schema`, and their likes of `shunt`: what they print and how they exit. Nothing here touches a
//! running daemon.

use std::path::Path;

use serde::Serialize;

use crate::control::admin::view::Running;
use crate::control::config::diff::{Change, Diff, diff};
use crate::control::config::files::Files;
use crate::control::config::{self, ConfigError, ConfigErrors, Machine, Reading};
use crate::control::words::count;

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
/// With `json`, a [`Verdict`], and nothing beside it.
pub fn check(path: &Path, machine: &Machine, json: bool) -> Outcome {
    match config::load_for(path, machine) {
        outcome if json => Verdict::of(path, outcome).told(),
        Ok(reading) => Outcome { out: summary(path, &reading), err: warnings(&reading), code: 0 },
        Err(error) => refused(&error),
    }
}

/// What a check finds, for programs.
#[derive(Debug, Serialize)]
pub struct Verdict {
    /// The file.
    pub file: String,
    /// It can be used.
    pub good: bool,
    /// What is wrong with it, each with place, reason and remedy: as people are told.
    pub errors: Vec<String>,
    /// What is odd about it, likewise.
    pub warnings: Vec<String>,
}

impl Verdict {
    fn of(path: &Path, outcome: Result<Reading, ConfigError>) -> Self {
        let (good, file) = (outcome.is_ok(), path.display().to_string());
        let (errors, warnings) = match outcome {
            Ok(reading) => (vec![], reading.warnings),
            Err(ConfigError::Invalid(ConfigErrors { messages, more: 0 })) => (messages, vec![]),
            Err(ConfigError::Invalid(ConfigErrors { mut messages, more })) => {
                messages.push(format!("and {more} more"));
                (messages, vec![])
            }
            Err(error) => (vec![error.to_string()], vec![]),
        };
        Self { file, good, errors, warnings }
    }

    fn told(&self) -> Outcome {
        let code = if self.good { 0 } else { BAD_INPUT };
        Outcome { out: pretty(self), err: String::new(), code }
    }
}

/// The file's shape, as a JSON Schema.
pub fn schema() -> Outcome {
    Outcome { out: config::described::text(), err: String::new(), code: 0 }
}

/// Compares two files: 0 if a reload from one to the other would change nothing, [`DIFFERENT`] if
/// it would, [`BAD_INPUT`] if either cannot be used. With `json`, a list of changes.
pub fn compare(old: &Path, new: &Path, machine: &Machine, json: bool) -> Outcome {
    let read = |path| config::load_for(path, machine);
    let (old, new) = match (read(old), read(new)) {
        (Ok(old), Ok(new)) => (old, new),
        (Err(error), _) | (_, Err(error)) => return refused(&error),
    };
    compared(&diff(&old.plan, &new.plan), &[], &new, json)
}

/// As [`compare`], of what runs and a file. Both name files (secrets, lists), and these are read here, once more: `named` is what
/// they did not hold when the daemon read them, a line each.
pub fn against(
    running: &Running,
    named: &[String],
    new: &Path,
    machine: &Machine,
    json: bool,
) -> Outcome {
    let old = config::parse_files(&Files::from(running), machine);
    match (old.map_err(ConfigError::from), config::load_for(new, machine)) {
        (Ok(old), Ok(new)) => compared(&diff(&old.plan, &new.plan), named, &new, json),
        (Err(error), _) | (_, Err(error)) => refused(&error),
    }
}

/// One of the differences, for programs.
#[derive(Serialize)]
#[serde(untagged)]
enum Difference<'a> {
    Said(&'a Change),
    Named { change: &'static str, line: &'a str },
}

fn compared(diff: &Diff, named: &[String], new: &Reading, json: bool) -> Outcome {
    let code = if diff.is_empty() && named.is_empty() { 0 } else { DIFFERENT };
    let out = if json {
        let named = named.iter().map(|line| Difference::Named { change: "named", line });
        pretty(&diff.changes.iter().map(Difference::Said).chain(named).collect::<Vec<_>>())
    } else {
        named.iter().fold(diff.to_string(), |text, line| text + line + "\n")
    };
    Outcome { out, err: warnings(new), code }
}

fn refused(error: &ConfigError) -> Outcome {
    Outcome { out: String::new(), err: format!("{error}\n"), code: BAD_INPUT }
}

fn warnings(reading: &Reading) -> String {
    reading.warnings.iter().flat_map(|warning| [warning.as_str(), "\n"]).collect()
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

fn pretty(value: &impl Serialize) -> String {
    // Serialising strings and numbers to memory has no way to fail.
    serde_json::to_string_pretty(value).unwrap_or_default() + "\n"
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;

    const GOOD: &str = include_str!("../control/config/tests/base.toml");

    /// A folder with a good file, one that differs from it, and a bad one.
    fn files() -> (tempfile::TempDir, [PathBuf; 3]) {
        let folder = tempfile::tempdir().unwrap();
        let drained = GOOD.replace("weight = 1", "weight = 0");
        let bad = GOOD.replace("weight = 1", "weight = -1");
        let paths = [("good", GOOD), ("drained", &drained), ("bad", &bad)].map(|(name, text)| {
            let path = folder.path().join(format!("{name}.toml"));
            fs::write(&path, text).unwrap();
            path
        });
        (folder, paths)
    }

    #[test]
    fn check_says_ok_or_why_not_and_exits_with_0_or_2() {
        let (_folder, [good, _, bad]) = files();
        let outcome = check(&good, &Machine::with_cpus(4), false);
        let out = format!("{}: ok: 2 workers, 2 ports, 2 services, 2 backends\n", good.display());
        assert_eq!(outcome, Outcome { out, err: String::new(), code: 0 });

        let outcome = check(&bad, &Machine::with_cpus(4), false);
        let place = format!("{}:29:10: weight -1 is out of range (0 to 65535)\n", bad.display());
        assert_eq!((outcome.code, outcome.out.as_str()), (2, ""));
        assert!(outcome.err.starts_with(&place) && outcome.err.ends_with("^^\n"), "{outcome:?}");

        let missing = check(&good.with_extension("none"), &Machine::with_cpus(4), false);
        assert_eq!(missing.code, 2);
    }

    #[test]
    fn check_on_the_wrong_machine_refuses_unless_told_to_warn() {
        let (_folder, [good, ..]) = files();
        let refused = check(&good, &Machine::with_cpus(1), false);
        assert_eq!(refused.code, 2);
        let warned = check(&good, &Machine::with_cpus(1).elsewhere(), false);
        assert_eq!(warned.code, 0);
        assert!(warned.out.ends_with("2 backends\n"), "{warned:?}");
        let expected = "warning: worker CPU 2 does not exist; CPUs here: 0\n";
        assert!(warned.err.contains(expected), "{warned:?}");
    }

    #[test]
    fn check_says_the_same_to_programs() {
        let (_folder, [good, _, bad]) = files();
        let said = |path: &Path, machine: &Machine| {
            let Outcome { out, err, code } = check(path, machine, true);
            assert_eq!(err, "", "nothing beside it");
            (code, serde_json::from_str::<serde_json::Value>(&out).unwrap())
        };
        let none: [&str; 0] = [];
        let (code, verdict) = said(&good, &Machine::with_cpus(4));
        let file = good.display().to_string();
        let wanted =
            serde_json::json!({ "file": file, "good": true, "errors": none, "warnings": none });
        assert_eq!((code, verdict), (0, wanted));
        let (code, verdict) = said(&good, &Machine::with_cpus(1).elsewhere());
        assert!(code == 0 && !verdict["warnings"].as_array().unwrap().is_empty(), "{verdict}");
        let people = check(&bad, &Machine::with_cpus(4), false).err;
        let (code, verdict) = said(&bad, &Machine::with_cpus(4));
        assert_eq!((code, &verdict["good"]), (BAD_INPUT, &false.into()));
        assert_eq!(verdict["errors"][0].as_str().unwrap(), people.trim_end());
        let (code, verdict) = said(&good.with_extension("none"), &Machine::with_cpus(4));
        let error = verdict["errors"][0].as_str().unwrap();
        assert!(code == BAD_INPUT && error.contains("cannot be opened"), "{verdict}");
    }

    #[test]
    fn compare_exits_as_diff_does() {
        let (_folder, [good, drained, bad]) = files();
        let machine = Machine::with_cpus(4);
        let run = |old: &Path, new: &Path, json| compare(old, new, &machine, json);
        let none = Outcome { out: String::new(), err: String::new(), code: 0 };
        assert_eq!(run(&good, &good, false), none);
        let line = "~ service web: backend 10.44.0.11:8080 weight 1 -> 0 (drain)\n";
        let one = Outcome { out: line.into(), err: String::new(), code: 1 };
        assert_eq!(run(&good, &drained, false), one);
        assert_eq!((run(&bad, &good, false).code, run(&good, &bad, true).code), (2, 2));
        assert_eq!(run(&good, &good, true).out, "[]\n");
        let json: serde_json::Value =
            serde_json::from_str(&run(&good, &drained, true).out).unwrap();
        assert_eq!(json[0]["to"], 0);
    }
}
