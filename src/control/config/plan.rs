//! A configuration that has been read, validated and resolved: the only form the rest of the
//! control plane sees. Two plans can be compared (`config::diff`); one can be compiled into a
//! snapshot (`control::compile`).

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::control::credentials::Credentials;
use crate::control::health::check::{Check, Policy};
use crate::control::prefix::width;
use crate::dataplane::sched::{Flags, ServerId};
use crate::dataplane::snapshot::{
    ClientAddress, IcmpOnEnd, Limit, Mode, Ping, Place, Ports, Protocol, Quotas, Restarts,
    Scheduler, ServiceAddress, Strays, SynCookies, Timeouts,
};
use crate::ids::PortId;
use crate::wire::vlan::Tags;

/// A whole configuration, valid.
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What is fixed at start.
    pub daemon: Daemon,
    /// The admin API beyond the machine, if it is to be had there.
    pub remote: Option<Remote>,
    /// Fixed at start, in the order of their ids: those with a device first.
    pub ports: Vec<Port>,
    /// Reloadable.
    pub timeouts: Timeouts,
    /// Reloadable.
    pub strays: Strays,
    /// Are TCP segments that no host sends dropped? Reloadable.
    pub drop_malformed_tcp: bool,
    /// Source ports of datagrams that start nothing with services that do not say it themselves, in
    /// order. Reloadable.
    pub udp_reflection_ports: Vec<u16>,
    /// Which connections a SYN starts over. Reloadable.
    pub restarts: Restarts,
    /// Are both ends told when a connection of TCP or SCTP ends here? Reloadable.
    pub reset_on_end: bool,
    /// And of UDP. Reloadable.
    pub icmp_on_end: IcmpOnEnd,
    /// Who answers a ping of a VIP. Reloadable.
    pub ping: Ping,
    /// Is DF of a tunnel's outer header always clear? Reloadable.
    pub tunnels_ignore_df: bool,
    /// Are the box's own programs clients of its services? Reloadable.
    pub local_out: bool,
    /// Other boxes with the same VIPs: what they pass on to this one is not scheduled again. In order.
    /// Reloadable.
    pub directors: Vec<IpAddr>,
    /// Packets a second each worker may punt. Reloadable.
    pub punt_per_second: u32,
    /// How long SIGTERM waits for connections to end. Reloadable.
    pub drain_deadline: Duration,
    /// Lists of client networks, in file order. Reloadable.
    pub lists: Vec<ClientList>,
    /// Names of the lists whose clients no service takes. Reloadable.
    pub deny: Vec<String>,
    /// Reloadable. In file order.
    pub services: Vec<Service>,
}

impl Plan {
    /// Source ports of datagrams that start nothing with a service.
    pub fn reflection_ports<'a>(&'a self, service: &'a Service) -> &'a [u16] {
        match &service.udp_reflection_ports {
            Some(own) => own,
            None if service.speaks(Protocol::Udp) => &self.udp_reflection_ports,
            None => &[],
        }
    }

    /// This plan with all that only a restart changes taken from the `running` one: what a reload
    /// can put to use. `config::diff` names what it leaves aside.
    #[must_use]
    pub fn with_fixed_of(self, running: &Self) -> Self {
        let remote = match (self.remote, &running.remote) {
            (Some(new), Some(old)) => Some(Remote { listen: old.listen, ..new }),
            (_, old) => old.clone(),
        };
        Self { daemon: running.daemon.clone(), ports: running.ports.clone(), remote, ..self }
    }
}

/// How the admin API is reached from elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    /// Where it listens. Fixed at start.
    pub listen: SocketAddr,
    /// What it is guarded by. Reloadable.
    pub credentials: Credentials,
}

/// Settings that need a restart to change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Daemon {
    /// CPU of each worker, in worker order; never empty.
    pub worker_cores: Vec<usize>,
    /// CPU of the control thread, if pinned.
    pub control_core: Option<usize>,
    /// Never pause or sleep when idle.
    pub busy_poll: bool,
    /// How long an idle worker sleeps at a time where its CPU knows nothing better; zero is never.
    pub idle_sleep: Duration,
    /// IPv4 connections over all workers.
    pub connections_max: u32,
    /// IPv6 connections over all workers, those from IPv6 clients to IPv4 backends included.
    pub connections_ipv6_max: u32,
    /// Clients of persistent services that are remembered.
    pub persistent_clients_max: u32,
    /// Connections made by SYN cookies over all workers, of each family.
    pub cookie_connections_max: u32,
    /// Sources of services that limit them which are known at a time.
    pub limited_sources_max: u32,
    /// Packet buffers over all ports.
    pub packet_buffers: u32,
    /// Path of the admin socket.
    pub admin_socket: PathBuf,
    /// Where `/metrics` listens; `None` turns it off.
    pub metrics_listen: Option<SocketAddr>,
    /// Whether DPDK memory comes from huge pages.
    pub huge_pages: HugePages,
    /// Megabytes of DPDK memory.
    pub memory_mb: u32,
    /// Separates the files of DPDK processes on one machine.
    pub file_prefix: String,
    /// DPDK's own tools may attach.
    pub secondary_processes: bool,
    /// Further EAL arguments, as they are.
    pub eal_arguments: Vec<String>,
}

