//! The life of a connection.

use std::net::Ipv4Addr;

use shunt::dataplane::conn::state::State;
use shunt::dataplane::conn::state::flags::{ACK, FIN, PSH, RST, SYN};
use shunt::dataplane::snapshot::{Protocol, Snapshot, Timeouts};

use crate::packets::oracle::judge;
use crate::packets::{CLIENT, CLIENT_MAC, Endpoint, OUR_INNER_MAC, OUR_MAC, VIP, packet};
use crate::world::{Plan, Sent, World, backend_mac};

pub(crate) fn client(port: u16) -> Endpoint {
    (CLIENT.0, port)
}

/// A client's segment to the VIP.
pub(crate) fn from_client(client: Endpoint, flags: u8) -> Vec<u8> {
    packet().tcp(client, VIP).flags(flags).payload(b"to the service").build()
}

/// A backend's answer to a packet that left for it.
pub(crate) fn answer(sent: &Sent, flags: u8) -> Vec<u8> {
    let seen = judge(&sent.frame).unwrap();
    let (backend, local) = ((seen.destination, seen.ports.1), (seen.source, seen.ports.0));
    let mac = backend_mac(seen.destination.octets()[3]);
    packet().macs(mac, OUR_INNER_MAC).tcp(backend, local).flags(flags).payload(b"and back").build()
}

/// Opens a connection; the frame the backend got.
pub(crate) fn open(world: &mut World, from: Endpoint) -> Sent {
    let syn = world.one(0, 0, &from_client(from, SYN));
    world.one(0, 1, &answer(&syn, SYN | ACK));
    world.one(0, 0, &from_client(from, ACK))
}

fn state(world: &mut World) -> Option<State> {
    world.list(16).first().map(|c| c.state)
}

#[test]
fn both_directions_are_translated_and_right_to_an_independent_reader() {
    let mut world = World::new(Plan::default());
    let there = world.one(0, 0, &from_client(CLIENT, SYN));
    let seen = judge(&there.frame).unwrap();
    assert_eq!(there.port, 1);
    assert_eq!(seen.source, Ipv4Addr::new(10, 44, 0, 2), "the backend sees the local address");
    assert_eq!((seen.destination, seen.ports.1), (Ipv4Addr::new(10, 44, 0, 13), 8080));
    assert!(seen.ip_right && seen.l4_right);
    assert_eq!(there.frame[..12], [backend_mac(13).0, OUR_INNER_MAC.0].concat());
    assert_eq!(there.frame[22], 63, "one hop");

    let back = world.one(0, 1, &answer(&there, SYN | ACK));
    let seen = judge(&back.frame).unwrap();
    assert_eq!(back.port, 0);
    assert_eq!((seen.source, seen.ports.0), VIP);
    assert_eq!((seen.destination, seen.ports.1), CLIENT);
    assert!(seen.ip_right && seen.l4_right);
    assert_eq!(back.frame[..12], [CLIENT_MAC.0, OUR_MAC.0].concat());
    assert_eq!(world.drops(), []);
}

#[test]
fn udp_is_translated_both_ways_and_a_missing_checksum_stays_missing() {
    let mut world = World::new(Plan::default());
    for (checksum, port) in [(true, 5000), (false, 5001)] {
        let ask = packet().udp(client(port), VIP).payload(b"question");
        let ask = if checksum { ask } else { ask.without_checksum() };
        let there = world.one(0, 0, &ask.build());
        let seen = judge(&there.frame).unwrap();
        assert!(seen.ip_right && seen.l4_right);
        assert_eq!(there.frame[40..42] == [0, 0], !checksum);
        let (from, to) = ((seen.destination, seen.ports.1), (seen.source, seen.ports.0));
        let reply = packet().macs(backend_mac(11), OUR_INNER_MAC).udp(from, to);
        let reply = reply.payload(b"answer").build();
        let back = judge(&world.one(0, 1, &reply).frame).unwrap();
        assert_eq!((back.source, back.ports), (VIP.0, (VIP.1, port)));
        assert!(back.ip_right && back.l4_right);
    }
    assert!(world.list(16).iter().all(|c| c.protocol == Protocol::Udp && c.state == State::Udp));
}

