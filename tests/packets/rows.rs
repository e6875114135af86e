//! The table itself; rows of IPv6 are in [`super::rows_v6`].

use std::net::Ipv4Addr;

use shunt::dataplane::io::ChecksumVerdict::{Bad, Good};
use shunt::dataplane::io::RxInfo;
use shunt::dataplane::parse::OtherKind;
use shunt::dataplane::verdict::Reason;
use shunt::wire::Mac;

use super::builder::chunk;
use super::{Builder, CLIENT, VIP, packet, translated};

/// What parsing must answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expect {
    /// A flow, with the builder's own idea of key, offsets, TTL and flags.
    Flow,
    /// The same of IPv6.
    Flow6,
    /// IP, not looked up.
    Other(OtherKind),
    /// The kernel's.
    NotIp,
    /// Refused.
    Drop(Reason),
}

/// One row.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// What is special about it.
    pub(crate) name: &'static str,
    /// What arrives.
    pub(crate) packet: Builder,
    /// What the port found out.
    pub(crate) info: RxInfo,
    /// What parsing must answer.
    pub(crate) expect: Expect,
}

const FIN: u8 = 0x01;
pub(super) const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const PSH: u8 = 0x08;
const ACK: u8 = 0x10;

/// SACK permitted, timestamps, window scale and MSS, as Linux sends them with a SYN.
pub(super) const SYN_OPTIONS: &[u8] =
    b"\x02\x04\x05\xb4\x04\x02\x08\x0a\0\0\0\x01\0\0\0\0\x01\x03\x03\x07";
/// Two no-operations and timestamps, as in every later segment.
pub(super) const TIMESTAMPS: &[u8] = b"\x01\x01\x08\x0a\0\0\x12\x34\0\0\x56\x78";

/// Every row.
pub(crate) fn rows() -> Vec<Row> {
    let plain = [tcp(), udp(), sctp(), ip(), offloads()];
    let odd = [others(), not_ip(), lies_ip(), lies_l4(), sources()];
    [plain.concat(), odd.concat(), super::rows_v6::rows()].concat()
}

pub(super) fn row(name: &'static str, packet: Builder, expect: Expect) -> Row {
    Row { name, packet, info: RxInfo::default(), expect }
}

fn flow(name: &'static str, packet: Builder) -> Row {
    row(name, packet, Expect::Flow)
}

pub(super) fn dropped(name: &'static str, packet: Builder, reason: Reason) -> Row {
    row(name, packet, Expect::Drop(reason))
}

fn a_tcp() -> Builder {
    packet().tcp(CLIENT, VIP)
}

fn an_sctp(chunks: &[&[u8]]) -> Builder {
    packet().sctp(CLIENT, VIP, 0x5eed_cafe).payload(&chunks.concat())
}

fn a_udp() -> Builder {
    packet().udp(CLIENT, VIP).payload(b"question")
}

pub(super) fn same(packet: Builder) -> Builder {
    packet
}

fn tcp() -> Vec<Row> {
    vec![
        flow("tcp syn", a_tcp().flags(SYN)),
        flow("tcp syn with the usual options", a_tcp().flags(SYN).tcp_options(SYN_OPTIONS)),
        flow("tcp syn and ack", a_tcp().flags(SYN | ACK).tcp_options(SYN_OPTIONS)),
        flow("tcp ack, padded by the link", a_tcp().padding(6)),
        flow("tcp ack with timestamps", a_tcp().tcp_options(TIMESTAMPS)),
        flow("tcp ack with as many options as fit", a_tcp().tcp_options(&[1; 40])),
        flow("tcp data of odd length", a_tcp().flags(PSH | ACK).payload(b"GET / HTTP/1.1\r\n\r")),
        flow(
            "tcp data of even length",
            a_tcp().flags(PSH | ACK).payload(b"GET / HTTP/1.1\r\n\r\n"),
        ),
        flow("tcp filling a frame", a_tcp().tcp_options(TIMESTAMPS).payload(&[0xa5; 1448])),
        flow("tcp filling a jumbo frame", a_tcp().payload(&[0x5a; 8960])),
        flow("tcp data of zeros", a_tcp().payload(&[0; 100])),
        flow("tcp data of ones", a_tcp().payload(&[0xff; 101])),
        flow("tcp fin", a_tcp().flags(FIN | ACK)),
        flow("tcp rst", a_tcp().flags(RST)),
        flow("tcp rst and ack", a_tcp().flags(RST | ACK)),
        flow("tcp with no flag", a_tcp().flags(0)),
        flow("tcp with every flag", a_tcp().flags(0xff)),
        flow("tcp syn and fin", a_tcp().flags(SYN | FIN)),
        flow("tcp, checksum zero", a_tcp().l4_checksum_zero_in(same)),
        flow("tcp, zero's other face", a_tcp().l4_checksum_zero_in(same).l4_wrong_by(0xffff)),
        flow("tcp, checksum zero after rewriting", a_tcp().l4_checksum_zero_in(translated)),
        flow("tcp, checksum wrong and nobody looked", a_tcp().l4_wrong_by(0x0102)),
        flow("tcp from port 0 to port 0", packet().tcp((CLIENT.0, 0), (VIP.0, 0))),
        flow("tcp from port 65535", packet().tcp((CLIENT.0, 65535), (VIP.0, 65535))),
    ]
}

