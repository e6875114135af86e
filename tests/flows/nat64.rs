//! IPv6 clients, IPv4 backends: packets and errors between the families, by RFC 7915.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use shunt::dataplane::snapshot::Mode;
use shunt::dataplane::verdict::Reason;
use shunt::wire::checksum;

use crate::ends::{
    Opened, ask, client, ends, from_backend, local, open, plan, read, to_backend, to_client, told,
    vip,
};
use crate::packets::{Builder, packet};
use crate::world::{Card, Plan, Sent, World, host};

fn crossing() -> Plan {
    plan(true, false, Mode::Fullnat)
}

/// A client's packet as its IPv4 backend must get it, by RFC 7915 section 5.1. Its identification
/// is ours to choose where it may be cut.
fn expected_v4(ask: &Builder, sent: &Sent) -> Builder {
    let (from, to) = {
        let frame = &sent.frame;
        let port = u16::from_be_bytes([frame[34], frame[35]]);
        (SocketAddr::new(local(false), port), SocketAddr::new(host(false, frame[5]), 8080))
    };
    let built = to_backend(ask, sent.frame[5]).between(from, to);
    let whole = built.ip_packet().len() > 1260;
    let id = u16::from_be_bytes([sent.frame[18], sent.frame[19]]);
    built.flags_fragment(if whole { 0x4000 } else { 0 }).identification(if whole { 0 } else { id })
}

#[test]
fn a_client_s_packet_becomes_the_ipv4_packet_of_rfc_7915() {
    let tcp = || ask(true, 4000, true);
    let variants = [
        tcp(),
        ask(true, 4000, false),
        ask(true, 4000, false).payload(b"odd"),
        tcp().tos(0xb9).flow_label(0xabcde),
        tcp().ttl(2).tcp_options(&[1; 12]),
        tcp().extension(0, &[0, 1, 4, 0, 0, 0, 0]).extension(60, &[0, 1, 4, 0, 0, 0, 0]),
        tcp().payload(&[7; 1220]),
        tcp().payload(&[7; 1221]),
        tcp().payload(&[7; 1440]),
        tcp().padding(8).payload(b""),
        tcp().l4_wrong_by(5),
    ];
    for ask in variants {
        let mut world = World::new(crossing());
        let there = world.one(0, 0, &ask.build());
        let bare = if ask.build().len() < 90 { ask.clone().padding(0) } else { ask.clone() };
        assert_eq!(there.frame, expected_v4(&bare, &there).build(), "{ask:?}");
        assert_eq!(there.port, 1);
        assert_eq!(world.drops(), []);
    }
}

#[test]
fn a_backends_answer_becomes_the_ipv6_packet_of_rfc_7915() {
    for tcp in [true, false] {
        let mut world = World::new(crossing());
        let there = world.one(0, 0, &ask(true, 4000, tcp).build());
        let (from, to) = ends(&there.frame);
        let answer = if tcp {
            from_backend(13).tcp(to, from).flags(0x12).payload(b"and back")
        } else {
            from_backend(13).udp(to, from).payload(b"and back")
        };
        let variants = [
            answer.clone(),
            answer.clone().tos(0xb9).identification(7).flags_fragment(0),
            answer.clone().ip_options(&[1; 8]).payload(b"odd"),
            answer.clone().ip_options(&[1; 40]),
            answer.clone().ttl(2).padding(4),
            answer.clone().payload(&[7; 1400]),
        ];
        for answer in variants {
            let back = world.one(0, 1, &answer.build());
            let expected = to_client(&answer).between(vip(true), client(true, 4000)).padding(0);
            assert_eq!((back.port, &back.frame), (0, &expected.build()), "{answer:?}");
        }
        assert_eq!(world.drops(), []);
        assert_eq!(world.list(4)[0].backend, to);
    }
}

