//! Tunnel mode: an outer header around the client's packet, which stays as it was.
//!
//! ```text
//! ipip  IP (protocol 4 or 41)  | inner                                + 20 bytes, or 40 if IPv6
//! gre   IP (47) | flags, ethertype [checksum, 0] | inner              + 4 or 8 more
//! gue   IP (17) | UDP | version 0, protocol 4 or 41, flags | inner    + 12 or 20 more
//! ```
//!
//! Any family goes in any. The outer header follows IPVS: TTL or hop limit of the inner one after
//! it was counted down, TOS or traffic class copied with its ECN bits by the full-functionality
//! rules (RFC 3168, 9.1.1: a CE mark stays inside, outside it is ECT(0)). An outer IPv4 header's DF
//! is copied from an inner IPv4 header, clear around IPv6, and clear if so configured. Its
//! identification is 0 with DF, where it has no use (RFC 6864), and fresh without, since a router
//! on the way may cut the packet. An outer IPv6 header's flow label is 0.
//! A GUE packet's source port is a hash of the flow, so that routers and cards spread flows.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use zerocopy::{FromBytes, FromZeros, IntoBytes};

use crate::dataplane::family::Family;
use crate::dataplane::io::Packet;
use crate::dataplane::parse::Parsed;
use crate::dataplane::snapshot::{Encapsulation, GueChecksum};
use crate::dataplane::verdict::Reason;
use crate::wire::{Be16, Be32, Raw16, Raw32, Raw64, checksum, ether, fragment, ipv4, ipv6, udp};

/// IPv4 in IP, RFC 2003 and 2473.
pub(in crate::dataplane) const IPIP: u8 = 4;
/// IPv6 in IP, RFC 2473 and 4213.
pub(in crate::dataplane) const IPV6: u8 = 41;
/// RFC 2784.
pub(in crate::dataplane) const GRE: u8 = 47;
/// GRE's flag "a checksum follows".
const GRE_CHECKSUM: u16 = 0x8000;
/// ECN field: congestion experienced, and capable of it (RFC 3168).
const ECN_CE: u8 = 3;
const ECN_ECT0: u8 = 2;
/// Source ports of GUE: the ephemeral range Linux uses.
const SOURCE_PORT_MIN: u32 = 32_768;
const SOURCE_PORTS: u32 = 60_999 - SOURCE_PORT_MIN + 1;

/// GUE, version 0.
#[derive(Clone, Copy, IntoBytes, zerocopy::Immutable, zerocopy::Unaligned)]
#[repr(C)]
struct Gue {
    /// Version and C bit 0, then the length of the options in 32-bit words.
    version_length: u8,
    protocol: u8,
    flags: Be16,
}

/// GUE's options when the inner checksum is left to the receiver: the private flags, and where the
/// checksum starts and goes, counted from the end of these options.
#[derive(Clone, Copy, IntoBytes, zerocopy::Immutable, zerocopy::Unaligned)]
#[repr(C)]
struct Remote {
    private_flags: Be32,
    start: Be16,
    field: Be16,
}

/// Where the checksums are in their headers.
const TCP_CHECKSUM: usize = 16;
const UDP_CHECKSUM: usize = 6;

/// GUE's flag "private flags follow", and the private flag "remote checksum offload".
const GUE_PRIVATE: u16 = 1;
const GUE_REMOTE: u32 = 1 << 31;

/// What an outer header is made of besides the packet itself.
#[derive(Clone, Copy, Debug)]
pub struct Tunnel {
    /// The header's kind.
    pub encapsulation: Encapsulation,
    /// Our address, then the backend's: of one family.
    pub ends: (IpAddr, IpAddr),
    /// A hash of the flow.
    pub hash: u32,
    /// For packets that may be cut.
    pub identification: u16,
    /// Is DF of the outer header clear whatever the inner one says?
    pub ignore_df: bool,
}

