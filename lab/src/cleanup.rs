//! What this process made outside itself, and its removal.
//!
//! Everything the lab makes carries a name that begins with `shunt-lab-PID-`: namespaces, working
//! folders, DPDK file prefixes. Values remove their own on drop. For the ways of ending in which
//! nothing is dropped there are two more nets:
//!
//! - SIGINT, SIGTERM, SIGHUP: a thread removes everything of this process, then exits 128 + n.
//!   Whatever else this process was doing fails meanwhile, as its programs die under it. So from
//!   the moment of the signal nobody else makes, removes or ends anything: [`park_if_stopping`].
//! - `kill -9`: the next lab (or `lab clean`) removes what carries the pid of a dead process.
//!
//! Programs need no list of their own: they all run inside a namespace of ours, and removing one
//! first kills every process in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, LazyLock, Once};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::huge::unmount;
use crate::{command, wait};

/// What every name of ours begins with.
pub const PREFIX: &str = "shunt-lab-";

/// Where DPDK keeps run-time files of a process, by file prefix (as root).
pub const DPDK_RUN_FOLDER: &str = "/var/run/dpdk";

/// Sweeps after a signal: at least so many, as a command under way may still make something, and at
/// most so many.
const SWEEPS: (u32, u32) = (3, 20);

/// Set by the signal itself, before any thread can see what follows from it.
static STOPPING: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// Returns at once unless a signal is ending this process; then never: the thread that handles the
/// signal ends the process when everything is removed.
///
/// To be called before making something, before removing it, and before ending with an error.
pub fn park_if_stopping() {
    while STOPPING.load(Ordering::SeqCst) {
        std::thread::park();
    }
}

/// A name nobody else on this machine uses, now or while this process lives.
pub fn unique_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    install_signal_handler();
    park_if_stopping();
    format!("{}{}", own_prefix(std::process::id()), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// The names of process `pid` begin with this.
fn own_prefix(pid: u32) -> String {
    format!("{PREFIX}{pid}-")
}

/// Removes a namespace and every process in it. Quiet if it is gone already.
pub fn remove_namespace(namespace: &str) {
    for _ in 0..5 {
        let pids = processes_in(namespace);
        if pids.is_empty() {
            break;
        }
        for pid in &pids {
            let _gone_already = kill_process(*pid, Signal::KILL);
        }
        let dead = || Ok(processes_in(namespace).is_empty());
        let _tried = wait::until_true("processes to die", Duration::from_millis(500), dead);
    }
    let _gone_already = command::output(Command::new("ip").args(["netns", "del", namespace]));
}

/// Pids of the processes in a namespace, and of those on their way in: `ip netns exec` that has opened it but
/// not entered yet would be missed, and live on in a namespace that has no name any more.
pub fn processes_in(namespace: &str) -> Vec<Pid> {
    let mut pids = processes_inside(namespace);
    pids.extend(names_in(Path::new("/proc")).iter().filter_map(|name| {
        let line = fs::read(format!("/proc/{name}/cmdline")).ok()?;
        let pid = name.parse().ok().and_then(Pid::from_raw)?;
        is_entering(&line, namespace).then_some(pid)
    }));
    pids
}

/// Is this the command line, its words ended by zeros, of `ip netns exec` for that namespace?
fn is_entering(line: &[u8], namespace: &str) -> bool {
    let mut words = line.split(|byte| *byte == 0);
    let expected = ["ip", "netns", "exec", namespace];
    expected.iter().all(|word| words.next() == Some(word.as_bytes()))
}

/// Pids of the processes that are inside; empty if there is no such namespace.
fn processes_inside(namespace: &str) -> Vec<Pid> {
    let listed = command::output(Command::new("ip").args(["netns", "pids", namespace]));
    let Ok(listed) = listed else { return Vec::new() };
    String::from_utf8_lossy(&listed.stdout)
        .lines()
        .filter_map(|line| line.trim().parse().ok().and_then(Pid::from_raw))
        .collect()
}

/// Removes what processes that no longer live have left behind; returns the names removed.
pub fn remove_leftovers() -> Vec<String> {
    remove_where(|pid| !Path::new("/proc").join(pid.to_string()).exists())
}

/// Removes everything of the pids that `chosen` picks.
fn remove_where(chosen: impl Fn(u32) -> bool) -> Vec<String> {
    let ours = |name: &str| owner(name).is_some_and(&chosen);
    let mut removed = Vec::new();
    for namespace in names_in(Path::new("/var/run/netns")).into_iter().filter(|name| ours(name)) {
        remove_namespace(&namespace);
        removed.push(format!("namespace {namespace}"));
    }
    for mount in huge_page_mounts().into_iter().filter(|path| ours(&file_name(path))) {
        unmount(&mount);
    }
    for path in leftover_paths().into_iter().filter(|path| ours(&file_name(path))) {
        let _gone_already =
            if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.push(path.display().to_string());
    }
    removed
}

/// Every file and folder that could be ours: working folders, DPDK's run-time and huge-page files.
fn leftover_paths() -> Vec<PathBuf> {
    let mut folders = vec![std::env::temp_dir(), PathBuf::from(DPDK_RUN_FOLDER)];
    folders.extend(huge_page_mounts());
    folders
        .into_iter()
        .flat_map(|folder| names_in(&folder).into_iter().map(move |name| folder.join(name)))
        .collect()
}

/// Where huge pages are mounted.
pub fn huge_page_mounts() -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    mounts
        .lines()
        .map(|line| line.split(' ').collect::<Vec<_>>())
        .filter(|words| words.get(2) == Some(&"hugetlbfs"))
        .filter_map(|words| words.get(1).map(PathBuf::from))
        .collect()
}

