//! Plain forwarding: what comes in by one port leaves by the other, untouched. What ports and loop
//! cost here, now; every figure is to be read beside it.

use shunt::dataplane::io::{Burst, Rx as _, Tx as _};
use shunt::dpdk::eal::Eal;

use crate::bed::{self, RingPort, Round, Wire};

/// Two ports and nobody between them.
pub(crate) struct Floor {
    pub(crate) forwarder: Forwarder,
    /// The generator's ends.
    pub(crate) wires: [Wire; 2],
}

/// Its ports.
pub(crate) struct Forwarder([RingPort; 2]);

impl Floor {
    /// Ports `depth` packets deep, which give so many at once.
    pub(crate) fn new(eal: &Eal, depth: u32, burst: u8) -> anyhow::Result<Self> {
        let (ports, wires) = bed::ports(eal, depth, burst)?;
        Ok(Self { forwarder: Forwarder(ports), wires })
    }

    /// Forwards until both ports are empty.
    pub(crate) fn time(&mut self) -> Round {
        Round::of(|| {
            let mut packets = 0;
            loop {
                let moved = self.forwarder.pass();
                packets += moved as u64;
                if moved == 0 {
                    return packets;
                }
            }
        })
    }
}

impl Forwarder {
    /// A burst of either port, if one is there; how many packets it moved.
    #[inline]
    pub(crate) fn pass(&mut self) -> usize {
        self.forward(0, 1) + self.forward(1, 0)
    }

    #[inline]
    fn forward(&mut self, from: usize, to: usize) -> usize {
        let mut burst = Burst::new();
        self.0[from].rx(&mut burst);
        self.0[to].tx(&mut burst)
    }
}
