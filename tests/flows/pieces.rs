//! Datagrams in pieces: every piece goes the way of the first, as long as it came, in every mode
//! and family, wherever it lands; and what cannot go on is refused within bounds.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use proptest::prelude::*;
use shunt::dataplane::conn::state::flags::{ACK, SYN};
use shunt::dataplane::frag::HELD_MAX;
use shunt::dataplane::io::memory::VecPacket;
use shunt::dataplane::snapshot::{Encapsulation, GueChecksum, Mode, Ping, Snapshot};
use shunt::dataplane::verdict::Reason;

use crate::packets::builder::sum;
use crate::packets::oracle::judge_any;
use crate::packets::{Builder, CLIENT, OUR_INNER_MAC, VIP, packet};
use crate::parts::{
    CLIENT6, VIP6, all_v6, cut, exchange_all, join, joined, lengths, numbered, put,
};
use crate::world::{Card, Plan, Sent, World, backend_mac};

const IPIP: Mode = Mode::Tunnel(Encapsulation::Ipip);
const GRE: Mode = Mode::Tunnel(Encapsulation::Gre { checksum: true });
const GUE: Mode = Mode::Tunnel(Encapsulation::Gue { port: 6080, checksum: GueChecksum::Outer });
const REMOTE: Mode = Mode::Tunnel(Encapsulation::Gue { port: 6080, checksum: GueChecksum::Remote });
const MODES: [Mode; 7] = [Mode::Fullnat, Mode::Nat, Mode::Dr, IPIP, GRE, GUE, REMOTE];

fn world(mode: Mode, v6: bool, edit: impl Fn(&mut Snapshot)) -> World {
    let mut world = World::new(Plan { modes: vec![mode; 3], ..Plan::default() });
    world.publish(|snapshot| {
        if v6 {
            all_v6(snapshot);
        }
        edit(snapshot);
    });
    world
}

fn wide(snapshot: &mut Snapshot) {
    snapshot.ports.iter_mut().for_each(|port| port.mtu = 9000);
}

/// A client's datagram of so many bytes of payload, none like its neighbour.
fn datagram(v6: bool, port: u16, length: usize) -> Builder {
    let payload: Vec<u8> = (0..length).map(|i| u8::try_from(i % 251).unwrap()).collect();
    let (from, to): (SocketAddr, SocketAddr) = if v6 {
        ((CLIENT6.0, port).into(), VIP6.into())
    } else {
        ((CLIENT.0, port).into(), VIP.into())
    };
    packet().udp(from, to).flags_fragment(0).identification(7).payload(&payload)
}

/// A backend's answer of so many bytes to what it got.
fn answer(got: &[u8], length: usize) -> Vec<u8> {
    let seen = judge_any(got).unwrap();
    let back = (seen.destination, seen.ports.1);
    let payload: Vec<u8> = (0..length).map(|i| u8::try_from(i % 241).unwrap()).collect();
    let answer = packet().macs(backend_mac(11), OUR_INNER_MAC).flags_fragment(0).identification(9);
    answer.udp(back, (seen.source, seen.ports.0)).payload(&payload).build()
}

/// The whole datagram the other end puts together, outer headers taken off piece by piece.
fn received(mode: Mode, sent: &[Sent]) -> Vec<u8> {
    let bare = |frame: &[u8]| {
        let outer = if frame[14] >> 4 == 6 { 40 } else { 20 };
        let shim = match mode {
            Mode::Tunnel(Encapsulation::Ipip) => 0,
            Mode::Tunnel(Encapsulation::Gre { .. }) => 8,
            // Of a GUE header, the length of its options counts.
            Mode::Tunnel(_) => 12 + usize::from(frame[14 + outer + 8] & 0x1f) * 4,
            _ => return frame.to_vec(),
        };
        if matches!(mode, Mode::Tunnel(Encapsulation::Gue { .. })) {
            assert!(judge_any(frame).unwrap().l4_right, "outer checksum");
        }
        [&frame[..14], &frame[14 + outer + shim..]].concat()
    };
    let frames: Vec<_> = sent.iter().map(|sent| bare(&sent.frame)).collect();
    numbered(join(frames.iter().map(|frame| &frame[..])), 7)
}

