//! Datagrams that come in pieces (IP fragments), without putting them together.
//!
//! ```text
//! first piece   ports read, connection found ──► learn ──► those held, in order ─► the same way
//! later piece   ──► later ─┬─ ports known ───────────────► the same way as the first
//!                          ├─ first not seen yet ────────► held
//!                          └─ first refused, or no room ─► refused
//!
//! first piece   whose checksum a CRC is ──► wait ──► held until the last has come
//! ```
//!
//! Only the first piece has the ports. What it tells is remembered under the datagram's name (RFC
//! 791, 3.2; RFC 8200, 4.5), and every other piece is translated and sent by itself, as long as it
//! came: the sizes a sender chose are kept, nothing is copied, and as a rule no worker ever holds a
//! whole datagram of somebody else's making. A transport checksum lies in the first piece, so the
//! incremental update is right without the rest. SCTP's is a CRC, which changes by how long the
//! whole is as well: so its first piece waits until the last has come and said it
//! ([`Fragments::wait`]), and the others with it.
//!
//! Pieces that come before the first are held until it comes. That is bounded: [`HELD_MAX`] packets
//! a worker and [`HELD_PER_DATAGRAM_MAX`] of one datagram (64 KB over the least IPv6 MTU; a first
//! piece whose way through the network is slower than the others' may come last). When the worker's
//! room is full, the datagram that waits longest gives its packets up: under a flood of pieces
//! without a first, ordinary reordering, which takes microseconds, still comes through. When there
//! are [`CONTEXTS`] datagrams, the one known longest is forgotten. That is fewer than IPv4 has
//! identifications, so a pair of hosts that uses them in turn never meets its own old ones, unless
//! it is slow enough for the age to see to that.
//!
//! Pieces that overlap are passed on as they are: to drop the datagram (RFC 5722) is the receiver's
//! part, who alone has all of it. No piece but a first can change the ports, since offsets count
//! eight bytes, and ports lie in the first four: a flow is never another one to us than to the
//! backend. A first piece without the whole transport header (RFC 1858) is for the caller to
//! refuse, and [`Fragments::refuse`] then makes the rest go the same way.
//!
//! All memory is taken by [`Fragments::new`]: about 400 KB. Later on chains and lists are numbers
//! moved about in it.

use crate::wire::{fragment, ipv4};

mod held;
mod table;

#[cfg(test)]
mod tests;

use held::{Chain, Held};
use table::{Place, State, Table, Wait};

/// Datagrams in pieces a worker knows at a time.
pub const CONTEXTS: usize = 4096;
/// Packets a worker holds: as many buffers its pool must have besides.
pub const HELD_MAX: usize = 256;
/// Packets held of one datagram.
pub const HELD_PER_DATAGRAM_MAX: usize = 64;
/// How long a datagram is known, by [`Family`]: what Linux gives receivers to put one together.
pub const AGE_MS: [u32; 2] = [30_000, 60_000];
/// Most datagrams forgotten in one poll.
const TICK_MAX: usize = 32;

/// Which IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4.
    V4 = 0,
    /// IPv6.
    V6 = 1,
}

/// What the pieces of one datagram have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// Source then destination, wire bytes; IPv4 ones in front of zeros.
    addresses: [u8; 32],
    identification: u32,
    family: Family,
    /// 0 in IPv6, where it is not part of the name: pieces may differ in it (RFC 8200, 4.5).
    protocol: u8,
}

impl Key {
    /// The name of the datagram that a packet with this header is a piece of.
    pub fn v4(header: &ipv4::Header) -> Self {
        let mut addresses = [0; 32];
        if let Some(front) = addresses.first_chunk_mut() {
            *front = header.addresses.to_bytes();
        }
        Self {
            addresses,
            identification: header.identification.get().into(),
            family: Family::V4,
            protocol: header.protocol,
        }
    }

    /// The same in IPv6: source then destination address as they lie in the packet.
    pub fn v6(addresses: [u8; 32], header: &fragment::Header) -> Self {
        let identification = header.identification.get();
        Self { addresses, identification, family: Family::V6, protocol: 0 }
    }

    /// Which IP it is of.
    pub fn family(&self) -> Family {
        self.family
    }
}

