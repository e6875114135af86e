//! `shunt.toml` as a value: change a field, write it again.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::Network;
use crate::network::{
    CLIENT_SIDE, LAN, LAN6, LOCAL, PREFIX_LENGTH, PREFIX_LENGTH6, SERVER_SIDE, VIP, WAN, WAN6,
};

/// Where the balancer's exporter listens, inside its own namespace.
pub const METRICS: &str = "127.0.0.1:9150";

/// A whole configuration.
#[derive(Clone, Debug, Serialize)]
pub struct Config {
    /// `[shunt]`.
    pub shunt: Shunt,
    /// `[dpdk]`.
    pub dpdk: Dpdk,
    /// `[limits]`.
    pub limits: Limits,
    /// `[metrics]`.
    pub metrics: Metrics,
    /// `[admin]`, as it is.
    #[serde(skip_serializing_if = "toml::Table::is_empty")]
    pub admin: toml::Table,
    /// `[[port]]`.
    pub port: Vec<Port>,
    /// `[[list]]`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub list: Vec<ClientList>,
    /// `[[service]]`.
    pub service: Vec<Service>,
}

/// Workers and the admin socket.
#[derive(Clone, Debug, Serialize)]
pub struct Shunt {
    /// CPU of each worker; one may carry several.
    pub workers: Vec<usize>,
    /// How long an idle worker sleeps: a laboratory has fewer CPUs than workers.
    pub idle_sleep_us: u32,
    /// Path of the admin socket.
    pub admin_socket: PathBuf,
    /// How long SIGTERM waits for connections to end, in seconds.
    pub drain_deadline_s: u64,
    /// `always`, `live` or `never`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ping: Option<String>,
    /// Are programs of the balancer itself clients too?
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local_out: Option<bool>,
    /// Other boxes with the same VIPs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub directors: Vec<IpAddr>,
}

/// DPDK's memory.
#[derive(Clone, Debug, Serialize)]
pub struct Dpdk {
    /// `auto`, `require` or `never`.
    pub huge_pages: String,
    /// Megabytes.
    pub memory_mb: u32,
    /// Separates the files of DPDK processes.
    pub file_prefix: String,
    /// May DPDK's own tools attach?
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secondary_processes: Option<bool>,
    /// Packet buffers over all ports.
    pub packet_buffers: u32,
}

/// Sizes fixed at start.
#[derive(Clone, Debug, Serialize)]
pub struct Limits {
    /// Connections over all workers.
    pub connections: u32,
}

/// The exporter.
#[derive(Clone, Debug, Serialize)]
pub struct Metrics {
    /// Address and port.
    pub listen: String,
}

/// A port and its TAP twin.
#[derive(Clone, Debug, Serialize)]
pub struct Port {
    /// Its name.
    pub name: String,
    /// PCI address or virtual device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// The port whose device it is on, if it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on: Option<String>,
    /// VIDs of its tags, the outer one first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub vlan: Vec<u16>,
    /// Longest packet, if not 1500.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u16>,
    /// Name of its TAP.
    pub tap: String,
    /// Addresses of the TAP, with prefix length.
    pub addresses: Vec<String>,
    /// `[[port.route]]`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub route: Vec<Route>,
}

/// A route through a port.
#[derive(Clone, Debug, Serialize)]
pub struct Route {
    /// A network.
    pub to: String,
    /// The gateway.
    pub via: IpAddr,
}

impl Port {
    /// The frames of port `on` with these tags.
    pub fn tagged(name: &str, on: &str, vlan: &[u16], mtu: u16, addresses: Vec<String>) -> Self {
        Self {
            name: name.to_owned(),
            device: None,
            on: Some(on.to_owned()),
            vlan: vlan.to_vec(),
            mtu: Some(mtu),
            tap: format!("{name}0"),
            addresses,
            route: Vec::new(),
        }
    }

    /// Lets it carry packets of 9000 bytes and some. The MTU is what fits the longer frames.
    pub fn widen(&mut self) {
        self.mtu = Some(9136);
    }

    /// Makes the frames of a packet socket's ring longer. Whatever the MTU is, the kernel reassembles
    /// what comes in pieces (IPv4) before a packet socket of DPDK sees it, and cuts off what does not
    /// fit into a frame. Blocks must be of whole frames and pages.
    pub fn lengthen_frames(&mut self) {
        if let Some(device) = &mut self.device {
            device.push_str(",framesz=9216,blocksz=36864,framecnt=512");
        }
    }