/// Pieces of 820, 820 and 40 bytes come out as such, in order of arrival but for those that wait
/// for the first; together they are what the whole datagram would have become.
#[test]
fn pieces_leave_as_they_came_in_every_mode_and_family() {
    for (mode, v6) in MODES.iter().flat_map(|mode| [(*mode, false), (*mode, true)]) {
        let whole = datagram(v6, 40_000, 1612).build();
        let pieces = cut(&whole, &[800, 800], 7);
        let came: Vec<_> = pieces.iter().map(|piece| piece.len() - 14).collect();
        let expected = &world(mode, v6, wide).one(0, 0, &whole);
        // A whole one's checksum may be left to the receiver, a piece's may not.
        let wrapped = if mode == REMOTE { GUE } else { mode };
        let expected = match mode {
            REMOTE => received(GUE, &[world(GUE, v6, wide).one(0, 0, &whole)]),
            _ => received(mode, std::slice::from_ref(expected)),
        };
        for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2], [2, 0, 1]] {
            let mut world = world(mode, v6, |_| {});
            let frames = order.map(|number| pieces[number].clone());
            let sent = exchange_all(&mut world, 0, &frames);
            assert_eq!(received(wrapped, &sent), expected, "{mode:?} {v6} {order:?}");
            assert!(judge_any(&expected).unwrap().l4_right);
            let first = order.iter().position(|number| *number == 0).unwrap();
            let mut out = vec![0];
            out.extend(order[..first].iter().chain(&order[first + 1..]));
            let overhead = lengths(&sent)[0] - came[0];
            let out: Vec<_> = out.iter().map(|number| came[*number] + overhead).collect();
            assert_eq!(lengths(&sent), out, "{mode:?} {v6} {order:?}");
            assert_eq!(world.connections(), [1; 4], "the first piece made it");
            assert_eq!(world.drops(), []);
        }
    }
}

