//! Outer headers of tunnel mode, read and written a second time, by the reference's words alone.
//!
//! A backend takes the outer header off with [`unwrap`]; the model says with [`wrap`] what it must
//! have been, byte for byte. Only two fields are the balancer's free choice, and each has a rule of
//! its own in the model: the identification of a packet that may be cut, and GUE's source port.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use shunt::dataplane::snapshot::{Encapsulation, GueChecksum};

use crate::packet::LINK;
use crate::packets::builder::sum;
use crate::rng::Rng;

/// The destination port of GUE in every scenario.
pub(crate) const GUE_PORT: u16 = 6080;

/// What is not the client's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outer {
    pub(crate) ends: (IpAddr, IpAddr),
    /// IPv4's; else 0.
    pub(crate) id: u16,
    /// GUE's; else 0.
    pub(crate) source_port: u16,
}

/// Some way to wrap.
pub(crate) fn any(rng: &mut Rng) -> Encapsulation {
    let checksum = rng.chance(500);
    rng.pick(&[
        Encapsulation::Ipip,
        Encapsulation::Gre { checksum },
        Encapsulation::Gue {
            port: GUE_PORT,
            checksum: if checksum { GueChecksum::Outer } else { GueChecksum::Zero },
        },
    ])
}

/// Bytes an outer header to that backend adds.
pub(crate) fn overhead(encapsulation: Encapsulation, backend: IpAddr) -> usize {
    let middle = match encapsulation {
        Encapsulation::Ipip => 0,
        Encapsulation::Gre { checksum: false } => 4,
        Encapsulation::Gre { checksum: true } => 8,
        Encapsulation::Gue { .. } => 12,
    };
    middle + if backend.is_ipv6() { 40 } else { 20 }
}

/// Takes an outer header off: it, and the frame as if there had been none. `None` if there is none.
pub(crate) fn unwrap(frame: &[u8]) -> Option<(Outer, Vec<u8>)> {
    let ip = frame.get(LINK..)?;
    let is_v6 = ip.first()? >> 4 == 6;
    let rest = ip.get(if is_v6 { 40 } else { 20 }..)?;
    let word =
        |bytes: &[u8], at: usize| Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
    let (middle, source_port) = match ip[if is_v6 { 6 } else { 9 }] {
        4 | 41 => (0, 0),
        47 => (if rest.first()? & 0x80 == 0 { 4 } else { 8 }, 0),
        17 if word(rest, 2)? == GUE_PORT => (12, word(rest, 0)?),
        _ => return None,
    };
    let v4 = |at: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(ip.get(at..at + 4)?).ok()?));
    let v6 = |at: usize| Some(Ipv6Addr::from(<[u8; 16]>::try_from(ip.get(at..at + 16)?).ok()?));
    let ends =
        if is_v6 { (v6(8)?.into(), v6(24)?.into()) } else { (v4(12)?.into(), v4(16)?.into()) };
    let id = if is_v6 { 0 } else { word(ip, 4)? };
    let inner = rest.get(middle..)?;
    let ethertype = if inner.first()? >> 4 == 6 { [0x86, 0xdd] } else { [8, 0] };
    Some((Outer { ends, id, source_port }, [&frame[..LINK - 2], &ethertype, inner].concat()))
}

/// Puts an outer header around a frame that is otherwise ready; `whole`: nobody may cut it.
pub(crate) fn wrap(
    inner: &[u8],
    outer: &Outer,
    encapsulation: Encapsulation,
    whole: bool,
) -> Vec<u8> {
    let (link, packet) = inner.split_at(LINK);
    let middle = middle(packet, outer, encapsulation);
    let is_v6 = packet[0] >> 4 == 6;
    let (tos, ttl) =
        if is_v6 { (packet[0] << 4 | packet[1] >> 4, packet[7]) } else { (packet[1], packet[8]) };
    let df = if whole { 0x40 } else { 0 };
    // A mark of congestion stays inside; outside it says "capable of it".
    let tos = if tos & 3 == 3 { tos - 1 } else { tos };
    let protocol = match encapsulation {
        Encapsulation::Ipip if is_v6 => 41,
        Encapsulation::Ipip => 4,
        Encapsulation::Gre { .. } => 47,
        Encapsulation::Gue { .. } => 17,
    };
    let length = u16::try_from(middle.len() + packet.len()).unwrap();
    let ip = if outer.ends.0.is_ipv6() {
        let lengths = [length.to_be_bytes(), [protocol, ttl]].concat();
        [&[0x60 | tos >> 4, tos << 4, 0, 0], &lengths[..], &addresses(outer)].concat()
    } else {
        let (length, id) = ((length + 20).to_be_bytes(), outer.id.to_be_bytes());
        let front = [&[0x45, tos], &length[..], &id, &[df, 0, ttl, protocol, 0, 0]].concat();
        let mut ip = [front, addresses(outer)].concat();
        let checksum = !sum(&ip);
        ip[10..12].copy_from_slice(&checksum.to_be_bytes());
        ip
    };
    let ethertype = if outer.ends.0.is_ipv6() { [0x86, 0xdd] } else { [8, 0] };
    [&link[..LINK - 2], &ethertype, &ip[..], &middle, packet].concat()
}

fn addresses(outer: &Outer) -> Vec<u8> {
    match outer.ends {
        (IpAddr::V4(from), IpAddr::V4(to)) => [from.octets(), to.octets()].concat(),
        (IpAddr::V6(from), IpAddr::V6(to)) => [from.octets(), to.octets()].concat(),
        ends => panic!("{ends:?} are of two families"),
    }
}

/// What stands between the outer IP header and the packet.
fn middle(packet: &[u8], outer: &Outer, kind: Encapsulation) -> Vec<u8> {
    let is_v6 = packet[0] >> 4 == 6;
    let (protocol, ethertype) = if is_v6 { (41, [0x86, 0xdd]) } else { (4, [8, 0]) };
    match kind {
        Encapsulation::Ipip => vec![],
        Encapsulation::Gre { checksum: false } => vec![0, 0, ethertype[0], ethertype[1]],
        Encapsulation::Gre { checksum: true } => {
            let mut header = vec![0x80, 0, ethertype[0], ethertype[1], 0, 0, 0, 0];
            let checksum = !sum(&[&header, packet].concat());
            header[4..6].copy_from_slice(&checksum.to_be_bytes());
            header
        }
        Encapsulation::Gue { port, checksum } => {
            let length = u16::try_from(12 + packet.len()).unwrap().to_be_bytes();
            let mut header = [outer.source_port.to_be_bytes(), port.to_be_bytes(), length].concat();
            header.extend([0, 0, 0, protocol, 0, 0]);
            if checksum != GueChecksum::Zero {
                let pseudo = [&addresses(outer)[..], &[0, 17], &length, &header, packet].concat();
                let sum = !sum(&pseudo);
                let sum = if sum == 0 { 0xffff } else { sum };
                header[6..8].copy_from_slice(&sum.to_be_bytes());
            }
            header
        }
    }
}
