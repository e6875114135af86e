//! The worker: one core's loop body. Receive, decide, send; look at the mailbox; forget a little.
//!
//! ```text
//! poll ─► obey (mailbox)
//!      ─► each device: rx ─► tags off ─► looks ─► decide ─► staged by destination
//!      ─► each peer:   handed-over packets, the same way
//!      ─► the kernel:  injected packets, straight to their port; to a VIP, where the box's own
//!                      programs are clients too, the same way as all others
//!      ─► flush, tick
//! ```
//!
//! What is watched of packets on their way is asked for once a burst ([`Sight`]).
//!
//! A worker owns its queues, its shard of the connection table and its counters; it shares nothing
//! that it writes. It allocates nothing after [`Worker::new`].

use std::sync::Arc;

use super::allowance::Allowance;
use super::capture::Capture;
use super::flows::{Fate, Flows, Origin, PuntClass};
use super::frag::Fragments;
use super::io::{Burst, Packet, Platform, Rx};
use super::lookup::Looks;
use super::orders::{Answer, Order, Page, WorkerEnd};
use super::probe::{Probe as _, Stage};
use super::sight::Sight;
use super::trace::Trace;
use super::tx::Staged;
use super::verdict::Reason;
use super::vlan::Edge;
use crate::ids::{PortId, WorkerId};
use crate::stats::counters::WorkerStats;

mod directed;
mod pieces;
mod waiting;
mod watched;

use waiting::Waiting;

/// The tag of a packet of the kernel's that has a backend already: a check that asks the VIP.
pub const AIMED: u32 = u32::MAX;

/// Where a worker's packets come from and go to.
pub struct Links<P: Platform> {
    /// This worker's queue pair of each device; ports with a device have the first port ids.
    pub ports: Vec<P::Port>,
    /// Receiving ends of the lanes from the other workers.
    pub from_peers: Vec<P::LaneRx>,
    /// Sending ends of the lanes to the other workers, by worker id; `None` at its own place.
    pub to_peers: Vec<Option<P::LaneTx>>,
    /// The lane to the kernel.
    pub punt: P::LaneTx,
    /// The lane from the kernel, on the one worker that has it.
    pub inject: Option<P::LaneRx>,
}

/// One core's share of the balancer.
pub struct Worker<P: Platform> {
    flows: Flows,
    ports: Vec<Staged<P::Port>>,
    edge: Edge,
    from_peers: Vec<P::LaneRx>,
    to_peers: Vec<Option<Staged<P::LaneTx>>>,
    punt: Staged<P::LaneTx>,
    inject: Option<P::LaneRx>,
    fragments: Fragments<P::Packet>,
    waiting: Waiting<P::Packet>,
    mailbox: WorkerEnd,
    looks: Looks,
    sight: Sight,
    /// What frames are copied for, if somebody looks.
    capture: Option<Box<Capture>>,
    /// The flow that is followed, if one is.
    trace: Option<Box<Trace>>,
    probe: P::Probe,
    /// By [`PuntClass`].
    punts: [Allowance; PuntClass::COUNT],
    stats: Arc<WorkerStats>,
    stopped: bool,
}

impl<P: Platform> Worker<P> {
    /// Puts the parts together.
    pub fn new(flows: Flows, links: Links<P>, mailbox: WorkerEnd) -> Self {
        let stats = Arc::clone(&flows.stats);
        let edge = Edge::new(&flows.snapshot.ports);
        Self {
            flows,
            edge,
            ports: links.ports.into_iter().map(Staged::new).collect(),
            from_peers: links.from_peers,
            to_peers: links.to_peers.into_iter().map(|lane| lane.map(Staged::new)).collect(),
            punt: Staged::new(links.punt),
            inject: links.inject,
            fragments: Fragments::new(),
            waiting: Waiting::new(),
            mailbox,
            looks: Looks::default(),
            sight: Sight::default(),
            capture: None,
            trace: None,
            probe: P::Probe::default(),
            punts: Default::default(),
            stats,
            stopped: false,
        }
    }

