//! Where the threads of several workers wait for each other.
//!
//! ```text
//!            meet          meet                 rest
//! worker 0 ──►│ timed ─────►│ timed ─── … ──────►│ alone ────────►│
//! worker 1 ──►│ timed ─────►│ timed ─── … ──────►│ sleeps ────────►│
//! ```
//!
//! [`Gate::meet`] spins: what is timed behind it begins at all of them within a fraction of a microsecond,
//! so that it overlaps. [`Gate::rest`] sleeps: whoever waits there leaves the others the machine, its
//! hyper-threads included. A thread that fails breaks the gate, and nobody waits for it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;

use anyhow::ensure;

/// Looks before the kernel may give the core to somebody else.
const SPINS: u32 = 20_000;

/// For so many threads.
#[derive(Debug)]
pub(crate) struct Gate {
    threads: usize,
    came: AtomicUsize,
    turn: AtomicUsize,
    /// Came to rest, and how often all have.
    resting: Mutex<(usize, usize)>,
    woken: Condvar,
    is_broken: AtomicBool,
}

/// Breaks the gate when its thread is done: who still waits then waits in vain. Who was let through
/// before does not notice.
#[derive(Debug)]
pub(crate) struct Guard<'a>(pub(crate) &'a Gate);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        // Under the lock, so that nobody is between looking and sleeping.
        let _resting = self.0.resting.lock().unwrap_or_else(PoisonError::into_inner);
        self.0.is_broken.store(true, Ordering::Release);
        self.0.woken.notify_all();
    }
}

impl Gate {
    /// A gate for so many.
    pub(crate) fn new(threads: usize) -> Self {
        Self {
            threads,
            came: AtomicUsize::new(0),
            turn: AtomicUsize::new(0),
            resting: Mutex::default(),
            woken: Condvar::new(),
            is_broken: AtomicBool::new(false),
        }
    }

    /// Returns when all have come, to all at once.
    pub(crate) fn meet(&self) -> anyhow::Result<()> {
        let turn = self.turn.load(Ordering::Acquire);
        if self.came.fetch_add(1, Ordering::AcqRel) + 1 == self.threads {
            self.came.store(0, Ordering::Relaxed);
            self.turn.store(turn.wrapping_add(1), Ordering::Release);
            return Ok(());
        }
        let mut spins = 0;
        while self.turn.load(Ordering::Acquire) == turn {
            self.check()?;
            spins += 1;
            if spins % SPINS == 0 {
                thread::yield_now();
            } else {
                std::hint::spin_loop();
            }
        }
        Ok(())
    }

    /// The same, asleep.
    pub(crate) fn rest(&self) -> anyhow::Result<()> {
        let mut resting = self.resting.lock().unwrap_or_else(PoisonError::into_inner);
        let turn = resting.1;
        resting.0 += 1;
        if resting.0 == self.threads {
            *resting = (0, turn.wrapping_add(1));
            self.woken.notify_all();
            return Ok(());
        }
        while resting.1 == turn {
            self.check()?;
            resting = self.woken.wait(resting).unwrap_or_else(PoisonError::into_inner);
        }
        Ok(())
    }

    fn check(&self) -> anyhow::Result<()> {
        ensure!(!self.is_broken.load(Ordering::Acquire), "another worker's thread has failed");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_passes_before_all_have_come() {
        let (gate, passed) = (Gate::new(3), AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for round in 0..200 {
                        let before = passed.load(Ordering::SeqCst);
                        assert!(before >= 3 * round, "{before} have passed in round {round}");
                        passed.fetch_add(1, Ordering::SeqCst);
                        if round % 2 == 0 { gate.meet().unwrap() } else { gate.rest().unwrap() }
                    }
                });
            }
        });
        assert_eq!(passed.into_inner(), 600);
    }

    #[test]
    fn who_fails_keeps_nobody_waiting() {
        for wait in [Gate::meet, Gate::rest] {
            let gate = Gate::new(2);
            thread::scope(|scope| {
                let waiting = scope.spawn(|| wait(&gate));
                drop(Guard(&gate));
                assert!(waiting.join().unwrap().is_err());
            });
        }
    }
}
