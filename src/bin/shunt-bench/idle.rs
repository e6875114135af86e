//! `idle`: what the first packet waits for after a silence, and what of its core an idle worker takes.
//!
//! ```text
//! worker: polls ─► pauses ─► rests ─► rests ──── wakes ─► moves it ─► …
//! packet:                                 ▲ written      │ seen
//!                                         └── the wait ──┘
//! ```
//!
//! The worker runs `shuntd`'s loop on a core of its own; packets come one at a time, after silences of random
//! length, so that they find it anywhere on its rung. Every way to wait has a row: none (`busy_poll`), the
//! daemon's, and sleeping for several lengths. In-memory ports do not say where
//! they write, so a CPU that can watch memory pauses here at best: see `dpdk/rest.rs`.

use std::net::Ipv4Addr;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, anyhow, ensure};
use clap::Args;
use hdrhistogram::Histogram;
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;
use shunt::dataplane::io::{self, Burst};
use shunt::dataplane::orders::{ControlEnd, Order};
use shunt::dataplane::run::{self, Moments, Sleep};
use shunt::dataplane::worker::Worker;
use shunt::dpdk::clock::{self, Clock};
use shunt::dpdk::lcore;
use shunt::dpdk::mbuf::Mbuf;
use shunt::dpdk::rest::Rest;

use crate::bed::{Bed, Rings, Wire};
use crate::established::Established;
use crate::machine::Machine;
use crate::options::{IpVersion, Scene};
use crate::order;
use crate::rig::STAMP_MASK;
use crate::traffic::{Mix, Traffic, flush};

/// Connections of the worker.
const FLOWS: u32 = 1000;
/// How late the kernel may wake the worker: as in `shuntd`.
const TIMER_SLACK: Duration = Duration::from_micros(1);
/// The shortest silence, past the rungs on which a worker does not rest yet, and how much longer one may be.
const SILENCE: Duration = Duration::from_millis(1);
const LONGER_US: u32 = 2000;
/// How long a packet is waited for.
const PATIENCE: Duration = Duration::from_secs(1);
/// Most cycles that are told apart.
const LONGEST: u64 = 1 << 40;

/// What `idle` measures.
#[derive(Clone, Debug, Args)]
pub(crate) struct IdleOptions {
    #[command(flatten)]
    pub(crate) scene: Scene,
    /// Packets, each after a silence.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(10..=1_000_000))]
    pub(crate) packets: u32,
    /// Microseconds an idle worker sleeps at a time, several lengths separated by commas: a row each.
    #[arg(long, value_delimiter = ',', default_value = "1,5,20,50",
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) sleep_us: Vec<u32>,
    /// Print JSON, an object a line.
    #[arg(long)]
    pub(crate) json: bool,
}

/// How an idle worker waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// It never steps back.
    BusyPoll,
    /// As `shuntd` does on this CPU.
    Daemon,
    /// It sleeps so long at a time.
    Sleep(Duration),
}

/// What was measured of one way.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    /// `busy_poll`, `daemon` or `sleep`.
    pub(crate) way: &'static str,
    /// How long it sleeps at a time; `null` for the others.
    pub(crate) sleep_us: Option<u128>,
    /// Nanoseconds from the generator's hand back into it, of packets after a silence: half took less.
    pub(crate) first_packet_p50_ns: f64,
    /// 99 of 100 did.
    pub(crate) first_packet_p99_ns: f64,
    /// What the worker's thread took of its CPU, 0 to 1.
    pub(crate) cpu_share: f64,
}

/// A row for each way.
pub(crate) fn run(options: &IdleOptions) -> anyhow::Result<Vec<Row>> {
    let is_v4 = matches!(options.scene.ip, IpVersion::V4);
    ensure!(is_v4, "expected --ip 4: what a first packet waits for does not hang on its family");
    let machine = Machine::start(&options.scene, 1)?;
    let cpus = machine.two_cpus();
    let cpus = cpus.context("expected two CPUs: one for the worker, one for the generator")?;
    let sleep = |us: &u32| Way::Sleep(Duration::from_micros((*us).into()));
    let ways = [Way::BusyPoll, Way::Daemon].into_iter().chain(options.sleep_us.iter().map(sleep));
    ways.map(|way| row(&machine, options, cpus, way)).collect()
}

fn row(
    machine: &Machine,
    options: &IdleOptions,
    (worker_cpu, generator_cpu): (usize, usize),
    way: Way,
) -> anyhow::Result<Row> {
    let Established { bed, traffic, mix, .. } =
        Established::<Ipv4Addr>::new(machine, &options.scene, FLOWS, false)?;
    let Bed { worker, wires, control, .. } = bed;
    let thread = start(machine, worker, worker_cpu, way)?;
    lcore::pin(generator_cpu)?;
    let mut idle = Idle { machine, wires, traffic, mix, control };
    let waits = idle.waits(options.packets, options.scene.seed);
    let cpu_share = idle.end(thread)?;
    machine.unpin()?;
    let waits = waits?;
    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    let ns = |quantile| waits.value_at_quantile(quantile) as f64 * 1e9 / machine.hertz();
    let (way, sleep_us) = match way {
        Way::BusyPoll => ("busy_poll", None),
        Way::Daemon => ("daemon", None),
        Way::Sleep(length) => ("sleep", Some(length.as_micros())),
    };
    Ok(Row {
        way,
        sleep_us,
        first_packet_p50_ns: ns(0.5),
        first_packet_p99_ns: ns(0.99),
        cpu_share,
    })
}

