//! IPv6 clients, IPv4 backends: FULL-NAT between the families, by RFC 7915.

use shunt::dataplane::verdict::Reason;

use super::outer::FRESH;
use super::setup::{Setup, V4, V6, between};
use super::words::{
    FULLNAT, bytes, data, datagram, error, first, second, segment, syn, syn_ack, syn_of,
    time_exceeded, to_backend, too_big, vip_says, we_say,
};
use super::{At, Rule, rule};
use crate::packets::{Builder, packet};
use shunt::dataplane::snapshot::Protocol;

type Said = (u8, u8, u32);

fn crossing() -> Setup {
    between(FULLNAT, V6, V4)
}

pub(super) fn rows(at: &At) -> Vec<Rule> {
    [whole(at), answers(at), limits(at), to_v6(at), to_v4(at)].concat()
}

/// A client's packet as its backend gets it: DF clear and numbered up to 1260 bytes, DF above (RFC
/// 7915 section 5.1).
fn crossed(at: &At, ask: &Builder) -> Builder {
    let there = ask.clone().between(at.local(V4.backend()), V4.backend()).onward();
    if there.ip_packet().len() > 1260 {
        there.flags_fragment(0x4000).identification(0)
    } else {
        there.flags_fragment(0).identification(FRESH)
    }
}

/// A backend's packet as its client gets it.
fn crossed_back(answer: &Builder) -> Builder {
    answer.clone().between(V6.vip(), V6.client()).home()
}

/// The first packet of a connection.
fn start(name: &'static str, at: &At, ask: Builder) -> Rule {
    let there = crossed(at, &ask);
    rule(name, crossing()).client(ask).backend_gets(there).made(1)
}

fn whole(at: &At) -> Vec<Rule> {
    let name = "nat64: a client's packet becomes the IPv4 packet of RFC 7915";
    let padding = [0, 1, 4, 0, 0, 0, 0];
    let cases = [
        ("TCP", syn(V6)),
        ("UDP", datagram(V6)),
        ("an odd length", datagram(V6).payload(b"odd")),
        ("traffic class and flow label", syn(V6).tos(0xb9).flow_label(0xabcde)),
        ("TCP options, a short life", syn(V6).ttl(2).tcp_options(&[1; 12])),
        ("1260 bytes: may be cut", syn_of(V6, 1280)),
        ("1261 bytes: must not", syn_of(V6, 1281)),
        ("1480 bytes", syn_of(V6, 1500)),
    ];
    let mut rows: Vec<_> = cases.map(|(case, ask)| start(name, at, ask).case(case)).into();
    let ask = syn(V6);
    let extended = ask.clone().extension(0, &padding).extension(60, &padding);
    rows.push(
        rule("nat64: extension headers end at the border", crossing())
            .client(extended)
            .backend_gets(crossed(at, &ask))
            .made(1),
    );
    rows.push(
        start("nat64: a wrong checksum stays wrong", at, syn(V6).l4_wrong_by(5)).still_wrong(),
    );
    rows
}

fn answers(at: &At) -> Vec<Rule> {
    let local = at.local(V4.backend());
    let name = "nat64: a backend's answer becomes the IPv6 packet of RFC 7915";
    let tcp = |case, change: fn(Builder) -> Builder| {
        let answer = change(syn_ack(V4.backend(), local));
        let left = crossed_back(&answer).ip_options(&[]);
        start(name, at, syn(V6)).case(case).backend(answer).client_gets(left)
    };
    let udp = second(Protocol::Udp, V4.backend(), local);
    let bare = udp.clone().without_checksum();
    vec![
        tcp("plain", |b| b),
        tcp("TOS and no DF", |b| b.tos(0xb9).identification(7).flags_fragment(0)),
        tcp("options", |b| b.ip_options(&[1; 8]).payload(b"odd")),
        tcp("a short life", |b| b.ttl(2)),
        tcp("long", |b| b.payload(&bytes(1400))),
        start(name, at, first(Protocol::Udp, V6))
            .case("UDP")
            .backend(udp.clone())
            .client_gets(crossed_back(&udp)),
        start("nat64: an answer without UDP checksum gets one", at, first(Protocol::Udp, V6))
            .backend(bare)
            .client_gets(crossed_back(&udp)),
    ]
}

