//! From a [`Plan`] to a [`Snapshot`], with ids that outlive any number of edits.
//!
//! Connections name their service and backend by id, so an id must mean one thing as long as any
//! connection uses it:
//!
//! ```text
//!            in the plan                   gone from the plan
//!  free ──────────────────► live ────────────────────────────────► retired (None in the snapshot)
//!   ▲                         ▲            back in the plan            │
//!   │                         └────────────────────────────────────────┤
//!   └──────────────────────────────────────────────────────────────────┘
//!              release(): every worker has seen it go, no connection names it
//! ```
//!
//! A service is the same one if its protocol, its first address, VIP and ports, and the first of its
//! `clients` are: others may come and go (`more_addresses`), and its connections live. A backend is the same one if service,
//! address and port are. One that comes back before its id was released gets that id again: connections it still
//! has live on.
//!
//! Order: IPVS adds a destination at the *front* of its list and its schedulers walk from there,
//! so a service's backends are newest first. The first listed in the file counts as the oldest;
//! later additions come in front; an edit of the weight, or a backend moved within the file,
//! changes no position.
//!
//! A backend's mode is no part of its identity and of no revision: an edit of it changes how new
//! connections are forwarded, while those that are there carry their own way with them.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use crate::control::config::plan::{self, Plan, ServiceKey};
use crate::control::lists::{Told, access, groups, lists};
use crate::control::neighbors::{Way, unspecified};
use crate::dataplane::access::Membership;
use crate::dataplane::persistence::Persistence;
use crate::dataplane::sched::{Entry, Scheduling};
use crate::dataplane::snapshot::{
    Backend, Mode, NextHop, PortView, Scheduler, Service, Snapshot, Weighings,
};
use crate::ids::{BackendId, ServiceId, limits};

mod ids;
mod left;
mod names;
mod owners;
mod secrets;
mod weighed;

use ids::Ids;
use left::Left;
pub use names::{BackendName, Names, ServiceName};
use secrets::Secrets;
pub use secrets::{FORGOTTEN_AFTER, RENEWED_EVERY};

/// Why a plan cannot be compiled. Nothing has changed then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// The system gave no random numbers.
    #[error("no secret for SYN cookies: {0}; getrandom(2) must be allowed")]
    Secret(#[from] getrandom::Error),
    /// No id is left for a new service or backend.
    #[error(
        "no room for {wanted} new {what}: {used} of {limit} ids are in use, {retired} of them by \
         removed {what}; an id is free when its last connection has ended, so remove first and add \
         when `shunt services` shows none left"
    )]
    Full {
        /// `services` or `backends`.
        what: &'static str,
        /// Ids the plan needs that are not there yet.
        wanted: usize,
        /// Ids in use.
        used: usize,
        /// The limit.
        limit: usize,
        /// How many of those in use are kept for what was removed before.
        retired: usize,
    },
}

/// What makes a backend the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct BackendKey {
    service: ServiceId,
    address: SocketAddr,
}

/// What is remembered of a service id. Survives the id's release, because workers may remember
/// the revision.
#[derive(Clone, Debug, Default)]
struct Memory {
    name: Box<str>,
    scheduler: Option<Scheduler>,
    /// Worked out anew with each revision, and when flags change.
    scheduling: Option<Scheduling>,
    /// Newest first, with weights.
    order: Vec<(BackendId, u32)>,
    /// As [`Memory::order`]: how many had been added before each.
    ages: Vec<u64>,
    /// Backends ever added.
    added: u64,
    /// As [`Memory::order`]: what tables are made of.
    entries: Vec<Entry>,
    revision: u64,
    /// Of wrr: what each change made of the weights.
    weighings: Weighings,
    /// The generation in which the id became free to be another's.
    life: u64,
    /// As clients are masked, and how often that has changed.
    prefix: Option<u8>,
    epoch: u32,
    /// Backends that are or were in NAT mode, by id; forgotten with the id.
    nat: HashSet<BackendId>,
    /// Has there ever been one? Forgotten with the service's own id.
    had_nat: bool,
}

