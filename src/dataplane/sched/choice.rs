//! What a scheduler sees when it chooses, and what each worker remembers of a service.

use super::cache::Cache;
use super::method::{Flags, Flow};
use super::random::Random;
use super::tree::{self, Node, Rank};
use crate::dataplane::snapshot::{Service, Snapshot};
use crate::ids::{BackendId, ServiceId, WorkerId};
use crate::stats::loads::{Load, Loads};

/// Trees a service has at most: as many as a method has ranks.
pub(super) const TREES: usize = 2;

/// What a worker remembers of one service from one choice to the next.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Turn {
    /// The service's life and revision this is about; 0 is none yet.
    pub(super) life: u64,
    pub(super) revision: u64,
    /// Backend chosen last.
    pub(super) last: Option<Place>,
    /// wrr: the weight a backend needs in this pass.
    pub(super) threshold: u32,
    /// wrr: greatest common divisor of the weights above zero, and where passes start over.
    pub(super) step: u32,
    pub(super) top: u32,
    /// The time of the chooser in which the trees were built; 0 is never.
    pub(super) grown: u64,
    /// When they were last built anew because they knew of no place.
    pub(super) grown_again_ms: Option<u32>,
    /// The backend looked at last for other workers' changes.
    pub(super) look: u32,
}

/// A place in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) position: usize,
    /// That of the backend that was there: [`Service::age`].
    pub(super) age: u64,
}

/// A service's backends, by position in the list.
#[derive(Clone, Copy)]
pub(super) struct Walk<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) service: &'a Service,
    pub(super) loads: &'a Loads,
    /// Side by side, so that a walk over many costs few cache lines.
    pub(super) weights: &'a [u32],
    /// Sums of the weights up to and with each.
    pub(super) sums: &'a [u32],
    /// Are their next hops known?
    reachable: &'a [bool],
    /// Has any of them a limit?
    pub(super) is_limited: bool,
}

impl<'a> Walk<'a> {
    pub(super) fn new(
        snapshot: &'a Snapshot,
        id: ServiceId,
        service: &'a Service,
        loads: &'a Loads,
    ) -> Self {
        let seats = snapshot.seats();
        let count = service.backends.len();
        let (weights, sums) = seats.weights(id, count);
        let (reachable, is_limited) = (seats.reachable(id, count), seats.is_limited(id));
        Self { snapshot, service, loads, weights, sums, reachable, is_limited }
    }

    #[inline]
    pub(super) fn len(&self) -> usize {
        self.weights.len()
    }

    #[inline]
    pub(super) fn weight(&self, position: usize) -> u32 {
        self.weights.get(position).copied().unwrap_or(0)
    }

    #[inline]
    pub(super) fn id(&self, position: usize) -> Option<BackendId> {
        self.service.backends.get(position).copied()
    }

    #[inline]
    pub(super) fn load(&self, position: usize) -> Load {
        self.id(position).map_or_else(Load::default, |id| self.loads.of(id))
    }

    /// Has it had enough?
    #[inline]
    pub(super) fn is_overloaded(&self, position: usize) -> bool {
        self.is_limited
            && self.id(position).is_some_and(|id| {
                let limit = self.snapshot.backend(id).map(|backend| backend.limit);
                limit.is_some_and(|limit| self.loads.is_overloaded(id, limit))
            })
    }

    /// May it be chosen?
    #[inline]
    pub(super) fn is_open(&self, position: usize) -> bool {
        self.weight(position) > 0 && !self.is_overloaded(position)
    }

    /// Is it open, and its next hop known? Who compares loads asks for that: one that gets no
    /// connection has the least, and would draw all of them.
    #[inline]
    pub(super) fn is_ready(&self, position: usize) -> bool {
        self.reachable.get(position).copied().unwrap_or(false) && self.is_open(position)
    }

    /// All positions from `position` on, round the end.
    pub(super) fn round_from(&self, position: usize) -> impl Iterator<Item = usize> + use<> {
        let count = self.len();
        (position..count).chain(0..position.min(count))
    }

    /// The first open one from `position` on, round the end.
    pub(super) fn open_from(&self, position: usize) -> Option<usize> {
        self.round_from(position).find(|position| self.is_open(*position))
    }

