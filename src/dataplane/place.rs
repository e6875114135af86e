//! A place at a backend for a new connection: at the one the client is used to, or where the
//! scheduler says.
//!
//! ```text
//! persistent? ─► the client's template ─► usable, and room? ─┬─ yes ─► there
//!      │ no                                                  └─ no ──┐
//!      └─────────────────────────────────────────────────────────────┴─► scheduler ─► kept for next time
//! ```
//!
//! A place that is taken counts for the backend's load and limit at once, for all workers: who
//! takes one and makes no connection gives it up.

use super::flows::Flows;
use super::persistence::{Client, Kept, Persistence, Target};
use super::sched::Flow;
use super::snapshot::{Backend, Limit, Snapshot};
use crate::ids::{BackendId, ServiceId};

impl Flows {
    /// Takes a place for a connection of `flow`; `None` if no backend has one.
    pub(super) fn place(&mut self, service: ServiceId, flow: &Flow<'_>) -> Option<BackendId> {
        let terms = self.snapshot.service(service)?.persistence;
        let placed = match terms.filter(|_| self.templates.is_some()) {
            Some(terms) => self.place_persistent(service, flow, terms),
            None => self.chooser.place(&self.snapshot, &self.stats.loads, service, flow),
        };
        self.stats.run.forgotten_destinations.add(self.chooser.take_forgotten());
        placed
    }

    /// The place taken at a backend is not needed: nobody was there.
    pub(super) fn give_up(&mut self, backend: BackendId) {
        let limit = self.snapshot.backend(backend).map_or(Limit::NONE, |backend| backend.limit);
        self.stats.loads.give_up(backend, limit);
        self.chooser.changed(&self.snapshot, &self.stats.loads, backend);
    }

    fn place_persistent(
        &mut self,
        service: ServiceId,
        flow: &Flow<'_>,
        terms: Persistence,
    ) -> Option<BackendId> {
        let client = Client::of(flow.client, service, terms);
        let known = self.templates.as_ref()?.find(client, self.now_ms);
        let known = known.filter(|target| is_usable(&self.snapshot, *target, (service, terms)));
        let known = known.map(|target| target.backend);
        let backend = match known.filter(|backend| self.take(*backend)) {
            Some(backend) => backend,
            None => self.chooser.place(&self.snapshot, &self.stats.loads, service, flow)?,
        };
        // To itself a client gets no connection: its next try shall be another one's.
        if self.snapshot.backend(backend).is_some_and(|found| found.is_client(flow.client)) {
            return Some(backend);
        }
        let kept = self.keep(client, backend, (service, terms));
        // Another worker was quicker with this client: where it went, if there is room.
        if kept != backend && known != Some(kept) && self.take(kept) {
            self.give_up(backend);
            return Some(kept);
        }
        Some(backend)
    }

    /// Takes a place at this very backend; false if it has none.
    fn take(&mut self, backend: BackendId) -> bool {
        let limit = self.snapshot.backend(backend).map_or(Limit::NONE, |backend| backend.limit);
        let taken = self.stats.loads.take(backend, limit);
        self.chooser.changed(&self.snapshot, &self.stats.loads, backend);
        taken
    }

    /// Keeps the backend for the client's next connection, and says which is kept.
    fn keep(
        &mut self,
        client: Client,
        backend: BackendId,
        terms: (ServiceId, Persistence),
    ) -> BackendId {
        // One that cannot be reached yet is not what a client shall be used to.
        let reachable = |found: &&Backend| found.next_hop.is_some();
        let Some(found) = self.snapshot.backend(backend).filter(reachable) else { return backend };
        let usable = |target| is_usable(&self.snapshot, target, terms);
        let (times, target) = ((self.now_ms, terms.1.timeout_ms), Target::of(backend, found));
        let templates = self.templates.as_ref();
        match templates.map_or(Kept::Not, |all| all.keep(client, target, times, usable)) {
            Kept::Here(kept) => kept.backend,
            Kept::Evicted(kept) => {
                self.stats.run.templates_evicted.add(1);
                kept.backend
            }
            Kept::Not => {
                self.stats.run.templates_missed.add(1);
                backend
            }
        }
    }
}

/// A backend that is gone, cannot be reached, or gets no new clients, gets none of its old ones
/// either, unless asked for (IPVS: `expire_quiescent_template=1`; its default is the other way
/// round). Nor does another one that has its id by now.
fn is_usable(
    snapshot: &Snapshot,
    target: Target,
    (service, terms): (ServiceId, Persistence),
) -> bool {
    let found = snapshot.backend(target.backend);
    found.is_some_and(|backend| {
        backend.service == service
            && Target::of(target.backend, backend) == target
            && backend.next_hop.is_some()
            && (backend.weight > 0 || terms.to_drained)
    })
}
