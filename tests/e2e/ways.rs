//! Every way to a backend at once: each mode, each family, each tunnel, each mix of families.
//!
//! ```text
//!                              ┌─ backend-1  fullnat, NAT64
//!   client-1 (MTU 1500) ─┐     │
//!                        ├─ balancer ─ backend-2  nat           answers through the balancer
//!   client-2 (MTU 9000) ─┘     │
//!        │                     └─ backend-3  dr, tunnels        has the VIPs and far ends,
//!        └───────── router ◄──────────────────┘                 answers past the balancer
//! ```
//!
//! Each way has a VIP of its own with two services: TCP at port 80, and UDP at every port, so that
//! one port of the backend echoes and the others are closed.
//!
//! Backends believe that the clients' 9000 bytes reach them (they announce that MSS), and have
//! themselves a MTU of 1500: what they are sent is too big until somebody says so.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::Result;
use lab::config::{Config, Port, Service, Tunnel};
use lab::network::{self, LAN, LAN6, LOCAL, LOCAL6};
use lab::{Host, Program, programs};

use crate::harness::Rig;

/// Where every backend echoes datagrams.
pub(crate) const ECHO: u16 = 7;
/// MTU of the wide side.
const WIDE: u16 = 9000;

/// One way: a VIP, a mode, a backend.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Way {
    pub(crate) name: &'static str,
    pub(crate) mode: &'static str,
    tunnel: fn() -> Option<Tunnel>,
    /// Of VIP and clients.
    pub(crate) ipv6: bool,
    /// Of the backend.
    backend_ipv6: bool,
    /// From 1.
    pub(crate) backend: u8,
    /// What the tunnel adds.
    pub(crate) overhead: u16,
    number: u8,
}

const fn way(number: u8, name: &'static str, mode: &'static str, families: (u8, u8)) -> Way {
    let backend = match mode.as_bytes() {
        b"fullnat" => 1,
        b"nat" => 2,
        _ => 3,
    };
    let (ipv6, backend_ipv6) = (families.0 == 6, families.1 == 6);
    Way { name, mode, tunnel: || None, ipv6, backend_ipv6, backend, overhead: 0, number }
}

/// A tunnel; `header` is what it has beside the outer IP header.
const fn through(
    number: u8,
    name: &'static str,
    tunnel: fn() -> Option<Tunnel>,
    families: (u8, u8),
    header: u16,
) -> Way {
    let outer = if families.1 == 6 { 40 } else { 20 };
    Way { tunnel, overhead: outer + header, ..way(number, name, "tunnel", families) }
}

const IPIP: fn() -> Option<Tunnel> = || Some(Tunnel::ipip());
const GRE: fn() -> Option<Tunnel> = || Some(Tunnel::gre(false));
const GUE: fn() -> Option<Tunnel> = || Some(Tunnel::gue(6080, true));

/// All of them.
pub(crate) const WAYS: [Way; 15] = [
    way(20, "fullnat-4", "fullnat", (4, 4)),
    way(21, "fullnat-6", "fullnat", (6, 6)),
    way(22, "nat64", "fullnat", (6, 4)),
    way(23, "nat-4", "nat", (4, 4)),
    way(24, "nat-6", "nat", (6, 6)),
    way(25, "dr-4", "dr", (4, 4)),
    way(26, "dr-6", "dr", (6, 6)),
    through(27, "ipip-4in4", IPIP, (4, 4), 0),
    through(28, "ipip-6in6", IPIP, (6, 6), 0),
    through(29, "ipip-6in4", IPIP, (6, 4), 0),
    through(30, "ipip-4in6", IPIP, (4, 6), 0),
    through(31, "gre-4", GRE, (4, 4), 4),
    through(32, "gre-6", GRE, (6, 6), 4),
    through(33, "gue-4", GUE, (4, 4), 12),
    through(34, "gue-6", GUE, (6, 6), 12),
];

/// Does this on every way, and returns what failed, one sentence for each. Says it at once too, for
/// a run that is ended because it takes too long.
pub(crate) fn on_every_way(what: &str, act: impl Fn(Way) -> Result<()>) -> Vec<String> {
    let act = |way: Way| {
        let error = act(way).err()?;
        let failure = format!("{} {what}: {error:#}", way.name);
        eprintln!("{failure}");
        Some(failure)
    };
    WAYS.into_iter().filter_map(act).collect()
}

impl Way {
    pub(crate) fn vip(self) -> IpAddr {
        if self.ipv6 {
            Ipv6Addr::new(0x2001, 0xdb8, 0x100, 0, 0, 0, 0, self.number.into()).into()
        } else {
            Ipv4Addr::new(198, 51, 100, self.number).into()
        }
    }

    /// A port of the VIP.
    pub(crate) fn at(self, port: u16) -> SocketAddr {
        SocketAddr::new(self.vip(), port)
    }

    pub(crate) fn url(self, file: &str) -> String {
        format!("http://{}/{file}", self.at(80))
    }

    /// Who answers.
    pub(crate) fn backend_name(self) -> String {
        format!("backend-{}", self.backend)
    }

    /// Whom its backend sees when the first client asks.
    pub(crate) fn seen(self) -> Vec<IpAddr> {
        match (self.mode, self.ipv6) {
            ("fullnat", _) if self.backend_ipv6 => LOCAL6.map(IpAddr::from).to_vec(),
            ("fullnat", _) => LOCAL.map(IpAddr::from).to_vec(),
            (_, true) => vec![network::client_address6(1).into()],
            (_, false) => vec![network::client_address(1).into()],
        }
    }

