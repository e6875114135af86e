//! A packet of a connection we know: the hot path.
//!
//! ```text
//! record ─► starts over? ─► backend, next hop, TTL (onward) ─► special? ─► state, rewrite, send
//! ```
//!
//! What needs more than new addresses leaves it at one comparison ([`super::special`]); everything
//! else costs a bounded number of loads and stores, most of them in the two lines that the lookup
//! has fetched.

use super::admit::starts;
use super::conn::key::Side;
use super::conn::record::{Noted, Record};
use super::conn::state::{Stage, State};
use super::conn::table::{Hit, Slot};
use super::endings::{Cause, said};
use super::family::Family;
use super::fate::{Fate, Origin};
use super::flows::Flows;
use super::io::Packet;
use super::onward;
use super::parse::Parsed;
use super::rewrite::{Translation, translate};
use super::snapshot::{Restarts, Snapshot};
use super::unanswered;
use super::verdict::Reason;

impl Flows {
    /// A packet of a connection we know.
    #[inline]
    pub(super) fn established<F: Family, P: Packet>(
        &mut self,
        packet: &mut P,
        parsed: &Parsed<F>,
        hit: Hit,
        origin: Origin,
    ) -> Fate {
        let record = F::table_mut(&mut self.tables).record_mut(hit.slot);
        if hit.side == Side::Client {
            let may_restart = record.state().may_restart() && starts(parsed);
            if may_restart {
                if restarts(&self.snapshot, record) {
                    return self.start_over(packet, parsed, hit.slot, origin);
                }
                unanswered::asked_again(&self.stats, record, self.now_ms);
            }
            record.set_client_link(packet.port(), sender(packet.data()));
        }
        let asked = onward::next_hop(&self.snapshot, record, (hit.side, parsed.ttl));
        let way = match asked {
            Ok(way) => way,
            Err(Reason::BackendGone) => return self.backend_gone(packet, parsed, hit, origin),
            Err(reason) => return self.refuse(packet, parsed, reason),
        };
        if record.is_special() || parsed.length() > way.mtu {
            if record.is_ipip()
                && let Some(fate) = self.ipip(packet, parsed, hit, &way)
            {
                return fate;
            }
            return self.special(packet, parsed, hit, way.next_hop());
        }
        if let Some(number) = said(packet.data(), parsed) {
            record.remember(hit.side, number);
        }
        let noted = record.note(hit.side, parsed.signal, self.now_ms);
        self.volumes.count(record.backend_id(), hit.side, parsed.length());
        let translation = translation(record, hit.side);
        if !noted.is_nothing() {
            self.keep_books::<F>(hit.slot, noted);
        }
        if translate::rewrite(packet.data_mut(), parsed, way.pair, &translation) {
            Fate::Send(way.port)
        } else {
            self.count(Reason::Truncated)
        }
    }

    /// Sends the first packet of a connection on its way.
    pub(super) fn forward_first<F: Family, P: Packet>(
        &mut self,
        packet: &mut P,
        parsed: &Parsed<F>,
        slot: Slot,
    ) -> Fate {
        // Made a moment ago, it can neither be over nor have lost its backend: the origin is not used.
        self.established(packet, parsed, Hit { slot, side: Side::Client }, Origin::Handover)
    }

    /// A SYN on a connection that is over makes room for a new one, which another worker may own: a
    /// reload may have changed the mode in between.
    #[cold]
    fn start_over<F: Family, P: Packet>(
        &mut self,
        packet: &mut P,
        parsed: &Parsed<F>,
        slot: Slot,
        origin: Origin,
    ) -> Fate {
        self.forget::<F>(slot);
        self.unknown(packet, parsed, origin)
    }

    /// The connection's backend was removed: its ends are told; the client's next datagram finds another backend.
    #[cold]
    fn backend_gone<F: Family, P: Packet>(
        &mut self,
        packet: &mut P,
        parsed: &Parsed<F>,
        hit: Hit,
        origin: Origin,
    ) -> Fate {
        self.announce::<F>(hit.slot, Cause::Order, &[hit.side.opposite()]);
        self.forget::<F>(hit.slot);
        if hit.side == Side::Client && starts(parsed) {
            return self.unknown(packet, parsed, origin);
        }
        self.refuse(packet, parsed, Reason::BackendGone)
    }

    /// A packet of `length` passes: when, what it means for the connection's state, and that for its
    /// backend's load.
    pub(super) fn note<F: Family>(&mut self, hit: Hit, (signal, length): (u8, u16)) {
        let record = F::table_mut(&mut self.tables).record_mut(hit.slot);
        self.volumes.count(record.backend_id(), hit.side, length);
        let noted = record.note(hit.side, signal, self.now_ms);
        if !noted.is_nothing() {
            self.keep_books::<F>(hit.slot, noted);
        }
    }

    /// What a packet has changed of its connection goes into the books.
    #[cold]
    fn keep_books<F: Family>(&mut self, slot: Slot, noted: Noted) {
        if noted.has_answered() {
            let backend = F::table(&self.tables).record(slot).backend_id();
            self.stats.answers.answered(backend);
        }
        if noted.has_turned() {
            self.turn_load::<F>(slot);
        }
    }

    /// The connection counts as active now and did not before, or the other way round.
    #[cold]
    fn turn_load<F: Family>(&mut self, slot: Slot) {
        let record = F::table(&self.tables).record(slot);
        let (backend, active) = (record.backend_id(), record.state().is_active());
        self.turned(backend, active);
    }

    /// The connection is in that state now, with the same consequence.
    pub(super) fn enter_state<F: Family>(&mut self, slot: Slot, state: State) {
        let record = F::table_mut(&mut self.tables).record_mut(slot);
        let was_active = record.state().is_active();
        record.set_state(state);
        if was_active != state.is_active() {
            self.turn_load::<F>(slot);
        }
    }
}

/// Does a client's SYN or INIT start this connection over?
///
/// What is half open at a backend that gets nobody new does in any case: it would wait there for an answer
/// that may never come (IPVS: `expire_nodest_conn=1`; there it ends what is established, too, at anybody's
/// SYN).
#[cold]
fn restarts<F: Family>(snapshot: &Snapshot, record: &Record<F>) -> bool {
    let Some(backend) = snapshot.backend(record.backend_id()) else { return false };
    let service = snapshot.service(record.service_id());
    let follows = service.and_then(|service| service.persistence).is_some_and(|it| it.to_drained);
    match (record.state(), record.state().stage()) {
        (_, Stage::Over | Stage::HalfOpen) if backend.weight == 0 && !follows => true,
        (state, Stage::Over) => state.is_reusable() && snapshot.restarts != Restarts::Never,
        (State::FinWait, _) => snapshot.restarts == Restarts::Closing && record.is_direct(),
        _ => false,
    }
}

/// What changes in the headers of a packet sent by `side`, its link's apart.
#[inline(always)]
pub(super) fn translation<F: Family>(record: &Record<F>, side: Side) -> Translation<F> {
    let to = record.translated(side);
    let (ip_delta, l4_delta) = record.deltas(side);
    Translation { addresses: to.addresses, ports: to.ports, ip_delta, l4_delta }
}

/// The link-layer sender of a frame, a little-endian number whose upper 16 bits are the frame's type;
/// parse has proven that it has one.
#[inline(always)]
pub(super) fn sender(frame: &[u8]) -> u64 {
    frame.get(6..).and_then(|bytes| bytes.first_chunk()).map_or(0, |link| u64::from_le_bytes(*link))
}
