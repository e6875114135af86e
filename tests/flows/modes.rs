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

const OUTER: Ipv4Addr = Ipv4Addr::new(10, 44, 0, 1);
const GRE: Mode = Mode::Tunnel(Encapsulation::Gre { checksum: false });
const GRE_SUM: Mode = Mode::Tunnel(Encapsulation::Gre { checksum: true });
const GUE: Mode = Mode::Tunnel(Encapsulation::Gue { port: 6080, checksum: GueChecksum::Zero });
const GUE_SUM: Mode = Mode::Tunnel(Encapsulation::Gue { port: 6080, checksum: GueChecksum::Outer });
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
fn a_nat_backends_packet_of_no_connection_does_not_reach_the_client() {
    let mut world = world(Mode::Nat);
    let stray = packet().macs(backend_mac(11), OUR_INNER_MAC);
    let backend = (Ipv4Addr::new(10, 44, 0, 11), 8080);
    let told = world.one(0, 1, &stray.tcp(backend, CLIENT).flags(ACK).build());
    assert_eq!((told.port, told.frame[47] & 4), (1, 4), "the backend gets a RST");
    assert_eq!(world.drops(), [(shunt::dataplane::verdict::Reason::NoConnection, 1)]);
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
fn a_tunnel_wraps_the_packet_and_leaves_it_alone() {
    // A 40-byte SYN with DF and a CE mark, as recorded: 60 bytes, 64, 68, 72.
    let syn = packet().tcp(CLIENT, VIP).flags(SYN).tos(0x03).build();
    let rows = [(IPIP, 4, 60), (GRE, 47, 64), (GRE_SUM, 47, 68), (GUE, 17, 72), (GUE_SUM, 17, 72)];
    for (mode, protocol, length) in rows {
        let mut world = world(mode);
        let sent = world.one(0, 0, &syn).frame;
        let inner = one_hop(&syn, 13);
        assert_eq!(sent.len(), 14 + length, "{mode:?}");
        assert_eq!(sent[..14], inner[..14], "{mode:?}: link header");
        assert_eq!(sent[14 + length - 40..], inner[14..], "{mode:?}: inner packet");
        let outer = &sent[14..34];
        assert_eq!(sum(outer), 0xffff, "{mode:?}: outer checksum");
        assert_eq!(outer[0], 0x45);
        assert_eq!(outer[1], 0x02, "{mode:?}: CE is ECT(0) outside");
        assert_eq!(usize::from(u16::from_be_bytes([outer[2], outer[3]])), length);
        assert_eq!(outer[4..8], [0, 0, 0x40, 0], "{mode:?}: no identification, DF copied");
        assert_eq!(outer[8..10], [63, protocol], "{mode:?}: TTL as inside");
        assert_eq!(outer[12..16], OUTER.octets());
        assert_eq!(outer[16..20], [10, 44, 0, 13]);
        check_middle(mode, &sent[34..14 + length - 40], &sent[34..], outer);
    }
}

/// The header between the outer IPv4 header and the inner packet.
fn check_middle(mode: Mode, middle: &[u8], all: &[u8], outer: &[u8]) {
    match mode {
        IPIP => assert!(middle.is_empty()),
        GRE => assert_eq!(middle, [0, 0, 8, 0]),
        GRE_SUM => {
            assert_eq!((middle.len(), &middle[..4]), (8, &[0x80, 0, 8, 0][..]));
            assert_eq!(sum(all), 0xffff, "GRE checksum");
        }
        _ => {
            let source = u16::from_be_bytes([middle[0], middle[1]]);
            assert!((32_768..=60_999).contains(&source));
            assert_eq!(middle[2..4], 6080u16.to_be_bytes());
            assert_eq!(usize::from(u16::from_be_bytes([middle[4], middle[5]])), all.len());
            assert_eq!(middle[8..12], [0, 4, 0, 0], "GUE version 0, IPv4 inside");
            let pseudo = [&outer[12..20], &[0, 17], &middle[4..6], all].concat();
            let right = if mode == GUE { middle[6..8] == [0, 0] } else { sum(&pseudo) == 0xffff };
            assert!(right, "{mode:?}: UDP checksum");
        }
    }
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
fn outer_tos_is_the_inner_one_but_for_a_ce_mark() {
    for (inner, outer) in [(0x00, 0x00), (0xb8, 0xb8), (0x01, 0x01), (0x02, 0x02), (0xbb, 0xba)] {
        let frame = packet().tcp(CLIENT, VIP).flags(SYN).tos(inner).build();
        let sent = world(IPIP).one(0, 0, &frame).frame;
        assert_eq!((sent[15], sent[35]), (outer, inner));
    }
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

#[test]
fn a_tunnel_tells_the_client_what_still_fits() {
    for (mode, overhead) in [(IPIP, 20u16), (GRE, 24), (GRE_SUM, 28), (GUE, 32)] {
        let fits = 1500 - overhead - 40;
        let segment = |payload: u16| {
            packet().tcp(CLIENT, VIP).flags(SYN).payload(&vec![0; payload.into()]).build()
        };
        let mut world = world(mode);
        assert_eq!(world.one(0, 0, &segment(fits)).port, 1, "{mode:?}");
        let told = world.one(0, 0, &segment(fits + 1));
        assert_eq!((told.port, &told.frame[34..36]), (0, &[3, 4][..]));
        assert_eq!(told.frame[40..42], (1500 - overhead).to_be_bytes(), "{mode:?}: next-hop MTU");
        assert_eq!(told.frame[26..30], VIP.0.octets(), "from the VIP");
        assert_eq!(told.frame[15], 0xc0);
    }
}

#[test]
fn backends_of_one_service_may_be_reached_in_different_ways() {
    let modes = vec![Mode::Fullnat, Mode::Dr, Mode::Nat];
    let mut world = World::new(Plan { modes, ..Plan::default() });
    for port in 1..=6 {
        let sent = world.one(0, 0, &from_client(client(port), SYN));
        let seen = judge(&sent.frame).unwrap();
        match (port - 1) % 3 {
            0 => assert_eq!((seen.source, seen.destination.octets()[3]), (CLIENT.0, 13)),
            1 => assert_eq!((seen.source, seen.destination), (CLIENT.0, VIP.0)),
            _ => assert_eq!(seen.source, world.plan.locals[0]),
        }
    }
    assert_eq!(world.drops(), []);
}

#[test]
fn a_change_of_mode_is_for_new_connections() {
    let mut world = world(Mode::Nat);
    world.one(0, 0, &from_client(client(1), SYN));
    world.plan.modes = vec![Mode::Dr; 3];
    world.publish(|_| {});
    let old = judge(&world.one(0, 0, &from_client(client(1), ACK)).frame).unwrap();
    assert_ne!(old.destination, VIP.0, "still translated");
    let new = judge(&world.one(0, 0, &from_client(client(2), SYN)).frame).unwrap();
    assert_eq!(new.destination, VIP.0);
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
