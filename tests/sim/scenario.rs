//! What a seed stands for: the box, its configuration, the network, what people do.
//!
//! Everything is drawn here or from a fork of the same sequence. A feature the balancer learns is
//! one more field here, drawn with its chance, and one more rule in the model.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use shunt::dataplane::snapshot::{
    ClientAddress, IcmpOnEnd, Limit, Mode, Protocol, Quotas, Restarts, Scheduler, Timeouts,
};
use shunt::wire::Mac;

use crate::config::{Access, Backend, Change, Config, Place, Service};
use crate::rng::Rng;
use crate::{terms, tunnel};

/// How packets find a worker's queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Card {
    /// Any way at all.
    Any,
    /// By Toeplitz over the 4-tuple.
    Rss,
    /// By Toeplitz on the clients' side, any way at all on the backends'.
    Half,
}

impl Card {
    /// Does this port keep flows together?
    pub(crate) fn spreads(self, port: usize) -> bool {
        match self {
            Self::Any => false,
            Self::Rss => true,
            Self::Half => port == 0,
        }
    }
}

/// What the network does to packets, in thousandths and milliseconds.
#[derive(Clone, Debug)]
pub(crate) struct Conditions {
    pub(crate) lost: u64,
    pub(crate) doubled: u64,
    /// Long packets that leave in pieces.
    pub(crate) cut: u64,
    /// Packets of which a router or host complains.
    pub(crate) complained: u64,
    pub(crate) delay_ms: u64,
    /// The most a packet may be later than `delay_ms`: what makes others overtake it.
    pub(crate) jitter_ms: u64,
    /// Arrivals at the balancer are put together to bursts of this many milliseconds.
    pub(crate) tick_ms: u64,
}

/// One client port and what it is used for, one connection after another.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    pub(crate) client: SocketAddr,
    /// By what, and where the service is asked.
    pub(crate) protocol: Protocol,
    pub(crate) asked: SocketAddr,
    pub(crate) service: usize,
    pub(crate) start_ms: u64,
    pub(crate) connections: u64,
    pub(crate) gap_ms: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) seed: u64,
    pub(crate) card: Card,
    pub(crate) workers: u8,
    /// Connections a worker's table holds.
    pub(crate) capacity: u32,
    pub(crate) hash_seed: [u64; 2],
    /// The clock of the workers at the start: it wraps after 49 days, and nothing may notice.
    pub(crate) clock_ms: u32,
    pub(crate) config: Config,
    pub(crate) conditions: Conditions,
    /// Routers clients' packets come by.
    pub(crate) routers: Vec<Mac>,
    pub(crate) slots: Vec<Slot>,
    /// When a way begins to carry this much: to which host, [`CLIENTS`] being all clients.
    pub(crate) paths: Vec<(u64, usize, usize)>,
    /// When a host forgets what it was told, and which.
    pub(crate) reboots: Vec<(u64, usize)>,
    /// When the configuration changes, and how.
    pub(crate) changes: Vec<(u64, Change)>,
    /// When somebody sends what belongs to nothing.
    pub(crate) strays: Vec<u64>,
}

/// Machines backends run on, and behind them in [`Scenario::paths`] the clients.
pub(crate) const HOSTS: usize = 4;
pub(crate) const CLIENTS: usize = HOSTS;

/// Most of what happens, happens before this.
const BUSY_MS: u64 = 60_000;

impl Scenario {
    pub(crate) fn draw(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let config = config(&mut rng.fork(1));
        let slots = slots(&mut rng.fork(2), &config);
        let mut changes = changes(&mut rng.fork(5), &config);
        let card = rng.pick(&[Card::Any, Card::Rss, Card::Half]);
        let mut conditions = conditions(&mut rng.fork(4));
        let paths = paths(&mut rng.fork(6));
        let mut reboots = reboots(&mut rng.fork(8));
        if rng.fork(7).chance(100) {
            (conditions.lost, conditions.complained) = (0, 0);
            changes.clear();
            reboots.clear();
        }
        let mut at = rng.fork(3);
        let strays = (0..at.below(12)).map(|_| at.below(BUSY_MS)).collect();
        Self {
            seed,
            card,
            workers: rng.pick(&[1, 2, 4]),
            capacity: rng.pick(&[8, 64, 256, 256, 256]),
            hash_seed: [rng.next(), rng.next()],
            clock_ms: rng.pick(&[1_000, u32::MAX - 10_000, u32::MAX - 200_000]),
            conditions,
            routers: (0..rng.range(1, 2)).map(|n| Mac([2, 0, 0, 0, 0xc, byte(n)])).collect(),
            paths,
            reboots,
            changes,
            slots,
            strays,
            config,
        }
    }
}

