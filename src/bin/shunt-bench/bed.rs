//! The test bed: two in-memory ports, one worker between them, one service.
//!
//! ```text
//! generator ─► [client port] ─► worker ─► [backend port] ─► taken out, checked, used again
//! generator ─► [backend port] ─► worker ─► [client port] ─►
//! ```
//!
//! A worker that is busy has no time but the one it works in. Here frames are written and checked between
//! its rounds, which takes several times as long; a sweep that had to keep pace with all of that would
//! cost the worker several times what it costs a busy one. So the bed counts a time of its own, which
//! passes while the worker is timed and stands still otherwise ([`Bed::worked_ms`]). Where connections
//! come and go time is real: what is measured there is their end, too, and nobody waits so long for it.

use std::sync::Arc;

use anyhow::{Context as _, ensure};
use shunt::dataplane::conn::index::Seed;
use shunt::dataplane::conn::ports::Ownership;
use shunt::dataplane::conn::table::{Sizes, Table, Tables};
use shunt::dataplane::flows::Flows;
use shunt::dataplane::io::{Burst, Platform, Rx, Tx};
use shunt::dataplane::mailbox::mailbox;
use shunt::dataplane::mem::HugePages;
use shunt::dataplane::orders::{ControlEnd, Order};
use shunt::dataplane::snapshot::Snapshot;
use shunt::dataplane::worker::{Links, Worker};
use shunt::dpdk::clock::{self, Clock};
use shunt::dpdk::eal::Eal;
use shunt::dpdk::mbuf::Mbuf;
use shunt::dpdk::ring::{Receiver, Sender, lane};
use shunt::ids::WorkerId;
use shunt::stats::counters::WorkerStats;

use crate::host::Hosts;
use crate::options::Scene;
use crate::stages::Stopwatch;
use crate::yardstick;

/// Connections made by SYN cookies there is room for: the balancer's default.
const SPLICES: u32 = 1 << 16;

/// The worker's end of an in-memory port.
#[derive(Debug)]
pub(crate) struct RingPort {
    inbound: Receiver,
    outbound: Sender,
    /// Packets it gives at once.
    most: usize,
}

impl Rx for RingPort {
    type Packet = Mbuf;

    #[inline]
    fn rx(&mut self, burst: &mut Burst<Mbuf>) -> usize {
        self.inbound.rx_at_most(burst, self.most)
    }
}

impl Tx for RingPort {
    type Packet = Mbuf;

    #[inline]
    fn tx(&mut self, burst: &mut Burst<Mbuf>) -> usize {
        self.outbound.tx(burst)
    }
}

/// DPDK's packets over in-memory ports; `WATCHED` as in [`Platform`].
#[derive(Debug)]
pub(crate) struct Rings<const WATCHED: bool = true>;

impl<const WATCHED: bool> Platform for Rings<WATCHED> {
    type Packet = Mbuf;
    type Port = RingPort;
    type LaneRx = Receiver;
    type LaneTx = Sender;
    type Probe = Stopwatch;
    const WATCHED: bool = WATCHED;

    #[inline(always)]
    fn ticks() -> u64 {
        clock::now()
    }
}

/// The generator's end of an in-memory port.
#[derive(Debug)]
pub(crate) struct Wire {
    /// Into the worker.
    pub(crate) to: Sender,
    /// Out of it.
    pub(crate) from: Receiver,
}

/// A pair of ports that give so many packets at once, both ends: the clients' and the backends'.
pub(crate) fn ports(
    eal: &Eal,
    depth: u32,
    burst: u8,
) -> anyhow::Result<([RingPort; 2], [Wire; 2])> {
    let most = usize::from(burst);
    let port = || -> anyhow::Result<(RingPort, Wire)> {
        let (to, inbound) = lane(eal, depth)?;
        let (outbound, from) = lane(eal, depth)?;
        Ok((RingPort { inbound, outbound, most }, Wire { to, from }))
    };
    let ((a, client), (b, backend)) = (port()?, port()?);
    Ok(([a, b], [client, backend]))
}

/// What some polls took, and how many packets left.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Round {
    pub(crate) cycles: u64,
    pub(crate) packets: u64,
    /// The slowest [yardstick](crate::yardstick) beside it.
    pub(crate) yardstick: u64,
}

impl Round {
    /// Times what moves packets, and says how many.
    #[inline(always)]
    pub(crate) fn of(work: impl FnOnce() -> u64) -> Self {
        let before = yardstick::take();
        let start = clock::now();
        let packets = work();
        let cycles = clock::now() - start;
        Self { cycles, packets, yardstick: before.max(yardstick::take()) }
    }
}

impl std::ops::AddAssign for Round {
    fn add_assign(&mut self, other: Self) {
        self.cycles += other.cycles;
        self.packets += other.packets;
        self.yardstick = self.yardstick.max(other.yardstick);
    }
}

/// The worker under test.
pub(crate) struct Bed<const WATCHED: bool = true> {
    pub(crate) worker: Worker<Rings<WATCHED>>,
    pub(crate) wires: [Wire; 2],
    pub(crate) stats: Arc<WorkerStats>,
    pub(crate) control: ControlEnd,
    /// What its worker's tables have room for.
    pub(crate) sizes: Sizes,
    /// Ticks its worker was timed.
    worked: u64,
    _kernel: Receiver,
}

