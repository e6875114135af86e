//! The whole control plane, driven as an operator would: by signals, by `shunt`, by a scrape.
//! Workers are threads that obey their mailboxes.

mod edits;
mod hands;
mod lives;
mod logged;
mod paged;
mod watched;

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use clap::Parser;
use shunt::cli;
use shunt::control::admin::Claims;
use shunt::control::admin::view::{Connections, ReloadResult, Services, Status};
use shunt::control::config::Machine;
use shunt::control::config::files::Files;
use shunt::control::config::plan::{Backend, Daemon, HugePages, Plan, Port, Service};
use shunt::control::configured::Configured;
use shunt::control::edit::{Edit, EditError};
use shunt::control::edition::Written;
use shunt::control::lists::MakeMembers;
use shunt::control::neighbors::Way;
use shunt::control::parts::{Changes, Configure, Lanes, Parts, WorkerPart};
use shunt::control::{ControlError, run};
use shunt::dataplane::access::{Listed, Membership, Network};
use shunt::dataplane::conn::state::State;
use shunt::dataplane::io::Packet;
use shunt::dataplane::io::memory::{VecLane, VecPacket};
use shunt::dataplane::mailbox::mailbox;
use shunt::dataplane::orders::{Answer, ConnectionView, Order, WorkerEnd};
use shunt::dataplane::snapshot::{
    self, Limit, Mode, Ping, Protocol, Scheduler, ServiceAddress, Snapshot,
};
use shunt::ids::{BackendId, ServiceId, WorkerId};
use shunt::stats::collect::{BackendEntry, Names, ServiceEntry};
use shunt::stats::counters::WorkerStats;
use shunt::stats::slow::StaticFacts;

use crate::namespace::{Namespace, enter, sh};
use crate::taps::spec;

const VIP: ServiceAddress = ServiceAddress::one(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 80);
const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 100));

/// Signals are the process's: tests that send or await them take turns.
static TURN: Mutex<()> = Mutex::new(());

/// A configuration of one service, whose file lists local address and backends.
#[derive(Default)]
struct OneService {
    generation: u64,
    /// Ever seen; the position is the id.
    backends: Vec<SocketAddr>,
    current: Vec<SocketAddr>,
}

fn plan(local: IpAddr, backends: &[SocketAddr], workers: usize) -> Plan {
    let backend = |address: &SocketAddr| Backend {
        address: *address,
        weight: 1,
        limit: Limit::NONE,
        quic_server_id: None,
        sorry: false,
        mode: Mode::Fullnat,
    };
    Plan {
        daemon: Daemon {
            worker_cores: (0..workers).collect(),
            control_core: None,
            busy_poll: false,
            idle_sleep: Duration::ZERO,
            connections_max: 1000,
            connections_ipv6_max: 1000,
            persistent_clients_max: 1024,
            cookie_connections_max: 1024,
            limited_sources_max: 1024,
            packet_buffers: 1000,
            admin_socket: PathBuf::new(),
            metrics_listen: None,
            huge_pages: HugePages::Never,
            memory_mb: 64,
            file_prefix: "test".into(),
            secondary_processes: false,
            eal_arguments: vec![],
        },
        remote: None,
        ports: Vec::<Port>::new(),
        timeouts: snapshot::Timeouts::default(),
        restarts: snapshot::Restarts::default(),
        reset_on_end: true,
        icmp_on_end: snapshot::IcmpOnEnd::Always,
        strays: snapshot::Strays::Reject,
        drop_malformed_tcp: false,
        udp_reflection_ports: vec![],
        ping: Ping::Always,
        tunnels_ignore_df: false,
        local_out: false,
        directors: vec![],
        punt_per_second: 1000,
        drain_deadline: Duration::from_secs(30),
        lists: vec![],
        deny: vec![],
        services: vec![Service {
            name: "web".into(),
            protocol: Protocol::Tcp,
            address: VIP,
            scheduler: Scheduler::RR,
            local_addresses: vec![local],
            backends: backends.iter().map(backend).collect(),
            ..Service::default()
        }],
    }
}

/// Lists of clients by linear search, and more than three networks are too many.
fn make_members() -> MakeMembers {
    Arc::new(|networks: &[Network]| match networks.len() {
        0..=3 => Ok(Arc::new(Listed(networks.to_vec()))),
        more => Err(format!("no room for {more} networks")),
    })
}

