//! Following the plan: which checks begin, which end, and which go on as if nothing had happened.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Health;
use super::check::Check;
use super::heirs::{heirs, is_same};
use super::passive::{Passive, Terms};
use super::patient::{Patient, Running};
use super::probe::Asked;
use super::runner::{CheckId, Order};
use super::ward::Ward;
use crate::control::config::plan::{Backend, Plan, Service, ServiceKey};
use crate::control::punt::aim::Aim;
use crate::dataplane::snapshot::Mode;

impl Health {
    /// Begins the checks that `plan` has and we have not, and ends those it has not.
    pub(super) fn follow(&mut self, plan: &Plan, now: Instant) {
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
pub(super) fn asked(service: &Service, backend: &Backend, check: &Check) -> Asked {
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
