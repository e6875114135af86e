//! Packets in pieces (lvs.md 1.4): each goes the way of the first, as long as it came.

use shunt::dataplane::snapshot::Mode;
use shunt::dataplane::verdict::Reason;

use super::outer::{FRESH, wrapped};
use super::setup::{FAMILIES, Ip, V4, V6, between, through};
use super::words::{
    DR, FULLNAT, IPIP, MODES, NAT, TRANSLATING, bytes, datagram, datagram_of, port_unreachable,
    sctp, segment, syn, too_big,
};
use super::{At, Rule, rule};
use crate::packets::fragments::cut;
use crate::packets::{Builder, packet};

pub(super) fn rows(at: &At) -> Vec<Rule> {
    let of_family = |ip| [there(at, ip), back(at, ip), refused(ip), others(at, ip)].concat();
    let families = FAMILIES.into_iter().flat_map(of_family);
    let of_sctp = FAMILIES.into_iter().flat_map(sctp_rows);
    families.chain(again(at)).chain(of_sctp).chain([atomic(at), mixed(at)]).collect()
}

/// Pieces of 820, 820 and 40 bytes of IPv4, and of as much payload in IPv6.
fn three(ask: &Builder) -> Vec<Vec<u8>> {
    cut(&ask.build(), &[800, 800], 7)
}

/// The number of what came as 7: under a local address, which clients share, another one.
pub(super) fn number(mode: Mode) -> u32 {
    if mode == FULLNAT { FRESH.into() } else { 7 }
}

/// A datagram that makes such pieces.
fn long(ip: Ip) -> Builder {
    datagram(ip).payload(&bytes(1600 + 20 - 8))
}

/// The whole datagram as it would leave, cut in the same way.
fn left(at: &At, mode: Mode, ip: Ip) -> Vec<Vec<u8>> {
    let ask = long(ip);
    match mode {
        FULLNAT => {
            let gone = ask.between(at.local(ip.backend()), ip.backend()).onward();
            cut(&gone.build(), &[800, 800], number(mode))
        }
        NAT => three(&ask.to(ip.backend()).onward()),
        DR => three(&ask.onward()),
        _ => three(&ask.onward()).iter().map(|piece| around(piece, ip)).collect(),
    }
}

/// A piece in a tunnel: wrapped by itself.
fn around(piece: &[u8], ip: Ip) -> Vec<u8> {
    let inner = packet().literal(piece);
    let number = if ip == V4 { 4 } else { 41 };
    let outer = packet().between((ip.ours(), 0), (ip.host(11), 0)).onward().ttl(63);
    let fresh = outer.flags_fragment(0).identification(FRESH);
    fresh.protocol(number).payload(&inner.build()[14..]).build()
}

fn there(at: &At, ip: Ip) -> Vec<Rule> {
    let name = "pieces: 820, 820 and 40 bytes leave as they came, in any order";
    let row = |mode: Mode, order: [usize; 3]| {
        let (came, left) = (three(&long(ip)), left(at, mode, ip));
        if ip == V4 {
            assert_eq!(
                came.iter().map(|piece| piece.len() - 14).collect::<Vec<_>>(),
                [820, 820, 40]
            );
        }
        let mut rule = rule(name, through(mode, ip)).case(format!("{order:?}"));
        let mut waiting = vec![];
        let mut is_first_here = false;
        for number in order {
            rule = rule.client(came[number].clone());
            is_first_here |= number == 0;
            waiting.push(number);
            if !is_first_here {
                rule = rule.held();
                continue;
            }
            // The first goes on, then what waited for it.
            waiting.sort_by_key(|number| *number != 0);
            for number in waiting.drain(..) {
                rule = rule.backend_gets(left[number].clone());
            }
        }
        rule.made(1)
    };
    let orders = [[0, 1, 2], [2, 1, 0], [1, 0, 2]];
    MODES.into_iter().flat_map(|mode| orders.map(|order| row(mode, order))).collect()
}

fn back(at: &At, ip: Ip) -> Vec<Rule> {
    let row = |(mode, order): (Mode, [usize; 3])| {
        let known = if mode == NAT { ip.client() } else { at.local(ip.backend()) };
        let ask = datagram(ip);
        let answer =
            packet().udp(ip.backend(), known).flags_fragment(0).payload(&bytes(1612)).sent_by(11);
        let (came, left) =
            (three(&answer), three(&answer.clone().between(ip.vip(), ip.client()).home()));
        let row = rule("pieces: an answer in pieces comes back as it was sent", through(mode, ip))
            .case(format!("{order:?}"))
            .client(ask.clone())
            .backend_gets(ask.between(known, ip.backend()).onward())
            .made(1);
        if order[0] == 0 {
            let each =
                |row: Rule, n: usize| row.backend(came[n].clone()).client_gets(left[n].clone());
            return order.into_iter().fold(row, each);
        }
        row.backend(came[2].clone())
            .held()
            .backend(came[1].clone())
            .held()
            .backend(came[0].clone())
            .client_gets(left[0].clone())
            .client_gets(left[2].clone())
            .client_gets(left[1].clone())
    };
    let orders = [[0, 1, 2], [2, 1, 0]];
    TRANSLATING.into_iter().flat_map(|mode| orders.map(|order| (mode, order))).map(row).collect()
}

