//! Who makes way when the table is full: the connection whose end costs least.
//!
//! | order | stage | states | what is lost |
//! |---|---|---|---|
//! | 1 | over | `TIME_WAIT`, CLOSE, SCTP's CLOSED, REJECTED | nothing but the answer to stragglers |
//! | 2 | half open | `SYN_RECV`, SYNACK, SCTP before ESTABLISHED, UDP's first datagram | a beginning, which is tried again |
//! | 3 | one packet | `ONE_PACKET` | an answer that is still on its way |
//! | 4 | closing | `FIN_WAIT`, `CLOSE_WAIT`, SCTP's SHUTDOWN ones | what one end still had to say |
//! | | open | ESTABLISHED, UDP that is answered or goes on | never given up |
//!
//! Of several of the first stage there is, the one that has been silent longest. So a flood of SYNs, or
//! of forged datagrams that nobody answers, that fills the table pushes out what it brought itself, and clients
//! that finish their handshake, or hear an answer, stay.
//!
//! [`AT_ONCE`] records are looked at each time one is needed: the best of these makes way, if it is over or half
//! open. Otherwise whoever the sweep has seen that goes before him ([`super::candidates`]); and if that one is neither,
//! the next ones are looked at too, and so on, and the best of [`LOOKED_AT`] and him makes way. With nobody
//! among them the new connection is refused. Those looked at lie far apart, by the golden
//! ratio, which leaves no gap large: connections that came together lie together, and a hand that went round in
//! order would find nobody for as long as it passed the lasting ones. The first for the next time are asked for at
//! once, so that they are there when it comes.
//!
//! Why not all of sixteen each time: a look is a line from memory. In a flood four are enough to meet one that
//! the flood brought, and where nearly all are open the sweep knows the others.

use super::candidates::{Candidates, order};
use super::state::Stage;
use super::table::{Slot, Table};
use crate::dataplane::family::Family;

/// Records looked at for one that makes way, at most.
pub const LOOKED_AT: u32 = 16;

/// Of these so many together, the best of which makes way.
pub const AT_ONCE: u32 = 4;

/// 2^32 divided by the golden ratio.
const GOLDEN: u32 = 0x9e37_79b9;

/// Who was looked at last, and whom the sweep has seen.
#[derive(Clone, Debug, Default)]
pub struct Reclaim {
    turn: u32,
    /// Those seen by the sweep.
    pub candidates: Candidates,
}

impl Reclaim {
    /// The connection that makes way, and how far it had come.
    pub fn victim<F: Family>(&mut self, table: &Table<F>, now_ms: u32) -> Option<(Slot, Stage)> {
        let used = table.used();
        if used == 0 {
            return None;
        }
        let mut best = self.look(table, now_ms, None);
        if !costs_little(best) {
            best = self.search(table, now_ms, best);
        }
        for ahead in 0..AT_ONCE {
            table.prefetch_record(self.slot(ahead, used));
        }
        best.map(|best| (best.slot, best.stage))
    }

    /// Looks at some more; the best of them and of whom there was before.
    #[inline]
    fn look<F: Family>(
        &mut self,
        table: &Table<F>,
        now_ms: u32,
        before: Option<Candidate>,
    ) -> Option<Candidate> {
        let best = (0..AT_ONCE)
            .filter_map(|ahead| Candidate::at(table, self.slot(ahead, table.used()), now_ms))
            .chain(before)
            .min_by_key(|candidate| candidate.rank);
        self.turn = self.turn.wrapping_add(AT_ONCE);
        best
    }

    /// Asks the sweep, then looks at all the others.
    #[cold]
    fn search<F: Family>(
        &mut self,
        table: &Table<F>,
        now_ms: u32,
        before: Option<Candidate>,
    ) -> Option<Candidate> {
        let seen = self.candidates.take(table);
        let seen = seen.and_then(|slot| Candidate::at(table, slot, now_ms));
        let mut best = seen.into_iter().chain(before).min_by_key(|candidate| candidate.rank);
        for _ in 1..LOOKED_AT / AT_ONCE {
            if costs_little(best) {
                break;
            }
            best = self.look(table, now_ms, best);
        }
        // Somebody else goes: this one is for the next.
        if let Some(seen) = seen.filter(|seen| best.is_none_or(|best| best.slot != seen.slot)) {
            self.candidates.meet(seen.slot, table.record(seen.slot));
        }
        best
    }

    /// The one that is so many ahead, of those in use.
    fn slot(&self, ahead: u32, used: u32) -> Slot {
        let spread = self.turn.wrapping_add(ahead).wrapping_mul(GOLDEN);
        Slot(((u64::from(spread) * u64::from(used)) >> 32) as u32)
    }
}

/// One that can make way.
#[derive(Clone, Copy)]
struct Candidate {
    /// Least first: the order, then who was seen longest ago.
    rank: (usize, u32),
    slot: Slot,
    stage: Stage,
}

