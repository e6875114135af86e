//! TOA and PROXY protocol, packet by packet: what the backend reads, what both ends' numbers become,
//! in pieces too. Where there is no room is in `room.rs`, whole connections are in `streams.rs`.

use std::net::SocketAddr;

use ppp::{v1, v2};
use shunt::dataplane::conn::state::flags::{ACK, FIN, PSH, RST, SYN};
use shunt::dataplane::snapshot::{ClientAddress, Mode, Snapshot};
use shunt::dataplane::verdict::Reason;
use shunt::wire::tcp::URG;

use crate::endpoints::Segment;
use crate::packets::oracle::judge_any;
use crate::packets::{Builder, CLIENT, OUR_INNER_MAC, VIP, packet};
use crate::parts::{CLIENT6, VIP6, all_v6, cut, exchange_all, joined, vip_v6};
use crate::world::{Plan, Sent, World, backend_mac};

pub(crate) const TOA: ClientAddress = ClientAddress::Toa { kind_v6: 254 };
pub(crate) const TOA_253: ClientAddress = ClientAddress::Toa { kind_v6: 253 };
pub(crate) const V1: ClientAddress = ClientAddress::ProxyV1;
pub(crate) const V2: ClientAddress = ClientAddress::ProxyV2;

/// Which families clients and backends are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Families {
    V4,
    V6,
    Nat64,
}

use Families::{Nat64, V4, V6};

pub(crate) fn world(how: ClientAddress, families: Families, edit: impl Fn(&mut Snapshot)) -> World {
    world_in(Mode::Fullnat, how, families, edit)
}

pub(crate) fn world_in(
    mode: Mode,
    how: ClientAddress,
    families: Families,
    edit: impl Fn(&mut Snapshot),
) -> World {
    let plan = Plan { weights: vec![Some(1)], modes: vec![mode], ..Plan::default() };
    let mut world = World::new(plan);
    world.publish(|snapshot| {
        match families {
            V4 => {}
            V6 => all_v6(snapshot),
            Nat64 => vip_v6(snapshot),
        }
        snapshot.services.iter_mut().flatten().for_each(|service| service.client_address = how);
        edit(snapshot);
    });
    world
}

pub(crate) fn ends(families: Families) -> (SocketAddr, SocketAddr) {
    if families == V4 { (CLIENT.into(), VIP.into()) } else { (CLIENT6.into(), VIP6.into()) }
}

/// A client's segment to the VIP.
pub(crate) fn tcp(families: Families) -> Builder {
    let (client, vip) = ends(families);
    packet().tcp(client, vip)
}

/// A backend's answer to who sent that.
pub(crate) fn answer(got: &Sent) -> Builder {
    let seen = judge_any(&got.frame).unwrap();
    let (from, to) = ((seen.destination, seen.ports.1), (seen.source, seen.ports.0));
    packet().macs(backend_mac(11), OUR_INNER_MAC).tcp(from, to)
}

/// What an independent reader finds in front: the client, the VIP, and how long it is.
pub(crate) fn header(how: ClientAddress, bytes: &[u8]) -> (SocketAddr, SocketAddr, usize) {
    if how == V1 {
        let header = v1::Header::try_from(bytes).unwrap();
        let (from, to): (SocketAddr, SocketAddr) = match header.addresses {
            v1::Addresses::Tcp4(a) => (
                (a.source_address, a.source_port).into(),
                (a.destination_address, a.destination_port).into(),
            ),
            v1::Addresses::Tcp6(a) => (
                (a.source_address, a.source_port).into(),
                (a.destination_address, a.destination_port).into(),
            ),
            v1::Addresses::Unknown => panic!("unknown"),
        };
        return (from, to, header.header.len());
    }
    let header = v2::Header::try_from(bytes).unwrap();
    assert_eq!(header.command, v2::Command::Proxy);
    let (from, to): (SocketAddr, SocketAddr) = match header.addresses {
        v2::Addresses::IPv4(a) => (
            (a.source_address, a.source_port).into(),
            (a.destination_address, a.destination_port).into(),
        ),
        v2::Addresses::IPv6(a) => (
            (a.source_address, a.source_port).into(),
            (a.destination_address, a.destination_port).into(),
        ),
        other => panic!("{other:?}"),
    };
    (from, to, header.len())
}

