//! One-packet scheduling: every datagram a connection of its own, and its answers translated.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use proptest::prelude::*;
use shunt::dataplane::conn::state::State;
use shunt::dataplane::snapshot::{Encapsulation, Mode, Ports, Protocol, ServiceAddress, Snapshot};
use shunt::dataplane::verdict::Reason;

use crate::life::client;
use crate::packets::oracle::judge_any;
use crate::packets::{CLIENT, Endpoint, OUR_INNER_MAC, VIP, packet};
use crate::shop::{Ip, host, inside, second};
use crate::world::{Card, Plan, Sent, World};

const IPIP: Mode = Mode::Tunnel(Encapsulation::Ipip);
const UDP: usize = 1;

/// The UDP service schedules each datagram by itself.
fn alone(snapshot: &mut Snapshot) {
    snapshot.services[UDP].as_mut().unwrap().one_packet = true;
}

fn world(mode: Mode, plan: Plan) -> World {
    let mut world = World::new(Plan { modes: vec![mode; 3], ..plan });
    world.publish(alone);
    world
}

fn ask(from: Endpoint) -> Vec<u8> {
    packet().udp(from, VIP).payload(b"question").build()
}

/// The backend's answer to what it got.
fn answer(got: &Sent) -> Vec<u8> {
    second(Protocol::Udp, got)
}

/// The client has an answer from the VIP.
fn assert_answered(sent: &Sent, to: Endpoint) {
    let seen = judge_any(&sent.frame).unwrap();
    assert!(seen.ip_right && seen.l4_right);
    assert_eq!((sent.port, seen.source), (0, IpAddr::from(VIP.0)));
    assert_eq!((seen.destination, seen.ports), (to.0.into(), (VIP.1, to.1)));
}

fn counted(world: &World) -> [u64; 2] {
    let sum = |f: &dyn Fn(&shunt::stats::counters::WorkerStats) -> u64| {
        world.stats.iter().map(|stats| f(stats)).sum()
    };
    [
        sum(&|stats| stats.services.iter().map(|s| s.new_connections.get()).sum()),
        sum(&|stats| stats.backends.iter().map(|b| b.new_connections.get()).sum()),
    ]
}

#[test]
fn datagrams_of_one_client_go_to_the_backends_in_turn_and_each_counts() {
    // Records afterwards: one a datagram; one a backend, the client being who it answers; none.
    for (mode, records) in [(Mode::Fullnat, 9), (Mode::Nat, 3), (Mode::Dr, 0), (IPIP, 0)] {
        let mut world = world(mode, Plan::default());
        for round in 0..3 {
            for expected in [13, 12, 11] {
                let sent = world.one(0, 0, &ask(CLIENT));
                assert_eq!(host(&sent), expected, "{mode:?} round {round}");
                let seen = inside(mode, &sent);
                assert!(seen.ip_right && seen.l4_right, "{mode:?}");
            }
        }
        assert_eq!(counted(&world), [9; 2], "{mode:?}: every datagram");
        assert_eq!(world.connections(), [records; 4], "{mode:?}");
        let listed = world.list(4);
        assert_eq!(listed.len(), records as usize);
        for row in listed {
            assert_eq!((row.protocol, row.state), (Protocol::Udp, State::OnePacket));
            assert_eq!(row.client, SocketAddr::from(CLIENT));
        }
        assert_eq!(world.drops(), []);
    }
}

#[test]
fn the_answers_to_all_datagrams_come_back_from_the_vip() {
    for mode in [Mode::Fullnat, Mode::Nat] {
        let mut world = world(mode, Plan::default());
        let got: Vec<_> = (0..6).map(|_| world.one(0, 0, &ask(CLIENT))).collect();
        let judged = got.iter().map(|got| judge_any(&got.frame).unwrap());
        let ways: BTreeSet<_> = judged.map(|seen| (seen.ports.0, seen.destination)).collect();
        assert_eq!(ways.len(), if mode == Mode::Nat { 3 } else { 6 }, "local ports by backend");
        // The last first; and some answer twice.
        for got in got.iter().rev().chain(&got) {
            assert_answered(&world.one(0, 1, &answer(got)), CLIENT);
        }
        assert_eq!(world.drops(), []);
    }
}

