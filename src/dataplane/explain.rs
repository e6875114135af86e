//! What would become of a flow's next packet, found out without touching the flow.
//!
//! ```text
//! known?    every worker looks into its table, changes nothing      (Order::Find)
//! not known ─► a scratch worker: the live snapshot, the live loads, empty tables
//!                └─► a synthetic packet through parsing, lookup and decision, as of any other packet
//! ```
//!
//! A connection that exists is looked at where it is, by its owner: the record, and the way a packet would take now. One
//! that does not is made, by the same code as any other, where nobody sees it: the scratch worker's
//! tables, counters and loads are copies that are thrown away.
//!
//! What the scratch worker cannot know: whose turn it is with schedulers that go round (it starts as a worker
//! does), which clients persistence remembers, how many new connections a second there were, and which local ports
//! are taken. So a backend chosen by hash is certain, one chosen by turn an example, and a local port a
//! candidate.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::conn::index::Seed;
use super::conn::key::{FlowKey, Side};
use super::conn::ports::Ownership;
use super::conn::table::{Sizes, Tables};
use super::family::Family;
use super::flows::{Fate, Flows, Origin};
use super::io::Packet;
use super::lookup::Look;
use super::mem::{HugePages, MemoryError};
use super::orders::{ConnectionView, Page};
use super::snapshot::{NextHop, Protocol, Snapshot};
use super::verdict::Reason;
use crate::ids::WorkerId;
use crate::stats::counters::WorkerStats;
use crate::stats::loads::Loads;
use crate::stats::tallies::Tallies;

mod synthetic;

pub use synthetic::frame;

/// Room for what one packet makes.
const SCRATCH: Sizes = Sizes { v4: 64, v6: 64, splices: 64 };

/// One direction of a flow: who sends, and to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// TCP, UDP or SCTP.
    pub protocol: Protocol,
    /// The sender.
    pub source: SocketAddr,
    /// Whom it sends to; of the same family.
    pub destination: SocketAddr,
}

/// A worker is asked for a flow.
#[derive(Debug)]
pub struct Find {
    /// Which.
    pub flow: Flow,
    /// Filled in by the worker: the connection, if it is one of its own.
    pub known: Option<Known>,
    /// And who makes a new one, if it is ours at all.
    pub owner: Option<WorkerId>,
}

/// A connection and what its next packet would meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// The connection.
    pub connection: ConnectionView,
    /// Is it the client's packet, or the backend's?
    pub is_clients: bool,
    /// Who the packet would be from and to, rewritten.
    pub leaves_as: (SocketAddr, SocketAddr),
    /// Where it would go, or why not.
    pub way: Result<NextHop, Reason>,
}

impl Find {
    /// To be asked of a worker.
    pub fn new(flow: Flow) -> Self {
        Self { flow, known: None, owner: None }
    }
}

/// A hop is left for anybody.
const TTL: u8 = 64;

impl Flows {
    /// Answers; changes nothing.
    pub(super) fn find(&self, find: &mut Find) {
        let Flow { protocol, source, destination } = find.flow;
        match (source.ip(), destination.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let (from, to) = ((from, source.port()), (to, destination.port()));
                let key = FlowKey::new(protocol as u8, from, to);
                find.known = self.known(key).or_else(|| self.known(key.mapped()));
                find.owner = self.flow_owners(key).map(|owners| owners.next);
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                let (from, to) = ((from, source.port()), (to, destination.port()));
                let key = FlowKey::new(protocol as u8, from, to);
                find.known = self.known(key);
                find.owner = self.flow_owners(key).map(|owners| owners.next);
            }
            _ => {}
        }
    }

    fn known<F: Family>(&self, key: FlowKey<F>) -> Option<Known> {
        let table = F::table(&self.tables);
        let hit = table.find(key, table.hash(key))?;
        let record = table.record(hit.slot);
        let leaves = record.translated(hit.side);
        let (from, to): (IpAddr, IpAddr) = (leaves.source().into(), leaves.destination().into());
        let from = SocketAddr::new(from.to_canonical(), leaves.source_port());
        let to = SocketAddr::new(to.to_canonical(), leaves.destination_port());
        Some(Known {
            connection: self.view(record)?,
            is_clients: hit.side == Side::Client,
            leaves_as: (from, to),
            way: self.leaves(record, hit.side, TTL),
        })
    }
}

/// What the scratch worker found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What would become of the packet.
    pub fate: Fate,
    /// Why it would be refused.
    pub refused: Option<Reason>,
    /// The connection it would make.
    pub connection: Option<ConnectionView>,
    /// The frame as it would leave, if it does.
    pub frame: Vec<u8>,
}

/// Has a worker that knows of no connections decide about a packet. `loads` and `tallies` are read, and
/// not changed.
pub fn decide<P: Packet>(
    mut packet: P,
    owner: WorkerId,
    workers: u8,
    snapshot: &Arc<Snapshot>,
    (loads, tallies): (&Loads, &Tallies),
) -> Result<Outcome, MemoryError> {
    let stats = WorkerStats::sharing(Arc::new(loads.copied()));
    let stats = Arc::new(stats.with_tallies(Arc::new(tallies.copied())));
    let tables = Tables::on(SCRATCH, Seed([1, 2]), HugePages::Never)?;
    let ownership = Ownership::new(owner, workers, &snapshot.ports);
    let nothing = Arc::new(Snapshot::default().indexed());
    let mut flows = Flows::new(tables, nothing, ownership, Arc::clone(&stats));
    // Taken into use as workers do: schedulers get ready with it.
    flows.replace_snapshot(Arc::clone(snapshot));
    let look = Look::alone(&packet, flows.tables());
    // As if handed over: whose it is was asked of the workers.
    let fate = flows.decide(&mut packet, &look, Origin::Handover);
    let refused = Reason::ALL.iter().find(|reason| stats.drops[**reason as usize].get() > 0);
    let mut page = Page { rows: Vec::with_capacity(1), ..Page::default() };
    flows.describe(&mut page);
    let frame = packet.data().to_vec();
    Ok(Outcome { fate, refused: refused.copied(), connection: page.rows.pop(), frame })
}
