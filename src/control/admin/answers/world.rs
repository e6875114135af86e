//! What requests are understood by: names, the snapshot that is in use, and the time.

use std::sync::Arc;

use crate::dataplane::snapshot::Snapshot;
use crate::ids::PortId;
use crate::stats::collect::Directory;

/// The world as it is while a request is answered.
#[derive(Debug)]
pub struct World<'a> {
    /// Names of ports, by id.
    pub ports: &'a [String],
    /// As published last.
    pub snapshot: &'a Arc<Snapshot>,
    /// Names of services and backends.
    pub directory: &'a Directory,
    /// How many workers there are.
    pub workers: usize,
    /// What the time stamp counter says now.
    pub ticks: u64,
    /// And how often it ticks a second.
    pub tsc_hz: u64,
}

impl World<'_> {
    /// The port of that name.
    pub fn port(&self, name: &str) -> Option<PortId> {
        let mut ports = (0..).map(PortId).zip(self.ports);
        ports.find(|(_, port)| *port == name).map(|(id, _)| id)
    }
}
