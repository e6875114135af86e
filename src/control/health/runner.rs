//! The health thread: every check is a task that sleeps, asks, counts and goes on.
//!
//! ```text
//!  control thread                       health thread (one runtime, same CPUs)
//!   Order::Start, Stop ──────────────►  a task per check:  sleep ─► ask ─► rise/fall ─► sleep ...
//!   Change ◄──── only changed verdicts ───────────────────────┘        └─► its slot on the board
//! ```
//!
//! A thread of its own, because thousands of TLS handshakes a second must not delay frames between the
//! TAPs and the workers, nor a large configuration that is compiled the checks. What it says is little: not
//! answers, only changed verdicts. A control thread that is behind delays the checks that have something to
//! say, and no others.
//!
//! **Late checks.** Each task knows when its check was due and how late it began: behind others on this
//! thread, or waiting for one of [`Limits::sockets`]. The worst of every [`WINDOW`] is a metric. A check
//! that is late is not made up for: the next is due an interval after this one was, or now.
//!
//! **Faults.** A panic is caught where a check asks, and is that check's failure. Should the thread itself end all the same,
//! another is started (`thread.rs`).

use std::collections::HashMap;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until, timeout};

use super::check::{Check, Probe};
use super::machine::Machine;
use super::probe::{Asked, Failure, Prober, sweep};
use crate::control::punt::aim::Aims;
use crate::stats::health::{CheckResult, HealthStats};

/// Changes that may wait for the control thread.
const CHANGES_MAX: usize = 1024;
/// Lateness is the worst of so long.
const WINDOW: Duration = Duration::from_secs(10);
/// How often what scripts have left behind is looked for.
const SWEEP: Duration = Duration::from_secs(1);
/// First checks of what starts down come within this, so that a start is not as slow as an interval.
const SOON: Duration = Duration::from_secs(1);

/// How much may go on at once.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Checks with a socket.
    pub sockets: usize,
    /// Programs.
    pub scripts: usize,
}

/// Names a check for as long as the daemon runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CheckId(pub u64);

/// A check to be run until it is stopped.
#[derive(Debug)]
pub struct Job {
    /// Its name.
    pub id: CheckId,
    /// What to do.
    pub check: Check,
    /// Of whom.
    pub asked: Asked,
    /// The verdict it starts from.
    pub is_up: bool,
    /// Where it leaves what it finds.
    pub slot: Arc<Slot>,
}

/// What the health thread is told.
#[derive(Debug)]
pub enum Order {
    /// Run this.
    Start(Box<Job>),
    /// No more of that.
    Stop(CheckId),
}

/// A verdict that has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Whose.
    pub id: CheckId,
    /// The verdict.
    pub is_up: bool,
}

/// What was found last, for whoever asks. Written by the check's task, rarely read.
#[derive(Debug, Default)]
pub struct Slot(Mutex<Seen>);

/// See [`Slot`].
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// When the last check ended, and how; `None` before the first.
    pub last: Option<(Instant, Result<Duration, Failure>)>,
    /// How much too late it had begun.
    pub late: Duration,
    /// When the next is due.
    pub next: Option<Instant>,
}

