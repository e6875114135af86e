//! Who gets a new connection.
//!
//! A scheduler is one small file with one function and one line in [`pick`]. What it remembers
//! between two connections of a service is a [`Turn`], kept by each worker for itself: one worker
//! reproduces IPVS's recorded sequences exactly, several start at different backends.
//!
//! All of them walk [`Service::backends`], which is *newest first*, and take only backends whose
//! weight is above zero. When the set, order or weights change (`Service::revision`), the turn is
//! adjusted as IPVS adjusts its own.

mod rr;
mod wrr;

use super::snapshot::{Scheduler, Service, Snapshot};
use crate::ids::{BackendId, WorkerId};

/// What a worker's scheduler remembers of one service.
#[derive(Clone, Copy, Debug, Default)]
pub struct Turn {
    /// The service's revision this is about; 0 is none yet.
    revision: u64,
    /// Backend chosen last, and the one before it in the list: where to go on if it is deleted.
    last: Option<Place>,
    before: Option<BackendId>,
    /// wrr: the weight a backend needs in this pass.
    threshold: u32,
    /// wrr: greatest common divisor of the weights above zero, and where passes start over.
    step: u32,
    top: u32,
}

/// A backend and where it stood in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    backend: BackendId,
    position: usize,
}

/// Chooses a backend for a new connection of `service`, or `None` if none is eligible.
pub fn pick(
    snapshot: &Snapshot,
    service: &Service,
    turn: &mut Turn,
    worker: WorkerId,
) -> Option<BackendId> {
    let walk = Walk { snapshot, backends: &service.backends };
    let changed = turn.revision != service.revision;
    turn.revision = service.revision;
    match service.scheduler {
        Scheduler::Rr => rr::pick(&walk, turn, changed, worker),
        Scheduler::Wrr => wrr::pick(&walk, turn, changed, worker),
    }
}

/// A service's backends, by position in the list.
struct Walk<'a> {
    snapshot: &'a Snapshot,
    backends: &'a [BackendId],
}

impl Walk<'_> {
    fn weight(&self, position: usize) -> u32 {
        let id = self.backends.get(position).copied();
        id.and_then(|id| self.snapshot.backend(id)).map_or(0, |backend| backend.weight)
    }

    fn len(&self) -> usize {
        self.backends.len()
    }

    fn position_of(&self, backend: BackendId) -> Option<usize> {
        self.backends.iter().position(|id| *id == backend)
    }

    /// Notes that the backend at `position` was chosen.
    fn choose(&self, turn: &mut Turn, position: usize) -> Option<BackendId> {
        let backend = *self.backends.get(position)?;
        turn.last = Some(Place { backend, position });
        turn.before = position.checked_sub(1).and_then(|p| self.backends.get(p)).copied();
        Some(backend)
    }
}

#[cfg(test)]
mod tests;
