//! Services for the clients of some networks (lvs.md 1.1: the services of firewall marks come first).
//!
//! At one VIP there is everybody's service, and others beside it:
//!
//! ```text
//! everybody's   port 80        backend .11
//! a wide net    every port     backend .12     192.0.0.0/16, 2001:db8::/32
//! a narrow one  port 80        backend .13     192.0.2.0/24, 2001:db8:c::/64
//! the client    port 81        backend .14     itself
//! ```

use std::net::{IpAddr, SocketAddr};

use shunt::dataplane::snapshot::{Mode, Ports, Protocol};
use shunt::dataplane::verdict::Reason;

use super::outer::wrapped;
use super::setup::{FAMILIES, Ip, PROTOCOLS, Real, Setup, V4, V6, mode_name, offer, through};
use super::words::{
    DR, FULLNAT, IPIP, NAT, TRANSLATING, bytes, datagram, error, first, port_unreachable, reset,
    reset_ack, second, segment, syn,
};
use super::{At, Rule, rule};
use crate::packets::fragments::cut;

pub(super) fn rows(at: &At) -> Vec<Rule> {
    let of_family = |ip| {
        let found = [order(ip), refused(ip), protocols(at, ip), reloads(at, ip)].concat();
        [found, in_pieces(at, ip), errors(at, ip), alone(ip), sloppy(ip)].concat()
    };
    FAMILIES.into_iter().flat_map(of_family).collect()
}

fn narrow(ip: Ip) -> (IpAddr, u8) {
    match ip {
        V4 => (IpAddr::from([192, 0, 2, 0]), 24),
        V6 => (IpAddr::from([0x2001, 0xdb8, 0xc, 0, 0, 0, 0, 0]), 64),
    }
}

fn wide(ip: Ip) -> (IpAddr, u8) {
    match ip {
        V4 => (IpAddr::from([192, 0, 0, 0]), 16),
        V6 => (IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0]), 32),
    }
}

fn alone_of(ip: Ip) -> (IpAddr, u8) {
    (ip.client().ip(), if ip == V4 { 32 } else { 128 })
}

/// A client of the narrow network, of the wide one alone, and of none.
fn others(ip: Ip) -> [SocketAddr; 3] {
    let addresses: [IpAddr; 3] = match ip {
        V4 => [[192, 0, 2, 99], [192, 0, 3, 1], [203, 0, 113, 1]].map(IpAddr::from),
        V6 => [[0xc, 0, 9], [0xd, 0, 1], [0, 7, 1]].map(|[net, more, host]| {
            let site = if more == 0 { 0xdb8 } else { 0xdb9 };
            IpAddr::from([0x2001, site, net, 0, 0, 0, 0, host])
        }),
    };
    addresses.map(|address| (address, 40_007).into())
}

/// The services of the picture, all of that protocol and mode.
fn street(mode: Mode, ip: Ip, protocol: Protocol) -> Setup {
    let keeps = !TRANSLATING.contains(&mode);
    let services = [
        (11, Ports::one(80), None),
        (12, Ports::ALL, Some(wide(ip))),
        (13, Ports::one(80), Some(narrow(ip))),
        (14, Ports::one(81), Some(alone_of(ip))),
    ];
    let service = |(number, ports, network)| {
        let port = if keeps { 0 } else { 8080 };
        let real = Real { ip, number, port, mode, weight: Some(1) };
        let mut service = offer(protocol, &[ip.vip()], real);
        service.at = vec![(ip.vip().ip(), ports)];
        service.clients = Vec::from_iter(network);
        service
    };
    through(mode, ip).services(services.into_iter().map(service).collect())
}

fn end(ip: Ip, number: u8) -> SocketAddr {
    (ip.host(number), 8080).into()
}

