//! The deciding half of a worker, free of any platform: what it knows of connections and of the
//! world, and which way a packet takes.
//!
//! ```text
//! decide ─┬─ a connection's: established ─┬─ special ──┐
//!         │                               └────────────┴─► onward: may it go on?
//!         ├─ of no connection: steer ─► admit, or between families (cross), or refuse
//!         ├─ a piece: pieces ─────────► as one of these
//!         └─ ICMP: icmp
//! ```

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use super::accounts::{Ending, Judge};
use super::allowance::Allowance;
use super::clearing::Clearing;
use super::conn::expiry::Sweep;
use super::conn::key::FlowKey;
use super::conn::ports::Ownership;
use super::conn::reclaim::Reclaim;
use super::conn::record::Record;
use super::conn::table::Tables;
use super::endings::Endings;
use super::family::Family;
pub use super::fate::{Fate, Origin, PuntClass};
use super::handshake::Gate;
use super::io::Packet;
use super::lookup::Look;
use super::opening::AnySlot;
use super::parse::{Other, OtherKind, Parse, Parsed};
use super::path_mtu::PathMtus;
use super::persistence::Templates;
use super::quota;
use super::sched::Chooser;
use super::snapshot::Snapshot;
use super::verdict::Reason;
use crate::ids::{WorkerId, limits};
use crate::stats::counters::WorkerStats;
use crate::stats::volumes::VolumeCounters;
use crate::wire::ether;

/// Answers to strays a second, each worker: a spoofed flood is not reflected (RFC 1812, 4.3.2.8).
const REPLIES_PER_SECOND: u32 = 10_000;

/// Answers that say how long a packet may be or where its hops ended, apart from the others.
const GUIDANCE_PER_SECOND: u32 = 10_000;

