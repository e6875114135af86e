//! Hashes that must come out the same on every worker, every box and in the kernel: sh, dh and mh
//! of IPVS bit for bit, so that boxes with either can stand beside each other.

use std::net::IpAddr;

use super::choice::Choice;

/// An address as one word; IPv6's four are combined.
#[inline]
pub(super) fn fold(address: IpAddr) -> u32 {
    match address {
        IpAddr::V4(address) => address.to_bits(),
        IpAddr::V6(address) => {
            let bits = address.to_bits();
            let word = |shift: u32| u32::try_from((bits >> shift) & 0xffff_ffff).unwrap_or(0);
            word(0) ^ word(32) ^ word(64) ^ word(96)
        }
    }
}

/// The client as one word: its address, and its port if that counts.
#[inline]
pub(super) fn client(choice: &Choice<'_>) -> u32 {
    let port = if choice.flags().port { choice.flow.client_port } else { 0 };
    fold(choice.flow.client).wrapping_add(port.into())
}

/// Slots of sh and dh.
pub(super) const SLOTS: u32 = 256;

/// Multiplication by the golden ratio (Knuth, volume 3, 6.4), the upper eight bits.
#[inline]
pub(super) fn golden(word: u32) -> u32 {
    word.wrapping_mul(0x61C8_8647) >> 24
}

/// SipHash-1-3 (Aumasson and Bernstein, 2012), both halves of the key alike.
#[inline]
pub(super) fn sip13(key: u64, bytes: &[u8]) -> u64 {
    let mut state = [
        key ^ 0x736f_6d65_7073_6575,
        key ^ 0x646f_7261_6e64_6f6d,
        key ^ 0x6c79_6765_6e65_7261,
        key ^ 0x7465_6462_7974_6573,
    ];
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        absorb(&mut state, u64::from_le_bytes(*word));
    }
    let last = rest.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
    absorb(&mut state, last | (bytes.len() as u64) << 56);
    state[2] ^= 0xff;
    for _ in 0..3 {
        round(&mut state);
    }
    state[0] ^ state[1] ^ state[2] ^ state[3]
}

#[inline(always)]
fn absorb(state: &mut [u64; 4], word: u64) {
    state[3] ^= word;
    round(state);
    state[0] ^= word;
}

#[inline(always)]
fn round([a, b, c, d]: &mut [u64; 4]) {
    *a = a.wrapping_add(*b);
    *b = b.rotate_left(13) ^ *a;
    *a = a.rotate_left(32);
    *c = c.wrapping_add(*d);
    *d = d.rotate_left(16) ^ *c;
    *a = a.wrapping_add(*d);
    *d = d.rotate_left(21) ^ *a;
    *c = c.wrapping_add(*b);
    *b = b.rotate_left(17) ^ *c;
    *c = c.rotate_left(32);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hash::Hasher as _;

    /// The standard library's hasher is SipHash-1-3, with a key of zeroes unless told otherwise.
    #[test]
    fn sip13_is_the_standard_librarys() {
        for length in 0..40u8 {
            let bytes: Vec<u8> = (0..length).collect();
            let mut hasher = std::collections::hash_map::DefaultHasher::new();
            hasher.write(&bytes);
            assert_eq!(sip13(0, &bytes), hasher.finish(), "{length} bytes");
        }
    }

    #[test]
    fn an_address_of_ipv6_is_its_words_combined() {
        assert_eq!(fold("192.0.2.1".parse().unwrap()), 0xc000_0201);
        assert_eq!(
            fold("1:2:3:4:5:6:7:8".parse().unwrap()),
            0x0001_0002 ^ 0x0003_0004 ^ 0x0005_0006 ^ 0x0007_0008
        );
    }
}
