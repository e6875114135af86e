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
        network.give_ports_to_dpdk()?;
        let file = network.folder().join("shunt.toml");
        config.write(&file)?;
        let mut command = network.balancer.command(&binaries.shuntd);
        command.args(["run", "--config"]).arg(&file);
        let mut program = Program::start(network, "shuntd", command)?;
        program.wait_until_ready(START_TIMEOUT, |program| Ok(says_ready(&program.stderr())))?;
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
    /// has it.
    pub fn reload(&mut self, config: Config) -> Result<()> {
        config.write(&self.file)?;
        let before = self.generation()?;
        self.program.signal(Signal::HUP)?;
        let newer = || Ok(self.generation()? > before);
        wait::until_true("the reload to be in force", RELOAD_TIMEOUT, newer)
            .with_context(|| self.program.tail())?;
        self.config = config;
        Ok(())
    }

    /// Writes a text that must be refused, sends SIGHUP, and waits until the daemon has counted a
    /// refused reload. The file keeps the bad text.
    pub fn reload_refused(&mut self, text: &str) -> Result<()> {
        fs::write(&self.file, text)?;
        let before = self.refused_reloads()?;
        self.program.signal(Signal::HUP)?;
        let counted = || Ok(self.refused_reloads()? > before);
        wait::until_true("the reload to be refused", RELOAD_TIMEOUT, counted)
            .with_context(|| self.program.tail())
    }

    /// Generation of the snapshot in force, from `shunt status --json`.
    pub fn generation(&self) -> Result<u64> {
        let status = self.shunt_json("status")?;
        find_key(&status, "generation")
            .and_then(Value::as_u64)
            .with_context(|| format!("`shunt status --json` names no generation: {status}"))
    }

    /// Reloads refused since start.
    fn refused_reloads(&self) -> Result<f64> {
        let metrics = self.metrics()?;
        let all = metrics.sum(RELOADS, &[]).with_context(|| format!("no metric {RELOADS}"))?;
        Ok(all - metrics.sum(RELOADS, &[("result", RELOAD_APPLIED)]).unwrap_or(0.0))
    }

    /// Runs `shunt` against this daemon; its standard output.
    pub fn shunt(&self, arguments: &[&str]) -> Result<String> {
        let mut command = self.network.balancer.command(&self.binaries.shunt);
        command.arg("--socket").arg(&self.config.shunt.admin_socket).args(arguments);
        command::run(&mut command)
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

/// Counts reloads by their result.
const RELOADS: &str = "shunt_reloads_total";
/// The result of a reload that is in force.
const RELOAD_APPLIED: &str = "applied";

/// A whole word, so that `already` is not taken for it.
fn says_ready(log: &str) -> bool {
    log.split(|character: char| !character.is_alphanumeric()).any(|word| word == "ready")
}

/// The first value of this key, however deep.
fn find_key<'value>(value: &'value Value, key: &str) -> Option<&'value Value> {
    match value {
        Value::Object(map) => {
            map.get(key).or_else(|| map.values().find_map(|inner| find_key(inner, key)))
        }
        Value::Array(list) => list.iter().find_map(|inner| find_key(inner, key)),
        _ => None,
    }
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