/// Bytes in front of the client's stream.
pub(crate) fn inserted(how: ClientAddress, families: Families) -> usize {
    let (client, vip) = ends(families);
    match (how, families) {
        (V1, V4) => format!("PROXY TCP4 {} {} 40000 80\r\n", client.ip(), vip.ip()).len(),
        (V1, _) => {
            let full = |ip: std::net::IpAddr| match ip {
                std::net::IpAddr::V6(ip) => ip.segments().map(|s| format!("{s:x}")).join(":"),
                std::net::IpAddr::V4(_) => panic!("IPv6"),
            };
            format!("PROXY TCP6 {} {} 40000 80\r\n", full(client.ip()), full(vip.ip())).len()
        }
        (V2, V4) => 28,
        (V2, _) => 52,
        _ => 0,
    }
}

/// The option an IPv4 or IPv6 client has.
pub(crate) fn expected_option(how: ClientAddress, client: SocketAddr) -> Vec<u8> {
    let port = client.port().to_be_bytes();
    match (client, how) {
        (SocketAddr::V4(a), _) => [&[254, 8][..], &port, &a.ip().octets()].concat(),
        (SocketAddr::V6(a), ClientAddress::Toa { kind_v6 }) => {
            [&[kind_v6, 20][..], &port, &a.ip().octets()].concat()
        }
        _ => panic!("no TOA"),
    }
}

/// A connection with the SYN answered, and what the backend got.
pub(crate) fn opened(how: ClientAddress, families: Families, start: u32) -> (World, Sent) {
    let mut world = world(how, families, |_| {});
    let syn = world.one(0, 0, &tcp(families).flags(SYN).numbers(start, 0).build());
    let back = answer(&syn).flags(SYN | ACK).numbers(500, start.wrapping_add(1)).build();
    world.one(0, 1, &back);
    (world, syn)
}

#[test]
fn numbers_stay_right_however_often_they_go_round() {
    for (how, families) in [(V1, V4), (V2, V6), (V1, Nat64), (TOA, V4), (TOA, V6)] {
        let length = u32::try_from(inserted(how, families)).unwrap();
        let first = 0xffff_0000_u32;
        let (mut world, syn) = opened(how, families, first.wrapping_sub(1));
        world.one(0, 0, &tcp(families).numbers(first, 501).payload(b"hello").build());
        let mut at: u64 = 5;
        // 12 GiB, and every time exactly one round behind the start as well.
        while at < 3 << 32 {
            let back = |ahead: u64| {
                let ack = first.wrapping_add(length).wrapping_add(low(ahead));
                answer(&syn).flags(ACK).numbers(501, ack).build()
            };
            let heard = Segment::read(&world.one(0, 1, &back(at)).frame);
            assert_eq!(heard.ack, first.wrapping_add(low(at)), "{how:?} {at}");
            let next = tcp(families).numbers(first.wrapping_add(low(at)), 501).payload(b"more");
            let sent = Segment::read(&world.one(0, 0, &next.build()).frame);
            let number = first.wrapping_add(low(at)).wrapping_add(length);
            assert_eq!((sent.sequence, &sent.payload[..]), (number, &b"more"[..]), "{how:?} {at}");
            assert!(sent.options.is_empty(), "{how:?} {at}");
            let round = (at >> 32) + 1;
            at = if at < 100_000 { 100_000 } else { (at + (1 << 30)).min(round << 32) };
            if at == round << 32 {
                // One round exactly, and a little before.
                for near in [at - 3, at, at + 1, at + 20] {
                    let heard = Segment::read(&world.one(0, 1, &back(near)).frame);
                    assert_eq!(heard.ack, first.wrapping_add(low(near)), "{how:?} {near}");
                }
            }
        }
    }
}

fn low(number: u64) -> u32 {
    u32::try_from(number & u64::from(u32::MAX)).unwrap()
}

