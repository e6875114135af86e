//! `reload`: how long a worker stands still for a new snapshot, and what it loses.
//!
//! Reloads change every backend's weight, so that nothing prepared for the old list is of use for the
//! new one. A worker pays twice: it takes the snapshot, and the next new connection finds out
//! anew how loaded everybody is. Both are timed, the second against the same packets without a reload.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use anyhow::ensure;
use clap::Args;
use hdrhistogram::Histogram;
use serde::Serialize;
use shunt::dataplane::snapshot::Snapshot;

use crate::established::Established;
use crate::host::Hosts;
use crate::machine::Machine;
use crate::options::{IpVersion, Scene};
use crate::scene;

/// Of 1,000 packets so many make a connection: whoever stands still for a choice shows.
const NEW_PER_MILLE: u32 = 20;

/// What `reload` measures.
#[derive(Clone, Debug, Args)]
pub(crate) struct ReloadOptions {
    #[command(flatten)]
    pub(crate) scene: Scene,
    /// Connections made beforehand.
    #[arg(long, default_value_t = 64_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub(crate) flows: u32,
    /// Reloads.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) reloads: u32,
    /// The reloads change nothing of this service: what one of another service, or a next hop of one,
    /// costs it.
    #[arg(long)]
    pub(crate) elsewhere: bool,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// What was found.
#[derive(Debug, Serialize)]
pub(crate) struct Found {
    /// Backends of the service.
    pub(crate) backends: u32,
    /// How they were chosen.
    pub(crate) scheduler: &'static str,
    /// Reloads.
    pub(crate) reloads: u32,
    /// Microseconds the worker stood still to take a snapshot.
    pub(crate) pause_us: Pause,
    /// Microseconds a round of packets took more that came right behind it.
    pub(crate) first_round_us: Pause,
    /// Packets lost.
    pub(crate) lost_packets: u64,
}

/// Of many reloads.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Pause {
    /// Half were shorter.
    pub(crate) p50: f64,
    /// 99 of 100 were.
    pub(crate) p99: f64,
    /// None was longer.
    pub(crate) max: f64,
}

/// Reloads again and again, with traffic between.
pub(crate) fn run(options: &ReloadOptions) -> anyhow::Result<Found> {
    let machine = Machine::start(&options.scene, 1)?;
    match options.scene.ip {
        IpVersion::V4 => measure::<Ipv4Addr>(&machine, options),
        IpVersion::V6 => measure::<Ipv6Addr>(&machine, options),
    }
}

fn measure<F: Hosts>(machine: &Machine, options: &ReloadOptions) -> anyhow::Result<Found> {
    let mut made = Established::<F>::new(machine, &options.scene, options.flows, true)?;
    made.mix.new_per_mille = NEW_PER_MILLE;
    let (mut pauses, mut behind) = (Histogram::new(3)?, Histogram::new(3)?);
    let mut lost = 0;
    for turn in 0..options.reloads {
        let usual = round(machine, &mut made, &mut lost)?;
        let snapshot = Arc::new(reloaded::<F>(options, turn));
        pauses.record(made.bed.publish(snapshot, machine.now_ms())?)?;
        let next = round(machine, &mut made, &mut lost)?;
        behind.record(next.saturating_sub(usual))?;
    }
    ensure!(
        made.bed.stats.run.snapshots.get() == u64::from(options.reloads),
        "a reload was not taken"
    );
    Ok(Found {
        backends: options.scene.backends,
        scheduler: options.scene.scheduler.method().name,
        reloads: options.reloads,
        pause_us: pause(machine, &pauses),
        first_round_us: pause(machine, &behind),
        lost_packets: lost,
    })
}

/// The same world, every backend with another weight unless something else has changed.
fn reloaded<F: Hosts>(options: &ReloadOptions, turn: u32) -> Snapshot {
    let mut snapshot = scene::snapshot::<F>(&options.scene);
    snapshot.generation = u64::from(turn) + 2;
    if options.elsewhere {
        return snapshot;
    }
    for service in snapshot.services.iter_mut().flatten() {
        service.revision = u64::from(turn) + 2;
    }
    for backend in snapshot.backends.iter_mut().flatten() {
        backend.weight = 1 + turn % 2;
    }
    snapshot.indexed()
}

/// A round of packets; the cycles it took.
fn round<F: Hosts>(
    machine: &Machine,
    made: &mut Established<F>,
    lost: &mut u64,
) -> anyhow::Result<u64> {
    let Established { bed, traffic, mix, .. } = made;
    let offered = traffic.offer(&mut bed.wires, *mix)?;
    let round = bed.time_worker(machine.now_ms());
    *lost += offered - round.packets.min(offered);
    traffic.collect(&mut bed.wires, false);
    Ok(round.cycles)
}

fn pause(machine: &Machine, cycles: &Histogram<u64>) -> Pause {
    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    let us = |cycles: u64| cycles as f64 * 1e6 / machine.hertz();
    Pause {
        p50: us(cycles.value_at_quantile(0.5)),
        p99: us(cycles.value_at_quantile(0.99)),
        max: us(cycles.max()),
    }
}

/// What was found, as text.
pub(crate) fn render(found: &Found, json: bool) -> String {
    if json {
        return serde_json::to_string(found).unwrap_or_default() + "\n";
    }
    let pause = |Pause { p50, p99, max }: Pause| format!("{p50:.1} / {p99:.1} / {max:.1}");
    format!(
        "{} backends, {}, {} reloads: pause {} µs (p50 / p99 / longest), the round behind it {} µs \
         more, {} packets lost\n",
        found.backends,
        found.scheduler,
        found.reloads,
        pause(found.pause_us),
        pause(found.first_round_us),
        found.lost_packets
    )
}
