//! The real thing: workers over ports and lanes made of `Vec`s, configured by a [`Config`].
//!
//! Port 0 faces the clients, port 1 the backends; every worker has a queue of each. What a burst
//! made happen is a [`Seen`]: frames that left, frames for the kernel, drops by reason.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use shunt::dataplane::access::{Access, ListSet, Listed, Network};
use shunt::dataplane::clearing::Clearing;
use shunt::dataplane::conn::index::Seed;
use shunt::dataplane::conn::key::FlowKey;
use shunt::dataplane::conn::ports::{Ownership, Toeplitz};
use shunt::dataplane::conn::table::Tables;
use shunt::dataplane::flows::Flows;
use shunt::dataplane::io::Packet as _;
use shunt::dataplane::io::memory::{Memory, VecLane, VecPacket, VecPort};
use shunt::dataplane::mailbox::mailbox;
use shunt::dataplane::mem::HugePages;
use shunt::dataplane::orders::{Answer, ConnectionView, ControlEnd, Order, Page};
use shunt::dataplane::persistence::Templates;
use shunt::dataplane::sched::{Entry, Scheduling};
use shunt::dataplane::snapshot::{
    self, Group, Link, Networks, NextHop, PortView, Ports, ServiceAddress, Snapshot, Steering,
};
use shunt::dataplane::sources::Sources;
use shunt::dataplane::verdict::Reason;
use shunt::dataplane::worker::{Links, Worker};
use shunt::ids::{BackendId, PortId, ServiceId, WorkerId};
use shunt::stats::counters::WorkerStats;
use shunt::stats::tallies::Tallies;

use crate::config::{Backend, Config, Place, Service, our_address};
use crate::packet::Packet;
use crate::packets::{OUR_INNER_MAC, OUR_MAC, left};
use crate::pieces::Piece;
use crate::scenario::{Card, Scenario};
use crate::seen::{Seen, Sent};

/// Ids of a service's backends start at its own times this.
const BACKENDS_MAX: usize = 16;

/// Packets a queue or lane takes: more than a burst of the simulation ever has.
const LANE: usize = 4096;

const RSS_KEY: [u8; 40] = *b"forty bytes that make a card spread well";

/// Templates and sources there is room for: more than anybody ever has.
const ROOM: usize = 600;

/// One link between a worker and the world.
struct Ends {
    ports: [VecPort; 2],
    punt: VecLane,
    control: ControlEnd,
}

pub(crate) struct Balancer {
    card: Card,
    now_ms: u32,
    workers: Vec<Worker<Memory>>,
    ends: Vec<Ends>,
    stats: Vec<Arc<WorkerStats>>,
    templates: Arc<Templates>,
    /// Workers that are ending connections by order, and how many they have ended.
    clearing: usize,
    cleared: u64,
    toeplitz: Toeplitz,
    generation: u64,
    dropped: Vec<u64>,
    untold: u64,
}

impl Balancer {
    pub(crate) fn new(scenario: &Scenario, now_ms: u32) -> Self {
        let seed = Seed(scenario.hash_seed);
        let mut balancer = Self {
            templates: Arc::new(Templates::new(ROOM, seed, HugePages::Never).unwrap()),
            clearing: 0,
            cleared: 0,
            card: scenario.card,
            now_ms,
            workers: vec![],
            ends: vec![],
            stats: vec![],
            toeplitz: Toeplitz::new(&RSS_KEY).unwrap(),
            generation: 1,
            dropped: vec![0; Reason::COUNT],
            untold: 0,
        };
        let workers = scenario.workers;
        let first = Arc::new(balancer.snapshot(&scenario.config, workers));
        let count = usize::from(workers);
        let lane = |_| VecLane::new(LANE);
        let lanes: Vec<Vec<_>> = (0..count).map(|_| (0..count).map(lane).collect()).collect();
        for id in 0..workers {
            balancer.add_worker(id, scenario, &lanes, &first);
        }
        balancer.poll();
        balancer
    }

