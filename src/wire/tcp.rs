//! The TCP header (RFC 9293 section 3.1).
//!
//! ```text
//!  0                4        8        16                        31
//! │ source port                      │ destination port           │
//! │ sequence number                                               │
//! │ acknowledgment number                                         │
//! │ data offset    │ 0      │ flags  │ window                     │
//! │ checksum                         │ urgent pointer             │
//! │ options, up to 40 bytes: data offset counts 32-bit words …    │
//! ```

pub mod options;

use super::{Be16, Be32, Raw16, Raw32};

/// Bytes of a header without options.
pub const LEN: usize = size_of::<Header>();

/// Sender has finished.
pub const FIN: u8 = 0x01;
/// Synchronise sequence numbers.
pub const SYN: u8 = 0x02;
/// Reset the connection.
pub const RST: u8 = 0x04;
/// Push.
pub const PSH: u8 = 0x08;
/// The acknowledgment number counts.
pub const ACK: u8 = 0x10;
/// The urgent pointer counts.
pub const URG: u8 = 0x20;

/// The fixed part of the header.
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
    /// Sequence number of the first byte (of SYN, if set).
    pub sequence: Be32,
    /// Next sequence number expected, if ACK is set.
    pub acknowledgment: Be32,
    /// Header length in 32-bit words, in the high half.
    pub data_offset: u8,
    /// [`FIN`], [`SYN`], [`RST`], [`PSH`], [`ACK`], [`URG`] and others.
    pub flags: u8,
    /// Receive window.
    pub window: Be16,
    /// Checksum over pseudo-header, header and payload, as it lies in memory.
    pub checksum: Raw16,
    /// Urgent pointer.
    pub urgent: Be16,
}

impl Header {
    /// Bytes of the header as it claims, options included.
    #[inline(always)]
    pub fn header_length(&self) -> u8 {
        (self.data_offset >> 4) * 4
    }
}
