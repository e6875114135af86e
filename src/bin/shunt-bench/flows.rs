//! The connections of a run: who they are, and in which order they are visited.

use std::net::Ipv4Addr;

use shunt::dataplane::conn::key::FlowKey;

/// The VIP every client asks.
pub(crate) const VIP: (Ipv4Addr, u16) = (Ipv4Addr::new(198, 51, 100, 10), 80);
const TCP: u8 = 6;
/// Clients with one port each; then the next port begins.
const CLIENTS: u32 = 1 << 20;

/// The key of connection `n`'s client.
pub(crate) fn client(n: u32) -> FlowKey {
    let [_, b, c, d] = (n % CLIENTS).to_be_bytes();
    let port = u16::try_from(1024 + n / CLIENTS).unwrap_or(u16::MAX);
    FlowKey::new(TCP, (Ipv4Addr::new(10, b, c, d), port), VIP)
}

/// What the backend of a connection answers with, compact: a run has millions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reply {
    addresses: u64,
    ports: u32,
}

impl Reply {
    /// The answer to a packet that left for the backend.
    pub(crate) fn to(left: FlowKey) -> Self {
        let back = left.reversed();
        Self { addresses: back.addresses, ports: back.ports }
    }

    /// Its key.
    pub(crate) fn key(self) -> FlowKey {
        FlowKey { addresses: self.addresses, ports: self.ports, protocol: TCP }
    }
}

/// A seeded order: the generator of Marsaglia (xorshift64*), good enough to have no order at all.
#[derive(Clone, Debug)]
pub(crate) struct Order(u64);

impl Order {
    /// An order; the seed 0 is taken as 1.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.max(1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// The next 64 bits.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `limit`, and a coin.
    pub(crate) fn below(&mut self, limit: u32) -> (u32, bool) {
        let bits = self.next();
        ((((bits >> 32) * u64::from(limit)) >> 32) as u32, bits & 1 == 1)
    }
}
