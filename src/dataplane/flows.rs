//! The deciding half of a worker, free of any platform: what it knows of connections and of the
//! world, and what follows for one packet.
//!
//! [`established`](Flows::established) is the hot path: a known connection's packet. [`super::steer`]
//! finds the owner of an unknown one, [`super::admit`] makes a connection, [`super::refuse`] says no.

use std::net::Ipv4Addr;
use std::sync::Arc;

use super::admit::starts;
use super::allowance::Allowance;
use super::conn::expiry::Sweep;
use super::conn::key::{FlowKey, Side};
use super::conn::ports::Ownership;
use super::conn::record::Record;
use super::conn::table::{Hit, Slot, Tables};
use super::family::Family;
use super::handshake::Gate;
use super::io::Packet;
use super::lookup::Look;
use super::opening::AnySlot;
use super::parse::{Other, OtherKind, Parse, Parsed};
use super::path_mtu::PathMtus;
use super::persistence::{self, Templates};
use super::rewrite::{Translation, translate};
use super::sched::Chooser;
use super::snapshot::{Limit, NextHop, Snapshot};
use super::verdict::Reason;
use crate::ids::{BackendId, PortId, WorkerId, limits};
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
    /// The same; it asks a backend whether it takes a connection, and may have to again.
    Ask(PortId),
    /// The same, and then what has waited for that: a backend has agreed.
    Opened(PortId),
    /// Kept until its backend has agreed.
    Hold,
    /// Cut into pieces no longer than this many bytes, which are sent by this port.
    Cut(PortId, u16),
    /// Sent by this port, in pieces no longer than this many bytes, behind a segment with what its
    /// backend is to know of the client.
    SendBehind(PortId, u16),
    /// A piece of one of our packets: its keeper's.
    Piece,
    /// Handed to this worker.
    HandOver(WorkerId),
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

/// Turns in which local ports come.
const PORT_TURNS: usize = 16_384;

/// One worker's connections and view of the world.
#[derive(Debug)]
pub struct Flows {
    pub(super) tables: Tables,
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) ownership: Ownership,
    /// Who gets new connections.
    pub(super) chooser: Chooser,
    /// Where the choice of local ports stands, by a hash of the backend's address and port: services
    /// that share a backend share its turn, and so do a few that do not.
    pub(super) port_turns: Box<[u32]>,
    pub(super) stats: Arc<WorkerStats>,
    pub(super) replies: Allowance,
    /// SYN cookies, by service.
    pub(super) gates: Box<[Gate]>,
    /// The last number given to what waits for a backend.
    pub(super) serial: u32,
    /// The connection that the last [`Fate::Hold`] or [`Fate::Opened`] was about.
    pub(super) waiting: Option<AnySlot>,
    /// Identification of the next packet of ours that may be cut.
    pub(super) identification: u32,
    /// Which clients go where, for all workers; `None` without room for any.
    pub(super) templates: Option<Arc<Templates>>,
    /// What the ways to tunnel backends carry.
    pub(super) path_mtus: PathMtus,
    sweep_v4: Sweep,
    sweep_v6: Sweep,
    pub(super) now_ms: u32,
}

impl Flows {
    /// All memory is reserved here.
    pub fn new(
        tables: Tables,
        snapshot: Arc<Snapshot>,
        ownership: Ownership,
        stats: Arc<WorkerStats>,
    ) -> Self {
        let port_turns = vec![0; PORT_TURNS].into();
        let identification = first_identification(&tables, &ownership);
        let (me, workers) = (ownership.me(), ownership.workers());
        let chooser = Chooser::new(me, workers, u64::from(identification) << 8 | u64::from(me.0));
        Self {
            tables,
            snapshot,
            ownership,
            chooser,
            port_turns,
            stats,
            replies: Allowance::default(),
            gates: vec![Gate::default(); limits::SERVICES].into(),
            serial: 0,
            waiting: None,
            identification,
            templates: None,
            path_mtus: PathMtus::default(),
            sweep_v4: Sweep::default(),
            sweep_v6: Sweep::default(),
            now_ms: 0,
        }
    }