#[test]
fn answers_in_pieces_come_back_as_they_were_sent() {
    for (mode, v6) in [(Mode::Fullnat, false), (Mode::Nat, false), (Mode::Fullnat, true)] {
        let ask = datagram(v6, 40_000, 10).build();
        let answered = |world: &mut World| {
            let got = world.one(0, 0, &ask);
            answer(&got.frame, 1612)
        };
        let mut wide = world(mode, v6, wide);
        let whole = answered(&mut wide);
        let expected = wide.one(0, 1, &whole).frame;
        for order in [[0, 1, 2], [2, 1, 0]] {
            let mut world = world(mode, v6, |_| {});
            let pieces = cut(&answered(&mut world), &[800, 800], 9);
            let sent = exchange_all(&mut world, 1, &order.map(|number| pieces[number].clone()));
            assert_eq!(joined(&sent), expected, "{mode:?} {v6} {order:?}");
            assert!(sent.iter().all(|sent| sent.port == 0));
            assert!(judge_any(&expected).unwrap().l4_right);
            assert_eq!(world.drops(), []);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Pieces of many datagrams, in any order, on any worker, both ways: each comes together, in
    /// one connection with whole ones.
    #[test]
    fn any_arrival_of_pieces_finds_the_owner(
        workers in prop::sample::select(vec![1u8, 2, 4]),
        rss in any::<bool>(),
        v6 in any::<bool>(),
        mode in prop::sample::select(vec![Mode::Fullnat, Mode::Nat, Mode::Dr, IPIP]),
        arrivals in prop::collection::vec(any::<prop::sample::Index>(), 64),
        turns in prop::collection::vec(0..6usize, 12),
    ) {
        const ORDERS: [[usize; 3]; 6] =
            [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
        let card = if rss { Card::Rss } else { Card::Any };
        let mut world = World::new(Plan { workers, card, modes: vec![mode; 3], ..Plan::default() });
        world.publish(|snapshot| if v6 { all_v6(snapshot) });
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
            let there = carry(&mut world, 0, &datagram(v6, port, 1612).build(), port.into());
            prop_assert_eq!(there.len(), 3, "drops: {:?}", world.drops());
            let got = received(mode, &there);
            prop_assert!(judge_any(&got).unwrap().l4_right);
            // A whole datagram of the flow goes the same way.
            let whole = world.exchange(0, 0, &datagram(v6, port, 20).build());
            prop_assert_eq!(whole.len(), 1);
            let whole = received(mode, &whole);
            let ends = |frame: &[u8]| { let seen = judge_any(frame).unwrap(); (seen.source, seen.destination, seen.ports) };
            prop_assert_eq!(ends(&whole), ends(&got));
            if matches!(mode, Mode::Fullnat | Mode::Nat) {
                let back = carry(&mut world, 1, &answer(&got, 1612), 100 + u32::from(port));
                prop_assert_eq!(back.len(), 3, "drops: {:?}", world.drops());
                let back = judge_any(&joined(&back)).unwrap();
                prop_assert!(back.l4_right);
                let vip: IpAddr = if v6 { VIP6.0.into() } else { VIP.0.into() };
                prop_assert_eq!((back.source, back.ports), (vip, (80, port)));
            }
        }
        prop_assert_eq!(world.connections(), [4; 4]);
        prop_assert_eq!(world.drops(), vec![]);
    }
}

#[test]
fn after_a_tiny_first_piece_the_others_are_refused_at_once() {
    for v6 in [false, true] {
        let mut world = world(Mode::Fullnat, v6, |_| {});
        let (from, to): (SocketAddr, SocketAddr) =
            if v6 { (CLIENT6.into(), VIP6.into()) } else { (CLIENT.into(), VIP.into()) };
        let segment = packet().tcp(from, to).flags(SYN).flags_fragment(0).payload(&[7; 60]).build();
        // The first has the ports and no flags: RFC 1858's trick.
        let pieces = cut(&segment, &[16, 16, 24], 7);
        let order = [1, 0, 2, 3].map(|number| pieces[number].clone());
        assert_eq!(exchange_all(&mut world, 0, &order), []);
        assert_eq!(world.drops(), [(Reason::Fragment, 3), (Reason::FragmentTiny, 1)]);
        assert_eq!(world.connections(), [0; 4]);
    }
}

#[test]
fn a_first_piece_that_no_service_wants_is_answered_and_the_others_are_refused() {
    let mut world = world(Mode::Fullnat, false, |_| {});
    let stray = packet().udp(CLIENT, (VIP.0, 81)).flags_fragment(0).payload(&[7; 800]).build();
    let sent = exchange_all(&mut world, 0, &cut(&stray, &[400], 7));
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].frame[34..36], [3, 3], "port unreachable");
    assert_eq!(world.drops(), [(Reason::Fragment, 1), (Reason::NoService, 1)]);
}

#[test]
fn a_flood_without_first_pieces_is_bounded_and_ordinary_reordering_passes_it() {
    let mut world = world(Mode::Fullnat, false, |_| {});
    let pieces = cut(&datagram(false, 1, 200).build(), &[104], 0);
    let count = 3 * HELD_MAX;
    for identification in 0..u16::try_from(count).unwrap() {
        let mut later = pieces[1].clone();
        later[18..20].copy_from_slice(&(1000 + identification).to_be_bytes());
        let checksum = {
            later[24..26].fill(0);
            !sum(&later[14..34])
        };
        later[24..26].copy_from_slice(&checksum.to_be_bytes());
        assert_eq!(world.exchange(0, 0, &later), []);
    }
    let dropped = u64::try_from(count - HELD_MAX).unwrap();
    assert_eq!(world.drops(), [(Reason::FragmentLimit, dropped)]);
    let reversed = [pieces[1].clone(), pieces[0].clone()];
    assert_eq!(exchange_all(&mut world, 0, &reversed).len(), 2);
    assert_eq!(world.drops(), [(Reason::FragmentLimit, dropped + 1)]);
    world.wait(31);
    let held = u64::try_from(HELD_MAX - 1).unwrap();
    assert_eq!(
        world.drops(),
        [(Reason::FragmentLimit, dropped + 1), (Reason::FragmentTimeout, held)]
    );
}