/// Files of DPDK processes with this file prefix, wherever DPDK keeps them.
pub fn dpdk_files(file_prefix: &str) -> Vec<PathBuf> {
    leftover_paths()
        .into_iter()
        .filter(|path| !path.starts_with(std::env::temp_dir()))
        .filter(|path| file_name(path).starts_with(file_prefix))
        .collect()
}

/// Pid of the process a name belongs to, if it is a name of ours.
fn owner(name: &str) -> Option<u32> {
    name.strip_prefix(PREFIX)?.split('-').next()?.parse().ok()
}

fn names_in(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Once per process: Ctrl-C and its kin remove everything before the process ends.
fn install_signal_handler() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let ending = [SIGINT, SIGTERM, SIGHUP];
        let Ok(mut signals) = Signals::new(ending) else { return };
        for signal in ending {
            let flag = Arc::clone(&STOPPING);
            let Ok(_registered) = signal_hook::flag::register(signal, flag) else { return };
        }
        std::thread::spawn(move || {
            if let Some(signal) = signals.forever().next() {
                eprintln!("lab: stopped by a signal, removing what was made");
                remove_all_of_this_process();
                std::process::exit(128 + signal);
            }
        });
    });
}

/// Sweeps until there is nothing left to remove.
fn remove_all_of_this_process() {
    let (at_least, at_most) = SWEEPS;
    for sweep in 1..=at_most {
        let removed = remove_where(|pid| pid == std::process::id());
        if removed.is_empty() && sweep >= at_least {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owner_of_a_name_is_the_pid_in_it_and_foreign_names_have_none() {
        let table = [
            ("shunt-lab-4711-0", Some(4711)),
            ("shunt-lab-4711-12-client-1", Some(4711)),
            ("shunt-lab-x-0", None),
            ("shunt-4711-0", None),
            ("rte", None),
        ];
        for (name, expected) in table {
            assert_eq!(owner(name), expected, "{name}");
        }
    }

    #[test]
    fn who_enters_a_namespace_is_told_by_its_command_line() {
        let entering = |line: &[u8]| is_entering(line, "shunt-lab-7-0-client-1");
        assert!(entering(b"ip\0netns\0exec\0shunt-lab-7-0-client-1\0sleep\0"));
        for other in [
            &b""[..],
            b"ip\0netns\0exec\0shunt-lab-7-0-client-12\0sleep\0",
            b"ip\0netns\0pids\0shunt-lab-7-0-client-1\0",
            b"sleep\0",
        ] {
            assert!(!entering(other), "{}", String::from_utf8_lossy(other));
        }
    }

    #[test]
    fn names_differ_within_a_process_and_belong_to_it() {
        let (one, other) = (unique_name(), unique_name());
        assert_ne!(one, other);
        assert_eq!(owner(&one), Some(std::process::id()));
        assert_eq!(owner(&other), Some(std::process::id()));
    }
}
