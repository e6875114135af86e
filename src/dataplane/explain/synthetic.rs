//! A packet that starts a flow, as a client would send it: a SYN, a datagram, an INIT.

use std::net::IpAddr;

use super::Flow;
use crate::dataplane::snapshot::Protocol;
use crate::wire::checksum::checksum;
use crate::wire::{Mac, ether};

/// A flag of TCP's.
const SYN: u8 = 0x02;
/// A TCP header without options, in the upper half of a byte.
const FIVE_WORDS: u8 = 5 << 4;
/// A window nobody minds.
const WINDOW: u16 = 0xffff;
/// SCTP's first chunk, and how long it is without parameters (RFC 9260, 3.3.2).
const INIT: u8 = 1;
const INIT_LEN: u16 = 20;
/// Hops it may take.
const TTL: u8 = 64;

/// The frame, from anybody on the link to that station; `None` where both ends are not of one family.
pub fn frame(flow: Flow, to: Mac) -> Option<Vec<u8>> {
    let ports = [flow.source.port(), flow.destination.port()].map(u16::to_be_bytes).concat();
    let payload = [ports, transport(flow.protocol)].concat();
    let length = u16::try_from(payload.len()).ok()?;
    let (kind, header) = match (flow.source.ip(), flow.destination.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let [high, low] = (length + 20).to_be_bytes();
            let mut header =
                vec![0x45, 0, high, low, 0, 0, 0x40, 0, TTL, flow.protocol as u8, 0, 0];
            header.extend(from.octets());
            header.extend(to.octets());
            let sum = checksum(&header).to_ne_bytes();
            header.get_mut(10..12)?.copy_from_slice(&sum);
            (ether::IPV4, header)
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let [high, low] = length.to_be_bytes();
            let mut header = vec![0x60, 0, 0, 0, high, low, flow.protocol as u8, TTL];
            header.extend(from.octets());
            header.extend(to.octets());
            (ether::IPV6, header)
        }
        _ => return None,
    };
    let stranger = Mac([2, 0, 0, 0, 0, 1]);
    Some([&to.0[..], &stranger.0, &kind.to_be_bytes(), &header, &payload].concat())
}

/// What follows the ports.
fn transport(protocol: Protocol) -> Vec<u8> {
    match protocol {
        Protocol::Tcp => {
            let mut bytes = vec![0, 0, 0, 1, 0, 0, 0, 0, FIVE_WORDS, SYN];
            bytes.extend(WINDOW.to_be_bytes());
            bytes.extend([0; 4]);
            bytes
        }
        // A length, no checksum, and something to say.
        Protocol::Udp => vec![0, 12, 0, 0, b'p', b'i', b'n', b'g'],
        Protocol::Sctp => {
            let [high, low] = INIT_LEN.to_be_bytes();
            let mut bytes = vec![0; 8];
            bytes.extend([INIT, 0, high, low]);
            // A tag, a window, streams both ways, a first number.
            bytes.extend([0, 0, 0, 1, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1]);
            bytes
        }
    }
}