#[test]
fn answers_are_awaited_for_the_timeout_and_strays_after() {
    for mode in [Mode::Fullnat, Mode::Nat] {
        let mut world = world(mode, Plan::default());
        let got = world.one(0, 0, &ask(CLIENT));
        world.wait(4);
        assert_answered(&world.one(0, 1, &answer(&got)), CLIENT);
        world.wait(4);
        assert_answered(&world.one(0, 1, &answer(&got)), CLIENT);
        assert_eq!(world.connections(), [1; 4]);
        world.wait(5 + 3);
        assert_eq!(world.connections(), [0; 4], "{mode:?}");
        let told = world.one(0, 1, &answer(&got));
        assert_eq!((told.port, &told.frame[34..36]), (1, &[3, 3][..]), "{mode:?}: unreachable");
        assert_eq!(world.drops(), [(Reason::NoConnection, 1)]);
        // A timeout of its own, applied to those that live.
        world.one(0, 0, &ask(CLIENT));
        world.publish(|snapshot| {
            alone(snapshot);
            snapshot.timeouts.one_packet_s = 60;
        });
        world.wait(58);
        assert_eq!(world.connections(), [1; 4], "{mode:?}");
        world.wait(5);
        assert_eq!(world.connections(), [0; 4], "{mode:?}");
    }
}

#[test]
fn where_no_answer_passes_nothing_is_left_behind_even_by_a_refused_datagram() {
    for mode in [Mode::Dr, IPIP] {
        let mut world = world(mode, Plan { capacity: 1, ..Plan::default() });
        for port in 1..=20 {
            world.one(0, 0, &ask(client(port)));
            assert_eq!(world.connections(), [0; 4], "a table of one record is enough");
        }
        let long = packet().udp(CLIENT, VIP).payload(&[0; 1473]).build();
        assert_eq!(world.one(0, 0, &long).port, 0, "too long, and told so");
        assert_eq!((world.connections(), counted(&world)), ([0; 4], [20; 2]));
        assert_eq!(world.drops(), [(Reason::TooBig, 1)]);
    }
}

#[test]
fn in_a_full_table_the_datagram_whose_answer_is_awaited_longest_makes_way() {
    let mut world = world(Mode::Fullnat, Plan { capacity: 4, ..Plan::default() });
    let asked = |world: &mut World| {
        world.now_ms += 10;
        world.one(0, 0, &ask(CLIENT))
    };
    let first: Vec<Sent> = (0..4).map(|_| asked(&mut world)).collect();
    let fifth = asked(&mut world);
    assert_eq!((world.connections(), world.drops()), ([4; 4], vec![]));
    for there in [&first[1], &fifth] {
        assert_answered(&world.one(0, 1, &answer(there)), CLIENT);
    }
    let late = world.one(0, 1, &answer(&first[0]));
    assert_eq!(
        (late.port, world.drops()),
        (1, vec![(Reason::NoConnection, 1)]),
        "it comes too late"
    );
}

/// Two VIPs of one NAT backend would get answers that look the same: the second is refused, as
/// with connections, but only while answers to the first are awaited.
#[test]
fn in_nat_a_client_port_cannot_ask_one_backend_through_two_vips_at_once() {
    let mut world =
        World::new(Plan { modes: vec![Mode::Nat], weights: vec![Some(1)], ..Plan::default() });
    let other = (std::net::Ipv4Addr::new(198, 51, 100, 8), 80);
    world.publish(|snapshot| {
        alone(snapshot);
        let service = snapshot.services[UDP].as_mut().unwrap();
        let more = ServiceAddress { vip: other.0.into(), ports: Ports::one(other.1) };
        service.addresses = service.addresses.iter().copied().chain([more]).collect();
    });
    let through_other = packet().udp(CLIENT, other).payload(b"question").build();
    world.one(0, 0, &ask(CLIENT));
    assert_eq!(world.exchange(0, 0, &through_other), []);
    assert_eq!(world.drops(), [(Reason::ClientPort, 1)]);
    world.one(0, 0, &ask(CLIENT));
    world.wait(8);
    world.one(0, 0, &through_other);
    assert_eq!(world.connections(), [1; 4]);
}

