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

use anyhow::{Context as _, ensure};
use shunt::dataplane::conn::key::FlowKey;
use shunt::dataplane::cookie::Event;
use shunt::dataplane::io::{Burst, Packet as _};
use shunt::dataplane::snapshot::SynCookies;
use shunt::dpdk::clock::{self, Clock};
use shunt::dpdk::eal::Eal;
use shunt::dpdk::mbuf::Mbuf;
use shunt::dpdk::pool::Pool;

use crate::FloodOptions;
use crate::bed::{BACKEND_MAC, Bed, CLIENT_MAC, OUR_MACS};
use crate::flows::{Order, Reply, VIP, client};
use crate::frame::{ACK, Handshake, SYN, Template, handshake_of, is_established, key_of};
use crate::report::{FloodRow, Spread};
use crate::run::{flush, platform, put, refusals, take_out, written};

const TCP: u8 = 6;
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

/// Measures without cookies, with cookies above a rate, and with cookies always.
pub(crate) fn run(options: &FloodOptions) -> anyhow::Result<Vec<FloodRow>> {
    let (eal, pool) = platform(&options.common)?;
    let above = SynCookies::Above { per_second: ABOVE_PER_SECOND };
    let kinds = [("never", SynCookies::Never), ("above", above), ("always", SynCookies::Always)];
    let row = |(name, cookies)| Flood::new(&eal, &pool, options, cookies)?.row(name);
    kinds.into_iter().map(row).collect()
}

struct Flood<'a> {
    options: &'a FloodOptions,
    bed: Bed,
    clock: Clock,
    pool: &'a Pool,
    idle: Vec<Mbuf>,
    replies: Vec<Reply>,
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
struct Round {
    cycles: u64,
    offered: u64,
    /// Of established connections.
    delivered: u64,
}

impl<'a> Flood<'a> {
    fn new(
        eal: &Eal,
        pool: &'a Pool,
        options: &'a FloodOptions,
        cookies: SynCookies,
    ) -> anyhow::Result<Self> {
        let common = &options.common;
        ensure!(options.flows > 0, "expected at least one connection");
        let room = options.flows.saturating_add(options.room);
        let macs = [(CLIENT_MAC, OUR_MACS[0]), (BACKEND_MAC, OUR_MACS[1])];
        let mut flood = Self {
            options,
            bed: Bed::new(eal, room, common.backends, common.in_flight, common.seed)?,
            clock: Clock::shared(),
            pool,
            idle: Vec::new(),
            replies: Vec::with_capacity(options.flows as usize),
            established: macs.map(|(from, to)| Template::ack(64, from, to)),
            bare: macs.map(|(from, to)| Template::bare(from, to)),
            order: Order::new(common.seed),
            due: [Vec::new(), Vec::new()],
            waiting: Vec::new(),
            new_clients: 0,
            answered: 0,
            syns: 0,
        };
        flood.prefill()?;
        let now_ms = flood.now_ms();
        flood.bed.publish(common.backends, cookies, now_ms)?;
        Ok(flood)
    }

    /// Makes the connections that are there before the flood: a SYN and an ACK each, as what is half open
    /// makes way in a full table.
    fn prefill(&mut self) -> anyhow::Result<()> {
        self.refill()?;
        let syn = Template::syn(CLIENT_MAC, OUR_MACS[0]);
        for first in (0..self.options.flows).step_by(self.options.common.in_flight as usize) {
            let last = self.options.flows.min(first + self.options.common.in_flight);
            let mut burst = Burst::new();
            for n in first..last {
                let packet = written(self.idle.pop(), &syn, client(n))?;
                put(&mut self.bed.wires[0], &mut burst, packet)?;
            }
            flush(&mut self.bed.wires[0], &mut burst)?;
            self.work();
            let replies = &mut self.replies;
            take_out(&mut self.bed.wires[1], &mut self.idle, |frame| {
                replies.extend(key_of(frame).map(Reply::to));
            });
            for n in first..last {
                let packet = written(self.idle.pop(), &self.established[0], client(n))?;
                put(&mut self.bed.wires[0], &mut burst, packet)?;
            }
            flush(&mut self.bed.wires[0], &mut burst)?;
            self.work();
            take_out(&mut self.bed.wires[1], &mut self.idle, |_| {});
        }
        let made = self.replies.len() == self.options.flows as usize;
        ensure!(made, "connections refused: {:?}", refusals(&self.bed));
        Ok(())
    }