/// Turns in which local ports come. A constant, so that no division finds one.
pub(super) const PORT_TURNS: usize = 16_384;

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
    /// Those of `stats`, one load nearer.
    pub(super) volumes: Arc<VolumeCounters>,
    pub(super) replies: Allowance,
    /// For answers that path MTU and traceroute live on: [`Flows::may_guide`].
    pub(super) guidance: Allowance,
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
    /// Who is to hear that a connection has ended here.
    pub(super) endings: Endings,
    /// Connections that are to end, if any are, by the end of a round of both sweeps.
    clearing: Option<Clearing>,
    sweep_v4: Sweep,
    sweep_v6: Sweep,
    pub(super) reclaim_v4: Reclaim,
    pub(super) reclaim_v6: Reclaim,
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
        quota::follow(&stats, &Snapshot::default(), &snapshot);
        let volumes = Arc::clone(&stats.volumes);
        let chooser = Chooser::new(me, workers, u64::from(identification) << 8 | u64::from(me.0));
        Self {
            tables,
            snapshot,
            ownership,
            chooser,
            port_turns,
            stats,
            volumes,
            replies: Allowance::default(),
            guidance: Allowance::default(),
            gates: vec![Gate::default(); limits::SERVICES].into(),
            serial: 0,
            waiting: None,
            identification,
            templates: None,
            path_mtus: PathMtus::default(),
            endings: Endings::default(),
            clearing: None,
            sweep_v4: Sweep::default(),
            sweep_v6: Sweep::default(),
            reclaim_v4: Reclaim::default(),
            reclaim_v6: Reclaim::default(),
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

    /// The same, to be changed by what measures them alone.
    pub fn tables_mut(&mut self) -> &mut Tables {
        &mut self.tables
    }

    /// The counters.
    pub fn stats(&self) -> &WorkerStats {
        &self.stats
    }

    /// Takes a new snapshot into use and returns the old one.
    pub fn replace_snapshot(&mut self, snapshot: Arc<Snapshot>) -> Arc<Snapshot> {
        self.stats.run.snapshots.add(1);
        self.stats.run.generation.set(snapshot.generation);
        self.chooser.renew(&self.snapshot, &snapshot, &self.stats.loads);
        quota::follow(&self.stats, &self.snapshot, &snapshot);
        self.path_mtus.renew(&self.snapshot, &snapshot);
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
        self.guidance.refill(now_ms, GUIDANCE_PER_SECOND);
        self.endings.refill(now_ms);
        let templates = self.templates.as_deref();
        if let Some(templates) = templates {
            templates.tidy(now_ms);
        }
        if let Some(sources) = &self.stats.tallies.sources {
            sources.tidy(now_ms);
        }
        let clearing = self.clearing.as_ref();
        let judge = Judge { now_ms, snapshot: &self.snapshot, templates, clearing };
        let mut ending = Ending {
            stats: &self.stats,
            snapshot: &self.snapshot,
            chooser: &mut self.chooser,
            endings: &mut self.endings,
            clearing,
            cleared: 0,
        };
        let (v4, v6) = (&mut self.tables.v4, &mut self.tables.v6);
        let (seen_v4, seen_v6) = (&mut self.reclaim_v4.candidates, &mut self.reclaim_v6.candidates);
        let visit = (|r: &_| judge.visit(r), |r: &_| judge.visit(r));
        self.sweep_v4.run(v4, now_ms, seen_v4, visit.0, |table, slot| ending.end(table, slot));
        self.sweep_v6.run(v6, now_ms, seen_v6, visit.1, |table, slot| ending.end(table, slot));
        let cleared = ending.cleared;
        if let Some(clearing) = &mut self.clearing {
            clearing.ended += cleared;
        }
    }

    /// These connections end within a round of the sweeps; the order before, if that was not done.
    pub(super) fn clear(&mut self, clearing: Clearing) -> Option<Clearing> {
        self.sweep_v4.watch();
        self.sweep_v6.watch();
        self.clearing.replace(clearing)
    }

    /// The order to clear, when it is done.
    #[inline]
    pub(super) fn cleared(&mut self) -> Option<Clearing> {
        let Self { tables, sweep_v4, sweep_v6, .. } = self;
        self.clearing
            .take_if(|_| sweep_v4.is_round(tables.v4.used()) && sweep_v6.is_round(tables.v6.used()))
    }

    /// Milliseconds until a record is forgotten if no packet comes.
    pub(super) fn expires_ms<F: Family>(&self, record: &Record<F>) -> u32 {
        let idle = self.now_ms.wrapping_sub(record.seen_ms);
        self.snapshot.timeout_ms(record.service_id(), record.state()).saturating_sub(idle)
    }

    /// Decides what becomes of a packet, and does to its bytes what follows.
    #[inline(always)]
    pub fn decide<P: Packet>(&mut self, packet: &mut P, look: &Look, origin: Origin) -> Fate {
        match &look.parsed {
            Parse::Flow(parsed) => self.flow(packet, parsed, look, origin),
            Parse::Flow6(parsed) => self.flow(packet, parsed, look, origin),
            Parse::NotIp => Self::not_ip(packet),
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

    /// Is this, which a program of the box sends, for a VIP?
    pub(super) fn is_for_a_vip(&self, look: &Look) -> bool {
        let to: IpAddr = match &look.parsed {
            Parse::Flow(parsed) => parsed.key.destination().into(),
            Parse::Flow6(parsed) => parsed.key.destination().into(),
            Parse::Other(other) if other.kind == OtherKind::Fragment => other.destination,
            _ => return false,
        };
        self.snapshot.is_vip(to)
    }

    /// ARP, IPv6, LLDP and whatever else: the kernel's.
    #[cold]
    fn not_ip<P: Packet>(packet: &P) -> Fate {
        let is_arp = packet.data().get(12..14) == Some(&ether::ARP.to_be_bytes());
        Fate::Punt(if is_arp { PuntClass::Neighbors } else { PuntClass::Other })
    }

    /// A packet that is no whole TCP, UDP or SCTP packet, but whole enough to have addresses.
    #[cold]
    fn not_a_flow<P: Packet>(&mut self, packet: &mut P, other: Other, origin: Origin) -> Fate {
        let balanced =
            self.snapshot.is_vip(other.destination) || self.snapshot.is_local(other.destination);
        match other.kind {
            OtherKind::Neighbor => Fate::Punt(PuntClass::Neighbors),
            OtherKind::Icmp => self.icmp(packet, other, origin),
            OtherKind::Fragment
                if balanced
                    || self.snapshot.has_clients_at(other.destination)
                    || self.snapshot.has_backends_at(other.destination)
                    || self.snapshot.has_nat_backend(other.source) =>
            {
                Fate::Piece
            }
            OtherKind::Protocol(_) if balanced => self.count(Reason::Protocol),
            OtherKind::Extensions if balanced => self.count(Reason::Extensions),
            _ => Fate::Punt(PuntClass::Other),
        }
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
    let (start, step) = (tables.v4.hash(nobody).spread(), ownership.number_step());
    (start - start % step).wrapping_add(u32::from(ownership.me().0))
}
