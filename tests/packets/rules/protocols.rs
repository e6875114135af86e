//! One service of several protocols (lvs.md 1.1: what a firewall mark is given for, like HTTP/3 beside HTTPS):
//! one scheduler, one set of backends, one count.

use shunt::dataplane::snapshot::{ClientAddress, Mode, Protocol};

use super::setup::{FAMILIES, Ip, PROTOCOLS, Setup, through};
use super::words::{
    DR, FULLNAT, NAT, TRANSLATING, bytes, data, datagram, error, first, init, port_unreachable,
    second, segment, syn,
};
use super::{At, Rule, rule};
use crate::packets::fragments::cut;

pub(super) fn rows(at: &At) -> Vec<Rule> {
    let of_family = |ip| {
        let both_ways = [answers(at, ip), in_pieces(at, ip), errors(at, ip)].concat();
        [both_ways, turns(ip), alone(ip), introduced(at, ip), sloppy(ip)].concat()
    };
    FAMILIES.into_iter().flat_map(of_family).collect()
}

/// One service, of that protocol first and all the others at the same place.
fn one(mode: Mode, ip: Ip, own: Protocol) -> Setup {
    let mut setup = through(mode, ip);
    setup.services.retain(|offer| offer.protocol == own);
    setup.services[0].also = PROTOCOLS.into_iter().filter(|other| *other != own).collect();
    setup
}

/// Three backends, newest first.
fn turns(ip: Ip) -> Vec<Rule> {
    let row = |mode: Mode| {
        let name = "lookup: one service takes several protocols, in one turn and one count";
        let setup = one(mode, ip, Protocol::Tcp).backends(3);
        let mut row = rule(name, setup).one_worker();
        let asked = [syn(ip), datagram(ip), init(ip)];
        for (ask, number) in asked.into_iter().zip([13, 12, 11]) {
            let end = (ip.host(number), 8080).into();
            let got = if mode == NAT { ask.clone().to(end) } else { ask.clone() };
            row = row.client(ask).backend_gets(got.onward_to(number));
        }
        row.made(3)
    };
    [NAT, DR].map(row).to_vec()
}

/// Whichever is the service's own, and whichever worker gets the answer.
fn answers(at: &At, ip: Ip) -> Vec<Rule> {
    let name = "lookup: answers of every protocol of a service come back from the VIP";
    let row = |(mode, own, spoken): (Mode, Protocol, Protocol)| {
        let known = if mode == NAT { ip.client() } else { at.local(ip.backend()) };
        let (ask, answer) = (first(spoken, ip), second(spoken, ip.backend(), known));
        rule(name, one(mode, ip, own))
            .case(format!("{own} service, {spoken}"))
            .client(ask.clone())
            .backend_gets(ask.between(known, ip.backend()).onward())
            .backend(answer.clone())
            .client_gets(answer.between(ip.vip(), ip.client()).home())
            .made(1)
    };
    let owned = TRANSLATING.into_iter().flat_map(|mode| PROTOCOLS.map(|own| (mode, own)));
    owned.flat_map(|(mode, own)| PROTOCOLS.map(|spoken| (mode, own, spoken))).map(row).collect()
}

fn in_pieces(at: &At, ip: Ip) -> Vec<Rule> {
    let name = "pieces: datagrams of a service that is of TCP first";
    let row = |mode: Mode| {
        let known = if mode == NAT { ip.client() } else { at.local(ip.backend()) };
        let ask = datagram(ip).payload(&bytes(1612));
        let came = cut(&ask.build(), &[800, 800], 7);
        let got = ask.between(known, ip.backend()).onward();
        let left = cut(&got.build(), &[800, 800], super::pieces::number(mode));
        rule(name, one(mode, ip, Protocol::Tcp))
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

fn errors(at: &At, ip: Ip) -> Vec<Rule> {
    let name = "icmp: an error is about a connection of whichever protocol of its service";
    let row = |mode: Mode| {
        let known = if mode == NAT { ip.client() } else { at.local(ip.backend()) };
        let ask = datagram(ip);
        let gone = ask.clone().between(known, ip.backend()).onward();
        let said = port_unreachable(ip);
        let came = error(ip.host(11), known.ip(), said, &gone.ip_packet()).sent_by(11);
        let shown = ask.clone().onward().ip_packet();
        let left = error(ip.vip().ip(), ip.client().ip(), said, &shown).home();
        rule(name, one(mode, ip, Protocol::Tcp))
            .client(ask)
            .backend_gets(gone)
            .backend(came)
            .client_gets(left)
            .made(1)
    };
    TRANSLATING.map(row).to_vec()
}

/// Only datagrams can be scheduled one by one.
fn alone(ip: Ip) -> Vec<Rule> {
    let name = "one-packet: it is for the datagrams of a service of several protocols";
    let setup = one(NAT, ip, Protocol::Tcp).one_packet();
    let (ask, gone) = (datagram(ip), datagram(ip).to(ip.backend()).onward());
    let (said, heard) = (segment(ip), segment(ip).to(ip.backend()).onward());
    let row = rule(name, setup)
        .client(syn(ip))
        .backend_gets(syn(ip).to(ip.backend()).onward())
        .client(said)
        .backend_gets(heard)
        .client(ask.clone())
        .backend_gets(gone.clone())
        .client(ask)
        .backend_gets(gone);
    vec![row.made(3).open(2)]
}

/// What only a stream can carry is not put into datagrams.
fn introduced(at: &At, ip: Ip) -> Vec<Rule> {
    let name = "introduce: what a protocol has no way for it goes without";
    let ways = [ClientAddress::Toa { kind_v6: 254 }, ClientAddress::ProxyV1];
    let local = at.local(ip.backend());
    let row = |(how, protocol): (ClientAddress, Protocol)| {
        let ask = first(protocol, ip);
        rule(name, one(FULLNAT, ip, Protocol::Tcp).introducing(how))
            .case(format!("{how:?}, {protocol}"))
            .client(ask.clone())
            .backend_gets(ask.between(local, ip.backend()).onward())
            .made(1)
    };
    let protocols = [Protocol::Udp, Protocol::Sctp];
    let mut all: Vec<_> = ways.iter().flat_map(|how| protocols.map(|it| (*how, it))).collect();
    all.push((ClientAddress::ProxyV2, Protocol::Sctp));
    all.into_iter().map(row).collect()
}

/// It takes over connections, and its datagrams make some as ever.
fn sloppy(ip: Ip) -> Vec<Rule> {
    let name = "sloppy: of several protocols it is for those whose connections have a first packet";
    let asked = [data(ip, b"in the middle"), datagram(ip)];
    let row =
        asked.into_iter().fold(rule(name, one(DR, ip, Protocol::Udp).sloppy()), |row, ask| {
            row.client(ask.clone()).backend_gets(ask.onward())
        });
    vec![row.made(2)]
}
