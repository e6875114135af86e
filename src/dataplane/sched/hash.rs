//! Hashes that must come out the same on every worker, every box and in the kernel: sh, dh and mh
//! of IPVS bit for bit, so that boxes with either can stand beside each other.

use std::net::IpAddr;

use super::choice::Choice;
use crate::dataplane::siphash::siphash_bytes;

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

/// SipHash-1-3, both halves of the key alike.
#[inline]
pub(super) fn sip13(key: u64, bytes: &[u8]) -> u64 {
    siphash_bytes([key, key], bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_ipv6_is_its_words_combined() {
        assert_eq!(fold("192.0.2.1".parse().unwrap()), 0xc000_0201);
        assert_eq!(
            fold("1:2:3:4:5:6:7:8".parse().unwrap()),
            0x0001_0002 ^ 0x0003_0004 ^ 0x0005_0006 ^ 0x0007_0008
        );
    }
}