fn parse(text: &str) -> Option<Plan> {
    let mut lines = text.lines();
    let (workers, local) = lines.next()?.split_once(' ')?;
    let backends: Option<Vec<_>> = lines.map(|line| line.parse().ok()).collect();
    Some(plan(local.parse().ok()?, &backends?, workers.parse().ok()?))
}

impl Configure for OneService {
    fn load(&mut self, file: &Path) -> Result<Written, String> {
        self.look(file)
    }

    fn look(&self, file: &Path) -> Result<Written, String> {
        let text = std::fs::read_to_string(file).map_err(|error| error.to_string())?;
        let plan = parse(&text);
        let plan = plan.ok_or_else(|| format!("{}:1:1: not understood", file.display()))?;
        Ok(Written { plan, files: Files::alone(file, text) })
    }

    /// A backend by its address; nothing else is edited here.
    fn edit(&self, files: &Files, _: &Plan, edits: &[Edit]) -> Result<Written, EditError> {
        let mut lines: Vec<String> = files.text.lines().map(str::to_owned).collect();
        for edit in edits {
            match edit {
                Edit::AddBackend { keys, .. } => {
                    lines.push(keys["address"].as_str().unwrap_or_default().to_owned());
                }
                Edit::DeleteBackend { backend, .. } => {
                    let place = lines.iter().position(|line| *line == backend.to_string());
                    let (service, backend) = ("web".to_owned(), backend.to_string());
                    let gone = EditError::NoBackend { service, backend };
                    lines.remove(place.ok_or(gone)?);
                }
                _ => return Err(EditError::Unwritable("not here".to_owned())),
            }
        }
        let text = lines.join("\n");
        let plan = parse(&text).ok_or_else(|| EditError::Invalid("not understood".to_owned()))?;
        Ok(Written { plan, files: files.with_text(text) })
    }

    fn diff(&self, old: &Plan, new: &Plan) -> Changes {
        let restart = (old.daemon != new.daemon).then(|| "[shunt] workers".to_owned());
        let services = (old.services != new.services).then(|| "service web differs".to_owned());
        let lines = restart.iter().cloned().chain(services).collect();
        Changes { lines, restart: restart.into_iter().collect() }
    }

    fn compile(
        &mut self,
        plan: &Plan,
        resolve: &dyn Fn(IpAddr) -> Option<Way>,
        accepting: bool,
        _members: Option<Arc<dyn Membership>>,
    ) -> Result<Arc<Snapshot>, String> {
        self.generation += 1;
        let service = &plan.services[0];
        self.current = service.backends.iter().map(|backend| backend.address).collect();
        for address in &self.current {
            if !self.backends.contains(address) {
                self.backends.push(*address);
            }
        }
        let id = |address| self.backends.iter().position(|known| *known == address);
        let ids = self.current.iter().filter_map(|address| id(*address));
        let ids: Vec<_> = ids.map(|id| BackendId(u32::try_from(id).unwrap())).collect();
        let weight = |address: &SocketAddr| {
            let of = service.backends.iter().find(|backend| backend.address == *address);
            of.map_or(0, |backend| backend.weight)
        };
        let backend = |address: &SocketAddr| {
            self.current.contains(address).then(|| snapshot::Backend {
                service: ServiceId(0),
                address: address.ip(),
                port: address.port(),
                mode: Mode::Fullnat,
                answers_here: false,
                our_address: Ipv4Addr::UNSPECIFIED.into(),
                weight: weight(address),
                limit: Limit::NONE,
                next_hop: resolve(address.ip()).map(|way| way.next_hop),
            })
        };
        let mut snapshot = Snapshot::default();
        snapshot.generation = self.generation;
        snapshot.accepting = accepting;
        snapshot.backends = self.backends.iter().map(backend).collect();
        snapshot.services = Box::new([Some(snapshot::Service {
            name: "web".into(),
            protocol: service.protocol,
            addresses: service.addresses().collect(),
            scheduling: service.scheduler.into(),
            backends: ids.into(),
            locals: service.local_addresses.iter().copied().collect(),
            one_packet: service.one_packet,
            client_address: service.client_address,
            syn_cookies: service.syn_cookies,
            revision: self.generation,
            ..snapshot::Service::default()
        })]);
        Ok(Arc::new(snapshot.indexed()))
    }

    fn release(&mut self, _: u64, _: &dyn Fn(BackendId) -> bool) -> bool {
        false
    }

