//! A service with checks: who of it is up, whether that is enough, and what becomes of its backends.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::check::{OnFailure, Policy};
use super::patient::Patient;
use super::quorum;
use super::standing::Standing;
use crate::control::config::plan::{Backend, Service};
use crate::control::effective::Verdict;
use crate::stats::health::{BackendHealth, ServiceHealth, Wards};

/// A service with checks, or with sorry backends.
#[derive(Debug)]
pub(super) struct Ward {
    pub(super) name: String,
    pub(super) policy: Policy,
    /// How late passive checks may hear of a connection.
    pub(super) waited: Duration,
    pub(super) is_whole: bool,
    /// Weights of those that are up, as judged last.
    pub(super) live: u64,
    /// The quorum they were held to.
    pub(super) in_force: u32,
    pub(super) patients: HashMap<SocketAddr, Patient>,
}

impl Ward {
    pub(super) fn new(service: &Service) -> Self {
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
    pub(super) fn weigh(&mut self, service: &Service, by_hand: impl Fn(SocketAddr) -> Option<u32>) {
        let up = service.backends.iter().filter(|it| !it.sorry && self.is_up(it.address));
        self.live = up.map(|it| u64::from(by_hand(it.address).unwrap_or(it.weight))).sum();
        self.in_force = self.quorum(service);
        let (quorum, hysteresis) = (self.in_force, self.policy.hysteresis);
        self.is_whole = quorum::is_whole(self.is_whole, self.live, quorum, hysteresis);
    }

    /// Who is not to get all that the plan gives.
    pub(super) fn verdicts(&self, service: &Service, now: Instant) -> HashMap<SocketAddr, Verdict> {
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

    pub(super) fn report(&self, service: &Service, told: &mut Wards) {
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

    pub(super) fn say_quorum(&self, service: &Service) {
        let (service_name, live, quorum) = (&self.name, self.live, self.in_force);
        let sorry = service.backends.iter().filter(|backend| backend.sorry).count();
        if self.is_whole {
            tracing::info!(service = service_name, live, quorum, "quorum is back");
        } else {
            tracing::warn!(service = service_name, live, quorum, sorry, "quorum is lost");
        }
    }
}
