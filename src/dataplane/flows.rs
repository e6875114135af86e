//! The deciding half of a worker, free of any platform: what it knows of connections and of the
//! world, and what follows for one packet.
//!
//! [`established`](Flows::established) is the hot path: a known connection's packet. [`super::steer`]
//! finds the owner of an unknown one, [`super::admit`] makes a connection, [`super::refuse`] says no.

use std::sync::Arc;

use super::allowance::Allowance;
use super::conn::expiry::{Sweep, TimeoutsMs};
use super::conn::key::Side;
use super::conn::ports::Ownership;
use super::conn::record::Record;
use super::conn::state::{self, flags};
use super::conn::table::{Hit, Slot, Table};
use super::io::Packet;
use super::lookup::Look;
use super::parse::{Other, OtherKind, Parse, Parsed};
use super::reply::{IcmpError, icmp_error};
use super::rewrite::tunnel::{self, Tunnel};
use super::rewrite::{Translation, fullnat};
use super::sched::Turn;
use super::snapshot::{Encapsulation, NextHop, Snapshot};
use super::verdict::Reason;
use crate::ids::{PortId, limits};
use crate::stats::counters::WorkerStats;
use crate::wire::{Mac, ether};

/// While draining, how long a connection whose ends have both closed is kept for stragglers:
/// nobody waits two minutes for a `TIME_WAIT` that carries nothing.
const DRAIN_LINGER_MS: u32 = 1_000;

/// How a packet reached this worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// By its own queue of a port.
    Port,
    /// From a worker that found it was not its own.
    Handover,
}

/// What shall happen to a packet. Refusals have been counted by the time this is returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Sent by this port.
    Send(PortId),
    /// Handed to this worker.
    HandOver(crate::ids::WorkerId),
    /// Given to the kernel, within the limit of its class.
    Punt(PuntClass),
    /// Freed.
    Free,
}

/// What a packet for the kernel is, as far as its limit goes: a flood of one class must not
/// silence the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum PuntClass {
    /// ARP: without it next hops are lost.
    Neighbors = 0,
    /// Everything else.
    Other = 1,
}

impl PuntClass {
    /// How many classes there are.
    pub const COUNT: usize = 2;
}

/// Answers to strays a second, each worker: a spoofed flood is not reflected (RFC 1812, 4.3.2.8).
const REPLIES_PER_SECOND: u32 = 10_000;

/// One worker's connections and view of the world.
#[derive(Debug)]
pub struct Flows {
    pub(super) table: Table,
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) ownership: Ownership,
    /// Scheduler memory by service.
    pub(super) turns: Box<[Turn]>,
    /// Where the choice of local ports stands, by service.
    pub(super) port_turns: Box<[u32]>,
    pub(super) stats: Arc<WorkerStats>,
    pub(super) replies: Allowance,
    /// Identification of the next tunnel packet that may be cut.
    identification: u16,
    timeouts: TimeoutsMs,
    sweep: Sweep,
    pub(super) now_ms: u32,
}

impl Flows {
    /// All memory is reserved here.
    pub fn new(
        table: Table,
        snapshot: Arc<Snapshot>,
        ownership: Ownership,
        stats: Arc<WorkerStats>,
    ) -> Self {
        let timeouts = TimeoutsMs::from(&snapshot.timeouts);
        let turns = vec![Turn::default(); limits::SERVICES].into();
        let port_turns = vec![0; limits::SERVICES].into();
        let sweep = Sweep::default();
        let identification = u16::from(ownership.me().0);
        Self {
            table,
            snapshot,
            ownership,
            turns,
            port_turns,
            stats,
            replies: Allowance::default(),
            identification,
            timeouts,
            sweep,
            now_ms: 0,
        }
    }

    /// The connection table.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// The counters.
    pub fn stats(&self) -> &WorkerStats {
        &self.stats
    }

    /// Takes a new snapshot into use and returns the old one.
    pub fn replace_snapshot(&mut self, snapshot: Arc<Snapshot>) -> Arc<Snapshot> {
        self.timeouts = TimeoutsMs::from(&snapshot.timeouts);
        self.stats.run.snapshots.add(1);
        self.stats.run.generation.set(snapshot.generation);
        std::mem::replace(&mut self.snapshot, snapshot)
    }

    /// Is the sweep of connections behind its pace?
    pub fn is_behind(&self) -> bool {
        self.sweep.is_behind()
    }

    /// Sets the time of what follows, and forgets some of what is over by then.
    #[inline]
    pub fn tick(&mut self, now_ms: u32) {
        if now_ms == self.now_ms && !self.sweep.is_behind() {
            return;
        }
        self.now_ms = now_ms;
        self.replies.refill(now_ms, REPLIES_PER_SECOND);
        let (snapshot, stats, timeouts) = (&*self.snapshot, &*self.stats, self.timeouts);
        let is_over = |record: &Record| {
            let idle_ms = now_ms.wrapping_sub(record.seen_ms);
            let closed = !snapshot.accepting && record.state().is_reusable();
            idle_ms >= timeouts.of(record.state())
                || (closed && idle_ms >= DRAIN_LINGER_MS)
                || snapshot.backend(record.backend_id()).is_none()
        };
        self.sweep.run(&mut self.table, now_ms, is_over, |record| {
            stats.run.expired.add(1);
            count_down(stats, record);
        });
    }

