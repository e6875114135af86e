//! `shunt-bench generate` at the balancer's two links, in place of clients and backends: all it sends comes back
//! right, in both families. The same through `dpdk-testpmd` in the balancer's place.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use lab::Host;
use lab::config::{Config, Service};
use lab::network::{CLIENT_SIDE, LOCAL, LOCAL6, SERVER_SIDE, VIP, VIP6, WAN, WAN6};
use lab::program::Program;
use rustix::process::Signal;
use serde_json::Value;

use crate::harness::Rig;
use crate::shared_typed::by;

/// Where nobody is but the generator.
const BACKENDS: [IpAddr; 4] = [
    IpAddr::V4(Ipv4Addr::new(10, 44, 0, 201)),
    IpAddr::V4(Ipv4Addr::new(10, 44, 0, 202)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0x44, 0, 0, 0, 0, 0x201)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0x44, 0, 0, 0, 0, 0x202)),
];

/// A service for each family, with two backends in the generator.
fn with_services(mut config: Config) -> Config {
    let services = [
        ("tcp", IpAddr::from(VIP), LOCAL.map(IpAddr::from)),
        ("udp", IpAddr::from(VIP6), LOCAL6.map(IpAddr::from)),
    ];
    for (protocol, vip, locals) in services {
        let service = Service::new(protocol, protocol, SocketAddr::new(vip, 80), &locals);
        let backends = BACKENDS.iter().filter(|backend| backend.is_ipv4() == vip.is_ipv4());
        config.service.push(
            backends.fold(service, |service, backend| service.to(SocketAddr::new(*backend, 8080))),
        );
    }
    config
}

/// A host with a link to each side.
fn generator(rig: &Rig) -> Host {
    let generator = rig.network.add_host("generator").unwrap();
    generator.ip("link add wan type veth peer name plug").unwrap();
    rig.network.plug_into_clients(&generator, "plug").unwrap();
    generator.ip("link set wan up").unwrap();
    generator
}

/// What is found with these options beside those of every run.
fn measured(rig: &Rig, generator: &Host, options: &[&str]) -> Value {
    let mut command = generator.command(env!("CARGO_BIN_EXE_shunt-bench"));
    command.args(["generate", "--clients", "net_af_packet0,iface=wan"]);
    command.args(["--backends", "net_af_packet1,iface=lan"]).args(options);
    command.args(["--flows", "300", "--in-flight", "32", "--duration", "1", "--no-huge", "--json"]);
    let mut program = Program::start(&rig.network, "generate", command).unwrap();
    let found = serde_json::from_str(&program.finish(Duration::from_secs(40)).unwrap()).unwrap();
    all_came_back(&found);
    found
}

fn all_came_back(found: &Value) {
    assert_eq!(found["lost_packets"], 0, "{found}");
    assert_eq!(found["wrong_packets"], 0, "{found}");
    assert!(found["offered_packets"].as_u64().unwrap() > 300, "{found}");
}

#[test]
fn all_that_a_generator_sends_comes_back_right() {
    let rig = Rig::new(0, 0);
    let generator = generator(&rig);
    let mut balancer = rig.start(with_services(Config::new(&rig.network, 1)));
    for (protocol, vip, gateway) in [
        ("tcp", SocketAddr::new(VIP.into(), 80), IpAddr::from(WAN)),
        ("udp", SocketAddr::new(VIP6.into(), 80), IpAddr::from(WAN6)),
    ] {
        let (vip, gateway) = (vip.to_string(), gateway.to_string());
        let options = ["--vip", &vip, "--gateway", &gateway, "--protocol", protocol];
        let found = measured(&rig, &generator, &options);
        assert!(keys(&found).is_subset(&documented()), "docs/performance.md");
    }
    let metrics = balancer.metrics().unwrap();
    for service in ["tcp", "udp"] {
        let made = metrics.sum("shunt_new_connections_total", &[("service", service)]).unwrap();
        assert!(made >= 300.0, "{service}: {made}");
    }
    balancer.stop().unwrap();
}