/// IPv6 does not allow a UDP datagram without a checksum.
#[test]
fn a_udp_answer_without_checksum_gets_one() {
    let mut world = World::new(crossing());
    let there = world.one(0, 0, &ask(true, 4000, false).build());
    let (from, to) = ends(&there.frame);
    for payload in [&b"even"[..], b"odd", b""] {
        let answer = from_backend(13).udp(to, from).payload(payload);
        let back = world.one(0, 1, &answer.clone().without_checksum().build());
        let expected = to_client(&answer).between(vip(true), client(true, 4000));
        assert_eq!(back.frame, expected.build());
        assert_ne!(back.frame[60..62], [0, 0]);
    }
}

/// UDP may say that it ends before the packet does (RFC 9868): its checksum covers what it says.
#[test]
fn the_checksum_of_a_udp_answer_covers_the_datagram_and_not_what_follows_it() {
    let mut world = World::new(crossing());
    let there = world.one(0, 0, &ask(true, 4000, false).build());
    let (from, to) = ends(&there.frame);
    let answer = from_backend(13).udp(to, from).payload(b"said");
    let mut frame = answer.without_checksum().build();
    frame.extend(b"more");
    frame[17] += 4;
    frame[24..26].copy_from_slice(&[0, 0]);
    let header = checksum::checksum(&frame[14..34]);
    frame[24..26].copy_from_slice(&header.to_ne_bytes());
    let back = world.one(0, 1, &frame).frame;
    assert_eq!((&back[58..60], back[18..20].last()), (&[0, 12][..], Some(&16)));
    let addresses: [u8; 32] = back[22..54].try_into().unwrap();
    assert_eq!(checksum::sum_l4(addresses, 17, &back[54..66]), 0xffff);
    assert_eq!(back[66..], *b"more");
}

#[test]
fn too_long_for_the_other_family_is_told_with_twenty_bytes_of_difference() {
    let mut world = World::new(Plan { mtus: [9000, 1400], ..crossing() });
    let of = |length: usize| ask(true, 4000, true).payload(&vec![7; length - 60]);
    let fits = world.one(0, 0, &of(1420).build());
    assert_eq!((fits.port, fits.frame.len()), (1, 1414));
    let heard = told(&world.one(0, 0, &of(1421).build()));
    assert_eq!((heard.from, heard.kind, heard.rest), (vip(true).ip(), (2, 0), 1420));

    let mut world = World::new(Plan { mtus: [1400, 9000], ..crossing() });
    let opened = ends(&world.one(0, 0, &ask(true, 4000, true).build()).frame);
    let of = |length: usize| {
        from_backend(13).tcp(opened.1, opened.0).flags(0x10).payload(&vec![7; length - 40])
    };
    let fits = world.one(0, 1, &of(1380).build());
    assert_eq!((fits.port, fits.frame.len()), (0, 1414));
    let heard = told(&world.one(0, 1, &of(1381).build()));
    assert_eq!((heard.from, heard.kind, heard.rest), (local(false), (3, 4), 1380));
    assert_eq!(heard.quote, of(1381).ip_packet()[..548]);

    // What may be cut is, to what any IPv6 way carries.
    let pieces = world.exchange(0, 1, &of(1381).flags_fragment(0).build());
    assert_eq!(pieces.len(), 2);
    let mut whole: Vec<u8> = vec![];
    for piece in &pieces {
        assert!(piece.frame.len() <= 14 + 1280 && piece.frame[20] == 44);
        assert_eq!(
            usize::from(u16::from_be_bytes([piece.frame[56], piece.frame[57]]) & !7),
            whole.len()
        );
        whole.extend(&piece.frame[62..]);
    }
    let expected = to_client(&of(1381)).between(vip(true), client(true, 4000)).ip_packet();
    assert_eq!(whole, expected[40..]);
}

