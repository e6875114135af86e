//! Packets and bytes by backend: what goes on counts once, as it came, for who sent it. The simulation holds the same
//! of everything it sends, pieces and ICMP errors among it (`tests/sim/model/`); here are the rules one by one, and
//! what does not count.

use shunt::dataplane::conn::state::flags::{ACK, FIN, PSH, SYN};
use shunt::dataplane::snapshot::{ClientAddress, Encapsulation, Mode, SynCookies};
use shunt::ids::BackendId;
use shunt::stats::volumes::Volumes;

use crate::cookies;
use crate::endpoints::Segment;
use crate::introduce::{self, Families, TOA, V1, V2, tcp};
use crate::life::{answer, client, from_client, open};
use crate::packets::oracle::judge;
use crate::packets::{CLIENT, OUR_INNER_MAC, VIP, packet};
use crate::world::{Plan, World, backend_mac};

/// What a backend counted: packets and bytes in, packets and bytes out.
fn passed_by(world: &World, backend: u32) -> [u64; 4] {
    let each = world.stats.iter().map(|stats| stats.volumes.of(BackendId(backend)));
    each.fold(Volumes::default(), Volumes::and).numbers()
}

/// What all of them did.
fn passed(world: &World) -> [u64; 4] {
    let all = (0..8).map(|backend| Volumes::of(passed_by(world, backend)));
    all.fold(Volumes::default(), Volumes::and).numbers()
}

/// Bytes of an IPv4 packet, as its header says.
fn length(frame: &[u8]) -> u64 {
    u16::from_be_bytes([frame[16], frame[17]]).into()
}

#[test]
fn a_packet_counts_for_who_sent_it_without_what_is_put_around_it() {
    let modes = [
        Mode::Fullnat,
        Mode::Nat,
        Mode::Dr,
        Mode::Tunnel(Encapsulation::Ipip),
        Mode::Tunnel(Encapsulation::Gre { checksum: true }),
    ];
    for mode in modes {
        let mut world = World::new(Plan { modes: vec![mode; 3], ..Plan::default() });
        let (syn, data) = (from_client(CLIENT, SYN), from_client(CLIENT, PSH | ACK));
        world.one(0, 0, &syn);
        let there = world.one(0, 0, &data);
        let clients = length(&syn) + length(&data);
        assert_eq!(passed(&world), [2, clients, 0, 0], "{mode:?}");
        if matches!(mode, Mode::Fullnat | Mode::Nat) {
            let back = answer(&there, SYN | ACK);
            world.one(0, 1, &back);
            assert_eq!(passed(&world), [2, clients, 1, length(&back)], "{mode:?}");
        }
        assert_eq!(world.drops(), [], "{mode:?}");
    }
}

#[test]
fn what_is_put_into_a_packet_does_not_count() {
    for how in [TOA, V1, V2] {
        let mut world = introduce::world(how, Families::V4, |_| {});
        let syn = tcp(Families::V4).flags(SYN).build();
        let there = world.one(0, 0, &syn);
        let back = introduce::answer(&there).flags(SYN | ACK).build();
        world.one(0, 1, &back);
        let data = tcp(Families::V4).numbers(1, 1).flags(PSH | ACK).payload(b"question").build();
        world.exchange(0, 0, &data);
        let clients = length(&syn) + length(&data);
        assert_eq!(passed(&world), [2, clients, 1, length(&back)], "{how:?}");
    }
}

#[test]
fn a_backend_counts_its_own_packets_and_nobody_elses() {
    let mut world = World::new(Plan::default());
    let mut expected = [[0; 4]; 3];
    for port in 1..=9 {
        let syn = from_client(client(port), SYN);
        let there = world.one(0, 0, &syn);
        let back = answer(&there, SYN | ACK);
        world.one(0, 1, &back);
        let host = usize::from(judge(&there.frame).unwrap().destination.octets()[3]) - 11;
        let more = [1, length(&syn), 1, length(&back)];
        expected[host].iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
    }
    let counted = [0, 1, 2].map(|backend| passed_by(&world, backend));
    assert_eq!(counted, expected);
    assert_eq!(counted.map(|[clients, ..]| clients), [3; 3], "in turn");
}

#[test]
fn what_does_not_go_on_does_not_count() {
    let mut world = World::new(Plan::default());
    let there = open(&mut world, CLIENT);
    let before = passed(&world);
    let stray = from_client(client(7), ACK);
    let spent = packet().tcp(CLIENT, VIP).flags(ACK).ttl(1).build();
    let seen = judge(&there.frame).unwrap();
    let (backend, local) = ((seen.destination, seen.ports.1), (seen.source, seen.ports.0 ^ 1));
    let lost = packet().macs(backend_mac(11), OUR_INNER_MAC).tcp(backend, local).flags(ACK).build();
    for (port, frame) in [(0, &stray), (0, &spent), (1, &lost)] {
        world.exchange(0, port, frame);
    }
    assert_eq!(passed(&world), before, "answered here, or not at all");
    world.publish(|snapshot| snapshot.backends.iter_mut().for_each(|backend| *backend = None));
    world.exchange(0, 0, &from_client(CLIENT, FIN | ACK));
    assert_eq!(passed(&world), before, "its backend is gone");
}

#[test]
fn with_a_cookie_a_connection_counts_as_without_from_the_backends_side() {
    let plan = Plan { weights: vec![Some(1)], ..Plan::default() };
    let (families, none) = (Families::V4, ClientAddress::None);
    let mut world = cookies::world(plan, families, none, SynCookies::Always, |_| {});
    let syn = tcp(families).flags(SYN).numbers(100, 0).build();
    let told = Segment::read(&world.one(0, 0, &syn).frame);
    assert_eq!(passed(&world), [0; 4], "what is answered here is nobody's");
    let ack = tcp(families).flags(ACK).numbers(101, told.sequence.wrapping_add(1)).build();
    let syn = world.one(0, 0, &ack);
    assert_eq!(passed(&world), [1, length(&syn.frame), 0, 0], "the client's SYN, after all");
    let back = introduce::answer(&syn).flags(SYN | ACK).numbers(7000, 101).build();
    let ack = world.one(0, 1, &back);
    let clients = length(&syn.frame) + length(&ack.frame);
    assert_eq!(passed(&world), [2, clients, 1, length(&back)]);
}
