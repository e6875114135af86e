//! A tester's ports: it sends as clients, answers as backends, and counts what comes back right.
//!
//! ```text
//!             ┌─► clients' port ─►┐         ┌─► backends' port ─► sent back at once
//! this thread ┤                   │ the box │
//!             └── clients' port ◄─┘         └◄─ backends' port ◄─
//! ```
//!
//! One thread and one queue of each port. Both may be one port. Whatever asks for the link address of a
//! host on the tester's side is answered: the tester stands for all of them.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use hdrhistogram::Histogram;
use shunt::dataplane::io::{Burst, Packet as _, Rx as _, Tx as _};
use shunt::dpdk::burst::Queue;
use shunt::dpdk::clock;
use shunt::dpdk::mbuf::Mbuf;
use shunt::dpdk::port::{Port, PortSettings, Probed};
use shunt::wire::Mac;

use crate::frame::{Template, Templates, flags};
use crate::host::any;
use crate::machine::Machine;
use crate::neighbor;
use crate::options::{PacketSize, Transport};
use crate::order::Order;
use crate::reflect::{Asked, Seen, Tester, reflect};
use crate::rig::{STAMP_MASK, Trial};
use crate::traffic::written;

/// Descriptors of each queue.
const DESCRIPTORS: u16 = 1024;
/// The MTU of both ports.
const MTU: u16 = 1500;
/// How long a link, the box's address, or a connection more is waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two questions for it.
const ASK_AGAIN: Duration = Duration::from_millis(200);
/// How long answers are waited for that are missing.
const LAST: Duration = Duration::from_millis(300);
/// How often a port without room is tried again for an answer.
const RETRIES: u32 = 1000;
/// Most cycles that are told apart: minutes.
const LONGEST: u64 = 1 << 40;

/// A started port.
pub(crate) struct End {
    queue: Queue,
    port: Port,
    mac: Mac,
}

impl End {
    /// Starts the device.
    pub(crate) fn start(machine: &Machine, name: &str, device: &str) -> anyhow::Result<Self> {
        let settings = PortSettings {
            queues: 1,
            rx_descriptors: DESCRIPTORS,
            tx_descriptors: DESCRIPTORS,
            mtu: MTU,
            tag_room: 0,
            rss_key: &[],
            promiscuous: true,
            pool: &machine.pool,
        };
        let configured = Probed::probe(&machine.eal, name, device)?.configure(&settings)?;
        let mac = configured.facts().mac;
        let (port, queues) = configured.start()?;
        let queue = queues.into_iter().next().context("expected a queue")?;
        Ok(Self { queue, port, mac })
    }
}

/// What came in so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    /// Right, and where it was to come.
    pub(crate) back: u64,
    /// Ours, and not as it was to come.
    pub(crate) wrong: u64,
    /// Somebody else's.
    pub(crate) other: u64,
}

/// The tester.
pub(crate) struct Bench<'a, F: Tester> {
    machine: &'a Machine,
    /// The clients', then the backends' if that is another.
    ends: Vec<End>,
    asked: Asked<F>,
    /// Who is asked for the way to the VIP, and what it said.
    gateway: IpAddr,
    gateway_mac: Option<Mac>,
    first: Template,
    established: Templates,
    order: Order,
    out: Burst<Mbuf>,
    is_open: Vec<bool>,
    pub(crate) open: u32,
    pub(crate) tally: Tally,
    latency: Histogram<u64>,
    /// Most packets under way.
    in_flight: u64,
}

impl<'a, F: Tester> Bench<'a, F> {
    /// A tester at these ports; returns when it knows the box's link address.
    pub(crate) fn new(
        machine: &'a Machine,
        ends: Vec<End>,
        asked: Asked<F>,
        (gateway, gateway_mac): (F, Option<Mac>),
        (size, in_flight, seed): (PacketSize, u32, u64),
    ) -> anyhow::Result<Self> {
        let nobody = [Mac::default(); 2];
        let mut bench = Self {
            machine,
            ends,
            asked,
            gateway: any(gateway),
            gateway_mac,
            first: Template::new::<F>(64, asked.transport, flags::SYN, nobody),
            established: Templates::new::<F>(size, asked.transport, nobody),
            order: Order::new(seed),
            out: Burst::new(),
            is_open: vec![false; asked.flows as usize],
            open: 0,
            tally: Tally::default(),
            latency: Histogram::new_with_bounds(1, LONGEST, 3)?,
            in_flight: in_flight.into(),
        };
        bench.wait_for_links()?;
        let links = [bench.clients_mac(), bench.ask()?];
        bench.first = Template::new::<F>(64, asked.transport, flags::SYN, links);
        bench.established = Templates::new::<F>(size, asked.transport, links);
        Ok(bench)
    }

