//! Who sends ICMP errors: routers on the way and hosts at the end of it, about what the balancer
//! sent and about backends' direct answers; and whoever makes one up.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use shunt::dataplane::snapshot::Protocol;
use shunt::wire::Mac;

use crate::config::{Config, our_address};
use crate::packet::{ACK, Body, LINK, Packet};
use crate::packets::{OUR_INNER_MAC, OUR_MAC};
use crate::pieces;
use crate::quote;
use crate::rng::Rng;
use crate::tunnel::{self, Outer};

/// What errors say: type, code.
const SAID: [&[(u8, u8)]; 2] = [
    &[(3, 0), (3, 1), (3, 2), (3, 3), (3, 4), (3, 4), (3, 9), (3, 13), (3, 14), (4, 0), (11, 0)],
    &[(1, 0), (1, 1), (1, 3), (1, 4), (1, 5), (2, 0), (2, 0), (3, 0), (3, 1), (4, 1), (4, 2)],
];
/// What says where in the header the mistake is.
const POINTING: [(u8, u8); 2] = [(12, 0), (4, 0)];
/// The rest: redirect, and an echo reply.
const NO_ERROR: [&[(u8, u8)]; 2] = [&[(5, 1), (0, 0)], &[(137, 0), (129, 0)]];

/// A router on either side.
fn router(is_v6: bool, port: usize) -> SocketAddr {
    let number = u8::try_from(port).unwrap();
    let address: IpAddr = if is_v6 {
        Ipv6Addr::new(0x2001, 0xdb8, 9, 0, 0, 0, 0, number.into()).into()
    } else {
        Ipv4Addr::new(203, 0, 113, number).into()
    };
    SocketAddr::new(address, 0)
}

/// What a router does with a frame whose next link carries `mtu` bytes.
pub(crate) enum Forwarding {
    /// It goes on, in so many frames.
    On(Vec<Vec<u8>>),
    /// It does not, and perhaps its sender hears of it.
    TooBig(Option<Packet>),
}

/// RFC 791, RFC 1191 and RFC 8200: cut it, or say that it is too long.
pub(crate) fn forward(rng: &mut Rng, frame: &[u8], port: usize, mtu: usize) -> Forwarding {
    let packet = &frame[LINK..];
    let is_v6 = packet[0] >> 4 == 6;
    let mtu = if is_v6 { mtu.max(1_280) } else { mtu };
    if quote::length(packet) <= mtu {
        return Forwarding::On(vec![frame.to_vec()]);
    }
    if !quote::is_whole(packet) {
        return Forwarding::On(pieces::cut(frame, mtu, 0));
    }
    let error = complaint(rng, frame, port).map(|error| {
        // Some are older than RFC 1191.
        let said = if is_v6 || rng.chance(950) { u32::try_from(mtu).unwrap() } else { 0 };
        let kind = if is_v6 { (2, 0) } else { (3, 4) };
        let body = Body::Icmp { kind: kind.0, code: kind.1, rest: said };
        let most = quote::ROOM[usize::from(is_v6)];
        let payload = packet[..quote::length(packet).min(packet.len()).min(most)].to_vec();
        Packet { body, ttl: 60, damaged: false, payload, ..error }
    });
    Forwarding::TooBig(error)
}

/// An error about a frame that is on its way from `port`, or from a backend straight to a client.
/// `None` if nobody may complain of it.
pub(crate) fn complaint(rng: &mut Rng, frame: &[u8], port: usize) -> Option<Packet> {
    let packet = frame.get(LINK..)?;
    let is_v6 = packet.first()? >> 4 == 6;
    let whole = &packet[..quote::length(packet).min(packet.len())];
    let (from, to) = quote::ends(packet)?;
    let protocol = quote::protocol(packet)?;
    let header = if is_v6 { 40 } else { 20 };
    if matches!(protocol, 1 | 58) || whole.len() < header {
        return None;
    }
    let by = if rng.chance(500) { SocketAddr::new(to, 0) } else { router(is_v6, port) };
    let told = quote::aged(whole, rng.pick(&[1, 1, 0, packet[if is_v6 { 7 } else { 8 }]]));
    Some(error(rng, (by, SocketAddr::new(from, 0)), &told))
}

