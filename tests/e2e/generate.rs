//! `shunt-bench generate` at the balancer's two links, in place of clients and backends: all it sends comes back
//! right, in both families.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use lab::config::{Config, Service};
use lab::network::{LOCAL, LOCAL6, VIP, VIP6, WAN, WAN6};
use lab::program::Program;
use serde_json::Value;

use crate::harness::Rig;

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

#[test]
fn all_that_a_generator_sends_comes_back_right() {
    let rig = Rig::new(0, 0);
    let generator = rig.network.add_host("generator").unwrap();
    generator.ip("link add wan type veth peer name plug").unwrap();
    rig.network.plug_into_clients(&generator, "plug").unwrap();
    generator.ip("link set wan up").unwrap();
    let mut balancer = rig.start(with_services(Config::new(&rig.network, 1)));
    for (protocol, vip, gateway) in [
        ("tcp", SocketAddr::new(VIP.into(), 80), IpAddr::from(WAN)),
        ("udp", SocketAddr::new(VIP6.into(), 80), IpAddr::from(WAN6)),
    ] {
        let mut command = generator.command(env!("CARGO_BIN_EXE_shunt-bench"));
        command.args(["generate", "--clients", "net_af_packet0,iface=wan"]);
        command.args(["--backends", "net_af_packet1,iface=lan", "--vip", &vip.to_string()]);
        command.args(["--gateway", &gateway.to_string(), "--protocol", protocol]);
        command.args(["--flows", "300", "--in-flight", "32", "--duration", "1", "--no-huge"]);
        let mut program = Program::start(&rig.network, "generate", {
            command.arg("--json");
            command
        })
        .unwrap();
        let said = program.finish(Duration::from_secs(40)).unwrap();
        let found: Value = serde_json::from_str(&said).unwrap();
        assert_eq!(found["lost_packets"], 0, "{found}");
        assert_eq!(found["wrong_packets"], 0, "{found}");
        assert!(found["offered_packets"].as_u64().unwrap() > 300, "{found}");
        assert_eq!(keys(&found), documented(), "docs/performance.md");
    }
    let metrics = balancer.metrics().unwrap();
    for service in ["tcp", "udp"] {
        let made = metrics.sum("shunt_new_connections_total", &[("service", service)]).unwrap();
        assert!(made >= 300.0, "{service}: {made}");
    }
    balancer.stop().unwrap();
}

/// Keys of an object, those of objects within it behind a dot.
fn keys(found: &Value) -> BTreeSet<String> {
    let keys = found.as_object().unwrap().iter().flat_map(|(key, value)| match value {
        Value::Object(inner) => inner.keys().map(|inner| format!("{key}.{inner}")).collect(),
        _ => vec![key.clone()],
    });
    keys.collect()
}

/// The first column of the table.
fn documented() -> BTreeSet<String> {
    let text = std::fs::read_to_string("docs/performance.md").unwrap();
    let (_, section) = text.split_once("\n## JSON keys of generate\n").unwrap();
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    rows.map(|(key, _)| key.to_owned()).collect()
}
