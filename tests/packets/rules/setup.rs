//! What a row is configured with, said in a line: `through(NAT, V4).mtus(1500, 1400)`.
//!
//! ```text
//! clients ── port 0 ── box ── port 1 ── backends .11, .12, …
//! 192.0.2.2    VIP 198.51.100.7:80   10.44.0.1 (ours), .2 (local address)   10.44.0.11:8080
//! 2001:db8:c::2    2001:db8:5::7     2001:db8:44::1, ::2                     2001:db8:44::b
//! ```
//!
//! Unless the row says otherwise there is one service of each protocol at port 80 of the VIP, with
//! one backend, whose port is 8080, or 80 where ports are kept.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use shunt::dataplane::access::{ListSet, Listed, Network};
use shunt::dataplane::snapshot::{
    Backend, ClientAddress, Group, IcmpOnEnd, Limit, Mode, Networks, NextHop, Ping, Place, Ports,
    Protocol, Scheduler, Service, ServiceAddress, Snapshot, Strays, SynCookies,
};
use shunt::ids::{BackendId, PortId, ServiceId};
use shunt::wire::Mac;
use shunt::wire::vlan::{Tags, Vid};

use super::Side;
use super::counts::tags;
use crate::packets::{self, OUR_INNER_MAC};

/// An address family, and who is who in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Ip {
    V4,
    V6,
}

pub(crate) use Ip::{V4, V6};

pub(crate) const FAMILIES: [Ip; 2] = [V4, V6];
pub(crate) const PROTOCOLS: [Protocol; 3] = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];

impl Ip {
    pub(crate) fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { V4 } else { V6 }
    }

    /// Host `n` on the backends' link.
    pub(crate) fn host(self, n: u8) -> IpAddr {
        match self {
            V4 => Ipv4Addr::new(10, 44, 0, n).into(),
            V6 => Ipv6Addr::new(0x2001, 0xdb8, 0x44, 0, 0, 0, 0, n.into()).into(),
        }
    }

    pub(crate) fn client(self) -> SocketAddr {
        match self {
            V4 => packets::CLIENT.into(),
            V6 => packets::CLIENT_V6.into(),
        }
    }

    pub(crate) fn vip(self) -> SocketAddr {
        match self {
            V4 => packets::VIP.into(),
            V6 => packets::VIP_V6.into(),
        }
    }

    /// The first backend, where ports are mapped.
    pub(crate) fn backend(self) -> SocketAddr {
        (self.host(11), 8080).into()
    }

    /// Our own address towards the backends.
    pub(crate) fn ours(self) -> IpAddr {
        self.host(1)
    }

    /// The local address of FULL-NAT.
    pub(crate) fn local(self) -> IpAddr {
        self.host(2)
    }

    /// A router between us and the backends.
    pub(crate) fn inner_router(self) -> IpAddr {
        self.host(200)
    }

    /// A router between us and the clients.
    pub(crate) fn outer_router(self) -> IpAddr {
        match self {
            V4 => Ipv4Addr::new(192, 0, 2, 254).into(),
            V6 => Ipv6Addr::new(0x2001, 0xdb8, 0xc, 0, 0, 0, 0, 0xfe).into(),
        }
    }

    /// Bytes of an IP header.
    pub(crate) fn header(self) -> usize {
        if self == V4 { 20 } else { 40 }
    }
}

/// The link address of backend `n`.
pub(crate) fn backend_mac(n: u8) -> Mac {
    Mac([0x02, 0, 0, 0, 0x0b, n])
}

/// A port of tagged frames, on top of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tagged {
    pub(crate) on: Side,
    pub(crate) outer: u16,
    pub(crate) inner: Option<u16>,
}

impl Tagged {
    /// The frame with its tags.
    pub(crate) fn frame(self, frame: impl Into<Vec<u8>>) -> Vec<u8> {
        let frame = frame.into();
        let tag = |tpid: u16, vid: u16| [tpid.to_be_bytes(), vid.to_be_bytes()].concat();
        let tags = match self.inner {
            None => tag(0x8100, self.outer),
            Some(inner) => [tag(0x88a8, self.outer), tag(0x8100, inner)].concat(),
        };
        [&frame[..12], &tags, &frame[12..]].concat()
    }

