//! NAT, DR and tunnel mode: what each changes in a packet, and what it must leave alone.

use std::net::Ipv4Addr;

use proptest::prelude::*;
use shunt::dataplane::conn::state::State;
use shunt::dataplane::conn::state::flags::{ACK, FIN, SYN};
use shunt::dataplane::snapshot::{Encapsulation, GueChecksum, Mode};
use shunt::ids::ServiceId;

use crate::life::{client, from_client};
use crate::packets::builder::sum;
use crate::packets::oracle::judge;
use crate::packets::{CLIENT, OUR_INNER_MAC, VIP, packet};
use crate::world::{Card, Plan, Sent, World, backend_mac};

const GUE: Mode = Mode::Tunnel(Encapsulation::Gue { port: 6080, checksum: GueChecksum::Zero });
const IPIP: Mode = Mode::Tunnel(Encapsulation::Ipip);

fn world(mode: Mode) -> World {
    World::new(Plan { modes: vec![mode; 3], ..Plan::default() })
}

/// A frame as it must look after one hop: link addresses, TTL and IP checksum, nothing else.
fn one_hop(frame: &[u8], host: u8) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame[..6].copy_from_slice(&backend_mac(host).0);
    frame[6..12].copy_from_slice(&OUR_INNER_MAC.0);
    frame[22] -= 1;
    frame[24..26].fill(0);
    let checksum = (!sum(&frame[14..34])).to_be_bytes();
    frame[24..26].copy_from_slice(&checksum);
    frame
}

/// The answer of a NAT backend to a packet it got.
fn nat_answer(got: &Sent, flags: u8) -> Vec<u8> {
    let seen = judge(&got.frame).unwrap();
    let (backend, client) = ((seen.destination, seen.ports.1), (seen.source, seen.ports.0));
    let mac = backend_mac(seen.destination.octets()[3]);
    packet().macs(mac, OUR_INNER_MAC).tcp(backend, client).flags(flags).payload(b"!").build()
}

#[test]
fn nat_shows_the_client_to_the_backend_and_the_vip_to_the_client() {
    let mut world = world(Mode::Nat);
    let there = world.one(0, 0, &from_client(CLIENT, SYN));
    let seen = judge(&there.frame).unwrap();
    assert_eq!((seen.source, seen.ports.0), CLIENT);
    assert_eq!((seen.destination, seen.ports.1), (Ipv4Addr::new(10, 44, 0, 13), 8080));
    assert!(seen.ip_right && seen.l4_right);
    let back = world.one(0, 1, &nat_answer(&there, SYN | ACK));
    let seen = judge(&back.frame).unwrap();
    assert_eq!((back.port, seen.source, seen.ports), (0, VIP.0, (VIP.1, CLIENT.1)));
    assert!(seen.ip_right && seen.l4_right);
    world.one(0, 0, &from_client(CLIENT, ACK));
    assert_eq!(world.list(4)[0].state, State::Established);
}

#[test]
fn dr_changes_link_addresses_and_ttl_and_nothing_else() {
    for frame in [
        from_client(CLIENT, SYN),
        packet().udp(CLIENT, VIP).payload(b"datagram").build(),
        packet().udp(CLIENT, VIP).without_checksum().payload(b"none").build(),
        packet().tcp(CLIENT, VIP).flags(SYN).tos(0xb9).l4_wrong_by(7).padding(6).build(),
    ] {
        let mut world = world(Mode::Dr);
        assert_eq!(world.one(0, 0, &frame).frame, one_hop(&frame, 13));
        assert_eq!(world.drops(), []);
    }
}

#[test]
fn where_replies_do_not_pass_the_client_alone_moves_the_state() {
    let mut world = world(Mode::Dr);
    for (flags, state) in
        [(SYN, State::SynRecv), (ACK, State::Established), (FIN | ACK, State::FinWait)]
    {
        world.one(0, 0, &from_client(CLIENT, flags));
        assert_eq!(world.list(4)[0].state, state);
    }
    world.wait(124);
    assert_eq!(world.connections(), [0; 4]);
}

#[test]
fn a_flow_keeps_its_gue_source_port_and_flows_differ() {
    let mut world = world(GUE);
    let mut ports = std::collections::BTreeSet::new();
    for port in 1..=50 {
        let first = world.one(0, 0, &from_client(client(port), SYN)).frame;
        let second = world.one(0, 0, &from_client(client(port), ACK)).frame;
        assert_eq!(first[34..36], second[34..36]);
        ports.insert([first[34], first[35]]);
    }
    assert!(ports.len() > 40, "{} ports for 50 flows", ports.len());
}

#[test]
fn tunnel_packets_that_may_be_cut_are_numbered_and_no_two_workers_use_one_number() {
    let modes = vec![IPIP; 3];
    let mut world = World::new(Plan { workers: 3, modes, ..Plan::default() });
    let mut numbers = std::collections::BTreeSet::new();
    for port in 1..=90 {
        let ask = packet().udp(client(port), VIP).flags_fragment(0).payload(b"?").build();
        let sent = world.one(0, 0, &ask).frame;
        assert_eq!(sent[20..22], [0, 0], "DF is not set where it was not");
        numbers.insert([sent[18], sent[19]]);
    }
    assert_eq!(numbers.len(), 90);
}