/// An IPv4 service and an IPv6 one with the same backends: no answer could be either's.
#[test]
fn connections_of_both_families_never_share_a_local_port() {
    for (workers, card) in [(1, Card::Any), (2, Card::Any), (4, Card::Rss)] {
        let vips = vec![vip(false).ip(), vip(true).ip()];
        let weights = vec![Some(1)];
        let plan = Plan { workers, card, vips, weights, ..crossing() };
        let mut world = World::new(plan);
        let mut locals = BTreeSet::new();
        for port in 1001..=1150 {
            for is_v6 in [false, true] {
                let ask = ask(is_v6, port, true);
                let there = world.one(usize::from(port) % usize::from(workers), 0, &ask.build());
                let (from, to) = ends(&there.frame);
                assert!(locals.insert(from), "{from} twice towards {to}");
                let answer = from_backend(11).tcp(to, from).flags(0x12);
                let back = world.one(0, 1, &answer.build());
                assert_eq!(ends(&back.frame), (vip(is_v6), client(is_v6, port)));
            }
        }
        assert_eq!((world.connections(), world.drops()), ([300; 4], vec![]));
    }
}

/// `::ffff:a.b.c.d` is never on a wire, and means something in the table.
#[test]
fn mapped_addresses_from_the_wire_are_refused() {
    let mut world = World::new(crossing());
    let there = world.one(0, 0, &ask(true, 4000, true).build());
    let (from, to) = ends(&there.frame);
    let mapped = |end: SocketAddr| match end.ip() {
        IpAddr::V4(address) => SocketAddr::new(address.to_ipv6_mapped().into(), end.port()),
        IpAddr::V6(_) => end,
    };
    let forged = from_backend(13).tcp(mapped(to), mapped(from)).flags(0x10);
    assert_eq!(world.exchange(0, 1, &forged.build()), []);
    let client = mapped((Ipv4Addr::new(192, 0, 2, 9), 9).into());
    assert_eq!(world.exchange(0, 0, &packet().tcp(client, vip(true)).flags(2).build()), []);
    assert_eq!(world.drops(), [(Reason::IpSource, 2)]);
    // Nor does an error that quotes them find anything.
    let error = from_backend(13).between((local(true), 0), (mapped(from).ip(), 0));
    let quote = packet().tcp(mapped(from), mapped(to)).ip_packet();
    assert_eq!(world.exchange(0, 1, &error.icmp(1, 0, 0).payload(&quote).build()), []);
    assert_eq!(world.connections(), [1; 4]);
}

/// A connection between the families outlives its backend's mode.
#[test]
fn a_crossed_connection_survives_a_change_of_mode() {
    let mut world = World::new(crossing());
    let opened = ends(&world.one(0, 0, &ask(true, 4000, true).build()).frame);
    let ipip = Mode::Tunnel(shunt::dataplane::snapshot::Encapsulation::Ipip);
    world.plan.modes = vec![ipip; 3];
    world.publish(|_| {});
    let again = world.one(0, 0, &ask(true, 4000, true).flags(0x10).build());
    assert_eq!(ends(&again.frame), opened);
    let back = world.one(0, 1, &from_backend(13).tcp(opened.1, opened.0).build());
    assert_eq!(ends(&back.frame), (vip(true), client(true, 4000)));
}

/// A connection, its backend's packets by the builder.
fn opened(world: &mut World, tcp: bool) -> Opened {
    open(world, &ask(true, 4000, tcp))
}

/// Type, code and second word of an error.
type Words = (u8, u8, u32);

