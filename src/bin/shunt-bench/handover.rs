//! `handover`: what a packet costs on top that meets a worker that is not its owner.
//!
//! ```text
//! CPU 0: written ─► [A's port] ─► A ─► [lane] ─┐           handed over
//! CPU 1:                                       └► B ─►
//!
//! CPU 0: written ─► [B's port] ──────────────────► B ─►    met its owner at once
//! ```
//!
//! Both rows begin with frames written on one CPU and end with B's work on another, so that the
//! difference is A's work and the lane, cache lines that change cores included. One thread plays
//! both CPUs in turn: phases do not overlap, and each is timed on its own.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use clap::Args;
use serde::Serialize;
use shunt::dataplane::conn::ports::Ownership;
use shunt::dpdk::lcore;
use shunt::ids::WorkerId;
use shunt::stats::counters::WorkerStats;
use shunt::stats::loads::Loads;

use crate::bed::{Bed, Round, mesh};
use crate::host::Hosts;
use crate::machine::Machine;
use crate::options::{IpVersion, Scene};
use crate::report::Spread;
use crate::scene;
use crate::traffic::{BACKENDS, CLIENTS, Traffic};

/// Rounds thrown away first.
const WARM_UP: u32 = 16;

/// What `handover` measures.
#[derive(Clone, Debug, Args)]
pub(crate) struct HandoverOptions {
    #[command(flatten)]
    pub(crate) scene: Scene,
    /// Connections made beforehand, by both workers together.
    #[arg(long, default_value_t = 64_000, value_parser = clap::value_parser!(u32).range(1024..=10_000_000))]
    pub(crate) flows: u32,
    /// Rounds of each kind.
    #[arg(long, default_value_t = 500)]
    pub(crate) rounds: u32,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// What was found.
#[derive(Debug, Serialize)]
pub(crate) struct Found {
    /// Cycles of a packet that met its owner.
    pub(crate) direct_cycles_per_packet: Spread,
    /// Cycles of a packet that met the other worker first, both workers together.
    pub(crate) handed_over_cycles_per_packet: Spread,
    /// Of these, what the first worker takes to see that it is the other's.
    pub(crate) first_worker_cycles_per_packet: Spread,
    /// The difference of the medians.
    pub(crate) on_top: f64,
    /// Packets handed over.
    pub(crate) packets: u64,
}

/// Measures both.
pub(crate) fn run(options: &HandoverOptions) -> anyhow::Result<Found> {
    ensure!(options.scene.mode.has_replies(), "expected --mode fullnat or nat: answers pass there");
    let machine = Machine::start(&options.scene, 1)?;
    match options.scene.ip {
        IpVersion::V4 => Pair::<Ipv4Addr>::new(&machine, options)?.measure(options),
        IpVersion::V6 => Pair::<Ipv6Addr>::new(&machine, options)?.measure(options),
    }
}

/// Two workers. A is the first.
struct Pair<'a, F: Hosts> {
    machine: &'a Machine,
    beds: Vec<Bed>,
    traffic: Traffic<F>,
    cpus: (usize, usize),
}

impl<'a, F: Hosts> Pair<'a, F> {
    fn new(machine: &'a Machine, options: &HandoverOptions) -> anyhow::Result<Self> {
        let scene = &options.scene;
        let snapshot = Arc::new(scene::snapshot::<F>(scene));
        let loads = Arc::<Loads>::default();
        let bed = |(id, lanes)| {
            let shared = (Arc::clone(&snapshot), WorkerStats::sharing(Arc::clone(&loads)));
            Bed::among::<F>(&machine.eal, scene, options.flows, shared, WorkerId(id), lanes)
        };
        let cpus = machine.two_cpus().context("expected two CPUs")?;
        let lanes = mesh(&machine.eal, 2, scene.in_flight)?;
        let beds = (0..).zip(lanes).map(bed).collect::<anyhow::Result<Vec<_>>>()?;
        let mut pair = Self { machine, beds, traffic: Traffic::new(scene, &machine.pool)?, cpus };
        pair.prefill(scene, options.flows)?;
        let ownership = Ownership::new(WorkerId(1), 2, &snapshot.ports);
        pair.traffic.keep_replies(|key| ownership.reply(key) == WorkerId(1));
        ensure!(pair.traffic.known() > 0, "expected the second worker to own some connections");
        Ok(pair)
    }

