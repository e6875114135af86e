//! `run --workers`: several workers, each on a core of its own, against one of them in the same run.
//!
//! ```text
//! core 0:  generator, worker 0 │ generator, worker 0 │ … ║ the same, alone  ║ …
//! core 1:  generator, worker 1 │ generator, worker 1 │ … ║ asleep           ║ …
//!          timed parts begin together                    ║ what one can do  ║
//! ```
//!
//! Workers share what those of `shuntd` share: snapshot, loads, tallies, lanes between each pair. Each gets the
//! packets it owns, as a card would bring them, in ports of its own. So what several do less than one each
//! is the price of sharing: lines that both write, the cache, memory, and a core where two CPUs are
//! hyper-threads of one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, anyhow, ensure};
use shunt::dataplane::conn::key::FlowKey;
use shunt::dataplane::conn::ports::Ownership;
use shunt::dpdk::{clock, lcore};
use shunt::ids::WorkerId;
use shunt::stats::counters::WorkerStats;
use shunt::stats::loads::Loads;
use shunt::stats::tallies::Tallies;

use crate::bed::{Bed, mesh, seed};
use crate::established::{Established, places};
use crate::gate::{Gate, Guard};
use crate::host::Hosts;
use crate::machine::Machine;
use crate::options::RunOptions;
use crate::part::{self, Part};
use crate::report::Row;
use crate::run::{Bench, Company, Measured};
use crate::scene;
use crate::traffic::{Share, Traffic};

/// Turns of all together, and rounds of one alone, between two changes.
const TURNS: u32 = 16;
/// Packets that may wait on their way from one worker to another, as in `shuntd`.
const HANDOVER_DEPTH: u32 = 2048;

/// Measures one row with as many workers as asked for.
pub(crate) fn row<F: Hosts>(
    machine: &Machine,
    options: &RunOptions,
    flows: u32,
) -> anyhow::Result<Row> {
    let workers = usize::from(options.workers);
    let cpus = machine.cpus(workers).with_context(|| {
        format!("--workers {workers}: expected as many CPUs that this process may use")
    })?;
    ensure!(flows >= u32::from(options.workers), "expected a connection for each worker");
    let (gate, is_over) = (Gate::new(workers), AtomicBool::new(false));
    let beds = beds::<F>(machine, options, flows)?;
    let parts = thread::scope(|scope| {
        let threads: Vec<_> = (0..)
            .zip(beds.into_iter().zip(cpus))
            .map(|(id, (bed, &cpu))| {
                let member = Member { machine, options, flows, id, cpu };
                let (gate, is_over) = (&gate, &is_over);
                scope.spawn(move || member.work::<F>(bed, gate, is_over))
            })
            .collect();
        let joined = threads.into_iter().map(thread::ScopedJoinHandle::join);
        joined.map(|part| part.map_err(|_| anyhow!("a worker panicked"))?).collect::<Vec<_>>()
    });
    // Of several refusals the first is the cause: those who waited for it only say so.
    let (parts, mut refusals): (Vec<_>, Vec<_>) = parts.into_iter().partition(Result::is_ok);
    if let Some(Err(refusal)) = refusals.drain(..).next() {
        return Err(refusal);
    }
    let parts = parts.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
    let astray: u64 = parts.iter().map(|part| part.handed_over).sum();
    ensure!(astray == 0, "{astray} packets were handed over: a worker got what it does not own");
    part::row(machine, options, &parts)
}

/// The workers, sharing what they share.
fn beds<F: Hosts>(machine: &Machine, options: &RunOptions, flows: u32) -> anyhow::Result<Vec<Bed>> {
    let scene = &options.scene;
    let snapshot = Arc::new(scene::snapshot::<F>(scene));
    let (loads, tallies) = (Arc::<Loads>::default(), Arc::<Tallies>::default());
    let share = flows.div_ceil(options.workers.into());
    let mesh = mesh(&machine.eal, options.workers.into(), HANDOVER_DEPTH)?;
    let bed = |(id, lanes)| {
        let stats = WorkerStats::sharing(Arc::clone(&loads)).with_tallies(Arc::clone(&tallies));
        let shared = (Arc::clone(&snapshot), stats);
        let room = places(share, options.new_per_mille > 0);
        Bed::among::<F>(&machine.eal, scene, room, shared, WorkerId(id), lanes)
    };
    (0..).zip(mesh).map(bed).collect()
}

/// One of them.
#[derive(Clone, Copy)]
struct Member<'a> {
    machine: &'a Machine,
    options: &'a RunOptions,
    /// Of all workers.
    flows: u32,
    id: u8,
    cpu: usize,
}

impl Member<'_> {
    fn work<F: Hosts>(self, bed: Bed, gate: &Gate, is_over: &AtomicBool) -> anyhow::Result<Part> {
        let _guard = Guard(gate);
        lcore::pin(self.cpu)?;
        let _registered = self.machine.eal.register_thread()?;
        let (machine, scene) = (self.machine, &self.options.scene);
        let share = (self.flows + u32::from(self.id)) / u32::from(self.options.workers);
        gate.rest()?;
        let made = Established::on(machine, scene, share, bed, self.traffic::<F>()?)?;
        let bench = Bench::new(machine, self.options, made)?;
        self.measure(bench, gate, is_over)
    }

    /// The packets of clients that are this worker's own.
    fn traffic<F: Hosts>(self) -> anyhow::Result<Traffic<F>> {
        let scene = &self.options.scene;
        let (seed, me) = (seed(scene), WorkerId(self.id));
        let ports = scene::snapshot::<F>(scene).ports;
        let ownership = Ownership::new(me, self.options.workers, &ports);
        let is_mine = move |key: FlowKey<F>| {
            let client = (key.source(), key.source_port());
            let alone = FlowKey::new(key.protocol, client, (F::UNSPECIFIED, 0));
            ownership.request(seed.hash(alone)) == me
        };
        Ok(Traffic::new(scene, &self.machine.pool)?.of(Share::of(is_mine)))
    }

    /// All together and the first alone, in turn, until the first says that the time is over.
    fn measure<F: Hosts>(
        self,
        mut bench: Bench<'_, F>,
        gate: &Gate,
        is_over: &AtomicBool,
    ) -> anyhow::Result<Part> {
        let end = self.machine.in_time(Duration::from_secs(self.options.duration.into()));
        let (mut together, mut alone) = (Measured::default(), Measured::default());
        let mut rounds = 0;
        while !is_over.load(Ordering::Acquire) {
            gate.rest()?;
            for _ in 0..TURNS {
                bench.turn(rounds, Company::All(gate), &mut together)?;
                rounds += 1;
            }
            gate.rest()?;
            if self.id == 0 {
                for _ in 0..TURNS {
                    bench.turn(rounds, Company::Sleepers, &mut alone)?;
                }
                let has_begun = rounds > self.options.warm_up;
                is_over.store(has_begun && clock::now() >= end, Ordering::Release);
            }
            gate.rest()?;
        }
        together.lost += alone.lost;
        Ok(bench.part(together, alone.shunt))
    }
}