#[test]
fn what_waits_for_a_first_piece_is_given_up_after_its_familys_time() {
    for (v6, seconds) in [(false, 30), (true, 60)] {
        let mut world = world(Mode::Fullnat, v6, |_| {});
        let pieces = cut(&datagram(v6, 1, 200).build(), &[104], 7);
        world.exchange(0, 0, &pieces[1]);
        world.wait(seconds - 1);
        assert_eq!(world.drops(), []);
        world.wait(2);
        assert_eq!(world.drops(), [(Reason::FragmentTimeout, 1)]);
        assert_eq!(world.exchange(0, 0, &pieces[0]).len(), 1, "the first alone goes on");
    }
}

#[test]
fn pieces_for_the_box_itself_are_the_kernels_all_of_them() {
    let box_itself = (Ipv4Addr::new(10, 44, 0, 9), 2049);
    let backend = (Ipv4Addr::new(10, 44, 0, 11), 700);
    let from_backend = packet().macs(backend_mac(11), OUR_INNER_MAC);
    let rows = [
        ("a client's", 0, packet().udp(CLIENT, box_itself), 17),
        ("a NAT backend's", 1, from_backend.clone().udp(backend, box_itself), 17),
        ("a NAT backend's ping", 1, from_backend.icmp(8, 0, 1).between(backend, box_itself), 1),
        ("a ping of the VIP", 0, packet().icmp(8, 0, 1).between(CLIENT, VIP), 1),
    ];
    for (name, port, frame, protocol) in rows {
        for order in [[0, 1, 2], [2, 1, 0]] {
            let mut world = world(Mode::Nat, false, |_| {});
            let whole = frame.clone().flags_fragment(0).payload(&[7; 1000]).build();
            assert_eq!(whole[23], protocol);
            let pieces = cut(&whole, &[400, 400], 7);
            let frames = order.map(|number| pieces[number].clone());
            assert_eq!(exchange_all(&mut world, port, &frames), [], "{name}");
            let lane = world.punt_lane(0).clone();
            let mut got: Vec<_> = std::iter::from_fn(|| lane.pop()).collect();
            assert_eq!(got.len(), 3, "{name}: {:?}", world.drops());
            let frames = got.drain(..).map(|p| shunt::dataplane::io::Packet::data(&p).to_vec());
            let frames: Vec<Vec<u8>> = frames.collect();
            let mut expected = whole.clone();
            expected[18..20].copy_from_slice(&7u16.to_be_bytes());
            let joined = join(frames.iter().map(|frame| &frame[..]));
            assert_eq!(joined[34..], whole[34..], "{name}: as they came");
            assert_eq!(world.drops(), []);
        }
    }
}

#[test]
fn a_ping_in_pieces_is_as_silent_as_a_whole_one() {
    let mut world = world(Mode::Fullnat, false, |snapshot| snapshot.ping = Ping::Never);
    let ping = packet().icmp(8, 0, 1).between(CLIENT, VIP).flags_fragment(0).payload(&[7; 1000]);
    exchange_all(&mut world, 0, &cut(&ping.build(), &[400, 400], 7));
    assert_eq!((world.punted(), world.drops()), (0, vec![(Reason::Ping, 3)]));
}