    /// Milliseconds until a record is forgotten if no packet comes.
    pub(super) fn expires_ms(&self, record: &Record) -> u32 {
        let idle = self.now_ms.wrapping_sub(record.seen_ms);
        self.timeouts.of(record.state()).saturating_sub(idle)
    }

    /// Decides what becomes of a packet, and does to its bytes what follows.
    #[inline]
    pub fn decide<P: Packet>(&mut self, packet: &mut P, look: &Look, origin: Origin) -> Fate {
        match &look.parsed {
            Parse::Flow(parsed) => match self.table.confirm(look.guess, parsed.key, look.hash) {
                Some(hit) => self.established(packet, parsed, hit, origin),
                None => self.unknown(packet, parsed, origin),
            },
            Parse::NotIp => self.not_ip(packet),
            Parse::Other(other) => self.not_a_flow(packet, *other),
            Parse::Drop(reason) => self.count(*reason),
        }
    }

    /// A packet of a connection we know.
    #[inline]
    fn established<P: Packet>(
        &mut self,
        packet: &mut P,
        parsed: &Parsed,
        hit: Hit,
        origin: Origin,
    ) -> Fate {
        let record = self.table.record_mut(hit.slot);
        let Some(backend) = self.snapshot.backend(record.backend_id()) else {
            return self.backend_gone(packet, parsed, hit, origin);
        };
        let starts = parsed.tcp_flags & (flags::SYN | flags::RST) == flags::SYN;
        if starts && hit.side == Side::Client && record.state().is_reusable() {
            return self.start_over(packet, parsed, hit.slot, origin);
        }
        let next_hop = match hit.side {
            Side::Client => {
                record.set_client_link(packet.port(), source_mac(packet.data()));
                backend.next_hop
            }
            Side::Backend => client_hop(&self.snapshot, record),
        };
        let Some(next_hop) = next_hop else { return self.count(Reason::NextHop) };
        let wrapping = record.wrapping();
        let mtu = path_mtu(&self.snapshot, next_hop.port, wrapping);
        if parsed.end - parsed.l3 > mtu {
            return self.too_big(packet, parsed, mtu);
        }
        if parsed.ttl <= 1 {
            return self.refuse(packet, parsed, Reason::TtlExpired);
        }
        record.seen_ms = self.now_ms;
        let direction = record.direction(hit.side);
        record.set_state(state::next(record.state(), direction, parsed.tcp_flags));
        let translation = translation(record, hit.side, next_hop);
        if !fullnat::rewrite(packet.data_mut(), parsed, &translation) {
            return self.count(Reason::Truncated);
        }
        match wrapping {
            None => Fate::Send(next_hop.port),
            Some(encapsulation) => self.wrap(packet, parsed, encapsulation, hit.slot),
        }
    }

    /// Longer than the next link carries: the sender is told, if it said that nobody may cut it.
    #[cold]
    fn too_big<P: Packet>(&mut self, packet: &mut P, parsed: &Parsed, mtu: u16) -> Fate {
        self.stats.count_drop(Reason::TooBig);
        let uncut = packet.data().get(usize::from(parsed.l3) + 6).is_some_and(|b| b & 0x40 != 0);
        let (error, source) = (IcmpError::FragmentationNeeded { mtu }, parsed.key.destination());
        let answered = uncut && self.may_answer() && icmp_error(packet, parsed.l3, error, source);
        self.answered(packet, answered)
    }

    /// Puts the outer header of tunnel mode around a packet that is otherwise ready.
    fn wrap<P: Packet>(
        &mut self,
        packet: &mut P,
        parsed: &Parsed,
        encapsulation: Encapsulation,
        slot: Slot,
    ) -> Fate {
        let backend = self.snapshot.backend(self.table.record(slot).backend_id());
        let Some((backend, hop)) = backend.and_then(|b| Some((b, b.next_hop?))) else {
            return self.count(Reason::NextHop);
        };
        let tunnel = Tunnel {
            encapsulation,
            ends: (backend.our_address, backend.address),
            hash: self.table.hash(parsed.key).spread(),
            identification: self.identification,
        };
        // Workers share the addresses: each has numbers of its own.
        let workers = u16::from(self.ownership.workers());
        self.identification = self.identification.wrapping_add(workers);
        if tunnel::wrap(packet, parsed, &tunnel) {
            Fate::Send(hop.port)
        } else {
            self.count(Reason::NoRoom)
        }
    }

    /// Sends the first packet of a connection on its way.
    pub(super) fn forward_first<P: Packet>(
        &mut self,
        packet: &mut P,
        parsed: &Parsed,
        slot: Slot,
    ) -> Fate {
        // Made a moment ago, it can neither be over nor have lost its backend: the origin is not used.
        self.established(packet, parsed, Hit { slot, side: Side::Client }, Origin::Handover)
    }

