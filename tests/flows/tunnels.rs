//! Tunnels of any family in any: the outer packet to the byte, and what routers say about it.

use std::net::{IpAddr, SocketAddr};

use shunt::dataplane::snapshot::{Encapsulation, GueChecksum, Mode};
use shunt::dataplane::verdict::Reason;

use crate::ends::{ask, client, from_backend, plan, to_backend, told, vip};
use crate::packets::builder::sum;
use crate::packets::{Builder, OUR_MAC, packet};
use crate::world::{Card, Plan, Sent, World, host};

const GUE_PORT: u16 = 6080;

fn gue(checksum: GueChecksum) -> Encapsulation {
    Encapsulation::Gue { port: GUE_PORT, checksum }
}

/// Every encapsulation, and the bytes between outer and inner IP header.
fn encapsulations() -> [(Encapsulation, u16); 6] {
    [
        (Encapsulation::Ipip, 0),
        (Encapsulation::Gre { checksum: false }, 4),
        (Encapsulation::Gre { checksum: true }, 8),
        (gue(GueChecksum::Zero), 12),
        (gue(GueChecksum::Outer), 12),
        (gue(GueChecksum::Remote), 20),
    ]
}

/// Every encapsulation between every two families: inner, outer, kind, bytes in front.
fn tunnels() -> impl Iterator<Item = (bool, bool, Encapsulation, u16)> {
    let families = [(false, false), (false, true), (true, false), (true, true)];
    families.into_iter().flat_map(|(inner, outer)| {
        let length = if outer { 40 } else { 20 };
        encapsulations().map(|(kind, shim)| (inner, outer, kind, length + shim))
    })
}

fn world(inner: bool, outer: bool, kind: Encapsulation) -> World {
    World::new(plan(inner, outer, Mode::Tunnel(kind)))
}

/// What an outer IP header says.
#[derive(Debug, PartialEq, Eq)]
struct Outer {
    ends: (IpAddr, IpAddr),
    tos: u8,
    ttl: u8,
    protocol: u8,
    /// `None` for IPv6.
    df: Option<bool>,
    identification: u16,
}

/// Reads the outer header of a frame; the header and what follows it.
fn outer(frame: &[u8]) -> (Outer, &[u8]) {
    let ip = &frame[14..];
    let word = |at: usize| u16::from_be_bytes([ip[at], ip[at + 1]]);
    if ip[0] >> 4 == 4 {
        assert_eq!((frame[12..14].to_vec(), ip[0]), (vec![8, 0], 0x45));
        assert_eq!((sum(&ip[..20]), usize::from(word(2))), (0xffff, ip.len()));
        assert_eq!(word(6) & 0x3fff, 0, "whole");
        let ends = (addr(&ip[12..16]), addr(&ip[16..20]));
        let df = Some(word(6) & 0x4000 != 0);
        let head =
            Outer { ends, tos: ip[1], ttl: ip[8], protocol: ip[9], df, identification: word(4) };
        return (head, &ip[20..]);
    }
    assert_eq!(frame[12..14], [0x86, 0xdd]);
    assert_eq!(usize::from(word(4)), ip.len() - 40, "payload length");
    assert_eq!((ip[0] >> 4, word(0) & 0xf, word(2)), (6, 0, 0), "flow label 0");
    let (ends, tos) = ((addr(&ip[8..24]), addr(&ip[24..40])), (word(0) >> 4).to_le_bytes()[0]);
    let head = Outer { ends, tos, ttl: ip[7], protocol: ip[6], df: None, identification: 0 };
    (head, &ip[40..])
}

fn addr(bytes: &[u8]) -> IpAddr {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).unwrap().into(),
        _ => <[u8; 16]>::try_from(bytes).unwrap().into(),
    }
}

fn octets((from, to): (IpAddr, IpAddr)) -> Vec<u8> {
    let one = |address| match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    [one(from), one(to)].concat()
}