#[test]
fn a_reload_that_changes_it_is_for_new_connections() {
    for mode in [Mode::Fullnat, Mode::Nat] {
        let plan = Plan { weights: vec![Some(1)], modes: vec![mode], ..Plan::default() };
        let mut world = World::new(plan);
        // Off: one connection, of both datagrams.
        world.one(0, 0, &ask(CLIENT));
        world.publish(alone);
        world.one(0, 0, &ask(CLIENT));
        assert_eq!((world.connections(), counted(&world)), ([1; 4], [1; 2]), "{mode:?}");
        world.wait(303);
        // On: each its own.
        let first = world.one(0, 0, &ask(CLIENT));
        world.one(0, 0, &ask(CLIENT));
        assert_eq!(counted(&world), [3; 2], "{mode:?}");
        // Off again, answers being awaited: a connection, and they still come back.
        world.publish(|_| {});
        world.one(0, 0, &ask(CLIENT));
        world.one(0, 0, &ask(CLIENT));
        assert_eq!(counted(&world), [4; 2], "{mode:?}");
        assert_answered(&world.one(0, 1, &answer(&first)), CLIENT);
        world.wait(8);
        assert_eq!(world.connections(), [1; 4], "{mode:?}");
        // Two datagrams, of which in NAT the late answer is taken for one.
        let state = world.list(4)[0].state;
        assert!(matches!(state, State::Udp | State::UdpUnanswered), "{mode:?} {state:?}");
        assert_eq!(world.drops(), []);
    }
}

#[test]
fn what_awaits_answers_of_a_removed_backend_is_forgotten() {
    let mut world = world(Mode::Fullnat, Plan::default());
    let got: Vec<_> = (0..3).map(|_| world.one(0, 0, &ask(CLIENT))).collect();
    world.plan.weights = vec![None, Some(1), Some(1)];
    world.publish(alone);
    for got in &got {
        world.exchange(0, 1, &answer(got));
    }
    assert_eq!(world.drops(), [(Reason::BackendGone, 1)]);
    assert_eq!(world.connections(), [2; 4]);
}

/// Its later pieces have no ports and must find the way of the first.
#[test]
fn a_datagram_in_pieces_makes_a_connection_as_usual() {
    let data: Vec<u8> = (0..40).collect();
    let whole = packet().udp(CLIENT, VIP).payload(&data);
    let segment = &whole.ip_packet()[20..];
    let pieces = [(0x2000, &segment[..24]), (0x2003, &segment[24..40]), (0x0005, &segment[40..])];
    for mode in [Mode::Fullnat, Mode::Nat, Mode::Dr, IPIP] {
        let mut world = world(mode, Plan::default());
        world.one(0, 0, &ask(CLIENT));
        let hosts: BTreeSet<_> = pieces
            .iter()
            .map(|(at, bytes)| {
                let piece = packet().between(CLIENT, VIP).protocol(17).flags_fragment(*at);
                host(&world.one(0, 0, &piece.payload(bytes).build()))
            })
            .collect();
        assert_eq!(hosts, BTreeSet::from([12]), "{mode:?}: all to the next in turn");
        let states: Vec<_> = world.list(4).iter().map(|row| row.state).collect();
        // However many its pieces, it is one datagram.
        assert!(states.contains(&State::UdpAsked), "{mode:?}: {states:?}");
    }
}