#[test]
fn a_tcp_life_goes_through_its_states_and_times_out_in_each() {
    /// Who sends what, then the state and its timeout in seconds (IPVS defaults).
    type Row<'a> = (&'a [(bool, u8)], State, u32);
    let rows: &[Row<'_>] = &[
        (&[(true, SYN)], State::SynRecv, 60),
        (&[(true, SYN), (false, SYN | ACK)], State::SynRecv, 60),
        (&[(true, SYN), (false, SYN | ACK), (true, ACK)], State::Established, 900),
        (&[(true, SYN), (true, ACK), (true, FIN | ACK)], State::CloseWait, 60),
        (&[(true, SYN), (true, ACK), (false, FIN | ACK)], State::FinWait, 120),
        (&[(true, SYN), (true, ACK), (true, FIN | ACK), (false, FIN | ACK)], State::TimeWait, 120),
        (&[(true, SYN), (true, ACK), (false, RST)], State::Close, 10),
    ];
    for (steps, expected, timeout_s) in rows {
        let mut world = World::new(Plan::default());
        let mut to_backend = None;
        for (from_the_client, flags) in *steps {
            if *from_the_client {
                to_backend = Some(world.one(0, 0, &from_client(CLIENT, *flags)));
            } else {
                world.one(0, 1, &answer(to_backend.as_ref().unwrap(), *flags));
            }
        }
        assert_eq!(state(&mut world), Some(*expected));
        world.wait(timeout_s - 1);
        assert_eq!(world.connections(), [1; 4], "{expected:?} lives {timeout_s} s");
        world.wait(4);
        assert_eq!(world.connections(), [0; 4], "{expected:?} is over after {timeout_s} s");
    }
}

#[test]
fn a_service_has_timeouts_of_its_own_which_a_reload_changes() {
    for workers in [1u8, 2, 4] {
        let mut world = World::new(Plan { workers, ..Plan::default() });
        let own = |tcp_established_s| Timeouts { tcp_established_s, ..Timeouts::default() };
        let set = |seconds: u32| {
            move |snapshot: &mut Snapshot| {
                // TCP's is the first service, UDP's the second.
                let service = snapshot.services[0].as_mut().unwrap();
                service.timeouts = Some(Box::new(own(seconds)));
                snapshot.timeouts.udp_s = 50;
            }
        };
        world.publish(set(20));
        for port in 1..=8 {
            open(&mut world, client(port));
            world.one(0, 0, &packet().udp(client(port), VIP).payload(b"question").build());
        }
        assert!(world.list(64).iter().all(|c| c.expires_ms == 20_000 || c.expires_ms == 50_000));
        world.wait(19);
        assert_eq!(world.connections(), [16; 4]);
        world.wait(4);
        assert_eq!(world.connections(), [8; 4], "TCP is over");
        open(&mut world, CLIENT);
        world.publish(set(5));
        world.wait(8);
        assert_eq!(world.connections(), [8; 4], "a change is for those that are there too");
        world.wait(50);
        assert_eq!(world.connections(), [0; 4]);
    }
}

#[test]
fn a_packet_puts_the_timeout_off() {
    let mut world = World::new(Plan::default());
    let there = open(&mut world, CLIENT);
    for _ in 0..3 {
        world.wait(600);
        world.one(0, 1, &answer(&there, ACK));
        world.wait(600);
        world.one(0, 0, &from_client(CLIENT, ACK));
    }
    assert_eq!(world.connections(), [1; 4]);
}

#[test]
fn a_syn_on_a_connection_that_is_over_starts_another() {
    let mut world = World::new(Plan::default());
    let first = open(&mut world, CLIENT);
    world.one(0, 0, &from_client(CLIENT, FIN | ACK));
    world.one(0, 1, &answer(&first, FIN | ACK));
    let second = world.one(0, 0, &from_client(CLIENT, SYN));
    assert_ne!(
        judge(&first.frame).unwrap().destination,
        judge(&second.frame).unwrap().destination,
        "scheduled anew, at once"
    );
    assert_eq!(world.connections(), [1; 4]);
    // A SYN that repeats on a live connection does not.
    let again = world.one(0, 0, &from_client(CLIENT, SYN));
    assert_eq!(judge(&again.frame).unwrap().destination, judge(&second.frame).unwrap().destination);
}

#[test]
fn weight_zero_drains_and_a_reload_disturbs_nobody() {
    let mut world = World::new(Plan::default());
    let there = open(&mut world, CLIENT);
    let chosen = judge(&there.frame).unwrap().destination;
    let index = usize::from(chosen.octets()[3] - 11);
    world.plan.weights[index] = Some(0);
    world.publish(|_| {});
    let again = world.one(0, 0, &from_client(CLIENT, PSH | ACK));
    assert_eq!(judge(&again.frame).unwrap().destination, chosen, "it lives on");
    world.one(0, 1, &answer(&again, ACK));
    for port in 1..20 {
        let new = world.one(0, 0, &from_client(client(port), SYN));
        assert_ne!(judge(&new.frame).unwrap().destination, chosen, "nobody new");
    }
    assert_eq!(world.drops(), []);
}

