//! How backends answer new connections, as one worker sees it: what passive health checks go by.
//!
//! ```text
//!  a backend's half of a cache line    0         8             16       24     32
//!                                      │ answers │ asked again │ lapsed │      │     by BackendId
//! ```
//!
//! What each of them is, and whose fault silence is, says `dataplane/unanswered.rs`. A connection adds here once
//! or twice in its life, other packets never, and only where backends' answers pass here. The memory is the system's
//! zero pages until it is used.

use std::alloc::{Layout, handle_alloc_error};

use zerocopy::FromZeros;

use super::counters::Counter;
use crate::ids::{BackendId, limits};

/// What became of those who asked a backend for a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answers {
    /// Packets with which it answered somebody who waited for that. One that is sent again counts again.
    pub answers: u64,
    /// Connections whose client asked again, as no answer had come.
    pub asked_again: u64,
    /// Connections that were forgotten without an answer, of clients who did not ask again.
    pub lapsed: u64,
}

impl Answers {
    /// Connections that it left without an answer.
    pub fn unanswered(self) -> u64 {
        self.asked_again.wrapping_add(self.lapsed)
    }

    /// Both together.
    #[must_use]
    pub fn and(self, more: Self) -> Self {
        self.each(more, u64::wrapping_add)
    }

    /// What has come since they were `then`.
    #[must_use]
    pub fn since(self, then: Self) -> Self {
        self.each(then, u64::wrapping_sub)
    }

    fn each(self, other: Self, how: fn(u64, u64) -> u64) -> Self {
        Self {
            answers: how(self.answers, other.answers),
            asked_again: how(self.asked_again, other.asked_again),
            lapsed: how(self.lapsed, other.lapsed),
        }
    }
}

/// Those of one backend.
#[derive(Debug, Default, FromZeros, zerocopy::KnownLayout)]
#[repr(C, align(32))]
struct Place {
    answers: Counter,
    asked_again: Counter,
    lapsed: Counter,
}

const _: () = assert!(size_of::<Place>() == 32, "a backend is in one line");

/// Those of all backends, as one worker counts them.
#[derive(Debug)]
pub struct AnswerCounters(Box<[Place; limits::BACKENDS]>);

impl Default for AnswerCounters {
    fn default() -> Self {
        let places = <[Place; limits::BACKENDS]>::new_box_zeroed();
        Self(
            places
                .unwrap_or_else(|_| handle_alloc_error(Layout::new::<[Place; limits::BACKENDS]>())),
        )
    }
}

impl AnswerCounters {
    /// It answers somebody who waits for that. The owner's alone, as all of these.
    pub fn answered(&self, backend: BackendId) {
        self.count(backend, |place| &place.answers);
    }

    /// A client asks again.
    pub fn asked_again(&self, backend: BackendId) {
        self.count(backend, |place| &place.asked_again);
    }

    /// A connection is forgotten without an answer.
    pub fn lapsed(&self, backend: BackendId) {
        self.count(backend, |place| &place.lapsed);
    }

    fn count(&self, backend: BackendId, which: fn(&Place) -> &Counter) {
        if let Some(place) = self.0.get(backend.index()) {
            which(place).add(1);
        }
    }

    /// What a backend's id has counted.
    pub fn of(&self, backend: BackendId) -> Answers {
        let Some(Place { answers, asked_again, lapsed }) = self.0.get(backend.index()) else {
            return Answers::default();
        };
        Answers { answers: answers.get(), asked_again: asked_again.get(), lapsed: lapsed.get() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_counts_for_its_backend_alone() {
        let (counters, last) = (AnswerCounters::default(), BackendId(65_535));
        counters.answered(BackendId(7));
        counters.asked_again(BackendId(7));
        counters.asked_again(BackendId(7));
        counters.lapsed(last);
        let of = |answers, asked_again, lapsed| Answers { answers, asked_again, lapsed };
        assert_eq!(counters.of(BackendId(7)), of(1, 2, 0));
        assert_eq!(counters.of(last), of(0, 0, 1));
        counters.answered(BackendId(u32::MAX));
        for nobody in [BackendId(6), BackendId(u32::MAX)] {
            assert_eq!(counters.of(nobody), Answers::default());
        }
    }
}
