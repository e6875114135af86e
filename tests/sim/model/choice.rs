//! Who may be chosen for a new connection: by its template, by a hash, else anybody who is open.
//!
//! Of a hash nothing is computed here. Its promise is: the same client comes to the same backend, whichever
//! worker is asked, as long as the backends and their weights stay what they are.

use std::net::IpAddr;

use shunt::dataplane::snapshot::Scheduler;

use super::Model;
use super::persistence::Memory;
use super::states::State;
use crate::config::{Backend, Place};
use crate::packet::Flow;

/// What is hashed of a client's packet, by service.
pub(super) type Hashed = (usize, IpAddr, u16);

/// Who may be chosen.
#[derive(Clone, Debug)]
pub(super) struct Choice {
    pub(super) places: Vec<Place>,
    /// May nobody be, all the same?
    pub(super) may_refuse: bool,
    /// What the client's template says.
    pub(super) memory: Memory,
    /// Those that had room.
    pub(super) had_room: Vec<Place>,
    /// Is one known by a hash?
    pub(super) is_hashed: bool,
    /// Is what comes of it what the hash says?
    teaches: Option<Hashed>,
}

/// Is it that one?
fn is_named(scheduler: Scheduler, name: &str) -> bool {
    Scheduler::named(name) == Some(scheduler)
}

impl Model {
    /// Who may be chosen for a connection.
    pub(super) fn choice(&self, service: usize, client: Flow) -> Choice {
        let open = self.open(service);
        let (count, memory) =
            (self.config.services[service].backends.len(), self.memory(service, client.from.ip()));
        let all = (0..count).map(|backend| Place { service, backend });
        let had_room: Vec<Place> =
            all.filter(|place| self.is_usable(*place) && !self.is_full(*place)).collect();
        let by_scheduler = self.scheduled(service, client, open);
        let mut choice = Choice { memory, had_room, ..by_scheduler };
        match memory {
            Memory::Sure(place) if choice.had_room.contains(&place) => {
                (choice.places, choice.may_refuse, choice.teaches) = (vec![place], false, None);
            }
            Memory::Maybe(place) if choice.had_room.contains(&place) => {
                choice.may_refuse |= choice.places.is_empty();
                choice.places.push(place);
                choice.teaches = None;
            }
            Memory::Unknown => {
                choice.may_refuse |= choice.places.is_empty();
                choice.places.extend(&choice.had_room);
                choice.teaches = None;
            }
            _ => {}
        }
        choice
    }

    /// Backends that take new connections.
    fn open(&self, service: usize) -> Vec<Place> {
        let found = &self.config.services[service];
        // Who takes turns or hashes does not ask whether a backend can be reached; who compares loads does.
        let asks =
            !["rr", "wrr", "sh", "dh", "mh", "qh"].iter().any(|it| is_named(found.scheduler, it));
        let open = |backend: &Backend| {
            backend.weight.is_some_and(|w| w > 0) && (!asks || backend.reachable)
        };
        let backends = found.backends.iter().enumerate();
        let places =
            backends.filter(|(_, it)| open(it)).map(|(backend, _)| Place { service, backend });
        places.filter(|place| !self.is_full(*place)).collect()
    }

    /// Those of them that the scheduler may choose.
    fn scheduled(&self, service: usize, client: Flow, open: Vec<Place>) -> Choice {
        let found = &self.config.services[service];
        let any = Choice {
            places: open,
            may_refuse: false,
            memory: Memory::None,
            had_room: vec![],
            is_hashed: false,
            teaches: None,
        };
        if is_named(found.scheduler, "ovf") {
            return self.overflowing(any);
        }
        let Some(key) = self.hashed(service, client) else { return any };
        let there = found.backends.iter().filter(|backend| backend.weight.is_some()).count();
        let is_closed = any.places.len() < there;
        let looks_on = found.flags.fallback || is_named(found.scheduler, "qh");
        let nobody = any.places.is_empty();
        match self.hashes.get(&key) {
            Some(Some(place)) if any.places.contains(place) => {
                Choice { places: vec![*place], is_hashed: true, ..any }
            }
            // Its backend is full.
            Some(Some(_)) if looks_on => any,
            Some(_) => Choice { places: vec![], ..any },
            None => Choice {
                may_refuse: is_closed && !looks_on && !nobody,
                teaches: (!is_closed || !looks_on).then_some(key),
                ..any
            },
        }
    }

