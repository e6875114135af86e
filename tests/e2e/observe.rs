//! What the tool and the exporter say, against what was done.

use lab::network::VIP;
use lab::{command, programs};

use crate::harness::{Rig, web};

#[test]
fn metrics_are_valid_and_count_what_happened() {
    let rig = Rig::new(1, 3);
    let mut balancer = rig.start(rig.web_config(2, "rr", &[(1, 1), (2, 1), (3, 1)]));
    let url = format!("http://{VIP}/");
    programs::curl_many(&rig.network.clients[0], &url, 60).unwrap();
    let metrics = balancer.metrics().unwrap();

    let mut promtool = std::process::Command::new("promtool");
    let findings =
        command::run_with_input(promtool.args(["check", "metrics"]), &metrics.text).unwrap();
    assert_eq!(findings.trim(), "", "promtool has nothing to say");

    let sum = |name: &str, labels: &[(&str, &str)]| {
        metrics.sum(name, labels).unwrap_or_else(|| panic!("no {name} {labels:?}"))
    };
    for number in 1..=3 {
        let backend = web(number).to_string();
        let labels = [("service", "web"), ("backend", backend.as_str())];
        let new = sum("shunt_new_connections_total", &labels);
        assert!((new - 20.0).abs() <= 2.0, "a third of 60 for {backend}: {new}");
    }
    let new = sum("shunt_new_connections_total", &[]);
    assert!((new - 60.0).abs() < 0.5, "60 connections: {new}");
    // A short request is at least ten packets; both ports see each of them once.
    let (receive, transmit) = ("receive", "transmit");
    let moved = [("wan", receive), ("wan", transmit), ("lan", receive), ("lan", transmit)];
    for (port, direction) in moved {
        let labels = [("port", port), ("direction", direction)];
        let packets = sum("shunt_port_packets_total", &labels);
        let bytes = sum("shunt_port_bytes_total", &labels);
        assert!(packets >= 60.0 * 4.0, "{port} {direction}: {packets} packets");
        assert!(bytes >= packets * 54.0, "{port} {direction}: {bytes} bytes");
    }
    assert!(metrics.sum("shunt_drops_total", &[]).is_some(), "drops are there when none happened");
    assert!((sum("shunt_build_info", &[]) - 1.0).abs() < 0.01);
    balancer.stop().unwrap();
}

#[test]
fn the_tool_shows_the_service_its_backends_and_its_connections() {
    let rig = Rig::new(1, 2);
    let mut balancer = rig.start(rig.web_config(2, "rr", &[(1, 1), (2, 1)]));
    let url = format!("http://{VIP}/");
    programs::curl_many(&rig.network.clients[0], &url, 10).unwrap();
    for (subcommand, words) in [
        ("status", vec![]),
        ("services", vec!["198.51.100.10", "10.44.0.11", "10.44.0.12"]),
        ("backends", vec!["web", "10.44.0.11", "10.44.0.12"]),
        ("ports", vec!["wan", "lan"]),
        ("workers", vec![]),
        ("drops", vec![]),
        ("rates", vec!["web", "10.44.0.11", "wan"]),
        ("connections", vec!["192.0.2.11", "198.51.100.10"]),
    ] {
        let table = balancer.shunt(&[subcommand]).unwrap();
        let json = balancer.shunt_json(subcommand).unwrap().to_string();
        for word in words {
            assert!(table.contains(word), "{subcommand} without {word}: {table}");
            assert!(json.contains(word), "{subcommand} --json without {word}: {json}");
        }
        assert!(!table.trim().is_empty());
    }
    balancer.stop().unwrap();
}

/// Sheets are chosen by keys, and `q` gives the terminal back.
#[test]
fn top_draws_on_a_real_terminal_and_leaves_when_told() {
    let rig = Rig::new(1, 1);
    let mut balancer = rig.start(rig.web_config(1, "rr", &[(1, 1)]));
    let screen = balancer.on_a_terminal("top", "2q").unwrap();
    // Only what differs is sent: of the backend's address what does not stand where the service's stood.
    for word in ["accepting", "198.51.100.10:80", "0.44.0.11:8", "1 services"] {
        assert!(screen.contains(word), "no {word} in {screen:?}");
    }
    assert!(screen.contains("\u{1b}[?1049l"), "the screen before is back: {screen:?}");
    balancer.stop().unwrap();
}

