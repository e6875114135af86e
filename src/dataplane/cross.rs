//! Connections between the families: IPv6 clients, IPv4 backends (NAT64, RFC 7915), in FULL-NAT.
//!
//! The connection lives in the IPv6 table, its backend's side under IPv4-mapped addresses. A
//! client's packet finds it as any IPv6 packet does. A backend's reply is an IPv4 packet that no
//! IPv4 connection claims; then it is looked for once more, under mapped addresses.
//!
//! **Too long.** An IPv4 packet that may be cut is, to what every IPv6 way carries, with a fragment
//! header (RFC 7915 section 4.1). So is, towards IPv4, what a client sent in pieces, or no longer
//! than IPv6 lets everybody send: it would not send less if it was told. Refused is the first
//! piece of a UDP datagram without checksum: IPv6 wants one, and it covers all pieces (section
//! 4.5).

use super::conn::key::{FlowKey, Side};
use super::conn::table::{Hit, Slot};
use super::endings::{Cause, said};
use super::family::Family;
use super::fate::{Fate, PuntClass};
use super::flows::Flows;
use super::introduce;
use super::io::Packet;
use super::onward::{Onward, Refusal, port_mtu};
use super::parse::Parsed;
use super::rewrite::Translation;
use super::rewrite::cross::{self, Change, SHORT_MAX};
use super::snapshot::NextHop;
use super::verdict::Reason;
use crate::wire::{fragment, ipv4, ipv6};
use std::net::Ipv6Addr;

pub use super::rewrite::cross::{DIFFERENCE, HEADER_V6};

impl Flows {
    /// A client's packet, into which `inserted` bytes have gone, now to become an IPv4 one on a way
    /// that carries `mtu` bytes.
    #[cold]
    pub(super) fn cross_over<F: Family, P: Packet>(
        &mut self,
        packet: &mut P,
        parsed: &Parsed<F>,
        to: &Translation<F>,
        (onward, inserted): (&Onward, u16),
    ) -> Fate {
        let is_short = length_v4(parsed).saturating_sub(inserted) <= SHORT_MAX;
        let fresh = is_short.then(|| self.next_short_identification());
        let change = Change { next_hop: onward.next_hop, transport: Some((to.ports, to.l4_delta)) };
        self.over(packet, parsed, to, &change, (onward.way, fresh))
    }

    /// A client's piece after the first.
    pub(super) fn cross_over_later<F: Family, P: Packet>(
        &self,
        packet: &mut P,
        parsed: &Parsed<F>,
        to: &Translation<F>,
        onward: &Onward,
    ) -> Fate {
        let change = Change { next_hop: onward.next_hop, transport: None };
        self.over(packet, parsed, to, &change, (onward.way, None))
    }

    fn over<F: Family, P: Packet>(
        &self,
        packet: &mut P,
        parsed: &Parsed<F>,
        to: &Translation<F>,
        change: &Change,
        (mtu, fresh): (u16, Option<u16>),
    ) -> Fate {
        let key = FlowKey { ports: to.ports, addresses: to.addresses, ..parsed.key };
        let Some(key) = F::unmapped(key) else { return self.count(Reason::NextHop) };
        let port = change.next_hop.port;
        match cross::to_v4(packet, parsed, key.addresses, change, fresh) {
            Some(()) if length_v4(parsed) > mtu => Fate::Cut(port, mtu),
            Some(()) => Fate::Send(port),
            None => self.count(Reason::Truncated),
        }
    }

    /// A packet to a local address that no connection of its own family claims: perhaps one
    /// between the families does.
    #[cold]
    pub(super) fn reply_between_families<F: Family, P: Packet>(
        &mut self,
        packet: &mut P,
        parsed: &Parsed<F>,
    ) -> Fate {
        let hit = F::crossed(&self.tables, parsed.key);
        let Some(hit) = hit.filter(|hit| hit.side == Side::Backend) else {
            return self.reply_to_nobody(packet, parsed);
        };
        let record = self.tables.v6.record(hit.slot);
        let next_hop = match self.leaves(record, Side::Backend, parsed.ttl) {
            Ok(next_hop) => next_hop,
            Err(reason) => {
                if reason == Reason::BackendGone {
                    self.announce::<Ipv6Addr>(hit.slot, Cause::Order, &[Side::Client]);
                    self.forget::<Ipv6Addr>(hit.slot);
                }
                return self.refuse(packet, parsed, reason);
            }
        };
        if record.is_spliced()
            && let Some(fate) = self.backend_speaks::<Ipv6Addr, F, P>(packet, parsed, hit.slot)
        {
            return fate;
        }
        self.cross_back(packet, parsed, hit.slot, next_hop)
    }

    /// A backend's packet of no connection. To what was a local address and is none any more it is the
    /// kernel's: the address may be the box's own by now.
    fn reply_to_nobody<F: Family, P: Packet>(
        &mut self,
        packet: &mut P,
        parsed: &Parsed<F>,
    ) -> Fate {
        let to = parsed.key.destination().into();
        if self.snapshot.has_backends_at(to) && !self.snapshot.is_local(to) {
            return Fate::Punt(PuntClass::Other);
        }
        self.refuse(packet, parsed, Reason::NoConnection)
    }

    /// May a backend's packet go on between the families, as far as its connection is concerned?
    pub(super) fn ask_back<F: Family>(
        &self,
        frame: &[u8],
        parsed: &Parsed<F>,
        slot: Slot,
    ) -> Result<(), Refusal> {
        let next_hop = self.leaves(self.tables.v6.record(slot), Side::Backend, parsed.ttl)?;
        self.way_back(frame, parsed, next_hop).map(|_| ())
    }

