//! Bad input: one message, exit code 2, nothing half-started.

use lab::network::VIP;
use lab::{Balancer, programs};

use crate::harness::{Rig, web};

/// What is wrong with a configuration, how it is made wrong, and words its message must hold.
struct Case {
    what: &'static str,
    from: &'static str,
    to: &'static str,
    words: &'static [&'static str],
}

/// Wrong in itself: `shuntd check` refuses it too, with file and line.
const BAD_FILES: &[Case] = &[
    Case {
        what: "an unknown key",
        from: "drain_deadline_s",
        to: "drain_deadlin_s",
        words: &["drain_deadlin_s", "drain_deadline_s"],
    },
    Case {
        what: "an unknown scheduler",
        from: "scheduler = \"rr\"",
        to: "scheduler = \"fastest\"",
        words: &["fastest", "wrr"],
    },
    Case {
        what: "no local address in FULL-NAT",
        from: "local_addresses = [\"10.44.0.2\", \"10.44.0.3\"]",
        to: "local_addresses = []",
        words: &["local_addresses"],
    },
    Case {
        what: "a backend of the other family",
        from: "address = \"10.44.0.11:80\"",
        to: "address = \"[2001:db8::1]:80\"",
        words: &["2001:db8::1"],
    },
];

/// Wrong on this machine: only starting finds out.
const BAD_HERE: &[Case] = &[
    Case {
        what: "a worker core that does not exist",
        from: "workers = [0]",
        to: "workers = [900]",
        words: &["900"],
    },
    Case {
        what: "a port that cannot be probed",
        from: "iface=lc",
        to: "iface=nosuch0",
        words: &["wan", "nosuch0"],
    },
    Case {
        what: "huge pages missing",
        from: "huge_pages = \"auto\"\nmemory_mb = 256",
        to: "huge_pages = \"require\"\nmemory_mb = 900000",
        words: &["huge"],
    },
];

/// The lab's configuration with one thing wrong.
fn spoiled(good: &str, case: &Case) -> String {
    assert!(good.contains(case.from), "{}: the table is out of date: {good}", case.what);
    good.replace(case.from, case.to)
}

fn assert_refused(output: &std::process::Output, what: &str, words: &[&str]) {
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{what}: {message}");
    assert!(!message.contains("panicked"), "{what}: {message}");
    for word in words {
        assert!(message.contains(word), "{what}: no {word:?} in {message:?}");
    }
}

#[test]
fn a_bad_configuration_is_refused_with_one_message_and_nothing_half_started() {
    let rig = Rig::new(1, 1);
    let good = rig.web_config(1, "rr", &[(1, 1)]).to_toml().unwrap();
    for case in BAD_FILES.iter().chain(BAD_HERE) {
        let text = spoiled(&good, case);
        let output = Balancer::run_to_end(&rig.network, &rig.binaries, &text).unwrap();
        assert_refused(&output, case.what, case.words);
        assert!(!rig.network.folder().join("admin.sock").exists(), "{}", case.what);
        assert!(!rig.balancer_interfaces().contains("wan0"), "{}", case.what);
    }
}

#[test]
fn check_refuses_a_bad_file_and_names_file_and_line() {
    let rig = Rig::new(1, 1);
    let good = rig.web_config(1, "rr", &[(1, 1)]).to_toml().unwrap();
    let file = rig.network.folder().join("bad.toml");
    for case in BAD_FILES {
        let text = spoiled(&good, case);
        std::fs::write(&file, &text).unwrap();
        let mut shuntd = std::process::Command::new(&rig.binaries.shuntd);
        let output = lab::command::output(shuntd.arg("check").arg(&file)).unwrap();
        assert_refused(&output, case.what, case.words);
        let message = String::from_utf8_lossy(&output.stderr);
        let changed = good.lines().zip(text.lines()).position(|(old, new)| old != new).unwrap();
        let place = format!("bad.toml:{}:", changed + 1);
        assert!(message.contains(&place), "{}: no {place} in {message:?}", case.what);
    }
}

#[test]
fn a_duplicate_service_is_refused() {
    let rig = Rig::new(1, 1);
    let twice = rig
        .web_config(1, "rr", &[(1, 1)])
        .with_service("again", "tcp", 80, "rr", &[(web(1), 1)])
        .to_toml()
        .unwrap();
    let output = Balancer::run_to_end(&rig.network, &rig.binaries, &twice).unwrap();
    assert_refused(&output, "a duplicate service", &["198.51.100.10:80"]);
}

#[test]
fn a_second_daemon_on_the_same_socket_is_refused_and_the_first_goes_on() {
    let rig = Rig::new(1, 1);
    let mut first = rig.start(rig.web_config(1, "rr", &[(1, 1)]));
    let text = first.config.to_toml().unwrap();
    let output = Balancer::run_to_end(&rig.network, &rig.binaries, &text).unwrap();
    assert_refused(&output, "a second daemon", &["admin.sock"]);
    programs::curl(&rig.network.clients[0], &format!("http://{VIP}/")).unwrap();
    first.shunt(&["status"]).unwrap();
    first.stop().unwrap();
}

#[test]
fn a_configuration_file_that_is_not_there_is_refused_by_name() {
    let rig = Rig::new(1, 1);
    let mut shuntd = std::process::Command::new(&rig.binaries.shuntd);
    let output =
        lab::command::output(shuntd.args(["run", "--config", "/nonexistent/shunt.toml"])).unwrap();
    assert_refused(&output, "a file that is not there", &["/nonexistent/shunt.toml"]);
}
