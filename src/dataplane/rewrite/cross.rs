//! From IPv6 to IPv4 and back: the IP header is replaced (RFC 7915).
//!
//! ```text
//! │ Ethernet │ IPv6, extension headers │ TCP …      40 bytes and more
//!      │ Ethernet │ IPv4               │ TCP …      20 bytes
//! ```
//!
//! The traffic class becomes the TOS and the other way round; the hop count goes on, less one.
//! Extension headers and IPv4 options end here. What was short in IPv6 may be cut on its way
//! through IPv4 and carries a fresh identification, longer packets carry DF (RFC 7915 section
//! 5.1). The transport checksum changes by what the connection's addresses and ports differ; a UDP
//! checksum of zero, which IPv6 does not allow, is computed (section 4.5).
//!
//! **Pieces** (sections 4.1 and 5.1.1): where a piece lies goes from the fragment header into the
//! IPv4 header and back, its identification by the low half; an atomic fragment becomes an IPv4
//! packet that may be cut. A piece after the first has no transport header, and nothing else
//! changes in it.

use zerocopy::{FromBytes, IntoBytes};

use crate::dataplane::family::Family;
use crate::dataplane::io::Packet;
use crate::dataplane::parse::Parsed;
use crate::dataplane::rewrite::transport;
use crate::dataplane::snapshot::NextHop;
use crate::wire::checksum::{self, Delta};
use crate::wire::fragment::{self, Span};
use crate::wire::{Raw16, Raw64, ether, ipv4, ipv6, udp};

/// By how much an IPv6 header is longer than an IPv4 one.
pub const DIFFERENCE: u16 = HEADER_V6 - 20;
/// Bytes of an IPv6 header.
pub const HEADER_V6: u16 = 40;

const _: () = assert!(HEADER_V6 as usize == ipv6::LEN, "it is written twice for its type");
const _: () = assert!(DIFFERENCE as usize == ipv6::LEN - ipv4::LEN, "and so is this");
/// Longest IPv4 packet made of an IPv6 packet that everybody may send, so that nobody will send
/// less: without DF (RFC 7915 section 5.1).
pub const SHORT_MAX: u16 = ipv6::MTU_MIN - DIFFERENCE;

/// What changes besides the addresses.
#[derive(Clone, Copy, Debug)]
pub(in crate::dataplane) struct Change {
    /// Where the frame goes.
    pub(in crate::dataplane) next_hop: NextHop,
    /// New source then destination port, and what all of it does to the transport checksum; `None`
    /// if there is no transport header.
    pub(in crate::dataplane) transport: Option<(u32, Delta)>,
}

/// Turns a parsed IPv6 frame into an IPv4 one between `addresses`. `fresh` is an identification, if
/// it may be cut on its way; that of a piece comes with it.
pub(in crate::dataplane) fn to_v4<F: Family, P: Packet>(
    packet: &mut P,
    parsed: &Parsed<F>,
    addresses: u64,
    change: &Change,
    fresh: Option<u16>,
) -> Option<()> {
    let (l3, l4) = (usize::from(parsed.l3), usize::from(parsed.l4));
    let ip = packet.data().get(l3..)?;
    let (received, _) = ipv6::Header::ref_from_prefix(ip).ok()?;
    let length = ipv4::LEN + usize::from(parsed.end - parsed.l4);
    let (identification, flags_fragment) = match (fragment::of_v6(ip), fresh) {
        (Some(piece), _) => (low_half(piece.identification.get()), piece.span().bits_v4()),
        (None, Some(fresh)) => (fresh, 0),
        (None, None) => (0, ipv4::DONT_FRAGMENT),
    };
    let mut header = ipv4::Header {
        version_ihl: ipv4::VERSION_IHL,
        tos: received.traffic_class(),
        total_length: u16::try_from(length).ok()?.into(),
        identification: identification.into(),
        flags_fragment: flags_fragment.into(),
        ttl: received.hop_limit.wrapping_sub(1),
        protocol: parsed.key.protocol,
        checksum: Raw16::ZERO,
        addresses: Raw64::new(addresses),
    };
    header.checksum = Raw16::new(checksum::checksum(header.as_bytes()));
    rewrite_transport(packet, parsed, change)?;
    let cut = l4.checked_sub(ether::LEN + ipv4::LEN)?;
    if !packet.set_len(usize::from(parsed.end)) || !packet.trim_front(cut) {
        return None;
    }
    write_front(packet.data_mut(), change.next_hop, ether::IPV4, header.as_bytes())
}

