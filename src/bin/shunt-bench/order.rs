//! A seeded order: in which connections are visited, and what backends answer them with.

use shunt::dataplane::conn::key::FlowKey;
use shunt::dataplane::family::Family;

/// What the backend of a connection answers with, compact: a run has millions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reply<F: Family> {
    addresses: F::Addresses,
    ports: u32,
}

impl<F: Family> Reply<F> {
    /// The answer to a packet that left for the backend.
    pub(crate) fn to(left: FlowKey<F>) -> Self {
        let back = left.reversed();
        Self { addresses: back.addresses, ports: back.ports }
    }

    /// Its key.
    pub(crate) fn key(self, protocol: u8) -> FlowKey<F> {
        FlowKey { addresses: self.addresses, ports: self.ports, protocol }
    }
}

/// The generator of Marsaglia (xorshift64*), good enough to have no order at all.
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
    #[inline]
    pub(crate) fn below(&mut self, limit: u32) -> (u32, bool) {
        let bits = self.next();
        ((((bits >> 32) * u64::from(limit)) >> 32) as u32, bits & 1 == 1)
    }
}
