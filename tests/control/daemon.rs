//! The whole control plane, driven as an operator would: by signals, by `shunt`, by a scrape.
//! Workers are threads that obey their mailboxes.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use clap::Parser;
use shunt::cli;
use shunt::control::admin::Claims;
use shunt::control::admin::view::{Connections, ReloadResult, Services, Status};
use shunt::control::config::Machine;
use shunt::control::config::plan::{Backend, Daemon, HugePages, Plan, Port, Service};
use shunt::control::configured::Configured;
use shunt::control::neighbors::Way;
use shunt::control::parts::{Changes, Configure, Lanes, Parts, WorkerPart};
use shunt::control::{ControlError, run};
use shunt::dataplane::conn::state::State;
use shunt::dataplane::io::Packet;
use shunt::dataplane::io::memory::{VecLane, VecPacket};
use shunt::dataplane::mailbox::mailbox;
use shunt::dataplane::orders::{Answer, ConnectionView, Order, WorkerEnd};
use shunt::dataplane::snapshot::{self, Mode, Protocol, Scheduler, Snapshot};
use shunt::ids::{BackendId, ServiceId, WorkerId};
use shunt::stats::collect::{BackendEntry, Names, ServiceEntry};
use shunt::stats::counters::WorkerStats;
use shunt::stats::slow::StaticFacts;

use crate::namespace::{Namespace, enter, sh};
use crate::taps::spec;

const VIP: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), 80);
const LOCAL: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 100);

/// Signals are the process's: tests that send or await them take turns.
static TURN: Mutex<()> = Mutex::new(());

/// A configuration of one service, whose file lists local address and backends.
struct OneService {
    generation: u64,
    /// Ever seen; the position is the id.
    backends: Vec<SocketAddrV4>,
    current: Vec<SocketAddrV4>,
}

fn plan(local: Ipv4Addr, backends: &[SocketAddrV4], workers: usize) -> Plan {
    let backend =
        |address: &SocketAddrV4| Backend { address: *address, weight: 1, mode: Mode::Fullnat };
    Plan {
        daemon: Daemon {
            worker_cores: (0..workers).collect(),
            control_core: None,
            busy_poll: false,
            connections_max: 1000,
            packet_buffers: 1000,
            admin_socket: PathBuf::new(),
            metrics_listen: None,
            huge_pages: HugePages::Never,
            memory_mb: 64,
            file_prefix: "test".into(),
            eal_arguments: vec![],
        },
        ports: Vec::<Port>::new(),
        timeouts: snapshot::Timeouts::default(),
        strays: snapshot::Strays::Reject,
        punt_per_second: 1000,
        drain_deadline: Duration::from_secs(30),
        services: vec![Service {
            name: "web".into(),
            protocol: Protocol::Tcp,
            address: VIP,
            scheduler: Scheduler::Rr,
            local_addresses: vec![local],
            backends: backends.iter().map(backend).collect(),
        }],
    }
}

fn parse(text: &str) -> Option<Plan> {
    let mut lines = text.lines();
    let (workers, local) = lines.next()?.split_once(' ')?;
    let backends: Option<Vec<_>> = lines.map(|line| line.parse().ok()).collect();
    Some(plan(local.parse().ok()?, &backends?, workers.parse().ok()?))
}

