//! Answers in place: the rules of RFC 9293 section 3.10.7.1 and RFC 1812 section 4.3, by table.

use std::net::Ipv4Addr;

use shunt::dataplane::io::memory::{HEADROOM, ROOM, VecPacket};
use shunt::dataplane::io::{Packet, RxInfo};
use shunt::dataplane::parse::{Parse, parse};
use shunt::dataplane::reply::{IcmpError, icmp_error, sctp_abort, tcp_reset};
use shunt::wire::Mac;

use crate::packets::builder::chunk;
use crate::packets::oracle::{judge, judge_v6};
use crate::packets::{
    Builder, CLIENT, CLIENT_MAC, Expect, OUR_MAC, Row, VIP, VIP_V6, packet, rows,
};

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const PSH: u8 = 0x08;
const ACK: u8 = 0x10;

/// The RST a packet gets, or `None`.
fn reset(of: &Builder) -> Option<Vec<u8>> {
    let mut packet = VecPacket::new(&of.build());
    tcp_reset(&mut packet, &of.parsed()).then(|| packet.data().to_vec())
}

/// The ABORT or SHUTDOWN-COMPLETE a packet gets, or `None`.
fn abort(of: &Builder) -> Option<Vec<u8>> {
    let mut packet = VecPacket::new(&of.build());
    sctp_abort(&mut packet, &of.parsed()).then(|| packet.data().to_vec())
}

/// The same by the builder: one chunk with nothing in it.
fn expected_abort(kind: u8, flags: u8, tag: u32) -> Vec<u8> {
    let answer = packet().sctp(VIP, CLIENT, tag).payload(&chunk(kind, flags, b""));
    answer.macs(OUR_MAC, CLIENT_MAC).identification(0).build()
}

/// What follows an ABORT for each kind of packet is in `tests/flows/services.rs`; here, to the byte.
#[test]
fn an_abort_is_to_the_byte_the_one_the_builder_builds() {
    let said = |kind, value: &[u8]| packet().sctp(CLIENT, VIP, 77).payload(&chunk(kind, 0, value));
    let init = packet().sctp(CLIENT, VIP, 0).payload(&chunk(1, 0, b"\0\x01\xe2\x40????????????"));
    assert_eq!(abort(&said(0, b"data")), Some(expected_abort(6, 1, 77)));
    assert_eq!(abort(&said(0, b"data").ip_options(&[1; 8])), Some(expected_abort(6, 1, 77)));
    assert_eq!(abort(&said(8, b"").padding(10)), Some(expected_abort(14, 1, 77)));
    assert_eq!(abort(&init), Some(expected_abort(6, 0, 123_456)));
    assert_eq!(abort(&said(6, b"")), None);
    assert_eq!(abort(&packet().tcp(CLIENT, VIP)), None, "TCP has the RST");
}

/// The RST by the builder.
fn expected_reset(flags: u8, sequence: u32, ack: u32) -> Vec<u8> {
    let reset = packet().tcp(VIP, CLIENT).flags(flags).numbers(sequence, ack).window(0);
    reset.macs(OUR_MAC, CLIENT_MAC).identification(0).build()
}

#[test]
fn a_segment_gets_the_reset_of_rfc_9293() {
    let segment = || packet().tcp(CLIENT, VIP).numbers(1000, 5000);
    let (rst, rst_ack) = (RST, RST | ACK);
    let table: [(&str, Builder, (u8, u32, u32)); 12] = [
        ("ack: its number is taken", segment(), (rst, 5000, 0)),
        ("data and ack", segment().flags(PSH | ACK).payload(b"data"), (rst, 5000, 0)),
        ("syn and ack", segment().flags(SYN | ACK), (rst, 5000, 0)),
        ("fin and ack", segment().flags(FIN | ACK), (rst, 5000, 0)),
        ("syn counts one", segment().flags(SYN), (rst_ack, 0, 1001)),
        ("options do not count", segment().flags(SYN).tcp_options(&[1; 40]), (rst_ack, 0, 1001)),
        ("syn with data", segment().flags(SYN).payload(b"fast"), (rst_ack, 0, 1005)),
        ("syn and fin count two", segment().flags(SYN | FIN), (rst_ack, 0, 1002)),
        ("no flag at all", segment().flags(0), (rst_ack, 0, 1000)),
        ("padding does not count", segment().flags(SYN).padding(6), (rst_ack, 0, 1001)),
        ("ip options do not count", segment().flags(SYN).ip_options(&[1; 8]), (rst_ack, 0, 1001)),
        ("the number wraps", segment().numbers(u32::MAX, 0).flags(SYN), (rst_ack, 0, 0)),
    ];
    for (name, segment, (flags, sequence, ack)) in table {
        assert_eq!(reset(&segment), Some(expected_reset(flags, sequence, ack)), "{name}");
    }
}

