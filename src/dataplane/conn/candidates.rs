//! Who may make way in a table that is nearly full, as the sweep saw them.
//!
//! Where nearly all talk, a few looks at random find nobody: of 95 in a hundred, sixteen looks miss the other
//! five every second time. But the sweep passes everybody within a round anyway ([`super::expiry`]). While
//! the table is nearly full it puts whom it meets on a pile, one for each stage that can make way:
//!
//! ```text
//!            over  half open  one packet  closing
//! sweep ──►  ▤▤▤      ▤▤         ▤         ▤▤▤▤     a newcomer without luck takes from the first pile that has
//!             │                                     one, newest first, and looks whether it is still so
//! ```
//!
//! The newest first, as it is the likeliest to be what it was. Of a full pile the oldest falls off; what the
//! sweep meets again lies there twice, and the second is found to be another's. Who begins must not have been
//! heard of since: its place may have been given to a newcomer, who is not to go at once.
//!
//! What this is good for: after a round of the sweep a newcomer is refused only when more have come within it than
//! could make way, or than [`ROOM`] (2,000 a second, each worker and family), or if of every stage [`PASSED_OVER`] in a
//! row are not any more what they were. Beyond that, luck decides as before ([`super::reclaim`]). The limit is each
//! pile's own: what was seen in earlier rounds lies below, and must not stand before the next pile.
//!
//! Limits: [`ROOM`] of each stage, 128 KiB a table, reserved at start.

use super::record::Record;
use super::state::Stage;
use super::table::{Slot, Table};
use crate::dataplane::family::Family;

/// Records remembered of each stage.
pub const ROOM: usize = 4_096;

/// Most of one pile that one newcomer passes over.
pub const PASSED_OVER: u32 = 32;

/// Who goes first.
const ORDER: [Stage; 4] = [Stage::Over, Stage::HalfOpen, Stage::OnePacket, Stage::Closing];

/// A stage's place in the order; `None` never makes way.
#[inline]
pub(super) fn order(stage: Stage) -> Option<usize> {
    ORDER.iter().position(|it| *it == stage)
}

/// A record, and when it had been heard of when it was seen.
#[derive(Clone, Copy, Debug, Default)]
struct Sight {
    slot: u32,
    seen_ms: u32,
}

impl Sight {
    /// Is it what it was?
    #[inline]
    fn holds<F: Family>(self, record: &Record<F>, stage: Stage) -> bool {
        let begins = matches!(stage, Stage::HalfOpen | Stage::OnePacket);
        record.is_live()
            && record.state().stage() == stage
            && (!begins || record.seen_ms == self.seen_ms)
    }
}

/// Those of one stage.
#[derive(Clone, Debug)]
struct Pile {
    sights: Box<[Sight]>,
    /// Where the next one goes, and how many lie below.
    top: usize,
    height: usize,
}

impl Default for Pile {
    fn default() -> Self {
        Self { sights: vec![Sight::default(); ROOM].into(), top: 0, height: 0 }
    }
}

impl Pile {
    #[inline]
    fn put(&mut self, sight: Sight) {
        if let Some(place) = self.sights.get_mut(self.top) {
            *place = sight;
        }
        self.top = (self.top + 1) % ROOM;
        self.height = (self.height + 1).min(ROOM);
    }

    #[inline]
    fn take(&mut self) -> Option<Sight> {
        self.height = self.height.checked_sub(1)?;
        self.top = (self.top + ROOM - 1) % ROOM;
        self.sights.get(self.top).copied()
    }
}

/// Those of a table.
#[derive(Clone, Debug, Default)]
pub struct Candidates {
    piles: [Pile; ORDER.len()],
}

impl Candidates {
    /// A record has been met.
    #[inline]
    pub fn meet<F: Family>(&mut self, slot: Slot, record: &Record<F>) {
        let order = order(record.state().stage());
        if let Some(pile) = order.and_then(|order| self.piles.get_mut(order)) {
            pile.put(Sight { slot: slot.0, seen_ms: record.seen_ms });
        }
    }

