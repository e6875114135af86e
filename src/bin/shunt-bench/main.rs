//! `shunt-bench`: how fast the data path is, on this machine, now.
//!
//! A generator writes packets into in-memory ports, the real worker moves them, a reflector takes
//! them out. Only the worker's share is timed; plain forwarding of the same kind of packets through the
//! same kind of ports is timed in the same run: the *floor*. Ratios to it are the truth; absolute
//! figures on shared machines are not.
//!
//! `scene` and `host` say who takes part, `frame`, `order` and `traffic` make packets, `bed` holds the
//! worker, `rig` puts it on a core of its own. A subcommand is a file: `run`, `sweep`, `life`,
//! `flood`, `choices`, `handover`, `idle`, `reload`, `overhead`, `generate`, `compare`, `standard`.

mod bars;
mod bed;
mod choices;
mod compare;
mod crew;
mod doubt;
mod established;
mod flood;
mod floor;
mod frame;
mod gate;
mod generate;
mod handover;
mod handshake;
mod host;
mod idle;
mod latency;
mod life;
mod lines;
mod machine;
mod neighbor;
mod options;
mod order;
mod overhead;
mod part;
mod plot;
mod progress;
mod reflect;
mod reload;
mod report;
mod rig;
mod run;
mod scene;
mod search;
mod stages;
mod standard;
mod sweep;
mod synthetic;
mod tester;
mod traffic;
mod yardstick;

use std::process::ExitCode;

use anyhow::ensure;
use clap::{Parser, Subcommand};

use crate::choices::ChoicesOptions;
use crate::compare::CompareOptions;
use crate::flood::FloodOptions;
use crate::generate::GenerateOptions;
use crate::handover::HandoverOptions;
use crate::idle::IdleOptions;
use crate::life::LifeOptions;
use crate::options::RunOptions;
use crate::overhead::OverheadOptions;
use crate::reload::ReloadOptions;
use crate::standard::StandardOptions;
use crate::sweep::SweepOptions;

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
    /// Searches the highest rate without loss, and measures latency below it.
    Sweep(SweepOptions),
    /// Opens connections, and opens and closes them.
    Life(LifeOptions),
    /// Opens connections with every scheduler, beside `rr`.
    Choices(ChoicesOptions),
    /// Offers packets to a worker that is not their owner.
    Handover(HandoverOptions),
    /// Sends packets one at a time to a worker that has nothing else to do.
    Idle(IdleOptions),
    /// Reloads under traffic.
    Reload(ReloadOptions),
    /// Forwards with and without counting and sampling, and prints what these cost.
    Overhead(OverheadOptions),
    /// Measures everything that has a bar.
    Standard(StandardOptions),
    /// Floods the worker with SYNs from forged addresses, and prints what established connections
    /// keep of their rate and how many new clients get through: without cookies, with, and above a rate.
    Flood(FloodOptions),
    /// Sends packets through a box, by DPDK's ports, and counts what comes back right.
    Generate(GenerateOptions),
    /// Runs two builds in turn and compares them.
    Compare(CompareOptions),
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Run(options) => established(&options),
        Command::Sweep(options) => swept(&options),
        Command::Life(options) => {
            life::run(&options).map(|rows| shown(&life::render(&rows, options.json)))
        }
        Command::Choices(options) => {
            choices::run(&options).map(|rows| shown(&choices::render(&rows, options.json)))
        }
        Command::Handover(options) => {
            handover::run(&options).map(|found| shown(&handover::render(&found, options.json)))
        }
        Command::Idle(options) => {
            idle::run(&options).map(|rows| shown(&idle::render(&rows, options.json)))
        }
        Command::Reload(options) => {
            reload::run(&options).map(|found| shown(&reload::render(&found, options.json)))
        }
        Command::Overhead(options) => {
            overhead::run(&options).map(|found| shown(&overhead::render(&found, options.json)))
        }
        Command::Generate(options) => generated(&options),
        Command::Flood(options) => flooded(&options),
        Command::Standard(options) => standard(&options),
        Command::Compare(options) => {
            compare::run(&options).map(|rows| shown(&compare::render(&rows, options.json)))
        }
    };
    done.unwrap_or_else(|error| {
        eprintln!("shunt-bench: {error:#}");
        ExitCode::from(2)
    })
}

/// Exit code 1 if packets were lost or a bar was missed.
fn established(options: &RunOptions) -> anyhow::Result<ExitCode> {
    if options.assert {
        let (many, few) = (bars::MANY, bars::FEW);
        ensure!(
            bars::can_judge(&options.flows),
            "--assert compares {few} and {many} flows: give both to --flows"
        );
    }
    let rows = run::run(options)?;
    print!("{}", report::render(&rows, options.json));
    if let Some(file) = &options.plot {
        plot::rate_against_flows(file, &rows)?;
    }
    let missed = if options.assert { bars::missed(&rows) } else { Vec::new() };
    Ok(verdict(rows.iter().any(|row| row.lost_packets > 0), &missed))
}

/// Exit code 1 if packets of established connections were lost or a bar was missed.
fn flooded(options: &FloodOptions) -> anyhow::Result<ExitCode> {
    let rows = flood::run(options)?;
    print!("{}", report::render_flood(&rows, options.json));
    let missed = if options.assert { flood::missed(&rows) } else { Vec::new() };
    Ok(verdict(rows.iter().any(|row| row.lost_packets > 0), &missed))
}

fn verdict(lost: bool, missed: &[String]) -> ExitCode {
    for bar in missed {
        eprintln!("shunt-bench: {bar}");
    }
    ExitCode::from(u8::from(lost || !missed.is_empty()))
}

fn swept(options: &SweepOptions) -> anyhow::Result<ExitCode> {
    let found = sweep::run(options)?;
    let code = shown(&sweep::render(&found, options.json));
    if let Some(file) = &options.plot {
        plot::latency_against_load(file, &found)?;
    }
    Ok(code)
}

/// Exit code 1 if packets were lost, or were wrong.
fn generated(options: &GenerateOptions) -> anyhow::Result<ExitCode> {
    let found = generate::run(options)?;
    print!("{}", generate::render(&found, options.json));
    Ok(verdict(found.lost_packets + found.wrong_packets > 0, &[]))
}

fn standard(options: &StandardOptions) -> anyhow::Result<ExitCode> {
    let found = standard::run(options.rehearse)?;
    print!("{}", standard::render(&found, options.json));
    if let Some(file) = &options.write {
        standard::write(file, &standard::render(&found, false))?;
    }
    Ok(ExitCode::from(u8::from(options.assert && standard::is_missed(&found))))
}

fn shown(text: &str) -> ExitCode {
    print!("{text}");
    ExitCode::SUCCESS
}
