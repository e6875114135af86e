//! A SYN flood beside established connections and new clients: who keeps what.
//!
//! ```text
//! established connections ─┐                              what they are forwarded with:
//! SYNs from forged sources ┼─► client port ─► worker      alone ──┐
//! new clients' handshakes ─┘                              flooded ┴─► kept
//! backends: established, SYN+ACK to every SYN ─► backend port ─►
//! ```
//!
//! Rounds alone and flooded take turns, with as many packets of established connections in each. Kept is
//! what a worker that is busy to the last cycle still forwards of them, as all else costs the same time.
//! Backends answer every SYN they get; forged sources answer nothing; a new client, a
//! thousand in all, starts with every flooded round and goes on when it is answered. Only the worker's share is timed.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::Args;
use shunt::dataplane::conn::key::FlowKey;
use shunt::dataplane::cookie::Event;
use shunt::dataplane::io::{Burst, Packet as _};
use shunt::dataplane::snapshot::{Snapshot, SynCookies};
use shunt::dpdk::clock;
use shunt::dpdk::mbuf::Mbuf;

use crate::bed::{Bed, Round};
use crate::frame::{Layout, Template, flags};
use crate::handshake::{Handshake, handshake_of, is_established};
use crate::host::{Hosts as _, VIP_PORT, client};
use crate::machine::Machine;
use crate::options::{IpVersion, Mode, Scene, Transport};
use crate::order::{Order, Reply};
use crate::report::{FloodRow, Spread};
use crate::scene;
use crate::traffic::{TO_US, flush, put, take_out, written};

const TCP: u8 = 6;
const SYN: u8 = flags::SYN;
const ACK: u8 = flags::ACK;
/// Rounds of each kind thrown away before measuring.
const WARM_UP_ROUNDS: u32 = 16;
/// Rounds at the end in which nobody new comes.
const LAST_ROUNDS: u32 = 8;
/// Where backends' numbers begin: a cookie is another number, but for one in four thousand million.
const BACKEND_START: u32 = 0x5ca1_ab1e;
/// Cookies above so many a second, in the row of that kind.
const ABOVE_PER_SECOND: u32 = 100;
/// New clients of a row: each keeps an entry.
const NEW_CLIENTS_MAX: u32 = 1_000;

/// What to flood with.
#[derive(Clone, Debug, Args)]
pub(crate) struct FloodOptions {
    #[command(flatten)]
    pub(crate) scene: Scene,
    /// Connections that are established before.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub(crate) flows: u32,
    /// Forged addresses the SYNs come from.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..=16_000_000))]
    pub(crate) sources: u32,
    /// SYNs for each hundred packets of established connections.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=400))]
    pub(crate) syns: u32,
    /// Connections there is room for beside those that are established.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(2_000..))]
    pub(crate) room: u32,
    /// Seconds of measuring for each row.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub(crate) duration: u32,
    /// Print JSON, an object a line.
    #[arg(long)]
    pub(crate) json: bool,
    /// Exit code 1, naming the row, if with cookies established connections keep less than 90 % of
    /// their rate.
    #[arg(long)]
    pub(crate) assert: bool,
}

/// Measures without cookies, with cookies above a rate, and with cookies always.
pub(crate) fn run(options: &FloodOptions) -> anyhow::Result<Vec<FloodRow>> {
    let scene = &options.scene;
    let is_possible = scene.mode == Mode::Fullnat
        && scene.protocol == Transport::Tcp
        && scene.ip == IpVersion::V4;
    ensure!(
        is_possible,
        "expected --mode fullnat --protocol tcp --ip 4: the flood is made for that"
    );
    scene.expect_shortest()?;
    let machine = Machine::start(scene, 1)?;
    let above = SynCookies::Above { per_second: ABOVE_PER_SECOND };
    let kinds = [("never", SynCookies::Never), ("above", above), ("always", SynCookies::Always)];
    let row = |(name, cookies)| Flood::new(&machine, options, cookies)?.row(name);
    kinds.into_iter().map(row).collect()
}

/// The world, with cookies or without.
fn snapshot(scene: &Scene, cookies: SynCookies) -> Snapshot {
    let mut snapshot = scene::snapshot::<Ipv4Addr>(scene);
    for service in snapshot.services.iter_mut().flatten() {
        service.syn_cookies = cookies;
    }
    // As long as on a real box: what a flood leaves behind is not gone in a second.
    snapshot.timeouts.tcp_syn_recv_s = 60;
    snapshot.indexed()
}

