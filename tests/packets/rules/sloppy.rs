//! Clients that come over from another box in the middle of a connection (lvs.md 1.1: the sloppy
//! sysctls). FULL-NAT has no such rows: the configuration refuses it.

use shunt::dataplane::snapshot::Mode;
use shunt::dataplane::verdict::Reason;

use super::outer::wrapped;
use super::setup::{FAMILIES, Ip, Setup, V4, through};
use super::words::{ACK, DR, FIN, IPIP, NAT, PSH, RST, SYN, backend_ack, reset, sctp, segment};
use super::{At, Rule, rule};
use crate::packets::Builder;

/// Modes in which the backend knows the client by its own address.
const MODES: [Mode; 3] = [NAT, DR, IPIP];

pub(super) fn rows(_: &At) -> Vec<Rule> {
    let of = |ip| {
        let each = MODES.into_iter().flat_map(move |mode| [tcp(mode, ip), sctp_rows(mode, ip)]);
        each.chain([backends(ip), states(ip)]).flatten().collect::<Vec<_>>()
    };
    FAMILIES.into_iter().flat_map(of).collect()
}

fn sloppy(mode: Mode, ip: Ip) -> Setup {
    through(mode, ip).sloppy()
}

/// The client's packet as the backend gets it.
fn there(mode: Mode, packet: Builder, ip: Ip) -> Builder {
    match mode {
        NAT => packet.to(ip.backend()).onward(),
        DR => packet.onward(),
        _ => wrapped(&packet.onward(), mode, ip, 0),
    }
}

fn tcp(mode: Mode, ip: Ip) -> Vec<Rule> {
    let made = |case, packet: Builder| {
        rule("sloppy: any TCP packet without RST makes a connection", sloppy(mode, ip))
            .case(case)
            .client(packet.clone())
            .backend_gets(there(mode, packet.clone(), ip))
            .client(packet.clone())
            .backend_gets(there(mode, packet, ip))
            .made(1)
    };
    let refused = |case, flags| {
        rule("sloppy: what ends a connection makes none", sloppy(mode, ip))
            .case(case)
            .client(segment(ip).flags(flags))
            .dropped(Reason::NoConnection)
    };
    let data = segment(ip).from((ip.client().ip(), 20).into());
    vec![
        made("ACK", segment(ip)),
        made("data", segment(ip).flags(PSH | ACK).payload(b"in the middle")),
        made("FIN", segment(ip).flags(FIN | ACK)),
        made("no flags", segment(ip).flags(0)),
        made("SYN", segment(ip).flags(SYN)),
        refused("RST", RST),
        refused("SYN+RST", SYN | RST),
        refused("RST+ACK", RST | ACK),
        rule("create: TCP from port 20 never does", sloppy(mode, ip))
            .case("sloppy")
            .client(data.clone())
            .refused(Reason::NoConnection, reset(&data, 501)),
    ]
}

fn sctp_rows(mode: Mode, ip: Ip) -> Vec<Rule> {
    let kinds = [("DATA", 0), ("HEARTBEAT", 4), ("SHUTDOWN", 7), ("COOKIE-ACK", 11)];
    let made = |(case, kind)| {
        rule("sloppy: any SCTP packet but an ABORT makes an association", sloppy(mode, ip))
            .case(case)
            .client(sctp(ip, kind))
            .backend_gets(there(mode, sctp(ip, kind), ip))
            .made(1)
    };
    let abort = rule("sloppy: what ends a connection makes none", sloppy(mode, ip))
        .case("ABORT")
        .client(sctp(ip, 6))
        .dropped(Reason::NoConnection);
    kinds.into_iter().map(made).chain([abort]).collect()
}

/// A backend that speaks before its client: told to give up, it would.
fn backends(ip: Ip) -> Vec<Rule> {
    let answer = backend_ack(ip.backend(), ip.client());
    let first = segment(ip);
    let name = "sloppy: a backend's packet waits in silence for its client's";
    vec![
        rule(name, sloppy(NAT, ip))
            .backend(answer.clone())
            .dropped(Reason::NoConnection)
            .client(first.clone())
            .backend_gets(there(NAT, first, ip))
            .backend(answer.clone())
            .client_gets(answer.between(ip.vip(), ip.client()).home())
            .made(1),
    ]
}

/// The first packet seen is an event on a connection without any: its timeout is that state's.
fn states(ip: Ip) -> Vec<Rule> {
    if ip != V4 {
        return vec![];
    }
    let name = "sloppy: the state follows from the first packet seen";
    let row = |case, packet: Builder| {
        let row = rule(name, sloppy(NAT, ip)).case(case).client(packet.clone());
        row.backend_gets(there(NAT, packet, ip)).made(1)
    };
    vec![
        row("ACK is ESTABLISHED, not yet 900 s", segment(ip)).wait(898),
        row("ACK is ESTABLISHED, 900 s", segment(ip)).wait(904).expired(1).open(0),
        row("FIN is CLOSE, not yet 10 s", segment(ip).flags(FIN | ACK)).wait(8),
        row("FIN is CLOSE, 10 s", segment(ip).flags(FIN | ACK)).wait(14).expired(1).open(0),
        row("DATA is ESTABLISHED, not yet 900 s", sctp(ip, 0)).wait(898),
        row("SHUTDOWN-COMPLETE is CLOSED, 61 s", sctp(ip, 14)).wait(65).expired(1).open(0),
    ]
}