    /// The highest weight of those that have no more active ones than their weight. Several workers
    /// do not hear at once of what the others' connections turn into.
    fn overflowing(&self, any: Choice) -> Choice {
        let weight = |place: &Place| self.config.backend(*place).weight.unwrap_or(0);
        let has_room = |place: &&Place| self.active(**place) <= weight(place);
        if self.workers > 1 {
            let is_anybody_full = any.places.iter().any(|place| self.active(*place) > 0);
            return Choice { may_refuse: is_anybody_full && !any.places.is_empty(), ..any };
        }
        let most = any.places.iter().filter(has_room).map(weight).max();
        let is_it = |place: &&Place| has_room(place) && Some(weight(place)) == most;
        Choice { places: any.places.iter().filter(is_it).copied().collect(), ..any }
    }

    /// Connections that count as active.
    fn active(&self, place: Place) -> u32 {
        use super::sctp::Association::SctpEstablished;
        let is_active = |state: State| {
            matches!(state, State::Established | State::SynSent | State::SynRecv)
                || state == State::Sctp(SctpEstablished)
        };
        let there = self.connections.values().filter(|it| it.place == place && is_active(it.state));
        u32::try_from(there.count()).unwrap()
    }

    /// What is hashed, if anything is.
    fn hashed(&self, service: usize, client: Flow) -> Option<Hashed> {
        let found = &self.config.services[service];
        // What is not QUIC goes by the client's address and port.
        let has_port = found.flags.port || is_named(found.scheduler, "qh");
        let port = if has_port { client.from.port() } else { 0 };
        if is_named(found.scheduler, "dh") {
            return Some((service, client.to.ip(), 0));
        }
        let hashes = ["sh", "mh", "qh"].iter().any(|name| is_named(found.scheduler, name));
        hashes.then_some((service, client.from.ip(), port))
    }

    /// Who may have a connection of another box: those of whom a hash of its flow says so to every box. Is that
    /// certain?
    pub(super) fn anothers(&self, flow: Flow) -> (Vec<Place>, bool) {
        let service = self.config.service_at(flow.protocol, flow.from.ip(), flow.to);
        let Some(service) = service.filter(|service| self.hashed(*service, flow).is_some()) else {
            return (vec![], false);
        };
        let found = &self.config.services[service];
        let is_alike = found.persistence.is_none() && !is_named(found.scheduler, "qh");
        if !is_alike || !self.config.admits(service, flow.from.ip()) {
            return (vec![], false);
        }
        let choice = self.scheduled(service, flow, self.open(service));
        let is_other = |place: &Place| !self.config.backend(*place).is_client(flow.from.ip());
        let places = choice.places.into_iter().filter(is_other).collect();
        (places, choice.is_hashed)
    }

    /// That one was chosen, or nobody.
    pub(super) fn note_hash(&mut self, choice: &Choice, place: Option<Place>) {
        let Some(key) = choice.teaches else { return };
        let service = key.0;
        let count = self.config.services[service].backends.len();
        let mut all = (0..count).map(|backend| Place { service, backend });
        // Who is refused because one is full is not refused for long.
        if place.is_some() || !all.any(|place| self.is_full(place)) {
            self.hashes.insert(key, place);
        }
    }

    /// The backends of a service, or their weights, are others now.
    pub(super) fn hash_anew(&mut self, service: usize) {
        self.hashes.retain(|(of, ..), _| *of != service);
    }
}
