//! The books of connections: which are over, and what their end, or a change of state, means for
//! counters and loads.
//!
//! A backend's load is shared by all workers and a scheduler keeps an order by it, so whoever
//! changes it says so to both.

use super::clearing::Clearing;
use super::conn::key::Side;
use super::conn::record::{NewConnection, Record};
use super::conn::table::{Slot, Table};
use super::endings::{Cause, Endings};
use super::family::Family;
use super::flows::Flows;
use super::persistence::{self, Templates};
use super::quota;
use super::sched::Chooser;
use super::snapshot::{Limit, Snapshot};
use super::unanswered;
use crate::ids::BackendId;
use crate::stats::counters::WorkerStats;

/// While the daemon or a backend drains, how long a connection whose ends have both closed is kept for
/// stragglers: nobody waits two minutes for a `TIME_WAIT` that carries nothing.
const DRAIN_LINGER_MS: u32 = 1_000;

impl Flows {
    /// Removes a connection and counts it out.
    pub(super) fn forget<F: Family>(&mut self, slot: Slot) {
        let record = F::table(&self.tables).record(slot);
        count_down(&self.stats, &self.snapshot, &mut self.chooser, record);
        F::table_mut(&mut self.tables).remove(slot);
    }

    /// Removes a connection whose first packet has not gone: it was never there, and a backend that it
    /// would have filled was not full.
    pub(super) fn take_back<F: Family>(&mut self, slot: Slot, new: &NewConnection<F>) {
        self.enter_state::<F>(slot, new.state);
        self.give_up(new.backend_id);
        count_out(&self.stats, F::table(&self.tables).record(slot));
        F::table_mut(&mut self.tables).remove(slot);
    }

    /// A connection ends here: these sides of it will hear so.
    pub(super) fn announce<F: Family>(&mut self, slot: Slot, cause: Cause, sides: &[Side]) {
        let table = F::table(&self.tables);
        self.endings.announce((&self.snapshot, &self.stats), table, slot, (cause, sides));
    }

    /// Makes room in a full table, if somebody there can make way.
    #[cold]
    pub(super) fn reclaim<F: Family>(&mut self) {
        let hand = if F::IS_V6 { &mut self.reclaim_v6 } else { &mut self.reclaim_v4 };
        let victim = hand.victim(F::table(&self.tables), self.now_ms);
        let Some((slot, stage)) = victim else { return };
        self.announce::<F>(slot, Cause::Lapse, &[Side::Client, Side::Backend]);
        self.forget::<F>(slot);
        if let Some(counter) = self.stats.run.reclaimed.get(stage as usize) {
            counter.add(1);
        }
    }

    /// A connection of `backend` became active, or inactive.
    #[inline]
    pub(super) fn turned(&mut self, backend: BackendId, active: bool) {
        self.stats.loads.turn(backend, active);
        self.chooser.changed(&self.snapshot, &self.stats.loads, backend);
    }
}

/// Says which connections are over.
pub(super) struct Judge<'a> {
    pub(super) now_ms: u32,
    pub(super) snapshot: &'a Snapshot,
    pub(super) templates: Option<&'a Templates>,
    /// Connections that end because they are to.
    pub(super) clearing: Option<&'a Clearing>,
}

impl Judge<'_> {
    /// Says whether a connection is over; the template of one that lives does not end.
    #[inline(always)]
    pub(super) fn visit<F: Family>(&self, record: &Record<F>) -> bool {
        let over = self.is_over(record);
        if let Some(templates) = self.templates.filter(|_| !over) {
            persistence::refresh(templates, self.snapshot, record, self.now_ms);
        }
        over
    }

    #[inline(always)]
    fn is_over<F: Family>(&self, record: &Record<F>) -> bool {
        let Some(backend) = self.snapshot.backend(record.backend_id()) else { return true };
        let idle_ms = self.now_ms.wrapping_sub(record.seen_ms);
        let is_left = || backend.weight == 0 || !self.snapshot.accepting;
        idle_ms >= self.snapshot.timeout_ms(record.service_id(), record.state())
            || (record.state().is_reusable() && idle_ms >= DRAIN_LINGER_MS && is_left())
            || self.clearing.is_some_and(|clearing| clearing.is_about(record.backend_id()))
    }
}

/// Counts those out that the sweep finds to be over, and has their ends told.
pub(super) struct Ending<'a> {
    pub(super) stats: &'a WorkerStats,
    pub(super) snapshot: &'a Snapshot,
    pub(super) chooser: &'a mut Chooser,
    pub(super) endings: &'a mut Endings,
    pub(super) clearing: Option<&'a Clearing>,
    /// Of those that end, how many because they are to.
    pub(super) cleared: u64,
}

impl Ending<'_> {
    pub(super) fn end<F: Family>(&mut self, table: &Table<F>, slot: Slot) {
        let backend = table.record(slot).backend_id();
        let is_cleared = self.clearing.is_some_and(|clearing| clearing.is_about(backend));
        let is_removed = self.snapshot.backend(backend).is_none();
        let cause = if is_cleared || is_removed { Cause::Order } else { Cause::Lapse };
        let told: &[Side] = &[Side::Client, Side::Backend];
        self.endings.announce((self.snapshot, self.stats), table, slot, (cause, told));
        if is_cleared {
            self.stats.run.cleared.add(1);
            self.cleared += 1;
        } else {
            self.stats.run.expired.add(1);
        }
        if cause == Cause::Lapse {
            unanswered::lapsed(self.stats, table.record(slot));
        }
        count_down(self.stats, self.snapshot, self.chooser, table.record(slot));
    }
}

/// The place of a connection that was, or was not, active is free again.
pub(super) fn give_back(
    stats: &WorkerStats,
    snapshot: &Snapshot,
    chooser: &mut Chooser,
    backend: BackendId,
    was_active: bool,
) {
    let limit = snapshot.backend(backend).map_or(Limit::NONE, |backend| backend.limit);
    stats.loads.give_back(backend, was_active, limit);
    chooser.changed(snapshot, &stats.loads, backend);
}

/// The connection of `record` is over.
fn count_down<F: Family>(
    stats: &WorkerStats,
    snapshot: &Snapshot,
    chooser: &mut Chooser,
    record: &Record<F>,
) {
    give_back(stats, snapshot, chooser, record.backend_id(), record.state().is_active());
    count_out(stats, record);
}

/// The same, but for its place at its backend.
fn count_out<F: Family>(stats: &WorkerStats, record: &Record<F>) {
    let client = record.key(Side::Client).source().into();
    quota::leave(stats, record.service_id(), client, record.seat());
    stats.connections.down();
    if let Some(service) = stats.services.get(record.service_id().index()) {
        service.connections.down();
    }
    if let Some(backend) = stats.backends.get(record.backend_id().index()) {
        backend.connections.down();
    }
}
