//! Where each backend sits: what schedulers walk, side by side.
//!
//! ```text
//! service     0            1      2
//! weights     3 2 1        5 5    1 …        in list order, newest first
//! sums        3 5 6        5 10   1 …
//! first       0            3      5          where each service's begin; its trees too
//! ```

use std::ops::Range;

use super::Snapshot;
use crate::ids::{BackendId, ServiceId};

/// Weights in list order, and what follows from it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seats {
    /// By service id.
    first: Box<[u32]>,
    /// Has a backend of the service a limit? By service id.
    limited: Box<[bool]>,
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
        let (mut first, mut limited) = (vec![], vec![]);
        let (mut weights, mut sums, mut reachable) = (vec![], vec![], vec![]);
        let mut positions = vec![0; snapshot.backends.len()];
        let mut seats = 0;
        for service in &snapshot.services {
            first.push(seats);
            let (mut sum, mut is_limited) = (0u32, false);
            let ids = service.iter().flat_map(|service| service.backends.iter());
            for (position, id) in (0u32..).zip(ids) {
                let backend = snapshot.backend(*id);
                let weight = backend.map_or(0, |backend| backend.weight);
                is_limited |= backend.is_some_and(|backend| backend.limit.most > 0);
                sum = sum.saturating_add(weight);
                weights.push(weight);
                sums.push(sum);
                reachable.push(backend.is_some_and(|backend| backend.next_hop.is_some()));
                if let Some(seat) = positions.get_mut(id.index()) {
                    *seat = position;
                }
                seats += 1;
            }
            limited.push(is_limited);
        }
        Self {
            first: first.into(),
            limited: limited.into(),
            weights: weights.into(),
            sums: sums.into(),
            reachable: reachable.into(),
            positions: positions.into(),
        }
    }

    fn first(&self, service: ServiceId) -> usize {
        self.first.get(service.index()).map_or(0, |first| *first as usize)
    }

    /// The weights of a service's `count` backends, and their sums up to each.
    #[inline]
    pub(crate) fn weights(&self, service: ServiceId, count: usize) -> (&[u32], &[u32]) {
        let seats = self.first(service)..self.first(service) + count;
        let weights = self.weights.get(seats.clone()).unwrap_or_default();
        (weights, self.sums.get(seats).unwrap_or_default())
    }

    /// Are the next hops of a service's `count` backends known?
    #[inline]
    pub(crate) fn reachable(&self, service: ServiceId, count: usize) -> &[bool] {
        let first = self.first(service);
        self.reachable.get(first..first + count).unwrap_or_default()
    }

    /// Where the service's trees are: two nodes for each of `leaves`.
    #[inline]
    pub(crate) fn nodes(&self, service: ServiceId, leaves: usize, trees: usize) -> Range<usize> {
        let first = 2 * trees * self.first(service);
        first..first + 2 * leaves * trees
    }

    /// Has a backend of the service a limit?
    #[inline]
    pub(crate) fn is_limited(&self, service: ServiceId) -> bool {
        self.limited.get(service.index()).copied().unwrap_or(false)
    }

    /// The position of a backend in its service's list.
    #[inline]
    pub(crate) fn position(&self, backend: BackendId) -> usize {
        self.positions.get(backend.index()).map_or(0, |position| *position as usize)
    }
}
