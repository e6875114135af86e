//! Chance, cheap and good enough to spread connections: xorshift64* (Marsaglia, 2003). Nothing
//! here keeps a secret.

/// A generator.
#[derive(Clone, Copy, Debug)]
pub(super) struct Random(u64);

impl Random {
    /// Begins anywhere but at zero.
    pub(super) fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    fn next(&mut self) -> u32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let [.., a, b, c, d] = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D).to_le_bytes();
        u32::from_le_bytes([a, b, c, d])
    }

    /// A number below `count`; 0 if that is 0.
    #[inline]
    pub(super) fn below(&mut self, count: u64) -> u64 {
        (u64::from(self.next()) * count) >> 32
    }
}