/// Any error about a packet.
fn error(rng: &mut Rng, ends: (SocketAddr, SocketAddr), told: &[u8]) -> Packet {
    let family = usize::from(ends.0.is_ipv6());
    let ((kind, code), rest) = match rng.below(20) {
        0 => (POINTING[family], pointer(rng, family)),
        1 => (rng.pick(NO_ERROR[family]), 0),
        _ => (rng.pick(SAID[family]), 0),
    };
    let room = rng.pick(&[0, 1280, 1300, 1400, 1480, 1492, 576, 68, 20, 9000]);
    let rest = if is_too_big(family, kind, code) { room } else { rest };
    // Everybody quotes eight bytes behind the header at least; for a tunnel that is little.
    let least = if family == 1 { 48 } else { 28 };
    let most = rng.pick(&[least, least + 12, least + 56, quote::ROOM[family], quote::ROOM[family]]);
    let payload = told[..told.len().min(most)].to_vec();
    let ttl = if rng.chance(30) { 1 } else { 60 };
    let tos = rng.pick(&[0, 0xc0]);
    let damaged = rng.chance(40);
    let body = Body::Icmp { kind, code, rest };
    Packet { ttl, tos, payload, damaged, ..Packet::new(ends.0, ends.1, body) }
}

fn is_too_big(family: usize, kind: u8, code: u8) -> bool {
    (family, kind, code) == (0, 3, 4) || (family, kind) == (1, 2)
}

/// What a header may be wrong at.
fn pointer(rng: &mut Rng, family: usize) -> u32 {
    let at = u32::try_from(rng.below(40)).unwrap();
    if family == 1 { at } else { at << 24 }
}

/// An error that is about nothing we know, and the port it comes by.
pub(crate) fn stray(rng: &mut Rng, config: &Config, router: Mac) -> (usize, Packet) {
    let service = &config.services[rng.index(config.services.len())];
    let backend = &service.backends[rng.index(service.backends.len())];
    let local = config.locals.iter().find(|l| l.is_ipv6() == backend.address.is_ipv6());
    let client = self::router(service.vip.is_ipv6(), 77);
    let client = SocketAddr::new(client.ip(), 3_000);
    let beyond = self::router(backend.address.is_ipv6(), 78);
    let ours = SocketAddr::new(our_address(backend.address.is_ipv6()), 0);
    let local = SocketAddr::new(*local.unwrap_or(&ours.ip()), 5_001);
    let (port, from, to) = match rng.below(6) {
        0..=1 => (0, service.vip, client),
        2 => (0, SocketAddr::new(service.vip.ip(), 4_242), client),
        3 => (1, local, backend.address),
        4 => (1, beyond, backend.address),
        // Somebody whose packets the box does not even route.
        _ => (0, client, service.vip),
    };
    let body = match service.protocol {
        Protocol::Tcp => Body::Tcp { sequence: 7, ack: 8, flags: ACK, window: 9, options: vec![] },
        Protocol::Udp => Body::Udp { checksum: true },
        Protocol::Sctp => Body::Sctp { tag: 5 },
    };
    let about = Packet { payload: rng.bytes(40), ..Packet::new(from, to, body) };
    let mut told = about.frame();
    let mut quoted = from;
    if rng.chance(200) && ours.is_ipv6() == backend.address.is_ipv6() {
        // As if it had been in a tunnel.
        let outer = Outer { ends: (ours.ip(), backend.address.ip()), id: 0, source_port: 40_000 };
        told = tunnel::wrap(&told, &outer, tunnel::any(rng), false);
        quoted = ours;
    }
    let mut told = told[LINK..].to_vec();
    told.truncate(rng.pick(&[0, 12, 22, 2_000, 2_000, 2_000, 2_000]));
    let by = self::router(quoted.is_ipv6(), port);
    // Perhaps not to who sent it.
    let to = if rng.chance(100) { service.vip } else { quoted };
    let to = if to.is_ipv6() == by.is_ipv6() { to } else { quoted };
    let mut error = error(rng, (by, SocketAddr::new(to.ip(), 0)), &told);
    error.link = if port == 0 { (router, OUR_MAC) } else { (backend.mac, OUR_INNER_MAC) };
    (port, error)
}
