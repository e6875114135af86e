//! ICMP errors about our connections (lvs.md 1.5), and pings.

use std::net::{IpAddr, SocketAddr};

use shunt::dataplane::snapshot::{Mode, Ping};
use shunt::dataplane::verdict::Reason;

use super::outer::{left_to_the_receiver, wrapped};
use super::setup::{FAMILIES, Ip, V4, V6, between, through};
use super::tunnels::pairs;
use super::words::{
    DR, FULLNAT, GUE_REMOTE, IPIP, NAT, TRANSLATING, TUNNELS, bytes, datagram, error,
    host_unreachable, port_unreachable, segment, syn, syn_ack,
};
use super::{At, Rule, Side, rule};
use crate::packets::fragments::cut;
use crate::packets::{Builder, CLIENT_MAC, OUR_MAC, packet};

type Said = (u8, u8, u32);
/// A case, and what makes a packet one.
type Special = (&'static str, fn(Builder) -> Builder);

pub(super) fn rows(at: &At) -> Vec<Rule> {
    let of_family = |ip| {
        let translated = [behind(at, ip), before(at, ip), special(at, ip), refused(at, ip)];
        [translated.concat(), long(at, ip), direct(ip), direct_behind(ip), pings(ip)].concat()
    };
    let families = FAMILIES.into_iter().flat_map(of_family);
    families.chain(pairs().flat_map(|(ip, backends)| about_tunnels(ip, backends))).collect()
}

/// Errors a packet can cause: type, code, and second word.
fn errors(ip: Ip) -> Vec<Said> {
    match ip {
        V4 => vec![
            (3, 1, 0),
            (3, 3, 0),
            (3, 4, 1300),
            (4, 0, 0),
            (11, 0, 0),
            (11, 1, 0),
            (12, 0, 8 << 24),
        ],
        V6 => {
            vec![(1, 0, 0), (1, 4, 0), (2, 0, 1280), (3, 0, 0), (3, 1, 0), (4, 1, 6), (100, 0, 9)]
        }
    }
}

fn named((kind, code, _): Said) -> String {
    format!("type {kind}, code {code}")
}

/// A connection of that mode, answered; as whom the backend knows the client.
fn open(name: &'static str, at: &At, mode: Mode, ip: Ip) -> (Rule, SocketAddr) {
    let known = if mode == NAT { ip.client() } else { at.local(ip.backend()) };
    let answer = syn_ack(ip.backend(), known);
    let row = rule(name, through(mode, ip))
        .client(syn(ip))
        .backend_gets(syn(ip).between(known, ip.backend()).onward())
        .backend(answer.clone())
        .client_gets(answer.between(ip.vip(), ip.client()).home())
        .made(1);
    (row, known)
}

/// From the backends' side, about what we sent there.
fn behind(at: &At, ip: Ip) -> Vec<Rule> {
    let mut rows = vec![];
    for mode in TRANSLATING {
        let name = "icmp: an error from behind comes from the VIP, quoting what the client sent";
        for said in errors(ip) {
            let (row, known) = open(name, at, mode, ip);
            let quoted = segment(ip).between(known, ip.backend()).onward().ip_packet();
            let shown = segment(ip).onward().ip_packet();
            let came = error(ip.inner_router(), known.ip(), said, &quoted).sent_by(11);
            let left = error(ip.vip().ip(), ip.client().ip(), said, &shown).home();
            rows.push(row.case(named(said)).backend(came).client_gets(left));
        }
        let name = "icmp: the backend's own error too, though it quotes eight bytes alone";
        let (row, known) = open(name, at, mode, ip);
        let quoted = segment(ip).between(known, ip.backend()).onward().ip_packet();
        let shown = segment(ip).onward().ip_packet();
        let (said, most) = (port_unreachable(ip), ip.header() + 8);
        let came = error(ip.host(11), known.ip(), said, &quoted[..most]).sent_by(11);
        let left = error(ip.vip().ip(), ip.client().ip(), said, &shown[..most]).home();
        rows.push(row.backend(came).client_gets(left));
    }
    rows
}

/// From the clients' side, to the VIP, about an answer.
fn before(at: &At, ip: Ip) -> Vec<Rule> {
    let name = "icmp: an error from the client's side goes to the backend, quoting what it sent";
    let row = |(mode, said): (Mode, Said)| {
        let (row, known) = open(name, at, mode, ip);
        let answer = syn_ack(ip.backend(), known);
        let quoted = answer.clone().between(ip.vip(), ip.client()).home().ip_packet();
        let shown = answer.home().ip_packet();
        let came = error(ip.outer_router(), ip.vip().ip(), said, &quoted);
        // NAT keeps who sent it; FULL-NAT's backends know no one but the local address.
        let speaker = if mode == NAT { ip.outer_router() } else { known.ip() };
        let left = error(speaker, ip.host(11), said, &shown).onward();
        row.case(named(said)).client(came).backend_gets(left)
    };
    TRANSLATING
        .into_iter()
        .flat_map(|mode| errors(ip).into_iter().map(move |said| (mode, said)))
        .map(row)
        .collect()
}

/// A backend that answers by itself hears about its answers as if it were alone.
fn direct(ip: Ip) -> Vec<Rule> {
    let answer = packet().tcp(ip.vip(), ip.client()).payload(b"by itself");
    let mut rows = vec![];
    for said in errors(ip) {
        let came = error(ip.outer_router(), ip.vip().ip(), said, &answer.ip_packet());
        let name = "icmp: dr: an error from the client's side goes on unchanged";
        rows.push(
            rule(name, through(DR, ip))
                .case(named(said))
                .client(syn(ip))
                .backend_gets(syn(ip).onward())
                .client(came.clone())
                .backend_gets(came.clone().onward())
                .made(1),
        );
        let name = "icmp: tunnel: an error from the client's side goes on, wrapped";
        rows.push(
            rule(name, through(IPIP, ip))
                .case(named(said))
                .client(syn(ip))
                .backend_gets(wrapped(&syn(ip).onward(), IPIP, ip, 0))
                .client(came.clone())
                .backend_gets(wrapped(&came.onward(), IPIP, ip, 0xc0))
                .made(1),
        );
    }
    rows
}

/// What such a backend, or a router on the way to it, has against a client's packet it tells the client,
/// whose address that packet came from: where that passes here it is as any packet for elsewhere.
fn direct_behind(ip: Ip) -> Vec<Rule> {
    let name =
        "icmp: dr, tunnel: an error from behind is to the client, and the kernel's to pass on";
    let row = |(mode, said): (Mode, Said)| {
        let left =
            if mode == DR { syn(ip).onward() } else { wrapped(&syn(ip).onward(), mode, ip, 0) };
        let quoted = syn(ip).onward().ip_packet();
        let came = error(ip.inner_router(), ip.client().ip(), said, &quoted).sent_by(11);
        let row = rule(name, through(mode, ip)).case(named(said)).client(syn(ip));
        row.backend_gets(left).backend(came).punted().made(1)
    };
    let cases =
        [DR, IPIP].into_iter().flat_map(|mode| errors(ip).into_iter().map(move |e| (mode, e)));
    cases.map(row).collect()
}

/// An error from behind that came by a wide link and goes on by a narrow one.
fn long(at: &At, ip: Ip) -> Vec<Rule> {
    let name = "icmp: an error longer than the next link carries quotes less";
    let (mtu, front): (u16, usize) = if ip == V4 { (700, 28) } else { (1280, 48) };
    let said = host_unreachable(ip);
    let row = |(mode, extended): (Mode, bool)| {
        let known = if mode == NAT { ip.client() } else { at.local(ip.backend()) };
        let about = segment(ip).payload(&bytes(1400));
        let quoted = about.clone().between(known, ip.backend()).onward().ip_packet();
        let shown = about.onward().ip_packet();
        let most = usize::from(mtu) - front;
        // RFC 4884: the quote is so many words of 4 bytes (IPv6: 8) long, and something follows it.
        let (said, sent, left) = if extended {
            let (word, shift) = if ip == V4 { (4, 16) } else { (8, 24) };
            let words = 656 / word;
            let extension = [0x20, 0, 0xdf, 0xff];
            let sent = [&quoted[..656], &extension, &bytes(700)].concat();
            ((said.0, said.1, words << shift), sent, &shown[..656])
        } else {
            (said, quoted, &shown[..most])
        };
        let came = error(ip.inner_router(), known.ip(), said, &sent).sent_by(11);
        let left = error(ip.vip().ip(), ip.client().ip(), (said.0, said.1, 0), left).home();
        rule(name, through(mode, ip).mtus(mtu, 1500))
            .case(if extended { "with extensions" } else { "without" })
            .client(syn(ip))
            .backend_gets(syn(ip).between(known, ip.backend()).onward())
            .backend(came)
            .client_gets(left)
            .made(1)
    };
    let cases = TRANSLATING.into_iter().flat_map(|mode| [(mode, false), (mode, true)]);
    cases.map(row).collect()
}

/// What is special about a quoted packet stays as it is.
fn special(at: &At, ip: Ip) -> Vec<Rule> {
    let local = at.local(ip.backend());
    let row = |(case, change): Special| {
        let ask = datagram(ip);
        // Under a local address a piece has another number, which no row can know.
        let (mode, from) = match case {
            "a first piece" => (NAT, ip.client()),
            _ => (FULLNAT, local),
        };
        let there = ask.clone().between(from, ip.backend()).onward();
        let quoted = change(there.clone());
        let shown = change(ask.clone().onward());
        let said = host_unreachable(ip);
        let came = error(ip.inner_router(), from.ip(), said, &quoted.ip_packet()).sent_by(11);
        rule("icmp: what is special about the quoted packet stays", through(mode, ip))
            .case(case)
            .client(ask.clone())
            .backend_gets(there)
            .backend(came)
            .client_gets(error(ip.vip().ip(), ip.client().ip(), said, &shown.ip_packet()).home())
            .made(1)
    };
    let rows: Vec<Special> = match ip {
        V4 => vec![
            ("no checksum", Builder::without_checksum),
            ("options", |b| b.ip_options(&[1; 8])),
            ("a first piece", |b| b.flags_fragment(0x2000).identification(9)),
        ],
        V6 => vec![
            ("extension headers", |b| b.extension(0, &[0, 1, 4, 0, 0, 0, 0])),
            ("flow label", |b| b.flow_label(0x12345).tos(3)),
            ("a first piece", |b| b.extension(44, &[0, 0, 1, 0, 0, 0, 5])),
        ],
    };
    rows.into_iter().map(row).collect()
}

/// Not ours, or not to be believed.
fn refused(at: &At, ip: Ip) -> Vec<Rule> {
    let said = host_unreachable(ip);
    let nobody = "icmp: an error that cannot be believed is refused";
    let about = |name| {
        let (row, known) = open(name, at, FULLNAT, ip);
        let quoted = segment(ip).between(known, ip.backend()).onward().ip_packet();
        (row, error(ip.inner_router(), known.ip(), said, &quoted).sent_by(11), known)
    };
    let (wrong, broken, _) = about(nobody);
    let (late, last, _) = about(nobody);
    let (group, source, known) = about(nobody);
    let multicast: IpAddr =
        if ip == V4 { [224, 0, 0, 1].into() } else { "ff02::1".parse().unwrap() };
    let stranger: SocketAddr = (ip.client().ip(), 7).into();
    let other = segment(ip).between((ip.local(), 4000), ip.backend()).onward();
    let unknown = error(ip.inner_router(), ip.local(), said, &other.ip_packet()).sent_by(11);
    let answer = packet().tcp(ip.vip(), stranger).ip_packet();
    let to_vip = error(ip.outer_router(), ip.vip().ip(), said, &answer);
    let no_flow = "icmp: an error about a flow nobody has is refused, and makes no connection";
    let mut rows = vec![
        wrong.case("checksum").backend(broken.l4_wrong_by(1)).dropped(Reason::IcmpChecksum),
        late.case("last hop").backend(last.ttl(1)).dropped(Reason::TtlExpired),
        group
            .case("from a group")
            .backend(source.from((multicast, 0).into()))
            .dropped(Reason::IpSource),
        rule(no_flow, through(FULLNAT, ip))
            .case("from behind")
            .backend(unknown)
            .dropped(Reason::NoConnection),
        rule(no_flow, through(FULLNAT, ip))
            .case("from the client")
            .client(to_vip)
            .dropped(Reason::NoConnection),
    ];
    let quoted = segment(ip).between(known, ip.backend()).onward().ip_packet();
    let (row, _, _) = about("icmp: redirects and questions are the kernel's");
    let redirect = if ip == V4 { (5, 1, 0) } else { (137, 0, 0) };
    let redirect = error(ip.inner_router(), known.ip(), redirect, &quoted).sent_by(11);
    rows.push(row.backend(redirect).punted());
    let (row, _, _) = about("icmp: an error that quotes too little is the kernel's");
    let short = error(ip.inner_router(), known.ip(), said, &quoted[..ip.header() + 3]);
    rows.push(row.backend(short.clone().sent_by(11)).punted());
    let (row, _, _) = about("icmp: an error that quotes too little is the kernel's");
    rows.push(row.case("the link fills it up").backend(short.sent_by(11).padding(30)).punted());
    rows
}

/// About our own tunnel packets: outer layers off, from the VIP, type and code kept.
fn about_tunnels(ip: Ip, backends: Ip) -> Vec<Rule> {
    let row = |mode| {
        let ask = syn(ip).payload(b"to the service");
        let outer = wrapped(&ask.clone().onward(), mode, backends, 0);
        let said = if backends == V4 { (3, 1, 0) } else { (1, 3, 0) };
        let heard = match (ip, backends) {
            (V4, _) => (3, 1, 0),
            (V6, V6) => (1, 3, 0),
            (V6, V4) => (1, 0, 0),
        };
        let came = error(backends.inner_router(), backends.ours(), said, &outer.ip_packet());
        // What is quoted is what was on the wire.
        let inside = ask.clone().onward();
        let is_left = mode == GUE_REMOTE;
        let shown = if is_left { left_to_the_receiver(&inside) } else { inside.ip_packet() };
        let told = error(ip.vip().ip(), ip.client().ip(), heard, &shown);
        let told = told.identification(0).macs(OUR_MAC, CLIENT_MAC);
        let told = if ip == V6 { told.tos(0) } else { told };
        let row = rule(
            "icmp: an error about a tunnel's packet is told by the VIP, outer layers off",
            between(mode, ip, backends),
        )
        .client(ask);
        let row =
            row.backend_gets(outer).backend(came.sent_by(11)).told(Side::Client, told).made(1);
        if is_left { row.still_wrong() } else { row }
    };
    let mut rows = TUNNELS.map(row).to_vec();
    rows.push(reloaded(ip, backends));
    let own = packet().udp((backends.ours(), 5000), (backends.host(11), 53)).payload(b"dns");
    let came =
        error(backends.host(11), backends.ours(), port_unreachable(backends), &own.ip_packet());
    rows.push(
        rule(
            "icmp: an error about the box's own packet is the kernel's",
            between(IPIP, ip, backends),
        )
        .backend(came.sent_by(11))
        .punted(),
    );
    rows
}

/// The connection keeps its tunnel, so errors about it are still its own.
fn reloaded(ip: Ip, backends: Ip) -> Rule {
    let ask = syn(ip);
    let said = host_unreachable(backends);
    let heard = if ip == V6 && backends == V4 { (1, 0, 0) } else { host_unreachable(ip) };
    let outer = wrapped(&ask.clone().onward(), IPIP, backends, 0);
    let came = error(backends.inner_router(), backends.ours(), said, &outer.ip_packet());
    let shown = ask.clone().onward().ip_packet();
    let told = error(ip.vip().ip(), ip.client().ip(), heard, &shown);
    let told = told.identification(0).macs(OUR_MAC, CLIENT_MAC);
    let told = if ip == V6 { told.tos(0) } else { told };
    rule(
        "icmp: an error about a tunnel's packet counts after a reload took the tunnel away",
        between(IPIP, ip, backends),
    )
    .client(ask)
    .backend_gets(outer)
    .reload(between(DR, ip, backends))
    .backend(came.sent_by(11))
    .told(Side::Client, told)
    .made(1)
}

fn pings(ip: Ip) -> Vec<Rule> {
    let ping = |to: IpAddr| {
        let kind = if ip == V4 { 8 } else { 128 };
        packet().between(ip.client(), (to, 0)).icmp(kind, 0, 1).payload(b"ping")
    };
    let to_vip = ping(ip.vip().ip());
    let pieces = cut(&to_vip.clone().flags_fragment(0).payload(&[7; 600]).build(), &[400], 7);
    let in_pieces = "ping: one in pieces follows the policy too";
    let with = |policy| through(FULLNAT, ip).ping(policy);
    vec![
        rule("ping: by default the kernel answers for a VIP", with(Ping::Always))
            .client(to_vip.clone())
            .punted(),
        rule("ping: never", with(Ping::Never)).client(to_vip.clone()).dropped(Reason::Ping),
        rule("ping: only with a live backend", with(Ping::Live))
            .case("alive")
            .client(to_vip.clone())
            .punted(),
        rule("ping: only with a live backend", with(Ping::Live).weight(0))
            .case("none")
            .client(to_vip)
            .dropped(Reason::Ping),
        rule(in_pieces, with(Ping::Always))
            .client(pieces[0].clone())
            .punted()
            .client(pieces[1].clone())
            .punted(),
        rule(in_pieces, with(Ping::Live).weight(0))
            .case("none")
            .client(pieces[1].clone())
            .dropped(Reason::Ping)
            .client(pieces[0].clone())
            .dropped(Reason::Ping),
        rule("ping: the box and its local addresses always answer", with(Ping::Never))
            .client(ping(ip.local()))
            .punted(),
    ]
}
