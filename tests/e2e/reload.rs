//! Changing what runs, under load.

use std::time::Duration;

use lab::{Balancer, Host, Program, programs, wait};
use serde_json::Value;

use crate::harness::{Rig, WEB, web};

/// Connections of [`keep_alive_load`].
const LASTING: usize = 8;

fn keep_alive_load(rig: &Rig) -> Program {
    let threads = LASTING.to_string();
    let arguments = ["--threads", &threads, "--keep-alive", "--pause-ms", "2"];
    programs::load(&rig.network, &rig.binaries, &rig.network.clients[0], WEB, &arguments).unwrap()
}

fn short_load(rig: &Rig) -> Program {
    let arguments = ["--threads", "4", "--pause-ms", "1"];
    programs::load(&rig.network, &rig.binaries, &rig.network.clients[1], WEB, &arguments).unwrap()
}

/// TCP connections a backend's kernel has open with anybody.
fn open_connections(backend: &Host) -> usize {
    let open = backend.run("ss", &["-tnH", "state", "established", "sport = :80"]).unwrap();
    open.lines().count()
}

/// Waits until the short-lived connections of a drained backend have ended by themselves.
fn wait_until_idle(backend: &Host) {
    let idle = || Ok(open_connections(backend) == 0);
    wait::until_true("a drained backend to become idle", Duration::from_secs(10), idle).unwrap();
}

fn many_reloads_under_load(workers: usize) {
    let rig = Rig::new(2, 4);
    let config = rig.web_config(workers, "wrr", &[(1, 1), (2, 1), (3, 1)]);
    let mut balancer = rig.start(config.clone());
    let (mut lasting, mut short) = (keep_alive_load(&rig), short_load(&rig));
    for round in 0..10 {
        let mut next = config.clone();
        // Backend 4 comes with a weight that changes; backend 1 is drained every other time.
        next.set_backend("web", web(4), 1 + round % 3).unwrap();
        next.set_backend("web", web(1), round % 2).unwrap();
        balancer.reload(next).unwrap();
    }
    let lasting = programs::stop_load(&mut lasting).unwrap();
    let mut without_4 = balancer.config.clone();
    without_4.set_backend("web", web(4), 0).unwrap();
    balancer.reload(without_4.clone()).unwrap();
    wait_until_idle(&rig.network.backends[3]);
    without_4.remove_backend("web", web(4)).unwrap();
    balancer.reload(without_4).unwrap();
    let short = programs::stop_load(&mut short).unwrap();
    assert_eq!(lasting.failed, 0, "{lasting:?}");
    assert_eq!(short.failed, 0, "{short:?}");
    assert!(lasting.ok > 100 && short.ok > 100, "the load was real: {lasting:?} {short:?}");
    assert!(short.backend("backend-4") > 0, "the added backend served: {short:?}");
    balancer.stop().unwrap();
}

#[test]
fn many_reloads_under_load_fail_no_request_with_one_worker() {
    many_reloads_under_load(1);
}

#[test]
fn many_reloads_under_load_fail_no_request_with_two_workers() {
    many_reloads_under_load(2);
}

#[test]
fn a_drained_backend_keeps_its_connections_and_gets_no_new_ones() {
    let rig = Rig::new(2, 2);
    let mut balancer = rig.start(rig.web_config(2, "rr", &[(1, 1), (2, 1)]));
    let mut lasting = keep_alive_load(&rig);
    let open = || -> Vec<_> { rig.network.backends.iter().map(open_connections).collect() };
    let settled = || Ok(open().iter().sum::<usize>() == LASTING);
    wait::until_true("every lasting connection", Duration::from_secs(20), settled).unwrap();
    let before = open_connections(&rig.network.backends[0]);
    assert!(before >= LASTING / 2 - 2, "its half, give or take one for each worker: {before}");

    let mut drained = balancer.config.clone();
    drained.set_backend("web", web(1), 0).unwrap();
    balancer.reload(drained).unwrap();
    let url = format!("http://{}/", lab::network::VIP);
    let bodies = programs::curl_many(&rig.network.clients[1], &url, 50).unwrap();
    assert_eq!(bodies.iter().filter(|body| body.starts_with("backend-2 ")).count(), 50);
    assert_eq!(open_connections(&rig.network.backends[0]), before, "the old ones stay");

    let report = programs::stop_load(&mut lasting).unwrap();
    assert_eq!(report.failed, 0, "{report:?}");
    balancer.stop().unwrap();
}

