//! Ten thousand backends: what a choice costs where all are full, and where few are not.

use super::*;

const COUNT: u32 = 10_000;
const SERVICE: ServiceId = ServiceId(0);

/// A service of that many backends of weight 1 to 4, full with one connection each; `is_down` are of
/// weight 0.
fn snapshot(scheduler: Scheduler, limit: Limit, is_down: bool) -> Snapshot {
    let ids = || (0..COUNT).rev().map(BackendId);
    let weight = |id: BackendId| if is_down { 0 } else { 1 + id.0 % 4 };
    let entry = |id: BackendId| Entry {
        address: (Ipv4Addr::from_bits(0x0a2c_0000 + id.0), 80).into(),
        weight: weight(id),
        last_weight: 1 + id.0 % 4,
        server_id: None,
    };
    let flags = Flags::default().with(Flag::Fallback);
    let entries: Vec<Entry> = ids().map(entry).collect();
    let service = Service {
        scheduling: Scheduling::prepare(scheduler, flags, &entries),
        backends: ids().collect(),
        revision: 1,
        ..Service::default()
    };
    let backend = |n| Backend {
        service: SERVICE,
        address: entry(BackendId(n)).address.ip(),
        port: 80,
        mode: Mode::Fullnat,
        answers_here: false,
        our_address: Ipv4Addr::UNSPECIFIED.into(),
        weight: weight(BackendId(n)),
        limit,
        next_hop: Some(HOP),
    };
    let mut snapshot = Snapshot::default();
    snapshot.services = [Some(service)].into();
    snapshot.backends = (0..COUNT).map(|n| Some(backend(n))).collect();
    snapshot.indexed()
}

fn flow(n: u32, now_ms: u32) -> Flow<'static> {
    let client = Ipv4Addr::from_bits(0xc000_0200 + n).into();
    Flow { client, client_port: 2000, vip: VIP, datagram: &[], now_ms }
}

/// Looks of `flows` choices that all find nobody, after a first one.
fn looks_of_a_flood(chooser: &mut Chooser, snapshot: &Snapshot, loads: &Loads) -> u64 {
    assert_eq!(chooser.place(snapshot, loads, SERVICE, &flow(0, 1)), None);
    let before = LOOKS.get();
    for n in 1..=1_000 {
        assert_eq!(chooser.place(snapshot, loads, SERVICE, &flow(n, 1)), None);
        assert!(!chooser.has_place(snapshot, loads, SERVICE, &flow(n, 1)));
    }
    LOOKS.get() - before
}

#[test]
fn a_flood_to_a_service_that_is_full_or_down_looks_at_few_of_its_backends() {
    let limit = Limit { most: 1, least: 1 };
    for scheduler in Scheduler::ALL {
        for workers in [1, 2] {
            for is_down in [false, true] {
                let snapshot = snapshot(*scheduler, limit, is_down);
                let loads = Loads::default();
                (0..COUNT).for_each(|id| assert!(loads.take(BackendId(id), limit)));
                let mut chooser = Chooser::new(WorkerId(0), workers, 7);
                let looks = looks_of_a_flood(&mut chooser, &snapshot, &loads);
                // p2c and twos draw 16 times; with several workers a choice looks at two.
                assert!(looks <= 24_000, "{scheduler}, {workers}, {is_down}: {looks} for 1,000");
            }
        }
    }
}

/// What any worker reopens is found at once, wherever it is in the list, by whoever chooses next.
#[test]
fn the_one_that_is_open_is_found_without_a_walk() {
    let limit = Limit { most: 1, least: 1 };
    for name in ["rr", "wrr", "lc", "wlc", "sed", "nq", "p2c", "twos", "mh", "fo", "lblc", "lblcr"]
    {
        let snapshot = snapshot(named(name), limit, false);
        let loads = Loads::default();
        (0..COUNT).for_each(|id| assert!(loads.take(BackendId(id), limit)));
        let mut chooser = Chooser::new(WorkerId(1), 2, 7);
        looks_of_a_flood(&mut chooser, &snapshot, &loads);
        let before = LOOKS.get();
        for n in 0..200 {
            let freed = BackendId(n * 7919 % COUNT);
            loads.give_back(freed, false, limit);
            assert!(chooser.has_place(&snapshot, &loads, SERVICE, &flow(n, 1)), "{name}");
            assert_eq!(
                chooser.place(&snapshot, &loads, SERVICE, &flow(n, 1)),
                Some(freed),
                "{name}"
            );
            assert_eq!(chooser.place(&snapshot, &loads, SERVICE, &flow(n, 1)), None, "{name}");
        }
        let looks = (LOOKS.get() - before) / 200;
        assert!(looks < 700, "{name}: {looks} a connection");
    }
}

/// A reload that concerns others leaves the trees as they are.
#[test]
fn another_services_reload_costs_no_walk() {
    for name in ["wlc", "nq"] {
        let (one, loads) = (snapshot(named(name), Limit::NONE, false), Loads::default());
        let mut chooser = Chooser::new(WorkerId(0), 1, 7);
        chooser.place(&one, &loads, SERVICE, &flow(0, 1)).unwrap();
        let other = one.clone().indexed();
        let looks = |chooser: &mut Chooser, before, now| {
            chooser.renew(before, now, &loads);
            let looked = LOOKS.get();
            chooser.place(now, &loads, SERVICE, &flow(1, 1)).unwrap();
            LOOKS.get() - looked
        };
        assert!(looks(&mut chooser, &one, &other) < 10, "{name}");
        let mut changed = other.clone();
        changed.backends[5].as_mut().unwrap().next_hop = None;
        let changed = changed.indexed();
        assert!(looks(&mut chooser, &other, &changed) >= u64::from(COUNT) - 1, "{name}: its own");
        // Its trees are elsewhere: they are built anew there.
        let mut moved = changed.clone();
        let two = moved.services[0].clone();
        moved.services = [None, two].into();
        moved.backends.iter_mut().flatten().for_each(|backend| backend.service = ServiceId(1));
        let moved = moved.indexed();
        chooser.renew(&changed, &moved, &loads);
        assert!(chooser.place(&moved, &loads, ServiceId(1), &flow(1, 1)).is_some());
    }
}
