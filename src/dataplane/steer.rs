//! Whose is it? Asked only of a packet that no connection of this worker claims.
//!
//! A reply to a local address names its owner by its local port, or by its Toeplitz hash
//! (`conn::ports`). A reply in NAT mode goes to the client itself, so there the owner follows from
//! the client's address and port alone, which both directions carry. A client's packet that came by
//! a port which keeps flows together belongs to the worker that got it; by any other port, the
//! owner follows from the client alone too, whatever the mode: a reload may change that.

use std::net::Ipv4Addr;

use super::conn::key::FlowKey;
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
        origin: Origin,
    ) -> Fate {
        if !self.is_ours(packet) {
            return self.count(Reason::OtherStation);
        }
        let key = parsed.key;
        let to_vip = self.snapshot.is_vip(key.destination().into());
        let owner = if to_vip {
            self.request_owner(packet.port(), key, origin)
        } else if self.snapshot.is_local(key.destination().into()) {
            self.ownership.reply(key)
        } else if self.snapshot.is_nat_backend(key.source().into(), key.source_port(), key.protocol)
        {
            self.client_owner(key.protocol, (key.destination(), key.destination_port()))
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

    fn request_owner(&self, port: PortId, key: FlowKey, origin: Origin) -> WorkerId {
        // Whoever handed it over has computed that it is ours.
        if origin == Origin::Handover {
            return self.ownership.me();
        }
        let steering = self.snapshot.ports.get(port.index()).map(|port| &port.steering);
        let stays = matches!(steering, Some(Steering::Rss { .. }));
        let service = self.snapshot.service_for(
            key.destination().into(),
            key.destination_port(),
            key.protocol,
        );
        if stays && !service.is_some_and(|service| self.snapshot.is_by_client(service)) {
            self.ownership.me()
        } else {
            self.client_owner(key.protocol, (key.source(), key.source_port()))
        }
    }

    /// The owner that follows from the client alone.
    fn client_owner(&self, protocol: u8, client: (Ipv4Addr, u16)) -> WorkerId {
        let alone = FlowKey::new(protocol, client, (Ipv4Addr::UNSPECIFIED, 0));
        self.ownership.request(self.table.hash(alone))
    }

    fn hand_over(&self, owner: WorkerId, origin: Origin) -> Fate {
        match origin {
            Origin::Port => Fate::HandOver(owner),
            Origin::Handover => self.count(Reason::HandoverLoop),
        }
    }
}
