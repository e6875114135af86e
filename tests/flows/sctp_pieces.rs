//! SCTP packets in pieces: their checksum covers all of them, and follows where ports change.

use proptest::prelude::*;
use shunt::dataplane::frag::HELD_PER_DATAGRAM_MAX;
use shunt::dataplane::snapshot::{Encapsulation, Mode, Protocol};
use shunt::dataplane::verdict::Reason;

use crate::ends::{client, from_backend, plan, vip};
use crate::packets::builder::chunk;
use crate::packets::oracle::judge_any;
use crate::packets::{Builder, packet};
use crate::parts::{cut, exchange_all, joined, put};
use crate::world::{Card, Plan, Sent, World};

const PORT: u16 = 40_000;
const INIT: [u8; 16] = [0, 0, 0, 1, 0, 0, 255, 255, 0, 10, 0, 10, 0, 0, 0, 1];

/// A service's clients and backends are IPv6 or not, and how packets get there.
const WAYS: [(bool, bool, Mode); 7] = [
    (false, false, Mode::Fullnat),
    (true, true, Mode::Fullnat),
    (true, false, Mode::Fullnat),
    (false, false, Mode::Nat),
    (true, true, Mode::Nat),
    (false, false, Mode::Dr),
    (true, true, Mode::Tunnel(Encapsulation::Ipip)),
];

fn shop((client_v6, backend_v6, mode): (bool, bool, Mode)) -> Plan {
    Plan { protocols: vec![Protocol::Sctp], ..plan(client_v6, backend_v6, mode) }
}

/// A client's packet with a DATA chunk.
fn data(is_v6: bool, length: usize) -> Builder {
    let value: Vec<u8> = (0..length).map(|i| u8::try_from(i % 251).unwrap()).collect();
    let packet = packet().sctp(client(is_v6, PORT), vip(is_v6), 5);
    packet.flags_fragment(0).payload(&chunk(0, 3, &value))
}

/// Has a client begin an association; what the backend got.
fn begin(world: &mut World, is_v6: bool) -> Sent {
    let init = packet().sctp(client(is_v6, PORT), vip(is_v6), 0).payload(&chunk(1, 0, &INIT));
    let mut sent = world.exchange(0, 0, &init.build());
    assert_eq!(sent.len(), 1);
    sent.remove(0)
}

/// The whole packet the other end puts together, without its outer header.
fn received(mode: Mode, sent: &[Sent]) -> Vec<u8> {
    let bare = |frame: &[u8]| match mode {
        Mode::Tunnel(_) => [&frame[..14], &frame[54..]].concat(),
        _ => frame.to_vec(),
    };
    let frames: Vec<_> =
        sent.iter().map(|sent| Sent { frame: bare(&sent.frame), ..*sent }).collect();
    joined(&frames)
}