impl Memory {
    /// Gives the backends of a new order their ages: the old ones theirs, each new one the next.
    fn age(&mut self, order: &[(BackendId, u32)]) {
        let ids = self.order.iter().map(|(id, _)| *id);
        let known: HashMap<BackendId, u64> = ids.zip(self.ages.iter().copied()).collect();
        let mut added = self.added;
        let mut age = |(id, _): &(BackendId, u32)| {
            known.get(id).copied().unwrap_or_else(|| {
                added += 1;
                added
            })
        };
        let oldest_first: Vec<u64> = order.iter().rev().map(&mut age).collect();
        self.ages = oldest_first.into_iter().rev().collect();
        self.added = added;
    }

    /// Notes what a new order makes of the weights. With another scheduler all backends are there at once.
    fn weigh(&mut self, scheduler: Scheduler, order: &[(BackendId, u32)]) {
        let is_new_here = self.scheduler.is_some_and(|before| before != scheduler);
        if scheduler != Scheduler::WRR {
            self.weighings = Weighings::default();
        } else if is_new_here {
            self.weighings.start(self.revision, order.iter().map(|(_, weight)| *weight).collect());
        } else {
            weighed::note(&mut self.weighings, self.revision, &self.order, order);
        }
    }

    /// Works out what the scheduler needs, if anything it is made of has changed.
    fn schedule(
        &mut self,
        service: &plan::Service,
        find: impl Fn(SocketAddr) -> Option<BackendId>,
    ) {
        let backends = service.backends.iter().filter_map(|b| Some((find(b.address)?, b)));
        let backends: HashMap<BackendId, &plan::Backend> = backends.collect();
        let last = self.entries.iter().map(|entry| (entry.address, entry.last_weight));
        let last: HashMap<SocketAddr, u32> = last.collect();
        let entry = |&(id, weight): &(BackendId, u32)| {
            let backend = backends.get(&id)?;
            let before = last.get(&backend.address).copied().unwrap_or(0);
            Some(Entry {
                address: backend.address,
                weight,
                last_weight: if weight > 0 { weight } else { before },
                server_id: backend.quic_server_id,
            })
        };
        let entries: Vec<Entry> = self.order.iter().filter_map(entry).collect();
        let (scheduler, flags) = (service.scheduler, service.scheduler_flags);
        let is_same = |old: &Scheduling| old.scheduler == scheduler && old.flags == flags;
        if entries != self.entries || !self.scheduling.as_ref().is_some_and(is_same) {
            self.scheduling = Some(Scheduling::prepare(scheduler, flags, &entries));
            self.entries = entries;
        }
    }
}

/// Compiles plans, one after the other; owns the ids of services and backends.
#[derive(Debug)]
pub struct Compiler {
    generation: u64,
    services: Ids<ServiceKey>,
    backends: Ids<BackendKey>,
    /// By [`ServiceId`].
    memory: Vec<Memory>,
    /// By [`BackendId`]: how each was last reached.
    hops: Vec<Option<NextHop>>,
    secrets: Secrets,
    /// What tells services' clients apart: made anew only when it says something else.
    told: Told,
    /// What was a VIP or a local address of late.
    left: Left,
}

impl Default for Compiler {
    fn default() -> Self {
        Self::new()
    }
}

impl Compiler {
    /// A compiler that has given out no id yet.
    pub fn new() -> Self {
        Self {
            generation: 0,
            services: Ids::new(limits::SERVICES),
            backends: Ids::new(limits::BACKENDS),
            memory: Vec::new(),
            hops: Vec::new(),
            secrets: Secrets::default(),
            told: Told::default(),
            left: Left::default(),
        }
    }

