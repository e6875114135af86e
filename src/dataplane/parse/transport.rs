//! The transport header of any packet: ports and what it tells the state machine.

use zerocopy::FromBytes;

use crate::dataplane::conn::state::sctp::event;
use crate::dataplane::verdict::Reason;
use crate::wire::{ipv4, sctp, tcp, udp};

/// What a transport header says: ports as they lie in memory, and the signal.
pub(super) type Said = (u32, u8);

/// Reads the header at the front of `segment`, which is the whole rest of the IP packet.
pub(super) fn examine(protocol: u8, segment: &[u8]) -> Result<Said, Reason> {
    match protocol {
        ipv4::TCP => examine_tcp(segment),
        ipv4::SCTP => examine_sctp(segment),
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

/// Ports and event.
fn examine_sctp(packet: &[u8]) -> Result<Said, Reason> {
    let (sctp, chunks) = sctp::Header::ref_from_prefix(packet).map_err(|_| Reason::Truncated)?;
    let event = event(chunks).ok_or(Reason::Truncated)?;
    Ok((sctp.ports.get(), event as u8))
}

/// Ports and signal of a first piece, which must hold the whole transport header; the packet's
/// length is not the piece's.
pub(in crate::dataplane) fn first_piece(protocol: u8, segment: &[u8]) -> Result<Said, Reason> {
    let tiny = |_| Reason::FragmentTiny;
    match protocol {
        ipv4::UDP => {
            let (udp, _) =
                udp::Header::ref_from_prefix(segment).map_err(|_| Reason::FragmentTiny)?;
            Ok((udp.ports.get(), 0))
        }
        _ => examine(protocol, segment).map_err(tiny),
    }
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