struct Flood<'a> {
    machine: &'a Machine,
    options: &'a FloodOptions,
    bed: Bed,
    idle: Vec<Mbuf>,
    replies: Vec<Reply<Ipv4Addr>>,
    layout: Layout,
    /// Established, from clients and from backends.
    established: [Template; 2],
    /// Handshakes, the same.
    bare: [Template; 2],
    order: Order,
    /// What is to be sent in the next flooded round: by clients, by backends.
    due: [Vec<Handshake>; 2],
    /// New clients that wait for an answer.
    waiting: Vec<FlowKey>,
    new_clients: u32,
    /// Those whose SYN the backend itself has answered.
    answered: u64,
    syns: u64,
}

/// What one timed round gave.
#[derive(Clone, Copy, Debug, Default)]
struct Offered {
    offered: u64,
    /// Packets of established connections that left, and the time of all of it.
    timed: Round,
}

impl<'a> Flood<'a> {
    fn new(
        machine: &'a Machine,
        options: &'a FloodOptions,
        cookies: SynCookies,
    ) -> anyhow::Result<Self> {
        let scene = &options.scene;
        let idle = (0..scene.in_flight).map(|_| machine.pool.alloc()).collect::<Option<Vec<_>>>();
        let room = options.flows.saturating_add(options.room);
        let before = snapshot(scene, SynCookies::Never);
        let established = |macs| Template::new::<Ipv4Addr>(64, Transport::Tcp, flags::ACK, macs);
        let mut flood = Self {
            machine,
            options,
            bed: Bed::new::<Ipv4Addr>(&machine.eal, scene, room, before)?,
            idle: idle.context("the pool is too small")?,
            replies: Vec::with_capacity(options.flows as usize),
            layout: Layout::plain(Transport::Tcp),
            established: TO_US.map(established),
            bare: TO_US.map(Template::bare::<Ipv4Addr>),
            order: Order::new(scene.seed),
            due: [Vec::new(), Vec::new()],
            waiting: Vec::new(),
            new_clients: 0,
            answered: 0,
            syns: 0,
        };
        flood.prefill()?;
        let after = Arc::new(snapshot(scene, cookies));
        flood.bed.publish(after, machine.now_ms())?;
        Ok(flood)
    }

    /// Makes the connections that are there before the flood: a SYN each, and an ACK, so that they
    /// last.
    fn prefill(&mut self) -> anyhow::Result<()> {
        for first in (0..self.options.flows).step_by(self.options.scene.in_flight as usize) {
            let last = self.options.flows.min(first + self.options.scene.in_flight);
            self.offer_each(first..last, true)?;
            self.work();
            let (layout, replies) = (self.layout, &mut self.replies);
            take_out(&mut self.bed.wires[1], &mut self.idle, |frame| {
                replies.extend(layout.key_of(frame).map(Reply::to));
            });
            self.offer_each(first..last, false)?;
            self.work();
            take_out(&mut self.bed.wires[1], &mut self.idle, |_| ());
        }
        let made = self.replies.len() == self.options.flows as usize;
        ensure!(made, "connections refused: {:?}", self.bed.refusals());
        Ok(())
    }

    /// A packet of each of these clients: its SYN, or one of an established connection.
    fn offer_each(&mut self, clients: std::ops::Range<u32>, is_syn: bool) -> anyhow::Result<()> {
        let mut burst = Burst::new();
        for n in clients {
            let key = client(TCP, n);
            let template = if is_syn { &self.bare[0] } else { &self.established[0] };
            let mut packet = written(self.idle.pop(), template, key, 0)?;
            if is_syn {
                let syn = Handshake { key, flags: SYN, sequence: 0, acknowledgment: 0 };
                syn.write(packet.data_mut());
            }
            put(&mut self.bed.wires[0], &mut burst, packet)?;
        }
        flush(&mut self.bed.wires[0], &mut burst)
    }

