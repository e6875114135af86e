//! The table's rows of IPv6.

use std::net::{IpAddr, Ipv6Addr};

use shunt::dataplane::io::ChecksumVerdict::{Bad, Good};
use shunt::dataplane::io::RxInfo;
use shunt::dataplane::parse::OtherKind;
use shunt::dataplane::verdict::Reason;
use shunt::wire::Mac;

use super::rows::{Expect, Row, SYN, SYN_OPTIONS, TIMESTAMPS, dropped, row, same};
use super::{Builder, CLIENT_V6, VIP_V6, packet, translated};

/// Extension headers: hop-by-hop options, routing, a piece, destination options.
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const OPTIONS: u8 = 60;
/// Eight bytes of options that say nothing, but for the first.
const PAD: [u8; 7] = [0, 1, 4, 0, 0, 0, 0];

/// Every row of IPv6.
pub(super) fn rows() -> Vec<Row> {
    [flows(), extensions(), others(), lies(), sources(), offloads()].concat()
}

fn flow(name: &'static str, packet: Builder) -> Row {
    row(name, packet, Expect::Flow6)
}

fn a_tcp() -> Builder {
    packet().tcp(CLIENT_V6, VIP_V6)
}

fn a_udp() -> Builder {
    packet().udp(CLIENT_V6, VIP_V6).payload(b"question")
}

fn address(text: &str) -> IpAddr {
    text.parse::<Ipv6Addr>().unwrap().into()
}

fn flows() -> Vec<Row> {
    let from_link = packet().tcp((address("fe80::1"), 1), VIP_V6);
    vec![
        flow("v6 tcp syn", a_tcp().flags(SYN)),
        flow("v6 tcp syn with the usual options", a_tcp().flags(SYN).tcp_options(SYN_OPTIONS)),
        flow("v6 tcp ack with timestamps", a_tcp().tcp_options(TIMESTAMPS)),
        flow("v6 tcp with every flag", a_tcp().flags(0xff)),
        flow("v6 tcp data of odd length", a_tcp().payload(b"GET / HTTP/1.1\r\n\r")),
        flow("v6 tcp filling a frame", a_tcp().tcp_options(TIMESTAMPS).payload(&[0xa5; 1428])),
        flow("v6 tcp, padded", a_tcp().padding(6)),
        flow("v6 tcp, checksum zero", a_tcp().l4_checksum_zero_in(same)),
        flow("v6 tcp, zero's other face", a_tcp().l4_checksum_zero_in(same).l4_wrong_by(0xffff)),
        flow("v6 tcp, checksum zero after rewriting", a_tcp().l4_checksum_zero_in(translated)),
        flow("v6 tcp, checksum wrong and nobody looked", a_tcp().l4_wrong_by(0x0102)),
        flow("v6 udp", a_udp()),
        flow("v6 udp of odd length", a_udp().payload(b"odd")),
        flow("v6 udp with nothing in it", a_udp().payload(b"")),
        flow("v6 udp, checksum sent as 0xffff", a_udp().l4_checksum_zero_in(same)),
        flow("v6 udp, checksum 0xffff after rewriting", a_udp().l4_checksum_zero_in(translated)),
        flow("v6 udp, checksum wrong and nobody looked", a_udp().l4_wrong_by(0x0102)),
        flow("v6 udp shorter than its packet", a_udp().udp_length(12)),
        flow("v6 with class and flow label", a_tcp().tos(0xbb).flow_label(0xfffff)),
        flow("v6 with the highest hop limit", a_tcp().ttl(255)),
        flow("v6 with hop limit 2", a_tcp().ttl(2)),
        flow("v6 with hop limit 1", a_tcp().ttl(1)),
        flow("v6 with hop limit 0", a_tcp().ttl(0)),
        flow("v6 from the link", from_link),
    ]
}

fn extensions() -> Vec<Row> {
    let many = |count| (0..count).fold(a_tcp(), |b: Builder, _| b.extension(OPTIONS, &PAD));
    let long = |bytes: usize| {
        let eighths = u8::try_from(bytes / 8 - 1).unwrap();
        a_tcp().extension(OPTIONS, &[&[eighths], vec![0; bytes - 2].as_slice()].concat())
    };
    let routed = |left| a_tcp().extension(ROUTING, &[0, 0, left, 0, 0, 0, 0]);
    let other = |name, packet| row(name, packet, Expect::Other(OtherKind::Extensions));
    let all = a_tcp().extension(HOP_BY_HOP, &PAD).extension(OPTIONS, &PAD);
    vec![
        flow("v6 hop-by-hop options", a_tcp().extension(HOP_BY_HOP, &PAD)),
        flow("v6 destination options", a_udp().extension(OPTIONS, &PAD)),
        flow("v6 options of both kinds and a way", all.extension(ROUTING, &[0; 7])),
        flow("v6 a way that ends here", routed(0)),
        flow("v6 as many extension headers as are walked", many(8)),
        flow("v6 as many bytes of them as are walked", long(256)),
        other("v6 one extension header too many", many(9)),
        other("v6 eight bytes of them too many", long(264)),
        other("v6 a way that goes on", routed(1)),
        other("v6 options cut off", a_tcp().extension(OPTIONS, &[4, 0, 0, 0, 0, 0, 0]).cut(0)),
    ]
}