/// Takes off what is between outer and inner header as a receiver does, checking all of it.
fn unwrap(kind: Encapsulation, inner_v6: bool, head: &Outer, rest: &[u8]) -> Vec<u8> {
    let number = if inner_v6 { 41 } else { 4 };
    match kind {
        Encapsulation::Ipip => {
            assert_eq!(head.protocol, number);
            rest.to_vec()
        }
        Encapsulation::Gre { checksum } => {
            assert_eq!(head.protocol, 47);
            let ethertype = if inner_v6 { [0x86, 0xdd] } else { [8, 0] };
            assert_eq!(rest[..4], [if checksum { 0x80 } else { 0 }, 0, ethertype[0], ethertype[1]]);
            assert!(!checksum || (sum(rest) == 0xffff && rest[6..8] == [0, 0]));
            rest[if checksum { 8 } else { 4 }..].to_vec()
        }
        Encapsulation::Gue { checksum, .. } => {
            assert_eq!(head.protocol, 17);
            let source = u16::from_be_bytes([rest[0], rest[1]]);
            assert!((32_768..=60_999).contains(&source));
            assert_eq!(rest[2..4], GUE_PORT.to_be_bytes());
            assert_eq!(usize::from(u16::from_be_bytes([rest[4], rest[5]])), rest.len());
            let pseudo = [&octets(head.ends)[..], &[0, 17], &rest[4..6], rest].concat();
            let is_zero = rest[6..8] == [0, 0];
            assert_eq!(is_zero, checksum == GueChecksum::Zero);
            assert!(is_zero || sum(&pseudo) == 0xffff, "outer checksum");
            let options = usize::from(rest[8] & 0x1f) * 4;
            assert_eq!((rest[8] >> 5, rest[9]), (0, number));
            let inner = rest[12 + options..].to_vec();
            match options {
                0 => {
                    assert_eq!(rest[10..12], [0, 0], "no flags");
                    inner
                }
                8 => remote_checksum(&rest[8..20], inner),
                _ => panic!("{options} bytes of options"),
            }
        }
    }
}

/// Remote checksum offload, as a receiver does it: the sum from `start` on, complemented, goes to
/// `field`; both count from the end of the options.
fn remote_checksum(gue: &[u8], mut inner: Vec<u8>) -> Vec<u8> {
    assert_eq!((&gue[2..4], &gue[4..8]), (&[0, 1][..], &[0x80, 0, 0, 0][..]));
    let start = usize::from(u16::from_be_bytes([gue[8], gue[9]]));
    let field = usize::from(u16::from_be_bytes([gue[10], gue[11]]));
    let checksum = (!sum(&inner[start..])).to_be_bytes();
    inner[field..field + 2].copy_from_slice(&checksum);
    inner
}

/// What a backend's own stack gets of a frame.
fn received(kind: Encapsulation, inner_v6: bool, sent: &Sent) -> (Outer, Vec<u8>) {
    let (head, rest) = outer(&sent.frame);
    let inner = unwrap(kind, inner_v6, &head, rest);
    (head, inner)
}

#[test]
fn any_family_goes_in_any_and_comes_out_as_it_was() {
    for (inner, outer, kind, length) in tunnels() {
        let tcp = ask(inner, 4000, true);
        let variants = [
            tcp.clone(),
            tcp.clone().payload(b"odd").tos(0xb8),
            tcp.clone().padding(6).payload(b""),
            tcp.clone().l4_wrong_by(3),
            ask(inner, 4000, false).flags_fragment(0),
            ask(inner, 4000, false).udp_length(12),
            ask(inner, 4000, false).payload(&[]).l4_checksum_zero_in(|b| b),
        ];
        for ask in variants {
            let mut world = world(inner, outer, kind);
            let sent = world.one(0, 0, &ask.build());
            let expected = to_backend(&ask, 13);
            assert_eq!(sent.frame[..12], expected.build()[..12], "link addresses");
            let whole = expected.ip_packet();
            assert_eq!(
                sent.frame.len(),
                14 + usize::from(length_of(kind, length, &ask)) + whole.len()
            );
            let seen = told_kind(kind, &ask);
            let (head, got) = received(seen, inner, &sent);
            assert_eq!(got, whole, "{kind:?} {inner} {outer}");
            assert_eq!(head.ends, (host(outer, 1), host(outer, 13)));
            assert_eq!(head.ttl, 63, "as inside");
        }
    }
}

