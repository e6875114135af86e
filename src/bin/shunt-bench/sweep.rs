//! `sweep`: the highest rate at which nothing is lost, and latency below it (after RFC 2544,
//! sections 26.1 and 26.2).
//!
//! Latency is measured in slices, the balancer and plain forwarding on the same core in turn: what a shared
//! machine adds is in both, and what the balancer adds is the difference of their medians.
//!
//! A trial offers packets at a fixed rate for a fixed time. Nothing lost: the next is faster, else
//! slower, halving the interval each time. The worker has a core of its own, the generator another;
//! what the generator cannot offer is not claimed.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::Args;
use hdrhistogram::Histogram;
use serde::Serialize;

use crate::doubt;
use crate::established::Established;
use crate::host::Hosts;
use crate::latency::Latency;
use crate::machine::Machine;
use crate::options::{IpVersion, Scene};
use crate::rig::{Between, Rig, Trial};
use crate::search::{NoLoss, Search};

/// Shares of the no-loss rate latency is measured at, in percent.
const LOADS: [u32; 3] = [10, 50, 90];
/// Slices the time of a measurement of latency is cut into, of either kind.
const SLICES: u32 = 20;

/// What `sweep` measures.
#[derive(Clone, Debug, Args)]
pub(crate) struct SweepOptions {
    #[command(flatten)]
    pub(crate) scene: Scene,
    /// Connections made beforehand.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    pub(crate) flows: u32,
    /// Milliseconds of a trial.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(10..=60_000))]
    pub(crate) trial_ms: u32,
    /// Packets of a million that may be lost in a trial that counts as without loss: a shared
    /// machine takes the core away now and then.
    #[arg(long, default_value_t = 0)]
    pub(crate) tolerated_ppm: u32,
    /// Highest rate tried, in thousands of packets a second.
    #[arg(long, default_value_t = 50_000)]
    pub(crate) highest_kpps: u32,
    /// Draw latency against load into this file (SVG).
    #[arg(long)]
    pub(crate) plot: Option<std::path::PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// What was found.
#[derive(Debug, Serialize)]
pub(crate) struct Found {
    /// How packets were forwarded.
    pub(crate) mode: &'static str,
    /// Connections in the table.
    pub(crate) flows: u32,
    /// The highest rate tried at which nothing was lost, millions a second.
    pub(crate) no_loss_mpps: f64,
    /// Was the generator the limit, and not the worker?
    pub(crate) generator_bound: bool,
    /// Latency at shares of it.
    pub(crate) latency: Vec<AtLoad>,
}

/// Latency at a share of the no-loss rate.
#[derive(Debug, Serialize)]
pub(crate) struct AtLoad {
    /// The share, in percent.
    pub(crate) load_percent: u32,
    /// Packets lost meanwhile.
    pub(crate) lost_packets: u64,
    /// Latency.
    pub(crate) latency_ns: Latency,
    /// The same of plain forwarding, at the same rate.
    pub(crate) floor_latency_ns: Latency,
    /// What of the slowest of a thousand is the balancer's: the median slice's less that of the floor's. Below zero
    /// where the machine disturbed the floor more.
    pub(crate) added_p999_ns: f64,
    /// What that may be off by, by chance.
    pub(crate) added_p999_off_by_ns: f64,
}

/// Latency slice by slice.
struct Slices {
    all: Histogram<u64>,
    /// Of each slice.
    p999: Vec<u64>,
    offered_per_second: f64,
    lost: u64,
}

/// Searches, then measures.
pub(crate) fn run(options: &SweepOptions) -> anyhow::Result<Found> {
    let machine = Machine::start(&options.scene, 1)?;
    match options.scene.ip {
        IpVersion::V4 => sweep::<Ipv4Addr>(&machine, options),
        IpVersion::V6 => sweep::<Ipv6Addr>(&machine, options),
    }
}

fn sweep<F: Hosts>(machine: &Machine, options: &SweepOptions) -> anyhow::Result<Found> {
    let cpus = machine.two_cpus();
    let cpus = cpus.context("expected two CPUs: one for the worker, one for the generator")?;
    let made = Established::<F>::new(machine, &options.scene, options.flows, false)?;
    let mut rig = Rig::start(machine, made.bed, made.traffic, made.mix, cpus)?;
    let search = Search {
        highest: f64::from(options.highest_kpps) * 1e3,
        tolerated_ppm: options.tolerated_ppm,
    };
    let trial = |rate| rig.trial(Between::Worker, rate, trial_time(options));
    let NoLoss { per_second: no_loss, generator_bound } = search.run(trial)?;
    ensure!(no_loss > 0.0, "something was lost in every trial: see --tolerated-ppm and --trial-ms");
    let latency = LOADS.iter().map(|&load| at_load(&mut rig, machine, options, no_loss, load));
    let latency = latency.collect::<anyhow::Result<Vec<_>>>()?;
    rig.end()?;
    Ok(Found {
        mode: options.scene.mode.name(),
        flows: options.flows,
        no_loss_mpps: no_loss / 1e6,
        generator_bound,
        latency,
    })
}

fn at_load<F: Hosts>(
    rig: &mut Rig<'_, F>,
    machine: &Machine,
    options: &SweepOptions,
    no_loss: f64,
    load_percent: u32,
) -> anyhow::Result<AtLoad> {
    let rate = no_loss * f64::from(load_percent) / 100.0;
    let (mut balanced, mut floor) = (Slices::new()?, Slices::new()?);
    for _ in 0..SLICES {
        balanced.add(&rig.trial(Between::Worker, rate, trial_time(options) / SLICES)?)?;
        floor.add(&rig.trial(Between::Floor, rate, trial_time(options) / SLICES)?)?;
    }
    let ns = |cycles: f64| cycles * 1e9 / machine.hertz();
    let (one, other) = (balanced.median_p999(), floor.median_p999());
    let added_p999_ns = ns(one.0 - other.0);
    let added_p999_off_by_ns = ns(doubt::of_difference(one.1, other.1));
    let (lost_packets, latency_ns) = (balanced.lost, balanced.latency(machine));
    let floor_latency_ns = floor.latency(machine);
    Ok(AtLoad {
        load_percent,
        lost_packets,
        latency_ns,
        floor_latency_ns,
        added_p999_ns,
        added_p999_off_by_ns,
    })
}

impl Slices {
    fn new() -> anyhow::Result<Self> {
        let all = Histogram::new(3)?;
        Ok(Self { all, p999: Vec::new(), offered_per_second: 0.0, lost: 0 })
    }

