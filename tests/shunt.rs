//! The `shunt` program from outside: exit codes and sentences.

#![expect(clippy::unwrap_used, reason = "a test says no by panicking")]

use std::process::{Command, Output};

fn shunt(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shunt"));
    command.args(arguments).env_remove("SHUNT_SOCKET").output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn without_a_daemon_it_says_where_it_looked_and_exits_with_1() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("none.sock");
    let socket = socket.to_str().unwrap();
    for command in [
        "status",
        "services",
        "backends",
        "ports",
        "workers",
        "drops",
        "rates",
        "top",
        "connections",
        "reload",
    ] {
        let output = shunt(&["--socket", socket, command]);
        assert_eq!(output.status.code(), Some(1), "{command}");
        let text = said(&output);
        assert!(text.starts_with(&format!("shunt: no shuntd answers on {socket}")), "{text}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn a_diff_with_nobody_is_no_difference() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("nobody.sock");
    let output = shunt(&["--socket", socket.to_str().unwrap(), "diff"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("no shuntd answers"), "{}", said(&output));
}

#[test]
fn a_socket_left_behind_is_no_daemon() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("left.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let output = shunt(&["--socket", path.to_str().unwrap(), "status"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("is it running"), "{}", said(&output));
}

#[test]
fn something_that_is_no_shuntd_is_told_apart() {
    use std::io::{Read, Write};
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("other.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let other = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 1024]).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi").unwrap();
    });
    let output = shunt(&["--socket", path.to_str().unwrap(), "status"]);
    other.join().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("are shunt and shuntd of one version?"), "{}", said(&output));
}

#[test]
fn a_wrong_command_line_exits_with_2() {
    let lines: [&[&str]; 7] = [
        &[],
        &["statsu"],
        &["connections", "--limit", "0"],
        &["connections", "--limit", "many"],
        &["status", "--client", "10.0.0.1"],
        &["clear"],
        &["clear", "--all", "--service", "web"],
    ];
    for line in lines {
        assert_eq!(shunt(line).status.code(), Some(2), "{line:?}");
    }
}

/// Backends A, B, C of the recorded sequences, with their letters.
const BACKENDS: [(&str, char); 3] =
    [("10.44.0.11:8080", 'A'), ("10.44.0.12:8080", 'B'), ("10.44.0.13:8080", 'C')];