fn crc(whole: &[u8]) -> u32 {
    let l4 = if whole[14] >> 4 == 6 { 54 } else { 34 };
    u32::from_le_bytes(whole[l4 + 8..l4 + 12].try_into().unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// In any order, cut anywhere, on any worker, both ways: a right checksum is right, a wrong one
    /// wrong by the same bits.
    #[test]
    fn the_checksum_of_all_pieces_follows_the_ports(
        way in prop::sample::select(WAYS.to_vec()),
        workers in prop::sample::select(vec![1u8, 2, 4]),
        rss in any::<bool>(),
        first in 2..60usize,
        second in 1..60usize,
        order in Just([0, 1, 2]).prop_shuffle(),
        arrivals in prop::collection::vec(any::<prop::sample::Index>(), 6),
        wrong_by in prop_oneof![Just(0), any::<u16>()],
    ) {
        let (is_v6, _, mode) = way;
        let card = if rss { Card::Rss } else { Card::Any };
        let mut world = World::new(Plan { workers, card, ..shop(way) });
        let got = begin(&mut world, is_v6);
        let carry = |world: &mut World, port: usize, packet: &Builder| {
            let mut whole = packet.build();
            let l4 = if whole[14] >> 4 == 6 { 54 } else { 34 };
            let wrong = crc(&whole) ^ u32::from(wrong_by);
            whole[l4 + 8..l4 + 12].copy_from_slice(&wrong.to_le_bytes());
            let pieces = cut(&whole, &[first * 8, second * 8], 7);
            let mut sent = vec![];
            for (number, at) in order.into_iter().zip(&arrivals) {
                put(world, at.index(workers.into()), port, &pieces[number]);
                world.poll();
                sent.extend(world.sent());
            }
            sent
        };
        let sent = carry(&mut world, 0, &data(is_v6, 1000));
        prop_assert_eq!(sent.len(), 3, "drops: {:?}", world.drops());
        let whole = received(mode, &sent);
        let seen = judge_any(&whole).unwrap();
        prop_assert_eq!(seen.l4_right, wrong_by == 0);
        if matches!(mode, Mode::Fullnat | Mode::Nat) {
            let at_backend = judge_any(&got.frame).unwrap();
            let ends = |seen: &crate::packets::oracle::Judgement<std::net::IpAddr>| {
                (seen.source, seen.destination, seen.ports)
            };
            prop_assert_eq!(ends(&seen), ends(&at_backend));
            let (from, to) =
                ((at_backend.source, at_backend.ports.0), (at_backend.destination, at_backend.ports.1));
            let answer = from_backend(13).sctp(to, from, 9).flags_fragment(0);
            let answer = answer.payload(&chunk(0, 3, &[9; 999]));
            let back = carry(&mut world, 1, &answer);
            prop_assert_eq!(back.len(), 3, "drops: {:?}", world.drops());
            let back = judge_any(&joined(&back)).unwrap();
            prop_assert_eq!(back.l4_right, wrong_by == 0);
            prop_assert_eq!(back.ports, (vip(is_v6).port(), PORT));
        }
        prop_assert_eq!(world.connections(), [1; 4]);
        prop_assert_eq!(world.drops(), vec![]);
    }
}

/// Each goes on when the length is known, the first in front, the others as they came.
#[test]
fn pieces_wait_for_the_last_and_the_first_leaves_in_front() {
    for way in WAYS {
        let (is_v6, _, mode) = way;
        let pieces = cut(&data(is_v6, 2000).build(), &[800, 800], 7);
        for (order, waits) in [([0, 1, 2], 2), ([0, 2, 1], 1), ([2, 0, 1], 1), ([1, 2, 0], 2)] {
            let mut world = World::new(shop(way));
            begin(&mut world, is_v6);
            let mut sent = vec![];
            for (at, number) in order.into_iter().enumerate() {
                let left = world.exchange(0, 0, &pieces[number]);
                assert_eq!(left.is_empty(), at < waits, "{way:?} {order:?} {at}");
                sent.extend(left);
            }
            assert!(judge_any(&received(mode, &sent)).unwrap().l4_right, "{way:?} {order:?}");
            let length = |frame: &[u8]| frame.len();
            let grown = length(&sent[0].frame).abs_diff(length(&pieces[0]));
            let lengths: Vec<_> =
                sent.iter().map(|sent| length(&sent.frame).abs_diff(grown)).collect();
            assert_eq!(sent.len(), 3, "{way:?} {order:?} {lengths:?}");
            assert_eq!(world.drops(), []);
        }
    }
}

#[test]
fn pieces_whose_last_never_comes_are_given_up_and_counted() {
    let mut world = World::new(shop(WAYS[0]));
    begin(&mut world, false);
    let pieces = cut(&data(false, 2000).build(), &[800, 800], 7);
    assert_eq!(exchange_all(&mut world, 0, &pieces[..2]), []);
    world.wait(29);
    assert_eq!(world.drops(), []);
    world.wait(2);
    assert_eq!(world.drops(), [(Reason::FragmentTimeout, 2)]);
}

#[test]
fn so_many_pieces_of_one_packet_wait_and_no_more() {
    let mut world = World::new(shop(WAYS[0]));
    begin(&mut world, false);
    let lengths = vec![16; HELD_PER_DATAGRAM_MAX];
    let pieces = cut(&data(false, 16 * HELD_PER_DATAGRAM_MAX).build(), &lengths, 7);
    assert_eq!(pieces.len(), HELD_PER_DATAGRAM_MAX + 1);
    assert_eq!(exchange_all(&mut world, 0, &pieces), [], "there is no room for the last");
    assert_eq!(world.drops(), [(Reason::FragmentLimit, 1)]);
}

#[test]
fn no_association_begins_in_pieces() {
    for way in WAYS {
        let mut world = World::new(shop(way));
        let is_v6 = way.0;
        let init = packet().sctp(client(is_v6, PORT), vip(is_v6), 0).flags_fragment(0);
        let init = init.payload(&[chunk(1, 0, &INIT), chunk(0x80, 0, &[0; 100])].concat());
        assert_eq!(exchange_all(&mut world, 0, &cut(&init.build(), &[48], 7)), []);
        assert_eq!(world.drops(), [(Reason::Fragment, 2)], "{way:?}");
        assert_eq!(world.connections(), [0; 4]);
    }
}

/// A new first piece under an old name belongs to another packet, which may be longer.
#[test]
fn a_first_piece_waits_for_the_last_of_its_own_packet() {
    let mut world = World::new(shop(WAYS[0]));
    begin(&mut world, false);
    for length in [1000, 1200, 1000] {
        let pieces = cut(&data(false, length).build(), &[800], 7);
        let sent = exchange_all(&mut world, 0, &pieces);
        assert!(judge_any(&joined(&sent)).unwrap().l4_right, "{length}");
    }
    assert_eq!(world.drops(), []);
}
