//! What workers have counted, told to the passive checks it is about.
//!
//! Counts lie by id, checks by service and address; [`Directory`] knows both. A backend that was taken out, or is
//! not yet compiled, has no id and is not heard of.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::Health;
use super::passive::Terms;
use super::ward::Ward;
use crate::ids::ServiceId;
use crate::stats::collect::{Directory, Sources};

impl Health {
    /// Passive checks hear of the connections since the last time. To be called before [`Health::tick`], which
    /// says what follows.
    pub fn hear(&mut self, sources: &Sources, now: Instant) {
        let listening = self.wards.values_mut().filter(|ward| ward.policy.passive_fall > 0);
        let mut listening = listening.peekable();
        if listening.peek().is_none() {
            return;
        }
        let directory = sources.directory();
        let there = directory.names.services.iter().filter(|entry| !entry.removed);
        let ids: HashMap<&str, ServiceId> =
            there.map(|entry| (entry.name.as_str(), entry.id)).collect();
        for ward in listening {
            if let Some(id) = ids.get(ward.name.as_str()) {
                ward.hear(sources, &directory, *id, now);
            }
        }
    }
}

impl Ward {
    fn hear(&mut self, sources: &Sources, directory: &Directory, id: ServiceId, now: Instant) {
        let terms = self.terms();
        for entry in directory.backends_of(id) {
            let patient = self.patients.get_mut(&entry.address);
            if let Some(passive) = patient.and_then(|patient| patient.passive.as_mut()) {
                passive.hear(sources.backend(directory, entry.id).answers, &terms, now);
            }
        }
    }

    fn terms(&self) -> Terms {
        let rest = Duration::from_secs(self.policy.passive_rest_s.into());
        Terms { fall: self.policy.passive_fall, rest, waited: self.waited }
    }
}
