//! Start, stop, kill, start again.

use std::os::unix::process::ExitStatusExt as _;
use std::time::Duration;

use lab::network::VIP;
use lab::program::Signal;
use lab::{Balancer, cleanup, programs, wait};

use crate::harness::{Rig, WEB};

/// A start waits for a predecessor that is dying, but not for long.
const AGAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Nothing of the daemon is left: no socket, no TAP, no file of DPDK's.
fn assert_nothing_left(rig: &Rig) {
    let socket = rig.network.folder().join("admin.sock");
    assert!(!socket.exists(), "the admin socket is left");
    let interfaces = rig.balancer_interfaces();
    for tap in ["wan0", "lan0"] {
        assert!(!interfaces.contains(tap), "TAP {tap} is left: {interfaces}");
    }
    let files = cleanup::dpdk_files(rig.network.name());
    assert!(files.is_empty(), "DPDK left {files:?}");
}

#[test]
fn sigterm_ends_an_idle_daemon_with_exit_code_0_and_leaves_nothing() {
    let rig = Rig::new(1, 1);
    let mut balancer = rig.start(rig.web_config(2, "rr", &[(1, 1)]));
    programs::curl(&rig.network.clients[0], &format!("http://{VIP}/")).unwrap();
    let interfaces = rig.balancer_interfaces();
    assert!(interfaces.contains("wan0") && interfaces.contains("lan0"), "{interfaces}");
    balancer.stop().unwrap();
    assert_nothing_left(&rig);
}

#[test]
fn sigterm_takes_no_new_connections_and_keeps_old_ones_until_the_deadline() {
    let rig = Rig::new(2, 1);
    let mut config = rig.web_config(2, "rr", &[(1, 1)]);
    config.shunt.drain_deadline_s = 5;
    let mut balancer = rig.start(config);
    // A connection that outlives the deadline; its pause keeps it from ending by itself.
    let arguments = ["--keep-alive", "--pause-ms", "20"];
    let client = &rig.network.clients[0];
    let mut lasting = programs::load(&rig.network, &rig.binaries, client, WEB, &arguments).unwrap();
    let served = || Ok(!rig.network.clients[0].run("ss", &["-tnH"])?.trim().is_empty());
    wait::until_true("a lasting connection", Duration::from_secs(10), served).unwrap();

    balancer.program.signal(Signal::TERM).unwrap();
    // In silence, so that another box may answer: what counts is the counter, not the patience.
    let refused = || {
        let url = format!("http://{VIP}/");
        let quick = ["-sS", "--fail", "--max-time", "0.3", &url];
        let unanswered = rig.network.clients[1].run("curl", &quick).is_err();
        let refused = balancer.metrics()?.sum("shunt_drops_total", &[("reason", "draining")]);
        Ok(unanswered && refused.is_some_and(|count| count > 0.5))
    };
    wait::until_true("new connections to be refused", Duration::from_secs(4), refused).unwrap();
    assert!(balancer.program.is_running(), "it waits for the lasting connection");
    let report = programs::stop_load(&mut lasting).unwrap();
    assert!(report.ok > 0 && report.failed == 0, "served while draining: {report:?}");

    let status = balancer.program.wait_for_end(Duration::from_secs(30)).unwrap();
    assert!(status.success(), "{status}");
    assert_nothing_left(&rig);
}

#[test]
fn a_daemon_killed_the_hard_way_can_be_started_again_while_it_is_still_dying() {
    let rig = Rig::new(1, 1);
    let config = rig.web_config(2, "rr", &[(1, 1)]);
    let url = format!("http://{VIP}/");
    let mut dying = rig.start(config.clone());
    for _ in 0..4 {
        programs::curl(&rig.network.clients[0], &url).unwrap();
        dying.program.signal(Signal::KILL).unwrap();
        // Nobody has waited for its end: it may still hold memory, files and both ports.
        let next =
            Balancer::start_within(AGAIN_TIMEOUT, &rig.network, &rig.binaries, config.clone());
        let ended = dying.program.wait_for_end(Duration::from_secs(5)).unwrap();
        assert_eq!(ended.signal(), Some(9), "it was killed, and nothing else");
        dying = next.unwrap();
    }
    let mut balancer = dying;
    programs::curl(&rig.network.clients[0], &url).unwrap();
    balancer.stop().unwrap();
    assert_nothing_left(&rig);
}

#[test]
fn a_daemon_killed_the_hard_way_can_be_started_again_at_once() {
    let rig = Rig::new(1, 1);
    let config = rig.web_config(2, "rr", &[(1, 1)]);
    for _ in 0..3 {
        let balancer = rig.start(config.clone());
        programs::curl(&rig.network.clients[0], &format!("http://{VIP}/")).unwrap();
        balancer.kill();
    }
    let mut balancer = rig.start(config);
    programs::curl(&rig.network.clients[0], &format!("http://{VIP}/")).unwrap();
    balancer.stop().unwrap();
    assert_nothing_left(&rig);
}

#[test]
fn without_huge_pages_connections_are_balanced_and_the_stop_is_clean() {
    let rig = Rig::new(1, 2);
    let mut config = rig.web_config(1, "rr", &[(1, 1), (2, 1)]);
    "never".clone_into(&mut config.dpdk.huge_pages);
    let mut balancer = rig.start(config);
    let memory = balancer.shunt_json("status").unwrap()["memory"].to_string();
    assert!(memory.contains("ordinary pages"), "{memory}");
    let mut in_huge_pages = cleanup::dpdk_files(rig.network.name());
    in_huge_pages.retain(|path| cleanup::huge_page_mounts().iter().any(|it| path.starts_with(it)));
    assert!(in_huge_pages.is_empty(), "{in_huge_pages:?}");
    let url = format!("http://{VIP}/");
    let bodies = programs::curl_many(&rig.network.clients[0], &url, 50).unwrap();
    for backend in ["backend-1 ", "backend-2 "] {
        let share = bodies.iter().filter(|body| body.starts_with(backend)).count();
        assert_eq!(share, 25, "{backend}: {bodies:?}");
    }
    balancer.stop().unwrap();
    assert_nothing_left(&rig);
}
