//! How many connections each backend has, over all workers: what least-connection schedulers
//! compare and limits are held against.
//!
//! ```text
//!  one cache line a backend     63        32   31    30       0
//!                              │  total     │ mark │ active   │  marked under │
//! ```
//!
//! *Active* are TCP connections in ESTABLISHED, `SYN_SENT`, `SYN_RECV` and SYNACK, and SCTP's in
//! ESTABLISHED, as IPVS counts; all others, UDP's too, are inactive. Both counts and the mark are one
//! word, so that a reader never sees one without the others, and a change is one locked addition: three
//! or four in a connection's life, none for its other packets. A line for each backend, so that workers
//! meet only where they use the same one.
//!
//! **Limits** are exact with any number of workers: a place is taken before the connection is made,
//! by compare and swap where the backend has a limit. At `most` connections a backend is *overloaded*,
//! and stays so until fewer than `least` are left (0: until fewer than three quarters of `most`), as
//! IPVS's thresholds have it. The mark is set by the very change that takes the last place, and lifted by
//! the one that gives back enough, or gives up a place that nobody was at, so none of them can be late; all workers are told of those that are
//! lifted ([`super::reopened`]). Beside it is the limit it was made under: under a higher one it does not
//! count, and each worker that takes one into use lifts it ([`Loads::raised`]), so that no lower one
//! afterwards revives it.

use std::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};

use zerocopy::FromZeros;

use super::reopened::Reopened;
use crate::ids::{BackendId, limits};

/// What a backend has now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Connections that are active.
    pub active: u32,
    /// All connections.
    pub total: u32,
}

/// When a backend has had enough (IPVS: upper and lower threshold).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Limit {
    /// Most connections; 0 is no limit.
    pub most: u32,
    /// Once full, new ones come when fewer than these are left; 0 is three quarters of `most`.
    pub least: u32,
}

impl Limit {
    /// No limit.
    pub const NONE: Self = Self { most: 0, least: 0 };

    /// Are so few left that a full backend takes new ones again?
    fn is_relieved(self, total: u32) -> bool {
        match self.least {
            _ if self.most == 0 => true,
            0 => u64::from(total) * 4 < u64::from(self.most) * 3,
            least => total < least,
        }
    }
}

#[derive(Debug, Default, zerocopy::FromZeros, zerocopy::KnownLayout)]
#[repr(C, align(64))]
struct Line {
    /// Total in the upper half, [`MARK`] and active in the lower.
    counts: AtomicU64,
    /// The limit under which it was marked last.
    marked_under: AtomicU32,
}

const ACTIVE: u64 = 1;
/// It has had enough. One backend never has 2^31 connections: that is 200 GB of records.
const MARK: u64 = 1 << 31;
const TOTAL: u64 = 1 << 32;

impl Line {
    fn load(&self) -> Load {
        of(self.counts.load(Relaxed))
    }

    /// Is it marked, as far as this limit goes?
    fn is_marked(&self, limit: Limit) -> bool {
        self.counts.load(Acquire) & MARK != 0 && self.marked_under.load(Relaxed) >= limit.most
    }
}

fn of(counts: u64) -> Load {
    Load { active: (counts & (MARK - 1)) as u32, total: (counts >> 32) as u32 }
}

/// The loads of all backends, by [`BackendId`].
#[derive(Debug)]
pub struct Loads {
    lines: Box<[Line]>,
    reopened: Reopened,
}

impl Default for Loads {
    /// No connections. The memory is the system's zero pages until it is used.
    fn default() -> Self {
        let lines = <[Line]>::new_box_zeroed_with_elems(limits::BACKENDS);
        Self { lines: lines.unwrap_or_else(|_| Box::default()), reopened: Reopened::default() }
    }
}

impl Loads {
    /// What a backend has now.
    #[inline]
    pub fn of(&self, backend: BackendId) -> Load {
        self.lines.get(backend.index()).map_or_else(Load::default, Line::load)
    }

    /// The same numbers, apart from these from now on.
    #[must_use]
    pub fn copied(&self) -> Self {
        let copy = Self::default();
        for (to, from) in copy.lines.iter().zip(&self.lines) {
            let counts = from.counts.load(Relaxed);
            if counts != 0 {
                to.counts.store(counts, Relaxed);
                to.marked_under.store(from.marked_under.load(Relaxed), Relaxed);
            }
        }
        copy
    }

