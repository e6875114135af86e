//! Health checks: who of the backends may serve.
//!
//! ```text
//!  health thread                 control thread
//!  check ─ rise/fall ─ Change ─► Standing (all checks, flaps, slow start) ─► quorum ─► Verdicts ─► effective
//!   check.rs  machine.rs               ▲ standing.rs                         quorum.rs
//!   runner.rs probe/                   │                               ward.rs (a service), patient.rs (a backend)
//!  workers' counts ─ hear.rs ─► passive.rs: real connections without an answer
//! ```
//!
//! Health edits no plan. It is asked for its [`Verdicts`] whenever something is about to be compiled, and
//! makes up its mind about the plan it is shown: checks that plan does not have end, new ones begin, and those
//! that are as they were go on as if nothing had happened, so a reload costs no backend its state.
//!
//! **Coalescing.** A verdict that changes is not published at once, but [`SETTLE`] later, with all that
//! changed in the meantime: a rack that loses power is one snapshot, not a thousand.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::config::plan::{Plan, ServiceKey};
use super::effective::{Hands, Verdicts};
use super::punt::aim::Aims;
use super::voice::Voice;
use crate::stats::health::{HealthStats, Wards};

pub mod check;
mod follow;
mod hear;
mod heirs;
pub mod machine;
pub mod passive;
mod patient;
pub mod probe;
pub mod quorum;
pub mod runner;
pub mod standing;
mod thread;
pub mod view;
mod ward;

use patient::say;
use runner::{Change, CheckId, Runner};
use standing::Turn;
use ward::Ward;

/// So long after the first of several changes they are published together.
const SETTLE: Duration = Duration::from_millis(50);

/// The health of all services.
#[derive(Debug)]
pub struct Health {
    stats: Arc<HealthStats>,
    /// Of those that ask VIPs.
    aims: Arc<Aims>,
    /// Started with the first check.
    runner: Option<Runner>,
    /// The thread has ended, or cannot be had: all checks wait for another.
    is_stopped: bool,
    wards: HashMap<ServiceKey, Ward>,
    /// Whose a check is.
    owners: HashMap<CheckId, (ServiceKey, SocketAddr)>,
    next_id: u64,
    /// When changes are to be published, if there are any.
    settled_at: Option<Instant>,
    voice: Voice,
}

impl Health {
    /// Nobody is checked yet.
    pub fn new(stats: Arc<HealthStats>, aims: Arc<Aims>) -> Self {
        Self {
            stats,
            aims,
            runner: None,
            is_stopped: false,
            wards: HashMap::new(),
            owners: HashMap::new(),
            next_id: 0,
            settled_at: None,
            voice: Voice::default(),
        }
    }

    /// Waits until verdicts have changed and settled. May be dropped and begun anew at any time.
    pub async fn changed(&mut self) {
        loop {
            let change = async {
                match &mut self.runner {
                    Some(runner) => runner.changes.recv().await,
                    None => std::future::pending().await,
                }
            };
            let settled = async {
                match self.settled_at {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = settled => {
                    self.settled_at = None;
                    return;
                }
                change = change => match change {
                    Some(change) => self.take(&change, Instant::now()),
                    None => self.note_end(),
                },
            }
        }
    }

    fn take(&mut self, change: &Change, now: Instant) {
        // Of a check that was stopped in the meantime.
        let Some((key, address)) = self.owners.get(&change.id) else { return };
        let Some(ward) = self.wards.get_mut(key) else { return };
        let Some(patient) = ward.patients.get_mut(address) else { return };
        for running in patient.running.iter_mut().filter(|running| running.id == change.id) {
            running.is_up = change.is_up;
        }
        let passes = patient.passes();
        if let Some(turn) = patient.standing.note(passes, &ward.policy, now) {
            if self.voice.may_say(&ward.name, now) {
                say(&ward.name, *address, patient, turn);
            }
            if turn != Turn::Held {
                self.settled_at.get_or_insert(now + SETTLE);
            }
        }
    }

    /// Time has passed: who is held may be up, who has rested is tried, who comes back gets more. To be called once
    /// a second. True if there is something to publish.
    pub fn tick(&mut self, now: Instant) -> bool {
        for (service, kept) in self.voice.kept(now) {
            tracing::warn!(service, kept, "health: more changes were not logged");
        }
        self.revive();
        let mut is_restless = false;
        for ward in self.wards.values_mut() {
            for (address, patient) in &mut ward.patients {
                if let Some(passive) = &mut patient.passive {
                    passive.wake(now);
                }
                let passes = patient.passes();
                if let Some(turn) = patient.standing.note(passes, &ward.policy, now) {
                    if self.voice.may_say(&ward.name, now) {
                        say(&ward.name, *address, patient, turn);
                    }
                    is_restless |= turn != Turn::Held;
                }
                is_restless |= patient.standing.end_slow_start(&ward.policy, now);
                is_restless |= patient.standing.share(&ward.policy, now).is_some();
            }
        }
        is_restless
    }

    /// What becomes of whom, in this plan and with these weights.
    pub fn judge(&mut self, plan: &Plan, hands: &Hands, now: Instant) -> Verdicts {
        self.follow(plan, now);
        let mut verdicts = Verdicts::default();
        let mut told = Wards::default();
        for service in &plan.services {
            let key = service.key();
            let Some(ward) = self.wards.get_mut(&key) else { continue };
            let was_whole = ward.is_whole;
            ward.weigh(service, |address| hands.of(&key, address).map(|held| held.weight));
            if was_whole != ward.is_whole && self.voice.may_say(&ward.name, now) {
                ward.say_quorum(service);
            }
            ward.report(service, &mut told);
            let of_service = ward.verdicts(service, now);
            ward.patients
                .values_mut()
                .for_each(|patient| patient.shown_up = patient.standing.is_up);
            if !of_service.is_empty() {
                verdicts.services.insert(key, of_service);
            }
        }
        self.stats.set_wards(told);
        verdicts
    }
}

#[cfg(test)]
mod tests;
