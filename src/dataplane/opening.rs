//! The handshake with the backend, for a client that has proven itself with a cookie.
//!
//! ```text
//! client                  balancer                            backend
//!   ── ACK with cookie ──► SYNACK ── the client's SYN ─────────►     asked again after 1, 2, 3 s
//!   ── data ────────────► held                                       given up after 4
//!                          ◄──────── SYN+ACK ──────────────────
//!                          ESTABLISHED ── ACK, what was held ──►
//!   ◄──────────────────── the numbers of `splice` from here on ►
//!
//!   ◄── RST ───────────── the backend's RST, or four seconds of silence
//! ```
//!
//! The SYN and the ACK are written as if the client had sent them and go through all that its packets
//! go through, TOA and PROXY headers included. A SYN+ACK that comes again is answered again: the ACK
//! was lost.
//!
//! **Anew.** A client that uses its port again while the connection is known sends its SYN to the backend
//! as it is. A backend that lives on asks back, as it would without us. One that has forgotten the
//! connection agrees to the SYN: that SYN+ACK is the client's, and from there on both have each other's own
//! numbers, clocks and windows.
//!
//! A backend that remembers an older connection from the same address and port answers a SYN with an
//! ACK (RFC 5961 section 4.2). That one is reset, and the SYN goes out once more behind the RST, at once;
//! but once only, for the first such ACK: a backend that never lets go is asked at the usual pace.
//!
//! Held: ten segments of a connection, a thousand of a worker (`worker/waiting.rs`). What finds no
//! room, or waits for a backend that never answers, is counted as `cookie_held`; TCP sends it again.

use std::net::{Ipv4Addr, Ipv6Addr};

use zerocopy::FromBytes;

use super::conn::key::Side;
use super::conn::record::Progress;
use super::conn::splice::{CLEARED, Chain, Due, SACK, STAMPS, Splice};
use super::conn::state::State;
use super::conn::table::{Hit, Slot, Table};
use super::cookie::{self, Event, OUR_SCALE, Offer, SCALE_MAX};
use super::endings::said;
use super::family::Family;
use super::fate::Fate;
use super::flows::Flows;
use super::handshake::{in_pieces, segment_of};
use super::introduce;
use super::io::Packet;
use super::onward::client_hop;
use super::parse::Parsed;
use super::refuse::is_intact;
use super::reply::tcp_reset;
use super::segment::{self, Options, Segment};
use super::snapshot::Strays;
use super::verdict::Reason;
use crate::ids::{BackendId, ServiceId};
use crate::wire::Mac;
use crate::wire::tcp::{self, options};

/// Between two SYNs to the backend.
const ASK_AGAIN_MS: u32 = 1_000;
/// How often it is asked.
const ASKED_MAX: u8 = 4;
/// What a backend takes that does not say (RFC 9293 section 3.7.1).
const MSS_UNSAID: u16 = 536;
/// A SYN+ACK, by those flags that are looked at.
const AGREES: u8 = tcp::SYN | tcp::ACK;
/// Whoever writes the stations last.
const NOWHERE: (Mac, Mac) = (Mac([0; 6]), Mac([0; 6]));

/// A connection of either family.
#[derive(Clone, Copy, Debug)]
pub(super) enum AnySlot {
    V4(Slot),
    V6(Slot),
}

impl Flows {
    /// Turns a packet into the SYN of a connection's client, on its way to the backend.
    pub(super) fn ask_backend<F: Family, P: Packet>(&mut self, packet: &mut P, slot: Slot) -> Fate {
        let table = F::table_mut(&mut self.tables);
        let Some(number) = table.record(slot).splice() else { return Fate::Free };
        table.splices_mut().await_until(number, self.now_ms.wrapping_add(ASK_AGAIN_MS));
        let Some(splice) = table.splice_mut(slot) else { return Fate::Free };
        splice.asked += 1;
        let scale = Some(splice.scale).filter(|scale| *scale <= SCALE_MAX);
        let window = u32::from(splice.window) << scale.unwrap_or(0);
        let syn = Segment {
            sequence: splice.start,
            acknowledgment: 0,
            flags: tcp::SYN,
            window: u16::try_from(window).unwrap_or(u16::MAX),
            options: Options {
                mss: Some(splice.mss),
                sack: splice.has(SACK),
                stamps: splice.has(STAMPS).then_some((splice.stamp, 0)),
                scale,
            },
        };
        let fate = self.as_client::<F, P>(packet, slot, &syn);
        // Whatever the packet sent made of it, the connection waits for its backend.
        self.enter_state::<F>(slot, State::Synack);
        match fate {
            Fate::Send(port) => Fate::Ask(port),
            other => other,
        }
    }