#[test]
fn a_reset_or_a_datagram_gets_no_reset() {
    for flags in [RST, RST | ACK, RST | SYN, 0xff] {
        assert_eq!(reset(&packet().tcp(CLIENT, VIP).flags(flags)), None, "{flags:#x}");
    }
    assert_eq!(reset(&packet().udp(CLIENT, VIP).payload(&[0; 40])), None);
}

/// The error a packet gets from the VIP, or `None`.
fn error(of: &Builder, kind: IcmpError) -> Option<Vec<u8>> {
    let mut packet = VecPacket::new(&of.build());
    icmp_error(&mut packet, 14, kind, VIP.0).then(|| packet.data().to_vec())
}

/// The error by the builder.
fn expected_error(kind: u8, code: u8, quote: &[u8]) -> Vec<u8> {
    let error = packet().icmp(kind, code, 0).between(VIP, CLIENT).payload(quote);
    error.macs(OUR_MAC, CLIENT_MAC).tos(0xc0).identification(0).build()
}

#[test]
fn an_icmp_error_quotes_the_packet_as_received_up_to_576_bytes() {
    let table = [
        ("a datagram", packet().udp(CLIENT, VIP).payload(b"question")),
        ("of odd length", packet().udp(CLIENT, VIP).payload(b"odd")),
        ("padded by the link", packet().udp(CLIENT, VIP).padding(18)),
        ("with ip options", packet().udp(CLIENT, VIP).ip_options(&[1; 40])),
        ("a segment", packet().tcp(CLIENT, VIP).ttl(1)),
        ("one byte short of too long", packet().udp(CLIENT, VIP).payload(&[7; 519])),
        ("as long as fits", packet().udp(CLIENT, VIP).payload(&[7; 520])),
        ("one byte too long", packet().udp(CLIENT, VIP).payload(&[7; 521])),
        ("filling a frame", packet().udp(CLIENT, VIP).payload(&[7; 1472])),
        ("a first fragment", packet().udp(CLIENT, VIP).payload(&[7; 64]).flags_fragment(0x2000)),
        ("an echo request", packet().icmp(8, 0, 1).payload(b"ping")),
    ];
    for (name, received) in table {
        let mut quote = received.ip_packet();
        quote.truncate(548);
        let unreachable = error(&received, IcmpError::PortUnreachable);
        assert_eq!(unreachable, Some(expected_error(3, 3, &quote)), "{name}");
        let exceeded = error(&received, IcmpError::TimeExceeded);
        assert_eq!(exceeded, Some(expected_error(11, 0, &quote)), "{name}");
        assert!(exceeded.unwrap().len() <= 14 + 576, "{name}");
    }
}

#[test]
fn nobody_gets_an_icmp_error_who_must_not() {
    let udp = || packet().udp(CLIENT, VIP).payload(b"question");
    let to = |address: [u8; 4]| packet().udp(CLIENT, (Ipv4Addr::from(address), 80));
    let from = |address: [u8; 4]| packet().udp((Ipv4Addr::from(address), 80), VIP);
    let table = [
        ("an unreachable", packet().icmp(3, 3, 0).payload(&[0; 28])),
        ("a source quench", packet().icmp(4, 0, 0).payload(&[0; 28])),
        ("a redirect", packet().icmp(5, 0, 0).payload(&[0; 28])),
        ("a time exceeded", packet().icmp(11, 0, 0).payload(&[0; 28])),
        ("a parameter problem", packet().icmp(12, 0, 0).payload(&[0; 28])),
        ("an icmp type nobody knows", packet().icmp(77, 0, 0)),
        ("icmp without a type", packet().icmp(8, 0, 0).cut(0)),
        ("a later fragment", udp().flags_fragment(0x2001)),
        ("the last fragment", udp().flags_fragment(0x0001)),
        ("not ipv4 by its EtherType", udp().ethertype(0x0806)),
        ("not ipv4 by its version", udp().version(6)),
        ("with a header too short", udp().ihl(4)),
        ("to everybody on the link", udp().received_by(Mac([0xff; 6]))),
        ("to broadcast", to([255; 4])),
        ("to multicast", to([224, 0, 0, 5])),
        ("from nowhere", from([0; 4])),
        ("from loopback", from([127, 0, 0, 1])),
        ("from multicast", from([239, 1, 1, 1])),
        ("from broadcast", from([255; 4])),
        ("from its own destination", packet().udp(VIP, VIP)),
    ];
    for (name, received) in table {
        for kind in [IcmpError::PortUnreachable, IcmpError::TimeExceeded] {
            assert_eq!(error(&received, kind), None, "{name}");
        }
    }
}

