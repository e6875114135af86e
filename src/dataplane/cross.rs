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

use super::conn::key::Side;
use super::conn::record::Record;
use super::conn::table::{Hit, Slot};
use super::family::Family;
use super::flows::{Fate, Flows, client_hop, port_mtu, turned};
use super::introduce;
use super::io::Packet;
use super::parse::Parsed;
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
        record: &Record<F>,
        (next_hop, mtu): (NextHop, u16),
        inserted: u16,
    ) -> Fate {
        let (key, (_, delta)) = (record.translated(Side::Client), record.deltas(Side::Client));
        let is_short = length_v4(parsed).saturating_sub(inserted) <= SHORT_MAX;
        let fresh = is_short.then(|| self.next_short_identification());
        let change = Change { next_hop, transport: Some((key.ports, delta)) };
        self.over(packet, parsed, record, &change, (mtu, fresh))
    }

    /// A client's piece after the first.
    pub(super) fn cross_over_later<F: Family, P: Packet>(
        &self,
        packet: &mut P,
        parsed: &Parsed<F>,
        record: &Record<F>,
        (next_hop, mtu): (NextHop, u16),
    ) -> Fate {
        let change = Change { next_hop, transport: None };
        self.over(packet, parsed, record, &change, (mtu, None))
    }

    fn over<F: Family, P: Packet>(
        &self,
        packet: &mut P,
        parsed: &Parsed<F>,
        record: &Record<F>,
        change: &Change,
        (mtu, fresh): (u16, Option<u16>),
    ) -> Fate {
        let Some(key) = F::unmapped(record.translated(Side::Client)) else {
            return self.count(Reason::NextHop);
        };
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
            return self.refuse(packet, parsed, Reason::NoConnection);
        };
        if self.snapshot.backend(self.tables.v6.record(hit.slot).backend_id()).is_none() {
            self.forget::<Ipv6Addr>(hit.slot);
            return self.refuse(packet, parsed, Reason::BackendGone);
        }
        if parsed.ttl <= 1 {
            return self.refuse(packet, parsed, Reason::TtlExpired);
        }
        if self.tables.v6.record(hit.slot).is_spliced()
            && let Some(fate) = self.backend_speaks::<Ipv6Addr, F, P>(packet, parsed, hit.slot)
        {
            return fate;
        }
        self.cross_back(packet, parsed, hit.slot)
    }

    /// A backend's packet, now to become an IPv6 one.
    fn cross_back<F: Family, P: Packet>(
        &mut self,
        packet: &mut P,
        parsed: &Parsed<F>,
        slot: Slot,
    ) -> Fate {
        let record = self.tables.v6.record_mut(slot);
        let Some(next_hop) = client_hop(&self.snapshot, record) else {
            return self.count(Reason::NextHop);
        };
        let way = Way::of(packet.data(), parsed, port_mtu(&self.snapshot, next_hop.port));
        if way.is_too_narrow() {
            return self.too_big(packet, parsed, way.mtu_v4());
        }
        let segment = packet.data().get(usize::from(parsed.l4)..).unwrap_or_default();
        if way.in_pieces && cross::lacks_checksum(segment, parsed.key.protocol) {
            return self.count(Reason::Fragment);
        }
        // What was refused leaves no trace: only now.
        if record.note(Side::Backend, parsed.signal, self.now_ms) {
            let (backend, active) = (record.backend_id(), record.state().is_active());
            turned(&self.stats, &self.snapshot, &mut self.chooser, backend, active);
        }
        let hit = Hit { slot, side: Side::Backend };
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
        let record = self.tables.v6.record_mut(slot);
        if self.snapshot.backend(record.backend_id()).is_none() {
            return self.count(Reason::BackendGone);
        }
        let Some(next_hop) = client_hop(&self.snapshot, record) else {
            return self.count(Reason::NextHop);
        };
        if parsed.ttl <= 1 {
            return self.count(Reason::TtlExpired);
        }
        let way = Way::of(packet.data(), parsed, port_mtu(&self.snapshot, next_hop.port));
        if way.is_too_narrow() {
            return self.count(Reason::TooBig);
        }
        record.seen_ms = self.now_ms;
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
fn length_v4<F: Family>(parsed: &Parsed<F>) -> u16 {
    (parsed.end - parsed.l4).saturating_add(HEADER_V4)
}

/// Bytes of an IPv4 header.
const HEADER_V4: u16 = 20;

const _: () = assert!(HEADER_V4 as usize == ipv4::LEN, "it is written twice for its type");
