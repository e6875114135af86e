//! A received packet, turned in place into an answer to its sender.
//!
//! TCP that nobody wants gets a RST (RFC 9293 section 3.10.7.1), other refusals an ICMP error
//! (RFC 792, RFC 1812 section 4.3). The answer leaves by the port the packet came from, to the
//! link address it came from: no route and no neighbour is looked up.
//!
//! ```text
//! RST    │ Ethernet │ IPv4 │ TCP │                       what followed is cut off
//! ICMP   │ Ethernet │ IPv4 │ ICMP │ the packet as received: IPv4, TCP or UDP, … │
//!        └── 28 bytes of headroom and the old Ethernet header ──┘  nothing is moved
//! ```
//!
//! Both functions answer false, with the packet as it was, if the rules say that nobody may answer
//! or the buffer has no room. Every answer gets TTL 64 and, being whole and atomic (RFC 6864),
//! DF with identification 0.

use std::net::Ipv4Addr;

use zerocopy::{FromBytes, FromZeros, IntoBytes};

use super::io::Packet;
use super::parse::{Parsed, is_host};
use crate::wire::{Be32, Raw16, Raw32, Raw64, checksum, ether, icmp, ipv4, tcp};

/// Time to live of an answer.
const TTL: u8 = 64;
/// Type of service of an ICMP error: Internetwork Control (RFC 1812 section 4.3.2.5).
const TOS_CONTROL: u8 = 0xc0;
/// Longest IPv4 packet an ICMP error may make (RFC 1812 section 4.3.2.3).
const ICMP_LENGTH_MAX: usize = 576;

/// The errors the balancer reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IcmpError {
    /// Nobody serves this UDP port, or nobody can now.
    PortUnreachable,
    /// The TTL would have reached zero here.
    TimeExceeded,
    /// Longer than the way carries, and not to be cut; what it carries (RFC 1191).
    FragmentationNeeded {
        /// Longest IP packet that goes through.
        mtu: u16,
    },
}

impl IcmpError {
    fn kind_and_code(self) -> (u8, u8) {
        match self {
            Self::PortUnreachable => (icmp::UNREACHABLE, icmp::PORT_UNREACHABLE),
            Self::TimeExceeded => (icmp::TIME_EXCEEDED, 0),
            Self::FragmentationNeeded { .. } => (icmp::UNREACHABLE, icmp::FRAGMENTATION_NEEDED),
        }
    }

    /// The second word of the ICMP header.
    fn rest(self) -> Be32 {
        match self {
            Self::FragmentationNeeded { mtu } => u32::from(mtu).into(),
            Self::PortUnreachable | Self::TimeExceeded => Be32::ZERO,
        }
    }
}

/// A whole RST frame.
#[derive(zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::Unaligned)]
#[repr(C)]
struct Reset {
    ether: ether::Header,
    ip: ipv4::Header,
    tcp: tcp::Header,
}

/// Everything of an ICMP error in front of the quoted packet.
#[derive(zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::Unaligned)]
#[repr(C)]
struct Report {
    ether: ether::Header,
    ip: ipv4::Header,
    icmp: icmp::Header,
}

/// Turns a TCP packet into the RST its sender gets. False for a RST: it is never answered.
#[must_use]
pub fn tcp_reset<P: Packet>(packet: &mut P, parsed: &Parsed) -> bool {
    let Some(reset) = reset_for(packet.data(), parsed) else { return false };
    let bytes = reset.as_bytes();
    if !packet.set_len(bytes.len()) {
        return false;
    }
    packet.data_mut().copy_from_slice(bytes);
    true
}

fn reset_for(frame: &[u8], parsed: &Parsed) -> Option<Reset> {
    if parsed.key.protocol != ipv4::TCP || parsed.tcp_flags & tcp::RST != 0 {
        return None;
    }
    let (ether, _) = ether::Header::ref_from_prefix(frame).ok()?;
    let segment = frame.get(usize::from(parsed.l4)..usize::from(parsed.end))?;
    let (received, _) = tcp::Header::ref_from_prefix(segment).ok()?;
    let addresses = parsed.key.reversed().addresses;
    let mut tcp = reset_header(received, segment.len());
    tcp.checksum = Raw16::new(checksum::tcp(addresses, tcp.as_bytes()));
    let ip = ip_header(0, ipv4::LEN + tcp::LEN, ipv4::TCP, addresses)?;
    Some(Reset { ether: turned(ether), ip, tcp })
}

/// RFC 9293 section 3.10.7.1: an answer to an ACK takes its number from it; anything else is
/// acknowledged as a whole. SYN and FIN each count as one byte of sequence.
fn reset_header(received: &tcp::Header, segment_length: usize) -> tcp::Header {
    let payload = segment_length.saturating_sub(usize::from(received.header_length()));
    let controls = (received.flags & (tcp::SYN | tcp::FIN)).count_ones();
    let length = u32::try_from(payload).unwrap_or(0).wrapping_add(controls);
    let (flags, sequence, acknowledgment) = if received.flags & tcp::ACK != 0 {
        (tcp::RST, received.acknowledgment, Be32::ZERO)
    } else {
        let next = received.sequence.get().wrapping_add(length);
        (tcp::RST | tcp::ACK, Be32::ZERO, Be32::new(next))
    };
    tcp::Header {
        ports: Raw32::new(received.ports.get().rotate_left(16)),
        sequence,
        acknowledgment,
        data_offset: 5 << 4,
        flags,
        ..tcp::Header::new_zeroed()
    }
}

/// Turns an IPv4 packet, as received, into the ICMP error its sender gets from `source`. `l3` is
/// the offset of its IPv4 header.
///
/// False for what must not be answered (RFC 1812 section 4.3.2.7): an ICMP error, a fragment other
/// than the first, a packet to a group, a sender that is no host.
#[must_use]
pub fn icmp_error<P: Packet>(packet: &mut P, l3: u16, kind: IcmpError, source: Ipv4Addr) -> bool {
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
    let packet = frame.get(l3..l3 + usize::from(ip.total_length.get()))?;
    // The answer's headers take the place of the received Ethernet header: a tagged one is longer.
    if l3 != ether::LEN || !may_report(ether, ip, packet) {
        return None;
    }
    let quote = &packet[..packet.len().min(ICMP_LENGTH_MAX - ipv4::LEN - icmp::LEN)];
    let rest = kind.rest();
    let (kind, code) = kind.kind_and_code();
    let mut icmp = icmp::Header { kind, code, checksum: Raw16::ZERO, rest };
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

/// An Ethernet header back to the sender.
fn turned(received: &ether::Header) -> ether::Header {
    ether::Header {
        destination: received.source,
        source: received.destination,
        ethertype: received.ethertype,
    }
}

/// A fresh IPv4 header, checksum included, of a packet of `length` bytes.
fn ip_header(tos: u8, length: usize, protocol: u8, addresses: u64) -> Option<ipv4::Header> {
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
