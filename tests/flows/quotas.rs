//! Limits of services and of sources: exact with any number of workers, in every mode, through
//! reloads, and nothing stays counted.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use proptest::prelude::*;
use shunt::dataplane::conn::state::flags::{ACK, RST, SYN};
use shunt::dataplane::snapshot::{
    Encapsulation, Mode, Quota, Quotas, Rate, Snapshot, SourceQuota, SynCookies,
};
use shunt::dataplane::verdict::Reason;
use shunt::ids::ServiceId;

use crate::endpoints::Segment;
use crate::life::{answer, from_client, open};
use crate::packets::{Endpoint, VIP, packet};
use crate::world::{Card, Plan, Sent, World};

const NO_RATE: Rate = Rate { per_second: 0, burst: 0 };

pub(crate) fn most(connections: u32) -> Quota {
    Quota { connections, rate: NO_RATE }
}

pub(crate) fn fast(per_second: u32, burst: u32) -> Quota {
    Quota { connections: 0, rate: Rate { per_second, burst } }
}

pub(crate) fn of_service(quota: Quota) -> Quotas {
    Quotas { service: quota, source: None }
}

pub(crate) fn of_source(quota: Quota) -> Quotas {
    Quotas { source: Some(SourceQuota { prefix: 32, quota }), ..Quotas::default() }
}

/// The first service, TCP's, has these.
fn with(quotas: Quotas) -> impl Fn(&mut Snapshot) {
    move |snapshot| snapshot.services[0].as_mut().unwrap().quotas = quotas
}

fn world(workers: u8, quotas: Quotas) -> World {
    let mut world = World::new(Plan { workers, ..Plan::default() });
    world.publish(with(quotas));
    world
}

fn client(last: u8, port: u16) -> Endpoint {
    (Ipv4Addr::new(192, 0, 2, last), port)
}

/// A client makes a connection to a service with these limits; what a second one gets.
pub(crate) fn twice(quotas: Quotas) -> (World, Vec<Sent>) {
    let mut world = world(1, quotas);
    world.one(0, 0, &from_client(client(1, 7), SYN));
    let sent = world.exchange(0, 0, &from_client(client(1, 8), SYN));
    (world, sent)
}

/// SYNs of these ports of a client, by workers in turn: how many got to a backend.
fn ask(world: &mut World, last: u8, ports: std::ops::Range<u16>) -> usize {
    let workers = usize::from(world.plan.workers);
    let sent = ports.map(|port| {
        let frame = from_client(client(last, port), SYN);
        world.exchange(usize::from(port) % workers, 0, &frame).len()
    });
    sent.sum()
}

fn tallied(world: &World) -> (u32, u64) {
    let tallies = &world.stats[0].tallies;
    (tallies.count(ServiceId(0)), tallies.sources.as_ref().unwrap().in_use().0)
}

#[test]
fn a_service_takes_exactly_as_many_as_it_may_and_again_when_they_have_ended() {
    for workers in [1, 2, 4] {
        for card in [Card::Any, Card::Rss] {
            let mut world = World::new(Plan { workers, card, ..Plan::default() });
            world.publish(with(of_service(most(5))));
            assert_eq!(ask(&mut world, 1, 2000..2020), 5, "{workers} workers, {card:?}");
            assert_eq!(world.drops(), [(Reason::ServiceFull, 15)]);
            assert_eq!(tallied(&world), (5, 0));
            world.wait(63);
            assert_eq!((world.connections(), tallied(&world)), ([0; 4], (0, 0)));
            assert_eq!(ask(&mut world, 1, 3000..3020), 5, "{workers} workers, again");
        }
    }
}

#[test]
fn a_service_takes_its_burst_and_then_its_rate_over_all_workers() {
    for workers in [1, 2, 4] {
        let mut world = world(workers, of_service(fast(10, 6)));
        assert_eq!(ask(&mut world, 1, 2000..2020), 6, "{workers} workers");
        world.now_ms += 350;
        assert_eq!(ask(&mut world, 2, 2000..2020), 3, "{workers} workers");
        world.now_ms += 60_000;
        assert_eq!(ask(&mut world, 3, 2000..2020), 6, "{workers} workers");
        assert_eq!(world.drops(), [(Reason::ServiceRate, 60 - 15)]);
    }
}

#[test]
fn each_source_has_its_own() {
    for workers in [1, 2, 4] {
        let mut world = world(workers, of_source(most(3)));
        let got = [1, 2, 3].map(|last| ask(&mut world, last, 2000..2008));
        assert_eq!(got, [3; 3], "{workers} workers");
        assert_eq!(world.drops(), [(Reason::SourceFull, 15)]);
        world.publish(with(of_source(Quota {
            connections: 8,
            rate: Rate { per_second: 1, burst: 2 },
        })));
        let got = [1, 2, 9].map(|last| ask(&mut world, last, 3000..3008));
        assert_eq!(got, [2; 3], "{workers} workers");
        assert_eq!(world.drops(), [(Reason::SourceFull, 15), (Reason::SourceRate, 18)]);
        assert_eq!(tallied(&world), (0, 15));
        world.wait(63);
        assert_eq!((world.connections(), tallied(&world)), ([0; 4], (0, 0)));
    }
}

