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

/// What DPDK is told of network devices.
#[derive(Debug, Default)]
pub(crate) struct Devices {
    pub(crate) names: Vec<String>,
    /// Further arguments.
    pub(crate) extra: Vec<String>,
}

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
        let cpus = cpus(scene.core)?;
        let buffers = scene.in_flight * (generators + 1) + 1024;
        Self::with(cpus, buffers, scene.no_huge, Devices::default())
    }

    /// Starts DPDK for these devices, with so many buffers.
    pub(crate) fn on_devices(
        core: Option<usize>,
        buffers: u32,
        no_huge: bool,
        devices: Devices,
    ) -> anyhow::Result<Self> {
        Self::with(cpus(core)?, buffers, no_huge, devices)
    }

    fn with(
        cpus: Vec<usize>,
        buffers: u32,
        no_huge: bool,
        Devices { names, extra }: Devices,
    ) -> anyhow::Result<Self> {
        let huge_pages = if no_huge { HugePages::Never } else { HugePages::Auto };
        let eal = Eal::start(&EalOptions {
            huge_pages,
            memory_mb: 64 + buffers * u32::from(ROOM + 512) / (1 << 20),
            file_prefix: format!("shunt-bench-{}", std::process::id()),
            secondary_processes: false,
            devices: names,
            extra,
        })?;
        let pool = Pool::new(&eal, buffers, ROOM)?;
        Ok(Self { eal, pool, clock: Clock::shared(), cpus })
    }

    /// CPUs for the worker and for the generator, if there are two.
    pub(crate) fn two_cpus(&self) -> Option<(usize, usize)> {
        self.cpus.first().copied().zip(self.cpus.get(1).copied())
    }

    /// A CPU for each of so many workers, if there are as many.
    pub(crate) fn cpus(&self, workers: usize) -> Option<&[usize]> {
        self.cpus.get(..workers)
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

/// The CPUs of this process; the one to run on first, and this thread on it.
fn cpus(core: Option<usize>) -> anyhow::Result<Vec<usize>> {
    let mut cpus = lcore::usable_cpus()?;
    if let Some(core) = core {
        lcore::pin(core)?;
        cpus.retain(|cpu| *cpu != core);
        cpus.insert(0, core);
    }
    Ok(cpus)
}
