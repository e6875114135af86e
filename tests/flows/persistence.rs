//! Persistence: a client stays with its backend, in every mode, whichever worker is asked.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;
use shunt::dataplane::conn::state::State;
use shunt::dataplane::conn::state::flags::{ACK, FIN, RST, SYN};
use shunt::dataplane::orders::ConnectionView;
use shunt::dataplane::persistence::Persistence;
use shunt::dataplane::snapshot::{
    Backend, Encapsulation, Limit, Mode, Place, Protocol, Scheduler, Snapshot,
};
use shunt::dataplane::verdict::Reason;
use shunt::stats::counters::Counter;

use crate::life::{answer, from_client};
use crate::packets::{Endpoint, VIP};
use crate::shop::{first, host};
use crate::world::{Card, Plan, World};

const TERMS: Persistence =
    Persistence { timeout_ms: 360_000, prefix: 32, to_drained: false, epoch: 1 };

fn terms(terms: Persistence) -> impl Fn(&mut Snapshot) {
    move |snapshot| {
        for service in snapshot.services.iter_mut().flatten() {
            service.persistence = Some(terms);
        }
    }
}

fn world(plan: Plan) -> World {
    let mut world = World::new(plan);
    world.publish(terms(TERMS));
    world
}

/// A port of one of a few clients, all in one /24.
fn client(last: u8, port: u16) -> Endpoint {
    (Ipv4Addr::new(192, 0, 2, last), port)
}

/// The backend a new connection of the client goes to.
fn ask(world: &mut World, worker: usize, from: Endpoint) -> u8 {
    host(&world.one(worker, 0, &from_client(from, SYN)))
}

#[test]
fn a_client_stays_and_others_take_turns() {
    let modes = [Mode::Fullnat, Mode::Nat, Mode::Dr, Mode::Tunnel(Encapsulation::Ipip)];
    for mode in modes {
        let mut world = world(Plan { modes: vec![mode; 3], ..Plan::default() });
        let chosen = [1, 2, 3].map(|last| ask(&mut world, 0, client(last, 2000)));
        assert_eq!(chosen, [13, 12, 11], "{mode:?}");
        for port in 2001..2010 {
            let again = [1, 2, 3].map(|last| ask(&mut world, 0, client(last, port)));
            assert_eq!(again, chosen, "{mode:?}");
        }
    }
}

/// IPVS keeps a mark for it: HTTP/3 beside HTTPS, one client at one backend.
#[test]
fn a_client_stays_by_every_protocol_of_its_service() {
    for (workers, mode) in [(1, Mode::Fullnat), (3, Mode::Nat), (3, Mode::Fullnat), (2, Mode::Dr)] {
        let modes = vec![mode; 3];
        let mut world = World::new(Plan { workers, modes, ..Plan::default() });
        world.publish(|snapshot| {
            terms(TERMS)(snapshot);
            snapshot.services.iter_mut().skip(1).for_each(|service| *service = None);
            let service = snapshot.services[0].as_mut().unwrap();
            let place = |protocol| Place { protocol, address: service.addresses[0] };
            service.other_protocols = [Protocol::Udp, Protocol::Sctp].map(place).into();
        });
        let workers = usize::from(workers);
        let mut homes = BTreeMap::new();
        for (port, last) in (2000..2030u16).zip([1, 2, 3, 4, 5].into_iter().cycle()) {
            let protocol = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp][usize::from(port % 3)];
            let (from, to) = (client(last, port).into(), VIP.into());
            let frame = first(protocol, from, to).build();
            let sent = world.exchange(usize::from(port) % workers, 0, &frame);
            let home = *homes.entry(last).or_insert_with(|| host(&sent[0]));
            assert_eq!(host(&sent[0]), home, "{mode:?}, client {last}, {protocol}");
        }
        let all: std::collections::BTreeSet<_> = homes.into_values().collect();
        assert!(all.len() > 1, "clients are spread: {all:?}");
        let made: u64 = world.stats.iter().map(|s| s.services[0].new_connections.get()).sum();
        assert_eq!(made, 30, "one count");
    }
}

#[test]
fn without_a_scheduler_a_known_client_still_finds_its_backend() {
    let mut world = world(Plan::default());
    let chosen = ask(&mut world, 0, client(1, 2000));
    world.publish(|snapshot| {
        terms(TERMS)(snapshot);
        for service in snapshot.services.iter_mut().flatten() {
            service.scheduling = Scheduler::NONE.into();
        }
    });
    assert_eq!(ask(&mut world, 0, client(1, 2001)), chosen);
    assert_eq!(world.one(0, 0, &from_client(client(2, 2000), SYN)).port, 0);
    assert_eq!(world.drops(), [(Reason::NoBackend, 1)]);
}