#[test]
fn of_pieces_nobody_may_cut_only_the_first_is_answered() {
    let narrow = |snapshot: &mut Snapshot| snapshot.ports[1].mtu = 1280;
    for v6 in [false, true] {
        let mut world = world(Mode::Fullnat, v6, narrow);
        let whole = datagram(v6, 1, 1900).flags_fragment(0x4000).build();
        let pieces = cut(&whole, &[1304], 7);
        // Later pieces are as long as the first.
        let long = cut(&datagram(v6, 1, 3000).flags_fragment(0x4000).build(), &[1304, 1304], 7);
        let sent = exchange_all(&mut world, 0, &[pieces[0].clone(), long[1].clone()]);
        assert_eq!((sent.len(), sent[0].port), (1, 0), "{v6}");
        let told = &sent[0].frame;
        assert!(judge_any(told).unwrap().l4_right);
        let (kind, mtu) = if v6 { (54, 58..62) } else { (34, 38..42) };
        assert_eq!(told[kind..kind + 2], if v6 { [2, 0] } else { [3, 4] });
        assert_eq!(told[mtu], 1280u32.to_be_bytes());
        // It made no connection for the later one to follow.
        assert_eq!(world.drops(), [(Reason::Fragment, 1), (Reason::TooBig, 1)]);
    }
}

#[test]
fn a_piece_longer_than_the_next_link_is_cut_again() {
    let narrow = |snapshot: &mut Snapshot| snapshot.ports[1].mtu = 700;
    for mode in [Mode::Fullnat, Mode::Nat, Mode::Dr] {
        let whole = datagram(false, 1, 1892).build();
        let expected = world(mode, false, wide).one(0, 0, &whole).frame;
        let mut world = world(mode, false, narrow);
        let pieces = cut(&whole, &[1000], 7);
        let sent = exchange_all(&mut world, 0, &[pieces[1].clone(), pieces[0].clone()]);
        assert_eq!(numbered(joined(&sent), 7), expected, "{mode:?}");
        assert!(lengths(&sent).iter().all(|length| *length <= 700), "{:?}", lengths(&sent));
        assert_eq!((sent.len(), world.drops()), (4, vec![]));
    }
}

#[test]
fn an_atomic_fragment_is_a_whole_packet() {
    let mut world = world(Mode::Fullnat, true, |_| {});
    let atomic = &cut(&datagram(true, 1, 100).build(), &[], 7)[0];
    assert_eq!((atomic[20], atomic[57] & 1), (44, 0));
    let sent = world.one(0, 0, atomic);
    assert_eq!(sent.frame[54..62], atomic[54..62], "the fragment header stays");
    assert!(judge_any(&joined(&[sent])).unwrap().l4_right);
    // It is of no other datagram of its name (RFC 6946): these pieces wait for their own first.
    let pieces = cut(&datagram(true, 2, 200).build(), &[104], 7);
    assert_eq!(world.exchange(0, 0, &pieces[1]), []);
    assert_eq!(world.exchange(0, 0, atomic).len(), 1);
    assert_eq!(world.exchange(0, 0, &pieces[0]).len(), 2);
    assert_eq!(world.drops(), []);
}

/// A later piece may not follow a connection whose backend is gone.
#[test]
fn pieces_of_a_connection_without_backend_are_refused() {
    let mut world = world(Mode::Fullnat, false, |_| {});
    let pieces = cut(&datagram(false, 1, 200).build(), &[104], 7);
    world.one(0, 0, &pieces[0]);
    world.plan.weights = vec![None; 3];
    world.publish(|_| {});
    assert_eq!(world.exchange(0, 0, &pieces[1]), []);
    assert_eq!(world.drops(), [(Reason::BackendGone, 1)]);
}

