//! What has changed since the last look, to be told to who watches: backends, quorums, next hops, TAPs, drains.
//!
//! ```text
//! publish      ─► health of backends and services ─┐
//! neighbours   ─► next hops that are missing      ─┼─► compared with what was seen last ─► Bulletin
//! housekeeping ─► TAPs; who drains                ─┘
//! ```
//!
//! What the loop itself does (reloads, edits) it tells where it does it. What happens to it is found here by
//! comparison, in one place, with what metrics are made of: an event and a metric never disagree, and who
//! judges health need not know that somebody watches.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::admin::answers::events::{Changes, What};
use super::admin::view::{Edited, Reload};
use super::neighbors::View;
use super::parts::Configure;
use super::runtime::Control;
use crate::ids::BackendId;
use crate::stats::health::{BackendHealth, Wards};

/// What was seen last.
#[derive(Debug, Default)]
pub(super) struct Seen {
    wards: Arc<Wards>,
    /// Addresses without a next hop.
    lost: BTreeSet<IpAddr>,
    /// By port: is its TAP up? Empty before the first look.
    taps: Vec<bool>,
    drift: u64,
    /// Ends of the thread of health checks.
    thread_ends: u64,
    /// Backends that get no new connections and have old ones.
    draining: HashMap<BackendId, (String, SocketAddr)>,
}

/// Somebody who is up now or down, and was not.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Turn {
    Backend { service: String, backend: SocketAddr, is_up: bool },
    Quorum { service: String, is_whole: bool },
}

impl Seen {
    /// Who has turned. Somebody new has not.
    fn turns(&mut self, wards: &Arc<Wards>) -> Vec<Turn> {
        let before = std::mem::replace(&mut self.wards, Arc::clone(wards));
        let mut turns = Vec::new();
        // As nearly always: most snapshots are for other reasons.
        if before == *wards {
            return turns;
        }
        let key = |it: &BackendHealth| (it.service.clone(), it.address);
        let was_up: HashMap<_, _> = before.backends.iter().map(|it| (key(it), it.is_up)).collect();
        for it in &wards.backends {
            let (service, backend) = key(it);
            let is_up = it.is_up;
            if was_up.get(&(service.clone(), backend)).is_some_and(|was_up| *was_up != is_up) {
                turns.push(Turn::Backend { service, backend, is_up });
            }
        }
        let was_whole: HashMap<_, _> =
            before.services.iter().map(|it| (it.service.as_str(), it.is_whole)).collect();
        for it in &wards.services {
            let was_whole = was_whole.get(it.service.as_str());
            if was_whole.is_some_and(|was_whole| *was_whole != it.is_whole) {
                turns.push(Turn::Quorum { service: it.service.clone(), is_whole: it.is_whole });
            }
        }
        turns
    }

    /// What has become of next hops.
    fn next_hops(&mut self, view: &View) -> Vec<What> {
        let unrouted: BTreeSet<_> = view.unrouted.iter().copied().collect();
        let lost: BTreeSet<_> = unrouted.iter().chain(&view.unanswered).copied().collect();
        let before = std::mem::replace(&mut self.lost, lost);
        let found = before.difference(&self.lost).filter(|it| view.ways.contains_key(it));
        let found = found.map(|address| What::NextHopFound { address: *address });
        let lost = self.lost.difference(&before).map(|address| What::NextHopLost {
            address: *address,
            routed: !unrouted.contains(address),
        });
        found.chain(lost).collect()
    }

    /// What has become of TAPs, `up` by port.
    fn taps(&mut self, ports: &[String], up: Vec<bool>) -> Vec<What> {
        let before = std::mem::replace(&mut self.taps, up);
        let changed = ports.iter().zip(&before).zip(&self.taps);
        let changed = changed.filter(|((_, was_up), is_up)| was_up != is_up);
        let told = changed.map(|((port, _), is_up)| match is_up {
            true => What::TapUp { port: port.clone() },
            false => What::TapDown { port: port.clone() },
        });
        told.collect()
    }

