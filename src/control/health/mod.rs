//! Health checks: who of the backends may serve.
//!
//! ```text
//!  health thread                 control thread
//!  check ─ rise/fall ─ Change ─► Standing (all checks, flaps, slow start) ─► quorum ─► Verdicts ─► effective
//!   check.rs  machine.rs               ▲ standing.rs                         quorum.rs
//!   runner.rs probe/                   │
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

use super::config::plan::{Backend, Plan, Service, ServiceKey};
use super::effective::{Hands, Verdict, Verdicts};
use super::punt::aim::{Aim, Aims};
use super::voice::Voice;
use crate::dataplane::snapshot::Mode;
use crate::stats::health::{BackendHealth, HealthStats, ServiceHealth, Wards};

pub mod check;
mod hear;
mod heirs;
pub mod machine;
pub mod passive;
pub mod probe;
pub mod quorum;
pub mod runner;
pub mod standing;
mod thread;
pub mod view;

use check::{Check, OnFailure, Policy};
use heirs::{heirs, is_same};
use passive::{Passive, Terms};
use probe::Asked;
use runner::{Change, CheckId, Job, Order, Runner, Slot};
use standing::{Standing, Turn};

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

/// A service with checks, or with sorry backends.
#[derive(Debug)]
struct Ward {
    name: String,
    policy: Policy,
    /// How late passive checks may hear of a connection.
    waited: Duration,
    is_whole: bool,
    /// Weights of those that are up, as judged last.
    live: u64,
    /// The quorum they were held to.
    in_force: u32,
    patients: HashMap<SocketAddr, Patient>,
}

/// A backend with checks.
#[derive(Debug)]
struct Patient {
    standing: Standing,
    /// Was it up when verdicts were given last? What people are shown: who reads `down` shall find that it
    /// gets no more connections.
    shown_up: bool,
    running: Vec<Running>,
    /// What its connections say, if the service listens to that.
    passive: Option<Passive>,
}

/// A check as it runs.
#[derive(Debug)]
struct Running {
    id: CheckId,
    check: Check,
    asked: Asked,
    is_up: bool,
    slot: Arc<Slot>,
}

impl Running {
    /// What the health thread is to do.
    fn job(&self) -> Job {
        let Self { id, check, asked, is_up, slot } = self;
        let (check, asked, slot) = (check.clone(), asked.clone(), Arc::clone(slot));
        Job { id: *id, check, asked, is_up: *is_up, slot }
    }
}

impl Patient {
    /// As it is before anything is known. Nobody asks one without checks, so it does not wait for that.
    fn new(service: &Service, checks: &[Check], now: Instant) -> Self {
        let is_up = service.health.starts_up || checks.is_empty();
        let standing = Standing::new(is_up, now);
        Self { standing, shown_up: is_up, running: vec![], passive: None }
    }

    fn passes(&self) -> bool {
        self.running.iter().all(|running| running.is_up)
            && self.passive.is_none_or(|passive| passive.passes())
    }

    /// Why it is down, as far as anybody says so.
    fn why(&self) -> Option<String> {
        if let Some(running) = self.running.iter().find(|running| !running.is_up) {
            let last = running.slot.seen().last;
            let said = last.and_then(|(_, outcome)| outcome.err())?;
            return Some(format!("{}: {said}", running.check));
        }
        let passive = self.passive.filter(|passive| !passive.passes())?;
        Some(passive::unanswered(passive.row()))
    }
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

    /// Begins the checks that `plan` has and we have not, and ends those it has not.
    fn follow(&mut self, plan: &Plan, now: Instant) {
        let mut before = std::mem::take(&mut self.wards);
        for service in plan.services.iter().filter(|service| is_ward(service)) {
            let key = service.key();
            let mut ward = before.remove(&key).unwrap_or_else(|| Ward::new(service));
            ward.name.clone_from(&service.name);
            ward.policy = service.health;
            ward.waited = waited(plan, service);
            let mut old = std::mem::take(&mut ward.patients);
            for backend in service.backends.iter().filter(|backend| !backend.sorry) {
                let (address, checks) = (backend.address, service.checks_of(backend.address));
                let is_passive = service.health.passive_fall > 0;
                if checks.is_empty() && !is_passive {
                    continue;
                }
                let mut patient =
                    old.remove(&address).unwrap_or_else(|| Patient::new(service, checks, now));
                patient.passive =
                    is_passive.then(|| patient.passive.unwrap_or_else(|| Passive::new(now)));
                let patient = self.treat(patient, &key, service, backend, checks);
                ward.patients.insert(address, patient);
            }
            for patient in old.into_values() {
                self.discharge(patient.running);
            }
            self.wards.insert(key, ward);
        }
        let gone = before.into_values().flat_map(|ward| ward.patients.into_values());
        for patient in gone {
            self.discharge(patient.running);
        }
    }

    /// The checks of one backend. One that is new starts from what is known of the backend.
    fn treat(
        &mut self,
        patient: Patient,
        key: &ServiceKey,
        service: &Service,
        backend: &Backend,
        checks: &[Check],
    ) -> Patient {
        let Patient { standing, shown_up, running, passive } = patient;
        let wanted: Vec<_> = checks.iter().map(|it| (it, asked(service, backend, it))).collect();
        let (heirs, gone) = heirs(&wanted, running);
        self.discharge(gone);
        let mut now = Vec::with_capacity(checks.len());
        for ((check, asked), old) in wanted.into_iter().zip(heirs) {
            match old {
                Some(old) if is_same(&old, check, &asked) => now.push(old),
                old => {
                    let is_up = old.as_ref().map_or(standing.is_up, |old| old.is_up);
                    self.discharge(old.into_iter().collect());
                    now.push(self.begin(key, check, asked, is_up));
                }
            }
        }
        Patient { standing, shown_up, running: now, passive }
    }