    fn add_worker(
        &mut self,
        id: u8,
        scenario: &Scenario,
        lanes: &[Vec<VecLane>],
        first: &Arc<Snapshot>,
    ) {
        let loads = self.stats.first().map(|stats| Arc::clone(&stats.loads));
        let tallies = self.stats.first().map(|stats| Arc::clone(&stats.tallies));
        let seed = Seed(scenario.hash_seed);
        let sources = || Sources::new(ROOM, seed, HugePages::Never).unwrap();
        let tallies = tallies.unwrap_or_else(|| Arc::new(Tallies::with(sources())));
        let stats = WorkerStats::sharing(loads.unwrap_or_default()).with_tallies(tallies);
        let stats = Arc::new(stats);
        let ports = [VecPort::new(LANE), VecPort::new(LANE)];
        let punt = VecLane::new(LANE);
        let (control, end) = mailbox();
        let me = usize::from(id);
        let others = (0..lanes.len()).filter(|peer| *peer != me);
        let links = Links {
            ports: ports.to_vec(),
            from_peers: others.map(|peer| lanes[peer][me].clone()).collect(),
            to_peers: (0..lanes.len())
                .map(|peer| (peer != me).then(|| lanes[me][peer].clone()))
                .collect(),
            punt: punt.clone(),
            inject: None,
        };
        let flows = Flows::new(
            Tables::new(scenario.capacity, Seed(scenario.hash_seed)).unwrap(),
            Arc::clone(first),
            Ownership::new(WorkerId(id), scenario.workers, &first.ports),
            Arc::clone(&stats),
        );
        let flows = flows.with_templates(Arc::clone(&self.templates));
        self.workers.push(Worker::new(flows, links, end));
        self.ends.push(Ends { ports, punt, control });
        self.stats.push(stats);
    }

    fn snapshot(&self, config: &Config, workers: u8) -> Snapshot {
        let mut snapshot = Snapshot::default();
        snapshot.generation = self.generation;
        snapshot.ports = [(0, OUR_MAC), (1, OUR_INNER_MAC)]
            .map(|(port, mac)| PortView {
                mac,
                mtu: config.mtu[port],
                link: Link::Device,
                steering: self.steering(port, workers),
            })
            .into();
        let services = config.services.iter().enumerate();
        snapshot.services =
            services.map(|(id, service)| Some(self.service(id, service, config))).collect();
        snapshot.backends = (0..config.services.len() * BACKENDS_MAX)
            .map(|id| {
                let (service, backend) = (id / BACKENDS_MAX, id % BACKENDS_MAX);
                config.services[service].backends.get(backend).and_then(|b| compiled(service, b))
            })
            .collect();
        let had_nat = |id: &usize| config.services[*id].backends.iter().any(|b| b.was_nat);
        let ids = (0..config.services.len()).filter(had_nat);
        snapshot.had_nat = ids.map(|id| ServiceId(u32::try_from(id).unwrap())).collect();
        snapshot.timeouts = config.timeouts;
        snapshot.strays =
            if config.rejects { snapshot::Strays::Reject } else { snapshot::Strays::Drop };
        snapshot.restarts = config.restarts;
        snapshot.drop_malformed_tcp = config.drops_malformed;
        snapshot.reset_on_end = config.resets;
        snapshot.icmp_on_end = config.icmp;
        snapshot.tunnels_ignore_df = config.ignores_df;
        snapshot.departed = departed(config);
        let members = members(config);
        let told = members.0.iter().map(|it| (it.base, it.length, it.lists));
        snapshot.client_networks = Arc::new(Networks::new(told));
        snapshot.members = Some(Arc::new(members));
        snapshot.accepting = config.accepting;
        snapshot.punt_per_second = 1_000_000;
        snapshot.indexed()
    }

    fn service(&self, id: usize, service: &Service, config: &Config) -> snapshot::Service {
        let present = service.backends.iter().enumerate().filter(|(_, b)| b.weight.is_some());
        let ids = present.clone().map(|(backend, _)| backend_id(Place { service: id, backend }));
        let entries: Vec<Entry> = present.rev().map(|(_, backend)| entry(backend)).collect();
        snapshot::Service {
            name: format!("service {id}").into(),
            protocol: service.protocol,
            addresses: [address(service)].into(),
            other_protocols: service
                .also
                .map(|protocol| snapshot::Place { protocol, address: address(service) })
                .into_iter()
                .collect(),
            reflection_ports: service
                .reflected
                .map_or_else(Box::default, |(a, b)| (a..=b).collect()),
            scheduling: Scheduling::prepare(service.scheduler, service.flags, &entries),
            backends: ids.rev().collect(),
            locals: config.locals.iter().copied().collect(),
            clients: service
                .clients
                .map(|list| Group::List(u8::try_from(list).unwrap()))
                .into_iter()
                .collect(),
            client_address: service.introduces,
            sloppy: service.sloppy,
            one_packet: service.one_packet,
            persistence: service.persistence,
            quotas: service.quotas,
            timeouts: service.timeouts.map(Box::new),
            access: Access {
                deny: service.access.denied.map_or_else(ListSet::default, ListSet::of),
                allow: service.access.allowed.map_or_else(ListSet::default, ListSet::of),
            },
            revision: self.generation,
            ..snapshot::Service::default()
        }
    }

    fn steering(&self, port: usize, workers: u8) -> Steering {
        if self.card.spreads(port) {
            Steering::Rss { key: RSS_KEY.into(), table: redirection(workers) }
        } else {
            Steering::Software
        }
    }

