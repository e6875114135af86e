//! Headers as views over bytes: no allocation, no I/O, no policy.
//!
//! One file per protocol. Each view is a `zerocopy` struct of big-endian fields taken from a prefix
//! of the frame; the length is proven once, by the constructor, and no accessor can panic after it.

use std::fmt;

pub mod checksum;

pub use zerocopy::network_endian::{U16 as Be16, U32 as Be32};

/// A link-layer address (IEEE 802 MAC-48).
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::KnownLayout, zerocopy::Immutable)]
#[derive(zerocopy::Unaligned)]
#[repr(transparent)]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