    fn add(&mut self, slice: &Trial) -> anyhow::Result<()> {
        self.all.add(&slice.latency)?;
        self.p999.push(slice.latency.value_at_quantile(0.999));
        self.offered_per_second += slice.offered_per_second / f64::from(SLICES);
        self.lost += slice.lost;
        Ok(())
    }

    /// The median slice's, in cycles, and what it may be off by.
    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    fn median_p999(&mut self) -> (f64, f64) {
        self.p999.sort_unstable();
        let count = self.p999.len();
        let at = |place: usize| self.p999.get(place).copied().unwrap_or_default() as f64;
        (at(count / 2), doubt::off_by([at(count / 4), at(count * 3 / 4)], count))
    }

    fn latency(&self, machine: &Machine) -> Latency {
        Latency::of(machine, self.offered_per_second, &self.all)
    }
}

fn trial_time(options: &SweepOptions) -> Duration {
    Duration::from_millis(options.trial_ms.into())
}

/// What was found, as text.
pub(crate) fn render(found: &Found, json: bool) -> String {
    if json {
        return serde_json::to_string(found).unwrap_or_default() + "\n";
    }
    let limit = if found.generator_bound { " (the generator\'s limit)" } else { "" };
    let head = format!(
        "{} {} flows: {:.2} Mpps without loss{limit}\n{:>6} {:>8} {:>6} {:>9} {:>9} {:>9} {:>15} {:>15}\n",
        found.mode,
        found.flows,
        found.no_loss_mpps,
        "load",
        "Mpps",
        "lost",
        "p50 µs",
        "p99 µs",
        "p99.9 µs",
        "floor's p99.9",
        "added ± µs"
    );
    found.latency.iter().fold(head, |text, at| {
        let Latency { offered_mpps, p50, p99, p999 } = at.latency_ns;
        let [p50, p99, p999] = [p50, p99, p999].map(|ns| ns / 1e3);
        let (floor, added) = (at.floor_latency_ns.p999 / 1e3, at.added_p999_ns / 1e3);
        let off_by = at.added_p999_off_by_ns / 1e3;
        text + &format!(
            "{:>5}% {offered_mpps:>8.2} {:>6} {p50:>9.1} {p99:>9.1} {p999:>9.1} {floor:>15.1} {added:>8.1} ±{off_by:>5.1}\n",
            at.load_percent, at.lost_packets
        )
    })
}