fn udp() -> Vec<Row> {
    vec![
        flow("udp", a_udp()),
        flow("udp of odd length", a_udp().payload(b"odd")),
        flow("udp with nothing in it", a_udp().payload(b"")),
        flow("udp with nothing in it, padded by the link", a_udp().payload(b"").padding(18)),
        flow("udp filling a frame", a_udp().payload(&[0x11; 1472])),
        flow("udp without checksum", a_udp().without_checksum()),
        flow("udp, checksum sent as 0xffff", a_udp().l4_checksum_zero_in(same)),
        flow("udp, checksum 0xffff after rewriting", a_udp().l4_checksum_zero_in(translated)),
        flow("udp, checksum wrong and nobody looked", a_udp().l4_wrong_by(0x0102)),
        flow("udp shorter than its packet", a_udp().udp_length(12)),
    ]
}

fn sctp() -> Vec<Row> {
    let data = chunk(0, 3, b"\0\0\0\x01\0\0\0\0\0\0\0\0hello");
    let sack = chunk(3, 0, &[0; 12]);
    let (echo, ack, abort) = (chunk(10, 0, &[0xc0; 9]), chunk(11, 0, b""), chunk(6, 0, b""));
    let end = || an_sctp(&[&data]);
    vec![
        flow("sctp data", an_sctp(&[&data])),
        flow("sctp sack, padded by the link", an_sctp(&[&sack]).padding(2)),
        flow("sctp init", packet().sctp(CLIENT, VIP, 0).payload(&chunk(1, 0, &[0x11; 16]))),
        flow("sctp init ack", an_sctp(&[&chunk(2, 0, &[0x22; 40])])),
        flow("sctp cookie echo", an_sctp(&[&echo])),
        flow("sctp cookie echo and data", an_sctp(&[&echo, &data])),
        flow("sctp cookie echo and abort", an_sctp(&[&echo, &abort])),
        flow("sctp cookie ack", an_sctp(&[&ack])),
        flow("sctp cookie ack, data and abort", an_sctp(&[&ack, &data, &abort])),
        flow("sctp cookie ack and abort", an_sctp(&[&ack, &abort])),
        flow("sctp shutdown", an_sctp(&[&chunk(7, 0, &[0; 4])])),
        flow("sctp shutdown ack", an_sctp(&[&chunk(8, 0, b"")])),
        flow("sctp shutdown complete", an_sctp(&[&chunk(14, 1, b"")])),
        flow("sctp error", an_sctp(&[&chunk(9, 0, b"\0\x01\0\x08\0\0\0\0")])),
        flow("sctp abort", an_sctp(&[&abort])),
        flow("sctp heartbeat", an_sctp(&[&chunk(4, 0, &[0x44; 21])])),
        flow("sctp of a type nobody knows", an_sctp(&[&chunk(0xc1, 0, b"?")])),
        flow("sctp filling a frame", an_sctp(&[&chunk(0, 3, &[0x77; 1464])])),
        flow("sctp, checksum wrong and nobody looked", end().l4_wrong_by(0x0102)),
        flow("sctp behind ip options", end().ip_options(&[1; 8])),
        flow(
            "sctp from port 0 to port 0",
            packet().sctp((CLIENT.0, 0), (VIP.0, 0), 1).payload(&ack),
        ),
        dropped("sctp of no bytes", end().cut(0), Reason::Truncated),
        dropped("sctp of 11 bytes", end().cut(11), Reason::Truncated),
        dropped("sctp without a chunk", end().cut(12), Reason::Truncated),
        dropped("sctp with three bytes of a chunk", end().cut(15), Reason::Truncated),
        dropped("sctp with padding for a chunk", end().cut(12).padding(14), Reason::Truncated),
    ]
}

