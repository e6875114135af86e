//! SCTP associations (lvs.md 1.14): what their packets become, and which event a packet is.

use shunt::dataplane::snapshot::Mode;

use super::outer::wrapped;
use super::setup::{FAMILIES, Ip, through};
use super::words::{DR, FULLNAT, IPIP, NAT, init, sctp};
use super::{At, Rule, Side, rule};
use crate::packets::builder::chunk;
use crate::packets::{Builder, packet};

const DATA: u8 = 0;
const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
const SACK: u8 = 3;
const ABORT: u8 = 6;
const SHUTDOWN: u8 = 7;
const SHUTDOWN_ACK: u8 = 8;
const COOKIE_ECHO: u8 = 10;
const COOKIE_ACK: u8 = 11;
const SHUTDOWN_COMPLETE: u8 = 14;

use Side::{Backend, Client};

/// Who says what, from INIT to the end.
const WHOLE: [(Side, u8); 9] = [
    (Client, INIT),
    (Backend, INIT_ACK),
    (Client, COOKIE_ECHO),
    (Backend, COOKIE_ACK),
    (Client, DATA),
    (Backend, SACK),
    (Client, SHUTDOWN),
    (Backend, SHUTDOWN_ACK),
    (Client, SHUTDOWN_COMPLETE),
];

pub(super) fn rows(at: &At) -> Vec<Rule> {
    let of_family = |ip| [lives(at, ip), checksums(at, ip), events(ip)].concat();
    FAMILIES.into_iter().flat_map(of_family).collect()
}

fn said(ip: Ip, kind: u8) -> Builder {
    if kind == INIT { init(ip) } else { sctp(ip, kind) }
}

/// The client's packet as the backend gets it.
fn there(at: &At, mode: Mode, ask: Builder, ip: Ip) -> Builder {
    match mode {
        FULLNAT => ask.between(at.local(ip.backend()), ip.backend()).onward(),
        NAT => ask.to(ip.backend()).onward(),
        DR => ask.onward(),
        _ => wrapped(&ask.onward(), mode, ip, 0),
    }
}

/// A step of an association.
fn say(row: Rule, at: &At, mode: Mode, ip: Ip, side: Side, packet: Builder) -> Rule {
    let known = if mode == NAT { ip.client() } else { at.local(ip.backend()) };
    match side {
        Client => row.client(packet.clone()).backend_gets(there(at, mode, packet, ip)),
        Backend => {
            let answer = to_us(packet.between(ip.backend(), known));
            row.backend(answer.clone()).client_gets(answer.between(ip.vip(), ip.client()).home())
        }
    }
}

fn to_us(packet: Builder) -> Builder {
    packet.sent_by(11)
}

/// A whole association, and another after it: INIT on a closed one is scheduled again.
fn lives(at: &At, ip: Ip) -> Vec<Rule> {
    let row = |mode| {
        let sees_all = matches!(mode, FULLNAT | NAT);
        let mut row =
            rule("sctp: an association lives from INIT to SHUTDOWN-COMPLETE", through(mode, ip));
        for (side, kind) in WHOLE.into_iter().filter(|(side, _)| sees_all || *side == Client) {
            row = say(row, at, mode, ip, side, said(ip, kind));
        }
        row.made(1)
    };
    [FULLNAT, NAT, DR, IPIP].map(row).to_vec()
}

/// The CRC covers ports and no addresses.
fn checksums(at: &At, ip: Ip) -> Vec<Rule> {
    let broken = init(ip).l4_wrong_by(0x8001);
    let kept = init(ip).to((ip.host(11), 80).into()).onward();
    let crc = |frame: &Builder| frame.ip_packet()[ip.header() + 8..ip.header() + 12].to_vec();
    assert_eq!(crc(&kept), crc(&init(ip)), "addresses do not count");
    let wrong = |mode| {
        let name = "sctp: a wrong checksum stays wrong, by the same bits, in every mode";
        rule(name, through(mode, ip))
            .client(broken.clone())
            .backend_gets(there(at, mode, broken.clone(), ip))
            .still_wrong()
            .made(1)
    };
    let mut rows = [FULLNAT, NAT, DR, IPIP].map(wrong).to_vec();
    let name = "sctp: nat: the checksum is made anew only when a port changes";
    let mapped = init(ip).to(ip.backend()).onward();
    assert_ne!(crc(&mapped), crc(&init(ip)));
    rows.push(
        rule(name, through(NAT, ip).port(80))
            .case("port kept")
            .client(init(ip))
            .backend_gets(kept)
            .made(1),
    );
    rows.push(
        rule(name, through(NAT, ip))
            .case("port mapped")
            .client(init(ip))
            .backend_gets(mapped)
            .made(1),
    );
    rows
}

/// Events shown by what they lead to: a closed association's INIT makes another one.
fn events(ip: Ip) -> Vec<Rule> {
    let with_abort = |kind| {
        packet()
            .sctp(ip.client(), ip.vip(), 0x7a67)
            .payload(&[chunk(kind, 0, &[7; 5]), chunk(ABORT, 0, b"")].concat())
    };
    let row = |name, case, last: Builder, made| {
        let steps = [init(ip), last, init(ip)];
        let each = |row: Rule, ask: Builder| {
            row.client(ask.clone()).backend_gets(ask.to(ip.backend()).onward())
        };
        steps.into_iter().fold(rule(name, through(NAT, ip)).case(case), each).made(made).open(1)
    };
    let first = "sctp: the first chunk counts, but for an ABORT right behind a cookie";
    let anew = "sctp: INIT on a closed association makes another, on a living one it does not";
    let second = chunk(SACK, 0, &[0; 12]);
    let late = packet().sctp(ip.client(), ip.vip(), 0x7a67);
    let late = late.payload(&[second, chunk(ABORT, 0, b"")].concat());
    vec![
        row(first, "COOKIE-ECHO and ABORT", with_abort(COOKIE_ECHO), 2),
        row(first, "SACK and ABORT", late, 1),
        row(anew, "closed", said(ip, SHUTDOWN_COMPLETE), 2),
        row(anew, "aborted", said(ip, ABORT), 2),
        row(anew, "living", said(ip, COOKIE_ECHO), 1),
    ]
}
