//! Starting the workers: a thread each, pinned before it reserves its tables, so that they lie in
//! its own node's memory.
//!
//! A worker that panics takes the process down: half a balancer is worse than none, and the
//! service manager starts another.

use std::sync::Arc;
use std::sync::mpsc::{Receiver as Answers, Sender as Answer, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use shunt::control::config::plan::{HugePages, Plan};
use shunt::control::parts::WorkerPart;
use shunt::dataplane::conn::index::Seed;
use shunt::dataplane::conn::ports::Ownership;
use shunt::dataplane::conn::table::{Sizes, Tables};
use shunt::dataplane::flows::Flows;
use shunt::dataplane::io::{self, dpdk::Dpdk};
use shunt::dataplane::mailbox::mailbox;
use shunt::dataplane::orders::{Order, WorkerEnd};
use shunt::dataplane::persistence::Templates;
use shunt::dataplane::run::{self, Moments, Sleep};
use shunt::dataplane::snapshot::{PortView, Snapshot};
use shunt::dataplane::sources::Sources;
use shunt::dataplane::worker::{Links, Worker};
use shunt::dpdk::burst::Queue;
use shunt::dpdk::clock::{self, Clock};
use shunt::dpdk::eal::Eal;
use shunt::dpdk::rest::Rest;
use shunt::dpdk::ring::{Receiver, Sender, lane};
use shunt::dpdk::{lcore, memory};
use shunt::ids::WorkerId;
use shunt::stats::counters::WorkerStats;
use shunt::stats::loads::Loads;
use shunt::stats::tallies::Tallies;

/// Packets that may wait on their way from one worker to another: some tens of bursts.
const HANDOVER_DEPTH: u32 = 2048;
/// Packets that may wait for the kernel, or come from it.
const KERNEL_DEPTH: u32 = 1024;
/// How long a worker may take to end.
const PATIENCE: Duration = Duration::from_secs(5);
/// How late the kernel may wake a worker that sleeps.
const TIMER_SLACK: Duration = Duration::from_micros(1);

/// Workers that run, and the control plane's ends of what connects to them.
pub(crate) struct Started {
    pub(crate) parts: Vec<WorkerPart>,
    pub(crate) punts: Vec<Receiver>,
    pub(crate) inject: Sender,
    pub(crate) crew: Crew,
}

/// The workers' threads.
pub(crate) struct Crew(Vec<JoinHandle<()>>);

impl Crew {
    /// Waits until all of them have ended: they were told to, or see that nobody is left to tell
    /// them. False if one does not within [`PATIENCE`]; then nothing it uses may be taken down.
    pub(crate) fn join(self) -> bool {
        let deadline = Instant::now() + PATIENCE;
        while self.0.iter().any(|thread| !thread.is_finished()) {
            if Instant::now() > deadline {
                return false;
            }
            thread::sleep(Duration::from_millis(1));
        }
        // A panic in one has ended the process already.
        self.0.into_iter().all(|thread| thread.join().is_ok())
    }
}

/// What one worker's thread is given.
struct Kit {
    id: WorkerId,
    core: usize,
    /// Connections.
    sizes: Sizes,
    huge_pages: memory::HugePages,
    templates: Arc<Templates>,
    busy_poll: bool,
    /// Zero is never.
    idle_sleep: Duration,
    punt_per_second: u32,
    seed: Seed,
    views: Arc<[PortView]>,
    workers: u8,
    eal: Eal,
    links: Links<Dpdk>,
    end: WorkerEnd,
    stats: Arc<WorkerStats>,
}

/// Connections each worker has room for.
pub(crate) fn sizes(plan: &Plan) -> Sizes {
    let workers = u32::try_from(plan.daemon.worker_cores.len()).unwrap_or(u32::MAX).max(1);
    let share = |connections: u32| connections.div_ceil(workers);
    Sizes {
        v4: share(plan.daemon.connections_max),
        v6: share(plan.daemon.connections_ipv6_max),
        splices: share(plan.daemon.cookie_connections_max),
    }
}

/// Starts all workers; returns when each has its tables and polls, or with the first refusal.
pub(crate) fn start(
    eal: &Eal,
    plan: &Plan,
    views: &[PortView],
    queues: Vec<Vec<Queue>>,
) -> anyhow::Result<Started> {
    let count = queues.len();
    let workers = u8::try_from(count).context("expected at most 255 workers")?;
    let views: Arc<[PortView]> = views.into();
    let seed = Seed::random()?;
    let huge = huge_pages(plan.daemon.huge_pages);
    let clients = plan.daemon.persistent_clients_max as usize;
    let templates = Arc::new(Templates::new(clients, Seed::random()?, huge)?);
    let (inject, injected) = lane(eal, KERNEL_DEPTH)?;
    let (mut injected, mut mesh) = (Some(injected), Mesh::new(eal, count)?);
    let (answer, answers) = channel();
    let (mut parts, mut punts, mut threads) = (vec![], vec![], vec![]);
    let loads = Arc::<Loads>::default();
    let sources = plan.daemon.limited_sources_max as usize;
    let tallies = Arc::new(Tallies::with(Sources::new(sources, Seed::random()?, huge)?));
    for ((id, core), ports) in (0..).map(WorkerId).zip(&plan.daemon.worker_cores).zip(queues) {
        let (punt, to_kernel) = lane(eal, KERNEL_DEPTH)?;
        let (mailbox, end) = mailbox();
        let stats = WorkerStats::sharing(Arc::clone(&loads));
        let stats = Arc::new(stats.with_tallies(Arc::clone(&tallies)));
        let (from_peers, to_peers) = mesh.ends_of(id);
        let kit = Kit {
            id,
            core: *core,
            sizes: sizes(plan),
            huge_pages: huge,
            templates: Arc::clone(&templates),
            busy_poll: plan.daemon.busy_poll,
            idle_sleep: plan.daemon.idle_sleep,
            punt_per_second: plan.punt_per_second,
            seed,
            views: Arc::clone(&views),
            workers,
            eal: eal.clone(),
            links: Links { ports, from_peers, to_peers, punt, inject: injected.take() },
            end,
            stats: Arc::clone(&stats),
        };
        let answer = answer.clone();
        let name = format!("worker-{id}");
        threads.push(thread::Builder::new().name(name).spawn(move || work(kit, &answer))?);
        punts.push(to_kernel);
        parts.push(WorkerPart { core: *core, mailbox, stats });
    }
    let started = Started { parts, punts, inject, crew: Crew(threads) };
    all_well(started, &answers)
}

/// Waits for every worker's word; if one refuses, stops the others.
fn all_well(
    mut started: Started,
    answers: &Answers<Result<(), String>>,
) -> anyhow::Result<Started> {
    let refused = started.parts.iter().find_map(|_| match answers.recv() {
        Ok(Ok(())) => None,
        Ok(Err(refusal)) => Some(anyhow!(refusal)),
        Err(gone) => Some(gone.into()),
    });
    let Some(refusal) = refused else { return Ok(started) };
    for part in &mut started.parts {
        // A fresh mailbox has room.
        let _ = part.mailbox.send(Order::Stop);
    }
    let Started { parts, crew, .. } = started;
    drop(parts);
    crew.join();
    Err(refusal)
}

/// A worker's thread.
fn work(kit: Kit, answer: &Answer<Result<(), String>>) {
    let _guard = DownWithMe;
    let (eal, core) = (kit.eal.clone(), kit.core);
    let rest = resting(&kit);
    let prepared = lcore::pin(core)
        .and_then(|()| lcore::set_timer_slack(TIMER_SLACK))
        .and_then(|()| eal.register_thread())
        .map_err(|error| error.to_string())
        .and_then(|registration| Ok((registration, make(kit)?)));
    match prepared {
        Ok((_registration, mut worker)) => {
            let (records, index) = worker.flows().tables().v4.pages();
            tracing::info!(cpu = core, connections = %records, index = %index, "worker");
            let _ = answer.send(Ok(()));
            run::run(&mut worker, &Ticks(Clock::shared()), rest);
        }
        Err(refusal) => {
            let _ = answer.send(Err(format!("worker on CPU {core}: {refusal}")));
        }
    }
}

/// What the worker does that has found nothing for long; `None` if it always looks again at once.
fn resting(kit: &Kit) -> Option<Box<dyn io::Rest>> {
    if kit.busy_poll {
        return None;
    }
    let watch = Rest::of(&kit.links.ports);
    let core = kit.core;
    if let Some(way) = watch.as_ref().map(Rest::way) {
        tracing::info!(cpu = core, idle = %way, "worker");
    }
    Some(match watch {
        Some(watch) => Box::new(watch),
        None if kit.idle_sleep.is_zero() => Box::new(Moments),
        None => Box::new(Sleep(kit.idle_sleep)),
    })
}

fn make(kit: Kit) -> Result<Worker<Dpdk>, String> {
    let tables = Tables::on(kit.sizes, kit.seed, kit.huge_pages).map_err(|e| e.to_string())?;
    let ownership = Ownership::new(kit.id, kit.workers, &kit.views);
    // Until the first snapshot is published everything is the kernel's.
    let mut nothing = Snapshot::default();
    nothing.ports = kit.views.iter().cloned().collect();
    nothing.punt_per_second = kit.punt_per_second;
    let flows = Flows::new(tables, Arc::new(nothing.indexed()), ownership, kit.stats);
    let flows = flows.with_templates(kit.templates);
    Ok(Worker::new(flows, kit.links, kit.end))
}

fn huge_pages(wish: HugePages) -> memory::HugePages {
    match wish {
        HugePages::Auto => memory::HugePages::Auto,
        HugePages::Require => memory::HugePages::Require,
        HugePages::Never => memory::HugePages::Never,
    }
}

/// The CPU's counter as the data path wants it.
struct Ticks(Clock);

impl run::Clock for Ticks {
    #[inline(always)]
    fn ticks(&self) -> u64 {
        clock::now()
    }

    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "workers count milliseconds in 32 bits")]
    fn ms(&self, ticks: u64) -> u32 {
        self.0.ms(ticks) as u32
    }
}

