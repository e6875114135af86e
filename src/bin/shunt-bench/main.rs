//! `shunt-bench`: how fast the data path is, on this machine, now.
//!
//! One core, one process: a generator writes packets into in-memory ports, the real worker moves
//! them, a reflector takes them out. Only the worker's share is timed; plain forwarding of the same
//! kind of packets through the same kind of ports is timed in the same run: the *floor*. Ratios to it are
//! the truth; absolute figures on shared machines are not.

mod bars;
mod bed;
mod flood;
mod flows;
mod frame;
mod report;
mod run;

use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

/// Measures the data path over in-memory ports.
#[derive(Debug, Parser)]
#[command(name = "shunt-bench", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Forwards established connections, both directions in random order, and prints the cost.
    Run(RunOptions),
    /// Floods the worker with SYNs from forged addresses, and prints what established connections
    /// keep of their rate and how many new clients get through: without cookies, with, and above a rate.
    Flood(FloodOptions),
}

/// How packets are forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// Both addresses and ports are rewritten.
    Fullnat,
}

/// What every measurement needs.
#[derive(Debug, clap::Args)]
struct Common {
    /// Seconds of measuring for each row.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=3600))]
    duration: u32,
    /// Backends the connections are spread over.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=250))]
    backends: u16,
    /// Packets that are in flight between generator and worker at once.
    #[arg(long, default_value_t = 2048, value_parser = clap::value_parser!(u32).range(64..=65536))]
    in_flight: u32,
    /// Seed of the order in which connections are visited.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// CPU to run on.
    #[arg(long)]
    core: Option<usize>,
    /// Do not use huge pages.
    #[arg(long)]
    no_huge: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What to measure.
#[derive(Debug, clap::Args)]
struct RunOptions {
    /// How packets are forwarded.
    #[arg(long, value_enum, default_value = "fullnat")]
    mode: Mode,
    /// Connections made beforehand; several counts, separated by commas, give a row each.
    #[arg(long, value_delimiter = ',', default_value = "1000000")]
    flows: Vec<u32>,
    /// Bytes of a frame, FCS included: 64 to 1518.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(64..=1518))]
    packet_size: u16,
    #[command(flatten)]
    common: Common,
    /// Exit code 1, naming the bar, if a million connections cost over 200 cycles a packet or not
    /// under twice what a thousand cost. Needs rows of both counts.
    #[arg(long)]
    assert: bool,
}

/// What to flood with.
#[derive(Debug, clap::Args)]
struct FloodOptions {
    /// Connections that are established before.
    #[arg(long, default_value_t = 100_000)]
    flows: u32,
    /// Forged addresses the SYNs come from.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..=16_000_000))]
    sources: u32,
    /// SYNs for each hundred packets of established connections.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=400))]
    syns: u32,
    /// Connections there is room for beside those that are established.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(2_000..))]
    room: u32,
    #[command(flatten)]
    common: Common,
    /// Exit code 1, naming the row, if with cookies established connections keep less than 90 % of
    /// their rate.
    #[arg(long)]
    assert: bool,
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Run(options) => established(&options),
        Command::Flood(options) => flooded(&options),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("shunt-bench: {error:#}");
        ExitCode::from(2)
    })
}

fn established(options: &RunOptions) -> anyhow::Result<ExitCode> {
    if options.assert && !bars::can_judge(&options.flows) {
        let (many, few) = (bars::MANY, bars::FEW);
        anyhow::bail!("--assert compares {few} and {many} flows: give both to --flows");
    }
    let rows = run::run(options)?;
    print!("{}", report::render(&rows, options.common.json));
    let missed = if options.assert { bars::missed(&rows) } else { Vec::new() };
    Ok(verdict(rows.iter().any(|row| row.lost_packets > 0), &missed))
}

fn flooded(options: &FloodOptions) -> anyhow::Result<ExitCode> {
    let rows = flood::run(options)?;
    print!("{}", report::render_flood(&rows, options.common.json));
    let missed = if options.assert { flood::missed(&rows) } else { Vec::new() };
    Ok(verdict(rows.iter().any(|row| row.lost_packets > 0), &missed))
}

fn verdict(lost: bool, missed: &[String]) -> ExitCode {
    for bar in missed {
        eprintln!("shunt-bench: {bar}");
    }
    ExitCode::from(u8::from(lost || !missed.is_empty()))
}
