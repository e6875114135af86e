//! Who talks to whom in either family, and what an independent reader finds in what left.

use std::net::{IpAddr, SocketAddr};

use shunt::dataplane::snapshot::Mode;

use crate::packets::oracle::{Judgement, judge_any};
use crate::packets::{
    Builder, CLIENT, CLIENT_MAC, CLIENT_V6, OUR_INNER_MAC, OUR_MAC, VIP, VIP_V6, packet,
};
use crate::world::{Plan, Sent, World, backend_mac, host};

/// A client, by its port.
pub(crate) fn client(is_v6: bool, port: u16) -> SocketAddr {
    (if is_v6 { CLIENT_V6.0.into() } else { IpAddr::from(CLIENT.0) }, port).into()
}

/// Whom clients of that family ask.
pub(crate) fn vip(is_v6: bool) -> SocketAddr {
    (if is_v6 { VIP_V6.0.into() } else { IpAddr::from(VIP.0) }, VIP.1).into()
}

/// As whom the balancer asks on.
pub(crate) fn local(is_v6: bool) -> IpAddr {
    host(is_v6, 2)
}

/// One service pair of one family, its backends of perhaps another, all reached in one way.
pub(crate) fn plan(client_v6: bool, backend_v6: bool, mode: Mode) -> Plan {
    Plan {
        vips: vec![vip(client_v6).ip()],
        modes: vec![mode; 3],
        v6: vec![backend_v6; 3],
        locals_v6: vec!["2001:db8:44::2".parse().unwrap()],
        ..Plan::default()
    }
}

/// What an independent reader finds in a frame, all of whose checksums must be right.
pub(crate) fn read(frame: &[u8]) -> Judgement<IpAddr> {
    let seen = judge_any(frame).unwrap();
    assert!(seen.ip_right && seen.l4_right, "{seen:?}");
    seen
}

/// Source and destination of a frame.
pub(crate) fn ends(frame: &[u8]) -> (SocketAddr, SocketAddr) {
    let seen = read(frame);
    ((seen.source, seen.ports.0).into(), (seen.destination, seen.ports.1).into())
}

/// Turns a packet into one as it leaves for a backend: link addresses and one hop less.
pub(crate) fn to_backend(ask: &Builder, number: u8) -> Builder {
    hop(ask).macs(OUR_INNER_MAC, backend_mac(number))
}

/// The same towards the client.
pub(crate) fn to_client(answer: &Builder) -> Builder {
    hop(answer).macs(OUR_MAC, CLIENT_MAC)
}

fn hop(packet: &Builder) -> Builder {
    packet.clone().ttl(packet.ttl_value() - 1)
}

/// A packet as the backend of that number sends it.
pub(crate) fn from_backend(number: u8) -> Builder {
    packet().macs(backend_mac(number), OUR_INNER_MAC)
}

/// A connection: what its ends send, and what they get.
pub(crate) struct Opened {
    /// As the client sent it, and as the backend got it.
    pub(crate) ask: Builder,
    pub(crate) asked: Builder,
    /// As the backend sent it, and as the client got it.
    pub(crate) answer: Builder,
    pub(crate) answered: Builder,
    /// Which backend.
    pub(crate) number: u8,
}

/// Sends `ask` and its answer through a world that translates (FULL-NAT, NAT). Both arrive where
/// `at` says, and both must come out to the byte as the builder would build them.
pub(crate) fn open_at(world: &mut World, at: (usize, usize), ask: &Builder) -> Opened {
    let there = world.one(at.0, 0, &ask.build());
    let number = there.frame[5];
    let (from, to) = ends(&there.frame);
    let asked = to_backend(ask, number).between(from, to);
    let answer = from_backend(number).tos(0x28).identification(0x4321);
    let answer = match ask.protocol_number() {
        6 => answer.tcp(to, from).flags(0x12).payload(b"and back"),
        _ => answer.udp(to, from).payload(b"and back"),
    };
    let back = world.one(at.1, 1, &answer.build());
    let (vip, client) = ask.sockets();
    let answered = to_client(&answer).between(client, vip);
    assert_eq!((there.port, back.port), (1, 0));
    if from.is_ipv6() == vip.is_ipv6() {
        assert_eq!(there.frame, asked.build());
        assert_eq!(back.frame, answered.build());
    }
    Opened { ask: ask.clone(), asked, answer, answered, number }
}

/// The same at worker 0.
pub(crate) fn open(world: &mut World, ask: &Builder) -> Opened {
    open_at(world, (0, 0), ask)
}

/// A TCP SYN or a datagram of a client.
pub(crate) fn ask(is_v6: bool, port: u16, tcp: bool) -> Builder {
    let (from, to) = (client(is_v6, port), vip(is_v6));
    if tcp {
        packet().tcp(from, to).flags(2).payload(b"to the service")
    } else {
        packet().udp(from, to).payload(b"to the service")
    }
}

/// An ICMP error, all of its checksums right.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) from: IpAddr,
    pub(crate) to: IpAddr,
    /// Type and code.
    pub(crate) kind: (u8, u8),
    /// The header's second word.
    pub(crate) rest: u32,
    pub(crate) quote: Vec<u8>,
    /// Bytes of the IP packet.
    pub(crate) length: usize,
}

/// The error in a frame.
pub(crate) fn told(sent: &Sent) -> Told {
    let (seen, frame) = (read(&sent.frame), &sent.frame);
    let is_v6 = seen.source.is_ipv6();
    let (l4, protocol) = if is_v6 { (54, frame[20]) } else { (34, frame[23]) };
    assert_eq!(protocol, if is_v6 { 58 } else { 1 }, "an ICMP error");
    Told {
        from: seen.source,
        to: seen.destination,
        kind: (frame[l4], frame[l4 + 1]),
        rest: u32::from_be_bytes(frame[l4 + 4..l4 + 8].try_into().unwrap()),
        quote: frame[l4 + 8..].to_vec(),
        length: frame.len() - 14,
    }
}