#[test]
fn a_refused_answer_leaves_the_packet_as_it_was() {
    let received = packet().icmp(3, 3, 0).payload(&[0; 28]).build();
    let mut packet = VecPacket::new(&received);
    assert!(!icmp_error(&mut packet, 14, IcmpError::TimeExceeded, VIP.0));
    assert_eq!(packet.data(), received);
}

#[test]
fn without_headroom_there_is_no_icmp_error() {
    let received = packet().udp(CLIENT, VIP).build();
    let mut packet = VecPacket::new(&[0; 0]);
    // Use the headroom up, then lay the frame at the front of what is left.
    packet.prepend(HEADROOM - 27).unwrap();
    assert!(packet.set_len(received.len()));
    packet.data_mut().copy_from_slice(&received);
    assert!(!icmp_error(&mut packet, 14, IcmpError::PortUnreachable, VIP.0));
    assert_eq!(packet.data(), received);
}

#[test]
fn an_independent_reader_finds_every_answer_right_and_going_back() {
    let mut answers = 0;
    let fits = |row: &Row| row.packet.build().len() <= ROOM;
    for row in rows().into_iter().filter(|row| row.expect == Expect::Flow && fits(row)) {
        let key = row.packet.parsed().key;
        let resets = reset(&row.packet).into_iter().chain(abort(&row.packet));
        let errors = [IcmpError::PortUnreachable, IcmpError::TimeExceeded];
        let errors = errors.into_iter().map(|kind| error(&row.packet, kind).expect(row.name));
        for answer in resets.chain(errors) {
            let judged = judge(&answer).expect(row.name);
            assert!(judged.ip_right && judged.l4_right, "{}: {judged:?}", row.name);
            assert_eq!((judged.source, judged.destination), (VIP.0, key.source()), "{}", row.name);
            answers += 1;
        }
    }
    assert!(answers > 100, "{answers} answers judged");
}

#[test]
fn an_independent_reader_finds_every_ipv6_answer_right_and_going_back() {
    let fits = |row: &Row| row.packet.build().len() <= ROOM;
    let mut answers = 0;
    for row in rows().into_iter().filter(|row| row.expect == Expect::Flow6 && fits(row)) {
        let (received, parsed) = (row.packet.build(), row.packet.parsed_v6());
        let resets = parsed.key.protocol == 6 && parsed.signal & RST == 0;
        let mut packet = VecPacket::new(&received);
        assert_eq!(tcp_reset(&mut packet, &parsed), resets, "{}", row.name);
        let reset = resets.then_some(packet);
        let errors = [IcmpError::PortUnreachable, IcmpError::TimeExceeded].map(|kind| {
            let mut packet = VecPacket::new(&received);
            assert!(icmp_error(&mut packet, 14, kind, VIP_V6.0), "{}", row.name);
            packet
        });
        for answer in errors.into_iter().chain(reset) {
            let judged = judge_v6(answer.data()).expect(row.name);
            assert!(judged.l4_right, "{}: {judged:?}", row.name);
            assert_eq!((judged.source, judged.destination), (VIP_V6.0, parsed.key.source()));
            assert!(answer.data().len() <= 14 + 1280);
            answers += 1;
        }
    }
    assert!(answers > 60, "{answers} answers judged");
}

#[test]
fn a_reset_parses_as_the_flow_turned_round() {
    let received = packet().tcp(CLIENT, VIP).flags(SYN);
    let answer = reset(&received).unwrap();
    match parse(&answer, RxInfo::default()) {
        Parse::Flow(parsed) => {
            assert_eq!(parsed.key, received.parsed().key.reversed());
            assert_eq!(parsed.signal, RST | ACK);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_icmp_error_comes_from_the_address_it_is_told() {
    let mut packet = VecPacket::new(&packet().udp(CLIENT, VIP).build());
    let ours = Ipv4Addr::new(192, 0, 2, 1);
    assert!(icmp_error(&mut packet, 14, IcmpError::TimeExceeded, ours));
    assert_eq!(judge(packet.data()).unwrap().source, ours);
}
