//! The transport header's part of a translation: ports and checksum.
//!
//! TCP's and UDP's checksums change by a sum known beforehand; a UDP checksum of zero says "none"
//! and stays. SCTP's `CRC32c` covers ports and no addresses: it is computed anew, over the whole
//! packet, and only when a port has changed.

use zerocopy::FromBytes;

use crate::dataplane::family::Family;
use crate::dataplane::parse::Parsed;
use crate::wire::checksum::Delta;
use crate::wire::{ipv4, sctp, tcp, udp};

/// Stores new ports and what they do to the checksum. `rest` starts at the transport header and
/// reaches to the frame's end.
#[inline(always)]
pub(in crate::dataplane) fn rewrite<F: Family>(
    rest: &mut [u8],
    parsed: &Parsed<F>,
    ports: u32,
    delta: Delta,
) -> bool {
    match parsed.key.protocol {
        ipv4::TCP => rewrite_tcp(rest, ports, delta),
        ipv4::UDP => rewrite_udp(rest, ports, delta),
        _ => rewrite_sctp(rest, parsed, ports),
    }
}

fn rewrite_sctp<F: Family>(rest: &mut [u8], parsed: &Parsed<F>, ports: u32) -> bool {
    let length = usize::from(parsed.end - parsed.l4);
    let Some(packet) = rest.get_mut(..length) else { return false };
    sctp::set_ports(packet, ports);
    true
}

#[inline(always)]
fn rewrite_tcp(transport: &mut [u8], ports: u32, delta: Delta) -> bool {
    let Ok((header, _)) = tcp::Header::mut_from_prefix(transport) else { return false };
    header.ports.set(ports);
    header.checksum.set(delta.apply(header.checksum.get()));
    true
}

#[inline(always)]
fn rewrite_udp(transport: &mut [u8], ports: u32, delta: Delta) -> bool {
    let Ok((header, _)) = udp::Header::mut_from_prefix(transport) else { return false };
    header.ports.set(ports);
    header.checksum.set(delta.apply_udp(header.checksum.get()));
    true
}