/// A UDP checksum of 0xffff is not left to the receiver, whose sum would make it "none".
fn told_kind(kind: Encapsulation, ask: &Builder) -> Encapsulation {
    let at = ask.ip_packet().len() - ask_segment(ask).len();
    let full = ask.protocol_number() == 17 && ask.ip_packet()[at + 6..at + 8] == [0xff; 2];
    if kind == gue(GueChecksum::Remote) && full { gue(GueChecksum::Outer) } else { kind }
}

fn length_of(kind: Encapsulation, length: u16, ask: &Builder) -> u16 {
    if told_kind(kind, ask) == kind { length } else { length - 8 }
}

fn ask_segment(ask: &Builder) -> Vec<u8> {
    let header = if ask.addresses().0.is_ipv6() { 40 } else { 20 };
    ask.ip_packet()[header..].to_vec()
}

/// TOS with the ECN rules, DF, identification, by lvs.md's table.
#[test]
fn the_outer_header_shows_what_it_may_of_the_inner_one() {
    for (inner, outer, kind, _) in tunnels() {
        for (tos, shown) in [(0, 0), (0xb8, 0xb8), (1, 1), (2, 2), (3, 2), (0xbb, 0xba)] {
            for df in [true, false] {
                let mut world = world(inner, outer, kind);
                let ask = ask(inner, 4000, true).tos(tos).flags_fragment(u16::from(df) << 14);
                let (head, _) = received(kind, inner, &world.one(0, 0, &ask.build()));
                assert_eq!(head.tos, shown);
                let whole = df && !inner;
                assert_eq!(head.df, (!outer).then_some(whole), "{kind:?} {inner} {outer}");
                assert_eq!(head.identification == 0, whole || outer);
                world.publish(|snapshot| snapshot.tunnels_ignore_df = true);
                let (head, _) = received(kind, inner, &world.one(0, 0, &ask.build()));
                assert_eq!(head.df, (!outer).then_some(false));
            }
        }
    }
}

/// A TCP segment that makes an IP packet of that length.
fn of_length(inner: bool, length: u16) -> Builder {
    let headers = if inner { 60 } else { 40 };
    ask(inner, 4000, true).payload(&vec![7; usize::from(length - headers)])
}

#[test]
fn the_client_is_told_what_still_fits_into_the_tunnel() {
    for (inner, outer, kind, overhead) in tunnels() {
        let mut world = world(inner, outer, kind);
        let fits = world.one(0, 0, &of_length(inner, 1500 - overhead).build());
        assert_eq!((fits.port, fits.frame.len()), (1, 1514), "{kind:?}");
        let big = of_length(inner, 1500 - overhead + 1);
        let told = told(&world.one(0, 0, &big.build()));
        assert_eq!((told.from, told.to), (vip(inner).ip(), client(inner, 0).ip()));
        assert_eq!(told.kind, if inner { (2, 0) } else { (3, 4) });
        assert_eq!(told.rest, u32::from(1500 - overhead), "{kind:?} {inner} {outer}");
        assert_eq!(world.drops(), [(Reason::TooBig, 1)]);
    }
}

/// The pieces of a cut outer packet, put together again: its header without what cutting changes,
/// and the payload.
fn rejoined(pieces: &[Sent], mtu: usize) -> Vec<u8> {
    let mut whole = vec![];
    for (n, piece) in pieces.iter().enumerate() {
        let ip = &piece.frame[14..];
        assert!(ip.len() <= mtu, "a piece of {} bytes", ip.len());
        let more = n + 1 < pieces.len();
        let (offset, header) = if ip[0] >> 4 == 4 {
            let word = u16::from_be_bytes([ip[6], ip[7]]);
            assert_eq!((word & 0x4000, word & 0x2000 != 0), (0, more));
            assert_eq!(sum(&ip[..20]), 0xffff);
            (usize::from(word & 0x1fff) * 8, 20)
        } else {
            assert_eq!(ip[6], 44, "a fragment header");
            let word = u16::from_be_bytes([ip[42], ip[43]]);
            assert_eq!(word & 1 != 0, more);
            (usize::from(word & 0xfff8), 48)
        };
        assert_eq!(offset, whole.len());
        whole.extend(&ip[header..]);
    }
    whole
}