    fn clients_mac(&self) -> Mac {
        self.ends.first().map_or_else(Mac::default, |end| end.mac)
    }

    fn wait_for_links(&mut self) -> anyhow::Result<()> {
        let end = self.machine.in_time(PATIENCE);
        while !self.ends.iter().all(|end| end.port.link().up) {
            ensure!(clock::now() < end, "a link is down: is the box at its other end running?");
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Asks for the box's link address on the clients' side.
    fn ask(&mut self) -> anyhow::Result<Mac> {
        let end = self.machine.in_time(PATIENCE);
        loop {
            if let Some(mac) = self.gateway_mac {
                return Ok(mac);
            }
            let us = (self.clients_mac(), any(F::tester(0)));
            self.reply(0, &neighbor::question(us, self.gateway));
            let again = self.machine.in_time(ASK_AGAIN);
            while clock::now() < again && self.gateway_mac.is_none() {
                self.poll();
            }
            let gateway = self.gateway;
            ensure!(
                clock::now() < end || self.gateway_mac.is_some(),
                "{gateway} does not say its link address: see --gateway and --gateway-mac"
            );
        }
    }

    /// Opens all connections and sends a packet each, so that they last.
    pub(crate) fn open(&mut self) -> anyhow::Result<Duration> {
        let start = clock::now();
        let mut end = self.machine.in_time(PATIENCE);
        while self.open < self.asked.flows && clock::now() < end {
            let missing = (0..self.asked.flows).filter(|n| !self.is_open[*n as usize]);
            let (missing, before) = (missing.collect::<Vec<_>>(), self.open);
            self.send_in_turn(&missing, true)?;
            if self.open > before {
                end = self.machine.in_time(PATIENCE);
            }
        }
        let (open, flows) = (self.open, self.asked.flows);
        ensure!(open == flows, "{open} of {flows} connections got an answer: {:?}", self.tally);
        let took = self.machine.clock.duration(clock::now() - start);
        if self.asked.transport == Transport::Tcp {
            self.send_in_turn(&(0..flows).collect::<Vec<_>>(), false)?;
        }
        Ok(took)
    }

    /// A packet of each of these connections, as fast as the answers come.
    fn send_in_turn(&mut self, which: &[u32], is_first: bool) -> anyhow::Result<()> {
        let (before, mut sent) = (self.tally.back, 0);
        let mut last = self.machine.in_time(LAST);
        let mut waiting = which.iter();
        loop {
            let back = self.tally.back - before;
            if sent - back.min(sent) < self.in_flight
                && let Some(n) = waiting.next()
            {
                sent += u64::from(self.send(*n, is_first, 0)?);
            } else {
                self.flush();
            }
            if self.poll() > 0 {
                last = self.machine.in_time(LAST);
            }
            let is_over = waiting.len() == 0 && self.tally.back - before >= sent;
            if is_over {
                return Ok(());
            }
            if clock::now() > last {
                // What is missing is lost: it no longer counts as under way.
                sent = self.tally.back - before;
                last = self.machine.in_time(LAST);
                if waiting.len() == 0 {
                    return Ok(());
                }
            }
        }
    }

    /// Offers packets of connections drawn at random: so many a second, or as fast as answers come.
    pub(crate) fn trial(
        &mut self,
        per_second: Option<f64>,
        duration: Duration,
    ) -> anyhow::Result<Trial> {
        let ticks = self.machine.clock.ticks(duration);
        let per_tick = per_second.map(|rate| rate / self.machine.hertz());
        self.latency.reset();
        let (start, before, mut offered) = (clock::now(), self.tally.back, 0_u64);
        loop {
            let passed = clock::now() - start;
            if passed >= ticks {
                break;
            }
            let under_way = offered.saturating_sub(self.tally.back - before);
            let due = match per_tick {
                Some(per_tick) => crate::rig::due(passed, per_tick).saturating_sub(offered),
                None => self.in_flight.saturating_sub(under_way),
            };
            for _ in 0..due.min(32) {
                let (n, _) = self.order.below(self.asked.flows);
                let stamp = clock::now() & STAMP_MASK;
                offered += u64::from(self.send(n, false, stamp)?);
            }
            self.flush();
            self.poll();
        }
        let elapsed = clock::now() - start;
        let end = self.machine.in_time(LAST);
        while self.tally.back - before < offered && clock::now() < end {
            self.poll();
        }
        let seconds = self.machine.clock.duration(elapsed).as_secs_f64();
        let lost = offered.saturating_sub(self.tally.back - before);
        let offered_per_second = crate::report::ratio(offered, 1) / seconds;
        Ok(Trial { offered_per_second, offered, lost, latency: self.latency.clone() })
    }

    /// Bytes of a frame, on average.
    pub(crate) fn mean_size(&self) -> f64 {
        self.established.mean_size()
    }

    /// Sends a packet of a connection; false if there is no room for it.
    #[inline]
    fn send(&mut self, n: u32, is_first: bool, stamp: u64) -> anyhow::Result<bool> {
        let Some(packet) = self.machine.pool.alloc() else { return Ok(false) };
        let template = if is_first { &self.first } else { self.established.next() };
        let packet = written(Some(packet), template, self.asked.key(n), stamp)?;
        self.out.push(packet);
        if self.out.is_full() {
            self.flush();
        }
        Ok(true)
    }

    /// What the port does not take at once is lost, and counts as offered.
    #[inline]
    fn flush(&mut self) {
        if let Some(end) = self.ends.first_mut().filter(|_| !self.out.is_empty()) {
            end.queue.tx(&mut self.out);
            self.out.clear();
        }
    }

    /// Takes in what has come, and answers; how many packets.
    fn poll(&mut self) -> usize {
        let mut moved = 0;
        for at in 0..self.ends.len() {
            let (mut burst, mut answers) = (Burst::new(), Burst::new());
            moved += self.ends[at].queue.rx(&mut burst);
            for mut packet in burst.drain(..) {
                match self.asked.see(packet.data()) {
                    Seen::There if reflect::<F>(packet.data_mut()) => answers.push(packet),
                    seen => self.note(seen, &packet, at),
                }
            }
            for _ in 0..RETRIES {
                if answers.is_empty() {
                    break;
                }
                self.ends[at].queue.tx(&mut answers);
            }
        }
        moved
    }

    fn note(&mut self, seen: Seen, packet: &Mbuf, at: usize) {
        match seen {
            Seen::Back(n) => {
                self.tally.back += 1;
                if let Some(is_open) = self.is_open.get_mut(n as usize).filter(|open| !**open) {
                    *is_open = true;
                    self.open += 1;
                }
                let stamp = self.asked.layout_back().stamp_of::<F>(packet.data());
                if let Some(stamp) = stamp.filter(|stamp| *stamp > 0) {
                    let passed = clock::now().wrapping_sub(stamp) & STAMP_MASK;
                    self.latency.saturating_record(passed);
                }
            }
            Seen::There | Seen::Wrong => self.tally.wrong += 1,
            Seen::Other => self.listen(packet.data(), at),
        }
    }

    /// Questions are answered, and the box's answer is remembered; nothing else is ours.
    fn listen(&mut self, frame: &[u8], at: usize) {
        let (vip, gateway) = (any(self.asked.vip.0), self.gateway);
        let is_ours = |address: IpAddr| address != vip && address != gateway;
        if let Some(answer) = neighbor::answer(frame, self.ends[at].mac, is_ours) {
            self.reply(at, &answer);
        } else if let Some(mac) = neighbor::told(frame, gateway) {
            self.gateway_mac = Some(mac);
        } else {
            self.tally.other += 1;
        }
    }

    fn reply(&mut self, at: usize, frame: &[u8]) {
        let (Some(packet), mut burst) = (self.machine.pool.packet_from(frame), Burst::new()) else {
            return;
        };
        burst.push(packet);
        self.ends[at].queue.tx(&mut burst);
    }
}
