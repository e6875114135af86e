//! The operator's hand on one backend: drained, or given a weight, beside the file and over reloads.
//!
//! ```text
//! drain ─► weight 0 at once: no new connections ─► those that are there end by themselves
//!              └─ deadline ─► those that are left are ended, as `shunt clear` does: both ends are told
//! undrain ─► the file's weight again
//! ```
//!
//! A drain is no edit: the file keeps its weight, `shunt save` does not write it, and it is gone with the daemon. A
//! reload leaves it as long as the backend is there; who is removed and added again comes back with the file's
//! weight. It is seen as long as it lasts, in `shunt services` and `shunt diff` and as a metric: nobody shall forget
//! it.
//!
//! The deadline is kept by the tenth of a second. Connections are ended for one request at a time: if somebody clears
//! some just then, it waits for its turn.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::admin::answers::clear;
use super::admin::answers::dump::AddressFilter;
use super::admin::view::{ByHand, EditFailure, EditKind, Hand, Handed, Reload};
use super::config::plan::{Service, ServiceKey};
use super::edit::EditError;
use super::effective::Held;
use super::parts::Configure;
use super::runtime::Control;
use super::words::count;
use crate::ids::BackendId;

/// Longest deadline: a week.
const DEADLINE_MAX_S: u64 = 7 * 86_400;
/// As in the file.
const WEIGHT_MAX: u32 = 65_535;

impl<C: Configure> Control<C> {
    /// Does with a backend what the operator wants, or changes nothing.
    pub(super) fn hand(&mut self, asked: &Hand) -> Result<Handed, EditFailure> {
        let (service, backend) = self.backend_named(asked.service(), asked.backend())?;
        let key = service.key();
        let held = held(asked, Instant::now())?;
        let old = self.hands.clone();
        match held {
            Some(held) => self.hands.set(key.clone(), backend, held),
            None if self.hands.take_back(&key, backend) => {}
            None => return Err(refused(format!("nothing is set by hand for backend {backend}"))),
        }
        if let Err(error) = self.publish() {
            self.hands = old;
            return Err(refused(error));
        }
        self.note_hands();
        if self.voice.may_say(asked.service(), Instant::now()) {
            tracing::info!(service = asked.service(), %backend, %asked, "by hand");
        }
        Ok(self.handed(asked.service(), &key, backend))
    }

    /// A backend by the names people use.
    fn backend_named(
        &self,
        service: &str,
        backend: &str,
    ) -> Result<(&Service, SocketAddr), EditFailure> {
        let found = self.plan.services.iter().find(|it| it.name == service);
        let found = found.ok_or_else(|| EditError::NoService(format!("`{service}`")))?;
        let filter = AddressFilter::parse("backend", backend);
        let filter = filter.map_err(|error| invalid(error.to_string()))?;
        let all = found.backends.iter().map(|it| it.address);
        let mut meant = all.filter(|address| filter.matches(*address));
        match (meant.next(), meant.next()) {
            (Some(address), None) => Ok((found, address)),
            (Some(_), Some(_)) => Err(invalid(format!(
                "several backends of `{service}` are {backend}: say the port too"
            ))),
            (None, _) => {
                Err(EditError::NoBackend { service: service.into(), backend: backend.into() }
                    .into())
            }
        }
    }

    fn handed(&self, service: &str, key: &ServiceKey, backend: SocketAddr) -> Handed {
        let directory = self.sources.directory();
        let of_name = directory.names.services.iter().filter(|it| it.name == service);
        let all = of_name.flat_map(|it| directory.all_backends_of(it.id));
        let mine = all.filter(|it| it.address == backend);
        let connections = mine.map(|it| self.sources.backend_connections(it.id)).sum();
        let by_hand = self.by_hand(key, backend);
        Handed { service: service.to_owned(), backend, by_hand, connections }
    }

    /// What the hand has done to a backend, for lists.
    pub(super) fn by_hand(&self, service: &ServiceKey, backend: SocketAddr) -> Option<ByHand> {
        let Held { weight, ends } = self.hands.of(service, backend)?;
        let left = ends.map(|at| at.saturating_duration_since(Instant::now()));
        Some(ByHand { weight, ends_in_s: left.map(|left| left.as_secs()) })
    }

