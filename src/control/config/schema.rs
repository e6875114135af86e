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
//! A key added here must be added to the sample and to the documentation; a test compares all
//! three.

use serde::Deserialize;
use toml::Spanned;

use crate::dataplane::snapshot;

/// A value that may be left out.
pub(super) type Maybe<T> = Option<Spanned<T>>;
/// A list of values, each with its own place in the file.
pub(super) type List<T> = Spanned<Vec<Spanned<T>>>;

/// The keys of each table, as written in the file; tests hold them against the structs below.
#[rustfmt::skip]
pub(super) const TABLES: &[(&str, &[&str])] = &[
    ("[shunt]", &["workers", "control_core", "busy_poll", "admin_socket", "drain_deadline_s",
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
    "body_regex", "sni", "ca_file", "send", "send_hex", "expect", "expect_hex", "name", "type",
    "helo", "command"];

/// The whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) shunt: Maybe<Shunt>,
    #[serde(default)]
    pub(super) dpdk: Dpdk,
    #[serde(default)]
    pub(super) limits: Limits,
    #[serde(default)]
    pub(super) metrics: Metrics,
    #[serde(default)]
    pub(super) admin: Admin,
    #[serde(default)]
    pub(super) timeouts: Timeouts,
    #[serde(default)]
    pub(super) port: Vec<Spanned<Port>>,
    #[serde(default)]
    pub(super) list: Vec<Spanned<ClientList>>,
    #[serde(default)]
    pub(super) service: Vec<Spanned<Service>>,
}

/// `[shunt]`: the process.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Shunt {
    pub(super) workers: Option<List<i64>>,
    pub(super) control_core: Maybe<i64>,
    pub(super) busy_poll: Maybe<bool>,
    pub(super) admin_socket: Maybe<String>,
    pub(super) drain_deadline_s: Maybe<i64>,
    pub(super) strays: Maybe<String>,
    pub(super) drop_malformed_tcp: Maybe<bool>,
    pub(super) udp_reflection_ports: Option<List<i64>>,
    pub(super) syn_restarts: Maybe<String>,
    pub(super) reset_on_end: Maybe<bool>,
    pub(super) icmp_on_end: Maybe<String>,
    pub(super) ping: Maybe<String>,
    pub(super) tunnels_ignore_df: Maybe<bool>,
    pub(super) sloppy: Maybe<bool>,
    pub(super) local_out: Maybe<bool>,
    pub(super) directors: Option<List<String>>,
    pub(super) punt_per_second: Maybe<i64>,
    pub(super) deny: Option<List<String>>,
}

/// `[dpdk]`: memory and EAL.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Dpdk {
    pub(super) huge_pages: Maybe<String>,
    pub(super) memory_mb: Maybe<i64>,
    pub(super) file_prefix: Maybe<String>,
    pub(super) secondary_processes: Maybe<bool>,
    pub(super) eal_arguments: Option<List<String>>,
    pub(super) packet_buffers: Maybe<i64>,
}

/// `[limits]`: table sizes reserved at start.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Limits {
    pub(super) connections: Maybe<i64>,
    pub(super) connections_ipv6: Maybe<i64>,
    pub(super) persistent_clients: Maybe<i64>,
    pub(super) cookie_connections: Maybe<i64>,
    pub(super) limited_sources: Maybe<i64>,
}

/// `[metrics]`: the Prometheus endpoint.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Metrics {
    pub(super) listen: Maybe<String>,
}

/// `[admin]`: the admin API beyond the machine.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Admin {
    pub(super) listen: Maybe<String>,
    pub(super) certificate_file: Maybe<String>,
    pub(super) key_file: Maybe<String>,
    pub(super) token_file: Maybe<String>,
}

/// The keys are listed once more, for the reader of the file, in the order it names them.
macro_rules! timeouts {
    ($($key:ident)*) => {
        /// `[timeouts]` and `[service.timeouts]`: seconds of silence by connection state.
        #[derive(Debug, Default, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub(super) struct Timeouts {
            $(pub(super) $key: Maybe<i64>,)*
        }

        impl Timeouts {
            /// Their names.
            const KEYS: [&'static str; snapshot::Timeouts::KEYS.len()] = [$(stringify!($key),)*];

            /// What is written, by name.
            pub(super) fn written(&self) -> impl Iterator<Item = (&'static str, &Spanned<i64>)> {
                let all = [$((stringify!($key), self.$key.as_ref()),)*];
                all.into_iter().filter_map(|(key, value)| Some((key, value?)))
            }
        }
    };
}

timeouts! {
    tcp_established_s tcp_syn_sent_s tcp_syn_recv_s tcp_fin_wait_s tcp_time_wait_s tcp_close_s
    tcp_close_wait_s tcp_last_ack_s tcp_listen_s tcp_synack_s tcp_none_s udp_s one_packet_s
    sctp_none_s sctp_init1_s sctp_init_s sctp_cookie_sent_s sctp_cookie_replied_s
    sctp_cookie_wait_s sctp_cookie_s sctp_cookie_echoed_s sctp_established_s
    sctp_shutdown_sent_s sctp_shutdown_received_s sctp_shutdown_ack_sent_s sctp_rejected_s
    sctp_closed_s
}

