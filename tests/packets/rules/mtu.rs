//! Packets longer than their way (lvs.md 1.3).

use std::net::SocketAddr;

use shunt::dataplane::snapshot::Mode;
use shunt::dataplane::verdict::Reason;

use super::outer::{FRESH, loosely, overhead, wrapped};
use super::setup::{FAMILIES, Ip, V4, V6, between, through};
use super::tunnels::pairs;
use super::words::{
    DR, FULLNAT, GRE, GRE_SUM, GUE, IPIP, NAT, TRANSLATING, TUNNELS, bytes, datagram_of, exactly,
    syn, syn_ack, syn_of, to_backend, too_big, vip_says, we_say,
};
use super::{At, Rule, Side, rule};
use crate::packets::Builder;
use crate::packets::fragments::cut;

pub(super) fn rows(at: &At) -> Vec<Rule> {
    let of_family = |ip| [plain(at, ip), answers(at, ip)].concat();
    let plain = FAMILIES.into_iter().flat_map(of_family);
    let tunnels = pairs().flat_map(|(clients, backends)| tunnel(clients, backends));
    plain.chain(loose(at)).chain(tunnels).chain(recorded()).chain(learned()).collect()
}

/// A packet as it leaves for the backend in a mode that puts nothing around it.
fn onward(at: &At, mode: Mode, ask: &Builder) -> Builder {
    let ip = Ip::of(ask.addresses().0);
    let ask = ask.clone();
    match mode {
        FULLNAT => ask.between(at.local(ip.backend()), ip.backend()).onward(),
        NAT => ask.to(ip.backend()).onward(),
        _ => ask.onward(),
    }
}

fn plain(at: &At, ip: Ip) -> Vec<Rule> {
    let rows = [FULLNAT, NAT, DR].map(|mode| {
        let setup = through(mode, ip).mtus(1500, 1400);
        let (fits, big) = (syn_of(ip, 1400), syn_of(ip, 1401));
        let told = vip_says(too_big(ip, 1400), &big);
        let whole = if ip == V4 { 576 } else { 1280 };
        [
            rule("mtu: what just fits goes on", setup.clone())
                .client(fits.clone())
                .backend_gets(exactly(1400, &onward(at, mode, &fits)))
                .made(1),
            rule(
                "mtu: too big, DF: the VIP tells the next link's MTU, quoting 576 bytes in all",
                setup,
            )
            .client(big)
            .refused(Reason::TooBig, exactly(whole, &told))
            .refusals(1),
        ]
    });
    rows.concat()
}

/// An answer too big for the clients' side.
fn answers(at: &At, ip: Ip) -> Vec<Rule> {
    let rows = TRANSLATING.map(|mode| {
        let (speaker, asks_as): (_, SocketAddr) = match mode {
            NAT => (ip.ours(), ip.client()),
            _ => (ip.local(), at.local(ip.backend())),
        };
        let answer = syn_ack(ip.backend(), asks_as).payload(&bytes(1401 - ip.header() - 20));
        let told = to_backend(we_say(speaker, too_big(ip, 1400), &answer), 11);
        rule(
            "mtu: an answer too big is told to the backend by the address it talks to us at",
            through(mode, ip).mtus(1400, 1500),
        )
        .client(syn(ip))
        .backend_gets(onward(at, mode, &syn(ip)))
        .backend(answer)
        .refused(Reason::TooBig, told)
        .made(1)
    });
    rows.to_vec()
}

/// Without DF: cut after rewriting, or, in a tunnel, outside.
fn loose(at: &At) -> Vec<Rule> {
    let plain = [FULLNAT, NAT, DR].map(|mode| {
        let ask = datagram_of(V4, 1420);
        let number = if mode == FULLNAT { FRESH.into() } else { 0x1234 };
        let pieces = cut(&onward(at, mode, &ask).build(), &[680, 680], number);
        let row =
            rule("mtu: too big, no DF: cut after rewriting", through(mode, V4).mtus(900, 700));
        pieces.into_iter().fold(row.client(ask), Rule::backend_gets).made(1)
    });
    let tunnel = FAMILIES.map(|backends| {
        let ask = datagram_of(V4, 1400);
        let row = rule(
            "mtu: too big, no DF, tunnel: wrapped whole, the outer packet cut",
            between(IPIP, V4, backends).mtus(1500, 1300),
        );
        outer_pieces(row.client(ask.clone()), &ask, backends, 1300).made(1)
    });
    let ignored = FAMILIES.map(|backends| {
        let ask = syn_of(V4, 1400);
        let row = rule(
            "mtu: DF, pmtu_disc=0, tunnel: the outer packet is cut",
            between(IPIP, V4, backends).mtus(1500, 1300).ignoring_df(),
        );
        outer_pieces(row.client(ask.clone()), &ask, backends, 1300).made(1)
    });
    [&plain[..], &tunnel, &ignored].concat()
}

