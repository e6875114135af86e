//! After any history, and enough time, nothing is left: no connection, no load, no template, no count.
//!
//! A history is what clients, backends and operators do, in any order: connections begin, talk and end,
//! packets are lost, backends and services come, go and change their weights and terms, limits are met,
//! tables run full, workers are handed what is not theirs. With SYN cookies clients believe in connections
//! of which nothing is kept, and say more before their backend has agreed. What fails is made small, and
//! printed with what makes it happen again.

use proptest::prelude::*;
use shunt::dataplane::conn::state::flags::{ACK, FIN, PSH, RST, SYN};
use shunt::dataplane::persistence::Persistence;
use shunt::dataplane::sched::{Entry, Flags, Scheduling};
use shunt::dataplane::snapshot::{
    Encapsulation, IcmpOnEnd, Limit, Mode, Protocol, Quota, Quotas, Rate, Restarts, Scheduler,
    Snapshot, SourceQuota, SynCookies, Timeouts,
};
use shunt::ids::{BackendId, ServiceId};
use shunt::stats::counters::WorkerStats;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use crate::packets::builder::chunk;
use crate::packets::oracle::judge_any;
use crate::packets::{Endpoint, OUR_INNER_MAC, VIP, packet};
use crate::world::{Card, Plan, Sent, World, backend_mac};

const BACKENDS: usize = 3;

/// One thing that happens.
#[derive(Clone, Debug)]
enum Step {
    /// A client says something to a service of this protocol.
    Says(u8, Protocol, u8),
    /// A backend answers what it got lately, or some of it is lost.
    Answers(prop::sample::Index, u8),
    /// A backend's weight; `None` removes it.
    Weighs(usize, Option<u32>),
    /// A service is there, or not.
    Serves(usize, bool),
    /// Its mode, for new connections.
    Goes(usize, Mode),
    /// A client answers what it got lately: a SYN+ACK, mostly.
    Replies(prop::sample::Index, u8),
    /// Other limits of backends, and other terms.
    Agrees(u32, u16),
    /// Seconds pass.
    Passes(u32),
}

/// The whole of a history.
#[derive(Clone, Debug)]
struct History {
    workers: u8,
    card: Card,
    capacity: u32,
    scheduler: Scheduler,
    limit: u32,
    terms: u16,
    steps: Vec<Step>,
}

fn step() -> impl Strategy<Value = Step> {
    let protocol = prop::sample::select(vec![Protocol::Tcp, Protocol::Udp, Protocol::Sctp]);
    let tcp = prop::sample::select(vec![SYN, SYN, SYN, ACK, ACK, PSH | ACK, FIN | ACK, RST, 0]);
    let sctp = prop::sample::select(vec![1u8, 1, 10, 0, 6, 7, 8, 14]);
    let mode = prop::sample::select(vec![
        Mode::Fullnat,
        Mode::Nat,
        Mode::Dr,
        Mode::Tunnel(Encapsulation::Ipip),
    ]);
    let says = (0u8..24, protocol, tcp, sctp).prop_map(|(who, protocol, flags, kind)| {
        Step::Says(who, protocol, if protocol == Protocol::Sctp { kind } else { flags })
    });
    let flags = prop::sample::select(vec![SYN | ACK, SYN | ACK, ACK, ACK, FIN | ACK, RST]);
    let more = prop::sample::select(vec![ACK, ACK, PSH | ACK, FIN | ACK, RST]);
    prop_oneof![
        12 => says,
        6 => (any::<prop::sample::Index>(), flags).prop_map(|(which, flags)| Step::Answers(which, flags)),
        2 => (0..BACKENDS, prop::option::of(0u32..4)).prop_map(|(at, weight)| Step::Weighs(at, weight)),
        1 => (0usize..3, any::<bool>()).prop_map(|(service, there)| Step::Serves(service, there)),
        1 => (0..BACKENDS, mode).prop_map(|(at, mode)| Step::Goes(at, mode)),
        6 => (any::<prop::sample::Index>(), more).prop_map(|(which, flags)| Step::Replies(which, flags)),
        1 => (0u32..4, any::<u16>()).prop_map(|(limit, terms)| Step::Agrees(limit, terms)),
        2 => (1u32..12).prop_map(Step::Passes),
    ]
}

prop_compose! {
    fn history()(
        workers in prop::sample::select(vec![1u8, 2, 4]),
        card in prop::sample::select(vec![Card::Any, Card::Rss]),
        capacity in prop::sample::select(vec![6u32, 1024]),
        scheduler in 0..Scheduler::ALL.len(),
        limit in prop::sample::select(vec![0u32, 0, 3]),
        terms in any::<u16>(),
        steps in prop::collection::vec(step(), 0..120),
    ) -> History {
        let scheduler = Scheduler::ALL[scheduler];
        History { workers, card, capacity, scheduler, limit, terms, steps }
    }
}

/// A world to which a history happens.
struct Told {
    history: History,
    world: World,
    serving: [bool; 3],
    /// What backends and clients got lately, and have not answered.
    got: Vec<Sent>,
    heard: Vec<Sent>,
    worker: usize,
}

