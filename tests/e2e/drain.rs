//! A backend taken out of service by hand while clients use it, and given back: what `docs/drain-a-backend.md`
//! promises.

use std::time::Duration;

use anyhow::{Context as _, Result};
use lab::network::{VIP, client_address};
use lab::{Balancer, Program, programs, wait};

use crate::harness::{Rig, WEB, web};

/// Connections that last, about half of them to the backend in question.
const LASTING: usize = 8;

/// A load of client `number`.
fn load(rig: &Rig, number: usize, arguments: &[&str]) -> Program {
    let client = &rig.network.clients[number - 1];
    programs::load(&rig.network, &rig.binaries, client, WEB, arguments).unwrap()
}

/// Connections of client 1 to the first backend that are open.
fn lasting(balancer: &Balancer<'_>) -> Result<usize> {
    let (backend, client) = (web(1).to_string(), client_address(1).to_string());
    let arguments = ["connections", "--json", "--backend", &backend, "--client", &client];
    let listed: serde_json::Value = serde_json::from_str(&balancer.shunt(&arguments)?)?;
    let all = listed["connections"].as_array().context("no list")?;
    Ok(all.iter().filter(|connection| connection["state"] == "ESTABLISHED").count())
}

/// What `shunt diff` says of the first backend: with an error, as there is something to say.
fn said(balancer: &Balancer<'_>) -> String {
    format!("{:#}", balancer.shunt(&["diff"]).unwrap_err())
}

/// Who answers so many requests of client 2.
fn answers_of_first(rig: &Rig, count: u32) -> usize {
    let url = format!("http://{VIP}/");
    let bodies = programs::curl_many(&rig.network.clients[1], &url, count).unwrap();
    bodies.iter().filter(|body| body.starts_with("backend-1 ")).count()
}

/// A client that connects, says nothing and reads.
fn reader(rig: &Rig, number: usize) -> Program {
    let mut command = rig.network.clients[0].command("bash");
    command.env("LC_ALL", "C").args(["-c", &format!("exec 3<>/dev/tcp/{VIP}/80; cat <&3")]);
    Program::start(&rig.network, &format!("reader-{number}"), command).unwrap()
}

#[test]
fn a_drained_backend_empties_under_load_without_a_failed_request() {
    let rig = Rig::new(2, 2);
    let mut balancer = rig.start(rig.web_config(2, "rr", &[(1, 1), (2, 1)]));
    let mut short = load(&rig, 2, &["--threads", "4", "--pause-ms", "1"]);
    let threads = LASTING.to_string();
    let mut long = load(&rig, 1, &["--threads", &threads, "--keep-alive", "--pause-ms", "2"]);
    let there = || Ok(lasting(&balancer)? >= LASTING / 2 - 2);
    wait::until_true("lasting connections", Duration::from_secs(20), there).unwrap();

    let backend = web(1).ip().to_string();
    let line = balancer.shunt(&["drain", "web", &backend]).unwrap();
    assert!(line.starts_with(&format!("web {}: drained by hand, ", web(1))), "{line}");
    let lasting = lasting(&balancer).unwrap();
    let left = format!("drained by hand, {lasting} connection");
    let is_left = || Ok(said(&balancer).contains(&left));
    wait::until_true("those that are short to be over", Duration::from_secs(15), is_left).unwrap();
    assert_eq!(answers_of_first(&rig, 50), 0, "nobody new");
    assert!(balancer.shunt(&["reload"]).unwrap().contains("1 backend as set by hand"));
    assert_eq!(answers_of_first(&rig, 10), 0, "a reload leaves it");

    let long = programs::stop_load(&mut long).unwrap();
    assert_eq!(long.failed, 0, "those that lasted were left alone: {long:?}");
    let text = balancer.shunt(&["drain", "web", &backend, "--wait"]).unwrap();
    assert!(text.ends_with("drained by hand, 0 connections left\n"), "{text}");

    balancer.shunt(&["undrain", "web", &backend]).unwrap();
    assert_eq!(balancer.shunt(&["diff"]).unwrap(), "");
    assert!(answers_of_first(&rig, 10) > 0, "it serves again");
    let short = programs::stop_load(&mut short).unwrap();
    assert_eq!(short.failed, 0, "{short:?}");
    assert!(short.ok > 100 && short.backend("backend-1") > 0, "the load was real: {short:?}");
    balancer.stop().unwrap();
}

#[test]
fn at_the_deadline_those_that_are_left_hear_that_it_is_over() {
    let rig = Rig::new(2, 2);
    let mut balancer = rig.start(rig.web_config(1, "rr", &[(1, 1), (2, 1)]));
    let mut short = load(&rig, 2, &["--threads", "2", "--pause-ms", "1"]);
    let mut readers = Vec::new();
    wait::until_true("a reader of the first backend", Duration::from_secs(20), || {
        readers.push(reader(&rig, readers.len()));
        Ok(lasting(&balancer)? > 0)
    })
    .unwrap();

    let backend = web(1).ip().to_string();
    let arguments = ["drain", "web", &backend, "--deadline", "1s", "--wait"];
    let text = balancer.shunt(&arguments).unwrap();
    assert!(text.lines().next().unwrap().contains(", ended in "), "{text}");
    assert!(text.ends_with("drained by hand, 0 connections left\n"), "{text}");
    assert_eq!(lasting(&balancer).unwrap(), 0);
    let ended = |reader: &mut Program| !reader.is_running();
    let told = || Ok(readers.iter_mut().any(ended));
    wait::until_true("a reader to hear of it", Duration::from_secs(5), told).unwrap();
    let is_told = |it: &Program| it.stderr().contains("Connection reset by peer");
    assert!(readers.iter().any(is_told), "{:?}", readers.iter().map(Program::stderr));

    assert_eq!(answers_of_first(&rig, 10), 0, "it stays drained");
    let short = programs::stop_load(&mut short).unwrap();
    assert_eq!(short.failed, 0, "who came and went was not hurt: {short:?}");
    readers.iter_mut().for_each(Program::kill);
    balancer.stop().unwrap();
}
