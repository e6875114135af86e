//! Bytes become a small valid value, or the reason why not.
//!
//! [`parse`] first tries what nearly every packet is: untagged IPv4 without options, whole, TCP or
//! UDP, to one station. That path is a handful of loads and compares on the first cache line and
//! asks only yes or no. Anything it refuses goes to [`examine`], which is a complete parser by
//! itself, looks at one header after the other and names what it finds. Whatever the first accepts
//! the second would accept with the same result; a property holds them to it.
//!
//! ```text
//! 0          14 = l3        l4 = l3 + IHL            end = l3 + total length
//! │ Ethernet │ IPv4, options │ TCP or UDP, payload   │ link padding │
//! ```
//!
//! A hot loop asks [`common`] and, of what that refuses, [`examine`], rather than match on [`parse`]:
//! a value that may come out of either goes through memory, which costs as much as the parsing.
//!
//! Neither panics, whatever the bytes. Checksums: the IPv4 header's is verified here unless the
//! port did; the transport's is the receiver's business (RFC 1624 keeps a wrong one wrong) unless
//! the port says it is bad.

use std::net::Ipv4Addr;

use zerocopy::FromBytes;

use super::conn::key::FlowKey;
use super::io::{ChecksumVerdict, RxInfo};
use super::verdict::Reason;
use crate::wire::{checksum, ether, ipv4, tcp, udp};

/// A TCP or UDP packet that could belong to a connection. Offsets are proven: `l3 + 20 <= l4`,
/// `l4` plus the fixed transport header `<= end`, `end` within the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// Its 5-tuple.
    pub key: FlowKey,
    /// Offset of the IPv4 header.
    pub l3: u16,
    /// Offset of the TCP or UDP header.
    pub l4: u16,
    /// End of the IPv4 packet; link padding may follow.
    pub end: u16,
    /// Time to live as received.
    pub ttl: u8,
    /// TCP flags; 0 for UDP.
    pub tcp_flags: u8,
}

/// What a frame turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parse {
    /// TCP or UDP to this station.
    Flow(Parsed),
    /// IPv4, but nothing that can be looked up.
    Other(Other),
    /// Not IPv4 (ARP, IPv6, LLDP, tagged frames): the kernel's.
    NotIp,
    /// Refused.
    Drop(Reason),
}

/// An IPv4 packet with a right header that is not looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Other {
    /// Source address.
    pub source: Ipv4Addr,
    /// Destination address.
    pub destination: Ipv4Addr,
    /// Why it is not looked up.
    pub kind: OtherKind,
}

/// Why an IPv4 packet is not looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtherKind {
    /// Sent to a group of stations on the link (broadcast, multicast): never balanced.
    NotForUs,
    /// A piece of a packet, the first included.
    Fragment,
    /// ICMP.
    Icmp,
    /// Some other IP protocol.
    Protocol(u8),
}

/// The first 42 bytes of a common frame: as far as UDP goes, and TCP at least.
#[derive(zerocopy::FromBytes, zerocopy::KnownLayout, zerocopy::Immutable, zerocopy::Unaligned)]
#[repr(C)]
struct Head {
    ether: ether::Header,
    ip: ipv4::Header,
    udp: udp::Header,
}

/// The same, as far as TCP goes.
#[derive(zerocopy::FromBytes, zerocopy::KnownLayout, zerocopy::Immutable, zerocopy::Unaligned)]
#[repr(C)]
struct TcpHead {
    ether: ether::Header,
    ip: ipv4::Header,
    tcp: tcp::Header,
}

/// Where the IPv4 header of an untagged frame starts.
const L3: u16 = 14;
/// Where the transport header starts when the IPv4 header has no options.
const L4: u16 = 34;

/// Reads a frame, knowing what its port found out about it: [`common`], else [`examine`].
#[inline(always)]
pub fn parse(frame: &[u8], info: RxInfo) -> Parse {
    match common(frame, info) {
        Some(parsed) => Parse::Flow(parsed),
        None => examine(frame, info),
    }
}

/// The common case, or `None`: anything else. One early return per question: each is a fused
/// compare and a branch never taken, cheaper than collecting the answers.
#[inline(always)]
pub fn common(frame: &[u8], info: RxInfo) -> Option<Parsed> {
    let (Head { ether, ip, udp }, _) = Head::ref_from_prefix(frame).ok()?;
    let addresses = ip.addresses.get();
    let end = L3.checked_add(ip.total_length.get())?;
    let room = end.checked_sub(L4)?;
    if ether.ethertype.get() != ether::IPV4
        || ip.version_ihl != ipv4::VERSION_IHL
        || ip.flags_fragment.get() & ipv4::FRAGMENT_MASK != 0
        || ether.destination.is_group()
        || usize::from(end) > frame.len()
        || is_refused(info)
        || !is_host(addresses)
        || (info.ip_checksum == ChecksumVerdict::Unknown && !checksum::verify_20(ip.as_array()))
    {
        return None;
    }
    let tcp_flags = match ip.protocol {
        ipv4::TCP => common_tcp(frame, room)?,
        ipv4::UDP => common_udp(udp, room)?,
        _ => return None,
    };
    let key = FlowKey { addresses, ports: udp.ports.get(), protocol: ip.protocol };
    Some(Parsed { key, l3: L3, l4: L4, end, ttl: ip.ttl, tcp_flags })
}

/// Did the port find anything wrong?
#[inline(always)]
fn is_refused(info: RxInfo) -> bool {
    info.segmented
        || info.ip_checksum == ChecksumVerdict::Bad
        || info.l4_checksum == ChecksumVerdict::Bad
}

