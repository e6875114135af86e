//! The worker on a core of its own, and a generator that offers packets at a rate.
//!
//! ```text
//! this thread:  due? ─► write, stamp ─► [port] ─►        ─► [port] ─► latency = now − stamp
//! the other:                                     worker
//! ```
//!
//! What a port has no room for is lost, as in a card. Latency is all of it: waiting for the worker,
//! its work on the whole burst, waiting to be taken out. What of it is the balancer's shows beside the same
//! core forwarding plainly between two ports more: the machine's pauses are in both.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use hdrhistogram::Histogram;
use shunt::dataplane::io::{Burst, Tx as _};
use shunt::dataplane::worker::Worker;
use shunt::dpdk::clock::{self, Clock};
use shunt::dpdk::eal::Eal;
use shunt::dpdk::lcore;
use shunt::dpdk::mbuf::Mbuf;

use crate::bed::{Bed, Rings, Wire};
use crate::floor::{Floor, Forwarder};
use crate::host::Hosts;
use crate::machine::Machine;
use crate::options::FULL_BURST;
use crate::traffic::{Mix, Traffic};

/// Packets written before the clock is looked at again: a burst of a generator that is behind.
const AT_ONCE: u64 = 32;
/// Packets the floor's ports have room for.
const FLOOR_DEPTH: u32 = 2048;
/// How long packets under way are waited for.
const PATIENCE: Duration = Duration::from_millis(50);
/// Most cycles that are told apart: minutes.
const LONGEST: u64 = 1 << 40;
/// Bits of a stamp.
pub(crate) const STAMP_MASK: u64 = (1 << 48) - 1;

/// What one trial gave.
#[derive(Debug)]
pub(crate) struct Trial {
    /// Packets offered a second, as it came out.
    pub(crate) offered_per_second: f64,
    /// Packets offered.
    pub(crate) offered: u64,
    /// Packets that did not come back.
    pub(crate) lost: u64,
    /// Cycles from one end to the other.
    pub(crate) latency: Histogram<u64>,
}

/// Who is between the ports of a trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Between {
    /// The balancer.
    Worker,
    /// Nobody: what comes in by one leaves by the other.
    Floor,
}

/// A worker that runs.
pub(crate) struct Rig<'a, F: Hosts> {
    machine: &'a Machine,
    /// The generator's ends of the worker's ports, and of the floor's.
    wires: [[Wire; 2]; 2],
    /// The core forwards plainly.
    is_floor: Arc<AtomicBool>,
    traffic: Traffic<F>,
    mix: Mix,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<anyhow::Result<()>>>,
}

