//! Every number of the daemon, summed over workers when somebody asks.
//!
//! Counters live by id, people think in names: the [`Directory`] says which id is whose. Ids are
//! reused in time, so an entry remembers what its counters stood at when it was given the id, and
//! shows only what came since. A name may have several ids, one after the other or at once (a service
//! whose VIP was edited has two for a while): what an id counted that is free again is carried over
//! to the name for as long as the name is there, so that a name's counters never fall ([`Sources::rename`]).
//!
//! **Packets** are counted by backend only. A service's are those of its backends, with what those had counted that are
//! gone.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use super::answers::Answers;
use super::counters::{Counter, WorkerStats};
use super::devices::Devices;
use super::latency::{Latencies, Summary};
use super::slow::{SlowStats, StaticFacts};
use super::volumes::Volumes;
use crate::dataplane::cookie::Event;
use crate::dataplane::snapshot::{Protocol, ServiceAddress};
use crate::dataplane::verdict::Reason;
use crate::ids::{BackendId, PortId, ServiceId};

mod rename;

use rename::{BackendBase, Carried, ServiceBase};

/// A service id in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceEntry {
    /// The id.
    pub id: ServiceId,
    /// Its name in the configuration.
    pub name: String,
    /// Its protocol.
    pub protocol: Protocol,
    /// Where clients find it; the first, if at several addresses.
    pub address: ServiceAddress,
    /// Gone from the configuration, but connections may still name it.
    pub removed: bool,
}

/// A backend id in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendEntry {
    /// The id.
    pub id: BackendId,
    /// The service it serves.
    pub service: ServiceId,
    /// Address and port.
    pub address: SocketAddr,
    /// Gone from the configuration, but connections may still name it.
    pub removed: bool,
}

/// All ids in use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// Ascending by id.
    pub services: Vec<ServiceEntry>,
    /// Ascending by id.
    pub backends: Vec<BackendEntry>,
}

/// Names, and what each id's counters stood at when its owner got it.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    /// The names.
    pub names: Names,
    services: HashMap<ServiceId, ServiceBase>,
    backends: HashMap<BackendId, BackendBase>,
    /// What free ids had counted, by service name.
    carried_services: HashMap<String, Carried>,
    /// What free ids had counted, by service name and backend.
    carried_backends: HashMap<(String, SocketAddr), Made>,
    /// Backends of each service.
    members: HashMap<ServiceId, Vec<BackendId>>,
}

impl Directory {
    /// The backends of a service, those gone whose connections live included.
    pub fn all_backends_of(&self, service: ServiceId) -> impl Iterator<Item = &BackendEntry> {
        let members = self.members.get(&service).into_iter().flatten();
        members.filter_map(|id| self.names.backend(*id))
    }

    /// Those that are there.
    pub fn backends_of(&self, service: ServiceId) -> impl Iterator<Item = &BackendEntry> {
        self.all_backends_of(service).filter(|entry| !entry.removed)
    }

    /// New connections refused that ids no longer in use counted for this service name.
    pub fn carried_refused(&self, service: &str) -> Refusals {
        self.carried_services.get(service).map_or_else(Refusals::default, |carried| carried.refused)
    }

    /// What happened with SYN cookies that ids no longer in use counted for this service name.
    pub fn carried_cookies(&self, service: &str, event: Event) -> u64 {
        self.carried_services.get(service).map_or(0, |carried| carried.cookies[event as usize])
    }

    /// Connections made that ids no longer in use counted for this backend of a service name.
    pub fn carried_connections(&self, service: &str, backend: SocketAddr) -> u64 {
        self.carried_backend(service, backend).connections
    }

    /// Connections left without an answer that ids no longer in use counted for this backend of a service name.
    pub fn carried_unanswered(&self, service: &str, backend: SocketAddr) -> u64 {
        self.carried_backend(service, backend).answers.unanswered()
    }

    /// What passed that ids no longer in use counted for this backend of a service name.
    pub fn carried_volumes(&self, service: &str, backend: SocketAddr) -> Volumes {
        self.carried_backend(service, backend).volumes
    }

    /// The same for all of a service name.
    pub fn carried_service_volumes(&self, service: &str) -> Volumes {
        self.carried_services.get(service).map_or_else(Volumes::default, |it| it.volumes)
    }