#[test]
fn a_forged_syn_does_not_move_the_numbers_of_what_lives() {
    let (mut world, syn) = opened(V2, V4, 1000);
    world.one(0, 0, &tcp(V4).numbers(1001, 501).payload(b"hello").build());
    world.one(0, 1, &answer(&syn).flags(ACK).numbers(501, 1001 + 28 + 5).build());
    world.exchange(0, 0, &tcp(V4).flags(SYN).numbers(0x7777_0000, 0).build());
    let sent = world.one(0, 0, &tcp(V4).numbers(1006, 501).payload(b"more").build());
    assert_eq!(Segment::read(&sent.frame).sequence, 1006 + 28);
    let back = world.one(0, 1, &answer(&syn).flags(ACK).numbers(501, 1010 + 28).build());
    assert_eq!(Segment::read(&back.frame).ack, 1010);
}

#[test]
fn before_the_backend_has_answered_a_client_may_choose_another_number() {
    let mut world = world(V2, V4, |_| {});
    world.one(0, 0, &tcp(V4).flags(SYN).numbers(5, 0).build());
    let syn = world.one(0, 0, &tcp(V4).flags(SYN).numbers(9000, 0).build());
    world.one(0, 1, &answer(&syn).flags(SYN | ACK).numbers(500, 9001).build());
    let sent = world.one(0, 0, &tcp(V4).flags(ACK).numbers(9001, 501).build());
    assert_eq!(Segment::read(&sent.frame).payload.len(), 28);
}

/// The answer to the SYN before says nothing of how far the new stream has come.
#[test]
fn the_answer_to_a_number_the_client_no_longer_means_does_not_take_the_header_away() {
    for (before, now) in [(9000, 5), (5, 9000), (90_000, 5), (20, 5)] {
        let mut world = world(V2, V4, |_| {});
        world.one(0, 0, &tcp(V4).flags(SYN).numbers(before, 0).build());
        let syn = world.one(0, 0, &tcp(V4).flags(SYN).numbers(now, 0).build());
        world.one(0, 1, &answer(&syn).flags(SYN | ACK).numbers(700, before + 1).build());
        world.one(0, 1, &answer(&syn).flags(SYN | ACK).numbers(500, now + 1).build());
        let sent = world.one(0, 0, &tcp(V4).flags(ACK).numbers(now + 1, 501).build());
        let sent = Segment::read(&sent.frame);
        assert_eq!((sent.sequence, sent.payload.len()), (now + 1, 28), "{before}, then {now}");
    }
}

/// A late one of the connection that had these ports before says nothing about the header of the
/// one that has them now.
#[test]
fn an_old_acknowledgment_does_not_take_the_header_away() {
    for how in [V1, V2] {
        let (mut world, syn) = opened(how, V4, 1000);
        world.one(0, 1, &answer(&syn).flags(ACK).numbers(77, 1001 + (1 << 30)).build());
        let sent = world.one(0, 0, &tcp(V4).numbers(1001, 501).payload(b"hello").build());
        let sent = Segment::read(&sent.frame);
        assert_eq!((sent.sequence, sent.payload.len()), (1001, inserted(how, V4) + 5), "{how:?}");
    }
}

#[test]
fn a_port_used_again_starts_over() {
    for how in [V1, V2, TOA] {
        let (mut world, syn) = opened(how, V4, 1000);
        world.one(0, 0, &tcp(V4).numbers(1001, 501).payload(b"hello").build());
        world.one(0, 1, &answer(&syn).flags(RST | ACK).numbers(501, 1001).build());
        let again = world.one(0, 0, &tcp(V4).flags(SYN).numbers(70_000, 0).build());
        let back = answer(&again).flags(SYN | ACK).numbers(900, 70_001).build();
        assert_eq!(Segment::read(&world.one(0, 1, &back).frame).ack, 70_001);
        let sent = world.one(0, 0, &tcp(V4).numbers(70_001, 901).payload(b"new").build());
        let sent = Segment::read(&sent.frame);
        assert_eq!(sent.sequence, 70_001);
        if how == TOA {
            assert_eq!(sent.options, expected_option(TOA, CLIENT.into()));
        } else {
            assert_eq!(sent.payload.len(), inserted(how, V4) + 3);
        }
    }
}