fn ip() -> Vec<Row> {
    vec![
        flow("ip with one option word", a_tcp().ip_options(&[1; 4])),
        flow("ip with as many options as fit", a_udp().ip_options(&[1; 40])),
        flow("ip options and tcp options", a_tcp().ip_options(&[1; 8]).tcp_options(TIMESTAMPS)),
        flow("ip with dscp and congestion experienced", a_tcp().tos(0xbb)),
        flow("ip that may be fragmented", a_udp().flags_fragment(0)),
        flow("ip with the evil bit", a_tcp().flags_fragment(0x8000)),
        flow("ip with the longest ttl", a_tcp().ttl(255)),
        flow("ip with ttl 2", a_tcp().ttl(2)),
        flow("ip with ttl 1", a_tcp().ttl(1)),
        flow("ip with ttl 0", a_tcp().ttl(0)),
        flow("ip, checksum zero", a_tcp().ip_checksum_zero_in(same)),
        flow("ip, zero's other face", a_tcp().ip_checksum_zero_in(same).ip_wrong_by(0xffff)),
        flow("ip, checksum zero after rewriting", a_tcp().ip_checksum_zero_in(translated)),
        flow("ip from 240/4", packet().tcp((Ipv4Addr::new(240, 0, 0, 1), 1), VIP)),
        flow("ip from 223/8", packet().tcp((Ipv4Addr::new(223, 255, 255, 255), 1), VIP)),
        flow("ip from 1/8", packet().udp((Ipv4Addr::new(1, 1, 1, 1), 53), VIP)),
    ]
}

fn offloads() -> Vec<Row> {
    let good = RxInfo { ip_checksum: Good, l4_checksum: Good, segmented: false };
    let bad_ip = RxInfo { ip_checksum: Bad, ..good };
    let bad_l4 = RxInfo { l4_checksum: Bad, ..good };
    let segmented = RxInfo { segmented: true, ..good };
    let with = |name, packet, info, expect| Row { name, packet, info, expect };
    let drop = Expect::Drop;
    let options = || a_tcp().ip_options(&[1; 4]);
    vec![
        with("port: all good, tcp", a_tcp(), good, Expect::Flow),
        with("port: all good, udp", a_udp(), good, Expect::Flow),
        with("port: good is trusted", a_tcp().ip_wrong_by(1), good, Expect::Flow),
        with("port: good is trusted, options", options().ip_wrong_by(1), good, Expect::Flow),
        with("port: ip bad", a_tcp(), bad_ip, drop(Reason::IpChecksum)),
        with("port: ip bad, options", options(), bad_ip, drop(Reason::IpChecksum)),
        with("port: tcp bad", a_tcp(), bad_l4, drop(Reason::L4Checksum)),
        with("port: udp bad", a_udp(), bad_l4, drop(Reason::L4Checksum)),
        with("port: sctp bad", an_sctp(&[&chunk(11, 0, b"")]), bad_l4, drop(Reason::L4Checksum)),
        with("port: segmented", a_tcp(), segmented, drop(Reason::Segmented)),
        with(
            "port: segmented, not ip",
            a_tcp().ethertype(0x0806),
            segmented,
            drop(Reason::Segmented),
        ),
        with("port: ip bad, not ip", a_tcp().ethertype(0x88cc), bad_ip, Expect::NotIp),
    ]
}

fn others() -> Vec<Row> {
    let other = |name, packet, kind| row(name, packet, Expect::Other(kind));
    let broadcast = Mac([0xff; 6]);
    let multicast = Mac([0x01, 0x00, 0x5e, 0, 0, 0x12]);
    let dhcp = packet().udp((Ipv4Addr::UNSPECIFIED, 68), (Ipv4Addr::BROADCAST, 67));
    vec![
        other("first fragment", a_udp().flags_fragment(0x2000), OtherKind::Fragment),
        other("middle fragment", a_udp().flags_fragment(0x2010), OtherKind::Fragment),
        other("last fragment", a_udp().flags_fragment(0x0010), OtherKind::Fragment),
        other(
            "fragment too short for ports",
            a_udp().flags_fragment(0x1).cut(1),
            OtherKind::Fragment,
        ),
        other("ping", packet().icmp(8, 0, 0x0001_0001).payload(b"ping"), OtherKind::Icmp),
        other("icmp with nothing in it", packet().icmp(8, 0, 0).cut(0), OtherKind::Icmp),
        other("gre", packet().protocol(47).payload(&[0; 12]), OtherKind::Protocol(47)),
        other("protocol 0", packet().protocol(0), OtherKind::Protocol(0)),
        other("protocol 255", packet().protocol(255), OtherKind::Protocol(255)),
        other("tcp to everybody on the link", a_tcp().received_by(broadcast), OtherKind::NotForUs),
        other("udp to a group on the link", a_udp().received_by(multicast), OtherKind::NotForUs),
        other("vrrp", packet().protocol(112).received_by(multicast), OtherKind::NotForUs),
        other("dhcp discover", dhcp.received_by(broadcast), OtherKind::NotForUs),
    ]
}

