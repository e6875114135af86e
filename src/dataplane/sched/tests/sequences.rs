//! Sequences recorded from a kernel: backends A, B, C added in this order, connections that all
//! stay active. Where nothing was recorded, what the rules say.

use super::*;

/// Scheduler, weights, what 24 connections get; the pattern repeats, or ends refused with `.`.
const RECORDED: &[(&str, [u32; 3], &str)] = &[
    ("rr", [1, 1, 1], "CBA"),
    ("rr", [2, 0, 1], "CA"),
    ("rr", [0, 0, 0], "."),
    ("wrr", [3, 2, 1], "CBAABA"),
    ("wrr", [4, 2, 1], "CBAAABA"),
    ("wrr", [1, 1, 5], "CBACCCC"),
    ("wrr", [0, 0, 0], "."),
    ("lc", [1, 1, 1], "CBA"),
    ("lc", [3, 2, 1], "CBA"),
    ("lc", [1, 2, 4], "CBA"),
    ("lc", [0, 2, 1], "CB"),
    ("wlc", [1, 1, 1], "CBA"),
    ("wlc", [3, 2, 1], "CBAABA"),
    ("wlc", [0, 2, 1], "CBB"),
    ("sed", [1, 1, 1], "CBA"),
    ("sed", [3, 2, 1], "ABACBA"),
    ("sed", [0, 2, 1], "BCB"),
    ("nq", [1, 1, 1], "CBA"),
    ("nq", [1, 2, 4], "CBACCCBCCBCCBACCBCCBACCB"),
    ("fo", [1, 1, 1], "C"),
    ("fo", [3, 2, 1], "A"),
    ("fo", [1, 2, 4], "C"),
    ("ovf", [1, 1, 1], "CCBBAA.................."),
    ("ovf", [3, 2, 1], "AAAABBBCC..............."),
    ("ovf", [0, 2, 1], "BBBCC..................."),
];

#[test]
fn one_worker_gives_the_recorded_sequences() {
    for (scheduler, weights, pattern) in RECORDED {
        let got = Bed::of(scheduler, &[], weights).sequence(24);
        let expected: String = pattern.chars().cycle().take(24).collect();
        assert_eq!(got, expected, "{scheduler} {weights:?}");
    }
}

#[test]
fn nobody_serves_where_there_is_nobody() {
    for scheduler in Scheduler::ALL {
        let name = scheduler.method().name;
        assert_eq!(Bed::of(name, &[], &[]).sequence(2), "..", "{name}: no backends");
        assert_eq!(Bed::of(name, &[], &[0, 0]).sequence(2), "..", "{name}: weights of 0");
    }
}

/// IPVS moves the pointer back with each deletion; new backends come at the head.
#[test]
fn rr_goes_on_where_it_was_whatever_has_come_and_gone_between_two_choices() {
    let mut bed = Bed::of("rr", &[], &[1, 1, 1, 1]);
    assert_eq!(bed.sequence(3), "DCB");
    bed.remove('B');
    bed.remove('C');
    bed.publish();
    assert_eq!(bed.sequence(3), "ADA", "the last chosen and the one before it are gone");

    let mut bed = Bed::of("rr", &[], &[1, 1, 1]);
    assert_eq!(bed.sequence(2), "CB");
    bed.remove('B');
    bed.seat('B', 1);
    bed.publish();
    assert_eq!(bed.sequence(4), "ABCA", "the last chosen is another one by now");
}

#[test]
fn a_drained_service_is_refused_without_a_search() {
    for (name, flags) in [("mh", &[Flag::Fallback][..]), ("mh", &[]), ("qh", &[])] {
        assert_eq!(Bed::of(name, flags, &[0, 0, 0]).sequence(2), "..", "{name}");
    }
}

#[test]
fn without_a_scheduler_nobody_is_chosen() {
    assert_eq!(Bed::of("none", &[], &[1, 5]).sequence(3), "...");
}

#[test]
fn rr_goes_on_before_a_deleted_last_choice() {
    let mut bed = Bed::of("rr", &[], &[1, 1, 1, 1]);
    assert_eq!(bed.sequence(2), "DC");
    bed.remove('C');
    bed.publish();
    assert_eq!(bed.sequence(4), "BADB");
}