/// What a backend has forgotten begins anew when it agrees to the client's next SYN, whatever of the
/// old connection still comes in between, and whichever state that was in.
#[test]
fn a_port_used_again_while_the_old_connection_is_known_starts_over_when_the_backend_agrees() {
    let closings: [&[(bool, u8)]; 3] = [&[], &[(true, FIN | ACK)], &[(false, FIN | ACK)]];
    let late: [&[(bool, u8)]; 4] =
        [&[], &[(true, ACK)], &[(true, RST | ACK)], &[(false, ACK), (true, ACK)]];
    for (how, closing, late) in [V1, V2, TOA]
        .into_iter()
        .flat_map(|how| closings.map(|closing| (how, closing)))
        .flat_map(|(how, closing)| late.map(|late| (how, closing, late)))
    {
        let length = u32::try_from(inserted(how, V4)).unwrap();
        let (mut world, syn) = opened(how, V4, 1000);
        let say = |world: &mut World, (is_client, flags): (bool, u8)| {
            if is_client {
                world.one(0, 0, &tcp(V4).flags(flags).numbers(1006, 501).build());
            } else {
                let back = answer(&syn).flags(flags).numbers(501, 1006 + length).build();
                world.one(0, 1, &back);
            }
        };
        world.one(0, 0, &tcp(V4).numbers(1001, 501).payload(b"hello").build());
        say(&mut world, (false, ACK));
        for step in closing {
            say(&mut world, *step);
        }
        let again = world.one(0, 0, &tcp(V4).flags(SYN).numbers(70_000, 0).build());
        for step in late {
            say(&mut world, *step);
        }
        for _ in 0..2 {
            let back = answer(&again).flags(SYN | ACK).numbers(900, 70_001).build();
            let told = Segment::read(&world.one(0, 1, &back).frame);
            assert_eq!(told.ack, 70_001, "{how:?} {closing:?} {late:?}");
        }
        let sent = world.one(0, 0, &tcp(V4).numbers(70_001, 901).payload(b"new").build());
        let sent = Segment::read(&sent.frame);
        assert_eq!(sent.sequence, 70_001, "{how:?} {closing:?} {late:?}");
        match how {
            TOA => assert_eq!(sent.options, expected_option(TOA, CLIENT.into())),
            _ => assert_eq!(sent.payload.len(), inserted(how, V4) + 3),
        }
        let back = answer(&again).flags(ACK).numbers(901, 70_004 + length).build();
        assert_eq!(Segment::read(&world.one(0, 1, &back).frame).ack, 70_004);
        // The answer to the SYN came twice: that does not take back what was said since.
        let twice = answer(&again).flags(SYN | ACK).numbers(900, 70_001).build();
        world.one(0, 0, &tcp(V4).flags(SYN).numbers(70_000, 0).build());
        world.one(0, 1, &twice);
        let more = world.one(0, 0, &tcp(V4).numbers(70_001, 901).payload(b"new").build());
        let more = Segment::read(&more.frame);
        let expected = if how == TOA { 70_001 } else { 70_001 + length };
        assert_eq!((more.sequence, &more.payload[..]), (expected, &b"new"[..]), "{how:?}");
    }
}

#[test]
fn what_is_no_data_is_shifted_and_carries_the_header_if_it_may() {
    let length = 28;
    let rows = [
        ("FIN without data", FIN | ACK, 1001, &b""[..], 1001, length),
        ("a RST", RST, 1001, b"", 1001, 0),
        ("a keepalive before any data", ACK, 1000, b"", 1000, 0),
        ("the same with a byte", ACK, 1000, b"x", 1000, 1),
        ("data behind a gap", PSH | ACK, 1041, b"later", 1041 + 28, 5),
    ];
    for (name, flags, number, payload, expected, payload_length) in rows {
        let (mut world, _) = opened(V2, V4, 1000);
        let frame = tcp(V4).flags(flags).numbers(number, 501).payload(payload).build();
        let sent = Segment::read(&world.one(0, 0, &frame).frame);
        assert_eq!((sent.sequence, sent.payload.len()), (expected, payload_length), "{name}");
    }
    // Once the header has come, all of it is behind it.
    for (name, flags, number, payload, ..) in rows {
        let (mut world, syn) = opened(V2, V4, 1000);
        world.one(0, 0, &tcp(V4).numbers(1001, 501).build());
        world.one(0, 1, &answer(&syn).flags(ACK).numbers(501, 1001 + 28).build());
        let frame = tcp(V4).flags(flags).numbers(number, 501).payload(payload).build();
        let sent = Segment::read(&world.one(0, 0, &frame).frame);
        assert_eq!((sent.sequence, &sent.payload[..]), (number + 28, payload), "{name}");
    }
}

