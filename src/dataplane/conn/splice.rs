//! What a connection needs besides its record when the balancer has shaken hands with its client
//! itself (SYN cookies): a slab beside the table, one line an entry.
//!
//! ```text
//! record ──number──► splice: both handshakes' numbers, by how much they differ,
//!                            and, until the backend has answered, when to ask it again
//!
//! waiting for a backend, by when it is to be asked again:   first ⇄ … ⇄ last
//! ```
//!
//! Everybody is asked again after the same time, so the list is in order by appending; whose backend
//! is to be asked at once goes to the front. An entry
//! lives exactly as long as its record: [`super::table::Table`] gives it back.
//!
//! Limit: fixed at start. Full: a SYN gets no cookie, and a cookie no connection.

use crate::dataplane::mem::{HugePages, MemoryError, Region};

/// No entry.
const NIL: u32 = u32::MAX;

/// Segments of a client that wait until its backend has answered: a chain in the worker's slab.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, zerocopy::FromBytes, zerocopy::Immutable)]
#[repr(C)]
pub struct Chain {
    /// Tells this connection's from those of whoever had the places before; 0 is nobody.
    pub serial: u32,
    /// Its first place, if there is one.
    pub first: u16,
    /// Its last.
    pub last: u16,
    /// How many wait.
    pub length: u32,
}

/// One connection's. Numbers are sequence numbers.
#[derive(Clone, Copy, Debug, Default, zerocopy::FromBytes, zerocopy::Immutable)]
#[repr(C, align(64))]
pub struct Splice {
    /// What the client calls what the backend calls zero, once the backend has answered.
    pub ahead: u32,
    /// The same of timestamps.
    pub stamp_ahead: u32,
    /// The number of the client's SYN.
    pub start: u32,
    /// Our own: the cookie.
    pub ours: u32,
    /// The client's timestamp.
    pub stamp: u32,
    /// Ours: the one the client echoed, then the one that the backend's SYN+ACK had for it.
    pub our_stamp: u32,
    /// What waits.
    pub chain: Chain,
    /// When the backend is to be asked again, in worker milliseconds; once it has answered, what
    /// it said last of the client's numbers (0 is nothing).
    due_ms: u32,
    /// The record.
    slot: u32,
    /// Neighbours in the list of those that wait, or the next free one.
    next: u32,
    previous: u32,
    /// The client's MSS, and once the backend has answered, the backend's.
    pub mss: u16,
    /// The client's window as in its ACK.
    pub window: u16,
    /// The client's scale, or 15.
    pub scale: u8,
    /// By how many bits the client's windows are to be shifted for a backend that does not scale.
    pub client_shift: u8,
    /// By how many a backend's: to the left, or, below zero, to the right.
    pub backend_shift: i8,
    /// [`SACK`], [`STAMPS`], [`LISTED`], [`ASIDE`], [`CLEARED`].
    flags: u8,
    /// How often the backend was asked.
    pub asked: u8,
}

const _: () = assert!(size_of::<Splice>() == 64, "a splice is one cache line");

/// The client understands SACK.
pub const SACK: u8 = 1;
/// The client sends timestamps.
pub const STAMPS: u8 = 1 << 1;
/// It is in the list.
const LISTED: u8 = 1 << 2;
/// Client and backend have shaken hands without us since: nothing differs.
const ASIDE: u8 = 1 << 3;
/// The backend was rid of a connection it had had before.
pub const CLEARED: u8 = 1 << 4;

const _: () = assert!(
    SACK | STAMPS | LISTED | ASIDE | CLEARED == SACK + STAMPS + LISTED + ASIDE + CLEARED,
    "each flag has a bit of its own"
);

/// Somebody whose backend is to be asked again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// The record.
    pub slot: u32,
    /// For how long it has been due.
    pub late_ms: u32,
}

impl Splice {
    /// Does the client understand or send that?
    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// The client does.
    pub fn set(&mut self, flag: u8) {
        self.flags |= flag;
    }

    /// From here on client and backend read each other's own numbers: they have begun anew, and what
    /// was agreed before is void.
    pub fn step_aside(&mut self) {
        (self.ahead, self.stamp_ahead, self.client_shift, self.backend_shift) = (0, 0, 0, 0);
        // The client has heard the backend's own.
        self.mss = u16::MAX;
        self.set(ASIDE);
    }

    /// Have they?
    pub fn is_aside(&self) -> bool {
        self.has(ASIDE)
    }

    /// What the backend said last of the client's numbers; 0 is nothing.
    pub fn said(&self) -> u32 {
        if self.has(LISTED) { 0 } else { self.due_ms }
    }

    /// The record it belongs to.
    pub fn slot(&self) -> u32 {
        self.slot
    }
}

/// The slab of one table.
#[derive(Debug)]
pub struct Splices {
    entries: Region<Splice>,
    free: u32,
    /// Entries ever used: those above were never touched.
    used: u32,
    /// In use.
    live: u32,
    /// Ends of the list of those that wait.
    first: u32,
    last: u32,
}

impl Splices {
    /// Room for that many.
    pub fn on(capacity: u32, huge_pages: HugePages) -> Result<Self, MemoryError> {
        let entries = Region::on(capacity as usize, huge_pages)?;
        Ok(Self { entries, free: NIL, used: 0, live: 0, first: NIL, last: NIL })
    }