/// What `shunt schedule` prints, a letter for each line.
fn schedule(scheduler: &str, weights: [u32; 3], more: &[&str]) -> String {
    let mut line = vec!["schedule".to_owned(), "--scheduler".into(), scheduler.into()];
    for ((address, _), weight) in BACKENDS.iter().zip(weights) {
        line.extend(["--backend".to_owned(), format!("{address}={weight}")]);
    }
    line.extend(more.iter().map(|word| (*word).to_owned()));
    let output = shunt(&line.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    let letter = |line: &str| match BACKENDS.iter().find(|(address, _)| *address == line) {
        Some((_, letter)) => *letter,
        None => line.strip_prefix("refused").filter(|rest| rest.is_empty()).map(|_| '.').unwrap(),
    };
    text.lines().map(letter).collect()
}

#[test]
fn schedule_prints_a_line_for_each_flow() {
    assert_eq!(schedule("wrr", [3, 2, 1], &["--flows", "12"]), "CBAABACBAABA");
    assert_eq!(schedule("ovf", [0, 2, 1], &["--flows", "7"]), "BBBCC..");
    assert_eq!(schedule("rr", [1, 1, 1], &["--flows", "0"]), "");
    // As with ipvsadm, flags are for those who know them.
    let flags = ["--flags", "mh-port,mh-fallback", "--flows", "4"];
    assert_eq!(schedule("wrr", [5, 0, 0], &flags), "AAAA");
    assert_eq!(schedule("sh", [1, 0, 0], &flags), "AAAA");
}

#[test]
fn schedule_changes_the_set_before_a_flow() {
    let set = ["--flows", "9", "--set", "10.44.0.12:8080=0@4"];
    assert_eq!(schedule("rr", [1, 1, 1], &set), "CBACACACA");
    let remove = ["--flows", "8", "--remove", "10.44.0.13:8080@3", "--set", "10.44.0.13:8080=2@6"];
    assert_eq!(schedule("wlc", [1, 1, 1], &remove), "CBABACCC");
    // Each change by itself, as ipvsadm would make it: wrr's threshold falls when A is gone, and stays.
    let again = ["--flows", "14", "--remove", "10.44.0.11:8080@6", "--set", "10.44.0.11:8080=5@6"];
    assert_eq!(schedule("wrr", [5, 1, 1], &again), "CBAAAACBAAAAAC");
    let weighed = ["--flows", "9", "--set", "10.44.0.11:8080=1@6", "--set", "10.44.0.11:8080=5@6"];
    assert_eq!(schedule("wrr", [5, 1, 1], &weighed), "CBAAACBAA");
}

#[test]
fn schedule_knows_limits_and_connections_that_end() {
    let three = ["--flows", "9", "--max-connections", "10.44.0.11:8080=2"];
    assert_eq!(schedule("rr", [1, 1, 1], &three), "CBACBACBC", "A has enough");
    let all = |more: &[&str]| {
        let mut flags = vec!["--flows", "9"];
        for bound in ["10.44.0.11:8080=2", "10.44.0.12:8080=2", "10.44.0.13:8080=1"] {
            flags.extend(["--max-connections", bound]);
        }
        schedule("rr", [1, 1, 1], &[&flags, more].concat())
    };
    assert_eq!(all(&[]), "CBABA....");
    // Flows 2 and 4 are B's: below three quarters of two is one.
    assert_eq!(all(&["--end", "2@7"]), "CBABA.B..");
    let resume = ["--resume-below", "10.44.0.12:8080=1", "--end", "2@7", "--end", "4@8"];
    assert_eq!(all(&resume), "CBABA..BB");
    assert_eq!(all(&["--end", "6@7"]), "CBABA....", "that one was refused");
}

#[test]
fn schedule_takes_the_slots_of_the_file() {
    let flags = ["--flows", "64", "--flags", "mh-port"];
    let few = schedule("mh", [1, 1, 1], &[&flags[..], &["--mh-slots", "251"]].concat());
    let usual = schedule("mh", [1, 1, 1], &flags);
    assert_eq!(schedule("mh", [1, 1, 1], &[&flags[..], &["--mh-slots", "4093"]].concat()), usual);
    assert_ne!(few, usual);
}

#[test]
fn schedule_reads_flows_from_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("flows");
    let line = |host| format!("192.0.2.{host}:3000 198.51.100.10:80\n");
    let lines: String = (2..=39).map(line).collect();
    let text = format!("# a remark, and a blank line\n\n{lines}");
    std::fs::write(&path, text).unwrap();
    let path = path.to_str().unwrap();
    let got = schedule("sh", [1, 1, 1], &["--flows", path]);
    assert_eq!(got, "BCBACABACBCACBCBCCABABACACBCBCBABABCCA");
    let more = ["--flows", path, "--flags", "mh-fallback", "--set", "10.44.0.12:8080=0@1"];
    let drained = schedule("mh", [1, 1, 1], &more);
    assert!(!drained.contains(['B', '.']), "{drained}");
    let kept = schedule("mh", [1, 1, 1], &more[..2]);
    let moved = kept.chars().zip(drained.chars()).filter(|(was, is)| was != is);
    assert!(moved.into_iter().all(|(was, _)| was == 'B'));
}

#[test]
fn schedule_sums_up_on_standard_error() {
    let arguments = ["schedule", "--scheduler", "rr", "--backend", "[2001:db8::11]:80=3"];
    let more = ["--backend", "10.0.0.1:80", "--remove", "10.0.0.1:80@4", "--flows", "4"];
    let output = shunt(&[arguments.as_slice(), &more].concat());
    let text = "10.0.0.1:80\n[2001:db8::11]:80\n10.0.0.1:80\n[2001:db8::11]:80\n";
    assert_eq!(String::from_utf8_lossy(&output.stdout), text);
    let sums = "[2001:db8::11]:80  weight 3  2 (50.0 %)\n10.0.0.1:80  removed  2 (50.0 %)\n\
                refused  0 (0.0 %)\n";
    assert_eq!(said(&output), sums);
}