    /// The same with a share in what all workers know of persistent clients.
    #[must_use]
    pub fn with_templates(self, templates: Arc<Templates>) -> Self {
        Self { templates: Some(templates), ..self }
    }

    /// The worker these are of.
    pub(super) fn me(&self) -> WorkerId {
        self.ownership.me()
    }

    /// The time, in worker milliseconds.
    pub(super) fn now_ms(&self) -> u32 {
        self.now_ms
    }

    /// The connections.
    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    /// The counters.
    pub fn stats(&self) -> &WorkerStats {
        &self.stats
    }

    /// Takes a new snapshot into use and returns the old one.
    pub fn replace_snapshot(&mut self, snapshot: Arc<Snapshot>) -> Arc<Snapshot> {
        self.stats.run.snapshots.add(1);
        self.stats.run.generation.set(snapshot.generation);
        self.chooser.renew();
        std::mem::replace(&mut self.snapshot, snapshot)
    }

    /// Is the sweep of connections behind its pace?
    pub fn is_behind(&self) -> bool {
        self.sweep_v4.is_behind() || self.sweep_v6.is_behind()
    }

    /// Sets the time of what follows, and forgets some of what is over by then.
    #[inline]
    pub fn tick(&mut self, now_ms: u32) {
        if now_ms == self.now_ms && !self.is_behind() {
            return;
        }
        self.now_ms = now_ms;
        self.replies.refill(now_ms, REPLIES_PER_SECOND);
        let templates = self.templates.as_deref();
        if let Some(templates) = templates {
            templates.tidy(now_ms);
        }
        let judge = Judge { now_ms, snapshot: &self.snapshot, templates };
        let (stats, snapshot, chooser) = (&*self.stats, &*self.snapshot, &mut self.chooser);
        let (v4, v6) = (&mut self.tables.v4, &mut self.tables.v6);
        let sweep = &mut self.sweep_v4;
        sweep.run(v4, now_ms, |r| judge.visit(r), |r| count_out(stats, snapshot, chooser, r));
        let sweep = &mut self.sweep_v6;
        sweep.run(v6, now_ms, |r| judge.visit(r), |r| count_out(stats, snapshot, chooser, r));
    }

    /// Milliseconds until a record is forgotten if no packet comes.
    pub(super) fn expires_ms<F: Family>(&self, record: &Record<F>) -> u32 {
        let idle = self.now_ms.wrapping_sub(record.seen_ms);
        self.snapshot.timeout_ms(record.service_id(), record.state()).saturating_sub(idle)
    }

    /// Decides what becomes of a packet, and does to its bytes what follows.
    #[inline]
    pub fn decide<P: Packet>(&mut self, packet: &mut P, look: &Look, origin: Origin) -> Fate {
        match &look.parsed {
            Parse::Flow(parsed) => self.flow(packet, parsed, look, origin),
            Parse::Flow6(parsed) => self.flow(packet, parsed, look, origin),
            Parse::NotIp => self.not_ip(packet),
            Parse::Other(other) => self.not_a_flow(packet, *other, origin),
            Parse::Drop(reason) => self.count(*reason),
        }
    }

    #[inline(always)]
    fn flow<F: Family, P: Packet>(
        &mut self,
        packet: &mut P,
        parsed: &Parsed<F>,
        look: &Look,
        origin: Origin,
    ) -> Fate {
        match F::table(&self.tables).confirm(look.guess, parsed.key, look.hash) {
            Some(hit) => self.established(packet, parsed, hit, origin),
            None => self.unknown(packet, parsed, origin),
        }
    }

