//! A small world around real workers: ports, lanes, clock and control plane made of `Vec`s.
//!
//! Port 0 faces the clients, port 1 the backends; every worker has a queue of each. Tagged ports
//! come on top of these ([`Plan::tagged`]). Backends are IPv4 hosts unless the plan says otherwise
//! ([`Plan::v6`]). With [`Card::Rss`] the world spreads packets as a network card would, by Toeplitz; with
//! [`Card::Any`] the test says which worker gets a packet.

#[path = "orders.rs"]
mod orders;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use shunt::dataplane::conn::index::Seed;
use shunt::dataplane::conn::key::FlowKey;
use shunt::dataplane::conn::ports::{Ownership, Toeplitz};
use shunt::dataplane::conn::table::Tables;
use shunt::dataplane::flows::Flows;
use shunt::dataplane::io::Packet as _;
use shunt::dataplane::io::memory::{Memory, VecLane, VecPacket, VecPort};
use shunt::dataplane::mailbox::mailbox;
use shunt::dataplane::mem::HugePages;
use shunt::dataplane::orders::{Answer, ControlEnd, Order};
use shunt::dataplane::persistence::Templates;
use shunt::dataplane::snapshot::{
    Backend, Limit, Link, Locals, Mode, NextHop, PortView, Protocol, Scheduler, Service,
    ServiceAddress, Snapshot, Steering, Weighings,
};
use shunt::dataplane::sources::Sources;
use shunt::dataplane::verdict::Reason;
use shunt::dataplane::worker::{Links, Worker};
use shunt::ids::{BackendId, PortId, ServiceId, WorkerId};
use shunt::stats::counters::WorkerStats;
use shunt::stats::loads::Loads;
use shunt::stats::tallies::Tallies;
use shunt::wire::Mac;
use shunt::wire::vlan::Tags;

use crate::packets::rules::Setup;
use crate::packets::{self, OUR_INNER_MAC, OUR_MAC, left};

/// How packets find a worker's queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Card {
    /// Any way at all.
    Any,
    /// By Toeplitz over the 4-tuple.
    Rss,
}

/// What to build.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) workers: u8,
    pub(crate) card: Card,
    /// Connections per worker.
    pub(crate) capacity: u32,
    /// Where services are: one of each protocol at port 80 of each.
    pub(crate) vips: Vec<IpAddr>,
    pub(crate) protocols: Vec<Protocol>,
    /// Weights of the backends 10.44.0.11, .12, … ([`host`]); `None` is a removed one.
    pub(crate) weights: Vec<Option<u32>>,
    /// How each of them is reached.
    pub(crate) modes: Vec<Mode>,
    /// Which of them are IPv6 hosts; none if empty.
    pub(crate) v6: Vec<bool>,
    /// Were they in NAT mode before?
    pub(crate) was_nat: bool,
    pub(crate) locals: Vec<Ipv4Addr>,
    /// Local addresses towards IPv6 backends.
    pub(crate) locals_v6: Vec<Ipv6Addr>,
    /// MTUs of the clients' and the backends' side.
    pub(crate) mtus: [u16; 2],
    /// Ports from the third on: device and tags.
    pub(crate) tagged: Vec<(PortId, Tags)>,
    /// The port all backends are reached by.
    pub(crate) backend_port: PortId,
    pub(crate) seed: Seed,
    /// Sources there is room for.
    pub(crate) sources: usize,
    /// Packets a queue or lane takes.
    pub(crate) lane: usize,
    /// Told `true` before memory is reserved that several workers look at, and `false` behind it.
    pub(crate) sharing: fn(bool),
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            workers: 1,
            card: Card::Any,
            capacity: 1024,
            vips: vec![packets::VIP.0.into()],
            protocols: vec![Protocol::Tcp, Protocol::Udp],
            weights: vec![Some(1), Some(1), Some(1)],
            v6: vec![],
            modes: vec![Mode::Fullnat; 3],
            was_nat: false,
            locals: vec![Ipv4Addr::new(10, 44, 0, 2)],
            locals_v6: vec![],
            mtus: [1500; 2],
            tagged: vec![],
            backend_port: PortId(1),
            seed: Seed([0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210]),
            sources: 600,
            lane: 4096,
            sharing: |_| {},
        }
    }
}

