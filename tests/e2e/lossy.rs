//! PROXY headers where packets are lost: every backend loses each fifth that comes in, the client
//! each sixth, and what carries the header is among them.
//!
//! ```text
//!   client ◄─╳─ balancer ─╳─► backend          the kernels of both ends send again
//! ```
//!
//! The losses are made by the ends' own packet filters, behind the balancer's back: it has inserted
//! the header into a segment that then comes a second time, or into bytes that are acknowledged late.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use lab::{Host, command};

use crate::client_address::{Row, client_address, config, readers, rows};
use crate::harness::Rig;

/// Connections to each service, all of them at once.
const CONNECTIONS: usize = 6;

/// From now on this host loses each such packet of so many.
fn lose(host: &Host, which: &str, of: u32) {
    let rules = format!(
        "table inet lab_loss {{\n chain i {{\n type filter hook input priority 0;\n \
         {which} numgen inc mod {of} 0 counter drop\n }}\n}}\n"
    );
    command::run_with_input(host.command("nft").args(["-f", "-"]), &rules).unwrap();
}

/// Packets this host has lost.
fn lost(host: &Host) -> u64 {
    let text = host.run("nft", &["-j", "list", "table", "inet", "lab_loss"]).unwrap();
    let (_, rest) = text.split_once("\"packets\": ").unwrap();
    rest.split(|digit: char| !digit.is_ascii_digit()).next().unwrap().parse().unwrap()
}

/// Asks every service at once: what the backends were told, and what was true.
fn ask_all(client: &Host, rows: &[Row]) -> [BTreeSet<SocketAddr>; 2] {
    let mut curl = client.command("curl");
    let parallel = ["--parallel", "--parallel-immediate", "--parallel-max", "200"];
    curl.args(["-sS", "--fail-early", "--fail", "--max-time", "60"]).args(parallel);
    curl.args(["-H", "Connection: close", "-w", "from %{local_ip} %{local_port}\n"]);
    let url = |row: &Row| format!("http://{}/#[1-{CONNECTIONS}]", SocketAddr::new(row.1, row.0));
    let text = command::run(curl.args(rows.iter().map(url))).unwrap();
    let mut told_and_true = [BTreeSet::new(), BTreeSet::new()];
    for line in text.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        let at = SocketAddr::new(words[1].parse::<IpAddr>().unwrap(), words[2].parse().unwrap());
        told_and_true[usize::from(words[0] == "from")].insert(at);
    }
    told_and_true
}

fn headers_survive_losses(workers: usize) {
    let rig = Rig::new(1, 2);
    rig.network.answer_through_the_balancer(&rig.network.backends[1]).unwrap();
    let _readers = readers(&rig);
    let mut balancer = rig.start(config(&rig, workers));
    let rows: Vec<_> = rows().into_iter().filter(|row| row.2 == "tcp").collect();
    let client = &rig.network.clients[0];
    rig.network.backends.iter().for_each(|host| lose(host, "tcp dport { 8180, 8181 }", 5));
    lose(client, "tcp sport 8000-8999", 6);
    let [told, truth] = ask_all(client, &rows);
    let status = balancer.shunt(&["status"]).unwrap();
    assert_eq!(told, truth, "{status}");
    // Two services may be asked from one port.
    let most = rows.len() * CONNECTIONS;
    assert!((most * 9 / 10..=most).contains(&truth.len()), "{} ports of {most}", truth.len());
    let ours = |at: &SocketAddr| at.ip() == client_address(at.ip());
    assert!(truth.iter().all(ours), "{truth:?}");
    // A connection's five packets to the backend: at least one of them was lost on the average.
    let least = (truth.len() / 2) as u64;
    let lost: Vec<_> = rig.network.backends.iter().chain([client]).map(lost).collect();
    assert!(lost.iter().sum::<u64>() > least, "{lost:?}");
    balancer.stop().unwrap();
}

#[test]
fn proxy_headers_are_read_where_packets_are_lost_with_one_worker() {
    headers_survive_losses(1);
}

#[test]
fn proxy_headers_are_read_where_packets_are_lost_with_two_workers() {
    headers_survive_losses(2);
}
