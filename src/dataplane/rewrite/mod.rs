//! From a decision to bytes.

pub mod cut;
pub mod fullnat;
pub mod tunnel;

use crate::dataplane::snapshot::NextHop;

/// Everything that changes in one direction of a connection, ready to be stored into the frame.
/// Addresses and ports are wire bytes, as in [`FlowKey`](crate::dataplane::conn::key::FlowKey).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Translation {
    /// New source then destination address.
    pub addresses: u64,
    /// New source then destination port.
    pub ports: u32,
    /// What the address change does to the IPv4 header checksum (TTL not included).
    pub ip_delta: crate::wire::checksum::Delta,
    /// What the address and port change does to the TCP or UDP checksum.
    pub l4_delta: crate::wire::checksum::Delta,
    /// Where the frame goes.
    pub next_hop: NextHop,
}
