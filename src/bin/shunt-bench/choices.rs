//! `choices`: what a new connection costs with each scheduler, beside `rr` in the same run.
//!
//! Two workers, two tables, one thread: a round of SYNs for `rr`, the same for the scheduler, in turn.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use anyhow::ensure;
use clap::Args;
use serde::Serialize;
use shunt::dataplane::sched::Scheduler;
use shunt::dataplane::snapshot::Limit;
use shunt::dpdk::clock;
use shunt::ids::BackendId;

use crate::bed::{Bed, Round};
use crate::host::Hosts;
use crate::machine::Machine;
use crate::options::{IpVersion, Scene};
use crate::report::Spread;
use crate::scene;
use crate::traffic::{CLIENTS, Traffic};

/// Room for each of the two: what half a second brings and another until it is swept.
const PLACES: u32 = 1 << 23;

/// What a backend takes of which every one is full.
const LIMIT: Limit = Limit { most: 1, least: 1 };

/// For `ovf` a weight is how many connections a backend takes: with few it would refuse, and that be timed.
const WEIGHT: u32 = 65_535;

/// What `choices` measures.
#[derive(Clone, Debug, Args)]
pub(crate) struct ChoicesOptions {
    #[command(flatten)]
    pub(crate) scene: Scene,
    /// Milliseconds of measuring for each scheduler.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    pub(crate) each_ms: u32,
    /// Connections there is room for, in each of the two tables.
    #[arg(long, default_value_t = PLACES)]
    pub(crate) places: u32,
    /// Milliseconds thrown away first: until connections, which live for a second, end as fast as they begin.
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(0..=60_000))]
    pub(crate) warm_up_ms: u32,
    /// Every backend has had enough: what each SYN of a flood costs that nobody can serve.
    #[arg(long)]
    pub(crate) full: bool,
    /// Print JSON, an object a line.
    #[arg(long)]
    pub(crate) json: bool,
}

/// A scheduler's row.
#[derive(Debug, Serialize)]
pub(crate) struct Choice {
    /// The scheduler.
    pub(crate) scheduler: &'static str,
    /// Backends to choose from.
    pub(crate) backends: u32,
    /// Cycles a new connection.
    pub(crate) cycles_per_connection: Spread,
    /// The same with `rr`, in turn with it.
    pub(crate) rr_cycles_per_connection: Spread,
    /// The difference of the medians.
    pub(crate) over_rr: f64,
}

/// A row for each scheduler that chooses among all backends without being told more; `none` chooses nobody.
pub(crate) fn run(options: &ChoicesOptions) -> anyhow::Result<Vec<Choice>> {
    options.scene.expect_shortest()?;
    let machine = Machine::start(&options.scene, 2)?;
    let row = |&scheduler: &Scheduler| match options.scene.ip {
        IpVersion::V4 => row::<Ipv4Addr>(&machine, options, scheduler),
        IpVersion::V6 => row::<Ipv6Addr>(&machine, options, scheduler),
    };
    let chooses = |scheduler: &&Scheduler| {
        let method = scheduler.method();
        !method.needs_server_ids && method.name != "none"
    };
    Scheduler::ALL.iter().filter(chooses).map(row).collect()
}

fn row<F: Hosts>(
    machine: &Machine,
    options: &ChoicesOptions,
    scheduler: Scheduler,
) -> anyhow::Result<Choice> {
    let mut rr = Opener::<F>::new(machine, options, Scheduler::RR)?;
    let mut other = Opener::<F>::new(machine, options, scheduler)?;
    let mut turns = |duration: Duration| -> anyhow::Result<[Vec<Round>; 2]> {
        let end = machine.in_time(duration);
        let mut rounds = [Vec::new(), Vec::new()];
        while clock::now() < end {
            rounds[0].push(rr.round(machine)?);
            rounds[1].push(other.round(machine)?);
        }
        Ok(rounds)
    };
    turns(Duration::from_millis(options.warm_up_ms.into()))?;
    let [rr_rounds, other_rounds] = turns(Duration::from_millis(options.each_ms.into()))?;
    let refusals = [rr.bed.refusals(), other.bed.refusals()];
    let none = refusals.iter().all(Vec::is_empty);
    let name = scheduler.method().name;
    ensure!(options.full || none, "{name}: connections were refused: {refusals:?}");
    let spread = |rounds: &[Round]| Spread::of(rounds.iter().copied());
    let (rr, other) = (spread(&rr_rounds)?, spread(&other_rounds)?);
    Ok(Choice {
        scheduler: name,
        backends: options.scene.backends,
        cycles_per_connection: other,
        rr_cycles_per_connection: rr,
        over_rr: other.median - rr.median,
    })
}

/// A worker that only ever sees new clients.
struct Opener<F: Hosts> {
    bed: Bed,
    traffic: Traffic<F>,
    count: u32,
}

impl<F: Hosts> Opener<F> {
    fn new(
        machine: &Machine,
        options: &ChoicesOptions,
        scheduler: Scheduler,
    ) -> anyhow::Result<Self> {
        let scene = Scene { scheduler, ..options.scene.clone() };
        let mut snapshot = scene::snapshot::<F>(&scene);
        if options.full {
            let backends = snapshot.backends.iter_mut().flatten();
            backends.for_each(|backend| backend.limit = LIMIT);
            snapshot = snapshot.indexed();
        }
        if scheduler.method().name == "ovf" {
            let backends = snapshot.backends.iter_mut().flatten();
            backends.for_each(|backend| backend.weight = WEIGHT);
            snapshot = snapshot.indexed();
        }
        let bed = Bed::new::<F>(&machine.eal, &scene, options.places, snapshot)?;
        if options.full {
            let ids = (0..scene.backends).map(BackendId);
            ids.for_each(|id| assert!(bed.stats.loads.take(id, LIMIT), "it is empty"));
        }
        Ok(Self { bed, traffic: Traffic::new(&scene, &machine.pool)?, count: scene.in_flight })
    }

    /// What is refused costs, and does not count.
    fn round(&mut self, machine: &Machine) -> anyhow::Result<Round> {
        let offered = self.traffic.offer_new(&mut self.bed.wires[CLIENTS], self.count)?;
        let round = self.bed.time_worker(machine.now_ms());
        self.traffic.collect(&mut self.bed.wires, false);
        Ok(Round { packets: offered.into(), ..round })
    }
}

/// The rows as text.
pub(crate) fn render(rows: &[Choice], json: bool) -> String {
    if json {
        let line = |row: &Choice| serde_json::to_string(row).unwrap_or_default() + "\n";
        return rows.iter().map(line).collect();
    }
    let head = format!(
        "{:<10} {:>8} {:>36} {:>36} {:>8}\n",
        "scheduler", "backends", "cycles", "rr", "over rr"
    );
    rows.iter().fold(head, |text, row| {
        text + &format!(
            "{:<10} {:>8} {:>36} {:>36} {:>8.0}\n",
            row.scheduler,
            row.backends,
            row.cycles_per_connection,
            row.rr_cycles_per_connection,
            row.over_rr
        )
    })
}
