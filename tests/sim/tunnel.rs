//! Outer headers of tunnel mode, read and written a second time, by the reference's words alone.
//!
//! A backend takes the outer header off with [`unwrap`]; the model says with [`wrap`] what it must
//! have been, byte for byte. Only two fields are the balancer's free choice, and each has a rule of
//! its own in the model: the identification of a packet that may be cut, and GUE's source port.

use std::net::Ipv4Addr;

use shunt::dataplane::snapshot::{Encapsulation, GueChecksum};

use crate::packet::LINK;
use crate::packets::builder::sum;

/// The destination port of GUE in every scenario.
pub(crate) const GUE_PORT: u16 = 6080;

/// What is not the client's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outer {
    pub(crate) ends: (Ipv4Addr, Ipv4Addr),
    pub(crate) id: u16,
    /// GUE's; else 0.
    pub(crate) source_port: u16,
}

/// Bytes an outer header adds.
pub(crate) fn overhead(encapsulation: Encapsulation) -> usize {
    match encapsulation {
        Encapsulation::Ipip => 20,
        Encapsulation::Gre { checksum: false } => 24,
        Encapsulation::Gre { checksum: true } => 28,
        Encapsulation::Gue { .. } => 32,
    }
}

/// Takes an outer header off: it, and the frame as if there had been none. `None` if there is none.
pub(crate) fn unwrap(frame: &[u8]) -> Option<(Outer, Vec<u8>)> {
    let ip = frame.get(LINK..LINK + 20)?;
    let rest = frame.get(LINK + 20..)?;
    let word =
        |bytes: &[u8], at: usize| Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
    let (middle, source_port) = match ip[9] {
        4 => (0, 0),
        47 => (if rest.first()? & 0x80 == 0 { 4 } else { 8 }, 0),
        17 if word(rest, 2)? == GUE_PORT => (12, word(rest, 0)?),
        _ => return None,
    };
    let address = |at: usize| Ipv4Addr::new(ip[at], ip[at + 1], ip[at + 2], ip[at + 3]);
    let outer = Outer { ends: (address(12), address(16)), id: word(ip, 4)?, source_port };
    Some((outer, [&frame[..LINK], rest.get(middle..)?].concat()))
}

/// Puts an outer header around a frame that is otherwise ready.
pub(crate) fn wrap(inner: &[u8], outer: &Outer, encapsulation: Encapsulation) -> Vec<u8> {
    let (link, packet) = inner.split_at(LINK);
    let addresses = [outer.ends.0.octets(), outer.ends.1.octets()].concat();
    let middle = middle(packet, outer, &addresses, encapsulation);
    let length = u16::try_from(20 + middle.len() + packet.len()).unwrap();
    // A mark of congestion stays inside; outside it says "capable of it".
    let tos = if packet[1] & 3 == 3 { packet[1] - 1 } else { packet[1] };
    let mut ip = vec![0x45, tos];
    ip.extend(length.to_be_bytes());
    ip.extend(outer.id.to_be_bytes());
    ip.extend([packet[6] & 0x40, 0, packet[8], protocol(encapsulation), 0, 0]);
    ip.extend(&addresses);
    let checksum = !sum(&ip);
    ip[10..12].copy_from_slice(&checksum.to_be_bytes());
    [link, &ip, &middle, packet].concat()
}

fn protocol(encapsulation: Encapsulation) -> u8 {
    match encapsulation {
        Encapsulation::Ipip => 4,
        Encapsulation::Gre { .. } => 47,
        Encapsulation::Gue { .. } => 17,
    }
}

/// What stands between the outer IPv4 header and the packet.
fn middle(packet: &[u8], outer: &Outer, addresses: &[u8], kind: Encapsulation) -> Vec<u8> {
    match kind {
        Encapsulation::Ipip => vec![],
        Encapsulation::Gre { checksum: false } => vec![0, 0, 8, 0],
        Encapsulation::Gre { checksum: true } => {
            let mut header = vec![0x80, 0, 8, 0, 0, 0, 0, 0];
            let checksum = !sum(&[&header, packet].concat());
            header[4..6].copy_from_slice(&checksum.to_be_bytes());
            header
        }
        Encapsulation::Gue { port, checksum } => {
            let length = u16::try_from(12 + packet.len()).unwrap().to_be_bytes();
            let mut header = [outer.source_port.to_be_bytes(), port.to_be_bytes(), length].concat();
            header.extend([0, 0, 0, 4, 0, 0]);
            if checksum != GueChecksum::Zero {
                let pseudo = [addresses, &[0, 17], &length, &header, packet].concat();
                let sum = !sum(&pseudo);
                let sum = if sum == 0 { 0xffff } else { sum };
                header[6..8].copy_from_slice(&sum.to_be_bytes());
            }
            header
        }
    }
}