    /// Writes a segment as if the client had sent it, and sends it on.
    fn as_client<F: Family, P: Packet>(
        &mut self,
        packet: &mut P,
        slot: Slot,
        segment: &Segment,
    ) -> Fate {
        let record = F::table(&self.tables).record(slot);
        let next_hop = match self.leaves(record, Side::Client, segment::TTL) {
            Ok(next_hop) => next_hop,
            Err(reason) => return self.count(reason),
        };
        let key = record.key(Side::Client);
        match segment::write(packet, key, NOWHERE, segment) {
            Some(parsed) => {
                self.transform(packet, &parsed, Hit { slot, side: Side::Client }, next_hop)
            }
            None => self.count(Reason::NoRoom),
        }
    }

    /// A client's segment on a connection made with a cookie. `None` if it goes on as any other.
    pub(super) fn before_backend<F: Family, P: Packet>(
        &mut self,
        packet: &mut P,
        parsed: &Parsed<F>,
        slot: Slot,
    ) -> Option<Fate> {
        let table = F::table(&self.tables);
        if table.record(slot).state() != State::Synack {
            return None;
        }
        if parsed.signal & tcp::RST != 0 {
            return Some(self.client_resets(packet, parsed, slot));
        }
        if parsed.signal & tcp::SYN != 0 || in_pieces(packet.data(), parsed) {
            return Some(self.count(Reason::CookieHeld));
        }
        Some(self.hold::<F>(slot))
    }

    /// The client gives up; its backend is told, if the number is the one it expects.
    fn client_resets<F: Family, P: Packet>(
        &mut self,
        packet: &mut P,
        parsed: &Parsed<F>,
        slot: Slot,
    ) -> Fate {
        let first = F::table(&self.tables).splice(slot).map(|splice| splice.start.wrapping_add(1));
        let sequence = number(packet.data(), parsed).map(|(sequence, _)| sequence);
        if first != sequence {
            return self.count(Reason::CookieHeld);
        }
        let reset = Segment { sequence: first.unwrap_or(0), flags: tcp::RST, ..Segment::default() };
        let fate = self.as_client::<F, P>(packet, slot, &reset);
        self.forget::<F>(slot);
        fate
    }

    /// The packet is to wait for this connection's backend: the worker asks [`Flows::waiting`].
    pub(super) fn hold<F: Family>(&mut self, slot: Slot) -> Fate {
        self.about::<F>(slot);
        Fate::Hold
    }

    fn about<F: Family>(&mut self, slot: Slot) {
        self.waiting = Some(if F::IS_V6 { AnySlot::V6(slot) } else { AnySlot::V4(slot) });
    }

    /// What waits for the backend of the connection that [`Fate::Hold`] or [`Fate::Opened`] was
    /// about, which backend that is, and of which service.
    pub(super) fn waiting(&mut self) -> Option<(&mut Chain, BackendId, ServiceId)> {
        match self.waiting? {
            AnySlot::V4(slot) => waiting_in(&mut self.tables.v4, slot),
            AnySlot::V6(slot) => waiting_in(&mut self.tables.v6, slot),
        }
    }