#[test]
fn data_in_a_syn_is_cut_off_and_urgent_data_stays_where_it_is() {
    let mut world = world(V1, V4, |_| {});
    let syn = tcp(V4).flags(SYN).numbers(1000, 0).payload(b"early").tcp_options(&[34, 2, 1, 1]);
    let sent = world.one(0, 0, &syn.build());
    let seen = Segment::read(&sent.frame);
    assert_eq!((seen.sequence, seen.payload.len(), seen.options), (1000, 0, vec![34, 2, 1, 1]));
    world.one(0, 1, &answer(&sent).flags(SYN | ACK).numbers(500, 1001).build());
    let length = u16::try_from(inserted(V1, V4)).unwrap();
    let mut urgent = tcp(V4).flags(PSH | ACK | URG).numbers(1001, 501).payload(b"!?").build();
    // The pointer to the byte behind the urgent one; what it does to the checksum.
    urgent[52..54].copy_from_slice(&1u16.to_be_bytes());
    let sum = u16::from_be_bytes([urgent[50], urgent[51]]) - 1;
    urgent[50..52].copy_from_slice(&sum.to_be_bytes());
    assert_eq!(Segment::read(&urgent).urgent, 1);
    let sent = Segment::read(&world.one(0, 0, &urgent).frame);
    assert_eq!(sent.urgent, 1 + length);
}

/// Its data is cut off, and then it is not too long: it leaves whole, under its own number.
#[test]
fn a_syn_that_was_too_long_by_its_data_is_whole_and_keeps_its_number() {
    let mut world = world(V2, V4, |_| {});
    let syn = tcp(V4).flags(SYN).numbers(1000, 0).identification(231).flags_fragment(0);
    let sent = world.one(0, 0, &syn.payload(&[7; 1470]).build());
    assert!(Segment::read(&sent.frame).payload.is_empty());
    assert_eq!(sent.frame[18..20], 231u16.to_be_bytes());
}

#[test]
fn a_wrong_checksum_stays_wrong() {
    for (how, families) in
        [(V1, V4), (V2, V6), (V1, Nat64), (TOA, V4), (TOA, V6), (TOA, Nat64), (V1, V6)]
    {
        for payload in [&b""[..], b"a", b"ab", b"abc"] {
            let (mut world, _) = opened(how, families, 1000);
            let frame = tcp(families).numbers(1001, 501).payload(payload).l4_wrong_by(0x0101);
            let sent = world.one(0, 0, &frame.build());
            assert!(!judge_any(&sent.frame).unwrap().l4_right, "{how:?} {families:?}");
        }
    }
}

#[test]
fn forged_options_are_overwritten_in_whatever_segment() {
    let forged =
        [254, 8, 1, 2, 9, 9, 9, 9, 253, 20, 0, 1, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9];
    for families in [V4, V6, Nat64] {
        let client = ends(families).0;
        let own = expected_option(TOA, client);
        for (flags, payload, carries) in
            [(SYN, &b""[..], true), (ACK, b"", false), (ACK, b"data", true)]
        {
            let (mut world, _) = opened(TOA, families, 1000);
            let options = if own.len() == 8 { &forged[..] } else { &forged[..8] };
            let number = if flags == SYN { 1000 } else { 1001 };
            let frame = tcp(families).flags(flags).numbers(number, 501).tcp_options(options);
            let sent = Segment::read(&world.one(0, 0, &frame.payload(payload).build()).frame);
            let mut expected = if carries { own.clone() } else { vec![] };
            expected.extend(vec![1; options.len()]);
            assert_eq!(sent.options, expected, "{families:?}");
            assert_eq!(sent.payload, payload);
        }
    }
}

