//! What every measurement starts with: a CPU, DPDK, packet buffers.

use std::time::Duration;

use shunt::dpdk::clock::Clock;
use shunt::dpdk::eal::{Eal, EalOptions};
use shunt::dpdk::lcore;
use shunt::dpdk::memory::HugePages;
use shunt::dpdk::pool::Pool;

use crate::options::Scene;

/// Bytes of a packet buffer.
const ROOM: u16 = 2048;

/// DPDK, running.
pub(crate) struct Machine {
    pub(crate) eal: Eal,
    pub(crate) pool: Pool,
    pub(crate) clock: Clock,
    /// CPUs this process was given.
    cpus: Vec<usize>,
}

impl Machine {
    /// Starts DPDK, with buffers for `generators` times what the scene has in flight.
    pub(crate) fn start(scene: &Scene, generators: u32) -> anyhow::Result<Self> {
        let mut cpus = lcore::usable_cpus()?;
        if let Some(core) = scene.core {
            lcore::pin(core)?;
            cpus.retain(|cpu| *cpu != core);
            cpus.insert(0, core);
        }
        let huge_pages = if scene.no_huge { HugePages::Never } else { HugePages::Auto };
        let buffers = scene.in_flight * (generators + 1) + 1024;
        let eal = Eal::start(&EalOptions {
            huge_pages,
            memory_mb: 64 + buffers * u32::from(ROOM + 512) / (1 << 20),
            file_prefix: format!("shunt-bench-{}", std::process::id()),
            ..EalOptions::default()
        })?;
        let pool = Pool::new(&eal, buffers, ROOM)?;
        Ok(Self { eal, pool, clock: Clock::shared(), cpus })
    }

    /// CPUs for the worker and for the generator, if there are two.
    pub(crate) fn two_cpus(&self) -> Option<(usize, usize)> {
        self.cpus.first().copied().zip(self.cpus.get(1).copied())
    }

    /// Lets this thread run wherever the process may.
    pub(crate) fn unpin(&self) -> anyhow::Result<()> {
        Ok(lcore::unpin(&self.cpus)?)
    }

    /// The time as workers count it.
    #[expect(clippy::cast_possible_truncation, reason = "workers count milliseconds in 32 bits")]
    pub(crate) fn now_ms(&self) -> u32 {
        self.clock.now_ms() as u32
    }

    /// When `duration` is over, in ticks of the counter.
    pub(crate) fn in_time(&self, duration: Duration) -> u64 {
        shunt::dpdk::clock::now() + self.clock.ticks(duration)
    }

    /// Ticks a second.
    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    pub(crate) fn hertz(&self) -> f64 {
        self.clock.hz() as f64
    }
}
