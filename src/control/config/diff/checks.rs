//! Checks that differ: which are new, which leave, and of those that stay each key that has another value.
//!
//! ```text
//! ~ service web: check http GET / interval_ms 2000 -> 500
//! + service web: check script /usr/local/bin/check-db every 2000 ms
//! - service web: backend 10.44.0.12:80 check tcp port 8081 every 2000 ms
//! ```
//!
//! Those that are alike are taken away first, then those that ask the same are compared, each once, in the order they are
//! written in. The order itself is no difference.

use std::net::{IpAddr, SocketAddr};

use super::{Change, list};
use crate::control::health::check::{Check, Http, Probe, RECORDS, Talk};

/// Whose checks they are.
pub(super) struct Whose<'a> {
    pub(super) service: &'a str,
    /// One that has checks of its own.
    pub(super) backend: Option<SocketAddr>,
}

/// What becomes of checks.
pub(super) fn compare(changes: &mut Vec<Change>, whose: &Whose<'_>, old: &[Check], new: &[Check]) {
    let mut gone = beyond(old, new);
    let of = || (whose.service.to_owned(), whose.backend);
    for check in beyond(new, old) {
        let asks_that = |it: &&Check| it.to_string() == check.to_string();
        let Some(place) = gone.iter().position(asks_that) else {
            let (service, backend) = of();
            changes.push(Change::CheckAdded { service, backend, check: check.clone() });
            continue;
        };
        let both = settings(gone.remove(place)).into_iter().zip(settings(check));
        for ((setting, from), (_, to)) in both.filter(|(was, is)| was != is) {
            let ((service, backend), check) = (of(), check.to_string());
            changes.push(Change::CheckSetting { service, backend, check, setting, from, to });
        }
    }
    for check in gone {
        let (service, backend) = of();
        changes.push(Change::CheckRemoved { service, backend, check: check.clone() });
    }
}

/// Those of `some` that are not among `others`, each of which stands for one.
fn beyond<'a>(some: &'a [Check], others: &[Check]) -> Vec<&'a Check> {
    let mut others: Vec<&Check> = others.iter().collect();
    let is_new = |check: &&Check| match others.iter().position(|it| it == check) {
        Some(place) => {
            others.remove(place);
            false
        }
        None => true,
    };
    some.iter().filter(is_new).collect()
}

/// What a check has under which key. Of two of one kind, the same keys in the same order.
fn settings(check: &Check) -> Vec<(&'static str, String)> {
    let Check {
        probe,
        address,
        port,
        interval_ms,
        fast_interval_ms,
        jitter_percent,
        timeout_ms,
        rise,
        fall,
    } = check;
    let mut all = vec![
        ("address", or_none(address.as_ref().map(IpAddr::to_string))),
        ("port", or_none(port.as_ref().map(u16::to_string))),
        ("interval_ms", interval_ms.to_string()),
        ("fast_interval_ms", fast_interval_ms.to_string()),
        ("jitter_percent", jitter_percent.to_string()),
        ("timeout_ms", timeout_ms.to_string()),
        ("rise", rise.to_string()),
        ("fall", fall.to_string()),
    ];
    match probe {
        Probe::Tcp(talk) | Probe::Udp(talk) => all.extend(talking(talk)),
        Probe::Http(http) => all.extend(asking(http)),
        Probe::Dns { name, record } => {
            all.extend([("name", name.clone()), ("type", word(*record))]);
        }
        Probe::Smtp { helo } => all.push(("helo", helo.clone())),
        Probe::Script { command } => all.push(("command", list(command))),
        Probe::Ping => {}
    }
    all
}

fn talking(talk: &Talk) -> [(&'static str, String); 3] {
    let Talk { send, send_file, expect } = talk;
    [
        ("send", bytes(send)),
        ("send_file", or_none(send_file.as_ref().map(ToString::to_string))),
        ("expect", or_none(expect.as_deref().map(bytes))),
    ]
}

fn asking(http: &Http) -> [(&'static str, String); 9] {
    let Http { method, path, host, authorization_file, status, body, body_regex, tls } = http;
    let tls = tls.as_ref();
    [
        ("method", method.clone()),
        ("path", path.clone()),
        ("host", or_none(host.clone())),
        ("authorization_file", or_none(authorization_file.as_ref().map(ToString::to_string))),
        ("status", list(&status.words())),
        ("body", or_none(body.clone())),
        ("body_regex", or_none(body_regex.clone())),
        ("sni", or_none(tls.and_then(|it| it.sni.clone()))),
        ("ca_file", or_none(tls.and_then(|it| Some(it.ca.as_ref()?.to_string())))),
    ]
}

fn or_none(value: Option<String>) -> String {
    value.unwrap_or_else(|| "none".to_owned())
}

/// In quotation marks if it is text, else in hexadecimal.
fn bytes(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => format!("{text:?}"),
        Err(_) => bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat(),
    }
}

/// A record type as it is written.
fn word(record: u16) -> String {
    let known = RECORDS.iter().find(|(_, number)| *number == record);
    known.map_or_else(|| record.to_string(), |(word, _)| (*word).to_owned())
}