/// Twenty bytes lie between the families.
fn limits(at: &At) -> Vec<Rule> {
    let local = at.local(V4.backend());
    let big = syn_of(V6, 1421);
    let answer = |length: usize| syn_ack(V4.backend(), local).payload(&bytes(length - 40));
    let told = |said, about: &Builder| to_backend(we_say(V4.local(), said, about), 11);
    let late = syn_ack(V4.backend(), local).ttl(1);
    let fits = syn_of(V6, 1420);
    let there = crossed(at, &fits);
    let narrow = |row: Rule| Rule { setup: crossing().mtus(1400, 1500), ..row };
    vec![
        rule(
            "nat64: too long for the way is told with twenty bytes more",
            crossing().mtus(1500, 1400),
        )
        .case("a client's that fits")
        .client(fits)
        .backend_gets(there)
        .made(1),
        rule(
            "nat64: too long for the way is told with twenty bytes more",
            crossing().mtus(1500, 1400),
        )
        .case("a client's")
        .client(big.clone())
        .refused(Reason::TooBig, vip_says(too_big(V6, 1420), &big))
        .refusals(1),
        narrow(start("nat64: too long for the way is told with twenty bytes less", at, syn(V6)))
            .case("a backend's")
            .backend(answer(1381))
            .refused(Reason::TooBig, told(too_big(V4, 1380), &answer(1381))),
        narrow(start("nat64: too long for the way is told with twenty bytes less", at, syn(V6)))
            .case("a backend's that fits")
            .backend(answer(1380))
            .client_gets(crossed_back(&answer(1380))),
        start("nat64: a last hop is told in the sender's family", at, syn(V6))
            .case("a client's")
            .client(segment(V6).ttl(1))
            .refused(Reason::TtlExpired, vip_says(time_exceeded(V6), &segment(V6).ttl(1))),
        start("nat64: a last hop is told in the sender's family", at, syn(V6))
            .case("a backend's")
            .backend(late.clone())
            .refused(Reason::TtlExpired, told(time_exceeded(V4), &late)),
    ]
}

/// An IPv4 error from behind us, and what the client hears (RFC 7915 section 4.2).
const TO_V6: &[(Said, Said)] = &[
    ((3, 0, 0), (1, 0, 0)),
    ((3, 1, 0), (1, 0, 0)),
    ((3, 2, 0), (4, 1, 6)),
    ((3, 3, 0), (1, 4, 0)),
    ((3, 4, 1400), (2, 0, 1420)),
    ((3, 4, 576), (2, 0, 1280)),
    ((3, 9, 0), (1, 1, 0)),
    ((3, 13, 0), (1, 1, 0)),
    ((11, 0, 0), (3, 0, 0)),
    ((11, 1, 0), (3, 1, 0)),
    ((12, 0, 8 << 24), (4, 0, 7)),
    ((12, 0, 9 << 24), (4, 0, 6)),
];

/// Those without a word in the other family.
const MUTE_V4: &[Said] = &[(3, 14, 0), (4, 0, 0), (12, 0, 4 << 24), (12, 1, 0)];

fn to_v6(at: &At) -> Vec<Rule> {
    let local = at.local(V4.backend());
    let ask = data(V6, b"to the service");
    let quoted = crossed(at, &ask).ip_packet();
    let came = |said| error(V4.inner_router(), local.ip(), said, &quoted).sent_by(11);
    let translated = |(said, heard): &(Said, Said)| {
        let shown = ask.clone().onward().ip_packet();
        let told = error(V6.vip().ip(), V6.client().ip(), *heard, &shown).home();
        start("nat64: an IPv4 error reaches the client in the words of ICMPv6", at, syn(V6))
            .case(format!("{said:?} is {heard:?}"))
            .backend(came(*said))
            .client_gets(told)
    };
    let mute = |said: &Said| {
        start("nat64: an error without a word in the other family ends here", at, syn(V6))
            .case(format!("IPv4 {said:?}"))
            .backend(came(*said))
            .dropped(Reason::IcmpUntold)
    };
    TO_V6.iter().map(translated).chain(MUTE_V4.iter().map(mute)).collect()
}

/// An `ICMPv6` error about an answer, and what the backend hears (RFC 7915 section 5.2).
const TO_V4: &[(Said, Said)] = &[
    ((1, 0, 0), (3, 1, 0)),
    ((1, 1, 0), (3, 10, 0)),
    ((1, 4, 0), (3, 3, 0)),
    ((2, 0, 1400), (3, 4, 1380)),
    ((2, 0, 1280), (3, 4, 1260)),
    ((3, 0, 0), (11, 0, 0)),
    ((3, 1, 0), (11, 1, 0)),
    ((4, 0, 7), (12, 0, 8 << 24)),
    ((4, 1, 0), (3, 2, 0)),
];

const MUTE_V6: &[Said] = &[(1, 5, 0), (4, 0, 2), (4, 2, 0), (100, 0, 0)];

fn to_v4(at: &At) -> Vec<Rule> {
    let local = at.local(V4.backend());
    let answer = syn_ack(V4.backend(), local);
    let quoted = crossed_back(&answer).ip_packet();
    let came = |said| error(V6.outer_router(), V6.vip().ip(), said, &quoted);
    let opened =
        |name| start(name, at, syn(V6)).backend(answer.clone()).client_gets(crossed_back(&answer));
    let translated = |(said, heard): &(Said, Said)| {
        // As the backend sent it, one hop on; the identification is lost.
        let shown = answer.clone().home().identification(0).ip_packet();
        let told = packet().between((local.ip(), 0), (V4.host(11), 0)).identification(0);
        let told = told.tos(0xc0).icmp(heard.0, heard.1, heard.2).payload(&shown).onward();
        opened("nat64: an ICMPv6 error reaches the backend in the words of ICMP")
            .case(format!("{said:?} is {heard:?}"))
            .client(came(*said))
            .backend_gets(told)
    };
    let mute = |said: &Said| {
        opened("nat64: an error without a word in the other family ends here")
            .case(format!("IPv6 {said:?}"))
            .client(came(*said))
            .dropped(Reason::IcmpUntold)
    };
    TO_V4.iter().map(translated).chain(MUTE_V6.iter().map(mute)).collect()
}
