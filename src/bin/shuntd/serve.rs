//! The daemon's life: read, claim, bring up, balance, take down. In this order, so that whatever
//! is refused is refused before the next thing was started.

use std::path::Path;
use std::sync::Arc;

use anyhow::{anyhow, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use shunt::control::admin::Claims;
use shunt::control::config::Machine;
use shunt::control::config::files::Files;
use shunt::control::config::plan::{HugePages, Plan, Port};
use shunt::control::configured::Configured;
use shunt::control::doctor::{self, Needs, Tree};
use shunt::control::edition::Written;
use shunt::control::parts::{Lanes, Parts};
use shunt::control::ports::{PortsError, Running};
use shunt::control::supervise::Early;
use shunt::control::{config, ports};
use shunt::dpdk::children::keep_files_from_children;
use shunt::dpdk::clock::{self, Clock};
use shunt::dpdk::eal::{self, Eal, EalOptions};
use shunt::dpdk::lcore;
use shunt::dpdk::memory;
use shunt::dpdk::port::{self, PortStats};
use shunt::stats::devices::{Devices, Losses};
use shunt::stats::slow::StaticFacts;

use crate::{FAILED, members, workers};

/// Balances until told to stop.
pub(crate) fn serve(file: &Path) -> anyhow::Result<()> {
    ensure!(
        std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("bmi2"),
        doctor::OLD_CPU
    );
    let mut early = Early::listen()?;
    raise_file_limit();
    let Written { plan, files } = config::load(file, &Machine::here())?;
    tracing::info!(version = env!("SHUNT_VERSION"), configuration = %file.display(), "shuntd");
    if early.end_wished() {
        return ended_early();
    }
    refuse_unfit(file, &plan)?;
    let claims = Claims::take(&plan.daemon.admin_socket, plan.daemon.metrics_listen)?;
    let claims = claims.with_remote(plan.remote.as_ref().map(|remote| remote.listen))?;
    if let Some(core) = plan.daemon.control_core {
        lcore::pin(core)?;
    }
    let eal = Eal::start(&eal_options(&plan))?;
    tracing::info!(eal = %eal.description(), "DPDK");
    if early.end_wished() {
        return ended_early();
    }
    let running = ports::bring_up(&eal, &plan).map_err(|error| placed(file, error))?;
    if early.end_wished() {
        return ended_early();
    }
    balance(early, Start { file, plan, files, claims, eal }, running)
}

/// Refuses what is certain to fail later, with the doctor's sentence.
fn refuse_unfit(file: &Path, plan: &Plan) -> anyhow::Result<()> {
    let Some(finding) = doctor::refusal(&Tree::at(Path::new("/")), &Needs::of(plan)) else {
        return Ok(());
    };
    let sentence = finding.sentence();
    Err(match finding.line {
        Some(line) => anyhow!("{}:{line}: {sentence}", file.display()),
        None => anyhow!(sentence),
    })
}

/// Sockets and devices are files: as many as this process may have. Where the limit stays as it is,
/// the servers' own limits on connections are still far below what is usual.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::debug!(%error, "the limit on open files stays as it is");
    }
}

/// The refusal of a port, with the place in the file where it is named.
fn placed(file: &Path, error: PortsError) -> anyhow::Error {
    match error {
        PortsError::Port { line, source } => anyhow!("{}:{line}: {source}", file.display()),
        other => other.into(),
    }
}

/// What the first steps of the start have come to.
struct Start<'a> {
    file: &'a Path,
    plan: Plan,
    files: Files,
    claims: Claims,
    eal: Eal,
}

/// Workers and control plane, until the end. A signal that comes from here on is the control
/// plane's, which ends what has been started in order.
fn balance(early: Early, start: Start<'_>, running: Running) -> anyhow::Result<()> {
    let Start { file, plan, files, claims, eal } = start;
    let started = workers::start(&eal, &plan, &running.views, running.queues)?;
    if let Err(error) = keep_files_from_children() {
        tracing::warn!(%error, "programs of health checks inherit open files");
    }
    let pool = running.pool;
    let ports = Arc::new(running.devices);
    let parts = Parts {
        workers: started.parts,
        taps: running.taps,
        lanes: Lanes {
            punt: started.punts,
            inject: started.inject,
            make: move |frame: &[u8]| pool.packet_from(frame),
        },
        configure: Configured::new(running.views, Machine::here()),
        facts: facts(&plan, &eal),
        devices: losses_of(&ports),
        ticks: clock::now,
        make_members: members::maker(&eal),
        plan,
        plan_files: files,
        plan_file: file.to_owned(),
        claims,
    };
    let outcome = shunt::control::run_with(early, parts);
    // The control ends are gone with the control plane: workers stop, told or not. Their queues go
    // before the ports do.
    if !started.crew.join() {
        eprintln!("shuntd: a worker does not end; leaving without taking its ports down");
        std::process::exit(FAILED.into());
    }
    drop(ports);
    Ok(outcome?)
}

/// All that was taken so far goes in the order it was taken in, backwards.
#[expect(clippy::unnecessary_wraps, reason = "what `serve` answers")]
fn ended_early() -> anyhow::Result<()> {
    tracing::info!("told to end before the start was over");
    Ok(())
}

fn eal_options(plan: &Plan) -> EalOptions {
    EalOptions {
        huge_pages: match plan.daemon.huge_pages {
            HugePages::Auto => memory::HugePages::Auto,
            HugePages::Require => memory::HugePages::Require,
            HugePages::Never => memory::HugePages::Never,
        },
        memory_mb: plan.daemon.memory_mb,
        file_prefix: plan.daemon.file_prefix.clone(),
        secondary_processes: plan.daemon.secondary_processes,
        devices: plan.ports.iter().filter_map(Port::device).map(|it| it.device.clone()).collect(),
        extra: plan.daemon.eal_arguments.clone(),
    }
}

/// What these lose. They are gone when their one owner lets them go, whoever may still ask.
fn losses_of(ports: &Arc<Vec<port::Port>>) -> Devices {
    let ports = Arc::downgrade(ports);
    Devices::new(move || {
        let ports = ports.upgrade();
        let losses = |port: &port::Port| {
            let PortStats { rx_missed, rx_no_buffer, rx_errors, tx_errors, .. } = port.stats();
            Losses { missed: rx_missed, no_buffer: rx_no_buffer, rx_errors, tx_errors }
        };
        ports.iter().flat_map(|ports| ports.iter()).map(losses).collect()
    })
}

fn facts(plan: &Plan, eal: &Eal) -> StaticFacts {
    let workers = plan.daemon.worker_cores.len();
    let sizes = workers::sizes(plan);
    StaticFacts {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        revision: env!("SHUNT_GIT").to_owned(),
        dpdk_version: eal::version(),
        memory: eal.description().to_owned(),
        tsc_hz: Clock::shared().hz(),
        table_capacity: (u64::from(sizes.v4) + u64::from(sizes.v6)) * workers as u64,
        table_bytes: (sizes.bytes() * workers) as u64,
    }
}