    /// A backend's segment, which may be of the other family than its connection (NAT64). `None`
    /// if it goes on to the client.
    pub(super) fn backend_speaks<F: Family, G: Family, P: Packet>(
        &mut self,
        packet: &mut P,
        parsed: &Parsed<G>,
        slot: Slot,
    ) -> Option<Fate> {
        let (sequence, acknowledgment) = number(packet.data(), parsed)?;
        let flags = parsed.signal & (tcp::SYN | tcp::ACK | tcp::RST);
        let table = F::table_mut(&mut self.tables);
        if table.record(slot).state() != State::Synack {
            return match flags {
                AGREES => self.agrees_again::<F, P>(packet, slot, (sequence, acknowledgment)),
                _ => None,
            };
        }
        let splice = table.splice_mut(slot)?;
        let is_answer = flags & tcp::ACK != 0 && acknowledgment == splice.start.wrapping_add(1);
        match flags {
            _ if is_answer && flags & tcp::RST != 0 => {
                splice.ahead = splice.ours.wrapping_add(1).wrapping_sub(sequence);
                self.settle::<F>(slot, Event::BackendRefused);
                None
            }
            _ if is_answer && flags & tcp::SYN != 0 && !is_intact(packet, parsed) => {
                Some(self.count(Reason::L4Checksum))
            }
            _ if is_answer && flags & tcp::SYN != 0 => {
                Some(self.backend_agrees::<F, G, P>(packet, parsed, slot))
            }
            _ if flags == tcp::ACK => Some(self.clear_away::<F, P>(packet, slot, acknowledgment)),
            _ => Some(self.count(Reason::NoConnection)),
        }
    }

    /// A backend's SYN+ACK on a connection that is open: the answer to the client's next SYN, or the
    /// one to ours once more, because our ACK was lost. `None` if it goes on to the client.
    fn agrees_again<F: Family, P: Packet>(
        &mut self,
        packet: &mut P,
        slot: Slot,
        (sequence, acknowledgment): (u32, u32),
    ) -> Option<Fate> {
        let table = F::table_mut(&mut self.tables);
        let is_anew = table.record_mut(slot).restart_stream(acknowledgment);
        let splice = table.splice_mut(slot)?;
        if is_anew {
            splice.step_aside();
        }
        // By its own first number: what it acknowledges grows while it is on its way.
        let is_known = sequence.wrapping_add(splice.ahead) == splice.ours;
        let is_for_us = is_known && !splice.is_aside();
        is_for_us.then(|| self.acknowledge::<F, P>(packet, slot))
    }

    /// The backend waits for nobody any more.
    fn settle<F: Family>(&mut self, slot: Slot, event: Event) {
        let table = F::table_mut(&mut self.tables);
        let record = *table.record(slot);
        if let Some(number) = record.splice() {
            table.splices_mut().settle(number);
        }
        match event {
            Event::BackendSilent => self.stats.answers.asked_again(record.backend_id()),
            _ => self.stats.answers.answered(record.backend_id()),
        }
        self.count_cookie(record.service_id(), event);
    }

    /// The backend's SYN+ACK: now both sides' numbers are known.
    fn backend_agrees<F: Family, G: Family, P: Packet>(
        &mut self,
        packet: &mut P,
        parsed: &Parsed<G>,
        slot: Slot,
    ) -> Fate {
        let segment = segment_of(packet.data(), parsed).unwrap_or_default();
        let offer = Offer::read(options::area(segment));
        let Some((sequence, _)) = number(packet.data(), parsed) else { return Fate::Free };
        let said = said(packet.data(), parsed);
        let now_ms = self.now_ms;
        let hit = Hit { slot, side: Side::Backend };
        self.note::<F>(hit, (parsed.signal, parsed.length()));
        let table = F::table_mut(&mut self.tables);
        let record = table.record_mut(slot);
        // It is written over in a moment, but what it says of the client's stream counts.
        if introduce::from_backend(packet.data_mut(), parsed, record).is_none() {
            return self.count(Reason::Truncated);
        }
        record.set_progress(Progress::Agreed);
        let service = record.service_id();
        let keeps_promises =
            table.splice_mut(slot).is_some_and(|it| agree(it, sequence, &offer, now_ms));
        if !keeps_promises {
            self.count_cookie(service, Event::BackendPlain);
        }
        self.settle::<F>(slot, Event::Opened);
        if let Some(number) = said {
            F::table_mut(&mut self.tables).remember(slot, Side::Backend, number);
        }
        let fate = self.acknowledge::<F, P>(packet, slot);
        self.about::<F>(slot);
        match fate {
            Fate::Send(port) => Fate::Opened(port),
            other => other,
        }
    }