    fn row(mut self, cookies: &'static str) -> anyhow::Result<FloodRow> {
        let end = self.machine.in_time(Duration::from_secs(self.options.duration.into()));
        let (mut alone, mut flooded, mut rounds) = (Vec::new(), Vec::new(), 0);
        while rounds < 2 * WARM_UP_ROUNDS || clock::now() < end {
            let (a, b) = (self.round(false)?, self.round(true)?);
            rounds += 1;
            if rounds > WARM_UP_ROUNDS {
                alone.push(a);
                flooded.push(b);
            }
        }
        for _ in 0..LAST_ROUNDS {
            self.refill()?;
            self.offer_due()?;
            self.work();
            self.collect();
        }
        let spread = |rounds: &[Offered]| Spread::of(rounds.iter().map(|round| round.timed));
        let (alone_cycles, flooded_cycles) = (spread(&alone)?, spread(&flooded)?);
        let all = || alone.iter().chain(&flooded);
        let offered: u64 = all().map(|round| round.offered).sum();
        let delivered: u64 = all().map(|round| round.timed.packets).sum();
        let syns_a_packet = f64::from(self.options.syns) / 100.0;
        Ok(FloodRow {
            cookies,
            flows: self.options.flows,
            sources: self.options.sources,
            syns_per_100_packets: self.options.syns,
            syns: self.syns,
            alone_cycles_per_packet: alone_cycles,
            flooded_cycles_per_packet: flooded_cycles,
            kept: alone_cycles.median / flooded_cycles.median,
            cycles_per_syn: (flooded_cycles.median - alone_cycles.median) / syns_a_packet,
            new_clients: self.new_clients,
            connected_clients: self.connected(),
            lost_packets: offered - delivered.min(offered),
            refusals: self.bed.refusals(),
        })
    }

    /// New clients that a backend has agreed to.
    fn connected(&self) -> u64 {
        self.answered + self.bed.stats.services[0].cookies[Event::Opened as usize].get()
    }

    /// What was refused has gone back to the pool, and what the worker wrote itself has come out of it.
    fn refill(&mut self) -> anyhow::Result<()> {
        let count = self.options.scene.in_flight as usize;
        self.idle.truncate(count);
        while self.idle.len() < count {
            self.idle.push(self.machine.pool.alloc().context("the pool is too small")?);
        }
        Ok(())
    }

    fn round(&mut self, flooded: bool) -> anyhow::Result<Offered> {
        self.refill()?;
        if flooded {
            self.next_client();
            self.offer_due()?;
        }
        let offered = self.offer(flooded)?;
        let timed = self.work();
        let packets = self.collect();
        Ok(Offered { offered, timed: Round { packets, ..timed } })
    }

    fn next_client(&mut self) {
        if self.new_clients == NEW_CLIENTS_MAX {
            return;
        }
        let [_, _, c, d] = self.new_clients.to_be_bytes();
        let key = FlowKey::new(TCP, (Ipv4Addr::new(30, 0, c, d), 1024), vip());
        self.new_clients += 1;
        self.waiting.push(key);
        self.due[0].push(Handshake { key, flags: SYN, sequence: 0, acknowledgment: 0 });
    }

    /// Handshakes that go on, as far as there is room: at most a quarter, from each side, of what
    /// may be in flight.
    fn offer_due(&mut self) -> anyhow::Result<()> {
        let most = self.options.scene.in_flight as usize / 4;
        for (side, wire) in self.bed.wires.iter_mut().enumerate() {
            let mut burst = Burst::new();
            let due = &mut self.due[side];
            for handshake in due.drain(..due.len().min(most)) {
                let mut packet = written(self.idle.pop(), &self.bare[side], handshake.key, 0)?;
                handshake.write(packet.data_mut());
                put(wire, &mut burst, packet)?;
            }
            flush(wire, &mut burst)?;
            // What found no room is what a backend under flood would lose.
            due.clear();
        }
        Ok(())
    }

