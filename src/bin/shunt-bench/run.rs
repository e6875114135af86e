//! A run: prefill, then rounds in which balancer and floor take turns.

use anyhow::{Context as _, bail, ensure};
use shunt::dataplane::conn::key::FlowKey;
use shunt::dataplane::io::{Burst, Packet as _, Rx as _, Tx as _};
use shunt::dataplane::verdict::Reason;
use shunt::dpdk::clock::{self, Clock};
use shunt::dpdk::eal::{Eal, EalOptions};
use shunt::dpdk::lcore;
use shunt::dpdk::mbuf::Mbuf;
use shunt::dpdk::memory::HugePages;
use shunt::dpdk::pool::Pool;

use crate::bed::{self, BACKEND_MAC, Bed, CLIENT_MAC, OUR_MACS, RingPort, Wire};
use crate::flows::{Order, Reply, client};
use crate::frame::{Template, is_right, key_of};
use crate::report::{Row, Spread};
use crate::{Common, RunOptions};

/// Bytes of a packet buffer.
const ROOM: u16 = 2048;
/// Rounds thrown away before measuring.
const WARM_UP_ROUNDS: u32 = 64;

/// Measures every row asked for.
pub(crate) fn run(options: &RunOptions) -> anyhow::Result<Vec<Row>> {
    let (eal, pool) = platform(&options.common)?;
    options.flows.iter().map(|flows| Bench::new(&eal, &pool, options, *flows)?.row()).collect()
}

/// DPDK, and buffers for what is in flight.
pub(crate) fn platform(common: &Common) -> anyhow::Result<(Eal, Pool)> {
    if let Some(core) = common.core {
        lcore::pin(core)?;
    }
    let huge_pages = if common.no_huge { HugePages::Never } else { HugePages::Auto };
    let buffers = common.in_flight * 2 + 1024;
    let eal = Eal::start(&EalOptions {
        huge_pages,
        memory_mb: 64 + buffers * u32::from(ROOM + 512) / (1 << 20),
        file_prefix: format!("shunt-bench-{}", std::process::id()),
        ..EalOptions::default()
    })?;
    let pool = Pool::new(&eal, buffers, ROOM)?;
    Ok((eal, pool))
}

/// One row's state.
struct Bench<'a> {
    options: &'a RunOptions,
    bed: Bed,
    floor: Floor,
    clock: Clock,
    idle: Vec<Mbuf>,
    replies: Vec<Reply>,
    templates: [Template; 2],
    order: Order,
    /// Keys that shall leave by each port in this round.
    expected: [Vec<FlowKey>; 2],
    new_connections_per_second: f64,
}

/// What one timed round gave.
#[derive(Clone, Copy, Debug, Default)]
struct Round {
    cycles: u64,
    packets: u64,
}

impl<'a> Bench<'a> {
    fn new(eal: &Eal, pool: &Pool, options: &'a RunOptions, flows: u32) -> anyhow::Result<Self> {
        ensure!(flows > 0, "expected at least one connection");
        let depth = options.common.in_flight;
        let idle = (0..depth).map(|_| pool.alloc()).collect::<Option<Vec<_>>>();
        let size = options.packet_size;
        let mut bench = Self {
            options,
            bed: Bed::new(eal, flows, options.common.backends, depth, options.common.seed)?,
            floor: Floor::new(eal, depth)?,
            clock: Clock::shared(),
            idle: idle.context("the pool is too small")?,
            replies: Vec::with_capacity(flows as usize),
            templates: [
                Template::ack(size, CLIENT_MAC, OUR_MACS[0]),
                Template::ack(size, BACKEND_MAC, OUR_MACS[1]),
            ],
            order: Order::new(options.common.seed),
            expected: [Vec::new(), Vec::new()],
            new_connections_per_second: 0.0,
        };
        bench.prefill(flows)?;
        Ok(bench)
    }

