//! The Internet checksum, full and incremental (RFC 1071, RFC 1624).
//!
//! Everything here works on *native loads of wire bytes*: a one's-complement sum does not care for
//! byte order as long as every word, the checksum included, is read and written the same way
//! (RFC 1071 section 2 B), so nothing is ever swapped.
//!
//! ```text
//! zero has two faces in one's complement, 0x0000 and 0xffff. Sums of bytes that are not all zero
//! never fold to 0x0000, so a computed checksum (the sum's complement) is never 0xffff:
//!
//!     IPv4, TCP, ICMP   0x0000 ..= 0xfffe
//!     UDP               0x0001 ..= 0xffff   0x0000 says "none", so a computed 0 is sent as 0xffff
//! ```
//!
//! RFC 1624's equation 3, `HC' = ~(~HC + ~m + m')`, keeps to these ranges by itself; its elder
//! relative in RFC 1141 does not. A [`Delta`] is the `~m + m'` of all changed words, so one
//! connection's change is computed once and applied to every packet with two additions.

use zerocopy::{Immutable, IntoBytes};

/// Adds two 64-bit one's-complement numbers: the carry goes round the end.
#[inline(always)]
const fn add(a: u64, b: u64) -> u64 {
    let (sum, carry) = a.overflowing_add(b);
    sum + carry as u64
}

/// Folds a 64-bit one's-complement number to 16 bits. Zero only if `sum` is.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the halves are added, not lost")]
const fn fold(sum: u64) -> u16 {
    let (sum, carry) = (sum as u32).overflowing_add((sum >> 32) as u32);
    let sum = sum + carry as u32;
    let (sum, carry) = (sum as u16).overflowing_add((sum >> 16) as u16);
    sum + carry as u16
}

/// The one's-complement sum of `bytes`, an odd last byte padded with zero; eight bytes at a time.
#[inline]
pub fn sum(bytes: &[u8]) -> u16 {
    fold(sum_wide(0, bytes))
}

/// `start` plus the one's-complement sum of `bytes`, not yet folded.
#[inline]
fn sum_wide(start: u64, bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let sum = words.iter().fold(start, |sum, word| add(sum, u64::from_ne_bytes(*word)));
    let mut tail = [0; 8];
    for (to, from) in tail.iter_mut().zip(rest) {
        *to = *from;
    }
    add(sum, u64::from_ne_bytes(tail))
}

/// The checksum of `bytes`, in which the checksum field must be zero: ICMP, or an IPv4 header.
#[inline]
pub fn checksum(bytes: &[u8]) -> u16 {
    !sum(bytes)
}

/// [`checksum`] of a header, of even length, and what follows it elsewhere in memory.
#[inline]
pub fn checksum_of_two(header: &[u8], body: &[u8]) -> u16 {
    !fold(sum_wide(u64::from(sum(header)), body))
}

/// [`checksum`] of an IPv4 header without options: five loads, whose sum cannot overflow 64 bits.
#[inline(always)]
pub fn checksum_20(header: &[u8; 20]) -> u16 {
    !sum_20(header)
}

/// Does an IPv4 header, options and checksum included, sum up right?
#[inline(always)]
pub fn verify(header: &[u8]) -> bool {
    sum(header) == 0xffff
}

/// [`verify`] for a header without options, as [`checksum_20`].
#[inline(always)]
pub fn verify_20(header: &[u8; 20]) -> bool {
    sum_20(header) == 0xffff
}

#[inline(always)]
fn sum_20(header: &[u8; 20]) -> u16 {
    let (words, _) = header.as_chunks::<4>();
    fold(words.iter().map(|word| u64::from(u32::from_ne_bytes(*word))).sum())
}

/// The folded sum of a TCP or UDP segment and its pseudo-header: 0xffff if the checksum inside is
/// right, and the complement of the checksum if the field inside is zero. `addresses` are source
/// then destination as they lie in memory, of either family.
#[inline]
pub fn sum_l4<A: IntoBytes + Immutable + Copy>(addresses: A, protocol: u8, segment: &[u8]) -> u16 {
    fold(sum_wide(pseudo(&addresses, protocol, segment.len()), segment))
}

/// The pseudo-header's part of a sum: of IPv4 (RFC 9293 section 3.1) or IPv6 (RFC 8200 section
/// 8.1), which sum the same fields.
#[inline]
fn pseudo<A: IntoBytes + Immutable + Copy>(addresses: &A, protocol: u8, length: usize) -> u64 {
    // Segments come out of IP packets; a longer slice would not be one and sums to nonsense.
    let length = u16::try_from(length).unwrap_or(u16::MAX).to_be();
    let protocol = u16::from(protocol).to_be();
    sum_wide(u64::from(length) + u64::from(protocol), addresses.as_bytes())
}