/// A worker's ways to the others.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    /// From each of them.
    pub(crate) from: Vec<Receiver>,
    /// To each, by id; `None` at its own place.
    pub(crate) to: Vec<Option<Sender>>,
}

impl<const WATCHED: bool> Bed<WATCHED> {
    /// A lone worker with room for so many connections of family `F`.
    pub(crate) fn new<F: Hosts>(
        eal: &Eal,
        scene: &Scene,
        connections: u32,
        snapshot: Snapshot,
    ) -> anyhow::Result<Self> {
        let lanes = Lanes { from: vec![], to: vec![None] };
        let (snapshot, stats) = (Arc::new(snapshot), WorkerStats::default());
        Self::among::<F>(eal, scene, connections, (snapshot, stats), WorkerId(0), lanes)
    }

    /// Worker `id` among as many as `lanes` says, with what it shares with them.
    pub(crate) fn among<F: Hosts>(
        eal: &Eal,
        scene: &Scene,
        connections: u32,
        (snapshot, stats): (Arc<Snapshot>, WorkerStats),
        id: WorkerId,
        lanes: Lanes,
    ) -> anyhow::Result<Self> {
        let stats = Arc::new(stats);
        let (ports, wires) = ports(eal, scene.in_flight, scene.burst)?;
        let (punt, kernel) = lane(eal, 64)?;
        let huge_pages = if scene.no_huge { HugePages::Never } else { HugePages::Auto };
        let sizes = sizes::<F>(connections);
        let tables =
            Tables::on(sizes, seed(scene), huge_pages).context("no memory for the tables")?;
        let workers = u8::try_from(lanes.to.len()).context("too many workers")?;
        let ownership = Ownership::new(id, workers, &snapshot.ports);
        let flows = Flows::new(tables, snapshot, ownership, Arc::clone(&stats));
        let (control, end) = mailbox();
        let links = Links::<Rings<WATCHED>> {
            ports: ports.into(),
            from_peers: lanes.from,
            to_peers: lanes.to,
            punt,
            inject: None,
        };
        let worker = Worker::new(flows, links, end);
        Ok(Self { worker, wires, stats, control, sizes, worked: 0, _kernel: kernel })
    }

    /// Publishes a snapshot and lets the worker take it; how many cycles it stood still for it.
    pub(crate) fn publish(&mut self, snapshot: Arc<Snapshot>, now_ms: u32) -> anyhow::Result<u64> {
        let sent = self.control.send(Order::Publish(snapshot));
        ensure!(sent.is_ok(), "the worker's mailbox is full");
        let start = clock::now();
        self.worker.poll(now_ms);
        let cycles = clock::now() - start;
        // The old one is freed here, not by the worker.
        drop(self.control.answer());
        Ok(cycles)
    }

    /// Lets the worker run at the time `now_ms` until its ports are empty.
    pub(crate) fn time_worker(&mut self, now_ms: u32) -> Round {
        let before = self.sent();
        let round = Round::of(|| {
            while self.worker.poll(now_ms) > 0 {}
            0
        });
        self.spend(round.cycles);
        Round { packets: self.sent() - before, ..round }
    }

    /// The worker's own time: what it was timed for, from 0.
    #[expect(clippy::cast_possible_truncation, reason = "workers count milliseconds in 32 bits")]
    pub(crate) fn worked_ms(&self) -> u32 {
        Clock::new(Clock::shared().hz(), 0).ms(self.worked) as u32
    }

    /// So much of that time has passed.
    pub(crate) fn spend(&mut self, cycles: u64) {
        self.worked += cycles;
    }

    /// A clock that goes on from there as real time does.
    pub(crate) fn clock(&self) -> Clock {
        Clock::new(Clock::shared().hz(), clock::now().saturating_sub(self.worked))
    }

    /// Packets the worker's ports took.
    fn sent(&self) -> u64 {
        self.stats.ports.iter().take(2).map(|port| port.tx_packets.get()).sum()
    }

    /// The connections.
    pub(crate) fn table<F: Hosts>(&self) -> &Table<F> {
        F::table(self.worker.flows().tables())
    }

    /// Packets refused, by reason.
    pub(crate) fn refusals(&self) -> Vec<(&'static str, u64)> {
        shunt::dataplane::verdict::Reason::ALL
            .iter()
            .map(|reason| (reason.label(), self.stats.drops[*reason as usize].get()))
            .filter(|(_, count)| *count > 0)
            .collect()
    }
}

/// The seed of all tables' hashes.
pub(crate) fn seed(scene: &Scene) -> Seed {
    Seed([scene.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1, !scene.seed])
}

/// A lane for each ordered pair of workers, by worker.
pub(crate) fn mesh(eal: &Eal, workers: usize, depth: u32) -> anyhow::Result<Vec<Lanes>> {
    let mut mesh: Vec<Lanes> = std::iter::repeat_with(Lanes::default).take(workers).collect();
    for from in 0..workers {
        for to in 0..workers {
            if from == to {
                mesh[from].to.push(None);
                continue;
            }
            let (sender, receiver) = lane(eal, depth)?;
            mesh[from].to.push(Some(sender));
            mesh[to].from.push(receiver);
        }
    }
    Ok(mesh)
}

/// What tables there are for so many connections.
fn sizes<F: Hosts>(connections: u32) -> Sizes {
    let splices = connections.min(SPLICES);
    if F::IS_V6 {
        Sizes { v4: 1, v6: connections, splices }
    } else {
        Sizes { v4: connections, v6: 1, splices }
    }
}
