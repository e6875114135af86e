//! Running a worker until it is told to stop, and stepping back when there is nothing to do.
//!
//! The idle ladder: a worker that finds nothing first goes on at once, then pauses the core for a
//! moment between looks, then sleeps for tens of microseconds at a time. One packet brings it back
//! to the top. `busy_poll` takes the ladder away.

use std::time::Duration;

use super::io::Platform;
use super::worker::Worker;

/// Empty polls before the core pauses between looks.
const SPIN_POLLS: u32 = 256;
/// Empty polls before it sleeps: about a hundred microseconds after the last packet.
const PAUSE_POLLS: u32 = 2_048;
/// How long it sleeps at a time. Bounds the latency a first packet meets.
const SLEEP: Duration = Duration::from_micros(50);
/// Pauses between two looks on the middle rung.
const PAUSES: u32 = 8;

/// A clock in CPU ticks that also knows milliseconds.
pub trait Clock {
    /// Ticks now.
    fn ticks(&self) -> u64;
    /// Milliseconds of a tick count, cut to 32 bits.
    fn ms(&self, ticks: u64) -> u32;
}

/// Polls until an order says stop, or until nobody is left who could give one.
pub fn run<P: Platform>(worker: &mut Worker<P>, clock: &impl Clock, busy_poll: bool) {
    let mut empty = 0u32;
    let mut before = clock.ticks();
    while !is_over(worker, empty) {
        let moved = worker.poll(clock.ms(before));
        empty = if moved == 0 { empty.saturating_add(1) } else { 0 };
        if !busy_poll && !worker.is_behind() {
            step_back(empty);
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
fn step_back(empty_polls: u32) {
    if empty_polls < SPIN_POLLS {
        return;
    }
    if empty_polls < PAUSE_POLLS {
        (0..PAUSES).for_each(|_| std::hint::spin_loop());
    } else {
        std::thread::sleep(SLEEP);
    }
}