/// IPv6, and between the families (NAT64), where the record is among the IPv6 ones.
#[test]
fn the_other_family_is_served_the_same_way() {
    for (backends, length) in [(Ip::V6, 48 + 14), (Ip::V4, 28 + 14)] {
        let vip = SocketAddr::new(Ip::V6.vip(1), 53);
        let mut world = World::new(Plan::default());
        world.publish(|snapshot| {
            alone(snapshot);
            let service = snapshot.services[UDP].as_mut().unwrap();
            let at = ServiceAddress { vip: vip.ip(), ports: Ports::one(53) };
            service.addresses = [at].into();
            service.locals = [backends.inner(2)].into_iter().collect();
            for (host, backend) in (11..).zip(snapshot.backends.iter_mut().skip(3).flatten()) {
                backend.address = backends.inner(host);
            }
        });
        let from = Ip::V6.client(4000);
        let ask = packet().udp(from, vip).payload(b"").build();
        let got: Vec<_> = (0..6).map(|_| world.one(0, 0, &ask)).collect();
        assert_eq!(got.iter().map(host).collect::<Vec<_>>(), [13, 12, 11, 13, 12, 11]);
        for got in &got {
            assert_eq!(got.frame.len(), length);
            let back = world.one(0, 1, &answer(got));
            let seen = judge_any(&back.frame).unwrap();
            assert!(seen.ip_right && seen.l4_right);
            assert_eq!((seen.source, seen.ports), (vip.ip(), (53, 4000)));
            assert_eq!(seen.destination, from.ip());
        }
        assert_eq!((world.connections(), counted(&world)), ([6; 4], [6; 2]));
        world.wait(8);
        assert_eq!((world.connections(), world.drops()), ([0; 4], vec![]));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whoever receives a datagram or its answer: the answer reaches its client, every datagram
    /// is counted, and after a while nothing is left.
    #[test]
    fn answers_find_their_way_on_any_worker(
        workers in 1u8..=8,
        rss in any::<bool>(),
        is_nat in any::<bool>(),
        events in prop::collection::vec((any::<bool>(), 1u16..4, any::<prop::sample::Index>()), 1..60),
    ) {
        let card = if rss { Card::Rss } else { Card::Any };
        let mode = if is_nat { Mode::Nat } else { Mode::Fullnat };
        let mut world = world(mode, Plan { workers, card, ..Plan::default() });
        let (mut got, mut asked): (BTreeMap<u16, Sent>, u64) = (BTreeMap::new(), 0);
        for (asks, port, at) in events {
            let at = at.index(workers.into());
            if asks {
                got.insert(port, world.one(at, 0, &ask(client(port))));
                asked += 1;
            } else if let Some(got) = got.get(&port) {
                let back = world.one(at, 1, &answer(got));
                prop_assert_eq!(&back.frame[..6], &crate::packets::CLIENT_MAC.0);
                assert_answered(&back, client(port));
            }
            let [table, ..] = world.connections();
            prop_assert_eq!(world.connections(), [table; 4]);
        }
        prop_assert_eq!(counted(&world), [asked; 2]);
        prop_assert_eq!(world.drops(), vec![]);
        world.wait(8);
        prop_assert_eq!(world.connections(), [0; 4]);
    }
}

#[test]
fn an_icmp_error_about_a_datagram_reaches_its_client() {
    for mode in [Mode::Fullnat, Mode::Nat] {
        let mut world = world(mode, Plan::default());
        let got = world.one(0, 0, &ask(CLIENT));
        let seen = judge_any(&got.frame).unwrap();
        let (backend, to) = ((seen.destination, 0), (seen.source, 0));
        let error = packet().between(SocketAddr::from(backend), SocketAddr::from(to));
        let error = error.icmp(3, 3, 0).payload(&got.frame[14..]);
        let told =
            world.one(0, 1, &error.macs(crate::world::backend_mac(13), OUR_INNER_MAC).build());
        let seen = judge_any(&told.frame).unwrap();
        assert!(seen.ip_right && seen.l4_right);
        assert_eq!((told.port, seen.destination), (0, IpAddr::from(CLIENT.0)), "{mode:?}");
    }
}