#[test]
fn a_source_may_be_a_network() {
    let terms = SourceQuota { prefix: 24, quota: most(4) };
    let mut world = world(2, Quotas { source: Some(terms), ..Quotas::default() });
    let got: usize = (1..=5).map(|last| ask(&mut world, last, 2000..2002)).sum();
    assert_eq!(got, 4, "one network");
    let elsewhere = from_client((Ipv4Addr::new(192, 0, 3, 1), 7), SYN);
    assert_eq!(world.exchange(0, 0, &elsewhere).len(), 1, "another");
}

/// One that asks too much takes nothing from the others.
#[test]
fn a_source_that_is_refused_takes_nothing_of_the_services() {
    let both = Quotas { service: fast(1, 6), source: of_source(most(2)).source };
    let mut world = world(2, both);
    assert_eq!(ask(&mut world, 1, 2000..2100), 2);
    assert_eq!([2, 3].map(|last| ask(&mut world, last, 2000..2002)), [2; 2]);
    assert_eq!(world.drops(), [(Reason::SourceFull, 98)]);
}

#[test]
fn what_is_refused_for_another_reason_is_not_counted() {
    let quotas = Quotas { service: most(3), source: of_source(most(3)).source };
    let mut world = World::new(Plan { capacity: 1, ..Plan::default() });
    world.publish(with(quotas));
    assert_eq!(ask(&mut world, 1, 2000..2001), 1);
    // One that is established makes no way.
    world.one(0, 0, &from_client(client(1, 2000), ACK));
    assert_eq!(ask(&mut world, 1, 2001..2006), 0);
    assert_eq!(world.drops(), [(Reason::TableFull, 5)]);
    assert_eq!(tallied(&world), (1, 1));
    world.publish(|snapshot| {
        with(quotas)(snapshot);
        snapshot.backends.iter_mut().flatten().for_each(|backend| backend.weight = 0);
    });
    assert_eq!(ask(&mut world, 2, 2000..2006), 6, "port unreachable");
    assert_eq!(tallied(&world), (1, 1));
}

#[test]
fn refusals_are_counted_by_service_and_reason() {
    let mut world = world(1, of_service(most(2)));
    ask(&mut world, 1, 2000..2010);
    let refused = &world.stats[0].services[0].refused;
    let counts = Reason::OF_SERVICES.iter().zip(refused).map(|(r, c)| (*r, c.get()));
    let counts: Vec<_> = counts.filter(|(_, count)| *count > 0).collect();
    assert_eq!(counts, [(Reason::ServiceFull, 8)]);
    assert_eq!(world.stats[0].services[1].all_refused(), 0);
}

/// A limit that a reload brings counts what is there; one that goes takes its count with it.
#[test]
fn a_limit_counts_what_was_there_before_it() {
    for workers in [1, 2, 4] {
        let mut world = world(workers, Quotas::default());
        assert_eq!(ask(&mut world, 1, 2000..2010), 10);
        assert_eq!(tallied(&world), (0, 0), "nobody counts without a limit");
        for (limit, more) in [(12, 2), (5, 0), (14, 2)] {
            world.publish(with(of_service(most(limit))));
            let first = 3000 + 100 * u16::try_from(limit).unwrap();
            assert_eq!(ask(&mut world, 1, first..first + 20), more, "{workers} workers, {limit}");
        }
        assert_eq!(tallied(&world).0, 14);
        world.publish(with(Quotas::default()));
        assert_eq!(tallied(&world).0, 0);
        assert_eq!(ask(&mut world, 1, 7000..7003), 3);
        world.publish(with(of_service(most(1))));
        assert_eq!(tallied(&world).0, 17);
        world.wait(63);
        assert_eq!((world.connections(), tallied(&world)), ([0; 4], (0, 0)));
    }
}

#[test]
fn packets_of_connections_are_never_asked() {
    let mut world = world(1, Quotas::default());
    let there = open(&mut world, client(1, 2000));
    let none = Quotas {
        service: Quota { connections: 1, rate: Rate { per_second: 1, burst: 1 } },
        source: of_source(fast(1, 1)).source,
    };
    world.publish(with(none));
    for _ in 0..50 {
        world.one(0, 0, &from_client(client(1, 2000), ACK));
        world.one(0, 1, &answer(&there, ACK));
    }
    assert_eq!(world.drops(), []);
}