    fn names(&self) -> Names {
        let service = ServiceEntry {
            id: ServiceId(0),
            name: "web".into(),
            protocol: Protocol::Tcp,
            address: VIP,
            removed: false,
        };
        let backend = |(id, address): (u32, &SocketAddr)| BackendEntry {
            id: BackendId(id),
            service: ServiceId(0),
            address: *address,
            removed: !self.current.contains(address),
        };
        Names {
            services: vec![service],
            backends: (0..).zip(&self.backends).map(backend).collect(),
        }
    }
}

/// What a worker was told, the last one last.
type Seen = Arc<Mutex<Vec<Arc<Snapshot>>>>;

/// What a test sees and steers of a worker.
#[derive(Clone)]
struct Model {
    stats: Arc<WorkerStats>,
    seen: Seen,
    moving: Arc<AtomicBool>,
    /// Orders to clear that were carried out.
    cleared: Arc<AtomicU32>,
}

/// A worker: obeys orders, has as many connections as its gauge says, moves while told to.
fn worker(id: u8, mut end: WorkerEnd, model: &Model) {
    let Model { stats, seen, moving, cleared } = model;
    let mut snapshot = Arc::<Snapshot>::default();
    loop {
        std::thread::sleep(Duration::from_micros(100));
        if moving.load(Ordering::Relaxed) {
            stats.run.idle_cycles.add(75);
            stats.run.busy_cycles.add(25);
        }
        match end.take() {
            None => {}
            Some(Order::Publish(new)) => {
                stats.run.generation.set(new.generation);
                seen.lock().unwrap().push(Arc::clone(&new));
                end.answer(Answer::Retired(std::mem::replace(&mut snapshot, new)));
            }
            Some(Order::Dump(mut page)) => {
                let count = stats.connections.get();
                while page.cursor < count && page.rows.len() < page.rows.capacity() {
                    page.rows.push(connection(id, page.cursor));
                    page.cursor += 1;
                }
                page.done = page.cursor >= count;
                end.answer(Answer::Page(page));
            }
            Some(Order::Clear(mut order)) => {
                order.ended = stats.connections.get().into();
                cleared.fetch_add(1, Ordering::Relaxed);
                end.answer(Answer::Cleared(order));
            }
            Some(Order::Capture(_)) => end.answer(Answer::Capture(None)),
            Some(Order::Find(find)) => end.answer(Answer::Found(find)),
            Some(Order::Trace(_)) => end.answer(Answer::Trace(None)),
            Some(Order::Stop) => {
                end.answer(Answer::Stopped);
                return;
            }
        }
    }
}

fn connection(worker: u8, n: u32) -> ConnectionView {
    ConnectionView {
        worker: WorkerId(worker),
        protocol: Protocol::Tcp,
        state: State::Established,
        client: SocketAddr::from((Ipv4Addr::from_bits(0xc633_6400 + n), 40_000)),
        vip: SocketAddr::new(VIP.vip, 80),
        local: SocketAddr::new(LOCAL, 1024),
        backend: SocketAddr::from(([10, 0, 0, 2], 80)),
        service_id: ServiceId(0),
        backend_id: BackendId(0),
        idle_ms: 0,
        expires_ms: 900_000,
    }
}

/// A running control plane.
struct Running {
    /// Owned here and not by the daemon's thread: removed even if a test fails half-way.
    namespace: Namespace,
    socket: PathBuf,
    file: PathBuf,
    metrics: Option<SocketAddr>,
    stats: Vec<Arc<WorkerStats>>,
    seen: Vec<Seen>,
    moving: Arc<AtomicBool>,
    cleared: Arc<AtomicU32>,
    punt: VecLane,
    inject: VecLane,
    thread: JoinHandle<Result<(), ControlError>>,
    /// Removed with everything in it when the test ends.
    #[expect(dead_code, reason = "held for its drop")]
    directory: tempfile::TempDir,
}

const FILE: &str = "2 10.0.0.100\n10.0.0.2:80\n";

impl Running {
    fn start() -> Self {
        Self::start_with(FILE, OneService::default())
    }

