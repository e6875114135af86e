//! The health thread's life, as the control thread sees it: started with the first check, and anew when it has ended.
//!
//! ```text
//!  none ── first check ──► runs ── ends by itself ──► stopped ── once a second ──► runs, all checks ordered anew
//!    └──────────────── cannot be started ───────────────►┘
//! ```
//!
//! A balancer without checks goes on sending to backends that have died, and one that ends with its checks takes every
//! connection along. So it does neither: verdicts stay as they are, somebody is told (`shunt_check_thread_ends_total`, an
//! event, a line in the log), and all checks begin again with the verdicts they had.

use std::sync::Arc;

use super::Health;
use super::runner::{Limits, Order, Runner};

/// Checks with a socket at a time, as far as descriptors allow.
const SOCKETS_MAX: usize = 16_384;
/// Descriptors left for the rest of the daemon.
const DESCRIPTORS_KEPT: usize = 256;
/// Programs of checks that run at a time.
const SCRIPTS_MAX: usize = 64;

impl Health {
    /// Who runs checks; started if nobody does. `None` while that is [`Health::revive`]'s business.
    pub(super) fn runner(&mut self) -> Option<&Runner> {
        if self.runner.is_none() && !self.is_stopped {
            self.start();
        }
        self.runner.as_ref()
    }

    /// True if there is a thread then.
    fn start(&mut self) -> bool {
        let limits = Limits { sockets: sockets(), scripts: SCRIPTS_MAX };
        match Runner::start(Arc::clone(&self.stats), Arc::clone(&self.aims), limits) {
            Ok(runner) => self.runner = Some(runner),
            Err(error) if !self.is_stopped => {
                tracing::error!(%error, "no health checks: their thread cannot be started");
                self.is_stopped = true;
            }
            Err(_) => {}
        }
        self.runner.is_some()
    }

    /// The thread has ended. What it said last stays.
    pub(super) fn note_end(&mut self) {
        tracing::error!("the thread of health checks has ended; another is started");
        (self.runner, self.is_stopped) = (None, true);
        self.stats.thread_ends.add(1);
    }

    /// All checks go on with the verdicts they have, on another thread, if there is none any more.
    pub(super) fn revive(&mut self) {
        if !self.is_stopped || !self.start() {
            return;
        }
        self.is_stopped = false;
        let all = self.wards.values().flat_map(|ward| ward.patients.values());
        for running in all.flat_map(|patient| &patient.running) {
            if let Some(runner) = &self.runner {
                runner.order(Order::Start(Box::new(running.job())));
            }
        }
    }
}

/// How many descriptors checks may use; `shuntd` has raised the limit as far as it may.
fn sockets() -> usize {
    use rustix::process::{Resource, getrlimit};
    let may = getrlimit(Resource::Nofile).current;
    let may = may.and_then(|may| usize::try_from(may).ok()).unwrap_or(usize::MAX);
    may.saturating_sub(DESCRIPTORS_KEPT).clamp(1, SOCKETS_MAX)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};
    use std::path::Path;
    use std::time::{Duration, Instant};

    use tokio::sync::mpsc;

    use crate::control::config::plan::Plan;
    use crate::control::config::{Machine, parse_for};
    use crate::control::effective::Hands;
    use crate::stats::health::CheckResult;

    use super::*;

    /// A thread that has ended, with its ends still in our hands.
    fn ended() -> Runner {
        Runner { orders: mpsc::unbounded_channel().0, changes: mpsc::channel(1).1 }
    }

    #[tokio::test]
    async fn checks_whose_thread_has_ended_are_run_by_another_with_the_verdicts_they_had() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let base = include_str!("../config/tests/base.toml");
        let check = format!(
            "weight = 1\n[[service.check]]\nkind = \"tcp\"\nport = {port}\n\
             interval_ms = 50\nrise = 1\n"
        );
        let text = base.replacen("weight = 1", &check, 1);
        let mut plan =
            parse_for(&text, Path::new("shunt.toml"), &Machine::with_cpus(4)).unwrap().plan;
        plan.services[0].checks[0].address = Some(Ipv4Addr::LOCALHOST.into());
        let mut health = Health::new(Arc::default(), Arc::default());
        health.runner = Some(ended());
        let judge = |health: &mut Health, plan: &Plan| {
            let verdicts = health.judge(plan, &Hands::default(), Instant::now());
            assert!(verdicts.services.is_empty(), "up");
        };
        judge(&mut health, &plan);
        // Nothing is to be published; the end is noticed all the same.
        let silence = Duration::from_millis(50);
        assert!(tokio::time::timeout(silence, health.changed()).await.is_err());
        assert_eq!((health.stats.thread_ends.get(), health.is_stopped), (1, true));
        plan.services[0].checks[0].fall = 9;
        judge(&mut health, &plan);
        assert!(health.runner.is_none(), "a reload does not run its new check alone");

        health.tick(Instant::now());
        assert!(!health.is_stopped);
        let passed = || health.stats.results[CheckResult::Passed as usize].get();
        let deadline = Instant::now() + Duration::from_secs(20);
        while passed() == 0 {
            assert!(Instant::now() < deadline, "no check is run");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
