//! Who goes where its last connections went.
//!
//! A client's template is there for as long as its service says from its last connection on, and goes on while
//! a connection of it lives: at least one look of the sweep in twenty seconds puts its end off by
//! a minute. When exactly that is, nobody says. So there are times when the template is *surely* there, and
//! then the client must go there; times when it may be; and times when it cannot be.
//!
//! What was refused after a backend had been chosen may have left a template for one that nobody knows.

use std::net::IpAddr;

use super::{Connection, Model};
use crate::config::Place;
use crate::packet::Flow;

/// How long the sweep puts a template's end off.
const REFRESH_MS: u64 = 60_000;
/// The sweep has put it off within so much, and a round longer.
const LOOKED_MS: u64 = 24_000;

/// Service, its epoch, the client's network.
pub(super) type Key = (usize, u32, IpAddr);

#[derive(Clone, Copy, Debug)]
pub(super) struct Template {
    /// `None`: nobody knows.
    place: Option<Place>,
    /// It is there until then, and it is not from then on.
    sure_ms: u64,
    may_ms: u64,
    /// Since when it is for that backend.
    since_ms: u64,
}

/// What a client's template says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Memory {
    None,
    Sure(Place),
    Maybe(Place),
    Unknown,
}

/// The first bits of an address.
pub(super) fn network(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V4((u32::from(v4) & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V6((u128::from(v6) & mask).into())
        }
    }
}

impl Model {
    /// Whose template a client's connections to a service have, if they have any.
    fn key(&self, service: usize, client: IpAddr) -> Option<Key> {
        let terms = self.config.services[service].persistence?;
        Some((service, terms.epoch, network(client, terms.prefix)))
    }

    /// What the client's template says of who may be asked.
    pub(super) fn memory(&self, service: usize, client: IpAddr) -> Memory {
        let known = self.key(service, client).and_then(|key| self.templates.get(&key));
        match known {
            Some(it) if self.now_ms < it.may_ms => match it.place {
                None => Memory::Unknown,
                Some(place) if !self.is_usable(place) => Memory::None,
                Some(place) if self.now_ms < it.sure_ms => Memory::Sure(place),
                Some(place) => Memory::Maybe(place),
            },
            _ => Memory::None,
        }
    }

    /// May a client go on there, as far as that is not a question of room?
    pub(super) fn is_usable(&self, place: Place) -> bool {
        let terms = self.config.services[place.service].persistence;
        let to_drained = terms.is_some_and(|terms| terms.to_drained);
        let backend = self.config.backend(place);
        backend.reachable && backend.weight.is_some_and(|weight| weight > 0 || to_drained)
    }

    /// A connection was made to `place`, when the template said that.
    pub(super) fn kept(&mut self, client: Flow, place: Place, memory: Memory, had_room: &[Place]) {
        let Some(key) = self.key(place.service, client.from.ip()) else { return };
        let terms = self.config.services[place.service].persistence;
        let until = self.now_ms + terms.map_or(0, |terms| terms.timeout_ms.into());
        let count = self.config.services[place.service].backends.len();
        let all = (0..count).map(|backend| Place { service: place.service, backend });
        let is_full = |place: &Place| self.is_usable(*place) && !had_room.contains(place);
        // Who is full keeps its clients' templates.
        let kept = match memory {
            Memory::Sure(other) => Some(other),
            Memory::Maybe(other) if other != place && is_full(&other) => None,
            Memory::Unknown if { all }.any(|other| other != place && is_full(&other)) => None,
            _ => Some(place),
        };
        let now_ms = self.now_ms;
        let new = Template { place: kept, sure_ms: until, may_ms: until, since_ms: now_ms };
        let it = self.templates.entry(key).or_insert(new);
        if it.place != kept {
            (it.place, it.since_ms) = (kept, now_ms);
        }
        // It ends no sooner than it would have, but what may be over begins anew.
        it.sure_ms = until.max(if now_ms < it.sure_ms { it.sure_ms } else { 0 });
        it.may_ms = it.may_ms.max(until);
    }

    /// It was refused after a backend had been chosen: which one it was, nobody says.
    pub(super) fn perhaps_kept(&mut self, client: Flow, service: usize, memory: Memory) {
        let Some(key) = self.key(service, client.from.ip()) else { return };
        let terms = self.config.services[service].persistence;
        let until = self.now_ms + terms.map_or(0, |terms| terms.timeout_ms.into());
        let now_ms = self.now_ms;
        let unknown = Template { place: None, sure_ms: 0, may_ms: until, since_ms: now_ms };
        let it = self.templates.entry(key).or_insert(unknown);
        it.may_ms = it.may_ms.max(until);
        if let Memory::Sure(_) = memory {
            it.sure_ms = it.sure_ms.max(until);
        } else {
            (it.place, it.sure_ms) = (None, 0);
        }
    }

    /// Connections that live keep their templates.
    pub(super) fn refresh(&mut self) {
        let (now_ms, changed_ms) = (self.now_ms, self.changed_ms);
        for (client, connection) in &self.connections {
            let Connection { place, made_ms, .. } = *connection;
            let Some(key) = self.key(place.service, client.from.ip()) else { continue };
            let Some(it) = self.templates.get_mut(&key) else { continue };
            if now_ms >= it.may_ms || it.place.is_some_and(|other| other != place) {
                continue;
            }
            it.may_ms = it.may_ms.max(now_ms + REFRESH_MS);
            let since_ms = made_ms.max(it.since_ms).max(changed_ms);
            let is_looked_at = now_ms >= since_ms + LOOKED_MS && now_ms < it.sure_ms;
            if is_looked_at && it.place.is_some() {
                it.sure_ms = it.sure_ms.max(now_ms + REFRESH_MS - LOOKED_MS);
            }
        }
    }

    /// Are there connections that keep a template? Then time must not jump.
    pub(crate) fn keeps_templates(&self) -> bool {
        let services = &self.config.services;
        self.connections.values().any(|it| services[it.place.service].persistence.is_some())
    }
}
