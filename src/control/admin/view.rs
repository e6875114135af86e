//! What the admin socket says, as types both ends share: `shuntd` writes them, `shunt` reads them.
//! Units are in the names; addresses are text as `ip` prints them.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::hand::{ByHand, Hand, Handed};
pub use crate::control::config::files::{File, Files};
pub use crate::control::config::mode::{Spelled, SpelledTunnel};
use crate::control::edit::Edit;
pub use crate::control::health::view::{BackendHealth, Quorum};
pub use crate::stats::devices::Losses;
pub use crate::stats::latency::Summary as Latency;
pub use crate::stats::slow::{ReloadResult, StaticFacts};
pub use crate::stats::volumes::Volumes;

pub mod flow;
pub mod hand;

/// `GET /status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Cleared {
    /// Connections that ended.
    pub connections: u64,
}

/// One worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
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
    /// From receiving a packet to sending it, of those sampled since the start; `None` before the first.
    #[serde(default)]
    pub latency: Option<Latency>,
}

/// One port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Port {
    /// Its name.
    pub name: String,
    /// Its device, as the file names it; `None` of a port that is some tags of another's.
    #[serde(default)]
    pub device: Option<String>,
    /// Its link-layer address.
    pub mac: String,
    /// What its device lost by itself, where its driver counts it; `None` without a device.
    #[serde(default)]
    pub lost: Option<Losses>,
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Drops {
    /// The metric's label.
    pub reason: String,
    /// What it means.
    pub meaning: String,
    /// How many.
    pub packets: u64,
}

/// How backends are reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NextHops {
    /// Addresses with a next hop.
    pub resolved: usize,
    /// Addresses whose next hop does not answer.
    pub unanswered: Vec<IpAddr>,
    /// Addresses without a route through one of the ports.
    pub unrouted: Vec<IpAddr>,
}

/// How the last reload went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LastReload {
    /// Unix time.
    pub at_s: u64,
    /// The outcome.
    pub result: ReloadResult,
    /// One sentence, or the message about the file.
    pub message: String,
}

/// `GET /drift`: how what runs differs from the file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Drift {
    /// Of the running configuration.
    pub version: u64,
    /// The file.
    pub file: String,
    /// One line each, from the file to what runs.
    pub changes: Vec<String>,
    /// Backends that are drained or weighed beside it: neither saved nor undone by a reload.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub by_hand: Vec<Handed>,
    /// What the files say by now; only if that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_disk: Option<OnDisk>,
}

/// What files say that was not in them when they were read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OnDisk {
    /// One line each, of the file, those it includes and those it names: what a reload would bring.
    pub unread: Vec<String>,
    /// One line each, of those alone that what runs names: secrets, lists of clients, certificates.
    pub named: Vec<String>,
    /// Why the file cannot be used any more.
    pub unusable: Option<String>,
}

/// `GET /config`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Running {
    /// Grows with every change.
    pub version: u64,
    /// The file.
    pub file: String,
    /// What runs, as `shunt save` would write it.
    pub text: String,
    /// The files it includes, as they were read last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub included: Vec<Included>,
    /// `[timeouts]`, defaults included.
    pub timeouts: BTreeMap<String, u32>,
}

/// A file that the configuration includes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Included {
    /// The file.
    pub file: String,
    /// What it says.
    pub text: String,
    /// How many services are in it.
    pub services: usize,
}

impl From<&File> for Included {
    fn from(file: &File) -> Self {
        let File { path, text, services } = file;
        Self { file: path.display().to_string(), text: text.clone(), services: *services }
    }
}

impl From<&Running> for Files {
    fn from(running: &Running) -> Self {
        let file = |it: &Included| File {
            path: (&it.file).into(),
            text: it.text.clone(),
            services: it.services,
        };
        let included = running.included.iter().map(file).collect();
        Self { path: (&running.file).into(), text: running.text.clone(), included }
    }
}

/// The body of `POST /edit`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Edits {
    /// Refuse if the running configuration is at another version by now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// All of them in order, or none.
    pub edits: Vec<Edit>,
}

/// Its answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Edited {
    /// Of the running configuration now.
    pub version: u64,
    /// One line each.
    pub changes: Vec<String>,
}