    /// Is it a frame of this port?
    pub(crate) fn is_on(self, side: Side, frame: &[u8]) -> bool {
        let bare = [&frame[..12], &frame[12 + tags(frame)..]].concat();
        self.on == side && tags(frame) > 0 && self.frame(bare) == frame
    }

    pub(crate) fn tags(self) -> Tags {
        let vid = |number| Vid::new(number).unwrap();
        Tags { outer: vid(self.outer), inner: self.inner.map(vid) }
    }
}

/// A backend: a host, how it is reached, its share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Real {
    pub(crate) ip: Ip,
    pub(crate) number: u8,
    pub(crate) port: u16,
    pub(crate) mode: Mode,
    /// `None`: it was removed.
    pub(crate) weight: Option<u32>,
}

/// A service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Offer {
    pub(crate) protocol: Protocol,
    pub(crate) at: Vec<(IpAddr, Ports)>,
    /// Networks of those it is for; none for everybody.
    pub(crate) clients: Vec<(IpAddr, u8)>,
    /// Further protocols, at the same places.
    pub(crate) also: Vec<Protocol>,
    pub(crate) backends: Vec<Real>,
    pub(crate) one_packet: bool,
    pub(crate) introduction: ClientAddress,
    /// Does it take over connections it has not seen begin?
    pub(crate) sloppy: bool,
}

/// Everything that is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
pub(crate) struct Setup {
    /// Families of clients and backends.
    pub(crate) families: (Ip, Ip),
    pub(crate) services: Vec<Offer>,
    /// Of the clients' and the backends' side.
    pub(crate) mtus: [u16; 2],
    /// Ports 2 and up.
    pub(crate) tagged: Vec<Tagged>,
    /// The port backends are reached by.
    pub(crate) backend_port: u8,
    pub(crate) strays: Strays,
    pub(crate) icmp_on_end: IcmpOnEnd,
    pub(crate) ping: Ping,
    pub(crate) ignore_df: bool,
    pub(crate) accepting: bool,
    /// Are the backends' link addresses known?
    pub(crate) resolved: bool,
    /// Was there a backend in NAT mode before? Its connections' owners must not move.
    pub(crate) had_nat: bool,
    /// Connections a worker may have.
    pub(crate) capacity: u32,
    /// Is the client on a list of those that introduce themselves?
    pub(crate) trusting: bool,
    /// Are the backends directors of the same VIPs?
    pub(crate) mutual: bool,
}

/// One service of each protocol, its backend of the clients' family and reached in that way.
pub(crate) fn through(mode: Mode, ip: Ip) -> Setup {
    between(mode, ip, ip)
}

/// The same with a backend of perhaps another family.
pub(crate) fn between(mode: Mode, clients: Ip, backends: Ip) -> Setup {
    let port = if matches!(mode, Mode::Dr | Mode::Tunnel(_)) { 80 } else { 8080 };
    let real = Real { ip: backends, number: 11, port, mode, weight: Some(1) };
    let offer = |protocol| offer(protocol, &[clients.vip()], real.clone());
    Setup {
        families: (clients, backends),
        services: PROTOCOLS.map(offer).into(),
        mtus: [1500; 2],
        tagged: vec![],
        backend_port: 1,
        strays: Strays::Reject,
        icmp_on_end: IcmpOnEnd::Never,
        ping: Ping::Always,
        ignore_df: false,
        accepting: true,
        resolved: true,
        had_nat: false,
        capacity: 1024,
        trusting: false,
        mutual: false,
    }
}

/// A service at these ends, with one backend.
pub(crate) fn offer(protocol: Protocol, at: &[SocketAddr], real: Real) -> Offer {
    let at = at.iter().map(|end| (end.ip(), Ports::one(end.port()))).collect();
    let introduction = ClientAddress::None;
    let (one_packet, sloppy) = (false, false);
    let (clients, also) = (vec![], vec![]);
    Offer { protocol, at, clients, also, backends: vec![real], one_packet, introduction, sloppy }
}

impl Setup {
    /// Families and mode, as the first part of a variant's name.
    pub(crate) fn variant(&self) -> String {
        let mode = self.services.first().map(|offer| offer.backends[0].mode);
        let name = |ip| if ip == V4 { "ipv4" } else { "ipv6" };
        let families = match self.families {
            (clients, backends) if clients == backends => name(clients).to_owned(),
            (clients, backends) => format!("{} to {}", name(clients), name(backends)),
        };
        mode.map_or(families.clone(), |mode| format!("{families}, {}", mode_name(mode)))
    }

