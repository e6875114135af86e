//! From a decision to bytes.

use std::net::Ipv4Addr;

use super::conn::key::FlowKey;
use super::family::Family;
use crate::wire::checksum::Delta;

pub mod cross;
pub mod cut;
pub mod insert;
pub mod network;
pub(in crate::dataplane) mod number;
pub mod translate;
pub mod transport;
pub mod tunnel;

/// What changes behind the link header in one direction of a connection, ready to be stored into the frame.
/// Addresses and ports are wire bytes, as in [`FlowKey`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Translation<F: Family = Ipv4Addr> {
    /// New source then destination address.
    pub addresses: F::Addresses,
    /// New source then destination port.
    pub ports: u32,
    /// What the address change does to the IPv4 header checksum (TTL not included).
    pub ip_delta: Delta,
    /// What the address and port change does to the TCP or UDP checksum.
    pub l4_delta: Delta,
}

/// What turning packets of `from` into packets of `to` does to the IPv4 header checksum (TTL not
/// included) and to the TCP or UDP checksum.
#[must_use]
pub fn translation_deltas<F: Family>(from: FlowKey<F>, to: FlowKey<F>) -> (Delta, Delta) {
    let ip = F::delta(from.addresses, to.addresses);
    (ip, ip.plus(Delta::of_u32(from.ports, to.ports)))
}
