//! Datagrams in pieces between an IPv6 client and an IPv4 backend, by RFC 7915 sections 4.1 and
//! 5.1.1: every piece becomes one of the other family, to the byte; and what is cut on the way.

use proptest::prelude::*;
use shunt::dataplane::snapshot::Mode;
use shunt::dataplane::verdict::Reason;

use crate::ends::{
    ask, client, ends, from_backend, local, plan, read, to_backend, to_client, told, vip,
};
use crate::packets::Builder;
use crate::parts::{cut, exchange_all, joined, lengths, numbered, put};
use crate::world::{Card, Plan, Sent, World};

/// The identification of a client's datagram; its low half is what IPv4 has room for.
const NUMBER: u32 = 0x0007_cafe;

fn crossing() -> Plan {
    plan(true, false, Mode::Fullnat)
}

fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|i| u8::try_from(i % 251).unwrap()).collect()
}

/// A client's datagram of so many bytes of payload.
fn datagram(port: u16, length: usize) -> Builder {
    ask(true, port, false).payload(&bytes(length))
}

/// The ends of a client's datagram as its backend sees them.
fn seen_at_backend(sent: &[Sent]) -> (std::net::SocketAddr, std::net::SocketAddr) {
    ends(&joined(sent))
}

#[test]
fn a_clients_pieces_become_ipv4_pieces_to_the_byte() {
    let ask = datagram(4000, 1612).tos(0xb9);
    let pieces = cut(&ask.build(), &[800, 800], NUMBER);
    for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2]] {
        let mut world = World::new(crossing());
        let frames = order.map(|number| pieces[number].clone());
        let sent = exchange_all(&mut world, 0, &frames);
        let (from, to) = seen_at_backend(&sent);
        assert_eq!((from.ip(), to.port()), (local(false), 8080));
        // In pieces it may be cut again: no DF.
        let whole = to_backend(&ask, sent[0].frame[5]).between(from, to).flags_fragment(0).build();
        let number = crate::parts::number(&sent[0].frame);
        assert_ne!(number, NUMBER & 0xffff, "under a local address, which clients share");
        let expected = cut(&whole, &[800, 800], number);
        let first = order.iter().position(|number| *number == 0).unwrap();
        let mut left = vec![0];
        left.extend(order[..first].iter().chain(&order[first + 1..]));
        let left: Vec<_> = left.iter().map(|number| expected[*number].clone()).collect();
        let sent: Vec<_> = sent.into_iter().map(|sent| sent.frame).collect();
        assert_eq!(sent, left, "{order:?}");
        assert_eq!((world.connections(), world.drops()), ([1; 4], vec![]));
    }
}

