//! Random tables, as ours and in the shim's words.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};

use proptest::prelude::*;
use shunt::cli::ipvsadm::table::{Figures, Server, Service};
use shunt::control::config::mode::{Spelled, SpelledTunnel};
use shunt::dataplane::snapshot::{Ports, Protocol, ServiceAddress};

/// Of any number of digits; connections and packets have 32 bits there.
pub(crate) fn figures() -> impl Strategy<Value = Figures> {
    let number = |bits: u32| (0..=bits).prop_flat_map(|bits| 0..(1u64 << bits));
    (number(32), number(32), number(32), number(60), number(60)).prop_map(named)
}

fn rates() -> impl Strategy<Value = Figures> {
    let number = || 0..=u64::from(u32::MAX);
    (number(), number(), number(), number(), number()).prop_map(named)
}

fn named(
    (connections, in_packets, out_packets, in_bytes, out_bytes): (u64, u64, u64, u64, u64),
) -> Figures {
    Figures { connections, in_packets, out_packets, in_bytes, out_bytes }
}

fn address() -> impl Strategy<Value = Ipv4Addr> {
    (1u8..224, any::<u8>(), any::<u8>(), 1u8..255)
        .prop_filter("loopback", |(first, ..)| *first != 127)
        .prop_map(|(a, b, c, d)| Ipv4Addr::new(a, b, c, d))
}

/// Any way of forwarding that IPVS has.
fn forward() -> impl Strategy<Value = Spelled> {
    let plain = |mode: &str| Spelled { mode: mode.to_owned(), tunnel: None };
    let tunnel = SpelledTunnel { kind: "ipip".to_owned(), ..SpelledTunnel::default() };
    let tunnel = Spelled { mode: "tunnel".to_owned(), tunnel: Some(tunnel) };
    proptest::sample::select(vec![plain("nat"), plain("dr"), tunnel])
}

fn server() -> impl Strategy<Value = Server> {
    let numbers = (0..65_536u32, 0..=i32::MAX as u32, 0..=i32::MAX as u32);
    let loads = (any::<u32>(), any::<u32>(), any::<u32>());
    (address(), 1u16.., forward(), numbers, loads, figures(), rates()).prop_map(
        |(
            address,
            port,
            forward,
            (weight, upper, lower),
            (active, inactive, persistent),
            total,
            rate,
        )| Server {
            address: SocketAddr::from((address, port)),
            forward,
            weight,
            upper,
            lower,
            active: active.into(),
            inactive: inactive.into(),
            persistent: persistent.into(),
            total,
            rate,
        },
    )
}

fn service() -> impl Strategy<Value = Service> {
    let protocol = proptest::sample::select(&Protocol::ALL[..]);
    let scheduler = proptest::sample::select(&["rr", "wrr", "wlc", "sh", "mh"][..]);
    let persistence = proptest::option::of((1u32..=2_678_400, 1u8..=32));
    let servers = proptest::collection::vec(server(), 0..5);
    let terms = (scheduler, any::<[bool; 2]>(), persistence, any::<bool>());
    ((address(), 1u16.., protocol), terms, figures(), rates(), servers).prop_map(
        |(
            (vip, port, protocol),
            (scheduler, flags, persistence, is_ops),
            total,
            rate,
            mut servers,
        )| {
            // Packets that are not translated keep their port.
            for server in servers.iter_mut().filter(|server| server.forward.mode != "nat") {
                server.address.set_port(port);
            }
            Service {
                protocol,
                address: ServiceAddress { vip: vip.into(), ports: Ports::one(port) },
                scheduler: scheduler.to_owned(),
                flags,
                persistence,
                is_ops: is_ops && protocol == Protocol::Udp,
                total,
                rate,
                locals: vec![],
                servers,
            }
        },
    )
}

pub(crate) fn services() -> impl Strategy<Value = Vec<Service>> {
    let different = |services: &Vec<Service>| {
        let mut places: Vec<_> = services.iter().map(|it| (it.protocol, it.address)).collect();
        places.sort_by_key(|(protocol, address)| (*protocol, address.vip, address.ports.first));
        places.windows(2).all(|pair| pair[0] != pair[1])
    };
    proptest::collection::vec(service(), 0..6).prop_filter("twice", different)
}

/// For the shim.
pub(crate) fn told(services: &[Service]) -> String {
    let mut text = String::new();
    for service in services {
        let [first, second] = service.flags.map(u32::from);
        let flags = u32::from(service.persistence.is_some())
            | u32::from(service.is_ops) << 2
            | first << 3
            | second << 4;
        let (seconds, prefix) = service.persistence.unwrap_or((0, 32));
        let _ = writeln!(
            text,
            "S {} {} {} {} {flags} {seconds} {} {}",
            service.protocol as u8,
            service.address.vip,
            service.address.ports.first,
            service.scheduler,
            Ipv4Addr::from(u32::MAX << (32 - u32::from(prefix))),
            numbers(service.total, service.rate),
        );
        for server in &service.servers {
            let method = match server.forward.mode.as_str() {
                "nat" => 0,
                "tunnel" => 2,
                _ => 3,
            };
            let Server { weight, upper, lower, active, inactive, persistent, .. } = server;
            let (address, port) = (server.address.ip(), server.address.port());
            let numbers = numbers(server.total, server.rate);
            let _ = writeln!(
                text,
                "D {address} {port} {method} {weight} {upper} {lower} {active} {inactive} {persistent} {numbers}"
            );
        }
    }
    text
}

fn numbers(total: Figures, rate: Figures) -> String {
    let five = |figures: Figures| {
        let Figures { connections, in_packets, out_packets, in_bytes, out_bytes } = figures;
        format!("{connections} {in_packets} {out_packets} {in_bytes} {out_bytes}")
    };
    format!("{} {}", five(total), five(rate))
}
