//! `shunt doctor`: what [`crate::control::doctor`] finds, a line each, with the command that mends it.
//!
//! Asks no daemon, so that it is of use before one starts. If one runs, what it has taken counts as
//! there. Exit codes: 0 `shuntd` can start here, 1 it would refuse to.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::control::config::{Machine, MissingCpu, load_for};
use crate::control::doctor::{Finding, Needs, Tree, Verdict, examine};
use crate::control::words::count;

/// Where `shuntd run` looks for it.
const CONFIG: &str = "etc/shunt/shunt.toml";

/// What is looked at.
#[derive(Debug, clap::Args)]
pub struct Doctor {
    /// The configuration whose needs are to be met [default: /etc/shunt/shunt.toml, if it is there]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Look at the files below this folder instead of this machine's
    #[arg(long, value_name = "FOLDER", default_value = "/")]
    root: PathBuf,
}

/// What was found.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// The worst of it.
    verdict: Verdict,
    /// Each thing, in the order it was looked at.
    findings: Vec<Finding>,
}

impl Report {
    /// Can a daemon start here?
    pub(super) fn success(&self) -> bool {
        self.verdict != Verdict::Fail
    }
}

/// Looks.
pub(super) fn run(asked: &Doctor) -> Report {
    let tree = Tree::at(&asked.root);
    let usual = asked.root.join(CONFIG);
    let (configuration, needs) = match &asked.config {
        Some(path) => of_file(path, &tree),
        None if usual.exists() => of_file(&usual, &tree),
        None => {
            let said =
                format!("there is none at {}: cards and cores are not looked at", usual.display());
            (finding(Verdict::Warn, said, "shunt doctor --config FILE"), Needs::default())
        }
    };
    let mut findings = vec![configuration];
    let running = tree.runs("shuntd");
    findings.extend(examine(&tree, &Needs { running, ..needs }));
    let verdict = findings.iter().map(|it| it.verdict).max().unwrap_or(Verdict::Pass);
    Report { verdict, findings }
}

/// What a configuration needs; which CPUs there are is judged with the rest.
fn of_file(path: &Path, tree: &Tree) -> (Finding, Needs) {
    let machine = Machine { cpus: tree.online(), missing_cpu: MissingCpu::Warn, is_here: false };
    match load_for(path, &machine) {
        Ok(reading) => {
            let said = format!("{} is good", path.display());
            (finding(Verdict::Pass, said, ""), Needs::of(&reading.plan))
        }
        Err(error) => {
            let said = error.to_string().lines().next().unwrap_or_default().to_owned();
            let mend = format!("shuntd check {}", path.display());
            (finding(Verdict::Fail, said, &mend), Needs::default())
        }
    }
}

fn finding(verdict: Verdict, said: String, mend: &str) -> Finding {
    Finding { area: "configuration", verdict, line: None, said, mend: mend.to_owned() }
}

/// As lines for people.
pub(super) fn table(report: &Report) -> String {
    let width = report.findings.iter().map(|it| it.area.len()).max().unwrap_or(0);
    let mut text = String::new();
    for Finding { area, verdict, said, mend, .. } in &report.findings {
        let _ = writeln!(text, "{verdict}  {area:width$}  {said}");
        if !mend.is_empty() {
            let _ = writeln!(text, "      {:width$}  mend: {mend}", "");
        }
    }
    let many = |verdict| report.findings.iter().filter(|it| it.verdict == verdict).count();
    let [passed, warned, failed] = [Verdict::Pass, Verdict::Warn, Verdict::Fail].map(many);
    let end = match failed {
        0 => "shuntd can start here".to_owned(),
        _ => format!("shuntd refuses to start: {}", count(failed, "failure")),
    };
    let _ = writeln!(text, "{passed} pass, {warned} warn, {failed} fail; {end}");
    text
}
