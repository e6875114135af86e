//! ICMP and `ICMPv6` to our addresses: pings by policy, errors to whom they concern (lvs.md calls
//! this IPVS's behaviour; RFC 5508 is the same idea for NATs).
//!
//! An error quotes the packet it is about, and that packet passed here under one of a connection's
//! two faces. Its reverse is a key of the connection, so the quote finds the record as a packet
//! would, at the same owner (and it was sent to where that packet came from):
//!
//! ```text
//! from the backend's side, quoting  local → backend   ──► to the client, from the VIP,
//!                                                          quoting  client → VIP
//! from the client's side, quoting   VIP → client      ──► to the backend, from the local address
//!                                                          (NAT: from who sent it),
//!                                                          quoting  backend → local
//! about a tunnel's outer packet, to ourselves         ──► to the client, from the VIP,
//!                                                          quoting what was inside
//! ```
//!
//! In DR and tunnel mode the backend answers under the VIP by itself, so an error about its
//! packets goes to it as it came, by the connection's own way. What concerns no flow of ours is the
//! kernel's, as any ICMP; what concerns a flow we do not know is refused. So is an error with a wrong
//! checksum: a recomputed one would vouch for it. One that is longer than its next link carries quotes
//! less. Limits: an error in pieces, or one that quotes less
//! than the ports, is not translated; an SCTP checksum in a quote stays as it was.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::conn::key::{FlowKey, Side};
use super::conn::record::Record;
use super::family::Family;
use super::fate::{Fate, Origin, PuntClass};
use super::flows::Flows;
use super::introduce;
use super::io::Packet;
use super::onward::port_mtu;
use super::parse::Other;
use super::rewrite::number;
use super::snapshot::Ping;
use super::splice;
use super::verdict::Reason;

mod astray;
mod convert;
mod cross;
mod message;
mod quote;
mod tunnel;

use message::Message;
use quote::Quote;

impl Flows {
    /// ICMP of either family, to whomever.
    #[cold]
    pub(super) fn icmp<P: Packet>(&mut self, packet: &mut P, other: Other, origin: Origin) -> Fate {
        match other.destination {
            IpAddr::V4(_) => self.icmp_of::<Ipv4Addr, P>(packet, other.destination, origin),
            IpAddr::V6(_) => self.icmp_of::<Ipv6Addr, P>(packet, other.destination, origin),
        }
    }

    fn icmp_of<F: Family, P: Packet>(
        &mut self,
        packet: &mut P,
        to: IpAddr,
        origin: Origin,
    ) -> Fate {
        let Some(message) = Message::<F>::read(packet.data()) else {
            return Fate::Punt(PuntClass::Other);
        };
        if message.is_ping() {
            return self.ping(to);
        }
        if !message.is_error() {
            return Fate::Punt(PuntClass::Other);
        }
        // A tunnel's outer packet may look like one of a flow: GUE is UDP.
        if let Some(fate) = self.about_tunnel(packet, &message, origin) {
            return fate;
        }
        match Quote::<F>::read(packet.data(), message.quote, message.end) {
            Some(quote) => self.icmp_error(packet, &message, &quote, origin),
            None => Fate::Punt(PuntClass::Other),
        }
    }

    /// Who answers a ping of `to`?
    pub(super) fn ping(&self, to: IpAddr) -> Fate {
        let silent = match self.snapshot.ping {
            Ping::Always => false,
            Ping::Never => true,
            Ping::Live => !self.snapshot.is_live_vip(to),
        };
        if silent && self.snapshot.is_vip(to) {
            return self.count(Reason::Ping);
        }
        Fate::Punt(PuntClass::Other)
    }

    /// An error about a packet that may have passed here.
    fn icmp_error<F: Family, P: Packet>(
        &mut self,
        packet: &mut P,
        message: &Message<F>,
        quote: &Quote<F>,
        origin: Origin,
    ) -> Fate {
        let key = quote.key.reversed();
        let ours = message.destination == key.destination();
        let Some(owners) = self.flow_owners(key).filter(|_| ours) else {
            return Fate::Punt(PuntClass::Other);
        };
        if let Some(owner) = self.first_elsewhere(owners, origin) {
            return self.hand_over(owner, origin);
        }
        if let Err(reason) = message.verify(packet.data()) {
            return self.count(reason);
        }
        let table = F::table(&self.tables);
        if let Some(hit) = table.find(key, table.hash(key)) {
            let record = *table.record(hit.slot);
            if let (Side::Client, Some(splice)) = (hit.side, table.splice(hit.slot)) {
                splice::take_back(quote.segment(packet.data_mut()), splice);
            }
            return self.pass_on(packet, message, quote, (&record, hit.side));
        }
        if let Some(owner) = self.next_elsewhere(owners) {
            return Fate::HandOver(owner);
        }
        match self.elsewhere(packet, key) {
            Some(record) => self.pass_on(packet, message, quote, (&record, Side::Client)),
            None => self.icmp_between_families(packet, message, quote),
        }
    }

    /// An error about a packet of a connection, to the other end.
    fn pass_on<F: Family, P: Packet>(
        &mut self,
        packet: &mut P,
        message: &Message<F>,
        quote: &Quote<F>,
        (record, side): (&Record<F>, Side),
    ) -> Fate {
        let next_hop = match self.leaves(record, side, message.ttl) {
            Ok(next_hop) => next_hop,
            Err(reason) => return self.count(reason),
        };
        if record.is_crossed() {
            return self.cross_error(packet, message, quote, record, next_hop);
        }
        let about = record.key(side.opposite());
        let to = F::pair(error_source(record, side, message, about), about.source());
        if side == Side::Backend {
            let room = introduce::room(record);
            if let Some(mtu) = message.leave_room(packet.data_mut(), room) {
                self.path_mtus.learn::<F>(record.backend_id(), mtu, self.now_ms);
            }
            introduce::take_back(quote.segment(packet.data_mut()), record);
            number::mask_piece(quote.packet(packet.data_mut()), self.number_mask(record));
        }
        let onward = self.onward(record, side, next_hop);
        let length = message.length();
        let (message, link) = (&mut { *message }, port_mtu(&self.snapshot, next_hop.port));
        let done = quote.rewrite(packet.data_mut(), about)
            && next_hop.pair().store(packet.data_mut())
            && (onward.outer.is_some() || message.fit(packet, link))
            && message.rewrite(packet.data_mut(), to);
        if done {
            self.volumes.count(record.backend_id(), side, length);
        }
        match (onward.outer, message.as_parsed(quote.key.reversed())) {
            (Some(outer), Some(parsed)) if done => self.wrap(packet, &parsed, outer, &onward),
            (None, _) if done => Fate::Send(next_hop.port),
            _ => self.count(Reason::Truncated),
        }
    }
}

/// From whom the other end hears of an error that came from `side`: from the address it talks to,
/// but a backend that sees clients themselves hears from who sent it.
fn error_source<F: Family>(
    record: &Record<F>,
    side: Side,
    message: &Message<F>,
    about: FlowKey<F>,
) -> F {
    let is_passed_on = side == Side::Client && record.shows_client();
    if is_passed_on { message.source } else { about.destination() }
}