    /// Has it had enough?
    #[inline]
    pub fn is_overloaded(&self, backend: BackendId, limit: Limit) -> bool {
        let Some(line) = self.lines.get(backend.index()).filter(|_| limit.most > 0) else {
            return false;
        };
        line.is_marked(limit) || line.load().total >= limit.most
    }

    /// Takes a place for a connection that is inactive so far. False if there is none: then
    /// nothing has changed.
    #[inline]
    pub fn take(&self, backend: BackendId, limit: Limit) -> bool {
        let Some(line) = self.lines.get(backend.index()) else { return false };
        if limit.most == 0 {
            line.counts.fetch_add(TOTAL, Relaxed);
            return true;
        }
        if line.is_marked(limit) {
            return false;
        }
        let one_more = |counts: u64| {
            // Marked by another worker since: a mark is lifted by who gives back, not here.
            if counts & MARK != 0 && line.marked_under.load(Relaxed) >= limit.most {
                return None;
            }
            let after = (counts & !MARK) + TOTAL;
            match of(after).total {
                total if total > limit.most => None,
                total if total == limit.most => {
                    // First, so that who sees the mark sees what it was made under.
                    line.marked_under.store(limit.most, Relaxed);
                    Some(after | MARK)
                }
                _ => Some(after),
            }
        };
        line.counts.fetch_update(Release, Relaxed, one_more).is_ok()
    }

    /// Gives the place of a connection back that was, or was not, active.
    #[inline]
    pub fn give_back(&self, backend: BackendId, was_active: bool, limit: Limit) {
        let Some(line) = self.lines.get(backend.index()) else { return };
        let step = TOTAL + if was_active { ACTIVE } else { 0 };
        let counts = line.counts.fetch_sub(step, Relaxed);
        let before = of(counts);
        debug_assert!(before.total > 0, "a place is given back once");
        debug_assert!(before.active >= u32::from(was_active), "active is what was counted so");
        let is_unmarked = counts & MARK == 0 && limit.most > 0 && before.total >= limit.most;
        let left = if is_unmarked {
            // Full without having been filled: the limit was lowered, or is new. Who gave back meanwhile
            // saw no mark: what is left by now counts.
            line.marked_under.store(limit.most, Relaxed);
            of(line.counts.fetch_or(MARK, Release)).total
        } else {
            before.total.wrapping_sub(1)
        };
        if (counts & MARK != 0 || is_unmarked) && limit.is_relieved(left) {
            // Unless others have filled it again meanwhile.
            let lift = |counts: u64| {
                let is_due = counts & MARK != 0 && limit.is_relieved(of(counts).total);
                is_due.then_some(counts & !MARK)
            };
            if line.counts.fetch_update(Relaxed, Relaxed, lift).is_ok() {
                self.reopened.tell(backend);
            }
        }
    }

    /// The place that was taken is not needed, and nobody was there: the backend was never as full as it
    /// looked, so a mark made meanwhile is lifted.
    #[inline]
    pub fn give_up(&self, backend: BackendId, limit: Limit) {
        let Some(line) = self.lines.get(backend.index()).filter(|_| limit.most > 0) else {
            return self.give_back(backend, false, limit);
        };
        // Nobody takes a place at a marked backend, so the mark came with this one or after it: unless
        // another worker made it under another limit.
        let mut lifts = false;
        let one_less = |counts: u64| {
            debug_assert!(of(counts).total > 0, "a place is given up once");
            let is_ours = line.marked_under.load(Relaxed) == limit.most;
            lifts = counts & MARK != 0 && is_ours && of(counts).total <= limit.most;
            let rest = counts.wrapping_sub(TOTAL);
            Some(if lifts { rest & !MARK } else { rest })
        };
        let is_done = line.counts.fetch_update(Relaxed, Acquire, one_less).is_ok();
        if is_done && lifts {
            self.reopened.tell(backend);
        }
    }

