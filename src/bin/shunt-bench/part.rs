//! What a worker found, and the row that one or several make.
//!
//! Cycles are those of all workers' rounds, each round counting once; rates are sums over the workers.

use crate::bed::Round;
use crate::machine::Machine;
use crate::options::{IpVersion, RunOptions};
use crate::report::{Row, Spread, ratio};
use crate::run::Measured;
use crate::stages::StageCycles;

/// What one worker found.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) measured: Measured,
    /// Rounds while the others slept; of the first of several workers only.
    pub(crate) alone: Vec<Round>,
    pub(crate) stage_cycles: StageCycles,
    /// Connections it has.
    pub(crate) flows: u32,
    pub(crate) new_connections_per_second: f64,
    pub(crate) packet_size: f64,
    /// Of its table, and connections it has room for.
    pub(crate) bytes: u64,
    /// Of all its tables.
    pub(crate) all_bytes: u64,
    pub(crate) places: u64,
    pub(crate) refusals: Vec<(&'static str, u64)>,
    pub(crate) handed_over: u64,
}

/// The row these workers make. Latency is not known here.
pub(crate) fn row(machine: &Machine, options: &RunOptions, parts: &[Part]) -> anyhow::Result<Row> {
    let scene = &options.scene;
    let of_all = |rounds: fn(&Part) -> &[Round]| spread(parts.iter().flat_map(rounds));
    let mut mpps = 0.0;
    for part in parts {
        mpps += machine.hertz() / spread(&part.measured.shunt)?.median / 1e6;
    }
    let alone = of_all(|part| &part.alone)?.median;
    let one_worker_mpps = if parts.len() > 1 { machine.hertz() / alone / 1e6 } else { mpps };
    let cycles = of_all(|part| &part.measured.shunt)?;
    let synthetic = of_all(|part| &part.measured.synthetic)?;
    let memory = of_all(|part| &part.measured.memory)?;
    Ok(Row {
        mode: scene.mode.name(),
        scheduler: scene.scheduler.method().name,
        protocol: scene.protocol.protocol(),
        ip: if scene.ip == IpVersion::V6 { 6 } else { 4 },
        workers: options.workers,
        flows: parts.iter().map(|part| part.flows).sum(),
        packet_size: parts.first().map_or(0.0, |part| part.packet_size),
        packets: parts.iter().flat_map(|part| &part.measured.shunt).map(|r| r.packets).sum(),
        mpps,
        one_worker_mpps,
        scaling: mpps / one_worker_mpps,
        cycles_per_packet: cycles.median,
        cycles_spread: cycles,
        floor_cycles_per_packet: of_all(|part| &part.measured.floor)?.median,
        synthetic_cycles_per_packet: synthetic.median,
        synthetic_spread: synthetic,
        memory_cycles_per_packet: memory.median,
        memory_spread: memory,
        line_wait_cycles: of_all(|part| &part.measured.waiting)?,
        stage_cycles: StageCycles::mean(parts.iter().map(|part| part.stage_cycles)),
        new_connections_per_second: parts.iter().map(|p| p.new_connections_per_second).sum(),
        bytes_per_connection: ratio(sum(parts, |part| part.bytes), sum(parts, |part| part.places)),
        table_bytes: sum(parts, |part| part.all_bytes),
        lost_packets: sum(parts, |part| part.measured.lost),
        latency_ns: None,
        refusals: refusals(parts),
    })
}

fn sum(parts: &[Part], figure: fn(&Part) -> u64) -> u64 {
    parts.iter().map(figure).sum()
}

/// By reason, of all workers.
fn refusals(parts: &[Part]) -> Vec<(&'static str, u64)> {
    let mut all: Vec<(&str, u64)> = Vec::new();
    for (reason, count) in parts.iter().flat_map(|part| &part.refusals) {
        match all.iter_mut().find(|(known, _)| known == reason) {
            Some((_, sum)) => *sum += count,
            None => all.push((reason, *count)),
        }
    }
    all
}

fn spread<'a>(rounds: impl IntoIterator<Item = &'a Round>) -> anyhow::Result<Spread> {
    Spread::of(rounds.into_iter().copied())
}
