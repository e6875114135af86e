//! Forwarding modes beside FULL-NAT: who sees whom, and that everything arrives.

use std::collections::BTreeMap;
use std::io::Read as _;

use lab::agent::decap;
use lab::config::{Config, Tunnel};
use lab::network::{self, LAN, LOCAL, VIP};
use lab::{Program, programs};

use crate::harness::{Rig, WEB, web};

const REQUESTS: u32 = 100;
/// Packets a client sends for one short request at the very least: SYN, request, FIN.
const PACKETS_MIN: u32 = 3;
const DOWNLOAD_BYTES: u64 = 20_000_000;

fn url(file: &str) -> String {
    format!("http://{VIP}/{file}")
}

/// Every backend of the rig answers as this mode needs it.
fn prepare(rig: &Rig, mode: &str) {
    for backend in &rig.network.backends {
        match mode {
            "nat" => rig.network.answer_through_the_balancer(backend).unwrap(),
            _ => rig.network.answer_past_the_balancer(backend).unwrap(),
        }
    }
}

/// A web service over two backends in this mode.
fn config(rig: &Rig, workers: usize, mode: &str, tunnel: Option<Tunnel>) -> Config {
    let mut config = rig.web_config(workers, "rr", &[(1, 1), (2, 1)]);
    config.set_mode("web", mode, tunnel).unwrap();
    config
}

/// Who answered, and whom it saw, by number of answers.
fn answers(rig: &Rig, requests: u32) -> BTreeMap<(String, String), u32> {
    let bodies = programs::curl_many(&rig.network.clients[0], &url(""), requests).unwrap();
    let mut answers = BTreeMap::new();
    for body in &bodies {
        let mut words = body.split(' ').map(str::to_owned);
        let key = (words.next().unwrap(), words.next().unwrap());
        *answers.entry(key).or_default() += 1;
    }
    answers
}

/// A hundred requests reach both backends, and both see the client's own address.
fn backends_see_the_client(rig: &Rig) {
    let client = network::client_address(1).to_string();
    let answers = answers(rig, REQUESTS);
    assert_eq!(answers.values().sum::<u32>(), REQUESTS);
    for name in ["backend-1", "backend-2"] {
        let count = answers.get(&(name.to_owned(), client.clone())).copied().unwrap_or(0);
        assert!(count.abs_diff(REQUESTS / 2) <= 2, "{name}: {answers:?}");
    }
    assert_eq!(answers.len(), 2, "nobody saw another address: {answers:?}");
}

/// Twenty megabytes of random bytes from each backend.
fn a_download_arrives_whole(rig: &Rig) {
    let original = rig.network.folder().join("original");
    let mut random = std::fs::File::open("/dev/urandom").unwrap().take(DOWNLOAD_BYTES);
    std::io::copy(&mut random, &mut std::fs::File::create(&original).unwrap()).unwrap();
    let sum = programs::sha256(&original).unwrap();
    for web in &rig.web {
        std::fs::copy(&original, web.folder.join("blob")).unwrap();
    }
    for number in 0..2 {
        let file = rig.network.folder().join(format!("download-{number}"));
        programs::download(&rig.network.clients[0], &url("blob"), &file).unwrap();
        assert_eq!(programs::sha256(&file).unwrap(), sum, "download {number}");
    }
}

fn without_a_tunnel(workers: usize, mode: &str) {
    let rig = Rig::new(1, 2);
    prepare(&rig, mode);
    let mut balancer = rig.start(config(&rig, workers, mode, None));
    backends_see_the_client(&rig);
    a_download_arrives_whole(&rig);
    let services = balancer.shunt(&["services"]).unwrap();
    assert_eq!(services.matches(&format!(" {mode} ")).count(), 2, "{services}");
    balancer.stop().unwrap();
}

#[test]
fn nat_shows_backends_the_client_with_one_worker() {
    without_a_tunnel(1, "nat");
}

#[test]
fn nat_shows_backends_the_client_with_two_workers() {
    without_a_tunnel(2, "nat");
}

#[test]
fn nat_shows_backends_the_client_with_four_workers() {
    without_a_tunnel(4, "nat");
}

#[test]
fn dr_shows_backends_the_client_with_one_worker() {
    without_a_tunnel(1, "dr");
}

#[test]
fn dr_shows_backends_the_client_with_two_workers() {
    without_a_tunnel(2, "dr");
}

/// The far end of a tunnel on every backend, from the balancer's address on their LAN.
fn far_ends(rig: &Rig, arguments: &[&str]) -> Vec<Program> {
    let far_end =
        |host| programs::decap(&rig.network, &rig.binaries, host, LAN, arguments).unwrap();
    rig.network.backends.iter().map(far_end).collect()
}