/// What was found out about a datagram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// The ports as in [`FlowKey::ports`](crate::dataplane::conn::key::FlowKey::ports).
    pub ports: u32,
    /// Bytes behind its IP headers; 0 if nobody waited for that.
    pub length: u16,
}

/// What becomes of a piece.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome<P> {
    /// Goes the way of the first; the ports as in [`Told::ports`].
    Known(P, u32),
    /// Waits, or has been released: [`Fragments::released`] is to be asked.
    Held,
    /// Does not go on.
    Refused(P, Refusal),
}

/// Why a piece does not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The first piece was refused.
    First,
    /// Too many pieces wait.
    Limit,
}

/// Held packets that were dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// The first piece did not come in time.
    pub too_old: usize,
    /// They made room for newer ones.
    pub made_room: usize,
}

/// One worker's memory of datagrams in pieces.
#[derive(Debug)]
pub struct Fragments<P> {
    table: Table,
    held: Held<P>,
    /// What [`Fragments::released`] has to give.
    released: Chain,
    /// Since the last tick.
    dropped: Dropped,
}

impl<P> Default for Fragments<P> {
    fn default() -> Self {
        Self::new()
    }
}

impl<P> Fragments<P> {
    /// Knows nothing; takes all memory it will ever use.
    pub fn new() -> Self {
        Self::with_limits(CONTEXTS, HELD_MAX)
    }

    fn with_limits(contexts: usize, held: usize) -> Self {
        let (table, held) = (Table::new(contexts), Held::new(held));
        Self { table, held, released: Chain::EMPTY, dropped: Dropped::default() }
    }

    /// How many datagrams it knows.
    pub fn contexts(&self) -> usize {
        self.table.len()
    }

    /// How many packets it holds, released ones included.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// A first piece came, with these ports. Pieces held for it are released, and later ones will
    /// be [`Outcome::Known`]. What an earlier datagram of that name said is forgotten.
    pub fn learn(&mut self, key: Key, ports: u32, now_ms: u32) {
        let waiting = self.conclude(key, State::Known(ports), now_ms);
        self.release(waiting, Told { ports, length: 0 });
    }

    /// A first piece came, with these ports, that cannot go on before the last has come: it waits
    /// in front of the others. What an earlier datagram of that name said is forgotten.
    pub fn wait(&mut self, key: Key, ports: u32, packet: P, now_ms: u32) -> Outcome<P> {
        let mut place = self.fresh(&key, now_ms);
        if let Some(known) = place
            && self.table.waiting(place).is_none()
        {
            self.forget(known);
            place = None;
        }
        if let Err(packet) = self.hold(key, place, packet, true, now_ms) {
            return Outcome::Refused(packet, Refusal::Limit);
        }
        let place = self.table.find(&key);
        if let Some(wait) = self.table.waiting(place) {
            wait.ports = Some(ports);
        }
        self.end_wait(key, now_ms);
        Outcome::Held
    }

    /// The last piece came, and said how long the datagram is.
    pub fn last(&mut self, key: Key, length: u16, packet: P, now_ms: u32) -> Outcome<P> {
        let outcome = self.later(key, packet, now_ms);
        if matches!(outcome, Outcome::Held) {
            let place = self.table.find(&key);
            if let Some(wait) = self.table.waiting(place) {
                wait.length = length;
            }
            self.end_wait(key, now_ms);
        }
        outcome
    }

    /// Releases what waits, if all that it waits for is there.
    fn end_wait(&mut self, key: Key, now_ms: u32) {
        let place = self.table.find(&key);
        if let Some(told) = self.table.waiting(place).and_then(|wait| wait.told()) {
            let waiting = self.conclude(key, State::Known(told.ports), now_ms);
            self.release(waiting, told);
        }
    }

    fn release(&mut self, waiting: Chain, told: Told) {
        self.held.note(&waiting, told);
        self.held.append(&mut self.released, waiting);
    }

    /// A first piece came and was refused: so will be the later ones. Returns how many held ones
    /// were dropped.
    pub fn refuse(&mut self, key: Key, now_ms: u32) -> usize {
        let waiting = self.conclude(key, State::Refused, now_ms);
        self.held.clear(waiting)
    }