/// Made where several workers look at it.
fn shared<T>(plan: &Plan, make: impl FnOnce() -> T) -> Arc<T> {
    (plan.sharing)(true);
    let made = Arc::new(make());
    (plan.sharing)(false);
    made
}

pub(crate) const RSS_KEY: [u8; 40] = *b"a key of forty bytes that spreads flows!";

/// A frame that left, and by which worker and port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) worker: usize,
    pub(crate) port: usize,
    pub(crate) frame: Vec<u8>,
}

pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) now_ms: u32,
    pub(crate) stats: Vec<Arc<WorkerStats>>,
    templates: Arc<Templates>,
    workers: Vec<Worker<Memory>>,
    ports: Vec<[VecPort; 2]>,
    punts: Vec<VecLane>,
    pub(crate) injects: Vec<VecLane>,
    lanes: Vec<Vec<VecLane>>,
    controls: Vec<ControlEnd>,
    toeplitz: Toeplitz,
    generation: u64,
}

impl World {
    pub(crate) fn new(plan: Plan) -> Self {
        let templates = shared(&plan, || Templates::new(600, plan.seed, HugePages::Never).unwrap());
        let mut world = Self {
            now_ms: 1_000,
            stats: vec![],
            templates,
            workers: vec![],
            ports: vec![],
            punts: vec![],
            injects: vec![],
            lanes: vec![],
            controls: vec![],
            toeplitz: Toeplitz::new(&RSS_KEY).unwrap(),
            generation: 1,
            plan,
        };
        let first = shared(&world.plan, || world.snapshot(|_| {}));
        let count = usize::from(world.plan.workers);
        let lanes: Vec<Vec<VecLane>> = (0..count)
            .map(|_| (0..count).map(|_| VecLane::new(world.plan.lane)).collect())
            .collect();
        for w in 0..count {
            world.add_worker(w, &lanes, &first);
        }
        world.lanes = lanes;
        world
    }

    fn add_worker(&mut self, w: usize, lanes: &[Vec<VecLane>], snapshot: &Arc<Snapshot>) {
        let id = WorkerId(u8::try_from(w).unwrap());
        let loads = self.stats.first().map(|stats| Arc::clone(&stats.loads));
        let tallies = self.stats.first().map(|stats| Arc::clone(&stats.tallies));
        let sources = || Sources::new(self.plan.sources, self.plan.seed, HugePages::Never).unwrap();
        let loads = loads.unwrap_or_else(|| shared(&self.plan, Loads::default));
        let tallies = tallies.unwrap_or_else(|| shared(&self.plan, || Tallies::with(sources())));
        let stats = WorkerStats::sharing(loads).with_tallies(tallies);
        let stats = Arc::new(stats);
        let ports = [VecPort::new(self.plan.lane), VecPort::new(self.plan.lane)];
        let (punt, inject) = (VecLane::new(self.plan.lane), VecLane::new(self.plan.lane));
        (self.plan.sharing)(true);
        let (control, end) = mailbox();
        (self.plan.sharing)(false);
        let links = Links {
            ports: ports.to_vec(),
            from_peers: (0..lanes.len()).filter(|p| *p != w).map(|p| lanes[p][w].clone()).collect(),
            to_peers: (0..lanes.len()).map(|p| (p != w).then(|| lanes[w][p].clone())).collect(),
            punt: punt.clone(),
            inject: (w == 0).then(|| inject.clone()),
        };
        let flows = Flows::new(
            Tables::new(self.plan.capacity, self.plan.seed).unwrap(),
            Arc::clone(snapshot),
            Ownership::new(id, self.plan.workers, &snapshot.ports),
            Arc::clone(&stats),
        );
        let flows = flows.with_templates(Arc::clone(&self.templates));
        self.workers.push(Worker::new(flows, links, end));
        self.ports.push(ports);
        self.punts.push(punt);
        self.injects.push(inject);
        self.controls.push(control);
        self.stats.push(stats);
    }

