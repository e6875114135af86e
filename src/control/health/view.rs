//! What is shown of a backend's health: `shunt services` and `GET /services`.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Health;
use super::passive::unanswered;
use super::patient::Running;
use super::ward::Ward;
use crate::control::config::plan::ServiceKey;

/// What the checks of a backend say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BackendHealth {
    /// `up`, `down`, or `held`: it passes, but has gone down too often. As it was published last.
    pub state: String,
    /// For so long it is up, or not.
    pub since_s: u64,
    /// How often it has gone down.
    pub downs: u64,
    /// How much of its share it gets, in a hundred, while it starts slowly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share_percent: Option<u32>,
    /// Each of its checks.
    pub checks: Vec<Check>,
    /// What its own connections say, if the service listens to that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passive: Option<Passive>,
}

impl BackendHealth {
    /// Who says that it is down, and why; `None` if nobody does.
    pub fn why(&self) -> Option<String> {
        if let Some(failed) = self.checks.iter().find(|check| !check.up) {
            return Some(format!("{}: {}", failed.check, failed.last));
        }
        let passive = self.passive.as_ref().filter(|passive| !passive.up)?;
        let (row, rests_s) = (unanswered(passive.unanswered), passive.rests_ms.div_ceil(1000));
        Some(format!("{row}, tried again in {rests_s} s"))
    }
}

/// What a backend's own connections say of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Passive {
    /// Their verdict.
    pub up: bool,
    /// Connections in a row without an answer.
    pub unanswered: u64,
    /// So many take it down.
    pub fall: u32,
    /// Until it is tried again; 0 while it is up.
    pub rests_ms: u64,
}

/// One check.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Check {
    /// What is asked.
    pub check: String,
    /// Who is asked.
    pub target: String,
    /// Its verdict.
    pub up: bool,
    /// How the last one ended: why it failed, or `passed`; empty before the first.
    pub last: String,
    /// How long that took, if it passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub took_us: Option<u64>,
    /// How long ago that was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ago_ms: Option<u64>,
    /// Until the next; 0 while it is under way.
    pub next_ms: u64,
}

/// How much of a service is up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Quorum {
    /// Is it enough?
    pub whole: bool,
    /// Weight that is up.
    pub live: u64,
    /// Weight that the file asks for.
    pub wanted: u32,
    /// Weight that is held to: what is asked for, lowered to that of all backends together if they have less.
    #[serde(default)]
    pub in_force: u32,
}

impl Health {
    /// What the checks of a backend say; `None` if it has none.
    pub fn backend(&self, service: &ServiceKey, address: SocketAddr) -> Option<BackendHealth> {
        let ward = self.wards.get(service)?;
        let patient = ward.patients.get(&address)?;
        let (standing, now) = (&patient.standing, Instant::now());
        let state = match standing {
            _ if patient.shown_up => "up",
            it if it.is_held() => "held",
            _ => "down",
        };
        Some(BackendHealth {
            state: state.into(),
            since_s: now.duration_since(standing.since).as_secs(),
            downs: standing.downs,
            share_percent: standing.share(&ward.policy, now),
            checks: patient.running.iter().map(|running| check(running, now)).collect(),
            passive: patient.passive.map(|passive| Passive {
                up: passive.passes(),
                unanswered: passive.row(),
                fall: ward.policy.passive_fall,
                rests_ms: passive.rests(now).map_or(0, milliseconds),
            }),
        })
    }

    /// How much of a service is up; `None` if health has nothing to say about it.
    pub fn quorum(&self, service: &ServiceKey) -> Option<Quorum> {
        let ward = self.wards.get(service)?;
        let Ward { is_whole: whole, live, in_force, .. } = *ward;
        Some(Quorum { whole, live, wanted: ward.policy.quorum, in_force })
    }
}

fn check(running: &Running, now: Instant) -> Check {
    let seen = running.slot.seen();
    let ms = milliseconds;
    let took = seen.last.as_ref().and_then(|(_, outcome)| outcome.as_ref().ok());
    Check {
        check: running.check.to_string(),
        target: running.asked.target.to_string(),
        up: running.is_up,
        last: seen.last.as_ref().map_or_else(String::new, |(_, outcome)| match outcome {
            Ok(_) => "passed".into(),
            Err(failure) => failure.to_string(),
        }),
        took_us: took.map(|took| u64::try_from(took.as_micros()).unwrap_or(u64::MAX)),
        ago_ms: seen.last.as_ref().map(|(at, _)| ms(now.saturating_duration_since((*at).into()))),
        next_ms: seen
            .next
            .map_or(0, |at| ms(std::time::Instant::from(at).saturating_duration_since(now))),
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
