//! The IPv4 header (RFC 791).
//!
//! ```text
//!  0        4        8                16   19                    31
//! │ version│ IHL    │ TOS            │ total length               │
//! │ identification                   │ 0 DF MF │ fragment offset  │
//! │ TTL             │ protocol       │ header checksum            │
//! │ source address                                                │
//! │ destination address                                           │
//! │ options, up to 40 bytes: IHL counts 32-bit words …            │
//! ```

use std::net::Ipv4Addr;

use super::{Be16, Raw16, Raw64};

/// Bytes of a header without options.
pub const LEN: usize = size_of::<Header>();
/// Version 4, five words: the first byte of a header without options.
pub const VERSION_IHL: u8 = 0x45;
/// The "don't fragment" bit of [`Header::flags_fragment`].
pub const DONT_FRAGMENT: u16 = 0x4000;
/// The "more fragments" bit of [`Header::flags_fragment`].
pub const MORE_FRAGMENTS: u16 = 0x2000;
/// "More fragments" and the fragment offset: all zero in a whole packet.
pub const FRAGMENT_MASK: u16 = 0x3fff;
/// The fragment offset alone.
pub const OFFSET_MASK: u16 = 0x1fff;

/// ICMP's protocol number.
pub const ICMP: u8 = 1;
/// TCP's protocol number.
pub const TCP: u8 = 6;
/// UDP's protocol number.
pub const UDP: u8 = 17;
/// SCTP's protocol number.
pub const SCTP: u8 = 132;

/// The fixed part of the header.
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
    /// Version in the high half, header length in 32-bit words in the low.
    pub version_ihl: u8,
    /// Type of service: DSCP and ECN.
    pub tos: u8,
    /// Bytes of header and payload.
    pub total_length: Be16,
    /// Identification, for reassembly.
    pub identification: Be16,
    /// Flags and fragment offset (in 8-byte units).
    pub flags_fragment: Be16,
    /// Time to live.
    pub ttl: u8,
    /// What it carries.
    pub protocol: u8,
    /// Header checksum, as it lies in memory.
    pub checksum: Raw16,
    /// Source then destination address, as they lie in memory.
    pub addresses: Raw64,
}

/// What routes a packet on from its destination (RFC 791, 3.1): loose and strict source route.
const SOURCE_ROUTES: [u8; 2] = [131, 137];
/// Options of one byte: the end of all, and none.
const END: u8 = 0;
const NO_OPERATION: u8 = 1;

/// Is there a source route among these options, whether its way has ended here or not? (Nor does
/// Linux take one, unless `accept_source_route` says so.) `None` if an option is cut off.
pub fn is_routed(mut options: &[u8]) -> Option<bool> {
    while let [kind, rest @ ..] = options {
        options = match (*kind, rest.first()) {
            (END, _) => break,
            (NO_OPERATION, _) => rest,
            (kind, _) if SOURCE_ROUTES.contains(&kind) => return Some(true),
            (_, length) => options.get(usize::from(*length.filter(|length| **length >= 2)?)..)?,
        };
    }
    Some(false)
}

impl Header {
    /// IP version; 4 in a right packet.
    #[inline(always)]
    pub fn version(&self) -> u8 {
        self.version_ihl >> 4
    }

    /// Bytes of the header as it claims, options included.
    #[inline(always)]
    pub fn header_length(&self) -> u8 {
        (self.version_ihl & 0x0f) * 4
    }

    /// The header's bytes.
    #[inline(always)]
    pub fn as_array(&self) -> &[u8; LEN] {
        zerocopy::transmute_ref!(self)
    }

    /// Source address.
    #[inline]
    pub fn source(&self) -> Ipv4Addr {
        let [a, b, c, d, ..] = self.addresses.to_bytes();
        Ipv4Addr::new(a, b, c, d)
    }

    /// Destination address.
    #[inline]
    pub fn destination(&self) -> Ipv4Addr {
        let [.., a, b, c, d] = self.addresses.to_bytes();
        Ipv4Addr::new(a, b, c, d)
    }
}

/// Source and destination as [`Header::addresses`] holds them.
#[inline]
pub fn address_pair(source: Ipv4Addr, destination: Ipv4Addr) -> u64 {
    zerocopy::transmute!([source.octets(), destination.octets()])
}
