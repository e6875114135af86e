//! The IPv6 header (RFC 8200) and the extension headers that may stand behind it.
//!
//! ```text
//!  0        4            12                16              24          31
//! │ version│ traffic class│ flow label                                  │
//! │ payload length                         │ next header   │ hop limit  │
//! │ source address, 16 bytes                                            │
//! │ destination address, 16 bytes                                       │
//! ```
//!
//! There is no header checksum: what protects the addresses is the transport's.

use std::net::Ipv6Addr;

use zerocopy::FromBytes;

use super::{Be16, Be32, Raw64};

/// Bytes of the header.
pub const LEN: usize = size_of::<Header>();
/// Smallest MTU of a link that carries IPv6 (RFC 8200 section 5).
pub const MTU_MIN: u16 = 1280;

/// Next header: hop-by-hop options.
pub const HOP_BY_HOP: u8 = 0;
/// Next header: routing.
pub const ROUTING: u8 = 43;
/// Next header: a piece of a packet.
pub const FRAGMENT: u8 = 44;
/// Next header: `ICMPv6`.
pub const ICMPV6: u8 = 58;
/// Next header: nothing.
pub const NO_NEXT: u8 = 59;
/// Next header: destination options.
pub const DESTINATION_OPTIONS: u8 = 60;

/// Most extension headers walked.
pub const EXTENSIONS_MAX: usize = 8;
/// Most bytes of extension headers walked.
pub const EXTENSION_BYTES_MAX: usize = 256;

/// Source then destination address as they lie in memory.
pub type Addresses = [u64; 4];

/// The header.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    zerocopy::FromBytes,
    zerocopy::IntoBytes,
    zerocopy::KnownLayout,
    zerocopy::Immutable,
    zerocopy::Unaligned,
)]
#[repr(C)]
pub struct Header {
    /// Version, traffic class, flow label.
    pub version_class_label: Be32,
    /// Bytes behind the header, extension headers included.
    pub payload_length: Be16,
    /// What comes behind the header.
    pub next_header: u8,
    /// Hops left.
    pub hop_limit: u8,
    /// Source then destination address, as they lie in memory.
    pub addresses: [Raw64; 4],
}

impl Header {
    /// IP version; 6 in a right packet.
    #[inline(always)]
    pub fn version(&self) -> u8 {
        self.version_class_label.to_bytes()[0] >> 4
    }

    /// DSCP and ECN.
    #[inline]
    pub fn traffic_class(&self) -> u8 {
        let [a, b, ..] = self.version_class_label.to_bytes();
        a << 4 | b >> 4
    }

    /// Both addresses.
    #[inline(always)]
    pub fn addresses(&self) -> Addresses {
        self.addresses.map(Raw64::get)
    }

    /// Source address.
    #[inline]
    pub fn source(&self) -> Ipv6Addr {
        split(self.addresses()).0
    }

    /// Destination address.
    #[inline]
    pub fn destination(&self) -> Ipv6Addr {
        split(self.addresses()).1
    }
}

/// The first word of a header with that traffic class and flow label 0.
pub fn version_class(traffic_class: u8) -> Be32 {
    Be32::new(6 << 28 | u32::from(traffic_class) << 20)
}

/// Source and destination as [`Header::addresses`] gives them.
#[inline(always)]
pub fn address_pair(source: Ipv6Addr, destination: Ipv6Addr) -> Addresses {
    zerocopy::transmute!([source.octets(), destination.octets()])
}

/// The reverse of [`address_pair`].
#[inline(always)]
pub fn split(addresses: Addresses) -> (Ipv6Addr, Ipv6Addr) {
    let [source, destination]: [[u8; 16]; 2] = zerocopy::transmute!(addresses);
    (source.into(), destination.into())
}

/// Where a walk over extension headers ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Walked {
    /// What follows: a transport protocol, [`FRAGMENT`], or anything that is not walked.
    pub protocol: u8,
    /// Where it starts, from the start of the IPv6 header.
    pub offset: usize,
    /// Is there a routing header whose way has not ended here?
    pub routed: bool,
}

/// Walks hop-by-hop, routing and destination options headers up to what follows them, or up to a
/// fragment header. `packet` starts with the IPv6 header. `None` if a header is cut off, or there
/// are more than [`EXTENSIONS_MAX`] or [`EXTENSION_BYTES_MAX`] bytes of them.
pub fn walk(packet: &[u8]) -> Option<Walked> {
    let (header, _) = Header::ref_from_prefix(packet).ok()?;
    let mut walked = Walked { protocol: header.next_header, offset: LEN, routed: false };
    for _ in 0..=EXTENSIONS_MAX {
        if !matches!(walked.protocol, HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS) {
            return Some(walked);
        }
        let &[next, length, _, segments_left] = packet.get(walked.offset..)?.first_chunk()?;
        walked.routed |= walked.protocol == ROUTING && segments_left > 0;
        walked.protocol = next;
        walked.offset += (usize::from(length) + 1) * 8;
        if walked.offset > packet.len() || walked.offset > LEN + EXTENSION_BYTES_MAX {
            return None;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header whose next header is `first`, and behind it headers of `(next, eighths - 1)`.
    fn packet(first: u8, extensions: &[(u8, u8)]) -> Vec<u8> {
        let mut bytes = vec![0x60, 0, 0, 0, 0, 0, first, 64];
        bytes.extend([0; 32]);
        for (next, length) in extensions {
            bytes.extend([*next, *length]);
            bytes.extend(vec![0; usize::from(*length) * 8 + 6]);
        }
        bytes
    }

    #[test]
    fn the_walk_ends_at_what_is_no_option() {
        let table = [
            (packet(6, &[]), Some((6, 40))),
            (packet(HOP_BY_HOP, &[(17, 0)]), Some((17, 48))),
            (packet(HOP_BY_HOP, &[(DESTINATION_OPTIONS, 1), (6, 0)]), Some((6, 64))),
            (packet(HOP_BY_HOP, &[(FRAGMENT, 0)]), Some((FRAGMENT, 48))),
            (packet(NO_NEXT, &[]), Some((NO_NEXT, 40))),
            (packet(HOP_BY_HOP, &[(DESTINATION_OPTIONS, 0); 8]), None),
            (packet(HOP_BY_HOP, &[(6, 40)]), None),
        ];
        for (bytes, expected) in table {
            assert_eq!(walk(&bytes).map(|walked| (walked.protocol, walked.offset)), expected);
        }
    }

    #[test]
    fn a_header_cut_off_ends_the_walk_without_an_answer() {
        let whole = packet(HOP_BY_HOP, &[(6, 1)]);
        for length in 0..whole.len() {
            assert_eq!(walk(&whole[..length]), None, "{length} bytes");
        }
    }

    #[test]
    fn a_routing_header_with_segments_left_is_seen() {
        let mut bytes = packet(ROUTING, &[(6, 0)]);
        assert!(!walk(&bytes).unwrap().routed);
        bytes[LEN + 3] = 1;
        assert!(walk(&bytes).unwrap().routed);
    }

    #[test]
    fn addresses_and_classes_are_where_the_header_has_them() {
        let (a, b): (Ipv6Addr, Ipv6Addr) =
            ("2001:db8::1".parse().unwrap(), "2001:db8::2".parse().unwrap());
        assert_eq!(split(address_pair(a, b)), (a, b));
        let mut bytes = packet(6, &[]);
        bytes[..4].copy_from_slice(&version_class(0xb8).to_bytes());
        let header = Header::ref_from_bytes(&bytes).unwrap();
        assert_eq!((header.version(), header.traffic_class()), (6, 0xb8));
    }
}
