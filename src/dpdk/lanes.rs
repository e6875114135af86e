//! Eight 16-bit numbers compared with one at once.
//!
//! A bucket of the flow table has eight tags (`dataplane/conn/index.rs`), and every packet asks which of
//! them are its own. Written as a loop, the compiler answers with thirty instructions; the machine has
//! one comparison for it, and one that gathers the answers' bits. They are behind this fence because
//! they must not be called where the CPU lacks them; SSE2, all they need, belongs to x86-64.

use std::arch::x86_64::{
    __m128i, _mm_cmpeq_epi16, _mm_movemask_epi8, _mm_packs_epi16, _mm_set1_epi16,
};

/// One bit for each of `lanes` that is `value`, the first lane's the lowest.
#[inline(always)]
pub fn equal(lanes: [u16; 8], value: u16) -> u32 {
    let lanes: __m128i = zerocopy::transmute!(lanes);
    // SAFETY: SSE2 is part of x86-64, the one architecture this is built for.
    unsafe { equal_sse2(lanes, value) }
}

#[inline]
#[target_feature(enable = "sse2")]
fn equal_sse2(lanes: __m128i, value: u16) -> u32 {
    let equal = _mm_cmpeq_epi16(lanes, _mm_set1_epi16(value.cast_signed()));
    // 0xffff narrows to 0xff, 0 to 0; the upper eight bytes repeat the lower ones.
    _mm_movemask_epi8(_mm_packs_epi16(equal, equal)).cast_unsigned() & 0xff
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_lane_has_its_bit() {
        for lane in 0..8 {
            let mut lanes = [1, 2, 3, 4, 5, 6, 7, 0x8000];
            lanes[lane] = 0xffff;
            assert_eq!(equal(lanes, 0xffff), 1 << lane);
        }
    }

    #[test]
    fn all_and_none() {
        assert_eq!(equal([0x8001; 8], 0x8001), 0xff);
        assert_eq!(equal([0; 8], 0x8001), 0);
    }
}