/// Whether DPDK memory comes from huge pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum HugePages {
    /// Use them when enough are free, ordinary pages otherwise, and say which.
    #[default]
    Auto,
    /// Refuse to start without.
    Require,
    /// Do not use them.
    Never,
}

impl fmt::Display for HugePages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Require => "require",
            Self::Never => "never",
        })
    }
}

/// A network port, and its TAP twin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Its name in the configuration and in metrics.
    pub name: String,
    /// What is under it.
    pub link: Link,
    /// Name of the TAP interface.
    pub tap: String,
    /// Addresses of the TAP, with prefix length.
    pub addresses: Vec<(IpAddr, u8)>,
    /// Routes through the TAP: destination, prefix length, gateway of the same family.
    pub routes: Vec<(IpAddr, u8, IpAddr)>,
    /// MTU of the port and the TAP.
    pub mtu: u16,
    /// Where the file names the device, for messages.
    pub line: Line,
}

impl Port {
    /// Its device, if it has one.
    pub fn device(&self) -> Option<&Device> {
        match &self.link {
            Link::Device(device) => Some(device),
            Link::Tagged { .. } => None,
        }
    }
}

/// What is under a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Link {
    /// A device of its own, driven by DPDK.
    Device(Device),
    /// Those frames of another port's device that carry these tags.
    Tagged {
        /// The port with the device.
        on: PortId,
        /// Which frames.
        tags: Tags,
    },
}

/// A device, and how it is set up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// A PCI address (`0000:3b:00.0`) or a virtual device (`net_af_packet0,iface=eth1`).
    pub device: String,
    /// Receive descriptors of each queue.
    pub rx_descriptors: u16,
    /// Transmit descriptors of each queue.
    pub tx_descriptors: u16,
}

/// A line of the configuration, from 1. Where something is written is no part of what is written:
/// all lines are equal, so that a plan from a file with one more comment is the same plan.
#[derive(Clone, Copy, Debug, Default)]
pub struct Line(pub usize);

impl PartialEq for Line {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Line {}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Networks of clients under a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientList {
    /// Its name: unique.
    pub name: String,
    /// First address and prefix length, in order, each once: where they were written, and how
    /// often, is no difference.
    pub networks: Arc<[(IpAddr, u8)]>,
}

/// Some of the clients. Displayed as written: `10.0.0.0/8`, `192.0.2.7`, `office`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ClientGroup {
    /// Those of a network: its first address and prefix length.
    Network(IpAddr, u8),
    /// Those of the list of that name.
    List(String),
}

impl fmt::Display for ClientGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(address, length) if *length == width(*address) => write!(f, "{address}"),
            Self::Network(address, length) => write!(f, "{address}/{length}"),
            Self::List(name) => f.write_str(name),
        }
    }
}

impl serde::Serialize for ClientGroup {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What makes a service the same one, whatever else an edit changes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServiceKey {
    /// Its own protocol.
    pub protocol: Protocol,
    /// Its first address.
    pub address: ServiceAddress,
    /// The first of its `clients`.
    pub clients: Option<ClientGroup>,
}

/// A service and its backends.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Service {
    /// Its name: unique.
    pub name: String,
    /// Balanced protocol; the first if there are several.
    pub protocol: Protocol,
    /// Where clients find it; with the protocol and the first of `clients`, what makes it the same
    /// service: unique.
    pub address: ServiceAddress,
    /// Where else clients find it: the same family, none of them another service's too.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub more_addresses: Vec<ServiceAddress>,
    /// Where else, by other protocols than its own; in the file among `more_addresses`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub other_protocols: Vec<Place>,
    /// Whose it is: other clients do not find it. Empty for everybody's.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub clients: Vec<ClientGroup>,
    /// How backends are chosen.
    pub scheduler: Scheduler,
    /// The scheduler's variations.
    #[serde(skip_serializing_if = "is_default")]
    pub scheduler_flags: Flags,
    /// Addresses FULL-NAT may use; at least one of the family of every backend reached so.
    pub local_addresses: Vec<IpAddr>,
    /// Is every datagram scheduled by itself? UDP only.
    #[serde(skip_serializing_if = "is_default")]
    pub one_packet: bool,
    /// May packets that are not a connection's first start one? TCP and SCTP, not in FULL-NAT.
    #[serde(skip_serializing_if = "is_default")]
    pub sloppy: bool,
    /// How backends learn the client's address.
    #[serde(
        skip_serializing_if = "is_default",
        serialize_with = "super::client_address::serialize"
    )]
    pub client_address: ClientAddress,
    /// Names of the lists whose clients bring it themselves.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub client_address_from: Vec<String>,
    /// Do a client's connections go to one backend?
    #[serde(skip_serializing_if = "is_default")]
    pub persistence: Option<Persistence>,
    /// Names of the lists whose clients only are welcome; empty for all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<String>,
    /// Names of the lists whose clients are not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub deny: Vec<String>,
    /// When SYNs are answered with cookies. TCP only, and no mode in which answers do not pass here.
    #[serde(skip_serializing_if = "is_default")]
    pub syn_cookies: SynCookies,
    /// Are backends asked only when the client has said something?
    #[serde(skip_serializing_if = "is_default")]
    pub syn_cookies_wait_for_data: bool,
    /// The timeouts that are its own, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub timeouts: BTreeMap<&'static str, u32>,
    /// How many connections it takes, and how many new ones a second; each source likewise.
    #[serde(skip_serializing_if = "is_default")]
    pub quotas: Quotas,
    /// Source ports of datagrams that start nothing, if not everybody's. UDP only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub udp_reflection_ports: Option<Vec<u16>>,
    /// How checks of its backends are taken.
    #[serde(skip_serializing_if = "is_default")]
    pub health: Policy,
    /// Checks of each of its backends that has none of its own. In file order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<Check>,
    /// Checks of backends that have their own.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub backend_checks: BTreeMap<SocketAddr, Vec<Check>>,
    /// In file order.
    pub backends: Vec<Backend>,
}