    /// Every worker takes the configuration into use.
    pub(crate) fn publish(&mut self, config: &Config) {
        self.generation += 1;
        let workers = u8::try_from(self.workers.len()).unwrap();
        let snapshot = Arc::new(self.snapshot(config, workers));
        for end in &mut self.ends {
            end.control.send(Order::Publish(Arc::clone(&snapshot))).unwrap();
        }
        self.poll();
        for end in 0..self.ends.len() {
            assert!(matches!(self.answer(end), Some(Answer::Retired(_))));
        }
    }

    /// A worker's answer to anything but an order to clear: those may come in between.
    fn answer(&mut self, end: usize) -> Option<Answer> {
        loop {
            match self.ends[end].control.answer() {
                Some(Answer::Cleared(done)) => self.note_cleared(done.ended),
                other => return other,
            }
        }
    }

    fn note_cleared(&mut self, ended: u64) {
        self.cleared += ended;
        self.clearing -= 1;
    }

    /// The connections of these backends end, from now on. False if others are ending still.
    pub(crate) fn clear(&mut self, places: &[Place]) -> bool {
        if self.clearing > 0 {
            return false;
        }
        self.clearing = self.ends.len();
        for end in &mut self.ends {
            let order = Order::Clear(Clearing::of(places.iter().map(|place| backend_id(*place))));
            end.control.send(order).unwrap();
        }
        self.poll();
        true
    }

    /// Have all of them ended? How many, since the start.
    pub(crate) fn has_cleared(&mut self) -> Option<u64> {
        for end in 0..self.ends.len() {
            assert!(self.answer(end).is_none(), "nothing else was asked");
        }
        (self.clearing == 0).then_some(self.cleared)
    }

    /// Time passes; what is over by then and was due is forgotten.
    pub(crate) fn advance(&mut self, now_ms: u32) {
        self.now_ms = now_ms;
        self.poll();
    }

    /// A frame is received by a port; where the card does not spread, `anyone` says by whom.
    pub(crate) fn receive(&mut self, port: usize, anyone: usize, frame: &[u8]) {
        // What cards do with pieces differs: anything may happen.
        let spreads = self.card.spreads(port) && Piece::read(frame).is_none();
        let queue = if spreads { self.queue_of(frame) } else { anyone };
        self.ends[queue].ports[port].inbound.push(VecPacket::new(frame)).unwrap();
    }

    /// Where a card that spreads puts the frame: queue 0 if it is no flow.
    fn queue_of(&self, frame: &[u8]) -> usize {
        let Some(flow) = Packet::read(frame).ok().and_then(|packet| packet.flow()) else {
            return 0;
        };
        let ports = (flow.from.port(), flow.to.port());
        let hash = match (flow.from.ip(), flow.to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                self.toeplitz.hash(FlowKey::<Ipv4Addr>::new(0, (from, ports.0), (to, ports.1)))
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                self.toeplitz.hash(FlowKey::<Ipv6Addr>::new(0, (from, ports.0), (to, ports.1)))
            }
            ends => panic!("{ends:?} are of two families"),
        };
        let table = redirection(u8::try_from(self.workers.len()).unwrap());
        usize::from(table[hash as usize % table.len()])
    }

    /// Every worker polls until nothing moves and nobody is behind.
    fn poll(&mut self) {
        for _ in 0..10_000 {
            let moved: usize = self.workers.iter_mut().map(|w| w.poll(self.now_ms)).sum();
            if moved == 0 && !self.workers.iter().any(Worker::is_behind) {
                return;
            }
        }
        panic!("packets go round in circles");
    }

    /// The workers do what there is to do; what came of it.
    pub(crate) fn work(&mut self) -> Seen {
        self.poll();
        let mut sent = vec![];
        let mut punted = vec![];
        for end in &self.ends {
            for (port, queue) in end.ports.iter().enumerate() {
                while let Some(packet) = queue.outbound.pop() {
                    sent.push(Sent { port, frame: packet.data().to_vec() });
                }
            }
            while let Some(packet) = end.punt.pop() {
                punted.push(packet.data().to_vec());
            }
        }
        Seen::new(sent, punted, self.drops())
    }

    /// Ends that were not told of their connection's end, since the last call.
    pub(crate) fn untold(&mut self) -> u64 {
        let total = self.total(|stats| stats.run.ends_untold.get());
        total - std::mem::replace(&mut self.untold, total)
    }

    /// Drops since the last call.
    fn drops(&mut self) -> BTreeMap<Reason, u64> {
        let mut new = BTreeMap::new();
        for (reason, before) in Reason::ALL.iter().zip(&mut self.dropped) {
            let total = self.stats.iter().map(|s| s.drops[*reason as usize].get()).sum();
            if total != *before {
                new.insert(*reason, total - *before);
            }
            *before = total;
        }
        new
    }

    /// Connections there are, by the workers' gauges.
    pub(crate) fn connections(&self) -> usize {
        self.stats.iter().map(|s| s.connections.get() as usize).sum()
    }

    /// All connections, in words.
    pub(crate) fn list(&mut self) -> Vec<ConnectionView> {
        let mut all = vec![];
        for end in 0..self.ends.len() {
            let mut page = Page::default();
            while !page.done {
                page.rows.reserve(64);
                self.ends[end].control.send(Order::Dump(page)).unwrap();
                self.poll();
                let Some(Answer::Page(answer)) = self.answer(end) else {
                    panic!("a dump is answered by a page")
                };
                page = answer;
                all.append(&mut page.rows);
            }
        }
        all
    }

    /// Sums a figure over the workers.
    pub(crate) fn total(&self, of: impl Fn(&WorkerStats) -> u64) -> u64 {
        self.stats.iter().map(|stats| of(stats)).sum()
    }

    /// Connections made with a backend, and those there are.
    pub(crate) fn of_backend(&self, place: Place) -> (u64, u64) {
        let id = backend_id(place).index();
        let made = self.total(|s| s.backends[id].new_connections.get());
        (made, self.total(|s| s.backends[id].connections.get().into()))
    }

    /// Packets and bytes in, packets and bytes out, of a backend.
    pub(crate) fn passed(&self, place: Place) -> [u64; 4] {
        let id = backend_id(place);
        std::array::from_fn(|at| self.total(|s| s.volumes.of(id).numbers()[at]))
    }

    /// All that is left, in words.
    pub(crate) fn left(&self) -> Vec<String> {
        left::left(&self.workers, &self.stats, &self.templates, self.now_ms)
    }

    /// Is there nothing that only time can end?
    pub(crate) fn is_quiet(&self) -> bool {
        left::is_quiet(&self.workers, &self.stats, &self.templates, self.now_ms)
    }
}

