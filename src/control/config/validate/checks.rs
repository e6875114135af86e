//! `[[service.check]]` and `[[service.backend.check]]`: what is asked of backends, and how often.
//!
//! Every kind has keys of its own; one that the kind gives no meaning is refused, so that nobody waits for
//! what a check does not look at.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::ops::Range;
use std::path::Path;

use super::super::error::Problems;
use super::super::explain::did_you_mean;
use super::super::schema::{self, List, Maybe, Spanned};
use super::secrets;
use super::value::{address, integer};
use crate::control::health::check::{Ca, Check, Http, Probe, RECORDS, Statuses, Talk, Tls};
use crate::control::health::probe::sayable::{self, Sayable};
use crate::control::health::probe::{certificates, expression};

const KINDS: [&str; 8] = ["tcp", "http", "https", "udp", "dns", "smtp", "ping", "script"];
const INTERVAL_MS: i64 = 2000;
const FAST_INTERVAL_MS: i64 = 1000;
const TIMEOUT_MS: i64 = 2000;
const JITTER_PERCENT: u32 = 10;
const RISE: u32 = 2;
const FALL: u32 = 3;
/// A day.
const MS_MAX: i64 = 86_400_000;
const INTERVAL_MIN: i64 = 50;
const ROW_MAX: i64 = 1000;
/// Checks of one backend.
const CHECKS_MAX: usize = 16;
/// Bytes that are said or expected.
pub(super) const TALK_MAX: usize = 4096;

/// Those of all backends that have none of their own.
pub(super) fn of_service(
    problems: &mut Problems,
    written: &schema::Service,
    origin: &Path,
) -> Vec<Check> {
    too_many(problems, &written.check);
    let read = |it: &schema::Check| check(problems, it, origin);
    let checks: Vec<Check> = written.check.iter().filter_map(read).collect();
    for backend in &written.backend {
        let is_sorry = backend.sorry.as_ref().is_some_and(|sorry| *sorry.get_ref());
        if backend.check.is_empty() && !is_sorry {
            needs_port(problems, &written.check, backend);
        }
    }
    checks
}

/// Those of backends that have their own.
pub(super) fn of_backends(
    problems: &mut Problems,
    written: &schema::Service,
    origin: &Path,
) -> BTreeMap<SocketAddr, Vec<Check>> {
    let mut all = BTreeMap::new();
    for backend in written.backend.iter().filter(|backend| !backend.check.is_empty()) {
        too_many(problems, &backend.check);
        needs_port(problems, &backend.check, backend);
        let read = |it: &schema::Check| check(problems, it, origin);
        let checks = backend.check.iter().filter_map(read).collect();
        // An address that is none was told of elsewhere.
        if let Ok(address) = backend.address.get_ref().parse() {
            all.insert(address, checks);
        }
    }
    all
}

fn too_many(problems: &mut Problems, checks: &[schema::Check]) {
    if let Some(excess) = checks.get(CHECKS_MAX) {
        problems.error(excess.kind.span(), format!("more than {CHECKS_MAX} checks of a backend"));
    }
}

/// Port 0 is whatever the client asked for: there a check must say its own.
fn needs_port(problems: &mut Problems, checks: &[schema::Check], backend: &schema::Backend) {
    let text = backend.address.get_ref();
    if !text.parse().is_ok_and(|address: SocketAddr| address.port() == 0) {
        return;
    }
    let asks_a_port = |kind: &str| !matches!(kind, "ping" | "script");
    for check in checks.iter().filter(|it| it.port.is_none() && asks_a_port(it.kind.get_ref())) {
        let message = format!("backend {text} has no port of its own: which is to be checked?");
        problems.error_help(check.kind.span(), message, "give the check a `port`");
    }
}