    /// Was it ordered to stop?
    pub fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// Has whoever could order it to stop gone away?
    pub fn is_abandoned(&self) -> bool {
        self.mailbox.is_abandoned()
    }

    /// Is there work left that no packet will bring about: connections to forget?
    pub fn is_behind(&self) -> bool {
        self.flows.is_behind()
    }

    /// What it knows of connections.
    pub fn flows(&self) -> &Flows {
        &self.flows
    }

    /// The same, to be changed by what measures the tables alone.
    pub fn flows_mut(&mut self) -> &mut Flows {
        &mut self.flows
    }

    /// Packets that wait in it for others: pieces of datagrams, segments of clients; and datagrams of which
    /// it knows a piece.
    pub fn held(&self) -> [usize; 3] {
        [self.fragments.held(), self.waiting.len(), self.fragments.contexts()]
    }

    /// Who is told where its cycles go.
    pub fn probe(&mut self) -> &mut P::Probe {
        &mut self.probe
    }

    /// What it watches of its packets.
    pub fn sight(&mut self) -> &mut Sight {
        &mut self.sight
    }

    /// Its counters.
    pub fn stats(&self) -> &WorkerStats {
        &self.stats
    }

    /// Does one round of work at the time `now_ms`; returns how many packets it moved.
    pub fn poll(&mut self, now_ms: u32) -> usize {
        self.obey();
        self.flows.tick(now_ms);
        self.report_cleared();
        self.forget_pieces(now_ms);
        self.remind(now_ms);
        let per_second = self.flows.snapshot.punt_per_second;
        self.punts.iter_mut().for_each(|class| class.refill(now_ms, per_second));
        self.probe.mark(Stage::Other);
        let mut burst = Burst::new();
        let mut moved = 0;
        for index in 0..self.ports.len() {
            moved += self.receive(index, &mut burst);
        }
        for index in 0..self.from_peers.len() {
            moved += self.take_over(index, &mut burst);
        }
        moved += self.send_injected(&mut burst);
        self.tell_ends();
        self.flush();
        if P::WATCHED && self.trace.is_some() {
            self.trace_sent();
        }
        self.probe.mark(Stage::Ports);
        moved
    }

    #[inline]
    fn receive(&mut self, index: usize, burst: &mut Burst<P::Packet>) -> usize {
        let Some(port) = self.ports.get_mut(index) else { return 0 };
        let count = port.place.rx(burst);
        if count == 0 {
            return 0;
        }
        #[expect(clippy::cast_possible_truncation, reason = "limits::PORTS is below 256")]
        let id = PortId(index as u8);
        let mut bytes = 0;
        for packet in burst.iter_mut() {
            bytes += if P::WATCHED { packet.data().len() as u64 } else { 0 };
            packet.set_port(id);
        }
        if let Some(counters) = self.stats.ports.get(index).filter(|_| P::WATCHED) {
            counters.rx_packets.add(count as u64);
            counters.rx_bytes.add(bytes);
        }
        if P::WATCHED && self.capture.is_some() {
            self.capture_received(burst, id);
        }
        self.edge.receive(id, burst, &self.stats);
        self.probe.mark(Stage::Ports);
        self.process(burst, Origin::Port);
        count
    }

    fn take_over(&mut self, index: usize, burst: &mut Burst<P::Packet>) -> usize {
        let Some(lane) = self.from_peers.get_mut(index) else { return 0 };
        let count = lane.rx(burst);
        if count > 0 {
            self.stats.run.taken_over.add(count as u64);
            if P::WATCHED && self.capture.is_some() {
                self.capture_taken_over(burst);
            }
            self.process(burst, Origin::Handover);
        }
        count
    }

