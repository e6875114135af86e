//! One worker or several choosing among backends that come, go and change, without packets.

mod hashes;
mod large;
mod maglev;
mod model;
mod passes;
mod quic;
mod sequences;
mod workers;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use super::*;
use crate::dataplane::snapshot::{
    Backend, Limit, Mode, NextHop, Protocol, Service, ServiceAddress, Snapshot, Weighings,
};
use crate::ids::{BackendId, PortId, ServiceId, WorkerId};
use crate::stats::loads::Loads;
use crate::wire::Mac;

thread_local! {
    /// Backends looked at: is it open?
    pub(super) static LOOKS: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

const HOP: NextHop = NextHop { port: PortId(0), source: Mac([0; 6]), destination: Mac([0; 6]) };

const VIP: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 10));

/// A backend of the bed: its letter says its id and address.
#[derive(Clone, Copy, Debug)]
struct Seat {
    name: char,
    weight: u32,
    last_weight: u32,
    limit: Limit,
    server_id: Option<ServerId>,
    is_reachable: bool,
    age: u64,
}

/// A service with backends named by letters, A at 10.44.0.11, and the workers that serve it.
struct Bed {
    scheduler: Scheduler,
    flags: Flags,
    /// Newest first.
    seats: Vec<Seat>,
    /// Backends ever seated.
    added: u64,
    revision: u64,
    weighings: Weighings,
    /// Since they were published.
    has_changed: bool,
    life: u64,
    snapshot: Snapshot,
    loads: Arc<Loads>,
    workers: Vec<Chooser>,
    now_ms: u32,
}

fn id(name: char) -> BackendId {
    BackendId(name as u32 - 'A' as u32)
}

fn letter(id: BackendId) -> char {
    char::from_u32('A' as u32 + id.0).unwrap()
}

fn named(name: &str) -> Scheduler {
    Scheduler::named(name).unwrap()
}

fn address(name: char) -> SocketAddr {
    let host = u8::try_from(11 + id(name).0).unwrap();
    (Ipv4Addr::new(10, 44, 0, host), 8080).into()
}

impl Bed {
    fn new(scheduler: &str, flags: &[Flag], workers: u8) -> Self {
        let loads = Arc::<Loads>::default();
        let worker = |worker| Chooser::new(WorkerId(worker), workers, 7 + u64::from(worker) * 99);
        Self {
            scheduler: named(scheduler),
            flags: flags.iter().fold(Flags::default(), |flags, flag| flags.with(*flag)),
            seats: vec![],
            added: 0,
            revision: 0,
            weighings: Weighings::default(),
            has_changed: false,
            life: 0,
            snapshot: Snapshot::default(),
            loads,
            workers: (0..workers).map(worker).collect(),
            now_ms: 0,
        }
    }

    /// One worker, and backends A, B, C … of these weights, added in this order before it starts.
    fn of(scheduler: &str, flags: &[Flag], weights: &[u32]) -> Self {
        let mut bed = Self::new(scheduler, flags, 1);
        for (name, weight) in ('A'..).zip(weights) {
            bed.seat(name, *weight);
        }
        bed.publish();
        bed
    }

    fn seat(&mut self, name: char, weight: u32) {
        let seat = Seat {
            name,
            weight,
            last_weight: weight,
            limit: Limit::NONE,
            server_id: None,
            is_reachable: true,
            age: self.added,
        };
        self.added += 1;
        self.seats.insert(0, seat);
        self.note();
    }

    /// A backend has changed.
    fn note(&mut self) {
        self.has_changed = true;
        let weights = self.seats.iter().map(|seat| seat.weight).collect();
        self.weighings.note(self.revision + 1, weights);
    }

    /// Another scheduler.
    fn reschedule(&mut self, scheduler: &str) {
        self.scheduler = named(scheduler);
        let weights = self.seats.iter().map(|seat| seat.weight).collect();
        self.weighings.start(self.revision + 1, weights);
    }

    fn edit(&mut self, name: char, edit: impl Fn(&mut Seat)) {
        self.seats.iter_mut().filter(|seat| seat.name == name).for_each(edit);
    }

