//! Pieces of a datagram (IP fragments): which part of it one is, in both families.
//!
//! ```text
//! IPv4 (RFC 791)       IPv6 (RFC 8200, 4.5): a header of its own, number 44
//!  0 1 2 3        15    0              8              16              29 31
//! │0│D│M│ offset   │   │ next header  │ reserved     │ offset       │00│M│
//!                      │ identification                                 │
//!
//! datagram   ├──────────────┬──────────────┬───────────┤   offsets count 8 bytes
//!             first          later          last
//!             0, M           > 0, M         > 0, no M
//! ```
//!
//! A header with offset 0 and no M is a whole datagram. IPv6 has a name for it, the atomic
//! fragment, and a rule: it has nothing to do with other pieces (RFC 6946).

use zerocopy::FromBytes;

use super::checksum::Delta;
use super::{Be16, Be32, ipv4, ipv6};

/// IPv6's number for the fragment header.
pub const NEXT_HEADER: u8 = 44;
/// Bytes of IPv6's fragment header.
pub const LEN: usize = size_of::<Header>();
/// Offsets count in units of so many bytes, and so do all pieces but the last.
pub const UNIT: usize = 8;
/// "More fragments" in [`Header::offset_more`].
const MORE: u16 = 1;

/// IPv6's fragment header.
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
    /// What the datagram begins with after its headers that stay in every piece.
    pub next_header: u8,
    /// Zero.
    pub reserved: u8,
    /// Offset, two reserved bits, "more fragments".
    pub offset_more: Be16,
    /// The same in all pieces of a datagram.
    pub identification: Be32,
}

impl Header {
    /// The header of a piece.
    pub fn new(next_header: u8, span: Span, identification: u32) -> Self {
        // The offset lies where it would as a number of bytes: 8 is its lowest bit.
        let offset_more = span.offset & !7 | u16::from(span.more);
        Self {
            next_header,
            reserved: 0,
            offset_more: offset_more.into(),
            identification: identification.into(),
        }
    }

    /// Which part of its datagram follows this header.
    #[inline]
    pub fn span(&self) -> Span {
        let offset_more = self.offset_more.get();
        Span { offset: offset_more & !7, more: offset_more & MORE != 0 }
    }

    /// Says that another part follows; the reserved bits stay.
    pub fn set_span(&mut self, span: Span) {
        let reserved = self.offset_more.get() & 6;
        self.offset_more.set(span.offset & !7 | reserved | u16::from(span.more));
    }
}

impl ipv4::Header {
    /// Which part of its datagram follows this header.
    #[inline]
    pub fn span(&self) -> Span {
        let flags_fragment = self.flags_fragment.get();
        Span {
            offset: (flags_fragment & ipv4::OFFSET_MASK) << 3,
            more: flags_fragment & ipv4::MORE_FRAGMENTS != 0,
        }
    }

    /// Says that another part follows; the other flags stay, the checksum follows.
    pub fn set_span(&mut self, span: Span) {
        let before = u16::from_ne_bytes(self.flags_fragment.to_bytes());
        let flags = self.flags_fragment.get() & !ipv4::FRAGMENT_MASK;
        self.flags_fragment.set(flags | span.bits_v4());
        let delta = Delta::of_u16(before, u16::from_ne_bytes(self.flags_fragment.to_bytes()));
        self.checksum.set(delta.apply(self.checksum.get()));
    }
}

/// Does the IP packet of either family carry a piece, or an atomic fragment?
pub fn is_in(packet: &[u8]) -> bool {
    if packet.first().is_some_and(|byte| byte >> 4 == 6) {
        return of_v6(packet).is_some();
    }
    ipv4::Header::ref_from_prefix(packet).is_ok_and(|(header, _)| header.span().is_piece())
}

/// The fragment header of an IPv6 packet, if it has one.
pub fn of_v6(packet: &[u8]) -> Option<Header> {
    let walked = ipv6::walk(packet).filter(|walked| walked.protocol == NEXT_HEADER)?;
    let (header, _) = Header::ref_from_prefix(packet.get(walked.offset..)?).ok()?;
    Some(*header)
}

/// Where a packet's payload lies in its datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Bytes of the datagram before it; a multiple of 8.
    pub offset: u16,
    /// Does more of the datagram come after it?
    pub more: bool,
}

impl Span {
    /// All of its datagram.
    pub const WHOLE: Self = Self { offset: 0, more: false };

    /// M and offset as an IPv4 header has them, the other flags clear.
    #[inline]
    pub fn bits_v4(self) -> u16 {
        let more = if self.more { ipv4::MORE_FRAGMENTS } else { 0 };
        more | self.offset >> 3
    }

    /// Is it only a part of its datagram?
    #[inline]
    pub fn is_piece(self) -> bool {
        self != Self::WHOLE
    }

    /// Is it the piece with the transport header, others to come?
    #[inline]
    pub fn is_first(self) -> bool {
        self.offset == 0 && self.more
    }

    /// Is it a piece after the first?
    #[inline]
    pub fn is_later(self) -> bool {
        self.offset > 0
    }
}