/// The outer packet around `ask`, by IP in IP, in pieces as long as fit.
fn outer_pieces(row: Rule, ask: &Builder, outer: Ip, mtu: usize) -> Rule {
    let around = loosely(wrapped(&ask.clone().onward(), IPIP, outer, 0)).build();
    let room = mtu - outer.header() - if outer == V6 { 8 } else { 0 };
    let pieces = cut(&around, &[room / 8 * 8], FRESH.into());
    pieces.into_iter().fold(row, Rule::backend_gets)
}

/// What still fits a tunnel on a link of 1500 bytes, and one byte more.
fn tunnel(ip: Ip, backends: Ip) -> Vec<Rule> {
    let rows = TUNNELS.map(|mode| {
        let setup = between(mode, ip, backends);
        let most = 1500 - overhead(mode, backends);
        let (fits, big) = (syn_of(ip, most), syn_of(ip, most + 1));
        let outer = exactly(1500, &wrapped(&fits.clone().onward(), mode, backends, 0));
        let told = vip_says(too_big(ip, u32::try_from(most).unwrap()), &big);
        [
            rule("mtu: what just fits a tunnel goes on", setup.clone())
                .client(fits)
                .backend_gets(outer)
                .made(1),
            rule(
                "mtu: too big for a tunnel, DF: the VIP tells the MTU less the encapsulation",
                setup,
            )
            .client(big)
            .refused(Reason::TooBig, told)
            .refusals(1),
        ]
    });
    let mut rows = rows.concat();
    // The way carries less than the client's family promises: nobody is told to send less.
    if ip == V6 {
        let ask = syn_of(V6, 1280);
        let row = rule(
            "mtu: nobody is told less than his family's least MTU: the outer packet is cut",
            between(IPIP, V6, backends).mtus(1500, 1290),
        );
        rows.push(outer_pieces(row.client(ask.clone()), &ask, backends, 1290).made(1));
    }
    rows
}

/// The numbers as recorded: path MTU less 20, 24, 28, 32.
fn recorded() -> Vec<Rule> {
    let rows = [(IPIP, 1480), (GRE, 1476), (GRE_SUM, 1472), (GUE, 1468)].map(|(mode, mtu)| {
        let big = syn_of(V4, 1481);
        let told = exactly(576, &vip_says((3, 4, mtu), &big));
        rule("mtu: 1500 less 20 ipip, 24 GRE, 28 with checksum, 32 GUE", through(mode, V4))
            .case(mtu)
            .client(big)
            .refused(Reason::TooBig, told)
            .refusals(1)
    });
    rows.to_vec()
}