    /// The last questions: can it be a packet of the other family, and does it fit?
    fn way_back<F: Family>(
        &self,
        frame: &[u8],
        parsed: &Parsed<F>,
        next_hop: NextHop,
    ) -> Result<Way, Refusal> {
        let way = Way::of(frame, parsed, port_mtu(&self.snapshot, next_hop.port));
        let segment = frame.get(usize::from(parsed.l4)..).unwrap_or_default();
        if way.in_pieces && cross::lacks_checksum(segment, parsed.key.protocol) {
            return Err(Reason::Fragment.into());
        }
        if way.is_too_narrow() {
            return Err(Refusal::TooBig(way.mtu_v4()));
        }
        Ok(way)
    }

    /// A backend's packet, now to become an IPv6 one.
    fn cross_back<F: Family, P: Packet>(
        &mut self,
        packet: &mut P,
        parsed: &Parsed<F>,
        slot: Slot,
        next_hop: NextHop,
    ) -> Fate {
        let way = match self.way_back(packet.data(), parsed, next_hop) {
            Ok(way) => way,
            Err(refusal) => return self.turn_away(packet, parsed, refusal),
        };
        if let Some(number) = said(packet.data(), parsed) {
            self.tables.v6.remember(slot, Side::Backend, number);
        }
        let hit = Hit { slot, side: Side::Backend };
        self.note::<Ipv6Addr>(hit, (parsed.signal, parsed.length()));
        if self.renumber::<Ipv6Addr, F>(packet.data_mut(), parsed, hit).is_none() {
            return self.count(Reason::Truncated);
        }
        let record = self.tables.v6.record_mut(slot);
        if introduce::from_backend(packet.data_mut(), parsed, record).is_none() {
            return self.count(Reason::Truncated);
        }
        let (key, (_, delta)) = (record.translated(Side::Backend), record.deltas(Side::Backend));
        let change = Change { next_hop, transport: Some((key.ports, delta)) };
        self.back(packet, parsed, key.addresses, &change, &way)
    }

    /// A backend's piece after the first.
    pub(super) fn cross_back_later<F: Family, P: Packet>(
        &mut self,
        packet: &mut P,
        parsed: &Parsed<F>,
        slot: Slot,
    ) -> Fate {
        let leaves = self.leaves(self.tables.v6.record(slot), Side::Backend, parsed.ttl);
        let next_hop = match leaves {
            Ok(next_hop) => next_hop,
            Err(reason) => return self.count(reason),
        };
        let way = Way::of(packet.data(), parsed, port_mtu(&self.snapshot, next_hop.port));
        if way.is_too_narrow() {
            return self.count(Reason::TooBig);
        }
        let record = self.tables.v6.record_mut(slot);
        record.seen_ms = self.now_ms;
        self.volumes.count(record.backend_id(), Side::Backend, parsed.length());
        let addresses = record.translated(Side::Backend).addresses;
        self.back(packet, parsed, addresses, &Change { next_hop, transport: None }, &way)
    }

    fn back<F: Family, P: Packet>(
        &self,
        packet: &mut P,
        parsed: &Parsed<F>,
        addresses: ipv6::Addresses,
        change: &Change,
        way: &Way,
    ) -> Fate {
        let port = change.next_hop.port;
        match cross::to_v6(packet, parsed, addresses, change, way.too_long) {
            Some(()) if way.too_long => Fate::Cut(port, way.mtu),
            Some(()) => Fate::Send(port),
            None => self.count(Reason::NoRoom),
        }
    }
}

/// How a backend's packet fits the way to its client.
struct Way {
    /// What an IPv6 packet may have.
    mtu: u16,
    too_long: bool,
    may_be_cut: bool,
    in_pieces: bool,
}

impl Way {
    /// A packet's on a link of `port_mtu` bytes. Nobody behind us may cut it, and the sender of one
    /// without DF does not learn from errors about it: that is cut to what every way carries.
    fn of<F: Family>(frame: &[u8], parsed: &Parsed<F>, port_mtu: u16) -> Self {
        let ip = frame.get(usize::from(parsed.l3)..).unwrap_or_default();
        let (may_be_cut, in_pieces) = (!F::is_whole_for_good(ip), fragment::is_in(ip));
        let mtu = if may_be_cut { port_mtu.min(Ipv6Addr::MTU_MIN) } else { port_mtu };
        let header = cross::HEADER_V6 + if in_pieces { FRAGMENT_HEADER } else { 0 };
        let too_long = parsed.end - parsed.l4 > mtu.saturating_sub(header);
        Self { mtu, too_long, may_be_cut, in_pieces }
    }

    fn is_too_narrow(&self) -> bool {
        self.too_long && !self.may_be_cut
    }

    /// What it carries of the packets its sender makes.
    fn mtu_v4(&self) -> u16 {
        let gain = DIFFERENCE + if self.in_pieces { FRAGMENT_HEADER } else { 0 };
        self.mtu.saturating_sub(gain)
    }
}

/// Bytes of the fragment header.
const FRAGMENT_HEADER: u16 = 8;

const _: () =
    assert!(FRAGMENT_HEADER as usize == fragment::LEN, "it is written twice for its type");

/// How long an IPv6 packet will be in IPv4.
pub(super) fn length_v4<F: Family>(parsed: &Parsed<F>) -> u16 {
    (parsed.end - parsed.l4).saturating_add(HEADER_V4)
}

/// Bytes of an IPv4 header.
const HEADER_V4: u16 = 20;

const _: () = assert!(HEADER_V4 as usize == ipv4::LEN, "it is written twice for its type");