/// What traffic moves in services and backends alike.
const VOLUMES: [&str; 3] = ["volumes", "volumes_since_zero", "volumes_per_second"];

/// Everything `shunt services` says but counters, which grow by themselves.
fn services_without_counters(balancer: &Balancer<'_>) -> Value {
    let mut value = balancer.shunt_json("services").unwrap();
    let mut services = value["services"].as_array_mut().unwrap().iter_mut().collect::<Vec<_>>();
    assert!(!services.is_empty(), "there are services");
    for service in &mut services {
        for counter in ["connections", "new_connections", "refused"].into_iter().chain(VOLUMES) {
            assert!(service.as_object_mut().unwrap().remove(counter).is_some(), "{counter}");
        }
        for backend in service["backends"].as_array_mut().unwrap() {
            for counter in ["connections", "new_connections"].into_iter().chain(VOLUMES) {
                assert!(backend.as_object_mut().unwrap().remove(counter).is_some(), "{counter}");
            }
        }
    }
    value
}

/// Generation of the snapshot published, and of the one each worker uses.
fn generations(balancer: &Balancer<'_>) -> Vec<u64> {
    let status = balancer.shunt_json("status").unwrap();
    let workers = status["workers"].as_array().unwrap();
    let published = status["generation"].as_u64().unwrap();
    let used = workers.iter().map(|worker| worker["generation"].as_u64().unwrap());
    std::iter::once(published).chain(used).collect()
}

#[test]
fn a_bad_file_changes_nothing_and_is_counted() {
    let rig = Rig::new(2, 2);
    let mut balancer = rig.start(rig.web_config(2, "rr", &[(1, 1)]));
    let good = balancer.config.to_toml().unwrap();
    let mut load = keep_alive_load(&rig);
    let settled = || Ok(open_connections(&rig.network.backends[0]) == LASTING);
    wait::until_true("every lasting connection", Duration::from_secs(20), settled).unwrap();
    // Nothing but a reload is left that would publish a snapshot: the next hops are known.
    let workers_follow = || Ok(generations(&balancer).windows(2).all(|pair| pair[0] == pair[1]));
    wait::until_true("the workers to follow", Duration::from_secs(10), workers_follow).unwrap();
    let (services, generation) = (services_without_counters(&balancer), generations(&balancer));
    let bad_files = [
        "this is no TOML".to_owned(),
        good.replace("scheduler = \"rr\"", "scheduler = \"fastest\""),
        good.replace("weight = 1", "wieght = 1"),
        String::new(),
    ];
    for bad in &bad_files {
        assert_ne!(*bad, good);
        balancer.reload_refused(bad).unwrap();
        assert!(balancer.program.is_running());
    }
    assert_eq!(services_without_counters(&balancer), services);
    assert_eq!(generations(&balancer), generation, "nothing was published");
    let metrics = balancer.metrics().unwrap();
    let refused = |result: &str| {
        metrics.sum("shunt_config_reloads_total", &[("result", result)]).unwrap_or(0.0)
    };
    assert!((refused("refused") + refused("invalid") - 4.0).abs() < 0.5, "{}", metrics.text);
    let report = programs::stop_load(&mut load).unwrap();
    assert!(report.ok > 0 && report.failed == 0, "{report:?}");

    // And a good file is taken after all the bad ones.
    let mut next = balancer.config.clone();
    next.set_backend("web", web(2), 1).unwrap();
    balancer.reload(next).unwrap();
    assert_ne!(services_without_counters(&balancer), services, "a good file is seen");
    assert!(generations(&balancer)[0] > generation[0], "and published");
    let url = format!("http://{}/", lab::network::VIP);
    let bodies = programs::curl_many(&rig.network.clients[0], &url, 20).unwrap();
    assert!(bodies.iter().any(|body| body.starts_with("backend-2 ")), "{bodies:?}");
    balancer.stop().unwrap();
}
