//! Packets of known connections that need more than new addresses: an outer header, the other
//! family's header, bytes that tell the backend who the client is, other numbers, or cutting.
//!
//! ```text
//! flows::established ──► special ─┬─ a handshake of ours? (opening)
//!                                 ├─ what goes in (introduce)       it grows by that much
//!                                 ├─ does it still fit? cut it, or tell its sender (MTU)
//!                                 └─ numbers (splice), rewrite, then wrap (tunnel) or cross over (NAT64)
//! ```
//!
//! Apart from the hot path, which sees them at one comparison and pays no more for them.

use super::conn::key::Side;
use super::conn::record::Record;
use super::conn::table::Hit;
use super::cross;
use super::family::Family;
use super::flows::{Fate, Flows, port_mtu, translation, turned};
use super::introduce::{self, Insertion};
use super::io::Packet;
use super::parse::Parsed;
use super::reply::IcmpError;
use super::rewrite::translate;
use super::rewrite::tunnel::{self, Tunnel};
use super::snapshot::{Backend, ClientAddress, Encapsulation, NextHop};
use super::splice;
use super::verdict::Reason;
use crate::ids::PortId;
use crate::wire::fragment;

/// Bytes of a packet as it counts against [`Flows::path_mtu`]: between the families, of the headers
/// in front of its transport's only the first goes on.
pub(super) fn length_of<F: Family>(parsed: &Parsed<F>, record: &Record<F>) -> u16 {
    if record.is_crossed() {
        return (parsed.end - parsed.l4).saturating_add(cross::HEADER_V6);
    }
    parsed.end - parsed.l3
}

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
        if F::table(&self.tables).record(hit.slot).is_spliced() {
            let answered = match hit.side {
                Side::Client => self.before_backend(packet, parsed, hit.slot),
                Side::Backend => self.backend_speaks::<F, F, P>(packet, parsed, hit.slot),
            };
            if let Some(fate) = answered {
                return fate;
            }
        }
        self.transform(packet, parsed, hit, next_hop)
    }

    /// Does to a packet all that it needs, and sends it on.
    pub(super) fn transform<F: Family, P: Packet>(
        &mut self,
        packet: &mut P,
        parsed: &Parsed<F>,
        hit: Hit,
        next_hop: NextHop,
    ) -> Fate {
        let record = *F::table(&self.tables).record(hit.slot);
        let length = length_of(parsed, &record);
        let way = self.way_mtu(&record, hit.side, next_hop.port);
        let mtu = self.path_mtu(&record, hit.side, way);
        let Some(insertion) = self.insertion(packet, parsed, hit, length, mtu) else {
            return self.count(Reason::Fragment);
        };
        let mtu = mtu.saturating_sub(insertion.length());
        let too_long = length > mtu;
        // Nobody sends less than every way carries, even if told: that is cut, as it has grown here.
        let told = mtu.max(F::MTU_MIN);
        if length > told && !self.may_cut(packet.data(), parsed, &record) {
            return self.too_big(packet, parsed, told);
        }
        let parsed = &mut { *parsed };
        if self.renumber::<F, F>(packet.data_mut(), parsed, hit).is_none() {
            return self.count(Reason::Truncated);
        }
        if self.introduce(packet, parsed, hit, &insertion).is_none() {
            return self.count(Reason::NoRoom);
        }
        let table = F::table_mut(&mut self.tables);
        let current = table.record_mut(hit.slot);
        if current.note(hit.side, parsed.signal, self.now_ms) {
            let active = current.state().is_active();
            let backend = current.backend_id();
            turned(&self.stats, &self.snapshot, &mut self.chooser, backend, active);
        }
        let fate = if record.is_crossed() {
            let way = (next_hop, way);
            self.cross_over(packet, parsed, &record, way, insertion.length())
        } else {
            let translation = translation(&record, hit.side, next_hop);
            match record.wrapping() {
                _ if !translate::rewrite(packet.data_mut(), parsed, &translation) => {
                    self.count(Reason::Truncated)
                }
                Some(encapsulation) => self.wrap(packet, parsed, encapsulation, &record),
                None if too_long => Fate::Cut(next_hop.port, way),
                None => Fate::Send(next_hop.port),
            }
        };
        match (insertion, fate) {
            (Insertion::Ahead, Fate::Send(port)) => Fate::SendBehind(port, u16::MAX),
            (Insertion::Ahead, Fate::Cut(port, mtu)) => Fate::SendBehind(port, mtu),
            (_, fate) => fate,
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
        Some(if fits { insertion } else { insertion.without_room(parsed.key.protocol) })
    }

    /// Other numbers, where both handshakes were ours. The record's family may be another than the
    /// packet's.
    pub(super) fn renumber<F: Family, G: Family>(
        &self,
        frame: &mut [u8],
        parsed: &Parsed<G>,
        hit: Hit,
    ) -> Option<()> {
        let Some(splice) = F::table(&self.tables).splice(hit.slot) else { return Some(()) };
        let segment = frame.get_mut(usize::from(parsed.l4)..usize::from(parsed.end))?;
        match hit.side {
            Side::Client => splice::from_client(segment, splice),
            Side::Backend => splice::from_backend(segment, splice),
        }
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

    /// Longest packet that goes out by a port to one end of a connection. A way that carries less
    /// than its sender can be told, with what is inserted, is remembered.
    pub(super) fn way_mtu<F: Family>(&self, record: &Record<F>, side: Side, port: PortId) -> u16 {
        let mtu = port_mtu(&self.snapshot, port);
        if side == Side::Backend || record.introduction() == ClientAddress::None {
            return mtu;
        }
        self.path_mtus.limit(record.backend_id(), mtu, self.now_ms)
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
            _ if side == Side::Backend && record.is_crossed() => {
                mtu.saturating_sub(cross::DIFFERENCE)
            }
            _ if side == Side::Backend => mtu,
            _ if record.is_crossed() => {
                mtu.saturating_add(cross::DIFFERENCE).min(self.backend_takes(record))
            }
            _ => mtu.min(self.backend_takes(record)),
        }
    }

    /// Longest packet of a client that its backend takes, which the client has not heard: we told
    /// it a MSS before we knew the backend's.
    fn backend_takes<F: Family>(&self, record: &Record<F>) -> u16 {
        let splices = F::table(&self.tables).splices();
        let splice = record.splice().and_then(|number| splices.get(number));
        let headers = if F::IS_V6 { 60 } else { 40 };
        splice.map_or(u16::MAX, |splice| splice.mss.saturating_add(headers).max(F::MTU_MIN))
    }

    /// May a packet too long for its way be cut? IPv6 never is, nor IPv4 with DF, unless it is
    /// told to be: then the outer packet of the tunnel is. What a client sends in pieces may be in
    /// IPv4 (RFC 7915 section 5.1.1).
    pub(super) fn may_cut<F: Family>(
        &self,
        frame: &[u8],
        parsed: &Parsed<F>,
        record: &Record<F>,
    ) -> bool {
        let packet = frame.get(usize::from(parsed.l3)..).unwrap_or_default();
        let ignores_df = self.snapshot.tunnels_ignore_df && record.wrapping().is_some();
        !F::is_whole_for_good(packet)
            || (ignores_df && !F::IS_V6)
            || (record.is_crossed() && fragment::is_in(packet))
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
