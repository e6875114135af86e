//! What the admin socket says, as types both ends share: `shuntd` writes them, `shunt` reads them.
//! Units are in the names; addresses are text as `ip` prints them.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

pub use crate::control::config::mode::{Spelled, SpelledTunnel};
pub use crate::stats::slow::{ReloadResult, StaticFacts};

/// `GET /status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// What is fixed at start.
    #[serde(flatten)]
    pub facts: StaticFacts,
    /// Since the start.
    pub uptime_s: u64,
    /// The configuration file.
    pub file: String,
    /// Generation last published.
    pub generation: u64,
    /// False while draining.
    pub accepting: bool,
    /// Connections in all tables.
    pub connections: u64,
    /// By worker.
    pub workers: Vec<Worker>,
    /// By port.
    pub ports: Vec<Port>,
    /// Refused packets; reasons that never occurred are left out.
    pub drops: Vec<Drops>,
    /// How backends are reached.
    pub next_hops: NextHops,
    /// How the last reload went; `None` before the first.
    pub last_reload: Option<LastReload>,
}

/// `POST /clear`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cleared {
    /// Connections that ended.
    pub connections: u64,
}

/// One worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Worker {
    /// Its number.
    pub id: u8,
    /// Its CPU.
    pub core: usize,
    /// Share of the last second spent in polls that moved packets, 0 to 1.
    pub busy: f64,
    /// Connections in its table.
    pub connections: u64,
    /// Generation of the snapshot it uses.
    pub generation: u64,
    /// It is seen not to move.
    pub stalled: bool,
}

/// One port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// Its name.
    pub name: String,
    /// Its link-layer address.
    pub mac: String,
    /// Its TAP.
    pub tap: String,
    /// Is it there and up?
    pub tap_up: bool,
    /// Frames received.
    pub rx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Frames sent.
    pub tx_packets: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Frames given to the kernel.
    pub to_kernel_packets: u64,
    /// Frames the kernel sent.
    pub from_kernel_packets: u64,
    /// Frames lost between the port and the kernel, both ways.
    pub tap_dropped_packets: u64,
}

/// Packets refused for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drops {
    /// The metric's label.
    pub reason: String,
    /// What it means.
    pub meaning: String,
    /// How many.
    pub packets: u64,
}

/// How backends are reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NextHops {
    /// Addresses with a next hop.
    pub resolved: usize,
    /// Addresses whose next hop does not answer.
    pub unanswered: Vec<IpAddr>,
    /// Addresses without a route through one of the ports.
    pub unrouted: Vec<IpAddr>,
}

/// How the last reload went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastReload {
    /// Unix time.
    pub at_s: u64,
    /// The outcome.
    pub result: ReloadResult,
    /// One sentence, or the message about the file.
    pub message: String,
}

/// `GET /services`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Services {
    /// By id; removed ones last as long as they have connections.
    pub services: Vec<Service>,
}

/// One service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
    /// Where clients find it, as in the file: VIP and port, or a range of ports, or 0 for all.
    pub address: String,
    /// Where else, with the protocol if it is another one; none once removed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub more_addresses: Vec<String>,
    /// Whose it is, networks and names of lists; none if everybody's, or once removed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clients: Vec<String>,
    /// How backends are chosen; empty for a removed service.
    pub scheduler: String,
    /// The scheduler's flags, as in the file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scheduler_flags: Vec<String>,
    /// Gone from the configuration.
    pub removed: bool,
    /// Connections now.
    pub connections: u64,
    /// Connections made.
    pub new_connections: u64,
    /// New connections refused.
    pub refused: u64,
    /// Why; reasons that never occurred are left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refusals: Vec<Refusal>,
    /// Its backends.
    pub backends: Vec<Backend>,
}

/// New connections of a service refused for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// As in `GET /status`.
    pub reason: String,
    /// How many.
    pub connections: u64,
}

/// One backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backend {
    /// Address and port.
    pub address: SocketAddr,
    /// Its weight; 0 drains; `None` once removed.
    pub weight: Option<u32>,
    /// Most connections; 0 is no limit.
    #[serde(default)]
    pub max_connections: u32,
    /// A full backend takes new ones below this; 0 is three quarters.
    #[serde(default)]
    pub resume_below: u32,
    /// How packets of new connections reach it, as in the file: `mode` and `tunnel`. `None` once
    /// removed.
    #[serde(flatten)]
    pub forward: Option<Spelled>,
    /// Is its next hop known?
    pub reachable: bool,
    /// Connections now.
    pub connections: u64,
    /// Those that schedulers count as active.
    #[serde(default)]
    pub active_connections: u64,
    /// Connections made.
    pub new_connections: u64,
}

/// `GET /connections`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connections {
    /// Up to the limit asked for.
    pub connections: Vec<Connection>,
    /// Where to go on; `None` at the end.
    pub next: Option<String>,
}

/// One connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
    /// IPVS's name of the state.
    pub state: String,
    /// The client.
    pub client: SocketAddr,
    /// VIP and port it was made to.
    pub vip: SocketAddr,
    /// What the backend sees.
    pub local: SocketAddr,
    /// The backend.
    pub backend: SocketAddr,
    /// The service's name.
    pub service: String,
    /// Its owner.
    pub worker: u8,
    /// Since its last packet.
    pub idle_ms: u32,
    /// Until it is forgotten if no packet comes.
    pub expires_ms: u32,
}

/// `POST /reload`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reload {
    /// The outcome.
    pub result: ReloadResult,
    /// One sentence, or the message about the file.
    pub message: String,
    /// What changed (or would have), one line each.
    pub changes: Vec<String>,
}

/// The body of every error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// A sentence.
    pub error: String,
}

/// The text a value is spelled with in JSON: one spelling for listings and programs.
pub fn spelled(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(text)) => text,
        Ok(other) => other.to_string(),
        Err(_) => String::new(),
    }
}