fn check(problems: &mut Problems, written: &schema::Check, origin: &Path) -> Option<Check> {
    let kind = written.kind.get_ref().as_str();
    if !KINDS.contains(&kind) {
        let message = format!("unknown kind `{kind}` of check; supported: {}", KINDS.join(", "));
        let help = did_you_mean(kind, &KINDS).unwrap_or_else(|| "for example \"tcp\"".into());
        problems.error_help(written.kind.span(), message, help);
        return None;
    }
    refuse_others(problems, written, kind);
    let probe = probe(problems, written, kind, origin)?;
    let mut ms = |key, value: &Maybe<i64>, least, default| -> u32 {
        let default = u32::try_from(default).unwrap_or(u32::MAX);
        integer(problems, key, value.as_ref(), least..=MS_MAX, default)
    };
    let interval_ms = ms("interval_ms", &written.interval_ms, INTERVAL_MIN, INTERVAL_MS);
    let fast = FAST_INTERVAL_MS.min(interval_ms.into());
    let fast_interval_ms = ms("fast_interval_ms", &written.fast_interval_ms, INTERVAL_MIN, fast);
    let timeout_ms = ms("timeout_ms", &written.timeout_ms, 1, TIMEOUT_MS);
    let value = written.jitter_percent.as_ref();
    let jitter_percent = integer(problems, "jitter_percent", value, 0..=100, JITTER_PERCENT);
    Some(Check {
        probe,
        address: written.address.as_ref().and_then(|it| address(problems, "check", it)),
        port: written.port.as_ref().map(|it| integer(problems, "port", Some(it), 1..=65_535, 1)),
        interval_ms,
        fast_interval_ms,
        jitter_percent,
        timeout_ms,
        rise: integer(problems, "rise", written.rise.as_ref(), 1..=ROW_MAX, RISE),
        fall: integer(problems, "fall", written.fall.as_ref(), 1..=ROW_MAX, FALL),
    })
}

fn span<T>(value: Option<&Spanned<T>>) -> Option<Range<usize>> {
    value.map(Spanned::span)
}

/// A key, where it is written, and the kinds it is for.
type Owned<'a> = (&'a str, Option<Range<usize>>, &'a [&'a str]);

/// Keys that this kind gives no meaning.
fn refuse_others(problems: &mut Problems, it: &schema::Check, kind: &str) {
    const HTTP: &[&str] = &["http", "https"];
    const TALK: &[&str] = &["tcp", "udp"];
    let keys: [Owned<'_>; 18] = [
        ("port", span(it.port.as_ref()), &KINDS[..6]),
        ("method", span(it.method.as_ref()), HTTP),
        ("path", span(it.path.as_ref()), HTTP),
        ("host", span(it.host.as_ref()), HTTP),
        ("status", span(it.status.as_ref()), HTTP),
        ("body", span(it.body.as_ref()), HTTP),
        ("body_regex", span(it.body_regex.as_ref()), HTTP),
        ("authorization_file", span(it.authorization_file.as_ref()), HTTP),
        ("sni", span(it.sni.as_ref()), &["https"]),
        ("ca_file", span(it.ca_file.as_ref()), &["https"]),
        ("send", span(it.send.as_ref()), TALK),
        ("send_hex", span(it.send_hex.as_ref()), TALK),
        ("send_file", span(it.send_file.as_ref()), TALK),
        ("expect", span(it.expect.as_ref()), TALK),
        ("expect_hex", span(it.expect_hex.as_ref()), TALK),
        ("name", span(it.name.as_ref()), &["dns"]),
        ("type", span(it.record.as_ref()), &["dns"]),
        ("helo", span(it.helo.as_ref()), &["smtp"]),
    ];
    let command = ("command", span(it.command.as_ref()), &["script"][..]);
    for (key, place, kinds) in keys.into_iter().chain([command]) {
        if let Some(place) = place.filter(|_| !kinds.contains(&kind)) {
            let message = format!("{key} has no meaning for a check of kind `{kind}`");
            problems.error_help(place, message, format!("it is for {}", kinds.join(", ")));
        }
    }
}

fn probe(
    problems: &mut Problems,
    written: &schema::Check,
    kind: &str,
    origin: &Path,
) -> Option<Probe> {
    Some(match kind {
        "tcp" => Probe::Tcp(talk(problems, written, origin)),
        "udp" => Probe::Udp(talk(problems, written, origin)),
        "http" => Probe::Http(http(problems, written, origin, None)),
        "https" => {
            let tls = tls(problems, written, origin);
            Probe::Http(http(problems, written, origin, Some(tls)))
        }
        "dns" => dns(problems, written),
        "smtp" => {
            let helo = written.helo.as_ref().map_or("shunt", |helo| helo.get_ref());
            refuse_unsayable(problems, "helo", written.helo.as_ref(), sayable::visible);
            Probe::Smtp { helo: helo.to_owned() }
        }
        "ping" => Probe::Ping,
        _ => Probe::Script { command: command(problems, written)? },
    })
}