/// TCP flags, if the header fits `room` bytes.
#[inline(always)]
fn common_tcp(frame: &[u8], room: u16) -> Option<u8> {
    let (TcpHead { tcp, .. }, _) = TcpHead::ref_from_prefix(frame).ok()?;
    let length = tcp.header_length();
    (usize::from(length) >= tcp::LEN && u16::from(length) <= room).then_some(tcp.flags)
}

/// No flags, if the datagram fits `room` bytes.
#[inline(always)]
fn common_udp(udp: &udp::Header, room: u16) -> Option<u8> {
    let length = udp.length.get();
    (usize::from(length) >= udp::LEN && length <= room).then_some(0)
}

/// Can a host have sent a packet with these addresses? Not from 0/8, 127/8, a multicast address,
/// the broadcast address, nor from its own destination (RFC 1122 section 3.2.1.3). 240/4 passes:
/// the kernel routes it, and networks short of addresses use it.
#[inline(always)]
pub(super) fn is_host(addresses: u64) -> bool {
    let [a, b, c, d, ..] = addresses.to_ne_bytes();
    let ordinary = matches!(a, 1..=223) && a != 127;
    let is_own_destination = addresses == addresses.rotate_left(32);
    !is_own_destination && (ordinary || (a >= 240 && [a, b, c, d] != [255; 4]))
}

/// Any frame, one header after the other. Agrees with [`common`] on whatever that accepts.
#[cold]
#[inline(never)]
pub fn examine(frame: &[u8], info: RxInfo) -> Parse {
    examine_ether(frame, info).unwrap_or_else(Parse::Drop)
}

fn examine_ether(frame: &[u8], info: RxInfo) -> Result<Parse, Reason> {
    if info.segmented {
        return Err(Reason::Segmented);
    }
    let (ether, rest) = ether::Header::ref_from_prefix(frame).map_err(|_| Reason::Truncated)?;
    if ether.ethertype.get() != ether::IPV4 {
        return Ok(Parse::NotIp);
    }
    let (ip, segment) = examine_ip(rest, info)?;
    match other_kind(ether, ip) {
        Some(kind) => {
            Ok(Parse::Other(Other { source: ip.source(), destination: ip.destination(), kind }))
        }
        None => examine_flow(ip, segment, info).map(Parse::Flow),
    }
}

/// The header and what it carries, link padding cut off.
fn examine_ip(packet: &[u8], info: RxInfo) -> Result<(&ipv4::Header, &[u8]), Reason> {
    let (ip, _) = ipv4::Header::ref_from_prefix(packet).map_err(|_| Reason::Truncated)?;
    if ip.version() != 4 {
        return Err(Reason::IpVersion);
    }
    let header_length = usize::from(ip.header_length());
    let total_length = usize::from(ip.total_length.get());
    if header_length < ipv4::LEN {
        return Err(Reason::IpHeaderLength);
    }
    if total_length < ipv4::LEN || total_length > usize::from(u16::MAX - L3) {
        return Err(Reason::IpTotalLength);
    }
    if header_length > total_length {
        return Err(Reason::IpHeaderLength);
    }
    let packet = packet.get(..total_length).ok_or(Reason::IpTotalLength)?;
    let (header, segment) = packet.split_at_checked(header_length).ok_or(Reason::Truncated)?;
    let right = match info.ip_checksum {
        ChecksumVerdict::Good => true,
        ChecksumVerdict::Bad => false,
        ChecksumVerdict::Unknown => checksum::verify(header),
    };
    if right { Ok((ip, segment)) } else { Err(Reason::IpChecksum) }
}

fn other_kind(ether: &ether::Header, ip: &ipv4::Header) -> Option<OtherKind> {
    if ether.destination.is_group() {
        return Some(OtherKind::NotForUs);
    }
    if ip.flags_fragment.get() & ipv4::FRAGMENT_MASK != 0 {
        return Some(OtherKind::Fragment);
    }
    match ip.protocol {
        ipv4::TCP | ipv4::UDP => None,
        ipv4::ICMP => Some(OtherKind::Icmp),
        protocol => Some(OtherKind::Protocol(protocol)),
    }
}

fn examine_flow(ip: &ipv4::Header, segment: &[u8], info: RxInfo) -> Result<Parsed, Reason> {
    if !is_host(ip.addresses.get()) {
        return Err(Reason::IpSource);
    }
    let (ports, tcp_flags) = match ip.protocol {
        ipv4::TCP => examine_tcp(segment)?,
        _ => examine_udp(segment)?,
    };
    if info.l4_checksum == ChecksumVerdict::Bad {
        return Err(Reason::L4Checksum);
    }
    Ok(Parsed {
        key: FlowKey { addresses: ip.addresses.get(), ports, protocol: ip.protocol },
        l3: L3,
        l4: L3 + u16::from(ip.header_length()),
        end: L3 + ip.total_length.get(),
        ttl: ip.ttl,
        tcp_flags,
    })
}

/// Ports and flags.
fn examine_tcp(segment: &[u8]) -> Result<(u32, u8), Reason> {
    let (tcp, _) = tcp::Header::ref_from_prefix(segment).map_err(|_| Reason::Truncated)?;
    let length = usize::from(tcp.header_length());
    if length < tcp::LEN || length > segment.len() {
        return Err(Reason::TcpDataOffset);
    }
    Ok((tcp.ports.get(), tcp.flags))
}

/// Ports and no flags.
fn examine_udp(segment: &[u8]) -> Result<(u32, u8), Reason> {
    let (udp, _) = udp::Header::ref_from_prefix(segment).map_err(|_| Reason::Truncated)?;
    let length = usize::from(udp.length.get());
    if length < udp::LEN || length > segment.len() {
        return Err(Reason::UdpLength);
    }
    Ok((udp.ports.get(), 0))
}