    /// Packets of established connections, both directions, and SYNs between them; how many of the
    /// former.
    fn offer(&mut self, flooded: bool) -> anyhow::Result<u64> {
        let flows = u32::try_from(self.replies.len()).context("too many connections")?;
        let [mut to_clients, mut to_backends] = [Burst::new(), Burst::new()];
        let [clients, backends] = &mut self.bed.wires;
        let count = self.options.scene.in_flight / 2 * 100 / (100 + self.options.syns);
        let mut owed = 0;
        for _ in 0..count {
            let (n, from_backend) = self.order.below(flows);
            let key = if from_backend { self.replies[n as usize].key(TCP) } else { client(TCP, n) };
            let template = &self.established[usize::from(from_backend)];
            let packet = written(self.idle.pop(), template, key, 0)?;
            if from_backend {
                put(backends, &mut to_backends, packet)?;
            } else {
                put(clients, &mut to_clients, packet)?;
            }
            owed += if flooded { self.options.syns } else { 0 };
            for _ in 0..owed / 100 {
                let (source, _) = self.order.below(self.options.sources);
                let (port, _) = self.order.below(60_000);
                let address = u32::from(Ipv4Addr::new(20, 0, 0, 0)) + source;
                let port = 1024 + u16::try_from(port).unwrap_or(0);
                let key = FlowKey::new(TCP, (Ipv4Addr::from(address), port), vip());
                let mut packet = written(self.idle.pop(), &self.bare[0], key, 0)?;
                let syn = Handshake { key, flags: SYN, sequence: source, acknowledgment: 0 };
                syn.write(packet.data_mut());
                put(clients, &mut to_clients, packet)?;
                self.syns += 1;
            }
            owed %= 100;
        }
        flush(clients, &mut to_clients)?;
        flush(backends, &mut to_backends)?;
        Ok(count.into())
    }

    /// Lets the worker run until its ports are empty; the cycles it took.
    fn work(&mut self) -> Round {
        let now_ms = self.machine.now_ms();
        self.bed.time_worker(now_ms)
    }

    /// Takes out what left: packets of established connections are counted, handshakes answered.
    fn collect(&mut self) -> u64 {
        let mut delivered = 0;
        let Self { bed, idle, due, waiting, answered, .. } = self;
        let [clients, backends] = &mut bed.wires;
        take_out(backends, idle, |frame| {
            delivered += u64::from(is_established(frame));
            if let Some(syn) = handshake_of(frame).filter(|it| it.flags == SYN) {
                due[1].push(Handshake {
                    key: syn.key.reversed(),
                    flags: SYN | ACK,
                    sequence: BACKEND_START,
                    acknowledgment: syn.sequence.wrapping_add(1),
                });
            }
        });
        take_out(clients, idle, |frame| {
            delivered += u64::from(is_established(frame));
            let Some(answer) = handshake_of(frame).filter(|it| it.flags == SYN | ACK) else {
                return;
            };
            let key = answer.key.reversed();
            if let Some(place) = waiting.iter().position(|waiting| *waiting == key) {
                waiting.swap_remove(place);
                *answered += u64::from(answer.sequence == BACKEND_START);
                due[0].push(Handshake {
                    key,
                    flags: ACK,
                    sequence: 1,
                    acknowledgment: answer.sequence.wrapping_add(1),
                });
            }
        });
        delivered
    }
}

fn vip() -> (Ipv4Addr, u16) {
    (Ipv4Addr::VIP, VIP_PORT)
}

/// Rows that keep less than this much of their rate are told of by `--assert`.
pub(crate) const KEPT_MIN: f64 = 0.9;

/// Less than this much of the clients that come during a flood without cookies get through: what is half open makes
/// way by luck, theirs too.
const CONNECTED_MIN_PERCENT: u64 = 90;

/// A sentence for each row with cookies that missed it, and for each in which clients that came during the flood
/// did not get through: with cookies any of them.
pub(crate) fn missed(rows: &[FloodRow]) -> Vec<String> {
    let slow = rows.iter().filter(|row| row.cookies != "never" && row.kept < KEPT_MIN);
    let slow = slow.map(|row| {
        let kept = row.kept * 100.0;
        format!("missed: established connections kept {kept:.1} % with cookies {}", row.cookies)
    });
    let kept_out = rows.iter().filter(|row| {
        let share = if row.cookies == "never" { CONNECTED_MIN_PERCENT } else { 100 };
        row.connected_clients * 100 < share * u64::from(row.new_clients)
    });
    let kept_out = kept_out.map(|row| {
        let (got, came) = (row.connected_clients, row.new_clients);
        format!("missed: {got} of {came} new clients got through with cookies {}", row.cookies)
    });
    slow.chain(kept_out).collect()
}
