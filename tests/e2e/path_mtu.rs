//! Packets longer than the way carries: a client on a wide link, and a narrow link behind us.
//!
//! ```text
//!   client-2 ── 9000 ── balancer ── 1500 ── backends                the first scenario
//!   client-1 ── 1500 ── balancer ── 1500 ── router ── 1400 ── far   the second
//! ```
//!
//! In the first the balancer itself says what fits, in the second it passes on what the router
//! says, about packets with addresses no client knows. Either way it is the client's kernel that
//! must believe it: `ip route get` shows what it learned.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use lab::config::{Config, Service, Tunnel};
use lab::network::{LAN, LAN6, LOCAL, LOCAL6, PREFIX_LENGTH, PREFIX_LENGTH6, VIPS, VIPS6};
use lab::programs::{self, Nginx};
use lab::{Host, Network, Program};

use crate::families::{Original, datagrams, pieces, transfer};
use crate::harness::Rig;
use crate::ways::{Everyone, Way, on_every_way};

/// Bytes of a datagram that is one packet on the wide link and three on the other.
const LONG: &str = "4000";
/// How many of them.
const PIECES: u64 = 5;

/// What this host's kernel believes fits on the way to an address.
fn learned(host: &Host, address: IpAddr) -> Result<u16> {
    let text = host.ip(&format!("-j route get {address}"))?;
    let routes: serde_json::Value = serde_json::from_str(&text)?;
    let mtu = routes.pointer("/0/metrics/0/mtu").and_then(serde_json::Value::as_u64);
    Ok(u16::try_from(mtu.with_context(|| format!("nothing was learned: {text}"))?)?)
}

/// Segments of 8900 bytes are refused and sent again shorter.
fn step(everyone: &Everyone, original: &Original, way: Way) -> Result<()> {
    transfer(everyone, original, everyone.wide_client(), way)?;
    let learned = learned(everyone.wide_client(), way.vip())?;
    ensure!(learned == way.path_mtu(), "learned {learned}, expected {}", way.path_mtu());
    Ok(())
}

/// Datagrams that may be cut are cut.
fn cut(everyone: &Everyone, way: Way) -> Result<()> {
    if way.ipv6 {
        return Ok(());
    }
    let backend = &everyone.rig.network.backends[usize::from(way.backend) - 1];
    let before = backend.kernel_counter("IpReasmOKs")? + backend.kernel_counter("Ip6ReasmOKs")?;
    datagrams(everyone, everyone.wide_client(), way, LONG, PIECES)?;
    let after = backend.kernel_counter("IpReasmOKs")? + backend.kernel_counter("Ip6ReasmOKs")?;
    ensure!(after - before >= PIECES, "{} came in pieces", after - before);
    Ok(())
}

fn a_step_from_9000_to_1500(workers: usize) {
    let everyone = Everyone::new();
    let original = Original::new(&everyone);
    let mut balancer = everyone.rig.start(everyone.config(workers));
    let client = everyone.wide_client();
    let let_cut = |on: u8| {
        client.run("sysctl", &["-qw", &format!("net.ipv4.ip_no_pmtu_disc={on}")]).unwrap();
    };
    let_cut(1);
    let mut failures = on_every_way("cuts", |way| cut(&everyone, way));
    let_cut(0);
    failures.extend(on_every_way("recovers", |way| step(&everyone, &original, way)));
    failures.extend(on_every_way("then echoes", |way| pieces(&everyone, way)));
    let status = balancer.shunt(&["status"]).unwrap();
    assert!(failures.is_empty(), "\n{}\n{status}", failures.join("\n"));
    balancer.stop().unwrap();
    for far_end in &everyone.far_ends {
        assert_eq!(far_end.stderr(), "", "what was wrong with packets out of a tunnel");
    }
}

#[test]
fn a_step_from_9000_to_1500_is_told_and_learned_in_every_mode_with_one_worker() {
    a_step_from_9000_to_1500(1);
}

#[test]
fn a_step_from_9000_to_1500_is_told_and_learned_in_every_mode_with_two_workers() {
    a_step_from_9000_to_1500(2);
}

#[test]
fn a_step_from_9000_to_1500_is_told_and_learned_in_every_mode_with_four_workers() {
    a_step_from_9000_to_1500(4);
}

/// The narrow link.
const NARROW: u16 = 1400;
const FAR: Ipv4Addr = Ipv4Addr::new(10, 45, 0, 11);
const FAR6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x45, 0, 0, 0, 0, 0x11);
const FAR_NET: &str = "10.45.0.0/24";
const FAR_NET6: &str = "2001:db8:45::/64";
const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 44, 0, 250);
const ROUTER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x44, 0, 0, 0, 0, 0x250);
const ROUTER_FAR: Ipv4Addr = Ipv4Addr::new(10, 45, 0, 1);
const ROUTER_FAR6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x45, 0, 0, 0, 0, 1);

/// A service on the far host: its VIP, its mode, what of a client's packet fits.
struct FarWay {
    name: &'static str,
    vip: IpAddr,
    mode: &'static str,
    backend: IpAddr,
    fits: u16,
}

fn far_ways() -> [FarWay; 7] {
    let v4 = |number| Ipv4Addr::new(198, 51, 100, number).into();
    let v6 = |number| Ipv6Addr::new(0x2001, 0xdb8, 0x100, 0, 0, 0, 0, number).into();
    let way = |name, vip, mode, backend, fits| FarWay { name, vip, mode, backend, fits };
    [
        way("fullnat-4", v4(40), "fullnat", FAR.into(), NARROW),
        way("fullnat-6", v6(40), "fullnat", FAR6.into(), NARROW),
        way("nat64", v6(41), "fullnat", FAR.into(), NARROW + 20),
        way("nat-4", v4(42), "nat", FAR.into(), NARROW),
        way("nat-6", v6(42), "nat", FAR6.into(), NARROW),
        way("ipip-4", v4(43), "tunnel", FAR.into(), NARROW - 20),
        way("ipip-6", v6(43), "tunnel", FAR6.into(), NARROW - 40),
    ]
}

