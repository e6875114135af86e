//! Outer headers of tunnels, spelled out.
//!
//! ```text
//! ipip  IP (4 or 41)                                            inner
//! gre   IP (47) │ flags, ethertype [checksum, 0]              │ inner
//! gue   IP (17) │ UDP, port 6080 │ 0x00 or 0x02, 4 or 41, …   │ inner
//! ```

use std::net::IpAddr;

use shunt::dataplane::snapshot::{Encapsulation, GueChecksum, Mode};

use super::setup::{Ip, V4};
use crate::packets::builder::sum;
use crate::packets::{Builder, packet};

/// GUE's source port in expected frames, for any that is ephemeral and the flow's own.
pub(crate) const SOURCE_PORT: u16 = 50_000;
/// An identification in expected frames, of a header or an IPv6 fragment, for any that is not 0.
pub(crate) const FRESH: u16 = 0xf4e5;

/// Around `inner`, which is already one hop on: what leaves for the backend in a tunnel of that
/// kind and family. TOS as said, TTL as inside; DF and identification as for one that must stay
/// whole.
pub(crate) fn wrapped(inner: &Builder, mode: Mode, outer: Ip, tos: u8) -> Builder {
    let Mode::Tunnel(kind) = mode else { panic!("{mode:?} is no tunnel") };
    let v6_inside = inner.addresses().0.is_ipv6();
    let ends = ((outer.ours(), SOURCE_PORT), (outer.host(11), 6080));
    let frame = packet().between(ends.0, ends.1).onward().ttl(inner.ttl_value()).tos(tos);
    // IPv6 knows no DF: around it, any router may cut.
    let frame = if v6_inside { loosely(frame) } else { frame.identification(0) };
    let (number, packet) = (if v6_inside { 41 } else { 4 }, inner.ip_packet());
    match kind {
        Encapsulation::Ipip => frame.protocol(number).payload(&packet),
        Encapsulation::Gre { checksum } => {
            frame.protocol(47).payload(&gre(checksum, v6_inside, &packet))
        }
        Encapsulation::Gue { checksum, .. } => {
            let payload = match checksum {
                GueChecksum::Remote => remote(number, inner),
                _ => [&[0, number, 0, 0][..], &packet].concat(),
            };
            let frame = frame.udp(ends.0, ends.1).payload(&payload);
            if checksum == GueChecksum::Zero { frame.without_checksum() } else { frame }
        }
    }
}

/// The same around a packet that may be cut: DF clear, a fresh identification.
pub(crate) fn loosely(outer: Builder) -> Builder {
    if outer.addresses().0.is_ipv4() {
        outer.flags_fragment(0).identification(FRESH)
    } else {
        outer
    }
}

fn gre(checksum: bool, v6_inside: bool, packet: &[u8]) -> Vec<u8> {
    let ethertype = if v6_inside { [0x86, 0xdd] } else { [0x08, 0x00] };
    if !checksum {
        return [&[0, 0], &ethertype[..], packet].concat();
    }
    let mut bytes = [&[0x80, 0], &ethertype[..], &[0; 4], packet].concat();
    let checksum = !sum(&bytes);
    bytes[4..6].copy_from_slice(&checksum.to_be_bytes());
    bytes
}

/// GUE with the inner TCP or UDP checksum left to the receiver: it finds the sum of the pseudo
/// header there, and is told where to start and where the result goes.
fn remote(number: u8, inner: &Builder) -> Vec<u8> {
    let header = Ip::of(inner.addresses().0).header();
    let field = checksum_field(inner);
    let [start, field] = [header, field].map(|at| u16::try_from(at).unwrap());
    let options = [&[0x80, 0, 0, 0][..], &start.to_be_bytes(), &field.to_be_bytes()].concat();
    [&[2, number, 0, 1][..], &options, &left_to_the_receiver(inner)].concat()
}

/// Where a packet's TCP or UDP checksum is.
fn checksum_field(inner: &Builder) -> usize {
    let offset = if inner.protocol_number() == 6 { 16 } else { 6 };
    Ip::of(inner.addresses().0).header() + offset
}

/// The packet with the sum of the pseudo header for a checksum.
pub(crate) fn left_to_the_receiver(inner: &Builder) -> Vec<u8> {
    let mut packet = inner.ip_packet();
    let (header, field) = (Ip::of(inner.addresses().0).header(), checksum_field(inner));
    let octets = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let (from, to) = inner.addresses();
    let length = u16::try_from(packet.len() - header).unwrap().to_be_bytes();
    let pseudo = [octets(from), octets(to), vec![0, inner.protocol_number()], length.to_vec()];
    let partial = sum(&pseudo.concat());
    packet[field..field + 2].copy_from_slice(&partial.to_be_bytes());
    packet
}

/// Bytes that a tunnel of that kind and family puts in front of a packet.
pub(crate) fn overhead(mode: Mode, outer: Ip) -> usize {
    let shim = match mode {
        Mode::Tunnel(Encapsulation::Gre { checksum }) => 4 + 4 * usize::from(checksum),
        Mode::Tunnel(Encapsulation::Gue { checksum: GueChecksum::Remote, .. }) => 20,
        Mode::Tunnel(Encapsulation::Gue { .. }) => 12,
        _ => 0,
    };
    shim + if outer == V4 { 20 } else { 40 }
}
