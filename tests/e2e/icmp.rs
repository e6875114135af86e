//! ICMP about the service: what a client learns from errors, and who answers a ping.
//!
//! Errors come from backends and their kernels, and name addresses no client has ever seen. Here a
//! client's own kernel judges whether they were made into errors about its connection: it hands
//! them to the right socket, or to none.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use lab::network::{VIP, VIP6};
use lab::{Host, programs, wait};

use crate::harness::{Rig, web};
use crate::ways::{Everyone, Way, on_every_way};

/// Where nobody listens.
const CLOSED: u16 = 9;
/// What `tracepath` and `traceroute` begin with.
const TRACED: u16 = 33434;

/// A datagram to a closed port of the backend is refused by the VIP, and the socket hears it.
fn closed(everyone: &Everyone, way: Way) -> Result<()> {
    let (client, arguments) = (everyone.narrow_client(), ["--sources", "1"]);
    let report = programs::udp_load(&everyone.rig.binaries, client, way.at(CLOSED), &arguments)?;
    let refused = report.errors.keys().any(|error| error.contains("refused"));
    ensure!(refused, "{report:?}");
    Ok(())
}

/// `tracepath` goes on to the next hop when an answer is late: then it counts one hop too many, and is
/// asked again.
fn path_of(client: &Host, target: SocketAddr) -> Result<String> {
    let text = programs::tracepath(client, target)?;
    if text.contains("hops 2") {
        return Ok(text);
    }
    eprintln!("asked again:\n{text}");
    programs::tracepath(client, target)
}

/// The VIP is the only hop there is, once as router and once as host, and tells the path MTU.
fn traced(everyone: &Everyone, way: Way) -> Result<()> {
    for (client, mtu) in [(everyone.narrow_client(), 1500), (everyone.wide_client(), 9000)] {
        let mtu = way.path_mtu().min(mtu);
        let text = path_of(client, way.at(TRACED))?;
        let vip = way.vip().to_string();
        // The first line is the client's own, whatever it knew before.
        let hop = |line: &&str| line.contains("ms") && !line.contains("LOCALHOST");
        let hops: Vec<_> = text.lines().filter(hop).collect();
        let at = |line: &&&str, hop: &str| line.trim().starts_with(hop);
        ensure!(hops.iter().any(|line| at(&line, "1:")), "no first hop\n{text}");
        ensure!(hops.iter().all(|line| line.contains(&vip)), "another hop than the VIP\n{text}");
        ensure!(hops.last().is_some_and(|line| line.contains("reached")), "not reached\n{text}");
        ensure!(text.contains(&format!("Resume: pmtu {mtu} hops 2")), "expected {mtu}\n{text}");
    }
    Ok(())
}

/// A ping of the VIP is answered, whatever becomes of a connection to it.
fn pinged(everyone: &Everyone, way: Way) -> Result<()> {
    let answered = programs::ping(everyone.narrow_client(), way.vip(), 3)?;
    ensure!(answered, "no answer from {}", way.vip());
    Ok(())
}

fn errors_reach_the_client(workers: usize) {
    let everyone = Everyone::new();
    let mut balancer = everyone.rig.start(everyone.config(workers));
    let failures = [
        on_every_way("answers a ping", |way| pinged(&everyone, way)),
        on_every_way("refuses a closed port", |way| closed(&everyone, way)),
        on_every_way("is traced", |way| traced(&everyone, way)),
    ];
    let failures = failures.concat();
    let status = balancer.shunt(&["status"]).unwrap();
    assert!(failures.is_empty(), "\n{}\n{status}", failures.join("\n"));
    balancer.stop().unwrap();
}

#[test]
fn errors_about_a_connection_reach_its_client_in_every_mode_with_one_worker() {
    errors_reach_the_client(1);
}

#[test]
fn errors_about_a_connection_reach_its_client_in_every_mode_with_two_workers() {
    errors_reach_the_client(2);
}

#[test]
fn errors_about_a_connection_reach_its_client_in_every_mode_with_four_workers() {
    errors_reach_the_client(4);
}

#[test]
fn who_answers_a_ping_of_a_vip_is_a_matter_of_policy() {
    let rig = Rig::new(1, 1);
    let mut config = rig.web_config(2, "rr", &[(1, 1)]);
    config.service.push(
        lab::config::Service::new(
            "web6",
            "tcp",
            SocketAddr::new(VIP6.into(), 80),
            &lab::network::LOCAL6.map(Into::into),
        )
        .to((lab::network::backend_address6(1), 80)),
    );
    let mut balancer = rig.start(config.clone());
    // Policy, weight of the backends, whether a ping is answered.
    let rows = [
        ("always", 1, true),
        ("always", 0, true),
        ("live", 1, true),
        ("live", 0, false),
        ("never", 1, false),
        ("always", 1, true),
    ];
    for (policy, weight, answered) in rows {
        config.shunt.ping = Some(policy.to_owned());
        config.set_backend("web", web(1), weight).unwrap();
        config.service[1].backend[0].weight = weight;
        balancer.reload(config.clone()).unwrap();
        for vip in [VIP.into(), VIP6.into()] {
            let client = &rig.network.clients[0];
            let settled = || Ok(programs::ping(client, vip, 3)? == answered);
            let what = format!("{vip} with {policy} and weight {weight}, answered: {answered}");
            wait::until_true(&what, Duration::from_secs(2), settled).unwrap();
        }
    }
    balancer.stop().unwrap();
}