/// An IPv6 client need not send less than 1280 bytes: then the outer packet is cut; so is it where
/// DF is to be ignored, and around an IPv4 packet that may be cut.
#[test]
fn the_outer_packet_is_cut_where_the_inner_one_may_not_shrink() {
    for (inner, outer, kind, overhead) in tunnels() {
        let mtu: u16 = 1284;
        let mtus = [1500, mtu];
        let small = Plan { mtus, ..plan(inner, outer, Mode::Tunnel(kind)) };
        for ignore_df in [false, true] {
            let mut world = World::new(small.clone());
            world.publish(|snapshot| snapshot.tunnels_ignore_df = ignore_df);
            let whole = of_length(inner, 1280);
            let cut = inner || ignore_df;
            let pieces = world.exchange(0, 0, &whole.build());
            if cut {
                assert_eq!(pieces.len(), 2, "{kind:?} {inner} {outer}");
                assert_inner(&rejoined(&pieces, mtu.into()), &whole);
            } else {
                assert_eq!(told(&pieces[0]).rest, u32::from(mtu - overhead));
            }
            let loose = of_length(inner, 1280).flags_fragment(0);
            let pieces = world.exchange(0, 0, &loose.build());
            assert_inner(&rejoined(&pieces, mtu.into()), &loose);
        }
        // More than the least MTU of IPv6 is told.
        let mut world = World::new(small);
        let told = told(&world.one(0, 0, &of_length(inner, 1281).build()));
        assert_eq!(told.rest, if inner { 1280 } else { u32::from(mtu - overhead) });
    }
}

fn assert_inner(rest: &[u8], ask: &Builder) {
    let whole = to_backend(ask, 13).ip_packet();
    // All but the transport checksum, which may be left to the receiver.
    let at = rest.len() - whole.len();
    assert_eq!(rest[at..at + 24], whole[..24]);
    assert_eq!(rest[rest.len() - 1000..], whole[whole.len() - 1000..]);
}

/// An error of a router on the way to a backend about a frame we sent.
fn about(sent: &Sent, outer: bool, said: (u8, u8, u32), quoted: usize) -> Builder {
    let router = host(outer, 254);
    let error = from_backend(13).between((router, 0), (host(outer, 1), 0));
    let quote = &sent.frame[14..sent.frame.len().min(14 + quoted)];
    error.icmp(said.0, said.1, said.2).payload(quote)
}

fn too_big(outer: bool, mtu: u32) -> (u8, u8, u32) {
    if outer { (2, 0, mtu) } else { (3, 4, mtu) }
}

/// Outer layers off, same type and code, from the VIP, quoting what was inside.
#[test]
fn errors_about_our_outer_packets_come_to_the_client_from_the_vip() {
    for (inner, outer, kind, overhead) in tunnels() {
        let mut world = world(inner, outer, kind);
        let ask = ask(inner, 4000, true);
        let sent = world.one(0, 0, &ask.build());
        let said = if outer { [(1, 3, 0), (3, 0, 0)] } else { [(3, 1, 0), (11, 0, 0)] };
        let heard =
            if inner { [(1, if outer { 3 } else { 0 }), (3, 0)] } else { [(3, 1), (11, 0)] };
        for (said, heard) in said.into_iter().zip(heard) {
            for quoted in [1200, usize::from(overhead) + if inner { 48 } else { 28 }] {
                let back = world.one(0, 1, &about(&sent, outer, said, quoted).build());
                assert_eq!((back.port, &back.frame[6..12]), (0, &OUR_MAC.0[..]));
                let told = told(&back);
                assert_eq!((told.from, told.to), (vip(inner).ip(), client(inner, 0).ip()));
                assert_eq!(told.kind, heard, "{kind:?} {inner} {outer}");
                let whole = to_backend(&ask, 13).ip_packet();
                let header = if inner { 40 } else { 20 };
                assert_eq!(told.quote[..header + 8], whole[..header + 8]);
                assert!(told.quote.len() <= whole.len());
            }
        }
        assert_eq!(world.drops(), []);
    }
}

