//! The control loop's answers: what it knows, put into the types of [`super::view`].
//!
//! ```text
//! Command ─► answer ─┬─► at once: status, services, changes
//!                    └─► with the workers' help, a file each: dump, clear, capture, trace, explain
//! what happens ──────► events ─► who watches
//! ```

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use super::Command;
use super::view::{self, Volumes, spelled};
use crate::control::config::plan::{self, ClientGroup};
use crate::control::figures::Counts;
use crate::control::parts::Configure;
use crate::control::runtime::Control;
use crate::dataplane::snapshot::{Group, Service, Snapshot};
use crate::dataplane::verdict::Reason;
use crate::ids::{PortId, ServiceId};
use crate::stats::collect::{Directory, Refusals, ServiceEntry, Sources};

pub mod capture;
pub mod clear;
pub mod dump;
pub mod events;
pub mod explain;
mod lease;
pub mod trace;
pub mod world;

use world::World;

impl<C: Configure> Control<C> {
    /// Does what a handler asked for. A client that has gone away is nobody's concern.
    pub(in crate::control) async fn answer(&mut self, command: Command) {
        match command {
            Command::Status(reply) => drop(reply.send(self.status())),
            Command::Services(reply) => drop(reply.send(self.services())),
            Command::Connections(query, reply) => {
                self.dumps.begin(query, &self.sources.directory(), reply);
            }
            Command::Clear(parameters, reply) => {
                let directory = self.sources.directory();
                let workers = (&self.publisher, self.cores.len());
                self.clears.begin(&parameters, &directory, workers, reply);
            }
            Command::Capture(parameters, reply) => {
                let directory = self.sources.directory();
                let world = world(&self.sources, &directory, &self.snapshot, (self.ticks)());
                self.captures.begin(&parameters, &world, reply);
            }
            Command::Explain(parameters, reply) => {
                let directory = self.sources.directory();
                let world = world(&self.sources, &directory, &self.snapshot, (self.ticks)());
                self.explains.begin(&parameters, &world, reply);
            }
            Command::Trace(parameters, reply) => {
                let directory = self.sources.directory();
                let world = world(&self.sources, &directory, &self.snapshot, (self.ticks)());
                self.traces.begin(&parameters, &world, reply);
            }
            Command::Watch(parameters, reply) => {
                let (version, generation) = (self.edition.version, self.snapshot.generation);
                drop(reply.send(self.bulletin.watch(&parameters, version, generation)));
            }
            Command::Reload(reply) => {
                let outcome = self.reload().await;
                drop(reply.send(outcome));
            }
            Command::Running(reply) => drop(reply.send(self.running())),
            Command::Drift(on_disk, reply) => {
                let on_disk = on_disk.then(|| self.on_disk());
                drop(reply.send(view::Drift { on_disk, ..self.drift() }));
            }
            Command::Edit(asked, reply) => {
                let outcome = self.edit(&asked.edits, asked.version).await;
                drop(reply.send(outcome));
            }
            Command::Hand(asked, reply) => drop(reply.send(self.hand(&asked))),
            Command::Save(force, reply) => drop(reply.send(self.save(force))),
            Command::Zero(which, reply) => drop(reply.send(self.zero(which.as_ref()))),
        }
    }

    fn status(&self) -> view::Status {
        view::Status {
            facts: self.sources.facts.clone(),
            uptime_s: self.started.elapsed().as_secs(),
            file: self.file.display().to_string(),
            generation: self.snapshot.generation,
            accepting: self.ending.accepting(),
            connections: self.sources.connections(),
            workers: self.worker_views(),
            ports: self.port_views(),
            drops: self.drop_views(),
            next_hops: view::NextHops {
                resolved: self.view.ways.len(),
                unanswered: self.view.unanswered.clone(),
                unrouted: self.view.unrouted.clone(),
            },
            last_reload: self.last_reload.clone(),
        }
    }

    fn worker_views(&self) -> Vec<view::Worker> {
        let mut views = Vec::new();
        let workers = self.sources.workers.iter().zip(&self.watched).zip(&self.cores);
        for (id, ((stats, watched), core)) in (0u8..).zip(workers) {
            views.push(view::Worker {
                id,
                core: *core,
                busy: watched.share(),
                connections: u64::from(stats.connections.get()),
                generation: stats.run.generation.get(),
                stalled: watched.stalled(),
                latency: self.sources.latency(std::slice::from_ref(stats)),
            });
        }
        views
    }