    /// What runs differs from the file in so many lines.
    fn drift(&mut self, differences: u64) -> Option<What> {
        let before = std::mem::replace(&mut self.drift, differences);
        match (before, differences) {
            (0, 0) => None,
            (0, differences) => Some(What::DriftAppeared { differences }),
            (_, 0) => Some(What::DriftGone),
            _ => None,
        }
    }

    /// The thread of health checks has ended so often.
    fn thread_ends(&mut self, ends: u64) -> Option<What> {
        let before = std::mem::replace(&mut self.thread_ends, ends);
        (before != ends).then_some(What::CheckThreadEnded)
    }
}

impl<C: Configure> Control<C> {
    /// Is the thread of health checks the one that there was?
    pub(super) fn notice_checks(&mut self) {
        let ends = self.sources.slow.health.thread_ends.get();
        if let Some(what) = self.seen.thread_ends(ends) {
            self.bulletin.tell(what);
        }
    }

    /// A snapshot was published: who is up by it?
    pub(super) fn notice_health(&mut self) {
        let turns = self.seen.turns(&self.sources.slow.health.wards());
        if turns.is_empty() {
            return;
        }
        let services = &self.plan.services;
        let keys: HashMap<_, _> = services.iter().map(|it| (it.name.as_str(), it.key())).collect();
        let why = |service: &str, backend| {
            let health = self.health.backend(keys.get(service)?, backend)?;
            health.why()
        };
        let told: Vec<_> = turns.into_iter().map(|turn| what(turn, why)).collect();
        for what in told {
            self.bulletin.tell(what);
        }
    }

    /// Next hops changed.
    pub(super) fn notice_next_hops(&mut self) {
        for what in self.seen.next_hops(&self.view) {
            self.bulletin.tell(what);
        }
    }

    /// TAPs were looked at.
    pub(super) fn notice_taps(&mut self) {
        let up = self.sources.slow.taps.iter().take(self.sources.ports.len());
        let up = up.map(|tap| tap.up.get() == 1).collect();
        for what in self.seen.taps(&self.sources.ports, up) {
            self.bulletin.tell(what);
        }
    }

    /// What runs or what the file says has changed.
    pub(super) fn notice_drift(&mut self, differences: u64) {
        if let Some(what) = self.seen.drift(differences) {
            self.bulletin.tell(what);
        }
    }

    /// Who of those that get no new connections has lost the last old one?
    pub(super) fn notice_drains(&mut self) {
        let directory = self.sources.directory();
        let mut draining = HashMap::new();
        let mut before = std::mem::take(&mut self.seen.draining);
        for entry in &directory.names.backends {
            let current = self.snapshot.backend(entry.id).filter(|_| !entry.removed);
            if current.is_some_and(|backend| backend.weight > 0) {
                before.remove(&entry.id);
            } else if self.sources.backend_connections(entry.id) > 0 {
                let who = before.remove(&entry.id).or_else(|| directory.names.label(entry));
                draining.extend(who.map(|who| (entry.id, who)));
            }
        }
        self.seen.draining = draining;
        for (service, backend) in before.into_values() {
            self.bulletin.tell(What::Drained { service, backend });
        }
    }

    /// A reload has ended.
    pub(super) fn tell_reload(&mut self, outcome: &Reload) {
        self.bulletin.tell(What::Reload {
            result: outcome.result,
            message: outcome.message.clone(),
            changes: Changes::from(&outcome.changes[..]),
        });
    }

    /// What runs was edited.
    pub(super) fn tell_edit(&mut self, edited: &Edited) {
        let changes = Changes::from(&edited.changes[..]);
        self.bulletin.tell(What::Edited { version: edited.version, changes });
    }
}

