//! Bad input: one message, exit code 2, nothing half-started.

use std::process::Output;

use lab::network::VIP;
use lab::{Balancer, cleanup, programs};

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
        what: "a value of the wrong type",
        from: "weight = 1",
        to: "weight = \"much\"",
        words: &["integer", "much"],
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

/// Wrong in itself on this machine; another may have it.
const BAD_CORE: Case = Case {
    what: "a worker core that does not exist",
    from: "workers = [0]",
    to: "workers = [900]",
    words: &["900"],
};

/// Wrong on this machine: only starting finds out, some of it after much has been started.
const BAD_HERE: &[Case] = &[
    Case {
        what: "a port that cannot be probed",
        from: "iface=lc",
        to: "iface=nosuch0",
        words: &["wan", "nosuch0"],
    },
    Case {
        what: "a second port that cannot be probed",
        from: "iface=ls",
        to: "iface=nosuch0",
        words: &["lan", "nosuch0"],
    },
    Case {
        what: "an address for /metrics that is not this box's",
        from: "127.0.0.1:9150",
        to: "203.0.113.9:9150",
        words: &["203.0.113.9:9150"],
    },
    Case {
        what: "a TAP whose name is taken",
        from: "tap = \"lan0\"",
        to: "tap = \"ls\"",
        words: &["ls"],
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

/// Is this line of standard error an ordinary log line, of the kind a good start prints too?
fn is_info(line: &str) -> bool {
    line.split_whitespace().nth(1) == Some("INFO")
}

/// Is this line DPDK's own? Of a device it cannot take it says why in words of its own.
fn is_dpdks(line: &str) -> bool {
    line.starts_with("EAL: ") || line.starts_with("rte_pmd_")
}

/// Exit code 2 and one message: a line of it, and below it at most the indented lines that show the
/// place in the file. Returns that line.
fn assert_refused(output: &Output, what: &str, words: &[&str]) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{what}: {said}");
    assert!(output.stdout.is_empty(), "{what}: not on standard output");
    assert!(!said.contains("panicked"), "{what}: {said}");
    let aside = |line: &&str| is_info(line) || is_dpdks(line) || line.starts_with("  ");
    let messages: Vec<_> = said.lines().filter(|line| !aside(line)).collect();
    assert_eq!(messages.len(), 1, "{what}: one message, not {messages:#?}");
    for word in words {
        assert!(said.contains(word), "{what}: no {word:?} in {said:?}");
    }
    messages[0].to_owned()
}

/// The message begins with file, line and column of the first line in which the texts differ.
fn assert_names_place(message: &str, file: &str, good: &str, bad: &str, what: &str) {
    let changed = good.lines().zip(bad.lines()).position(|(old, new)| old != new).unwrap();
    let place = format!("{file}:{}:", changed + 1);
    assert!(message.contains(&place), "{what}: no {place} in {message:?}");
    let (_, rest) = message.split_once(&place).unwrap();
    let column = rest.split(':').next().unwrap().parse::<usize>();
    let length = bad.lines().nth(changed).unwrap().len();
    assert!(column.is_ok_and(|column| (1..=length).contains(&column)), "{what}: {message:?}");
}

/// All that a start changes on the machine.
#[derive(Debug, PartialEq)]
struct Traces {
    socket: bool,
    interfaces: String,
    addresses: String,
    routes: String,
    dpdk_files: Vec<std::path::PathBuf>,
    processes: usize,
}

fn traces(rig: &Rig) -> Traces {
    let host = &rig.network.balancer;
    Traces {
        socket: rig.network.folder().join("admin.sock").exists(),
        interfaces: rig.balancer_interfaces(),
        addresses: host.ip("-brief address show").unwrap(),
        routes: host.ip("route show table all").unwrap(),
        dpdk_files: cleanup::dpdk_files(rig.network.name()),
        processes: cleanup::processes_in(host.namespace()).len(),
    }
}

/// Runs the daemon with a text that must be refused; the message. Nothing is left of the attempt.
fn refused(rig: &Rig, text: &str, what: &str, words: &[&str]) -> String {
    let before = traces(rig);
    let output = Balancer::run_to_end(&rig.network, &rig.binaries, text).unwrap();
    let message = assert_refused(&output, what, words);
    assert_eq!(traces(rig), before, "{what}: half-started");
    message
}

#[test]
fn a_bad_configuration_is_refused_with_one_message_and_nothing_half_started() {
    let rig = Rig::new(1, 1);
    let good = rig.web_config(1, "rr", &[(1, 1)]).to_toml().unwrap();
    for case in BAD_FILES.iter().chain([&BAD_CORE]) {
        let text = spoiled(&good, case);
        let message = refused(&rig, &text, case.what, case.words);
        assert_names_place(&message, "refused.toml", &good, &text, case.what);
    }
    for case in BAD_HERE {
        refused(&rig, &spoiled(&good, case), case.what, case.words);
    }
    // The traces can tell: a start that is not refused leaves some.
    let before = traces(&rig);
    let mut balancer = rig.start(rig.web_config(1, "rr", &[(1, 1)]));
    let running = traces(&rig);
    assert!(running.socket && running.processes == 1, "{running:?}");
    assert!(running.interfaces != before.interfaces, "{running:?}");
    assert!(running.addresses != before.addresses && running.routes != before.routes);
    balancer.stop().unwrap();
}

#[test]
fn check_refuses_a_bad_file_and_names_file_line_and_column() {
    let rig = Rig::new(1, 1);
    let good = rig.web_config(1, "rr", &[(1, 1)]).to_toml().unwrap();
    let file = rig.network.folder().join("bad.toml");
    for case in BAD_FILES {
        let text = spoiled(&good, case);
        std::fs::write(&file, &text).unwrap();
        let mut shuntd = std::process::Command::new(&rig.binaries.shuntd);
        let output = lab::command::output(shuntd.arg("check").arg(&file)).unwrap();
        let message = assert_refused(&output, case.what, case.words);
        assert_names_place(&message, "bad.toml", &good, &text, case.what);
    }
}

#[test]
fn a_duplicate_service_is_refused_at_the_second_of_the_two() {
    let rig = Rig::new(1, 1);
    let once = rig.web_config(1, "rr", &[(1, 1)]);
    let twice = once.clone().with_service("again", "tcp", 80, "rr", &[(web(1), 1)]);
    let text = twice.to_toml().unwrap();
    let message = refused(&rig, &text, "a duplicate service", &["198.51.100.10:80"]);
    let line = |message: &str| -> usize {
        let (_, rest) = message.split_once("refused.toml:").unwrap();
        rest.split(':').next().unwrap().parse().unwrap()
    };
    assert!(line(&message) > once.to_toml().unwrap().lines().count(), "{message}");
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