/// The far host, and what runs on it. The router before it is kept with it.
struct Far {
    web: Nginx,
    _far_ends: [Program; 2],
    _host: Host,
    _router: Host,
}

impl Far {
    fn new(rig: &Rig) -> Self {
        let network = &rig.network;
        network.route_past_the_balancer().unwrap();
        let (router, host) = (router(network), network.add_far_host("far").unwrap());
        host.link("eth0", &router, "far").unwrap();
        for (host, interface) in [(&host, "eth0"), (&router, "far")] {
            host.send_whole_packets(interface).unwrap();
            host.speak_ipv6(interface).unwrap();
            host.ip(&format!("link set {interface} mtu {NARROW}")).unwrap();
        }
        address(&router, "far", (ROUTER_FAR, ROUTER_FAR6));
        address(&host, "eth0", (FAR, FAR6));
        // It promises more than its link takes, so that clients try.
        host.ip(&format!("route add default via {ROUTER_FAR} advmss 1440")).unwrap();
        host.ip(&format!("-6 route add default via {ROUTER_FAR6} advmss 1440")).unwrap();
        for way in far_ways().iter().filter(|way| way.mode == "tunnel") {
            host.carry_vip(way.vip).unwrap();
        }
        let far_end = |from: IpAddr, arguments: &[&str]| {
            programs::decap(network, &rig.binaries, &host, from, arguments).unwrap()
        };
        let far_ends = [
            far_end(LAN.into(), &["ipip", "--device", "ipip44"]),
            far_end(LAN6.into(), &["ipip", "--inner", "ipv6", "--device", "ipip66"]),
        ];
        let web = programs::nginx(network, &host).unwrap();
        Self { web, _far_ends: far_ends, _host: host, _router: router }
    }
}

/// Routes the far host's answers to the balancer, but those from a VIP past it.
fn router(network: &Network) -> Host {
    let router = network.add_host("router").unwrap();
    address(&router, "lan", (ROUTER, ROUTER6));
    router.route().unwrap();
    let (past, past6) = (lab::network::ROUTER_LAN, lab::network::ROUTER_LAN6);
    for line in [
        format!("route add default via {LAN}"),
        format!("-6 route add default via {LAN6}"),
        format!("rule add from {VIPS} table 100"),
        format!("-6 rule add from {VIPS6} table 100"),
        format!("route add default via {past} table 100"),
        format!("-6 route add default via {past6} table 100"),
    ] {
        router.ip(&line).unwrap();
    }
    router
}

fn address(host: &Host, interface: &str, (ipv4, ipv6): (Ipv4Addr, Ipv6Addr)) {
    host.ip(&format!("addr add {ipv4}/{PREFIX_LENGTH} dev {interface}")).unwrap();
    host.ip(&format!("addr add {ipv6}/{PREFIX_LENGTH6} dev {interface} nodad")).unwrap();
}

fn far_config(rig: &Rig, workers: usize) -> Config {
    let mut config = Config::new(&rig.network, workers);
    config.port[1].add_route(FAR_NET, ROUTER);
    config.port[1].add_route(FAR_NET6, ROUTER6);
    for way in far_ways() {
        let local: [IpAddr; 2] =
            if way.backend.is_ipv6() { LOCAL6.map(Into::into) } else { LOCAL.map(Into::into) };
        let service = Service::new(way.name, "tcp", SocketAddr::new(way.vip, 80), &local);
        let service = match way.mode {
            "fullnat" => service,
            "tunnel" => service.in_mode("tunnel", Some(Tunnel::ipip())),
            mode => service.in_mode(mode, None),
        };
        config.service.push(service.to(SocketAddr::new(way.backend, 80)));
    }
    config
}

/// An upload of full segments arrives, and the client has learned what fits.
fn upload(client: &Host, web: &Path, original: &Original, way: &FarWay) -> Result<()> {
    let url = format!("http://{}/{}", SocketAddr::new(way.vip, 80), way.name);
    programs::upload(client, &original.file, &url).context("upload")?;
    original.is(&PathBuf::from(web).join(way.name))?;
    let learned = learned(client, way.vip)?;
    ensure!(learned == way.fits, "learned {learned}, expected {}", way.fits);
    Ok(())
}

fn a_narrow_link_behind_us(workers: usize) {
    let rig = Rig::new(1, 0);
    let far = Far::new(&rig);
    let original = Original::in_folder(rig.network.folder());
    let mut balancer = rig.start(far_config(&rig, workers));
    let client = &rig.network.clients[0];
    let upload = |way: FarWay| {
        let error = upload(client, &far.web.folder, &original, &way).err()?;
        Some(format!("{}: {error:#}", way.name))
    };
    let failures: Vec<_> = far_ways().into_iter().filter_map(upload).collect();
    let status = balancer.shunt(&["status"]).unwrap();
    assert!(failures.is_empty(), "\n{}\n{status}", failures.join("\n"));
    balancer.stop().unwrap();
}

#[test]
fn what_a_router_behind_us_says_of_its_mtu_is_learned_by_clients_with_one_worker() {
    a_narrow_link_behind_us(1);
}

#[test]
fn what_a_router_behind_us_says_of_its_mtu_is_learned_by_clients_with_two_workers() {
    a_narrow_link_behind_us(2);
}

#[test]
fn what_a_router_behind_us_says_of_its_mtu_is_learned_by_clients_with_four_workers() {
    a_narrow_link_behind_us(4);
}