#[test]
fn a_service_with_the_id_of_another_starts_as_any_new_one() {
    for (scheduler, weights, pattern) in RECORDED {
        let mut bed = Bed::of(scheduler, &[], &[5, 3, 1]);
        bed.sequence(8);
        bed.seats.clear();
        bed.loads = Arc::default();
        for (name, weight) in ('A'..).zip(weights) {
            bed.seat(name, *weight);
        }
        bed.life += 1;
        bed.publish();
        let expected: String = pattern.chars().cycle().take(24).collect();
        assert_eq!(bed.sequence(24), expected, "{scheduler} {weights:?}");
    }
}

#[test]
fn rr_keeps_its_place_when_a_newer_backend_comes() {
    let mut bed = Bed::of("rr", &[], &[1, 1]);
    assert_eq!(bed.sequence(1), "B");
    bed.seat('C', 1);
    bed.publish();
    assert_eq!(bed.sequence(3), "ACB");
}

#[test]
fn wrr_restarts_at_the_head_after_a_change() {
    let mut bed = Bed::of("wrr", &[], &[3, 2, 1]);
    assert_eq!(bed.sequence(5), "CBAAB");
    // Step 1, top 3, threshold 2 stands: the pass begins again at the newest.
    bed.weigh('C', 2);
    bed.publish();
    assert_eq!(bed.sequence(6), "CBACBA");
}

#[test]
fn a_backend_added_again_is_the_newest_and_keeps_its_load() {
    let mut bed = Bed::of("wlc", &[], &[1, 1, 1]);
    assert_eq!(bed.sequence(6), "CBACBA");
    bed.remove('A');
    bed.publish();
    assert_eq!(bed.sequence(2), "CB");
    bed.seat('A', 1);
    bed.publish();
    // A has two connections, the others three: it catches up, and then goes first.
    assert_eq!(bed.sequence(4), "AACB");
}

#[test]
fn an_inactive_connection_weighs_little() {
    let mut bed = Bed::of("wlc", &[], &[1, 1]);
    assert_eq!(bed.sequence(1), "B");
    bed.turn(0, 'B', false);
    assert_eq!(bed.sequence(1), "A");
    // One active and one inactive connection: B's weighs 1, A's 257.
    assert_eq!(bed.sequence(1), "B");
}

#[test]
fn a_full_backend_is_passed_over_and_comes_back() {
    let limit = Limit { most: 4, least: 0 };
    for name in ["rr", "wrr", "lc", "wlc", "sed", "nq"] {
        let mut bed = Bed::of(name, &[], &[1, 1]);
        bed.edit('B', |seat| seat.limit = limit);
        bed.publish();
        let got = bed.sequence(12);
        assert_eq!(got.matches('B').count(), 4, "{name}: {got}");
        assert!(got.ends_with("AAAA"), "{name}: {got}");
        bed.end(0, 'B', true);
        assert!(!bed.sequence(4).contains('B'), "{name}: three are three quarters of four");
        bed.end(0, 'B', true);
        assert!(bed.sequence(8).contains('B'), "{name}: relieved");
    }
}

#[test]
fn wrr_finds_the_one_open_backend_at_once_however_small_its_weight() {
    let mut bed = Bed::of("wrr", &[], &[1, 65_535, 40_000]);
    for name in ['B', 'C'] {
        bed.edit(name, |seat| seat.limit = Limit { most: 1, least: 0 });
    }
    bed.publish();
    let got = bed.sequence(2_000);
    assert_eq!((got.matches('B').count(), got.matches('C').count()), (1, 1));
    assert!(got.ends_with("AAAA"), "{got}");
    bed.edit('A', |seat| seat.limit = Limit { most: 1, least: 0 });
    bed.publish();
    assert_eq!(bed.sequence(2), "..");
}

#[test]
fn one_that_cannot_be_reached_does_not_draw_all_connections() {
    for scheduler in Scheduler::ALL {
        let name = scheduler.method().name;
        let mut bed = Bed::of(name, &[], &[1, 1, 1]);
        bed.edit('C', |seat| seat.is_reachable = false);
        bed.publish();
        let got = bed.sequence(30);
        // In turn and by hash it keeps its share, whose connections are refused and say why.
        let most = if ["rr", "wrr", "sh", "mh", "qh", "dh"].contains(&name) { 30 } else { 0 };
        assert!(got.matches('C').count() <= most, "{name}: {got}");
    }
}

