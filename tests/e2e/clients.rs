//! Who may connect, how often, and where to: lists, limits and persistence, with real clients.

use std::collections::BTreeSet;
use std::time::Duration;

use lab::config::{ClientList, Config};
use lab::network::{VIP, client_address};
use lab::{Balancer, Host, programs, wait};

use crate::harness::{Rig, WEB, web};

const EVEN: [(u8, u32); 3] = [(1, 1), (2, 1), (3, 1)];

fn url() -> String {
    format!("http://{VIP}/")
}

/// The backend that answers one request of a client's; `None` if nobody does.
fn ask(client: &Host) -> Option<String> {
    let body = programs::curl(client, &url()).ok()?;
    Some(body.split(' ').next()?.to_owned())
}

/// The backends that answer so many requests.
fn backends(client: &Host, requests: u32) -> BTreeSet<String> {
    let bodies = programs::curl_many(client, &url(), requests).unwrap();
    bodies.iter().filter_map(|body| body.split(' ').next()).map(str::to_owned).collect()
}

/// The only service with one more key.
fn set(config: &mut Config, key: &str, value: impl Into<toml::Value>) {
    config.service[0].more.insert(key.to_owned(), value.into());
}

fn dropped(balancer: &Balancer<'_>, reason: &str) -> f64 {
    let metrics = balancer.metrics().unwrap();
    let labels = [("service", "web"), ("reason", reason)];
    metrics.sum("shunt_refused_connections_total", &labels).unwrap_or(0.0)
}

fn lists(workers: usize) {
    let rig = Rig::new(2, 3);
    let [first, second] = [&rig.network.clients[0], &rig.network.clients[1]];
    let open = rig.web_config(workers, "rr", &EVEN);
    let with = |key: &str, networks: &[String]| {
        let mut config = open.clone();
        let list = ClientList { name: "some".to_owned(), networks: networks.to_vec() };
        config.list.push(list);
        set(&mut config, key, vec!["some".to_owned()]);
        config
    };
    let only_first = [client_address(1).to_string()];
    let mut balancer = rig.start(with("deny", &only_first));
    assert_eq!((ask(first).is_some(), ask(second).is_some()), (false, true), "one is denied");
    assert!(dropped(&balancer, "denied") >= 1.0);
    balancer.reload(with("allow", &only_first)).unwrap();
    assert_eq!((ask(first).is_some(), ask(second).is_some()), (true, false), "one is allowed");
    let mut crowd: Vec<String> =
        (0..20_000u32).map(|n| format!("10.{}.{}.{}", n >> 16, n >> 8 & 255, n & 255)).collect();
    crowd.push("192.0.2.0/24".to_owned());
    balancer.reload(with("deny", &crowd)).unwrap();
    assert_eq!(
        (ask(first).is_some(), ask(second).is_some()),
        (false, false),
        "a network is denied"
    );
    balancer.reload(open.clone()).unwrap();
    assert_eq!((ask(first).is_some(), ask(second).is_some()), (true, true), "nobody is");
    balancer.stop().unwrap();
}

#[test]
fn lists_say_who_may_connect_and_follow_a_reload_with_one_worker() {
    lists(1);
}

#[test]
fn lists_say_who_may_connect_and_follow_a_reload_with_two_workers() {
    lists(2);
}

/// Everybody's service and one for some clients, at one address, each with its backend.
fn told_apart(workers: usize, mode: &str) {
    let rig = Rig::new(2, 2);
    let [first, second] = [&rig.network.clients[0], &rig.network.clients[1]];
    let mut config = rig.web_config(workers, "rr", &[(1, 1)]);
    config = config.with_service("own", "tcp", 80, "rr", &[(web(2), 1)]);
    let own = [client_address(2).to_string(), "10.77.0.0/16".to_owned()];
    config.service[1].more.insert("clients".to_owned(), own.to_vec().into());
    if mode == "nat" {
        config.set_mode("own", "nat", None).unwrap();
        rig.network.answer_through_the_balancer(&rig.network.backends[1]).unwrap();
    }
    let mut balancer = rig.start(config.clone());
    let homes =
        || [first, second].map(|client| backends(client, 60).into_iter().collect::<Vec<_>>());
    assert_eq!(homes(), [["backend-1"], ["backend-2"]], "each client has its service");
    let made = |service| {
        let metrics = balancer.metrics().unwrap();
        metrics.sum("shunt_new_connections_total", &[("service", service)]).unwrap_or(0.0)
    };
    assert!((made("web") - 60.0).abs() < 0.5 && (made("own") - 60.0).abs() < 0.5);
    let shown = balancer.shunt(&["services"]).unwrap();
    assert!(shown.contains(&format!("for       {}", client_address(2))), "{shown}");
    // By a list, and the client of the other; then for everybody.
    let list =
        ClientList { name: "some".to_owned(), networks: vec![client_address(1).to_string()] };
    config.list.push(list);
    let some = vec!["10.77.0.0/16".to_owned(), "some".to_owned()];
    config.service[1].more.insert("clients".to_owned(), some.into());
    balancer.reload(config.clone()).unwrap();
    assert_eq!(homes(), [["backend-2"], ["backend-1"]], "an edit holds for new connections");
    config.service.remove(1);
    balancer.reload(config).unwrap();
    assert_eq!(homes(), [["backend-1"], ["backend-1"]], "one service for all again");
    balancer.stop().unwrap();
}

#[test]
fn clients_of_two_networks_have_each_their_service_with_one_worker() {
    told_apart(1, "fullnat");
}

#[test]
fn clients_of_two_networks_have_each_their_service_with_two_workers() {
    told_apart(2, "fullnat");
}