#[test]
fn a_tunnels_path_mtu_is_learned_told_used_and_forgotten() {
    for (inner, outer, kind, overhead) in tunnels() {
        let mut world = world(inner, outer, kind);
        let big = of_length(inner, 1500 - overhead);
        let sent = world.one(0, 0, &big.build());
        let fits = u32::from(1400 - overhead);
        let error = about(&sent, outer, too_big(outer, 1400), 600);
        let back = world.one(0, 1, &error.build());
        let heard = told(&back);
        assert_eq!(heard.kind, if inner { (2, 0) } else { (3, 4) });
        assert_eq!(heard.rest, fits, "{kind:?} {inner} {outer}");
        assert_eq!(heard.from, vip(inner).ip());
        let next = world.one(0, 0, &big.build());
        assert_eq!((next.port, told(&next).rest), (0, fits), "the next one is refused at once");
        let small = of_length(inner, 1400 - overhead);
        assert_eq!(world.one(0, 0, &small.build()).port, 1);
        for _ in 0..3 {
            world.wait(199);
            world.one(0, 0, &small.build());
        }
        world.wait(4);
        assert_eq!(world.one(0, 0, &big.build()).port, 1, "forgotten after ten minutes");
    }
}

/// RFC 1191 section 3, RFC 8201 section 4; and another backend under the same id has its own way.
#[test]
fn a_path_mtu_never_rises_on_a_message_and_goes_with_its_backend() {
    let mut world = world(false, false, Encapsulation::Ipip);
    let big = of_length(false, 1480);
    let sent = world.one(0, 0, &big.build());
    for (said, believed) in [(1400, 1400), (1450, 1400), (1300, 1300), (1499, 1300)] {
        let error = about(&sent, false, too_big(false, said), 600);
        assert_eq!(told(&world.one(0, 1, &error.build())).rest, believed - 20, "{said} said");
    }
    world.publish(|_| {});
    assert_eq!(told(&world.one(0, 0, &big.build())).rest, 1280, "a reload changes nothing");
    world.publish(|snapshot| {
        snapshot.backends[2].as_mut().unwrap().address = host(false, 99);
    });
    assert_eq!(world.one(0, 0, &big.build()).port, 1, "another one's way");
}

/// RFC 1191 and 8201: nobody is told about a packet that may be cut, and no forgery is believed.
#[test]
fn a_path_mtu_is_told_only_with_df_and_no_forgery_is_believed() {
    let ipip = Encapsulation::Ipip;
    let mut world = world(false, false, ipip);
    let loose = of_length(false, 1400).flags_fragment(0);
    let sent = world.one(0, 0, &loose.build());
    let error = about(&sent, false, too_big(false, 1300), 100).build();
    assert_eq!(world.exchange(0, 1, &error), [], "nobody is told");
    let pieces = world.exchange(0, 0, &loose.build());
    assert_eq!(pieces.len(), 2, "but it was learned: the outer packet is cut");
    for (outer, mtu) in [(false, 67), (true, 1279)] {
        let mut world = self::world(outer, outer, ipip);
        let big = of_length(outer, 1400);
        let sent = world.one(0, 0, &big.build());
        world.exchange(0, 1, &about(&sent, outer, too_big(outer, mtu), 100).build());
        assert_eq!(world.one(0, 0, &big.build()).port, 1, "{mtu} is no MTU");
    }
}