    /// As if the backends had been added one by one, oldest first, before anything came.
    fn weighings(&self) -> Weighings {
        let weights: Vec<u32> = self.plan.weights.iter().flatten().copied().collect();
        let mut weighings = Weighings::default();
        for there in 1..=weights.len() {
            weighings.note(1, weights[..there].iter().copied().collect());
        }
        weighings
    }

    /// The plan's world, changed by `edit`.
    pub(crate) fn snapshot(&self, edit: impl Fn(&mut Snapshot)) -> Snapshot {
        let count = u32::try_from(self.plan.weights.len()).unwrap();
        let locals = self.plan.locals.iter().copied().map(IpAddr::from);
        let locals_v6 = self.plan.locals_v6.iter().copied().map(IpAddr::from);
        let locals: Locals = locals.chain(locals_v6).collect();
        let service = |vip, protocol, first: u32| Service {
            name: format!("{protocol:?} {vip}").into(),
            protocol,
            addresses: [ServiceAddress::one(vip, packets::VIP.1)].into(),
            scheduling: Scheduler::WRR.into(),
            backends: (first..first + count)
                .filter(|id| self.plan.weights[(id - first) as usize].is_some())
                .rev()
                .map(BackendId)
                .collect(),
            locals: locals.clone(),
            weighings: self.weighings(),
            revision: self.generation,
            ..Service::default()
        };
        let backends = |service| {
            let was_nat = self.plan.was_nat;
            let backends = self.plan.weights.iter().zip(&self.plan.modes);
            backends.zip(0..).map(move |((weight, mode), index): (_, u8)| {
                let is_v6 = self.plan.v6.get(usize::from(index)).copied().unwrap_or_default();
                let keeps_port = matches!(mode, Mode::Dr | Mode::Tunnel(_));
                Some(Backend {
                    service,
                    address: host(is_v6, 11 + index),
                    port: if keeps_port { packets::VIP.1 } else { 8080 },
                    mode: *mode,
                    answers_here: *mode == Mode::Nat || was_nat,
                    our_address: host(is_v6, 1),
                    weight: (*weight)?,
                    limit: Limit::NONE,
                    next_hop: Some(NextHop {
                        port: self.plan.backend_port,
                        source: OUR_INNER_MAC,
                        destination: backend_mac(11 + index),
                    }),
                })
            })
        };
        let mut snapshot = Snapshot::default();
        snapshot.generation = self.generation;
        let macs = [OUR_MAC, OUR_INNER_MAC];
        let tagged = self.plan.tagged.iter().map(|&(on, tags)| PortView {
            link: Link::Tagged { on, tags },
            ..self.port_view(macs[on.index()])
        });
        let devices = macs.iter().zip(self.plan.mtus);
        let devices = devices.map(|(mac, mtu)| PortView { mtu, ..self.port_view(*mac) });
        snapshot.ports = devices.chain(tagged).collect();
        let vips = self.plan.vips.iter();
        let terms = vips.flat_map(|vip| self.plan.protocols.iter().map(|p| (*vip, *p)));
        let services = terms.zip(0u32..).map(|((vip, p), id)| Some(service(vip, p, id * count)));
        snapshot.services = services.collect();
        let ids = (0u32..).take(snapshot.services.len()).map(ServiceId);
        snapshot.backends = ids.flat_map(backends).collect();
        let gone = (0u32..).zip(&snapshot.backends).filter(|(_, backend)| backend.is_none());
        let departed = gone.map(|(id, _)| {
            let host = 11 + u8::try_from(id % count).unwrap();
            let (port, destination) = (self.plan.backend_port, backend_mac(host));
            (BackendId(id), NextHop { port, source: OUR_INNER_MAC, destination })
        });
        snapshot.departed = departed.collect();
        snapshot.accepting = true;
        snapshot.punt_per_second = 1_000_000;
        edit(&mut snapshot);
        snapshot.indexed()
    }

    fn port_view(&self, mac: Mac) -> PortView {
        let steering = match self.plan.card {
            Card::Any => Steering::Software,
            Card::Rss => Steering::Rss { key: RSS_KEY.into(), table: self.redirection() },
        };
        PortView { mac, mtu: 1500, steering, link: Link::Device }
    }

