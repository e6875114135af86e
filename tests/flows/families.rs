//! Both families in every mode: what changes in a packet to the byte, and what the sender of one
//! that cannot go on is told.

use std::net::SocketAddr;

use proptest::prelude::*;
use shunt::dataplane::snapshot::{Encapsulation, Mode, Protocol, Strays};
use shunt::dataplane::verdict::Reason;

use crate::ends::{
    Told, ask, client, ends, from_backend, local, open, open_at, plan, read, to_backend, to_client,
    told, vip,
};
use crate::packets::{Builder, OUR_INNER_MAC, packet};
use crate::world::{Card, Plan, World, backend_mac, host};

const SYN: u8 = 0x02;
const ACK: u8 = 0x10;
const IPIP: Mode = Mode::Tunnel(Encapsulation::Ipip);

/// An association's first chunk (RFC 9260 section 3.3.2).
const INIT: [u8; 20] = [1, 0, 0, 20, 0, 0, 0, 9, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 7];

/// Eight bytes of options that say nothing, but for the first byte.
const PADDING: [u8; 7] = [0, 1, 4, 0, 0, 0, 0];

/// What may be special about a packet, in either family.
fn variants(is_v6: bool) -> Vec<Builder> {
    let (tcp, udp) = (ask(is_v6, 40_000, true), ask(is_v6, 40_000, false));
    let common = [
        tcp.clone(),
        udp.clone(),
        tcp.clone().tos(0xb9).padding(6).tcp_options(&[1; 12]),
        udp.clone().payload(b"odd"),
        tcp.clone().ttl(2).l4_wrong_by(7),
    ];
    let v6 = [
        tcp.clone().flow_label(0xabcde).tos(0x2e),
        tcp.clone().extension(0, &PADDING).extension(60, &PADDING),
        udp.extension(60, &PADDING).extension(43, &[0, 0, 0, 0, 0, 0, 0]),
    ];
    let v4 = [tcp.ip_options(&[1; 8]).identification(77)];
    let of_family = if is_v6 { v6.to_vec() } else { v4.to_vec() };
    common.into_iter().chain(of_family).collect()
}

#[test]
fn fullnat_and_nat_change_addresses_ports_and_hops_and_nothing_else() {
    for is_v6 in [false, true] {
        for mode in [Mode::Fullnat, Mode::Nat] {
            for ask in variants(is_v6) {
                let mut world = World::new(plan(is_v6, is_v6, mode));
                let there = world.one(0, 0, &ask.build());
                let seen = crate::packets::oracle::judge_any(&there.frame).unwrap();
                let from = SocketAddr::new(seen.source, seen.ports.0);
                let to = SocketAddr::new(seen.destination, seen.ports.1);
                assert_eq!(to, SocketAddr::new(host(is_v6, there.frame[5]), 8080));
                if mode == Mode::Nat {
                    assert_eq!(from, client(is_v6, 40_000));
                } else {
                    assert_eq!(from.ip(), local(is_v6));
                }
                let expected = to_backend(&ask, there.frame[5]).between(from, to);
                assert_eq!(there.frame, expected.build(), "{mode:?} {ask:?}");
                let answer = from_backend(there.frame[5]).tcp(to, from).flags(SYN | ACK);
                let answer = if ask.protocol_number() == 6 {
                    answer
                } else {
                    from_backend(there.frame[5]).udp(to, from).payload(b"!")
                };
                let back = world.one(0, 1, &answer.build());
                let expected = to_client(&answer).between(vip(is_v6), client(is_v6, 40_000));
                assert_eq!(back.frame, expected.build(), "{mode:?} {ask:?}");
                assert_eq!(world.drops(), []);
            }
        }
    }
}