    /// Makes the connections, a SYN each, and notes what their backends will answer with.
    fn prefill(&mut self, flows: u32) -> anyhow::Result<()> {
        let syn = Template::syn(CLIENT_MAC, OUR_MACS[0]);
        let mut total = Round::default();
        for first in (0..flows).step_by(self.options.common.in_flight as usize) {
            let last = flows.min(first + self.options.common.in_flight);
            let mut burst = Burst::new();
            for n in first..last {
                let packet = written(self.idle.pop(), &syn, client(n))?;
                put(&mut self.bed.wires[0], &mut burst, packet)?;
            }
            flush(&mut self.bed.wires[0], &mut burst)?;
            let round = self.time_worker();
            total.cycles += round.cycles;
            total.packets += round.packets;
            let replies = &mut self.replies;
            take_out(&mut self.bed.wires[1], &mut self.idle, |frame| {
                replies.extend(key_of(frame).map(Reply::to));
            });
        }
        ensure!(
            self.replies.len() == flows as usize,
            "connections refused: {:?}",
            refusals(&self.bed)
        );
        self.new_connections_per_second = per_second(&self.clock, total);
        Ok(())
    }

    fn row(mut self) -> anyhow::Result<Row> {
        let end = self.clock.now_ms() + u64::from(self.options.common.duration) * 1000;
        let (mut shunt, mut floor) = (Vec::new(), Vec::new());
        let mut lost = 0;
        let mut rounds = 0;
        while rounds < WARM_UP_ROUNDS || self.clock.now_ms() < end {
            let (a, missing) = self.shunt_round(rounds == 0)?;
            let b = self.floor_round()?;
            rounds += 1;
            if rounds > WARM_UP_ROUNDS {
                lost += missing;
                shunt.push(a);
                floor.push(b);
            }
        }
        self.report(&shunt, &floor, lost)
    }

    fn report(&self, shunt: &[Round], floor: &[Round], lost: u64) -> anyhow::Result<Row> {
        let flows = u32::try_from(self.replies.len()).context("too many connections")?;
        let spread = |rounds: &[Round]| Spread::of(rounds.iter().map(|r| (r.cycles, r.packets)));
        let cycles = spread(shunt)?;
        let table = &self.bed.worker.flows().tables().v4;
        Ok(Row {
            mode: "fullnat",
            flows,
            packet_size: self.options.packet_size,
            packets: shunt.iter().map(|r| r.packets).sum(),
            mpps: hertz(&self.clock) / cycles.median / 1e6,
            cycles_per_packet: cycles,
            floor_cycles_per_packet: spread(floor)?,
            new_connections_per_second: self.new_connections_per_second,
            bytes_per_connection: ratio(table.bytes() as u64, u64::from(flows)),
            lost_packets: lost,
            refusals: refusals(&self.bed),
        })
    }

    /// One round through the balancer. With `check` every frame that left is verified: it must be
    /// the translation of the one that was offered, in order, with right checksums.
    fn shunt_round(&mut self, check: bool) -> anyhow::Result<(Round, u64)> {
        let offered = self.offer(Target::Shunt)?;
        let round = self.time_worker();
        let mut wrong = 0u64;
        for (wire, expected) in self.bed.wires.iter_mut().zip(&self.expected) {
            let mut expected = expected.iter();
            take_out(wire, &mut self.idle, |frame| {
                let wanted = expected.next().copied();
                wrong += u64::from(check && (!is_right(frame) || key_of(frame) != wanted));
            });
        }
        if wrong > 0 {
            bail!("{wrong} packets left that are not the translation of what was offered");
        }
        let missing = offered - round.packets.min(offered);
        Ok((round, missing))
    }

    /// One round of plain forwarding of the same packets.
    fn floor_round(&mut self) -> anyhow::Result<Round> {
        self.offer(Target::Floor)?;
        let round = self.floor.time();
        for wire in &mut self.floor.wires {
            take_out(wire, &mut self.idle, |_| ());
        }
        Ok(round)
    }

    /// Writes a round's packets, both directions in random order, into the ports of the target.
    fn offer(&mut self, target: Target) -> anyhow::Result<u64> {
        let wires = match target {
            Target::Shunt => &mut self.bed.wires,
            Target::Floor => &mut self.floor.wires,
        };
        let flows = u32::try_from(self.replies.len()).context("too many connections")?;
        self.expected.iter_mut().for_each(Vec::clear);
        let [mut to_client_port, mut to_backend_port] = [Burst::new(), Burst::new()];
        let [clients, backends] = wires;
        let mut offered = 0;
        while let Some(packet) = self.idle.pop() {
            let (n, from_backend) = self.order.below(flows);
            let key = if from_backend { self.replies[n as usize].key() } else { client(n) };
            let packet = written(Some(packet), &self.templates[usize::from(from_backend)], key)?;
            if from_backend {
                self.expected[0].push(client(n).reversed());
                put(backends, &mut to_backend_port, packet)?;
            } else {
                self.expected[1].push(self.replies[n as usize].key().reversed());
                put(clients, &mut to_client_port, packet)?;
            }
            offered += 1;
        }
        flush(clients, &mut to_client_port)?;
        flush(backends, &mut to_backend_port)?;
        Ok(offered)
    }

