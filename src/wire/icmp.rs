//! ICMP (RFC 792).
//!
//! ```text
//!  0        8                       16                          31
//! │ type   │ code                   │ checksum                   │
//! │ meaning depends on type: unused in the errors sent here       │
//! │ errors: the IPv4 header and the first bytes of the packet …   │
//! ```

use super::{Be32, Raw16};

/// Bytes of the header.
pub const LEN: usize = size_of::<Header>();

/// Echo reply.
pub const ECHO_REPLY: u8 = 0;
/// Destination unreachable.
pub const UNREACHABLE: u8 = 3;
/// Echo request.
pub const ECHO_REQUEST: u8 = 8;
/// Time exceeded.
pub const TIME_EXCEEDED: u8 = 11;
/// Code of [`UNREACHABLE`]: fragmentation needed and DF set; the low half of `rest` is the MTU
/// (RFC 1191).
pub const FRAGMENTATION_NEEDED: u8 = 4;
/// Code of [`UNREACHABLE`]: nobody listens on that port.
pub const PORT_UNREACHABLE: u8 = 3;

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
    /// Message type.
    pub kind: u8,
    /// Detail of the type.
    pub code: u8,
    /// Checksum over the whole message, as it lies in memory.
    pub checksum: Raw16,
    /// What the type makes of it; zero in the errors sent here.
    pub rest: Be32,
}

/// Is this type a question or an answer, not a report of an error? Nobody may answer an error
/// with an error (RFC 1122 section 3.2.2), and an unknown type might be one.
pub fn is_query(kind: u8) -> bool {
    // Echo, router discovery, timestamp, information, address mask: both halves of each.
    matches!(kind, ECHO_REPLY | ECHO_REQUEST | 9 | 10 | 13..=18)
}