#[test]
fn drawn_backends_follow_weights_and_loads() {
    for name in ["twos", "p2c"] {
        let mut bed = Bed::of(name, &[], &[4, 2, 2, 0]);
        let got = bed.sequence(4_000);
        let count = |name| got.matches(name).count();
        assert_eq!(count('D') + count('.'), 0, "{name}");
        for (backend, ideal) in [('A', 2_000), ('B', 1_000), ('C', 1_000)] {
            assert!(
                count(backend).abs_diff(ideal) < ideal / 10,
                "{name}: {backend} {}",
                count(backend)
            );
        }
    }
    // One that is as strong as all the others together, however many they are.
    for others in [19u32, 99] {
        for name in ["twos", "p2c"] {
            let weights: Vec<u32> = std::iter::once(others).chain((0..others).map(|_| 1)).collect();
            let got = Bed::of(name, &[], &weights).sequence(4_000);
            let strong = got.matches('A').count();
            assert!(strong.abs_diff(2_000) < 200, "{name}, {others} others: {strong}");
        }
    }
    for name in ["twos", "p2c"] {
        assert_eq!(Bed::of(name, &[], &[0, 0, 3]).sequence(3), "CCC", "{name}: one is left");
    }
}

/// IPVS draws the first in the list more often; of the two drawn the less loaded is taken, which makes up
/// for it: from whichever of them is ahead, the next comes back more likely than not.
#[test]
fn two_choices_among_two_alike_are_even() {
    for name in ["twos", "p2c"] {
        let got = Bed::of(name, &[], &[1, 1]).sequence(20_000);
        let (mut ahead, mut most) = (0i32, 0);
        for chosen in got.chars() {
            ahead += if chosen == 'A' { 1 } else { -1 };
            most = most.max(ahead.abs());
        }
        // Being ahead by one more is 4/5 as likely: by 80, once in some millions.
        assert!(most <= 80, "{name}: ahead by {most}");
        let even = got.matches('A').count();
        assert!(even.abs_diff(10_000) <= 40, "{name}: {even} of 20,000");
    }
}

mod locality {
    use super::*;

    fn vip(n: u8) -> IpAddr {
        Ipv4Addr::new(203, 0, 113, n).into()
    }

    fn ask(bed: &mut Bed, destinations: &[u8]) -> String {
        let flow = |bed: &Bed, n| bed.flow(client(), 2000, vip(n));
        destinations.iter().map(|n| bed.connect(0, &flow(bed, *n)).unwrap_or('.')).collect()
    }

    #[test]
    fn lblc_keeps_a_destination_until_its_backend_has_too_much_and_another_room() {
        let mut bed = Bed::of("lblc", &[], &[4, 4, 4]);
        // Active may pass the weight as long as nobody has less than half of its own: B is empty
        // from the start, so the fifth still goes to C and the sixth does not.
        assert_eq!(ask(&mut bed, &[1, 1, 1, 1, 1, 1]), "CCCCCB");
        assert_eq!(ask(&mut bed, &[2, 2]), "AA");
        assert_eq!(ask(&mut bed, &[1]), "B", "it stays with its new backend");
        bed.weigh('B', 0);
        bed.publish();
        assert_eq!(ask(&mut bed, &[1, 2]), "AA", "a drained one is left");
    }

    #[test]
    fn lblcr_gives_a_busy_destination_more_backends() {
        let mut bed = Bed::of("lblcr", &[], &[4, 4, 4]);
        assert_eq!(ask(&mut bed, &[1; 6]), "CCCCCB");
        // The set is B and C now: the least loaded of them.
        assert_eq!(ask(&mut bed, &[1; 4]), "BBBB");
        assert_eq!(ask(&mut bed, &[1]), "A", "both have too much, A has room");
        // After a day without a change the most loaded leaves: with one gone, two are left.
        bed.now_ms = 86_400_001;
        ask(&mut bed, &[1]);
        bed.now_ms += 86_400_001;
        ask(&mut bed, &[1]);
        assert_eq!(ask(&mut bed, &[1; 3]).matches('A').count(), 3);
    }
}