impl Told {
    fn new(history: &History) -> Self {
        let plan = Plan {
            workers: history.workers,
            card: history.card,
            capacity: history.capacity,
            protocols: vec![Protocol::Tcp, Protocol::Udp, Protocol::Sctp],
            weights: vec![Some(1); BACKENDS],
            ..Plan::default()
        };
        let world = World::new(plan);
        let (got, heard, history) = (vec![], vec![], history.clone());
        let mut told = Self { history, world, serving: [true; 3], got, heard, worker: 0 };
        told.publish();
        told
    }

    fn publish(&mut self) {
        let History { scheduler, limit, terms, .. } = self.history;
        let serving = self.serving;
        self.world.publish(|snapshot| edit(snapshot, (scheduler, limit, terms), serving));
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Says(who, protocol, what) => self.says(*who, *protocol, *what),
            Step::Answers(which, flags) => self.answers(*which, *flags),
            Step::Weighs(at, weight) => {
                self.world.plan.weights[*at] = *weight;
                self.publish();
            }
            Step::Serves(service, there) => {
                self.serving[*service] = *there;
                self.publish();
            }
            Step::Goes(at, mode) => {
                self.world.plan.was_nat |= self.world.plan.modes.contains(&Mode::Nat);
                self.world.plan.modes[*at] = *mode;
                self.publish();
            }
            Step::Replies(which, flags) => self.replies(*which, *flags),
            Step::Agrees(limit, terms) => {
                (self.history.limit, self.history.terms) = (*limit, *terms);
                self.publish();
            }
            Step::Passes(seconds) => self.pass(*seconds),
        }
        self.collect();
        assert_eq!(self.loads(), self.connections(), "loads are connections");
        self.limited_are_counted();
    }

    /// What is limited is counted as it is, and never a source's more than there are.
    fn limited_are_counted(&self) {
        let tallies = &self.world.stats[0].tallies;
        let has_limit = self.history.terms & SERVICE_QUOTA != 0;
        for (id, is_served) in (0..3).map(ServiceId).zip(self.serving) {
            let of = |stats: &Arc<WorkerStats>| stats.services[id.index()].connections.get();
            let there: u32 = self.world.stats.iter().map(of).sum();
            let counted = if has_limit && is_served { there } else { 0 };
            assert_eq!(tallies.count(id), counted, "{id:?}");
        }
        let of_sources = tallies.sources.as_ref().map_or(0, |sources| sources.in_use().0);
        assert!(of_sources <= u64::from(self.connections()), "{of_sources} of sources");
    }

    fn says(&mut self, who: u8, protocol: Protocol, what: u8) {
        let from: Endpoint = (Ipv4Addr::new(192, 0, 2, 2 + who % 3), 2000 + u16::from(who));
        let frame = match protocol {
            Protocol::Tcp => packet().tcp(from, VIP).flags(what).numbers(7, 9).build(),
            Protocol::Udp => packet().udp(from, VIP).payload(b"question").build(),
            Protocol::Sctp => {
                packet().sctp(from, VIP, u32::from(what)).payload(&chunk(what, 0, &[5; 16])).build()
            }
        };
        self.worker = (self.worker + 1) % usize::from(self.history.workers);
        self.world.arrive(self.worker, 0, &frame);
        self.world.poll();
    }

    fn answers(&mut self, which: prop::sample::Index, flags: u8) {
        if self.got.is_empty() {
            return;
        }
        let got = self.got.swap_remove(which.index(self.got.len()));
        let Ok(seen) = judge_any(&got.frame) else { return };
        let from = SocketAddr::new(seen.destination, seen.ports.1);
        let to = SocketAddr::new(seen.source, seen.ports.0);
        let frame = match got.frame[23] {
            6 => packet().tcp(from, to).flags(flags).numbers(9, 8),
            17 => packet().udp(from, to).payload(b"answer"),
            132 => {
                let kind = if flags == RST { 6 } else { 2 + flags % 2 * 9 };
                packet().sctp(from, to, 3).payload(&chunk(kind, 0, &[5; 16]))
            }
            _ => return,
        };
        let mac = backend_mac(got.frame[5]);
        let worker = self.got.len() % usize::from(self.history.workers);
        self.world.arrive(worker, 1, &frame.macs(mac, OUR_INNER_MAC).build());
        self.world.poll();
    }

    /// A client says what follows from what it got.
    fn replies(&mut self, which: prop::sample::Index, flags: u8) {
        if self.heard.is_empty() {
            return;
        }
        let heard = self.heard.swap_remove(which.index(self.heard.len()));
        let Ok(seen) = judge_any(&heard.frame) else { return };
        if heard.frame[23] != 6 {
            return;
        }
        let from = SocketAddr::new(seen.destination, seen.ports.1);
        let to = SocketAddr::new(seen.source, seen.ports.0);
        let number = |at: usize| u32::from_be_bytes(heard.frame[at..at + 4].try_into().unwrap());
        // Behind the SYN of both.
        let numbers = (number(42), number(38).wrapping_add(1));
        let frame = packet().tcp(from, to).flags(flags).numbers(numbers.0, numbers.1);
        let frame = if flags & PSH != 0 { frame.payload(b"more") } else { frame };
        self.worker = (self.worker + 1) % usize::from(self.history.workers);
        self.world.arrive(self.worker, 0, &frame.build());
        self.world.poll();
    }

    /// Both ends get what left for them; the eldest of it is lost.
    fn collect(&mut self) {
        for sent in self.world.sent() {
            let end = if sent.port == 1 { &mut self.got } else { &mut self.heard };
            end.push(sent);
        }
        for end in [&mut self.got, &mut self.heard] {
            let excess = end.len().saturating_sub(8);
            end.drain(..excess);
        }
    }

    fn pass(&mut self, seconds: u32) {
        for _ in 0..seconds {
            self.world.now_ms = self.world.now_ms.wrapping_add(1_000);
            for _ in 0..4 {
                self.world.poll();
            }
        }
    }

    /// The loads of all backends.
    fn loads(&self) -> u32 {
        let loads = &self.world.stats[0].loads;
        (0..64).map(|id| loads.of(BackendId(id)).total).sum()
    }

    fn connections(&self) -> u32 {
        let [tables, rest @ ..] = self.world.connections();
        assert_eq!(rest, [tables; 3], "gauges say what tables hold");
        tables
    }
}