impl Scenario {
    /// Nothing is in the way of a connection but narrow links: whoever sends is heard in the end.
    pub(crate) fn is_calm(&self) -> bool {
        let serves = |service: &Service| {
            let mut backends = service.backends.iter();
            backends.clone().any(|b| b.weight > Some(0))
                && backends.all(|b| b.reachable && !b.was_nat && b.limit == Limit::NONE)
                && !service.sloppy
                && service.quotas == Quotas::default()
                && !terms::is_choosy(service.scheduler)
                && (service.access.denied, service.access.allowed) == (None, None)
                && service.reflected.is_none()
        };
        let Conditions { lost, complained, .. } = self.conditions;
        (lost, complained) == (0, 0)
            && self.changes.is_empty()
            && self.reboots.is_empty()
            && self.capacity > 64
            && self.config.rejects
            && !self.slots.iter().any(|slot| self.config.has_host(slot.client.ip()))
            && self.config.services.iter().all(serves)
    }

    /// Every packet comes straight to its owner: the card spreads both ways, and no owner follows
    /// from the client alone, as SCTP's do, which cards are not asked to spread.
    pub(crate) fn needs_no_handover(&self) -> bool {
        let services = &self.config.services;
        let backends = services.iter().flat_map(|service| &service.backends);
        self.card == Card::Rss
            && self.conditions.cut == 0
            && self.conditions.complained == 0
            && self.paths.is_empty()
            && self.strays.is_empty()
            && services.iter().all(|service| !service.speaks(Protocol::Sctp))
            && !backends.into_iter().any(|backend| backend.was_nat)
    }
}

fn byte(number: u64) -> u8 {
    u8::try_from(number).unwrap()
}

fn conditions(rng: &mut Rng) -> Conditions {
    let (lost, doubled) = rng.pick(&[(0, 0), (10, 10), (50, 20), (150, 100)]);
    Conditions {
        lost,
        doubled,
        cut: rng.pick(&[0, 50, 300, 500]),
        complained: rng.pick(&[0, 0, 10, 60]),
        delay_ms: rng.range(0, 30),
        jitter_ms: rng.pick(&[0, 0, 5, 40]),
        tick_ms: rng.pick(&[1, 5, 20]),
    }
}

fn config(rng: &mut Rng) -> Config {
    let vips: [IpAddr; 2] = [
        Ipv4Addr::new(198, 51, 100, 7).into(),
        Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7).into(),
    ];
    let kinds =
        [(Protocol::Tcp, 80), (Protocol::Udp, 80), (Protocol::Tcp, 81), (Protocol::Sctp, 80)];
    let (first, count) = (rng.index(kinds.len()), usize::try_from(rng.range(1, 4)).unwrap());
    let services = kinds.iter().cycle().skip(first).take(count);
    let mut services: Vec<Service> = services
        .map(|(protocol, port)| {
            let vip = vips[usize::from(rng.chance(450))];
            service(rng, *protocol, (vip, *port).into(), None)
        })
        .collect();
    for at in 0..services.len() {
        services[at].also = also(rng, &services, at);
        // Datagrams may be QUIC's, or look like it.
        if !services[at].speaks(Protocol::Udp) && rng.chance(100) {
            services[at].scheduler = Scheduler::named("qh").unwrap();
        }
        services[at].one_packet = is_unanswered(&services[at]) && rng.chance(700);
    }
    if rng.chance(300) {
        services.push(beside(rng, &services));
    }
    Config {
        services,
        locals: (0..rng.range(1, 3)).flat_map(|n| both([10, 44, 1, byte(n)])).collect(),
        mtu: [1500, rng.pick(&[1500, 1500, 1400])],
        timeouts: timeouts(rng),
        rejects: rng.chance(850),
        resets: rng.chance(700),
        icmp: icmp(rng),
        restarts: restarts(rng),
        lists: [list(rng), list(rng)],
        drops_malformed: rng.chance(400),
        ignores_df: rng.chance(200),
        accepting: true,
    }
}

