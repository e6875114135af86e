//! One worker's part in choosing backends: what it remembers of each service, its trees and its
//! cache of destinations.
//!
//! ```text
//! place()      settle what changed ─► pick ─► take a place ─┬─► the backend
//!                                      ▲                   └─ none left: somebody was faster
//!                                      └───────────────────────┘ at most TRIES times
//! ```
//!
//! A load that this worker changes is noted and played into the trees when the next backend is
//! chosen: a connection that is made and becomes active is one match up the tree, not two.
//!
//! Trees are built when first asked for, and outlive a snapshot that changes nothing they are made
//! of: limits, weights, which next hops are known, or where the trees lie. Else they are built
//! anew when the next connection comes: once, a walk over the service's backends. Their
//! memory is reserved at start, and the system's zero pages until it is used: the first connection
//! of each 30 or so backends meets a page fault, once.

use zerocopy::FromZeros;

use super::cache::Cache;
use super::choice::{Choice, TREES, Trees, Turn, Walk};
use super::method::Flow;
use super::open::Share;
use super::random::Random;
use super::tree::{self, Node};
use crate::dataplane::snapshot::{Snapshot, room_max};
use crate::ids::{BackendId, ServiceId, WorkerId, limits};
use crate::stats::loads::{Limit, Loads};
use crate::stats::reopened::News;

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
    shares: Box<[Share]>,
    /// Trees of another time are old.
    time: u64,
    pending: arrayvec::ArrayVec<BackendId, PENDING>,
    /// Was any tree ever built? Before, nobody need hear of loads.
    has_trees: bool,
    /// The last it heard of backends that other workers reopened.
    heard: u64,
    cache: Cache,
    random: Random,
}

impl Chooser {
    /// All memory is reserved here. Each worker starts elsewhere; `seed` is for what is drawn.
    pub fn new(worker: WorkerId, workers: u8, seed: u64) -> Self {
        let leaves = room_max(limits::BACKENDS);
        let nodes = <[Node]>::new_box_zeroed_with_elems(tree::size(leaves) * TREES);
        let shares = <[Share]>::new_box_zeroed_with_elems(2 * leaves);
        Self {
            worker,
            workers,
            turns: vec![Turn::default(); limits::SERVICES].into(),
            nodes: nodes.unwrap_or_else(|_| Box::default()),
            shares: shares.unwrap_or_else(|_| Box::default()),
            time: 1,
            pending: arrayvec::ArrayVec::new(),
            has_trees: false,
            heard: 0,
            cache: Cache::default(),
            random: Random::new(seed),
        }
    }