    fn weigh(&mut self, name: char, weight: u32) {
        self.edit(name, |seat| {
            seat.weight = weight;
            seat.last_weight = if weight > 0 { weight } else { seat.last_weight };
        });
        self.note();
    }

    fn remove(&mut self, name: char) {
        self.seats.retain(|seat| seat.name != name);
        self.note();
    }

    /// What was edited is what the workers see from now on.
    fn publish(&mut self) {
        self.revision += 1;
        self.has_changed = false;
        let entry = |seat: &Seat| Entry {
            address: address(seat.name),
            weight: seat.weight,
            last_weight: seat.last_weight,
            server_id: seat.server_id,
        };
        let entries: Vec<Entry> = self.seats.iter().map(entry).collect();
        let service = Service {
            name: "test".into(),
            protocol: Protocol::Tcp,
            addresses: [ServiceAddress::one(VIP, 80)].into(),
            scheduling: Scheduling::prepare(self.scheduler, self.flags, &entries),
            backends: self.seats.iter().map(|seat| id(seat.name)).collect(),
            ages: self.seats.iter().map(|seat| seat.age).collect(),
            locals: [Ipv4Addr::new(10, 44, 0, 2).into()].into_iter().collect(),
            revision: self.revision,
            weighings: self.weighings.clone(),
            life: self.life,
            ..Service::default()
        };
        let mut backends = vec![None; 2_000];
        for seat in &self.seats {
            backends[id(seat.name).index()] = Some(Backend {
                service: ServiceId(0),
                address: address('A').ip(),
                port: 8080,
                mode: Mode::Fullnat,
                answers_here: false,
                our_address: Ipv4Addr::UNSPECIFIED.into(),
                weight: seat.weight,
                limit: seat.limit,
                next_hop: seat.is_reachable.then_some(HOP),
            });
        }
        let mut snapshot = Snapshot::default();
        snapshot.services = [Some(service)].into();
        snapshot.backends = backends.into();
        let before = std::mem::replace(&mut self.snapshot, snapshot.indexed());
        for worker in &mut self.workers {
            worker.renew(&before, &self.snapshot, &self.loads);
        }
    }

    /// A new connection at a worker, inactive so far.
    fn place(&mut self, worker: usize, flow: &Flow<'_>) -> Option<char> {
        let chooser = &mut self.workers[worker];
        chooser.place(&self.snapshot, &self.loads, ServiceId(0), flow).map(letter)
    }

    fn turn(&mut self, worker: usize, name: char, active: bool) {
        self.loads.turn(id(name), active);
        self.workers[worker].changed(&self.snapshot, &self.loads, id(name));
    }

    fn end(&mut self, worker: usize, name: char, was_active: bool) {
        let limit = self.seats.iter().find(|seat| seat.name == name).map(|seat| seat.limit);
        self.loads.give_back(id(name), was_active, limit.unwrap_or(Limit::NONE));
        self.workers[worker].changed(&self.snapshot, &self.loads, id(name));
    }

    /// A new TCP connection at a worker: active with its first packet.
    fn connect(&mut self, worker: usize, flow: &Flow<'_>) -> Option<char> {
        let name = self.place(worker, flow)?;
        self.turn(worker, name, true);
        Some(name)
    }

    /// Connections that all stay, from ports 2000 up.
    fn sequence(&mut self, flows: u16) -> String {
        let ports = 2000..2000 + flows;
        ports.map(|port| self.connect(0, &from(client(), port)).unwrap_or('.')).collect()
    }

    fn flow<'a>(&self, client: IpAddr, client_port: u16, vip: IpAddr) -> Flow<'a> {
        Flow { client, client_port, vip, datagram: &[], now_ms: self.now_ms }
    }
}

fn client() -> IpAddr {
    Ipv4Addr::new(192, 0, 2, 2).into()
}

fn from<'a>(client: IpAddr, client_port: u16) -> Flow<'a> {
    Flow { client, client_port, vip: VIP, datagram: &[], now_ms: 0 }
}
