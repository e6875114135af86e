//! What nobody wants, and what its sender is told (lvs.md 1.1).

use std::net::SocketAddr;

use shunt::dataplane::snapshot::Mode;
use shunt::dataplane::verdict::Reason;

use super::setup::{FAMILIES, Ip, PROTOCOLS, Setup, V4, through};
use super::words::{
    ACK, FIN, FULLNAT, NAT, RST, SYN, backend_ack, datagram, first, init, port_unreachable, reset,
    reset_ack, sctp, sctp_answer, segment, syn, syn_ack, to_backend, vip_says, we_say,
};
use super::{At, Rule, Side, rule};
use crate::packets::builder::chunk;
use crate::packets::packet;

const ABORT: u8 = 6;
const SHUTDOWN_COMPLETE: u8 = 14;
/// The tag is the receiver's own.
const REFLECTED: u8 = 1;
const TAG: u32 = 0x7a67;

pub(super) fn rows(at: &At) -> Vec<Rule> {
    let of_family = |ip| {
        [tcp(ip), associations(ip), elsewhere(ip), nobody(ip), silence(ip), gone(at, ip)].concat()
    };
    FAMILIES.into_iter().flat_map(of_family).collect()
}

fn box_of(ip: Ip) -> Setup {
    through(FULLNAT, ip)
}

fn tcp(ip: Ip) -> Vec<Rule> {
    let reset_row = |case, flags| {
        let stray = segment(ip).numbers(1, 77).flags(flags);
        rule("strays: TCP of no connection gets a RST", box_of(ip))
            .case(case)
            .client(stray.clone())
            .refused(Reason::NoConnection, reset(&stray, 77))
    };
    let silent = |case, flags| {
        rule("strays: a RST is never answered", box_of(ip))
            .case(case)
            .client(segment(ip).flags(flags))
            .dropped(Reason::NoConnection)
    };
    let null = segment(ip).flags(0).payload(b"three");
    vec![
        reset_row("ACK", ACK),
        reset_row("FIN+ACK", FIN | ACK),
        rule("strays: TCP without flags gets RST and ACK", box_of(ip))
            .client(null.clone())
            .refused(Reason::NoConnection, reset_ack(&null, 1001 + 5)),
        silent("RST", RST),
        silent("SYN+RST", SYN | RST),
        silent("RST+ACK", RST | ACK),
    ]
}

fn associations(ip: Ip) -> Vec<Rule> {
    let answered = |name, case, kind, answer, flags| {
        let stray = sctp(ip, kind);
        rule(name, box_of(ip))
            .case(case)
            .client(stray.clone())
            .refused(Reason::NoConnection, sctp_answer(&stray, TAG, answer, flags))
    };
    let abort = "strays: SCTP of no association gets an ABORT";
    let silent = |case, kind| {
        rule("strays: SCTP that ends something gets nothing", box_of(ip))
            .case(case)
            .client(sctp(ip, kind))
            .dropped(Reason::NoConnection)
    };
    let over = "strays: SHUTDOWN-ACK gets SHUTDOWN-COMPLETE";
    let both = [chunk(0, 3, &[0; 13]), chunk(ABORT, 0, b"")].concat();
    vec![
        answered(abort, "DATA", 0, ABORT, REFLECTED),
        answered(abort, "INIT-ACK", 2, ABORT, REFLECTED),
        answered(abort, "HEARTBEAT", 4, ABORT, REFLECTED),
        answered(abort, "SHUTDOWN", 7, ABORT, REFLECTED),
        answered(abort, "COOKIE-ECHO", 10, ABORT, REFLECTED),
        answered(over, "SHUTDOWN-ACK", 8, SHUTDOWN_COMPLETE, REFLECTED),
        silent("ABORT", 6),
        silent("ERROR", 9),
        silent("COOKIE-ACK", 11),
        silent("SHUTDOWN-COMPLETE", 14),
        rule("strays: SCTP that ends something gets nothing", box_of(ip))
            .case("DATA and ABORT")
            .client(sctp(ip, 0).payload(&both))
            .dropped(Reason::NoConnection),
        rule(WRONG, box_of(ip))
            .case("TCP")
            .client(segment(ip).l4_wrong_by(1))
            .dropped(Reason::NoConnection),
        rule(WRONG, box_of(ip))
            .case("TCP to a port without service")
            .client(syn(ip).to((ip.vip().ip(), 81).into()).l4_wrong_by(1))
            .dropped(Reason::NoService),
        rule(WRONG, box_of(ip))
            .case("UDP to a port without service")
            .client(datagram(ip).to((ip.vip().ip(), 81).into()).l4_wrong_by(1))
            .dropped(Reason::NoService),
        rule("strays: SCTP with a wrong checksum gets nothing", box_of(ip))
            .client(sctp(ip, 0).l4_wrong_by(1))
            .dropped(Reason::NoConnection),
    ]
}

