//! What stays of a packet in every mode, and what follows when things change (lvs.md 1.2).

use std::net::SocketAddr;

use shunt::dataplane::snapshot::Mode;
use shunt::dataplane::verdict::Reason;

use super::outer::wrapped;
use super::setup::{FAMILIES, Ip, V4, through};
use super::words::{
    DR, FULLNAT, IPIP, MODES, NAT, TRANSLATING, bytes, data, datagram, exactly, second, segment,
    syn, syn_ack, time_exceeded, vip_says,
};
use super::{At, Rule, rule};
use crate::packets::{Builder, OUR_MAC};
use shunt::dataplane::snapshot::Protocol;
use shunt::wire::Mac;

/// The clients' other router.
const OTHER_ROUTER: Mac = Mac([2, 0, 0, 0, 0, 0xc2]);
/// Eight bytes of options that say nothing, but for the first byte.
const PADDING: [u8; 7] = [0, 1, 4, 0, 0, 0, 0];

pub(super) fn rows(at: &At) -> Vec<Rule> {
    let of_family =
        |ip| [hops(at, ip), headers(at, ip), checksums(at, ip), changes(at, ip)].concat();
    FAMILIES.into_iter().flat_map(of_family).chain([mixed(at), ports(at)]).collect()
}

/// As it leaves for the backend.
fn onward(at: &At, mode: Mode, ask: &Builder, ip: Ip) -> Builder {
    match mode {
        FULLNAT => ask.clone().between(at.local(ip.backend()), ip.backend()).onward(),
        NAT => ask.clone().to(ip.backend()).onward(),
        DR => ask.clone().onward(),
        _ => wrapped(&ask.clone().onward(), mode, ip, 0),
    }
}

fn hops(at: &At, ip: Ip) -> Vec<Rule> {
    let of_mode = |mode| {
        let (last, late) = (syn(ip).ttl(2), syn(ip).ttl(1).payload(&bytes(1400)));
        let most = if ip == V4 { 576 } else { 1280 };
        let told = exactly(most, &vip_says(time_exceeded(ip), &late));
        let open = segment(ip).ttl(1);
        [
            rule("ttl: one hop less in every mode", through(mode, ip))
                .client(last.clone())
                .backend_gets(onward(at, mode, &last, ip))
                .made(1),
            rule(
                "ttl: time exceeded is 576 bytes at most (IPv6: 1280), TOS 0xc0",
                through(mode, ip),
            )
            .client(late)
            .refused(Reason::TtlExpired, told)
            .refusals(1),
            rule("ttl: a last hop in a connection is told too", through(mode, ip))
                .client(syn(ip))
                .backend_gets(onward(at, mode, &syn(ip), ip))
                .client(open.clone())
                .refused(Reason::TtlExpired, vip_says(time_exceeded(ip), &open))
                .made(1),
        ]
    };
    MODES.map(of_mode).concat()
}

/// Identification, DF, TOS, ECN, flow label, options.
fn headers(at: &At, ip: Ip) -> Vec<Rule> {
    let common = [
        ("identification 77, no DF", datagram(ip).identification(77)),
        ("TOS 0xb8, ECN CE", syn(ip).tos(0xbb)),
        ("TCP options", syn(ip).tcp_options(&[1; 12])),
    ];
    let own = match ip {
        V4 => vec![("IP options", syn(ip).ip_options(&[1; 8]))],
        Ip::V6 => vec![
            ("flow label", syn(ip).flow_label(0xabcde).tos(0x2e)),
            ("extension headers", syn(ip).extension(0, &PADDING).extension(60, &PADDING)),
        ],
    };
    let row = |(case, ask): (&'static str, Builder)| {
        [FULLNAT, NAT, DR].map(|mode| {
            rule(
                "forward: identification, DF, TOS, ECN, flow label and options stay",
                through(mode, ip),
            )
            .case(case)
            .client(ask.clone())
            .backend_gets(onward(at, mode, &ask, ip))
            .made(1)
        })
    };
    common.into_iter().chain(own).flat_map(row).collect()
}