    /// Somebody who can make way, of the first stage there is.
    pub fn take<F: Family>(&mut self, table: &Table<F>) -> Option<Slot> {
        let mut piles = self.piles.iter_mut().zip(ORDER);
        piles.find_map(|(pile, stage)| {
            let mut sights = std::iter::from_fn(|| pile.take()).take(PASSED_OVER as usize);
            let sight = sights.find(|sight| sight.holds(table.record(Slot(sight.slot)), stage))?;
            Some(Slot(sight.slot))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;
    use crate::dataplane::conn::expiry::{ROUND_MS, Sweep};
    use crate::dataplane::conn::index::Seed;
    use crate::dataplane::conn::key::FlowKey;
    use crate::dataplane::conn::reclaim::Reclaim;
    use crate::dataplane::conn::record::{NewConnection, Way};
    use crate::dataplane::conn::state::State;
    use crate::dataplane::snapshot::ClientAddress;
    use crate::dataplane::sources::Seat;
    use crate::ids::{BackendId, PortId, ServiceId};
    use crate::wire::Mac;

    const CAPACITY: u32 = 4_096;

    fn connection(number: u32, state: State) -> NewConnection {
        let client = Ipv4Addr::from(0xc000_0000 + number);
        let (vip, backend) = (Ipv4Addr::new(198, 51, 100, 10), Ipv4Addr::new(10, 44, 0, 11));
        NewConnection {
            client: FlowKey::new(6, (client, 7), (vip, 80)),
            backend: FlowKey::new(6, (backend, 8080), (client, 7)),
            service: ServiceId(0),
            backend_id: BackendId(0),
            client_mac: Mac([0; 6]),
            client_port: PortId(0),
            state,
            way: Way::Translated,
            introduction: ClientAddress::None,
            seat: Seat::NONE,
        }
    }

    struct Full {
        table: Table<Ipv4Addr>,
        sweep: Sweep,
        reclaim: Reclaim,
        now_ms: u32,
        made: u32,
    }

    impl Full {
        /// A full table of these; who is not named talks.
        fn of(states: &[State], capacity: u32) -> Self {
            let table = Table::new(capacity, Seed([1, 2])).unwrap();
            let (sweep, reclaim) = (Sweep::default(), Reclaim::default());
            let mut full = Self { table, sweep, reclaim, now_ms: 0, made: 0 };
            let others = std::iter::repeat(State::Established);
            for state in states.iter().copied().chain(others).take(capacity as usize) {
                full.add(state);
            }
            full
        }

        fn add(&mut self, state: State) {
            self.made += 1;
            self.table.insert(&connection(self.made, state), self.now_ms).unwrap();
        }

        /// The sweep goes round.
        fn round(&mut self) {
            for _ in 0..50 {
                self.now_ms += ROUND_MS / 50;
                let (table, seen) = (&mut self.table, &mut self.reclaim.candidates);
                self.sweep.run(table, self.now_ms, seen, |_| false, |_, _| ());
                while self.sweep.is_behind() {
                    let seen = &mut self.reclaim.candidates;
                    self.sweep.run(&mut self.table, self.now_ms, seen, |_| false, |_, _| ());
                }
            }
        }

        /// Somebody comes; who made way for him, if anybody.
        fn come(&mut self, state: State) -> Option<State> {
            self.now_ms += 1;
            let (slot, _) = self.reclaim.victim(&self.table, self.now_ms)?;
            let gone = self.table.record(slot).state();
            self.table.remove(slot);
            self.add(state);
            Some(gone)
        }
    }

    /// Where those lie that do not talk, and what they do.
    fn few() -> impl Strategy<Value = Vec<State>> {
        let able = prop::sample::select(vec![
            State::TimeWait,
            State::SynRecv,
            State::UdpAsked,
            State::OnePacket,
            State::FinWait,
        ]);
        let places = prop::sample::subsequence((0..CAPACITY as usize).collect::<Vec<_>>(), 41..200);
        (places, prop::collection::vec(able, 1..4)).prop_map(|(places, able)| {
            let mut states = vec![State::Established; CAPACITY as usize];
            for (at, state) in places.into_iter().zip(able.into_iter().cycle()) {
                states[at] = state;
            }
            states
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// One in a hundred who can make way is enough: after a round of the sweep nobody is refused.
        #[test]
        fn whoever_can_make_way_is_found(states in few(), rounds in 1usize..11) {
            let able = states.iter().filter(|it| order(it.stage()).is_some()).count();
            let mut full = Full::of(&states, CAPACITY);
            (0..rounds).for_each(|_| full.round());
            for n in 0..able {
                prop_assert!(full.come(State::Established).is_some(), "newcomer {n} of {able}");
            }
            prop_assert_eq!(full.come(State::Established), None, "all talk");
        }
    }

    #[test]
    fn the_first_stage_there_is_goes_first() {
        use State::{FinWait, OnePacket, SynRecv, TimeWait};
        let mut full = Full::of(&[FinWait, OnePacket, SynRecv, TimeWait], 4_096);
        full.round();
        let seen = &mut full.reclaim.candidates;
        for expected in [TimeWait, SynRecv, OnePacket, FinWait] {
            let slot = seen.take(&full.table).unwrap();
            assert_eq!(full.table.record(slot).state(), expected);
        }
        assert_eq!(seen.take(&full.table), None);
    }

    #[test]
    fn who_came_after_the_sweep_is_not_given_up_for_who_was_there() {
        let mut full = Full::of(&[State::SynRecv; 2], 4_096);
        // Seen twice.
        full.round();
        full.round();
        let places = [0, 1].map(|_| full.reclaim.candidates.take(&full.table).unwrap());
        for slot in places {
            full.table.remove(slot);
            full.now_ms += 1;
            full.add(State::SynRecv);
        }
        assert_eq!(full.reclaim.candidates.take(&full.table), None, "both are new");
    }

    #[test]
    fn who_is_not_any_more_what_he_was_is_passed_over_up_to_a_limit() {
        for (changed, found) in [(PASSED_OVER - 1, true), (PASSED_OVER, false)] {
            let states = vec![State::SynRecv; changed as usize + 1];
            let mut full = Full::of(&states, 4_096);
            full.round();
            for slot in 1..=changed {
                full.table.record_mut(Slot(slot)).set_state(State::Established);
            }
            let candidate = full.reclaim.candidates.take(&full.table);
            assert_eq!(candidate, found.then_some(Slot(0)), "{changed}");
        }
    }

    #[test]
    fn a_full_pile_forgets_the_oldest() {
        let (room, n) = (u32::try_from(ROOM).unwrap(), 10);
        let mut full = Full::of(&vec![State::TimeWait; ROOM + 10], room + n);
        full.round();
        let mut taken = vec![];
        while let Some(slot) = full.reclaim.candidates.take(&full.table) {
            taken.push(slot.0);
        }
        assert_eq!(taken, (n..room + n).rev().collect::<Vec<u32>>());
    }

    #[test]
    fn with_room_left_nobody_is_remembered() {
        let mut full = Full::of(&[State::TimeWait; 3_500], 4_096);
        for slot in 3_500..4_096 {
            full.table.remove(Slot(slot));
        }
        full.round();
        assert_eq!(full.reclaim.candidates.take(&full.table), None);
    }
}
