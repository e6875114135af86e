//! ARP for IPv4 over Ethernet (RFC 826).
//!
//! The data path never speaks ARP, the kernel does; tests and the load generator read and write it.
//!
//! ```text
//!  0                                16                          31
//! │ hardware type: 1                 │ protocol type: 0x0800      │
//! │ 6               │ 4              │ operation                  │
//! │ sender MAC (6), sender address (4), target MAC (6), target address (4)
//! ```

use super::{Be16, Mac};

/// Bytes of the packet.
pub const LEN: usize = size_of::<Packet>();

/// Who has this address?
pub const REQUEST: u16 = 1;
/// I have.
pub const REPLY: u16 = 2;

/// The packet.
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
pub struct Packet {
    /// 1 for Ethernet.
    pub hardware: Be16,
    /// 0x0800 for IPv4.
    pub protocol: Be16,
    /// 6 for Ethernet.
    pub hardware_length: u8,
    /// 4 for IPv4.
    pub protocol_length: u8,
    /// [`REQUEST`] or [`REPLY`].
    pub operation: Be16,
    /// Link address of the sender.
    pub sender_mac: Mac,
    /// IPv4 address of the sender.
    pub sender: [u8; 4],
    /// Link address of the target; zero in a request.
    pub target_mac: Mac,
    /// IPv4 address of the target.
    pub target: [u8; 4],
}
