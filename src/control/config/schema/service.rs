//! `[[service]]` and the tables below it, but for checks and timeouts.

use std::collections::BTreeSet;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

use super::{Check, List, Maybe, Spanned, Timeouts};
use crate::dataplane::sched::{Scheduler, Slots};

/// `[[service]]`: what clients connect to.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Service {
    /// Its name in messages, metrics and commands: unique.
    #[schemars(length(min = 1, max = 63))]
    pub(crate) name: Spanned<String>,
    /// What is balanced.
    #[schemars(extend("enum" = ["tcp", "udp", "sctp"]))]
    pub(crate) protocol: Spanned<String>,
    /// VIP and port, like `198.51.100.10:80`; a range, `…:8000-8099`; or all of its ports, `…:0`.
    pub(crate) address: Spanned<String>,
    /// Where else clients find it, in the same family; with a protocol before it, by that one.
    #[schemars(length(max = 1023), extend("default" = [] as [&str; 0]))]
    pub(crate) more_addresses: Option<List<String>>,
    /// Whose service it is: networks, and names of lists. Everybody's if left out.
    #[schemars(length(max = 64), extend("default" = [] as [&str; 0]))]
    pub(crate) clients: Option<List<String>>,
    /// How packets reach the backends that do not say it themselves.
    #[schemars(extend("enum" = ["fullnat", "nat", "dr", "tunnel"], "default" = "fullnat"))]
    pub(crate) mode: Maybe<String>,
    /// What mode `tunnel` puts around packets.
    pub(crate) tunnel: Maybe<Tunnel>,
    /// How a backend is chosen for a new connection: docs/schedulers.md.
    #[schemars(extend("enum" = schedulers(), "default" = "wrr"))]
    pub(crate) scheduler: Maybe<String>,
    /// Variations of the scheduler.
    #[serde(default)]
    #[schemars(schema_with = "flags")]
    pub(crate) scheduler_flags: Option<List<String>>,
    /// Size of the hash table of `mh` and `qh`.
    #[schemars(extend("enum" = Slots::ALL, "default" = 4093))]
    pub(crate) mh_slots: Maybe<i64>,
    /// Source addresses towards the backends in mode `fullnat`: one or more of the family of every one.
    pub(crate) local_addresses: Option<List<String>>,
    /// Every datagram is scheduled by itself. `udp` only.
    #[schemars(extend("default" = false))]
    pub(crate) one_packet: Maybe<bool>,
    /// Packets in the middle of a connection start one; that of `[shunt]` if left out.
    pub(crate) sloppy: Maybe<bool>,
    /// How backends learn the client's address.
    #[schemars(extend("enum" = ["none", "toa", "toa-253", "proxy-v1", "proxy-v2"], "default" = "none"))]
    pub(crate) client_address: Maybe<String>,
    /// Names of lists whose clients bring it themselves.
    #[schemars(extend("default" = [] as [&str; 0]))]
    pub(crate) client_address_from: Option<List<String>>,
    /// Seconds for which a client's connections go to the backend of its last one. Not at all if left out.
    #[schemars(range(min = 20, max = 2_073_600))]
    pub(crate) persistence_s: Maybe<i64>,
    /// Clients that share this many first bits of their address are one client; all bits if left out.
    #[schemars(range(min = 0, max = 128))]
    pub(crate) persistence_prefix: Maybe<i64>,
    /// Clients go on to a backend with weight 0.
    #[schemars(extend("default" = false))]
    pub(crate) persistence_to_drained: Maybe<bool>,
    /// Names of lists: only their clients may start connections. All may if left out.
    #[schemars(extend("default" = [] as [&str; 0]))]
    pub(crate) allow: Option<List<String>>,
    /// Names of lists: their clients may not, whatever `allow` says.
    #[schemars(extend("default" = [] as [&str; 0]))]
    pub(crate) deny: Option<List<String>>,
    /// When SYNs are answered before a backend is asked. `tcp` only.
    #[serde(default)]
    #[schemars(schema_with = "syn_cookies")]
    pub(crate) syn_cookies: Maybe<toml::Value>,
    /// A backend is asked when the client has sent data. With `syn_cookies`.
    #[schemars(extend("default" = false))]
    pub(crate) syn_cookies_wait_for_data: Maybe<bool>,
    /// Most connections of the service; 0 is no limit.
    #[schemars(range(min = 0, max = 4_294_967_295_i64), extend("default" = 0))]
    pub(crate) max_connections: Maybe<i64>,
    /// New connections a second; 0 is no limit.
    #[schemars(range(min = 0, max = 100_000_000), extend("default" = 0))]
    pub(crate) max_new_per_second: Maybe<i64>,
    /// New connections at once, after a while without; a second's worth if left out.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(crate) max_new_burst: Maybe<i64>,
    /// Clients that share this many first bits of their address are one source; 32, or 64 of IPv6, if left out.
    #[schemars(range(min = 1, max = 128))]
    pub(crate) source_prefix: Maybe<i64>,
    /// Most connections of each source; 0 is no limit.
    #[schemars(range(min = 0, max = 4_294_967_295_i64), extend("default" = 0))]
    pub(crate) source_max_connections: Maybe<i64>,
    /// New connections a second of each source; 0 is no limit.
    #[schemars(range(min = 0, max = 100_000_000), extend("default" = 0))]
    pub(crate) source_max_new_per_second: Maybe<i64>,
    /// New connections at once of each source; a second's worth if left out.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub(crate) source_max_new_burst: Maybe<i64>,
    /// Source ports of datagrams that start no flow; as in `[shunt]` if left out. `udp` only.
    #[schemars(length(max = 64), inner(range(min = 1, max = 65_535)))]
    pub(crate) udp_reflection_ports: Option<List<i64>>,
    /// How long its connections may be silent, where not as `[timeouts]` says.
    #[serde(default)]
    pub(crate) timeouts: Timeouts,
    /// How it takes what its checks say.
    #[serde(default)]
    pub(crate) health: Health,
    /// What is asked of each of its backends that has no checks of its own.
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub(crate) check: Vec<Check>,
    /// Who serves it.
    #[serde(default)]
    pub(crate) backend: Vec<Backend>,
}

