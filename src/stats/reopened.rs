//! Which backends have had enough and take connections again: told to all workers.
//!
//! ```text
//! give back the place that lifts a mark ─► head + 1 ─► place: number │ backend
//!                                                        each worker reads on from where it was
//! ```
//!
//! A worker finds out for itself that a backend has been filled: it chooses it, and gets no place. That
//! one has room again it would never learn, as nobody chooses what is full; looking at all of them
//! is what a flood of SYNs to a full service must not bring about.
//!
//! Limit: [`ROOM`] places, overwritten in turn, for the backends of all services together. A worker that has missed some is told so, and looks at
//! all backends once.

use std::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Release},
};

use crate::ids::BackendId;

/// Backends remembered.
const ROOM: u32 = 1024;

/// The lower bits of a place: a backend's id. [`crate::ids::limits::BACKENDS`] fit.
const ID_BITS: u32 = 16;
const _: () = assert!(crate::ids::limits::BACKENDS <= 1 << ID_BITS, "an id fits");

/// What a worker is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// This one takes connections again.
    Open(BackendId),
    /// More have than can be remembered.
    Missed,
}

/// The last that did.
#[derive(Debug)]
pub struct Reopened {
    /// How many ever did.
    head: Line,
    places: Box<[AtomicU64]>,
}

/// Apart from what else is written.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Line(AtomicU64);

impl Default for Reopened {
    fn default() -> Self {
        Self { head: Line::default(), places: (0..ROOM).map(|_| AtomicU64::new(0)).collect() }
    }
}

impl Reopened {
    /// This one takes connections again.
    pub(super) fn tell(&self, backend: BackendId) {
        let number = self.head.0.fetch_add(1, Release) + 1;
        let word = number << ID_BITS | u64::from(backend.0);
        // The largest, if somebody has come round meanwhile.
        if let Some(place) = self.place(number) {
            place.fetch_max(word, Release);
        }
    }

    fn place(&self, number: u64) -> Option<&AtomicU64> {
        self.places.get(usize::try_from(number % u64::from(ROOM)).ok()?)
    }

    /// What comes after number `read`, which then is that one's.
    #[inline]
    pub fn next(&self, read: &mut u64) -> Option<News> {
        let head = self.head.0.load(Acquire);
        if head == *read { None } else { self.read(read, head) }
    }

    #[cold]
    fn read(&self, read: &mut u64, head: u64) -> Option<News> {
        let number = *read + 1;
        let word = self.place(number)?.load(Acquire);
        let written = word >> ID_BITS;
        if head - *read > u64::from(ROOM) || written > number {
            *read = head;
            return Some(News::Missed);
        }
        // Not there yet: whoever writes it is about to.
        if written < number {
            return None;
        }
        *read = number;
        #[expect(clippy::cast_possible_truncation, reason = "the lower bits are the id")]
        Some(News::Open(BackendId(word as u32 & ((1 << ID_BITS) - 1))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reader_hears_of_all_in_order_or_that_it_has_missed_some() {
        let (all, mut one, mut other) = (Reopened::default(), 0, 0);
        assert_eq!(all.next(&mut one), None);
        for n in 0..3000u32 {
            all.tell(BackendId(n));
            assert_eq!(all.next(&mut one), Some(News::Open(BackendId(n))));
            assert_eq!(all.next(&mut one), None);
        }
        assert_eq!(all.next(&mut other), Some(News::Missed));
        assert_eq!(all.next(&mut other), None, "from here on");
        (0..ROOM).for_each(|n| all.tell(BackendId(n)));
        let heard = std::iter::from_fn(|| all.next(&mut other));
        assert!(heard.eq((0..ROOM).map(|n| News::Open(BackendId(n)))));
    }

    /// Nothing is heard twice, nothing is lost but what is said to be.
    #[test]
    fn several_tell_and_one_hears() {
        let all = Reopened::default();
        std::thread::scope(|scope| {
            let tellers: Vec<_> = (0..3u32)
                .map(|who| {
                    let all = &all;
                    scope.spawn(move || (0..20_000).for_each(|_| all.tell(BackendId(who))))
                })
                .collect();
            let (mut read, mut heard) = (0, 0u64);
            while read < 60_000 {
                match all.next(&mut read) {
                    Some(News::Open(id)) => {
                        heard += 1;
                        assert!(id.0 < 3);
                    }
                    Some(News::Missed) | None => std::thread::yield_now(),
                }
            }
            assert!(heard <= 60_000);
            for teller in tellers {
                teller.join().unwrap();
            }
            assert_eq!(all.next(&mut read), None);
        });
    }
}