#[test]
fn an_option_without_room_is_left_out() {
    for (families, length) in [(V4, 8usize), (V6, 20)] {
        for (options, fits) in [(40 - length, true), (40 - length + 4, false)] {
            let (mut world, _) = opened(TOA, families, 1000);
            let frame = tcp(families).numbers(1001, 501).tcp_options(&vec![1; options]);
            let sent = Segment::read(&world.one(0, 0, &frame.payload(b"data").build()).frame);
            assert_eq!(sent.options.len(), options + if fits { length } else { 0 });
            assert_eq!(sent.payload, b"data");
        }
        let ip = if families == V4 { 20 } else { 40 };
        for (payload, fits) in
            [(1500 - ip - 20 - length, true), (1500 - ip - 20 - length + 1, false)]
        {
            let (mut world, _) = opened(TOA, families, 1000);
            let frame = tcp(families).numbers(1001, 501).payload(&vec![7; payload]).build();
            let sent = Segment::read(&world.one(0, 0, &frame).frame);
            assert_eq!(
                (sent.options.len(), sent.payload.len()),
                (if fits { length } else { 0 }, payload)
            );
        }
    }
}

pub(crate) fn datagram(families: Families, payload: &[u8]) -> Builder {
    let (client, vip) = ends(families);
    packet().udp(client, vip).flags_fragment(0).payload(payload)
}

#[test]
fn every_datagram_has_a_header() {
    for (families, length) in [(V4, 28), (V6, 52), (Nat64, 52)] {
        let mut world = world(V2, families, |_| {});
        for payload in [&b""[..], b"odd", b"even"] {
            let got = world.one(0, 0, &datagram(families, payload).build());
            let seen = judge_any(&got.frame).unwrap();
            assert!(seen.ip_right && seen.l4_right, "{families:?} {payload:?}");
            let udp = if got.frame[14] >> 4 == 4 { 34 } else { 54 };
            let said = u16::from_be_bytes([got.frame[udp + 4], got.frame[udp + 5]]);
            assert_eq!(usize::from(said), 8 + length + payload.len());
            let bytes = &got.frame[udp + 8..];
            let (client, vip) = ends(families);
            assert_eq!(header(V2, bytes), (client, vip, length));
            assert_eq!(&bytes[length..], payload);
            let (from, to) = ((seen.destination, seen.ports.1), (seen.source, seen.ports.0));
            let back = packet().macs(backend_mac(11), OUR_INNER_MAC).udp(from, to);
            let back = world.one(0, 1, &back.payload(b"plain").build());
            assert!(back.frame.ends_with(b"plain"), "answers have none");
            assert!(judge_any(&back.frame).unwrap().l4_right);
        }
        if families == V4 {
            let bare = world.one(0, 0, &datagram(V4, b"x").without_checksum().build());
            assert_eq!(bare.frame[40..42], [0, 0], "a missing checksum stays missing");
            let wrong = world.one(0, 0, &datagram(V4, b"x").l4_wrong_by(3).build());
            assert!(!judge_any(&wrong.frame).unwrap().l4_right);
        }
    }
}

#[test]
fn a_datagram_in_pieces_has_a_header_that_moves_the_later_ones() {
    for (families, length) in [(V4, 32), (V6, 56)] {
        for order in [[0, 1, 2], [2, 1, 0]] {
            let mut world = world(V2, families, |_| {});
            let payload: Vec<u8> = (0..1600).map(|i| u8::try_from(i % 251).unwrap()).collect();
            let pieces = cut(&datagram(families, &payload).build(), &[800, 400], 7);
            let sent = exchange_all(&mut world, 0, &order.map(|number| pieces[number].clone()));
            let whole = joined(&sent);
            assert!(judge_any(&whole).unwrap().l4_right, "{families:?}");
            let bytes = &whole[if families == V4 { 42 } else { 62 }..];
            let (client, vip) = ends(families);
            assert_eq!(header(V2, bytes), (client, vip, length));
            assert_eq!(bytes[length..], payload);
            assert_eq!(world.drops(), []);
        }
    }
    // Behind the end of the longest datagram there is nothing.
    let mut world = world(V2, V4, |_| {});
    let pieces = cut(&datagram(V4, &[7; 1000]).build(), &[800], 7);
    world.one(0, 0, &pieces[0]);
    let mut last = pieces[1].clone();
    last[20..22].copy_from_slice(&(65_320u16 >> 3).to_be_bytes());
    last[24..26].fill(0);
    let sum = (!crate::packets::builder::sum(&last[14..34])).to_be_bytes();
    last[24..26].copy_from_slice(&sum);
    assert_eq!(world.exchange(0, 0, &last), []);
    assert_eq!(world.drops(), [(Reason::NoRoom, 1)]);
}