#[test]
fn every_mode_and_one_packet_datagrams_count_and_end() {
    let modes = [Mode::Fullnat, Mode::Nat, Mode::Dr, Mode::Tunnel(Encapsulation::Ipip)];
    let quotas = Quotas { service: most(4), source: of_source(most(3)).source };
    for (workers, mode) in [1, 2, 4].into_iter().flat_map(|n| modes.map(|mode| (n, mode))) {
        for one_packet in [false, true] {
            let mut world = World::new(Plan { workers, modes: vec![mode; 3], ..Plan::default() });
            world.publish(|snapshot| {
                for service in snapshot.services.iter_mut().flatten() {
                    (service.quotas, service.one_packet) = (quotas, one_packet);
                }
            });
            assert_eq!(ask(&mut world, 1, 2000..2006), 3, "{workers} {mode:?}");
            assert_eq!(ask(&mut world, 2, 2000..2006), 1, "{workers} {mode:?}");
            for port in 2000..2006 {
                let frame = packet().udp(client(1, port), VIP).payload(b"?").build();
                world.exchange(usize::from(port) % usize::from(workers), 0, &frame);
            }
            world.wait(310);
            assert_eq!(world.connections(), [0; 4], "{workers} {mode:?} {one_packet}");
            assert_eq!(tallied(&world), (0, 0), "{workers} {mode:?} {one_packet}");
            assert_eq!(world.stats[0].tallies.count(ServiceId(1)), 0);
        }
    }
}

/// A forged SYN proves nothing, so it uses nothing up; a client that has proven itself does.
#[test]
fn with_cookies_only_who_is_there_counts() {
    let quotas = Quotas { service: most(2), source: of_source(most(1)).source };
    let mut world = World::new(Plan::default());
    world.publish(|snapshot| {
        with(quotas)(snapshot);
        snapshot.services[0].as_mut().unwrap().syn_cookies = SynCookies::Always;
    });
    let syn = |from| packet().tcp(from, VIP).flags(SYN).numbers(0, 0).build();
    let come_back = |world: &mut World, from, told: &Segment| {
        let number = told.sequence.wrapping_add(1);
        world.exchange(0, 0, &packet().tcp(from, VIP).numbers(1, number).flags(ACK).build())
    };
    let clients = [client(1, 2000), client(1, 2001), client(2, 2000), client(3, 2000)];
    let told = clients.map(|from| Segment::read(&world.one(0, 0, &syn(from)).frame));
    assert_eq!(tallied(&world), (0, 0));
    let answers = [0, 1, 2, 3].map(|n| come_back(&mut world, clients[n], &told[n]));
    let told: Vec<bool> =
        answers.iter().map(|sent| Segment::read(&sent[0].frame).has(RST)).collect();
    assert_eq!(told, [false, true, false, true], "the source, then the service is full");
    assert_eq!(world.drops(), [(Reason::ServiceFull, 1), (Reason::SourceFull, 1)]);
    assert_eq!(tallied(&world), (2, 2));
    assert_eq!(world.exchange(0, 0, &syn(client(4, 2000))), [], "a full service promises nothing");
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Ask(u8, u16),
    Reset(usize),
    Wait(u32),
    Limit(u32, u32),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1..5u8, 2000..2040u16).prop_map(|(last, port)| Step::Ask(last, port)),
        3 => any::<prop::sample::Index>().prop_map(|at| Step::Reset(at.index(1 << 16))),
        1 => (1..20u32).prop_map(Step::Wait),
        1 => (0..12u32, 0..6u32).prop_map(|(service, source)| Step::Limit(service, source)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever clients and reloads do, the shared counts are those of the tables, and after all has
    /// ended they are zero.
    #[test]
    fn counts_are_those_of_the_tables_over_any_history(
        steps in prop::collection::vec(step(), 1..80),
        workers in prop::sample::select(vec![1u8, 2, 4]),
    ) {
        let mut world = world(workers, Quotas { service: most(6), source: of_source(most(2)).source });
        let mut limit = 6;
        let mut open = BTreeMap::new();
        for step in steps {
            match step {
                Step::Ask(last, port) => {
                    let from = client(last, port);
                    let at = usize::from(port) % usize::from(workers);
                    if let Some(sent) = world.exchange(at, 0, &from_client(from, SYN)).pop() {
                        open.insert(from, sent);
                    }
                }
                Step::Reset(n) => {
                    let Some(from) = open.keys().nth(n % open.len().max(1)).copied() else { continue };
                    let sent = open.remove(&from).unwrap();
                    world.exchange(0, 1, &answer(&sent, RST | ACK));
                }
                Step::Wait(seconds) => world.wait(seconds),
                Step::Limit(service, source) => {
                    limit = service;
                    let source = (source > 0).then(|| of_source(most(source)).source).flatten();
                    world.publish(with(Quotas { service: most(service), source }));
                }
            }
            let (shared, of_sources) = tallied(&world);
            let [tables, ..] = world.connections();
            prop_assert_eq!(shared, if limit > 0 { tables } else { 0 });
            prop_assert!(of_sources <= u64::from(tables));
        }
        world.wait(200);
        prop_assert_eq!(world.connections(), [0; 4]);
        prop_assert_eq!(tallied(&world), (0, 0));
    }
}