/// An IPv4 error from behind us and what the client hears: RFC 7915 section 4.2.
const TO_V6: &[(Words, Option<Words>)] = &[
    ((3, 0, 0), Some((1, 0, 0))),
    ((3, 1, 0), Some((1, 0, 0))),
    ((3, 2, 0), Some((4, 1, 6))),
    ((3, 3, 0), Some((1, 4, 0))),
    ((3, 4, 1400), Some((2, 0, 1420))),
    // No more than our own link to the client carries.
    ((3, 4, 1490), Some((2, 0, 1500))),
    ((3, 4, 9000), Some((2, 0, 1500))),
    ((3, 4, 1260), Some((2, 0, 1280))),
    ((3, 4, 576), Some((2, 0, 1280))),
    ((3, 5, 0), Some((1, 0, 0))),
    ((3, 6, 0), Some((1, 0, 0))),
    ((3, 7, 0), Some((1, 0, 0))),
    ((3, 8, 0), Some((1, 0, 0))),
    ((3, 9, 0), Some((1, 1, 0))),
    ((3, 10, 0), Some((1, 1, 0))),
    ((3, 11, 0), Some((1, 0, 0))),
    ((3, 12, 0), Some((1, 0, 0))),
    ((3, 13, 0), Some((1, 1, 0))),
    ((3, 14, 0), None),
    ((3, 15, 0), Some((1, 1, 0))),
    ((3, 16, 0), None),
    ((4, 0, 0), None),
    ((11, 0, 0), Some((3, 0, 0))),
    ((11, 1, 0), Some((3, 1, 0))),
    ((12, 0, 8 << 24), Some((4, 0, 7))),
    ((12, 0, 9 << 24), Some((4, 0, 6))),
    ((12, 2, 2 << 24), Some((4, 0, 4))),
    ((12, 0, 13 << 24), Some((4, 0, 8))),
    ((12, 0, 19 << 24), Some((4, 0, 24))),
    ((12, 0, 4 << 24), None),
    ((12, 0, 20 << 24), None),
    ((12, 1, 0), None),
];

/// An ICMPv6 error about an answer and what the backend hears: RFC 7915 section 5.2.
const TO_V4: &[(Words, Option<Words>)] = &[
    ((1, 0, 0), Some((3, 1, 0))),
    ((1, 1, 0), Some((3, 10, 0))),
    ((1, 2, 0), Some((3, 1, 0))),
    ((1, 3, 0), Some((3, 1, 0))),
    ((1, 4, 0), Some((3, 3, 0))),
    ((1, 5, 0), None),
    ((2, 0, 1400), Some((3, 4, 1380))),
    ((2, 0, 1280), Some((3, 4, 1260))),
    ((2, 0, 1530), Some((3, 4, 1500))),
    ((2, 0, 0x1_0000), Some((3, 4, 1500))),
    ((3, 0, 0), Some((11, 0, 0))),
    ((3, 1, 0), Some((11, 1, 0))),
    ((4, 0, 4), Some((12, 0, 2 << 24))),
    ((4, 0, 6), Some((12, 0, 9 << 24))),
    ((4, 0, 7), Some((12, 0, 8 << 24))),
    ((4, 0, 10), Some((12, 0, 12 << 24))),
    ((4, 0, 30), Some((12, 0, 16 << 24))),
    ((4, 0, 2), None),
    ((4, 1, 0), Some((3, 2, 0))),
    ((4, 2, 0), None),
    ((100, 0, 0), None),
];

#[test]
fn an_ipv4_error_reaches_the_client_as_rfc_7915_says_it() {
    for tcp in [true, false] {
        let mut world = World::new(crossing());
        let opened = opened(&mut world, tcp);
        let (to, _) = opened.asked.addresses();
        // The backend's packet as it left: DF clear, numbered; quotes of three lengths.
        let sent = opened.asked.clone().flags_fragment(0).tos(0x28);
        let inner = opened.ask.clone().ttl(63).tos(0x28).ip_packet();
        let mut untold = 0;
        for (said, heard) in TO_V6 {
            for carried in [8, 15, inner.len() - 40] {
                let quote = sent.ip_packet()[..20 + carried].to_vec();
                let router = (host(false, 254), 0);
                let came = from_backend(13).between(router, (to, 0)).icmp(said.0, said.1, said.2);
                let left = world.exchange(0, 1, &came.payload(&quote).build());
                let Some((kind, code, rest)) = *heard else {
                    assert_eq!(left, [], "{said:?} has no word in ICMPv6");
                    untold += 1;
                    continue;
                };
                let expected = packet().between((vip(true).ip(), 0), (client(true, 0).ip(), 0));
                let expected = expected.icmp(kind, code, rest).payload(&inner[..40 + carried]);
                assert_eq!(left.len(), 1, "{said:?}");
                assert_eq!(left[0].frame, to_client(&expected).build(), "{said:?}");
            }
        }
        assert_eq!(world.drops(), [(Reason::IcmpUntold, untold)]);
    }
}