fn http(problems: &mut Problems, written: &schema::Check, origin: &Path, tls: Option<Tls>) -> Http {
    let text = |value: &Maybe<String>| value.as_ref().map(|it| it.get_ref().clone());
    refuse_unsayable(problems, "method", written.method.as_ref(), sayable::method);
    refuse_unsayable(problems, "path", written.path.as_ref(), sayable::path);
    refuse_unsayable(problems, "host", written.host.as_ref(), sayable::host);
    if let Some(value) = &written.body_regex
        && let Err(reason) = expression(value.get_ref())
    {
        let message = format!("body_regex is not a regular expression: {reason}");
        problems.error(value.span(), message);
    }
    let http = Http {
        method: text(&written.method).unwrap_or_else(|| "GET".into()),
        path: text(&written.path).unwrap_or_else(|| "/".into()),
        host: text(&written.host),
        authorization_file: secrets::authorization(problems, written, origin),
        status: statuses(problems, written.status.as_ref()),
        body: text(&written.body),
        body_regex: text(&written.body_regex),
        tls,
    };
    refuse_bodiless(problems, written, &http);
    let is_no_name = |name| sayable::name(name).is_err();
    if let (Some(value), None) = (&written.host, &written.sni)
        && sayable::host(value.get_ref()).is_ok()
        && http.certificate_name().is_some_and(is_no_name)
    {
        let message =
            format!("host `{}` is no name to ask for in TLS", value.get_ref().escape_debug());
        problems.error_help(value.span(), message, "say it with `sni`");
    }
    http
}

/// A body is looked for where none comes: such a check never passes (RFC 9110, sections 6.4.1 and 9.3.2).
fn refuse_bodiless(problems: &mut Problems, written: &schema::Check, http: &Http) {
    let keys = [("body", &written.body), ("body_regex", &written.body_regex)];
    let found = keys.into_iter().find_map(|(key, value)| Some((key, value.as_ref()?)));
    let Some((key, value)) = found else { return };
    let is_bodiless = |status| matches!(status, 100..=199 | 204 | 304);
    let mut ranges = http.status.0.iter();
    if http.method == "HEAD" {
        let message = format!("{key} is looked for in an answer to HEAD, which has no body");
        problems.error_help(value.span(), message, "method = \"GET\", or only the status");
    } else if !http.status.0.is_empty()
        && ranges.all(|(first, last)| (*first..=*last).all(is_bodiless))
    {
        let message = format!("{key} is looked for in an answer with a status that has no body");
        problems.error_help(value.span(), message, "another `status`, or no body");
    }
}

/// What cannot be said would fail at every check, as if the backend were dead.
fn refuse_unsayable(
    problems: &mut Problems,
    key: &str,
    value: Option<&Spanned<String>>,
    rule: impl Fn(&str) -> Sayable,
) {
    if let Some(value) = value
        && let Err(expected) = rule(value.get_ref())
    {
        let message = format!("{key} `{}` cannot be sent", value.get_ref().escape_debug());
        problems.error_help(value.span(), message, format!("expected {expected}"));
    }
}

fn statuses(problems: &mut Problems, written: Option<&List<String>>) -> Statuses {
    let Some(written) = written else { return Statuses::default() };
    let mut ranges = BTreeSet::new();
    for value in written.get_ref() {
        let text = value.get_ref();
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let code = |text: &str| text.parse().ok().filter(|code| (100..=599).contains(code));
        match (code(first), code(last)) {
            (Some(first), Some(last)) if first <= last => drop(ranges.insert((first, last))),
            _ => {
                let message = format!("status `{text}` is no status code and no range of them");
                problems.error_help(value.span(), message, "for example \"200\" or \"200-299\"");
            }
        }
    }
    if written.get_ref().is_empty() {
        problems.error(written.span(), "no status is good: such a check never passes");
    }
    Statuses(ranges)
}