/// Its refusal: nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct EditFailure {
    /// A sentence, or the messages about the configuration that would be.
    pub error: String,
    /// For programs.
    pub kind: EditKind,
}

/// Why an edit was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EditKind {
    /// There is no such service.
    NoService,
    /// There is one.
    ServiceExists,
    /// There is no such backend, or local address.
    NoBackend,
    /// There is one.
    BackendExists,
    /// The file could not say so.
    Invalid,
    /// It was meant for another version of the configuration: somebody else was faster.
    Stale,
    /// Not now, or not without a restart.
    Refused,
}

/// `POST /save`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Saved {
    /// The file.
    pub file: String,
    /// What it says now and did not before, one line each.
    pub changes: Vec<String>,
}

/// `POST /zero`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Zeroed {
    /// Services whose figures begin anew.
    pub services: usize,
}

/// How long a client stays with its backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Persistence {
    /// Seconds.
    pub timeout_s: u32,
    /// First bits of its address that count.
    pub prefix: u8,
}

/// `GET /services`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Services {
    /// By id; removed ones last as long as they have connections.
    pub services: Vec<Service>,
}

/// One service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
    /// Is every datagram scheduled by itself?
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub one_packet: bool,
    /// Do a client's connections go to one backend?
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistence: Option<Persistence>,
    /// Addresses that FULL-NAT uses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub local_addresses: Vec<IpAddr>,
    /// Gone from the configuration.
    pub removed: bool,
    /// Connections now.
    pub connections: u64,
    /// Connections made.
    pub new_connections: u64,
    /// Those since `shunt ipvsadm -Z`.
    #[serde(default)]
    pub new_since_zero: u64,
    /// New ones a second, of late.
    #[serde(default)]
    pub new_per_second: u64,
    /// Packets and bytes between clients and backends, those that are gone included.
    #[serde(default)]
    pub volumes: Volumes,
    /// Those since `shunt ipvsadm -Z`.
    #[serde(default)]
    pub volumes_since_zero: Volumes,
    /// Those a second, of late.
    #[serde(default)]
    pub volumes_per_second: Volumes,
    /// New connections refused.
    pub refused: u64,
    /// Why; reasons that never occurred are left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refusals: Vec<Refusal>,
    /// How much of it is up; none if nothing is checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quorum: Option<Quorum>,
    /// Its backends.
    pub backends: Vec<Backend>,
}

/// New connections of a service refused for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Refusal {
    /// As in `GET /status`.
    pub reason: String,
    /// How many.
    pub connections: u64,
}

/// One backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Backend {
    /// Address and port.
    pub address: SocketAddr,
    /// Its weight; 0 drains; `None` once removed.
    pub weight: Option<u32>,
    /// The weight that is configured, whatever health checks and hands make of it; `None` once removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configured_weight: Option<u32>,
    /// What is set by hand, in the place of the file's weight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by_hand: Option<ByHand>,
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
    /// Does it serve only while the quorum is lost?
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sorry: bool,
    /// What its checks say; none if it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<BackendHealth>,
    /// Those since `shunt ipvsadm -Z`.
    #[serde(default)]
    pub new_since_zero: u64,
    /// New ones a second, of late.
    #[serde(default)]
    pub new_per_second: u64,
    /// Packets and bytes between clients and it.
    #[serde(default)]
    pub volumes: Volumes,
    /// Those since `shunt ipvsadm -Z`.
    #[serde(default)]
    pub volumes_since_zero: Volumes,
    /// Those a second, of late.
    #[serde(default)]
    pub volumes_per_second: Volumes,
}

/// `GET /connections`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Connections {
    /// Up to the limit asked for.
    pub connections: Vec<Connection>,
    /// Where to go on; `None` at the end.
    pub next: Option<String>,
}

/// One connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Reload {
    /// The outcome.
    pub result: ReloadResult,
    /// One sentence, or the message about the file.
    pub message: String,
    /// What changed (or would have), one line each.
    pub changes: Vec<String>,
    /// What was changed at runtime and is undone, one line each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub undone: Vec<String>,
}

/// The body of every error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
