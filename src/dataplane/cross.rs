//! Connections between the families: IPv6 clients, IPv4 backends (NAT64, RFC 7915), in FULL-NAT.
//!
//! The connection lives in the IPv6 table, its backend's side under IPv4-mapped addresses. A
//! client's packet finds it as any IPv6 packet does. A backend's reply is an IPv4 packet that no
//! IPv4 connection claims; then it is looked for once more, under mapped addresses.

use super::conn::key::Side;
use super::conn::record::Record;
use super::conn::table::{Hit, Slot};
use super::family::Family;
use super::flows::{Fate, Flows, client_hop, port_mtu};
use super::introduce;
use super::io::Packet;
use super::parse::Parsed;
use super::rewrite::cross;
use super::snapshot::NextHop;
use super::verdict::Reason;
use std::net::Ipv6Addr;

pub use super::rewrite::cross::DIFFERENCE;

impl Flows {
    /// A client's packet, now to become an IPv4 one.
    #[cold]
    pub(super) fn cross_over<F: Family, P: Packet>(
        &mut self,
        packet: &mut P,
        parsed: &Parsed<F>,
        record: &Record<F>,
        next_hop: NextHop,
    ) -> Fate {
        let identification = self.next_short_identification();
        let (key, (_, delta)) = (record.translated(Side::Client), record.deltas(Side::Client));
        let Some(key) = F::unmapped(key) else { return self.count(Reason::NextHop) };
        let change = cross::Change { next_hop, ports: key.ports, delta };
        match cross::to_v4(packet, parsed, key.addresses, &change, identification) {
            Some(()) => Fate::Send(next_hop.port),
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
        let mtu = port_mtu(&self.snapshot, next_hop.port);
        let ip = packet.data().get(usize::from(parsed.l3)..).unwrap_or_default();
        let is_whole = F::is_whole_for_good(ip);
        // Nobody behind us may cut it, and its sender will not learn from errors about it: a packet
        // that may be cut is, to what every way carries (RFC 7915 section 4).
        let mtu = if is_whole { mtu } else { mtu.min(Ipv6Addr::MTU_MIN) };
        let too_long = parsed.end - parsed.l4 > mtu.saturating_sub(cross::HEADER_V6);
        if too_long && is_whole {
            return self.too_big(packet, parsed, mtu.saturating_sub(DIFFERENCE));
        }
        // What was refused leaves no trace: only now.
        record.note(Side::Backend, parsed.signal, self.now_ms);
        let hit = Hit { slot, side: Side::Backend };
        if self.renumber::<Ipv6Addr, F>(packet.data_mut(), parsed, hit).is_none() {
            return self.count(Reason::Truncated);
        }
        let record = self.tables.v6.record_mut(slot);
        if introduce::from_backend(packet.data_mut(), parsed, record).is_none() {
            return self.count(Reason::Truncated);
        }
        let (key, (_, delta)) = (record.translated(Side::Backend), record.deltas(Side::Backend));
        let change = cross::Change { next_hop, ports: key.ports, delta };
        match cross::to_v6(packet, parsed, key.addresses, &change) {
            Some(()) if too_long => Fate::Cut(next_hop.port, mtu),
            Some(()) => Fate::Send(next_hop.port),
            None => self.count(Reason::NoRoom),
        }
    }
}
