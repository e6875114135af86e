//! DPDK's own tools beside the daemon: `dpdk-dumpcap`, `dpdk-pdump`, `dpdk-proc-info`.
//!
//! ```text
//!  /run/dpdk/PREFIX/     config, mp_socket ─┐
//!                                           ├─ what a secondary process maps and talks to
//!  a hugetlbfs mount     PREFIXmap_0 ... ───┘
//! ```
//!
//! They are secondary processes: they map the memory of the first at the same addresses, and ask it over a socket to
//! copy what its queues receive and send (`librte_pdump`). So EAL must keep files that have names, and
//! somebody must answer: that is all there is here. The price is why it is off unless asked for: what may attach may
//! write, too, into the packet buffers and DPDK's own tables (not into Shunt's, which are elsewhere), and files
//! outlive a killed daemon. Those hold its huge pages until a daemon with the same prefix starts and removes them, as
//! EAL does; at an ordered end [`Attachable`] removes them.
//!
//! DPDK numbers threads that are not its own, which our workers are, or lets processes attach, not both. So
//! workers have no caches of packet buffers here: each buffer they take or give back goes to the pool itself.
//!
//! Copying is done by callbacks on the queues, which [`super::burst`] heeds.

use std::fs;
use std::path::{Path, PathBuf};

use dpdk_sys as sys;

use super::eal::error_text;

/// Files that other processes attach to. Gone when dropped, which must be after EAL's end.
#[derive(Debug)]
pub(super) struct Attachable {
    runtime: PathBuf,
    /// How the names of its huge pages begin.
    pages: String,
    /// Whether somebody answers.
    answers: bool,
}

impl Attachable {
    /// Answers those who attach to the EAL that has just started. If nobody can, tools still can look, and the log
    /// says so.
    pub(super) fn open(runtime: PathBuf, file_prefix: &str) -> Self {
        // SAFETY: EAL is running; registers a handler with EAL's thread for other processes.
        let result = unsafe { sys::rte_pdump_init() };
        let answers = result >= 0;
        if !answers {
            let why = error_text(result);
            tracing::warn!(%why, "DPDK's tools may attach, but cannot capture");
        }
        Self { runtime, pages: format!("{file_prefix}map_"), answers }
    }

    /// Answers nobody any more. Before EAL ends.
    pub(super) fn close(&mut self) {
        if std::mem::take(&mut self.answers) {
            // SAFETY: EAL is running, and the handler is registered.
            unsafe { sys::rte_pdump_uninit() };
        }
    }
}

impl Drop for Attachable {
    fn drop(&mut self) {
        let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
        for page in hugetlbfs(&mounts).flat_map(|mount| files_of(Path::new(mount), &self.pages)) {
            let _ = fs::remove_file(page);
        }
        let _ = fs::remove_dir_all(&self.runtime);
    }
}

/// Where hugetlbfs is mounted, of a text like `/proc/mounts`.
fn hugetlbfs(mounts: &str) -> impl Iterator<Item = &str> {
    mounts.lines().filter_map(|line| {
        let mut words = line.split(' ');
        let (_, place, kind) = (words.next()?, words.next()?, words.next()?);
        (kind == "hugetlbfs").then_some(place)
    })
}

/// The files of a folder whose names begin so.
fn files_of(folder: &Path, beginning: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let is_ours = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().starts_with(beginning);
    entries.filter(is_ours).map(|entry| entry.path()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hugetlbfs_mounts_are_looked_at_and_only_this_prefixs_files() {
        let mounts = "sysfs /sys sysfs rw 0 0\nhugetlbfs /dev/hugepages hugetlbfs rw,pagesize=2M 0 0\n\
                      tmpfs /hugetlbfs tmpfs rw 0 0\nnodev /mnt/1G hugetlbfs rw 0 0\nbroken\n";
        assert_eq!(hugetlbfs(mounts).collect::<Vec<_>>(), ["/dev/hugepages", "/mnt/1G"]);

        let folder = tempfile::tempdir().unwrap();
        for name in ["amap_0", "amap_1", "abmap_0", "map_0", "a"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let mut found = files_of(folder.path(), "amap_");
        found.sort_unstable();
        assert_eq!(found, ["amap_0", "amap_1"].map(|name| folder.path().join(name)));
        assert!(files_of(&folder.path().join("none"), "amap_").is_empty());
    }
}
