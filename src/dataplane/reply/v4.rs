//! ICMP errors (RFC 792) and fresh IPv4 headers.

use std::net::Ipv4Addr;

use zerocopy::{FromBytes, IntoBytes};

use super::{IcmpError, TTL, turned};
use crate::dataplane::io::Packet;
use crate::dataplane::parse::is_host;
use crate::wire::{Raw16, Raw64, checksum, ether, icmp, ipv4};

/// Type of service of an ICMP error: Internetwork Control (RFC 1812 section 4.3.2.5).
const TOS_CONTROL: u8 = 0xc0;
/// Longest IPv4 packet an ICMP error may make (RFC 1812 section 4.3.2.3).
const ICMP_LENGTH_MAX: usize = 576;

impl IcmpError {
    pub(super) fn kind_and_code(self) -> (u8, u8) {
        match self {
            Self::PortUnreachable => (icmp::UNREACHABLE, icmp::PORT_UNREACHABLE),
            Self::TimeExceeded => (icmp::TIME_EXCEEDED, 0),
            Self::TooBig { .. } => (icmp::UNREACHABLE, icmp::FRAGMENTATION_NEEDED),
            Self::Other { kind, code, .. } => (kind, code),
        }
    }
}

/// Everything of an ICMP error in front of the quoted packet.
#[derive(zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::Unaligned)]
#[repr(C)]
struct Report {
    ether: ether::Header,
    ip: ipv4::Header,
    icmp: icmp::Header,
}

/// Turns an IPv4 packet, as received, into the ICMP error its sender gets from `source`. `l3` is
/// the offset of its IPv4 header.
///
/// False for what must not be answered (RFC 1812 section 4.3.2.7): an ICMP error, a fragment other
/// than the first, a packet to a group, a sender that is no host.
#[must_use]
pub(in crate::dataplane) fn error<P: Packet>(
    packet: &mut P,
    l3: u16,
    kind: IcmpError,
    source: Ipv4Addr,
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
    source: Ipv4Addr,
) -> Option<(Report, usize)> {
    let (ether, _) = ether::Header::ref_from_prefix(frame).ok()?;
    let (ip, _) = ipv4::Header::ref_from_prefix(frame.get(l3..)?).ok()?;
    // A packet that was quoted itself may be cut off.
    let rest = frame.get(l3..)?;
    let packet = rest.get(..usize::from(ip.total_length.get())).unwrap_or(rest);
    // The answer's headers take the place of the received Ethernet header: a tagged one is longer.
    if l3 != ether::LEN || !may_report(ether, ip, packet) {
        return None;
    }
    let quote = &packet[..packet.len().min(ICMP_LENGTH_MAX - ipv4::LEN - icmp::LEN)];
    let mut icmp: icmp::Header = zerocopy::transmute!(kind.header::<Ipv4Addr>());
    icmp.checksum = Raw16::new(checksum::checksum_of_two(icmp.as_bytes(), quote));
    let addresses = ipv4::address_pair(source, ip.source());
    let length = ipv4::LEN + icmp::LEN + quote.len();
    let ip = ip_header(TOS_CONTROL, length, ipv4::ICMP, addresses)?;
    Some((Report { ether: turned(ether), ip, icmp }, quote.len()))
}

/// May anybody answer this packet with an error?
fn may_report(ether: &ether::Header, ip: &ipv4::Header, packet: &[u8]) -> bool {
    let first = ip.flags_fragment.get() & ipv4::OFFSET_MASK == 0;
    let kind = packet.get(usize::from(ip.header_length()));
    let destination = ip.destination();
    ether.ethertype.get() == ether::IPV4
        && ip.version() == 4
        && usize::from(ip.header_length()) >= ipv4::LEN
        && first
        && !ether.destination.is_group()
        && !destination.is_multicast()
        && !destination.is_broadcast()
        && is_host(ip.addresses.get())
        && (ip.protocol != ipv4::ICMP || kind.is_some_and(|kind| icmp::is_query(*kind)))
}

/// A fresh IPv4 header, checksum included, of a packet of `length` bytes.
pub(in crate::dataplane) fn ip_header(
    tos: u8,
    length: usize,
    protocol: u8,
    addresses: u64,
) -> Option<ipv4::Header> {
    let mut header = ipv4::Header {
        version_ihl: ipv4::VERSION_IHL,
        tos,
        total_length: u16::try_from(length).ok()?.into(),
        identification: 0.into(),
        flags_fragment: ipv4::DONT_FRAGMENT.into(),
        ttl: TTL,
        protocol,
        checksum: Raw16::ZERO,
        addresses: Raw64::new(addresses),
    };
    header.checksum = Raw16::new(checksum::checksum(header.as_bytes()));
    Some(header)
}