    pub(crate) fn mtus(self, clients: u16, backends: u16) -> Self {
        Self { mtus: [clients, backends], ..self }
    }

    fn each_offer(mut self, change: impl Fn(&mut Offer)) -> Self {
        self.services.iter_mut().for_each(change);
        self
    }

    fn each_real(self, change: impl Fn(&mut Real)) -> Self {
        self.each_offer(|offer| offer.backends.iter_mut().for_each(&change))
    }

    /// The backends' port; 0 keeps the client's.
    pub(crate) fn port(self, port: u16) -> Self {
        self.each_real(|real| real.port = port)
    }

    pub(crate) fn weight(self, weight: u32) -> Self {
        self.each_real(|real| real.weight = Some(weight))
    }

    /// Every backend was removed.
    pub(crate) fn removed(self) -> Self {
        self.each_real(|real| real.weight = None)
    }

    /// So many backends: .11, .12 and so on.
    pub(crate) fn backends(self, count: u8) -> Self {
        self.each_offer(|offer| {
            let real = |number| Real { number, ..offer.backends[0].clone() };
            offer.backends = (11..11 + count).map(real).collect();
        })
    }

    /// A backend for each of these modes.
    pub(crate) fn modes(self, modes: &[(Mode, u16)]) -> Self {
        let count = u8::try_from(modes.len()).unwrap();
        self.backends(count).each_offer(|offer| {
            for (real, (mode, port)) in offer.backends.iter_mut().zip(modes) {
                (real.mode, real.port) = (*mode, *port);
            }
        })
    }

    /// Other places to find the services at.
    pub(crate) fn at(self, at: &[(IpAddr, Ports)]) -> Self {
        self.each_offer(|offer| offer.at = at.to_vec())
    }

    pub(crate) fn services(self, services: Vec<Offer>) -> Self {
        Self { services, ..self }
    }

    pub(crate) fn one_packet(self) -> Self {
        self.each_offer(|offer| offer.one_packet = true)
    }

    pub(crate) fn sloppy(self) -> Self {
        self.each_offer(|offer| offer.sloppy = true)
    }

    /// Clients bring what says who they are themselves.
    pub(crate) fn trusting(self) -> Self {
        Self { trusting: true, ..self }
    }

    pub(crate) fn mutual(self) -> Self {
        Self { mutual: true, ..self }
    }

    pub(crate) fn introducing(self, how: ClientAddress) -> Self {
        self.each_offer(|offer| offer.introduction = how)
    }

    pub(crate) fn tagged(self, tagged: &[Tagged], backend_port: u8) -> Self {
        Self { tagged: tagged.to_vec(), backend_port, ..self }
    }

    pub(crate) fn silent(self) -> Self {
        Self { strays: Strays::Drop, ..self }
    }

    /// Both ends of flows of UDP are told that they end here.
    pub(crate) fn telling(self) -> Self {
        Self { icmp_on_end: IcmpOnEnd::Always, ..self }
    }

    pub(crate) fn ping(self, ping: Ping) -> Self {
        Self { ping, ..self }
    }

    pub(crate) fn ignoring_df(self) -> Self {
        Self { ignore_df: true, ..self }
    }

    pub(crate) fn draining(self) -> Self {
        Self { accepting: false, ..self }
    }

    pub(crate) fn unresolved(self) -> Self {
        Self { resolved: false, ..self }
    }

    pub(crate) fn capacity(self, capacity: u32) -> Self {
        Self { capacity, ..self }
    }

    /// Is a backend in NAT mode?
    pub(crate) fn has_nat(&self) -> bool {
        let reals = self.services.iter().flat_map(|offer| &offer.backends);
        reals.into_iter().any(|real| real.mode == Mode::Nat)
    }

