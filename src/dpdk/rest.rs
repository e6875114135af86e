//! How an idle worker waits where the CPU can wait for memory: a packet's arrival is a write to a descriptor.
//!
//! ```text
//! the card writes ─► descriptor's line ◄─ watched by the core, asleep (UMWAIT, MWAITX)
//!                    anything else, or the time is over: it wakes and looks
//! ```
//!
//! | the CPU can | and | the worker |
//! |---|---|---|
//! | watch several places at once | all drivers say where | watches all its queues |
//! | watch one place | some driver says where | watches that queue |
//! | pause until a time (TPAUSE) | | pauses |
//! | none of it | | nothing is made here: it pauses for moments, or sleeps in the kernel if told to |
//!
//! Lanes, the mailbox, and queues that are not watched write elsewhere: what they bring waits until the time is over,
//! so it is short. What the CPU can is asked once, at start.

use std::time::Duration;

use dpdk_sys as sys;

use super::burst::Queue;
use super::clock::{self, Clock};
use crate::dataplane::io;

/// How long a worker rests at most. What is not watched waits that long.
const LONGEST: Duration = Duration::from_micros(5);

/// What a CPU can.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Cpu {
    watch: bool,
    watch_several: bool,
    pause: bool,
}

/// How a worker rests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Watches all its queues.
    WatchAll,
    /// Watches one of them.
    WatchOne,
    /// Pauses until a time.
    Pause,
}

impl std::fmt::Display for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::WatchAll => "watches its queues",
            Self::WatchOne => "watches one of its queues",
            Self::Pause => "pauses the core",
        })
    }
}

impl Cpu {
    fn this() -> Self {
        let mut can = [0; 3];
        let [watch, pause, several] = can.each_mut().map(|can| &raw mut *can);
        // SAFETY: three places to write to.
        unsafe { sys::shim_cpu_can(watch, pause, several) };
        let [watch, pause, watch_several] = can.map(|can| can != 0);
        Self { watch, watch_several, pause }
    }

    /// What it comes to for a worker with so many queues, of which so many can be watched.
    fn way(self, queues: usize, watchable: usize) -> Option<Way> {
        if watchable > 0 && watchable == queues && (self.watch_several || queues == 1 && self.watch)
        {
            Some(Way::WatchAll)
        } else if watchable > 0 && self.watch {
            Some(Way::WatchOne)
        } else {
            self.pause.then_some(Way::Pause)
        }
    }
}

/// A worker's way to rest.
#[derive(Debug)]
pub struct Rest {
    way: Way,
    /// Device and queue of those that are watched.
    queues: Vec<(u16, u16)>,
    conditions: Vec<sys::rte_power_monitor_cond>,
    /// [`LONGEST`] in ticks.
    longest: u64,
}

// SAFETY: the pointers in it are filled in and used by one call.
unsafe impl Send for Rest {}

impl Rest {
    /// How a worker with these queues rests; `None` if the CPU knows no way.
    pub fn of(queues: &[Queue]) -> Option<Self> {
        let all = queues.len();
        let mut queues: Vec<_> = queues.iter().map(Queue::place).collect();
        queues.retain(|queue| condition(*queue).is_some());
        let way = Cpu::this().way(all, queues.len())?;
        queues.truncate(if way == Way::WatchAll { all } else { 1 });
        let conditions = Vec::with_capacity(queues.len());
        Some(Self { way, queues, conditions, longest: Clock::shared().ticks(LONGEST) })
    }

    /// Which way it is.
    pub fn way(&self) -> Way {
        self.way
    }
}

impl io::Rest for Rest {
    /// Rests until a watched queue is written to, or the time is over.
    fn rest(&mut self) {
        let end = clock::now() + self.longest;
        if self.way == Way::Pause {
            // SAFETY: the CPU can (`Cpu::way`).
            unsafe { sys::rte_power_pause(end) };
            return;
        }
        // Drivers name the descriptor that is written next: another one each time.
        self.conditions.clear();
        self.conditions.extend(self.queues.iter().filter_map(|queue| condition(*queue)));
        let count = u32::try_from(self.conditions.len()).unwrap_or(0);
        match (self.way, self.conditions.first()) {
            (Way::WatchAll, Some(_)) if count > 1 => {
                let all = self.conditions.as_ptr();
                // SAFETY: so many conditions; this thread is registered, or the call does nothing.
                unsafe { sys::rte_power_monitor_multi(all, count, end) };
            }
            (_, Some(one)) => {
                // SAFETY: as above.
                unsafe { sys::rte_power_monitor(&raw const *one, end) };
            }
            (_, None) => std::hint::spin_loop(),
        }
    }
}

/// Where the next packet of a queue is written; `None` if the driver does not say.
fn condition((device, queue): (u16, u16)) -> Option<sys::rte_power_monitor_cond> {
    // SAFETY: all zeros are a condition that watches nothing.
    let mut condition: sys::rte_power_monitor_cond = unsafe { std::mem::zeroed() };
    // SAFETY: a started port and its queue, or an error; `condition` is writable.
    let result = unsafe { sys::rte_eth_get_monitor_addr(device, queue, &raw mut condition) };
    (result == 0).then_some(condition)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataplane::io::Rest as _;

    #[test]
    fn a_worker_rests_the_deepest_way_that_cpu_and_drivers_know() {
        let cpu = |[watch, watch_several, pause]: [bool; 3]| Cpu { watch, watch_several, pause };
        let nothing = cpu([false; 3]);
        let amd = cpu([true, false, false]);
        let intel = cpu([true, false, true]);
        let tsx = cpu([true; 3]);
        // (CPU, queues, of which can be watched) and the way.
        for (cpu, queues, watchable, way) in [
            (nothing, 2, 2, None),
            (nothing, 0, 0, None),
            (amd, 2, 2, Some(Way::WatchOne)),
            (amd, 1, 1, Some(Way::WatchAll)),
            (amd, 2, 0, None),
            (intel, 2, 1, Some(Way::WatchOne)),
            (intel, 2, 0, Some(Way::Pause)),
            (intel, 0, 0, Some(Way::Pause)),
            (tsx, 2, 2, Some(Way::WatchAll)),
            (tsx, 2, 1, Some(Way::WatchOne)),
        ] {
            assert_eq!(cpu.way(queues, watchable), way, "{cpu:?} {queues} {watchable}");
        }
    }

    #[test]
    fn a_worker_without_queues_rests_as_the_cpu_can_and_comes_back() {
        let rest = Rest::of(&[]);
        assert_eq!(rest.is_some(), Cpu::this().pause);
        if let Some(mut rest) = rest {
            rest.rest();
            assert_eq!(rest.way(), Way::Pause);
        }
    }
}
