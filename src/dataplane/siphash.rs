//! SipHash-1-3 (Aumasson and Bernstein, 2012): a keyed hash that nobody without the key can foretell, and
//! fast on short messages.
//!
//! The connection table's own hash is faster but linear enough that its output must stay inside; a
//! cookie is shown to everybody, and who is limited by source must not choose his bucket. One round a word
//! and three at the end, its authors' faster choice, which the hash tables of several languages stand on:
//! nobody has told its key from its output either, of cookies 27 bits at a time under a key that is an
//! hour old at most. A SYN is answered while a flood comes, and rounds wait for each other: of all that an
//! answer took, those of SipHash-2-4 were the longest part.
//!
//! Words count as their little-endian bytes, as in the paper.

/// A hash that is not finished: more words may follow, and a prefix is a message too.
#[derive(Clone, Copy)]
pub(super) struct Sip {
    v: [u64; 4],
    /// Bytes so far.
    length: u64,
}

impl Sip {
    /// The hash of nothing under `key`, so far.
    #[inline]
    pub(super) fn new(key: [u64; 2]) -> Self {
        let v = [
            key[0] ^ 0x736f_6d65_7073_6575,
            key[1] ^ 0x646f_7261_6e64_6f6d,
            key[0] ^ 0x6c79_6765_6e65_7261,
            key[1] ^ 0x7465_6462_7974_6573,
        ];
        Self { v, length: 0 }
    }

    /// With one more word.
    #[inline(always)]
    #[must_use]
    pub(super) fn and(mut self, word: u64) -> Self {
        self.compress(word);
        self.length += 8;
        self
    }

    /// The hash of the words so far.
    #[inline(always)]
    pub(super) fn finish(self) -> u64 {
        self.finish_with(&[])
    }

    /// The hash of the words so far and up to seven bytes more.
    #[inline(always)]
    pub(super) fn finish_with(mut self, rest: &[u8]) -> u64 {
        let last = rest.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
        // The last block has the length in bytes, its low eight bits, on top.
        self.compress(last | (self.length + rest.len() as u64) << 56);
        self.v[2] ^= 0xff;
        for _ in 0..3 {
            round(&mut self.v);
        }
        self.v[0] ^ self.v[1] ^ self.v[2] ^ self.v[3]
    }

    #[inline(always)]
    fn compress(&mut self, word: u64) {
        self.v[3] ^= word;
        round(&mut self.v);
        self.v[0] ^= word;
    }
}

/// The hash of `words` under `key`.
#[inline]
pub(super) fn siphash(key: [u64; 2], words: &[u64]) -> u64 {
    words.iter().fold(Sip::new(key), |sip, word| sip.and(*word)).finish()
}

/// The hash of `bytes` under `key`.
#[inline]
pub(super) fn siphash_bytes(key: [u64; 2], bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let words = words.iter().map(|word| u64::from_le_bytes(*word));
    words.fold(Sip::new(key), Sip::and).finish_with(rest)
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
    use std::hash::{DefaultHasher, Hasher};

    use super::*;

    /// The standard library's hasher is the same function under the key 0.
    #[test]
    fn it_is_the_function_of_the_standard_library() {
        let bytes: Vec<u8> = (0..80).collect();
        for length in 0..=bytes.len() {
            let bytes = &bytes[..length];
            let mut hasher = DefaultHasher::new();
            hasher.write(bytes);
            assert_eq!(siphash_bytes([0, 0], bytes), hasher.finish(), "{length} bytes");
            if let (words, []) = bytes.as_chunks::<8>() {
                let words: Vec<_> = words.iter().map(|word| u64::from_le_bytes(*word)).collect();
                assert_eq!(siphash([0, 0], &words), hasher.finish(), "{length} bytes in words");
            }
        }
    }

    #[test]
    fn each_half_of_the_key_counts() {
        let hashes = [[0, 0], [1, 0], [0, 1]].map(|key| siphash(key, &[7]));
        assert!(hashes[0] != hashes[1] && hashes[1] != hashes[2] && hashes[0] != hashes[2]);
    }
}