/// `[[port]]`: a network port and its TAP twin.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Port {
    pub(super) name: Spanned<String>,
    pub(super) device: Maybe<String>,
    pub(super) on: Maybe<String>,
    /// One number or two, which no type of ours says; its list has one place for all.
    pub(super) vlan: Maybe<toml::Value>,
    pub(super) tap: Maybe<String>,
    pub(super) addresses: Option<List<String>>,
    pub(super) mtu: Maybe<i64>,
    pub(super) rx_descriptors: Maybe<i64>,
    pub(super) tx_descriptors: Maybe<i64>,
    #[serde(default)]
    pub(super) route: Vec<Route>,
}

/// `[[port.route]]`: a route through the port's TAP.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Route {
    pub(super) to: Spanned<String>,
    pub(super) via: Spanned<String>,
}

/// `[[list]]`: networks of clients, for `allow` and `deny`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ClientList {
    pub(super) name: Spanned<String>,
    pub(super) networks: Option<List<String>>,
    pub(super) file: Maybe<String>,
}

/// `[[service]]`: what clients connect to.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Service {
    pub(super) name: Spanned<String>,
    pub(super) protocol: Spanned<String>,
    pub(super) address: Spanned<String>,
    pub(super) more_addresses: Option<List<String>>,
    pub(super) clients: Option<List<String>>,
    pub(super) mode: Maybe<String>,
    pub(super) tunnel: Maybe<Tunnel>,
    pub(super) scheduler: Maybe<String>,
    pub(super) scheduler_flags: Option<List<String>>,
    pub(super) mh_slots: Maybe<i64>,
    pub(super) local_addresses: Option<List<String>>,
    pub(super) one_packet: Maybe<bool>,
    pub(super) sloppy: Maybe<bool>,
    pub(super) client_address: Maybe<String>,
    pub(super) client_address_from: Option<List<String>>,
    pub(super) persistence_s: Maybe<i64>,
    pub(super) persistence_prefix: Maybe<i64>,
    pub(super) persistence_to_drained: Maybe<bool>,
    pub(super) allow: Option<List<String>>,
    pub(super) deny: Option<List<String>>,
    /// A word, or a table of one number, which no type of ours says.
    pub(super) syn_cookies: Maybe<toml::Value>,
    pub(super) syn_cookies_wait_for_data: Maybe<bool>,
    pub(super) max_connections: Maybe<i64>,
    pub(super) max_new_per_second: Maybe<i64>,
    pub(super) max_new_burst: Maybe<i64>,
    pub(super) source_prefix: Maybe<i64>,
    pub(super) source_max_connections: Maybe<i64>,
    pub(super) source_max_new_per_second: Maybe<i64>,
    pub(super) source_max_new_burst: Maybe<i64>,
    pub(super) udp_reflection_ports: Option<List<i64>>,
    #[serde(default)]
    pub(super) timeouts: Timeouts,
    #[serde(default)]
    pub(super) health: Health,
    #[serde(default)]
    pub(super) check: Vec<Check>,
    #[serde(default)]
    pub(super) backend: Vec<Backend>,
}

/// `[service.health]`: how the service takes what its checks say.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Health {
    pub(super) quorum: Maybe<i64>,
    pub(super) quorum_hysteresis: Maybe<i64>,
    pub(super) on_failure: Maybe<String>,
    pub(super) start: Maybe<String>,
    pub(super) flap_limit: Maybe<i64>,
    pub(super) flap_window_s: Maybe<i64>,
    pub(super) slow_start_s: Maybe<i64>,
    pub(super) passive_fall: Maybe<i64>,
    pub(super) passive_rest_s: Maybe<i64>,
    pub(super) target: Maybe<String>,
}

/// `[[service.check]]` and `[[service.backend.check]]`: what is asked of backends.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Check {
    pub(super) kind: Spanned<String>,
    pub(super) address: Maybe<String>,
    pub(super) port: Maybe<i64>,
    pub(super) interval_ms: Maybe<i64>,
    pub(super) fast_interval_ms: Maybe<i64>,
    pub(super) jitter_percent: Maybe<i64>,
    pub(super) timeout_ms: Maybe<i64>,
    pub(super) rise: Maybe<i64>,
    pub(super) fall: Maybe<i64>,
    pub(super) method: Maybe<String>,
    pub(super) path: Maybe<String>,
    pub(super) host: Maybe<String>,
    pub(super) status: Option<List<String>>,
    pub(super) body: Maybe<String>,
    pub(super) body_regex: Maybe<String>,
    pub(super) sni: Maybe<String>,
    pub(super) ca_file: Maybe<String>,
    pub(super) send: Maybe<String>,
    pub(super) send_hex: Maybe<String>,
    pub(super) expect: Maybe<String>,
    pub(super) expect_hex: Maybe<String>,
    pub(super) name: Maybe<String>,
    #[serde(rename = "type")]
    pub(super) record: Maybe<String>,
    pub(super) helo: Maybe<String>,
    pub(super) command: Option<List<String>>,
}

/// `[[service.backend]]`: who serves it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Backend {
    pub(super) address: Spanned<String>,
    pub(super) weight: Maybe<i64>,
    pub(super) max_connections: Maybe<i64>,
    pub(super) resume_below: Maybe<i64>,
    pub(super) quic_server_id: Maybe<String>,
    pub(super) mode: Maybe<String>,
    pub(super) tunnel: Maybe<Tunnel>,
    pub(super) sorry: Maybe<bool>,
    #[serde(default)]
    pub(super) check: Vec<Check>,
}

/// `[service.tunnel]` and `[service.backend.tunnel]`: what mode `tunnel` puts around packets.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tunnel {
    pub(super) kind: Maybe<String>,
    pub(super) port: Maybe<i64>,
    pub(super) checksum: Maybe<bool>,
    pub(super) remote_checksum: Maybe<bool>,
}
