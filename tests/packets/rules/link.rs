//! What the link layer says of a frame: whose it is, and that nobody asks himself, nor is his own backend.
//!
//! Ports are promiscuous, and a switch that has not learned yet, or is a mirror, brings frames of
//! the neighbours. Whatever they hold, and however well known it is here, they end.

use shunt::dataplane::snapshot::{Mode, Protocol};
use shunt::dataplane::verdict::Reason;

use super::setup::{FAMILIES, Ip, PROTOCOLS, V4, V6, backend_mac, between, through};
use super::words::{
    DR, FULLNAT, IPIP, NAT, bytes, datagram, error, first, host_unreachable, port_unreachable,
    second, segment, syn, to_backend, vip_says,
};
use super::{At, Rule, rule};
use crate::packets::fragments::cut;
use crate::packets::{Builder, CLIENT_MAC, packet};

const NAME: &str = "link: a frame for another station is not ours, whatever it holds";

pub(super) fn rows(at: &At) -> Vec<Rule> {
    let of_family = |ip| {
        let own = [asks_himself(ip), is_its_own_backend(at, ip), directed(ip)].concat();
        [unknown(ip), known(at, ip), parts(at, ip), own].concat()
    };
    FAMILIES.into_iter().flat_map(of_family).chain([crossed(at)]).collect()
}

/// To a station that we are not.
fn astray(frame: Builder) -> Builder {
    frame.macs(CLIENT_MAC, backend_mac(99))
}

/// A frame made by hand, to that station.
fn led_astray(mut frame: Vec<u8>) -> Vec<u8> {
    frame[..6].copy_from_slice(&backend_mac(99).0);
    frame
}

fn unknown(ip: Ip) -> Vec<Rule> {
    let begin = PROTOCOLS.map(|protocol| {
        rule(NAME, through(NAT, ip))
            .case(protocol)
            .client(astray(first(protocol, ip)))
            .dropped(Reason::OtherStation)
    });
    let others = [
        ("an ACK", segment(ip)),
        ("the box's own", segment(ip).between(ip.client(), (ip.ours(), 22))),
        (
            "another protocol",
            packet().between(ip.client(), ip.vip()).protocol(50).payload(&[0; 24]),
        ),
        ("ARP", packet().ethertype(0x0806).payload(&[0; 28])),
    ];
    let others = others.map(|(case, frame)| {
        rule(NAME, through(NAT, ip)).case(case).client(astray(frame)).dropped(Reason::OtherStation)
    });
    [&begin[..], &others].concat()
}

/// A connection of that protocol, and as whom its backend knows the client.
fn open(at: &At, mode: Mode, ip: Ip, ask: &Builder) -> (Rule, std::net::SocketAddr) {
    let known = if mode == NAT { ip.client() } else { at.local(ip.backend()) };
    let gone = match mode {
        DR => ask.clone().onward(),
        _ => ask.clone().between(known, ip.backend()).onward(),
    };
    let row = rule(NAME, through(mode, ip)).client(ask.clone()).backend_gets(gone).made(1);
    (row, known)
}

/// Of connections that are known here, in both directions.
fn known(at: &At, ip: Ip) -> Vec<Rule> {
    let rows = PROTOCOLS.map(|protocol| {
        let ask = first(protocol, ip);
        let both = [FULLNAT, NAT].map(|mode| {
            let (row, known) = open(at, mode, ip, &ask);
            row.case(format!("{protocol} of a connection"))
                .client(astray(ask.clone()))
                .dropped(Reason::OtherStation)
                .backend(astray(second(protocol, ip.backend(), known)))
                .dropped(Reason::OtherStation)
        });
        let (row, _) = open(at, DR, ip, &ask);
        let direct = row
            .case(format!("{protocol} of a connection"))
            .client(astray(ask.clone()))
            .dropped(Reason::OtherStation);
        [&both[..], &[direct]].concat()
    });
    let strange = rule(NAME, through(IPIP, ip))
        .case("with options")
        .client(astray(syn(ip)))
        .dropped(Reason::OtherStation);
    [rows.concat(), vec![strange]].concat()
}

