//! What a scheduler sees when it chooses, and what each worker remembers of a service.

use super::cache::{Cache, Member};
use super::method::{Flags, Flow, Scheduler};
use super::open::{self, Share};
use super::random::Random;
use super::tree::{self, Node, Rank};
use crate::dataplane::snapshot::{Row, Service, Snapshot};
use crate::ids::{BackendId, ServiceId, WorkerId};
use crate::stats::loads::{Load, Loads};

/// Trees a service has at most: as many as a method has ranks.
pub(super) const TREES: usize = 2;

/// Backends looked at in a millisecond, on average, for what no worker was told.
const LOOKED_AT: usize = 256;

/// What a worker remembers of one service from one choice to the next.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Turn {
    /// The service's life and revision this is about; 0 is none yet.
    pub(super) life: u64,
    pub(super) revision: u64,
    /// Who chose for it last.
    pub(super) scheduler: Option<Scheduler>,
    /// Backend chosen last.
    pub(super) last: Option<Place>,
    /// wrr: the weight a backend needs in this pass.
    pub(super) threshold: u32,
    /// wrr: the revision for which that was adjusted.
    pub(super) weighed: u64,
    /// The time of the chooser in which its tournaments were built; 0 is never.
    pub(super) grown: u64,
    /// The same of its tree of weights.
    pub(super) summed: u64,
    /// When they were last built anew because they knew of no place.
    pub(super) grown_again_ms: Option<u32>,
    /// The backend looked at last for other workers' changes.
    pub(super) look: u32,
}

impl Turn {
    /// For this life of the service: one that another had before is begun anew.
    #[inline]
    pub(super) fn follow(&mut self, service: &Service) {
        if self.life != service.life {
            *self = Self { life: service.life, ..Self::default() };
        }
    }

    /// For this revision of the service.
    #[cold]
    pub(super) fn change(&mut self, service: &Service) {
        let scheduler = Some(service.scheduling.scheduler);
        if self.scheduler.is_some() && self.scheduler != scheduler {
            *self = Self { life: self.life, ..Self::default() };
        }
        (self.scheduler, self.revision) = (scheduler, service.revision);
    }
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
    /// What is known of all of them together.
    pub(super) row: &'a Row,
    /// Is one whose next hop is not known passed over?
    asks_next_hop: bool,
}

impl<'a> Walk<'a> {
    #[inline]
    pub(super) fn new(
        snapshot: &'a Snapshot,
        row: &'a Row,
        service: &'a Service,
        loads: &'a Loads,
    ) -> Self {
        let (weights, sums) = snapshot.seats().weights(row);
        let reachable = snapshot.seats().reachable(row);
        let asks_next_hop = service.scheduling.scheduler.method().compares_loads;
        Self { snapshot, service, loads, weights, sums, reachable, row, asks_next_hop }
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
        self.row.is_limited
            && self.id(position).is_some_and(|id| {
                let limit = self.snapshot.backend(id).map(|backend| backend.limit);
                limit.is_some_and(|limit| self.loads.is_overloaded(id, limit))
            })
    }

    /// May it be chosen?
    #[inline]
    pub(super) fn is_open(&self, position: usize) -> bool {
        #[cfg(test)]
        super::tests::LOOKS.set(super::tests::LOOKS.get() + 1);
        self.weight(position) > 0 && !self.is_overloaded(position)
    }

    /// Is it open, and its next hop known? Who compares loads asks for that: one that gets no
    /// connection has the least, and would draw all of them.
    #[inline]
    pub(super) fn is_ready(&self, position: usize) -> bool {
        self.reachable.get(position).copied().unwrap_or(false) && self.is_open(position)
    }

    /// Does the method take it?
    #[inline]
    pub(super) fn takes(&self, position: usize) -> bool {
        if self.asks_next_hop { self.is_ready(position) } else { self.is_open(position) }
    }

    /// Its weight if the method takes it, else 0.
    #[inline]
    pub(super) fn open_weight(&self, position: usize) -> u32 {
        if self.takes(position) { self.weight(position) } else { 0 }
    }

    /// The age of the backend at `position`: [`Service::age`].
    #[inline]
    pub(super) fn age(&self, position: usize) -> Option<u64> {
        self.service.age(position)
    }

    /// Where a member stands in the list, if it is in it.
    #[inline]
    pub(super) fn seated(&self, member: Member) -> Option<usize> {
        if self.age(member.place) == Some(member.age) {
            return Some(member.place);
        }
        let position = self.service.first_below(member.age.saturating_add(1));
        (self.age(position) == Some(member.age)).then_some(position)
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
    /// The tournaments of this service.
    pub(super) nodes: &'a mut [Node],
    /// Its tree of weights.
    pub(super) shares: &'a mut [Share],
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
        let age = self.walk.age(position)?;
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

    /// Builds the tournaments if they are not of this time.
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

    /// Has the service any?
    #[inline]
    pub(super) fn has_trees(&self) -> bool {
        self.turn.grown | self.turn.summed != 0
    }

    /// Looks, and if there is nobody once more in trees that are built anew, if it is time for that:
    /// what other workers did without a word (limits that are not everybody's yet, ovf's room) is
    /// seen then.
    pub(super) fn look_again<T>(&mut self, look: impl Fn(&mut Self) -> Option<T>) -> Option<T> {
        let found = look(self);
        if found.is_some() || !self.is_time_to_look() { found } else { look(self) }
    }

    /// Has the list been walked so seldom lately that it may be again? A walk over [`LOOKED_AT`]
    /// backends a millisecond is what it comes to at most.
    #[cold]
    fn is_time_to_look(&mut self) -> bool {
        let now_ms = self.flow.now_ms;
        let every_ms = 1 + u32::try_from(self.walk.len() / LOOKED_AT).unwrap_or(u32::MAX);
        let last = self.turn.grown_again_ms;
        let is_young = |last: u32| now_ms.wrapping_sub(last) < every_ms;
        if self.workers == 1 || last.is_some_and(is_young) {
            return false;
        }
        self.turn.grown_again_ms = Some(now_ms);
        (self.turn.grown, self.turn.summed) = (0, 0);
        true
    }

    /// Brings one backend's place in the trees up to date.
    #[inline]
    pub(super) fn put_right(&mut self, position: usize) {
        let trees = Trees {
            nodes: if self.turn.grown == self.time { self.nodes } else { &mut [] },
            shares: if self.turn.summed == self.time { self.shares } else { &mut [] },
        };
        trees.put_right(&self.walk, position);
    }
}

/// A service's trees; those that are not built are empty.
pub(super) struct Trees<'a> {
    pub(super) nodes: &'a mut [Node],
    pub(super) shares: &'a mut [Share],
}

impl Trees<'_> {
    /// Brings one backend's place in them up to date.
    #[inline]
    pub(super) fn put_right(self, walk: &Walk<'_>, position: usize) {
        if !self.shares.is_empty() {
            open::change(self.shares, position, walk.open_weight(position));
        }
        let size = tree::size(walk.len());
        let Ok(seat) = u32::try_from(position) else { return };
        if self.nodes.is_empty() {
            return;
        }
        for which in 0..walk.service.scheduling.scheduler.method().ranks.len() {
            let tree = self.nodes.get_mut(which * size..(which + 1) * size).unwrap_or_default();
            tree::change(tree, seat, rank(walk, which, position));
        }
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