fn order(ip: Ip) -> Vec<Rule> {
    let [near, far, stranger] = others(ip);
    let found = |name, case: &'static str, client: SocketAddr, port, number| {
        let ask = syn(ip).between(client, (ip.vip().ip(), port));
        let got = ask.clone().to(end(ip, number)).onward_to(number);
        let setup = street(NAT, ip, Protocol::Tcp);
        rule(name, setup).case(case).client(ask).backend_gets(got).made(1)
    };
    let longest = "lookup: the longest network around a client finds its service, before any port";
    let rest = "lookup: who is in no service's network gets the one for everybody";
    vec![
        found(longest, "narrow", ip.client(), 80, 13),
        found(longest, "narrow, another client", near, 80, 13),
        found(longest, "itself", ip.client(), 81, 14),
        found(longest, "narrow has no such port", near, 81, 12),
        found(longest, "wide, every port, before everybody's very port", far, 80, 12),
        found(longest, "wide, any port", far, 7, 12),
        found(rest, "a stranger", stranger, 80, 11),
    ]
}

fn refused(ip: Ip) -> Vec<Rule> {
    let [_, _, stranger] = others(ip);
    let ask = syn(ip).between(stranger, (ip.vip().ip(), 81));
    let reset = reset_ack(&ask, 1001);
    let name = "lookup: where a service is for some, the others find none";
    let setup = street(NAT, ip, Protocol::Tcp);
    vec![rule(name, setup).client(ask).refused(Reason::NoService, reset)]
}

/// Everybody's service in a mode whose connections another worker may own.
fn mixed(mode: Mode, ip: Ip, protocol: Protocol) -> Setup {
    let mut setup = street(mode, ip, protocol);
    for everybodys in setup.services.iter_mut().filter(|service| service.clients.is_empty()) {
        everybodys.backends[0].mode = FULLNAT;
    }
    setup
}

/// Both directions, whoever owns what.
fn protocols(at: &At, ip: Ip) -> Vec<Rule> {
    let name = "lookup: clients of a network have a service of their own, in every mode";
    let row = |(mode, protocol): (Mode, Protocol)| {
        let setup = mixed(mode, ip, protocol);
        let ask = first(protocol, ip).flags_fragment(0x4000);
        let backend = end(ip, 13);
        let known = if mode == NAT { ip.client() } else { at.local(backend) };
        let case = format!("{}, {protocol}", mode_name(mode));
        let row = rule(name, setup).case(case).client(ask.clone()).made(1);
        if !TRANSLATING.contains(&mode) {
            let got = if mode == DR { ask.onward() } else { wrapped(&ask.onward(), mode, ip, 0) };
            let outer = got.macs(crate::packets::OUR_INNER_MAC, super::setup::backend_mac(13));
            let outer = match mode {
                DR => outer,
                _ => outer.between((ip.ours(), 0), (ip.host(13), 0)),
            };
            return row.backend_gets(outer);
        }
        let answer = second(protocol, backend, known).sent_by(13);
        row.backend_gets(ask.between(known, backend).onward_to(13))
            .backend(answer.clone())
            .client_gets(answer.between(ip.vip(), ip.client()).home())
    };
    let modes = [FULLNAT, NAT, DR, IPIP];
    modes.into_iter().flat_map(|mode| PROTOCOLS.map(|it| (mode, it))).map(row).collect()
}

/// A connection outlives that its client becomes another service's.
fn reloads(at: &At, ip: Ip) -> Vec<Rule> {
    let name = "lookup: a connection stays when its client becomes another service's";
    let row = |mode: Mode| {
        let before = street(mode, ip, Protocol::Tcp);
        let mut after = before.clone();
        after.services[2].clients = vec![(others(ip)[0].ip(), alone_of(ip).1)];
        let backend = end(ip, 13);
        let known = if mode == NAT { ip.client() } else { at.local(backend) };
        let other = end(ip, 12);
        let next: SocketAddr = (ip.client().ip(), 40_009).into();
        let answer = second(Protocol::Tcp, backend, known).sent_by(13);
        let row = rule(name, before)
            .client(syn(ip))
            .backend_gets(syn(ip).between(known, backend).onward_to(13))
            .reload(after)
            .client(segment(ip))
            .backend_gets(segment(ip).between(known, backend).onward_to(13))
            .backend(answer.clone())
            .client_gets(answer.between(ip.vip(), ip.client()).home())
            .made(1);
        if mode == FULLNAT {
            return row;
        }
        row.client(syn(ip).from(next))
            .backend_gets(syn(ip).between(next, other).onward_to(12))
            .made(2)
    };
    // Whose connections the card places, in a file without NAT: here they follow from the client, as it had one.
    let before = street(NAT, ip, Protocol::Tcp);
    let mut after = street(FULLNAT, ip, Protocol::Tcp);
    after.services[2].clients = vec![(others(ip)[0].ip(), alone_of(ip).1)];
    let gone = segment(ip).to(end(ip, 13)).onward_to(13);
    let answer = second(Protocol::Tcp, end(ip, 13), ip.client()).sent_by(13);
    let from_nat = rule(name, before)
        .case("of another mode")
        .client(syn(ip))
        .backend_gets(syn(ip).to(end(ip, 13)).onward_to(13))
        .reload(after)
        .client(segment(ip))
        .backend_gets(gone)
        .backend(answer.clone())
        .client_gets(answer.from(ip.vip()).home())
        .made(1);
    [TRANSLATING.map(row).to_vec(), vec![from_nat]].concat()
}