    /// The next choice is made in another snapshot.
    pub fn renew(&mut self, before: &Snapshot, now: &Snapshot, loads: &Loads) {
        self.settle(before, loads);
        for (id, are_limits_others) in before.seats().changed(now.seats()) {
            if let Some(turn) = self.turns.get_mut(id.index()) {
                (turn.grown, turn.summed) = (0, 0);
            }
            if are_limits_others {
                lift_marks(before, now, loads, id);
            }
        }
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

    /// Is there a backend for a new connection of a service? Some may say no all the same: ovf where
    /// all have more than their weight, a hash without fallback.
    pub fn has_place(
        &mut self,
        snapshot: &Snapshot,
        loads: &Loads,
        service: ServiceId,
        flow: &Flow<'_>,
    ) -> bool {
        let row = snapshot.seats().row(service);
        if !row.can_serve || !row.is_limited {
            return row.can_serve;
        }
        self.settle(snapshot, loads);
        let Some(mut choice) = self.choice(snapshot, loads, service, flow) else { return false };
        let is_open = choice.is_any_open();
        self.has_trees |= choice.has_trees();
        is_open
    }

    /// The load of a backend was changed by this worker.
    #[inline]
    pub fn changed(&mut self, snapshot: &Snapshot, loads: &Loads, backend: BackendId) {
        if !self.has_trees || self.pending.last() == Some(&backend) {
            return;
        }
        if self.pending.is_full() {
            self.settle(snapshot, loads);
        }
        self.pending.push(backend);
    }

    /// The backend that a new connection of a service would get. No place is taken there, so nothing is
    /// to be given back.
    pub(in crate::dataplane) fn pick(
        &mut self,
        snapshot: &Snapshot,
        loads: &Loads,
        id: ServiceId,
        flow: &Flow<'_>,
    ) -> Option<BackendId> {
        self.settle(snapshot, loads);
        let mut choice = self.choice(snapshot, loads, id, flow)?;
        let walk = choice.walk;
        if choice.has_changed {
            choice.turn.change(walk.service);
        }
        let position = (walk.service.scheduling.scheduler.method().pick)(&mut choice);
        let (has_trees, backend) = (choice.has_trees(), position.and_then(|at| walk.id(at)));
        self.has_trees |= has_trees;
        backend
    }

    /// What a scheduler sees of a service.
    #[inline(always)]
    fn choice<'a>(
        &'a mut self,
        snapshot: &'a Snapshot,
        loads: &'a Loads,
        id: ServiceId,
        flow: &'a Flow<'_>,
    ) -> Option<Choice<'a>> {
        let service = snapshot.service(id)?;
        let turn = self.turns.get_mut(id.index())?;
        turn.follow(service);
        let row = snapshot.seats().row(id);
        Some(Choice {
            walk: Walk::new(snapshot, row, service, loads),
            id,
            flow,
            has_changed: turn.revision != service.revision,
            turn,
            worker: self.worker,
            workers: self.workers,
            nodes: self.nodes.get_mut(row.nodes(TREES))?,
            shares: self.shares.get_mut(row.shares())?,
            time: self.time,
            cache: &mut self.cache,
            random: &mut self.random,
        })
    }

    /// Plays changed loads into the trees.
    #[inline]
    fn settle(&mut self, snapshot: &Snapshot, loads: &Loads) {
        while let Some(id) = self.pending.pop() {
            self.play(snapshot, loads, id);
        }
        if self.workers > 1 {
            self.hear(snapshot, loads);
        }
    }

    /// What the other workers say.
    fn hear(&mut self, snapshot: &Snapshot, loads: &Loads) {
        while let Some(news) = loads.reopened().next(&mut self.heard) {
            match news {
                News::Open(id) => self.play(snapshot, loads, id),
                News::Missed => self.time += 1,
            }
        }
    }

    /// Plays a backend's load into the trees of its service, as far as there are any.
    #[inline]
    fn play(&mut self, snapshot: &Snapshot, loads: &Loads, id: BackendId) {
        let Some(backend) = snapshot.backend(id) else { return };
        let Some(turn) = self.turns.get(backend.service.index()) else { return };
        let (has_nodes, has_shares) = (turn.grown == self.time, turn.summed == self.time);
        if !has_nodes && !has_shares {
            return;
        }
        let Some(service) = snapshot.service(backend.service) else { return };
        let row = snapshot.seats().row(backend.service);
        // Without limits a load opens and closes nobody.
        let (nodes, shares) = (row.nodes(TREES), row.shares());
        let trees = Trees {
            nodes: self.nodes.get_mut(if has_nodes { nodes } else { 0..0 }).unwrap_or_default(),
            shares: self
                .shares
                .get_mut(if has_shares && row.is_limited { shares } else { 0..0 })
                .unwrap_or_default(),
        };
        let walk = Walk::new(snapshot, row, service, loads);
        trees.put_right(&walk, snapshot.seats().position(id));
    }
}

/// Limits that are higher now, or gone: what was full under those before need not be.
fn lift_marks(before: &Snapshot, now: &Snapshot, loads: &Loads, service: ServiceId) {
    let ids = now.service(service).map_or(&[][..], |service| &service.backends);
    for id in ids {
        let (Some(old), Some(new)) = (before.backend(*id), now.backend(*id)) else { continue };
        let is_raised = new.limit.most == 0 || new.limit.most > old.limit.most;
        if old.limit.most > 0 && is_raised {
            loads.raised(*id, new.limit);
        }
    }
}