    /// The next packet that waited, with what it waited for: to be asked for after each piece,
    /// until there is none.
    pub fn released(&mut self) -> Option<(P, Told)> {
        self.held.pop(&mut self.released)
    }

    /// A piece after the first came.
    pub fn later(&mut self, key: Key, packet: P, now_ms: u32) -> Outcome<P> {
        let place = self.fresh(&key, now_ms);
        match place.and_then(|place| self.table.state(place)) {
            Some(State::Known(ports)) => Outcome::Known(packet, *ports),
            Some(State::Refused) => Outcome::Refused(packet, Refusal::First),
            Some(State::Waiting(_)) | None => match self.hold(key, place, packet, false, now_ms) {
                Ok(()) => Outcome::Held,
                Err(packet) => Outcome::Refused(packet, Refusal::Limit),
            },
        }
    }

    /// Is there nothing for [`Fragments::tick`] to do?
    #[inline]
    pub fn is_idle(&self) -> bool {
        self.table.len() == 0 && self.dropped == Dropped::default()
    }

    /// Forgets what is too old, a few datagrams at a time, and says how many held packets were
    /// dropped since it was last called. To be called every poll, unless it is idle.
    pub fn tick(&mut self, now_ms: u32) -> Dropped {
        for _ in 0..TICK_MAX {
            let Some(place) = self.table.overdue(now_ms) else { break };
            self.dropped.too_old += self.forget(place);
        }
        std::mem::take(&mut self.dropped)
    }

    /// Where a datagram is known whose time is not over.
    fn fresh(&mut self, key: &Key, now_ms: u32) -> Option<Place> {
        let place = self.table.find(key)?;
        if !self.table.is_over(place, now_ms) {
            return Some(place);
        }
        self.dropped.too_old += self.forget(place);
        None
    }

    /// What a first piece says is what is known from now on; returns the packets that waited.
    fn conclude(&mut self, key: Key, state: State, now_ms: u32) -> Chain {
        let Some(place) = self.fresh(&key, now_ms) else {
            self.make_context(now_ms);
            self.table.insert(key, state, now_ms);
            return Chain::EMPTY;
        };
        match self.table.replace(place, state, now_ms) {
            Some(State::Waiting(wait)) => wait.chain,
            Some(State::Known(_) | State::Refused) | None => Chain::EMPTY,
        }
    }

    /// Holds a packet, of a new datagram or of the one at `place`, behind or `in_front` of its
    /// others; gives it back without room.
    fn hold(
        &mut self,
        key: Key,
        place: Option<Place>,
        packet: P,
        in_front: bool,
        now_ms: u32,
    ) -> Result<(), P> {
        let waiting = self.table.waiting(place).map_or(0, |wait| wait.chain.len());
        if waiting >= HELD_PER_DATAGRAM_MAX || !self.make_room(place, now_ms) {
            return Err(packet);
        }
        if let Some(wait) = self.table.waiting(place) {
            if in_front {
                return self.held.push_front(&mut wait.chain, packet);
            }
            return self.held.push(&mut wait.chain, packet);
        }
        self.make_context(now_ms);
        let mut wait = Wait::NONE;
        self.held.push(&mut wait.chain, packet)?;
        self.table.insert(key, State::Waiting(wait), now_ms);
        Ok(())
    }

    /// Makes room for a packet of the datagram at `place`, if there is none. False if that could
    /// only be done at its own cost.
    fn make_room(&mut self, place: Option<Place>, now_ms: u32) -> bool {
        if self.held.is_full() {
            let oldest = self.table.oldest(true, now_ms).filter(|oldest| Some(*oldest) != place);
            self.dropped.made_room += oldest.map_or(0, |oldest| self.forget(oldest));
        }
        !self.held.is_full()
    }

    /// Makes room for a datagram, if there is none.
    fn make_context(&mut self, now_ms: u32) {
        if self.table.is_full()
            && let Some(oldest) = self.table.oldest(false, now_ms)
        {
            self.dropped.made_room += self.forget(oldest);
        }
    }

    /// Forgets a datagram; returns how many packets were dropped with it.
    fn forget(&mut self, place: Place) -> usize {
        match self.table.remove(place) {
            Some(State::Waiting(wait)) => self.held.clear(wait.chain),
            Some(State::Known(_) | State::Refused) | None => 0,
        }
    }
}