impl Configure for OneService {
    fn load(&mut self, file: &Path) -> Result<Plan, String> {
        let text = std::fs::read_to_string(file).map_err(|error| error.to_string())?;
        parse(&text).ok_or_else(|| format!("{}:1:1: not understood", file.display()))
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
        resolve: &dyn Fn(Ipv4Addr) -> Option<Way>,
        accepting: bool,
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
        let backend = |address: &SocketAddrV4| {
            self.current.contains(address).then(|| snapshot::Backend {
                service: ServiceId(0),
                address: *address.ip(),
                port: address.port(),
                mode: Mode::Fullnat,
                answers_here: false,
                our_address: Ipv4Addr::UNSPECIFIED,
                weight: 1,
                next_hop: resolve(*address.ip()).map(|way| way.next_hop),
            })
        };
        let mut snapshot = Snapshot::default();
        snapshot.generation = self.generation;
        snapshot.accepting = accepting;
        snapshot.backends = self.backends.iter().map(backend).collect();
        snapshot.services = Box::new([Some(snapshot::Service {
            name: "web".into(),
            protocol: service.protocol,
            vip: *service.address.ip(),
            port: service.address.port(),
            scheduler: service.scheduler,
            backends: ids.into(),
            local_addresses: service.local_addresses.clone().into(),
            revision: self.generation,
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
        let backend = |(id, address): (u32, &SocketAddrV4)| BackendEntry {
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
}

/// A worker: obeys orders, has as many connections as its gauge says, moves while told to.
fn worker(id: u8, mut end: WorkerEnd, model: &Model) {
    let Model { stats, seen, moving } = model;
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
        client: SocketAddrV4::new(Ipv4Addr::from_bits(0xc633_6400 + n), 40_000),
        vip: VIP,
        local: SocketAddrV4::new(LOCAL, 1024),
        backend: SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 2), 80),
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
        Self::start_with(FILE, OneService { generation: 0, backends: vec![], current: vec![] })
    }

    fn start_with<C: Configure + Send + 'static>(text: &str, mut configure: C) -> Self {
        let namespace = Namespace::new();
        let directory = tempfile::tempdir().unwrap();
        let (socket, file) = (directory.path().join("a.sock"), directory.path().join("shunt.conf"));
        std::fs::write(&file, text).unwrap();
        let plan = configure.load(&file).unwrap();
        // Taken here, outside: a path and loopback reach this test wherever the daemon lives.
        let claims = Claims::take(&socket, Some("127.0.0.1:0".parse().unwrap())).unwrap();
        let metrics = claims.metrics.as_ref().map(|listener| listener.local_addr().unwrap());
        let moving = Arc::new(AtomicBool::new(true));
        let (mut workers, mut stats, mut seen) = (vec![], vec![], vec![]);
        for id in 0..2 {
            let (control, end) = mailbox();
            let counters = Arc::new(WorkerStats::default());
            let last = Seen::default();
            let (stats_of, seen_by) = (Arc::clone(&counters), Arc::clone(&last));
            let moving = Arc::clone(&moving);
            let model = Model { stats: stats_of, seen: seen_by, moving };
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
                plan_file,
                configure,
                claims,
                facts: StaticFacts { tsc_hz: 1000, table_capacity: 1000, ..StaticFacts::default() },
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
        let outcome = cli::run(&cli::Arguments::try_parse_from(words).unwrap(), &mut out);
        (outcome.map_err(|error| error.to_string()), String::from_utf8(out).unwrap())
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

#[test]
fn a_daemon_shows_itself_and_ends_when_told_leaving_nothing() {
    let _turn = turn();
    let daemon = Running::start();
    daemon.ready();
    let status = daemon.status();
    assert!(status.accepting);
    assert_eq!(status.workers.iter().map(|w| w.core).collect::<Vec<_>>(), [4, 5]);
    assert_eq!(status.ports[0].mac, "02:00:00:00:01:00");
    assert_eq!(status.next_hops.unanswered, [Ipv4Addr::new(10, 0, 0, 2)]);
    daemon.until("a busy share", |d| (d.status().workers[0].busy - 0.25).abs() < 0.01);
    let addresses = daemon.addresses();
    assert!(addresses.contains("192.0.2.1/32") && addresses.contains("10.0.0.100/32"));
    let text = scrape(daemon.metrics.unwrap());
    assert!(
        text.contains("shunt_new_connections_total{service=\"web\",backend=\"10.0.0.2:80\"} 0")
    );
    signal("TERM");
    daemon.end().unwrap();
}

#[test]
fn connections_are_listed_over_all_workers_up_to_the_limit() {
    let _turn = turn();
    let daemon = Running::start();
    daemon.ready();
    for (stats, n) in daemon.stats.iter().zip([2500, 700]) {
        (0..n).for_each(|_| stats.connections.up());
    }
    let list = |arguments: &str| -> Connections {
        let (outcome, text) = daemon.shunt(&format!("connections --json {arguments}"));
        assert_eq!(outcome, Ok(true));
        serde_json::from_str(&text).unwrap()
    };
    assert_eq!(list("--limit 100000").connections.len(), 3200);
    let some = list("--limit 2600");
    assert_eq!(some.connections.len(), 2600);
    assert!(some.next.is_some());
    assert_eq!(list("--client 198.51.100.7").connections.len(), 2, "one of each worker");
    assert_eq!(some.connections[0].service, "web");
    let (outcome, _) = daemon.shunt("connections --service nope");
    assert!(outcome.unwrap_err().contains("there is no service named `nope`"));
    signal("TERM");
    daemon.until("the drain", |d| !d.last(0).accepting);
    signal("TERM");
    daemon.end().unwrap();
}

#[test]
fn a_reload_applies_all_of_a_good_file_and_nothing_of_a_bad_one() {
    let _turn = turn();
    let daemon = Running::start();
    daemon.ready();
    let generation = daemon.status().generation;
    for (file, result, sentence) in [
        ("garbage\n", ReloadResult::Invalid, ":1:1: not understood"),
        ("3 10.0.0.100\n10.0.0.2:80\n", ReloadResult::Refused, "needs a restart: [shunt] workers"),
        (FILE, ReloadResult::Unchanged, "nothing differs"),
    ] {
        std::fs::write(&daemon.file, file).unwrap();
        let (outcome, text) = daemon.shunt("reload");
        assert_eq!(outcome, Ok(result.success()));
        assert!(text.contains(sentence), "{text}");
        let status = daemon.status();
        assert_eq!(status.last_reload.unwrap().result, result);
        assert_eq!(status.generation, generation, "nothing was published");
    }
    // A connection of the old local address keeps that address on the TAP.
    daemon.stats[0].services[0].connections.up();
    std::fs::write(&daemon.file, "2 10.0.0.101\n10.0.0.2:80\n10.0.0.3:80\n").unwrap();
    signal("HUP");
    daemon.until("the reload", |d| d.last(1).backends.len() == 2);
    daemon.until("the new address", |d| d.addresses().contains("10.0.0.101/32"));
    assert!(daemon.addresses().contains("10.0.0.100/32"), "still in use");
    let (_, text) = daemon.shunt("services --json");
    let services: Services = serde_json::from_str(&text).unwrap();
    assert_eq!(services.services[0].backends.len(), 2);
    daemon.stats[0].services[0].connections.down();
    daemon.until("the old address to go", |d| !d.addresses().contains("10.0.0.100/32"));
    let text = scrape(daemon.metrics.unwrap());
    for result in ["applied", "unchanged", "refused", "invalid"] {
        assert!(
            text.contains(&format!("shunt_config_reloads_total{{result=\"{result}\"}} 1")),
            "{result}"
        );
    }
    signal("TERM");
    daemon.end().unwrap();
}

#[test]
fn backends_have_next_hops_before_they_can_have_connections() {
    let _turn = turn();
    let daemon = Running::start();
    let serving = |d: &Running, backends: usize| {
        d.answer_arp();
        d.last(0).backends.len() == backends && d.status().next_hops.resolved == backends
    };
    daemon.until("the start", |d| d.last(0).generation >= 1);
    daemon.until("the first backend", |d| serving(d, 1));
    let before = daemon.seen[0].lock().unwrap().len();
    std::fs::write(&daemon.file, "2 10.0.0.100\n10.0.0.2:80\n10.0.0.3:80\n").unwrap();
    signal("HUP");
    daemon.until("the second backend", |d| {
        // A network that takes its time.
        std::thread::sleep(Duration::from_millis(50));
        d.answer_arp();
        d.last(0).backends.len() == 2
    });
    for snapshot in daemon.seen[0].lock().unwrap().iter().skip(before) {
        for backend in snapshot.backends.iter().flatten() {
            let hop = backend.next_hop.unwrap_or_else(|| panic!("{backend:?} without a next hop"));
            assert_eq!(hop.destination.0[5], backend.address.octets()[3]);
        }
    }
    signal("TERM");
    daemon.end().unwrap();
}

#[test]
fn what_somebody_takes_off_a_tap_comes_back() {
    let _turn = turn();
    let daemon = Running::start();
    daemon.ready();
    for address in ["192.0.2.1/32", "10.0.0.100/32", "10.0.0.1/24"] {
        daemon.until(address, |d| d.addresses().contains(address));
        daemon.namespace.ip(&format!("addr del {address} dev tw0"));
        daemon.until(address, |d| d.addresses().contains(address));
    }
    daemon.namespace.ip("addr del 192.0.2.1/32 dev tw0");
    let (_, text) = daemon.shunt("reload");
    assert!(text.contains("nothing differs"), "{text}");
    assert!(daemon.addresses().contains("192.0.2.1/32"), "a reload does not wait for it");
    signal("TERM");
    daemon.end().unwrap();
}

#[test]
fn a_tap_that_was_down_has_its_routes_again_and_one_that_was_deleted_is_shown() {
    let _turn = turn();
    let daemon = Running::start();
    daemon.ready();
    let shown = |d: &Running, up: u8| {
        d.status().ports[0].tap_up == (up == 1)
            && scrape(d.metrics.unwrap()).contains(&format!("shunt_tap_up{{port=\"port0\"}} {up}"))
    };
    let routes = |d: &Running| d.namespace.ip("route show 10.7.0.0/16");
    daemon.until("the TAP to be seen", |d| shown(d, 1));
    assert!(routes(&daemon).contains("via 10.0.0.254 dev tw0"));
    daemon.namespace.ip("link set tw0 down");
    assert_eq!(routes(&daemon), "", "the kernel forgets them");
    daemon.until("a TAP that is down to be shown", |d| shown(d, 0));
    daemon.namespace.ip("link set tw0 up");
    daemon.until("the route", |d| routes(d).contains("via 10.0.0.254 dev tw0"));
    daemon.until("the TAP to be shown as up", |d| shown(d, 1));
    daemon.namespace.ip("link del tw0");
    daemon.until("a TAP that is gone to be shown", |d| shown(d, 0));
    signal("TERM");
    daemon.end().unwrap();
}

/// One service as the real configuration knows it.
fn real_file(backends: &[&str]) -> String {
    let backend = |address: &&str| format!("[[service.backend]]\naddress = \"{address}\"\n");
    let backends = backends.iter().map(backend).collect::<String>();
    let base = include_str!("../../src/control/config/tests/base.toml");
    let head = base.split("[[service]]").next().unwrap().replace("[1, 2]", "[0, 1]");
    format!(
        "{head}[[service]]\nname = \"web\"\nprotocol = \"tcp\"\naddress = \"198.51.100.10:80\"\n\
         local_addresses = [\"10.0.0.100\"]\n{backends}"
    )
}

#[test]
fn a_removed_backends_id_is_free_when_its_last_connection_is_gone_and_is_given_out_again() {
    let _turn = turn();
    let configure = Configured::new(vec![], Machine::here());
    let daemon = Running::start_with(&real_file(&["10.0.0.2:80", "10.0.0.3:80"]), configure);
    daemon.ready();
    let ids = |d: &Running| -> Vec<_> {
        let snapshot = d.last(0);
        let place = |port| {
            let mut table = (0u32..).zip(&snapshot.backends);
            let found =
                table.find(|(_, b)| b.as_ref().is_some_and(|b| b.address.octets()[3] == port));
            found.map(|(id, _)| id)
        };
        [2, 3, 4].map(place).to_vec()
    };
    assert_eq!(ids(&daemon), [Some(0), Some(1), None]);
    daemon.stats[1].backends[0].connections.up();
    let reload = |backends: &[&str]| {
        std::fs::write(&daemon.file, real_file(backends)).unwrap();
        let (outcome, text) = daemon.shunt("reload");
        assert_eq!(outcome, Ok(true), "{text}");
        let wanted = daemon.status().generation;
        daemon.until("the workers", |d| (0..2).all(|worker| d.last(worker).generation >= wanted));
    };
    let listed = |d: &Running| {
        let (_, text) = d.shunt("services --json");
        serde_json::from_str::<Services>(&text).unwrap().services[0].backends.len()
    };
    reload(&["10.0.0.3:80"]);
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(listed(&daemon), 2, "a connection holds the removed one");
    daemon.stats[1].backends[0].connections.down();
    daemon.until("the id to be free", |d| listed(d) == 1);
    reload(&["10.0.0.3:80", "10.0.0.4:80"]);
    assert_eq!(ids(&daemon), [None, Some(1), Some(0)], "the free id is used again");
    signal("TERM");
    daemon.end().unwrap();
}

#[test]
fn an_end_waits_for_connections_but_takes_no_new_ones() {
    let _turn = turn();
    let daemon = Running::start();
    daemon.ready();
    daemon.stats[1].connections.up();
    signal("TERM");
    daemon.until("the drain", |d| (0..2).all(|worker| !d.last(worker).accepting));
    std::thread::sleep(Duration::from_millis(300));
    assert!(!daemon.thread.is_finished(), "a connection is left");
    assert!(!daemon.status().accepting);
    let (outcome, text) = daemon.shunt("reload");
    assert!(outcome == Ok(false) && text.contains("the daemon is ending"), "{text}");
    daemon.stats[1].connections.down();
    daemon.end().unwrap();
}

#[test]
fn a_worker_that_stands_still_is_reported() {
    let _turn = turn();
    let daemon = Running::start();
    daemon.ready();
    assert!(!daemon.status().workers[0].stalled);
    daemon.moving.store(false, Ordering::Relaxed);
    daemon.until("the report", |d| d.status().workers.iter().all(|w| w.stalled));
    let text = scrape(daemon.metrics.unwrap());
    assert!(text.contains("shunt_worker_stalled{worker=\"1\"} 1"));
    signal("INT");
    daemon.end().unwrap();
}

#[test]
fn a_daemon_that_cannot_start_stops_its_workers_and_leaves_nothing() {
    let _turn = turn();
    let namespace = Namespace::new();
    namespace.ip("link add tw0 type veth peer name tw9");
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("a.sock");
    let claims = Claims::take(&socket, None).unwrap();
    let (control, end) = mailbox();
    let stats = Arc::new(WorkerStats::default());
    let part = WorkerPart { core: 0, mailbox: control, stats: Arc::clone(&stats) };
    let model = Model { stats, seen: Seen::default(), moving: Arc::default() };
    let worker = std::thread::spawn(move || worker(0, end, &model));
    let outcome = std::thread::scope(|scope| {
        let inside = scope.spawn(|| {
            namespace.enter();
            run(Parts {
                workers: vec![part],
                taps: vec![spec(0, "tw0", [10, 0, 0, 1])],
                lanes: Lanes {
                    punt: vec![VecLane::new(4)],
                    inject: VecLane::new(4),
                    make: |frame: &[u8]| Some(VecPacket::new(frame)),
                },
                plan: parse(FILE).unwrap(),
                plan_file: directory.path().join("none"),
                configure: OneService { generation: 0, backends: vec![], current: vec![] },
                claims,
                facts: StaticFacts::default(),
            })
        });
        inside.join().unwrap()
    });
    assert!(outcome.unwrap_err().to_string().contains("`tw0` exists already"));
    worker.join().unwrap();
    assert!(!socket.exists());
}