#[test]
fn an_icmpv6_error_reaches_the_backend_as_rfc_7915_says_it() {
    for tcp in [true, false] {
        let mut world = World::new(crossing());
        let opened = opened(&mut world, tcp);
        let (backend, us) = opened.answer.addresses();
        let got = opened.answered.clone().tos(0x28);
        let inner = opened.answer.clone().ttl(63).tos(0x28).identification(0).ip_packet();
        let mut untold = 0;
        for (said, heard) in TO_V4 {
            for carried in [8, 15, inner.len() - 20] {
                let quote = got.ip_packet()[..40 + carried].to_vec();
                let router = ("2001:db8:c::fe".parse::<IpAddr>().unwrap(), 0);
                let came = packet().between(router, (vip(true).ip(), 0));
                let came = came.icmp(said.0, said.1, said.2).payload(&quote);
                let left = world.exchange(0, 0, &came.build());
                let Some((kind, code, rest)) = *heard else {
                    assert_eq!(left, [], "{said:?} has no word in ICMP");
                    untold += 1;
                    continue;
                };
                let expected = packet().between((us, 0), (backend, 0)).identification(0);
                let expected = expected.icmp(kind, code, rest).payload(&inner[..20 + carried]);
                assert_eq!(left.len(), 1, "{said:?}");
                assert_eq!(left[0].frame, to_backend(&expected, 13).build(), "{said:?}");
            }
        }
        assert_eq!(world.drops(), [(Reason::IcmpUntold, untold)]);
    }
}

/// What is special about a quoted packet ends at the border as it does in a packet.
#[test]
fn options_and_extension_headers_of_a_quoted_packet_end_between_the_families() {
    let mut world = World::new(crossing());
    let opened = opened(&mut world, false);
    let quote = opened.asked.clone().ip_options(&[1; 40]).ip_packet();
    let came = from_backend(13).between((host(false, 254), 0), (opened.asked.addresses().0, 0));
    let heard = told(&world.one(0, 1, &came.icmp(3, 1, 0).payload(&quote).build()));
    assert_eq!(heard.quote, opened.ask.clone().ttl(63).ip_packet());
    let piece = [0, 0, 1, 0, 0, 0, 5];
    let quote = opened.answered.clone().extension(60, &[0, 1, 4, 0, 0, 0, 0]);
    let quote = quote.extension(44, &piece).ip_packet();
    let came = packet().between(client(true, 0), (vip(true).ip(), 0)).icmp(1, 4, 0);
    let heard = told(&world.one(0, 0, &came.payload(&quote).build()));
    let piece = opened.answer.clone().ttl(63).identification(5).flags_fragment(0x2000);
    assert_eq!(heard.quote, piece.ip_packet());
    assert_eq!((heard.from, heard.to), (local(false), host(false, 13)));
    // And the other way round, its number as the client gave it: under a local address it is another.
    let quote = opened.asked.clone().flags_fragment(0x2000).identification(5).ip_packet();
    let came = from_backend(13).between((host(false, 254), 0), (opened.asked.addresses().0, 0));
    let heard = told(&world.one(0, 1, &came.icmp(3, 1, 0).payload(&quote).build()));
    let (high, low) = (heard.quote[46], heard.quote[47]);
    assert_ne!((high, low), (0, 5));
    let piece = opened.ask.clone().ttl(63).extension(44, &[0, 0, 1, 0, 0, high, low]);
    assert_eq!(heard.quote, piece.ip_packet());
}