/// As of any host.
const WRONG: &str = "strays: TCP and UDP with a wrong checksum get nothing";

/// A port of the VIP without service.
fn elsewhere(ip: Ip) -> Vec<Rule> {
    let port: SocketAddr = (ip.vip().ip(), 81).into();
    let [syn, ack, rst] =
        [syn(ip), segment(ip).numbers(1, 77), segment(ip).flags(RST)].map(|stray| stray.to(port));
    let (ask, start) = (datagram(ip).to(port), init(ip).to(port));
    let told = |case, stray: &crate::packets::Builder, answer: crate::packets::Builder| {
        rule("strays: a port without service answers as a closed one", box_of(ip))
            .case(case)
            .client(stray.clone())
            .refused(Reason::NoService, answer)
    };
    vec![
        told("SYN", &syn, reset_ack(&syn, 1001)),
        told("ACK", &ack, reset(&ack, 77)),
        told("UDP", &ask, vip_says(port_unreachable(ip), &ask)),
        told("INIT", &start, sctp_answer(&start, 0x1e1e_1e1e, ABORT, 0)),
        rule("strays: a port without service answers no RST", box_of(ip))
            .client(rst)
            .dropped(Reason::NoService),
    ]
}

fn nobody(ip: Ip) -> Vec<Rule> {
    let told = PROTOCOLS.map(|protocol| {
        let ask = first(protocol, ip);
        rule(
            "strays: without a usable backend the VIP tells port unreachable",
            box_of(ip).weight(0),
        )
        .case(protocol)
        .client(ask.clone())
        .refused(Reason::NoBackend, vip_says(port_unreachable(ip), &ask))
        .refusals(1)
    });
    told.to_vec()
}

fn silence(ip: Ip) -> Vec<Rule> {
    let port: SocketAddr = (ip.vip().ip(), 81).into();
    let rows = [
        ("an ACK", segment(ip), Reason::NoConnection),
        ("SCTP DATA", sctp(ip, 0), Reason::NoConnection),
        ("a SYN elsewhere", syn(ip).to(port), Reason::NoService),
        ("UDP elsewhere", datagram(ip).to(port), Reason::NoService),
        ("INIT elsewhere", init(ip).to(port), Reason::NoService),
    ];
    let silent = |(case, stray, reason)| {
        let setup = box_of(ip).silent();
        rule("strays: silence where that is the policy", setup)
            .case(case)
            .client(stray)
            .dropped(reason)
    };
    rows.map(silent).to_vec()
}

/// Backends that talk without having been asked.
fn gone(at: &At, ip: Ip) -> Vec<Rule> {
    let local = at.local(ip.backend());
    let refused = |case, to| {
        let stray = syn_ack(ip.backend(), to).flags(ACK);
        let answer = to_backend(reset(&stray, 1001), 11);
        let mode = if to == ip.client() { NAT } else { FULLNAT };
        rule(
            "strays: a backend's packet of no connection is refused and never leaks",
            through(mode, ip),
        )
        .case(case)
        .backend(stray)
        .refused(Reason::NoConnection, answer)
    };
    let udp = packet().udp(ip.backend(), ip.client()).sent_by(11).payload(b"unasked");
    let late_udp = packet().udp(ip.backend(), local).sent_by(11).payload(b"late");
    let mut rows = vec![
        refused("TCP", ip.client()),
        refused("TCP", local),
        rule(
            "strays: a backend's packet of no connection is refused and never leaks",
            through(NAT, ip),
        )
        .case("UDP")
        .backend(udp.clone())
        .refused(
            Reason::NoConnection,
            to_backend(we_say(ip.ours(), port_unreachable(ip), &udp), 11),
        ),
        rule(
            "strays: a backend's packet of no connection is refused and never leaks",
            through(FULLNAT, ip),
        )
        .case("UDP")
        .backend(late_udp.clone())
        .refused(
            Reason::NoConnection,
            to_backend(we_say(ip.local(), port_unreachable(ip), &late_udp), 11),
        ),
        rule("strays: silence where that is the policy", through(NAT, ip).silent())
            .case("UDP of no connection")
            .backend(udp)
            .dropped(Reason::NoConnection),
    ];
    rows.extend(left(at, ip));
    rows.extend([NAT, FULLNAT].into_iter().flat_map(|mode| left_by_udp(at, ip, mode)));
    if ip == V4 {
        rows.push(weight_zero(ip));
    }
    rows
}

