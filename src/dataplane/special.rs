//! Packets of known connections that need more than new addresses: an outer header, the other
//! family's header, bytes that tell the backend who the client is, or cutting.
//!
//! ```text
//! flows::established ──► special ─┬─ what goes in (introduce)       it grows by that much
//!                                 ├─ does it still fit? cut it, or tell its sender (MTU)
//!                                 └─ rewrite, then wrap (tunnel) or cross over (NAT64)
//! ```
//!
//! Apart from the hot path, which sees them at one comparison and pays no more for them.

use super::conn::key::Side;
use super::conn::record::Record;
use super::conn::table::Hit;
use super::cross;
use super::family::Family;
use super::flows::{Fate, Flows, port_mtu, translation};
use super::introduce::{self, Insertion};
use super::io::Packet;
use super::parse::Parsed;
use super::reply::IcmpError;
use super::rewrite::translate;
use super::rewrite::tunnel::{self, Tunnel};
use super::snapshot::{Backend, ClientAddress, Encapsulation, NextHop};
use super::verdict::Reason;

impl Flows {
    /// A packet of a connection we know that needs more than new addresses: wrapped, between the
    /// families, or too long for its next link.
    pub(super) fn special<F: Family, P: Packet>(
        &mut self,
        packet: &mut P,
        parsed: &Parsed<F>,
        hit: Hit,
        next_hop: NextHop,
    ) -> Fate {
        let record = *F::table(&self.tables).record(hit.slot);
        let length = parsed.end - parsed.l3;
        let port_mtu = port_mtu(&self.snapshot, next_hop.port);
        let mtu = self.path_mtu(&record, hit.side, port_mtu);
        let Some(insertion) = self.insertion(packet, parsed, hit, length, mtu) else {
            return self.count(Reason::Fragment);
        };
        let mtu = mtu.saturating_sub(insertion.length());
        let too_long = length > mtu;
        if too_long && !self.may_cut(packet.data(), parsed, &record) {
            return self.too_big(packet, parsed, mtu);
        }
        let parsed = &mut { *parsed };
        if self.introduce(packet, parsed, hit, &insertion).is_none() {
            return self.count(Reason::NoRoom);
        }
        let table = F::table_mut(&mut self.tables);
        table.record_mut(hit.slot).note(hit.side, parsed.signal, self.now_ms);
        if record.is_crossed() {
            return self.cross_over(packet, parsed, &record, next_hop);
        }
        let translation = translation(&record, hit.side, next_hop);
        if !translate::rewrite(packet.data_mut(), parsed, &translation) {
            return self.count(Reason::Truncated);
        }
        match record.wrapping() {
            Some(encapsulation) => self.wrap(packet, parsed, encapsulation, &record),
            None if too_long => Fate::Cut(next_hop.port, port_mtu),
            None => Fate::Send(next_hop.port),
        }
    }

    /// What goes into a packet, so that the backend learns who the client is. Where there is no
    /// room and it can do without, nothing. `None` if the packet cannot go on.
    fn insertion<F: Family, P: Packet>(
        &mut self,
        packet: &P,
        parsed: &Parsed<F>,
        hit: Hit,
        length: u16,
        mtu: u16,
    ) -> Option<Insertion> {
        let record = F::table_mut(&mut self.tables).record_mut(hit.slot);
        if hit.side == Side::Backend || record.introduction() == ClientAddress::None {
            return Some(Insertion::Nothing);
        }
        if let Some(first) = introduce::starts_at(packet.data(), parsed) {
            record.start_stream(first, introduce::in_stream(record));
        }
        let insertion = introduce::insertion(packet.data(), parsed, record)?;
        let fits = length.saturating_add(insertion.length()) <= mtu;
        Some(if fits || !insertion.can_be_left_out() { insertion } else { Insertion::Nothing })
    }

    /// Inserts it, or takes its traces out of a backend's packet.
    fn introduce<F: Family, P: Packet>(
        &mut self,
        packet: &mut P,
        parsed: &mut Parsed<F>,
        hit: Hit,
        insertion: &Insertion,
    ) -> Option<()> {
        let record = F::table_mut(&mut self.tables).record_mut(hit.slot);
        if record.introduction() == ClientAddress::None {
            return Some(());
        }
        if hit.side == Side::Client {
            return introduce::from_client(packet, parsed, record, insertion);
        }
        introduce::from_backend(packet.data_mut(), parsed, record)
    }