    /// The first ready one from `position` on, round the end.
    pub(super) fn ready_from(&self, position: usize) -> Option<usize> {
        self.round_from(position).find(|position| self.is_ready(*position))
    }

    /// Where a backend stands in the list, if it is in it.
    #[inline]
    pub(super) fn seated(&self, backend: BackendId) -> Option<usize> {
        let position = self.snapshot.seats().position(backend);
        (self.id(position) == Some(backend)).then_some(position)
    }
}

/// What a scheduler sees when it chooses.
pub(super) struct Choice<'a> {
    pub(super) walk: Walk<'a>,
    pub(super) id: ServiceId,
    pub(super) flow: &'a Flow<'a>,
    pub(super) turn: &'a mut Turn,
    /// Have the backends, their order or weights changed since the last choice?
    pub(super) has_changed: bool,
    pub(super) worker: WorkerId,
    pub(super) workers: u8,
    /// The trees of this service.
    pub(super) nodes: &'a mut [Node],
    /// The chooser's time: trees of another are old.
    pub(super) time: u64,
    pub(super) cache: &'a mut Cache,
    pub(super) random: &'a mut Random,
}

impl Choice<'_> {
    #[inline]
    pub(super) fn flags(&self) -> Flags {
        self.walk.service.scheduling.flags
    }

    /// Where this worker starts, so that workers do not all begin with the same backend.
    pub(super) fn start(&self) -> usize {
        self.worker.index() * self.walk.len() / usize::from(self.workers.max(1))
    }

    /// Notes that the backend at `position` was chosen.
    #[inline]
    pub(super) fn choose(&mut self, position: usize) -> Option<usize> {
        let age = self.walk.service.age(position)?;
        self.turn.last = Some(Place { position, age });
        Some(position)
    }

    /// The rank number `which` of the backend at `position`, as its load is now.
    #[inline]
    pub(super) fn rank(&self, which: usize, position: usize) -> Rank {
        rank(&self.walk, which, position)
    }

    /// The tree of rank number `which`.
    #[inline]
    pub(super) fn tree(&mut self, which: usize) -> &mut [Node] {
        let size = tree::size(self.walk.len());
        self.nodes.get_mut(which * size..(which + 1) * size).unwrap_or_default()
    }

    /// Builds the trees if they are not of this time.
    #[inline]
    pub(super) fn grow(&mut self) {
        if self.turn.grown != self.time {
            self.turn.grown = self.time;
            let walk = self.walk;
            for which in 0..walk.service.scheduling.scheduler.method().ranks.len() {
                tree::build(self.tree(which), |position| rank(&walk, which, position));
            }
        }
    }

    /// Builds the trees anew, unless that has been done in this millisecond.
    #[cold]
    pub(super) fn grow_again(&mut self) -> bool {
        let now_ms = Some(self.flow.now_ms);
        if self.turn.grown_again_ms == now_ms {
            return false;
        }
        self.turn.grown_again_ms = now_ms;
        self.turn.grown = 0;
        self.grow();
        true
    }

    /// Brings one backend's place in the trees up to date.
    #[inline]
    pub(super) fn put_right(&mut self, position: usize) {
        let walk = self.walk;
        put_right(&walk, self.nodes, position);
    }
}

/// Brings one backend's place in a service's trees up to date.
#[inline]
pub(super) fn put_right(walk: &Walk<'_>, nodes: &mut [Node], position: usize) {
    let size = tree::size(walk.len());
    let Ok(seat) = u32::try_from(position) else { return };
    for which in 0..walk.service.scheduling.scheduler.method().ranks.len() {
        let tree = nodes.get_mut(which * size..(which + 1) * size).unwrap_or_default();
        tree::change(tree, seat, rank(walk, which, position));
    }
}

#[inline]
fn rank(walk: &Walk<'_>, which: usize, position: usize) -> Rank {
    let Some(rank) = walk.service.scheduling.scheduler.method().ranks.get(which) else {
        return Rank::NEVER;
    };
    if !walk.is_ready(position) {
        return Rank::NEVER;
    }
    rank(walk.load(position), walk.weight(position))
}