/// The page's own lines, with packet sockets for cards, the lab's VIP, and numbers that end soon.
#[test]
fn the_lines_of_the_page_measure_what_they_say() {
    let rig = Rig::new(0, 0);
    let generator = generator(&rig);
    let mut balancer = rig.start(with_services(Config::new(&rig.network, 1)));
    let (vip, gateway) = (SocketAddr::new(VIP.into(), 80).to_string(), WAN.to_string());
    let lines = by(file!());
    assert_eq!(lines.len(), 2);
    for typed in lines {
        let words = typed.line.split_whitespace().skip(1).collect::<Vec<_>>();
        let options = words.windows(2).map(|pair| match pair {
            ["--clients", _] => "net_af_packet0,iface=wan",
            ["--backends", _] => "net_af_packet1,iface=lan",
            ["--vip", _] => &vip,
            ["--flows", _] => "300",
            ["--rate-kpps", _] => "5",
            [_, word] => word,
            _ => unreachable!("windows of two"),
        });
        let mut command = generator.command(env!("CARGO_BIN_EXE_shunt-bench"));
        command.arg("generate").args(options).args(["--gateway", &gateway, "--duration", "1"]);
        command.args(["--in-flight", "32", "--no-huge", "--json"]);
        let mut program = Program::start(&rig.network, "generate", command).unwrap();
        let said = program.finish(Duration::from_secs(60)).unwrap();
        let found: Value = serde_json::from_str(&said).unwrap();
        assert_eq!(found["flows"], 300, "{found}");
        assert_eq!(found["no_loss_mpps"].is_null(), !typed.line.contains("--search"), "{found}");
    }
    balancer.stop().unwrap();
}

/// An interface's link address.
fn mac(host: &Host, interface: &str) -> String {
    let path = format!("/sys/class/net/{interface}/address");
    host.run("cat", &[&path]).unwrap().trim().to_owned()
}

#[test]
fn the_same_generator_measures_testpmd_for_a_floor() {
    let rig = Rig::new(0, 0);
    let (generator, box_) = (generator(&rig), &rig.network.balancer);
    rig.network.give_ports_to_dpdk().unwrap();
    // As in docs/performance.md, with packet sockets for cards.
    let mut command = box_.command("dpdk-testpmd");
    command.args(["--no-pci", "--no-huge", "-m", "256", "-l", "0,1"]);
    command.arg(format!("--file-prefix={}", rig.network.name()));
    for (number, interface) in [CLIENT_SIDE, SERVER_SIDE].into_iter().enumerate() {
        command.arg(format!("--vdev=net_af_packet{number},iface={interface}"));
    }
    command.args(["--", "--forward-mode=mac", "--stats-period=1", "--total-num-mbufs=16384"]);
    for (number, interface) in ["wan", "lan"].into_iter().enumerate() {
        command.arg(format!("--eth-peer={number},{}", mac(&generator, interface)));
    }
    let mut testpmd = Program::start(&rig.network, "testpmd", command).unwrap();
    let forwards = |it: &Program| Ok(it.stdout().contains("NIC statistics"));
    testpmd.wait_until_ready(Duration::from_secs(20), forwards).unwrap();

    let vip = SocketAddr::new(VIP.into(), 80).to_string();
    let gateway = mac(box_, CLIENT_SIDE);
    let at = ["--vip", &vip, "--gateway-mac", &gateway];
    let found = measured(&rig, &generator, &[&at[..], &["--search", "--rate-kpps", "2"]].concat());
    assert_eq!(keys(&found), documented(), "docs/performance.md");
    let loads = found["latency"].as_array().unwrap().iter().map(|at| at["load_percent"].clone());
    assert_eq!(loads.collect::<Vec<_>>(), [10, 90], "half is what follows");
    testpmd.signal(Signal::INT).unwrap();
    testpmd.wait_for_end(Duration::from_secs(10)).unwrap();
}

/// Keys of an object, those of objects within it behind a dot, those of a list's behind `[]`.
fn keys(found: &Value) -> BTreeSet<String> {
    let keys = found.as_object().unwrap().iter().flat_map(|(key, value)| match value {
        Value::Object(_) => within(&format!("{key}."), value),
        Value::Array(all) => all.iter().flat_map(|one| within(&format!("{key}[]."), one)).collect(),
        _ => vec![key.clone()],
    });
    keys.collect()
}

fn within(before: &str, value: &Value) -> Vec<String> {
    keys(value).into_iter().map(|key| format!("{before}{key}")).collect()
}

/// The first column of the table.
fn documented() -> BTreeSet<String> {
    let text = std::fs::read_to_string("docs/performance.md").unwrap();
    let (_, section) = text.split_once("\n## JSON keys of generate\n").unwrap();
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    rows.map(|(key, _)| key.to_owned()).collect()
}
