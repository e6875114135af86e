//! Which configuration runs, beside what the file said when it was read last.
//!
//! ```text
//!  file ──reload──► loaded ─────────┐ diff: the drift
//!                    └─► running ◄──┘
//!  edits ────────────────► running ──save──► file
//! ```
//!
//! The version grows by one with each change of the running configuration, whoever made it. Who has looked and then
//! changes says which version was seen, and is refused if another has been faster.

use super::config::files::Files;
use super::config::plan::Plan;

/// A configuration, and the files that say it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// What it means.
    pub plan: Plan,
    /// As written.
    pub files: Files,
}

/// What runs, and what the file said.
#[derive(Debug)]
pub(super) struct Edition {
    /// What the running configuration says, file by file. Its plan is the control loop's.
    pub(super) files: Files,
    /// The file, as loaded last.
    pub(super) loaded: Written,
    /// Counts changes of what runs.
    pub(super) version: u64,
}

impl Edition {
    /// What runs is what the file says.
    pub(super) fn new(file: Written) -> Self {
        Self { files: file.files.clone(), loaded: file, version: 1 }
    }

    /// The file was read, and now runs. `has_changed` something?
    pub(super) fn reloaded(&mut self, file: Written, has_changed: bool) {
        self.files.clone_from(&file.files);
        self.loaded = file;
        self.version += u64::from(has_changed);
    }

    /// What runs was edited.
    pub(super) fn edited(&mut self, files: Files) {
        self.files = files;
        self.version += 1;
    }

    /// What runs was written to the file.
    pub(super) fn saved(&mut self, plan: Plan) {
        self.loaded = Written { plan, files: self.files.clone() };
    }
}