#[test]
fn a_backends_pieces_become_ipv6_pieces_to_the_byte() {
    for (tcp, df) in [(false, 0), (true, 0), (false, 0x4000)] {
        for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2]] {
            let mut world = World::new(crossing());
            let there = world.one(0, 0, &ask(true, 4000, tcp).build());
            let (from, to) = ends(&there.frame);
            let answer = from_backend(13).tos(0x28).flags_fragment(df).payload(&bytes(1612));
            let answer = if tcp { answer.tcp(to, from).flags(0x10) } else { answer.udp(to, from) };
            let pieces = cut(&answer.build(), &[800, 800], 0xcafe);
            let sent = exchange_all(&mut world, 1, &order.map(|number| pieces[number].clone()));
            let whole = to_client(&answer).between(vip(true), client(true, 4000)).build();
            let expected = cut(&whole, &[800, 800], 0xcafe);
            let first = order.iter().position(|number| *number == 0).unwrap();
            let mut left = vec![0];
            left.extend(order[..first].iter().chain(&order[first + 1..]));
            for (sent, number) in sent.iter().zip(&left) {
                assert_eq!((sent.port, &sent.frame), (0, &expected[*number]), "{order:?}");
            }
            assert_eq!((sent.len(), world.drops()), (3, vec![]));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Pieces of many datagrams, in any order, on any worker, both ways.
    #[test]
    fn any_arrival_of_pieces_finds_the_owner(
        workers in prop::sample::select(vec![1u8, 2, 4]),
        rss in any::<bool>(),
        arrivals in prop::collection::vec(any::<prop::sample::Index>(), 64),
        turns in prop::collection::vec(0..6usize, 12),
    ) {
        const ORDERS: [[usize; 3]; 6] =
            [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
        let card = if rss { Card::Rss } else { Card::Any };
        let mut world = World::new(Plan { workers, card, ..crossing() });
        let mut arrivals = arrivals.iter().cycle().map(|a| a.index(workers.into()));
        let mut turns = turns.iter().cycle();
        let mut carry = |world: &mut World, port: usize, whole: &[u8], id: u32| {
            let pieces = cut(whole, &[800, 800], id);
            let mut sent = vec![];
            for number in ORDERS[*turns.next().unwrap()] {
                put(world, arrivals.next().unwrap(), port, &pieces[number]);
                world.poll();
                sent.extend(world.sent());
            }
            sent
        };
        for port in 1..=4u16 {
            let there = carry(&mut world, 0, &datagram(port, 1612).build(), port.into());
            prop_assert_eq!(there.len(), 3, "drops: {:?}", world.drops());
            let (from, to) = seen_at_backend(&there);
            let whole = world.exchange(0, 0, &datagram(port, 20).build());
            prop_assert_eq!(ends(&whole[0].frame), (from, to), "one connection with whole ones");
            let answer = from_backend(11).udp(to, from).flags_fragment(0).payload(&bytes(1612));
            let back = carry(&mut world, 1, &answer.build(), 100 + u32::from(port));
            prop_assert_eq!(back.len(), 3, "drops: {:?}", world.drops());
            prop_assert_eq!(ends(&joined(&back)), (vip(true), client(true, port)));
        }
        prop_assert_eq!(world.connections(), [4; 4]);
        prop_assert_eq!(world.drops(), vec![]);
    }
}

#[test]
fn a_piece_longer_than_the_way_is_cut_again() {
    // Towards IPv4 at the next link, towards IPv6 to what every way carries.
    let mut world = World::new(Plan { mtus: [1500, 700], ..crossing() });
    let ask = datagram(4000, 1992);
    let pieces = cut(&ask.build(), &[1000], NUMBER);
    let sent = exchange_all(&mut world, 0, &[pieces[1].clone(), pieces[0].clone()]);
    assert_eq!(lengths(&sent), [700, 340, 700, 340]);
    let (from, to) = seen_at_backend(&sent);
    let expected = to_backend(&ask, sent[0].frame[5]).between(from, to).flags_fragment(0);
    assert_eq!(numbered(joined(&sent), 0xcafe), expected.identification(0xcafe).build());

    let answer = from_backend(13).udp(to, from).flags_fragment(0).payload(&bytes(2600));
    let pieces = cut(&answer.build(), &[1304], 0xbeef);
    let sent = exchange_all(&mut world, 1, &[pieces[1].clone(), pieces[0].clone()]);
    assert_eq!(lengths(&sent), [1280, 48 + 72, 1280, 48 + 72]);
    let whole = to_client(&answer).between(vip(true), client(true, 4000)).build();
    assert_eq!(joined(&sent), whole);
    for sent in &sent {
        assert_eq!(sent.frame[58..62], [0, 0, 0xbe, 0xef]);
    }
    assert_eq!(world.drops(), []);
}

/// With DF it is told, 20 bytes less for the longer header and 8 for the one that pieces have.
#[test]
fn of_a_backends_pieces_nobody_may_cut_the_first_is_answered() {
    let mut world = World::new(Plan { mtus: [1400, 1500], ..crossing() });
    let (from, to) = ends(&world.one(0, 0, &datagram(4000, 10).build()).frame);
    let answer = from_backend(13).udp(to, from).flags_fragment(0x4000).payload(&bytes(2696));
    let fits = cut(&answer.build(), &[1352], 5);
    assert_eq!(lengths(&exchange_all(&mut world, 1, &fits)), [1400, 1400]);
    let long = cut(&answer.build(), &[1360], 6);
    let later = cut(&answer.build(), &[1000, 1360], 6)[1].clone();
    let sent = exchange_all(&mut world, 1, &[long[0].clone(), later]);
    let heard = told(&sent[0]);
    assert_eq!((sent.len(), heard.kind, heard.rest), (1, (3, 4), 1372));
    assert_eq!(heard.from, local(false));
    assert_eq!(world.drops(), [(Reason::TooBig, 2)]);
}

#[test]
fn an_atomic_fragment_becomes_a_whole_packet_that_may_be_cut() {
    for length in [100, 1400] {
        let mut world = World::new(crossing());
        let ask = datagram(4000, length);
        let sent = world.one(0, 0, &cut(&ask.build(), &[], NUMBER)[0]);
        let (from, to) = ends(&sent.frame);
        let expected = to_backend(&ask, sent.frame[5]).between(from, to);
        assert_eq!(sent.frame, expected.flags_fragment(0).identification(0xcafe).build());
        assert_eq!(world.drops(), []);
    }
}

/// As any that leaves in pieces from an address that clients share.
#[test]
fn an_atomic_fragment_that_is_cut_is_numbered_anew() {
    let mut world = World::new(Plan { mtus: [1500, 1400], ..crossing() });
    let ask = datagram(4000, 1420);
    let sent = world.exchange(0, 0, &cut(&ask.build(), &[], NUMBER)[0]);
    assert_eq!((sent.len(), world.drops()), (2, vec![]));
    let numbers = [0, 1].map(|at| crate::parts::number(&sent[at].frame));
    assert_eq!(numbers[0], numbers[1], "of one datagram");
    assert_ne!(numbers[0], NUMBER & 0xffff, "under a local address, which clients share");
    let (from, to) = seen_at_backend(&sent);
    let expected = to_backend(&ask, sent[0].frame[5]).between(from, to).flags_fragment(0);
    assert_eq!(numbered(joined(&sent), 0xcafe), expected.identification(0xcafe).build());
}

/// A packet cut here is named by what its sender called it.
#[test]
fn an_ipv4_packet_that_is_cut_keeps_its_identification() {
    let mut world = World::new(crossing());
    let (from, to) = ends(&world.one(0, 0, &datagram(4000, 10).build()).frame);
    let answer = from_backend(13).udp(to, from).flags_fragment(0).identification(0xbeef);
    let answer = answer.payload(&bytes(1400));
    let sent = world.exchange(0, 1, &answer.build());
    assert_eq!(lengths(&sent), [1280, 48 + 176]);
    assert!(sent.iter().all(|sent| sent.frame[58..62] == [0, 0, 0xbe, 0xef]));
    let whole = to_client(&answer).between(vip(true), client(true, 4000)).build();
    assert_eq!(joined(&sent), whole);
}

/// IPv6 wants a checksum, and only who has all pieces could compute it.
#[test]
fn a_first_piece_of_udp_without_checksum_is_refused() {
    let mut world = World::new(crossing());
    let (from, to) = ends(&world.one(0, 0, &datagram(4000, 10).build()).frame);
    let answer = from_backend(13).udp(to, from).flags_fragment(0).payload(&bytes(600));
    let bare = answer.without_checksum().build();
    assert_eq!(world.exchange(0, 1, &cut(&bare, &[400], 5)[0]), []);
    assert_eq!(world.drops(), [(Reason::Fragment, 1)]);
    read(&world.one(0, 1, &bare).frame);
}

#[test]
fn pieces_of_a_connection_that_is_gone_or_on_their_last_hop_stop() {
    let mut world = World::new(crossing());
    let (from, to) = ends(&world.one(0, 0, &datagram(4000, 10).build()).frame);
    let answer = from_backend(13).udp(to, from).flags_fragment(0).payload(&bytes(600));
    let pieces = cut(&answer.build(), &[400], 5);
    world.one(0, 1, &pieces[0]);
    let late = cut(&answer.clone().ttl(1).build(), &[400], 5);
    assert_eq!(world.exchange(0, 1, &late[1]), []);
    let theirs = cut(&datagram(4000, 600).ttl(1).build(), &[400], 5);
    let fresh = cut(&datagram(4000, 600).build(), &[400], 5);
    assert_eq!(exchange_all(&mut world, 0, &[fresh[0].clone(), theirs[1].clone()]).len(), 1);
    world.plan.weights = vec![None; 3];
    world.publish(|_| {});
    assert_eq!(world.exchange(0, 1, &pieces[1]), []);
    let none = world.exchange(0, 0, &fresh[1]);
    assert_eq!(none, []);
    let gone = (Reason::BackendGone, 2);
    assert!(world.drops().contains(&(Reason::TtlExpired, 2)), "{:?}", world.drops());
    assert!(world.drops().contains(&gone), "{:?}", world.drops());
}

/// Nobody sends less than 1280 bytes of IPv6, so what an IPv4 link does not carry of that is cut.
#[test]
fn what_every_ipv6_way_carries_is_cut_for_a_narrow_ipv4_link() {
    let mut world = World::new(Plan { mtus: [1500, 1000], ..crossing() });
    let sent = world.exchange(0, 0, &datagram(4000, 1232).build());
    assert_eq!(lengths(&sent), [996, 20 + 264]);
    let (from, to) = seen_at_backend(&sent);
    assert_eq!(from.ip(), local(false));
    let expected = to_backend(&datagram(4000, 1232), sent[0].frame[5]).between(from, to);
    let id = u16::from_be_bytes([sent[0].frame[18], sent[0].frame[19]]);
    assert_eq!(joined(&sent), expected.flags_fragment(0).identification(id).build());
    let heard = told(&world.one(0, 0, &datagram(4000, 1233).build()));
    assert_eq!((heard.kind, heard.rest), ((2, 0), 1280));
    assert_eq!(world.drops(), [(Reason::TooBig, 1)]);
}