#[test]
fn clients_of_one_network_are_one_where_the_prefix_says_so() {
    let mut world = World::new(Plan::default());
    world.publish(terms(Persistence { prefix: 24, ..TERMS }));
    let chosen = [1, 77, 200].map(|last| ask(&mut world, 0, client(last, 2000)));
    assert_eq!(chosen, [13; 3]);
    let elsewhere = ask(&mut world, 0, (Ipv4Addr::new(192, 0, 3, 1), 2000));
    assert_eq!(elsewhere, 12);
}

#[test]
fn a_client_is_forgotten_after_its_last_connection() {
    let mut world = world(Plan::default());
    let first = world.one(0, 0, &from_client(client(1, 2000), SYN));
    world.one(0, 1, &answer(&first, SYN | ACK));
    world.one(0, 0, &from_client(client(1, 2000), ACK));
    // The connection lives: established, 900 s.
    world.wait(800);
    assert_eq!(ask(&mut world, 0, client(1, 2001)), host(&first), "while it lives");
    world.one(0, 0, &from_client(client(1, 2000), FIN | ACK));
    world.wait(359);
    assert_eq!(ask(&mut world, 0, client(1, 2002)), host(&first), "and 360 s after another");
    world.wait(500);
    assert_eq!(world.connections(), [0; 4]);
    assert_eq!(ask(&mut world, 0, client(2, 2000)), 12);
    assert_eq!(ask(&mut world, 0, client(1, 2003)), 11, "a client like any other again");
}

#[test]
fn a_drained_backend_gets_nobody_unless_asked_for_and_a_removed_one_never() {
    for (to_drained, removed, stays) in
        [(false, false, false), (true, false, true), (true, true, false)]
    {
        let mut world = World::new(Plan::default());
        let publish = |world: &mut World| world.publish(terms(Persistence { to_drained, ..TERMS }));
        publish(&mut world);
        assert_eq!(ask(&mut world, 0, client(1, 2000)), 13);
        world.plan.weights[2] = if removed { None } else { Some(0) };
        publish(&mut world);
        let next = ask(&mut world, 0, client(1, 2001));
        assert_eq!(next == 13, stays, "{to_drained} {removed}: {next}");
        assert_eq!(ask(&mut world, 0, client(1, 2002)), next, "and stays where it went");
    }
}

/// The backend 10.44.0.13, the first of the list.
fn thirteen(snapshot: &mut Snapshot) -> &mut Backend {
    let is_it = |backend: &&mut Backend| backend.address == IpAddr::from([10, 44, 0, 13]);
    snapshot.backends.iter_mut().flatten().find(is_it).expect("it is in every plan here")
}

#[test]
fn a_full_backend_gets_not_even_its_own_clients_who_come_back_when_there_is_room() {
    let mut world = World::new(Plan::default());
    world.publish(|snapshot| {
        terms(TERMS)(snapshot);
        thirteen(snapshot).limit = Limit { most: 1, least: 1 };
    });
    let first = world.one(0, 0, &from_client(client(1, 2000), SYN));
    world.one(0, 1, &answer(&first, SYN | ACK));
    world.one(0, 0, &from_client(client(1, 2000), ACK));
    assert_eq!(host(&first), 13);
    assert_ne!(ask(&mut world, 0, client(1, 2001)), 13, "full");
    // The first connection ends: CLOSE, 10 s.
    world.exchange(0, 0, &from_client(client(1, 2000), RST));
    world.wait(12);
    assert_eq!(ask(&mut world, 0, client(1, 2002)), 13, "there is room again");
}

#[test]
fn a_backend_that_cannot_be_reached_loses_its_clients() {
    let mut world = world(Plan::default());
    assert_eq!(ask(&mut world, 0, client(1, 2000)), 13);
    world.publish(|snapshot| {
        terms(TERMS)(snapshot);
        thirteen(snapshot).next_hop = None;
    });
    // wrr begins anew, with a backend that cannot be reached: whoever comes first meets it.
    assert_eq!(world.exchange(0, 0, &from_client(client(9, 2000), SYN)), []);
    let next = ask(&mut world, 0, client(1, 2001));
    assert_ne!(next, 13);
    world.publish(terms(TERMS));
    assert_eq!(ask(&mut world, 0, client(1, 2002)), next, "and stays where it went");
}