    /// How many are in use.
    pub fn len(&self) -> u32 {
        self.live
    }

    /// Is none?
    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// Is there no room for another one?
    pub fn is_full(&self) -> bool {
        self.live as usize >= self.entries.len()
    }

    /// The entry of that number.
    #[inline]
    pub fn get(&self, at: u32) -> Option<&Splice> {
        self.entries.get(at as usize)
    }

    /// The same, to be changed.
    #[inline]
    pub fn get_mut(&mut self, at: u32) -> Option<&mut Splice> {
        self.entries.get_mut(at as usize)
    }

    /// Puts an entry in for a record; its number, if there is room.
    pub(super) fn put(&mut self, splice: Splice, slot: u32) -> Option<u32> {
        let at = if self.free == NIL { self.used } else { self.free };
        let place = self.entries.get_mut(at as usize)?;
        if self.free == NIL {
            self.used += 1;
        } else {
            self.free = place.next;
        }
        *place = Splice { slot, ..splice };
        self.live += 1;
        Some(at)
    }

    /// Gives an entry back.
    pub(super) fn give_back(&mut self, at: u32) {
        self.settle(at);
        let free = self.free;
        let Some(place) = self.get_mut(at) else { return };
        *place = Splice { next: free, ..Splice::default() };
        self.free = at;
        self.live -= 1;
    }

    /// The backend was asked, or is to be: it goes to the list's end, to be looked at again then.
    pub fn await_until(&mut self, at: u32, due_ms: u32) {
        self.settle(at);
        let last = self.last;
        let Some(place) = self.get_mut(at) else { return };
        place.flags |= LISTED;
        (place.next, place.previous, place.due_ms) = (NIL, last, due_ms);
        match self.get_mut(last) {
            Some(before) => before.next = at,
            None => self.first = at,
        }
        self.last = at;
    }

    /// The backend is to be asked at once.
    pub fn await_now(&mut self, at: u32, now_ms: u32) {
        self.settle(at);
        let first = self.first;
        let Some(place) = self.get_mut(at) else { return };
        place.flags |= LISTED;
        (place.next, place.previous, place.due_ms) = (first, NIL, now_ms);
        match self.get_mut(first) {
            Some(behind) => behind.previous = at,
            None => self.last = at,
        }
        self.first = at;
    }

    /// Nobody waits for its backend any more.
    pub fn settle(&mut self, at: u32) {
        let Some(place) = self.get_mut(at).filter(|place| place.has(LISTED)) else { return };
        place.flags &= !LISTED;
        place.due_ms = 0;
        let (next, previous) = (place.next, place.previous);
        match self.get_mut(previous) {
            Some(before) => before.next = next,
            None => self.first = next,
        }
        match self.get_mut(next) {
            Some(behind) => behind.previous = previous,
            None => self.last = previous,
        }
    }

    /// The backend says so of the client's numbers. Nothing is kept of one that has not agreed.
    pub fn remember(&mut self, at: u32, number: u32) {
        if let Some(place) = self.get_mut(at).filter(|place| !place.has(LISTED)) {
            place.due_ms = number;
        }
    }

    /// The record whose backend is to be asked again by now, if there is one.
    #[inline]
    pub fn due(&self, now_ms: u32) -> Option<Due> {
        let first = self.get(self.first)?;
        let late_ms = now_ms.wrapping_sub(first.due_ms);
        (late_ms <= u32::MAX / 2).then_some(Due { slot: first.slot, late_ms })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against a queue that anybody can read.
        #[test]
        fn those_that_wait_are_asked_in_order_and_nothing_leaks(
            steps in prop::collection::vec((0u8..5, 0usize..8), 0..200),
        ) {
            let mut splices = Splices::on(8, HugePages::Never).unwrap();
            let (mut live, mut waiting) = (vec![], VecDeque::new());
            let clock = (0..).map(|step: u32| step.wrapping_sub(100));
            for (now, (what, which)) in clock.zip(steps) {
                let chosen = (!live.is_empty()).then(|| live[which % live.len().max(1)]);
                match (what, chosen) {
                    (0, _) => {
                        let put = splices.put(Splice::default(), now);
                        prop_assert_eq!(put.is_none(), live.len() == 8);
                        live.extend(put);
                    }
                    (1, Some(at)) => {
                        splices.give_back(at);
                        live.retain(|other| *other != at);
                        waiting.retain(|other| *other != at);
                    }
                    (2, Some(at)) => {
                        splices.await_until(at, now);
                        waiting.retain(|other| *other != at);
                        waiting.push_back(at);
                    }
                    (3, Some(at)) => {
                        splices.settle(at);
                        waiting.retain(|other| *other != at);
                    }
                    (4, Some(at)) => {
                        splices.await_now(at, now);
                        waiting.retain(|other| *other != at);
                        waiting.push_front(at);
                    }
                    _ => {}
                }
                let first = waiting.front().and_then(|at| splices.get(*at)).map(Splice::slot);
                prop_assert_eq!(splices.due(now).map(|due| due.slot), first);
                prop_assert_eq!(splices.len() as usize, live.len());
            }
        }
    }
}