#[test]
fn sctp_keeps_its_tag_and_gets_its_crc_anew_in_both_families() {
    for is_v6 in [false, true] {
        for mode in [Mode::Fullnat, Mode::Nat, Mode::Dr] {
            let plan = Plan { protocols: vec![Protocol::Sctp], ..plan(is_v6, is_v6, mode) };
            let mut world = World::new(plan);
            let init = packet().sctp(client(is_v6, 5000), vip(is_v6), 0).payload(&INIT);
            let there = world.one(0, 0, &init.build()).frame;
            let at = if is_v6 { 54 } else { 34 };
            let port = u16::from_be_bytes([there[at], there[at + 1]]);
            let number = there[5];
            let (from, to) = match mode {
                Mode::Fullnat => ((local(is_v6), port), (host(is_v6, number), 8080)),
                Mode::Nat => ((client(is_v6, 0).ip(), 5000), (host(is_v6, number), 8080)),
                _ => ((client(is_v6, 0).ip(), 5000), (vip(is_v6).ip(), 80)),
            };
            assert_eq!(there, to_backend(&init, number).between(from, to).build(), "{mode:?}");
            if mode == Mode::Dr {
                continue;
            }
            let ack = [&[2, 0, 0, 20][..], &INIT[4..]].concat();
            let answer = from_backend(number).sctp(to, from, 9).payload(&ack);
            let back = world.one(0, 1, &answer.build());
            let expected = to_client(&answer).between(vip(is_v6), client(is_v6, 5000));
            assert_eq!(back.frame, expected.build(), "{mode:?}");
        }
    }
}

#[test]
fn dr_changes_link_addresses_and_hops_and_nothing_else() {
    for is_v6 in [false, true] {
        for ask in variants(is_v6) {
            let mut world = World::new(plan(is_v6, is_v6, Mode::Dr));
            assert_eq!(world.one(0, 0, &ask.build()).frame, to_backend(&ask, 13).build());
            assert_eq!(world.drops(), []);
        }
    }
}

/// The quote of a packet as the client sent it, up to what an error of the family may hold.
fn quote_of(ask: &Builder, is_v6: bool) -> Vec<u8> {
    let mut quote = ask.ip_packet();
    quote.truncate(if is_v6 { 1280 - 48 } else { 576 - 28 });
    quote
}

fn assert_told(told: &Told, kind: (u8, u8), rest: u32, ask: &Builder, is_v6: bool) {
    let (from, to) = ask.addresses();
    assert_eq!((told.from, told.to), (to, from), "from whom it asked, to who asked");
    assert_eq!((told.kind, told.rest), (kind, rest));
    assert_eq!(told.quote, quote_of(ask, is_v6));
    assert!(told.length <= if is_v6 { 1280 } else { 576 });
}

/// To a FULL-NAT backend we are the local address, to a NAT backend a router.
#[test]
fn a_backend_is_told_by_us_and_never_by_the_client() {
    for is_v6 in [false, true] {
        for (mode, by) in [(Mode::Fullnat, local(is_v6)), (Mode::Nat, host(is_v6, 1))] {
            let mtus = [1400, 1500];
            let mut world = World::new(Plan { mtus, ..plan(is_v6, is_v6, mode) });
            let opened = open(&mut world, &ask(is_v6, 1, true));
            let late = opened.answer.clone().ttl(1);
            let big = opened.answer.clone().payload(&[7; 1400]);
            let exceeded = if is_v6 { (3, 0) } else { (11, 0) };
            let too_big = if is_v6 { (2, 0) } else { (3, 4) };
            for (frame, kind, rest) in [(late, exceeded, 0), (big, too_big, 1400)] {
                let sent = world.one(0, 1, &frame.build());
                assert_eq!((sent.port, &sent.frame[..6]), (1, &backend_mac(opened.number).0[..]));
                assert_eq!(sent.frame[6..12], OUR_INNER_MAC.0);
                let told = told(&sent);
                assert_eq!((told.from, told.to), (by, host(is_v6, opened.number)), "{mode:?}");
                assert_eq!((told.kind, told.rest), (kind, rest));
                assert_eq!(told.quote, quote_of(&frame, is_v6));
            }
        }
    }
}

#[test]
fn strays_are_answered_by_policy_in_both_families() {
    for is_v6 in [false, true] {
        let elsewhere = (vip(is_v6).ip(), 81);
        let from = client(is_v6, 7);
        let syn = packet().tcp(from, elsewhere).flags(SYN).numbers(1000, 0);
        let datagram = packet().udp(from, elsewhere).payload(b"?");
        let mut world = World::new(plan(is_v6, is_v6, Mode::Fullnat));
        let reset = packet().tcp(elsewhere, from).flags(0x14).numbers(0, 1001).window(0);
        let reset = to_client(&reset.ttl(65)).identification(0);
        assert_eq!(world.one(0, 0, &syn.build()).frame, reset.build());
        let unreachable = told(&world.one(0, 0, &datagram.build()));
        assert_told(&unreachable, if is_v6 { (1, 4) } else { (3, 3) }, 0, &datagram, is_v6);
        world.publish(|snapshot| snapshot.strays = Strays::Drop);
        assert_eq!(world.exchange(0, 0, &syn.build()), []);
        assert_eq!(world.exchange(0, 0, &datagram.build()), []);
        assert_eq!(world.drops(), [(Reason::NoService, 4)]);
    }
}