    /// All clients' packets come to A, which hands over what is B's.
    fn prefill(&mut self, scene: &Scene, flows: u32) -> anyhow::Result<()> {
        for first in (0..flows).step_by(scene.in_flight as usize) {
            let wanted = scene.in_flight.min(flows - first);
            let count = self.traffic.offer_new(&mut self.beds[0].wires[CLIENTS], wanted)?;
            self.work();
            self.learn();
            self.traffic.offer_again(&mut self.beds[0].wires[CLIENTS], first, count)?;
            self.work();
            self.collect();
        }
        let refusals = || self.beds.iter().map(Bed::refusals).collect::<Vec<_>>();
        let known = self.traffic.known();
        ensure!(known == flows as usize, "connections refused: {:?}", refusals());
        Ok(())
    }

    fn work(&mut self) {
        let now_ms = self.machine.now_ms();
        for bed in &mut self.beds {
            bed.time_worker(now_ms);
        }
    }

    fn learn(&mut self) {
        for bed in &mut self.beds {
            self.traffic.learn(&mut bed.wires[BACKENDS]);
        }
        self.collect();
    }

    fn collect(&mut self) {
        for bed in &mut self.beds {
            self.traffic.collect(&mut bed.wires, false);
        }
    }

    fn measure(mut self, options: &HandoverOptions) -> anyhow::Result<Found> {
        let (mut direct, mut handed, mut passed_on) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..options.rounds + WARM_UP {
            let ((first, over), (_, at_once)) = (self.round(0)?, self.round(1)?);
            if round >= WARM_UP {
                passed_on.push(first);
                handed.push(over);
                direct.push(at_once);
            }
        }
        self.machine.unpin()?;
        let spread = |rounds: &[Round]| Spread::of(rounds.iter().copied());
        let (direct, over) = (spread(&direct)?, spread(&handed)?);
        Ok(Found {
            direct_cycles_per_packet: direct,
            handed_over_cycles_per_packet: over,
            first_worker_cycles_per_packet: spread(&passed_on)?,
            on_top: over.median - direct.median,
            packets: handed.iter().map(|round| round.packets).sum(),
        })
    }

    /// Answers to connections of B, offered to worker `first`: what A alone did, and all of it.
    fn round(&mut self, first: usize) -> anyhow::Result<(Round, Round)> {
        lcore::pin(self.cpus.0)?;
        let offered = self.traffic.offer_replies(&mut self.beds[first].wires[BACKENDS])?;
        let now_ms = self.machine.now_ms();
        let mut passed_on = Round::default();
        if first == 0 {
            passed_on = Round::of(|| {
                while self.beds[0].worker.poll(now_ms) > 0 {}
                0
            });
        }
        lcore::pin(self.cpus.1)?;
        let round = self.beds[1].time_worker(now_ms);
        ensure!(round.packets == offered, "{} of {offered} packets left", round.packets);
        lcore::pin(self.cpus.0)?;
        self.collect();
        passed_on.packets = round.packets;
        let mut both = round;
        both += Round { packets: 0, ..passed_on };
        Ok((passed_on, both))
    }
}

/// What was found, as text.
pub(crate) fn render(found: &Found, json: bool) -> String {
    if json {
        return serde_json::to_string(found).unwrap_or_default() + "\n";
    }
    format!(
        "met its owner {} cycles a packet, handed over {}, {} of them at the first worker: {:.1} on top \
         ({} packets)\n",
        found.direct_cycles_per_packet,
        found.handed_over_cycles_per_packet,
        found.first_worker_cycles_per_packet,
        found.on_top,
        found.packets
    )
}