fn checksums(at: &At, ip: Ip) -> Vec<Rule> {
    let mut rows = vec![];
    for mode in [FULLNAT, NAT, DR] {
        for (case, ask) in [("TCP", data(ip, b"odd").flags(2)), ("UDP", datagram(ip))] {
            let ask = ask.l4_wrong_by(0x0102);
            rows.push(
                rule(
                    "forward: a wrong checksum stays wrong, by the same amount",
                    through(mode, ip),
                )
                .case(case)
                .client(ask.clone())
                .backend_gets(onward(at, mode, &ask, ip))
                .still_wrong()
                .made(1),
            );
        }
        let full = datagram(ip).payload(b"").l4_checksum_zero_in(|ask| onward(at, mode, &ask, ip));
        rows.push(
            rule(
                "forward: a UDP checksum that comes out as 0 is written 0xffff",
                through(mode, ip),
            )
            .client(full.clone())
            .backend_gets(onward(at, mode, &full, ip))
            .made(1),
        );
        if ip == V4 {
            let bare = datagram(ip).without_checksum();
            rows.push(
                rule("forward: UDP without a checksum stays without", through(mode, ip))
                    .client(bare.clone())
                    .backend_gets(onward(at, mode, &bare, ip))
                    .made(1),
            );
        }
    }
    rows
}

fn changes(at: &At, ip: Ip) -> Vec<Rule> {
    let other: SocketAddr = (ip.client().ip(), 7).into();
    let second_syn = syn(ip).from(other);
    let mut rows = vec![
        rule("reload: new connections take the new mode, old ones keep theirs", through(NAT, ip))
            .client(syn(ip))
            .backend_gets(onward(at, NAT, &syn(ip), ip))
            .reload(through(DR, ip))
            .client(segment(ip))
            .backend_gets(onward(at, NAT, &segment(ip), ip))
            .client(second_syn.clone())
            .backend_gets(onward(at, DR, &second_syn, ip))
            .made(2),
        rule("reload: a connection keeps the tunnel it began with", through(IPIP, ip))
            .client(syn(ip))
            .backend_gets(onward(at, IPIP, &syn(ip), ip))
            .reload(through(DR, ip))
            .client(segment(ip))
            .backend_gets(onward(at, IPIP, &segment(ip), ip))
            .made(1),
    ];
    for mode in TRANSLATING {
        let known = if mode == NAT { ip.client() } else { at.local(ip.backend()) };
        let answer = syn_ack(ip.backend(), known);
        let home = answer.clone().between(ip.vip(), ip.client()).home();
        rows.push(
            rule(
                "forward: answers leave to the link address the client's last packet came from",
                through(mode, ip),
            )
            .client(syn(ip))
            .backend_gets(onward(at, mode, &syn(ip), ip))
            .client(segment(ip).macs(OTHER_ROUTER, OUR_MAC))
            .backend_gets(onward(at, mode, &segment(ip), ip))
            .backend(answer)
            .client_gets(home.macs(OUR_MAC, OTHER_ROUTER))
            .made(1),
        );
    }
    rows
}

/// Newest first: .13 by FULL-NAT, .12 by DR, .11 by NAT.
fn mixed(at: &At) -> Rule {
    let from = |port: u16| -> SocketAddr { (V4.client().ip(), port).into() };
    let asks = [1, 2, 3].map(|port| syn(V4).from(from(port)));
    let end: SocketAddr = (V4.host(13), 8080).into();
    let modes = [(NAT, 8080), (DR, 80), (FULLNAT, 8080)];
    rule(
        "forward: backends of one service may be reached in different modes",
        through(NAT, V4).modes(&modes),
    )
    .client(asks[0].clone())
    .backend_gets(asks[0].clone().between(at.local(end), end).onward_to(13))
    .client(asks[1].clone())
    .backend_gets(asks[1].clone().onward_to(12))
    .client(asks[2].clone())
    .backend_gets(asks[2].clone().to(V4.backend()).onward_to(11))
    .made(3)
    .one_worker()
}

/// From 1024 on, each once before any twice; the client's port has no say.
fn ports(at: &At) -> Rule {
    let backends = [V4.backend(); 3];
    let locals = at.locals(&backends);
    let row = rule("fullnat: local ports come in turn", through(FULLNAT, V4)).one_worker();
    let each = |row: Rule, n: usize| {
        let from: SocketAddr = (V4.client().ip(), 9000 + u16::try_from(n).unwrap()).into();
        let answer = second(Protocol::Tcp, V4.backend(), locals[n]);
        row.client(syn(V4).from(from))
            .backend_gets(syn(V4).between(locals[n], V4.backend()).onward())
            .backend(answer.clone())
            .client_gets(answer.between(V4.vip(), from).home())
    };
    (0..3).fold(row, each).made(3)
}