    fn process(&mut self, burst: &mut Burst<P::Packet>, origin: Origin) {
        if let Some(first) = burst.first() {
            self.waiting.keep_spare(first);
        }
        if origin == Origin::Port && self.flows.snapshot.has_directors() {
            self.set_aside_directed(burst);
        }
        if P::WATCHED && self.sight.is_due() {
            return self.process_watched(burst, origin);
        }
        self.look(burst, origin);
        for (at, mut packet) in burst.drain(..).enumerate() {
            let Some(look) = self.looks.get(at) else { continue };
            match self.flows.decide(&mut packet, look, origin) {
                Fate::Send(port) => self.send(packet, port),
                rarer => self.dispatch(packet, rarer, origin),
            }
        }
        self.probe.mark(Stage::Rewrite);
    }

    #[inline(always)]
    fn look(&mut self, burst: &Burst<P::Packet>, origin: Origin) {
        let stations = (origin == Origin::Port).then(|| self.flows.snapshot.stations());
        self.looks.look(burst, self.flows.tables(), stations, &mut self.probe);
    }

    #[inline]
    fn dispatch(&mut self, packet: P::Packet, fate: Fate, origin: Origin) {
        match fate {
            Fate::Send(port) => self.send(packet, port),
            Fate::Cut(port, mtu) => self.cut(packet, port, mtu),
            Fate::SendBehind(port, mtu) => self.send_behind(packet, port, mtu),
            Fate::Ask(port) => self.ask(packet, port),
            Fate::Opened(port) => self.opened(packet, port),
            Fate::Hold => self.hold(packet),
            Fate::Piece => self.piece(packet, origin),
            Fate::HandOver(owner) => self.hand_over(packet, owner),
            Fate::Punt(class) => self.give_to_kernel(packet, class),
            Fate::Free => drop(packet),
        }
    }

    #[inline(always)]
    fn send(&mut self, packet: P::Packet, port: PortId) {
        if port.index() < self.ports.len() {
            self.stage(packet, port);
        } else {
            self.send_tagged(packet, port);
        }
    }

    /// By a port without a device, or to a program of the box: what is neither has no way out at all.
    #[inline(never)]
    fn send_tagged(&mut self, mut packet: P::Packet, port: PortId) {
        if port.is_twin() {
            packet.set_port(port.link());
            return self.give_to_kernel(packet, PuntClass::Other);
        }
        match self.edge.send(&mut packet, port, &self.stats) {
            Ok(device) => self.stage(packet, device),
            Err(reason) => self.stats.count_drop(reason),
        }
    }

    #[inline(always)]
    fn stage(&mut self, packet: P::Packet, port: PortId) {
        let Some(stage) = self.ports.get_mut(port.index()) else { return };
        if P::WATCHED {
            stage.push(packet);
        } else {
            stage.push_uncounted(packet);
        }
        if stage.is_full() {
            self.probe.mark(Stage::Rewrite);
            self.flush_port(port.index());
            self.probe.mark(Stage::Ports);
        }
    }

    fn hand_over(&mut self, packet: P::Packet, owner: WorkerId) {
        let Some(Some(stage)) = self.to_peers.get_mut(owner.index()) else {
            self.stats.count_drop(Reason::HandoverLoop);
            return;
        };
        stage.push(packet);
        if stage.is_full() {
            flush_peer(stage, &self.stats);
        }
    }

    #[cold]
    fn give_to_kernel(&mut self, packet: P::Packet, class: PuntClass) {
        if !self.punts[class as usize].take() {
            self.stats.count_drop(Reason::PuntLimit);
            return;
        }
        self.punt.push(packet);
        if self.punt.is_full() {
            flush_punt(&mut self.punt, &self.stats);
        }
    }