impl Tunnel {
    /// The same for that packet: some checksums are not left to the receiver.
    fn suited_to<F: Family>(self, frame: &[u8], parsed: &Parsed<F>) -> Self {
        let encapsulation = match self.encapsulation {
            Encapsulation::Gue { port, checksum: GueChecksum::Remote }
                if !is_left_to_receiver(frame, parsed) =>
            {
                Encapsulation::Gue { port, checksum: GueChecksum::Outer }
            }
            encapsulation => encapsulation,
        };
        Self { encapsulation, ..self }
    }
}

/// Not a `CRC32c`; nor UDP's 0xffff, which the receiver's sum makes 0x0000: "none".
fn is_left_to_receiver<F: Family>(frame: &[u8], parsed: &Parsed<F>) -> bool {
    let field = usize::from(parsed.l4) + UDP_CHECKSUM;
    let packet = frame.get(usize::from(parsed.l3)..).unwrap_or_default();
    match parsed.key.protocol {
        _ if fragment::is_in(packet) => false,
        ipv4::TCP => true,
        ipv4::UDP => frame.get(field..field + 2).is_some_and(|sum| sum != [0xff; 2]),
        _ => false,
    }
}

/// What of the inner header shows outside.
#[derive(Clone, Copy, Debug)]
pub(in crate::dataplane) struct Inner {
    tos: u8,
    pub(in crate::dataplane) ttl: u8,
    pub(in crate::dataplane) dont_fragment: bool,
    /// [`IPIP`] or [`IPV6`].
    pub(in crate::dataplane) protocol: u8,
    ethertype: u16,
}

/// Bytes in front of the inner header that a wrapping to `backend` adds.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "an outer header is at most 60 bytes")]
pub fn overhead(encapsulation: Encapsulation, backend: IpAddr) -> u16 {
    let outer = if backend.is_ipv6() { ipv6::LEN } else { ipv4::LEN };
    (outer + shim(encapsulation)) as u16
}

/// Bytes between the outer and the inner IP header.
fn shim(encapsulation: Encapsulation) -> usize {
    match encapsulation {
        Encapsulation::Ipip => 0,
        Encapsulation::Gre { checksum } => 4 + if checksum { 4 } else { 0 },
        Encapsulation::Gue { checksum, .. } => {
            let remote = checksum == GueChecksum::Remote;
            udp::LEN + size_of::<Gue>() + if remote { size_of::<Remote>() } else { 0 }
        }
    }
}

/// Wraps a packet whose link addresses and TTL are already set. An error, and nothing done,
/// without headroom, or if the ends are not known in one family.
pub fn wrap<F: Family, P: Packet>(
    packet: &mut P,
    parsed: &Parsed<F>,
    tunnel: &Tunnel,
) -> Result<(), Reason> {
    let tunnel = &tunnel.suited_to(packet.data(), parsed);
    let inner = inner(packet.data(), parsed).ok_or(Reason::Truncated)?;
    let shim = shim(tunnel.encapsulation);
    let length = usize::from(parsed.length()) + shim;
    match tunnel.ends {
        (IpAddr::V4(ours), IpAddr::V4(theirs)) => {
            let outer = outer_v4(inner, (ours, theirs), length, tunnel).ok_or(Reason::TooBig)?;
            let covered = outer.addresses.get();
            enclose(packet, parsed, inner, outer.as_bytes(), ether::IPV4, covered, tunnel)
        }
        (IpAddr::V6(ours), IpAddr::V6(theirs)) => {
            let outer = outer_v6(inner, (ours, theirs), length, tunnel).ok_or(Reason::TooBig)?;
            let covered = outer.addresses();
            enclose(packet, parsed, inner, outer.as_bytes(), ether::IPV6, covered, tunnel)
        }
        _ => return Err(Reason::NextHop),
    }
    .ok_or(Reason::NoRoom)
}

