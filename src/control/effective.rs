//! The plan that is compiled: what the file says, changed by who is healthy and by the operator's hand.
//!
//! ```text
//!  running plan (file) ─┐
//!  verdicts (health)   ─┼─► effective ─► compile ─► workers
//!  hands (operator)    ─┘
//! ```
//!
//! Three owners, none of whom writes into what is another's: a reload replaces the plan and leaves the
//! verdicts, a check that fails edits no plan, and a weight set by hand is there until it is taken back. What
//! comes out is made anew whenever one of them changes, by a function that remembers nothing.
//!
//! The order of precedence, backend by backend: the file's weight; the operator's in its place; then what
//! health allows, which only ever takes away. So a backend that fails its checks gets nothing whatever was
//! set by hand, and one drained by hand stays drained when its checks pass again.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::time::Instant;

use super::config::plan::{Plan, Service, ServiceKey};

/// As in the file.
const WEIGHT_MAX: u32 = 65_535;

/// What the operator has set for one backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// In the place of the file's weight; 0 drains.
    pub weight: u32,
    /// When the connections that are left then are ended.
    pub ends: Option<Instant>,
}

/// What the operator has set by hand, beside the file: weights (0 drains). Empty as a rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hands {
    services: HashMap<ServiceKey, HashMap<SocketAddr, Held>>,
}

impl Hands {
    /// This in the place of the file's weight and of what was set before, until it is taken back.
    pub fn set(&mut self, service: ServiceKey, backend: SocketAddr, held: Held) {
        self.services.entry(service).or_default().insert(backend, held);
    }

    /// The file's weight again. False if none was set.
    pub fn take_back(&mut self, service: &ServiceKey, backend: SocketAddr) -> bool {
        let Some(backends) = self.services.get_mut(service) else { return false };
        let was_set = backends.remove(&backend).is_some();
        if backends.is_empty() {
            self.services.remove(service);
        }
        was_set
    }

    /// What is set for a backend, if anything is.
    pub fn of(&self, service: &ServiceKey, backend: SocketAddr) -> Option<Held> {
        self.services.get(service)?.get(&backend).copied()
    }

    /// How many backends something is set for.
    pub fn len(&self) -> usize {
        self.services.values().map(HashMap::len).sum()
    }

    /// Is nothing set?
    pub fn is_empty(&self) -> bool {
        self.services.is_empty()
    }

    /// A backend whose time is over, once. It stays as it is set.
    pub fn over(&mut self, now: Instant) -> Option<(ServiceKey, SocketAddr)> {
        let is_over = |held: &Held| held.ends.is_some_and(|end| end <= now);
        self.services.iter_mut().find_map(|(service, backends)| {
            let (address, held) = backends.iter_mut().find(|(_, held)| is_over(held))?;
            held.ends = None;
            Some((service.clone(), *address))
        })
    }

    /// Forgets what is about backends that `plan` does not have.
    pub fn follow(&mut self, plan: &Plan) {
        let known: HashMap<ServiceKey, &Service> =
            plan.services.iter().map(|service| (service.key(), service)).collect();
        self.services.retain(|key, backends| {
            let Some(service) = known.get(key) else { return false };
            let there: HashSet<SocketAddr> = service.backends.iter().map(|b| b.address).collect();
            backends.retain(|address, _| there.contains(address));
            !backends.is_empty()
        });
    }
}

/// What health checks allow a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// No new connections; those that are there live on.
    Drained,
    /// Not there at all: its connections end.
    Removed,
    /// So much of its share, in a hundred: it has just come back.
    Rising(u32),
}

/// What health checks say, of backends about which they have anything to say. Empty if all are well.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdicts {
    /// By service, then backend.
    pub services: HashMap<ServiceKey, HashMap<SocketAddr, Verdict>>,
}

/// What is compiled: `plan` itself as long as nobody has anything to say against it.
pub fn effective<'a>(plan: &'a Plan, verdicts: &Verdicts, hands: &Hands) -> Cow<'a, Plan> {
    if verdicts.services.is_empty() && hands.is_empty() {
        return Cow::Borrowed(plan);
    }
    let mut plan = plan.clone();
    for service in &mut plan.services {
        let key = service.key();
        if let Some(held) = hands.services.get(&key) {
            take_hands(service, held);
        }
        if let Some(verdicts) = verdicts.services.get(&key) {
            take_verdicts(service, verdicts);
        }
    }
    Cow::Owned(plan)
}

fn take_hands(service: &mut Service, held: &HashMap<SocketAddr, Held>) {
    for backend in &mut service.backends {
        if let Some(held) = held.get(&backend.address) {
            backend.weight = held.weight;
        }
    }
}

fn take_verdicts(service: &mut Service, verdicts: &HashMap<SocketAddr, Verdict>) {
    let scale = scale(service, verdicts);
    service.backends.retain_mut(|backend| {
        let weight = backend.weight.saturating_mul(scale);
        backend.weight = match verdicts.get(&backend.address) {
            Some(Verdict::Removed) => return false,
            Some(Verdict::Drained) => 0,
            // Who may have something gets something.
            Some(Verdict::Rising(share)) => share_of(weight, *share),
            None => weight,
        };
        true
    });
}

