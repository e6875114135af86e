//! The packets rows are made of, and how each looks one hop on.

use std::net::{IpAddr, SocketAddr};

use shunt::dataplane::snapshot::{Encapsulation, GueChecksum, Mode, Protocol};

use super::setup::{Ip, V4, backend_mac};
use crate::packets::builder::chunk;
use crate::packets::{Builder, CLIENT_MAC, OUR_INNER_MAC, OUR_MAC, packet};

pub(crate) const FIN: u8 = 0x01;
pub(crate) const SYN: u8 = 0x02;
pub(crate) const RST: u8 = 0x04;
pub(crate) const PSH: u8 = 0x08;
pub(crate) const ACK: u8 = 0x10;

pub(crate) const FULLNAT: Mode = Mode::Fullnat;
pub(crate) const NAT: Mode = Mode::Nat;
pub(crate) const DR: Mode = Mode::Dr;
pub(crate) const IPIP: Mode = Mode::Tunnel(Encapsulation::Ipip);
pub(crate) const GRE: Mode = Mode::Tunnel(Encapsulation::Gre { checksum: false });
pub(crate) const GRE_SUM: Mode = Mode::Tunnel(Encapsulation::Gre { checksum: true });
pub(crate) const GUE: Mode = gue(GueChecksum::Zero);
pub(crate) const GUE_SUM: Mode = gue(GueChecksum::Outer);
pub(crate) const GUE_REMOTE: Mode = gue(GueChecksum::Remote);
pub(crate) const TUNNELS: [Mode; 6] = [IPIP, GRE, GRE_SUM, GUE, GUE_SUM, GUE_REMOTE];
pub(crate) const MODES: [Mode; 4] = [FULLNAT, NAT, DR, IPIP];
/// Modes whose answers pass here.
pub(crate) const TRANSLATING: [Mode; 2] = [FULLNAT, NAT];

const fn gue(checksum: GueChecksum) -> Mode {
    Mode::Tunnel(Encapsulation::Gue { port: 6080, checksum })
}

/// `n` bytes, none like its neighbour.
pub(crate) fn bytes(n: usize) -> Vec<u8> {
    (0..n).map(|i| u8::try_from(i % 251).unwrap()).collect()
}

/// A client's segment to the VIP, numbers 1001 and 501: an ACK.
pub(crate) fn segment(ip: Ip) -> Builder {
    packet().tcp(ip.client(), ip.vip()).numbers(1001, 501)
}

/// A client's SYN, its number 1000; 40 bytes in IPv4.
pub(crate) fn syn(ip: Ip) -> Builder {
    segment(ip).flags(SYN).numbers(1000, 0)
}

/// A client's data.
pub(crate) fn data(ip: Ip, payload: &[u8]) -> Builder {
    segment(ip).flags(PSH | ACK).payload(payload)
}

/// A SYN with so much data that the IP packet has that length.
pub(crate) fn syn_of(ip: Ip, length: usize) -> Builder {
    syn(ip).payload(&bytes(length - ip.header() - 20))
}

/// A client's datagram that may be cut.
pub(crate) fn datagram(ip: Ip) -> Builder {
    packet().udp(ip.client(), ip.vip()).flags_fragment(0).payload(b"question")
}

/// The same, its IP packet of that length.
pub(crate) fn datagram_of(ip: Ip, length: usize) -> Builder {
    datagram(ip).payload(&bytes(length - ip.header() - 8))
}

/// An association's INIT, initiate tag 0x1e1e1e1e.
pub(crate) fn init(ip: Ip) -> Builder {
    packet().sctp(ip.client(), ip.vip(), 0).payload(&chunk(1, 0, &[0x1e; 16]))
}

/// A client's packet with one chunk, of an association under way.
pub(crate) fn sctp(ip: Ip, kind: u8) -> Builder {
    packet().sctp(ip.client(), ip.vip(), 0x7a67).payload(&chunk(kind, 0, &[0x33; 16]))
}

/// What a protocol's connections begin with.
pub(crate) fn first(protocol: Protocol, ip: Ip) -> Builder {
    match protocol {
        Protocol::Tcp => syn(ip),
        Protocol::Udp => datagram(ip),
        Protocol::Sctp => init(ip),
    }
}

/// A backend's answer to that, from one end to the other.
pub(crate) fn second(protocol: Protocol, from: SocketAddr, to: SocketAddr) -> Builder {
    let answer = match protocol {
        Protocol::Tcp => packet().tcp(from, to).flags(SYN | ACK).numbers(500, 1001),
        Protocol::Udp => packet().udp(from, to).payload(b"answer"),
        Protocol::Sctp => packet().sctp(from, to, 0x1e1e_1e1e).payload(&chunk(2, 0, &[0xac; 32])),
    };
    answer.sent_by(11).identification(0x4321)
}

/// A backend's SYN and ACK.
pub(crate) fn syn_ack(from: SocketAddr, to: SocketAddr) -> Builder {
    second(Protocol::Tcp, from, to)
}

