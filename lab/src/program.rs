//! A child process in a host.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process, kill_process_group};

use crate::{Network, cleanup, command, wait};

/// How much of each output an error shows.
const TAIL_LINES: usize = 40;

/// A running program. Its output goes to files; dropping it kills it and everything it started
/// (it leads its own process group), and in a failing test shows what it printed.
#[derive(Debug)]
pub struct Program {
    what: String,
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Program {
    /// Starts `command` (from [`crate::Host::command`]); `what` names it in messages and files.
    pub fn start(network: &Network, what: &str, mut command: Command) -> Result<Self> {
        let file = |extension: &str| network.folder().join(format!("{what}.{extension}"));
        let (stdout, stderr) = (file("out"), file("err"));
        let child = command
            .stdin(Stdio::null())
            .stdout(File::create(&stdout)?)
            .stderr(File::create(&stderr)?)
            // Its own group: Ctrl-C on the terminal reaches the lab alone, which then ends it.
            .process_group(0)
            .spawn()
            .with_context(|| format!("starting {what}: `{}`", command::line(&command)))?;
        Ok(Self { what: what.to_owned(), child, stdout, stderr })
    }

    /// Waits until `probe` is true; fails at once, with its output, if the program ends first.
    pub fn wait_until_ready(
        &mut self,
        timeout: Duration,
        mut probe: impl FnMut(&Self) -> Result<bool>,
    ) -> Result<()> {
        let what = format!("{} to be ready", self.what);
        let outcome = wait::until_true(&what, timeout, || {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended before it was ready, with {status}", self.what);
            }
            probe(self)
        });
        outcome.with_context(|| self.tail())
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill_process(self.raw_pid()?, signal).with_context(|| format!("signalling {}", self.what))
    }

    /// Waits for its own end.
    pub fn wait_for_end(&mut self, timeout: Duration) -> Result<ExitStatus> {
        let what = format!("{} to end", self.what);
        let ended = wait::until(&what, timeout, || Ok(self.child.try_wait()?));
        ended.with_context(|| self.tail())
    }

    /// Waits for its end; its standard output if the exit code is 0, an error otherwise.
    pub fn finish(&mut self, timeout: Duration) -> Result<String> {
        let status = self.wait_for_end(timeout)?;
        if !status.success() {
            bail!("{} ended with {status}\n{}", self.what, self.tail());
        }
        Ok(self.stdout())
    }

    /// Ends it the hard way and waits until it is gone.
    pub fn kill(&mut self) {
        if let Ok(pid) = self.raw_pid() {
            let _gone_already = kill_process_group(pid, Signal::KILL);
        }
        let _reaped = self.child.wait();
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// What it has printed to standard output.
    pub fn stdout(&self) -> String {
        fs::read_to_string(&self.stdout).unwrap_or_default()
    }

    /// What it has printed to standard error.
    pub fn stderr(&self) -> String {
        fs::read_to_string(&self.stderr).unwrap_or_default()
    }

    /// The last of its output, for people.
    pub fn tail(&self) -> String {
        let (stdout, stderr) = (self.stdout(), self.stderr());
        format!("--- {} printed:\n{}{}---", self.what, last_lines(&stdout), last_lines(&stderr))
    }

    fn raw_pid(&self) -> Result<Pid> {
        i32::try_from(self.child.id())
            .ok()
            .and_then(Pid::from_raw)
            .with_context(|| format!("{} has no pid", self.what))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        cleanup::park_if_stopping();
        if std::thread::panicking() {
            eprintln!("{}", self.tail());
        }
        self.kill();
    }
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let start = lines.len().saturating_sub(TAIL_LINES);
    lines.iter().skip(start).flat_map(|line| [line, "\n"]).collect()
}
