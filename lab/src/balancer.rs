//! `shuntd` under test: start, reload, ask, stop, kill.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::Signal;
use serde_json::Value;

use crate::config::{Config, METRICS};
use crate::metrics::Metrics;
use crate::{Network, Program, command, programs, wait};

/// How long the daemon may take from start to forwarding.
const START_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a reload may take to be in force, or refused.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the daemon may take to end beyond its drain deadline.
const STOP_MARGIN: Duration = Duration::from_secs(10);

/// Where the programs under test are.
#[derive(Clone, Debug)]
pub struct Binaries {
    /// The daemon.
    pub shuntd: PathBuf,
    /// The tool.
    pub shunt: PathBuf,
    /// The lab's own agents.
    pub lab: PathBuf,
}

impl Binaries {
    /// All three in the folder of this file; an error names the one that is not there.
    pub fn beside(file: &Path) -> Result<Self> {
        let folder = file.parent().unwrap_or(Path::new("."));
        let find = |name: &str| {
            let path = folder.join(name);
            if !path.is_file() {
                bail!("{} is not built: run `cargo build --workspace --bins`", path.display());
            }
            Ok(path)
        };
        Ok(Self { shuntd: find("shuntd")?, shunt: find("shunt")?, lab: find("lab")? })
    }
}

/// A running daemon in the network's balancer host. Dropping it kills it.
#[derive(Debug)]
pub struct Balancer<'network> {
    /// The process.
    pub program: Program,
    /// The configuration last asked for.
    pub config: Config,
    network: &'network Network,
    binaries: Binaries,
    file: PathBuf,
}

impl<'network> Balancer<'network> {
    /// Writes the configuration, starts the daemon and waits until it forwards.
    pub fn start(network: &'network Network, binaries: &Binaries, config: Config) -> Result<Self> {
        Self::start_within(START_TIMEOUT, network, binaries, config)
    }

    /// [`Balancer::start`] that gives up after `timeout`.
    pub fn start_within(
        timeout: Duration,
        network: &'network Network,
        binaries: &Binaries,
        config: Config,
    ) -> Result<Self> {
        network.give_ports_to_dpdk()?;
        let file = network.folder().join("shunt.toml");
        config.write(&file)?;
        let mut command = network.balancer.command(&binaries.shuntd);
        command.args(["run", "--config"]).arg(&file);
        let mut program = Program::start(network, "shuntd", command)?;
        program.wait_until_ready(timeout, |program| Ok(says_ready(&program.stderr())))?;
        Ok(Self { program, config, network, binaries: binaries.clone(), file })
    }

    /// Runs the daemon with this configuration text where it is expected to end by itself.
    pub fn run_to_end(network: &Network, binaries: &Binaries, text: &str) -> Result<Output> {
        network.give_ports_to_dpdk()?;
        let file = network.folder().join("refused.toml");
        fs::write(&file, text)?;
        // `timeout` bounds it: a daemon that starts after all would run for ever.
        let mut command = network.balancer.command("timeout");
        command.args(["--kill-after=5", "20"]).arg(&binaries.shuntd);
        command.args(["run", "--config"]).arg(&file);
        command::output(&mut command)
    }

    /// Puts this configuration in force: writes the file, sends SIGHUP, waits until every worker
    /// uses a snapshot made of it. A reload that ends in any other way is an error.
    pub fn reload(&mut self, config: Config) -> Result<()> {
        config.write(&self.file)?;
        match self.hang_up()?.as_str() {
            "applied" => self.wait_for_workers()?,
            "unchanged" => {}
            other => bail!("the reload was {other}\n{}", self.program.tail()),
        }
        self.config = config;
        Ok(())
    }

    /// Writes a text that must be refused, sends SIGHUP, and waits until the daemon has said so.
    /// The file keeps the bad text.
    pub fn reload_refused(&mut self, text: &str) -> Result<()> {
        fs::write(&self.file, text)?;
        match self.hang_up()?.as_str() {
            "refused" | "invalid" => Ok(()),
            other => bail!("the reload was {other}, not refused\n{}", self.program.tail()),
        }
    }

    /// Sends SIGHUP and waits for the reload to end; its result, as the exporter labels it.
    fn hang_up(&self) -> Result<String> {
        let before = self.metrics()?;
        self.program.signal(Signal::HUP)?;
        let ended = || {
            let now = self.metrics()?;
            let grew = |result: &&str| reloads(&now, result) > reloads(&before, result);
            Ok(RELOAD_RESULTS.iter().copied().find(|result| grew(result)).map(str::to_owned))
        };
        wait::until("the reload to end", RELOAD_TIMEOUT, ended).with_context(|| self.program.tail())
    }

