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
//! While the table is nearly full, those that could make way are remembered by the way ([`super::candidates`]).
//!
//! Why no timer wheel: arming one costs a cold line per packet or per state change; walking 64
//! bytes in order costs next to nothing (the hardware prefetcher's favourite), 1 % of a core at
//! ten million connections.

use arrayvec::ArrayVec;

use super::candidates::Candidates;
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
    /// described to `ended` and removed. In a table that is nearly full the others are shown to
    /// `candidates`.
    #[inline]
    pub fn run<F: Family>(
        &mut self,
        table: &mut Table<F>,
        now_ms: u32,
        candidates: &mut Candidates,
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
        let mut candidates = table.is_nearly_full().then_some(candidates);
        let mut over = ArrayVec::<Slot, { STEP_MAX as usize }>::new();
        for _ in 0..due {
            if let Some(slot) = self.step(table, &is_over, candidates.as_deref_mut()) {
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
        candidates: Option<&mut Candidates>,
    ) -> Option<Slot> {
        let slot = Slot(self.cursor);
        table.prefetch_record(Slot((self.cursor + AHEAD).min(table.used() - 1)));
        self.advance(table.used());
        let record = table.record(slot);
        let is_over = record.is_live() && is_over(record);
        if is_over {
            table.prefetch_end(slot);
        } else if let Some(candidates) = candidates.filter(|_| record.is_live()) {
            candidates.meet(slot, record);
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

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeSet;
    use std::net::Ipv4Addr;

    use super::*;
    use crate::dataplane::conn::index::Seed;
    use crate::dataplane::conn::key::{FlowKey, Side};
    use crate::dataplane::conn::record::{NewConnection, Way};
    use crate::dataplane::conn::state::State;
    use crate::dataplane::snapshot::ClientAddress;
    use crate::dataplane::sources::Seat;
    use crate::ids::{BackendId, PortId, ServiceId};
    use crate::wire::Mac;

    fn connection(port: u16) -> NewConnection {
        let (client, vip) = (Ipv4Addr::new(192, 0, 2, 2), Ipv4Addr::new(198, 51, 100, 10));
        let (backend, local) = (Ipv4Addr::new(10, 44, 0, 11), Ipv4Addr::new(10, 44, 0, 2));
        NewConnection {
            client: FlowKey::new(6, (client, port), (vip, 80)),
            backend: FlowKey::new(6, (backend, 8080), (local, port)),
            service: ServiceId(0),
            backend_id: BackendId(0),
            client_mac: Mac([0; 6]),
            client_port: PortId(0),
            state: State::Udp,
            way: Way::Translated,
            introduction: ClientAddress::None,
            seat: Seat::NONE,
        }
    }

    /// A sweep over a table, and the client ports of the records it has looked at.
    struct Rounds {
        table: Table<Ipv4Addr>,
        sweep: Sweep,
        now_ms: u32,
        looked_at: BTreeSet<u16>,
    }

    impl Rounds {
        fn of(records: u16) -> Self {
            let table = Table::new(4096, Seed([1, 2])).unwrap();
            let (sweep, looked_at) = (Sweep::default(), BTreeSet::new());
            let mut rounds = Self { table, sweep, now_ms: 0, looked_at };
            rounds.add(0..records);
            rounds
        }

        fn add(&mut self, ports: std::ops::Range<u16>) {
            for port in ports {
                self.table.insert(&connection(port), 0).unwrap();
            }
        }

        fn pass(&mut self, ms: u32, is_over: impl Fn(u16) -> bool) {
            self.now_ms += ms;
            let looked_at = RefCell::new(&mut self.looked_at);
            let visit = |record: &Record<Ipv4Addr>| {
                let port = record.key(Side::Client).source_port();
                looked_at.borrow_mut().insert(port);
                is_over(port)
            };
            let candidates = &mut Candidates::default();
            self.sweep.run(&mut self.table, self.now_ms, candidates, visit, |_, _| {});
        }

        fn is_round(&self) -> bool {
            self.sweep.is_round(self.table.used())
        }
    }

    /// From whichever record on it is watched: not sooner than all have been looked at, not later, and
    /// what is done stays done, however far the sweep goes and whatever comes.
    #[test]
    fn a_round_is_done_when_all_have_been_looked_at_and_stays_done() {
        for start in 0..10 {
            let mut rounds = Rounds::of(10);
            rounds.pass(start * ROUND_MS / 10, |_| false);
            rounds.sweep.watch();
            rounds.looked_at.clear();
            for step in 1..=10 {
                assert!(!rounds.is_round(), "from {start}: {step}");
                rounds.pass(ROUND_MS / 10, |_| false);
                assert_eq!(rounds.looked_at.len(), step, "one after the other");
            }
            for more in 10..40 {
                assert!(rounds.is_round(), "from {start}");
                rounds.add(more..more + 1);
                rounds.pass(ROUND_MS / 7, |_| false);
            }
            rounds.sweep.watch();
            assert!(!rounds.is_round(), "another one is watched");
        }
    }

    /// What comes meanwhile makes the round longer, not shorter.
    #[test]
    fn a_round_is_not_done_before_those_that_were_there_have_been_looked_at() {
        for start in 0..10 {
            let mut rounds = Rounds::of(10);
            rounds.pass(start * ROUND_MS / 10, |_| false);
            rounds.sweep.watch();
            rounds.looked_at.clear();
            let mut steps = 0u16;
            while !rounds.is_round() {
                rounds.add(10 + steps..11 + steps);
                rounds.pass(ROUND_MS / 20, |_| false);
                steps += 1;
                assert!(steps < 200, "it ends");
            }
            assert!((0..10).all(|port| rounds.looked_at.contains(&port)), "from {start}");
        }
    }

    #[test]
    fn nothing_to_look_at_is_a_round() {
        let rounds = Rounds::of(0);
        assert!(rounds.is_round());
        assert!(!rounds.sweep.is_behind());
    }

    /// What is over goes within a round and nothing else does; a leap of the clock is worked off in steps.
    #[test]
    fn what_is_over_is_forgotten_within_a_round() {
        let mut rounds = Rounds::of(300);
        rounds.pass(60_000, |port| port % 3 == 0);
        assert!(rounds.sweep.is_behind(), "a poll does no more than {STEP_MAX}");
        let mut polls = 1;
        while rounds.sweep.is_behind() {
            rounds.pass(0, |port| port % 3 == 0);
            polls += 1;
        }
        assert_eq!((polls, rounds.table.len()), (300u32.div_ceil(STEP_MAX), 200));
        assert_eq!(rounds.looked_at.len(), 300);
    }
}
