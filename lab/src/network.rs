//! The lab's network: clients and backends on two LANs, the balancer between them.
//!
//! Both LANs are bridges in one `switch` host. The balancer's two interfaces, `lc` (clients) and
//! `ls` (servers), belong to DPDK: they carry no address, and [`Network::give_ports_to_dpdk`] makes
//! that kernel deaf on them. A packet socket still sees everything; without the muting the
//! balancer's kernel would answer ARP, and reset connections it does not know, beside `shuntd`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

use crate::{Host, cleanup, command};

/// Prefix length of both LANs in IPv4.
pub const PREFIX_LENGTH: u8 = 24;
/// Prefix length of both LANs in IPv6.
pub const PREFIX_LENGTH6: u8 = 64;
/// Where the VIPs are.
pub const VIPS: &str = "198.51.100.0/24";
/// Where the VIPs of IPv6 are.
pub const VIPS6: &str = "2001:db8:100::/64";
/// The balancer's interface on the clients' LAN.
pub const CLIENT_SIDE: &str = "lc";
/// The balancer's interface on the servers' LAN.
pub const SERVER_SIDE: &str = "ls";
/// The balancer on the clients' LAN: their gateway to the VIPs.
pub const WAN: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// The balancer on the servers' LAN.
pub const LAN: Ipv4Addr = Ipv4Addr::new(10, 44, 0, 1);
/// The router beside the balancer, on the clients' LAN.
pub const ROUTER_WAN: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 254);
/// The router beside the balancer, on the servers' LAN.
pub const ROUTER_LAN: Ipv4Addr = Ipv4Addr::new(10, 44, 0, 254);
/// The VIP of the lab's services.
pub const VIP: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 10);
/// Local addresses FULL-NAT speaks from.
pub const LOCAL: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 44, 0, 2), Ipv4Addr::new(10, 44, 0, 3)];

/// [`WAN`] in IPv6.
pub const WAN6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1);
/// [`LAN`] in IPv6.
pub const LAN6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x44, 0, 0, 0, 0, 1);
/// [`ROUTER_WAN`] in IPv6.
pub const ROUTER_WAN6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0xfe);
/// [`ROUTER_LAN`] in IPv6.
pub const ROUTER_LAN6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x44, 0, 0, 0, 0, 0xfe);
/// [`VIP`] in IPv6.
pub const VIP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x100, 0, 0, 0, 0, 0x10);
/// [`LOCAL`] in IPv6.
pub const LOCAL6: [Ipv6Addr; 2] = [
    Ipv6Addr::new(0x2001, 0xdb8, 0x44, 0, 0, 0, 0, 2),
    Ipv6Addr::new(0x2001, 0xdb8, 0x44, 0, 0, 0, 0, 3),
];

/// Address of client `number`, from 1.
pub const fn client_address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, 10 + number)
}

/// Address of backend `number`, from 1.
pub const fn backend_address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 44, 0, 10 + number)
}

/// [`client_address`] in IPv6.
pub const fn client_address6(number: u8) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x10 + number as u16)
}

/// [`backend_address`] in IPv6.
pub const fn backend_address6(number: u8) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, 0x44, 0, 0, 0, 0, 0x10 + number as u16)
}

/// The hosts, joined and addressed. Dropping it removes everything.
#[derive(Debug)]
pub struct Network {
    /// `client-1`, `client-2`…: [`client_address`].
    pub clients: Vec<Host>,
    /// `backend-1`…: [`backend_address`].
    pub backends: Vec<Host>,
    /// The balancer, with [`CLIENT_SIDE`] and [`SERVER_SIDE`].
    pub balancer: Host,
    // After the hosts: dropped last, when no program writes into it any more.
    switch: Host,
    folder: TempDir,
    name: String,
}