    /// Waits until every worker uses the snapshot last published, or a later one.
    pub fn wait_for_workers(&self) -> Result<()> {
        let published = self.metrics()?.sum("shunt_generation", &[]).unwrap_or(f64::MAX);
        let arrived = || {
            let metrics = self.metrics()?;
            let mut workers =
                metrics.samples.iter().filter(|it| it.name == "shunt_worker_generation").peekable();
            Ok(workers.peek().is_some() && workers.all(|worker| worker.value >= published))
        };
        wait::until_true("the workers to take the snapshot", RELOAD_TIMEOUT, arrived)
    }

    /// Runs `shunt` against this daemon; its standard output.
    pub fn shunt(&self, arguments: &[&str]) -> Result<String> {
        let mut command = self.network.balancer.command(&self.binaries.shunt);
        command.arg("--socket").arg(&self.config.shunt.admin_socket).args(arguments);
        command::run(&mut command)
    }

    /// Runs a line in a shell on the balancer's host, as its operator would type it: `shunt` is found, and this
    /// daemon by it. Standard output; an exit code other than 0 is an error.
    pub fn typed(&self, line: &str) -> Result<String> {
        let programs = self.binaries.shunt.parent().unwrap_or(Path::new("/"));
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = self.network.balancer.command("sh");
        command.args(["-c", line]).env("SHUNT_SOCKET", &self.config.shunt.admin_socket);
        command.env("PATH", format!("{}:{path}", programs.display()));
        command::run(&mut command)
    }

    /// Runs `shunt` on a terminal of its own for ten seconds at most, typing a key every half second; all that the
    /// terminal was sent.
    pub fn on_a_terminal(&self, arguments: &str, keys: &str) -> Result<String> {
        let (shunt, socket) = (&self.binaries.shunt, &self.config.shunt.admin_socket);
        let line = format!("{} --socket {} {arguments}", shunt.display(), socket.display());
        let typed = keys.chars().map(|key| format!("sleep 0.5; printf {key}; "));
        let script = format!(
            "({}sleep 0.5) | timeout 10 script -qec 'stty rows 24 cols 100; {line}' /dev/null",
            typed.collect::<String>()
        );
        command::run(self.network.balancer.command("sh").args(["-c", &script]))
    }

    /// What `shunt COMMAND --json` prints.
    pub fn shunt_json(&self, subcommand: &str) -> Result<Value> {
        let text = self.shunt(&[subcommand, "--json"])?;
        serde_json::from_str(&text)
            .with_context(|| format!("`shunt {subcommand} --json` printed no JSON: {text}"))
    }

    /// Scrapes `/metrics`.
    pub fn metrics(&self) -> Result<Metrics> {
        let url = format!("http://{METRICS}/metrics");
        Metrics::parse(&programs::curl(&self.network.balancer, &url)?)
    }

    /// SIGTERM, then its end; anything but exit code 0 is an error.
    pub fn stop(&mut self) -> Result<()> {
        self.program.signal(Signal::TERM)?;
        let drain = Duration::from_secs(self.config.shunt.drain_deadline_s);
        self.program.finish(drain + STOP_MARGIN)?;
        Ok(())
    }

    /// `kill -9`.
    pub fn kill(mut self) {
        self.program.kill();
    }
}

/// How a reload can end.
const RELOAD_RESULTS: [&str; 4] = ["applied", "unchanged", "refused", "invalid"];

/// Reloads that ended so, since start.
fn reloads(metrics: &Metrics, result: &str) -> f64 {
    metrics.sum("shunt_config_reloads_total", &[("result", result)]).unwrap_or(0.0)
}

/// A whole word, so that `already` is not taken for it.
fn says_ready(log: &str) -> bool {
    log.split(|character: char| !character.is_alphanumeric()).any(|word| word == "ready")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_is_a_word_and_not_part_of_one() {
        let table = [
            ("INFO shuntd: ready, 2 workers", true),
            ("ready", true),
            ("socket already in use", false),
            ("", false),
        ];
        for (log, expected) in table {
            assert_eq!(says_ready(log), expected, "{log}");
        }
    }
}
