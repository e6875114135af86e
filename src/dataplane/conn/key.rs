//! What names a flow: the 5-tuple of one direction, packed as it lies in the packet.
//!
//! Nothing is byte-swapped on the hot path: `addresses` is the eight bytes of the IPv4 source and
//! destination, `ports` the four bytes of the source and destination port, both read as they lie in
//! memory (network order). Two keys are equal when the wire bytes are.

use std::net::Ipv4Addr;

/// The 5-tuple of a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowKey {
    /// Source then destination address, wire bytes.
    pub addresses: u64,
    /// Source then destination port, wire bytes.
    pub ports: u32,
    /// IP protocol number.
    pub protocol: u8,
}

impl FlowKey {
    /// The key of a packet from `source` to `destination`.
    pub fn new(protocol: u8, source: (Ipv4Addr, u16), destination: (Ipv4Addr, u16)) -> Self {
        let [s0, s1] = source.1.to_be_bytes();
        let [d0, d1] = destination.1.to_be_bytes();
        Self {
            addresses: crate::wire::ipv4::address_pair(source.0, destination.0),
            ports: u32::from_ne_bytes([s0, s1, d0, d1]),
            protocol,
        }
    }

    /// Source address.
    #[inline]
    pub fn source(self) -> Ipv4Addr {
        let [a, b, c, d, ..] = self.addresses.to_ne_bytes();
        Ipv4Addr::new(a, b, c, d)
    }

    /// Destination address.
    #[inline]
    pub fn destination(self) -> Ipv4Addr {
        let [.., a, b, c, d] = self.addresses.to_ne_bytes();
        Ipv4Addr::new(a, b, c, d)
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
            addresses: self.addresses.rotate_left(32),
            ports: self.ports.rotate_left(16),
            protocol: self.protocol,
        }
    }
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