fn timeouts(rng: &mut Rng) -> Timeouts {
    if rng.chance(500) {
        return Timeouts::default();
    }
    Timeouts {
        tcp_established_s: rng.pick(&[5, 30]),
        tcp_syn_recv_s: rng.pick(&[3, 10]),
        tcp_fin_wait_s: rng.pick(&[5, 20]),
        tcp_time_wait_s: rng.pick(&[1, 10]),
        tcp_close_s: rng.pick(&[1, 10]),
        tcp_close_wait_s: rng.pick(&[5, 20]),
        udp_s: rng.pick(&[2, 10]),
        sctp_init1_s: rng.pick(&[1, 4]),
        sctp_established_s: rng.pick(&[3, 20]),
        sctp_closed_s: rng.pick(&[1, 10]),
        ..Timeouts::default()
    }
}

/// Another protocol for the service, if none of those there has it at its place.
fn also(rng: &mut Rng, services: &[Service], at: usize) -> Option<Protocol> {
    let service = &services[at];
    let protocol = rng.pick(&[Protocol::Tcp, Protocol::Udp, Protocol::Sctp]);
    let is_taken = |other: &Service| other.vip.ip() == service.vip.ip() && other.speaks(protocol);
    // What only one of them knows about is in tables of its own.
    let is_plain = service.introduces == ClientAddress::None && !service.sloppy;
    (rng.chance(600) && is_plain && !services.iter().any(is_taken)).then_some(protocol)
}

/// Is it one of datagrams whose answers do not pass here? Then nothing is left of any of them.
fn is_unanswered(service: &Service) -> bool {
    let is_past = |backend: &Backend| matches!(backend.mode, Mode::Dr | Mode::Tunnel(_));
    service.speaks(Protocol::Udp) && service.backends.iter().all(is_past)
}

/// Ports of those who only answer: nobody's, strays', or clients'.
fn reflected(rng: &mut Rng) -> Option<(u16, u16)> {
    rng.pick(&[None, None, None, None, Some((1_000, 1_030)), Some((1_000, 40_001))])
}

/// Another service at the place of one of these, for the clients on a list.
fn beside(rng: &mut Rng, services: &[Service]) -> Service {
    let Service { protocol, vip, ports, .. } = services[rng.index(services.len())];
    let clients = Some(rng.index(2));
    Service { clients, ..service(rng, protocol, vip, Some(ports)) }
}

fn service(rng: &mut Rng, protocol: Protocol, vip: SocketAddr, at: Option<(u16, u16)>) -> Service {
    // DR and tunnels keep the port; where it changes there is translation only.
    let keeps_port = rng.chance(650);
    let port = if keeps_port { vip.port() } else { 8080 };
    let ports = at.unwrap_or_else(|| ports(rng, vip.port()));
    let mixed = rng.chance(500);
    let introduces = introduction(rng, protocol);
    let sloppy = protocol != Protocol::Udp && introduces == ClientAddress::None && rng.chance(250);
    let common = mode(rng, keeps_port, (introduces, sloppy), (vip.ip(), vip.ip()));
    let is_limited = rng.chance(250);
    let backends = (0..rng.range(1, 4)).map(|n| {
        // Between the families there is NAT64, from IPv6 to IPv4, and the tunnels.
        let may_tunnel = keeps_port && introduces == ClientAddress::None;
        let other = rng.chance(300) && ((vip.is_ipv6() && !sloppy) || may_tunnel);
        let address = both([10, 44, 0, 11 + byte(n)])[usize::from(vip.is_ipv6() != other)];
        let own = mixed || other;
        let ends = (vip.ip(), address);
        let mode = if own { mode(rng, keeps_port, (introduces, sloppy), ends) } else { common };
        Backend {
            address: (address, port).into(),
            any_port: keeps_port && (ports.0 != ports.1 || rng.chance(300)),
            mac: Mac([2, 0, 0, 0, 0xb, 11 + byte(n)]),
            mode,
            was_nat: mode == Mode::Nat,
            weight: Some(u32::from(byte(rng.pick(&[0, 1, 1, 1, 2, 3])))),
            last_weight: 1,
            limit: if is_limited { terms::limit(rng) } else { Limit::NONE },
            reachable: rng.chance(970),
        }
    });
    let backends = backends.collect();
    let (scheduler, flags) = terms::scheduler(rng);
    let access = access(rng);
    let persistence = if rng.chance(300) { terms::persistence(rng, vip) } else { None };
    let quotas = if rng.chance(150) { terms::quotas(rng, vip) } else { Quotas::default() };
    let timeouts = rng.chance(200).then(|| timeouts(rng));
    Service {
        protocol,
        vip,
        ports,
        scheduler,
        flags,
        introduces,
        access,
        also: None,
        one_packet: false,
        reflected: reflected(rng),
        clients: None,
        sloppy,
        persistence,
        quotas,
        timeouts,
        backends,
    }
}

