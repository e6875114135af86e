//! Sources against what a plain map would say, and workers against each other.

use std::collections::HashMap;
use std::thread;

use proptest::prelude::*;

use super::*;
use crate::dataplane::quota::Rate;

const S: ServiceId = ServiceId(0);
const TWO: Quota = Quota { connections: 2, rate: Rate { per_second: 0, burst: 0 } };
const SLOW: Quota = Quota { connections: 0, rate: Rate { per_second: 1, burst: 2 } };

fn sources(count: usize) -> Sources {
    Sources::new(count, Seed([7, 11]), HugePages::Never).unwrap()
}

fn source(last: u8) -> Source {
    Source::of(IpAddr::from([192, 0, 2, last]), S, 32)
}

fn seat(found: Result<Found, Refused>) -> Seat {
    match found {
        Ok(Found::Here(seat) | Found::Evicted(seat)) => seat,
        other => panic!("let in and counted: {other:?}"),
    }
}

#[test]
fn a_source_is_a_network_of_one_service() {
    let of = |address: &str, service, prefix| {
        Source::of(address.parse().unwrap(), ServiceId(service), prefix)
    };
    assert_eq!(of("192.0.2.1", 0, 24), of("192.0.2.200", 0, 24));
    assert_ne!(of("192.0.2.1", 0, 32), of("192.0.2.200", 0, 32));
    assert_ne!(of("192.0.2.1", 0, 24), of("192.0.2.1", 1, 24));
    assert_ne!(of("192.0.2.0", 0, 24), of("192.0.2.0", 0, 25), "another prefix counts anew");
    assert_eq!(of("192.0.2.1", 0, 0), of("203.0.113.1", 0, 0));
    assert_eq!(of("2001:db8::1", 0, 64), of("2001:db8::2", 0, 64));
    assert_ne!(of("2001:db8::1", 0, 128), of("2001:db8::2", 0, 128));
}

#[test]
fn a_source_has_as_many_connections_as_it_may_and_another_does_not_care() {
    let sources = sources(60);
    let [first, _] = [0; 2].map(|_| seat(sources.enter(source(1), TWO, 0)));
    assert_eq!(sources.enter(source(1), TWO, 0), Err(Refused::Full));
    seat(sources.enter(source(2), TWO, 0));
    sources.leave(source(1), first);
    seat(sources.enter(source(1), TWO, 0));
    assert_eq!(sources.enter(source(1), TWO, 0), Err(Refused::Full));
    assert_eq!(sources.in_use(), (3, 2));
}

#[test]
fn a_source_is_as_fast_as_it_may_be() {
    let sources = sources(60);
    let at = |ms| sources.enter(source(1), SLOW, ms);
    let seats = [seat(at(5)), seat(at(5))];
    assert_eq!(at(5), Err(Refused::Fast));
    assert_eq!(at(1_004), Err(Refused::Fast));
    let third = seat(at(1_005));
    for seat in [seats[0], seats[1], third] {
        sources.leave(source(1), seat);
    }
    assert_eq!(at(1_005), Err(Refused::Fast), "ending a connection gives no token back");
}

#[test]
fn who_has_neither_connections_nor_a_debt_makes_way_and_nobody_else_unless_he_must() {
    let sources = sources(6);
    assert_eq!(sources.capacity(), 6);
    let seats: Vec<Seat> = (0..6).map(|n| seat(sources.enter(source(n), SLOW, n.into()))).collect();
    assert_eq!(sources.enter(source(6), SLOW, 10), Ok(Found::NoRoom), "all have connections");
    sources.leave(source(3), seats[3]);
    let found = sources.enter(source(6), SLOW, 10);
    assert_eq!(found, Ok(Found::Evicted(Seat::new(3, source(6)))), "its debt is forgotten");
    sources.leave(source(5), seats[5]);
    let found = sources.enter(source(7), SLOW, 10_000);
    assert_eq!(found, Ok(Found::Here(Seat::new(5, source(7)))), "it had none");
}

#[test]
fn the_table_empties_by_itself() {
    let sources = sources(60);
    let round = |now_ms| (0..sources.buckets.len()).for_each(|_| sources.tidy(now_ms));
    let seats: Vec<Seat> = (0..20).map(|n| seat(sources.enter(source(n), SLOW, 0))).collect();
    round(0);
    assert_eq!(sources.in_use(), (20, 20));
    for (n, seat) in (0..).zip(&seats) {
        sources.leave(source(n), *seat);
    }
    round(999);
    assert_eq!(sources.in_use(), (0, 20), "tokens are missing");
    round(1_000);
    assert_eq!(sources.in_use(), (0, 0));
}

