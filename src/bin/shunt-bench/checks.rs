//! `checks`: how late health checks begin when there are many of them, and what of its CPU their thread takes.
//!
//! ```text
//! health thread, on a CPU of its own ── connects ──► listener, on another: takes the connection, and lets go of it
//!      └─► a slot for each check: how late its last began ──► looked at several times an interval
//! ```
//!
//! The thread is the daemon's, with `tcp` checks over loopback: their packets are the kernel's, so what a real link
//! adds is waiting, which delays no other check. Checks of other kinds cost more; HTTPS, a handshake each.
//! Every check begins once in the first interval, at a time left to chance, as in the daemon.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Args;
use hdrhistogram::Histogram;
use serde::Serialize;
use shunt::control::health::check::{Check, Probe, Talk};
use shunt::control::health::probe::Asked;
use shunt::control::health::runner::{CheckId, Job, Limits, Order, Runner, Slot};
use shunt::dpdk::lcore;
use shunt::stats::health::{CheckResult, HealthStats};

/// Connections at a time: below the descriptors that a process is given anywhere.
const SOCKETS: usize = 400;
/// Looks at all slots in an interval, so that none is written twice between two.
const LOOKS: u32 = 4;
/// Longest lateness that is told apart, in microseconds.
const LATEST_US: u64 = 1 << 32;
/// The health thread's name.
const THREAD: &str = "shunt-health";

/// What `checks` measures.
#[derive(Clone, Debug, Args)]
pub(crate) struct ChecksOptions {
    /// Checks.
    #[arg(long, default_value_t = 5000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) checks: u32,
    /// Milliseconds between the beginnings of two of one.
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(50..=60_000))]
    pub(crate) interval_ms: u32,
    /// Seconds to measure.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub(crate) seconds: u32,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// What was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Found {
    /// Checks there were.
    pub(crate) checks: u32,
    /// Milliseconds between two of one.
    pub(crate) interval_ms: u32,
    /// Times one passed.
    pub(crate) passed: u64,
    /// Times one did not: none should.
    pub(crate) not_passed: u64,
    /// Microseconds a check began too late: half began sooner.
    pub(crate) lateness_p50_us: u64,
    /// 99 of 100 did.
    pub(crate) lateness_p99_us: u64,
    /// The latest.
    pub(crate) lateness_max_us: u64,
    /// What the health thread took of its CPU, 0 to 1.
    pub(crate) cpu_share: f64,
}

/// Runs the checks, and ends them.
pub(crate) fn run(options: &ChecksOptions) -> anyhow::Result<Found> {
    let cpus = lcore::usable_cpus()?;
    let first = cpus.first().context("expected a CPU to run on")?;
    let others = cpus.get(1..).filter(|others| !others.is_empty()).unwrap_or(&cpus);
    lcore::unpin(others)?;
    let address = listen()?;
    let stats = Arc::<HealthStats>::default();
    // The thread inherits where it may run.
    lcore::pin(*first)?;
    let limits = Limits { sockets: SOCKETS, scripts: 1 };
    let runner = Runner::start(Arc::clone(&stats), Arc::default(), limits)?;
    lcore::unpin(others)?;
    let slots: Vec<Arc<Slot>> = (0..options.checks).map(|_| Arc::default()).collect();
    for (id, slot) in (0..).zip(&slots) {
        let asked = Asked { service: "bench".into(), backend: address, target: address, aim: None };
        let (check, slot) = (check(options.interval_ms), Arc::clone(slot));
        let job = Job { id: CheckId(id), check, asked, is_up: true, slot };
        runner.order(Order::Start(Box::new(job)));
    }
    let found = watch(options, &stats, &slots);
    lcore::unpin(&cpus)?;
    found
}

/// Looks at what the checks leave until the time is over.
fn watch(
    options: &ChecksOptions,
    stats: &HealthStats,
    slots: &[Arc<Slot>],
) -> anyhow::Result<Found> {
    let pause = Duration::from_millis(options.interval_ms.into()) / LOOKS;
    let mut lateness = Histogram::<u64>::new_with_bounds(1, LATEST_US, 3)?;
    let mut seen = vec![None; slots.len()];
    let (start, used, mut worst) = (Instant::now(), cpu_time()?, 0);
    let duration = Duration::from_secs(options.seconds.into());
    while start.elapsed() < duration {
        thread::sleep(pause.min(duration.saturating_sub(start.elapsed())));
        for (slot, seen) in slots.iter().zip(&mut seen) {
            let now = slot.seen();
            let ended = now.last.map(|(ended, _)| ended);
            if ended != std::mem::replace(seen, ended) {
                lateness.saturating_record(u64::try_from(now.late.as_micros())?.max(1));
            }
        }
        worst = stats.lateness_us.get().max(worst);
    }
    let cpu_share =
        (cpu_time()?.saturating_sub(used)).as_secs_f64() / start.elapsed().as_secs_f64();
    let count = |it: CheckResult| stats.results[it as usize].get();
    let passed = count(CheckResult::Passed);
    Ok(Found {
        checks: options.checks,
        interval_ms: options.interval_ms,
        passed,
        not_passed: CheckResult::ALL.map(count).iter().sum::<u64>() - passed,
        lateness_p50_us: lateness.value_at_quantile(0.5),
        lateness_p99_us: lateness.value_at_quantile(0.99),
        lateness_max_us: worst.max(lateness.max()),
        cpu_share,
    })
}

/// A backend that takes connections and says nothing.
fn listen() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let work = move || while listener.accept().is_ok() {};
    thread::Builder::new().name("listener".into()).spawn(work)?;
    Ok(address)
}

/// `kind = "tcp"`, and else the daemon's defaults.
fn check(interval_ms: u32) -> Check {
    Check {
        probe: Probe::Tcp(Talk::default()),
        address: None,
        port: None,
        interval_ms,
        fast_interval_ms: interval_ms.min(1000),
        jitter_percent: 10,
        timeout_ms: 2000,
        rise: 2,
        fall: 3,
    }
}

/// What the health thread has used of any CPU (`/proc/self/task/*/schedstat`, the first number).
fn cpu_time() -> anyhow::Result<Duration> {
    for task in fs::read_dir("/proc/self/task")? {
        let folder = task?.path();
        let is_it = |name: String| name.trim() == THREAD;
        if fs::read_to_string(folder.join("comm")).is_ok_and(is_it) {
            let said = fs::read_to_string(folder.join("schedstat"))?;
            let used = said.split_whitespace().next().context("expected a time in schedstat")?;
            return Ok(Duration::from_nanos(used.parse()?));
        }
    }
    anyhow::bail!("expected a thread `{THREAD}`: it has ended")
}

/// What was measured, as text.
pub(crate) fn render(found: &Found, json: bool) -> String {
    if json {
        return serde_json::to_string(found).unwrap_or_default() + "\n";
    }
    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    let ms = |us: u64| us as f64 / 1e3;
    format!(
        "{} checks every {} ms: {} passed, {} did not\n\
         too late: p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms; {:.1} % of a CPU\n",
        found.checks,
        found.interval_ms,
        found.passed,
        found.not_passed,
        ms(found.lateness_p50_us),
        ms(found.lateness_p99_us),
        ms(found.lateness_max_us),
        found.cpu_share * 100.0
    )
}