fn in_pieces(at: &At, ip: Ip) -> Vec<Rule> {
    let name = "pieces: all go to the service of their client";
    let row = |mode: Mode| {
        let ask = datagram(ip).payload(&bytes(1612));
        let backend = end(ip, 13);
        let known = if mode == NAT { ip.client() } else { at.local(backend) };
        let number = super::pieces::number(mode);
        let came = cut(&ask.build(), &[800, 800], 7);
        let got = ask.between(known, backend).onward_to(13);
        let left = cut(&got.build(), &[800, 800], number);
        rule(name, mixed(mode, ip, Protocol::Udp))
            .case(mode_name(mode))
            .client(came[1].clone())
            .held()
            .client(came[0].clone())
            .backend_gets(left[0].clone())
            .backend_gets(left[1].clone())
            .client(came[2].clone())
            .backend_gets(left[2].clone())
            .made(1)
    };
    TRANSLATING.map(row).to_vec()
}

/// About a connection of a service for some, from both sides.
fn errors(at: &At, ip: Ip) -> Vec<Rule> {
    let name = "icmp: an error is about a connection of the service of its client";
    let row = |mode: Mode| {
        let backend = end(ip, 13);
        let known = if mode == NAT { ip.client() } else { at.local(backend) };
        let answer = second(Protocol::Udp, backend, known).sent_by(13);
        let home = answer.clone().between(ip.vip(), ip.client()).home();
        let said = port_unreachable(ip);
        let came = error(ip.outer_router(), ip.vip().ip(), said, &home.ip_packet());
        let speaker = if mode == NAT { ip.outer_router() } else { known.ip() };
        let left = error(speaker, ip.host(13), said, &answer.clone().home().ip_packet());
        let ask = datagram(ip);
        rule(name, mixed(mode, ip, Protocol::Udp))
            .case(mode_name(mode))
            .client(ask.clone())
            .backend_gets(ask.between(known, backend).onward_to(13))
            .backend(answer)
            .client_gets(home)
            .client(came)
            .backend_gets(left.onward_to(13))
            .made(1)
    };
    TRANSLATING.map(row).to_vec()
}

fn alone(ip: Ip) -> Vec<Rule> {
    let name = "one-packet: a datagram goes to the service of its client";
    let mut setup = mixed(NAT, ip, Protocol::Udp);
    setup.services[2].one_packet = true;
    let (ask, backend) = (datagram(ip), end(ip, 13));
    let gone = ask.clone().to(backend).onward_to(13);
    let row = rule(name, setup).client(ask.clone()).backend_gets(gone.clone());
    vec![row.client(ask).backend_gets(gone).made(2).open(1)]
}

/// Sloppy for some only: the other's ACK is refused.
fn sloppy(ip: Ip) -> Vec<Rule> {
    let name = "sloppy: it is the service of the client that says so";
    let mut setup = street(NAT, ip, Protocol::Tcp);
    setup.services[2].sloppy = true;
    let [_, far, _] = others(ip);
    let stray = segment(ip).from(far);
    let reset = reset(&stray, 501);
    vec![
        rule(name, setup.clone())
            .case("sloppy")
            .client(segment(ip))
            .backend_gets(segment(ip).to(end(ip, 13)).onward_to(13))
            .made(1),
        rule(name, setup).case("strict").client(stray).refused(Reason::NoConnection, reset),
    ]
}
