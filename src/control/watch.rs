//! Are the workers moving, and how busy are they? Looked at from outside, by their cycle counters.
//!
//! A worker counts the cycles of every poll, busy or idle, so counters that stand still mean a
//! worker that does: hung, or its core taken away. That is reported, shown and withheld from the
//! watchdog of systemd, which then restarts the daemon. (A worker that panics takes the process
//! down by itself.)

use std::time::{Duration, Instant};

/// A worker that has not moved for this long is stalled.
pub const STALLED_AFTER: Duration = Duration::from_secs(2);
/// Busy shares are taken over at least this long.
pub const SHARE_OVER: Duration = Duration::from_secs(1);

/// A worker's cycle counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cycles {
    /// In polls that moved packets.
    pub busy: u64,
    /// In all others.
    pub idle: u64,
}

impl Cycles {
    fn total(self) -> u64 {
        self.busy.wrapping_add(self.idle)
    }
}

/// What changed for a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It stopped moving.
    Stalled,
    /// It moves again.
    Recovered,
}

/// One worker under watch.
#[derive(Clone, Copy, Debug)]
pub struct Watched {
    last: Cycles,
    moved_at: Instant,
    stalled: bool,
    share_from: Cycles,
    share_at: Instant,
    share: f64,
}

impl Watched {
    /// Starts watching at `now`.
    pub fn new(now: Instant) -> Self {
        let zero = Cycles::default();
        Self {
            last: zero,
            moved_at: now,
            stalled: false,
            share_from: zero,
            share_at: now,
            share: 0.0,
        }
    }

    /// Takes in the counters at `now`.
    pub fn look(&mut self, cycles: Cycles, now: Instant) -> Option<Turn> {
        self.take_share(cycles, now);
        if cycles.total() != self.last.total() {
            self.last = cycles;
            self.moved_at = now;
        }
        let stalled = now.duration_since(self.moved_at) >= STALLED_AFTER;
        let before = std::mem::replace(&mut self.stalled, stalled);
        match (before, stalled) {
            (false, true) => Some(Turn::Stalled),
            (true, false) => Some(Turn::Recovered),
            _ => None,
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a share needs no more than a float holds")]
    fn take_share(&mut self, cycles: Cycles, now: Instant) {
        if now.duration_since(self.share_at) < SHARE_OVER {
            return;
        }
        let busy = cycles.busy.wrapping_sub(self.share_from.busy);
        let total = cycles.total().wrapping_sub(self.share_from.total());
        self.share = if total == 0 { 0.0 } else { busy as f64 / total as f64 };
        self.share_from = cycles;
        self.share_at = now;
    }

    /// Does it stand still?
    pub fn stalled(&self) -> bool {
        self.stalled
    }

    /// Share of its time spent moving packets, 0 to 1.
    pub fn share(&self) -> f64 {
        self.share
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    #[test]
    fn a_worker_that_stands_still_is_reported_once_and_so_is_its_return() {
        let start = Instant::now();
        let mut worker = Watched::new(start);
        let moving = |n| Cycles { busy: 0, idle: n };
        assert_eq!(worker.look(moving(1), at(start, 100)), None);
        assert_eq!(worker.look(moving(1), at(start, 2099)), None);
        assert_eq!(worker.look(moving(1), at(start, 2100)), Some(Turn::Stalled));
        assert_eq!(worker.look(moving(1), at(start, 9000)), None);
        assert!(worker.stalled());
        assert_eq!(worker.look(moving(2), at(start, 9001)), Some(Turn::Recovered));
        assert!(!worker.stalled());
    }

    #[test]
    fn a_share_is_taken_over_a_second_and_does_not_remember_the_one_before() {
        let start = Instant::now();
        let mut worker = Watched::new(start);
        worker.look(Cycles { busy: 25, idle: 75 }, at(start, 1000));
        assert!((worker.share() - 0.25).abs() < 1e-9);
        worker.look(Cycles { busy: 125, idle: 75 }, at(start, 1500));
        assert!((worker.share() - 0.25).abs() < 1e-9, "not yet");
        worker.look(Cycles { busy: 125, idle: 75 }, at(start, 2000));
        assert!((worker.share() - 1.0).abs() < 1e-9);
        worker.look(Cycles { busy: 125, idle: 75 }, at(start, 3000));
        assert!(worker.share().abs() < 1e-9, "no cycles is no work");
    }
}