impl Slot {
    /// What was found.
    pub fn seen(&self) -> Seen {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn write(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// The health thread, seen from the control thread. It ends when this is dropped.
#[derive(Debug)]
pub struct Runner {
    pub(super) orders: mpsc::UnboundedSender<Order>,
    /// What it says.
    pub changes: mpsc::Receiver<Change>,
}

impl Runner {
    /// Starts the thread.
    pub fn start(
        stats: Arc<HealthStats>,
        aims: Arc<Aims>,
        limits: Limits,
    ) -> std::io::Result<Self> {
        let (orders, to_do) = mpsc::unbounded_channel();
        let (said, changes) = mpsc::channel(CHANGES_MAX);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let shared = Arc::new(Shared {
            sockets: Semaphore::new(limits.sockets),
            scripts: Semaphore::new(limits.scripts),
            said,
            stats,
            aims,
        });
        let work = move || runtime.block_on(obey(to_do, shared));
        std::thread::Builder::new().name("shunt-health".into()).spawn(work)?;
        Ok(Self { orders, changes })
    }

    /// Gives an order. One to a thread that is gone is nobody's concern.
    pub fn order(&self, order: Order) {
        let _ = self.orders.send(order);
    }
}

struct Shared {
    sockets: Semaphore,
    scripts: Semaphore,
    said: mpsc::Sender<Change>,
    stats: Arc<HealthStats>,
    aims: Arc<Aims>,
}

async fn obey(mut orders: mpsc::UnboundedReceiver<Order>, shared: Arc<Shared>) {
    let mut tasks = HashMap::<CheckId, AbortHandle>::new();
    let mut window = tokio::time::interval(WINDOW);
    let mut sweeping = tokio::time::interval(SWEEP);
    loop {
        let order = tokio::select! {
            order = orders.recv() => order,
            _ = window.tick() => {
                shared.stats.end_window();
                continue;
            }
            _ = sweeping.tick() => {
                sweep();
                continue;
            }
        };
        match order {
            None => return,
            Some(Order::Start(job)) => {
                let id = job.id;
                let task = tokio::spawn(run(*job, Arc::clone(&shared)));
                tasks.insert(id, task.abort_handle());
            }
            Some(Order::Stop(id)) => {
                if let Some(task) = tasks.remove(&id) {
                    task.abort();
                }
            }
        }
    }
}

/// One check, for ever.
async fn run(job: Job, shared: Arc<Shared>) {
    let Job { id, check, asked, is_up, slot } = job;
    let prober = Prober::new(&check, Arc::clone(&shared.aims));
    let mut machine = Machine::new(is_up);
    let ms = |ms: u32| Duration::from_millis(ms.into());
    let spread = if is_up { ms(check.interval_ms) } else { ms(check.interval_ms).min(SOON) };
    let mut due = Instant::now() + spread.mul_f64(chance());
    loop {
        slot.write(|seen| seen.next = Some(due));
        sleep_until(due).await;
        let (late, outcome) = ask(&check, &asked, &prober, due, &shared).await;
        let passed = outcome.is_ok();
        slot.write(|seen| (seen.last, seen.late) = (Some((Instant::now(), outcome)), late));
        if machine.note(passed, check.rise, check.fall) {
            let _ = shared.said.send(Change { id, is_up: machine.is_up }).await;
        }
        let pause = if machine.is_in_doubt() { check.fast_interval_ms } else { check.interval_ms };
        let leeway = f64::from(check.jitter_percent) / 100.0 * (chance() - 0.5);
        due = (due + ms(pause).mul_f64(1.0 + leeway)).max(Instant::now());
    }
}

/// Asks once: how late that began; how long the answer took, or why it is none.
async fn ask(
    check: &Check,
    asked: &Asked,
    prober: &Prober,
    due: Instant,
    shared: &Shared,
) -> (Duration, Result<Duration, Failure>) {
    let room = match check.probe {
        Probe::Script { .. } => &shared.scripts,
        _ => &shared.sockets,
    };
    let _place = room.acquire().await;
    let begun = Instant::now();
    let late = begun.saturating_duration_since(due);
    shared.stats.note_lateness(late);
    let patience = Duration::from_millis(check.timeout_ms.into());
    let outcome = match timeout(patience, caught(prober.ask(asked, patience))).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Failure::TimedOut),
    };
    shared.stats.results[CheckResult::of(&outcome) as usize].add(1);
    (late, outcome.map(|()| begun.elapsed()))
}

/// A fault in what asks, of ours or of a library's, is that check's failure and nobody else's: a backend whose answer
/// brings it about takes down itself and not the balancer.
async fn caught(asking: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let mut asking = pin!(asking);
    poll_fn(|context| {
        let polled = catch_unwind(AssertUnwindSafe(|| asking.as_mut().poll(context)));
        let fault = "a fault of shuntd's own, told in its log";
        polled.unwrap_or_else(|_| Poll::Ready(Err(Failure::NotRun(fault.into()))))
    })
    .await
}

impl CheckResult {
    fn of(outcome: &Result<(), Failure>) -> Self {
        match outcome {
            Ok(()) => Self::Passed,
            Err(Failure::TimedOut) => Self::TimedOut,
            Err(Failure::NotRun(_)) => Self::NotRun,
            Err(_) => Self::Failed,
        }
    }
}

/// From 0 to 1. Without chance checks would beat in step, which harms little.
fn chance() -> f64 {
    getrandom::u32().map_or(0.5, |random| f64::from(random) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests;
