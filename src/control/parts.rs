//! What the control thread is made of: everything `shuntd` hands over when ports and workers exist.
//!
//! The control plane knows nothing of DPDK: lanes come as [`Rx`] and [`Tx`], buffers from a closure,
//! facts as plain numbers. So the whole of it runs in a test with `Vec` packets.
//!
//! The order of a start: [`Claims::take`] before anything else, so that a second daemon finds out
//! before it has touched a port; then EAL, ports, workers; then `control::run` with all of it, which
//! returns when the daemon has been asked to end and the workers have stopped.
//!
//! [`Rx`]: crate::dataplane::io::Rx
//! [`Tx`]: crate::dataplane::io::Tx

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::admin::Claims;
use super::config::files::Files;
use super::config::plan::Plan;
use super::edit::{Edit, EditError};
use super::edition::Written;
use super::lists::MakeMembers;
use super::neighbors::Way;
use crate::dataplane::access::Membership;
use crate::dataplane::orders::ControlEnd;
use crate::dataplane::snapshot::Snapshot;
use crate::ids::{BackendId, PortId};
use crate::stats::collect::Names;
use crate::stats::counters::WorkerStats;
use crate::stats::devices::Devices;
use crate::stats::slow::StaticFacts;
use crate::wire::Mac;

/// One worker, seen from the control thread.
#[derive(Debug)]
pub struct WorkerPart {
    /// The CPU it is pinned to.
    pub core: usize,
    /// The control end of its mailbox.
    pub mailbox: ControlEnd,
    /// Its counters.
    pub stats: Arc<WorkerStats>,
}

/// One port and the TAP that is its twin in the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TapSpec {
    /// The port's id; specs are given in id order.
    pub id: PortId,
    /// The port's name in configuration and metrics.
    pub port: String,
    /// The interface to make.
    pub tap: String,
    /// The port's link-layer address: the TAP gets the same.
    pub mac: Mac,
    /// The port's MTU: the TAP gets the same.
    pub mtu: u16,
    /// Addresses of the box itself, with prefix length.
    pub addresses: Vec<(IpAddr, u8)>,
    /// Destination, prefix length, gateway.
    pub routes: Vec<(IpAddr, u8, IpAddr)>,
}

/// The lanes between workers and the TAPs.
#[derive(Debug)]
pub struct Lanes<R, T, F> {
    /// The receiving end of each worker's punt lane. Frames carry the port they came in by.
    pub punt: Vec<R>,
    /// The sending end of worker 0's injection lane. Frames carry the port they shall leave by.
    pub inject: T,
    /// Makes a packet of a frame; `None` without a free buffer, or when the frame does not fit.
    pub make: F,
}

/// What a reload would change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// One printable line for each change; empty if nothing changes.
    pub lines: Vec<String>,
    /// Those of them that need a restart; empty if all can be applied now.
    pub restart: Vec<String>,
}

/// The door to configuration: from a file to a plan, from two plans to their difference, from a
/// plan to a snapshot. Ids live on this side: who implements it remembers which name has which id.
pub trait Configure {
    /// Reads and validates a file. The error text says file, line, column and what to do.
    fn load(&mut self, file: &Path) -> Result<Written, String>;

    /// As [`Self::load`], for who only wants to know what it says: nothing of it is logged.
    fn look(&self, file: &Path) -> Result<Written, String>;

    /// Makes edits in the text of what runs, which `plan` is, and reads what comes out as files are read.
    fn edit(&self, files: &Files, plan: &Plan, edits: &[Edit]) -> Result<Written, EditError>;

    /// What would change.
    fn diff(&self, old: &Plan, new: &Plan) -> Changes;

    /// Builds the workers' view. `resolve` is `None` for addresses the kernel has not resolved,
    /// `members` knows the plan's lists of clients.
    /// An error says what there is too much of; nothing has changed then.
    fn compile(
        &mut self,
        plan: &Plan,
        resolve: &dyn Fn(IpAddr) -> Option<Way>,
        accepting: bool,
        members: Option<Arc<dyn Membership>>,
    ) -> Result<Arc<Snapshot>, String>;

    /// Frees the ids of removed services and backends that no connection names any more. What
    /// went away later than `generation_everywhere`, the oldest generation a worker still uses,
    /// may yet get connections and is kept. True if anything was freed.
    fn release(
        &mut self,
        generation_everywhere: u64,
        has_connections: &dyn Fn(BackendId) -> bool,
    ) -> bool;

    /// Who has which id, removed ones included until they are released.
    fn names(&self) -> Names;
}

/// Everything `control::run` needs.
#[expect(missing_debug_implementations, reason = "a closure is among them")]
pub struct Parts<R, T, F, C> {
    /// In worker order.
    pub workers: Vec<WorkerPart>,
    /// In port order.
    pub taps: Vec<TapSpec>,
    /// The slow path's lanes.
    pub lanes: Lanes<R, T, F>,
    /// The configuration the daemon was started with.
    pub plan: Plan,
    /// As it is written.
    pub plan_files: Files,
    /// Where it came from, and where a reload reads again.
    pub plan_file: PathBuf,
    /// How configuration is read and compiled.
    pub configure: C,
    /// Makes lists of clients ready for lookup.
    pub make_members: MakeMembers,
    /// The sockets, taken before anything else was started.
    pub claims: Claims,
    /// Facts for `shunt status`.
    pub facts: StaticFacts,
    /// What ports' devices lose.
    pub devices: Devices,
    /// What the workers' time stamp counter says.
    pub ticks: fn() -> u64,
}