/// A backend is refused to itself, and not kept for its next connection: that may be another one's.
#[test]
fn no_client_is_used_to_itself() {
    let mut world = World::new(Plan { modes: vec![Mode::Nat; 3], ..Plan::default() });
    world.publish(terms(TERMS));
    let ask = |port| from_client(([10, 44, 0, 13].into(), port), SYN);
    let told = world.one(0, 0, &ask(2000));
    assert_eq!((told.port, world.drops()), (0, vec![(Reason::Hairpin, 1)]));
    assert_eq!((world.templates(), world.connections()), (0, [0; 4]));
    let next = host(&world.one(0, 0, &ask(2001)));
    assert_ne!(next, 13);
    assert_eq!(host(&world.one(0, 0, &ask(2002))), next, "and stays where it went");
}

#[test]
fn a_template_is_listed_with_its_network_and_backend_as_long_as_it_means_something() {
    let terms_of_networks = Persistence { prefix: 24, ..TERMS };
    let mut world = World::new(Plan { workers: 2, modes: vec![Mode::Dr; 3], ..Plan::default() });
    world.publish(terms(terms_of_networks));
    let homes =
        [ask(&mut world, 0, client(7, 2000)), ask(&mut world, 1, ([203, 0, 113, 9].into(), 2000))];
    world.wait(10);
    for worker in [0, 1] {
        for rows in [1, 7, 1000] {
            let mut listed = world.list_templates(worker, rows);
            listed.sort_by_key(|row| row.client);
            let told = |row: &ConnectionView| (row.client.to_string(), row.vip, row.backend);
            let backend = |host| ([10, 44, 0, host], VIP.1).into();
            let expected = [
                ("192.0.2.0:0".to_owned(), VIP.into(), backend(homes[0])),
                ("203.0.113.0:0".to_owned(), VIP.into(), backend(homes[1])),
            ];
            assert_eq!(listed.iter().map(told).collect::<Vec<_>>(), expected);
            for row in listed {
                assert_eq!((row.state, row.protocol), (State::None, Protocol::Tcp));
                assert!((300_000..=360_000).contains(&row.expires_ms), "{row:?}");
            }
        }
    }
    world.publish(|snapshot| {
        terms(terms_of_networks)(snapshot);
        snapshot.backends[usize::from(homes[0]) - 11] = None;
    });
    assert_eq!(world.list_templates(0, 9).len(), 1, "nobody is sent to who is gone");
    world.publish(terms(Persistence { epoch: 2, ..terms_of_networks }));
    assert_eq!(world.list_templates(0, 9), [], "what was kept under other terms");
}

#[test]
fn another_epoch_starts_afresh() {
    let mut world = world(Plan::default());
    assert_eq!(ask(&mut world, 0, client(1, 2000)), 13);
    world.publish(terms(Persistence { epoch: 2, ..TERMS }));
    assert_eq!(ask(&mut world, 0, client(1, 2001)), 13, "as after any reload, from the top");
    assert_eq!(ask(&mut world, 0, client(2, 2000)), 12);
    world.publish(terms(TERMS));
    assert_eq!(ask(&mut world, 0, client(1, 2002)), 13, "the old template was still there");
}

proptest! {
    /// Whatever worker a client's connections land on, they go where its first one went; and as
    /// long as nobody is remembered but the few clients, nothing is evicted or missed.
    #[test]
    fn a_client_stays_whichever_worker_is_asked(
        asks in prop::collection::vec((0..20u8, 0..4usize), 1..120),
        rss in any::<bool>(),
        workers in prop::sample::select(vec![1u8, 2, 4]),
    ) {
        let card = if rss { Card::Rss } else { Card::Any };
        let mut world = world(Plan { workers, card, ..Plan::default() });
        let mut known = BTreeMap::new();
        for (port, (last, worker)) in (2000..).zip(asks) {
            let worker = worker % usize::from(workers);
            let backend = ask(&mut world, worker, client(last, port));
            prop_assert_eq!(*known.entry(last).or_insert(backend), backend);
        }
        prop_assert_eq!(world.drops(), Vec::<(Reason, u64)>::new());
        for stats in &world.stats {
            let counts = [&stats.run.templates_evicted, &stats.run.templates_missed];
            prop_assert_eq!(counts.map(Counter::get), [0; 2]);
        }
    }
}