    /// Makes a snapshot say this.
    pub(crate) fn furnish(&self, snapshot: &mut Snapshot) {
        let (mut services, mut backends) = (vec![], vec![]);
        for (offer, id) in self.services.iter().zip(0u32..) {
            let first = u32::try_from(backends.len()).unwrap();
            services.push(Some(Service {
                client_address_from: ListSet(1),
                ..service(offer, id, first, snapshot.generation)
            }));
            backends.extend(offer.backends.iter().map(|real| self.real(real, ServiceId(id))));
        }
        (snapshot.services, snapshot.backends) = (services.into(), backends.into());
        let reals = self.services.iter().flat_map(|offer| &offer.backends).zip(0u32..);
        let gone = reals.filter(|(real, _)| real.weight.is_none());
        snapshot.departed = gone.map(|(real, id)| (BackendId(id), self.hop(real))).collect();
        let had_nat = (0..).map(ServiceId).take(self.services.len());
        snapshot.had_nat = had_nat.filter(|_| self.had_nat).collect();
        let clients = FAMILIES.iter().filter(|_| self.trusting).map(|ip| Network {
            base: ip.client().ip(),
            length: if *ip == V4 { 32 } else { 128 },
            lists: ListSet(1),
        });
        snapshot.members = Some(Arc::new(Listed(clients.collect())));
        let told = self.services.iter().flat_map(|offer| &offer.clients);
        let told = told.map(|&(first, length)| (first, length, ListSet::default()));
        snapshot.client_networks = Arc::new(Networks::new(told));
        let reals = self.services.iter().flat_map(|offer| &offer.backends);
        let directors = reals.filter(|_| self.mutual).map(|real| backend_mac(real.number));
        snapshot.directors = directors.collect();
        (snapshot.strays, snapshot.ping) = (self.strays, self.ping);
        snapshot.icmp_on_end = self.icmp_on_end;
        (snapshot.tunnels_ignore_df, snapshot.accepting) = (self.ignore_df, self.accepting);
        for (port, mtu) in snapshot.ports.iter_mut().zip(self.mtus) {
            port.mtu = mtu;
        }
    }

    fn hop(&self, real: &Real) -> NextHop {
        NextHop {
            port: PortId(self.backend_port),
            source: OUR_INNER_MAC,
            destination: backend_mac(real.number),
        }
    }

    fn real(&self, real: &Real, service: ServiceId) -> Option<Backend> {
        Some(Backend {
            service,
            address: real.ip.host(real.number),
            port: real.port,
            mode: real.mode,
            answers_here: real.mode == Mode::Nat || self.had_nat,
            our_address: real.ip.ours(),
            weight: real.weight?,
            limit: Limit::NONE,
            next_hop: self.resolved.then(|| self.hop(real)),
        })
    }
}

fn service(offer: &Offer, id: u32, first: u32, revision: u64) -> Service {
    let ids = (first..).zip(&offer.backends).filter(|(_, real)| real.weight.is_some());
    let backends: Vec<_> = ids.map(|(id, _)| BackendId(id)).collect();
    let places = |&(vip, ports): &(IpAddr, Ports)| {
        let address = ServiceAddress { vip, ports };
        offer.also.iter().map(move |protocol| Place { protocol: *protocol, address })
    };
    let also = offer.at.iter().flat_map(places);
    Service {
        name: format!("service {id}").into(),
        protocol: offer.protocol,
        addresses: offer.at.iter().map(|&(vip, ports)| ServiceAddress { vip, ports }).collect(),
        scheduling: Scheduler::RR.into(),
        backends: backends.into_iter().rev().collect(),
        locals: FAMILIES.iter().map(|ip| ip.local()).collect(),
        other_protocols: also.collect(),
        one_packet: offer.one_packet
            && (offer.protocol == Protocol::Udp || offer.also.contains(&Protocol::Udp)),
        clients: offer.clients.iter().map(|&(first, bits)| Group::Network(first, bits)).collect(),
        sloppy: offer.sloppy,
        client_address: offer.introduction,
        revision,
        ..Service::default()
    }
}

/// A mode, as in a row's name.
pub(crate) fn mode_name(mode: Mode) -> String {
    use shunt::dataplane::snapshot::{Encapsulation as E, GueChecksum as G};
    let name = match mode {
        Mode::Fullnat => "fullnat",
        Mode::Nat => "nat",
        Mode::Dr => "dr",
        Mode::Tunnel(E::Ipip) => "ipip",
        Mode::Tunnel(E::Gre { checksum: false }) => "gre",
        Mode::Tunnel(E::Gre { checksum: true }) => "gre with checksum",
        Mode::Tunnel(E::Gue { checksum: G::Zero, .. }) => "gue",
        Mode::Tunnel(E::Gue { checksum: G::Outer, .. }) => "gue with checksum",
        Mode::Tunnel(E::Gue { checksum: G::Remote, .. }) => "gue with remote checksum",
    };
    name.to_owned()
}