/// Connections whose backend has left.
fn left(at: &At, ip: Ip) -> Vec<Rule> {
    let local = at.local(ip.backend());
    let end = "reload: both ends of a connection whose backend left get a RST";
    let open = |mode| {
        let from = if mode == NAT { ip.client() } else { local };
        rule(end, through(mode, ip))
            .client(syn(ip))
            .backend_gets(syn(ip).between(from, ip.backend()).onward())
            .reload(through(mode, ip).removed())
    };
    let late = backend_ack(ip.backend(), local);
    let asked = segment(ip);
    vec![
        open(NAT)
            .case("client")
            .client(asked.clone())
            .refused(Reason::BackendGone, reset(&asked, 501))
            .made(1)
            .open(0),
        open(FULLNAT)
            .case("client")
            .client(asked.clone())
            .refused(Reason::BackendGone, reset(&asked, 501))
            .made(1)
            .open(0),
        open(FULLNAT)
            .case("backend")
            .backend(late.clone())
            .refused(Reason::BackendGone, to_backend(reset(&late, 1001), 11))
            .made(1)
            .open(0),
    ]
}

/// Flows of UDP whose backend has left: who speaks is answered, and the other hears that the port is closed, of a
/// datagram as it had sent it.
fn left_by_udp(at: &At, ip: Ip, mode: Mode) -> Vec<Rule> {
    let end = "reload: both ends of a flow of UDP whose backend left hear that the port is closed";
    let peer = if mode == NAT { ip.client() } else { at.local(ip.backend()) };
    let ask = datagram(ip);
    let own = |from, to| packet().udp(from, to).identification(0).payload(b"");
    let late = packet().udp(ip.backend(), peer).sent_by(11).payload(b"late");
    let answered = |case| {
        let answer = packet().udp(ip.backend(), peer).sent_by(11).payload(b"answer");
        let (there, back) = (
            ask.clone().between(peer, ip.backend()),
            answer.clone().between(ip.vip(), ip.client()),
        );
        rule(end, through(mode, ip).telling())
            .case(case)
            .client(ask.clone())
            .backend_gets(there.onward())
            .backend(answer)
            .client_gets(back.home())
            .reload(through(mode, ip).removed().telling())
    };
    let to_its_backend = we_say(peer.ip(), port_unreachable(ip), &own(ip.backend(), peer));
    let mut rows = vec![
        answered("client")
            .client(ask.clone())
            .refused(Reason::NoBackend, vip_says(port_unreachable(ip), &ask))
            .and_hears(Side::Backend, to_backend(to_its_backend, 11))
            .made(1)
            .refusals(1)
            .open(0),
    ];
    // In NAT nobody knows any more whom the backend's packet is of: it is not answered.
    if mode == FULLNAT {
        let to_its_client = vip_says(port_unreachable(ip), &own(ip.client(), ip.vip()));
        let answer = to_backend(we_say(peer.ip(), port_unreachable(ip), &late), 11);
        rows.push(
            answered("backend")
                .backend(late)
                .and_hears(Side::Client, to_its_client)
                .refused(Reason::BackendGone, answer)
                .made(1)
                .open(0),
        );
    }
    rows
}

/// Weight 0 is for new connections.
fn weight_zero(ip: Ip) -> Rule {
    let other = syn(ip).from((ip.client().ip(), 7).into());
    rule("reload: weight 0 takes nobody new and leaves alone what lives", through(NAT, ip))
        .client(syn(ip))
        .backend_gets(syn(ip).to(ip.backend()).onward())
        .reload(through(NAT, ip).weight(0))
        .client(segment(ip))
        .backend_gets(segment(ip).to(ip.backend()).onward())
        .client(other.clone())
        .refused(Reason::NoBackend, vip_says(port_unreachable(ip), &other))
        .made(1)
        .refusals(1)
}