/// Where the clock cannot tell past from future any more nobody is refused for it.
#[test]
fn a_source_that_was_away_for_weeks_is_no_debtor() {
    let sources = sources(6);
    (0..2).for_each(|_| assert!(sources.enter(source(1), SLOW, 0).is_ok()));
    assert_eq!(sources.enter(source(1), SLOW, 0), Err(Refused::Fast));
    sources.tidy(5_000);
    for weeks_ms in [1_500_000_000, 2_500_000_000, u32::MAX - 1_000] {
        let found = sources.enter(source(1), SLOW, weeks_ms);
        assert!(found.is_ok(), "{weeks_ms}: {found:?}");
        sources.tidy(weeks_ms.wrapping_add(5_000));
    }
}

#[test]
fn whoever_waits_for_a_claim_goes_on_uncounted() {
    let sources = sources(6);
    let seat = seat(sources.enter(source(1), TWO, 0));
    let claimed = Claimed::of(&sources.buckets[0]).unwrap();
    assert_eq!(sources.enter(source(1), TWO, 0), Ok(Found::NoRoom));
    sources.leave(source(1), seat);
    sources.tidy(0);
    drop(claimed);
    assert_eq!(sources.in_use(), (0, 1), "an end waits for nobody");
}

#[test]
fn several_threads_never_exceed_a_limit_and_leave_nothing() {
    let sources = sources(600);
    let most = Quota { connections: 7, rate: Rate::default() };
    thread::scope(|scope| {
        for worker in 0..4u32 {
            let sources = &sources;
            scope.spawn(move || {
                let mut mine = Vec::new();
                for n in 0..20_000u32 {
                    let who = source(u8::try_from(n.wrapping_mul(worker + 3) % 5).unwrap());
                    match sources.enter(who, most, n) {
                        Ok(Found::Here(seat) | Found::Evicted(seat)) => mine.push((who, seat)),
                        Ok(Found::NoRoom) | Err(_) => {}
                    }
                    let (total, _) = sources.in_use();
                    assert!(total <= 5 * 7, "{total}");
                    if n % 3 > 0 && !mine.is_empty() {
                        let (who, seat) = mine.swap_remove(n as usize % mine.len());
                        sources.leave(who, seat);
                    }
                }
                mine.drain(..).for_each(|(who, seat)| sources.leave(who, seat));
            });
        }
    });
    assert_eq!(sources.in_use().0, 0);
}

proptest! {
    /// Over any history each source has as many connections as it was let in for and has not
    /// ended, never more than it may, and refused it is only at its limit; at the end all is zero.
    #[test]
    fn connections_of_a_source_are_counted_exactly(
        steps in prop::collection::vec((0..12u8, any::<bool>(), 0..2_000u32), 1..300),
        most in 1..4u32,
    ) {
        let sources = sources(12);
        let quota = Quota { connections: most, rate: Rate::default() };
        let (mut now_ms, mut open) = (0u32, HashMap::<u8, Vec<Seat>>::new());
        for (who, comes, later_ms) in steps {
            now_ms += later_ms;
            sources.tidy(now_ms);
            let here = open.entry(who).or_default();
            if !comes {
                here.pop().into_iter().for_each(|seat| sources.leave(source(who), seat));
                continue;
            }
            match sources.enter(source(who), quota, now_ms) {
                Ok(Found::Here(seat)) => {
                    here.push(seat);
                    prop_assert!(here.len() <= most as usize);
                }
                Ok(Found::Evicted(_)) => prop_assert!(false, "nobody has a debt"),
                Ok(Found::NoRoom) => prop_assert!(here.is_empty(), "it has an entry"),
                Err(refused) => {
                    prop_assert_eq!((refused, here.len()), (Refused::Full, most as usize));
                }
            }
            let total: usize = open.values().map(Vec::len).sum();
            prop_assert_eq!(sources.in_use().0, total as u64);
        }
        for (who, seats) in open {
            for seat in seats {
                sources.leave(source(who), seat);
            }
        }
        (0..sources.buckets.len()).for_each(|_| sources.tidy(now_ms));
        prop_assert_eq!(sources.in_use(), (0, 0));
    }
}