    /// Makes it a TAP of DPDK's: it is slow, has a queue for each worker, and hands over what comes in
    /// pieces as it comes. It has to be joined to a link ([`crate::Network::join_taps`]).
    pub fn make_tap(&mut self, number: usize, interface: &str) {
        self.device = Some(format!("net_tap{number},iface={interface}"));
    }

    /// Adds a route through it.
    pub fn add_route(&mut self, to: &str, via: impl Into<IpAddr>) {
        self.route.push(Route { to: to.to_owned(), via: via.into() });
    }
}

/// Networks of clients under a name.
#[derive(Clone, Debug, Serialize)]
pub struct ClientList {
    /// What `allow` and `deny` call it.
    pub name: String,
    /// Networks and addresses.
    pub networks: Vec<String>,
}

/// A service and its backends.
#[derive(Clone, Debug, Serialize)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
    /// VIP and port or ports.
    pub address: String,
    /// `fullnat`, `nat`, `dr` or `tunnel`.
    pub mode: String,
    /// `rr` or `wrr`.
    pub scheduler: String,
    /// Addresses FULL-NAT speaks from.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub local_addresses: Vec<IpAddr>,
    /// How backends learn the client's address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_address: Option<String>,
    /// `never` or `always`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub syn_cookies: Option<String>,
    /// `[service.tunnel]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tunnel: Option<Tunnel>,
    /// Further keys, as they are.
    #[serde(flatten)]
    pub more: toml::Table,
    /// Its backends.
    pub backend: Vec<Backend>,
}

impl Service {
    /// A service in FULL-NAT from these local addresses, in turn, without backends yet.
    pub fn new(name: &str, protocol: &str, address: SocketAddr, local: &[IpAddr]) -> Self {
        Self {
            name: name.to_owned(),
            protocol: protocol.to_owned(),
            address: address.to_string(),
            mode: "fullnat".to_owned(),
            scheduler: "rr".to_owned(),
            local_addresses: local.to_vec(),
            client_address: None,
            syn_cookies: None,
            tunnel: None,
            more: toml::Table::new(),
            backend: Vec::new(),
        }
    }

    /// With one more backend.
    #[must_use]
    pub fn to(mut self, address: impl Into<SocketAddr>) -> Self {
        self.backend.push(Backend::new(address.into(), 1));
        self
    }

    /// In another mode than FULL-NAT; `tunnel` is for mode `tunnel`.
    #[must_use]
    pub fn in_mode(mut self, mode: &str, tunnel: Option<Tunnel>) -> Self {
        mode.clone_into(&mut self.mode);
        self.tunnel = tunnel;
        self.local_addresses.clear();
        self
    }

    /// That tells backends the client's address so.
    #[must_use]
    pub fn telling(mut self, how: &str) -> Self {
        self.client_address = Some(how.to_owned());
        self
    }
}

/// A backend of a service.
#[derive(Clone, Debug, Serialize)]
pub struct Backend {
    /// Address and port.
    pub address: SocketAddr,
    /// Share of new connections; 0 drains.
    pub weight: u32,
    /// Its own mode, if not the service's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// `[service.backend.tunnel]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tunnel: Option<Tunnel>,
}

impl Backend {
    fn new(address: SocketAddr, weight: u32) -> Self {
        Self { address, weight, mode: None, tunnel: None }
    }
}

/// What mode `tunnel` puts around packets.
#[derive(Clone, Debug, Serialize)]
pub struct Tunnel {
    /// `ipip`, `gue` or `gre`.
    pub kind: String,
    /// UDP port, of `gue` only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Of `gue` and `gre` only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checksum: Option<bool>,
}

impl Tunnel {
    /// IPv4 in IPv4.
    pub fn ipip() -> Self {
        Self { kind: "ipip".to_owned(), port: None, checksum: None }
    }

    /// Generic UDP encapsulation.
    pub fn gue(port: u16, checksum: bool) -> Self {
        Self { kind: "gue".to_owned(), port: Some(port), checksum: Some(checksum) }
    }

    /// GRE.
    pub fn gre(checksum: bool) -> Self {
        Self { kind: "gre".to_owned(), port: None, checksum: Some(checksum) }
    }
}

