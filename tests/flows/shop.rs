//! A world with services of the test's choice, in either family: one backend each, so that the
//! link address a packet leaves with says which service took it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use shunt::dataplane::snapshot::{
    Backend, Limit, Mode, NextHop, Ports, Protocol, Scheduler, Service, ServiceAddress, Snapshot,
};
use shunt::ids::{BackendId, PortId, ServiceId};

use crate::packets::builder::chunk;
use crate::packets::oracle::{Judgement, judge_any};
use crate::packets::{Builder, OUR_INNER_MAC, packet};
use crate::world::{Plan, Sent, World, backend_mac};

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ip {
    V4,
    V6,
}

pub(crate) const FAMILIES: [Ip; 2] = [Ip::V4, Ip::V6];
pub(crate) const PROTOCOLS: [Protocol; 3] = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];

impl Ip {
    /// The VIP of that number.
    pub(crate) fn vip(self, n: u8) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::new(198, 51, 100, n).into(),
            Self::V6 => Ipv6Addr::new(0x2001, 0xdb8, 7, 0, 0, 0, 0, n.into()).into(),
        }
    }

    /// The host of that number on the backends' link.
    pub(crate) fn inner(self, n: u8) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::new(10, 44, 0, n).into(),
            Self::V6 => Ipv6Addr::new(0xfd00, 0x44, 0, 0, 0, 0, 0, n.into()).into(),
        }
    }

    /// The client, from that port.
    pub(crate) fn client(self, port: u16) -> SocketAddr {
        let address: IpAddr = match self {
            Self::V4 => Ipv4Addr::new(192, 0, 2, 2).into(),
            Self::V6 => Ipv6Addr::new(0x2001, 0xdb8, 0xc, 0, 0, 0, 0, 2).into(),
        };
        (address, port).into()
    }

    /// Bytes of an IP header.
    pub(crate) fn header(self) -> usize {
        match self {
            Self::V4 => 20,
            Self::V6 => 40,
        }
    }
}

/// A service and its backend, number 11 and up in the order of the services.
#[derive(Clone, Debug)]
pub(crate) struct Stall {
    pub(crate) protocol: Protocol,
    pub(crate) addresses: Vec<ServiceAddress>,
    pub(crate) mode: Mode,
    /// The backend's port.
    pub(crate) port: u16,
    pub(crate) weight: u32,
}

/// A service in FULL-NAT whose backend has the port the client asks for.
pub(crate) fn stall(protocol: Protocol, addresses: &[(IpAddr, Ports)]) -> Stall {
    let address = |&(vip, ports): &(IpAddr, Ports)| ServiceAddress { vip, ports };
    let addresses = addresses.iter().map(address).collect();
    Stall { protocol, addresses, mode: Mode::Fullnat, port: 0, weight: 1 }
}

/// A world of the plan with these services instead of the plan's.
pub(crate) fn shop(plan: Plan, stalls: &[Stall]) -> World {
    let mut world = World::new(plan);
    world.publish(|snapshot| furnish(snapshot, stalls));
    world
}

pub(crate) fn furnish(snapshot: &mut Snapshot, stalls: &[Stall]) {
    let numbered = || (0u32..).zip(11u8..).zip(stalls);
    snapshot.services = numbered().map(|((id, _), stall)| Some(service(id, stall))).collect();
    snapshot.backends =
        numbered().map(|((id, host), stall)| Some(backend(id, host, stall))).collect();
}

fn service(id: u32, stall: &Stall) -> Service {
    Service {
        name: format!("service {id}").into(),
        protocol: stall.protocol,
        addresses: stall.addresses.clone().into(),
        scheduling: Scheduler::RR.into(),
        backends: [BackendId(id)].into(),
        locals: FAMILIES.iter().map(|ip| ip.inner(2)).collect(),
        revision: 1,
        ..Service::default()
    }
}

fn backend(id: u32, host: u8, stall: &Stall) -> Backend {
    let ip = if stall.addresses[0].vip.is_ipv4() { Ip::V4 } else { Ip::V6 };
    Backend {
        service: ServiceId(id),
        address: ip.inner(host),
        port: stall.port,
        mode: stall.mode,
        answers_here: stall.mode == Mode::Nat,
        our_address: ip.inner(1),
        weight: stall.weight,
        limit: Limit::NONE,
        next_hop: Some(NextHop {
            port: PortId(1),
            source: OUR_INNER_MAC,
            destination: backend_mac(host),
        }),
    }
}

/// The packet that a protocol's connections begin with.
pub(crate) fn first(protocol: Protocol, from: SocketAddr, to: SocketAddr) -> Builder {
    match protocol {
        Protocol::Tcp => packet().tcp(from, to).flags(2),
        Protocol::Udp => packet().udp(from, to).payload(b"question"),
        Protocol::Sctp => packet().sctp(from, to, 0).payload(&chunk(1, 0, &[0x1e; 16])),
    }
}

/// What the backend answers to it.
pub(crate) fn second(protocol: Protocol, got: &Sent) -> Vec<u8> {
    let seen = judge_any(&got.frame).unwrap();
    let (from, to) = ((seen.destination, seen.ports.1), (seen.source, seen.ports.0));
    let (from, to): (SocketAddr, SocketAddr) = (from.into(), to.into());
    let back = match protocol {
        Protocol::Tcp => packet().tcp(from, to).flags(0x12),
        Protocol::Udp => packet().udp(from, to).payload(b"answer"),
        Protocol::Sctp => packet().sctp(from, to, 0x1e1e_1e1e).payload(&chunk(2, 0, &[0xac; 32])),
    };
    back.macs(backend_mac(host(got)), OUR_INNER_MAC).build()
}

/// The backend a packet left for, by its link address.
pub(crate) fn host(sent: &Sent) -> u8 {
    sent.frame[5]
}

/// What a reader sees in a packet that left, or inside of it if it is wrapped by IP in IP.
pub(crate) fn inside(mode: Mode, sent: &Sent) -> Judgement<IpAddr> {
    let Mode::Tunnel(_) = mode else { return judge_any(&sent.frame).unwrap() };
    let outer = if sent.frame[12..14] == [8, 0] { Ip::V4 } else { Ip::V6 }.header();
    judge_any(&[&sent.frame[..14], &sent.frame[14 + outer..]].concat()).unwrap()
}
