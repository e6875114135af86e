//! Forgetting: a bounded sweep, paced by the clock.
//!
//! A packet costs the timers nothing: it writes `seen_ms` into a line it writes anyway. The sweep
//! walks the records in order, a few each poll, the next ones prefetched, at the pace that takes
//! it once around every [`ROUND_MS`]. A connection is thus forgotten at most that much after its
//! timeout, and a timeout change applies to every connection at once.
//!
//! A step goes over its records twice: first all are judged, and for those that are over the buckets of the
//! index are asked for; then these are removed. One by one, each end would wait for memory twice.
//!
//! Why no timer wheel: arming one costs a cold line per packet or per state change; walking 64
//! bytes in order costs next to nothing (the hardware prefetcher's favourite), 1 % of a core at
//! ten million connections.

use arrayvec::ArrayVec;

use super::record::Record;
use super::table::{Slot, Table};
use crate::dataplane::family::Family;

/// Time of a round over all records.
pub const ROUND_MS: u32 = 2_000;

/// Most records looked at in one poll.
pub const STEP_MAX: u32 = 64;

/// Records asked for ahead of the one looked at.
const AHEAD: u32 = 8;

/// Where the sweep stands.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sweep {
    cursor: u32,
    /// Records owed, in records × [`ROUND_MS`].
    owed: u64,
    last_ms: u32,
    /// Where the round that is watched began, whether the end has been passed since, and whether it is
    /// over, which it stays.
    began: u32,
    passed: bool,
    done: bool,
}

impl Sweep {
    /// Is more due than one step was allowed to do?
    #[inline(always)]
    pub fn is_behind(&self) -> bool {
        self.owed >= u64::from(ROUND_MS)
    }

    /// From here on a round is watched.
    pub fn watch(&mut self) {
        (self.began, self.passed, self.done) = (self.cursor, false, false);
    }

    /// Has every record been looked at since, that was there then?
    pub fn is_round(&self, used: u32) -> bool {
        used == 0 || self.done
    }

    /// Looks at the records that are due by `now_ms`; those for which `is_over` holds are
    /// described to `ended` and removed.
    #[inline]
    pub fn run<F: Family>(
        &mut self,
        table: &mut Table<F>,
        now_ms: u32,
        is_over: impl Fn(&Record<F>) -> bool,
        mut ended: impl FnMut(&Table<F>, Slot),
    ) {
        let elapsed = now_ms.wrapping_sub(self.last_ms);
        self.last_ms = now_ms;
        let round = u64::from(table.used()) * u64::from(ROUND_MS);
        self.owed = (self.owed + u64::from(elapsed) * u64::from(table.used())).min(round);
        let due = (self.owed / u64::from(ROUND_MS)).min(u64::from(STEP_MAX));
        if due == 0 {
            return;
        }
        self.owed -= due * u64::from(ROUND_MS);
        let mut over = ArrayVec::<Slot, { STEP_MAX as usize }>::new();
        for _ in 0..due {
            if let Some(slot) = self.step(table, &is_over) {
                // There is room for a whole step.
                over.try_push(slot).ok();
            }
        }
        for slot in &over {
            ended(table, *slot);
            table.remove(*slot);
        }
    }

    /// Looks at the next record; its slot if it is over.
    #[inline(always)]
    fn step<F: Family>(
        &mut self,
        table: &Table<F>,
        is_over: &impl Fn(&Record<F>) -> bool,
    ) -> Option<Slot> {
        let slot = Slot(self.cursor);
        table.prefetch_record(Slot((self.cursor + AHEAD).min(table.used() - 1)));
        self.advance(table.used());
        let record = table.record(slot);
        let is_over = record.is_live() && is_over(record);
        if is_over {
            table.prefetch_end(slot);
        }
        is_over.then_some(slot)
    }

    #[inline(always)]
    fn advance(&mut self, used: u32) {
        let is_last = self.cursor + 1 >= used;
        self.passed |= is_last;
        self.cursor = if is_last { 0 } else { self.cursor + 1 };
        self.done |= self.passed && self.cursor >= self.began;
    }
}