    fn redirection(&self) -> Box<[u16]> {
        (0..128).map(|i| i % u16::from(self.plan.workers)).collect()
    }

    /// Publishes the plan as it is now, changed by `edit`; every worker has taken it on return.
    pub(crate) fn publish(&mut self, edit: impl Fn(&mut Snapshot)) {
        self.generation += 1;
        let snapshot = shared(&self.plan, || self.snapshot(edit));
        for control in &mut self.controls {
            control.send(Order::Publish(Arc::clone(&snapshot))).unwrap();
        }
        self.poll();
        for control in &mut self.controls {
            assert!(matches!(control.answer(), Some(Answer::Retired(_))));
        }
    }

    /// Lets a worker receive a frame; with RSS a flow's frame chooses the worker.
    pub(crate) fn arrive(&mut self, worker: usize, port: usize, frame: &[u8]) {
        let queue = if self.plan.card == Card::Rss { self.queue_of(frame) } else { None };
        let worker = queue.unwrap_or(worker);
        let packet = VecPacket::new(frame);
        self.ports[worker][port].inbound.push(packet).unwrap();
    }

    /// Where a card would put the frame, if it is one of a flow.
    fn queue_of(&self, frame: &[u8]) -> Option<usize> {
        let seen = packets::oracle::judge_any(frame).ok()?;
        let (from, to) = seen.ports;
        let hash = match (seen.source, seen.destination) {
            _ if (from, to) == (0, 0) => return None,
            // What cards are not asked to spread comes by the first queue.
            _ if is_sctp(frame) => return Some(0),
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                self.toeplitz.hash(FlowKey::new(0, (source, from), (destination, to)))
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                self.toeplitz.hash(FlowKey::new(0, (source, from), (destination, to)))
            }
            _ => return None,
        };
        Some(usize::from(self.redirection()[hash as usize % 128]))
    }

    /// Every worker polls until nothing moves.
    pub(crate) fn poll(&mut self) {
        for _ in 0..64 {
            let moved: usize = self.workers.iter_mut().map(|w| w.poll(self.now_ms)).sum();
            if moved == 0 {
                return;
            }
        }
        panic!("packets go round in circles");
    }

    /// What has left since the last call.
    pub(crate) fn sent(&mut self) -> Vec<Sent> {
        let mut sent = vec![];
        for (worker, ports) in self.ports.iter().enumerate() {
            for (port, queue) in ports.iter().enumerate() {
                while let Some(packet) = queue.outbound.pop() {
                    sent.push(Sent { worker, port, frame: packet.data().to_vec() });
                }
            }
        }
        sent
    }

    /// One in which a row of the rule table holds.
    pub(crate) fn of(setup: &Setup, (workers, card): (u8, Card)) -> Self {
        let device = |side| PortId(side as u8);
        let tagged = setup.tagged.iter().map(|tagged| (device(tagged.on), tagged.tags())).collect();
        let mut world =
            Self::new(Plan { workers, card, tagged, capacity: setup.capacity, ..Plan::default() });
        world.publish(|snapshot| setup.furnish(snapshot));
        world
    }

    /// A frame arrives; what left because of it.
    pub(crate) fn exchange(&mut self, worker: usize, port: usize, frame: &[u8]) -> Vec<Sent> {
        self.arrive(worker, port, frame);
        self.poll();
        self.sent()
    }

    /// As [`World::exchange`], when exactly one frame must leave.
    pub(crate) fn one(&mut self, worker: usize, port: usize, frame: &[u8]) -> Sent {
        let mut sent = self.exchange(worker, port, frame);
        assert_eq!(sent.len(), 1, "one frame in, one out; drops: {:?}", self.drops());
        sent.remove(0)
    }

    /// Lets time pass, in steps short enough for the sweep to do all its work.
    pub(crate) fn wait(&mut self, seconds: u32) {
        for _ in 0..seconds * 10 {
            self.now_ms = self.now_ms.wrapping_add(100);
            for _ in 0..8 {
                self.poll();
            }
        }
    }

    /// Drops so far, by reason, those that are not zero.
    pub(crate) fn drops(&self) -> Vec<(Reason, u64)> {
        let total = |r: &Reason| self.stats.iter().map(|s| s.drops[*r as usize].get()).sum();
        Reason::ALL.iter().map(|r| (*r, total(r))).filter(|(_, count)| *count > 0).collect()
    }

    /// Packets that went to the kernel.
    pub(crate) fn punted(&self) -> usize {
        self.punts.iter().map(VecLane::len).sum()
    }

    /// Connections in all tables, and the same by the gauges of services and backends.
    pub(crate) fn connections(&self) -> [u32; 4] {
        let sum = |f: &dyn Fn(&WorkerStats) -> u32| self.stats.iter().map(|s| f(s)).sum();
        [
            self.workers.iter().map(|w| w.flows().tables().len()).sum(),
            sum(&|s| s.connections.get()),
            sum(&|s| s.services.iter().map(|c| c.connections.get()).sum()),
            sum(&|s| s.backends.iter().map(|c| c.connections.get()).sum()),
        ]
    }

    /// Persistence templates whose time is not over.
    pub(crate) fn templates(&self) -> usize {
        self.templates.live(self.now_ms)
    }

    /// Time passes until everything must be over, and nothing is left.
    pub(crate) fn outlive(&mut self) {
        for _ in 0..left::STEPS {
            self.now_ms = self.now_ms.wrapping_add(left::STEP_MS);
            self.poll();
            // What the sweep looks at in one poll is little.
            while self.workers.iter().any(Worker::is_behind) {
                self.poll();
            }
            self.sent();
            if left::is_quiet(&self.workers, &self.stats, &self.templates, self.now_ms) {
                break;
            }
        }
        let left = left::left(&self.workers, &self.stats, &self.templates, self.now_ms);
        assert!(left.is_empty(), "with time nothing is left, but {left:#?}");
    }

    /// Packets handed from worker to worker.
    pub(crate) fn handed_over(&self) -> u64 {
        self.stats.iter().map(|s| s.run.handed_over.get()).sum()
    }

    /// Access for tests that need one worker's queues.
    pub(crate) fn port(&self, worker: usize, port: usize) -> &VecPort {
        &self.ports[worker][port]
    }

    /// A worker's kernel lane.
    pub(crate) fn punt_lane(&self, worker: usize) -> &VecLane {
        &self.punts[worker]
    }

    /// Sends a frame of the kernel's by this port.
    pub(crate) fn inject(&self, port: PortId, frame: &[u8]) {
        let mut packet = VecPacket::new(frame);
        packet.set_port(port);
        self.injects[0].push(packet).unwrap();
    }

    /// Puts a frame into the lane from worker 0 to `worker`.
    pub(crate) fn hand_to(&self, worker: usize, frame: &[u8]) {
        self.lanes[0][worker].push(VecPacket::new(frame)).unwrap();
    }

    /// One poll of one worker.
    pub(crate) fn poll_one(&mut self, worker: usize) -> usize {
        self.workers[worker].poll(self.now_ms)
    }
}

/// Whatever happened in a world, it ends so.
impl Drop for World {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.outlive();
        }
    }
}

/// The link address of backend 10.44.0.`host`.
pub(crate) fn backend_mac(host: u8) -> Mac {
    Mac([0x02, 0, 0, 0, 0x0b, host])
}

/// Host `n` on the backends' side: 11 and up are backends, 1 is the box itself.
pub(crate) fn host(is_v6: bool, n: u8) -> IpAddr {
    if is_v6 {
        Ipv6Addr::new(0x2001, 0xdb8, 0x44, 0, 0, 0, 0, n.into()).into()
    } else {
        Ipv4Addr::new(10, 44, 0, n).into()
    }
}

/// Is this frame, untagged and without extension headers, one of SCTP?
fn is_sctp(frame: &[u8]) -> bool {
    let at = if frame[12..14] == [0x86, 0xdd] { 14 + 6 } else { 14 + 9 };
    frame[at] == 132
}