impl Default for Service {
    /// What the file's defaults make of a service that says nothing.
    fn default() -> Self {
        Self {
            name: String::new(),
            protocol: Protocol::Tcp,
            address: ServiceAddress { vip: IpAddr::from([0; 4]), ports: Ports::ALL },
            more_addresses: vec![],
            other_protocols: vec![],
            clients: vec![],
            scheduler: Scheduler::WRR,
            scheduler_flags: Flags::default(),
            local_addresses: vec![],
            one_packet: false,
            sloppy: false,
            client_address: ClientAddress::None,
            client_address_from: vec![],
            persistence: None,
            allow: vec![],
            deny: vec![],
            syn_cookies: SynCookies::Never,
            syn_cookies_wait_for_data: false,
            quotas: Quotas::default(),
            udp_reflection_ports: None,
            timeouts: BTreeMap::new(),
            health: Policy::default(),
            checks: vec![],
            backend_checks: BTreeMap::new(),
            backends: vec![],
        }
    }
}

impl Service {
    /// What makes it the same one.
    pub fn key(&self) -> ServiceKey {
        let clients = self.clients.first().cloned();
        ServiceKey { protocol: self.protocol, address: self.address, clients }
    }

    /// Everywhere clients find it by its own protocol; the first is [`Service::address`].
    pub fn addresses(&self) -> impl Iterator<Item = ServiceAddress> + '_ {
        std::iter::once(self.address).chain(self.more_addresses.iter().copied())
    }

    /// Everywhere clients find it.
    pub fn places(&self) -> impl Iterator<Item = Place> + '_ {
        let own = self.addresses().map(|address| Place { protocol: self.protocol, address });
        own.chain(self.other_protocols.iter().copied())
    }

    /// The checks of one of its backends, unless it is a sorry one: those are not checked.
    pub fn checks_of(&self, backend: SocketAddr) -> &[Check] {
        self.backend_checks.get(&backend).unwrap_or(&self.checks)
    }

    /// Does it serve that protocol?
    pub fn speaks(&self, protocol: Protocol) -> bool {
        self.places().any(|place| place.protocol == protocol)
    }

    /// The timeouts of its connections, if not just those in `common`.
    pub fn own_timeouts(&self, common: &Timeouts) -> Option<Timeouts> {
        let mut own = *common;
        for (key, seconds) in &self.timeouts {
            *own.named_mut(key)? = *seconds;
        }
        (own != *common).then_some(own)
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// What a service's persistence is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Persistence {
    /// How long it lasts after the client's last connection was made, and it has none.
    pub timeout_s: u32,
    /// Clients that share this many first bits of their address are one.
    pub prefix: u8,
    /// Does it hold for backends with weight 0?
    pub to_drained: bool,
}

/// A backend of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Backend {
    /// Address and port: unique in its service. Port 0 is the port the client asked for.
    pub address: SocketAddr,
    /// Share of new connections; 0 drains.
    pub weight: u32,
    /// When it has had enough.
    #[serde(skip_serializing_if = "is_default")]
    pub limit: Limit,
    /// What it writes into QUIC connection ids.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quic_server_id: Option<ServerId>,
    /// Does it serve only while the quorum is lost? It is not checked.
    #[serde(skip_serializing_if = "is_default")]
    pub sorry: bool,
    /// How packets reach it.
    #[serde(flatten, serialize_with = "super::mode::serialize")]
    pub mode: Mode,
}
