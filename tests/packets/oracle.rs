//! An independent reader of what was written: `etherparse`, strict, and its own checksums. SCTP,
//! which it does not know, is read here, its CRC a bit at a time.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::builder::{crc32c, sum};
use etherparse::{
    Icmpv4Slice, Icmpv6Slice, IpNumber, NetSlice, SlicedPacket, TcpSlice, TransportSlice, UdpSlice,
};

/// What the oracle thinks of a frame's checksums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Judgement<A = Ipv4Addr> {
    /// Source address.
    pub(crate) source: A,
    /// Destination address.
    pub(crate) destination: A,
    /// Source and destination port; 0 for ICMP.
    pub(crate) ports: (u16, u16),
    /// The IPv4 header checksum is right; IPv6 has none.
    pub(crate) ip_right: bool,
    /// The transport checksum is right, or UDP over IPv4 has none.
    pub(crate) l4_right: bool,
}

/// Is this the checksum, or zero's other face? A receiver, which sums, cannot tell them apart.
fn same(right: u16, written: u16) -> bool {
    written == right || (right == 0 && written == 0xffff)
}

/// Reads an IPv4 frame; an error if `etherparse` refuses it or it has no whole TCP, UDP, SCTP or
/// ICMP in it.
pub(crate) fn judge(frame: &[u8]) -> Result<Judgement, String> {
    let seen = judge_any(frame)?;
    let (IpAddr::V4(source), IpAddr::V4(destination)) = (seen.source, seen.destination) else {
        return Err("not IPv4".to_owned());
    };
    let Judgement { ports, ip_right, l4_right, .. } = seen;
    Ok(Judgement { source, destination, ports, ip_right, l4_right })
}

/// Reads an IPv6 frame in the same way.
pub(crate) fn judge_v6(frame: &[u8]) -> Result<Judgement<Ipv6Addr>, String> {
    let seen = judge_any(frame)?;
    let (IpAddr::V6(source), IpAddr::V6(destination)) = (seen.source, seen.destination) else {
        return Err("not IPv6".to_owned());
    };
    let Judgement { ports, ip_right, l4_right, .. } = seen;
    Ok(Judgement { source, destination, ports, ip_right, l4_right })
}

/// Reads a frame of either family.
pub(crate) fn judge_any(frame: &[u8]) -> Result<Judgement<IpAddr>, String> {
    let sliced = SlicedPacket::from_ethernet(frame).map_err(|error| error.to_string())?;
    let (source, destination, ip_right) = match &sliced.net {
        Some(NetSlice::Ipv4(ip)) => {
            let ip = ip.header();
            let right = same(ip.to_header().calc_header_checksum(), ip.header_checksum());
            (ip.source_addr().into(), ip.destination_addr().into(), right)
        }
        Some(NetSlice::Ipv6(ip)) => {
            let ip = ip.header();
            (ip.source_addr().into(), ip.destination_addr().into(), true)
        }
        _ => return Err("not IP".to_owned()),
    };
    let ends = (source, destination);
    let (ports, l4_right) = match &sliced.transport {
        Some(TransportSlice::Tcp(tcp)) => {
            ((tcp.source_port(), tcp.destination_port()), tcp_right(tcp, ends))
        }
        Some(TransportSlice::Udp(udp)) => {
            ((udp.source_port(), udp.destination_port()), udp_right(udp, ends))
        }
        Some(TransportSlice::Icmpv4(icmp)) => ((0, 0), icmp_right(icmp)),
        Some(TransportSlice::Icmpv6(icmp)) => ((0, 0), icmpv6_right(icmp, ends)),
        _ => sctp(&sliced).ok_or("no transport header")?,
    };
    Ok(Judgement { source, destination, ports, ip_right, l4_right })
}

/// Ports of an SCTP packet with a chunk, and whether its CRC is right.
fn sctp(sliced: &SlicedPacket<'_>) -> Option<((u16, u16), bool)> {
    let carried = sliced.ip_payload().filter(|ip| ip.ip_number == IpNumber::SCTP)?;
    let mut packet = carried.payload.to_vec();
    let word =
        |at: usize| Some(u16::from_be_bytes(carried.payload.get(at..at + 2)?.try_into().ok()?));
    let (source, destination, length) = (word(0)?, word(2)?, word(14)?);
    let crc = packet.get(8..12)?.to_vec();
    packet[8..12].fill(0);
    (length >= 4).then(|| ((source, destination), crc == crc32c(&packet).to_le_bytes()))
}

fn tcp_right(tcp: &TcpSlice<'_>, ends: (IpAddr, IpAddr)) -> bool {
    let right = match ends {
        (IpAddr::V4(from), IpAddr::V4(to)) => tcp.calc_checksum_ipv4(from.octets(), to.octets()),
        (IpAddr::V6(from), IpAddr::V6(to)) => tcp.calc_checksum_ipv6(from.octets(), to.octets()),
        _ => return false,
    };
    right.is_ok_and(|right| same(right, tcp.checksum()))
}

fn udp_right(udp: &UdpSlice<'_>, ends: (IpAddr, IpAddr)) -> bool {
    let (header, payload) = (udp.to_header(), udp.payload());
    let right = match ends {
        (IpAddr::V4(_), _) if udp.checksum() == 0 => return true,
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            header.calc_checksum_ipv4_raw(from.octets(), to.octets(), payload)
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            header.calc_checksum_ipv6_raw(from.octets(), to.octets(), payload)
        }
        _ => return false,
    };
    right.is_ok_and(|right| same(right, udp.checksum()))
}

fn icmp_right(icmp: &Icmpv4Slice<'_>) -> bool {
    // Over all of it: types read into fields lose the length of RFC 4884.
    sum(icmp.slice()) == 0xffff
}

fn icmpv6_right(icmp: &Icmpv6Slice<'_>, ends: (IpAddr, IpAddr)) -> bool {
    let (IpAddr::V6(from), IpAddr::V6(to)) = ends else { return false };
    icmp.is_checksum_valid(from.octets(), to.octets())
}
