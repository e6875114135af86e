//! What another director of the same VIPs passes on to this box is not balanced again.
//!
//! ```text
//! client ─► A ─ dr ─► B, a backend of A's ─► the program at the VIP      not ─► A ─► B ─► …
//! ```
//!
//! Every packet to a VIP that comes in a director's frames is the kernel's: segments of connections that this
//! box knows too, pieces, ICMP errors. So no packet is passed on by both, whatever either remembers. Asked
//! before anything is looked up, and only where there are directors: others pay one question a burst.

use std::mem;
use std::net::IpAddr;

use super::Worker;
use crate::dataplane::established::sender;
use crate::dataplane::flows::{Flows, PuntClass};
use crate::dataplane::io::{Burst, Packet, Platform};
use crate::dataplane::parse::{Parse, examine};
use crate::wire::Mac;

impl<P: Platform> Worker<P> {
    /// Gives the kernel what is its own of a burst that came in by a port.
    #[cold]
    pub(super) fn set_aside_directed(&mut self, burst: &mut Burst<P::Packet>) {
        for packet in mem::take(burst) {
            if self.flows.is_directed(&packet) {
                self.give_to_kernel(packet, PuntClass::Other);
            } else {
                // There is room for all that came.
                burst.try_push(packet).ok();
            }
        }
    }
}

impl Flows {
    /// Has another director sent this on, to us, for a VIP?
    fn is_directed<P: Packet>(&self, packet: &P) -> bool {
        let station = self.snapshot.stations().of(packet.port());
        self.snapshot.is_director(Mac::of_number(sender(packet.data())))
            && station.takes(packet.data())
            && destination(packet).is_some_and(|to| self.snapshot.is_vip(to))
    }
}

/// Where a packet goes, if it has a right header.
fn destination<P: Packet>(packet: &P) -> Option<IpAddr> {
    match examine(packet.data(), packet.rx_info()) {
        Parse::Flow(parsed) => Some(parsed.key.destination().into()),
        Parse::Flow6(parsed) => Some(parsed.key.destination().into()),
        Parse::Other(other) => Some(other.destination),
        Parse::NotIp | Parse::Drop(_) => None,
    }
}