/// Nobody need send less than 68 bytes, DF or not: if that does not fit, the outer packet is cut,
/// and a packet that is cut has a number of its own and no DF.
#[test]
fn the_pieces_of_the_least_packet_that_may_not_be_cut_have_a_number() {
    for (inner, outer, kind, _) in tunnels().filter(|(inner, outer, ..)| !inner && !outer) {
        let mtus = [1500, 72];
        let mut world = World::new(Plan { mtus, ..plan(inner, outer, Mode::Tunnel(kind)) });
        let least = of_length(false, 68);
        let [a, b] = [0, 1].map(|_| world.exchange(0, 0, &least.build()));
        let number = |sent: &Sent| sent.frame[18..20].to_vec();
        assert!(a.len() > 1 && number(&a[0]) != number(&b[0]), "{kind:?}");
        assert!(rejoined(&a, 72).ends_with(&to_backend(&least, 13).ip_packet()[48..]), "{kind:?}");
        assert!(a.iter().all(|piece| number(piece) == number(&a[0])), "{kind:?}");
    }
}

#[test]
fn an_error_about_a_tunnel_packet_that_is_not_ours_is_not_believed() {
    for (inner, outer, kind, _) in tunnels() {
        let mut world = world(inner, outer, kind);
        let sent = world.one(0, 0, &of_length(inner, 1400).build());
        let error = || about(&sent, outer, too_big(outer, 1300), 600);
        let other = Sent { frame: wrong_inner_port(&sent, inner), ..sent.clone() };
        let rows: [(Vec<u8>, Option<Reason>); 4] = [
            (error().l4_wrong_by(1).build(), Some(Reason::IcmpChecksum)),
            (error().between((host(outer, 254), 0), (host(outer, 9), 0)).build(), None),
            (about(&other, outer, too_big(outer, 1300), 600).build(), Some(Reason::NoConnection)),
            (about(&sent, outer, too_big(outer, 1300), 30).build(), None),
        ];
        for (frame, reason) in rows {
            let (drops, punted) = (world.drops(), world.punted());
            assert_eq!(world.exchange(0, 1, &frame), []);
            match reason {
                Some(reason) => assert!(world.drops().contains(&(reason, 1)), "{reason:?}"),
                None => assert_eq!((world.drops(), world.punted()), (drops, punted + 1)),
            }
        }
        assert_eq!(world.one(0, 0, &of_length(inner, 1400).build()).port, 1, "nothing learned");
    }
}

/// The frame with another port of the client in the inner packet.
fn wrong_inner_port(sent: &Sent, inner: bool) -> Vec<u8> {
    let mut frame = sent.frame.clone();
    let at = frame.len() - 1400 + if inner { 40 } else { 20 };
    frame[at] ^= 0x55;
    frame
}

#[test]
fn errors_about_tunnels_find_the_owner_from_any_worker() {
    for card in [Card::Any, Card::Rss] {
        for (inner, outer, kind, overhead) in tunnels() {
            let mode = Mode::Tunnel(kind);
            let mut world = World::new(Plan { workers: 4, card, ..plan(inner, outer, mode) });
            for port in 1..=4 {
                let from: SocketAddr = client(inner, port);
                let big = of_length(inner, 1450 - overhead).between(from, vip(inner));
                let sent = world.one(usize::from(port) - 1, 0, &big.build());
                let back = &about(&sent, outer, too_big(outer, 1400), 600).build();
                for worker in 0..4 {
                    let told = told(&world.one(worker, 1, back));
                    assert_eq!(told.rest, u32::from(1400 - overhead));
                }
            }
            assert_eq!(world.drops(), []);
        }
    }
}

/// Somebody's packet that has nothing to do with our tunnels, quoted in an error to ourselves.
#[test]
fn an_error_about_the_boxes_own_packets_is_the_kernels() {
    for (inner, outer, kind, _) in tunnels() {
        let mut world = world(inner, outer, kind);
        let own = packet().udp((host(outer, 1), 5000), (host(outer, 13), 53)).payload(b"dns");
        let error = from_backend(13).between((host(outer, 13), 0), (host(outer, 1), 0));
        let said = if outer { (1, 4) } else { (3, 3) };
        let error = error.icmp(said.0, said.1, 0).payload(&own.ip_packet());
        assert_eq!(world.exchange(0, 1, &error.build()), []);
        assert_eq!((world.punted(), world.drops()), (1, vec![]));
    }
}