#[test]
fn schedule_as_json_names_flow_and_backend() {
    let arguments = ["schedule", "--json", "--scheduler", "ovf", "--backend", "10.0.0.1:80=0"];
    let output = shunt(&[arguments.as_slice(), &["--flows", "1"]].concat());
    let rows: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let row = serde_json::json!([{
        "flow": 1, "client": "192.0.2.2:2000", "vip": "198.51.100.10:80", "backend": null,
    }]);
    assert_eq!(rows, row);
    assert!(said(&output).ends_with("refused  1 (100.0 %)\n"), "{}", said(&output));
}

#[test]
fn schedule_refuses_what_makes_no_sense_with_2() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("flows");
    std::fs::write(&path, "192.0.2.2:1 198.51.100.10:80\n192.0.2.2 198.51.100.10:80\n").unwrap();
    let path = path.to_str().unwrap();
    let backend = ["--backend", "10.0.0.1:80"];
    let rows: [(&[&str], &str); 22] = [
        (&["--scheduler", "fastest", "--flows", "1"], "possible values: rr, wrr"),
        (
            &["--scheduler", "mh", "--flows", "1", "--flags", "mh-port,mhport"],
            "there is no flag `mhport`; there are sh-fallback, sh-port, mh-fallback, mh-port",
        ),
        (&["--scheduler", "rr"], "--flows"),
        (&["--flows", "1"], "--scheduler"),
        (&["--scheduler", "rr", "--flows", "-1"], "--flows"),
        (&["--scheduler", "rr", "--flows", "no-such-file"], "cannot read no-such-file"),
        (&["--scheduler", "rr", "--flows", path], ":2: `192.0.2.2 198.51.100.10:80` is not a flow"),
        (&["--scheduler", "rr", "--flows", "1", "--backend", "10.0.0.2"], "an address with a port"),
        (&["--scheduler", "rr", "--flows", "1", "--backend", "10.0.0.2:80=65536"], "not a weight"),
        (&["--scheduler", "rr", "--flows", "1", "--backend", "10.0.0.1:80=3"], "given twice"),
        (&["--scheduler", "rr", "--flows", "1", "--set", "10.0.0.1:80=1"], "@N"),
        (&["--scheduler", "rr", "--flows", "1", "--remove", "10.0.0.9:80@1"], "is not there"),
        (&["--scheduler", "rr", "--flows", "2", "--set", "10.0.0.1:80=1@0"], "(from 1)"),
        (
            &["--scheduler", "rr", "--flows", "2", "--set", "10.0.0.1:80=1@3"],
            "backend 10.0.0.1:80 is to change before flow 3, but there are 2 flows",
        ),
        (
            &["--scheduler", "rr", "--flows", "2", "--json", "--remove", "10.0.0.1:80@9"],
            "before flow 9",
        ),
        (&["--scheduler", "rr", "--flows", "0", "--set", "10.0.0.1:80=1@1"], "there are 0 flows"),
        (&["--scheduler", "mh", "--flows", "1", "--mh-slots", "4000"], "expected one of 251, 509"),
        (
            &["--scheduler", "rr", "--flows", "1", "--max-connections", "10.0.0.9:80=1"],
            "which is no --backend",
        ),
        (&["--scheduler", "rr", "--flows", "1", "--max-connections", "10.0.0.1:80=0"], "a limit"),
        (&["--scheduler", "rr", "--flows", "1", "--resume-below", "10.0.0.1:80=1"], "at most"),
        (&["--scheduler", "rr", "--flows", "3", "--end", "2@2"], "flow 2 cannot end before flow 2"),
        (&["--scheduler", "rr", "--flows", "3", "--end", "1@4"], "of 3 flows"),
    ];
    for (more, expected) in rows {
        let output = shunt(&[["schedule"].as_slice(), &backend, more].concat());
        assert_eq!(output.status.code(), Some(2), "{more:?}");
        assert!(said(&output).contains(expected), "{more:?}: {}", said(&output));
        assert!(output.stdout.is_empty(), "{more:?}");
    }
}