#[test]
fn explain_says_what_would_become_of_a_packet_and_makes_no_connection() {
    let rig = Rig::new(1, 2);
    let mut balancer = rig.start(rig.web_config(2, "rr", &[(1, 1), (2, 1)]));
    let explain = |flow: &str| balancer.shunt(&["explain", flow]).unwrap();
    let said = explain(&format!("tcp 192.0.2.11:40000 > {VIP}:80"));
    for words in
        ["forward: It makes a connection", "none, worker", "web, scheduler rr", "10.44.0.1"]
    {
        assert!(said.contains(words), "{words}: {said}");
    }
    let said = explain(&format!("tcp 192.0.2.11:40000 -> {VIP}:81"));
    assert!(said.contains("(no_service)") && !said.contains("backend"), "{said}");
    let said = explain("udp 192.0.2.11:40000 > 203.0.113.9:53");
    assert!(said.contains("give it to the kernel"), "{said}");
    let connections = balancer.shunt_json("connections").unwrap();
    assert_eq!(connections["connections"].as_array().map(Vec::len), Some(0));
    // One that is there, from both ends.
    programs::curl(&rig.network.clients[0], &format!("http://{VIP}/")).unwrap();
    let connections = balancer.shunt_json("connections").unwrap();
    let one = |end: &str| connections["connections"][0][end].as_str().unwrap().to_owned();
    let [client, backend, local] = ["client", "backend", "local"].map(one);
    let there = explain(&format!("tcp {client} > {VIP}:80"));
    assert!(there.contains(&format!("leaves as  tcp {local} > {backend}")), "{there}");
    let back = explain(&format!("tcp {backend} > {local}"));
    assert!(back.contains(&format!("leaves as  tcp {VIP}:80 > {client}")), "{back}");
    // The next packets of a client's port that is known beforehand.
    let flow = format!("tcp 192.0.2.11:45678 > {VIP}:80");
    let followed = std::thread::scope(|scope| {
        let trace =
            || balancer.shunt(&["trace", "--flow", &flow, "--count", "4", "--seconds", "12"]);
        let shunt = scope.spawn(trace);
        let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while !shunt.is_finished() && std::time::Instant::now() < end {
            let client = &rig.network.clients[0];
            let arguments =
                ["-s", "-o", "/dev/null", "--local-port", "45678", &format!("http://{VIP}/")];
            // The port may still be in TIME_WAIT.
            let _ = client.run("curl", &arguments);
        }
        shunt.join().unwrap().unwrap()
    });
    assert_eq!(followed.lines().count(), 8, "{followed}");
    for words in
        [format!("{flow} in by wan"), "sent by lan".into(), "sent by wan".into(), "decide".into()]
    {
        assert!(followed.contains(&words), "{words}: {followed}");
    }
    balancer.stop().unwrap();
}

#[test]
fn check_accepts_the_labs_configuration_and_diff_names_what_changes() {
    let rig = Rig::new(1, 2);
    let old = rig.web_config(2, "rr", &[(1, 1)]);
    let mut new = old.clone();
    new.set_backend("web", web(2), 5).unwrap();
    let folder = rig.network.folder();
    let (old_file, new_file) = (folder.join("old.toml"), folder.join("new.toml"));
    old.write(&old_file).unwrap();
    new.write(&new_file).unwrap();
    let shuntd = || std::process::Command::new(&rig.binaries.shuntd);
    command::run(shuntd().arg("check").arg(&old_file)).unwrap();
    let output = command::output(shuntd().arg("diff").arg(&old_file).arg(&new_file)).unwrap();
    assert_eq!(output.status.code(), Some(1), "as diff(1): they differ");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("10.44.0.12"), "{text}");
    assert!(!text.contains("10.44.0.11"), "what stays is not named: {text}");
}
