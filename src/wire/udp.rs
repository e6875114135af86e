//! The UDP header (RFC 768).
//!
//! ```text
//!  0                                16                          31
//! │ source port                      │ destination port           │
//! │ length, header included          │ checksum, 0 for none       │
//! ```

use super::{Be16, Raw16, Raw32};

/// Bytes of the header.
pub const LEN: usize = size_of::<Header>();

/// The header.
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
    /// Source then destination port, as they lie in memory.
    pub ports: Raw32,
    /// Bytes of header and payload.
    pub length: Be16,
    /// Checksum over pseudo-header, header and payload, as it lies in memory; 0 for none.
    pub checksum: Raw16,
}