fn refused(ip: Ip) -> Vec<Rule> {
    let whole = syn(ip).flags_fragment(0).payload(&bytes(60));
    // The first has the ports and no flags: RFC 1858's trick.
    let tiny = cut(&whole.build(), &[16, 16, 24], 7);
    let stray = datagram_of(ip, 900).to((ip.vip().ip(), 81).into());
    let nobody = cut(&stray.build(), &[400], 7);
    let quoted = super::words::we_say(ip.vip().ip(), port_unreachable(ip), &stray);
    let told = quote_frame(&quoted, ip, &nobody[0]);
    vec![
        rule(
            "pieces: after a first piece without TCP's flags the others are refused",
            through(FULLNAT, ip),
        )
        .client(tiny[1].clone())
        .held()
        .client(tiny[0].clone())
        .dropped(Reason::FragmentTiny)
        .with_it(Reason::Fragment)
        .client(tiny[2].clone())
        .dropped(Reason::Fragment),
        rule(
            "pieces: a first piece no service wants is answered, the others are refused",
            through(FULLNAT, ip),
        )
        .client(nobody[0].clone())
        .refused(Reason::NoService, told)
        .client(nobody[1].clone())
        .dropped(Reason::Fragment),
        rule("pieces: what waits for a first piece waits its family's time", through(FULLNAT, ip))
            .client(tiny[1].clone())
            .held()
            .wait(if ip == V4 { 28 } else { 58 })
            .client(tiny[0].clone())
            .dropped(Reason::FragmentTiny)
            .with_it(Reason::Fragment),
    ]
}

/// Our answer with another quote: the piece as it came.
fn quote_frame(answer: &Builder, ip: Ip, piece: &[u8]) -> Builder {
    answer
        .clone()
        .payload(&piece[14..])
        .macs(crate::packets::OUR_MAC, crate::packets::CLIENT_MAC)
        .tos(if ip == V4 { 0xc0 } else { 0 })
}

fn others(at: &At, ip: Ip) -> Vec<Rule> {
    let elsewhere = packet().udp(ip.client(), (ip.host(99), 2049)).flags_fragment(0);
    let pieces = cut(&elsewhere.payload(&bytes(1000)).build(), &[400, 400], 7);
    let kernels =
        rule("pieces: those for the box itself are the kernel's, all of them", through(NAT, ip))
            .client(pieces[0].clone())
            .punted()
            .client(pieces[1].clone())
            .punted()
            .client(pieces[2].clone())
            .punted();
    let local = at.local(ip.backend());
    let data = segment(ip).flags_fragment(0).payload(&bytes(500));
    let (came, left) = (
        cut(&data.build(), &[200], 9),
        cut(&data.between(local, ip.backend()).onward().build(), &[200], number(FULLNAT)),
    );
    let tcp = rule("pieces: a segment in pieces goes the way of whole ones", through(FULLNAT, ip))
        .client(syn(ip))
        .backend_gets(syn(ip).between(local, ip.backend()).onward())
        .client(came[0].clone())
        .backend_gets(left[0].clone())
        .client(came[1].clone())
        .backend_gets(left[1].clone())
        .made(1);
    vec![kernels, tcp, stubborn(ip)]
}

/// Of pieces nobody may cut only the first is answered.
fn stubborn(ip: Ip) -> Rule {
    let pieces =
        cut(&datagram(ip).flags_fragment(0x4000).payload(&bytes(2600)).build(), &[1304, 1304], 7);
    let quoted = super::words::we_say(ip.vip().ip(), too_big(ip, 1280), &datagram(ip));
    let most = if ip == V4 { 548 } else { 1232 };
    let told = quote_frame(&quoted, ip, &pieces[0][..14 + most]);
    rule(
        "pieces: too big and not to be cut: only the first is answered",
        through(FULLNAT, ip).mtus(1500, 1280),
    )
    .client(pieces[0].clone())
    .refused(Reason::TooBig, told)
    .client(pieces[1].clone())
    .dropped(Reason::Fragment)
    .refusals(1)
}

/// A piece longer than the next link is cut again.
fn again(at: &At) -> Vec<Rule> {
    let row = |mode| {
        let ask = datagram(V4).payload(&bytes(1892));
        let came = cut(&ask.build(), &[1000], 7);
        let gone = match mode {
            FULLNAT => ask.between(at.local(V4.backend()), V4.backend()).onward(),
            NAT => ask.to(V4.backend()).onward(),
            _ => ask.onward(),
        };
        let left = cut(&gone.build(), &[680, 320, 680], number(mode));
        rule(
            "pieces: one longer than the next link is cut again",
            through(mode, V4).mtus(1500, 700),
        )
        .client(came[0].clone())
        .backend_gets(left[0].clone())
        .backend_gets(left[1].clone())
        .client(came[1].clone())
        .backend_gets(left[2].clone())
        .backend_gets(left[3].clone())
        .made(1)
    };
    [FULLNAT, NAT, DR].map(row).to_vec()
}

