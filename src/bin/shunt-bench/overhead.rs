//! `overhead`: what being watched costs. Counting what ports move, sampling latency and asking whether
//! anybody captures, against the same worker compiled without any of it.
//!
//! ```text
//! one table ─┬─► worker that counts and samples ─► cycles ─┐
//!            └─► worker that does neither ───────► cycles ─┴─► watched / bare, round by round
//! ```
//!
//! Both forward packets of the same connections in the same table: what the worker knows of connections
//! changes hands between rounds. Rounds are compared in pairs, and who begins changes with each pair, so
//! that neither profits from what the other left in the caches.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use anyhow::ensure;
use clap::Args;
use hdrhistogram::Histogram;
use serde::Serialize;
use shunt::dpdk::clock;

use crate::bed::{Bed, Round};
use crate::doubt;
use crate::established::Established;
use crate::host::Hosts;
use crate::machine::Machine;
use crate::options::{IpVersion, Scene};
use crate::report::Spread;
use crate::scene;

/// Pairs thrown away first.
const WARM_UP: usize = 32;

/// What `overhead` measures.
#[derive(Clone, Debug, Args)]
pub(crate) struct OverheadOptions {
    #[command(flatten)]
    pub(crate) scene: Scene,
    /// Connections made beforehand.
    #[arg(long, default_value_t = 64_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub(crate) flows: u32,
    /// Seconds of measuring.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub(crate) duration: u32,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// What was found.
#[derive(Debug, Serialize)]
pub(crate) struct Found {
    /// Cycles of a packet where it is counted and sampled.
    pub(crate) watched_cycles_per_packet: Spread,
    /// Cycles of a packet where it is not.
    pub(crate) bare_cycles_per_packet: Spread,
    /// What the first takes more, in percent: the median pair.
    pub(crate) overhead_percent: f64,
    /// What that may be off by, by chance.
    pub(crate) overhead_off_by_percent: f64,
    /// Pairs of rounds.
    pub(crate) pairs: usize,
    /// Samples of latency that were taken.
    pub(crate) samples: u64,
}

/// Measures both.
pub(crate) fn run(options: &OverheadOptions) -> anyhow::Result<Found> {
    let machine = Machine::start(&options.scene, 1)?;
    match options.scene.ip {
        IpVersion::V4 => Pair::<Ipv4Addr>::new(&machine, options)?.measure(options),
        IpVersion::V6 => Pair::<Ipv6Addr>::new(&machine, options)?.measure(options),
    }
}

/// The two workers.
struct Pair<'a, F: Hosts> {
    machine: &'a Machine,
    watched: Established<F>,
    bare: Bed<false>,
}

impl<'a, F: Hosts> Pair<'a, F> {
    fn new(machine: &'a Machine, options: &OverheadOptions) -> anyhow::Result<Self> {
        let scene = &options.scene;
        let watched = Established::<F>::new(machine, scene, options.flows, false)?;
        let bare = Bed::new::<F>(&machine.eal, scene, 1, scene::snapshot::<F>(scene))?;
        Ok(Self { machine, watched, bare })
    }

    fn measure(mut self, options: &OverheadOptions) -> anyhow::Result<Found> {
        let end = self.machine.in_time(Duration::from_secs(options.duration.into()));
        let mut pairs = Vec::new();
        while pairs.len() < 2 * WARM_UP || clock::now() < end {
            let pair = if pairs.len().is_multiple_of(2) {
                let watched = self.watched_round()?;
                (watched, self.bare_round()?)
            } else {
                let bare = self.bare_round()?;
                (self.watched_round()?, bare)
            };
            pairs.push(pair);
        }
        let refusals = [self.watched.bed.refusals(), self.bare.refusals()];
        ensure!(refusals.iter().all(Vec::is_empty), "packets were refused: {refusals:?}");
        let pairs = &pairs[WARM_UP..];
        let spread = |of: fn(&(Round, Round)) -> Round| Spread::of(pairs.iter().map(of));
        let (overhead_percent, overhead_off_by_percent) = overhead(pairs)?;
        Ok(Found {
            watched_cycles_per_packet: spread(|pair| pair.0)?,
            bare_cycles_per_packet: spread(|pair| pair.1)?,
            overhead_percent,
            overhead_off_by_percent,
            pairs: pairs.len(),
            samples: self.watched.bed.stats.latencies.samples().map(|(_, count)| count).sum(),
        })
    }

    fn watched_round(&mut self) -> anyhow::Result<Round> {
        let Established { bed, traffic, mix, .. } = &mut self.watched;
        let offered = traffic.offer(&mut bed.wires, *mix)?;
        let round = bed.time_worker(bed.worked_ms());
        ensure!(round.packets == offered, "{} of {offered} packets left", round.packets);
        traffic.collect(&mut bed.wires, false);
        Ok(round)
    }

    /// The worker that counts nothing cannot say what left: the frames that are taken out do.
    fn bare_round(&mut self) -> anyhow::Result<Round> {
        let Established { bed, traffic, mix, .. } = &mut self.watched;
        let bare = &mut self.bare;
        let offered = traffic.offer(&mut bare.wires, *mix)?;
        std::mem::swap(bed.worker.flows_mut(), bare.worker.flows_mut());
        let round = bare.time_worker(bed.worked_ms());
        bed.spend(round.cycles);
        std::mem::swap(bed.worker.flows_mut(), bare.worker.flows_mut());
        let wrong = traffic.collect(&mut bare.wires, true);
        ensure!(
            wrong == 0,
            "{wrong} packets left that are not the translation of what was offered"
        );
        Ok(Round { packets: offered, ..round })
    }
}

/// How much more the first of a pair takes than the second, in percent, and what that may be off by.
fn overhead(pairs: &[(Round, Round)]) -> anyhow::Result<(f64, f64)> {
    // A tenth of a thousandth is one; up to ten times as much is told.
    let mut histogram = Histogram::<u64>::new_with_max(1_000_000, 4)?;
    for (watched, bare) in pairs {
        let of =
            |round: &Round| u128::from(round.cycles) * 10_000 / u128::from(round.packets.max(1));
        let ratio = of(watched) * 10_000 / of(bare).max(1);
        histogram.saturating_record(u64::try_from(ratio).unwrap_or(u64::MAX));
    }
    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 100.0;
    Ok((at(0.5) - 100.0, doubt::off_by([at(0.25), at(0.75)], pairs.len())))
}

/// What was found, as text.
pub(crate) fn render(found: &Found, json: bool) -> String {
    if json {
        return serde_json::to_string(found).unwrap_or_default() + "\n";
    }
    format!(
        "watched {} cycles a packet, bare {}: {:.2} % on top, give or take {:.2} ({} pairs, {} samples of latency)\n",
        found.watched_cycles_per_packet,
        found.bare_cycles_per_packet,
        found.overhead_percent,
        found.overhead_off_by_percent,
        found.pairs,
        found.samples
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_on_top_is_that_of_the_median_pair() {
        let round = |cycles| Round { cycles, packets: 100, yardstick: 0 };
        let pairs = [(10_300, 10_000), (20_000, 10_000), (10_100, 10_000)];
        let pairs = pairs.map(|(watched, bare)| (round(watched), round(bare)));
        assert!((overhead(&pairs).unwrap().0 - 3.0).abs() < 0.05);
        let cheaper = [(round(9_900), round(10_000))];
        assert!((overhead(&cheaper).unwrap().0 + 1.0).abs() < 0.05);
    }
}
