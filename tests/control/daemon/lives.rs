//! What a daemon does between its start and its end, seen from outside.

use super::*;

/// The last number of an IPv4 address.
fn last(address: IpAddr) -> u8 {
    let IpAddr::V4(address) = address else { panic!("{address} is none of this test's") };
    address.octets()[3]
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
    assert_eq!(status.next_hops.unanswered, [IpAddr::from([10, 0, 0, 2])]);
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
            assert_eq!(hop.destination.0[5], last(backend.address));
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
pub(super) fn real_file(backends: &[&str]) -> String {
    let backend = |address: &&str| format!("[[service.backend]]\naddress = \"{address}\"\n");
    let backends = backends.iter().map(backend).collect::<String>();
    let base = include_str!("../../../src/control/config/tests/base.toml");
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
            let found = table.find(|(_, b)| b.as_ref().is_some_and(|b| last(b.address) == port));
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
fn lists_of_clients_are_reloaded_and_those_that_do_not_fit_change_nothing() {
    let _turn = turn();
    let configure = Configured::new(vec![], Machine::here());
    let file = |networks: &str| {
        let service =
            real_file(&["10.0.0.2:80"]).replace("protocol", "deny = [\"bots\"]\nprotocol");
        format!("{service}[[list]]\nname = \"bots\"\nnetworks = [{networks}]\n")
    };
    let daemon = Running::start_with(&file("\"192.0.2.0/24\""), configure);
    daemon.ready();
    let admits =
        |d: &Running, client: &str| d.last(1).admits(ServiceId(0), client.parse().unwrap());
    assert!(!admits(&daemon, "192.0.2.7") && admits(&daemon, "203.0.113.7"));
    let before = daemon.last(1).generation;
    std::fs::write(&daemon.file, file("\"203.0.113.7\", \"10.1.0.0/16\"")).unwrap();
    let (outcome, text) = daemon.shunt("reload");
    assert_eq!(outcome, Ok(true), "{text}");
    assert!(text.contains("~ list bots: 2 networks added, 1 removed"), "{text}");
    daemon.until("the workers", |d| d.last(1).generation > before);
    assert!(admits(&daemon, "192.0.2.7") && !admits(&daemon, "203.0.113.7"));
    let many = "\"10.0.0.0/32\", \"10.0.0.1/32\", \"10.0.0.2/32\", \"10.0.0.3/32\"";
    std::fs::write(&daemon.file, file(many)).unwrap();
    let (outcome, text) = daemon.shunt("reload");
    assert_eq!(outcome, Ok(false), "{text}");
    assert!(text.contains("no room for 4 networks; nothing was changed"), "{text}");
    assert!(admits(&daemon, "10.0.0.1") && !admits(&daemon, "203.0.113.7"));
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
    let (moving, cleared) = (Arc::default(), Arc::default());
    let model = Model { stats, seen: Seen::default(), moving, cleared };
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
                plan_files: Files::alone(&directory.path().join("none"), String::new()),
                plan_file: directory.path().join("none"),
                configure: OneService::default(),
                claims,
                make_members: make_members(),
                ticks: || 0,
                facts: StaticFacts::default(),
                devices: shunt::stats::devices::Devices::default(),
            })
        });
        inside.join().unwrap()
    });
    assert!(outcome.unwrap_err().to_string().contains("`tw0` exists already"));
    worker.join().unwrap();
    assert!(!socket.exists());
}

#[test]
fn connections_are_cleared_by_all_workers_and_counted() {
    let _turn = turn();
    let daemon = Running::start();
    daemon.ready();
    for (stats, count) in daemon.stats.iter().zip([3, 4]) {
        (0..count).for_each(|_| stats.connections.up());
    }
    assert_eq!(daemon.shunt("clear --all"), (Ok(true), "7 connections ended\n".into()));
    let (_, text) = daemon.shunt("clear --service web --backend 10.0.0.2:80 --json");
    assert_eq!(text, "{\n  \"connections\": 7\n}\n");
    let (outcome, _) = daemon.shunt("clear --service nope");
    assert!(outcome.unwrap_err().contains("no service named `nope`"));
    let (outcome, _) = daemon.shunt("clear --backend 10.9.9.9");
    assert!(outcome.unwrap_err().contains("no backend 10.9.9.9"));
    signal("TERM");
    daemon.until("the drain", |d| !d.last(0).accepting);
    signal("TERM");
    daemon.end().unwrap();
}