#[test]
fn a_segment_in_pieces_is_shifted_but_carries_nothing_new() {
    let data = |number| tcp(V4).flags_fragment(0).numbers(number, 501).payload(&[7; 500]).build();
    // Behind the header.
    let (mut world, syn) = opened(V2, V4, 1000);
    world.one(0, 0, &tcp(V4).numbers(1001, 501).build());
    world.one(0, 1, &answer(&syn).flags(ACK).numbers(501, 1001 + 28).build());
    let sent = exchange_all(&mut world, 0, &cut(&data(1001), &[200], 8));
    let whole = Segment::read(&joined(&sent));
    assert_eq!((whole.sequence, whole.payload), (1001 + 28, vec![7; 500]));
    // Nor an option.
    let (mut world, _) = opened(TOA, V4, 1000);
    let sent = exchange_all(&mut world, 0, &cut(&data(1001), &[200], 7));
    assert!(Segment::read(&joined(&sent)).options.is_empty());
    assert_eq!(world.drops(), []);
}

/// An error from behind us quotes the segment as the backend was to get it; the client hears of
/// its own, and of what still fits when its header or option is in.
#[test]
fn errors_quote_the_clients_own_numbers_and_leave_room() {
    for (how, families, room) in
        [(V2, V4, 28u16), (V1, V6, 0), (TOA, V4, 8), (TOA, V6, 20), (V2, Nat64, 52)]
    {
        let room = if room == 0 { u16::try_from(inserted(how, families)).unwrap() } else { room };
        let (mut world, _) = opened(how, families, 1000);
        world.one(0, 0, &tcp(families).numbers(1001, 501).payload(b"hello").build());
        let late = tcp(families).numbers(1006, 501).payload(&[7; 100]).build();
        let got = world.one(0, 0, &late);
        let seen = judge_any(&got.frame).unwrap();
        let backend_is_v6 = got.frame[14] >> 4 == 6;
        let (kind, code) = if backend_is_v6 { (2, 0) } else { (3, 4) };
        let router: std::net::IpAddr = if backend_is_v6 {
            "2001:db8:44::99".parse().unwrap()
        } else {
            "10.44.0.99".parse().unwrap()
        };
        let error = |mtu: u32| {
            packet()
                .macs(backend_mac(11), OUR_INNER_MAC)
                .between((router, 0), (seen.source, 0))
                .icmp(kind, code, mtu)
                .payload(&got.frame[14..])
                .build()
        };
        let told = world.one(0, 1, &error(1400)).frame;
        assert!(judge_any(&told).unwrap().l4_right, "{how:?} {families:?}");
        let (icmp, quoted) = if families == V4 { (34, 42) } else { (54, 62) };
        let gain = if families == Nat64 { 20 } else { 0 };
        let mtu = u32::from(1400 + gain - room);
        assert_eq!(told[icmp + 4..icmp + 8], mtu.to_be_bytes(), "{how:?} {families:?}");
        if families == V6 {
            // A number of four bytes, more than any packet has: the most there is, less the same.
            let told = world.one(0, 1, &error(0x1_0500)).frame;
            let most = u32::from(u16::MAX - room);
            assert_eq!(told[icmp + 4..icmp + 8], most.to_be_bytes(), "{how:?}");
        }
        // The quoted packet is a whole one: as the client sent it, but for the hop it went.
        let quote = [&late[..14], &told[quoted..]].concat();
        let quote = Segment::read(&quote);
        assert_eq!((quote.sequence, quote.payload), (1006, vec![7; 100]));
    }
}
