//! `ICMPv6` errors (RFC 4443) and fresh IPv6 headers.

use std::net::Ipv6Addr;

use zerocopy::{FromBytes, IntoBytes};

use super::{IcmpError, TTL, turned};
use crate::dataplane::io::Packet;
use crate::dataplane::parse::is_host_v6;
use crate::wire::{Raw16, Raw64, checksum, ether, icmpv6, ipv6};

/// Longest packet an `ICMPv6` error may make (RFC 4443 section 2.4 c).
const LENGTH_MAX: usize = ipv6::MTU_MIN as usize;

impl IcmpError {
    pub(super) fn kind_and_code_v6(self) -> (u8, u8) {
        match self {
            Self::PortUnreachable => (icmpv6::UNREACHABLE, icmpv6::PORT_UNREACHABLE),
            Self::TimeExceeded => (icmpv6::TIME_EXCEEDED, 0),
            Self::TooBig { .. } => (icmpv6::PACKET_TOO_BIG, 0),
            Self::Other { kind, code, .. } => (kind, code),
        }
    }
}

/// Everything of an `ICMPv6` error in front of the quoted packet.
#[derive(zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::Unaligned)]
#[repr(C)]
struct Report {
    ether: ether::Header,
    ip: ipv6::Header,
    icmp: icmpv6::Header,
}

/// Turns an IPv6 packet, as received, into the `ICMPv6` error its sender gets from `source`. `l3`
/// is the offset of its IPv6 header.
///
/// False for what must not be answered (RFC 4443 section 2.4 e): an `ICMPv6` error, a packet to a
/// group, a sender that is no host.
#[must_use]
pub(in crate::dataplane) fn error<P: Packet>(
    packet: &mut P,
    l3: u16,
    kind: IcmpError,
    source: Ipv6Addr,
) -> bool {
    let Some((report, quoted)) = report_for(packet.data(), usize::from(l3), kind, source) else {
        return false;
    };
    if packet.prepend(size_of::<Report>() - ether::LEN).is_none() {
        return false;
    }
    // Never longer than what was received and prepended: the quote is part of the frame.
    report.write_to_prefix(packet.data_mut()).is_ok()
        && packet.set_len(size_of::<Report>() + quoted)
}

/// The headers of the answer and how many bytes of the packet, from `l3` on, it quotes.
fn report_for(
    frame: &[u8],
    l3: usize,
    kind: IcmpError,
    source: Ipv6Addr,
) -> Option<(Report, usize)> {
    let (ether, _) = ether::Header::ref_from_prefix(frame).ok()?;
    let (ip, _) = ipv6::Header::ref_from_prefix(frame.get(l3..)?).ok()?;
    let length = ipv6::LEN + usize::from(ip.payload_length.get());
    // A packet that was quoted itself may be cut off.
    let rest = frame.get(l3..)?;
    let packet = rest.get(..length).unwrap_or(rest);
    if l3 != ether::LEN || !may_report(ether, ip, packet) {
        return None;
    }
    let quote = &packet[..packet.len().min(LENGTH_MAX - ipv6::LEN - icmpv6::LEN)];
    let addresses = ipv6::address_pair(source, ip.source());
    let mut icmp: icmpv6::Header = zerocopy::transmute!(kind.header::<Ipv6Addr>());
    let sum = checksum::l4_of_two(addresses, ipv6::ICMPV6, icmp.as_bytes(), quote);
    icmp.checksum = Raw16::new(sum);
    let ip = ip_header(icmpv6::LEN + quote.len(), ipv6::ICMPV6, addresses)?;
    Some((Report { ether: turned(ether), ip, icmp }, quote.len()))
}

/// May anybody answer this packet with an error?
fn may_report(ether: &ether::Header, ip: &ipv6::Header, packet: &[u8]) -> bool {
    let is_query = ipv6::walk(packet).is_some_and(|walked| {
        walked.protocol != ipv6::ICMPV6
            || packet.get(walked.offset).is_some_and(|kind| !icmpv6::is_error(*kind))
    });
    ether.ethertype.get() == ether::IPV6
        && ip.version() == 6
        && !ether.destination.is_group()
        && !ip.destination().is_multicast()
        && is_host_v6(ip.addresses())
        && is_query
}

/// A fresh IPv6 header in front of `length` bytes.
pub(in crate::dataplane) fn ip_header(
    length: usize,
    protocol: u8,
    addresses: ipv6::Addresses,
) -> Option<ipv6::Header> {
    Some(ipv6::Header {
        version_class_label: ipv6::version_class(0),
        payload_length: u16::try_from(length).ok()?.into(),
        next_header: protocol,
        hop_limit: TTL,
        addresses: addresses.map(Raw64::new),
    })
}