fn not_ip() -> Vec<Row> {
    let kernel = |name, packet| row(name, packet, Expect::NotIp);
    let tagged = [&a_tcp().build()[..12], b"\x81\x00\x00\x05", &a_tcp().build()[12..]].concat();
    vec![
        kernel("arp", a_tcp().ethertype(0x0806)),
        kernel("lldp", a_tcp().ethertype(0x88cc)),
        kernel("802.1Q tag", packet().literal(&tagged)),
        kernel("802.3 length in place of a type", a_tcp().ethertype(0x0026)),
        kernel("nothing after the EtherType", packet().literal(&[&[2; 12][..], &[8, 6]].concat())),
    ]
}

fn lies_ip() -> Vec<Row> {
    let total = |packet: Builder, length| packet.total_length(length);
    vec![
        dropped("nothing", packet().literal(b""), Reason::Truncated),
        dropped("no EtherType", packet().literal(&[2; 13]), Reason::Truncated),
        dropped("no IP header", packet().literal(&a_tcp().build()[..14]), Reason::Truncated),
        dropped("version 6", a_tcp().version(6), Reason::IpVersion),
        dropped("version 0", a_tcp().version(0), Reason::IpVersion),
        dropped("header of 16 bytes", a_tcp().ihl(4), Reason::IpHeaderLength),
        dropped("header of no bytes", a_tcp().ihl(0), Reason::IpHeaderLength),
        dropped("header past the packet", a_udp().ihl(15), Reason::IpHeaderLength),
        dropped(
            "total length 0, as in offloaded segments",
            total(a_tcp(), 0),
            Reason::IpTotalLength,
        ),
        dropped("total length 19", total(a_tcp(), 19), Reason::IpTotalLength),
        dropped("total length one past the frame", total(a_tcp(), 41), Reason::IpTotalLength),
        dropped("total length 65535", total(a_tcp(), 65535), Reason::IpTotalLength),
        dropped("header checksum off by one", a_tcp().ip_wrong_by(1), Reason::IpChecksum),
        dropped("header checksum off by 0x100", a_udp().ip_wrong_by(0x100), Reason::IpChecksum),
        dropped(
            "header checksum wrong, options",
            a_tcp().ip_options(&[1; 4]).ip_wrong_by(1),
            Reason::IpChecksum,
        ),
    ]
}

fn lies_l4() -> Vec<Row> {
    vec![
        dropped("tcp of no bytes", a_tcp().cut(0), Reason::Truncated),
        dropped("tcp of 19 bytes", a_tcp().cut(19), Reason::Truncated),
        dropped("tcp of 19 bytes, padded", a_tcp().cut(19).padding(9), Reason::Truncated),
        dropped("udp of 7 bytes", a_udp().cut(7), Reason::Truncated),
        dropped("udp of 7 bytes, padded", a_udp().cut(7).padding(19), Reason::Truncated),
        dropped("tcp data offset 0", a_tcp().data_offset(0), Reason::TcpDataOffset),
        dropped("tcp data offset 4", a_tcp().data_offset(4), Reason::TcpDataOffset),
        dropped("tcp data offset one word past", a_tcp().data_offset(6), Reason::TcpDataOffset),
        dropped(
            "tcp data offset in padding",
            a_tcp().data_offset(6).padding(6),
            Reason::TcpDataOffset,
        ),
        dropped("tcp options cut", a_tcp().tcp_options(TIMESTAMPS).cut(31), Reason::TcpDataOffset),
        dropped("udp length 0", a_udp().udp_length(0), Reason::UdpLength),
        dropped("udp length 7", a_udp().udp_length(7), Reason::UdpLength),
        dropped("udp length one past", a_udp().udp_length(17), Reason::UdpLength),
        dropped("udp length into padding", a_udp().udp_length(17).padding(4), Reason::UdpLength),
        dropped("udp length 65535", a_udp().udp_length(65535), Reason::UdpLength),
    ]
}

fn sources() -> Vec<Row> {
    let from = |name, source: [u8; 4]| {
        dropped(name, packet().tcp((Ipv4Addr::from(source), 1), VIP), Reason::IpSource)
    };
    vec![
        from("from 0.0.0.0", [0; 4]),
        from("from 0/8", [0, 1, 2, 3]),
        from("from loopback", [127, 0, 0, 1]),
        from("from multicast", [224, 0, 0, 1]),
        from("from the top of multicast", [239, 255, 255, 255]),
        from("from broadcast", [255; 4]),
        dropped("from its own destination", packet().tcp(VIP, VIP), Reason::IpSource),
        dropped(
            "udp from loopback",
            packet().udp((Ipv4Addr::new(127, 9, 9, 9), 1), VIP),
            Reason::IpSource,
        ),
    ]
}
