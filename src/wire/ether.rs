//! Ethernet II (IEEE 802.3, RFC 894).
//!
//! ```text
//! 0            6            12       14
//! │ destination│ source     │ type   │ payload, padded to 46 bytes on the link …
//! ```

use super::{Be16, Mac};

/// Bytes of an untagged header.
pub const LEN: usize = size_of::<Header>();

/// IPv4 (RFC 894).
pub const IPV4: u16 = 0x0800;
/// ARP (RFC 826).
pub const ARP: u16 = 0x0806;
/// 802.1Q tag.
pub const VLAN: u16 = 0x8100;
/// IPv6 (RFC 2464).
pub const IPV6: u16 = 0x86dd;

/// Destination and source, as they lie in a frame: stored in two moves, and put together from words
/// where they come from different places.
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
)]
#[repr(transparent)]
pub struct Pair([u32; 3]);

impl Pair {
    /// From both addresses.
    #[inline(always)]
    pub const fn new(destination: Mac, source: Mac) -> Self {
        Self(zerocopy::transmute!([destination.0, source.0]))
    }

    /// From both as little-endian numbers, whose upper 16 bits do not matter.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "words are cut out of numbers")]
    pub const fn of_numbers(destination: u64, source: u64) -> Self {
        let middle = (destination >> 32) as u32 & 0xffff | (source as u32) << 16;
        Self([(destination as u32).to_le(), middle.to_le(), ((source >> 16) as u32).to_le()])
    }

    /// Who shall take the frame.
    #[inline]
    pub fn destination(self) -> Mac {
        let [destination, _]: [Mac; 2] = zerocopy::transmute!(self.0);
        destination
    }

    /// Who sent it.
    #[inline]
    pub fn source(self) -> Mac {
        let [_, source]: [Mac; 2] = zerocopy::transmute!(self.0);
        source
    }

    /// Stores both at the front of a frame; false if it is cut off.
    #[inline(always)]
    #[must_use]
    pub fn store(self, frame: &mut [u8]) -> bool {
        let Some(front) = frame.first_chunk_mut::<12>() else { return false };
        *front = zerocopy::transmute!(self.0);
        true
    }
}

/// An untagged Ethernet header.
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
    /// Who shall take the frame.
    pub destination: Mac,
    /// Who sent it.
    pub source: Mac,
    /// What it carries.
    pub ethertype: Be16,
}

#[cfg(test)]
mod tests {
    use super::*;

    const TO: Mac = Mac([1, 2, 3, 4, 5, 6]);
    const FROM: Mac = Mac([7, 8, 9, 10, 11, 12]);

    #[test]
    fn a_pair_is_the_front_of_a_frame() {
        let mut frame = [0xee; 14];
        assert!(Pair::new(TO, FROM).store(&mut frame));
        assert_eq!(frame, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0xee, 0xee]);
        assert!(!Pair::new(TO, FROM).store(&mut frame[..11]), "no room");
        assert_eq!((Pair::new(TO, FROM).destination(), Pair::new(TO, FROM).source()), (TO, FROM));
    }

    #[test]
    fn a_pair_is_the_same_of_bytes_and_of_numbers() {
        let of_numbers = Pair::of_numbers(TO.number(0xaabb), FROM.number(0xccdd));
        assert_eq!(of_numbers, Pair::new(TO, FROM));
        assert_eq!(Mac::of_number(TO.number(0xaabb)), TO);
    }
}