impl Config {
    /// A balancer for this network: two ports, so many workers, on the CPUs there are in turn, no
    /// service yet.
    pub fn new(network: &Network, workers: usize) -> Self {
        let port = |number: usize, name: &str, interface: &str, own: (Ipv4Addr, Ipv6Addr)| Port {
            name: name.to_owned(),
            device: Some(format!("net_af_packet{number},iface={interface},qpairs={workers}")),
            on: None,
            vlan: Vec::new(),
            mtu: None,
            tap: format!("{name}0"),
            addresses: vec![
                format!("{}/{PREFIX_LENGTH}", own.0),
                format!("{}/{PREFIX_LENGTH6}", own.1),
            ],
            route: Vec::new(),
        };
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            shunt: Shunt {
                workers: (0..workers).map(|worker| worker % cpus).collect(),
                idle_sleep_us: 50,
                admin_socket: network.folder().join("admin.sock"),
                // Connections in TIME_WAIT count as living: every stop waits this long.
                drain_deadline_s: 1,
                ping: None,
                local_out: None,
                directors: Vec::new(),
            },
            dpdk: Dpdk {
                huge_pages: "auto".to_owned(),
                memory_mb: 256,
                file_prefix: network.name().to_owned(),
                secondary_processes: None,
                packet_buffers: 16384,
            },
            limits: Limits { connections: 100_000 },
            metrics: Metrics { listen: METRICS.to_owned() },
            admin: toml::Table::new(),
            port: vec![
                port(0, "wan", CLIENT_SIDE, (WAN, WAN6)),
                port(1, "lan", SERVER_SIDE, (LAN, LAN6)),
            ],
            list: Vec::new(),
            service: Vec::new(),
        }
    }

    /// Adds a service at this port of the VIP.
    #[must_use]
    pub fn with_service(
        mut self,
        name: &str,
        protocol: &str,
        port: u16,
        scheduler: &str,
        backends: &[(SocketAddrV4, u32)],
    ) -> Self {
        let address = SocketAddrV4::new(VIP, port).into();
        let mut service = Service::new(name, protocol, address, &LOCAL.map(IpAddr::from));
        scheduler.clone_into(&mut service.scheduler);
        service.backend =
            backends.iter().map(|&(to, weight)| Backend::new(to.into(), weight)).collect();
        self.service.push(service);
        self
    }

    /// Gives a service another mode than FULL-NAT, for all its backends, and takes away the local
    /// addresses that then are of no use. `tunnel` is for mode `tunnel`.
    pub fn set_mode(
        &mut self,
        service: &str,
        mode: &str,
        tunnel: Option<Tunnel>,
    ) -> Result<&mut Self> {
        let service = self.service_mut(service)?;
        mode.clone_into(&mut service.mode);
        service.tunnel = tunnel;
        service.local_addresses.clear();
        Ok(self)
    }

    /// Gives a backend a mode of its own.
    pub fn set_backend_mode(
        &mut self,
        service: &str,
        address: SocketAddrV4,
        mode: &str,
        tunnel: Option<Tunnel>,
    ) -> Result<&mut Self> {
        let backends = &mut self.service_mut(service)?.backend;
        let backend = backends.iter_mut().find(|it| it.address == address.into());
        let backend = backend.with_context(|| format!("{service} has no backend {address}"))?;
        (backend.mode, backend.tunnel) = (Some(mode.to_owned()), tunnel);
        Ok(self)
    }

    /// Gives a backend of a service this weight, adding it if it is not there.
    pub fn set_backend(
        &mut self,
        service: &str,
        address: SocketAddrV4,
        weight: u32,
    ) -> Result<&mut Self> {
        let backends = &mut self.service_mut(service)?.backend;
        match backends.iter_mut().find(|it| it.address == address.into()) {
            Some(backend) => backend.weight = weight,
            None => backends.push(Backend::new(address.into(), weight)),
        }
        Ok(self)
    }

    /// Takes a backend out of a service.
    pub fn remove_backend(&mut self, service: &str, address: SocketAddrV4) -> Result<&mut Self> {
        self.service_mut(service)?.backend.retain(|it| it.address != address.into());
        Ok(self)
    }

    /// The file's text.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self).context("writing the configuration as TOML")
    }

    /// Writes the file as an editor does: beside it, then in its place.
    pub fn write(&self, path: &Path) -> Result<()> {
        let beside = path.with_extension("new");
        std::fs::write(&beside, self.to_toml()?)?;
        std::fs::rename(&beside, path)?;
        Ok(())
    }

    fn service_mut(&mut self, name: &str) -> Result<&mut Service> {
        self.service
            .iter_mut()
            .find(|service| service.name == name)
            .with_context(|| format!("the configuration has no service {name}"))
    }
}