#[expect(clippy::cast_possible_truncation, reason = "IPv4's is half as long")]
fn low_half(identification: u32) -> u16 {
    identification as u16
}

/// Turns a parsed IPv4 frame into an IPv6 one between `addresses`, with a fragment header if it is
/// a piece, or `will_be_cut`.
pub(in crate::dataplane) fn to_v6<F: Family, P: Packet>(
    packet: &mut P,
    parsed: &Parsed<F>,
    addresses: ipv6::Addresses,
    change: &Change,
    will_be_cut: bool,
) -> Option<()> {
    let (l3, l4) = (usize::from(parsed.l3), usize::from(parsed.l4));
    let (received, _) = ipv4::Header::ref_from_prefix(packet.data().get(l3..)?).ok()?;
    let (span, number) = (received.span(), received.identification.get());
    let protocol = parsed.key.protocol;
    let piece = (will_be_cut || span.is_piece())
        .then(|| fragment::Header::new(protocol, span, number.into()));
    let piece = piece.as_ref().map_or(&[][..], IntoBytes::as_bytes);
    let length = usize::from(parsed.end - parsed.l4) + piece.len();
    let header = ipv6::Header {
        version_class_label: ipv6::version_class(received.tos),
        payload_length: u16::try_from(length).ok()?.into(),
        next_header: if piece.is_empty() { protocol } else { ipv6::FRAGMENT },
        hop_limit: received.ttl.wrapping_sub(1),
        addresses: addresses.map(Raw64::new),
    };
    rewrite_transport(packet, parsed, change)?;
    if span == Span::WHOLE {
        let segment = packet.data_mut().get_mut(l4..usize::from(parsed.end))?;
        fill_udp_checksum(segment, protocol, addresses);
    }
    let front = ether::LEN + ipv6::LEN + piece.len();
    if !packet.set_len(usize::from(parsed.end)) {
        return None;
    }
    // IPv4 options may take more room than the longer header.
    if l4 <= front {
        packet.prepend(front - l4)?;
    } else if !packet.trim_front(l4 - front) {
        return None;
    }
    let frame = packet.data_mut();
    frame.get_mut(front - piece.len()..front)?.copy_from_slice(piece);
    write_front(frame, change.next_hop, ether::IPV6, header.as_bytes())
}

fn rewrite_transport<F: Family, P: Packet>(
    packet: &mut P,
    parsed: &Parsed<F>,
    change: &Change,
) -> Option<()> {
    let Some((ports, delta)) = change.transport else { return Some(()) };
    let rest = packet.data_mut().get_mut(usize::from(parsed.l4)..)?;
    transport::rewrite(rest, parsed, ports, delta).then_some(())
}

/// Is it a UDP datagram without checksum?
pub(in crate::dataplane) fn lacks_checksum(segment: &[u8], protocol: u8) -> bool {
    protocol == ipv4::UDP
        && udp::Header::ref_from_prefix(segment).is_ok_and(|(udp, _)| udp.checksum.get() == 0)
}

/// A UDP datagram without checksum gets one. It covers as much as the datagram says is its own: more
/// may follow in the packet (UDP options, RFC 9868).
fn fill_udp_checksum(segment: &mut [u8], protocol: u8, addresses: ipv6::Addresses) {
    if !lacks_checksum(segment, protocol) {
        return;
    }
    let said = udp::Header::ref_from_prefix(segment).map(|(udp, _)| udp.length.get());
    let own = usize::from(said.unwrap_or_default());
    let Some(datagram) = segment.get_mut(..own) else { return };
    let sum = checksum::udp(addresses, datagram);
    if let Ok((header, _)) = udp::Header::mut_from_prefix(datagram) {
        header.checksum.set(sum);
    }
}

fn write_front(frame: &mut [u8], hop: NextHop, ethertype: u16, ip: &[u8]) -> Option<()> {
    let link = ether::Header {
        destination: hop.destination,
        source: hop.source,
        ethertype: ethertype.into(),
    };
    link.write_to_prefix(frame).ok()?;
    frame.get_mut(ether::LEN..ether::LEN + ip.len())?.copy_from_slice(ip);
    Some(())
}
