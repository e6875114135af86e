//! The file as it is written: one struct per table, nothing checked but shape and type.
//!
//! Every value carries the bytes it came from ([`Spanned`]), so that the checks in
//! [`super::validate`] can point at it. Three choices follow from that:
//!
//! - numbers are read as `i64` and everything else as text, whatever they become later: a weight
//!   of 70000 is then *our* message with the allowed range, not a remark about `u16`;
//! - `flatten`, untagged and internally tagged enums lose spans, so there are none;
//! - unknown keys are refused by `deny_unknown_fields`, whose answer lists the known ones.
//!
//! The comment of a key is what an editor shows beside it, its range, words and default what the editor goes by
//! ([`super::described`]). So they are written for who writes a file, and tests hold them against what
//! [`super::validate`] takes.
//!
//! A key added here must be added to the sample and to the documentation; a test compares all
//! three.

use std::borrow::Cow;
use std::ops::Range;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Deserialize;

mod check;
mod daemon;
mod port;
mod service;
mod timeouts;

pub(super) use check::Check;
pub(super) use daemon::{Admin, Dpdk, Limits, Metrics, Shunt};
pub(super) use port::{ClientList, Port};
pub(super) use service::{Backend, Health, Service, Tunnel};
pub(super) use timeouts::{TIMEOUT_MAX_S, Timeouts};

/// A value, and which bytes of the text it is.
#[derive(Clone, Debug, Deserialize)]
#[serde(transparent)]
pub(crate) struct Spanned<T>(toml::Spanned<T>);

impl<T> Spanned<T> {
    pub(crate) fn span(&self) -> Range<usize> {
        self.0.span()
    }

    pub(crate) fn get_ref(&self) -> &T {
        self.0.get_ref()
    }
}

/// Where it is written is no part of what may be written.
impl<T: JsonSchema> JsonSchema for Spanned<T> {
    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// A value that may be left out.
pub(crate) type Maybe<T> = Option<Spanned<T>>;
/// A list of values, each with its own place in the file.
pub(crate) type List<T> = Spanned<Vec<Spanned<T>>>;

/// The keys of each table, as written in the file; tests hold them against the structs below.
#[rustfmt::skip]
pub(super) const TABLES: &[(&str, &[&str])] = &[
    ("[shunt]", &["workers", "control_core", "busy_poll", "idle_sleep_us", "admin_socket", "drain_deadline_s",
        "strays", "drop_malformed_tcp", "udp_reflection_ports", "syn_restarts", "reset_on_end",
        "icmp_on_end", "ping", "tunnels_ignore_df", "sloppy", "local_out", "directors", "punt_per_second", "deny"]),
    ("[dpdk]", &["huge_pages", "memory_mb", "file_prefix", "secondary_processes", "eal_arguments", "packet_buffers"]),
    ("[limits]", &["connections", "connections_ipv6", "persistent_clients", "cookie_connections",
        "limited_sources"]),
    ("[metrics]", &["listen"]),
    ("[admin]", &["listen", "certificate_file", "key_file", "token_file"]),
    ("[timeouts]", &Timeouts::KEYS),
    ("[[port]]", &["name", "device", "on", "vlan", "tap", "addresses", "mtu", "rx_descriptors",
        "tx_descriptors", "route"]),
    ("[[port.route]]", &["to", "via"]),
    ("[[list]]", &["name", "networks", "file"]),
    ("[[service]]", &["name", "protocol", "address", "more_addresses", "clients", "mode",
        "tunnel",
        "scheduler", "scheduler_flags", "mh_slots", "local_addresses", "one_packet", "sloppy",
        "client_address", "client_address_from", "persistence_s", "persistence_prefix",
        "persistence_to_drained", "allow", "deny", "syn_cookies", "syn_cookies_wait_for_data",
        "max_connections", "max_new_per_second", "max_new_burst", "source_prefix",
        "source_max_connections", "source_max_new_per_second", "source_max_new_burst",
        "udp_reflection_ports", "timeouts", "health", "check", "backend"]),
    ("[service.timeouts]", &Timeouts::KEYS),
    ("[service.health]", &["quorum", "quorum_hysteresis", "on_failure", "start", "flap_limit",
        "flap_window_s", "slow_start_s", "passive_fall", "passive_rest_s",
        "target"]),
    ("[[service.check]]", CHECK_KEYS),
    ("[service.tunnel]", &["kind", "port", "checksum", "remote_checksum"]),
    ("[[service.backend]]", &["address", "weight", "max_connections", "resume_below",
        "quic_server_id", "mode", "tunnel", "sorry", "check"]),
    ("[service.backend.tunnel]", &["kind", "port", "checksum", "remote_checksum"]),
    ("[[service.backend.check]]", CHECK_KEYS),
];

/// Of a service and of a backend.
#[rustfmt::skip]
const CHECK_KEYS: &[&str] = &["kind", "address", "port", "interval_ms", "fast_interval_ms",
    "jitter_percent", "timeout_ms", "rise", "fall", "method", "path", "host", "status", "body",
    "body_regex", "authorization_file", "sni", "ca_file", "send", "send_hex", "send_file", "expect",
    "expect_hex", "name", "type", "helo", "command"];

/// The configuration of Shunt, a layer-4 load balancer. Every key is explained in docs/configuration.md.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "shunt.toml")]
pub(super) struct File {
    /// Files with more services and lists: patterns like `services/*.toml`, from this file's own folder.
    #[schemars(extend("default" = [] as [&str; 0]))]
    #[expect(
        dead_code,
        reason = "`files` reads it before the files are one; here it is a key that is known"
    )]
    pub(super) include: Option<List<String>>,
    /// The process: its CPUs, and what it does with packets that no service wants.
    pub(super) shunt: Maybe<Shunt>,
    /// Memory, and how DPDK starts.
    #[serde(default)]
    pub(super) dpdk: Dpdk,
    /// Table sizes, reserved at start.
    #[serde(default)]
    pub(super) limits: Limits,
    /// The Prometheus endpoint.
    #[serde(default)]
    pub(super) metrics: Metrics,
    /// The admin API for other machines, over TLS and with a token.
    #[serde(default)]
    pub(super) admin: Admin,
    /// Seconds without a packet after which a connection in that state is forgotten.
    #[serde(default)]
    pub(super) timeouts: Timeouts,
    /// Network ports that DPDK takes over, or VLANs of them.
    #[serde(default)]
    pub(super) port: Vec<Spanned<Port>>,
    /// Networks of clients under a name.
    #[serde(default)]
    pub(super) list: Vec<Spanned<ClientList>>,
    /// What clients connect to, and who serves it.
    #[serde(default)]
    pub(super) service: Vec<Spanned<Service>>,
}