fn others() -> Vec<Row> {
    let other = |name, packet, kind| row(name, packet, Expect::Other(kind));
    let icmp = |kind| packet().between(CLIENT_V6, VIP_V6).icmp(kind, 0, 0).payload(&[0; 24]);
    let group = Mac([0x33, 0x33, 0, 0, 0, 1]);
    let to_group = |b: Builder| b.received_by(group);
    let piece = |offset: u8| a_udp().extension(FRAGMENT, &[0, 0, offset, 0, 0, 0, 9]);
    let nobody = packet().between((Ipv6Addr::UNSPECIFIED, 0), (address("ff02::1:ff00:7"), 0));
    vec![
        other("v6 first piece", piece(1), OtherKind::Fragment),
        other("v6 later piece", piece(8), OtherKind::Fragment),
        other("v6 piece that is all", piece(0), OtherKind::Fragment),
        other(
            "v6 piece behind options",
            a_udp().extension(HOP_BY_HOP, &PAD).extension(FRAGMENT, &[0, 0, 1, 0, 0, 0, 9]),
            OtherKind::Fragment,
        ),
        other("v6 ping", icmp(128), OtherKind::Icmp),
        other("v6 packet too big", icmp(2), OtherKind::Icmp),
        other("v6 icmp with nothing in it", icmp(1).cut(0), OtherKind::Icmp),
        other("v6 router solicitation", icmp(133), OtherKind::Neighbor),
        other("v6 neighbour solicitation", to_group(icmp(135)), OtherKind::Neighbor),
        other("v6 neighbour advertisement", icmp(136), OtherKind::Neighbor),
        other("v6 redirect", icmp(137), OtherKind::Neighbor),
        other("v6 is the address free?", to_group(nobody.icmp(135, 0, 0)), OtherKind::Neighbor),
        other("v6 listener report", to_group(icmp(143)), OtherKind::NotForUs),
        other("v6 tcp to a group on the link", to_group(a_tcp()), OtherKind::NotForUs),
        other("v6 gre", a_tcp().protocol(47), OtherKind::Protocol(47)),
        other("v6 esp", a_tcp().protocol(50), OtherKind::Protocol(50)),
        other("v6 nothing next", a_tcp().protocol(59), OtherKind::Protocol(59)),
    ]
}

fn lies() -> Vec<Row> {
    let literal = |length: usize| packet().literal(&a_tcp().build()[..length]);
    vec![
        dropped("v6 no IP header", literal(14), Reason::Truncated),
        dropped("v6 half an IP header", literal(53), Reason::Truncated),
        dropped("v6 cut off by a byte", literal(73), Reason::IpTotalLength),
        dropped("v6 version 4", a_tcp().version(4), Reason::IpVersion),
        dropped("v6 version 0", a_udp().version(0), Reason::IpVersion),
        dropped("v6 payload one past the frame", a_tcp().total_length(21), Reason::IpTotalLength),
        dropped("v6 payload of 65535", a_tcp().total_length(65_535), Reason::IpTotalLength),
        dropped("v6 payload of 0, as in jumbograms", a_tcp().total_length(0), Reason::Truncated),
        dropped("v6 tcp of 19 bytes", a_tcp().cut(19), Reason::Truncated),
        dropped("v6 tcp of 19 bytes, padded", a_tcp().cut(19).padding(9), Reason::Truncated),
        dropped("v6 udp of 7 bytes", a_udp().cut(7), Reason::Truncated),
        dropped("v6 tcp data offset 4", a_tcp().data_offset(4), Reason::TcpDataOffset),
        dropped("v6 tcp data offset past", a_tcp().data_offset(6), Reason::TcpDataOffset),
        dropped("v6 udp length 7", a_udp().udp_length(7), Reason::UdpLength),
        dropped("v6 udp length past", a_udp().udp_length(17).padding(4), Reason::UdpLength),
        dropped(
            "v6 no transport behind options",
            a_tcp().extension(OPTIONS, &PAD).cut(8),
            Reason::Truncated,
        ),
    ]
}

fn sources() -> Vec<Row> {
    let from = |name, source: &str| {
        dropped(name, packet().tcp((address(source), 1), VIP_V6), Reason::IpSource)
    };
    let to_mapped = packet().tcp(CLIENT_V6, (address("::ffff:198.51.100.7"), 80));
    vec![
        from("v6 from nobody", "::"),
        from("v6 from loopback", "::1"),
        from("v6 from a group", "ff02::1"),
        from("v6 from a mapped address", "::ffff:192.0.2.2"),
        dropped("v6 to a mapped address", to_mapped, Reason::IpSource),
        dropped("v6 from its own destination", packet().tcp(VIP_V6, VIP_V6), Reason::IpSource),
        dropped(
            "v6 udp behind options from nobody",
            packet().udp((address("::"), 1), VIP_V6).extension(OPTIONS, &PAD),
            Reason::IpSource,
        ),
    ]
}

fn offloads() -> Vec<Row> {
    let good = RxInfo { ip_checksum: Good, l4_checksum: Good, segmented: false };
    let with = |name, info, expect| Row { name, packet: a_tcp(), info, expect };
    let bad = |info| RxInfo { l4_checksum: Bad, ..info };
    vec![
        with("v6 port: all good", good, Expect::Flow6),
        // There is no such checksum in IPv6.
        with("v6 port: ip bad", RxInfo { ip_checksum: Bad, ..good }, Expect::Flow6),
        with("v6 port: tcp bad", bad(good), Expect::Drop(Reason::L4Checksum)),
        with(
            "v6 port: segmented",
            RxInfo { segmented: true, ..good },
            Expect::Drop(Reason::Segmented),
        ),
    ]
}
