//! An independent reader of what was written: `etherparse`, strict, and its own checksums.

use std::net::Ipv4Addr;

use etherparse::{NetSlice, SlicedPacket, TransportSlice};

/// What the oracle thinks of a frame's checksums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Judgement {
    /// Source address.
    pub(crate) source: Ipv4Addr,
    /// Destination address.
    pub(crate) destination: Ipv4Addr,
    /// Source and destination port; 0 for ICMP.
    pub(crate) ports: (u16, u16),
    /// The IPv4 header checksum is right.
    pub(crate) ip_right: bool,
    /// The transport checksum is right, or UDP has none.
    pub(crate) l4_right: bool,
}

/// Is this the checksum, or zero's other face? A receiver, which sums, cannot tell them apart.
fn same(right: u16, written: u16) -> bool {
    written == right || (right == 0 && written == 0xffff)
}

/// Reads a frame; an error if `etherparse` refuses it or finds no whole TCP, UDP or ICMP in it.
pub(crate) fn judge(frame: &[u8]) -> Result<Judgement, String> {
    let sliced = SlicedPacket::from_ethernet(frame).map_err(|error| error.to_string())?;
    let Some(NetSlice::Ipv4(ip)) = &sliced.net else { return Err("not IPv4".to_owned()) };
    let ip = ip.header();
    let (from, to) = (ip.source(), ip.destination());
    let (ports, l4_right) = match &sliced.transport {
        Some(TransportSlice::Tcp(tcp)) => (
            (tcp.source_port(), tcp.destination_port()),
            tcp.calc_checksum_ipv4(from, to).is_ok_and(|right| same(right, tcp.checksum())),
        ),
        Some(TransportSlice::Udp(udp)) => {
            let right = udp.to_header().calc_checksum_ipv4_raw(from, to, udp.payload());
            let right = udp.checksum() == 0 || right.is_ok_and(|right| same(right, udp.checksum()));
            ((udp.source_port(), udp.destination_port()), right)
        }
        Some(TransportSlice::Icmpv4(icmp)) => {
            let right = icmp.header().icmp_type.calc_checksum(icmp.payload());
            ((0, 0), same(right, icmp.checksum()))
        }
        _ => return Err("no transport header".to_owned()),
    };
    Ok(Judgement {
        source: ip.source_addr(),
        destination: ip.destination_addr(),
        ports,
        ip_right: same(ip.to_header().calc_header_checksum(), ip.header_checksum()),
        l4_right,
    })
}