fn tls(problems: &mut Problems, written: &schema::Check, origin: &Path) -> Tls {
    refuse_unsayable(problems, "sni", written.sni.as_ref(), sayable::name);
    let sni = written.sni.as_ref().map(|value| value.get_ref().clone());
    let named = written.ca_file.as_ref().filter(|value| !value.get_ref().is_empty());
    let ca = named.and_then(|value| {
        let path = origin.parent().unwrap_or(Path::new("")).join(value.get_ref());
        let read = std::fs::read(&path).map_err(|error| format!("cannot be read: {error}"));
        match read.and_then(|pem| certificates(&pem)) {
            Ok(certificates) => Some(Ca { path: value.get_ref().clone(), certificates }),
            Err(reason) => {
                let message = format!("ca_file {}: {reason}", path.display());
                problems.error_help(value.span(), message, "certificates in PEM were expected");
                None
            }
        }
    });
    Tls { sni, ca }
}

fn talk(problems: &mut Problems, written: &schema::Check, origin: &Path) -> Talk {
    let send = bytes(problems, ("send", &written.send), ("send_hex", &written.send_hex));
    let expect = bytes(problems, ("expect", &written.expect), ("expect_hex", &written.expect_hex));
    let send_file = secrets::said(problems, written, origin);
    Talk { send: send.unwrap_or_default(), send_file, expect }
}

type Key<'a> = (&'a str, &'a Maybe<String>);

/// What is written as text or in hexadecimal.
fn bytes(problems: &mut Problems, text: Key<'_>, hex: Key<'_>) -> Option<Vec<u8>> {
    let (written, bytes) = match (text.1, hex.1) {
        (Some(_), Some(value)) => {
            let message = format!("{} and {} say the same twice", text.0, hex.0);
            problems.error_help(value.span(), message, "one of them");
            return None;
        }
        (Some(value), None) => (value, value.get_ref().clone().into_bytes()),
        (None, Some(value)) => {
            let Some(bytes) = of_hex(value.get_ref()) else {
                let message = format!("{} `{}` is not hexadecimal", hex.0, value.get_ref());
                problems.error_help(value.span(), message, "for example \"0d0a\"");
                return None;
            };
            (value, bytes)
        }
        (None, None) => return None,
    };
    if bytes.len() > TALK_MAX {
        problems.error(written.span(), format!("longer than {TALK_MAX} bytes"));
    }
    Some(bytes)
}

fn of_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<char> = text.chars().collect();
    let byte = |pair: &[char]| {
        let [high, low] = pair else { return None };
        let byte = high.to_digit(16)? * 16 + low.to_digit(16)?;
        u8::try_from(byte).ok()
    };
    digits.chunks(2).map(byte).collect()
}

fn dns(problems: &mut Problems, written: &schema::Check) -> Probe {
    let name = written.name.as_ref().map_or(".", |name| name.get_ref());
    if let Some(value) = written.name.as_ref().filter(|_| sayable::domain(name).is_err()) {
        let message = format!("name `{}` is no domain name", name.escape_debug());
        problems.error_help(value.span(), message, "for example \"www.example.com\"");
    }
    let known = RECORDS.map(|(word, _)| word);
    let word = written.record.as_ref().map_or("SOA", |record| record.get_ref());
    let found = RECORDS.iter().find(|(known, _)| *known == word);
    if let Some(value) = written.record.as_ref().filter(|_| found.is_none()) {
        let message = format!("unknown type `{word}`; supported: {}", known.join(", "));
        problems.error(value.span(), message);
    }
    Probe::Dns { name: name.to_owned(), record: found.map_or(6, |(_, number)| *number) }
}

fn command(problems: &mut Problems, written: &schema::Check) -> Option<Vec<String>> {
    let Some(command) = written.command.as_ref() else {
        let message = "a check of kind `script` needs a command";
        let help = "for example `command = [\"/usr/local/bin/check-db\", \"--fast\"]`";
        problems.error_help(written.kind.span(), message, help);
        return None;
    };
    let words: Vec<String> = command.get_ref().iter().map(|it| it.get_ref().clone()).collect();
    if sayable::command(&words).is_err() {
        let is_absolute = words.first().is_some_and(|program| program.starts_with('/'));
        let (message, help) = if is_absolute {
            ("a word of command has a NUL in it", "no program can be given one")
        } else {
            ("command does not begin with the path of a program", "the whole path, from /")
        };
        problems.error_help(command.span(), message, help);
        return None;
    }
    Some(words)
}
