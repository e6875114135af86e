//! Many short connections, none lost: ten thousand in every mode, family and tunnel.
//!
//! A connection is a handshake, a request, an answer and both ends' FIN: twelve packets or so, of
//! which one lost would be seen as a failure or, sent again, as a handshake of a second. Afterwards
//! the balancer must have counted as many as there were, refused none, and hold every one of them
//! as ended.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lab::network::VIP;
use lab::{Balancer, programs, wait};

use crate::harness::{Rig, WEB};
use crate::ways::{Everyone, WAYS, Way, on_every_way};

/// A way's connections.
const CONNECTIONS: u64 = 10_000;
const ARGUMENTS: [&str; 6] = ["--requests", "10000", "--threads", "32", "--seconds-max", "90"];
/// Below those that kernels choose by themselves.
const FIRST_PORT: &str = "20000";
/// Room for the ended connections of all ways, which stay for two minutes: more than the half of
/// them in either family's table.
const ROOM: u32 = 200_000;
/// States of a connection that has ended. In DR and tunnels only the client's half passes here, and
/// of that its FIN is the last that is heard.
const ENDED: [&str; 3] = ["TIME_WAIT", "CLOSE", "FIN_WAIT"];

fn ten_thousand_connections(workers: usize) {
    let rig = Rig::new(1, 3);
    let mut balancer = rig.start(rig.web_config(workers, "rr", &[(1, 1), (2, 1), (3, 1)]));
    let client = &rig.network.clients[0];
    let mut load = programs::load(&rig.network, &rig.binaries, client, WEB, &ARGUMENTS).unwrap();
    let report = programs::load_report(&mut load, Duration::from_secs(100)).unwrap();
    assert_eq!((report.ok, report.failed), (10_000, 0), "{report:?}");
    for share in report.backends.values() {
        assert!(share.abs_diff(3333) <= 3, "round robin under concurrency: {report:?}");
    }
    every_worker_took_part(&balancer, workers);
    two_thousand_by_curl(&rig);
    balancer.stop().unwrap();
}

/// A client that knows nothing of the lab: it fails at the first connection that does.
fn two_thousand_by_curl(rig: &Rig) {
    let url = format!("http://{VIP}/");
    let bodies = programs::curl_at_once(&rig.network.clients[0], &url, 2000, 32).unwrap();
    assert_eq!(bodies.len(), 2000);
    for backend in ["backend-1 ", "backend-2 ", "backend-3 "] {
        let share = bodies.iter().filter(|body| body.starts_with(backend)).count();
        assert!(share.abs_diff(667) <= 3, "{backend}: {share} of 2000");
    }
    // Its every request was a connection: the backends saw as many source ports at the least.
    let sources: BTreeSet<_> = bodies.iter().filter_map(|body| body.split_once(' ')).collect();
    assert!(sources.len() > 1900, "{} of 2000 from a source of their own", sources.len());
}

/// The tables still hold what has just ended: each worker made a fair part of it.
fn every_worker_took_part(balancer: &Balancer<'_>, workers: usize) {
    let metrics = balancer.metrics().unwrap();
    for worker in 0..workers {
        let labels = [("worker", worker.to_string())];
        let labels = labels.each_ref().map(|(key, value)| (*key, value.as_str()));
        let connections = metrics.sum("shunt_worker_connections", &labels).unwrap();
        assert!(connections > 1000.0, "worker {worker} has {connections} of 10000 connections");
    }
}

#[test]
fn ten_thousand_short_connections_all_succeed_with_one_worker() {
    ten_thousand_connections(1);
}

#[test]
fn ten_thousand_short_connections_all_succeed_with_two_workers() {
    ten_thousand_connections(2);
}

#[test]
fn ten_thousand_short_connections_all_succeed_with_four_workers() {
    ten_thousand_connections(4);
}

