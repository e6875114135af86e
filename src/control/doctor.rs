//! Is this machine fit for it? Each thing a balancer needs of it is looked at, and is fine, could be
//! better, or makes a start impossible; what is not fine comes with the command that mends it.
//!
//! ```text
//! /proc, /sys ──► Tree ─┐                        ┌─► shunt doctor: all of it
//!                       ├─► examine ─► Findings ─┤
//! Plan ─────────► Needs ┘                        └─► shuntd run: refuses to start on the first failure
//! ```
//!
//! Only what is certain to fail is a failure, because `shuntd` refuses to start on it. What costs
//! speed or quiet is a warning. What cannot be seen (a file that is not there, as in many containers)
//! is not judged.
//!
//! The tree's root is a parameter, so that tests are tables of files and not of machines.

use std::fmt;

use serde::Serialize;

mod clock;
mod cores;
mod devices;
mod iommu;
mod limits;
mod links;
mod memory;
mod needs;
mod numa;
mod tree;

pub use needs::{CardNeed, Needs};
pub use tree::Tree;

/// What is said of a CPU that cannot run the programs.
pub const OLD_CPU: &str = "this CPU lacks AVX2 or BMI2: shuntd needs x86-64-v3 (2013 or later)";

/// How it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Pass,
    /// It works, and could be better.
    Warn,
    /// `shuntd` refuses to start.
    Fail,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pass => "pass",
            Self::Warn => "warn",
            Self::Fail => "fail",
        })
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it is about.
    pub area: &'static str,
    /// How it is.
    pub verdict: Verdict,
    /// Where the configuration has it, if it is about one line of that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// What was seen.
    pub said: String,
    /// The command that mends it; empty for none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mend: String,
}

impl Finding {
    /// The sentence for a log or a refusal: what was seen, and what mends it.
    pub fn sentence(&self) -> String {
        if self.mend.is_empty() {
            return self.said.clone();
        }
        format!("{}; to mend it: {}", self.said, self.mend)
    }
}

/// What is found, in the order of the areas.
#[derive(Debug, Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn pass(&mut self, area: &'static str, said: impl Into<String>) {
        self.add(area, Verdict::Pass, said.into(), String::new());
    }

    fn warn(&mut self, area: &'static str, said: impl Into<String>, mend: impl Into<String>) {
        self.add(area, Verdict::Warn, said.into(), mend.into());
    }

    fn fail(&mut self, area: &'static str, said: impl Into<String>, mend: impl Into<String>) {
        self.add(area, Verdict::Fail, said.into(), mend.into());
    }

    fn add(&mut self, area: &'static str, verdict: Verdict, said: String, mend: String) {
        self.0.push(Finding { area, verdict, line: None, said, mend });
    }
}

/// Looks at everything.
pub fn examine(tree: &Tree, needs: &Needs) -> Vec<Finding> {
    let mut findings = Findings::default();
    cores::features(tree, &mut findings);
    memory::examine(tree, needs, &mut findings);
    for card in &needs.cards {
        let before = findings.0.len();
        devices::examine(tree, card, &mut findings);
        iommu::examine(tree, card, &mut findings);
        links::examine(tree, card, &mut findings);
        findings.0.iter_mut().skip(before).for_each(|it| it.line = Some(card.line));
    }
    cores::examine(tree, needs, &mut findings);
    numa::examine(tree, needs, &mut findings);
    clock::examine(tree, &mut findings);
    limits::examine(tree, needs, &mut findings);
    findings.0
}

/// Why a daemon with these needs cannot start here, if that is certain.
pub fn refusal(tree: &Tree, needs: &Needs) -> Option<Finding> {
    examine(tree, needs).into_iter().find(|finding| finding.verdict == Verdict::Fail)
}

#[cfg(test)]
mod tests;
