//! Services as they will be written, and writing them.
//!
//! Text is written by hand rather than by a serialiser, for the sake of the comments: each service
//! says which line it came from, and what could not be made whole stands there commented out, so
//! that finishing it is taking `#` away and filling a gap.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use super::health::{Check, Policy};
use super::note::Place;
use crate::control::config::mode::{Spelled, SpelledTunnel};
use crate::dataplane::sched::Scheduler;
use crate::dataplane::snapshot::{Mode, Protocol};

/// Most addresses of one service: its own, and 1023 more.
pub(super) const ADDRESSES_MAX: usize = 1024;

/// A `[[service]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Service {
    /// Where it comes from.
    pub(super) place: Place,
    /// What opens it there.
    pub(super) origin: String,
    /// Is something missing without which it is refused? Then it is written as a comment.
    pub(super) has_gap: bool,
    /// Its name: unique.
    pub(super) name: String,
    /// Its protocol.
    pub(super) protocol: Protocol,
    /// Where clients find it. Without any it is written as a comment.
    pub(super) addresses: Vec<SocketAddr>,
    /// Who gets a new connection.
    pub(super) scheduler: Scheduler,
    /// Variations of that.
    pub(super) flags: Vec<&'static str>,
    /// Is every datagram alone?
    pub(super) one_packet: bool,
    /// Seconds that a client stays with its backend.
    pub(super) persistence_s: Option<u32>,
    /// Bits of the address that make a client.
    pub(super) persistence_prefix: Option<u8>,
    /// Of the box, for backends in mode `fullnat`.
    pub(super) local_addresses: Vec<IpAddr>,
    /// How it takes what checks say.
    pub(super) health: Policy,
    /// What all its backends are asked.
    pub(super) checks: Vec<Check>,
    /// Who serves it.
    pub(super) backends: Vec<Backend>,
}

/// A `[[service.backend]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Backend {
    /// Its address and port.
    pub(super) address: SocketAddr,
    /// How packets reach it.
    pub(super) mode: Mode,
    /// Its share.
    pub(super) weight: u32,
    /// Most connections; 0 for no limit.
    pub(super) max_connections: u32,
    /// From when on it takes new ones again; 0 for the usual.
    pub(super) resume_below: u32,
    /// Does it serve only while too little else does?
    pub(super) sorry: bool,
    /// What it is asked, if others are asked otherwise.
    pub(super) checks: Vec<Check>,
    /// Is it only written as a comment?
    pub(super) left_out: bool,
}

/// `[[service]]` and all below it.
pub(super) fn service(service: &Service) -> String {
    let mut text = String::new();
    let mode = usual_mode(&service.backends);
    let spelled = Spelled::from(mode);
    let _ = writeln!(text, "[[service]]");
    pair(&mut text, "name", &quoted(&service.name));
    pair(&mut text, "protocol", &quoted(&service.protocol.to_string()));
    addresses(&mut text, &service.addresses);
    pair(&mut text, "mode", &quoted(&spelled.mode));
    pair(&mut text, "scheduler", &quoted(service.scheduler.method().name));
    if !service.flags.is_empty() {
        pair(&mut text, "scheduler_flags", &list(service.flags.iter().copied()));
    }
    if service.has_gap || !service.local_addresses.is_empty() {
        let addresses = service.local_addresses.iter().map(ToString::to_string);
        pair(&mut text, "local_addresses", &list(addresses));
    }
    if service.one_packet {
        pair(&mut text, "one_packet", "true");
    }
    optional(&mut text, "persistence_s", service.persistence_s);
    optional(&mut text, "persistence_prefix", service.persistence_prefix.map(u32::from));
    if let Some(tunnel) = spelled.tunnel.filter(|tunnel| tunnel.kind != "ipip") {
        self::tunnel(&mut text, "[service.tunnel]", &tunnel);
    }
    text += &service.health.written();
    for check in &service.checks {
        text += &check.written("[[service.check]]");
    }
    for backend in &service.backends {
        let lines = self::backend(backend, mode);
        text += "\n";
        text += &if backend.left_out { commented(&lines) } else { lines };
    }
    let origin = format!("# {}: {}\n", service.place, service.origin);
    let is_whole = !service.addresses.is_empty() && !service.has_gap;
    origin + &if is_whole { text } else { commented(&text) }
}

/// The mode of most backends; the first of those.
fn usual_mode(backends: &[Backend]) -> Mode {
    let count = |mode: Mode| backends.iter().filter(|it| it.mode == mode).count();
    let most = backends.iter().map(|it| count(it.mode)).max().unwrap_or(0);
    let usual = backends.iter().map(|it| it.mode).find(|mode| count(*mode) == most);
    usual.unwrap_or(Mode::Nat)
}

fn addresses(text: &mut String, addresses: &[SocketAddr]) {
    let Some((first, more)) = addresses.split_first() else {
        return pair(text, "address", "\"\" # which packets carry the mark?");
    };
    pair(text, "address", &quoted(&first.to_string()));
    match more {
        [] => {}
        [_, _, _, _, ..] => {
            let _ = writeln!(text, "more_addresses = [");
            for address in more {
                let _ = writeln!(text, "    \"{address}\",");
            }
            let _ = writeln!(text, "]");
        }
        _ => pair(text, "more_addresses", &list(more.iter().map(ToString::to_string))),
    }
}

fn backend(backend: &Backend, usual: Mode) -> String {
    let mut text = "[[service.backend]]\n".to_owned();
    pair(&mut text, "address", &quoted(&backend.address.to_string()));
    pair(&mut text, "weight", &backend.weight.to_string());
    optional(&mut text, "max_connections", Some(backend.max_connections).filter(|it| *it > 0));
    optional(&mut text, "resume_below", Some(backend.resume_below).filter(|it| *it > 0));
    let (own, usual) = (Spelled::from(backend.mode), Spelled::from(usual));
    if own.mode != usual.mode {
        pair(&mut text, "mode", &quoted(&own.mode));
    }
    if backend.sorry {
        pair(&mut text, "sorry", "true");
    }
    if own.tunnel != usual.tunnel
        && let Some(tunnel) = own.tunnel
    {
        self::tunnel(&mut text, "[service.backend.tunnel]", &tunnel);
    }
    for check in &backend.checks {
        text += &check.written("[[service.backend.check]]");
    }
    text
}

fn tunnel(text: &mut String, head: &str, tunnel: &SpelledTunnel) {
    let _ = writeln!(text, "\n{head}");
    pair(text, "kind", &quoted(&tunnel.kind));
    optional(text, "port", tunnel.port.map(u32::from));
    if tunnel.checksum == Some(true) {
        pair(text, "checksum", "true");
    }
    if tunnel.remote_checksum == Some(true) {
        pair(text, "remote_checksum", "true");
    }
}

fn pair(text: &mut String, key: &str, value: &str) {
    let _ = writeln!(text, "{key} = {value}");
}

fn optional(text: &mut String, key: &str, value: Option<u32>) {
    if let Some(value) = value {
        pair(text, key, &value.to_string());
    }
}

fn list<T: AsRef<str>>(words: impl Iterator<Item = T>) -> String {
    let words: Vec<String> = words.map(|word| quoted(word.as_ref())).collect();
    format!("[{}]", words.join(", "))
}

/// Names, addresses and words of ours: nothing that would need an escape.
fn quoted(word: &str) -> String {
    format!("\"{word}\"")
}

fn commented(text: &str) -> String {
    let comment = |line: &str| if line.is_empty() { "#\n".into() } else { format!("# {line}\n") };
    text.lines().map(comment).collect()
}
