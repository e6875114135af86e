//! SYN cookies between real kernels: bytes both ways, many connections, every way that passes both
//! directions here. And a service that is flooded.

use std::time::Duration;

use anyhow::{Result, ensure};
use lab::programs;

use crate::families::{Original, transfer};
use crate::harness::{Rig, WEB};
use crate::ways::{Everyone, WAYS, Way};

const CONNECTIONS: u64 = 300;

fn connections(everyone: &Everyone, way: Way) -> Result<()> {
    let (rig, client) = (&everyone.rig, everyone.narrow_client());
    let count = CONNECTIONS.to_string();
    let arguments = ["--requests", &count, "--threads", "16", "--seconds-max", "20"];
    let mut load = programs::load(&rig.network, &rig.binaries, client, way.at(80), &arguments)?;
    let report = programs::load_report(&mut load, Duration::from_secs(30))?;
    ensure!((report.ok, report.failed) == (CONNECTIONS, 0), "{report:?}");
    Ok(())
}

fn every_way(workers: usize) {
    let everyone = Everyone::new();
    let original = Original::new(&everyone);
    let mut config = everyone.config(workers);
    let passes_here = |mode: &str| mode == "fullnat" || mode == "nat";
    for service in &mut config.service {
        if service.protocol == "tcp" && passes_here(&service.mode) {
            service.syn_cookies = Some("always".to_owned());
        }
    }
    let mut balancer = everyone.rig.start(config);
    let ways = || WAYS.into_iter().filter(|way| passes_here(way.mode));
    let mut failures = vec![];
    for way in ways() {
        for client in [everyone.narrow_client(), everyone.wide_client()] {
            if let Err(error) = transfer(&everyone, &original, client, way) {
                failures.push(format!("{} from {}: {error:#}", way.name, client.name()));
            }
        }
        if let Err(error) = connections(&everyone, way) {
            failures.push(format!("{}: {error:#}", way.name));
        }
    }
    let metrics = balancer.metrics().unwrap();
    for way in ways() {
        let service = format!("{}-tcp", way.name);
        let event = |event: &str| {
            let labels = [("service", service.as_str()), ("event", event)];
            metrics.sum("shunt_syn_cookies_total", &labels).unwrap()
        };
        // Two transfers for each client, and the short ones.
        let opened = event("opened");
        let bad = ["backend_plain", "backend_silent", "backend_refused"].map(event);
        if opened < 304.0 || bad.iter().sum::<f64>() > 0.0 {
            failures.push(format!("{}: {opened} opened, {bad:?}", way.name));
        }
    }
    let held = metrics.sum("shunt_drops_total", &[("reason", "cookie_held")]).unwrap();
    assert!(failures.is_empty() && held < 100.0, "{held} held in vain\n{}", failures.join("\n"));
    balancer.stop().unwrap();
}

#[test]
fn connections_by_cookies_carry_everything_whole_with_one_worker() {
    every_way(1);
}

#[test]
fn connections_by_cookies_carry_everything_whole_with_two_workers() {
    every_way(2);
}

#[test]
fn connections_by_cookies_carry_everything_whole_with_four_workers() {
    every_way(4);
}

#[test]
fn a_backend_that_refuses_is_heard_of() {
    let rig = Rig::new(1, 1);
    let closed = std::net::SocketAddrV4::new(lab::network::backend_address(1), 81);
    let mut config = lab::config::Config::new(&rig.network, 1).with_service(
        "web",
        "tcp",
        WEB.port(),
        "rr",
        &[(closed, 1)],
    );
    config.service[0].syn_cookies = Some("always".to_owned());
    let mut balancer = rig.start(config);
    // Connected, and then reset. What curl calls that depends on which of the two it sees first.
    programs::curl(&rig.network.clients[0], &format!("http://{WEB}/")).unwrap_err();
    let metrics = balancer.metrics().unwrap();
    for event in ["accepted", "backend_refused"] {
        let labels = [("service", "web"), ("event", event)];
        let count = metrics.sum("shunt_syn_cookies_total", &labels).unwrap();
        assert!((count - 1.0).abs() < 0.5, "{event}: {count}");
    }
    balancer.stop().unwrap();
}