/// Some of those there are, strangers included.
fn list(rng: &mut Rng) -> Vec<IpAddr> {
    let all = [2, 3, 4, 77].into_iter().flat_map(|host| both([192, 0, 2, host]));
    let v6 = Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, 77).into();
    all.chain([v6]).filter(|_| rng.chance(400)).collect()
}

/// When the ends of flows of UDP are told.
fn icmp(rng: &mut Rng) -> IcmpOnEnd {
    rng.pick(&[IcmpOnEnd::Always, IcmpOnEnd::Always, IcmpOnEnd::Removal, IcmpOnEnd::Never])
}

fn restarts(rng: &mut Rng) -> Restarts {
    rng.pick(&[Restarts::Closed, Restarts::Closed, Restarts::Never, Restarts::Closing])
}

/// One port, some, or all that no other service has.
fn ports(rng: &mut Rng, port: u16) -> (u16, u16) {
    let some = if port == 80 { (70, 100) } else { (port, port + 4) };
    let all = if port == 80 { (0, u16::MAX) } else { some };
    rng.pick(&[(port, port), (port, port), (port, port), some, all])
}

/// Most services take everybody.
fn access(rng: &mut Rng) -> Access {
    let mut which = || rng.pick(&[None, None, None, None, None, None, Some(0), Some(1)]);
    Access { denied: which(), allowed: which() }
}

/// An IPv4 address, and an IPv6 one like it.
fn both([a, b, c, d]: [u8; 4]) -> [IpAddr; 2] {
    let v6 = Ipv6Addr::new(0xfd00 | u16::from(b), 0, 0, 0, 0, 0, c.into(), d.into());
    [Ipv4Addr::new(a, b, c, d).into(), v6.into()]
}

/// How backends of a service learn who the client is.
fn introduction(rng: &mut Rng, protocol: Protocol) -> ClientAddress {
    let none = ClientAddress::None;
    let kind_v6 = rng.pick(&[253, 254]);
    match protocol {
        Protocol::Tcp => rng.pick(&[
            none,
            none,
            none,
            ClientAddress::Toa { kind_v6 },
            ClientAddress::ProxyV1,
            ClientAddress::ProxyV2,
        ]),
        Protocol::Udp => rng.pick(&[none, none, ClientAddress::ProxyV2]),
        Protocol::Sctp => none,
    }
}

/// A way to get from a VIP to a backend.
fn mode(
    rng: &mut Rng,
    keeps_port: bool,
    (introduces, sloppy): (ClientAddress, bool),
    (vip, backend): (IpAddr, IpAddr),
) -> Mode {
    let tunnel = tunnel::any(rng);
    match introduces {
        ClientAddress::None => {}
        ClientAddress::Toa { .. } => return Mode::Fullnat,
        _ if vip.is_ipv6() != backend.is_ipv6() => return Mode::Fullnat,
        _ => return rng.pick(&[Mode::Fullnat, Mode::Nat]),
    }
    let mut all = match (vip.is_ipv6(), backend.is_ipv6()) {
        (true, false) => vec![Mode::Fullnat],
        (false, true) => vec![],
        _ if keeps_port => vec![Mode::Fullnat, Mode::Nat, Mode::Dr],
        _ => vec![Mode::Fullnat, Mode::Nat],
    };
    all.extend(keeps_port.then_some(Mode::Tunnel(tunnel)));
    // In FULL-NAT the backend knows a connection by another box's address.
    all.retain(|mode| !sloppy || *mode != Mode::Fullnat);
    rng.pick(&all)
}

fn slots(rng: &mut Rng, config: &Config) -> Vec<Slot> {
    let slot = |n: u64| {
        let service = &config.services[rng.index(config.services.len())];
        // A backend may be a client itself.
        let is_host = rng.chance(60);
        let client = if is_host { [10, 44, 0, 11] } else { [192, 0, 2, 2 + byte(n % 3)] };
        let client = both(client)[usize::from(service.vip.is_ipv6())];
        let all = service.ports.0..=service.ports.1;
        let port = rng.pick(&[service.vip.port(), 75, 83, 20_000]);
        let port = if all.contains(&port) { port } else { service.vip.port() };
        let protocol = service.also.filter(|_| rng.chance(500)).unwrap_or(service.protocol);
        let asked = SocketAddr::new(service.vip.ip(), port);
        Slot {
            // Few ports: one client port is often used towards two services.
            client: (client, 40_000 + u16::from(byte(n / 5))).into(),
            protocol,
            asked,
            service: config.service_at(protocol, client, asked).unwrap(),
            start_ms: rng.below(BUSY_MS / 2),
            connections: rng.range(1, 4),
            gap_ms: rng.pick(&[0, 50, 500, 3_000, 650_000]),
        }
    };
    let mut slots: Vec<Slot> = (0..20).map(slot).collect();
    slots.truncate(usize::try_from(rng.range(2, 20)).unwrap());
    // One port towards one service is one slot.
    slots.sort_by_key(|slot| (slot.client, slot.service, slot.asked));
    slots.dedup_by_key(|slot| (slot.client, slot.service, slot.asked));
    slots
}