fn schedulers() -> Vec<&'static str> {
    Scheduler::ALL.iter().map(|scheduler| scheduler.method().name).collect()
}

/// Of all schedulers, each once.
fn flags(_: &mut SchemaGenerator) -> Schema {
    let all = Scheduler::ALL.iter().flat_map(|scheduler| scheduler.method().flags);
    let all: BTreeSet<&str> = all.map(|(name, _)| *name).collect();
    json_schema!({ "type": "array", "items": { "enum": all }, "default": [] })
}

/// A word, or a table of one number, which no type of ours says.
fn syn_cookies(_: &mut SchemaGenerator) -> Schema {
    let rate = serde_json::json!({
        "description": "New connections a second, over all workers, above which cookies are sent.",
        "type": "integer", "minimum": 1, "maximum": 100_000_000
    });
    json_schema!({
        "anyOf": [
            { "enum": ["never", "always"] },
            {
                "type": "object",
                "properties": { "above_per_second": rate },
                "required": ["above_per_second"],
                "additionalProperties": false
            }
        ],
        "default": "never"
    })
}

/// `[service.health]`: how the service takes what its checks say.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Health {
    /// Sum of the weights of backends that are up which makes the service whole.
    #[schemars(range(min = 1, max = 4_294_901_760_i64), extend("default" = 1))]
    pub(crate) quorum: Maybe<i64>,
    /// How far below `quorum` it may fall, and how far above it must come: less than `quorum`.
    #[schemars(range(min = 0), extend("default" = 0))]
    pub(crate) quorum_hysteresis: Maybe<i64>,
    /// What becomes of a backend that is down: its connections end, or it has weight 0 and they live on.
    #[schemars(extend("enum" = ["remove", "drain"], "default" = "remove"))]
    pub(crate) on_failure: Maybe<String>,
    /// What a backend is before its first check.
    #[schemars(extend("enum" = ["up", "down"], "default" = "up"))]
    pub(crate) start: Maybe<String>,
    /// A backend that goes down so often within `flap_window_s` stays down for as long; 0 is never.
    #[schemars(range(min = 0, max = 1000), extend("default" = 0))]
    pub(crate) flap_limit: Maybe<i64>,
    /// See `flap_limit`, in seconds.
    #[schemars(range(min = 1, max = 86_400), extend("default" = 60))]
    pub(crate) flap_window_s: Maybe<i64>,
    /// Seconds in which a backend that has come back gets its whole share.
    #[schemars(range(min = 0, max = 86_400), extend("default" = 0))]
    pub(crate) slow_start_s: Maybe<i64>,
    /// So many connections in a row that a backend leaves without an answer take it down; 0 is never.
    #[schemars(range(min = 0, max = 1000), extend("default" = 0))]
    pub(crate) passive_fall: Maybe<i64>,
    /// Seconds it then rests before it gets connections again.
    #[schemars(range(min = 1, max = 86_400), extend("default" = 30))]
    pub(crate) passive_rest_s: Maybe<i64>,
    /// Where checks ask a backend: at its own address, or at the VIP, as clients do.
    #[schemars(extend("enum" = ["backend", "vip"], "default" = "backend"))]
    pub(crate) target: Maybe<String>,
}

