//! Running a worker until it is told to stop, and stepping back when there is nothing to do.
//!
//! The idle ladder: a worker that finds nothing first goes on at once, then pauses the core for a
//! moment between looks, then rests: watches memory or pauses deeply where the CPU can
//! (`dpdk/rest.rs`), else stays where it is, or sleeps in the kernel if it was told to (`idle_sleep_us`). One
//! packet brings it back to the top. `busy_poll` takes the ladder away.
//!
//! | rung | from | a packet waits at most |
//! |---|---|---|
//! | looks again at once | the start | nothing |
//! | pauses between looks | 256 empty looks | a fraction of a microsecond |
//! | rests | 2,048, about a hundred microseconds | 5 µs where the CPU watches or pauses; else as on the rung before, or the sleep and the waking |
//!
//! `shunt-bench idle` measures the wait, and what of its core a worker takes on each rung.

use std::time::Duration;

use super::io::{Platform, Rest};
use super::worker::Worker;

/// Empty polls before the core pauses between looks.
const SPIN_POLLS: u32 = 256;
/// Empty polls before it rests: about a hundred microseconds after the last packet.
const PAUSE_POLLS: u32 = 2_048;
/// Pauses between two looks on the middle rung.
const PAUSES: u32 = 8;

/// A clock in CPU ticks that also knows milliseconds.
pub trait Clock {
    /// Ticks now.
    fn ticks(&self) -> u64;
    /// Milliseconds of a tick count, cut to 32 bits.
    fn ms(&self, ticks: u64) -> u32;
}

/// Does not go deeper than the rung before.
#[derive(Clone, Copy, Debug)]
pub struct Moments;

impl Rest for Moments {
    fn rest(&mut self) {
        pause();
    }
}

/// Sleeps in the kernel, so long at a time.
#[derive(Clone, Copy, Debug)]
pub struct Sleep(pub Duration);

impl Rest for Sleep {
    fn rest(&mut self) {
        std::thread::sleep(self.0);
    }
}

/// Polls until an order says stop, or until nobody is left who could give one. Without a way to rest it
/// never steps back.
pub fn run<P: Platform>(
    worker: &mut Worker<P>,
    clock: &impl Clock,
    mut rest: Option<Box<dyn Rest>>,
) {
    let mut empty = 0u32;
    let mut before = clock.ticks();
    while !is_over(worker, empty) {
        let moved = worker.poll(clock.ms(before));
        empty = if moved == 0 { empty.saturating_add(1) } else { 0 };
        if let Some(rest) = rest.as_deref_mut().filter(|_| !worker.is_behind()) {
            step_back(empty, rest);
        }
        let after = clock.ticks();
        account(worker, moved, after.wrapping_sub(before));
        before = after;
    }
}

/// Ordered to stop, or idle with nobody left who could order anything.
#[inline]
fn is_over<P: Platform>(worker: &Worker<P>, empty_polls: u32) -> bool {
    worker.is_stopped() || (empty_polls > 0 && worker.is_abandoned())
}

#[inline]
fn account<P: Platform>(worker: &Worker<P>, moved: usize, ticks: u64) {
    let counters = &worker.stats().run;
    if moved > 0 {
        counters.busy_polls.add(1);
        counters.busy_cycles.add(ticks);
    } else {
        counters.idle_cycles.add(ticks);
    }
}

/// Waits as long as that many empty polls in a row are worth.
#[inline]
fn step_back(empty_polls: u32, rest: &mut dyn Rest) {
    match empty_polls {
        ..SPIN_POLLS => {}
        SPIN_POLLS..PAUSE_POLLS => pause(),
        PAUSE_POLLS.. => rest.rest(),
    }
}

#[inline]
fn pause() {
    (0..PAUSES).for_each(|_| std::hint::spin_loop());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often it was told to rest.
    struct Told(u32);

    impl Rest for Told {
        fn rest(&mut self) {
            self.0 += 1;
        }
    }

    #[test]
    fn the_longer_the_silence_the_deeper_the_rung() {
        for (empty_polls, rests) in
            [(1, 0), (SPIN_POLLS, 0), (PAUSE_POLLS - 1, 0), (PAUSE_POLLS, 1), (u32::MAX, 1)]
        {
            let mut rest = Told(0);
            step_back(empty_polls, &mut rest);
            assert_eq!(rest.0, rests, "{empty_polls}");
        }
    }
}