    fn port_views(&self) -> Vec<view::Port> {
        let losses = self.sources.devices.losses();
        let view = |spec: &crate::control::parts::TapSpec| {
            let traffic = self.sources.port(spec.id);
            let PortId(id) = spec.id;
            let tap = &self.sources.slow.taps[usize::from(id)];
            let device = self.plan.ports.get(usize::from(id)).and_then(plan::Port::device);
            view::Port {
                name: spec.port.clone(),
                device: device.map(|device| device.device.clone()),
                mac: spec.mac.to_string(),
                lost: losses.get(usize::from(id)).copied(),
                tap: spec.tap.clone(),
                tap_up: tap.up.get() == 1,
                rx_packets: traffic.rx_packets,
                rx_bytes: traffic.rx_bytes,
                tx_packets: traffic.tx_packets,
                tx_bytes: traffic.tx_bytes,
                to_kernel_packets: tap.to_kernel.get(),
                from_kernel_packets: tap.from_kernel.get(),
                tap_dropped_packets: tap.to_kernel_dropped.get() + tap.from_kernel_dropped.get(),
            }
        };
        self.taps.iter().map(view).collect()
    }

    fn drop_views(&self) -> Vec<view::Drops> {
        let view = |reason: &Reason| view::Drops {
            reason: reason.label().into(),
            meaning: reason.describe().trim().into(),
            packets: self.sources.drops(*reason),
        };
        Reason::ALL.iter().map(view).filter(|drops| drops.packets > 0).collect()
    }

    fn services(&self) -> view::Services {
        let directory = self.sources.directory();
        let planned = self.plan.services.iter().map(|service| (service.name.as_str(), service));
        let planned: HashMap<&str, &plan::Service> = planned.collect();
        let view = |entry: &ServiceEntry| {
            let planned = planned.get(entry.name.as_str()).filter(|_| !entry.removed);
            self.service_view(&directory, entry, planned.copied())
        };
        view::Services { services: directory.names.services.iter().map(view).collect() }
    }

    fn service_view(
        &self,
        directory: &Directory,
        entry: &ServiceEntry,
        planned: Option<&plan::Service>,
    ) -> view::Service {
        let activity = self.sources.service(directory, entry.id);
        let volumes = self.sources.service_volumes(directory, entry.id);
        let counts = Counts { connections: activity.new_connections, volumes };
        let since_zero = self.figures.services.since_zero(entry.id, counts);
        let per_second = self.figures.services.rate(entry.id);
        let current = self.snapshot.service(entry.id);
        let scheduling = current.map(|service| &service.scheduling);
        view::Service {
            name: entry.name.clone(),
            protocol: spelled(&entry.protocol),
            address: entry.address.to_string(),
            more_addresses: current.map_or_else(Vec::new, |service| {
                let own = service.addresses.iter().skip(1).map(ToString::to_string);
                own.chain(service.other_protocols.iter().map(ToString::to_string)).collect()
            }),
            clients: current.map_or_else(Vec::new, |service| self.clients_of(service)),
            scheduler: scheduling.map_or_else(String::new, |s| spelled(&s.scheduler)),
            scheduler_flags: scheduling
                .map_or_else(Vec::new, |s| s.flags.names(s.scheduler).map(str::to_owned).collect()),
            one_packet: current.is_some_and(|service| service.one_packet),
            persistence: current
                .and_then(|service| service.persistence)
                .map(|it| view::Persistence { timeout_s: it.timeout_ms / 1000, prefix: it.prefix }),
            local_addresses: current
                .map_or_else(Vec::new, |service| service.locals.iter().collect()),
            removed: entry.removed,
            connections: activity.connections,
            new_connections: activity.new_connections,
            new_since_zero: since_zero.connections,
            new_per_second: per_second.connections,
            volumes,
            volumes_since_zero: since_zero.volumes,
            volumes_per_second: per_second.volumes,
            refused: activity.all_refused(),
            refusals: refusals(activity.refused),
            quorum: planned.and_then(|service| self.health.quorum(&service.key())),
            backends: self.backend_views(directory, entry.id, planned),
        }
    }