/// A backend's ACK.
pub(crate) fn backend_ack(from: SocketAddr, to: SocketAddr) -> Builder {
    packet().tcp(from, to).numbers(501, 1001).sent_by(11)
}

impl Builder {
    pub(crate) fn from(self, end: SocketAddr) -> Self {
        let to = self.sockets().1;
        self.between(end, to)
    }

    pub(crate) fn to(self, end: SocketAddr) -> Self {
        let from = self.sockets().0;
        self.between(from, end)
    }

    fn hop(self) -> Self {
        let ttl = self.ttl_value() - 1;
        self.ttl(ttl).padding(0)
    }

    /// One hop on, to backend `n`.
    pub(crate) fn onward_to(self, n: u8) -> Self {
        self.hop().macs(OUR_INNER_MAC, backend_mac(n))
    }

    /// One hop on, to the first backend.
    pub(crate) fn onward(self) -> Self {
        self.onward_to(11)
    }

    /// One hop on, to the client.
    pub(crate) fn home(self) -> Self {
        self.hop().macs(OUR_MAC, CLIENT_MAC)
    }

    /// As backend `n`, or a router of that link address, sends it.
    pub(crate) fn sent_by(self, n: u8) -> Self {
        self.macs(backend_mac(n), OUR_INNER_MAC)
    }
}

/// An ICMP error from one address to another, as routers send it: TOS 0xc0.
pub(crate) fn error(from: IpAddr, to: IpAddr, said: (u8, u8, u32), quote: &[u8]) -> Builder {
    let said_by = packet().between((from, 0), (to, 0)).tos(0xc0).identification(0xbeef);
    said_by.icmp(said.0, said.1, said.2).payload(quote)
}

/// What we tell the sender of `about`: whole, so without identification, TTL 64, in IPv4 with TOS
/// 0xc0; it quotes as much as fits into 576 bytes, or 1280.
pub(crate) fn we_say(from: IpAddr, said: (u8, u8, u32), about: &Builder) -> Builder {
    let ip = Ip::of(from);
    let most = if ip == V4 { 576 - 28 } else { 1280 - 48 };
    let mut quote = about.ip_packet();
    quote.truncate(most);
    let answer = error(from, about.addresses().0, said, &quote).identification(0);
    if ip == V4 { answer } else { answer.tos(0) }
}

/// The same from the VIP, to the client.
pub(crate) fn vip_says(said: (u8, u8, u32), about: &Builder) -> Builder {
    we_say(about.addresses().1, said, about).macs(OUR_MAC, CLIENT_MAC)
}

/// Types and codes, by family.
pub(crate) fn port_unreachable(ip: Ip) -> (u8, u8, u32) {
    if ip == V4 { (3, 3, 0) } else { (1, 4, 0) }
}

pub(crate) fn host_unreachable(ip: Ip) -> (u8, u8, u32) {
    if ip == V4 { (3, 1, 0) } else { (1, 3, 0) }
}

pub(crate) fn time_exceeded(ip: Ip) -> (u8, u8, u32) {
    if ip == V4 { (11, 0, 0) } else { (3, 0, 0) }
}

/// Fragmentation needed, or Packet Too Big, and the next-hop MTU.
pub(crate) fn too_big(ip: Ip, mtu: u32) -> (u8, u8, u32) {
    if ip == V4 { (3, 4, mtu) } else { (2, 0, mtu) }
}

/// The headers of our own answer to a client's packet: whole, so without identification, TTL 64.
fn answer_to(about: &Builder) -> (Builder, SocketAddr, SocketAddr) {
    let (client, vip) = about.sockets();
    (packet().macs(OUR_MAC, CLIENT_MAC).identification(0), vip, client)
}

/// RST alone: sequence number as was acknowledged.
pub(crate) fn reset(about: &Builder, number: u32) -> Builder {
    let (frame, from, to) = answer_to(about);
    frame.tcp(from, to).flags(RST).numbers(number, 0).window(0)
}

/// RST and ACK, of all that came.
pub(crate) fn reset_ack(about: &Builder, ack: u32) -> Builder {
    let (frame, from, to) = answer_to(about);
    frame.tcp(from, to).flags(RST | ACK).numbers(0, ack).window(0)
}

/// An SCTP packet with one chunk that has nothing in it.
pub(crate) fn sctp_answer(about: &Builder, tag: u32, kind: u8, flags: u8) -> Builder {
    let (frame, from, to) = answer_to(about);
    frame.sctp(from, to, tag).payload(&chunk(kind, flags, b""))
}

/// As it leaves for the backend that sent `about`, on its link.
pub(crate) fn to_backend(answer: Builder, n: u8) -> Builder {
    answer.macs(OUR_INNER_MAC, backend_mac(n))
}

/// The frame, whose IP packet must have that length.
pub(crate) fn exactly(length: usize, frame: &Builder) -> Vec<u8> {
    let frame = frame.build();
    assert_eq!(frame.len() - 14, length, "the length that was recorded");
    frame
}