/// SCTP's checksum is over all of the packet: its pieces wait for the last, which says how long
/// that is.
fn sctp_rows(ip: Ip) -> Vec<Rule> {
    let data = sctp(ip, 0).flags_fragment(0).payload(&[&[0, 3, 1, 144][..], &[7; 396]].concat());
    let pieces = cut(&data.build(), &[200], 7);
    let left = cut(&data.clone().onward().build(), &[200], 7);
    let renamed = cut(&data.to(ip.backend()).onward().build(), &[200], 7);
    let init = super::words::init(ip);
    let mut rows = vec![
        rule("pieces: of SCTP they wait for the last", through(DR, ip))
            .client(init.clone())
            .backend_gets(init.clone().onward())
            .client(pieces[0].clone())
            .held()
            .client(pieces[1].clone())
            .backend_gets(left[0].clone())
            .backend_gets(left[1].clone())
            .made(1),
        rule("pieces: of SCTP the checksum follows the ports", through(NAT, ip))
            .client(init.clone())
            .backend_gets(init.to(ip.backend()).onward())
            .client(pieces[1].clone())
            .held()
            .client(pieces[0].clone())
            .backend_gets(renamed[0].clone())
            .backend_gets(renamed[1].clone())
            .made(1),
        sctp_quoted(ip, "a last hop", |data| data.ttl(1), 1500),
        sctp_anew(ip),
    ];
    // No way of IPv6 is so narrow.
    let too_big = || sctp_quoted(ip, "too big", |data| data.flags_fragment(0x4000), 200);
    rows.extend((ip == V4).then(too_big));
    rows
}

/// What is refused is quoted as it came: with its own checksum, which is of the whole.
fn sctp_quoted(ip: Ip, case: &str, change: fn(Builder) -> Builder, mtu: u16) -> Rule {
    let data = sctp(ip, 0).flags_fragment(0).payload(&[&[0, 3, 1, 144][..], &[7; 396]].concat());
    let data = change(data);
    let pieces = cut(&data.build(), &[200], 7);
    let is_late = case == "a last hop";
    let said = if is_late { super::words::time_exceeded(ip) } else { too_big(ip, mtu.into()) };
    let told = quote_frame(&super::words::we_say(ip.vip().ip(), said, &data), ip, &pieces[0]);
    let reason = if is_late { Reason::TtlExpired } else { Reason::TooBig };
    let init = super::words::init(ip);
    rule("pieces: of SCTP a refused one is quoted with its own checksum", {
        through(NAT, ip).mtus(1500, mtu)
    })
    .case(case)
    .client(init.clone())
    .backend_gets(init.to(ip.backend()).onward())
    .client(pieces[1].clone())
    .held()
    .client(pieces[0].clone())
    .refused(reason, told)
    .with_it(reason)
    .made(1)
}

/// An association that is over does not begin anew in pieces, as none begins.
fn sctp_anew(ip: Ip) -> Rule {
    let (init, abort) = (super::words::init(ip), sctp(ip, 6));
    let long = packet().sctp(ip.client(), ip.vip(), 0).flags_fragment(0);
    let long = long.payload(&[&[1, 0, 1, 144][..], &[0x1e; 396]].concat());
    let pieces = cut(&long.build(), &[200], 7);
    rule("pieces: of SCTP no association begins in them", through(NAT, ip))
        .client(init.clone())
        .backend_gets(init.to(ip.backend()).onward())
        .client(abort.clone())
        .backend_gets(abort.to(ip.backend()).onward())
        .client(pieces[0].clone())
        .held()
        .client(pieces[1].clone())
        .dropped(Reason::Fragment)
        .with_it(Reason::Fragment)
        .made(1)
        .open(0)
}

/// An IPv6 fragment header of a whole packet.
fn atomic(at: &At) -> Rule {
    let local = at.local(V6.backend());
    let (ask, header) = (datagram(V6), [0, 0, 0, 0, 0, 0, 7]);
    rule("pieces: an atomic fragment is a whole packet", through(FULLNAT, V6))
        .client(ask.clone().extension(44, &header))
        .backend_gets(ask.between(local, V6.backend()).onward().extension(44, &header))
        .made(1)
}

/// Between the families each becomes one of the other (RFC 7915 section 5.1.1).
fn mixed(at: &At) -> Rule {
    let ask = datagram_of(V6, 1000);
    let local = at.local(V4.backend());
    let gone = ask.clone().between(local, V4.backend()).onward().flags_fragment(0);
    let left = cut(&gone.build(), &[400], number(FULLNAT));
    let came = cut(&ask.build(), &[400], 7);
    rule("nat64: a piece becomes one of the other family", between(FULLNAT, V6, V4))
        .client(came[0].clone())
        .backend_gets(left[0].clone())
        .client(came[1].clone())
        .backend_gets(left[1].clone())
        .made(1)
}
