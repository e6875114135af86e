//! SipHash-2-4 (Aumasson and Bernstein, 2012) over whole 64-bit words: a keyed hash that nobody
//! without the key can foretell, and fast on short messages.
//!
//! The connection table's own hash is faster but linear enough that its output must stay inside;
//! a cookie is shown to everybody. Words count as their little-endian bytes, as in the paper, so
//! that its vectors hold.

/// The hash of `words` under `key`.
#[inline]
pub(in crate::dataplane) fn siphash(key: [u64; 2], words: &[u64]) -> u64 {
    let mut v = [
        key[0] ^ 0x736f_6d65_7073_6575,
        key[1] ^ 0x646f_7261_6e64_6f6d,
        key[0] ^ 0x6c79_6765_6e65_7261,
        key[1] ^ 0x7465_6462_7974_6573,
    ];
    // The last block has the length in bytes, its low eight bits, on top.
    let last = (words.len() as u64 * 8) << 56;
    for word in words.iter().chain(&[last]) {
        v[3] ^= word;
        round(&mut v);
        round(&mut v);
        v[0] ^= word;
    }
    v[2] ^= 0xff;
    for _ in 0..4 {
        round(&mut v);
    }
    v[0] ^ v[1] ^ v[2] ^ v[3]
}

#[inline(always)]
fn round(v: &mut [u64; 4]) {
    v[0] = v[0].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(13) ^ v[0];
    v[0] = v[0].rotate_left(32);
    v[2] = v[2].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(16) ^ v[2];
    v[0] = v[0].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(21) ^ v[0];
    v[2] = v[2].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(17) ^ v[2];
    v[2] = v[2].rotate_left(32);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Key and message are the bytes 0, 1, 2, …: the empty message and that of eight bytes.
    #[test]
    fn it_gives_the_published_vectors() {
        let word = |from: u8| {
            u64::from_le_bytes(std::array::from_fn(|at| from + u8::try_from(at).unwrap()))
        };
        let key = [word(0), word(8)];
        assert_eq!(siphash(key, &[]), 0x726f_db47_dd0e_0e31);
        assert_eq!(siphash(key, &[word(0)]), 0x93f5_f579_9a93_2462);
    }

    /// The standard library's, which is old but not wrong.
    #[test]
    #[expect(deprecated, reason = "the only SipHash-2-4 at hand that somebody else has written")]
    fn it_agrees_with_another_implementation() {
        use std::hash::{Hasher, SipHasher};
        for (a, b) in [(0, 0), (1, u64::MAX), (0x0123_4567_89ab_cdef, 42)] {
            for length in 0..8_u64 {
                let words: Vec<u64> =
                    (0..length).map(|i| a ^ b.rotate_left(7).wrapping_add(i)).collect();
                let mut other = SipHasher::new_with_keys(a, b);
                for word in &words {
                    other.write(&word.to_le_bytes());
                }
                assert_eq!(siphash([a, b], &words), other.finish(), "{length}");
            }
        }
    }
}