/// As many as were asked for, each answered by the right backend.
fn connects(everyone: &Everyone, way: Way) -> Result<()> {
    let (rig, client) = (&everyone.rig, everyone.narrow_client());
    // A port for each connection, so that none is taken for the one before it.
    let arguments = [&ARGUMENTS[..], &["--first-port", FIRST_PORT]].concat();
    let mut load = programs::load(&rig.network, &rig.binaries, client, way.at(80), &arguments)?;
    let report = programs::load_report(&mut load, Duration::from_secs(100))?;
    ensure!((report.ok, report.failed) == (CONNECTIONS, 0), "{report:?}");
    ensure!(report.backend(&way.backend_name()) == CONNECTIONS, "{report:?}");
    let seen = report.sources.keys().all(|it| way.seen().iter().any(|at| at.to_string() == *it));
    ensure!(seen, "{report:?}");
    Ok(())
}

/// The balancer counted them, and holds every one of them as ended.
fn counted(balancer: &Balancer<'_>, way: Way) -> Result<()> {
    let service = format!("{}-tcp", way.name);
    let metrics = balancer.metrics()?;
    let count = |name: &str| metrics.sum(name, &[("service", &service)]).unwrap_or(0.0);
    let (new, refused) =
        (count("shunt_new_connections_total"), count("shunt_refused_connections_total"));
    #[allow(clippy::cast_precision_loss, reason = "ten thousand")]
    let expected = CONNECTIONS as f64;
    ensure!((new - expected).abs() < 0.5 && refused < 0.5, "{new} made, {refused} refused");
    let ended = || {
        let states = states(balancer, &service)?;
        let ended = states.iter().filter(|(state, _)| ENDED.contains(&state.as_str()));
        let ended: u64 = ended.map(|(_, count)| count).sum();
        Ok(ended == CONNECTIONS && states.values().sum::<u64>() == CONNECTIONS)
    };
    wait::until_true("every connection to be held as ended", Duration::from_secs(5), ended)
        .with_context(|| format!("{:?}", states(balancer, &service)))
}

/// How many connections of a service are in which state.
fn states(balancer: &Balancer<'_>, service: &str) -> Result<BTreeMap<String, u64>> {
    let limit = (2 * CONNECTIONS).to_string();
    let arguments = ["connections", "--json", "--service", service, "--limit", &limit];
    let listed: serde_json::Value = serde_json::from_str(&balancer.shunt(&arguments)?)?;
    let mut states = BTreeMap::new();
    for connection in listed["connections"].as_array().context("no list")? {
        let state = connection["state"].as_str().context("no state")?;
        *states.entry(state.to_owned()).or_default() += 1;
    }
    Ok(states)
}

fn ten_thousand_on_every_way(workers: usize) {
    let everyone = Everyone::new();
    let mut config = everyone.config(workers);
    config.limits.connections = ROOM;
    let mut balancer = everyone.rig.start(config);
    // At once after its load: what has ended is held for a while only.
    let failures = on_every_way("connects", |way| {
        connects(&everyone, way)?;
        counted(&balancer, way)
    });
    let status = balancer.shunt(&["status"]).unwrap();
    assert!(failures.is_empty(), "\n{}\n{status}", failures.join("\n"));
    let again = everyone.narrow_client().kernel_counter("TcpExtTCPSynRetrans").unwrap();
    let all = CONNECTIONS * WAYS.len() as u64;
    assert!(again * 1000 < all, "{again} of {all} SYNs were sent again\n{status}");
    balancer.stop().unwrap();
    for far_end in &everyone.far_ends {
        assert_eq!(far_end.stderr(), "", "what was wrong with packets out of a tunnel");
    }
}

#[test]
fn ten_thousand_short_connections_succeed_in_every_mode_and_family_with_one_worker() {
    ten_thousand_on_every_way(1);
}

#[test]
fn ten_thousand_short_connections_succeed_in_every_mode_and_family_with_two_workers() {
    ten_thousand_on_every_way(2);
}

#[test]
fn ten_thousand_short_connections_succeed_in_every_mode_and_family_with_four_workers() {
    ten_thousand_on_every_way(4);
}
