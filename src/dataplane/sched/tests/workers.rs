//! Several workers: even together, one count, nothing lost.

use super::*;
use crate::stats::loads::Load;
use proptest::prelude::*;

fn bed(scheduler: &str, workers: u8, weights: &[u32]) -> Bed {
    let mut bed = Bed::new(scheduler, &[], workers);
    for (name, weight) in ('A'..).zip(weights) {
        bed.seat(name, *weight);
    }
    bed.publish();
    bed
}

fn shares(bed: &mut Bed, workers: impl Iterator<Item = usize>) -> Vec<usize> {
    let mut shares = vec![0; bed.seats.len()];
    for (worker, port) in workers.zip(0..) {
        let name = bed.connect(worker, &from(client(), port)).unwrap();
        shares[id(name).index()] += 1;
    }
    shares
}

#[test]
fn workers_start_at_different_backends() {
    for scheduler in ["rr", "wrr"] {
        let mut bed = bed(scheduler, 3, &[1, 1, 1]);
        let firsts: String =
            (0..3).map(|worker| bed.connect(worker, &from(client(), 1)).unwrap()).collect();
        assert_eq!(firsts, "CBA", "{scheduler}");
        let mut wide = self::bed(scheduler, 4, &[1; 12]);
        let firsts: String =
            (0..4).map(|worker| wide.connect(worker, &from(client(), 1)).unwrap()).collect();
        assert_eq!(firsts, "LIFC", "{scheduler}: spread over the list");
    }
}

#[test]
fn rr_and_wrr_are_even_within_one_connection_a_worker() {
    for workers in [1u8, 2, 4] {
        for (scheduler, weights) in [("rr", [1, 1, 1, 1, 1]), ("wrr", [5, 1, 3, 2, 4])] {
            let round: u32 = weights.iter().sum();
            for uneven in 1..=3 {
                let mut bed = bed(scheduler, workers, &weights);
                // Each worker gets whole rounds of its own, some more than others.
                let rounds = |worker: u8| usize::from(worker % uneven + 1) * 4 * round as usize;
                let turns =
                    (0..workers).flat_map(|w| std::iter::repeat_n(usize::from(w), rounds(w)));
                let shares = shares(&mut bed, turns);
                let total: usize = shares.iter().sum();
                for (share, weight) in shares.iter().zip(weights) {
                    let ideal = total * weight as usize / round as usize;
                    let off = share.abs_diff(ideal);
                    assert!(off <= usize::from(workers), "{scheduler}, {workers}: {shares:?}");
                }
            }
        }
    }
}

#[test]
fn least_connections_are_those_of_all_workers() {
    for scheduler in ["lc", "wlc", "sed", "nq"] {
        let mut bed = bed(scheduler, 4, &[1, 1, 1, 1, 1, 1]);
        // One worker fills three backends by itself; the others see it.
        let ones = shares(&mut bed, std::iter::repeat_n(0, 3));
        assert_eq!(ones.iter().sum::<usize>(), 3);
        let rest = shares(&mut bed, [1, 2, 3].into_iter());
        let both: Vec<usize> = ones.iter().zip(&rest).map(|(a, b)| a + b).collect();
        assert_eq!(both, [1; 6], "{scheduler}");
        // What another worker frees is seen after a look round.
        ('A'..='F').for_each(|name| assert!(bed.loads.of(id(name)).active == 1));
        let more = shares(&mut bed, (0..600).map(|n| n % 4));
        assert!(more.iter().all(|share| share.abs_diff(100) <= 4), "{scheduler}: {more:?}");
    }
}

#[test]
fn what_another_worker_frees_is_filled_again() {
    let mut bed = bed("wlc", 2, &[1; 20]);
    shares(&mut bed, std::iter::repeat_n(0, 400));
    (0..20).for_each(|_| bed.end(0, 'K', true));
    let more = shares(&mut bed, std::iter::repeat_n(1, 40));
    assert!(more[id('K').index()] >= 18, "{more:?}");
}

#[test]
fn nobody_is_refused_while_another_worker_has_freed_a_place() {
    for scheduler in ["lc", "wlc", "sed", "nq", "fo", "ovf", "lblc", "lblcr"] {
        let mut bed = bed(scheduler, 2, &[1; 20]);
        for seat in 'A'..='T' {
            bed.edit(seat, |seat| seat.limit = Limit { most: 1, least: 1 });
        }
        bed.publish();
        let taken = (0..20).filter(|n| bed.connect(0, &from(client(), *n)).is_some()).count();
        assert_eq!(taken, 20, "{scheduler}");
        assert_eq!(bed.connect(1, &from(client(), 99)), None, "{scheduler}: all are full");
        for (now_ms, freed) in (1..).zip(['A', 'T', 'K']) {
            bed.end(0, freed, true);
            bed.now_ms = now_ms;
            let flow = bed.flow(client(), 100, VIP);
            assert_eq!(bed.connect(1, &flow), Some(freed), "{scheduler}: {freed}");
        }
    }
}