    /// Names by id.
    pub fn names(&self) -> Names<'_> {
        Names::of(self)
    }

    /// Compiles `plan`. `resolve` gives the way to an address as far as it is known; it is asked
    /// once for each backend and director. Compiling the same plan again, because next hops changed,
    /// changes no id and no revision. `members` knows the plan's lists.
    ///
    /// # Errors
    ///
    /// [`CompileError::Full`] if ids run out; the compiler is then as it was before.
    pub fn compile(
        &mut self,
        plan: &Plan,
        ports: &[PortView],
        resolve: &dyn Fn(IpAddr) -> Option<Way>,
        accepting: bool,
        members: Option<Arc<dyn Membership>>,
    ) -> Result<Arc<Snapshot>, CompileError> {
        self.check_room(plan)?;
        self.secrets.renew(Instant::now())?;
        self.generation += 1;
        let service_ids = self.assign_services(plan);
        self.assign_backends(plan, &service_ids);
        for (service, &id) in plan.services.iter().zip(&service_ids) {
            self.remember(service, id);
        }
        self.keep_owners(plan, &service_ids);
        self.left.follow(plan, Instant::now());
        let mut snapshot = Snapshot::default();
        snapshot.generation = self.generation;
        snapshot.ports = ports.into();
        snapshot.services = self.service_table(plan, &service_ids);
        snapshot.backends = self.backend_table(plan, &service_ids, resolve);
        snapshot.departed = self.departed(&snapshot.backends);
        snapshot.left_vips = self.left.vips.addresses();
        snapshot.left_locals = self.left.locals.addresses();
        let had_nat = service_ids.iter().filter(|id| self.memory[id.index()].had_nat);
        snapshot.had_nat = had_nat.copied().collect();
        snapshot.timeouts = plan.timeouts;
        snapshot.strays = plan.strays;
        snapshot.drop_malformed_tcp = plan.drop_malformed_tcp;
        snapshot.restarts = plan.restarts;
        snapshot.reset_on_end = plan.reset_on_end;
        snapshot.icmp_on_end = plan.icmp_on_end;
        let directors = plan.directors.iter().filter_map(|address| resolve(*address));
        snapshot.directors = directors.map(|way| way.next_hop.destination).collect();
        snapshot.ping = plan.ping;
        snapshot.tunnels_ignore_df = plan.tunnels_ignore_df;
        let own = plan.ports.iter().flat_map(|port| &port.addresses);
        let own = own.filter(|_| plan.local_out).map(|(address, _)| *address);
        snapshot.own = own.collect();
        snapshot.client_networks = self.told.of(plan);
        snapshot.members = members;
        snapshot.accepting = accepting;
        snapshot.cookie_secrets = self.secrets.now;
        snapshot.punt_per_second = plan.punt_per_second;
        Ok(Arc::new(snapshot.indexed()))
    }

    /// Frees the ids of removed services and backends that no connection names any more, and
    /// returns the backends freed.
    ///
    /// `generation_everywhere` is the oldest generation any worker still uses: what went away
    /// later than that may still get new connections and is kept. `has_connections` is asked for
    /// the other removed backends. A service's id is free when all its backends' are.
    pub fn release(
        &mut self,
        generation_everywhere: u64,
        has_connections: impl Fn(BackendId) -> bool,
    ) -> Vec<BackendId> {
        let freed =
            self.backends.release(generation_everywhere, |id| !has_connections(BackendId(id)));
        for id in &freed {
            if let Some(hop) = self.hops.get_mut(*id as usize) {
                *hop = None;
            }
        }
        let gone: HashSet<BackendId> = freed.iter().copied().map(BackendId).collect();
        for memory in self.memory.iter_mut().filter(|_| !gone.is_empty()) {
            memory.nat.retain(|id| !gone.contains(id));
        }
        let backends = &self.backends;
        let service = |id| backends.get(id).map(|(key, _)| key.service.0);
        let held: HashSet<u32> = backends.used().filter_map(service).collect();
        for id in self.services.release(generation_everywhere, |id| !held.contains(&id)) {
            self.memory[id as usize].had_nat = false;
        }
        freed.into_iter().map(BackendId).collect()
    }

    /// Removed backends whose ids are not free yet.
    pub fn retired_backends(&self) -> usize {
        self.backends.retired()
    }

    fn check_room(&self, plan: &Plan) -> Result<(), CompileError> {
        let mut new_services = 0;
        let mut new_backends = 0;
        for service in &plan.services {
            let id = self.services.find(&service.key()).map(ServiceId);
            new_services += usize::from(id.is_none());
            let is_new = |backend: &&plan::Backend| {
                id.is_none_or(|service| {
                    let key = BackendKey { service, address: backend.address };
                    self.backends.find(&key).is_none()
                })
            };
            new_backends += service.backends.iter().filter(is_new).count();
        }
        self.services.check_room("services", new_services)?;
        self.backends.check_room("backends", new_backends)
    }

    fn assign_services(&mut self, plan: &Plan) -> Vec<ServiceId> {
        let keys = plan.services.iter().map(plan::Service::key);
        let ids = self.services.assign(keys, self.generation);
        let known = self.memory.len().max(self.services.len());
        self.memory.resize_with(known, Memory::default);
        // What comes back, or another service with this id, starts as if it had never been.
        for id in self.services.retired_at(self.generation) {
            let memory = &mut self.memory[id as usize];
            memory.order.clear();
            memory.ages.clear();
            memory.weighings = Weighings::default();
            memory.life = self.generation;
            memory.prefix = None;
            memory.scheduler = None;
            memory.entries.clear();
            memory.scheduling = None;
        }
        ids.into_iter().map(ServiceId).collect()
    }

    fn assign_backends(&mut self, plan: &Plan, service_ids: &[ServiceId]) {
        let keys = plan.services.iter().zip(service_ids).flat_map(|(service, &id)| {
            service
                .backends
                .iter()
                .map(move |backend| BackendKey { service: id, address: backend.address })
        });
        self.backends.assign(keys, self.generation);
    }

    /// Brings the order and the revision of a service up to date.
    fn remember(&mut self, service: &plan::Service, id: ServiceId) {
        let find = |backend: &plan::Backend| {
            let key = BackendKey { service: id, address: backend.address };
            Some((BackendId(self.backends.find(&key)?), backend.weight))
        };
        let listed: Vec<(BackendId, u32)> = service.backends.iter().filter_map(find).collect();
        let memory = &mut self.memory[id.index()];
        let order = newest_first(&memory.order, &listed);
        memory.age(&order);
        if memory.order != order || memory.scheduler != Some(service.scheduler) {
            memory.revision += 1;
            memory.weigh(service.scheduler, &order);
            memory.order = order;
            memory.scheduler = Some(service.scheduler);
        }
        let prefix = service.persistence.map(|persistence| persistence.prefix);
        if memory.prefix != prefix {
            memory.prefix = prefix;
            memory.epoch += 1;
        }
        memory.schedule(service, |address| {
            self.backends.find(&BackendKey { service: id, address }).map(BackendId)
        });
        for backend in service.backends.iter().filter(|backend| backend.mode == Mode::Nat) {
            let key = BackendKey { service: id, address: backend.address };
            memory.nat.extend(self.backends.find(&key).map(BackendId));
            memory.had_nat = true;
        }
        if *memory.name != *service.name {
            memory.name = service.name.as_str().into();
        }
    }

    /// An edit makes a place, or a client, another service's, and connections must be found where they are. So
    /// if one of the services at a VIP has connections that are owned by who the client is, all have.
    fn keep_owners(&mut self, plan: &Plan, ids: &[ServiceId]) {
        let had_nat: Vec<bool> = ids.iter().map(|id| self.memory[id.index()].had_nat).collect();
        for (id, is_by_client) in ids.iter().zip(owners::by_client(&plan.services, had_nat)) {
            self.memory[id.index()].had_nat |= is_by_client;
        }
    }

    fn service_table(&self, plan: &Plan, ids: &[ServiceId]) -> Box<[Option<Service>]> {
        let mut table = vec![None; self.services.len()];
        for (service, &id) in plan.services.iter().zip(ids) {
            let memory = &self.memory[id.index()];
            let scheduling = memory.scheduling.clone();
            let scheduling = scheduling.unwrap_or_else(|| service.scheduler.into());
            table[id.index()] = Some(Service {
                name: memory.name.clone(),
                protocol: service.protocol,
                addresses: service.addresses().collect(),
                other_protocols: service.other_protocols.as_slice().into(),
                clients: groups(plan, service),
                scheduling,
                backends: memory.order.iter().map(|&(id, _)| id).collect(),
                ages: memory.ages.as_slice().into(),
                locals: service.local_addresses.iter().copied().collect(),
                one_packet: service.one_packet,
                sloppy: service.sloppy,
                client_address: service.client_address,
                client_address_from: lists(plan, &service.client_address_from),
                persistence: service.persistence.map(|it| persistence(it, memory)),
                access: access(plan, service),
                syn_cookies: service.syn_cookies,
                timeouts: service.own_timeouts(&plan.timeouts).map(Box::new),
                syn_cookies_wait_for_data: service.syn_cookies_wait_for_data,
                quotas: service.quotas,
                reflection_ports: plan.reflection_ports(service).into(),
                revision: memory.revision,
                weighings: memory.weighings.clone(),
                life: memory.life,
            });
        }
        table.into()
    }

    /// How removed backends were last reached whose connections may still be there: the kernel is not
    /// asked for them any more.
    fn departed(&mut self, backends: &[Option<Backend>]) -> Box<[(BackendId, NextHop)]> {
        self.hops.resize(self.hops.len().max(backends.len()), None);
        for (hop, backend) in self.hops.iter_mut().zip(backends) {
            *hop = backend.and_then(|backend| backend.next_hop).or(*hop);
        }
        let is_retired = |id: &u32| self.backends.get(*id).is_some_and(|(_, retired)| retired);
        let hops = (0u32..).zip(&self.hops).filter(|(id, _)| is_retired(id));
        hops.filter_map(|(id, hop)| Some((BackendId(id), (*hop)?))).collect()
    }

    fn backend_table(
        &self,
        plan: &Plan,
        ids: &[ServiceId],
        resolve: &dyn Fn(IpAddr) -> Option<Way>,
    ) -> Box<[Option<Backend>]> {
        let mut table = vec![None; self.backends.len()];
        for (planned, &service) in plan.services.iter().zip(ids) {
            for &plan::Backend { address, weight, limit, mode, .. } in &planned.backends {
                let Some(id) = self.backends.find(&BackendKey { service, address }) else {
                    continue;
                };
                let way = resolve(address.ip());
                table[BackendId(id).index()] = Some(Backend {
                    service,
                    address: address.ip(),
                    port: address.port(),
                    mode,
                    answers_here: self.memory[service.index()].nat.contains(&BackendId(id)),
                    our_address: way
                        .map_or_else(|| unspecified(address.ip()), |way| way.our_address),
                    weight,
                    limit,
                    next_hop: way.map(|way| way.next_hop),
                });
            }
        }
        table.into()
    }
}

/// Templates of other masks, or of another service with this id, are of another epoch.
fn persistence(planned: plan::Persistence, memory: &Memory) -> Persistence {
    let plan::Persistence { timeout_s, prefix, to_drained } = planned;
    let timeout_ms = timeout_s.saturating_mul(1000);
    Persistence { timeout_ms, prefix, to_drained, epoch: memory.epoch }
}

/// The new order: what is new in front, the last listed first, then what was there before in the
/// order it had, with the weights of today.
fn newest_first(before: &[(BackendId, u32)], listed: &[(BackendId, u32)]) -> Vec<(BackendId, u32)> {
    let old: HashSet<BackendId> = before.iter().map(|&(id, _)| id).collect();
    let weights: HashMap<BackendId, u32> = listed.iter().copied().collect();
    let added = listed.iter().rev().filter(|(id, _)| !old.contains(id)).copied();
    let kept = before.iter().filter_map(|(id, _)| Some((*id, *weights.get(id)?)));
    added.chain(kept).collect()
}

#[cfg(test)]
mod tests;