/// Most runs have ways that are narrow from the start, or become so, and wide again.
fn paths(rng: &mut Rng) -> Vec<(u64, usize, usize)> {
    let count = rng.pick(&[0, 2, 8, 8]);
    let one = |rng: &mut Rng| {
        let within = rng.pick(&[1, BUSY_MS, 20 * BUSY_MS]);
        let mtu = rng.pick(&[1_500, 1_500, 1_480, 1_400, 1_300, 1_280, 1_000, 600]);
        (rng.below(within), rng.index(HOSTS + 1), mtu)
    };
    let mut paths: Vec<_> = (0..count).map(|_| one(rng)).collect();
    paths.sort_unstable();
    paths
}

/// In every other run hosts start again under way, some of them soon after one another.
fn reboots(rng: &mut Rng) -> Vec<(u64, usize)> {
    let count = rng.pick(&[0, 0, 5, 30]);
    let one = |rng: &mut Rng| {
        let within = rng.pick(&[BUSY_MS, BUSY_MS, 20 * BUSY_MS]);
        (rng.below(within), rng.index(HOSTS))
    };
    (0..count).map(|_| one(rng)).collect()
}

fn changes(rng: &mut Rng, config: &Config) -> Vec<(u64, Change)> {
    let mut changes = vec![];
    let mut now = 0;
    for _ in 0..rng.pick(&[0, 1, 4, 11]) {
        now += rng.range(1, BUSY_MS / 6);
        changes.push((now, change(rng, config)));
    }
    if rng.chance(100) {
        changes.push((now + rng.below(BUSY_MS / 2), Change::Drain));
    }
    changes
}

fn change(rng: &mut Rng, config: &Config) -> Change {
    let service = rng.index(config.services.len());
    let place = Place { service, backend: rng.index(config.services[service].backends.len()) };
    let of = &config.services[service];
    let keeps_port = config.backend(place).address.port() == of.vip.port();
    match rng.below(24) {
        0..=2 => Change::Weight(place, Some(u32::from(byte(rng.below(4))))),
        3..=5 => Change::Weight(place, None),
        6..=7 if !of.one_packet => {
            let ends = (of.vip.ip(), config.backend(place).address.ip());
            Change::Mode(place, mode(rng, keeps_port, (of.introduces, of.sloppy), ends))
        }
        8 => Change::Reachable(place, rng.chance(500)),
        9 => Change::Mtu(rng.index(2), rng.pick(&[1280, 1400, 1500])),
        10 => Change::Rejects(rng.chance(700)),
        11 if rng.chance(500) => Change::Icmp(icmp(rng)),
        11 => Change::Resets(rng.chance(700)),
        12 => Change::Access(service, access(rng)),
        13 => Change::Restarts(restarts(rng)),
        14 => Change::Limit(place, terms::limit(rng)),
        15 => Change::Persistence(service, terms::persistence(rng, of.vip)),
        16 => Change::Quotas(service, terms::quotas(rng, of.vip)),
        17 => Change::Own(service, rng.chance(600).then(|| timeouts(rng))),
        18 => Change::Malformed(rng.chance(500)),
        19 => Change::Reflected(service, reflected(rng)),
        20..=22 => Change::Clear(whose(rng, config, place)),
        _ => Change::Timeouts(timeouts(rng)),
    }
}

/// Whose connections are to end: a backend's, a service's, or everybody's.
fn whose(rng: &mut Rng, config: &Config, place: Place) -> Vec<Place> {
    let (all, of) = (rng.chance(200), rng.chance(400));
    let places = config.services.iter().enumerate().flat_map(|(service, its)| {
        (0..its.backends.len()).map(move |backend| Place { service, backend })
    });
    let is_meant = |other: &Place| {
        all || (other.service == place.service && (of || other.backend == place.backend))
    };
    places.filter(is_meant).collect()
}
