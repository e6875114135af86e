//! Ethernet II (IEEE 802.3, RFC 894).
//!
//! ```text
//! 0            6            12       14
//! │ destination│ source     │ type   │ payload, padded to 46 bytes on the link …
//! ```

use super::{Be16, Mac};

/// Bytes of an untagged header.
pub const LEN: usize = size_of::<Header>();

/// IPv4 (RFC 894).
pub const IPV4: u16 = 0x0800;
/// ARP (RFC 826).
pub const ARP: u16 = 0x0806;
/// 802.1Q tag.
pub const VLAN: u16 = 0x8100;
/// IPv6 (RFC 2464).
pub const IPV6: u16 = 0x86dd;

/// An untagged Ethernet header.
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
    /// Who shall take the frame.
    pub destination: Mac,
    /// Who sent it.
    pub source: Mac,
    /// What it carries.
    pub ethertype: Be16,
}
