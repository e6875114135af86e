//! What `shuntd` is told on its command line. Here, and not in the program, because its man pages and
//! completion are made by `shunt`.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// A layer-4 load balancer on DPDK.
#[derive(Debug, Parser)]
#[command(name = "shuntd", version = env!("SHUNT_VERSION"))]
pub struct Arguments {
    /// What it shall do.
    #[command(subcommand)]
    pub command: Command,
}

/// What it shall do.
#[derive(Debug, Subcommand)]
pub enum Command {
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
        /// Print JSON.
        #[arg(long)]
        json: bool,
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
    /// Print the JSON Schema of the configuration, for editors.
    Schema,
}