    /// Turns a packet into the ACK that the backend's SYN+ACK asks for.
    fn acknowledge<F: Family, P: Packet>(&mut self, packet: &mut P, slot: Slot) -> Fate {
        let Some(splice) = F::table(&self.tables).splice(slot) else { return Fate::Free };
        let ack = Segment {
            sequence: splice.start.wrapping_add(1),
            acknowledgment: splice.ours.wrapping_add(1),
            flags: tcp::ACK,
            window: splice.window,
            options: Options::stamps(
                splice.has(STAMPS).then_some((splice.stamp, splice.our_stamp)),
            ),
        };
        self.as_client::<F, P>(packet, slot, &ack)
    }

    /// The backend speaks of a connection it has had before from there: RFC 9293 section 3.10.7.3
    /// has it reset, so that the next SYN finds room. An answer like any other, as far as how many we
    /// give goes.
    fn clear_away<F: Family, P: Packet>(
        &mut self,
        packet: &mut P,
        slot: Slot,
        acknowledgment: u32,
    ) -> Fate {
        if !self.may_answer() {
            return self.count(Reason::NoConnection);
        }
        let reset = Segment { sequence: acknowledgment, flags: tcp::RST, ..Segment::default() };
        let fate = self.as_client::<F, P>(packet, slot, &reset);
        self.enter_state::<F>(slot, State::Synack);
        self.ask_once_more::<F>(slot);
        fate
    }

    /// Has the backend asked again in the next poll, behind what is sent in this one; the SYN that it
    /// did not take does not count.
    fn ask_once_more<F: Family>(&mut self, slot: Slot) {
        let table = F::table_mut(&mut self.tables);
        let Some(number) = table.record(slot).splice() else { return };
        let Some(splice) = table.splice_mut(slot).filter(|splice| !splice.has(CLEARED)) else {
            return;
        };
        splice.set(CLEARED);
        splice.asked = splice.asked.saturating_sub(1);
        table.splices_mut().await_now(number, self.now_ms);
    }

    /// The connection whose backend is to be asked again by now: of either family's first the one that
    /// has waited longer, so that neither keeps the other waiting.
    #[inline]
    pub(super) fn due(&self) -> Option<AnySlot> {
        let (v4, v6) = (&self.tables.v4, &self.tables.v6);
        longer(v4.splices().due(self.now_ms), v6.splices().due(self.now_ms))
    }

    /// Turns an empty packet into what a connection that is [`Flows::due`] asks for.
    pub(super) fn remind<P: Packet>(&mut self, packet: &mut P, slot: AnySlot) -> Fate {
        match slot {
            AnySlot::V4(slot) => self.remind_in::<Ipv4Addr, P>(packet, slot),
            AnySlot::V6(slot) => self.remind_in::<Ipv6Addr, P>(packet, slot),
        }
    }

    fn remind_in<F: Family, P: Packet>(&mut self, packet: &mut P, slot: Slot) -> Fate {
        let table = F::table(&self.tables);
        let asked = table.splice(slot).map_or(ASKED_MAX, |splice| splice.asked);
        let is_there = self.snapshot.backend(table.record(slot).backend_id()).is_some();
        if asked < ASKED_MAX && is_there {
            return self.ask_backend::<F, P>(packet, slot);
        }
        self.abandon::<F, P>(packet, slot)
    }