/// What follows the quote (RFC 4884): how long that is, filled up, is said in the new words. Where
/// the other family has no place for it, it is left out, and no length said.
#[test]
fn extensions_of_errors_are_passed_on_where_there_is_a_place_for_them() {
    const MPLS: [u8; 12] = [0x20, 0, 0x11, 0x22, 0, 8, 1, 1, 0xaa, 0xbb, 0xc1, 0x40];
    let mut world = World::new(crossing());
    let opened = opened(&mut world, false);
    let to = opened.asked.addresses().0;
    let extended = |quote: &[u8], least: usize| {
        let mut bytes = quote.to_vec();
        bytes.resize(least, 0);
        [bytes, MPLS.to_vec()].concat()
    };
    // Types with a place, and the length where each family has it: of 4 bytes, of 8.
    let rows = [
        ((3, 1), Some((1, 0))),
        ((11, 0), Some((3, 0))),
        ((3, 4), None),
        ((12, 0), None),
        ((3, 2), None),
    ];
    let long = opened.asked.clone().payload(&[7; 200]);
    let long_ask = opened.ask.clone().payload(&[7; 200]).ttl(63).ip_packet();
    for (said, place) in rows {
        for (asked, inner, words_v4, words_v6) in [
            (opened.asked.clone(), opened.ask.clone().ttl(63).ip_packet(), 32, 16),
            (long.clone(), long_ask.clone(), 57, 31),
        ] {
            let quote = extended(&asked.ip_packet(), words_v4 * 4);
            let rest =
                u32::try_from(words_v4).unwrap() << 16 | if said == (3, 4) { 1400 } else { 0 };
            let rest = rest | if said.0 == 12 { 8 << 24 } else { 0 };
            let came = from_backend(13).between((host(false, 254), 0), (to, 0));
            let came = came.icmp(said.0, said.1, rest).payload(&quote).build();
            let heard = told(&world.one(0, 1, &came));
            if let Some(kind) = place {
                let expected = extended(&inner, words_v6 * 8);
                assert_eq!(
                    (heard.kind, heard.rest >> 24),
                    (kind, u32::try_from(words_v6).unwrap())
                );
                assert_eq!(heard.quote, expected, "{said:?}");
            } else {
                assert_eq!(heard.quote, inner, "{said:?}");
                assert_eq!(heard.rest >> 24, 0);
            }
        }
    }
    let rows = [((1, 0), Some((3, 1))), ((3, 0), Some((11, 0))), ((1, 4), Some((3, 3)))];
    for (said, kind) in rows {
        let quote = extended(&opened.answered.ip_packet(), 136);
        let came = packet().between(client(true, 0), (vip(true).ip(), 0));
        let came = came.icmp(said.0, said.1, 17 << 24).payload(&quote).build();
        let heard = told(&world.one(0, 0, &came));
        let inner = opened.answer.clone().ttl(63).identification(0).ip_packet();
        assert_eq!((Some(heard.kind), heard.rest), (kind, 32 << 16));
        assert_eq!(heard.quote, extended(&inner, 128), "{said:?}");
    }
    assert_eq!(world.drops(), []);
}

/// What claims to be longer than the message, or shorter than a quote may be, is no length.
#[test]
fn a_length_that_lies_is_none() {
    let mut world = World::new(crossing());
    let opened = opened(&mut world, false);
    let to = opened.asked.addresses().0;
    let quote = opened.asked.ip_packet();
    for words in [1u32, 31, 255] {
        let came = from_backend(13).between((host(false, 254), 0), (to, 0));
        let heard = told(&world.one(0, 1, &came.icmp(3, 1, words << 16).payload(&quote).build()));
        assert_eq!((heard.rest, heard.quote), (0, opened.ask.clone().ttl(63).ip_packet()));
    }
}

