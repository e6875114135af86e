//! Where each backend sits: what schedulers walk, side by side, and what follows from all of a
//! service's together.
//!
//! ```text
//! service     0            1      2
//! weights     3 2 1        5 5    1 …        in list order, newest first
//! sums        3 5 6        5 10   1 …
//! first       0            3      5          where each service's begin
//! room        0 (4)        4 (2)  6 (1) …    where its trees are, and leaves they may have
//! ```
//!
//! A worker's trees of a service outlive a snapshot unless something they are made of has changed. That is
//! told by a fingerprint, so that a reload of one service, or another next hop of one, costs the
//! others nothing. Room is a power of two, so a backend that comes or goes seldom moves the trees of the
//! services behind.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;

use super::{Limit, Service, Snapshot, Weighing};
use crate::ids::{BackendId, ServiceId};

/// A service as a whole.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    first: u32,
    count: u32,
    /// Where its trees are, in leaves.
    room: u32,
    /// Has a backend of it a limit?
    pub(crate) is_limited: bool,
    /// Has one weight, and its next hop is known?
    pub(crate) can_serve: bool,
    /// What follows from all weights.
    pub(crate) weighing: Weighing,
    /// Of all that its trees are made of, and of the limits alone.
    print: u64,
    limits: u64,
}

impl Row {
    /// Nobody's.
    const NONE: Self = Self {
        first: 0,
        count: 0,
        room: 0,
        is_limited: false,
        can_serve: false,
        weighing: Weighing { divisor: 0, largest: 0 },
        print: 0,
        limits: 0,
    };

    #[inline]
    fn seats(&self) -> Range<usize> {
        self.first as usize..(self.first + self.count) as usize
    }

    /// Where the service's tournaments are: two nodes for each of its backends.
    #[inline]
    pub(crate) fn nodes(&self, trees: usize) -> Range<usize> {
        let first = 2 * trees * self.room as usize;
        first..first + 2 * trees * self.count as usize
    }

    /// Where its tree of weights is: two nodes for each of as many leaves as its room has.
    #[inline]
    pub(crate) fn shares(&self) -> Range<usize> {
        let first = 2 * self.room as usize;
        first..first + 2 * room(self.count as usize)
    }
}

/// Weights in list order, and what follows from it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seats {
    /// By service id.
    rows: Box<[Row]>,
    weights: Box<[u32]>,
    /// A sum fits: 65,536 backends of weight 65,535.
    sums: Box<[u32]>,
    /// Is the next hop known?
    reachable: Box<[bool]>,
    /// Position in its service's list, by backend id.
    positions: Box<[u32]>,
}

impl Seats {
    /// The seats of a snapshot's services and backends.
    pub(super) fn new(snapshot: &Snapshot) -> Self {
        let mut seats =
            Builder { positions: vec![0; snapshot.backends.len()], ..Builder::default() };
        let rows = snapshot.services.iter().map(|service| match service {
            Some(service) => seats.service(snapshot, service),
            None => Row::NONE,
        });
        let rows = rows.collect();
        Self {
            rows,
            weights: seats.weights.into(),
            sums: seats.sums.into(),
            reachable: seats.reachable.into(),
            positions: seats.positions.into(),
        }
    }

    /// What is known of a service as a whole.
    #[inline]
    pub(crate) fn row(&self, service: ServiceId) -> &Row {
        self.rows.get(service.index()).unwrap_or(&Row::NONE)
    }

    /// The weights of a service's backends, and their sums up to each.
    #[inline]
    pub(crate) fn weights(&self, row: &Row) -> (&[u32], &[u32]) {
        let weights = self.weights.get(row.seats()).unwrap_or_default();
        (weights, self.sums.get(row.seats()).unwrap_or_default())
    }

    /// Are the next hops of a service's backends known?
    #[inline]
    pub(crate) fn reachable(&self, row: &Row) -> &[bool] {
        self.reachable.get(row.seats()).unwrap_or_default()
    }

    /// Services whose trees are not what they were made of, and whether limits are among it.
    pub(crate) fn changed<'a>(
        &'a self,
        now: &'a Self,
    ) -> impl Iterator<Item = (ServiceId, bool)> + 'a {
        let count = self.rows.len().max(now.rows.len());
        let ids = (0u32..).map(ServiceId).take(count);
        ids.filter_map(|id| {
            let (before, after) = (self.row(id), now.row(id));
            (before.print != after.print).then_some((id, before.limits != after.limits))
        })
    }

    /// The position of a backend in its service's list.
    #[inline]
    pub(crate) fn position(&self, backend: BackendId) -> usize {
        self.positions.get(backend.index()).map_or(0, |position| *position as usize)
    }
}

/// Most leaves that trees of so many backends have, however they are spread over services.
pub(crate) fn room_max(backends: usize) -> usize {
    2 * backends
}

/// Leaves of a tree.
fn room(backends: usize) -> usize {
    if backends == 0 { 0 } else { backends.next_power_of_two() }
}

/// Seats being taken.
#[derive(Default)]
struct Builder {
    room: u32,
    weights: Vec<u32>,
    sums: Vec<u32>,
    reachable: Vec<bool>,
    positions: Vec<u32>,
}

impl Builder {
    fn service(&mut self, snapshot: &Snapshot, service: &Service) -> Row {
        let first = u32::try_from(self.weights.len()).unwrap_or(u32::MAX);
        let count = u32::try_from(service.backends.len()).unwrap_or(u32::MAX);
        let mut row = Row { first, count, room: self.room, ..Row::NONE };
        let (mut print, mut limits) = (DefaultHasher::new(), DefaultHasher::new());
        (service.scheduling.scheduler, row.room).hash(&mut print);
        let mut sum = 0u32;
        for (position, id) in (0u32..).zip(&service.backends) {
            let backend = snapshot.backend(*id);
            let weight = backend.map_or(0, |backend| backend.weight);
            let limit = backend.map_or(Limit::NONE, |backend| backend.limit);
            let is_reachable = backend.is_some_and(|backend| backend.next_hop.is_some());
            row.is_limited |= limit.most > 0;
            row.can_serve |= weight > 0 && is_reachable;
            row.weighing = row.weighing.and(Weighing::of(weight));
            (id.0, limit.most, limit.least).hash(&mut limits);
            (weight, is_reachable).hash(&mut print);
            sum = sum.saturating_add(weight);
            self.weights.push(weight);
            self.sums.push(sum);
            self.reachable.push(is_reachable);
            if let Some(seat) = self.positions.get_mut(id.index()) {
                *seat = position;
            }
        }
        row.limits = limits.finish();
        row.limits.hash(&mut print);
        row.print = print.finish();
        self.room += u32::try_from(room(service.backends.len())).unwrap_or(u32::MAX);
        row
    }
}
