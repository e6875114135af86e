//! Whose is it? Asked only of a packet that no connection of this worker claims.
//!
//! A reply names its owner by its local port, or by its Toeplitz hash (`conn::ports`). A client's
//! packet that came by a port which keeps flows together belongs to the worker that got it; by any
//! other port, to the worker its hash names.

use super::conn::index::FlowHash;
use super::flows::{Fate, Flows, Origin, PuntClass};
use super::io::Packet;
use super::parse::Parsed;
use super::snapshot::Steering;
use super::verdict::Reason;
use crate::ids::{PortId, WorkerId};

impl Flows {
    /// A packet of no connection here: another worker's, a new one, or not ours at all.
    #[cold]
    pub(super) fn unknown<P: Packet>(
        &mut self,
        packet: &mut P,
        parsed: &Parsed,
        hash: FlowHash,
        origin: Origin,
    ) -> Fate {
        if !self.is_ours(packet) {
            return self.count(Reason::OtherStation);
        }
        let destination = parsed.key.destination();
        let to_vip = self.snapshot.is_vip(destination);
        let owner = if to_vip {
            self.request_owner(packet.port(), hash, origin)
        } else if self.snapshot.is_local(destination) {
            self.ownership.reply(parsed.key)
        } else {
            return Fate::Punt(PuntClass::Other);
        };
        if owner != self.ownership.me() {
            return self.hand_over(owner, origin);
        }
        if to_vip {
            self.admit(packet, parsed)
        } else {
            self.refuse(packet, parsed, Reason::NoConnection)
        }
    }

    fn request_owner(&self, port: PortId, hash: FlowHash, origin: Origin) -> WorkerId {
        let steering = self.snapshot.ports.get(port.index()).map(|port| &port.steering);
        let spreads_flows = matches!(steering, Some(Steering::Rss { .. }));
        // Whoever handed it over has computed that it is ours.
        if spreads_flows || origin == Origin::Handover {
            self.ownership.me()
        } else {
            self.ownership.request(hash)
        }
    }

    fn hand_over(&self, owner: WorkerId, origin: Origin) -> Fate {
        match origin {
            Origin::Port => Fate::HandOver(owner),
            Origin::Handover => self.count(Reason::HandoverLoop),
        }
    }
}
