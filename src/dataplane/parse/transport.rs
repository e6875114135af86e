//! The transport header of any packet: ports and what it tells the state machine.

use zerocopy::FromBytes;

use crate::dataplane::verdict::Reason;
use crate::wire::{ipv4, tcp, udp};

/// What a transport header says: ports as they lie in memory, and the signal.
pub(super) type Said = (u32, u8);

/// Reads the header at the front of `segment`, which is the whole rest of the IP packet.
pub(super) fn examine(protocol: u8, segment: &[u8]) -> Result<Said, Reason> {
    match protocol {
        ipv4::TCP => examine_tcp(segment),
        _ => examine_udp(segment),
    }
}

/// Ports and flags.
fn examine_tcp(segment: &[u8]) -> Result<Said, Reason> {
    let (tcp, _) = tcp::Header::ref_from_prefix(segment).map_err(|_| Reason::Truncated)?;
    let length = usize::from(tcp.header_length());
    if length < tcp::LEN || length > segment.len() {
        return Err(Reason::TcpDataOffset);
    }
    Ok((tcp.ports.get(), tcp.flags))
}

/// Ports and no signal.
fn examine_udp(segment: &[u8]) -> Result<Said, Reason> {
    let (udp, _) = udp::Header::ref_from_prefix(segment).map_err(|_| Reason::Truncated)?;
    let length = usize::from(udp.length.get());
    if length < udp::LEN || length > segment.len() {
        return Err(Reason::UdpLength);
    }
    Ok((udp.ports.get(), 0))
}