    fn row(mut self, cookies: &'static str) -> anyhow::Result<FloodRow> {
        let end = self.clock.now_ms() + u64::from(self.options.common.duration) * 1000;
        let (mut alone, mut flooded, mut rounds) = (Vec::new(), Vec::new(), 0);
        while rounds < 2 * WARM_UP_ROUNDS || self.clock.now_ms() < end {
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
        let spread = |rounds: &[Round]| Spread::of(rounds.iter().map(|r| (r.cycles, r.delivered)));
        let (alone_cycles, flooded_cycles) = (spread(&alone)?, spread(&flooded)?);
        let all = || alone.iter().chain(&flooded);
        let offered: u64 = all().map(|round| round.offered).sum();
        let delivered: u64 = all().map(|round| round.delivered).sum();
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
            refusals: refusals(&self.bed),
        })
    }

    /// New clients that a backend has agreed to.
    fn connected(&self) -> u64 {
        self.answered + self.bed.stats.services[0].cookies[Event::Opened as usize].get()
    }

    /// What was refused has gone back to the pool, and what the worker wrote itself has come out of it.
    fn refill(&mut self) -> anyhow::Result<()> {
        let count = self.options.common.in_flight as usize;
        self.idle.truncate(count);
        while self.idle.len() < count {
            self.idle.push(self.pool.alloc().context("the pool is too small")?);
        }
        Ok(())
    }

    fn round(&mut self, flooded: bool) -> anyhow::Result<Round> {
        self.refill()?;
        if flooded {
            self.next_client();
            self.offer_due()?;
        }
        let offered = self.offer(flooded)?;
        let cycles = self.work();
        let delivered = self.collect();
        Ok(Round { cycles, offered, delivered })
    }

    fn next_client(&mut self) {
        if self.new_clients == NEW_CLIENTS_MAX {
            return;
        }
        let [_, _, c, d] = self.new_clients.to_be_bytes();
        let key = FlowKey::new(TCP, (Ipv4Addr::new(30, 0, c, d), 1024), VIP);
        self.new_clients += 1;
        self.waiting.push(key);
        self.due[0].push(Handshake { key, flags: SYN, sequence: 0, acknowledgment: 0 });
    }

    /// Handshakes that go on, as far as there is room: at most a quarter, from each side, of what
    /// may be in flight.
    fn offer_due(&mut self) -> anyhow::Result<()> {
        let most = self.options.common.in_flight as usize / 4;
        for (side, wire) in self.bed.wires.iter_mut().enumerate() {
            let mut burst = Burst::new();
            let due = &mut self.due[side];
            for handshake in due.drain(..due.len().min(most)) {
                let mut packet = written(self.idle.pop(), &self.bare[side], handshake.key)?;
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
        let count = self.options.common.in_flight / 2 * 100 / (100 + self.options.syns);
        let mut owed = 0;
        for _ in 0..count {
            let (n, from_backend) = self.order.below(flows);
            let key = if from_backend { self.replies[n as usize].key() } else { client(n) };
            let template = &self.established[usize::from(from_backend)];
            let packet = written(self.idle.pop(), template, key)?;
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
                let key = FlowKey::new(TCP, (Ipv4Addr::from(address), port), VIP);
                let mut packet = written(self.idle.pop(), &self.bare[0], key)?;
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

    #[expect(clippy::cast_possible_truncation, reason = "workers count milliseconds in 32 bits")]
    fn now_ms(&self) -> u32 {
        self.clock.now_ms() as u32
    }

    /// Lets the worker run until its ports are empty; the cycles it took.
    fn work(&mut self) -> u64 {
        let now_ms = self.now_ms();
        let start = clock::now();
        while self.bed.worker.poll(now_ms) > 0 {}
        clock::now() - start
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

/// Rows that keep less than this much of their rate are told of by `--assert`.
pub(crate) const KEPT_MIN: f64 = 0.9;

/// A sentence for each row with cookies that missed it.
pub(crate) fn missed(rows: &[FloodRow]) -> Vec<String> {
    let with_cookies = rows.iter().filter(|row| row.cookies != "never");
    let missed = with_cookies.filter(|row| row.kept < KEPT_MIN);
    let sentence = |row: &FloodRow| {
        let kept = row.kept * 100.0;
        format!("missed: established connections kept {kept:.1} % with cookies {}", row.cookies)
    };
    missed.map(sentence).collect()
}