#[test]
fn clients_of_two_networks_have_each_their_service_in_nat_beside_fullnat_with_two_workers() {
    told_apart(2, "nat");
}

/// HTTP and datagrams of one service: each client at one backend by both, counted together.
fn both_protocols(workers: usize) {
    let rig = Rig::new(2, 3);
    let echo = |host| programs::udp_echo(&rig.network, &rig.binaries, host, 80).unwrap();
    let _echoes: Vec<_> = rig.network.backends.iter().map(echo).collect();
    let mut config = rig.web_config(workers, "rr", &EVEN);
    set(&mut config, "persistence_s", 20);
    set(&mut config, "more_addresses", vec![format!("udp {VIP}:80")]);
    let mut balancer = rig.start(config);
    let [first, second] = [&rig.network.clients[0], &rig.network.clients[1]];
    let datagrams = |client| {
        let arguments = ["--sources", "30", "--rounds", "2", "--size", "100"];
        let report = programs::udp_load(&rig.binaries, client, WEB, &arguments).unwrap();
        assert_eq!((report.ok, report.failed), (60, 0), "{report:?}");
        report.backends.into_keys().collect::<BTreeSet<_>>()
    };
    // One begins by TCP, the other by UDP.
    let by_tcp = backends(first, 30);
    let by_udp = datagrams(second);
    assert_eq!((by_tcp.len(), by_udp.len()), (1, 1), "{by_tcp:?} {by_udp:?}");
    assert_eq!((datagrams(first), backends(second, 30)), (by_tcp.clone(), by_udp.clone()));
    assert_ne!(by_tcp, by_udp, "in turn, whatever they speak");
    let metrics = balancer.metrics().unwrap();
    let made = metrics.sum("shunt_new_connections_total", &[("service", "web")]).unwrap();
    assert!((made - 120.0).abs() < 0.5, "{made}");
    let shown = balancer.shunt(&["services"]).unwrap();
    assert!(shown.contains(&format!("udp {VIP}:80")), "{shown}");
    balancer.stop().unwrap();
}

#[test]
fn a_client_stays_at_one_backend_by_both_protocols_of_a_service_with_one_worker() {
    both_protocols(1);
}

#[test]
fn a_client_stays_at_one_backend_by_both_protocols_of_a_service_with_two_workers() {
    both_protocols(2);
}

fn persistence(workers: usize) {
    let rig = Rig::new(2, 3);
    let [first, second] = [&rig.network.clients[0], &rig.network.clients[1]];
    let mut config = rig.web_config(workers, "rr", &EVEN);
    set(&mut config, "persistence_s", 20);
    let mut balancer = rig.start(config.clone());
    let homes = [first, second].map(|client| backends(client, 60));
    for home in &homes {
        assert_eq!(home.len(), 1, "sixty connections, one backend: {homes:?}");
    }
    // Drained, the first client's backend gets nobody new; the second client stays where it is,
    // unless it shared it.
    let home = homes[0].iter().next().unwrap();
    let number = home.trim_start_matches("backend-").parse().unwrap();
    config.set_backend("web", web(number), 0).unwrap();
    balancer.reload(config.clone()).unwrap();
    let moved = backends(first, 60);
    assert!(moved.len() == 1 && !moved.contains(home), "{home} is drained: {moved:?}");
    if homes[1] != homes[0] {
        assert_eq!(backends(second, 60), homes[1]);
    }
    // Back, and still the client goes where it went last.
    config.set_backend("web", web(number), 1).unwrap();
    balancer.reload(config).unwrap();
    assert_eq!(backends(first, 60), moved);
    let metrics = balancer.metrics().unwrap();
    for name in ["shunt_templates_evicted_total", "shunt_templates_missed_total"] {
        assert!(metrics.sum(name, &[]).unwrap() < 0.5, "{name}");
    }
    balancer.stop().unwrap();
}

#[test]
fn a_client_stays_with_its_backend_with_one_worker() {
    persistence(1);
}

#[test]
fn a_client_stays_with_its_backend_with_two_workers() {
    persistence(2);
}

/// Ended connections count for two minutes, as long as they are in the table: so each client gets its
/// ten, and nobody more than the service has.
#[test]
fn limits_of_sources_and_services_are_exact_and_lifted_by_a_reload() {
    let rig = Rig::new(2, 3);
    let [first, second] = [&rig.network.clients[0], &rig.network.clients[1]];
    let open = rig.web_config(2, "rr", &EVEN);
    let mut config = open.clone();
    set(&mut config, "source_max_connections", 10);
    set(&mut config, "max_connections", 15);
    let mut balancer = rig.start(config);
    backends(first, 10);
    assert_eq!(ask(first), None, "its eleventh");
    backends(second, 5);
    assert_eq!(ask(second), None, "the service's sixteenth");
    assert!(dropped(&balancer, "source_full") >= 1.0);
    assert!(dropped(&balancer, "service_full") >= 1.0);
    balancer.reload(open.clone()).unwrap();
    backends(first, 20);
    let mut config = open;
    set(&mut config, "max_new_per_second", 5);
    set(&mut config, "max_new_burst", 10);
    balancer.reload(config).unwrap();
    // Refused SYNs come again after a second; however long that takes, no more get in than the burst
    // and what the rate gives in that time.
    let start = std::time::Instant::now();
    backends(second, 30);
    let most = 10.0 + 5.0 * start.elapsed().as_secs_f64();
    assert!(most >= 30.0, "thirty connections, and no more than {most:.1} were allowed");
    wait::until_true("refusals to be counted", Duration::from_secs(2), || {
        Ok(dropped(&balancer, "service_rate") >= 1.0)
    })
    .unwrap();
    balancer.stop().unwrap();
}