#[test]
fn a_syn_starts_a_connection_whatever_else_is_set_but_a_reset() {
    for (flags, starts) in
        [(SYN, true), (SYN | ACK, true), (SYN | FIN, true), (SYN | RST, false), (FIN | ACK, false)]
    {
        let mut world = World::new(Plan::default());
        world.exchange(0, 0, &from_client(CLIENT, flags));
        assert_eq!(world.connections(), [u32::from(starts); 4], "{flags:#x}");
    }
}

/// One address towards one backend has 64,512 ports; those of closed connections count as free
/// after a second, or a few hundred connections a second would use them all up.
#[test]
fn the_port_of_a_closed_connection_is_used_again() {
    let weights = vec![Some(1)];
    let mut world = World::new(Plan { weights, capacity: 70_000, lane: 64, ..Plan::default() });
    for n in 0..64_512u32 {
        let [_, _, third, fourth] = n.to_be_bytes();
        let from = (Ipv4Addr::from([203, 0, third, fourth]), 7);
        for flags in [SYN, ACK, FIN | ACK] {
            let sent = world.one(0, 0, &packet().tcp(from, VIP).flags(flags).build());
            if flags & FIN != 0 {
                world.one(0, 1, &answer(&sent, FIN | ACK));
            }
        }
    }
    assert_eq!(world.connections(), [64_512; 4]);
    world.now_ms += 1_000;
    let again = world.one(0, 0, &from_client(CLIENT, SYN));
    assert_eq!(world.connections(), [64_512; 4], "the closed one made room");
    world.one(0, 1, &answer(&again, SYN | ACK));
    assert_eq!(world.drops(), []);
}

#[test]
fn the_way_back_follows_the_clients_router() {
    let mut world = World::new(Plan::default());
    let there = open(&mut world, CLIENT);
    let other = shunt::wire::Mac([2, 0, 0, 0, 0, 0xc2]);
    let moved = packet().macs(other, OUR_MAC).tcp(CLIENT, VIP).flags(ACK).build();
    world.one(0, 0, &moved);
    let back = world.one(0, 1, &answer(&there, ACK));
    assert_eq!(back.frame[..6], other.0);
}

#[test]
fn draining_waits_for_those_who_still_talk_only() {
    let drains: [fn(&mut Snapshot); 2] = [
        |snapshot| snapshot.accepting = false,
        |snapshot| snapshot.backends.iter_mut().flatten().for_each(|backend| backend.weight = 0),
    ];
    for drain in drains {
        let mut world = World::new(Plan::default());
        let talking = open(&mut world, client(1));
        let closed = open(&mut world, client(2));
        world.one(0, 0, &from_client(client(2), FIN | ACK));
        world.one(0, 1, &answer(&closed, FIN | ACK));
        world.publish(drain);
        assert_eq!(world.connections(), [2; 4]);
        world.one(0, 0, &from_client(client(2), ACK));
        world.wait(4);
        assert_eq!(world.connections(), [1; 4], "what is closed on both sides is not waited for");
        world.one(0, 1, &answer(&talking, ACK));
        assert_eq!(world.drops(), []);
    }
}

#[test]
fn new_connections_follow_the_weights() {
    let mut world =
        World::new(Plan { weights: vec![Some(3), Some(2), Some(1)], ..Plan::default() });
    let mut sequence = String::new();
    for port in 1..=12 {
        let sent = world.one(0, 0, &from_client(client(port), SYN));
        let host = judge(&sent.frame).unwrap().destination.octets()[3];
        sequence.push(char::from(b'A' + host - 11));
    }
    assert_eq!(sequence, "CBAABACBAABA", "the sequence IPVS gives");
}

#[test]
fn a_listing_by_pages_shows_every_connection_once() {
    let mut world = World::new(Plan { workers: 2, ..Plan::default() });
    for port in 1001..=1050 {
        world.exchange(usize::from(port % 2), 0, &from_client(client(port), SYN));
    }
    for rows in [1, 7, 64] {
        let listed = world.list(rows);
        let ports: std::collections::BTreeSet<_> = listed.iter().map(|c| c.client.port()).collect();
        assert_eq!((listed.len(), ports.len()), (50, 50), "{rows} rows a page");
    }
    let one = world.list(8)[0];
    assert_eq!(one.vip, VIP.into());
    assert_eq!(one.local.ip(), Ipv4Addr::new(10, 44, 0, 2));
    assert_eq!(one.backend.port(), 8080);
    assert_eq!((one.idle_ms, one.expires_ms), (0, 60_000));
}
