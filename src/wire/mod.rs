//! Headers as views over bytes: no allocation, no I/O, no policy.
//!
//! One file per protocol. Each view is a `zerocopy` struct of big-endian fields taken from a prefix
//! of the frame; the length is proven once, by the constructor, and no accessor can panic after it.

use std::fmt;

pub mod arp;
pub mod checksum;
pub mod ether;
pub mod fragment;
pub mod icmp;
pub mod icmpv6;
pub mod ipv4;
pub mod ipv6;
pub mod proxy;
pub mod sctp;
pub mod tcp;
pub mod udp;
pub mod vlan;

/// Two, four and eight wire bytes read as they lie in memory: for checksums, and for keys that are
/// only compared, where a swap would be wasted.
pub use zerocopy::native_endian::{U16 as Raw16, U32 as Raw32, U64 as Raw64};
/// Two and four wire bytes with a meaning as a number.
pub use zerocopy::network_endian::{U16 as Be16, U32 as Be32};

/// A link-layer address (IEEE 802 MAC-48).
#[derive(
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    zerocopy::FromBytes,
    zerocopy::IntoBytes,
    zerocopy::KnownLayout,
    zerocopy::Immutable,
    zerocopy::Unaligned,
)]
#[repr(transparent)]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, rest @ ..] = self.0;
        write!(out, "{first:02x}")?;
        rest.iter().try_for_each(|byte| write!(out, ":{byte:02x}"))
    }
}

impl Mac {
    /// The address whose bytes, the first lowest, are the lower 48 bits of a number.
    #[inline(always)]
    #[must_use]
    pub const fn of_number(number: u64) -> Self {
        let [mac @ .., _, _] = number.to_le_bytes();
        Self(mac)
    }

    /// That number, with `above` in its upper 16 bits.
    #[inline(always)]
    #[must_use]
    pub const fn number(self, above: u16) -> u64 {
        let [first, second, third]: [[u8; 2]; 3] = zerocopy::transmute!(self.0);
        u64::from_le_bytes(zerocopy::transmute!([first, second, third, above.to_le_bytes()]))
    }

    /// Is this the address of a group (multicast, broadcast), not of one station?
    #[inline(always)]
    pub fn is_group(self) -> bool {
        self.0[0] & 1 == 1
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
