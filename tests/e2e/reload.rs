//! Changing what runs, under load.

use std::time::Duration;

use lab::{Host, Program, programs, wait};

use crate::harness::{Rig, WEB, web};

fn keep_alive_load(rig: &Rig) -> Program {
    let arguments = ["--threads", "8", "--keep-alive", "--pause-ms", "2"];
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
    let settled = || Ok(open_connections(&rig.network.backends[0]) >= 3);
    wait::until_true("lasting connections", Duration::from_secs(10), settled).unwrap();
    let before = open_connections(&rig.network.backends[0]);

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

#[test]
fn a_bad_file_changes_nothing_and_is_counted() {
    let rig = Rig::new(2, 2);
    let mut balancer = rig.start(rig.web_config(2, "rr", &[(1, 1)]));
    let good = balancer.config.to_toml().unwrap();
    let services = balancer.shunt(&["services"]).unwrap();
    let mut load = keep_alive_load(&rig);
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
    let addresses = |text: &str| text.matches("10.44.0.").count();
    assert_eq!(addresses(&balancer.shunt(&["services"]).unwrap()), addresses(&services));
    let report = programs::stop_load(&mut load).unwrap();
    assert!(report.ok > 0 && report.failed == 0, "{report:?}");

    // And a good file is taken after all the bad ones.
    let mut next = balancer.config.clone();
    next.set_backend("web", web(2), 1).unwrap();
    balancer.reload(next).unwrap();
    let url = format!("http://{}/", lab::network::VIP);
    let bodies = programs::curl_many(&rig.network.clients[0], &url, 20).unwrap();
    assert!(bodies.iter().any(|body| body.starts_with("backend-2 ")), "{bodies:?}");
    balancer.stop().unwrap();
}