/// Ends the process if the thread that holds it panics.
struct DownWithMe;

impl Drop for DownWithMe {
    fn drop(&mut self) {
        if thread::panicking() {
            std::process::abort();
        }
    }
}

/// The handover lanes: one for each ordered pair of workers.
struct Mesh {
    /// `to[from][to]`, until handed out.
    to: Vec<Vec<Option<Sender>>>,
    /// `from[to]`: the receiving ends of a worker.
    from: Vec<Vec<Receiver>>,
}

impl Mesh {
    fn new(eal: &Eal, workers: usize) -> anyhow::Result<Self> {
        let mut mesh = Self {
            to: std::iter::repeat_with(Vec::new).take(workers).collect(),
            from: std::iter::repeat_with(Vec::new).take(workers).collect(),
        };
        for from in 0..workers {
            for to in 0..workers {
                if from == to {
                    mesh.to[from].push(None);
                    continue;
                }
                let (sender, receiver) = lane(eal, HANDOVER_DEPTH)?;
                mesh.to[from].push(Some(sender));
                mesh.from[to].push(receiver);
            }
        }
        Ok(mesh)
    }

    fn ends_of(&mut self, worker: WorkerId) -> (Vec<Receiver>, Vec<Option<Sender>>) {
        let at = worker.index();
        (std::mem::take(&mut self.from[at]), std::mem::take(&mut self.to[at]))
    }
}