    /// The longest packet of a client that gets through.
    pub(crate) fn path_mtu(self) -> u16 {
        // An IPv6 packet is 20 bytes longer than the IPv4 packet it becomes.
        let shrinks = if self.name == "nat64" { 20 } else { 0 };
        1500 - self.overhead + shrinks
    }

    /// Its service of this protocol, at this port of VIP and backend.
    pub(crate) fn service(self, protocol: &str, port: u16) -> Service {
        let local: Vec<IpAddr> = if self.backend_ipv6 {
            LOCAL6.map(Into::into).into()
        } else {
            LOCAL.map(Into::into).into()
        };
        let name = format!("{}-{protocol}", self.name);
        let service = Service::new(&name, protocol, self.at(port), &local);
        let service = match self.mode {
            "fullnat" => service,
            mode => service.in_mode(mode, (self.tunnel)()),
        };
        service.to(SocketAddr::new(backend(self.backend, self.backend_ipv6), port))
    }
}

/// Address of a backend, from 1.
pub(crate) fn backend(number: u8, ipv6: bool) -> IpAddr {
    if ipv6 {
        network::backend_address6(number).into()
    } else {
        network::backend_address(number).into()
    }
}

/// The picture above, its backends ready, without a daemon yet.
pub(crate) struct Everyone {
    pub(crate) rig: Rig,
    /// By backend.
    pub(crate) far_ends: Vec<Program>,
    _echoes: Vec<Program>,
}

impl Everyone {
    pub(crate) fn new() -> Self {
        let rig = Rig::new(2, 3);
        let network = &rig.network;
        network.widen_the_clients_lan(WIDE, &[&network.clients[1]]).unwrap();
        let [one, two, three] = [0, 1, 2].map(|at| &network.backends[at]);
        network.answer_through_the_balancer(two).unwrap();
        let past = WAYS.iter().filter(|way| way.backend == 3);
        let vips: Vec<_> = past.map(|way| way.vip()).collect();
        network.answer_for_past_the_balancer(three, &vips).unwrap();
        for host in [one, two, three] {
            announce_more_than_fits(host);
        }
        let far_ends = far_ends(&rig, three);
        let echoes = [
            echo(&rig, one, &[backend(1, false), backend(1, true)]),
            echo(&rig, two, &[backend(2, false), backend(2, true)]),
            echo(&rig, three, &vips),
        ];
        Self { _echoes: echoes.into(), far_ends, rig }
    }

    /// Every way, TCP at port 80 and UDP at every port; the clients' side wide, as the picture has
    /// it.
    pub(crate) fn config(&self, workers: usize) -> Config {
        let mut config = Config::new(&self.rig.network, workers);
        config.port[0].widen();
        config.port.iter_mut().for_each(Port::lengthen_frames);
        // Every buffer has room for a packet of the wide side.
        config.dpdk.memory_mb = 512;
        for way in WAYS {
            config.service.push(way.service("tcp", 80));
            config.service.push(way.service("udp", 0));
        }
        config
    }

    pub(crate) fn narrow_client(&self) -> &Host {
        &self.rig.network.clients[0]
    }

    pub(crate) fn wide_client(&self) -> &Host {
        &self.rig.network.clients[1]
    }
}

fn echo(rig: &Rig, host: &Host, addresses: &[IpAddr]) -> Program {
    programs::udp_echo_at(&rig.network, &rig.binaries, host, ECHO, addresses, &[]).unwrap()
}

/// Makes a host promise to take segments that the way to it cannot carry.
fn announce_more_than_fits(host: &Host) {
    for family in ["-4", "-6"] {
        let routes = host.ip(&format!("{family} route show")).unwrap();
        let sized = |route: &&str| route.contains("dev eth0") && !route.starts_with("fe80");
        for route in routes.lines().filter(sized) {
            let route = route.replace("linkdown", "");
            host.ip(&format!("{family} route change {route} advmss 8900")).unwrap();
        }
    }
}

/// The far end of every kind of tunnel among the ways. One for each raw socket's protocol and
/// family, or packets would meet one that does not want them.
fn far_ends(rig: &Rig, host: &Host) -> Vec<Program> {
    let rows: [(IpAddr, &[&str]); 8] = [
        (LAN.into(), &["ipip", "--device", "ipip44"]),
        (LAN6.into(), &["ipip", "--inner", "ipv6", "--device", "ipip66"]),
        (LAN.into(), &["ipip", "--inner", "ipv6", "--device", "ipip64"]),
        (LAN6.into(), &["ipip", "--device", "ipip46"]),
        (LAN.into(), &["gre", "--device", "gre44"]),
        (LAN6.into(), &["gre", "--inner", "ipv6", "--device", "gre66"]),
        (LAN.into(), &["gue", "--checksum", "--device", "gue44"]),
        (LAN6.into(), &["gue", "--checksum", "--inner", "ipv6", "--device", "gue66"]),
    ];
    let start = |(from, arguments): (IpAddr, &[&str])| {
        programs::decap(&rig.network, &rig.binaries, host, from, arguments).unwrap()
    };
    rows.into_iter().map(start).collect()
}