fn what(turn: Turn, why: impl Fn(&str, SocketAddr) -> Option<String>) -> What {
    match turn {
        Turn::Backend { service, backend, is_up: true } => What::BackendUp { service, backend },
        Turn::Backend { service, backend, is_up: false } => {
            let why = why(&service, backend).unwrap_or_default();
            What::BackendDown { service, backend, why }
        }
        Turn::Quorum { service, is_whole: true } => What::QuorumBack { service },
        Turn::Quorum { service, is_whole: false } => What::QuorumLost { service },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::neighbors::Way;
    use crate::dataplane::snapshot::NextHop;
    use crate::ids::PortId;
    use crate::stats::health::ServiceHealth;
    use crate::wire::Mac;

    fn wards(backends: &[(&str, bool)], is_whole: bool) -> Arc<Wards> {
        let backend = |(address, is_up): &(&str, bool)| BackendHealth {
            service: "web".into(),
            address: address.parse().unwrap(),
            is_up: *is_up,
            downs: 0,
        };
        let services = vec![ServiceHealth { service: "web".into(), is_whole }];
        Arc::new(Wards { backends: backends.iter().map(backend).collect(), services })
    }

    #[test]
    fn who_turns_is_told_once_and_who_comes_or_goes_is_not() {
        let (one, two) = ("10.0.0.1:80", "10.0.0.2:80");
        let mut seen = Seen::default();
        assert_eq!(seen.turns(&wards(&[(one, true)], true)), vec![], "new");
        assert_eq!(seen.turns(&wards(&[(one, true), (two, false)], true)), vec![], "another");
        let turned = |address: &str, is_up| Turn::Backend {
            service: "web".into(),
            backend: address.parse().unwrap(),
            is_up,
        };
        let quorum = |is_whole| Turn::Quorum { service: "web".into(), is_whole };
        let down = wards(&[(one, false), (two, false)], false);
        assert_eq!(seen.turns(&down), vec![turned(one, false), quorum(false)]);
        assert_eq!(seen.turns(&down), vec![], "told already");
        let back = wards(&[(two, true)], true);
        assert_eq!(seen.turns(&back), vec![turned(two, true), quorum(true)], "one has gone");
    }

    #[test]
    fn next_hops_are_told_when_they_come_and_go_and_not_with_who_needs_them() {
        let address = |host| IpAddr::from([10, 0, 0, host]);
        let next_hop = NextHop { port: PortId(0), source: Mac([2; 6]), destination: Mac([4; 6]) };
        let way = Way { next_hop, our_address: address(100) };
        let view = |ways: &[u8], unrouted: &[u8], unanswered: &[u8]| View {
            ways: ways.iter().map(|host| (address(*host), way)).collect(),
            unrouted: unrouted.iter().map(|host| address(*host)).collect(),
            unanswered: unanswered.iter().map(|host| address(*host)).collect(),
        };
        let lost = |host, routed| What::NextHopLost { address: address(host), routed };
        let mut seen = Seen::default();
        assert_eq!(seen.next_hops(&view(&[1], &[2], &[3])), [lost(2, false), lost(3, true)]);
        assert_eq!(seen.next_hops(&view(&[1], &[2], &[3])), []);
        let found = What::NextHopFound { address: address(2) };
        assert_eq!(seen.next_hops(&view(&[1, 2], &[], &[])), [found], "3 is not wanted any more");
    }

    #[test]
    fn taps_drift_and_the_end_of_checks_are_told_when_they_change() {
        let ports = ["wan".to_owned(), "lan".to_owned()];
        let mut seen = Seen::default();
        assert_eq!(seen.taps(&ports, vec![true, false]), [], "the first look");
        let told = seen.taps(&ports, vec![false, true]);
        let (down, up) = (What::TapDown { port: "wan".into() }, What::TapUp { port: "lan".into() });
        assert_eq!(told, [down, up]);
        let told: Vec<_> = [0, 2, 3, 0, 0].into_iter().map(|n| seen.drift(n)).collect();
        let appeared = Some(What::DriftAppeared { differences: 2 });
        assert_eq!(told, [None, appeared, None, Some(What::DriftGone), None]);
        let told: Vec<_> = [0, 1, 1].into_iter().map(|n| seen.thread_ends(n)).collect();
        assert_eq!(told, [None, Some(What::CheckThreadEnded), None]);
    }
}
