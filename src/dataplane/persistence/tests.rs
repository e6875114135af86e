//! Templates against what a plain map would say, and workers against each other.

use std::collections::HashMap;
use std::sync::atomic::AtomicUsize;

use proptest::prelude::*;

use super::*;

const TERMS: Persistence =
    Persistence { timeout_ms: 360_000, prefix: 32, to_drained: false, epoch: 1 };

fn templates(count: usize) -> Templates {
    Templates::new(count, Seed([7, 11]), HugePages::Never).unwrap()
}

fn client(last: u8) -> Client {
    Client::of(IpAddr::from([192, 0, 2, last]), ServiceId(0), TERMS)
}

fn usable(_: BackendId) -> bool {
    true
}

#[test]
fn clients_of_one_network_are_one_and_services_and_epochs_are_apart() {
    let of = |address: &str, service, prefix, epoch| {
        let terms = Persistence { prefix, epoch, ..TERMS };
        Client::of(address.parse().unwrap(), ServiceId(service), terms)
    };
    assert_eq!(of("192.0.2.1", 0, 24, 1), of("192.0.2.200", 0, 24, 1));
    assert_ne!(of("192.0.2.1", 0, 32, 1), of("192.0.2.200", 0, 32, 1));
    assert_ne!(of("192.0.2.1", 0, 24, 1), of("192.0.3.1", 0, 24, 1));
    assert_eq!(of("192.0.2.1", 0, 0, 1), of("203.0.113.1", 0, 0, 1));
    assert_eq!(of("2001:db8::1", 0, 64, 1), of("2001:db8::2", 0, 64, 1));
    assert_ne!(of("2001:db8::1", 0, 128, 1), of("2001:db8::2", 0, 128, 1));
    assert_ne!(of("192.0.2.1", 0, 24, 1), of("192.0.2.1", 1, 24, 1));
    assert_ne!(of("192.0.2.1", 0, 24, 1), of("192.0.2.1", 0, 24, 2));
}

#[test]
fn a_template_lasts_from_the_last_connection_and_while_one_lives() {
    let templates = templates(6);
    let (me, there) = (client(1), BackendId(5));
    assert_eq!(templates.keep(me, there, (1_000, 360_000), usable), Kept::Here(there));
    assert_eq!(templates.find(me, 360_999), Some(there));
    assert_eq!(templates.find(me, 361_000), None, "over");
    templates.keep(me, there, (400_000, 360_000), usable);
    templates.refresh(me, there, 420_000);
    assert_eq!(templates.find(me, 759_999), Some(there), "a refresh shortens nothing");
    templates.refresh(me, there, 759_999);
    assert_eq!(templates.find(me, 819_998), Some(there), "a connection lives");
    templates.refresh(me, BackendId(6), 819_998);
    assert_eq!(templates.find(me, 819_999), None, "another's connection is no reason");
    templates.refresh(me, there, 900_000);
    assert_eq!(templates.find(me, 900_000), None, "nor does one bring it back");
}

#[test]
fn the_first_backend_stays_unless_it_is_of_no_use() {
    let templates = templates(6);
    let (me, first, second) = (client(1), BackendId(5), BackendId(6));
    let at = (1_000, 360_000);
    templates.keep(me, first, at, usable);
    assert_eq!(templates.keep(me, second, at, usable), Kept::Here(first), "another was quicker");
    assert_eq!(templates.keep(me, second, at, |it| it != first), Kept::Here(second));
    assert_eq!(templates.find(me, 1_000), Some(second));
}