/// Starts the loop of `shuntd` on a core; it says in the end what share of that it took.
fn start(
    machine: &Machine,
    mut worker: Worker<Rings>,
    cpu: usize,
    way: Way,
) -> anyhow::Result<JoinHandle<anyhow::Result<f64>>> {
    let eal = machine.eal.clone();
    let work = move || {
        lcore::pin(cpu)?;
        lcore::set_timer_slack(TIMER_SLACK)?;
        let _registered = eal.register_thread()?;
        let clock = Ticks(Clock::shared());
        let (start, used) = (clock::now(), cpu_time());
        run::run(&mut worker, &clock, resting(way));
        let passed = clock.0.duration(clock::now() - start);
        Ok(cpu_time().saturating_sub(used).as_secs_f64() / passed.as_secs_f64())
    };
    Ok(thread::Builder::new().name("worker".into()).spawn(work)?)
}

/// What the worker does when it has found nothing for long.
fn resting(way: Way) -> Option<Box<dyn io::Rest>> {
    match way {
        Way::BusyPoll => None,
        Way::Daemon => Some(match Rest::of(&[]) {
            Some(rest) => Box::new(rest),
            None => Box::new(Moments),
        }),
        Way::Sleep(length) => Some(Box::new(Sleep(length))),
    }
}

/// What this thread has used of any CPU.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// The generator's side.
struct Idle<'a> {
    machine: &'a Machine,
    wires: [Wire; 2],
    traffic: Traffic<Ipv4Addr>,
    mix: Mix,
    control: ControlEnd,
}

impl Idle<'_> {
    /// How long each packet took, in cycles.
    fn waits(&mut self, packets: u32, seed: u64) -> anyhow::Result<Histogram<u64>> {
        let mut waits = Histogram::new_with_bounds(1, LONGEST, 3)?;
        let mut order = order::Order::new(seed);
        for _ in 0..packets {
            let (longer, _) = order.below(LONGER_US);
            let silence = SILENCE + Duration::from_micros(longer.into());
            // Awake all the time: what is measured is the worker's waking, not this thread's.
            let end = self.machine.in_time(silence);
            while clock::now() < end {
                std::hint::spin_loop();
            }
            waits.saturating_record(self.wait()?);
        }
        Ok(waits)
    }

    /// One packet, until it is back.
    fn wait(&mut self) -> anyhow::Result<u64> {
        let stamp = clock::now() & STAMP_MASK;
        let drawn = self.traffic.stamped(self.mix, stamp)?;
        let (port, packet) = drawn.context("expected an idle packet")?;
        let mut burst: Burst<Mbuf> = Burst::new();
        burst.push(packet);
        flush(&mut self.wires[port], &mut burst)?;
        let end = self.machine.in_time(PATIENCE);
        loop {
            let mut took = None;
            let now = clock::now();
            self.traffic.collect_stamps(&mut self.wires, false, |stamp| {
                took = Some(now.wrapping_sub(stamp) & STAMP_MASK);
            });
            if let Some(took) = took {
                return Ok(took);
            }
            ensure!(now < end, "a packet did not come back within {PATIENCE:?}");
        }
    }

    /// Ends the worker; what share of its core it took.
    fn end(&mut self, thread: JoinHandle<anyhow::Result<f64>>) -> anyhow::Result<f64> {
        let sent = self.control.send(Order::Stop);
        ensure!(sent.is_ok(), "the worker's mailbox is full");
        thread.join().map_err(|_| anyhow!("the worker panicked"))?
    }
}

/// The CPU's counter, as the daemon has it.
struct Ticks(Clock);

impl run::Clock for Ticks {
    fn ticks(&self) -> u64 {
        clock::now()
    }

    #[expect(clippy::cast_possible_truncation, reason = "workers count milliseconds in 32 bits")]
    fn ms(&self, ticks: u64) -> u32 {
        self.0.ms(ticks) as u32
    }
}

/// The rows as text.
pub(crate) fn render(rows: &[Row], json: bool) -> String {
    if json {
        let line = |row: &Row| serde_json::to_string(row).unwrap_or_default() + "\n";
        return rows.iter().map(line).collect();
    }
    let head = format!("{:>10} {:>9} {:>9} {:>8}\n", "way", "p50 µs", "p99 µs", "CPU");
    rows.iter().fold(head, |text, row| {
        let way = row.sleep_us.map_or_else(|| row.way.to_owned(), |us| format!("{us} µs"));
        text + &format!(
            "{way:>10} {:>9.1} {:>9.1} {:>6.1} %\n",
            row.first_packet_p50_ns / 1e3,
            row.first_packet_p99_ns / 1e3,
            row.cpu_share * 100.0
        )
    })
}
