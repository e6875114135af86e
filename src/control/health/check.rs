//! What one check of a backend is: what is asked, of whom, how often, and what its answers count for.
//!
//! ```text
//!   due            due + interval                   (± jitter, so that checks of one service do not beat in step)
//!    │ ask ─────► │ ask ─► ...
//!    └─ timeout ─┘
//!   interval        as long as answers agree with the verdict
//!   fast_interval   while they do not: one failure of a backend that is up, one success of one that is down
//! ```
//!
//! It is part of the plan, so it has values and no behaviour: two are equal if they are written alike (or read the
//! same certificates), and a reload leaves the ones that are equal at what they do.

use std::collections::BTreeSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use serde::Serialize;

use crate::control::secret::Secret;

/// Record types of DNS by name (RFC 1035, 2782, 3596).
pub const RECORDS: [(&str, u16); 9] = [
    ("A", 1),
    ("NS", 2),
    ("CNAME", 5),
    ("SOA", 6),
    ("PTR", 12),
    ("MX", 15),
    ("TXT", 16),
    ("AAAA", 28),
    ("SRV", 33),
];

/// One check. All checks of a backend must pass.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What is asked.
    #[serde(flatten)]
    pub probe: Probe,
    /// Asked in the backend's place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// Asked at this port, not the backend's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Between the beginnings of two.
    pub interval_ms: u32,
    /// The same while answers contradict the verdict.
    pub fast_interval_ms: u32,
    /// How much of an interval is left to chance.
    pub jitter_percent: u32,
    /// An answer later than this is none.
    pub timeout_ms: u32,
    /// Successes in a row that make up of down.
    pub rise: u32,
    /// Failures in a row that make down of up.
    pub fall: u32,
}

impl Check {
    /// Whom it asks about that backend.
    pub fn target(&self, backend: SocketAddr) -> SocketAddr {
        let address = self.address.unwrap_or(backend.ip());
        SocketAddr::new(address, self.port.unwrap_or(backend.port()))
    }
}

/// For lists and log lines: what tells a service's checks apart as a rule.
impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.probe.kind())?;
        match &self.probe {
            Probe::Http(http) => write!(f, " {} {}", http.method, http.path)?,
            Probe::Dns { name, .. } => write!(f, " {name}")?,
            Probe::Script { command } => write!(f, " {}", command.first().map_or("", |it| it))?,
            Probe::Tcp(_) | Probe::Udp(_) | Probe::Smtp { .. } | Probe::Ping => {}
        }
        self.port.map_or(Ok(()), |port| write!(f, " port {port}"))
    }
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Probe {
    /// Does it take a connection, and say what is expected?
    Tcp(Talk),
    /// Does it answer a request as expected? HTTPS if there is `tls`.
    Http(Http),
    /// Does it answer a datagram, or at least not say that nobody is there?
    Udp(Talk),
    /// Does it answer a question without an error?
    Dns {
        /// The name asked for.
        name: String,
        /// The record type's number.
        record: u16,
    },
    /// Does it greet, and answer HELO and QUIT?
    Smtp {
        /// The name we give ourselves.
        helo: String,
    },
    /// Does it answer an echo request?
    Ping,
    /// Does this program end well?
    Script {
        /// The program and its arguments.
        command: Vec<String>,
    },
}

impl Probe {
    /// Its word in the file.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Tcp(_) => "tcp",
            Self::Http(http) if http.tls.is_some() => "https",
            Self::Http(_) => "http",
            Self::Udp(_) => "udp",
            Self::Dns { .. } => "dns",
            Self::Smtp { .. } => "smtp",
            Self::Ping => "ping",
            Self::Script { .. } => "script",
        }
    }

    /// Is it asked at a port?
    pub fn has_port(&self) -> bool {
        !matches!(self, Self::Ping | Self::Script { .. })
    }
}

/// What is said, and what is expected in the answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Talk {
    /// Sent as it is.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub send: Vec<u8>,
    /// Sent in its place, and shown to nobody.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub send_file: Option<Secret>,
    /// Somewhere in what comes back; `None` if nothing need come back. Empty for anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expect: Option<Vec<u8>>,
}

impl Talk {
    /// What is said.
    pub fn said(&self) -> &[u8] {
        self.send_file.as_ref().map_or(&self.send, |secret| &secret.bytes)
    }
}

/// A request, and which answers are good.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Http {
    /// The method.
    pub method: String,
    /// What is asked for.
    pub path: String,
    /// The Host header, if not the backend's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The Authorization header, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authorization_file: Option<Secret>,
    /// Status codes that are good.
    pub status: Statuses,
    /// What must be in the body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// What the body must match.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_regex: Option<String>,
    /// HTTPS, and how.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
}

impl Http {
    /// The name the certificate is asked for, if any: `sni`, or the host without its port.
    pub fn certificate_name(&self) -> Option<&str> {
        let host = || Some(without_port(self.host.as_deref()?));
        self.tls.as_ref()?.sni.as_deref().or_else(host)
    }
}

/// A host as HTTP has it, without its port.
pub fn without_port(host: &str) -> &str {
    let (host, end) = host.strip_prefix('[').map_or((host, ':'), |rest| (rest, ']'));
    host.split(end).next().unwrap_or(host)
}

