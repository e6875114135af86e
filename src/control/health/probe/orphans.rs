//! What programs of checks leave behind when they end.
//!
//! ```text
//!   shuntd ── script ── child                 all in one process group: killed with it
//!                  └─── setsid, a daemon      has left the group: when its parent ends it becomes shuntd's child
//!                                             (PR_SET_CHILD_SUBREAPER), is found there, and killed once nobody can need it
//! ```
//!
//! Every child of ours in another process group than ours is a script or what one has left behind. Whose it was the
//! kernel does not say, but who cannot have started it: a program that was started later. So an orphan lives as long as a
//! script runs that is as old, which is its timeout at most, and is killed by the next [`sweep`]. What it has started
//! in turn is our child then, and goes with the one after. The dead are waited for, or they would stay as zombies.
//!
//! Limits: the kernel must list children (`CONFIG_PROC_CHILDREN`, in every distribution's). As the first process of a
//! container shuntd is everybody's parent who has lost his own: there the dead are waited for and nobody is killed
//! (`docker run --init` makes another one the first).

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use rustix::process::{
    Pid, Signal, WaitOptions, getpgrp, getpid, kill_process, kill_process_group,
    set_child_subreaper, waitpid,
};
use tokio::process::{Child, Command};

/// When a process was started, in clock ticks since the kernel was.
type Ticks = u64;

/// There from the first script on.
static SCRIPTS: OnceLock<Mutex<Scripts>> = OnceLock::new();

#[derive(Debug, Default)]
struct Scripts {
    /// When the first was started: who is older is nobody's orphan.
    first: Option<Ticks>,
    /// Those that run, with their starts.
    running: HashMap<Pid, Ticks>,
}

impl Scripts {
    fn note(&mut self, leader: Pid) {
        let start = Process::read(leader).map_or(0, |it| it.start);
        self.first.get_or_insert(start);
        self.running.insert(leader, start);
    }

    /// Was it left behind by a script, and by none of those that run?
    fn is_orphan(&self, found: &Process) -> bool {
        let is_younger = self.first.is_some_and(|first| found.start >= first);
        is_younger && self.running.values().all(|start| *start > found.start)
    }
}

fn scripts() -> MutexGuard<'static, Scripts> {
    let first = || {
        if let Err(error) = set_child_subreaper(Some(getpid())) {
            tracing::warn!(%error, "what scripts of checks leave behind is not found");
        }
        Mutex::default()
    };
    SCRIPTS.get_or_init(first).lock().unwrap_or_else(PoisonError::into_inner)
}

/// A script's process group, killed when it is let go of. It is there as long as one process of it is; one that is empty
/// is no more, and its number not another's yet.
pub(super) struct Group(Option<Pid>);

impl Group {
    /// Starts a program in a group of its own.
    ///
    /// # Errors
    ///
    /// The system's.
    pub(super) fn start(command: &mut Command) -> std::io::Result<(Child, Self)> {
        // Before it is known here, nobody else looks who it might be.
        let mut scripts = scripts();
        let child = command.process_group(0).spawn()?;
        let leader = child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?));
        if let Some(leader) = leader {
            scripts.note(leader);
        }
        Ok((child, Self(leader)))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            let _ = kill_process_group(leader, Signal::KILL);
            scripts().running.remove(&leader);
        }
    }
}

/// Kills what scripts have left behind and nobody needs any more, and waits for those that are dead. To be called once
/// a second; does nothing before the first script.
pub(in crate::control::health) fn sweep() {
    if SCRIPTS.get().is_none() {
        return;
    }
    let scripts = scripts();
    let (us, ours) = (getpid(), getpgrp());
    for child in children().into_iter().filter(|child| !scripts.running.contains_key(child)) {
        let Some(found) = Process::read(child).filter(|it| it.group != ours) else { continue };
        if found.is_dead {
            let _ = waitpid(Some(child), WaitOptions::NOHANG);
        } else if !us.is_init() && scripts.is_orphan(&found) {
            let _ = kill_process(child, Signal::KILL);
        }
    }
}

/// Our children, of whichever thread.
fn children() -> Vec<Pid> {
    let threads = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let listed = threads.filter_map(|it| fs::read_to_string(it.path().join("children")).ok());
    let number = |word: &str| Pid::from_raw(word.parse().ok()?);
    listed.flat_map(|text| text.split(' ').filter_map(number).collect::<Vec<_>>()).collect()
}

/// What the kernel says of a process.
#[derive(Debug, PartialEq, Eq)]
struct Process {
    is_dead: bool,
    group: Pid,
    start: Ticks,
}

impl Process {
    fn read(id: Pid) -> Option<Self> {
        let path = Path::new("/proc").join(id.as_raw_nonzero().to_string()).join("stat");
        Self::parse(&fs::read_to_string(path).ok()?)
    }

    /// `proc(5)`: number, name in parentheses (which may hold anything), state, parent, group, ..., as the 22nd its start.
    fn parse(stat: &str) -> Option<Self> {
        let (_, rest) = stat.rsplit_once(") ")?;
        let words: Vec<&str> = rest.split_ascii_whitespace().collect();
        let group = Pid::from_raw(words.get(2)?.parse().ok()?)?;
        Some(Self { is_dead: *words.first()? == "Z", group, start: words.get(19)?.parse().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_orphan_is_younger_than_the_first_script_and_older_than_all_that_run() {
        let pid = |raw| Pid::from_raw(raw).unwrap();
        let scripts = |first, running: &[(i32, Ticks)]| Scripts {
            first,
            running: running.iter().map(|(id, start)| (pid(*id), *start)).collect(),
        };
        for (first, running, start, expected) in [
            (None, &[][..], 5, false),
            (Some(5), &[], 4, false),
            (Some(5), &[], 5, true),
            (Some(5), &[(7, 8), (9, 7)], 6, true),
            (Some(5), &[(7, 8), (9, 6)], 6, false),
            (Some(5), &[(7, 5)], 6, false),
        ] {
            let found = Process { is_dead: false, group: pid(3), start };
            let scripts = scripts(first, running);
            assert_eq!(scripts.is_orphan(&found), expected, "{start} of {scripts:?}");
        }
    }

    #[test]
    fn what_the_kernel_says_of_a_process_is_read_behind_whatever_it_is_called() {
        let stat = "42 (a) Z (b) S 7 40 40 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 9876 100 5 0";
        let group = Pid::from_raw(40).unwrap();
        let expected = Process { is_dead: false, group, start: 9876 };
        assert_eq!(Process::parse(stat), Some(expected));
        let dead = stat.replace("(b) S", "(b) Z");
        assert!(Process::parse(&dead).is_some_and(|it| it.is_dead));
        for bad in ["", "42 (a) S", "42 (a S 7 40 40"] {
            assert_eq!(Process::parse(bad), None, "{bad}");
        }
        let own = Process::read(getpid()).unwrap();
        assert_eq!((own.is_dead, own.group), (false, getpgrp()));
    }
}