    /// A SYN on a connection that is over makes room for a new one (IPVS `conn_reuse_mode=1`),
    /// which another worker may own: a reload may have changed the mode in between.
    #[cold]
    fn start_over<P: Packet>(
        &mut self,
        packet: &mut P,
        parsed: &Parsed,
        slot: Slot,
        origin: Origin,
    ) -> Fate {
        self.forget(slot);
        self.unknown(packet, parsed, origin)
    }

    /// The connection's backend was removed: TCP is told, UDP finds another backend.
    #[cold]
    fn backend_gone<P: Packet>(
        &mut self,
        packet: &mut P,
        parsed: &Parsed,
        hit: Hit,
        origin: Origin,
    ) -> Fate {
        self.forget(hit.slot);
        let may_start = parsed.key.protocol == super::snapshot::Protocol::Udp as u8
            || parsed.tcp_flags & (flags::SYN | flags::RST) == flags::SYN;
        if hit.side == Side::Client && may_start {
            return self.unknown(packet, parsed, origin);
        }
        self.refuse(packet, parsed, Reason::BackendGone)
    }

    /// Is the frame for us, by its link address, or for everybody? Asked only of frames that no
    /// connection claims: a switch that floods must not make two boxes answer for one.
    pub(super) fn is_ours<P: Packet>(&self, packet: &P) -> bool {
        let Some((to, _)) = packet.data().split_first_chunk::<6>() else { return false };
        let to = Mac(*to);
        let port = self.snapshot.ports.get(packet.port().index());
        to.is_group() || port.is_some_and(|port| port.mac == to)
    }

    /// ARP, IPv6, LLDP and whatever else: the kernel's.
    #[cold]
    fn not_ip<P: Packet>(&self, packet: &P) -> Fate {
        if !self.is_ours(packet) {
            return self.count(Reason::OtherStation);
        }
        let is_arp = packet.data().get(12..14) == Some(&ether::ARP.to_be_bytes());
        Fate::Punt(if is_arp { PuntClass::Neighbors } else { PuntClass::Other })
    }

    /// A packet that is no whole TCP or UDP packet, but whole enough to have addresses.
    #[cold]
    fn not_a_flow<P: Packet>(&mut self, packet: &P, other: Other) -> Fate {
        if !self.is_ours(packet) {
            return self.count(Reason::OtherStation);
        }
        let balanced =
            self.snapshot.is_vip(other.destination) || self.snapshot.is_local(other.destination);
        match other.kind {
            OtherKind::Fragment if balanced => self.count(Reason::Fragment),
            OtherKind::Protocol(_) if balanced => self.count(Reason::Protocol),
            _ => Fate::Punt(PuntClass::Other),
        }
    }

    /// Removes a connection and counts it out.
    pub(super) fn forget(&mut self, slot: Slot) {
        count_down(&self.stats, self.table.record(slot));
        self.table.remove(slot);
    }

    /// Counts a refused packet.
    #[cold]
    pub(super) fn count(&self, reason: Reason) -> Fate {
        self.stats.count_drop(reason);
        Fate::Free
    }
}

/// The connection of `record` is over.
fn count_down(stats: &WorkerStats, record: &Record) {
    stats.connections.down();
    if let Some(service) = stats.services.get(record.service_id().index()) {
        service.connections.down();
    }
    if let Some(backend) = stats.backends.get(record.backend_id().index()) {
        backend.connections.down();
    }
}

/// Everything that changes in a packet sent by `side`.
#[inline(always)]
fn translation(record: &Record, side: Side, next_hop: NextHop) -> Translation {
    let to = record.translated(side);
    let (ip_delta, l4_delta) = record.deltas(side);
    Translation { addresses: to.addresses, ports: to.ports, ip_delta, l4_delta, next_hop }
}

/// Longest IP packet that goes out by `port`, wrapped as said.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "an outer header is at most 32 bytes")]
fn path_mtu(snapshot: &Snapshot, port: PortId, wrapping: Option<Encapsulation>) -> u16 {
    let mtu = snapshot.ports.get(port.index()).map_or(0, |port| port.mtu);
    match wrapping {
        None => mtu,
        Some(encapsulation) => mtu.saturating_sub(tunnel::overhead(encapsulation) as u16),
    }
}

/// The way back to the client: where its last packet came from.
#[inline(always)]
fn client_hop(snapshot: &Snapshot, record: &Record) -> Option<NextHop> {
    let (port, destination) = record.client_link();
    let source = snapshot.ports.get(port.index())?.mac;
    Some(NextHop { port, source, destination })
}

/// The link-layer sender of a frame; parse has proven that it has one.
#[inline(always)]
pub(super) fn source_mac(frame: &[u8]) -> Mac {
    frame.get(6..12).and_then(|bytes| bytes.try_into().ok()).map_or_else(Mac::default, Mac)
}
