//! Many short connections, none lost.

use std::collections::BTreeSet;
use std::time::Duration;

use lab::network::VIP;
use lab::{Balancer, programs};

use crate::harness::{Rig, WEB};

const ARGUMENTS: [&str; 6] = ["--requests", "10000", "--threads", "32", "--seconds-max", "90"];

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
