//! `script`: a program of the operator's, good if it ends with 0.
//!
//! It gets the words of `command`, and in its environment whom it is about:
//!
//! | variable | example |
//! |---|---|
//! | `SHUNT_SERVICE` | `web` |
//! | `SHUNT_BACKEND` | `10.44.0.11:8080` |
//! | `SHUNT_ADDRESS`, `SHUNT_PORT` | `10.44.0.11`, `8080` |
//!
//! and nothing else but `PATH`. It runs as the daemon's user, with no input, its output goes nowhere, and it
//! is alone in a process group of its own: when its time is over, or the check is stopped, the whole group is
//! killed, so that what it started goes too. Of the daemon's files it inherits none: ours are all
//! closed on exec, and so are DPDK's from the start on (`dpdk::children`).
//!
//! Limit: what makes itself a session of its own (`setsid`, a daemon) has left the group and lives on. To hold it, each
//! check would need a PID namespace or a cgroup, and the program another view of the system than the one it was
//! written for: who writes a check that starts daemons must end them.

use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::Command;

use super::{Asked, Failure};

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

pub(super) async fn run(command: &[String], asked: &Asked) -> Result<(), Failure> {
    let Some((program, arguments)) = command.split_first() else {
        return Err(Failure::NotRun("no command".into()));
    };
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        .env("PATH", PATH)
        .env("SHUNT_SERVICE", &asked.service)
        .env("SHUNT_BACKEND", asked.backend.to_string())
        .env("SHUNT_ADDRESS", asked.target.ip().to_string())
        .env("SHUNT_PORT", asked.target.port().to_string())
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .map_err(|error| Failure::NotRun(format!("{program}: {error}")))?;
    let group = child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?));
    let _group = Group(group);
    let status = child.wait().await?;
    match status.code() {
        Some(0) => Ok(()),
        code => Err(Failure::Exit(code)),
    }
}

/// Killed when it is let go of. A group is there as long as one process of it is, so what the program left
/// behind goes; one that is empty is no more, and its number not another's yet.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}