proptest! {
    /// Any worker may end what another began: counts end at zero and are what lives.
    #[test]
    fn counts_are_those_of_what_lives(
        which in 0..Scheduler::ALL.len(),
        workers in 1..5u8,
        limit in 0..6u32,
        steps in proptest::collection::vec((0..4usize, 0..5u8, 0..1000u16), 0..400),
    ) {
        let name = Scheduler::ALL[which].method().name;
        let mut bed = bed(name, workers, &[3, 0, 1, 2]);
        for seat in ['A', 'C'] {
            bed.edit(seat, |seat| seat.limit = Limit { most: limit, least: limit / 2 });
        }
        bed.publish();
        let mut living: Vec<(char, bool, usize)> = vec![];
        for (worker, what, n) in steps {
            let worker = worker % usize::from(workers);
            let flow = from(Ipv4Addr::from_bits(n.into()).into(), 9);
            let n = usize::from(n);
            match what {
                0 | 1 => living.extend(bed.place(worker, &flow).map(|name| (name, false, worker))),
                2 if !living.is_empty() => {
                    let n = n % living.len();
                    living[n].1 = !living[n].1;
                    bed.turn(living[n].2, living[n].0, living[n].1);
                }
                3 if !living.is_empty() => {
                    let (name, active, worker) = living.swap_remove(n % living.len());
                    bed.end(worker, name, active);
                }
                _ => bed.publish(),
            }
            for name in 'A'..='D' {
                let its = || living.iter().filter(|(other, ..)| *other == name);
                let count = |count: usize| u32::try_from(count).unwrap();
                let active = count(its().filter(|(_, active, _)| *active).count());
                let load = Load { active, total: count(its().count()) };
                prop_assert_eq!(bed.loads.of(id(name)), load);
                if limit > 0 && matches!(name, 'A' | 'C') {
                    prop_assert!(load.total <= limit);
                }
                prop_assert!(name != 'B' || load.total == 0);
            }
        }
    }
}

#[test]
fn a_limit_is_exact_with_several_workers() {
    for scheduler in Scheduler::ALL {
        let name = scheduler.method().name;
        let mut bed = bed(name, 3, &[1, 1, 1]);
        for seat in 'A'..='C' {
            bed.edit(seat, |seat| seat.limit = Limit { most: 5, least: 5 });
        }
        bed.publish();
        for n in 0..600u16 {
            let flow = bed.flow(Ipv4Addr::from_bits(0x0a00_0000 + u32::from(n)).into(), n, VIP);
            bed.connect(usize::from(n % 3), &flow);
        }
        for seat in 'A'..='C' {
            assert!(bed.loads.of(id(seat)).total <= 5, "{name}");
        }
    }
}

proptest! {
    /// Whatever was before: connections to whichever worker, reloads that add, remove and weigh, until
    /// the last of them. From then on each worker's turn is even by itself, so all together are within what
    /// it comes to for each; exactly even where each has whole rounds.
    #[test]
    fn rr_and_wrr_stay_even_after_any_history(
        is_weighted: bool,
        workers in proptest::sample::select(vec![1u8, 2, 4]),
        history in proptest::collection::vec((0..4usize, 0..6u8, 0..5u32), 0..200),
        last in proptest::collection::vec(1..5u32, 1..6),
        whose in proptest::collection::vec(0..4usize, 0..60),
    ) {
        let scheduler = if is_weighted { "wrr" } else { "rr" };
        let mut bed = bed(scheduler, workers, &[1, 2, 1]);
        for (worker, what, n) in history {
            let name = char::from_u32(u32::from('A') + n).unwrap();
            match what {
                0 => bed.weigh(name, n),
                1 => bed.remove(name),
                2 if bed.seats.iter().all(|seat| seat.name != name) => bed.seat(name, n),
                _ => {
                    bed.connect(worker % usize::from(workers), &from(client(), 1));
                    continue;
                }
            }
            bed.publish();
        }
        let old: Vec<char> = bed.seats.iter().map(|seat| seat.name).collect();
        for name in old {
            bed.remove(name);
        }
        let weights: Vec<u32> = last.iter().map(|w| if is_weighted { *w } else { 1 }).collect();
        for (name, weight) in ('A'..).zip(&weights) {
            bed.seat(name, *weight);
        }
        bed.publish();
        // Whole rounds of each worker, in whichever order they come.
        let round: u32 = weights.iter().sum();
        let mut turns: Vec<usize> =
            (0..usize::from(workers)).flat_map(|w| std::iter::repeat_n(w, 3 * round as usize)).collect();
        for (at, swap) in whose.iter().enumerate() {
            let length = turns.len();
            turns.swap(at % length, (at * 7 + swap * 13) % length);
        }
        // Off its share by less than its weight for each worker, whenever one looks (all times the sum):
        // a round has as many of it as its weight, wherever it begins.
        let divisor = weights.iter().fold(0, |a, b| crate::dataplane::snapshot::gcd(a, *b));
        let mut counts = vec![0; weights.len()];
        for (made, worker) in (1..).zip(turns) {
            let name = bed.connect(worker, &from(client(), 1)).unwrap();
            counts[id(name).index()] += 1;
            for (count, weight) in counts.iter().zip(&weights) {
                let off = u32::abs_diff(count * round, made * weight);
                let most = u32::from(workers) * weight / divisor * (round - weight);
                prop_assert!(off <= most, "{:?} {:?}", counts, weights);
            }
        }
        let all: Vec<u32> = weights.iter().map(|weight| 3 * u32::from(workers) * weight).collect();
        prop_assert_eq!(counts, all, "whole rounds of each");
    }
}