#[test]
fn where_there_is_no_room_the_one_that_ends_first_makes_way() {
    let templates = templates(6);
    assert_eq!(templates.capacity(), 6);
    for n in 0..6 {
        let at = (u32::from(n) * 10, 1_000);
        assert_eq!(templates.keep(client(n), BackendId(0), at, usable), Kept::Here(BackendId(0)));
    }
    templates.keep(client(0), BackendId(0), (70, 1_000), usable);
    let kept = templates.keep(client(6), BackendId(3), (80, 1_000), usable);
    assert_eq!(kept, Kept::Evicted(BackendId(3)));
    assert_eq!(templates.find(client(1), 80), None);
    assert_eq!(templates.find(client(0), 80), Some(BackendId(0)));
    assert_eq!((templates.live(80), templates.live(2_000)), (6, 0));
}

#[test]
fn the_clock_may_pass_its_end() {
    let templates = templates(6);
    let before = u32::MAX - 10;
    templates.keep(client(1), BackendId(5), (before, 1_000), usable);
    assert_eq!(templates.find(client(1), 500), Some(BackendId(5)));
    assert_eq!(templates.find(client(1), 1_000), None);
}

#[test]
fn one_who_claims_and_does_not_let_go_stops_nobody() {
    let templates = templates(6);
    templates.keep(client(1), BackendId(5), (0, 1_000), usable);
    let claimed = templates.claim(client(1)).unwrap();
    assert_eq!(templates.find(client(1), 0), None);
    assert_eq!(templates.keep(client(1), BackendId(6), (0, 1_000), usable), Kept::Not);
    drop(claimed);
    assert_eq!(templates.find(client(1), 0), Some(BackendId(5)));
}

/// Four workers, at once, for clients that often meet: whoever asks for one client is told one
/// backend.
#[test]
fn all_workers_are_told_the_same_backend() {
    let templates = templates(1024);
    let (told, lost) = (<[AtomicU32; 256]>::default_array(), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for worker in 0..4_u32 {
            let (templates, told, lost) = (&templates, &told, &lost);
            scope.spawn(move || {
                for round in 0..20_000_u32 {
                    let n = (round.wrapping_mul(2_654_435_761) >> 24) as u8;
                    let mine = BackendId(1 + worker);
                    match templates.keep(client(n), mine, (0, 1_000), usable) {
                        Kept::Here(backend) | Kept::Evicted(backend) => {
                            let before = told[usize::from(n)].swap(backend.0, Ordering::Relaxed);
                            assert!(before == 0 || before == backend.0, "client {n}");
                        }
                        Kept::Not => {
                            lost.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                }
            });
        }
    });
    assert!(lost.into_inner() < 40_000, "claims are short");
}

trait DefaultArray {
    fn default_array() -> Self;
}

impl<const N: usize> DefaultArray for [AtomicU32; N] {
    fn default_array() -> Self {
        std::array::from_fn(|_| AtomicU32::new(0))
    }
}

proptest! {
    /// With room enough the table is a map with an end for each entry.
    #[test]
    fn templates_are_a_map_whose_entries_end(
        steps in prop::collection::vec((0..8u8, 0..3u32, 0..3u8, 0..200_000u32), 1..200),
    ) {
        let templates = templates(600);
        let mut model = HashMap::<u8, (u32, u32)>::new();
        let mut now = 5_u32;
        for (n, backend, step, passed) in steps {
            now += passed;
            model.retain(|_, (_, ends)| *ends > now);
            match step {
                0 => {
                    let found = templates.find(client(n), now).map(|it| it.0);
                    prop_assert_eq!(found, model.get(&n).map(|(backend, _)| *backend));
                }
                1 => {
                    templates.keep(client(n), BackendId(backend), (now, 90_000), usable);
                    let entry = model.entry(n).or_insert((backend, 0));
                    entry.1 = entry.1.max(now + 90_000);
                }
                _ => {
                    templates.refresh(client(n), BackendId(backend), now);
                    if let Some(entry) = model.get_mut(&n).filter(|entry| entry.0 == backend) {
                        entry.1 = entry.1.max(now + REFRESH_MS);
                    }
                }
            }
            prop_assert_eq!(templates.live(now), model.len());
        }
    }
}