impl Network {
    /// Makes the network; removes leftovers of dead processes first. Fails with a sentence when
    /// not root.
    pub fn new(clients: u8, backends: u8) -> Result<Self> {
        require_root()?;
        cleanup::remove_leftovers();
        let name = cleanup::unique_name();
        let folder = tempfile::Builder::new().prefix(&format!("{name}-")).tempdir()?;
        let switch = Host::new(&name, "switch")?;
        for bridge in ["clients", "servers"] {
            let quiet = "forward_delay 0 stp_state 0 mcast_snooping 0";
            switch.ip(&format!("link add {bridge} type bridge {quiet}"))?;
            switch.ip(&format!("link set {bridge} up"))?;
        }
        let balancer = Host::new(&name, "balancer")?;
        plug(&balancer, CLIENT_SIDE, &switch, "b-clients", "clients")?;
        plug(&balancer, SERVER_SIDE, &switch, "b-servers", "servers")?;
        let clients = (1..=clients)
            .map(|number| add_client(&name, &switch, number))
            .collect::<Result<_>>()?;
        let backends = (1..=backends)
            .map(|number| add_backend(&name, &switch, number))
            .collect::<Result<_>>()?;
        Ok(Self { clients, backends, balancer, switch, folder, name })
    }

    /// Its unique name: what its namespaces' names begin with.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A folder for files, removed with the network.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Makes the balancer's kernel drop whatever arrives on the two ports, after packet sockets
    /// (and so DPDK) have seen it.
    pub fn give_ports_to_dpdk(&self) -> Result<()> {
        let chain = |interface: &str| {
            format!(
                "chain {interface} {{\n type filter hook ingress device \"{interface}\" \
                 priority 0; policy drop;\n }}\n"
            )
        };
        let (client_side, server_side) = (chain(CLIENT_SIDE), chain(SERVER_SIDE));
        let rules = format!(
            "table netdev lab_mute\ndelete table netdev lab_mute\n\
             table netdev lab_mute {{\n{client_side}{server_side}}}\n"
        );
        command::run_with_input(self.balancer.command("nft").args(["-f", "-"]), &rules)?;
        Ok(())
    }
}

/// Ports that are TAPs of DPDK's.
impl Network {
    /// Joins two TAPs to the balancer's interfaces, client side first: what arrives on one leaves by
    /// the other, and the balancer's kernel sees none of it.
    pub fn join_taps(&self, taps: [&str; 2]) -> Result<()> {
        let chain = |from: &str, to: &str| {
            format!(
                "chain {from} {{\n type filter hook ingress device \"{from}\" priority 0; \
                 policy drop;\n fwd to \"{to}\"\n }}\n"
            )
        };
        let pairs = [(CLIENT_SIDE, taps[0]), (SERVER_SIDE, taps[1])];
        let chains = pairs.map(|(link, tap)| [chain(link, tap), chain(tap, link)].concat());
        let rules = format!(
            "table netdev lab_mute\ndelete table netdev lab_mute\ntable netdev lab_mute {{\n{}}}\n",
            chains.concat()
        );
        command::run_with_input(self.balancer.command("nft").args(["-f", "-"]), &rules)?;
        Ok(())
    }
}

/// Further links, and longer packets.
impl Network {
    /// Gives the clients' LAN this MTU: the balancer's port, and of the clients these.
    pub fn widen_the_clients_lan(&self, mtu: u16, clients: &[&Host]) -> Result<()> {
        for port in ["b-clients".to_owned()].into_iter().chain(self.client_ports()) {
            self.switch.ip(&format!("link set {port} mtu {mtu}"))?;
        }
        self.switch.ip(&format!("link set clients mtu {mtu}"))?;
        self.balancer.ip(&format!("link set {CLIENT_SIDE} mtu {mtu}"))?;
        for client in clients {
            client.ip(&format!("link set eth0 mtu {mtu}"))?;
        }
        Ok(())
    }

    /// The switch's ends of the clients' links.
    fn client_ports(&self) -> impl Iterator<Item = String> {
        (1..=self.clients.len()).map(|number| format!("c{number}"))
    }

    /// Pulls the cable of this backend, from 1: it hears nothing and says nothing, and its own kernel cannot
    /// tell anybody. That is how a machine dies.
    pub fn unplug(&self, backend: u8) -> Result<()> {
        self.switch.ip(&format!("link set s{backend} down"))?;
        Ok(())
    }

    /// Puts the cable back in.
    pub fn plug_in(&self, backend: u8) -> Result<()> {
        self.switch.ip(&format!("link set s{backend} up"))?;
        Ok(())
    }

    /// Plugs another host into the servers' side: its interface `lan`, without an address.
    pub fn add_host(&self, name: &str) -> Result<Host> {
        let host = Host::new(&self.name, name)?;
        plug(&host, "lan", &self.switch, name, "servers")?;
        host.send_whole_packets("lan")?;
        host.speak_ipv6("lan")?;
        Ok(host)
    }