impl<'a, F: Hosts> Rig<'a, F> {
    /// Puts the bed's worker on a core of its own and this thread on another.
    pub(crate) fn start(
        machine: &'a Machine,
        bed: Bed,
        traffic: Traffic<F>,
        mix: Mix,
        (worker_cpu, generator_cpu): (usize, usize),
    ) -> anyhow::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let is_floor = Arc::new(AtomicBool::new(false));
        let clock = if mix.new_per_mille > 0 { machine.clock } else { bed.clock() };
        let Bed { worker, wires, .. } = bed;
        let floor = Floor::new(&machine.eal, FLOOR_DEPTH, FULL_BURST)?;
        let eal = machine.eal.clone();
        let told = (Arc::clone(&stop), Arc::clone(&is_floor));
        let players = (worker, floor.forwarder);
        let thread = thread::Builder::new()
            .name("worker".into())
            .spawn(move || work(&eal, clock, players, worker_cpu, &told))?;
        lcore::pin(generator_cpu)?;
        let wires = [wires, floor.wires];
        Ok(Self { machine, wires, is_floor, traffic, mix, stop, thread: Some(thread) })
    }

    /// Offers packets at that rate for that time.
    pub(crate) fn trial(
        &mut self,
        between: Between,
        per_second: f64,
        duration: Duration,
    ) -> anyhow::Result<Trial> {
        self.is_floor.store(between == Between::Floor, Ordering::Relaxed);
        let ticks = self.machine.clock.ticks(duration);
        let per_tick = per_second / self.machine.hertz();
        let mut latency = Histogram::new_with_bounds(1, LONGEST, 3)?;
        let (start, mut offered, mut back, mut refused) = (clock::now(), 0, 0, 0);
        loop {
            let now = clock::now();
            let passed = now - start;
            if passed >= ticks {
                break;
            }
            let due = due(passed, per_tick).saturating_sub(offered).min(AT_ONCE);
            let missed = self.send(between, due, now)?;
            offered += due;
            refused += missed;
            back += self.collect(between, &mut latency);
        }
        let elapsed = clock::now() - start;
        // On a machine that stood still one may come now that an earlier trial gave up on.
        let missing = (offered - refused).saturating_sub(back);
        back += self.wait_for(between, missing, &mut latency);
        let seconds = self.machine.clock.duration(elapsed).as_secs_f64();
        let offered_per_second = crate::report::ratio(offered, 1) / seconds;
        Ok(Trial { offered_per_second, offered, lost: offered.saturating_sub(back), latency })
    }

    /// Writes so many packets; how many there was no room for.
    fn send(&mut self, between: Between, count: u64, now: u64) -> anyhow::Result<u64> {
        let mut bursts: [Burst<Mbuf>; 2] = [Burst::new(), Burst::new()];
        let mut missed = 0;
        for _ in 0..count {
            match self.traffic.stamped(self.mix, now & STAMP_MASK)? {
                Some((port, packet)) => bursts[port].push(packet),
                None => missed += 1,
            }
        }
        for (wire, burst) in self.wires[between as usize].iter_mut().zip(&mut bursts) {
            wire.to.tx(burst);
            for packet in burst.drain(..) {
                self.traffic.take_back(packet);
                missed += 1;
            }
        }
        Ok(missed)
    }

    fn collect(&mut self, between: Between, latency: &mut Histogram<u64>) -> u64 {
        let mut count = 0;
        let now = clock::now();
        let as_sent = between == Between::Floor;
        self.traffic.collect_stamps(&mut self.wires[between as usize], as_sent, |stamp| {
            latency.saturating_record(now.wrapping_sub(stamp) & STAMP_MASK);
            count += 1;
        });
        count
    }

    /// Waits for packets under way, a while.
    fn wait_for(
        &mut self,
        between: Between,
        mut missing: u64,
        latency: &mut Histogram<u64>,
    ) -> u64 {
        let end = self.machine.in_time(PATIENCE);
        let mut back = 0;
        while missing > 0 && clock::now() < end {
            let count = self.collect(between, latency);
            back += count;
            missing -= count.min(missing);
        }
        back
    }

    /// Ends the worker's thread.
    pub(crate) fn end(mut self) -> anyhow::Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().context("the worker was ended before")?;
        thread.join().map_err(|_| anyhow!("the worker panicked"))??;
        self.machine.unpin()
    }
}

impl<F: Hosts> Drop for Rig<'_, F> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate")]
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
pub(crate) fn due(passed: u64, per_tick: f64) -> u64 {
    (passed as f64 * per_tick) as u64
}

/// The worker's thread.
#[expect(clippy::cast_possible_truncation, reason = "workers count milliseconds in 32 bits")]
fn work(
    eal: &Eal,
    clock: Clock,
    (mut worker, mut forwarder): (Worker<Rings>, Forwarder),
    cpu: usize,
    (stop, is_floor): &(Arc<AtomicBool>, Arc<AtomicBool>),
) -> anyhow::Result<()> {
    lcore::pin(cpu)?;
    let _registered = eal.register_thread()?;
    while !stop.load(Ordering::Relaxed) {
        if is_floor.load(Ordering::Relaxed) {
            forwarder.pass();
        } else {
            worker.poll(clock.now_ms() as u32);
        }
    }
    Ok(())
}