    /// The limit of a backend is a higher one now, or gone: a mark made under a lower one is lifted.
    pub fn raised(&self, backend: BackendId, limit: Limit) {
        let Some(line) = self.lines.get(backend.index()) else { return };
        let lift = |counts: u64| {
            let is_old = limit.most == 0 || line.marked_under.load(Relaxed) < limit.most;
            (counts & MARK != 0 && is_old).then_some(counts & !MARK)
        };
        if line.counts.fetch_update(Relaxed, Acquire, lift).is_ok() {
            self.reopened.tell(backend);
        }
    }

    /// Backends that take connections again.
    #[inline]
    pub fn reopened(&self) -> &Reopened {
        &self.reopened
    }

    /// A connection becomes active, or inactive.
    #[inline]
    pub fn turn(&self, backend: BackendId, active: bool) {
        let Some(line) = self.lines.get(backend.index()) else { return };
        if active {
            line.counts.fetch_add(ACTIVE, Relaxed);
        } else {
            let before = of(line.counts.fetch_sub(ACTIVE, Relaxed));
            debug_assert!(before.active > 0, "an active connection was counted as such");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::reopened::News;
    use std::thread;

    const B: BackendId = BackendId(7);

    /// Takes places until there is none.
    fn fill(loads: &Loads, limit: Limit) -> usize {
        (0..1000).take_while(|_| loads.take(B, limit)).count()
    }

    #[test]
    fn a_limit_lowered_below_what_is_there_reopens_where_it_says() {
        let loads = Loads::default();
        (0..6).for_each(|_| assert!(loads.take(B, Limit::NONE)));
        let limit = Limit { most: 4, least: 1 };
        for left in (1..6).rev() {
            loads.give_back(B, false, limit);
            assert_eq!(loads.of(B).total, left);
            assert!(!loads.take(B, limit), "{left} are left");
        }
        loads.give_back(B, false, limit);
        assert!(loads.take(B, limit), "none is");
    }

    #[test]
    fn a_backend_takes_exactly_as_many_as_its_limit_says() {
        let loads = Loads::default();
        let limit = Limit { most: 3, least: 0 };
        assert!(!loads.is_overloaded(B, limit));
        assert_eq!(fill(&loads, limit), 3);
        assert!(loads.is_overloaded(B, limit));
        assert!(!loads.is_overloaded(B, Limit::NONE), "no limit");
        assert_eq!(loads.of(B), Load { active: 0, total: 3 });
    }

    #[test]
    fn a_full_backend_opens_below_its_lower_limit_or_three_quarters() {
        // (most, least) and how many must leave before it takes new ones again.
        for (most, least, leave) in
            [(8, 0, 3), (8, 8, 1), (8, 1, 8), (4, 0, 2), (1, 0, 1), (3, 2, 2)]
        {
            let (loads, limit) = (Loads::default(), Limit { most, least });
            assert_eq!(fill(&loads, limit), most as usize);
            for left in 1..=leave {
                assert!(!loads.take(B, limit), "{most}/{least}: open after {left} left");
                loads.give_back(B, false, limit);
            }
            assert!(!loads.is_overloaded(B, limit), "{most}/{least}");
            assert_eq!(fill(&loads, limit), leave, "{most}/{least}");
        }
    }

    /// Whoever took the last place: with one given up, the backend was never full.
    #[test]
    fn a_place_given_up_lifts_the_mark_it_helped_to_make() {
        let (loads, limit, mut read) = (Loads::default(), Limit { most: 8, least: 0 }, 0);
        assert_eq!(fill(&loads, limit), 8);
        loads.give_up(B, limit);
        assert_eq!((loads.of(B).total, loads.is_overloaded(B, limit)), (7, false));
        assert_eq!(loads.reopened().next(&mut read), Some(News::Open(B)), "all workers are told");
        assert_eq!(fill(&loads, limit), 1, "one is left, and no more");
        loads.give_back(B, false, limit);
        assert!(loads.is_overloaded(B, limit), "a connection was there");
        loads.give_up(B, Limit::NONE);
        assert_eq!(loads.of(B).total, 6);
    }

    #[test]
    fn a_raised_limit_lifts_the_mark_and_a_lowered_one_holds_at_once() {
        let loads = Loads::default();
        assert_eq!(fill(&loads, Limit { most: 4, least: 1 }), 4);
        loads.give_back(B, false, Limit { most: 4, least: 1 });
        assert!(loads.is_overloaded(B, Limit { most: 4, least: 1 }), "marked");
        assert!(!loads.is_overloaded(B, Limit { most: 5, least: 1 }), "raised");
        assert!(loads.is_overloaded(B, Limit { most: 2, least: 1 }), "lowered");
        assert!(!loads.take(B, Limit { most: 2, least: 1 }));
        assert!(loads.take(B, Limit::NONE));
    }

    #[test]
    fn a_mark_is_not_revived_by_a_limit_that_was_higher_meanwhile() {
        let low = Limit { most: 4, least: 1 };
        for high in [Limit { most: 8, least: 1 }, Limit::NONE] {
            let loads = Loads::default();
            assert_eq!(fill(&loads, low), 4);
            let (mut read, mut news) = (0, 0);
            loads.raised(B, high);
            assert!(!loads.is_overloaded(B, high));
            loads.give_back(B, false, high);
            assert!(!loads.is_overloaded(B, low), "three of four, and never full since");
            while loads.reopened().next(&mut read).is_some() {
                news += 1;
            }
            assert_eq!((fill(&loads, low), news), (1, 1), "{high:?}");
        }
        let loads = Loads::default();
        assert_eq!(fill(&loads, Limit { most: 8, least: 1 }), 8);
        loads.raised(B, Limit { most: 8, least: 1 });
        loads.give_back(B, false, Limit { most: 8, least: 1 });
        assert!(loads.is_overloaded(B, Limit { most: 8, least: 1 }), "made under this very limit");
    }

    #[test]
    fn limits_are_exact_with_several_threads() {
        let (loads, limit) = (Loads::default(), Limit { most: 500, least: 500 });
        let taken: usize = thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| fill(&loads, limit))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!((taken, loads.of(B).total), (500, 500));
    }

    /// The last place is taken while another is given back: in whichever order they come, one
    /// place is left over and the backend is open.
    #[test]
    fn no_mark_comes_late() {
        let (loads, limit) = (Loads::default(), Limit { most: 2, least: 2 });
        let meet = std::sync::Barrier::new(2);
        let rounds = 5_000;
        thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..rounds {
                    meet.wait();
                    assert!(loads.take(B, limit), "one place of two is free");
                    meet.wait();
                }
            });
            for _ in 0..rounds {
                assert!(loads.take(B, limit));
                meet.wait();
                loads.give_back(B, false, limit);
                meet.wait();
                assert!(!loads.is_overloaded(B, limit), "one of two is taken");
                loads.give_back(B, false, limit);
            }
        });
    }

    /// Two were taken without a limit and are given back at once under a new one: who marks late lifts it.
    #[test]
    fn no_mark_is_left_on_nobody() {
        let (loads, limit) = (Loads::default(), Limit { most: 2, least: 1 });
        let meet = std::sync::Barrier::new(2);
        thread::scope(|scope| {
            let rounds = 5_000;
            let give_back = || {
                meet.wait();
                loads.give_back(B, false, limit);
                meet.wait();
            };
            scope.spawn(move || (0..rounds).for_each(|_| give_back()));
            for _ in 0..rounds {
                assert!(loads.take(B, Limit::NONE) && loads.take(B, Limit::NONE));
                give_back();
                assert!(!loads.is_overloaded(B, limit), "nobody is there");
            }
        });
    }

    #[test]
    fn counts_end_at_zero_whatever_several_threads_do() {
        let loads = Loads::default();
        thread::scope(|scope| {
            for seed in 0..4u32 {
                let loads = &loads;
                scope.spawn(move || {
                    for i in 0..10_000u32 {
                        let backend = BackendId(i.wrapping_mul(seed + 3) % 5);
                        let limit = Limit { most: i % 3 * 2, least: 0 };
                        if loads.take(backend, limit) {
                            loads.turn(backend, true);
                            let stays_active = i % 2 == 0;
                            if !stays_active {
                                loads.turn(backend, false);
                            }
                            loads.give_back(backend, stays_active, limit);
                        }
                    }
                });
            }
        });
        for backend in (0..5).map(BackendId) {
            assert_eq!(loads.of(backend), Load::default());
            assert!(!loads.is_overloaded(backend, Limit { most: 2, least: 0 }), "nor marked");
        }
    }
}
