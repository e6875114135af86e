//! Packets of known connections that need more than new addresses: an outer header, the other
//! family's header, bytes that tell the backend who the client is, other numbers, or cutting.
//!
//! ```text
//! established ──► special ─┬─ a handshake of ours? (opening)
//!                          ├─ what goes in, and does it still fit? (onward)
//!                          └─ numbers (splice), rewrite, then wrap (tunnel) or cross over (NAT64)
//! ```
//!
//! Apart from the hot path, which sees them at one comparison and pays no more for them.

use super::conn::key::Side;
use super::conn::table::Hit;
use super::cross;
use super::endings::said;
use super::established::translation;
use super::family::Family;
use super::fate::Fate;
use super::flows::Flows;
use super::introduce::{self, Insertion};
use super::io::Packet;
use super::onward::{Load, Onward, Outer};
use super::parse::Parsed;
use super::rewrite::tunnel::{self, Tunnel};
use super::rewrite::{number, translate};
use super::snapshot::{ClientAddress, NextHop};
use super::splice;
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
        // Before the numbers are others.
        let said = said(packet.data(), parsed);
        if hit.side == Side::Client {
            let record = F::table_mut(&mut self.tables).record_mut(hit.slot);
            introduce::begin(packet.data(), parsed, record);
        }
        let record = F::table(&self.tables).record(hit.slot);
        let onward = self.onward(record, hit.side, next_hop);
        let load = match self.load(packet.data(), parsed, (record, hit.side), &onward) {
            Ok(load) => load,
            Err(refusal) => return self.turn_away(packet, parsed, refusal),
        };
        let came = (parsed.signal, parsed.length());
        let parsed = &mut { *parsed };
        if self.renumber::<F, F>(packet.data_mut(), parsed, hit).is_none() {
            return self.count(Reason::Truncated);
        }
        if self.introduce(packet, parsed, hit, &load.insertion).is_none() {
            return self.count(Reason::NoRoom);
        }
        if let Some(number) = said {
            F::table_mut(&mut self.tables).remember(hit.slot, hit.side, number);
        }
        self.note::<F>(hit, came);
        match (load.insertion, self.send_on(packet, parsed, hit, &onward, &load)) {
            (Insertion::Ahead, Fate::Send(port)) => Fate::SendBehind(port, u16::MAX),
            (Insertion::Ahead, Fate::Cut(port, mtu)) => Fate::SendBehind(port, mtu),
            (_, fate) => fate,
        }
    }

    /// New addresses, and the headers of its way.
    fn send_on<F: Family, P: Packet>(
        &mut self,
        packet: &mut P,
        parsed: &Parsed<F>,
        hit: Hit,
        onward: &Onward,
        load: &Load,
    ) -> Fate {
        let record = F::table(&self.tables).record(hit.slot);
        let translation = translation(record, hit.side);
        // What is cut here is numbered as what comes in pieces, which it may be. Not what was too long by
        // data that has been cut off: it is whole, and keeps its number.
        let v4 = cross::length_v4(parsed);
        let length = if record.is_crossed() { v4 } else { parsed.length() };
        let is_cut = load.too_long && length > onward.way;
        if is_cut && hit.side == Side::Client && onward.outer.is_none() {
            let mask = self.number_mask(record);
            let l3 = usize::from(parsed.l3);
            number::mask_whole(packet.data_mut().get_mut(l3..).unwrap_or_default(), mask);
        }
        if record.is_crossed() {
            let inserted = load.insertion.length();
            return self.cross_over(packet, parsed, &translation, (onward, inserted));
        }
        match onward.outer {
            _ if !translate::rewrite(
                packet.data_mut(),
                parsed,
                onward.next_hop.pair(),
                &translation,
            ) =>
            {
                self.count(Reason::Truncated)
            }
            Some(outer) => self.wrap(packet, parsed, outer, onward),
            None if is_cut => Fate::Cut(onward.next_hop.port, onward.way),
            None => Fate::Send(onward.next_hop.port),
        }
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

    /// Puts the outer header of tunnel mode around a packet that is otherwise ready.
    pub(super) fn wrap<F: Family, P: Packet>(
        &mut self,
        packet: &mut P,
        parsed: &Parsed<F>,
        outer: Outer,
        onward: &Onward,
    ) -> Fate {
        let Outer { encapsulation, ends } = outer;
        let length = parsed.length();
        let too_long = length + tunnel::overhead(encapsulation, ends.1) > onward.way;
        let tunnel = Tunnel {
            encapsulation,
            ends,
            hash: F::table(&self.tables).hash(parsed.key).spread(),
            identification: self.next_short_identification(),
            // What is cut all the same needs a number, and its pieces no DF.
            ignore_df: self.snapshot.tunnels_ignore_df || too_long,
        };
        let port = onward.next_hop.port;
        match tunnel::wrap(packet, parsed, &tunnel) {
            Ok(()) if too_long => Fate::Cut(port, onward.way),
            Ok(()) => Fate::Send(port),
            Err(reason) => self.count(reason),
        }
    }

    /// A fresh identification for a packet that may be cut. Workers share the addresses: each has
    /// numbers of its own, also in the lower half, as the step divides it.
    pub(super) fn next_identification(&mut self) -> u32 {
        self.identification = self.identification.wrapping_add(self.ownership.number_step());
        self.identification
    }

    /// The same for IPv4, which has half as many bits.
    #[expect(clippy::cast_possible_truncation, reason = "the lower half counts as well")]
    pub(super) fn next_short_identification(&mut self) -> u16 {
        self.next_identification() as u16
    }
}
