//! Ids change hands: what was counted before is its former owner's.
//!
//! ```text
//! an id of a backend   ─ A's ─────────┐ ┌─ nobody's ─┐ ┌─ B's ──────►
//!                                     ▼ │            │ ▼
//! what it counted      0 ───────────► n ┴────────────┴ n ──────────► m      B has done m - n
//!                                     └─► carried: A's name, while it is there
//!                                     └─► left: the service A was of, packets only
//! ```
//!
//! Both are read once, so what is taken from one is what the other gets, whatever is added meanwhile.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};

use super::{Activity, BackendEntry, Directory, Made, Names, Refusals, ServiceEntry, Sources, add};
use crate::dataplane::cookie::Event;
use crate::dataplane::snapshot::{Protocol, ServiceAddress};
use crate::ids::{BackendId, ServiceId};
use crate::stats::volumes::Volumes;

/// What makes a service the same one.
type ServiceOwner = (String, Protocol, ServiceAddress);

/// What a service's id had counted when its owner got it.
#[derive(Clone, Debug)]
pub(super) struct ServiceBase {
    owner: ServiceOwner,
    pub(super) new_connections: u64,
    pub(super) refused: Refusals,
    pub(super) cookies: [u64; Event::COUNT],
    /// What passed through backends that are gone.
    pub(super) left: Volumes,
}

/// What a backend's id had counted when its owner got it.
#[derive(Clone, Debug)]
pub(super) struct BackendBase {
    /// With the service, which an edit may change.
    owner: (Option<ServiceOwner>, ServiceId, SocketAddr),
    pub(super) made: Made,
}

/// What a service's ids had counted that are no longer in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Carried {
    pub(super) refused: Refusals,
    pub(super) cookies: [u64; Event::COUNT],
    pub(super) volumes: Volumes,
}

impl Sources {
    /// Takes over new names. Ids that changed hands start counting at zero.
    pub fn rename(&self, names: Names) {
        let old = self.directory();
        let backend = |entry: &BackendEntry| (entry.id, self.backend_base(&old, &names, entry));
        let backends: HashMap<_, _> = names.backends.iter().map(backend).collect();
        let gone = self.gone(&old, &backends);
        let left = left(&gone);
        let service = |entry: &ServiceEntry| (entry.id, self.service_base(&old, &left, entry));
        let services: HashMap<_, _> = names.services.iter().map(service).collect();
        let carried_services = self.carry_services(&old, &names, (&services, &left));
        let carried_backends = carry_backends(&old, &names, &gone);
        let mut members = HashMap::<_, Vec<_>>::new();
        for entry in &names.backends {
            members.entry(entry.service).or_default().push(entry.id);
        }
        let directory = Arc::new(Directory {
            names,
            services,
            backends,
            carried_services,
            carried_backends,
            members,
        });
        *self.directory.lock().unwrap_or_else(PoisonError::into_inner) = directory;
    }

    fn service_base(
        &self,
        old: &Directory,
        left: &HashMap<ServiceId, Volumes>,
        entry: &ServiceEntry,
    ) -> ServiceBase {
        let owner = owner(entry);
        match old.services.get(&entry.id) {
            Some(base) if base.owner == owner => {
                let more = left.get(&entry.id).copied().unwrap_or_default();
                ServiceBase { left: base.left.and(more), ..base.clone() }
            }
            _ => {
                let Activity { new_connections, refused, cookies, .. } = self.raw_service(entry.id);
                ServiceBase { owner, new_connections, refused, cookies, left: Volumes::default() }
            }
        }
    }

    fn backend_base(&self, old: &Directory, names: &Names, entry: &BackendEntry) -> BackendBase {
        let owner = (names.service_of(entry).map(owner), entry.service, entry.address);
        match old.backends.get(&entry.id) {
            Some(base) if base.owner == owner => base.clone(),
            _ => BackendBase { owner, made: self.raw_backend(entry.id).made() },
        }
    }

    /// Backends whose ids are others' or nobody's now, and what they had done.
    fn gone<'a>(
        &self,
        old: &'a Directory,
        new: &HashMap<BackendId, BackendBase>,
    ) -> Vec<(&'a BackendEntry, Made)> {
        let made = |entry: &'a BackendEntry| {
            let (base, now) = (old.backends.get(&entry.id)?, new.get(&entry.id));
            if now.is_some_and(|now| now.owner == base.owner) {
                return None;
            }
            let made = now.map_or_else(|| self.raw_backend(entry.id).made(), |now| now.made);
            Some((entry, made.since(base.made)))
        };
        old.names.backends.iter().filter_map(made).collect()
    }

    /// Adds what ids that changed hands had counted to their old names; forgets names that are gone.
    fn carry_services(
        &self,
        old: &Directory,
        names: &Names,
        (new, left): (&HashMap<ServiceId, ServiceBase>, &HashMap<ServiceId, Volumes>),
    ) -> HashMap<String, Carried> {
        let mut carried = old.carried_services.clone();
        for entry in &old.names.services {
            let Some(base) = old.services.get(&entry.id) else { continue };
            if new.get(&entry.id).is_none_or(|now| now.owner != base.owner) {
                let (sum, more) =
                    (carried.entry(entry.name.clone()).or_default(), self.service(old, entry.id));
                add(&mut sum.refused, more.refused, u64::wrapping_add);
                add(&mut sum.cookies, more.cookies, u64::wrapping_add);
                // Its backends have gone with it.
                let passed = left.get(&entry.id).copied().unwrap_or_default();
                sum.volumes = sum.volumes.and(base.left).and(passed);
            }
        }
        let alive: HashSet<_> = names.services.iter().map(|entry| &entry.name).collect();
        carried.retain(|name, sum| *sum != Carried::default() && alive.contains(name));
        carried
    }
}

fn owner(entry: &ServiceEntry) -> ServiceOwner {
    (entry.name.clone(), entry.protocol, entry.address)
}

/// What passed through backends that are gone, by the service they were of.
fn left(gone: &[(&BackendEntry, Made)]) -> HashMap<ServiceId, Volumes> {
    let mut left = HashMap::<_, Volumes>::new();
    for (entry, made) in gone {
        let sum = left.entry(entry.service).or_default();
        *sum = sum.and(made.volumes);
    }
    left
}

fn carry_backends(
    old: &Directory,
    names: &Names,
    gone: &[(&BackendEntry, Made)],
) -> HashMap<(String, SocketAddr), Made> {
    let mut carried = old.carried_backends.clone();
    for (entry, made) in gone {
        if let Some(label) = old.names.label(entry) {
            let sum = carried.entry(label).or_default();
            *sum = sum.and(*made);
        }
    }
    let alive: HashSet<_> = names.backends.iter().filter_map(|entry| names.label(entry)).collect();
    carried.retain(|label, made| *made != Made::default() && alive.contains(label));
    carried
}
