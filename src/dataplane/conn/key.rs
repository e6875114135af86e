//! What names a flow: the 5-tuple of one direction, packed as it lies in the packet.
//!
//! Nothing is byte-swapped on the hot path: `addresses` is the bytes of source and destination (8
//! for IPv4, 32 for IPv6), `ports` the four bytes of the source and destination port, both read as
//! they lie in memory (network order). Two keys are equal when the wire bytes are.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::dataplane::family::Family;

/// The 5-tuple of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowKey<F: Family = Ipv4Addr> {
    /// Source then destination address, wire bytes.
    pub addresses: F::Addresses,
    /// Source then destination port, wire bytes.
    pub ports: u32,
    /// IP protocol number.
    pub protocol: u8,
}

impl<F: Family> Default for FlowKey<F> {
    fn default() -> Self {
        Self { addresses: F::Addresses::default(), ports: 0, protocol: 0 }
    }
}

impl<F: Family> FlowKey<F> {
    /// The key of a packet from `source` to `destination`.
    pub fn new(protocol: u8, source: (F, u16), destination: (F, u16)) -> Self {
        let addresses = F::pair(source.0, destination.0);
        Self { addresses, ports: port_pair(source.1, destination.1), protocol }
    }

    /// Source address.
    #[inline]
    pub fn source(self) -> F {
        F::split(self.addresses).0
    }

    /// Destination address.
    #[inline]
    pub fn destination(self) -> F {
        F::split(self.addresses).1
    }

    /// Source port.
    #[inline]
    pub fn source_port(self) -> u16 {
        let [a, b, ..] = self.ports.to_ne_bytes();
        u16::from_be_bytes([a, b])
    }

    /// Destination port.
    #[inline]
    pub fn destination_port(self) -> u16 {
        let [.., a, b] = self.ports.to_ne_bytes();
        u16::from_be_bytes([a, b])
    }

    /// The key of the opposite direction.
    #[must_use]
    pub fn reversed(self) -> Self {
        Self {
            addresses: F::reversed(self.addresses),
            ports: self.ports.rotate_left(16),
            protocol: self.protocol,
        }
    }
}

impl FlowKey<Ipv4Addr> {
    /// The same flow written with IPv4-mapped addresses.
    #[must_use]
    pub fn mapped(self) -> FlowKey<Ipv6Addr> {
        let (source, destination) = (self.source(), self.destination());
        let addresses = Family::pair(source.to_ipv6_mapped(), destination.to_ipv6_mapped());
        FlowKey { addresses, ports: self.ports, protocol: self.protocol }
    }
}

impl FlowKey<Ipv6Addr> {
    /// The reverse of [`FlowKey::mapped`]; `None` for true IPv6.
    #[must_use]
    pub fn unmapped(self) -> Option<FlowKey<Ipv4Addr>> {
        let source = self.source().to_ipv4_mapped()?;
        let destination = self.destination().to_ipv4_mapped()?;
        let addresses = Family::pair(source, destination);
        Some(FlowKey { addresses, ports: self.ports, protocol: self.protocol })
    }
}

/// Source and destination port as they lie in memory.
#[inline]
pub fn port_pair(source: u16, destination: u16) -> u32 {
    let ([s0, s1], [d0, d1]) = (source.to_be_bytes(), destination.to_be_bytes());
    u32::from_ne_bytes([s0, s1, d0, d1])
}

/// Which of a connection's two keys a packet matched, that is, who sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Side {
    /// Sent by the client, to the VIP.
    Client = 0,
    /// Sent by the backend, to the local address.
    Backend = 1,
}

impl Side {
    /// The side named by the lowest bit.
    #[inline(always)]
    pub fn from_bit(bit: u32) -> Self {
        if bit & 1 == 0 { Side::Client } else { Side::Backend }
    }

    /// The other one.
    #[inline(always)]
    #[must_use]
    pub fn opposite(self) -> Self {
        Self::from_bit(self as u32 ^ 1)
    }
}
