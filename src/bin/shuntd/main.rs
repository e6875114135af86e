//! `shuntd`: the balancer itself.

mod serve;
mod workers;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use shunt::cli::config::{self, BAD_INPUT, Outcome};
use shunt::control::ControlError;
use shunt::control::config::Machine;

/// Exit code of a daemon that ran and did not end well: worth starting again. What was refused
/// before it ran is [`BAD_INPUT`], and starting again would not help.
pub(crate) const FAILED: u8 = 1;

/// A layer-4 load balancer on DPDK.
#[derive(Debug, Parser)]
#[command(name = "shuntd", version = env!("SHUNT_VERSION"))]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Balance, in the foreground, until SIGTERM.
    Run {
        /// The configuration.
        #[arg(long, default_value = "/etc/shunt/shunt.toml")]
        config: PathBuf,
    },
    /// Say whether a configuration can be used: exit code 0, or 2 and why not.
    Check {
        /// The configuration.
        file: PathBuf,
        /// Do not ask whether this machine has the CPUs the file names.
        #[arg(long)]
        elsewhere: bool,
    },
    /// Say what a reload from one file to another would change: exit code 0 nothing, 1 something,
    /// 2 a file cannot be used.
    Diff {
        /// What runs.
        old: PathBuf,
        /// What shall run.
        new: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
        /// Do not ask whether this machine has the CPUs the files name.
        #[arg(long)]
        elsewhere: bool,
    },
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Run { config } => run(&config),
        Command::Check { file, elsewhere } => print(&config::check(&file, &machine(elsewhere))),
        Command::Diff { old, new, json, elsewhere } => {
            print(&config::compare(&old, &new, &machine(elsewhere), json))
        }
    }
}

fn run(config: &std::path::Path) -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_from_env("SHUNT_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_ansi(false)
        .with_writer(std::io::stderr)
        .init();
    match serve::serve(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("shuntd: {error:#}");
            let ran = matches!(error.downcast_ref(), Some(ControlError::Stuck(_)));
            ExitCode::from(if ran { FAILED } else { BAD_INPUT })
        }
    }
}

fn machine(elsewhere: bool) -> Machine {
    let here = Machine::here();
    if elsewhere { here.elsewhere() } else { here }
}

fn print(outcome: &Outcome) -> ExitCode {
    print!("{}", outcome.out);
    eprint!("{}", outcome.err);
    ExitCode::from(outcome.code)
}