fn share_of(weight: u32, percent: u32) -> u32 {
    let share = u64::from(weight) * u64::from(percent) / 100;
    u32::try_from(share).unwrap_or(u32::MAX).max(weight.min(1))
}

/// By how much all weights of a service are multiplied while one of its backends starts slowly: shares
/// of a weight of 1 cannot be told apart. Schedulers compare weights, and do not mind.
fn scale(service: &Service, verdicts: &HashMap<SocketAddr, Verdict>) -> u32 {
    if !verdicts.values().any(|verdict| matches!(verdict, Verdict::Rising(_))) {
        return 1;
    }
    let most = service.backends.iter().map(|backend| backend.weight).max().unwrap_or(1);
    (WEIGHT_MAX / most.max(1)).clamp(1, 100)
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::*;
    use crate::control::config::{Machine, parse_for};

    /// Two services; the first has two backends.
    fn plan() -> Plan {
        let file = include_str!("config/tests/base.toml");
        parse_for(file, Path::new("shunt.toml"), &Machine::with_cpus(4)).unwrap().plan
    }

    /// A weight without an end.
    fn held(weight: u32) -> Held {
        Held { weight, ends: None }
    }

    fn weights(plan: &Plan) -> Vec<(SocketAddr, u32)> {
        let service = plan.services.first().unwrap();
        service.backends.iter().map(|backend| (backend.address, backend.weight)).collect()
    }

    /// Who sets what, and what becomes of the first backend: its weight, or nothing.
    #[test]
    fn health_only_takes_away_and_hands_take_the_files_place() {
        let plan = plan();
        let key = plan.services[0].key();
        let backend = plan.services[0].backends[0];
        let table = [
            (None, None, Some(backend.weight)),
            (Some(7), None, Some(7)),
            (Some(0), None, Some(0)),
            (None, Some(Verdict::Drained), Some(0)),
            (Some(7), Some(Verdict::Drained), Some(0)),
            (None, Some(Verdict::Removed), None),
            (Some(7), Some(Verdict::Removed), None),
        ];
        for (hand, verdict, expected) in table {
            let (mut hands, mut verdicts) = (Hands::default(), Verdicts::default());
            if let Some(weight) = hand {
                hands.set(key.clone(), backend.address, held(weight));
            }
            if let Some(verdict) = verdict {
                verdicts.services.entry(key.clone()).or_default().insert(backend.address, verdict);
            }
            let effective = effective(&plan, &verdicts, &hands);
            let is_first = |(address, _): &&(SocketAddr, u32)| *address == backend.address;
            let found = weights(&effective).iter().find(is_first).map(|(_, weight)| *weight);
            assert_eq!(found, expected, "{hand:?} {verdict:?}");
            let others = |plan: &Plan| weights(plan).split_off(1);
            let rest = if expected.is_some() { others(&effective) } else { weights(&effective) };
            assert_eq!(rest, others(&plan), "nobody else is concerned");
            assert_eq!(effective.services[1..], plan.services[1..]);
        }
    }

    #[test]
    fn without_verdicts_and_hands_nothing_is_copied() {
        let plan = plan();
        let effective = effective(&plan, &Verdicts::default(), &Hands::default());
        assert!(matches!(effective, Cow::Borrowed(_)));
    }

    #[test]
    fn a_weight_set_by_hand_goes_when_it_is_taken_back_or_its_backend_leaves() {
        let mut plan = plan();
        let (key, address) = (plan.services[0].key(), plan.services[0].backends[0].address);
        let mut hands = Hands::default();
        hands.set(key.clone(), address, held(0));
        hands.follow(&plan);
        assert_eq!(hands.of(&key, address), Some(held(0)), "a reload leaves it");
        assert!(hands.take_back(&key, address));
        assert!(!hands.take_back(&key, address));
        assert_eq!(hands, Hands::default());
        hands.set(key, address, held(0));
        plan.services[0].backends.remove(0);
        hands.follow(&plan);
        assert_eq!(hands, Hands::default());
    }

    #[test]
    fn a_time_is_over_once_and_a_later_word_takes_the_place_of_an_earlier() {
        let plan = plan();
        let (key, address) = (plan.services[0].key(), plan.services[0].backends[0].address);
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let until = |ends| Held { weight: 0, ends: Some(ends) };
        let mut hands = Hands::default();
        hands.set(key.clone(), address, until(now));
        hands.set(key.clone(), address, until(now + second));
        assert_eq!(hands.over(now), None, "the later word counts");
        assert_eq!(hands.over(now + second), Some((key.clone(), address)));
        assert_eq!(hands.over(now + second), None, "once");
        assert_eq!(hands.of(&key, address), Some(held(0)), "it stays drained");
        hands.set(key.clone(), address, until(now));
        hands.take_back(&key, address);
        assert_eq!(hands.over(now), None, "taken back");
    }
}
