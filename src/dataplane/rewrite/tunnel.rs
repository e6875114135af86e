//! Tunnel mode: an outer IPv4 header around the client's packet, which stays as it was.
//!
//! ```text
//! ipip  IPv4 (protocol 4)  | inner                                            + 20 bytes
//! gre   IPv4 (47) | flags, ethertype [checksum, 0] | inner                    + 24 or 28
//! gue   IPv4 (17) | UDP | version 0, protocol 4, flags 0 | inner              + 32
//! ```
//!
//! The outer header follows IPVS: TTL of the inner one after it was counted down, TOS copied with
//! its ECN bits by the full-functionality rules (RFC 3168, 9.1.1: a CE mark stays inside, outside
//! it is ECT(0)), DF copied. The identification is 0 with DF, where it has no use (RFC 6864), and
//! fresh without, since a router on the way may cut the packet.
//! A GUE packet's source port is a hash of the flow, so that routers and cards spread flows.

use std::net::Ipv4Addr;

use zerocopy::{FromBytes, FromZeros, IntoBytes};

use crate::dataplane::io::Packet;
use crate::dataplane::parse::Parsed;
use crate::dataplane::snapshot::{Encapsulation, GueChecksum};
use crate::wire::{Be16, Raw16, Raw32, Raw64, checksum, ether, ipv4, udp};

/// IPv4 in IPv4, RFC 2003.
const IPIP: u8 = 4;
/// RFC 2784.
const GRE: u8 = 47;
/// GRE's flag "a checksum follows".
const GRE_CHECKSUM: u16 = 0x8000;
/// ECN field: congestion experienced, and capable of it (RFC 3168).
const ECN_CE: u8 = 3;
const ECN_ECT0: u8 = 2;
/// Source ports of GUE: the ephemeral range Linux uses.
const SOURCE_PORT_MIN: u32 = 32_768;
const SOURCE_PORTS: u32 = 60_999 - SOURCE_PORT_MIN + 1;

/// GUE, version 0, no options.
#[derive(Clone, Copy, IntoBytes, zerocopy::Immutable, zerocopy::Unaligned)]
#[repr(C)]
struct Gue {
    version_length: u8,
    protocol: u8,
    flags: Be16,
}

/// Bytes in front of the inner IPv4 header that a wrapping adds.
#[inline]
pub fn overhead(encapsulation: Encapsulation) -> usize {
    ipv4::LEN
        + match encapsulation {
            Encapsulation::Ipip => 0,
            Encapsulation::Gre { checksum } => 4 + if checksum { 4 } else { 0 },
            Encapsulation::Gue { .. } => udp::LEN + size_of::<Gue>(),
        }
}

/// What an outer header is made of besides the packet itself.
#[derive(Clone, Copy, Debug)]
pub struct Tunnel {
    /// The header's kind.
    pub encapsulation: Encapsulation,
    /// Our address, then the backend's.
    pub ends: (Ipv4Addr, Ipv4Addr),
    /// A hash of the flow.
    pub hash: u32,
    /// For packets that may be cut.
    pub identification: u16,
}

/// Wraps a packet whose link addresses and TTL are already set. False, and nothing done, without
/// headroom.
#[must_use]
pub fn wrap<P: Packet>(packet: &mut P, parsed: &Parsed, tunnel: &Tunnel) -> bool {
    let encapsulation = tunnel.encapsulation;
    let Some(header) = outer(packet.data(), parsed, tunnel) else {
        return false;
    };
    let added = overhead(encapsulation);
    // Link padding behind a short packet would become part of the outer one.
    if !packet.set_len(usize::from(parsed.end)) || packet.prepend(added).is_none() {
        return false;
    }
    let frame = packet.data_mut();
    frame.copy_within(added..added + ether::LEN, 0);
    let Some(rest) = frame.get_mut(ether::LEN..) else { return false };
    let Some((place, rest)) = rest.split_at_mut_checked(ipv4::LEN) else { return false };
    place.copy_from_slice(header.as_bytes());
    match encapsulation {
        Encapsulation::Ipip => true,
        Encapsulation::Gre { checksum } => gre(rest, checksum),
        Encapsulation::Gue { port, checksum } => {
            let ports = (source_port(tunnel.hash), port);
            let checksum = checksum != GueChecksum::Zero;
            gue(rest, ports, checksum.then(|| header.addresses.get()))
        }
    }
}