/// A long quote makes way for them.
#[test]
fn extensions_behind_a_long_quote_keep_their_room() {
    let mut world = World::new(crossing());
    let there = world.one(0, 0, &ask(true, 4000, true).build());
    let (from, to) = ends(&there.frame);
    let answer = from_backend(13).tcp(to, from).flags(0x10).payload(&[8; 1400]);
    let back = world.one(0, 1, &answer.build());
    let extensions = [0x5a; 44];
    let quote = [&back.frame[14..14 + 1080], &extensions[..]].concat();
    let error = packet().between(client(true, 0), (vip(true).ip(), 0)).icmp(1, 0, 135 << 24);
    let heard = told(&world.one(0, 0, &error.payload(&quote).build()));
    let most = 576 - 28 - extensions.len();
    assert_eq!((heard.length, heard.rest), (576, u32::try_from(most / 4).unwrap() << 16));
    assert_eq!(heard.quote[most..], extensions);
    assert_eq!(heard.quote[40..most], [8; 464]);
}

/// Longer than an error of the other family may be: cut; an MTU of 0: the next lower plateau.
#[test]
fn errors_between_the_families_keep_to_their_limits() {
    let mut world = World::new(crossing());
    let big = ask(true, 4000, true).payload(&[7; 1400]);
    let there = world.one(0, 0, &big.build());
    let (from, to) = ends(&there.frame);
    let came = from_backend(13).between((host(false, 254), 0), (from.ip(), 0));
    let came = |said: (u8, u8, u32)| {
        came.clone().icmp(said.0, said.1, said.2).payload(&there.frame[14..]).build()
    };
    let heard = told(&world.one(0, 1, &came((3, 4, 0))));
    assert_eq!((heard.length, heard.kind, heard.rest), (1280, (2, 0), 1280));
    let huge = ask(true, 4000, true).payload(&[7; 1400]).ip_packet();
    assert_eq!(heard.quote[44..], huge[44..1232]);
    let answer = from_backend(13).tcp(to, from).flags(0x10).payload(&[8; 1400]);
    let back = world.one(0, 1, &answer.build());
    let error = packet().between(client(true, 0), (vip(true).ip(), 0)).icmp(2, 0, 1300);
    let error = error.payload(&back.frame[14..14 + 1232]).build();
    let heard = told(&world.one(0, 0, &error));
    assert_eq!((heard.length, heard.kind, heard.rest), (576, (3, 4), 1280));
}

#[test]
fn errors_between_the_families_are_believed_no_more_than_others() {
    let mut world = World::new(crossing());
    let opened = opened(&mut world, true);
    let to = opened.asked.addresses().0;
    let error = from_backend(13).between((host(false, 254), 0), (to, 0));
    let error = error.icmp(3, 1, 0).payload(&opened.asked.ip_packet());
    assert_eq!(world.exchange(0, 1, &error.clone().ttl(1).build()), []);
    assert_eq!(world.exchange(0, 1, &error.clone().l4_wrong_by(1).build()), []);
    assert_eq!(world.drops(), [(Reason::TtlExpired, 1), (Reason::IcmpChecksum, 1)]);
    read(&world.one(0, 1, &error.build()).frame);
}

/// A backend's kernel remembers a closed connection for a minute, by its ends alone. A client that
/// opens another from the same port frees the local port at once; no other service may take it then.
#[test]
fn services_that_share_a_backend_do_not_take_each_other_s_ports_again() {
    let both = Plan {
        vips: vec![vip(false).ip(), vip(true).ip()],
        weights: vec![Some(1)],
        modes: vec![Mode::Fullnat],
        v6: vec![false],
        ..crossing()
    };
    let mut world = World::new(both);
    let mut used = BTreeSet::new();
    let mut connect = |is_v6, port| {
        let asked = world.one(0, 0, &ask(is_v6, port, true).build());
        let (local, backend) = ends(&asked.frame);
        assert!(used.insert(local), "{local} again");
        let reset = from_backend(asked.frame[5]).tcp(backend, local).flags(0x14);
        world.one(0, 1, &reset.build());
    };
    for _ in 0..3 {
        (4000..4010).for_each(|port| connect(false, port));
    }
    for _ in 0..3 {
        (4000..4010).for_each(|port| connect(true, port));
    }
}