    /// All backends that something is set for, in the order of the file.
    pub(super) fn all_by_hand(&self) -> Vec<Handed> {
        if self.hands.is_empty() {
            return Vec::new();
        }
        let directory = self.sources.directory();
        let mut ids = HashMap::<(&str, SocketAddr), Vec<BackendId>>::new();
        for entry in &directory.names.backends {
            let service = directory.names.service(entry.service);
            let name = service.map_or("", |service| service.name.as_str());
            ids.entry((name, entry.address)).or_default().push(entry.id);
        }
        let mut all = Vec::with_capacity(self.hands.len());
        for service in &self.plan.services {
            let (key, name) = (service.key(), service.name.as_str());
            for backend in service.backends.iter().map(|it| it.address) {
                let Some(by_hand) = self.by_hand(&key, backend) else { continue };
                let mine = ids.get(&(name, backend)).into_iter().flatten();
                let connections = mine.map(|id| self.sources.backend_connections(*id)).sum();
                let (service, by_hand) = (name.to_owned(), Some(by_hand));
                all.push(Handed { service, backend, by_hand, connections });
            }
        }
        all
    }

    /// A reload leaves them, and says so.
    pub(super) fn mention_hands(&self, outcome: &mut Reload) {
        if outcome.result.success() && !self.hands.is_empty() {
            let many = count(self.hands.len(), "backend");
            outcome.message = format!("{}; {many} as set by hand", outcome.message);
        }
    }

    /// The metric.
    pub(super) fn note_hands(&self) {
        self.sources.slow.by_hand.set(self.hands.len() as u64);
    }

    /// Ends the connections of a drain whose time is over: one drain at a time, as clearing is.
    pub(super) fn end_drains(&mut self) {
        if self.clears.active() || self.publisher.is_clearing() {
            return;
        }
        let Some((key, backend)) = self.hands.over(Instant::now()) else { return };
        let service = self.plan.services.iter().find(|service| service.key() == key);
        let Some(service) = service.map(|service| service.name.clone()) else { return };
        if self.voice.may_say(&service, Instant::now()) {
            tracing::info!(service, %backend, "the drain's deadline is over: its connections are ended");
        }
        let (service, backend) = (Some(service), Some(backend.to_string()));
        let asked = clear::Parameters { service, backend, all: false };
        // Nobody waits for the answer: lists show what is left.
        let (reply, _) = oneshot::channel();
        let directory = self.sources.directory();
        self.clears.begin(&asked, &directory, (&self.publisher, self.cores.len()), reply);
    }
}

/// What is to be set; `None` takes back.
fn held(asked: &Hand, now: Instant) -> Result<Option<Held>, EditFailure> {
    match *asked {
        Hand::Drain { deadline_s: Some(seconds), .. } if seconds > DEADLINE_MAX_S => {
            Err(invalid(format!("a deadline of {seconds} s: expected at most {DEADLINE_MAX_S} s")))
        }
        Hand::Drain { deadline_s, .. } => {
            let ends = deadline_s.map(|seconds| now + Duration::from_secs(seconds));
            Ok(Some(Held { weight: 0, ends }))
        }
        Hand::Weight { weight, .. } if weight > WEIGHT_MAX => {
            Err(invalid(format!("weight {weight} is out of range (0 to {WEIGHT_MAX})")))
        }
        Hand::Weight { weight, .. } => Ok(Some(Held { weight, ends: None })),
        Hand::Undrain { .. } => Ok(None),
    }
}

fn invalid(error: String) -> EditFailure {
    EditFailure { error, kind: EditKind::Invalid }
}

fn refused(error: String) -> EditFailure {
    EditFailure { error, kind: EditKind::Refused }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_a_week_at_most_and_a_weight_what_the_file_may_say() {
        let (service, backend) = ("web".to_owned(), "10.44.0.11".to_owned());
        let drain = |deadline_s| Hand::Drain {
            service: service.clone(),
            backend: backend.clone(),
            deadline_s,
        };
        let weigh =
            |weight| Hand::Weight { service: service.clone(), backend: backend.clone(), weight };
        let now = Instant::now();
        let until = |seconds| Some(now + Duration::from_secs(seconds));
        let table = [
            (drain(None), Ok(Some(Held { weight: 0, ends: None }))),
            (drain(Some(0)), Ok(Some(Held { weight: 0, ends: Some(now) }))),
            (drain(Some(604_800)), Ok(Some(Held { weight: 0, ends: until(604_800) }))),
            (drain(Some(604_801)), Err("expected at most 604800 s")),
            (drain(Some(u64::MAX)), Err("expected at most 604800 s")),
            (weigh(65_535), Ok(Some(Held { weight: 65_535, ends: None }))),
            (weigh(65_536), Err("out of range (0 to 65535)")),
        ];
        for (asked, expected) in table {
            match (held(&asked, now), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{asked}"),
                (Err(failure), Err(words)) => {
                    assert_eq!(failure.kind, EditKind::Invalid, "{asked}");
                    assert!(failure.error.contains(words), "{}", failure.error);
                }
                (found, expected) => panic!("{asked}: {found:?} is not {expected:?}"),
            }
        }
    }
}
