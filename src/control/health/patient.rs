//! A backend with checks: what they say together, and why.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use super::check::Check;
use super::passive::{self, Passive};
use super::probe::Asked;
use super::runner::{CheckId, Job, Slot};
use super::standing::{Standing, Turn};
use crate::control::config::plan::Service;

/// A backend with checks.
#[derive(Debug)]
pub(super) struct Patient {
    pub(super) standing: Standing,
    /// Was it up when verdicts were given last? What people are shown: who reads `down` shall find that it
    /// gets no more connections.
    pub(super) shown_up: bool,
    pub(super) running: Vec<Running>,
    /// What its connections say, if the service listens to that.
    pub(super) passive: Option<Passive>,
}

/// A check as it runs.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) id: CheckId,
    pub(super) check: Check,
    pub(super) asked: Asked,
    pub(super) is_up: bool,
    pub(super) slot: Arc<Slot>,
}

impl Running {
    /// What the health thread is to do.
    pub(super) fn job(&self) -> Job {
        let Self { id, check, asked, is_up, slot } = self;
        let (check, asked, slot) = (check.clone(), asked.clone(), Arc::clone(slot));
        Job { id: *id, check, asked, is_up: *is_up, slot }
    }
}

impl Patient {
    /// As it is before anything is known. Nobody asks one without checks, so it does not wait for that.
    pub(super) fn new(service: &Service, checks: &[Check], now: Instant) -> Self {
        let is_up = service.health.starts_up || checks.is_empty();
        let standing = Standing::new(is_up, now);
        Self { standing, shown_up: is_up, running: vec![], passive: None }
    }

    pub(super) fn passes(&self) -> bool {
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

pub(super) fn say(service: &str, backend: SocketAddr, patient: &Patient, turn: Turn) {
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
