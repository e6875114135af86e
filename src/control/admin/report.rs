//! The control loop's answers: what it knows, put into the types of [`super::view`].

use super::Command;
use super::view::{self, spelled};
use crate::control::config::plan::ClientGroup;
use crate::control::parts::Configure;
use crate::control::runtime::Control;
use crate::dataplane::snapshot::{Group, Service};
use crate::dataplane::verdict::Reason;
use crate::ids::{PortId, ServiceId};
use crate::stats::collect::{Directory, Refusals, ServiceEntry};

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
            Command::Reload(reply) => {
                let outcome = self.reload().await;
                drop(reply.send(outcome));
            }
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
            });
        }
        views
    }

    fn port_views(&self) -> Vec<view::Port> {
        let view = |spec: &crate::control::parts::TapSpec| {
            let traffic = self.sources.port(spec.id);
            let PortId(id) = spec.id;
            let tap = &self.sources.slow.taps[usize::from(id)];
            view::Port {
                name: spec.port.clone(),
                mac: spec.mac.to_string(),
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
        let view = |entry: &ServiceEntry| self.service_view(&directory, entry);
        view::Services { services: directory.names.services.iter().map(view).collect() }
    }

    fn service_view(&self, directory: &Directory, entry: &ServiceEntry) -> view::Service {
        let activity = self.sources.service(directory, entry.id);
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
            removed: entry.removed,
            connections: activity.connections,
            new_connections: activity.new_connections,
            refused: activity.all_refused(),
            refusals: refusals(activity.refused),
            backends: self.backend_views(directory, entry.id),
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

    fn backend_views(&self, directory: &Directory, service: ServiceId) -> Vec<view::Backend> {
        let of_service = directory.names.backends.iter().filter(|entry| entry.service == service);
        let view = |entry: &crate::stats::collect::BackendEntry| {
            let activity = self.sources.backend(directory, entry.id);
            let current = self.snapshot.backend(entry.id).filter(|_| !entry.removed);
            view::Backend {
                address: entry.address,
                weight: current.map(|backend| backend.weight),
                max_connections: current.map_or(0, |backend| backend.limit.most),
                resume_below: current.map_or(0, |backend| backend.limit.least),
                forward: current.map(|backend| backend.mode.into()),
                reachable: self.view.ways.contains_key(&entry.address.ip()),
                connections: activity.connections,
                active_connections: activity.active,
                new_connections: activity.new_connections,
            }
        };
        of_service.map(view).collect()
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