/// Where clients find it.
fn address(service: &Service) -> ServiceAddress {
    let (first, last) = service.ports;
    ServiceAddress { vip: service.vip.ip(), ports: Ports { first, last } }
}

/// A backend as schedulers' tables are made of it.
fn entry(backend: &Backend) -> Entry {
    let port = if backend.any_port { 0 } else { backend.address.port() };
    Entry {
        address: (backend.address.ip(), port).into(),
        weight: backend.weight.unwrap_or(0),
        last_weight: backend.last_weight,
        server_id: None,
    }
}

fn hop(backend: &Backend) -> Option<NextHop> {
    let hop = NextHop { port: PortId(1), source: OUR_INNER_MAC, destination: backend.mac };
    backend.reachable.then_some(hop)
}

/// Every address on a list, with all its lists.
fn members(config: &Config) -> Listed {
    let [first, second] = &config.lists;
    let networks = first.iter().chain(second).map(|address| {
        let lists = [(0, first), (1, second)];
        let on = lists.iter().filter(|(_, list)| list.contains(address));
        let lists = on.fold(ListSet::default(), |all, (at, _)| all.and(ListSet::of(*at)));
        Network { base: *address, length: if address.is_ipv6() { 128 } else { 32 }, lists }
    });
    Listed(networks.collect())
}

/// Backends that were removed, and the ways to them.
fn departed(config: &Config) -> Box<[(BackendId, NextHop)]> {
    let services = config.services.iter().enumerate();
    let all = services.flat_map(|(service, of)| {
        let place = move |(backend, it)| (backend_id(Place { service, backend }), it);
        of.backends.iter().enumerate().map(place)
    });
    let gone = all.filter(|(_, backend)| backend.weight.is_none());
    gone.filter_map(|(id, backend)| Some((id, hop(backend)?))).collect()
}

fn compiled(service: usize, backend: &Backend) -> Option<snapshot::Backend> {
    Some(snapshot::Backend {
        service: ServiceId(u32::try_from(service).unwrap()),
        address: backend.address.ip(),
        port: if backend.any_port { 0 } else { backend.address.port() },
        mode: backend.mode,
        answers_here: backend.was_nat,
        our_address: our_address(backend.address.is_ipv6()),
        weight: backend.weight?,
        limit: backend.limit,
        next_hop: hop(backend),
    })
}

pub(crate) fn backend_id(place: Place) -> BackendId {
    BackendId(u32::try_from(place.service * BACKENDS_MAX + place.backend).unwrap())
}

/// The place an id stands for.
pub(crate) fn place_of(id: BackendId) -> Place {
    Place { service: id.index() / BACKENDS_MAX, backend: id.index() % BACKENDS_MAX }
}

fn redirection(workers: u8) -> Box<[u16]> {
    (0..128).map(|entry| entry % u16::from(workers)).collect()
}
