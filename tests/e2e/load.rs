//! Many short connections, none lost.

use std::time::Duration;

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
    balancer.stop().unwrap();
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
