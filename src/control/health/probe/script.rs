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
//! is alone in a process group of its own: when it has ended, its time is over, or the check is stopped, the whole group
//! is killed, so that what it started goes too; and what has left the group (`setsid`, a daemon) goes soon after
//! ([`super::orphans`]). Of the daemon's files it inherits none: ours are all
//! closed on exec, and so are DPDK's from the start on (`dpdk::children`).

use std::process::Stdio;

use tokio::process::Command;

use super::orphans::Group;
use super::{Asked, Failure};

const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

pub(super) async fn run(command: &[String], asked: &Asked) -> Result<(), Failure> {
    let Some((program, arguments)) = command.split_first() else {
        return Err(Failure::NotRun("no command".into()));
    };
    let mut starting = Command::new(program);
    starting
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
        .stderr(Stdio::null());
    let started = Group::start(&mut starting);
    let (mut child, _group) =
        started.map_err(|error| Failure::NotRun(format!("{program}: {error}")))?;
    let status = child.wait().await?;
    match status.code() {
        Some(0) => Ok(()),
        code => Err(Failure::Exit(code)),
    }
}