    fn carried_backend(&self, service: &str, backend: SocketAddr) -> Made {
        let key = (service.to_owned(), backend);
        self.carried_backends.get(&key).copied().unwrap_or_default()
    }
}

impl Names {
    /// The service of that id.
    pub fn service(&self, id: ServiceId) -> Option<&ServiceEntry> {
        let place = self.services.binary_search_by_key(&id, |service| service.id);
        self.services.get(place.ok()?)
    }

    /// The backend of that id.
    pub fn backend(&self, id: BackendId) -> Option<&BackendEntry> {
        let place = self.backends.binary_search_by_key(&id, |backend| backend.id);
        self.backends.get(place.ok()?)
    }

    /// The service of a backend.
    fn service_of(&self, backend: &BackendEntry) -> Option<&ServiceEntry> {
        self.service(backend.service)
    }

    /// Service name and address of a backend: what its series is called.
    pub fn label(&self, backend: &BackendEntry) -> Option<(String, SocketAddr)> {
        Some((self.service_of(backend)?.name.clone(), backend.address))
    }
}

/// New connections refused, by place in [`Reason::OF_SERVICES`].
pub type Refusals = [u64; Reason::OF_SERVICES.len()];

/// What one service or backend did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Activity {
    /// Connections now.
    pub connections: u64,
    /// Those that schedulers count as active (backends only).
    pub active: u64,
    /// Connections made.
    pub new_connections: u64,
    /// New connections refused (services only).
    pub refused: Refusals,
    /// What happened with SYN cookies, by [`Event`] (services only).
    pub cookies: [u64; Event::COUNT],
    /// What passed (backends only; a service's: [`Sources::service_volumes`]).
    pub volumes: Volumes,
    /// How new connections were answered (backends only).
    pub answers: Answers,
}

impl Activity {
    /// New connections refused for any reason.
    pub fn all_refused(&self) -> u64 {
        self.refused.iter().sum()
    }

    /// What of it only grows, of a backend.
    fn made(&self) -> Made {
        let Self { new_connections: connections, volumes, answers, .. } = *self;
        Made { connections, volumes, answers }
    }
}

/// What a backend has done that only grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Made {
    connections: u64,
    volumes: Volumes,
    answers: Answers,
}

impl Made {
    fn since(self, then: Self) -> Self {
        Self {
            connections: self.connections.wrapping_sub(then.connections),
            volumes: self.volumes.since(then.volumes),
            answers: self.answers.since(then.answers),
        }
    }

    fn and(self, more: Self) -> Self {
        Self {
            connections: self.connections.wrapping_add(more.connections),
            volumes: self.volumes.and(more.volumes),
            answers: self.answers.and(more.answers),
        }
    }
}

/// Packets and bytes of a port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Frames received.
    pub rx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Frames sent.
    pub tx_packets: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
}

/// Where all numbers come from.
#[derive(Debug)]
pub struct Sources {
    /// What is fixed.
    pub facts: StaticFacts,
    /// Port names, by id.
    pub ports: Vec<String>,
    /// By worker.
    pub workers: Vec<Arc<WorkerStats>>,
    /// The control thread's.
    pub slow: SlowStats,
    /// What ports' devices count themselves.
    pub devices: Devices,
    directory: Mutex<Arc<Directory>>,
}

impl Sources {
    /// Sources with no names yet.
    pub fn new(facts: StaticFacts, ports: Vec<String>, workers: Vec<Arc<WorkerStats>>) -> Self {
        let slow = SlowStats::new(workers.len());
        let (devices, directory) = (Devices::default(), Mutex::default());
        Self { facts, ports, workers, slow, devices, directory }
    }

    /// The same with what devices count.
    #[must_use]
    pub fn with_devices(self, devices: Devices) -> Self {
        Self { devices, ..self }
    }