    /// Lets the worker run until its ports are empty.
    #[expect(clippy::cast_possible_truncation, reason = "workers count milliseconds in 32 bits")]
    fn time_worker(&mut self) -> Round {
        let now_ms = self.clock.now_ms() as u32;
        let before = sent(&self.bed);
        let start = clock::now();
        while self.bed.worker.poll(now_ms) > 0 {}
        let cycles = clock::now() - start;
        Round { cycles, packets: sent(&self.bed) - before }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    Shunt,
    Floor,
}

/// Plain forwarding: what comes in by one port leaves by the other, untouched.
struct Floor {
    ports: [RingPort; 2],
    wires: [Wire; 2],
}

impl Floor {
    fn new(eal: &Eal, depth: u32) -> anyhow::Result<Self> {
        let (ports, wires) = bed::ports(eal, depth)?;
        Ok(Self { ports, wires })
    }

    fn time(&mut self) -> Round {
        let start = clock::now();
        let mut packets = 0;
        loop {
            let moved = self.forward(0, 1) + self.forward(1, 0);
            packets += moved as u64;
            if moved == 0 {
                return Round { cycles: clock::now() - start, packets };
            }
        }
    }

    #[inline]
    fn forward(&mut self, from: usize, to: usize) -> usize {
        let mut burst = Burst::new();
        self.ports[from].rx(&mut burst);
        self.ports[to].tx(&mut burst)
    }
}

/// Refused packets, by reason.
pub(crate) fn refusals(bed: &Bed) -> Vec<(&'static str, u64)> {
    let count = |reason: &Reason| (reason.label(), bed.stats.drops[*reason as usize].get());
    Reason::ALL.iter().map(count).filter(|(_, count)| *count > 0).collect()
}

/// Packets the worker's ports took.
fn sent(bed: &Bed) -> u64 {
    bed.stats.ports.iter().take(2).map(|port| port.tx_packets.get()).sum()
}

pub(crate) fn written(
    packet: Option<Mbuf>,
    template: &Template,
    key: FlowKey,
) -> anyhow::Result<Mbuf> {
    let mut packet = packet.context("no idle packet is left")?;
    ensure!(packet.set_len(template.len()), "a frame of {} bytes does not fit", template.len());
    template.write(packet.data_mut(), key);
    Ok(packet)
}

pub(crate) fn put(wire: &mut Wire, burst: &mut Burst<Mbuf>, packet: Mbuf) -> anyhow::Result<()> {
    burst.push(packet);
    if burst.is_full() { flush(wire, burst) } else { Ok(()) }
}

pub(crate) fn flush(wire: &mut Wire, burst: &mut Burst<Mbuf>) -> anyhow::Result<()> {
    wire.to.tx(burst);
    ensure!(burst.is_empty(), "an in-memory port is too small");
    Ok(())
}

/// Takes everything out of a port, shows it, and keeps the buffers.
pub(crate) fn take_out(wire: &mut Wire, idle: &mut Vec<Mbuf>, mut show: impl FnMut(&[u8])) {
    let mut burst = Burst::new();
    while wire.from.rx(&mut burst) > 0 {
        burst.iter().for_each(|packet| show(packet.data()));
        idle.extend(burst.drain(..));
    }
}

fn per_packet(round: Round) -> f64 {
    ratio(round.cycles, round.packets.max(1))
}

fn per_second(clock: &Clock, round: Round) -> f64 {
    hertz(clock) / per_packet(round)
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn hertz(clock: &Clock) -> f64 {
    clock.hz() as f64
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn ratio(a: u64, b: u64) -> f64 {
    a as f64 / b as f64
}
