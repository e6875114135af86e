//! Tunnels: the outer header to the byte (lvs.md 1.2).

use shunt::dataplane::snapshot::Mode;

use super::outer::{loosely, overhead, wrapped};
use super::setup::{FAMILIES, Ip, Setup, V4, V6, between, through};
use super::words::{
    ACK, GRE, GRE_SUM, GUE, GUE_REMOTE, GUE_SUM, IPIP, TUNNELS, datagram, exactly, segment, syn,
};
use super::{At, Rule, rule};
use crate::packets::Builder;

pub(super) fn rows(_: &At) -> Vec<Rule> {
    let each = pairs().flat_map(|(clients, backends)| {
        TUNNELS.into_iter().flat_map(move |mode| of_kind(between(mode, clients, backends), mode))
    });
    recorded().into_iter().chain(each).chain(tos()).chain(wrong()).collect()
}

/// Families of clients and backends.
pub(super) fn pairs() -> impl Iterator<Item = (Ip, Ip)> {
    FAMILIES.into_iter().flat_map(|clients| FAMILIES.map(|backends| (clients, backends)))
}

/// 40 bytes of SYN with DF and CE, as recorded of a real kernel.
fn recorded() -> Vec<Rule> {
    let lengths = [(IPIP, 60), (GRE, 64), (GRE_SUM, 68), (GUE, 72), (GUE_SUM, 72)];
    let row = |(mode, length)| {
        let ask = syn(V4).tos(0x03);
        assert_eq!(ask.ip_packet().len(), 40);
        let outer = wrapped(&ask.clone().onward(), mode, V4, 0x02);
        let rule = rule("tunnel: 40 bytes of SYN become 60, 64, 68, 72", through(mode, V4));
        rule.case(length).client(ask).backend_gets(exactly(length, &outer)).made(1)
    };
    lengths.into_iter().map(row).collect()
}

/// The first packet through a tunnel, and how it arrives.
fn first(name: &'static str, setup: Setup, ask: Builder, outer: Builder) -> Rule {
    rule(name, setup).client(ask).backend_gets(outer).made(1)
}

/// What holds for every kind between every two families.
fn of_kind(setup: Setup, mode: Mode) -> Vec<Rule> {
    let (ip, backends) = setup.families;
    let around = |ask: &Builder, tos| wrapped(&ask.clone().onward(), mode, backends, tos);
    let (plain, last) = (syn(ip), syn(ip).ttl(2));
    let marked = syn(ip).tos(0xb8).flow_label(0xabcde).payload(b"odd");
    let loose = datagram(ip);
    let outer = loosely(around(&loose, 0));
    let more = segment(ip).flags(ACK).payload(b"more");
    let long = around(&plain, 0);
    let extra = long.build().len() - plain.build().len();
    assert_eq!(extra, overhead(mode, backends));
    let ttl = "tunnel: the outer TTL is the inner one, counted down";
    let label = "tunnel: TOS is copied, the outer flow label is 0, the inner one stays";
    let no_df = "tunnel: with pmtu_disc=0 the outer DF is clear";
    let mut rows = vec![
        first("tunnel: any family goes in any", setup.clone(), plain.clone(), long),
        first(ttl, setup.clone(), last.clone(), around(&last, 0)),
        first(label, setup.clone(), marked.clone(), around(&marked, 0xb8)),
        first(
            "tunnel: a flow keeps its outer port",
            setup.clone(),
            plain.clone(),
            around(&plain, 0),
        )
        .client(more.clone())
        .backend_gets(around(&more, 0)),
    ];
    if ip == V4 && backends == V4 {
        let numbered = "tunnel: without DF the outer packet is numbered";
        rows.push(first(numbered, setup.clone(), loose, outer));
        let outer = loosely(around(&plain, 0));
        rows.push(first(no_df, setup.ignoring_df(), plain, outer));
    }
    rows
}

/// ECN by the full-functionality rules: CE stays inside, outside it is ECT(0).
fn tos() -> Vec<Rule> {
    let shown =
        [(0x00, 0x00), (0xb8, 0xb8), (0x01, 0x01), (0x02, 0x02), (0x03, 0x02), (0xbb, 0xba)];
    let row = |(clients, backends)| {
        shown.map(|(inside, outside)| {
            let ask = syn(clients).tos(inside);
            let outer = wrapped(&ask.clone().onward(), IPIP, backends, outside);
            rule(
                "tunnel: TOS and ECN are copied, CE becomes ECT(0)",
                between(IPIP, clients, backends),
            )
            .case(format!("{inside:#04x} in, {outside:#04x} out"))
            .client(ask)
            .backend_gets(outer)
            .made(1)
        })
    };
    pairs().flat_map(row).collect()
}

fn wrong() -> Vec<Rule> {
    let row = |ip: Ip| {
        let ask = syn(ip).l4_wrong_by(7).payload(b"broken");
        rule("tunnel: a wrong checksum inside arrives as it was", through(IPIP, ip))
            .client(ask.clone())
            .backend_gets(wrapped(&ask.onward(), IPIP, ip, 0))
            .still_wrong()
            .made(1)
    };
    [V4, V6].map(row).to_vec()
}
