//! Bytes become a small valid value, or the reason why not.
//!
//! [`parse`] first tries what nearly every packet is: untagged IPv4 or IPv6 without options, whole,
//! TCP or UDP, to one station. That path is a handful of loads and compares on the first cache
//! lines and asks only yes or no. Anything it refuses goes to [`examine`], which is a complete parser by
//! itself, looks at one header after the other and names what it finds. Whatever the first accepts
//! the second would accept with the same result; a property holds them to it.
//!
//! ```text
//! 0          14 = l3        l4 = l3 + IHL            end = l3 + total length
//! │ Ethernet │ IP, options   │ TCP, UDP or SCTP …    │ link padding │
//! ```
//!
//! A hot loop asks [`common`] and, of what that refuses, [`examine`], rather than match on [`parse`]:
//! a value that may come out of either goes through memory, which costs as much as the parsing.
//!
//! Neither panics, whatever the bytes. Checksums: the IPv4 header's is verified here unless the
//! port did; the transport's is the receiver's business (RFC 1624 keeps a wrong one wrong) unless
//! the port says it is bad.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use zerocopy::FromBytes;

use super::conn::key::FlowKey;
use super::family::Family;
use super::io::{ChecksumVerdict, RxInfo};
use super::verdict::Reason;
use crate::wire::{checksum, ether, ipv4, ipv6, tcp, udp};

mod examine;
mod transport;

pub use examine::examine;
pub(super) use transport::first_piece;

/// A TCP, UDP or SCTP packet that could belong to a connection. Offsets are proven: `l3` plus the
/// IP header `<= l4`, `l4` plus the fixed transport header `<= end`, `end` within the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parsed<F: Family = Ipv4Addr> {
    /// Its 5-tuple.
    pub key: FlowKey<F>,
    /// Offset of the IP header.
    pub l3: u16,
    /// Offset of the transport header.
    pub l4: u16,
    /// End of the IP packet; link padding may follow.
    pub end: u16,
    /// Time to live, or hop limit, as received.
    pub ttl: u8,
    /// What it tells the state machine: TCP flags, or the number of an SCTP event; 0 for UDP.
    pub signal: u8,
}

impl<F: Family> Parsed<F> {
    /// Bytes of the IP packet, its header included.
    #[inline(always)]
    pub fn length(&self) -> u16 {
        self.end - self.l3
    }
}

/// What a frame turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parse {
    /// TCP, UDP or SCTP over IPv4 to this station.
    Flow(Parsed),
    /// The same over IPv6.
    Flow6(Parsed<Ipv6Addr>),
    /// IP, but nothing that can be looked up.
    Other(Other),
    /// Not IP (ARP, LLDP): the kernel's.
    NotIp,
    /// Refused.
    Drop(Reason),
}

/// An IP packet with a right header that is not looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Other {
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// Why it is not looked up.
    pub kind: OtherKind,
}

/// Why an IP packet is not looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtherKind {
    /// Sent to a group of stations on the link (broadcast, multicast): never balanced.
    NotForUs,
    /// A piece of a packet, the first included.
    Fragment,
    /// ICMP or `ICMPv6`.
    Icmp,
    /// `ICMPv6` neighbour discovery (RFC 4861): the kernel's, as ARP is.
    Neighbor,
    /// IPv6 extension headers, or IPv4 options, that are cut off, too many, or route it elsewhere.
    Extensions,
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

/// The first 62 bytes of a common IPv6 frame.
#[derive(zerocopy::FromBytes, zerocopy::KnownLayout, zerocopy::Immutable, zerocopy::Unaligned)]
#[repr(C)]
struct Head6 {
    ether: ether::Header,
    ip: ipv6::Header,
    udp: udp::Header,
}

/// The same, as far as TCP goes.
#[derive(zerocopy::FromBytes, zerocopy::KnownLayout, zerocopy::Immutable, zerocopy::Unaligned)]
#[repr(C)]
struct TcpHead6 {
    ether: ether::Header,
    ip: ipv6::Header,
    tcp: tcp::Header,
}

/// Where the IP header of an untagged frame starts.
const L3: u16 = 14;
/// Where the transport header starts behind an IPv6 header.
const L4_V6: u16 = 54;
/// Where the transport header starts when the IPv4 header has no options.
const L4: u16 = 34;

/// Reads a frame, knowing what its port found out about it: [`common`], else [`examine`].
#[inline(always)]
pub fn parse(frame: &[u8], info: RxInfo) -> Parse {
    if let Some(parsed) = common(frame, info) {
        Parse::Flow(parsed)
    } else if let Some(parsed) = common_v6(frame, info) {
        Parse::Flow6(parsed)
    } else {
        examine(frame, info)
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
    let signal = match ip.protocol {
        ipv4::TCP => {
            let (TcpHead { tcp, .. }, _) = TcpHead::ref_from_prefix(frame).ok()?;
            common_tcp(tcp, room)?
        }
        ipv4::UDP => common_udp(udp, room)?,
        _ => return None,
    };
    let key = FlowKey { addresses, ports: udp.ports.get(), protocol: ip.protocol };
    Some(Parsed { key, l3: L3, l4: L4, end, ttl: ip.ttl, signal })
}

/// The common case of IPv6, or `None`: anything else.
#[inline(always)]
pub fn common_v6(frame: &[u8], info: RxInfo) -> Option<Parsed<Ipv6Addr>> {
    let (Head6 { ether, ip, udp }, _) = Head6::ref_from_prefix(frame).ok()?;
    let addresses = ip.addresses();
    let room = ip.payload_length.get();
    let end = L4_V6.checked_add(room)?;
    if ether.ethertype.get() != ether::IPV6
        || ip.version() != 6
        || ether.destination.is_group()
        || usize::from(end) > frame.len()
        || is_refused(info)
        || !is_host_v6(addresses)
    {
        return None;
    }
    let signal = match ip.next_header {
        ipv4::TCP => {
            let (TcpHead6 { tcp, .. }, _) = TcpHead6::ref_from_prefix(frame).ok()?;
            common_tcp(tcp, room)?
        }
        ipv4::UDP => common_udp(udp, room)?,
        _ => return None,
    };
    let key = FlowKey { addresses, ports: udp.ports.get(), protocol: ip.next_header };
    Some(Parsed { key, l3: L3, l4: L4_V6, end, ttl: ip.hop_limit, signal })
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
fn common_tcp(tcp: &tcp::Header, room: u16) -> Option<u8> {
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

/// Can a host have sent an IPv6 packet with these addresses? Not from nobody, `::1`, a group, its own
/// destination, nor with an IPv4-mapped address, which is never on a wire (RFC 4291 section
/// 2.5.5.2) and means something in the connection table.
#[inline(always)]
pub(super) fn is_host_v6(addresses: ipv6::Addresses) -> bool {
    let [a, b, c, d] = addresses;
    let is_group = a.to_ne_bytes()[0] == 0xff;
    let is_nobody = a == 0 && u64::from_be(b) <= 1;
    let is_mapped = is_mapped([a, b]) || is_mapped([c, d]);
    !is_group && !is_nobody && !is_mapped && [a, b] != [c, d]
}

/// Is it `::ffff:a.b.c.d`?
#[inline(always)]
fn is_mapped([high, low]: [u64; 2]) -> bool {
    high == 0 && u64::from_be(low) >> 32 == 0xffff
}