/// How HTTPS is spoken.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize)]
pub struct Tls {
    /// The name the certificate is asked for (SNI) and must have, if not that of `host`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sni: Option<String>,
    /// Who must have signed the certificate; anybody, if `None`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<Ca>,
}

/// Certificates of authorities, as they were in the file when it was read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ca {
    /// The file.
    pub path: String,
    /// DER.
    pub certificates: Arc<[Vec<u8>]>,
}

/// With a number that changes with the certificates, so that a difference shows.
impl fmt::Display for Ca {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut hasher = std::hash::DefaultHasher::new();
        self.certificates.hash(&mut hasher);
        write!(f, "{} #{:016x}", self.path, hasher.finish())
    }
}

impl Serialize for Ca {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Status codes: ranges, first and last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statuses(pub BTreeSet<(u16, u16)>);

impl Default for Statuses {
    /// What keepalived takes.
    fn default() -> Self {
        Self(BTreeSet::from([(200, 299)]))
    }
}

impl Statuses {
    /// Is it one of them?
    pub fn contain(&self, status: u16) -> bool {
        self.0.iter().any(|(first, last)| (*first..=*last).contains(&status))
    }
}

impl Statuses {
    /// Codes and ranges, as they are written.
    pub fn words(&self) -> Vec<String> {
        let text = |(first, last): &(u16, u16)| {
            if first == last { first.to_string() } else { format!("{first}-{last}") }
        };
        self.0.iter().map(text).collect()
    }
}

impl Serialize for Statuses {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.words())
    }
}

/// How a service takes what its checks say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Policy {
    /// Sum of the weights of those that are up that makes the service whole.
    pub quorum: u32,
    /// How far below it may fall, and how far above it must come, before that changes.
    pub hysteresis: u32,
    /// What becomes of a backend that is down.
    pub on_failure: OnFailure,
    /// Is a backend up before its first check?
    pub starts_up: bool,
    /// So many times down within [`Policy::flap_window_s`], and it stays down for a while; 0 for never.
    pub flap_limit: u32,
    /// See there. Also how long its checks must pass then.
    pub flap_window_s: u32,
    /// How long a backend that has come back takes to get its whole share; 0 for none.
    pub slow_start_s: u32,
    /// So many connections in a row that a backend leaves without an answer take it down; 0 for never.
    pub passive_fall: u32,
    /// How long it then rests before it is tried again.
    pub passive_rest_s: u32,
    /// Where its backends are asked.
    pub target: Target,
}

impl Policy {
    /// Is this check of a backend asked at the service's VIP? Not one that asks somebody else, and not one
    /// that knows no ports.
    pub fn asks_vip(&self, check: &Check) -> bool {
        self.target == Target::Vip && check.address.is_none() && check.probe.has_port()
    }
}

/// Where backends are asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// At their own addresses.
    #[default]
    Backend,
    /// At the service's VIP, as clients ask: each by what is sent to it and nobody else.
    Vip,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            quorum: 1,
            hysteresis: 0,
            on_failure: OnFailure::Remove,
            starts_up: true,
            flap_limit: 0,
            flap_window_s: 60,
            slow_start_s: 0,
            passive_fall: 0,
            passive_rest_s: 30,
            target: Target::Backend,
        }
    }
}

/// What becomes of a backend that is down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// Its connections end, and both ends are told.
    #[default]
    Remove,
    /// Weight 0: its connections live on.
    Drain,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_good_if_it_is_in_one_of_the_ranges() {
        let statuses = Statuses(BTreeSet::from([(200, 204), (301, 301)]));
        let table = [(199, false), (200, true), (204, true), (205, false), (301, true)];
        for (status, expected) in table {
            assert_eq!(statuses.contain(status), expected, "{status}");
        }
    }

    #[test]
    fn a_certificate_is_asked_for_by_the_hosts_name_without_its_port() {
        let table = [
            (None, None, None),
            (Some("h"), None, Some("h")),
            (Some("h:8443"), None, Some("h")),
            (Some("[2001:db8::1]:8443"), None, Some("2001:db8::1")),
            (Some("[2001:db8::1]"), None, Some("2001:db8::1")),
            (Some("h:8443"), Some("s"), Some("s")),
            (None, Some("s"), Some("s")),
        ];
        for (host, sni, expected) in table {
            let http = Http {
                authorization_file: None,
                method: "GET".into(),
                path: "/".into(),
                host: host.map(Into::into),
                status: Statuses::default(),
                body: None,
                body_regex: None,
                tls: Some(Tls { sni: sni.map(Into::into), ca: None }),
            };
            assert_eq!(http.certificate_name(), expected, "{host:?} {sni:?}");
        }
    }

    #[test]
    fn certificates_that_were_replaced_are_a_difference_that_shows() {
        let ca = |bytes: &[u8]| Ca { path: "/ca.pem".into(), certificates: [bytes.into()].into() };
        let text = |ca: &Ca| serde_json::to_string(ca).unwrap();
        assert_eq!(text(&ca(b"one")), text(&ca(b"one")));
        assert_ne!(text(&ca(b"one")), text(&ca(b"two")));
    }
}