/// With several workers the owner of what lives must not depend on today's mode, in either
/// direction.
#[test]
fn connections_survive_a_change_of_mode_on_any_worker() {
    for (before, after) in [(Mode::Nat, Mode::Fullnat), (Mode::Fullnat, Mode::Nat)] {
        for card in [Card::Any, Card::Rss] {
            let modes = vec![before; 3];
            let mut world = World::new(Plan { workers: 4, card, modes, ..Plan::default() });
            let old: Vec<_> = (1001..=1040)
                .map(|port| world.one(usize::from(port % 4), 0, &from_client(client(port), SYN)))
                .collect();
            world.plan.modes = vec![after; 3];
            world.plan.was_nat = true;
            world.publish(|_| {});
            for (port, first) in (1001..=1040).zip(&old) {
                let at = usize::from((port + 1) % 4);
                let again = world.one(at, 0, &from_client(client(port), ACK));
                assert_eq!(again.frame[26..38], first.frame[26..38], "{before:?} {card:?}");
                let back = if before == Mode::Nat {
                    nat_answer(first, ACK)
                } else {
                    crate::life::answer(first, ACK)
                };
                assert_eq!(world.one(at, 1, &back).port, 0);
            }
            assert_eq!(world.drops(), []);
        }
    }
}

/// What starts in the place of an old connection may have another owner: the mode has changed.
#[test]
fn a_connection_in_the_place_of_an_old_one_has_the_owner_of_its_own_mode() {
    let modes = vec![Mode::Fullnat; 3];
    let mut world = World::new(Plan { workers: 4, card: Card::Rss, modes, ..Plan::default() });
    for port in 1001..=1040 {
        let first = world.one(0, 0, &from_client(client(port), SYN));
        world.one(0, 0, &from_client(client(port), FIN | ACK));
        world.one(0, 1, &crate::life::answer(&first, FIN | ACK));
    }
    world.plan.modes = vec![Mode::Nat; 3];
    world.publish(|_| {});
    for port in 1001..=1040 {
        let second = world.one(0, 0, &from_client(client(port), SYN));
        assert_eq!(world.one(0, 1, &nat_answer(&second, SYN | ACK)).port, 0);
    }
    assert_eq!(world.drops(), []);
}

/// A removed NAT backend takes its own connections with it, and nobody else's.
#[test]
fn the_last_nat_backend_may_leave_without_moving_owners() {
    let modes = vec![Mode::Nat, Mode::Dr];
    let weights = vec![Some(1), Some(1)];
    let plan = Plan { workers: 4, card: Card::Rss, modes, weights, ..Plan::default() };
    let mut world = World::new(plan);
    let served: Vec<_> = (1001..=1040)
        .map(|port| (port, world.one(0, 0, &from_client(client(port), SYN)).frame))
        .filter(|(_, frame)| frame[..6] == backend_mac(12).0)
        .collect();
    world.plan.weights[0] = None;
    world.publish(|snapshot| snapshot.had_nat = [0, 1].map(ServiceId).into());
    for (port, first) in &served {
        let again = world.one(0, 0, &from_client(client(*port), ACK));
        assert_eq!(again.frame[..12], first[..12]);
    }
    assert_eq!(world.drops(), []);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// In every mode, on any worker, a connection is made once and its packets find it, whatever
    /// the card does; in NAT mode replies do too, without a shared table.
    #[test]
    fn any_arrival_reaches_the_owner_in_every_mode(
        workers in 1u8..=8,
        rss in any::<bool>(),
        mode in prop::sample::select(vec![Mode::Fullnat, Mode::Nat, Mode::Dr, IPIP]),
        arrivals in prop::collection::vec(any::<prop::sample::Index>(), 40),
    ) {
        let card = if rss { Card::Rss } else { Card::Any };
        let modes = vec![mode; 3];
        let mut world = World::new(Plan { workers, card, modes, ..Plan::default() });
        let mut arrivals = arrivals.iter().map(|a| a.index(workers.into()));
        let mut anywhere = || arrivals.next().unwrap();
        for port in 1..=8 {
            let first = world.one(anywhere(), 0, &from_client(client(port), SYN));
            if mode == Mode::Nat {
                let back = world.one(anywhere(), 1, &nat_answer(&first, SYN | ACK));
                let back = judge(&back.frame).unwrap();
                prop_assert_eq!((back.source, back.ports), (VIP.0, (VIP.1, port)));
            }
            for flags in [ACK, FIN | ACK] {
                let more = world.one(anywhere(), 0, &from_client(client(port), flags));
                prop_assert_eq!(&more.frame[..12], &first.frame[..12], "the same backend");
            }
        }
        prop_assert_eq!(world.connections(), [8; 4]);
        prop_assert_eq!(world.drops(), vec![]);
    }
}