#[test]
fn a_packet_longer_than_its_port_carries_is_cut_to_that_ports_mtu() {
    let narrow = |snapshot: &mut Snapshot| {
        snapshot.ports[0].mtu = 900;
        snapshot.ports[1].mtu = 700;
    };
    for mode in [Mode::Fullnat, Mode::Nat, Mode::Dr] {
        let ask = datagram(false, 1, 1392).build();
        let mut wide = world(mode, false, wide);
        let whole = wide.one(0, 0, &ask);
        let mut world = world(mode, false, narrow);
        let sent = world.exchange(0, 0, &ask);
        assert_eq!(numbered(joined(&sent), 7), whole.frame, "{mode:?}");
        assert_eq!(lengths(&sent), [20 + 680, 20 + 680, 20 + 40]);
        assert!(sent.iter().all(|sent| sent.port == 1));
        if mode != Mode::Dr {
            let back = answer(&whole.frame, 1392);
            let whole = wide.one(0, 1, &back);
            let sent = world.exchange(0, 1, &back);
            assert_eq!(joined(&sent), whole.frame, "{mode:?}");
            assert_eq!(lengths(&sent), [20 + 880, 20 + 520]);
        }
        assert_eq!(world.drops(), []);
    }
}

#[test]
fn a_tunnels_packet_is_cut_outside() {
    for (mode, v6) in [(IPIP, false), (GRE, false), (GUE, false), (IPIP, true), (GUE, true)] {
        let ask = datagram(v6, 1, if v6 { 1200 } else { 1400 }).build();
        // IPv6 inside asks for 1280 bytes at least; the outer packet is cut all the same.
        let narrow = |snapshot: &mut Snapshot| snapshot.ports[1].mtu = 1280;
        let mut whole = world(mode, v6, wide).one(0, 0, &ask).frame;
        let mut world = world(mode, v6, narrow);
        let sent = world.exchange(0, 0, &ask);
        assert_eq!(sent.len(), 2, "{mode:?} {v6}: {:?}", world.drops());
        assert!(lengths(&sent).iter().all(|length| *length <= 1280));
        let mut joined = joined(&sent);
        if !v6 {
            // Two packets of ours, two numbers.
            for frame in [&mut joined, &mut whole] {
                frame[18..20].fill(0);
                frame[24..26].fill(0);
            }
        }
        assert_eq!(joined, whole, "{mode:?} {v6}");
        assert_eq!(world.drops(), []);
    }
}

#[test]
fn a_packet_that_cannot_be_cut_for_want_of_buffers_leaves_nothing_behind() {
    let mut world = world(Mode::Fullnat, false, |snapshot| snapshot.ports[1].mtu = 400);
    let frame = datagram(false, 1, 1392).build();
    let dry = VecPacket::new(&frame).with_siblings_left(2);
    world.port(0, 0).inbound.push(dry).unwrap();
    world.poll();
    assert_eq!(world.sent(), []);
    assert_eq!(world.drops(), [(Reason::Uncut, 1)]);
}

/// Numbers of IPv6 pieces made here: no two alike between the same ends, from different workers.
#[test]
fn pieces_made_here_are_numbered_and_no_two_workers_use_one_number() {
    let modes = vec![IPIP; 3];
    let mut world = World::new(Plan { workers: 3, modes, ..Plan::default() });
    world.publish(|snapshot| {
        all_v6(snapshot);
        snapshot.ports[1].mtu = 1280;
    });
    let mut numbers = std::collections::BTreeSet::new();
    for port in 1..=90 {
        let sent = world.exchange(0, 0, &datagram(true, port, 1200).build());
        assert_eq!(sent.len(), 2);
        assert_eq!(sent[0].frame[58..62], sent[1].frame[58..62]);
        numbers.insert(sent[0].frame[58..62].to_vec());
    }
    assert_eq!(numbers.len(), 90);
}