    fn clients_of(&self, service: &Service) -> Vec<String> {
        let lists = &self.plan.lists;
        let name = |group: &Group| match *group {
            Group::Network(first, length) => ClientGroup::Network(first, length).to_string(),
            Group::List(place) => {
                lists.get(usize::from(place)).map_or_else(String::new, |list| list.name.clone())
            }
        };
        service.clients.iter().map(name).collect()
    }

    fn backend_views(
        &self,
        directory: &Directory,
        service: ServiceId,
        planned: Option<&plan::Service>,
    ) -> Vec<view::Backend> {
        let mut views = self.published_views(directory, service);
        let Some(planned) = planned else { return views };
        let places = (0..).zip(&views).map(|(place, view)| (view.address, place));
        let places: HashMap<SocketAddr, usize> = places.collect();
        for backend in &planned.backends {
            let health = self.health.backend(&planned.key(), backend.address);
            let place = places.get(&backend.address).and_then(|place| views.get_mut(*place));
            match place {
                Some(view) => {
                    (view.health, view.sorry) = (health, backend.sorry);
                    view.configured_weight = Some(backend.weight);
                    view.by_hand = self.by_hand(&planned.key(), backend.address);
                }
                // Health has taken it out, or not yet put it in.
                None => views.push(view::Backend {
                    address: backend.address,
                    reachable: self.view.ways.contains_key(&backend.address.ip()),
                    health,
                    sorry: backend.sorry,
                    weight: None,
                    configured_weight: Some(backend.weight),
                    by_hand: self.by_hand(&planned.key(), backend.address),
                    max_connections: backend.limit.most,
                    resume_below: backend.limit.least,
                    forward: Some(backend.mode.into()),
                    connections: 0,
                    active_connections: 0,
                    new_connections: 0,
                    new_since_zero: 0,
                    new_per_second: 0,
                    volumes: Volumes::default(),
                    volumes_since_zero: Volumes::default(),
                    volumes_per_second: Volumes::default(),
                }),
            }
        }
        views
    }

    /// Those that workers know, or connections still name.
    fn published_views(&self, directory: &Directory, service: ServiceId) -> Vec<view::Backend> {
        let view = |entry: &crate::stats::collect::BackendEntry| {
            let activity = self.sources.backend(directory, entry.id);
            let volumes = activity.volumes;
            let counts = Counts { connections: activity.new_connections, volumes };
            let since_zero = self.figures.backends.since_zero(entry.id, counts);
            let per_second = self.figures.backends.rate(entry.id);
            let current = self.snapshot.backend(entry.id).filter(|_| !entry.removed);
            view::Backend {
                address: entry.address,
                weight: current.map(|backend| backend.weight),
                configured_weight: None,
                by_hand: None,
                max_connections: current.map_or(0, |backend| backend.limit.most),
                resume_below: current.map_or(0, |backend| backend.limit.least),
                forward: current.map(|backend| backend.mode.into()),
                reachable: self.view.ways.contains_key(&entry.address.ip()),
                connections: activity.connections,
                active_connections: activity.active,
                new_connections: activity.new_connections,
                sorry: false,
                health: None,
                new_since_zero: since_zero.connections,
                new_per_second: per_second.connections,
                volumes,
                volumes_since_zero: since_zero.volumes,
                volumes_per_second: per_second.volumes,
            }
        };
        directory.all_backends_of(service).map(view).collect()
    }
}

/// What requests are understood by.
fn world<'a>(
    sources: &'a Sources,
    directory: &'a Directory,
    snapshot: &'a Arc<Snapshot>,
    ticks: u64,
) -> World<'a> {
    let (ports, workers) = (&sources.ports, sources.workers.len());
    World { ports, snapshot, directory, workers, ticks, tsc_hz: sources.facts.tsc_hz }
}

impl<C: Configure> Control<C> {
    /// Goes on with the explanation that is asked for.
    pub(in crate::control) fn explain(&mut self) {
        if self.explains.active() {
            let directory = self.sources.directory();
            let world = world(&self.sources, &directory, &self.snapshot, (self.ticks)());
            self.explains.poll(&mut self.publisher, &world, &self.sources.workers);
        }
    }
}

/// Those that occurred.
fn refusals(counts: Refusals) -> Vec<view::Refusal> {
    let view = |(reason, count): (&Reason, u64)| view::Refusal {
        reason: reason.label().into(),
        connections: count,
    };
    let occurred = Reason::OF_SERVICES.iter().zip(counts).filter(|(_, count)| *count > 0);
    occurred.map(view).collect()
}