fn through_a_tunnel(workers: usize, tunnel: &Tunnel, arguments: &[&str]) {
    let rig = Rig::new(1, 2);
    prepare(&rig, "tunnel");
    let far_ends = far_ends(&rig, arguments);
    let mut balancer = rig.start(config(&rig, workers, "tunnel", Some(tunnel.clone())));
    backends_see_the_client(&rig);
    let json = balancer.shunt_json("services").unwrap().to_string();
    assert_eq!(json.matches(&format!("\"kind\":\"{}\"", tunnel.kind)).count(), 2, "{json}");
    balancer.stop().unwrap();
    for (far_end, backend) in far_ends.iter().zip(&rig.network.backends) {
        assert_eq!(far_end.stderr(), "", "what was wrong with packets to {}", backend.name());
        let received = backend.received_packets(decap::DEVICE).unwrap();
        let least = u64::from((REQUESTS / 2 - 2) * PACKETS_MIN);
        assert!(received >= least, "{} got {received} out of the tunnel", backend.name());
    }
}

#[test]
fn ipip_shows_backends_the_client_with_one_worker() {
    through_a_tunnel(1, &Tunnel::ipip(), &["ipip"]);
}

#[test]
fn ipip_shows_backends_the_client_with_two_workers() {
    through_a_tunnel(2, &Tunnel::ipip(), &["ipip"]);
}

#[test]
fn gre_shows_backends_the_client_with_one_worker() {
    through_a_tunnel(1, &Tunnel::gre(false), &["gre"]);
}

#[test]
fn gre_with_checksums_shows_backends_the_client_with_two_workers() {
    through_a_tunnel(2, &Tunnel::gre(true), &["gre", "--checksum"]);
}

#[test]
fn gue_shows_backends_the_client_with_one_worker() {
    through_a_tunnel(1, &Tunnel::gue(6080, false), &["gue"]);
}

#[test]
fn gue_with_checksums_at_another_port_shows_backends_the_client_with_two_workers() {
    through_a_tunnel(2, &Tunnel::gue(7777, true), &["gue", "--checksum", "--port", "7777"]);
}

/// A backend in each mode, of weights 3, 2, 1 and 1; seven times twenty requests.
fn four_modes_in_one_service(workers: usize) {
    let rig = Rig::new(1, 4);
    let backends = &rig.network.backends;
    rig.network.answer_through_the_balancer(&backends[1]).unwrap();
    rig.network.answer_past_the_balancer(&backends[2]).unwrap();
    rig.network.answer_past_the_balancer(&backends[3]).unwrap();
    let _far_end =
        programs::decap(&rig.network, &rig.binaries, &backends[3], LAN, &["ipip"]).unwrap();
    let mut config = rig.web_config(workers, "wrr", &[(1, 3), (2, 2), (3, 1), (4, 1)]);
    for (number, mode) in [(2, "nat"), (3, "dr"), (4, "tunnel")] {
        config.set_backend_mode("web", web(number), mode, None).unwrap();
    }
    let mut balancer = rig.start(config);
    let mut shares: BTreeMap<String, u32> = BTreeMap::new();
    for ((backend, saw), count) in answers(&rig, 140) {
        let is_local = LOCAL.iter().any(|local| local.to_string() == saw);
        let is_client = saw == network::client_address(1).to_string();
        assert!(if backend == "backend-1" { is_local } else { is_client }, "{backend} saw {saw}");
        *shares.entry(backend).or_default() += count;
    }
    let slack = if workers == 1 { 0 } else { 2 };
    for (number, ideal) in [(1, 60), (2, 40), (3, 20), (4, 20u32)] {
        let share = shares.get(&format!("backend-{number}")).copied().unwrap_or(0);
        assert!(share.abs_diff(ideal) <= slack, "backend-{number}, ideal {ideal}: {shares:?}");
    }
    balancer.stop().unwrap();
}

#[test]
fn weights_hold_over_four_modes_in_one_service_with_one_worker() {
    four_modes_in_one_service(1);
}

#[test]
fn weights_hold_over_four_modes_in_one_service_with_two_workers() {
    four_modes_in_one_service(2);
}

#[test]
fn weights_hold_over_four_modes_in_one_service_with_four_workers() {
    four_modes_in_one_service(4);
}

#[test]
fn a_reload_of_the_mode_is_for_new_connections_and_fails_no_old_one() {
    let rig = Rig::new(2, 1);
    prepare(&rig, "nat");
    let mut fullnat = rig.web_config(2, "rr", &[(1, 1)]);
    let mut nat = fullnat.clone();
    nat.set_mode("web", "nat", None).unwrap();
    let mut balancer = rig.start(nat);
    let arguments = ["--threads", "4", "--keep-alive", "--pause-ms", "2"];
    let client = &rig.network.clients[1];
    let mut lasting = programs::load(&rig.network, &rig.binaries, client, WEB, &arguments).unwrap();
    let saw =
        |rig: &Rig| -> Vec<String> { answers(rig, 20).into_keys().map(|key| key.1).collect() };
    assert_eq!(saw(&rig), [network::client_address(1).to_string()]);
    balancer.reload(fullnat.clone()).unwrap();
    let locals = LOCAL.map(|local| local.to_string());
    assert!(saw(&rig).iter().all(|saw| locals.contains(saw)), "new connections take the new way");
    fullnat.set_mode("web", "nat", None).unwrap();
    balancer.reload(fullnat).unwrap();
    assert_eq!(saw(&rig), [network::client_address(1).to_string()], "and back");
    let report = programs::stop_load(&mut lasting).unwrap();
    assert!(report.ok > 100 && report.failed == 0, "{report:?}");
    balancer.stop().unwrap();
}