/// The checksum of a message with a pseudo-header (`ICMPv6`, TCP) that lies in two places: a
/// header of even length with a zero checksum field, and what follows it.
#[inline]
pub fn l4_of_two<A: IntoBytes + Immutable + Copy>(
    addresses: A,
    protocol: u8,
    header: &[u8],
    body: &[u8],
) -> u16 {
    let start = pseudo(&addresses, protocol, header.len() + body.len());
    !fold(sum_wide(sum_wide(start, header), body))
}

/// The checksum of a TCP segment whose checksum field is zero.
#[inline]
pub fn tcp<A: IntoBytes + Immutable + Copy>(addresses: A, segment: &[u8]) -> u16 {
    !sum_l4(addresses, super::ipv4::TCP, segment)
}

/// The checksum of a UDP datagram whose checksum field is zero; never zero itself.
#[inline]
pub fn udp<A: IntoBytes + Immutable + Copy>(addresses: A, datagram: &[u8]) -> u16 {
    match !sum_l4(addresses, super::ipv4::UDP, datagram) {
        0 => 0xffff,
        other => other,
    }
}

/// The one's-complement difference a change of some 16-bit words makes: applied to a checksum that
/// covers those words. Kept as it lies in memory: the sum does not care for byte order.
///
/// 0x0000 and 0xffff both mean "no difference"; `==` compares representations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Delta(pub u16);

impl Delta {
    /// No change.
    pub const ZERO: Self = Self(0);

    /// What a router's TTL decrement does to the IPv4 header checksum: the word of TTL and
    /// protocol shrinks by 0x0100. Right for every TTL but 0.
    pub const TTL_MINUS_ONE: Self = Self(u16::from_ne_bytes([0xfe, 0xff]));

    /// The change of one word; native loads of wire bytes.
    #[inline(always)]
    #[must_use]
    pub const fn of_u16(old: u16, new: u16) -> Self {
        Self(fold(!old as u64 + new as u64))
    }

    /// The change of two words (an address, or a pair of ports); native loads of wire bytes.
    #[inline(always)]
    #[must_use]
    pub const fn of_u32(old: u32, new: u32) -> Self {
        Self(fold(!old as u64 + new as u64))
    }

    /// The change of four words (a pair of addresses); native loads of wire bytes.
    #[inline(always)]
    #[must_use]
    pub const fn of_u64(old: u64, new: u64) -> Self {
        Self(fold(add(!old, new)))
    }

    /// Both changes together.
    #[inline(always)]
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        let (sum, carry) = self.0.overflowing_add(other.0);
        Self(sum + carry as u16)
    }

    /// The change back.
    #[inline(always)]
    #[must_use]
    pub const fn inverse(self) -> Self {
        Self(!self.0)
    }

    /// The same change of words that lie across the checksum's own: they begin at an odd byte, so
    /// the bytes count the other way round.
    #[inline(always)]
    #[must_use]
    pub const fn swapped(self) -> Self {
        Self(self.0.swap_bytes())
    }

    /// The checksum after the change (RFC 1624 equation 3), for IPv4 headers, TCP and ICMP;
    /// both are native loads of wire bytes.
    #[inline(always)]
    #[must_use]
    pub const fn apply(self, checksum: u16) -> u16 {
        !Self(!checksum).plus(self).0
    }

    /// The checksum after the change, for UDP: 0x0000 says "none" and stays, and a checksum that
    /// comes out as 0x0000 is written as 0xffff (RFC 768).
    #[inline(always)]
    #[must_use]
    pub const fn apply_udp(self, checksum: u16) -> u16 {
        if checksum == 0 {
            return 0;
        }
        match self.apply(checksum) {
            0 => 0xffff,
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_1071_sums_as_printed() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(sum(&bytes), 0xddf2_u16.to_be());
        assert_eq!(checksum(&bytes), 0x220d_u16.to_be());
    }

    #[test]
    fn the_example_of_rfc_1624_comes_out_as_zero_not_as_its_other_face() {
        let delta = Delta::of_u16(0x5555_u16.to_be(), 0x3285_u16.to_be());
        assert_eq!(delta.apply(0xdd2f_u16.to_be()), 0x0000);
        assert_eq!(delta.apply_udp(0xdd2f_u16.to_be()), 0xffff);
    }

    #[test]
    fn an_odd_byte_counts_as_the_high_half_of_a_word() {
        assert_eq!(sum(&[0x12]), 0x1200_u16.to_be());
        assert_eq!(sum(&[0, 0, 0, 0, 0, 0, 0, 0, 0x12]), 0x1200_u16.to_be());
    }

    #[test]
    fn nothing_sums_to_zero_and_only_nothing() {
        assert_eq!(sum(&[]), 0);
        assert_eq!(sum(&[0; 20]), 0);
        assert_eq!(sum(&[0xff; 20]), 0xffff);
        assert!(!verify(&[0; 20]), "a header of zeros is not a header");
    }
}
