//! A backend whose kernel swallows SYNs: real clients' connections say so, and nobody asks.

use std::net::SocketAddrV4;

use lab::config::Config;
use lab::network::{VIP, backend_address};
use lab::{Balancer, Host, command, programs, wait};

use crate::harness::{Rig, WEB, web};
use crate::health::{PATIENCE, health_of, table, wait_for_state_of};

/// Longer than it takes to unmute it. Drained, so that its counters stay.
const HEALTH: &str = "[health]\non_failure = \"drain\"\npassive_fall = 2\npassive_rest_s = 10\n";
const MUTE: &str = "table inet lab_mute { chain input { type filter hook input priority 0;\n\
                    tcp dport 80 tcp flags & (syn | ack) == syn drop; }; }";

fn mute(backend: &Host) {
    command::run_with_input(backend.command("nft").args(["-f", "-"]), MUTE).unwrap();
}

fn unmute(backend: &Host) {
    backend.run("nft", &["delete table inet lab_mute"]).unwrap();
}

fn unanswered(balancer: &Balancer<'_>, backend: u8) -> f64 {
    let address = web(backend).to_string();
    let labels = [("service", "web"), ("backend", address.as_str())];
    balancer.metrics().unwrap().sum("shunt_unanswered_connections_total", &labels).unwrap()
}

#[test]
fn a_backend_that_answers_no_syn_rests_and_serves_again_when_it_does() {
    let rig = Rig::new(1, 2);
    let mut config = rig.web_config(2, "rr", &[(1, 1), (2, 1)]);
    config.service[0].more = table(HEALTH);
    let mut balancer = rig.start(config);
    let (network, client) = (&rig.network, &rig.network.clients[0]);
    mute(&network.backends[0]);
    let arguments = ["--threads", "4", "--pause-ms", "1"];
    let mut before = programs::load(network, &rig.binaries, client, WEB, &arguments).unwrap();
    wait_for_state_of(&balancer, web(1), "down");
    let said = balancer.shunt(&["services"]).unwrap();
    assert!(said.contains("down: passive: "), "{said}");
    unmute(&network.backends[0]);
    programs::stop_load(&mut before).unwrap();

    let mut during = programs::load(network, &rig.binaries, client, WEB, &arguments).unwrap();
    wait_for_state_of(&balancer, web(1), "up");
    let url = format!("http://{WEB}/");
    let serves = || {
        let bodies = programs::curl_many(client, &url, 4)?;
        Ok(bodies.iter().any(|body| body.starts_with("backend-1 ")))
    };
    wait::until_true("backend 1 to serve again", PATIENCE, serves).unwrap();
    let report = programs::stop_load(&mut during).unwrap();
    assert_eq!(report.failed, 0, "{report:?}");
    assert!(unanswered(&balancer, 1) >= 2.0, "{}", unanswered(&balancer, 1));
    assert_eq!(unanswered(&balancer, 2).to_string(), "0");
    balancer.stop().unwrap();
}

/// One that owes an answer, as who asks for `passive_fall` on UDP says of its backends.
#[test]
fn a_backend_that_answers_no_datagram_rests_and_serves_again_when_it_does() {
    let rig = Rig::new(1, 2);
    let (network, client) = (&rig.network, &rig.network.clients[0]);
    let echo = |host: &Host| programs::udp_echo(network, &rig.binaries, host, 7).unwrap();
    let _echoes: Vec<_> = network.backends.iter().map(echo).collect();
    let backend = |number| SocketAddrV4::new(backend_address(number), 7);
    let backends = [(backend(1), 1), (backend(2), 1)];
    let mut config = Config::new(network, 2).with_service("echo", "udp", 7, "rr", &backends);
    config.service[0].more = table(&format!("[timeouts]\nudp_s = 1\n{HEALTH}"));
    let mut balancer = rig.start(config);
    let ask = || {
        let target = SocketAddrV4::new(VIP, 7);
        programs::udp_load(&rig.binaries, client, target, &["--sources", "8"])
    };
    let first = &network.backends[0];
    let mute = MUTE.replace("tcp dport 80 tcp flags & (syn | ack) == syn", "udp dport 7");
    command::run_with_input(first.command("nft").args(["-f", "-"]), &mute).unwrap();
    let is_down = || {
        ask()?;
        Ok(health_of(&balancer, backend(1))["state"] == "down")
    };
    wait::until_true("backend 1 to be down", 2 * PATIENCE, is_down).unwrap();
    let why = balancer.shunt(&["services"]).unwrap();
    assert!(why.contains("down: passive: "), "{why}");
    wait_for_state_of(&balancer, backend(2), "up");
    unmute(first);
    wait_for_state_of(&balancer, backend(1), "up");
    let report = ask().unwrap();
    assert_eq!((report.ok, report.failed, report.backends.len()), (8, 0, 2), "{report:?}");
    balancer.stop().unwrap();
}
