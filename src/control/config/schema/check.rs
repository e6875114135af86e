//! `[[service.check]]` and `[[service.backend.check]]`: what is asked of backends.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{List, Maybe, Spanned};

/// A check. Keys that a kind gives no meaning are refused by validation.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Check {
    /// What is asked: docs/health-checks.md.
    #[schemars(extend("enum" = ["tcp", "http", "https", "udp", "dns", "smtp", "ping", "script"]))]
    pub(crate) kind: Spanned<String>,
    /// Asked in the backend's place: a management address, for example.
    pub(crate) address: Maybe<String>,
    /// Asked at this port; the backend's if left out.
    #[schemars(range(min = 1, max = 65_535))]
    pub(crate) port: Maybe<i64>,
    /// Milliseconds between the beginnings of two checks.
    #[schemars(range(min = 50, max = 86_400_000), extend("default" = 2000))]
    pub(crate) interval_ms: Maybe<i64>,
    /// The same while the last answer contradicts the verdict: 1000, or `interval_ms` if that is less.
    #[schemars(range(min = 50, max = 86_400_000))]
    pub(crate) fast_interval_ms: Maybe<i64>,
    /// How much of an interval is left to chance, half of it to either side.
    #[schemars(range(min = 0, max = 100), extend("default" = 10))]
    pub(crate) jitter_percent: Maybe<i64>,
    /// An answer that takes longer is none.
    #[schemars(range(min = 1, max = 86_400_000), extend("default" = 2000))]
    pub(crate) timeout_ms: Maybe<i64>,
    /// Successes in a row that bring a backend back.
    #[schemars(range(min = 1, max = 1000), extend("default" = 2))]
    pub(crate) rise: Maybe<i64>,
    /// Failures in a row that take it down.
    #[schemars(range(min = 1, max = 1000), extend("default" = 3))]
    pub(crate) fall: Maybe<i64>,
    /// The request's method. `http` and `https`; `GET` if left out.
    pub(crate) method: Maybe<String>,
    /// What is asked for, from `/`. `http` and `https`; `/` if left out.
    #[schemars(regex(pattern = "^/"))]
    pub(crate) path: Maybe<String>,
    /// The `Host` header; address and port of who is asked if left out. `http` and `https`.
    pub(crate) host: Maybe<String>,
    /// Status codes that are good, and ranges of them. `http` and `https`; `200-299` if left out.
    pub(crate) status: Option<List<String>>,
    /// Must be in the first 64 KiB of the body. `http` and `https`.
    pub(crate) body: Maybe<String>,
    /// A regular expression that must match in the first 64 KiB of the body. `http` and `https`.
    pub(crate) body_regex: Maybe<String>,
    /// A file with the value of the `Authorization` header; not readable by everybody. `http` and `https`.
    pub(crate) authorization_file: Maybe<String>,
    /// The name asked for in TLS, and the one the certificate must have; that of `host` if left out. `https`.
    pub(crate) sni: Maybe<String>,
    /// Who must have signed the certificate, in PEM; any certificate will do without. `https`.
    pub(crate) ca_file: Maybe<String>,
    /// What is said. `tcp` and `udp`.
    pub(crate) send: Maybe<String>,
    /// The same in hexadecimal; not beside `send`.
    #[schemars(regex(pattern = "^([0-9A-Fa-f]{2})*$"))]
    pub(crate) send_hex: Maybe<String>,
    /// A file with what is said, not readable by everybody; not beside `send` and `send_hex`.
    pub(crate) send_file: Maybe<String>,
    /// Must be in the answer; the empty string is any answer. `tcp` and `udp`.
    pub(crate) expect: Maybe<String>,
    /// The same in hexadecimal; not beside `expect`.
    #[schemars(regex(pattern = "^([0-9A-Fa-f]{2})*$"))]
    pub(crate) expect_hex: Maybe<String>,
    /// The domain name asked for. `dns`; `.` if left out.
    pub(crate) name: Maybe<String>,
    /// The record type asked for. `dns`; `SOA` if left out.
    #[serde(rename = "type")]
    #[schemars(extend("enum" = ["A", "NS", "CNAME", "SOA", "PTR", "MX", "TXT", "AAAA", "SRV"]))]
    pub(crate) record: Maybe<String>,
    /// The name given with HELO. `smtp`; `shunt` if left out.
    pub(crate) helo: Maybe<String>,
    /// The path of a program, and arguments: it is run, and good if it ends with 0. `script`.
    #[schemars(length(min = 1))]
    pub(crate) command: Option<List<String>>,
}