/// A router's word about an outer packet: learned, and told less the overhead at once.
fn learned() -> Vec<Rule> {
    let row = |(ip, backends): (Ip, Ip)| {
        let ask = syn_of(ip, 1400);
        let outer = wrapped(&ask.clone().onward(), IPIP, backends, 0);
        let mut quote = outer.ip_packet();
        quote.truncate(600);
        let path = if (ip, backends) == (V4, V4) { 1300 } else { 1330 };
        let said = too_big(backends, path);
        let error = super::words::error(backends.inner_router(), backends.ours(), said, &quote);
        let most = path - u32::try_from(backends.header()).unwrap();
        // We answer about what was quoted: one hop on, and cut off where the quote was.
        let shown = ask.clone().onward().ip_packet()[..600 - backends.header()].to_vec();
        let most_shown = if ip == V4 { 548 } else { 1232 };
        let shown = &shown[..shown.len().min(most_shown)];
        let told = super::words::error(ip.vip().ip(), ip.client().ip(), too_big(ip, most), shown);
        let told = told.identification(0).macs(crate::packets::OUR_MAC, crate::packets::CLIENT_MAC);
        let told = if ip == V6 { told.tos(0) } else { told };
        rule(
            "mtu: a tunnel's path MTU is learned, and told less the overhead at once",
            between(IPIP, ip, backends),
        )
        .client(ask.clone())
        .backend_gets(outer)
        .backend(error.sent_by(11))
        .told(Side::Client, told)
        .client(ask.clone())
        .refused(Reason::TooBig, vip_says(too_big(ip, most), &ask))
        .made(1)
    };
    let mut rows: Vec<_> = pairs().map(row).collect();
    rows.push(loose_is_not_told());
    rows.extend([(67, 1400), (68, 532), (551, 532), (553, 533)].map(floored));
    rows.extend([(1279, 1400), (1280, 1280), (1330, 1290)].map(floored_v6));
    rows
}

/// Anybody can say that a way is narrow.
fn floored((said, told): (u32, u32)) -> Rule {
    let (ask, big) = (syn_of(V4, 1400), syn_of(V4, 1401));
    let outer = wrapped(&ask.clone().onward(), IPIP, V4, 0);
    let error = super::words::error(
        V4.inner_router(),
        V4.ours(),
        too_big(V4, said),
        &outer.ip_packet()[..100],
    );
    let shown = &ask.clone().onward().ip_packet()[..80];
    let heard = super::words::error(V4.vip().ip(), V4.client().ip(), too_big(V4, told), shown);
    let heard = heard.identification(0).macs(crate::packets::OUR_MAC, crate::packets::CLIENT_MAC);
    rule(
        "mtu: no error makes a tunnel's way narrower than 552 bytes, 1280 of IPv6",
        through(IPIP, V4).mtus(1500, 1420),
    )
    .case(said)
    .client(ask)
    .backend_gets(outer)
    .backend(error.sent_by(11))
    .told(Side::Client, heard)
    .client(big.clone())
    .refused(Reason::TooBig, vip_says(too_big(V4, told), &big))
    .made(1)
}

/// The same of IPv6, where less than every way carries is nothing at all (RFC 8201 section 4).
fn floored_v6((said, told): (u32, u32)) -> Rule {
    let (ask, big) = (syn_of(V6, 1400), syn_of(V6, 1401));
    let outer = wrapped(&ask.clone().onward(), IPIP, V6, 0);
    let error = super::words::error(
        V6.inner_router(),
        V6.ours(),
        too_big(V6, said),
        &outer.ip_packet()[..200],
    );
    let shown = &ask.clone().onward().ip_packet()[..160];
    let heard = super::words::error(V6.vip().ip(), V6.client().ip(), too_big(V6, told), shown);
    let heard = heard.tos(0).macs(crate::packets::OUR_MAC, crate::packets::CLIENT_MAC);
    rule(
        "mtu: no error makes a tunnel's way narrower than 552 bytes, 1280 of IPv6",
        through(IPIP, V6).mtus(1500, 1440),
    )
    .case(said)
    .client(ask)
    .backend_gets(outer)
    .backend(error.sent_by(11))
    .told(Side::Client, heard)
    .client(big.clone())
    .refused(Reason::TooBig, vip_says(too_big(V6, told), &big))
    .made(1)
}

/// Who may be cut is told nothing; but it was learned.
fn loose_is_not_told() -> Rule {
    let ask = datagram_of(V4, 1400);
    let outer = loosely(wrapped(&ask.clone().onward(), IPIP, V4, 0));
    let said = too_big(V4, 1300);
    let error = super::words::error(V4.inner_router(), V4.ours(), said, &outer.ip_packet()[..100]);
    let row = rule("mtu: a path MTU is told only to who set DF", through(IPIP, V4))
        .client(ask.clone())
        .backend_gets(outer)
        .backend(error.sent_by(11))
        .dropped(Reason::IcmpUntold)
        .client(ask.clone());
    outer_pieces(row, &ask, V4, 1300).made(1)
}