/// The outer IPv4 header of a frame.
fn outer(frame: &[u8], parsed: &Parsed, tunnel: &Tunnel) -> Option<ipv4::Header> {
    let (inner, _) = ipv4::Header::ref_from_prefix(frame.get(usize::from(parsed.l3)..)?).ok()?;
    let protocol = match tunnel.encapsulation {
        Encapsulation::Ipip => IPIP,
        Encapsulation::Gre { .. } => GRE,
        Encapsulation::Gue { .. } => ipv4::UDP,
    };
    let length = usize::from(parsed.end - parsed.l3) + overhead(tunnel.encapsulation);
    let dont_fragment = inner.flags_fragment.get() & ipv4::DONT_FRAGMENT;
    let identification = if dont_fragment == 0 { tunnel.identification } else { 0 };
    let mut header = ipv4::Header {
        version_ihl: ipv4::VERSION_IHL,
        tos: outer_tos(inner.tos),
        total_length: u16::try_from(length).ok()?.into(),
        identification: identification.into(),
        flags_fragment: dont_fragment.into(),
        ttl: inner.ttl,
        protocol,
        checksum: Raw16::ZERO,
        addresses: Raw64::new(ipv4::address_pair(tunnel.ends.0, tunnel.ends.1)),
    };
    header.checksum = Raw16::new(checksum::checksum(header.as_bytes()));
    Some(header)
}

/// The inner TOS with a CE mark turned into ECT(0).
fn outer_tos(inner: u8) -> u8 {
    if inner & ECN_CE == ECN_CE { inner & !ECN_CE | ECN_ECT0 } else { inner }
}

fn source_port(hash: u32) -> u16 {
    let port = SOURCE_PORT_MIN + ((u64::from(hash) * u64::from(SOURCE_PORTS)) >> 32) as u32;
    u16::try_from(port).unwrap_or(u16::MAX)
}

/// Writes a GRE header at the front of `bytes`, which end with the inner packet.
fn gre(bytes: &mut [u8], with_checksum: bool) -> bool {
    let flags = if with_checksum { GRE_CHECKSUM } else { 0 };
    let Some((first, _)) = bytes.split_first_chunk_mut::<4>() else { return false };
    let ([a, b], [c, d]) = (flags.to_be_bytes(), ether::IPV4.to_be_bytes());
    *first = [a, b, c, d];
    if with_checksum {
        let Some(field) = bytes.get_mut(4..8) else { return false };
        field.fill(0);
        let sum = checksum::checksum(bytes);
        let Some(field) = bytes.get_mut(4..6) else { return false };
        field.copy_from_slice(&sum.to_ne_bytes());
    }
    true
}

/// Writes UDP and GUE headers at the front of `bytes`, which end with the inner packet. With
/// `addresses` of the outer header the UDP checksum is computed, else it is zero.
fn gue(bytes: &mut [u8], ports: (u16, u16), addresses: Option<u64>) -> bool {
    let Ok(length) = u16::try_from(bytes.len()) else { return false };
    let ([a, b], [c, d]) = (ports.0.to_be_bytes(), ports.1.to_be_bytes());
    let mut header = udp::Header::new_zeroed();
    header.ports = Raw32::new(u32::from_ne_bytes([a, b, c, d]));
    header.length = length.into();
    let gue = Gue { version_length: 0, protocol: IPIP, flags: 0.into() };
    let written = header.write_to_prefix(bytes).is_ok()
        && bytes.get_mut(udp::LEN..).is_some_and(|rest| gue.write_to_prefix(rest).is_ok());
    if let (true, Some(addresses)) = (written, addresses) {
        header.checksum = Raw16::new(checksum::udp(addresses, bytes));
        return header.write_to_prefix(bytes).is_ok();
    }
    written
}