    /// The backend has not answered: the client is told, and the connection forgotten.
    fn abandon<F: Family, P: Packet>(&mut self, packet: &mut P, slot: Slot) -> Fate {
        self.settle::<F>(slot, Event::BackendSilent);
        let table = F::table(&self.tables);
        let (record, splice) = (*table.record(slot), table.splice(slot).copied());
        self.forget::<F>(slot);
        let hop = client_hop(&self.snapshot, &record);
        let (Some(hop), Some(splice)) = (hop, splice) else { return self.count(Reason::NextHop) };
        let reset = Segment {
            sequence: splice.ours.wrapping_add(1),
            acknowledgment: splice.start.wrapping_add(1),
            flags: tcp::RST | tcp::ACK,
            ..Segment::default()
        };
        let stations = (hop.source, hop.destination);
        let key = record.key(Side::Client).reversed();
        match segment::write(packet, key, stations, &reset) {
            Some(_) => Fate::Send(hop.port),
            None => self.count(Reason::NoRoom),
        }
    }

    /// A client that was told that it is connected, and cannot be: it hears so.
    pub(super) fn disappoint<F: Family, P: Packet>(
        &mut self,
        packet: &mut P,
        parsed: &Parsed<F>,
        reason: Reason,
    ) -> Fate {
        self.stats.count_drop(reason);
        let is_told = self.snapshot.strays == Strays::Reject && self.may_answer();
        let answered = is_told && tcp_reset(packet, parsed);
        self.answered(packet, answered)
    }
}

/// Who of the two has waited longer.
fn longer(v4: Option<Due>, v6: Option<Due>) -> Option<AnySlot> {
    match (v4, v6) {
        (Some(v4), Some(v6)) if v4.late_ms < v6.late_ms => Some(AnySlot::V6(Slot(v6.slot))),
        (None, Some(v6)) => Some(AnySlot::V6(Slot(v6.slot))),
        (v4, _) => v4.map(|v4| AnySlot::V4(Slot(v4.slot))),
    }
}

fn waiting_in<F: Family>(
    table: &mut Table<F>,
    slot: Slot,
) -> Option<(&mut Chain, BackendId, ServiceId)> {
    let record = table.record(slot);
    let (backend, service) = (record.backend_id(), record.service_id());
    table.splice_mut(slot).map(|splice| (&mut splice.chain, backend, service))
}

/// Notes by how much the backend's numbers differ from ours. False if it does no timestamps where
/// the client was told so.
///
/// The client may have had several answers to its SYN, with newer timestamps than the one it echoed:
/// none of the backend's may look older than any of them (RFC 7323 section 5), so they go on from now.
fn agree(splice: &mut Splice, sequence: u32, offer: &Offer, now_ms: u32) -> bool {
    splice.mss = offer.mss.unwrap_or(MSS_UNSAID);
    splice.ahead = splice.ours.wrapping_sub(sequence);
    if let (true, Some((value, _))) = (splice.has(STAMPS), offer.stamps) {
        splice.our_stamp = cookie::newest_stamp(now_ms);
        splice.stamp_ahead = splice.our_stamp.wrapping_sub(value);
    }
    if splice.scale <= SCALE_MAX {
        let theirs = offer.scale.unwrap_or(0).cast_signed();
        splice.backend_shift = theirs - OUR_SCALE.cast_signed();
        splice.client_shift = if offer.scale.is_none() { splice.scale } else { 0 };
    }
    !splice.has(STAMPS) || offer.stamps.is_some()
}

/// Sequence and acknowledgment number of a parsed segment.
fn number<F: Family>(frame: &[u8], parsed: &Parsed<F>) -> Option<(u32, u32)> {
    let (header, _) = tcp::Header::ref_from_prefix(segment_of(frame, parsed)?).ok()?;
    Some((header.sequence.get(), header.acknowledgment.get()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_family_keeps_the_other_waiting() {
        let due = |late_ms| Some(Due { slot: late_ms, late_ms });
        let table = [
            (None, None, None),
            (due(1), None, Some((false, 1))),
            (None, due(1), Some((true, 1))),
            (due(1), due(2), Some((true, 2))),
            (due(2), due(1), Some((false, 2))),
            (due(3), due(3), Some((false, 3))),
        ];
        for (v4, v6, expected) in table {
            let chosen = longer(v4, v6).map(|slot| match slot {
                AnySlot::V4(slot) => (false, slot.0),
                AnySlot::V6(slot) => (true, slot.0),
            });
            assert_eq!(chosen, expected, "{v4:?} {v6:?}");
        }
    }
}