    /// A packet of a connection we know.
    #[inline]
    pub(super) fn established<F: Family, P: Packet>(
        &mut self,
        packet: &mut P,
        parsed: &Parsed<F>,
        hit: Hit,
        origin: Origin,
    ) -> Fate {
        let record = F::table_mut(&mut self.tables).record_mut(hit.slot);
        let Some(backend) = self.snapshot.backend(record.backend_id()) else {
            return self.backend_gone(packet, parsed, hit, origin);
        };
        if hit.side == Side::Client && record.state().is_reusable() && starts(parsed) {
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
        if parsed.ttl <= 1 {
            return self.refuse(packet, parsed, Reason::TtlExpired);
        }
        let mtu = port_mtu(&self.snapshot, next_hop.port);
        if record.is_special() || parsed.end - parsed.l3 > mtu {
            return self.special(packet, parsed, hit, next_hop);
        }
        if record.note(hit.side, parsed.signal, self.now_ms) {
            let (backend, active) = (record.backend_id(), record.state().is_active());
            turned(&self.stats, &self.snapshot, &mut self.chooser, backend, active);
        }
        let translation = translation(record, hit.side, next_hop);
        if translate::rewrite(packet.data_mut(), parsed, &translation) {
            Fate::Send(next_hop.port)
        } else {
            self.count(Reason::Truncated)
        }
    }

    /// Sends the first packet of a connection on its way.
    pub(super) fn forward_first<F: Family, P: Packet>(
        &mut self,
        packet: &mut P,
        parsed: &Parsed<F>,
        slot: Slot,
    ) -> Fate {
        // Made a moment ago, it can neither be over nor have lost its backend: the origin is not used.
        self.established(packet, parsed, Hit { slot, side: Side::Client }, Origin::Handover)
    }

    /// A SYN on a connection that is over makes room for a new one (IPVS `conn_reuse_mode=1`),
    /// which another worker may own: a reload may have changed the mode in between.
    #[cold]
    fn start_over<F: Family, P: Packet>(
        &mut self,
        packet: &mut P,
        parsed: &Parsed<F>,
        slot: Slot,
        origin: Origin,
    ) -> Fate {
        self.forget::<F>(slot);
        self.unknown(packet, parsed, origin)
    }

    /// The connection's backend was removed: TCP is told, UDP finds another backend.
    #[cold]
    fn backend_gone<F: Family, P: Packet>(
        &mut self,
        packet: &mut P,
        parsed: &Parsed<F>,
        hit: Hit,
        origin: Origin,
    ) -> Fate {
        self.forget::<F>(hit.slot);
        if hit.side == Side::Client && starts(parsed) {
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

    /// A packet that is no whole TCP, UDP or SCTP packet, but whole enough to have addresses.
    #[cold]
    fn not_a_flow<P: Packet>(&mut self, packet: &mut P, other: Other, origin: Origin) -> Fate {
        if !self.is_ours(packet) {
            return self.count(Reason::OtherStation);
        }
        let balanced =
            self.snapshot.is_vip(other.destination) || self.snapshot.is_local(other.destination);
        match other.kind {
            OtherKind::Neighbor => Fate::Punt(PuntClass::Neighbors),
            OtherKind::Icmp => self.icmp(packet, other, origin),
            OtherKind::Fragment if balanced || self.snapshot.has_nat_backend(other.source) => {
                Fate::Piece
            }
            OtherKind::Protocol(_) if balanced => self.count(Reason::Protocol),
            OtherKind::Extensions if balanced => self.count(Reason::Extensions),
            _ => Fate::Punt(PuntClass::Other),
        }
    }

    /// Removes a connection and counts it out.
    pub(super) fn forget<F: Family>(&mut self, slot: Slot) {
        let record = F::table(&self.tables).record(slot);
        count_down(&self.stats, &self.snapshot, &mut self.chooser, record);
        F::table_mut(&mut self.tables).remove(slot);
    }

    /// Counts a refused packet.
    #[cold]
    pub(super) fn count(&self, reason: Reason) -> Fate {
        self.stats.count_drop(reason);
        Fate::Free
    }
}

/// Where a worker's identifications start: nobody outside knows where (RFC 7739), and no two workers
/// start alike.
fn first_identification(tables: &Tables, ownership: &Ownership) -> u32 {
    let nobody = FlowKey::<Ipv4Addr> { addresses: 0, ports: 0, protocol: 0 };
    let (start, workers) = (tables.v4.hash(nobody).spread(), u32::from(ownership.workers()));
    (start - start % workers).wrapping_add(u32::from(ownership.me().0))
}

/// Says which connections are over.
struct Judge<'a> {
    now_ms: u32,
    snapshot: &'a Snapshot,
    templates: Option<&'a Templates>,
}

impl Judge<'_> {
    /// Says whether a connection is over; the template of one that lives does not end.
    #[inline(always)]
    fn visit<F: Family>(&self, record: &Record<F>) -> bool {
        let over = self.is_over(record);
        if let Some(templates) = self.templates.filter(|_| !over) {
            persistence::refresh(templates, self.snapshot, record, self.now_ms);
        }
        over
    }

    #[inline(always)]
    fn is_over<F: Family>(&self, record: &Record<F>) -> bool {
        let idle_ms = self.now_ms.wrapping_sub(record.seen_ms);
        let closed = !self.snapshot.accepting && record.state().is_reusable();
        idle_ms >= self.snapshot.timeout_ms(record.service_id(), record.state())
            || (closed && idle_ms >= DRAIN_LINGER_MS)
            || self.snapshot.backend(record.backend_id()).is_none()
    }
}

/// The connection of `record` has expired.
fn count_out<F: Family>(
    stats: &WorkerStats,
    snapshot: &Snapshot,
    chooser: &mut Chooser,
    record: &Record<F>,
) {
    stats.run.expired.add(1);
    count_down(stats, snapshot, chooser, record);
}

/// A connection of `backend` became active, or inactive.
#[cold]
pub(super) fn turned(
    stats: &WorkerStats,
    snapshot: &Snapshot,
    chooser: &mut Chooser,
    backend: BackendId,
    active: bool,
) {
    stats.loads.turn(backend, active);
    chooser.changed(snapshot, &stats.loads, backend);
}

/// The place of a connection that was, or was not, active is free again.
pub(super) fn give_back(
    stats: &WorkerStats,
    snapshot: &Snapshot,
    chooser: &mut Chooser,
    backend: BackendId,
    was_active: bool,
) {
    let limit = snapshot.backend(backend).map_or(Limit::NONE, |backend| backend.limit);
    stats.loads.give_back(backend, was_active, limit);
    chooser.changed(snapshot, &stats.loads, backend);
}

/// The connection of `record` is over.
fn count_down<F: Family>(
    stats: &WorkerStats,
    snapshot: &Snapshot,
    chooser: &mut Chooser,
    record: &Record<F>,
) {
    give_back(stats, snapshot, chooser, record.backend_id(), record.state().is_active());
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
pub(super) fn translation<F: Family>(
    record: &Record<F>,
    side: Side,
    next_hop: NextHop,
) -> Translation<F> {
    let to = record.translated(side);
    let (ip_delta, l4_delta) = record.deltas(side);
    Translation { addresses: to.addresses, ports: to.ports, ip_delta, l4_delta, next_hop }
}

/// Longest IP packet that goes out by `port`.
#[inline(always)]
pub(super) fn port_mtu(snapshot: &Snapshot, port: PortId) -> u16 {
    snapshot.ports.get(port.index()).map_or(0, |port| port.mtu)
}

/// The way back to the client: where its last packet came from.
#[inline(always)]
pub(super) fn client_hop<F: Family>(snapshot: &Snapshot, record: &Record<F>) -> Option<NextHop> {
    let (port, destination) = record.client_link();
    let source = snapshot.ports.get(port.index())?.mac;
    Some(NextHop { port, source, destination })
}

/// The link-layer sender of a frame; parse has proven that it has one.
#[inline(always)]
pub(super) fn source_mac(frame: &[u8]) -> Mac {
    frame.get(6..12).and_then(|bytes| bytes.try_into().ok()).map_or_else(Mac::default, Mac)
}