/// Puts `outer` and what its kind asks for in front of the packet. `None`, and nothing done,
/// without headroom.
fn enclose<F: Family, P: Packet, A: IntoBytes + zerocopy::Immutable + Copy>(
    packet: &mut P,
    parsed: &Parsed<F>,
    inner: Inner,
    outer: &[u8],
    ethertype: u16,
    covered: A,
    tunnel: &Tunnel,
) -> Option<()> {
    let added = outer.len() + shim(tunnel.encapsulation);
    // Link padding behind a short packet would become part of the outer one.
    if !packet.set_len(usize::from(parsed.end)) {
        return None;
    }
    packet.prepend(added)?;
    let frame = packet.data_mut();
    frame.copy_within(added..added + ether::LEN, 0);
    let (link, rest) = frame.split_at_mut_checked(ether::LEN)?;
    link.get_mut(12..14)?.copy_from_slice(&ethertype.to_be_bytes());
    let (place, rest) = rest.split_at_mut_checked(outer.len())?;
    place.copy_from_slice(outer);
    match tunnel.encapsulation {
        Encapsulation::Ipip => Some(()),
        Encapsulation::Gre { checksum } => gre(rest, inner.ethertype, checksum),
        Encapsulation::Gue { port, checksum } => {
            let l4 = usize::from(parsed.l4 - parsed.l3);
            gue(rest, inner, (source_port(tunnel.hash), port), checksum, covered, l4, parsed)
        }
    }
}

/// What of a frame's IP header shows outside. `None` if it is cut off.
#[inline(always)]
pub(in crate::dataplane) fn inner<F: Family>(frame: &[u8], parsed: &Parsed<F>) -> Option<Inner> {
    let packet = frame.get(usize::from(parsed.l3)..)?;
    if F::IS_V6 {
        let (header, _) = ipv6::Header::ref_from_prefix(packet).ok()?;
        let (tos, ttl) = (header.traffic_class(), header.hop_limit);
        return Some(Inner {
            tos,
            ttl,
            dont_fragment: false,
            protocol: IPV6,
            ethertype: ether::IPV6,
        });
    }
    let (header, _) = ipv4::Header::ref_from_prefix(packet).ok()?;
    Some(Inner {
        tos: header.tos,
        ttl: header.ttl,
        dont_fragment: header.flags_fragment.get() & ipv4::DONT_FRAGMENT != 0,
        protocol: IPIP,
        ethertype: ether::IPV4,
    })
}

/// The outer protocol number.
fn protocol(encapsulation: Encapsulation, inner: Inner) -> u8 {
    match encapsulation {
        Encapsulation::Ipip => inner.protocol,
        Encapsulation::Gre { .. } => GRE,
        Encapsulation::Gue { .. } => ipv4::UDP,
    }
}

/// An outer IPv4 header in front of `length` bytes.
fn outer_v4(
    inner: Inner,
    (ours, theirs): (Ipv4Addr, Ipv4Addr),
    length: usize,
    tunnel: &Tunnel,
) -> Option<ipv4::Header> {
    let length = u16::try_from(ipv4::LEN + length).ok()?;
    let whole = inner.dont_fragment && !tunnel.ignore_df;
    let identification = if whole { None } else { Some(tunnel.identification) };
    let protocol = protocol(tunnel.encapsulation, inner);
    Some(header_v4(inner, protocol, length, identification, ipv4::address_pair(ours, theirs)))
}

/// An outer IPv4 header of a packet of that length: one that may be cut has an identification.
#[inline(always)]
pub(in crate::dataplane) fn header_v4(
    inner: Inner,
    protocol: u8,
    total_length: u16,
    identification: Option<u16>,
    addresses: u64,
) -> ipv4::Header {
    let dont_fragment = if identification.is_none() { ipv4::DONT_FRAGMENT } else { 0 };
    let mut header = ipv4::Header {
        version_ihl: ipv4::VERSION_IHL,
        tos: outer_tos(inner.tos),
        total_length: total_length.into(),
        identification: identification.unwrap_or(0).into(),
        flags_fragment: dont_fragment.into(),
        ttl: inner.ttl,
        protocol,
        checksum: Raw16::ZERO,
        addresses: Raw64::new(addresses),
    };
    header.checksum = Raw16::new(checksum::checksum_20(header.as_array()));
    header
}