    fn start_with<C: Configure + Send + 'static>(text: &str, mut configure: C) -> Self {
        let namespace = Namespace::new();
        let directory = tempfile::tempdir().unwrap();
        let (socket, file) = (directory.path().join("a.sock"), directory.path().join("shunt.conf"));
        std::fs::write(&file, text).unwrap();
        let Written { plan, files: plan_files } = configure.load(&file).unwrap();
        // Taken here, outside: a path and loopback reach this test wherever the daemon lives.
        let claims = Claims::take(&socket, Some("127.0.0.1:0".parse().unwrap())).unwrap();
        let metrics = claims.metrics.as_ref().map(|listener| listener.local_addr().unwrap());
        let moving = Arc::new(AtomicBool::new(true));
        let cleared = Arc::<AtomicU32>::default();
        let (mut workers, mut stats, mut seen) = (vec![], vec![], vec![]);
        for id in 0..2 {
            let (control, end) = mailbox();
            let counters = Arc::new(WorkerStats::default());
            let last = Seen::default();
            let (stats_of, seen_by) = (Arc::clone(&counters), Arc::clone(&last));
            let (moving, cleared) = (Arc::clone(&moving), Arc::clone(&cleared));
            let model = Model { stats: stats_of, seen: seen_by, moving, cleared };
            std::thread::spawn(move || worker(id, end, &model));
            let part = Arc::clone(&counters);
            workers.push(WorkerPart { core: usize::from(id) + 4, mailbox: control, stats: part });
            stats.push(counters);
            seen.push(last);
        }
        let (inside, plan_file) = (namespace.name.clone(), file.clone());
        let (punt, inject) = (VecLane::new(64), VecLane::new(64));
        let (punt_end, inject_end) = (punt.clone(), inject.clone());
        let mut tap = spec(0, "tw0", [10, 0, 0, 1]);
        tap.routes = vec![([10, 7, 0, 0].into(), 16, [10, 0, 0, 254].into())];
        let thread = std::thread::spawn(move || {
            enter(&inside);
            let punt = vec![punt_end, VecLane::new(64)];
            let make = |frame: &[u8]| Some(VecPacket::new(frame));
            run(Parts {
                workers,
                taps: vec![tap],
                lanes: Lanes { punt, inject: inject_end, make },
                plan,
                plan_files,
                plan_file,
                configure,
                claims,
                make_members: make_members(),
                ticks: || 0,
                facts: StaticFacts { tsc_hz: 1000, table_capacity: 1000, ..StaticFacts::default() },
                devices: shunt::stats::devices::Devices::default(),
            })
        });
        Self {
            namespace,
            socket,
            file,
            metrics,
            stats,
            seen,
            moving,
            cleared,
            punt,
            inject,
            thread,
            directory,
        }
    }

    /// Runs `shunt`; the outcome and what it printed.
    fn shunt(&self, arguments: &str) -> (Result<bool, String>, String) {
        let words = ["shunt", "--socket", self.socket.to_str().unwrap()];
        let words = words.into_iter().chain(arguments.split(' '));
        let mut out = Vec::new();
        let outcome = cli::run(
            &cli::Arguments::try_parse_from(words).unwrap(),
            &mut out,
            &mut std::io::sink(),
        );
        (
            outcome.map(|code| code == 0).map_err(|error| error.to_string()),
            String::from_utf8(out).unwrap(),
        )
    }

    fn status(&self) -> Status {
        let (outcome, text) = self.shunt("status --json");
        assert_eq!(outcome, Ok(true));
        serde_json::from_str(&text).unwrap()
    }

    fn until(&self, what: &str, wish: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        while !wish(self) {
            assert!(start.elapsed() < Duration::from_secs(10), "waited in vain for {what}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn ready(&self) {
        self.until("the start", |d| d.last(1).generation >= 2);
    }

    /// What a worker was told last.
    fn last(&self, worker: usize) -> Arc<Snapshot> {
        self.seen[worker].lock().unwrap().last().cloned().unwrap_or_default()
    }

    /// Plays the network behind the port: answers one ARP request, if there is one.
    fn answer_arp(&self) {
        let Some(request) = self.inject.pop() else { return };
        let data = request.data();
        if data[12..14] != [8, 6] || data[20..22] != [0, 1] || data[28..32] == data[38..42] {
            return;
        }
        let own = [2, 0, 0, 0, 9, data[41]];
        let mut reply = [&data[6..12], &own, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 2]].concat();
        reply.extend([&own, &data[38..42], &data[22..32]].concat());
        assert!(self.punt.push(VecPacket::new(&reply)).is_ok());
    }

    fn addresses(&self) -> String {
        self.namespace.ip("-4 -o addr show tw0")
    }

    fn end(self) -> Result<(), ControlError> {
        let outcome = self.thread.join().unwrap();
        assert!(!self.socket.exists(), "the socket is gone");
        assert!(!self.namespace.ip("link show").contains("tw0"), "the TAP is gone");
        outcome
    }
}

/// Signals this process, and with it the daemon under test.
fn signal(name: &str) {
    sh(&format!("kill -{name} {}", std::process::id()));
}

fn turn() -> std::sync::MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn scrape(address: SocketAddr) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}