/// Workers on threads of their own, connections that begin and end as they please: no backend ever has
/// more than its limit, all counts end at zero, and every worker then finds all that is open.
#[test]
fn limits_hold_and_nothing_leaks_on_real_threads() {
    const MOST: u32 = 3;
    for scheduler in Scheduler::ALL.iter().filter(|it| **it != Scheduler::NONE) {
        let name = scheduler.method().name;
        let mut bed = bed(name, 4, &[2, 1, 3, 1, 2]);
        for seat in 'A'..='E' {
            bed.edit(seat, |seat| seat.limit = Limit { most: MOST, least: MOST });
        }
        bed.publish();
        let Bed { snapshot, loads, workers, .. } = &mut bed;
        std::thread::scope(|scope| {
            for (id, chooser) in (0u32..).zip(workers.iter_mut()) {
                let (snapshot, loads) = (&*snapshot, &**loads);
                scope.spawn(move || live(chooser, (snapshot, loads), id, MOST));
            }
        });
        for seat in 'A'..='E' {
            assert_eq!(loads.of(id(seat)), Load::default(), "{name}: {seat}");
        }
        for worker in 0..4 {
            let flow = bed.flow(client(), 9, VIP);
            let placed = bed.place(worker, &flow);
            assert!(placed.is_some(), "{name}: all is open for worker {worker}");
            if let Some(seat) = placed {
                bed.end(worker, seat, false);
            }
        }
    }
}

/// A worker's life: it makes connections and ends them, the oldest first, then all.
fn live(chooser: &mut Chooser, (snapshot, loads): (&Snapshot, &Loads), id: u32, most: u32) {
    let limit = Limit { most, least: most };
    let mut living = std::collections::VecDeque::new();
    let end = |chooser: &mut Chooser, backend: BackendId| {
        loads.give_back(backend, true, limit);
        chooser.changed(snapshot, loads, backend);
    };
    for n in 0..2_000u32 {
        let client = Ipv4Addr::from_bits(id << 16 | n).into();
        let flow = Flow { now_ms: n / 50, ..from(client, 9) };
        if let Some(backend) = chooser.place(snapshot, loads, ServiceId(0), &flow) {
            assert!(loads.of(backend).total <= most);
            loads.turn(backend, true);
            chooser.changed(snapshot, loads, backend);
            living.push_back(backend);
        }
        if living.len() > n as usize % 7
            && let Some(oldest) = living.pop_front()
        {
            end(chooser, oldest);
        }
    }
    for backend in living {
        end(chooser, backend);
    }
}

#[test]
fn a_service_that_changes_to_wrr_starts_at_the_highest_threshold() {
    let mut bed = Bed::of("wrr", &[], &[3, 2, 1]);
    assert_eq!(bed.sequence(1), "C", "a fresh one at the lowest");
    for before in ["rr", "mh", "wlc"] {
        bed.reschedule(before);
        bed.publish();
        bed.sequence(5);
        bed.reschedule("wrr");
        bed.publish();
        assert_eq!(bed.sequence(6), "ABACBA", "after {before}");
    }
}

#[test]
fn asking_whether_there_is_room_changes_no_turn() {
    for scheduler in ["rr", "wrr"] {
        let [mut asked, mut other] = [1, 1].map(|workers| bed(scheduler, workers, &[3, 2, 1]));
        for bed in [&mut asked, &mut other] {
            bed.edit('A', |seat| seat.limit = Limit { most: 100, least: 100 });
            bed.publish();
            bed.sequence(2);
            bed.weigh('B', 5);
            bed.publish();
        }
        let Bed { snapshot, loads, workers, .. } = &mut asked;
        let flow = from(client(), 9);
        assert!(workers[0].has_place(snapshot, loads, ServiceId(0), &flow));
        assert_eq!(asked.sequence(30), other.sequence(30), "{scheduler}");
    }
}