    fn begin(&mut self, key: &ServiceKey, check: &Check, asked: Asked, is_up: bool) -> Running {
        let id = CheckId(self.next_id);
        self.next_id += 1;
        self.owners.insert(id, (key.clone(), asked.backend));
        let (check, slot) = (check.clone(), Arc::default());
        let running = Running { id, check, asked, is_up, slot };
        if let Some(runner) = self.runner() {
            runner.order(Order::Start(Box::new(running.job())));
        }
        running
    }

    fn discharge(&mut self, checks: Vec<Running>) {
        for check in checks {
            self.owners.remove(&check.id);
            if let Some(runner) = &self.runner {
                runner.order(Order::Stop(check.id));
            }
        }
    }
}

/// Has health anything to say about it?
fn is_ward(service: &Service) -> bool {
    let is_checked = |address| !service.checks_of(address).is_empty();
    service.health.passive_fall > 0
        || service.backends.iter().any(|it| it.sorry || is_checked(it.address))
}

/// Whom a check of a backend asks.
fn asked(service: &Service, backend: &Backend, check: &Check) -> Asked {
    let mut target = check.target(backend.address);
    let mut aim = None;
    if service.health.asks_vip(check) {
        target.set_ip(service.address.vip);
        let encapsulation = match backend.mode {
            Mode::Tunnel(encapsulation) => Some(encapsulation),
            Mode::Dr | Mode::Nat | Mode::Fullnat => None,
        };
        aim = Some(Aim { backend: backend.address.ip(), encapsulation });
    }
    Asked { service: service.name.clone(), backend: backend.address, target, aim }
}

/// How late passive checks of a service may hear of a connection.
fn waited(plan: &Plan, service: &Service) -> Duration {
    let timeouts = service.own_timeouts(&plan.timeouts).unwrap_or(plan.timeouts);
    Terms::waited(&timeouts, |protocol| service.speaks(protocol))
}

impl Ward {
    fn new(service: &Service) -> Self {
        Self {
            name: service.name.clone(),
            policy: service.health,
            waited: Duration::ZERO,
            is_whole: true,
            live: 0,
            in_force: service.health.quorum,
            patients: HashMap::new(),
        }
    }

    fn is_up(&self, address: SocketAddr) -> bool {
        self.patients.get(&address).is_none_or(|patient| patient.standing.is_up)
    }

    /// A quorum nobody can reach is lowered to what there is, as keepalived does.
    fn quorum(&self, service: &Service) -> u32 {
        let all = service.backends.iter().filter(|backend| !backend.sorry);
        let all = all.fold(0u32, |sum, backend| sum.saturating_add(backend.weight));
        self.policy.quorum.min(all.max(1))
    }

    /// Is enough of it up?
    fn weigh(&mut self, service: &Service, by_hand: impl Fn(SocketAddr) -> Option<u32>) {
        let up = service.backends.iter().filter(|it| !it.sorry && self.is_up(it.address));
        self.live = up.map(|it| u64::from(by_hand(it.address).unwrap_or(it.weight))).sum();
        self.in_force = self.quorum(service);
        let (quorum, hysteresis) = (self.in_force, self.policy.hysteresis);
        self.is_whole = quorum::is_whole(self.is_whole, self.live, quorum, hysteresis);
    }

    /// Who is not to get all that the plan gives.
    fn verdicts(&self, service: &Service, now: Instant) -> HashMap<SocketAddr, Verdict> {
        let has_sorry = service.backends.iter().any(|backend| backend.sorry);
        let others_serve = has_sorry && !self.is_whole;
        let aside = match self.policy.on_failure {
            OnFailure::Remove => Verdict::Removed,
            OnFailure::Drain => Verdict::Drained,
        };
        let verdict = |backend: &Backend| {
            let address = backend.address;
            let serves =
                if backend.sorry { others_serve } else { !others_serve && self.is_up(address) };
            let patient = self.patients.get(&address);
            let share = || patient?.standing.share(&self.policy, now).map(Verdict::Rising);
            let verdict = if serves { share() } else { Some(aside) };
            Some((address, verdict?))
        };
        service.backends.iter().filter_map(verdict).collect()
    }

    fn report(&self, service: &Service, told: &mut Wards) {
        let name = || self.name.clone();
        told.services.push(ServiceHealth { service: name(), is_whole: self.is_whole });
        for backend in &service.backends {
            let Some(patient) = self.patients.get(&backend.address) else { continue };
            let Standing { is_up, downs, .. } = patient.standing;
            told.backends.push(BackendHealth {
                service: name(),
                address: backend.address,
                is_up,
                downs,
            });
        }
    }

    fn say_quorum(&self, service: &Service) {
        let (service_name, live, quorum) = (&self.name, self.live, self.in_force);
        let sorry = service.backends.iter().filter(|backend| backend.sorry).count();
        if self.is_whole {
            tracing::info!(service = service_name, live, quorum, "quorum is back");
        } else {
            tracing::warn!(service = service_name, live, quorum, sorry, "quorum is lost");
        }
    }
}

fn say(service: &str, backend: SocketAddr, patient: &Patient, turn: Turn) {
    match turn {
        Turn::Up => tracing::info!(service, %backend, "backend is up"),
        Turn::Held => tracing::warn!(
            service,
            %backend,
            "backend passes its checks, but has gone down too often: it stays down until they have passed for a while"
        ),
        Turn::Down => {
            let why = patient.why().unwrap_or_default();
            tracing::warn!(service, %backend, why, "backend is down");
        }
    }
}

#[cfg(test)]
mod tests;