/// Pieces, and errors about connections.
fn parts(at: &At, ip: Ip) -> Vec<Rule> {
    let whole = datagram(ip).payload(&bytes(900));
    let pieces = cut(&whole.build(), &[400], 7);
    let known = at.local(ip.backend());
    let left = whole.between(known, ip.backend()).onward().build();
    let left = cut(&left, &[400], super::pieces::number(FULLNAT));
    let in_pieces = rule(NAME, through(FULLNAT, ip))
        .case("pieces")
        .client(led_astray(pieces[0].clone()))
        .dropped(Reason::OtherStation)
        .client(pieces[0].clone())
        .backend_gets(left[0].clone())
        .client(led_astray(pieces[1].clone()))
        .dropped(Reason::OtherStation)
        .client(pieces[1].clone())
        .backend_gets(left[1].clone())
        .made(1);
    let (row, known) = open(at, FULLNAT, ip, &syn(ip));
    let quoted = segment(ip).between(known, ip.backend()).onward().ip_packet();
    let behind = error(ip.inner_router(), known.ip(), host_unreachable(ip), &quoted);
    let answer = segment(ip).between(ip.vip(), ip.client()).ip_packet();
    let before = error(ip.outer_router(), ip.vip().ip(), host_unreachable(ip), &answer);
    let errors = row
        .case("errors")
        .backend(astray(behind))
        .dropped(Reason::OtherStation)
        .client(astray(before))
        .dropped(Reason::OtherStation);
    vec![in_pieces, errors]
}

/// An answer between the families.
fn crossed(at: &At) -> Rule {
    let ask = datagram(V6);
    let known = at.local(V4.backend());
    let gone = ask.clone().between(known, V4.backend()).onward().flags_fragment(0);
    let gone = gone.identification(super::outer::FRESH);
    rule(NAME, between(FULLNAT, V6, V4))
        .client(ask)
        .backend_gets(gone)
        .backend(astray(packet().udp(V4.backend(), known).payload(b"answer")))
        .dropped(Reason::OtherStation)
        .made(1)
}

fn asks_himself(ip: Ip) -> Vec<Rule> {
    let own = syn(ip).from((ip.vip().ip(), 9).into());
    let row = rule("link: nobody asks himself: source and destination are one", through(NAT, ip));
    vec![row.client(own).dropped(Reason::IpSource)]
}

/// Two directors of the same VIPs, each the other's backend. Whose box it is not said of is a client's router.
fn directed(ip: Ip) -> Vec<Rule> {
    let name = "link: what another director has scheduled is not scheduled again";
    let of_protocol = |protocol| {
        let (ask, other) =
            (first(protocol, ip), first(protocol, ip).from((ip.host(9), 50_000).into()));
        let told_apart = rule(name, through(DR, ip).mutual())
            .case(protocol)
            .client(ask.clone())
            .backend_gets(ask.clone().onward())
            .backend(ask.clone().sent_by(11))
            .punted()
            .backend(other.clone().sent_by(11))
            .punted()
            .made(1);
        let by_a_router = rule(name, through(DR, ip))
            .case(format!("{protocol} of no director"))
            .backend(other.clone().sent_by(11))
            .backend_gets(other.onward())
            .made(1);
        [told_apart, by_a_router]
    };
    let pieces = cut(&datagram(ip).payload(&bytes(900)).sent_by(11).build(), &[400], 7);
    let in_pieces = |order: [usize; 2]| {
        let row = rule(name, through(DR, ip).mutual()).case(format!("pieces {order:?}"));
        order.into_iter().fold(row, |row, n| row.backend(pieces[n].clone()).punted())
    };
    let answer = segment(ip).between(ip.vip(), ip.client()).ip_packet();
    let told = error(ip.outer_router(), ip.vip().ip(), host_unreachable(ip), &answer);
    let told =
        rule(name, through(DR, ip).mutual()).case("an error").backend(told.sent_by(11)).punted();
    let elsewhere = rule(name, through(DR, ip).mutual())
        .case("for another station")
        .backend(first(Protocol::Tcp, ip).macs(backend_mac(11), backend_mac(99)))
        .dropped(Reason::OtherStation);
    let rest = vec![in_pieces([0, 1]), in_pieces([1, 0]), told, elsewhere];
    [PROTOCOLS.map(of_protocol).concat(), rest].concat()
}

/// A backend that is a client of its own service: it would drop what comes from its own address, so it
/// is told. FULL-NAT gives it another one.
fn is_its_own_backend(at: &At, ip: Ip) -> Vec<Rule> {
    let name = "link: what comes from a backend is never scheduled for its own address";
    let of_protocol = |protocol| {
        let ask = first(protocol, ip).from((ip.host(11), 50_000).into()).sent_by(11);
        let told = to_backend(vip_says(port_unreachable(ip), &ask), 11);
        let refused = [NAT, DR, IPIP].map(|mode| {
            rule(name, through(mode, ip))
                .case(protocol)
                .backend(ask.clone())
                .refused(Reason::Hairpin, told.clone())
                .refusals(1)
        });
        let known = at.local(ip.backend());
        let served = rule("fullnat: a backend may be served by itself", through(FULLNAT, ip))
            .case(protocol)
            .backend(ask.clone())
            .backend_gets(ask.between(known, ip.backend()).onward())
            .made(1);
        [&refused[..], &[served]].concat()
    };
    PROTOCOLS.map(of_protocol).concat()
}