/// An outer IPv6 header in front of `length` bytes.
fn outer_v6(
    inner: Inner,
    (ours, theirs): (Ipv6Addr, Ipv6Addr),
    length: usize,
    tunnel: &Tunnel,
) -> Option<ipv6::Header> {
    Some(ipv6::Header {
        version_class_label: ipv6::version_class(outer_tos(inner.tos)),
        payload_length: u16::try_from(length).ok()?.into(),
        next_header: protocol(tunnel.encapsulation, inner),
        hop_limit: inner.ttl,
        addresses: ipv6::address_pair(ours, theirs).map(Raw64::new),
    })
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
fn gre(bytes: &mut [u8], ethertype: u16, with_checksum: bool) -> Option<()> {
    let flags = if with_checksum { GRE_CHECKSUM } else { 0 };
    let ([a, b], [c, d]) = (flags.to_be_bytes(), ethertype.to_be_bytes());
    *bytes.first_chunk_mut()? = [a, b, c, d];
    if with_checksum {
        bytes.get_mut(4..8)?.fill(0);
        let sum = checksum::checksum(bytes);
        bytes.get_mut(4..6)?.copy_from_slice(&sum.to_ne_bytes());
    }
    Some(())
}

/// Writes UDP and GUE headers at the front of `bytes`, which end with the inner packet. The outer
/// checksum, if it is computed, covers `addresses`. `l4` is the offset of the inner packet's
/// transport header.
fn gue<F: Family, A: IntoBytes + zerocopy::Immutable + Copy>(
    bytes: &mut [u8],
    inner: Inner,
    (source, destination): (u16, u16),
    checksum: GueChecksum,
    addresses: A,
    l4: usize,
    parsed: &Parsed<F>,
) -> Option<()> {
    let ([a, b], [c, d]) = (source.to_be_bytes(), destination.to_be_bytes());
    let mut header = udp::Header::new_zeroed();
    header.ports = Raw32::new(u32::from_ne_bytes([a, b, c, d]));
    header.length = u16::try_from(bytes.len()).ok()?.into();
    let mut gue = Gue { version_length: 0, protocol: inner.protocol, flags: 0.into() };
    if checksum == GueChecksum::Remote {
        gue.version_length = 2;
        gue.flags = GUE_PRIVATE.into();
    }
    header.write_to_prefix(bytes).ok()?;
    gue.write_to_prefix(bytes.get_mut(udp::LEN..)?).ok()?;
    let behind = bytes.get_mut(udp::LEN + size_of::<Gue>()..)?;
    if checksum == GueChecksum::Remote {
        leave_to_receiver(behind, l4, parsed)?;
    }
    if checksum != GueChecksum::Zero {
        header.checksum = Raw16::new(checksum::udp(addresses, bytes));
        header.write_to_prefix(bytes).ok()?;
    }
    Some(())
}

/// Writes the option that asks the receiver for the inner checksum. The receiver sums the segment
/// with what it finds in the checksum's place and writes the sum's complement there: what is left
/// there is the complement of today's sum, so that it comes to today's checksum, right or wrong.
fn leave_to_receiver<F: Family>(behind: &mut [u8], l4: usize, parsed: &Parsed<F>) -> Option<()> {
    let field = if parsed.key.protocol == ipv4::TCP { TCP_CHECKSUM } else { UDP_CHECKSUM };
    let (option, inner) = behind.split_at_mut_checked(size_of::<Remote>())?;
    let segment = inner.get_mut(l4..)?;
    let start = !checksum::sum(segment);
    segment.get_mut(field..field + 2)?.copy_from_slice(&start.to_ne_bytes());
    let remote = Remote {
        private_flags: GUE_REMOTE.into(),
        start: u16::try_from(l4).ok()?.into(),
        field: u16::try_from(l4 + field).ok()?.into(),
    };
    option.copy_from_slice(remote.as_bytes());
    Some(())
}
