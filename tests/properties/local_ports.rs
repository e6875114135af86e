//! Local ports: never a collision, and the reply's owner is always the chooser.

use std::collections::HashSet;
use std::net::Ipv4Addr;

use proptest::prelude::*;
use shunt::dataplane::conn::key::FlowKey;
use shunt::dataplane::conn::ports::{ATTEMPTS_MAX, Ownership, PORT_MIN};
use shunt::dataplane::snapshot::{Link, PortView, Steering};
use shunt::ids::WorkerId;
use shunt::wire::Mac;

const BACKEND: Ipv4Addr = Ipv4Addr::new(10, 44, 0, 11);

fn ports(rss: Option<([u8; 40], usize)>, workers: u8) -> Vec<PortView> {
    let steering = match rss {
        None => Steering::Software,
        Some((key, length)) => Steering::Rss {
            key: key.into(),
            table: (0..length).map(|i| u16::try_from(i % workers as usize).unwrap()).collect(),
        },
    };
    vec![PortView { mac: Mac::default(), mtu: 1500, steering, link: Link::Device }; 2]
}

fn owners(rss: Option<([u8; 40], usize)>, workers: u8) -> Vec<Ownership> {
    let ports = ports(rss, workers);
    (0..workers).map(|w| Ownership::new(WorkerId(w), workers, &ports)).collect()
}

fn rss() -> impl Strategy<Value = Option<([u8; 40], usize)>> {
    let table = prop::sample::select(vec![64usize, 128, 512]);
    prop::option::of((prop::array::uniform32(any::<u8>()), table).prop_map(|(half, table)| {
        let key: Vec<u8> = half.iter().chain(half.iter().rev()).copied().take(40).collect();
        // A key of zeros would send everything to one queue, as it would on a card.
        let mut key: [u8; 40] = key.try_into().unwrap();
        key[0] |= 1;
        key[11] |= 1;
        (key, table)
    }))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// For 1 to 16 workers, with and without RSS: all workers choose at random times towards a
    /// few backends; no reply key is given out twice, and every worker names the chooser as the
    /// owner of the reply.
    #[test]
    fn choices_never_collide_and_replies_return(
        rss in rss(),
        workers in 1u8..=16,
        locals in 1u8..4,
        choosers in prop::collection::vec((any::<prop::sample::Index>(), 0u8..3), 1..400),
    ) {
        let owners = owners(rss, workers);
        let locals: Vec<_> = (1..=locals).map(|n| Ipv4Addr::new(10, 44, 1, n)).collect();
        let mut turns = vec![0; workers as usize];
        let mut used: HashSet<(Ipv4Addr, u16, Ipv4Addr, u16)> = HashSet::new();
        for (chooser, backend) in choosers {
            let w = chooser.index(workers as usize);
            let backend = (Ipv4Addr::new(10, 44, 0, backend), 8080);
            let name = |k: FlowKey| (k.source(), k.source_port(), k.destination(), k.destination_port());
            let free = |key: FlowKey| !used.contains(&name(key));
            let Some(key) = owners[w].choose(&mut turns[w], &locals, 6, backend, free) else {
                // A random key may starve a queue of this table; then there is no port at all.
                let some = (PORT_MIN..=u16::MAX)
                    .flat_map(|port| locals.iter().map(move |local| (*local, port)))
                    .map(|local| FlowKey::new(6, backend, local))
                    .filter(|key| !used.contains(&name(*key)))
                    .any(|key| owners[w].reply(key) == WorkerId(u8::try_from(w).unwrap()));
                prop_assert!(!some, "a port was left");
                continue;
            };
            prop_assert!(used.insert(name(key)), "{key:?} given out twice");
            prop_assert!(key.destination_port() >= PORT_MIN);
            prop_assert!(locals.contains(&key.destination()));
            for owner in &owners {
                prop_assert_eq!(owner.reply(key), WorkerId(u8::try_from(w).unwrap()));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Ports in use lie in long runs; as long as a fifth is free, the search gets past them.
    #[test]
    fn a_run_of_ports_in_use_is_jumped(
        workers in 1u8..=16,
        start in 0u32..64_512,
        length in 0u32..51_000,
        turn in any::<u32>(),
    ) {
        for owner in owners(None, workers) {
            let used = |port: u16| {
                (u32::from(port - PORT_MIN) + 64_512 - start) % 64_512 < length
            };
            let local = [Ipv4Addr::new(10, 44, 0, 2)];
            let mut turn = turn;
            let free = |key: FlowKey| !used(key.destination_port());
            prop_assert!(owner.choose(&mut turn, &local, 6, (BACKEND, 80), free).is_some());
        }
    }
}

/// All ports of a local address serve some worker, whatever the number of workers.
#[test]
fn every_port_from_the_lowest_up_has_one_owner_that_uses_it() {
    for workers in [1u8, 2, 3, 5, 7, 16] {
        let mut seen = HashSet::new();
        for owner in owners(None, workers) {
            let mut turn = 0;
            let local = [Ipv4Addr::new(10, 44, 0, 2)];
            let mut mine = HashSet::new();
            // In turn, everything free: once around gives every port of this worker.
            for _ in 0..64_512 {
                let key = owner.choose(&mut turn, &local, 17, (BACKEND, 53), |_| true).unwrap();
                mine.insert(key.destination_port());
            }
            assert!(mine.is_disjoint(&seen), "{workers} workers share a port");
            seen.extend(mine);
        }
        assert_eq!(seen.len(), usize::from(u16::MAX - PORT_MIN) + 1, "{workers} workers");
    }
}

#[test]
fn used_up_is_a_refusal_after_a_bounded_search() {
    let [owner] = &owners(None, 1)[..] else { unreachable!() };
    let looked = std::cell::Cell::new(0);
    let nothing_free = |_| {
        looked.set(looked.get() + 1);
        false
    };
    let local = [Ipv4Addr::new(10, 44, 0, 2)];
    assert_eq!(owner.choose(&mut 40_000, &local, 6, (BACKEND, 80), nothing_free), None);
    assert_eq!(looked.get(), ATTEMPTS_MAX);
    assert_eq!(owner.choose(&mut 0, &[], 6, (BACKEND, 80), |_| true), None, "no local address");
}

#[test]
fn a_port_comes_round_again_only_after_all_the_others() {
    for workers in [1, 2, 3, 16] {
        for owner in owners(None, workers) {
            let local = [Ipv4Addr::new(10, 44, 0, 2)];
            let mut turn = 0;
            let mut next = || owner.choose(&mut turn, &local, 6, (BACKEND, 80), |_| true).unwrap();
            let order: Vec<_> = (0..64_512).map(|_| next().destination_port()).collect();
            let share: HashSet<_> = order.iter().collect();
            let again = order.iter().skip(1).position(|port| *port == order[0]);
            let round = again.map_or(order.len(), |again| again + 1);
            assert_eq!(round, share.len(), "{workers} workers");
        }
    }
}

#[test]
fn ports_that_spread_differently_fall_back_to_slices() {
    let mut ports = ports(Some(([3; 40], 128)), 4);
    ports[1].steering = Steering::Software;
    let mixed = Ownership::new(WorkerId(1), 4, &ports);
    assert_eq!(mixed, Ownership::new(WorkerId(1), 4, &self::ports(None, 4)));
}