/// The table of one family says nothing of the other's: the same VIP port, the same client port.
#[test]
fn both_families_live_side_by_side() {
    let vips = vec![vip(false).ip(), vip(true).ip()];
    let mut world = World::new(Plan { vips, ..plan(true, false, Mode::Fullnat) });
    for port in 1..=9 {
        for is_v6 in [false, true] {
            let sent = world.one(0, 0, &ask(is_v6, port, true).build());
            assert_eq!(ends(&sent.frame).0.ip(), local(false));
        }
    }
    assert_eq!(world.connections(), [18; 4]);
    let listed = world.list(4);
    assert_eq!(listed.iter().filter(|c| c.client.is_ipv6()).count(), 9);
    assert!(listed.iter().all(|c| c.backend.is_ipv4() && c.local.is_ipv4()), "as they are");
    world.wait(70);
    assert_eq!((world.connections(), world.drops()), ([0; 4], vec![]));
}

fn any_mode() -> impl Strategy<Value = (bool, bool, Mode)> {
    let modes = vec![
        (false, false, Mode::Fullnat),
        (true, true, Mode::Fullnat),
        (true, false, Mode::Fullnat),
        (false, false, Mode::Nat),
        (true, true, Mode::Nat),
        (true, true, Mode::Dr),
        (true, true, IPIP),
        (true, false, IPIP),
        (false, true, IPIP),
    ];
    prop::sample::select(modes)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// In either family and between them, in every mode, on any worker: a connection is made once,
    /// both directions find it, and an error about it does.
    #[test]
    fn any_arrival_reaches_the_owner_in_either_family(
        workers in prop::sample::select(vec![1u8, 2, 4]),
        rss in any::<bool>(),
        (client_v6, backend_v6, mode) in any_mode(),
        tcp in any::<bool>(),
        arrivals in prop::collection::vec(any::<prop::sample::Index>(), 40),
    ) {
        let card = if rss { Card::Rss } else { Card::Any };
        let mut world = World::new(Plan { workers, card, ..plan(client_v6, backend_v6, mode) });
        let mut arrivals = arrivals.iter().map(|a| a.index(workers.into()));
        let mut anywhere = || arrivals.next().unwrap();
        for port in 1..=8 {
            let ask = ask(client_v6, port, tcp);
            if matches!(mode, Mode::Fullnat | Mode::Nat) {
                let opened = open_at(&mut world, (anywhere(), anywhere()), &ask);
                let (from, to) = opened.asked.sockets();
                let again = world.one(anywhere(), 0, &ask.clone().flags(ACK).build());
                prop_assert_eq!(ends(&again.frame), (from, to), "the same connection");
                let quote = opened.asked.ip_packet();
                let kind = if backend_v6 { 1 } else { 3 };
                let error = from_backend(opened.number).between((to.ip(), 0), (from.ip(), 0));
                let error = error.icmp(kind, if backend_v6 { 4 } else { 3 }, 0).payload(&quote);
                let back = world.one(anywhere(), 1, &error.build());
                let seen = read(&back.frame);
                prop_assert_eq!(seen.source, vip(client_v6).ip());
                prop_assert_eq!(seen.destination, client(client_v6, port).ip());
            } else {
                let first = world.one(anywhere(), 0, &ask.build());
                let again = world.one(anywhere(), 0, &ask.clone().flags(ACK).build());
                prop_assert_eq!(&again.frame[..12], &first.frame[..12], "the same backend");
            }
        }
        prop_assert_eq!(world.connections(), [8; 4]);
        prop_assert_eq!(world.drops(), vec![]);
        if rss && mode == Mode::Fullnat {
            prop_assert!(world.handed_over() <= 8, "errors alone, which no card knows to spread");
        }
    }
}