impl Candidate {
    #[inline]
    fn at<F: Family>(table: &Table<F>, slot: Slot, now_ms: u32) -> Option<Self> {
        let record = table.record(slot);
        let stage = record.state().stage();
        let order = order(stage).filter(|_| record.is_live())?;
        let rank = (order, u32::MAX - now_ms.wrapping_sub(record.seen_ms));
        Some(Self { rank, slot, stage })
    }
}

/// Is it over, or begins again by itself? Then nobody better need be looked for.
fn costs_little(best: Option<Candidate>) -> bool {
    best.is_some_and(|best| matches!(best.stage, Stage::Over | Stage::HalfOpen))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;
    use crate::dataplane::conn::index::Seed;
    use crate::dataplane::conn::key::FlowKey;
    use crate::dataplane::conn::record::{NewConnection, Record, Way};
    use crate::dataplane::conn::state::State;
    use crate::dataplane::snapshot::ClientAddress;
    use crate::dataplane::sources::Seat;
    use crate::ids::{BackendId, PortId, ServiceId};
    use crate::wire::Mac;

    fn connection(port: u16, state: State) -> NewConnection {
        let (client, vip) = (Ipv4Addr::new(192, 0, 2, 2), Ipv4Addr::new(198, 51, 100, 10));
        let (backend, local) = (Ipv4Addr::new(10, 44, 0, 11), Ipv4Addr::new(10, 44, 0, 2));
        NewConnection {
            client: FlowKey::new(6, (client, port), (vip, 80)),
            backend: FlowKey::new(6, (backend, 8080), (local, port)),
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

    /// A table of records in these states, seen then.
    fn table(kept: &[(usize, u32)]) -> Table<Ipv4Addr> {
        let mut table = Table::new(4096, Seed([1, 2])).unwrap();
        for (port, (state, seen_ms)) in (1..).zip(kept) {
            table.insert(&connection(port, State::ALL[*state]), *seen_ms).unwrap();
        }
        table
    }

    proptest! {
        /// One that is neither over nor half open makes way only if none of all looked at costs less. Who talks
        /// stays.
        #[test]
        fn the_best_of_those_looked_at_makes_way(
            kept in proptest::collection::vec((0..State::COUNT, 0u32..50), 0..100),
            turns in 1usize..8,
        ) {
            let place = |stage| match stage {
                Stage::Over => 1,
                Stage::HalfOpen => 2,
                Stage::OnePacket => 3,
                Stage::Closing => 4,
                Stage::Open => 9,
            };
            let (table, mut reclaim) = (table(&kept), Reclaim::default());
            let rank = |slot| {
                let record: &Record<_> = table.record(slot);
                (place(record.state().stage()), record.seen_ms)
            };
            for _ in 0..turns {
                let most = if kept.is_empty() { 0 } else { LOOKED_AT };
                let slots = (0..most).map(|ahead| reclaim.slot(ahead, table.used()));
                let ranks: Vec<_> = slots.map(rank).filter(|(place, _)| *place < 9).collect();
                let Some((slot, _)) = reclaim.victim(&table, 60) else {
                    prop_assert!(ranks.is_empty(), "{:?}", ranks);
                    continue;
                };
                let got = rank(slot);
                prop_assert!(ranks.contains(&got));
                let better = ranks.iter().filter(|rank| **rank < got).count();
                prop_assert!(better == 0 || got.0 <= 2, "{got:?} of {ranks:?}");
            }
        }

        #[test]
        fn of_the_first_looked_at_none_costs_less(
            kept in proptest::collection::vec((0..State::COUNT, 0u32..50), 1..100),
        ) {
            let (table, mut reclaim) = (table(&kept), Reclaim::default());
            let cost = |slot| {
                let record: &Record<_> = table.record(slot);
                order(record.state().stage()).map(|order| (order, record.seen_ms))
            };
            let first: Vec<_> = (0..AT_ONCE).filter_map(|at| cost(reclaim.slot(at, table.used()))).collect();
            let victim = reclaim.victim(&table, 60).and_then(|(slot, _)| cost(slot));
            prop_assert!(first.iter().all(|cost| victim.is_some_and(|victim| victim <= *cost)));
        }
    }

    /// Connections that last lie together, as they came: whoever looks on is not held up by them.
    #[test]
    fn a_long_run_of_those_that_talk_hides_nobody() {
        for lasting in [0, 500, 1500, 2500] {
            let half_open = (State::SynRecv as usize, 5);
            let kept: Vec<(usize, u32)> =
                std::iter::repeat_n((State::Established as usize, 5), lasting)
                    .chain(std::iter::repeat_n(half_open, 3000 - lasting))
                    .collect();
            let (mut table, mut reclaim) = (table(&kept), Reclaim::default());
            for n in 0..2_000 {
                let (slot, stage) = reclaim.victim(&table, 60).expect("one of the half open");
                assert_eq!(stage, Stage::HalfOpen, "{lasting} {n}");
                table.remove(slot);
                table.insert(&connection(10_000 + n, State::SynRecv), 6).unwrap();
            }
        }
    }

    #[test]
    fn an_empty_table_has_nobody_to_give() {
        let table = Table::<Ipv4Addr>::new(64, Seed([1, 2])).unwrap();
        assert_eq!(Reclaim::default().victim(&table, 5), None);
    }
}