/// The bit of the terms that limits a service's connections.
const SERVICE_QUOTA: u16 = 1 << 10;

fn quotas(terms: u16) -> Quotas {
    let has = |bit: u16| terms & 1 << bit != 0;
    let rate = |is_there, per_second, burst| {
        if is_there { Rate { per_second, burst } } else { Rate::default() }
    };
    let source = SourceQuota {
        prefix: if has(1) { 24 } else { 32 },
        quota: Quota { connections: 3, rate: rate(has(12), 1, 4) },
    };
    let connections = if terms & SERVICE_QUOTA != 0 { 5 } else { 0 };
    Quotas {
        service: Quota { connections, rate: rate(has(13), 2, 6) },
        source: has(11).then_some(source),
    }
}

fn cookies(terms: u16) -> SynCookies {
    match terms >> 7 & 3 {
        0 | 1 => SynCookies::Never,
        2 => SynCookies::Above { per_second: 10 },
        _ => SynCookies::Always,
    }
}

/// The plan's world with these schedulers, limits and terms, without the services that are not served.
fn edit(snapshot: &mut Snapshot, how: (Scheduler, u32, u16), serving: [bool; 3]) {
    let (scheduler, limit, terms) = how;
    let has = |bit: u8| terms & 1 << bit != 0;
    // Cookies want answers to pass here: the configuration refuses them else.
    let mut modes = snapshot.backends.iter().flatten().map(|backend| backend.mode);
    let is_direct = modes.any(|mode| matches!(mode, Mode::Dr | Mode::Tunnel(_)));
    for (service, is_served) in snapshot.services.iter_mut().zip(serving) {
        if let Some(service) = service {
            let entry = |id: &BackendId| {
                let backend = snapshot.backends[id.index()]?;
                Some(Entry {
                    address: (backend.address, backend.port).into(),
                    weight: backend.weight,
                    last_weight: backend.weight.max(1),
                    server_id: None,
                })
            };
            let entries: Vec<Entry> = service.backends.iter().filter_map(entry).collect();
            service.scheduling = Scheduling::prepare(scheduler, Flags::default(), &entries);
            service.one_packet = has(0) && service.protocol == Protocol::Udp;
            let persistence = Persistence {
                timeout_ms: 20_000,
                prefix: if has(1) { 24 } else { 32 },
                to_drained: has(2),
                epoch: 1,
            };
            service.persistence = has(3).then_some(persistence);
            let own = Timeouts { tcp_established_s: 7, udp_s: 4, ..Timeouts::default() };
            service.timeouts = has(4).then(|| Box::new(own));
            service.quotas = quotas(terms);
            if service.protocol == Protocol::Tcp && !is_direct {
                service.syn_cookies = cookies(terms);
                service.syn_cookies_wait_for_data = has(14);
            }
        }
        if !is_served {
            *service = None;
        }
    }
    let gone = |service: ServiceId| !serving[service.index()];
    for backend in &mut snapshot.backends {
        *backend = backend.filter(|backend| !gone(backend.service));
        if let Some(backend) = backend {
            backend.limit = Limit { most: limit, least: 0 };
        }
    }
    snapshot.reset_on_end = has(5);
    snapshot.icmp_on_end = match (has(5), has(6)) {
        (true, _) => IcmpOnEnd::Always,
        (false, true) => IcmpOnEnd::Removal,
        (false, false) => IcmpOnEnd::Never,
    };
    snapshot.restarts = [Restarts::Never, Restarts::Closing][usize::from(has(6))];
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn after_any_history_and_enough_time_nothing_is_left(history in history()) {
        let mut told = Told::new(&history);
        for step in &history.steps {
            told.step(step);
        }
        told.world.outlive();
        prop_assert!(told.world.stats.iter().all(|stats| stats.run.ends_untold.get() == 0));
    }
}
