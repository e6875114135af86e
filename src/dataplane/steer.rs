//! Whose is it? Asked only of a packet that no connection of this worker claims.
//!
//! A reply to a local address names its owner by its local port, or by its Toeplitz hash
//! (`conn::ports`). A reply in NAT mode goes to the client itself, so there the owner follows from
//! the client's address and port alone, which both directions carry. A client's packet that came by
//! a port which keeps flows together (all ports spreading alike; TCP, UDP) belongs to the worker that got it; else the
//! owner follows from the client alone too, whatever the mode: a reload may change that.
//!
//! What the box's own programs send comes by no card at all: its owner follows from the client.
//!
//! ICMP errors and pieces do not come as packets of their flow do, so for these a card's choice is
//! computed ([`Flows::flow_owners`]). Where a reload has put a backend into NAT mode, older
//! connections stay with the worker to whom the card brings them, and new ones follow the client:
//! such a worker is asked first, as it is when whole packets come by the card, and the other next.

use std::net::IpAddr;

use super::conn::key::FlowKey;
use super::family::Family;
use super::flows::{Fate, Flows, Origin, PuntClass};
use super::io::Packet;
use super::parse::Parsed;
use super::verdict::Reason;
use crate::ids::{ServiceId, WorkerId};

/// What part we have in a packet's flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// It is to a VIP, for that service if there is one.
    Request(Option<ServiceId>),
    /// It is to a local address, or from a backend in NAT mode to its client.
    Reply,
}

/// Who may own a flow that was found out about by what a packet says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owners {
    /// Asked first: to whom whole packets come.
    pub(super) first: WorkerId,
    /// Asked when that one does not know it; it makes new connections. Mostly the same.
    pub(super) next: WorkerId,
}

impl Flows {
    /// A packet of no connection here: another worker's, a new one, or not ours at all.
    #[inline(never)]
    pub(super) fn unknown<F: Family, P: Packet>(
        &mut self,
        packet: &mut P,
        parsed: &Parsed<F>,
        origin: Origin,
    ) -> Fate {
        let Some((part, owner)) = self.owner(parsed.key, origin) else {
            return Fate::Punt(PuntClass::Other);
        };
        if owner != self.ownership.me() {
            return self.hand_over(owner, origin);
        }
        match part {
            Part::Request(service) => self.admit(packet, parsed, service),
            Part::Reply => self.reply_between_families(packet, parsed),
        }
    }

    /// What part we have in packets with this key, and which worker is to play it.
    pub(super) fn owner<F: Family>(
        &self,
        key: FlowKey<F>,
        origin: Origin,
    ) -> Option<(Part, WorkerId)> {
        let (source, destination): (IpAddr, IpAddr) =
            (key.source().into(), key.destination().into());
        // With other workers that is the usual reason to be here: they wait for it.
        if self.ownership.workers() > 1 && self.snapshot.is_for_answers(destination) {
            return Some((Part::Reply, self.ownership.reply(key)));
        }
        let service = self.snapshot.service_of(key);
        if service.is_some() || self.snapshot.has_clients_at(destination) {
            Some((Part::Request(service), self.request_owner(key, service, origin)))
        } else if self.snapshot.has_backends_at(destination) {
            Some((Part::Reply, self.ownership.reply(key)))
        } else if self.snapshot.is_nat_backend(source, key.source_port(), key.protocol) {
            let client = (key.destination(), key.destination_port());
            Some((Part::Reply, self.client_owner(key.protocol, client)))
        } else {
            None
        }
    }

    fn request_owner<F: Family>(
        &self,
        key: FlowKey<F>,
        service: Option<ServiceId>,
        origin: Origin,
    ) -> WorkerId {
        // Whoever handed it over has computed that it is ours.
        if origin == Origin::Handover || self.ownership.workers() == 1 {
            return self.ownership.me();
        }
        let is_own = self.snapshot.is_own(key.source().into());
        let stays = self.ownership.is_by_card(key.protocol) && !is_own;
        // Where there is no service (any more), connections may be left that follow from who the client is;
        // those that the card brings here would have been found here.
        if stays && service.is_some_and(|service| !self.snapshot.is_by_client(service)) {
            self.ownership.me()
        } else {
            self.client_owner(key.protocol, (key.source(), key.source_port()))
        }
    }

    /// As [`Flows::owner`], for what did not come as packets of the flow come, so that where it
    /// came in says nothing: ICMP errors, pieces.
    pub(super) fn flow_owners<F: Family>(&self, key: FlowKey<F>) -> Option<Owners> {
        if !self.snapshot.has_clients_at(key.destination().into()) {
            let (_, owner) = self.owner(key, Origin::Port)?;
            return Some(Owners { first: owner, next: owner });
        }
        let service = self.snapshot.service_of(key);
        let by_client = service.is_none_or(|service| self.snapshot.is_by_client(service));
        let is_own = self.snapshot.is_own(key.source().into());
        let by_card = self.ownership.card(key).filter(|_| !is_own);
        let next = match by_card {
            Some(worker) if !by_client => worker,
            _ => self.client_owner(key.protocol, (key.source(), key.source_port())),
        };
        Some(Owners { first: by_card.unwrap_or(next), next })
    }

    /// Whom to hand it to before the flow is looked for here. `None`: it is to be looked for here.
    pub(super) fn first_elsewhere(&self, owners: Owners, origin: Origin) -> Option<WorkerId> {
        let me = self.me();
        let is_sent_on = origin == Origin::Handover && owners.next == me;
        (owners.first != me && !is_sent_on).then_some(owners.first)
    }

    /// Whom to hand it to when the flow was not found here. `None`: nobody else knows it.
    pub(super) fn next_elsewhere(&self, owners: Owners) -> Option<WorkerId> {
        let me = self.me();
        (owners.first == me && owners.next != me).then_some(owners.next)
    }

    /// The owner that follows from the client alone.
    fn client_owner<F: Family>(&self, protocol: u8, client: (F, u16)) -> WorkerId {
        let alone = FlowKey::new(protocol, client, (F::UNSPECIFIED, 0));
        self.ownership.request(F::table(&self.tables).hash(alone))
    }

    pub(super) fn hand_over(&self, owner: WorkerId, origin: Origin) -> Fate {
        match origin {
            Origin::Port => Fate::HandOver(owner),
            Origin::Handover => self.count(Reason::HandoverLoop),
        }
    }
}
