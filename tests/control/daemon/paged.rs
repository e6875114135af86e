//! Many connections, listed over the admin API: all of them once, and who goes away in the middle leaves nothing.

use std::collections::HashSet;
use std::os::unix::net::UnixStream;

use shunt::cli::request::Socket;
use shunt::control::admin::answers::dump::Parameters;

use super::*;

/// Of two workers together.
const CONNECTIONS: [u32; 2] = [60_000, 40_001];
/// Clients that ask for all and do not wait.
const IMPATIENT: usize = 30;
const LIMIT: usize = 10_000;

fn start() -> Running {
    let daemon = Running::start();
    daemon.ready();
    for (stats, many) in daemon.stats.iter().zip(CONNECTIONS) {
        (0..many).for_each(|_| stats.connections.up());
    }
    daemon
}

/// Everything, page after page, by who has it and whose it is.
fn listed(daemon: &Running) -> usize {
    let socket = Socket::new(&daemon.socket);
    let (mut seen, mut cursor) = (HashSet::new(), None);
    loop {
        let asked = Parameters { cursor, limit: Some(LIMIT), ..Parameters::default() };
        let page: Connections = socket.get_with("/connections", &asked).unwrap();
        for row in &page.connections {
            assert!(seen.insert((row.worker, row.client)), "{row:?} is listed twice");
        }
        cursor = page.next;
        if cursor.is_none() {
            return seen.len();
        }
    }
}

fn end(daemon: Running) {
    signal("TERM");
    daemon.until("the drain", |d| !d.last(0).accepting);
    signal("TERM");
    daemon.end().unwrap();
}

#[test]
fn a_hundred_thousand_connections_are_listed_once_each() {
    let _turn = turn();
    let daemon = start();
    let all: u32 = CONNECTIONS.iter().sum();
    assert_eq!(listed(&daemon), all as usize);
    end(daemon);
}

#[test]
fn clients_that_go_away_in_the_middle_leave_nothing_behind() {
    let _turn = turn();
    let daemon = start();
    for n in 0..IMPATIENT {
        let mut stream = UnixStream::connect(&daemon.socket).unwrap();
        let asked = format!("GET /connections?limit={LIMIT} HTTP/1.1\r\nhost: shuntd\r\n\r\n");
        stream.write_all(asked.as_bytes()).unwrap();
        // Some go before the answer, some with its first bytes.
        if n % 2 == 0 {
            assert!(stream.read(&mut [0; 100]).unwrap() > 0);
        }
    }
    let all: u32 = CONNECTIONS.iter().sum();
    assert_eq!(listed(&daemon), all as usize, "who asks next has all of it");
    let none = "shunt_http_connections{listener=\"admin\"} 0\n";
    daemon.until("the last of them to be gone", |d| scrape(d.metrics.unwrap()).contains(none));
    end(daemon);
}
