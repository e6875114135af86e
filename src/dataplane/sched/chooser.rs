//! One worker's part in choosing backends: what it remembers of each service, its trees and its
//! cache of destinations.
//!
//! ```text
//! place()      settle what changed ─► pick ─► take a place ─┬─► the backend
//!                                      ▲                   └─ none left: somebody was faster
//!                                      └───────────────────────┘ at most TRIES times
//! ```
//!
//! A load that this worker changes is noted and played into the tree when the next backend is
//! chosen: a connection that is made and becomes active is one match up the tree, not two.
//!
//! Trees are built anew when the first connection comes after a new snapshot, since limits, weights
//! or the places of the trees may have changed: once, a walk over the service's backends. Their
//! memory is reserved at start, and the system's zero pages until it is used: the first connection
//! of each 30 or so backends meets a page fault, once.

use zerocopy::FromZeros;

use super::cache::Cache;
use super::choice::{self, Choice, TREES, Turn, Walk};
use super::method::Flow;
use super::random::Random;
use super::tree::{self, Node};
use crate::dataplane::snapshot::Snapshot;
use crate::ids::{BackendId, ServiceId, WorkerId, limits};
use crate::stats::loads::{Limit, Loads};

/// How often a backend is chosen whose last place another worker takes meanwhile.
const TRIES: usize = 8;

/// Changed loads that wait for the next choice.
const PENDING: usize = 32;

/// Chooses backends, and remembers what that takes.
#[derive(Debug)]
pub struct Chooser {
    worker: WorkerId,
    workers: u8,
    turns: Box<[Turn]>,
    nodes: Box<[Node]>,
    /// Counts snapshots, from 1.
    time: u64,
    pending: arrayvec::ArrayVec<BackendId, PENDING>,
    cache: Cache,
    random: Random,
}

impl Chooser {
    /// All memory is reserved here. Each worker starts elsewhere; `seed` is for what is drawn.
    pub fn new(worker: WorkerId, workers: u8, seed: u64) -> Self {
        let nodes = tree::size(limits::BACKENDS) * TREES;
        let nodes = <[Node]>::new_box_zeroed_with_elems(nodes);
        Self {
            worker,
            workers,
            turns: vec![Turn::default(); limits::SERVICES].into(),
            nodes: nodes.unwrap_or_else(|_| Box::default()),
            time: 1,
            pending: arrayvec::ArrayVec::new(),
            cache: Cache::default(),
            random: Random::new(seed),
        }
    }

    /// The next choice is made in another snapshot.
    pub fn renew(&mut self) {
        self.time += 1;
        self.pending.clear();
    }

    /// Destinations forgotten for want of room since the last call.
    pub fn take_forgotten(&mut self) -> u64 {
        self.cache.take_forgotten()
    }

    /// Chooses a backend for a new connection of a service and takes a place there, which is given
    /// back to `loads` when the connection is over. `None` if no backend is open.
    pub fn place(
        &mut self,
        snapshot: &Snapshot,
        loads: &Loads,
        service: ServiceId,
        flow: &Flow<'_>,
    ) -> Option<BackendId> {
        for _ in 0..TRIES {
            let backend = self.pick(snapshot, loads, service, flow)?;
            let limit = snapshot.backend(backend).map_or(Limit::NONE, |backend| backend.limit);
            let taken = loads.take(backend, limit);
            self.changed(snapshot, loads, backend);
            if taken {
                return Some(backend);
            }
        }
        None
    }

    /// The load of a backend was changed by this worker.
    #[inline]
    pub fn changed(&mut self, snapshot: &Snapshot, loads: &Loads, backend: BackendId) {
        if self.pending.last() == Some(&backend) {
            return;
        }
        if self.pending.is_full() {
            self.settle(snapshot, loads);
        }
        self.pending.push(backend);
    }

    fn pick(
        &mut self,
        snapshot: &Snapshot,
        loads: &Loads,
        id: ServiceId,
        flow: &Flow<'_>,
    ) -> Option<BackendId> {
        self.settle(snapshot, loads);
        let service = snapshot.service(id)?;
        let turn = self.turns.get_mut(id.index())?;
        if turn.life != service.life {
            // Another service has this id now: it starts like any new one.
            *turn = Turn { life: service.life, ..Turn::default() };
        }
        let has_changed = turn.revision != service.revision;
        turn.revision = service.revision;
        let walk = Walk::new(snapshot, id, service, loads);
        let nodes = self.nodes.get_mut(snapshot.seats().nodes(id, walk.len(), TREES))?;
        let mut choice = Choice {
            walk,
            id,
            flow,
            turn,
            has_changed,
            worker: self.worker,
            workers: self.workers,
            nodes,
            time: self.time,
            cache: &mut self.cache,
            random: &mut self.random,
        };
        let position = (service.scheduling.scheduler.method().pick)(&mut choice)?;
        walk.id(position)
    }

    /// Plays changed loads into the trees.
    fn settle(&mut self, snapshot: &Snapshot, loads: &Loads) {
        for id in self.pending.drain(..) {
            let Some(backend) = snapshot.backend(id) else { continue };
            let Some(service) = snapshot.service(backend.service) else { continue };
            if service.scheduling.scheduler.method().ranks.is_empty() {
                continue;
            }
            let turn = self.turns.get(backend.service.index());
            if turn.is_none_or(|turn| turn.grown != self.time) {
                continue;
            }
            let walk = Walk::new(snapshot, backend.service, service, loads);
            let place = snapshot.seats().nodes(backend.service, walk.len(), TREES);
            let nodes = self.nodes.get_mut(place).unwrap_or_default();
            choice::put_right(&walk, nodes, snapshot.seats().position(id));
        }
    }
}