/// TCP in pieces is rare, and no different.
#[test]
fn a_segment_in_pieces_moves_the_state_as_a_whole_one() {
    let mut world = world(Mode::Fullnat, false, |_| {});
    world.one(0, 0, &packet().tcp(CLIENT, VIP).flags(SYN).build());
    let data = packet().tcp(CLIENT, VIP).flags(ACK).flags_fragment(0).payload(&[7; 500]).build();
    let sent = exchange_all(&mut world, 0, &cut(&data, &[200, 200], 7));
    assert_eq!(sent.len(), 3);
    assert!(judge_any(&joined(&sent)).unwrap().l4_right);
    assert_eq!(world.connections(), [1; 4]);
}

/// With cards that keep flows together, older connections of a service stay with the worker their
/// packets come to when a backend's mode becomes NAT; their pieces and errors about them too.
#[test]
fn pieces_follow_older_connections_when_a_reload_changes_who_makes_new_ones() {
    for (before, rss) in
        [Mode::Fullnat, Mode::Dr, IPIP].map(|mode| [(mode, true), (mode, false)]).as_flattened()
    {
        let card = if *rss { Card::Rss } else { Card::Any };
        let mut world =
            World::new(Plan { workers: 4, card, modes: vec![*before; 3], ..Plan::default() });
        let of = |port, length| datagram(false, port, length).build();
        // The backend, and as whom it is asked.
        let there = |sent: &Sent| [&sent.frame[..6], &sent.frame[26..34]].concat();
        let old: Vec<_> = (1..=40)
            .map(|port| {
                let sent = world.one(usize::from(port % 4), 0, &of(port, 10));
                (port, there(&sent))
            })
            .collect();
        world.plan.modes = vec![Mode::Nat; 3];
        world.publish(|_| {});
        for (port, way) in &old {
            for (at, piece) in cut(&of(*port, 1000), &[600], (*port).into()).iter().enumerate() {
                put(&world, (usize::from(*port) + at) % 4, 0, piece);
                world.poll();
                let sent = world.sent();
                assert_eq!((sent.len(), world.drops()), (1, vec![]), "{before:?} {rss} {port}");
                assert_eq!(there(&sent[0]), *way, "{before:?} {rss}");
            }
        }
        assert_eq!(world.connections(), [40; 4]);
        // New ones begin where the answers of NAT will look for them.
        for port in 1001..=1020u16 {
            for (at, piece) in cut(&of(port, 1000), &[600], port.into()).iter().enumerate() {
                put(&world, (usize::from(port) + at) % 4, 0, piece);
            }
            world.poll();
            let sent = world.sent();
            assert_eq!(sent.len(), 2);
            let back = world.one(0, 1, &answer(&joined(&sent), 20));
            let seen = judge_any(&back.frame).unwrap();
            assert_eq!((seen.source, seen.ports), (VIP.0.into(), (80, port)));
            assert_eq!(world.one(1, 0, &of(port, 20)).frame[..6], sent[0].frame[..6]);
        }
        assert_eq!((world.connections(), world.drops()), ([60; 4], vec![]));
    }
}

/// A connection whose backend is gone gives way to one that its service's mode of today makes.
#[test]
fn pieces_of_an_older_connection_without_backend_begin_a_new_one_where_it_belongs() {
    let modes = vec![Mode::Fullnat, Mode::Nat];
    let weights = vec![Some(1), None];
    let plan = Plan { workers: 4, card: Card::Rss, modes, weights, ..Plan::default() };
    let mut world = World::new(plan);
    let of = |port, length| datagram(false, port, length).build();
    for port in 1..=20 {
        world.one(0, 0, &of(port, 10));
    }
    world.plan.weights = vec![None, Some(1)];
    world.publish(|_| {});
    for port in 1..=20 {
        let sent = exchange_all(&mut world, 0, &cut(&of(port, 1000), &[600], 7));
        assert_eq!(sent.len(), 2, "{:?}", world.drops());
        let back = world.one(0, 1, &answer(&joined(&sent), 20));
        assert_eq!(judge_any(&back.frame).unwrap().ports, (80, port));
    }
    assert_eq!((world.connections(), world.drops()), ([20; 4], vec![]));
}
