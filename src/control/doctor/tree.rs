//! `/proc`, `/sys` and `/dev` of this machine, or of a folder that looks like one.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::control::config::parse_cpu_list;

/// Files below a root.
#[derive(Clone, Debug)]
pub struct Tree {
    root: PathBuf,
}

impl Tree {
    /// Those of the machine whose root folder this is: `/` for this one.
    pub fn at(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// What a file says, without the line's end; `None` if it cannot be read.
    pub(super) fn read(&self, path: &str) -> Option<String> {
        // Some say a few things in bytes that are no text.
        let bytes = fs::read(self.root.join(path)).ok()?;
        Some(String::from_utf8_lossy(&bytes).trim().to_owned())
    }

    /// A number that is all a file says.
    pub(super) fn number(&self, path: &str) -> Option<u64> {
        self.read(path)?.parse().ok()
    }

    /// CPUs that a file lists; none if there is no such file, or none in it.
    pub(super) fn cpus(&self, path: &str) -> BTreeSet<usize> {
        self.read(path).and_then(|text| parse_cpu_list(&text)).unwrap_or_default()
    }

    /// Is there such a file or folder?
    pub(super) fn has(&self, path: &str) -> bool {
        fs::symlink_metadata(self.root.join(path)).is_ok()
    }

    /// Last part of what a link leads to.
    pub(super) fn link(&self, path: &str) -> Option<String> {
        let target = fs::read_link(self.root.join(path)).ok()?;
        Some(target.file_name()?.to_string_lossy().into_owned())
    }

    /// Names in a folder, in order.
    pub(super) fn names(&self, path: &str) -> Vec<String> {
        let entries = fs::read_dir(self.root.join(path)).into_iter().flatten().flatten();
        let mut names: Vec<String> =
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// The CPUs that are on, if that can be seen.
    pub fn online(&self) -> Option<BTreeSet<usize>> {
        Some(self.cpus("sys/devices/system/cpu/online")).filter(|cpus| !cpus.is_empty())
    }

    /// Does a process of that name run?
    pub fn runs(&self, program: &str) -> bool {
        let is_number = |name: &String| name.bytes().all(|byte| byte.is_ascii_digit());
        let mut processes = self.names("proc").into_iter().filter(is_number);
        processes.any(|id| self.read(&format!("proc/{id}/comm")).as_deref() == Some(program))
    }
}