    /// Longest packet of a connection, as it came in, that fits a link of `mtu` bytes when it goes
    /// out.
    pub(super) fn path_mtu<F: Family>(&self, record: &Record<F>, side: Side, mtu: u16) -> u16 {
        let backend = self.snapshot.backend(record.backend_id());
        match (record.wrapping(), backend) {
            (Some(encapsulation), Some(backend)) => {
                let outer = self.path_mtus.limit(record.backend_id(), mtu, self.now_ms);
                let inner = outer.saturating_sub(tunnel::overhead(encapsulation, backend.address));
                // A sender need not make anything shorter: then the outer packet is cut.
                inner.max(F::MTU_MIN)
            }
            _ if !record.is_crossed() => mtu,
            _ if side == Side::Client => mtu.saturating_add(cross::DIFFERENCE),
            _ => mtu.saturating_sub(cross::DIFFERENCE),
        }
    }

    /// May a packet too long for its way be cut? IPv6 never is, nor IPv4 with DF, unless it is
    /// told to be: then the outer packet of the tunnel is.
    pub(super) fn may_cut<F: Family>(
        &self,
        frame: &[u8],
        parsed: &Parsed<F>,
        record: &Record<F>,
    ) -> bool {
        let packet = frame.get(usize::from(parsed.l3)..).unwrap_or_default();
        let ignores_df = self.snapshot.tunnels_ignore_df && record.wrapping().is_some();
        !F::is_whole_for_good(packet) || (ignores_df && !F::IS_V6)
    }

    /// Longer than the way carries: the sender is told, if it said that nobody may cut it.
    #[cold]
    pub(super) fn too_big<F: Family, P: Packet>(
        &mut self,
        packet: &mut P,
        parsed: &Parsed<F>,
        mtu: u16,
    ) -> Fate {
        self.stats.count_drop(Reason::TooBig);
        let answered = self.may_answer() && self.report(packet, parsed, IcmpError::TooBig { mtu });
        self.answered(packet, answered)
    }

    /// Puts the outer header of tunnel mode around a packet that is otherwise ready.
    pub(super) fn wrap<F: Family, P: Packet>(
        &mut self,
        packet: &mut P,
        parsed: &Parsed<F>,
        encapsulation: Encapsulation,
        record: &Record<F>,
    ) -> Fate {
        let backend = self.snapshot.backend(record.backend_id()).copied();
        let Some((backend, hop)) = backend.and_then(|b: Backend| Some((b, b.next_hop?))) else {
            return self.count(Reason::NextHop);
        };
        let mtu = port_mtu(&self.snapshot, hop.port);
        let mtu = self.path_mtus.limit(record.backend_id(), mtu, self.now_ms);
        let length = parsed.end - parsed.l3;
        let too_long = length + tunnel::overhead(encapsulation, backend.address) > mtu;
        let tunnel = Tunnel {
            encapsulation,
            ends: (backend.our_address, backend.address),
            hash: F::table(&self.tables).hash(parsed.key).spread(),
            identification: self.next_short_identification(),
            // What is cut all the same needs a number, and its pieces no DF.
            ignore_df: self.snapshot.tunnels_ignore_df || too_long,
        };
        match tunnel::wrap(packet, parsed, &tunnel) {
            Ok(()) if too_long => Fate::Cut(hop.port, mtu),
            Ok(()) => Fate::Send(hop.port),
            Err(reason) => self.count(reason),
        }
    }

    /// A fresh identification for a packet that may be cut. Workers share the addresses: each has
    /// numbers of its own.
    pub(super) fn next_identification(&mut self) -> u32 {
        let workers = u32::from(self.ownership.workers());
        self.identification = self.identification.wrapping_add(workers);
        self.identification
    }

    /// The same for IPv4, which has half as many bits.
    #[expect(clippy::cast_possible_truncation, reason = "the lower half counts as well")]
    pub(super) fn next_short_identification(&mut self) -> u16 {
        self.next_identification() as u16
    }
}