    /// Packets the kernel sends through a TAP leave by that TAP's port as they are, but for those
    /// that are a client's: see [`PortId::twin`]. What is [`AIMED`] is nobody's who is to be balanced.
    fn send_injected(&mut self, burst: &mut Burst<P::Packet>) -> usize {
        let Some(lane) = self.inject.as_mut() else { return 0 };
        let count = lane.rx(burst);
        self.stats.run.injected.add(count as u64);
        let has_clients = count > 0 && !self.flows.snapshot.own.is_empty();
        if has_clients {
            self.looks.look(burst, self.flows.tables(), None, &mut self.probe);
        }
        for (at, mut packet) in burst.drain(..).enumerate() {
            let port = packet.port();
            let may_be = has_clients && packet.tag() != AIMED;
            let look = self.looks.get(at).filter(|look| may_be && self.flows.is_for_a_vip(look));
            if let Some(look) = look {
                packet.set_port(port.twin());
                let fate = self.flows.decide(&mut packet, look, Origin::Port);
                self.dispatch(packet, fate, Origin::Port);
            } else {
                self.send(packet, port);
            }
        }
        count
    }

    #[inline]
    fn flush(&mut self) {
        for index in 0..self.ports.len() {
            if self.ports.get(index).is_some_and(|stage| !stage.is_empty()) {
                self.flush_port(index);
            }
        }
        for stage in self.to_peers.iter_mut().flatten() {
            if !stage.is_empty() {
                flush_peer(stage, &self.stats);
            }
        }
        if !self.punt.is_empty() {
            flush_punt(&mut self.punt, &self.stats);
        }
    }

    #[inline]
    fn flush_port(&mut self, index: usize) {
        let Some(stage) = self.ports.get_mut(index) else { return };
        if P::WATCHED
            && let Some(capture) = &mut self.capture
        {
            watched::capture_sent::<P>(capture, stage.waiting(), index, &self.flows);
        }
        let flushed = stage.flush();
        if let Some(counters) = self.stats.ports.get(index).filter(|_| P::WATCHED) {
            counters.tx_packets.add(flushed.packets);
            counters.tx_bytes.add(flushed.bytes);
        }
        if P::WATCHED
            && let Some(received) = stage.sampled()
        {
            self.stats.latencies.record(P::ticks().saturating_sub(received.get()));
        }
        self.stats.drops[Reason::TxFull as usize].add(flushed.refused);
    }

    /// Obeys one order, if there is one.
    #[inline]
    fn obey(&mut self) {
        if let Some(order) = self.mailbox.take() {
            self.carry_out(order);
        }
    }

    #[cold]
    fn carry_out(&mut self, order: Order) {
        let answer = match order {
            Order::Publish(snapshot) => Answer::Retired(self.flows.replace_snapshot(snapshot)),
            Order::Dump(page) => Answer::Page(self.fill(page)),
            Order::Clear(clearing) => match self.flows.clear(clearing) {
                None => return,
                Some(before) => Answer::Cleared(before),
            },
            Order::Capture(next) => Answer::Capture(std::mem::replace(&mut self.capture, next)),
            Order::Trace(next) => {
                self.sight.follow(next.is_some());
                Answer::Trace(std::mem::replace(&mut self.trace, next))
            }
            Order::Find(mut find) => {
                self.flows.find(&mut find);
                Answer::Found(find)
            }
            Order::Stop => {
                self.stopped = true;
                Answer::Stopped
            }
        };
        self.mailbox.answer(answer);
    }

    /// Answers the order to clear, if that is done.
    #[inline]
    fn report_cleared(&mut self) {
        if let Some(cleared) = self.flows.cleared() {
            self.mailbox.answer(Answer::Cleared(cleared));
        }
    }

    fn fill(&self, mut page: Page) -> Page {
        self.flows.describe(&mut page);
        page
    }
}

fn flush_peer<T: super::io::Tx>(stage: &mut Staged<T>, stats: &WorkerStats) {
    let flushed = stage.flush();
    stats.run.handed_over.add(flushed.packets);
    stats.drops[Reason::HandoverFull as usize].add(flushed.refused);
}

fn flush_punt<T: super::io::Tx>(stage: &mut Staged<T>, stats: &WorkerStats) {
    let flushed = stage.flush();
    stats.run.punted.add(flushed.packets);
    stats.drops[Reason::PuntFull as usize].add(flushed.refused);
}
