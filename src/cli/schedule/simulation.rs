//! A service with backends and one worker's scheduler, and nothing else.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};

use super::Change;
use crate::dataplane::sched::{Chooser, Entry, Flags, Flow, Scheduler, Scheduling};
use crate::dataplane::snapshot::{
    Backend, Limit, Mode, NextHop, Protocol, Service, Snapshot, Weighings,
};
use crate::ids::{BackendId, PortId, ServiceId, WorkerId};
use crate::stats::loads::Loads;
use crate::wire::Mac;

const SERVICE: ServiceId = ServiceId(0);

/// Where chance begins.
const SEED: u64 = 1;

/// A backend that is or was there: its id is its place among all that ever were.
struct Known {
    address: SocketAddr,
    weight: u32,
    last_weight: u32,
    age: u64,
}

/// A service, its backends and who chooses among them.
pub(super) struct Simulation {
    scheduler: Scheduler,
    flags: Flags,
    limits: HashMap<SocketAddr, Limit>,
    known: Vec<Known>,
    /// Where flows are that end: `None` until they begin, and if they are refused.
    ending: HashMap<u64, Option<BackendId>>,
    /// Backends ever added.
    added: u64,
    /// Those that are there, newest first.
    order: Vec<BackendId>,
    revision: u64,
    /// What each change made of the weights, whether or not a flow came between.
    weighings: Weighings,
    is_current: bool,
    snapshot: Snapshot,
    loads: Loads,
    chooser: Chooser,
}

impl Simulation {
    pub(super) fn new(
        scheduler: Scheduler,
        flags: Flags,
        limits: HashMap<SocketAddr, Limit>,
    ) -> Self {
        Self {
            scheduler,
            flags,
            limits,
            ending: HashMap::new(),
            known: vec![],
            order: vec![],
            added: 0,
            revision: 0,
            weighings: Weighings::default(),
            is_current: false,
            snapshot: Snapshot::default(),
            loads: Loads::default(),
            chooser: Chooser::new(WorkerId(0), 1, SEED),
        }
    }

    fn find(&self, address: SocketAddr) -> Option<BackendId> {
        let ids = (0u32..).map(BackendId).zip(&self.known);
        ids.filter(|(_, known)| known.address == address).map(|(id, _)| id).next()
    }

    fn known(&self, id: BackendId) -> Option<&Known> {
        self.known.get(id.index())
    }

    /// Is it there?
    pub(super) fn has(&self, address: SocketAddr) -> bool {
        self.find(address).is_some_and(|id| self.order.contains(&id))
    }

    /// Address and weight of those that are there, oldest first.
    pub(super) fn backends(&self) -> impl Iterator<Item = (SocketAddr, u32)> {
        let known = self.order.iter().rev().filter_map(|id| self.known(*id));
        known.map(|known| (known.address, known.weight))
    }

    /// A backend gets this weight; one that is not there is added, as the newest.
    pub(super) fn set(&mut self, address: SocketAddr, weight: u32) {
        let id = self.find(address).unwrap_or_else(|| {
            self.known.push(Known { address, weight, last_weight: 0, age: 0 });
            BackendId(u32::try_from(self.known.len() - 1).unwrap_or(u32::MAX))
        });
        let is_there = self.order.contains(&id);
        if let Some(known) = self.known.get_mut(id.index()) {
            let before = if is_there { known.last_weight } else { 0 };
            known.last_weight = if weight > 0 { weight } else { before };
            known.weight = weight;
        }
        if !is_there {
            self.added += 1;
            let age = self.added;
            self.known.get_mut(id.index()).into_iter().for_each(|known| known.age = age);
            self.order.insert(0, id);
        }
        self.note();
    }

    pub(super) fn apply(&mut self, change: &Change) {
        let Some(weight) = change.weight else {
            let gone = self.find(change.address);
            self.order.retain(|other| Some(*other) != gone);
            return self.note();
        };
        self.set(change.address, weight);
    }

    /// A backend has changed.
    fn note(&mut self) {
        self.is_current = false;
        let weights = self.order.iter().filter_map(|id| Some(self.known(*id)?.weight));
        self.weighings.note(self.revision + 1, weights.collect());
    }

    /// These flows will end.
    pub(super) fn keep_all_of(&mut self, flows: impl Iterator<Item = u64>) {
        self.ending = flows.map(|flow| (flow, None)).collect();
    }

    /// The connection of a flow is over, if it was not refused or has ended before.
    pub(super) fn end(&mut self, flow: u64) {
        let Some(id) = self.ending.get_mut(&flow).and_then(Option::take) else { return };
        let limit = self.known(id).map_or(Limit::NONE, |known| self.limit(known));
        self.loads.give_back(id, true, limit);
        self.chooser.changed(&self.snapshot, &self.loads, id);
    }

    fn limit(&self, known: &Known) -> Limit {
        self.limits.get(&known.address).copied().unwrap_or(Limit::NONE)
    }

    /// A new TCP connection, which becomes active and stays.
    pub(super) fn connect(
        &mut self,
        number: u64,
        client: SocketAddr,
        vip: SocketAddr,
    ) -> Option<SocketAddr> {
        if !self.is_current {
            self.publish();
        }
        let flow = Flow {
            client: client.ip(),
            client_port: client.port(),
            vip: vip.ip(),
            datagram: &[],
            now_ms: 0,
        };
        let id = self.chooser.place(&self.snapshot, &self.loads, SERVICE, &flow)?;
        self.loads.turn(id, true);
        self.chooser.changed(&self.snapshot, &self.loads, id);
        self.ending.entry(number).and_modify(|ending| *ending = Some(id));
        self.known(id).map(|known| known.address)
    }

    /// What the scheduler sees from now on.
    fn publish(&mut self) {
        self.is_current = true;
        self.revision += 1;
        let entry = |id: &BackendId| {
            self.known(*id).map(|known| Entry {
                address: known.address,
                weight: known.weight,
                last_weight: known.last_weight,
                server_id: None,
            })
        };
        let entries: Vec<Entry> = self.order.iter().filter_map(entry).collect();
        let service = Service {
            name: "schedule".into(),
            protocol: Protocol::Tcp,
            scheduling: Scheduling::prepare(self.scheduler, self.flags, &entries),
            backends: self.order.as_slice().into(),
            ages: self.order.iter().filter_map(|id| Some(self.known(*id)?.age)).collect(),
            revision: self.revision,
            weighings: self.weighings.clone(),
            ..Service::default()
        };
        let mut snapshot = Snapshot::default();
        snapshot.services = [Some(service)].into();
        snapshot.backends =
            self.known.iter().map(|known| Some(backend(known, self.limit(known)))).collect();
        let before = std::mem::replace(&mut self.snapshot, snapshot.indexed());
        self.chooser.renew(&before, &self.snapshot, &self.loads);
    }
}

fn backend(known: &Known, limit: Limit) -> Backend {
    let hop = NextHop { port: PortId(0), source: Mac::default(), destination: Mac::default() };
    Backend {
        service: SERVICE,
        address: known.address.ip(),
        port: known.address.port(),
        mode: Mode::Fullnat,
        answers_here: false,
        our_address: Ipv4Addr::UNSPECIFIED.into(),
        weight: known.weight,
        limit,
        next_hop: Some(hop),
    }
}