/// `[[service.backend]]`: who serves it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Backend {
    /// Address and port, like `10.44.0.11:8080`. Port 0 is the port the client asked for.
    pub(crate) address: Spanned<String>,
    /// Share of new connections. 0 drains: no new ones, existing ones live.
    #[schemars(range(min = 0, max = 65_535), extend("default" = 1))]
    pub(crate) weight: Maybe<i64>,
    /// Most connections over all workers; 0 is no limit.
    #[schemars(range(min = 0, max = 4_294_967_295_i64), extend("default" = 0))]
    pub(crate) max_connections: Maybe<i64>,
    /// A full backend gets new ones when it has fewer than these; 0 is three quarters of `max_connections`.
    #[schemars(range(min = 0, max = 4_294_967_295_i64), extend("default" = 0))]
    pub(crate) resume_below: Maybe<i64>,
    /// What it writes into QUIC connection ids, in hexadecimal. With scheduler `qh`.
    pub(crate) quic_server_id: Maybe<String>,
    /// How packets reach this backend; as the service says if left out.
    #[schemars(extend("enum" = ["fullnat", "nat", "dr", "tunnel"]))]
    pub(crate) mode: Maybe<String>,
    /// What mode `tunnel` puts around packets for this backend, in the place of the service's table.
    pub(crate) tunnel: Maybe<Tunnel>,
    /// It serves only while the quorum is lost, and is not checked.
    #[schemars(extend("default" = false))]
    pub(crate) sorry: Maybe<bool>,
    /// Checks of this backend, in the place of all of the service's.
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub(crate) check: Vec<Check>,
}

/// `[service.tunnel]` and `[service.backend.tunnel]`: what mode `tunnel` puts around packets.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tunnel {
    /// IP in IP, generic UDP encapsulation, or GRE.
    #[schemars(extend("enum" = ["ipip", "gue", "gre"], "default" = "ipip"))]
    pub(crate) kind: Maybe<String>,
    /// UDP port the backends listen at, usually 6080. Only with `gue`, and required there.
    #[schemars(range(min = 1, max = 65_535))]
    pub(crate) port: Maybe<i64>,
    /// Compute the outer UDP or the GRE checksum. Only with `gue` and `gre`.
    #[schemars(extend("default" = false))]
    pub(crate) checksum: Maybe<bool>,
    /// Compute the outer UDP checksum and leave the inner one to the receiver. Only with `gue`.
    #[schemars(extend("default" = false))]
    pub(crate) remote_checksum: Maybe<bool>,
}