    /// The names now.
    pub fn directory(&self) -> Arc<Directory> {
        Arc::clone(&self.directory.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What a service did since it got its id.
    pub fn service(&self, directory: &Directory, id: ServiceId) -> Activity {
        let mut activity = self.raw_service(id);
        if let Some(base) = directory.services.get(&id) {
            activity.new_connections = activity.new_connections.wrapping_sub(base.new_connections);
            add(&mut activity.refused, base.refused, u64::wrapping_sub);
            add(&mut activity.cookies, base.cookies, u64::wrapping_sub);
        }
        activity
    }

    /// What a backend did since it got its id.
    pub fn backend(&self, directory: &Directory, id: BackendId) -> Activity {
        let mut activity = self.raw_backend(id);
        if let Some(base) = directory.backends.get(&id) {
            let since = activity.made().since(base.made);
            (activity.new_connections, activity.volumes) = (since.connections, since.volumes);
            activity.answers = since.answers;
        }
        activity
    }

    /// What passed between clients and a service's backends since it got its id, those that are gone included.
    pub fn service_volumes(&self, directory: &Directory, id: ServiceId) -> Volumes {
        let left = directory.services.get(&id).map_or_else(Volumes::default, |base| base.left);
        let members = directory.members.get(&id).into_iter().flatten();
        let each = members.map(|backend| self.backend(directory, *backend).volumes);
        each.fold(left, Volumes::and)
    }

    /// Connections a service has now.
    pub fn service_connections(&self, id: ServiceId) -> u64 {
        self.raw_service(id).connections
    }

    /// Connections a backend has now.
    pub fn backend_connections(&self, id: BackendId) -> u64 {
        self.raw_backend(id).connections
    }

    fn raw_service(&self, id: ServiceId) -> Activity {
        let mut sum = Activity::default();
        for counters in self.workers.iter().filter_map(|worker| worker.services.get(id.index())) {
            sum.connections += u64::from(counters.connections.get());
            sum.new_connections = sum.new_connections.wrapping_add(counters.new_connections.get());
            add(&mut sum.refused, counters.refused.each_ref().map(Counter::get), u64::wrapping_add);
            add(&mut sum.cookies, counters.cookies.each_ref().map(Counter::get), u64::wrapping_add);
        }
        sum
    }

    fn raw_backend(&self, id: BackendId) -> Activity {
        // One count, shared by all workers.
        let active = self.workers.first().map_or(0, |worker| worker.loads.of(id).active.into());
        let mut sum = Activity { active, ..Activity::default() };
        for counters in self.workers.iter().filter_map(|worker| worker.backends.get(id.index())) {
            sum.connections += u64::from(counters.connections.get());
            sum.new_connections = sum.new_connections.wrapping_add(counters.new_connections.get());
        }
        let each = self.workers.iter().map(|worker| worker.volumes.of(id));
        sum.volumes = each.fold(Volumes::default(), Volumes::and);
        let each = self.workers.iter().map(|worker| worker.answers.of(id));
        sum.answers = each.fold(Answers::default(), Answers::and);
        sum
    }

    /// What a port moved.
    pub fn port(&self, id: PortId) -> Traffic {
        let mut sum = Traffic::default();
        for counters in self.workers.iter().filter_map(|worker| worker.ports.get(id.index())) {
            sum.rx_packets += counters.rx_packets.get();
            sum.rx_bytes += counters.rx_bytes.get();
            sum.tx_packets += counters.tx_packets.get();
            sum.tx_bytes += counters.tx_bytes.get();
        }
        sum
    }

    /// Packets refused for a reason.
    pub fn drops(&self, reason: Reason) -> u64 {
        self.workers.iter().map(|worker| worker.drops[reason as usize].get()).sum()
    }

    /// Connections in all tables.
    pub fn connections(&self) -> u64 {
        self.workers.iter().map(|worker| u64::from(worker.connections.get())).sum()
    }

    /// The oldest snapshot any worker still uses.
    pub fn generation_everywhere(&self) -> u64 {
        self.workers.iter().map(|worker| worker.run.generation.get()).min().unwrap_or(0)
    }

    /// How long packets were in the hands of these workers.
    pub fn latency(&self, workers: &[Arc<WorkerStats>]) -> Option<Summary> {
        Latencies::summary(workers.iter().map(|worker| &worker.latencies), self.facts.tsc_hz)
    }

    /// Cycles as seconds.
    #[expect(clippy::cast_precision_loss, reason = "a float is what the metric wants")]
    pub fn seconds(&self, cycles: u64) -> f64 {
        if self.facts.tsc_hz == 0 { 0.0 } else { cycles as f64 / self.facts.tsc_hz as f64 }
    }
}

/// Adds, or takes away, one by one.
fn add<const N: usize>(to: &mut [u64; N], what: [u64; N], how: fn(u64, u64) -> u64) {
    for (sum, more) in to.iter_mut().zip(what) {
        *sum = how(*sum, more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataplane::conn::key::Side;

    fn sources(workers: usize) -> Sources {
        let workers = (0..workers).map(|_| Arc::new(WorkerStats::default())).collect();
        Sources::new(StaticFacts::default(), vec!["wan".into()], workers)
    }

    fn backend(id: u32, port: u16) -> BackendEntry {
        BackendEntry {
            id: BackendId(id),
            service: ServiceId(0),
            address: SocketAddr::from(([10, 0, 0, 2], port)),
            removed: false,
        }
    }

    fn name(sources: &Sources, backends: Vec<BackendEntry>) -> Arc<Directory> {
        sources.rename(Names { services: vec![], backends });
        sources.directory()
    }

    #[test]
    fn an_activity_is_the_sum_over_workers() {
        let sources = sources(3);
        for worker in &sources.workers {
            worker.backends[4].new_connections.add(2);
            worker.backends[4].connections.up();
        }
        let directory = sources.directory();
        let activity = sources.backend(&directory, BackendId(4));
        assert_eq!((activity.new_connections, activity.connections), (6, 3));
    }

    #[test]
    fn an_id_that_changes_hands_starts_at_zero_and_one_that_stays_goes_on() {
        let sources = sources(1);
        let (stays, leaves) = (backend(1, 80), backend(2, 80));
        name(&sources, vec![stays.clone(), leaves]);
        for id in [1, 2] {
            sources.workers[0].backends[id].new_connections.add(5);
        }
        let directory = name(&sources, vec![stays, backend(2, 81)]);
        assert_eq!(sources.backend(&directory, BackendId(1)).new_connections, 5);
        assert_eq!(sources.backend(&directory, BackendId(2)).new_connections, 0);
        sources.workers[0].backends[2].new_connections.add(3);
        assert_eq!(sources.backend(&directory, BackendId(2)).new_connections, 3);
    }

    #[test]
    fn a_services_packets_are_its_backends_with_those_of_who_is_gone() {
        let sources = sources(2);
        let service = |id: u32, name: &str| ServiceEntry {
            id: ServiceId(id),
            name: name.into(),
            protocol: Protocol::Tcp,
            address: ServiceAddress::one([192, 0, 2, 1].into(), 80),
            removed: false,
        };
        let of_mail = |id| BackendEntry { service: ServiceId(1), ..backend(id, 25) };
        let rename = |backends| {
            sources
                .rename(Names { services: vec![service(0, "web"), service(1, "mail")], backends });
            sources.directory()
        };
        let count = |id| {
            for worker in &sources.workers {
                worker.volumes.count(BackendId(id), Side::Client, 100);
                worker.volumes.count(BackendId(id), Side::Backend, 1000);
            }
        };
        let passed = |directory: &Directory| {
            [0, 1].map(|id| sources.service_volumes(directory, ServiceId(id)).numbers())
        };
        let each = [2, 200, 2, 2000];
        let both = each.map(|number| 2 * number);
        count(2);
        let directory = rename(vec![backend(1, 80), backend(2, 80)]);
        assert_eq!(passed(&directory), [[0; 4]; 2], "what the id had counted is nobody's");
        (1..=2).for_each(count);
        assert_eq!(passed(&directory), [both, [0; 4]]);
        let directory = rename(vec![backend(1, 80)]);
        assert_eq!(passed(&directory), [both, [0; 4]], "what has passed has passed");
        assert_eq!(sources.backend(&directory, BackendId(1)).volumes.numbers(), each);
        let directory = rename(vec![backend(1, 80), of_mail(2)]);
        count(2);
        assert_eq!(passed(&directory), [both, each], "the id is another's now");
        let directory = rename(vec![of_mail(2)]);
        assert_eq!(passed(&directory), [both, each]);
    }

    #[test]
    fn the_generation_everywhere_is_the_slowest_workers() {
        let sources = sources(2);
        sources.workers[0].run.generation.set(9);
        sources.workers[1].run.generation.set(7);
        assert_eq!(sources.generation_everywhere(), 7);
    }
}