    /// A host that is plugged in nowhere yet.
    pub fn add_far_host(&self, name: &str) -> Result<Host> {
        Host::new(&self.name, name)
    }

    /// Plugs an interface of a client into the switch, on the clients' side: it moves there.
    pub fn plug_into_clients(&self, host: &Host, interface: &str) -> Result<()> {
        host.ip(&format!("link set {interface} netns {}", self.switch.namespace()))?;
        self.switch.ip(&format!("link set {interface} master clients up"))?;
        Ok(())
    }
}

/// How backends answer when they see the client's address: not needed in FULL-NAT.
impl Network {
    /// NAT: this backend's way to the clients is the balancer.
    pub fn answer_through_the_balancer(&self, backend: &Host) -> Result<()> {
        backend.ip(&format!("route replace default via {LAN}"))?;
        backend.ip(&format!("-6 route replace default via {LAN6}"))?;
        Ok(())
    }

    /// DR and tunnels: this backend has the VIP, and its way to the clients is the router.
    pub fn answer_past_the_balancer(&self, backend: &Host) -> Result<()> {
        self.answer_for_past_the_balancer(backend, &[VIP.into()])
    }

    /// [`Network::answer_past_the_balancer`] for these VIPs.
    pub fn answer_for_past_the_balancer(&self, backend: &Host, vips: &[IpAddr]) -> Result<()> {
        self.route_past_the_balancer()?;
        for vip in vips {
            backend.carry_vip(*vip)?;
        }
        backend.ip(&format!("route replace default via {ROUTER_LAN}"))?;
        backend.ip(&format!("-6 route replace default via {ROUTER_LAN6}"))?;
        Ok(())
    }

    /// Makes the switch a router too, at [`ROUTER_WAN`] and [`ROUTER_LAN`].
    pub fn route_past_the_balancer(&self) -> Result<()> {
        let sides = [("clients", ROUTER_WAN, ROUTER_WAN6), ("servers", ROUTER_LAN, ROUTER_LAN6)];
        for (bridge, address, address6) in sides {
            self.switch.speak_ipv6(bridge)?;
            let address6 = format!("{address6}/{PREFIX_LENGTH6}");
            self.switch.ip(&format!("addr replace {address}/{PREFIX_LENGTH} dev {bridge}"))?;
            self.switch.ip(&format!("addr replace {address6} dev {bridge} nodad"))?;
        }
        self.switch.route()
    }
}

/// Fails with a sentence unless this process may make namespaces.
pub fn require_root() -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("the lab makes network namespaces and needs root: run it again with sudo");
    }
    Ok(())
}

/// A cable from a host to a bridge.
fn plug(host: &Host, interface: &str, switch: &Host, port: &str, bridge: &str) -> Result<()> {
    host.link(interface, switch, port)
        .with_context(|| format!("joining {} to the switch", host.name()))?;
    switch.ip(&format!("link set {port} master {bridge}"))?;
    Ok(())
}

fn add_client(network: &str, switch: &Host, number: u8) -> Result<Host> {
    let host = Host::new(network, &format!("client-{number}"))?;
    plug(&host, "eth0", switch, &format!("c{number}"), "clients")?;
    host.send_whole_packets("eth0")?;
    address(&host, client_address(number), client_address6(number))?;
    host.ip(&format!("route add {VIPS} via {WAN}"))?;
    host.ip(&format!("route add {VIPS6} via {WAN6}"))?;
    Ok(host)
}

fn add_backend(network: &str, switch: &Host, number: u8) -> Result<Host> {
    let host = Host::new(network, &format!("backend-{number}"))?;
    plug(&host, "eth0", switch, &format!("s{number}"), "servers")?;
    host.send_whole_packets("eth0")?;
    address(&host, backend_address(number), backend_address6(number))?;
    Ok(host)
}

/// Gives a host its address of each family.
fn address(host: &Host, ipv4: Ipv4Addr, ipv6: Ipv6Addr) -> Result<()> {
    host.speak_ipv6("eth0")?;
    host.ip(&format!("addr add {ipv4}/{PREFIX_LENGTH} dev eth0"))?;
    host.ip(&format!("addr add {ipv6}/{PREFIX_LENGTH6} dev eth0 nodad"))?;
    Ok(())
}
