//! ICMP errors about our connections, in both families: to whom, from whom, quoting what.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use shunt::dataplane::sched::{Entry, Flags, Scheduler, Scheduling};
use shunt::dataplane::snapshot::{Encapsulation, Mode, Ping, Snapshot};
use shunt::dataplane::verdict::Reason;
use shunt::ids::BackendId;

use crate::ends::{
    Opened, ask, client, from_backend, local, open, plan, to_backend, to_client, vip,
};
use crate::packets::{Builder, CLIENT_MAC, OUR_MAC, packet};
use crate::world::{Card, Plan, Sent, World, host};

/// A router on our way to the backends, and one on the clients' side.
fn router(is_v6: bool, behind: bool) -> IpAddr {
    if behind {
        return host(is_v6, 200);
    }
    if is_v6 { "2001:db8:c::fe".parse().unwrap() } else { [192, 0, 2, 254].into() }
}

/// Errors a packet can cause: type, code, and second word.
fn errors(is_v6: bool) -> Vec<(u8, u8, u32)> {
    if is_v6 {
        vec![(1, 0, 0), (1, 4, 0), (2, 0, 1280), (3, 0, 0), (3, 1, 0), (4, 1, 6), (100, 0, 9)]
    } else {
        vec![
            (3, 1, 0),
            (3, 3, 0),
            (3, 4, 1300),
            (4, 0, 0),
            (11, 0, 0),
            (11, 1, 0),
            (12, 0, 8 << 24),
        ]
    }
}

/// How much of a packet errors quote: its first 8 bytes behind the IP header, the TCP header but
/// for its end, all.
fn quotes(packet: &Builder, is_v6: bool) -> [Vec<u8>; 3] {
    let (whole, header) = (packet.ip_packet(), if is_v6 { 40 } else { 20 });
    let most = (header + 19).min(whole.len() - 1);
    [whole[..header + 8].to_vec(), whole[..most].to_vec(), whole]
}

/// An ICMP error from one address to another.
fn error(frame: Builder, ends: (IpAddr, IpAddr), said: (u8, u8, u32), quote: &[u8]) -> Builder {
    let frame = frame.between((ends.0, 0), (ends.1, 0)).tos(0xc0).identification(0xbeef);
    frame.icmp(said.0, said.1, said.2).payload(quote)
}

fn translated_modes() -> impl Iterator<Item = (bool, Mode, bool)> {
    let modes = [Mode::Fullnat, Mode::Nat];
    let pairs = [false, true].into_iter().flat_map(move |v6| modes.map(|mode| (v6, mode)));
    pairs.flat_map(|(is_v6, mode)| [true, false].map(|tcp| (is_v6, mode, tcp)))
}

/// Whoever behind us sent it, the client hears from the VIP about the packet it sent itself.
#[test]
fn an_error_from_the_backends_side_comes_to_the_client_from_the_vip() {
    for (is_v6, mode, tcp) in translated_modes() {
        let mut world = World::new(plan(is_v6, is_v6, mode));
        let opened = open(&mut world, &ask(is_v6, 4000, tcp));
        let (to, backend) = opened.asked.addresses();
        let before = quotes(&opened.asked, is_v6);
        let after = quotes(&opened.ask.clone().ttl(63), is_v6);
        for from in [router(is_v6, true), backend] {
            for said in errors(is_v6) {
                for (before, after) in before.iter().zip(&after) {
                    let came = error(from_backend(opened.number), (from, to), said, before);
                    let ends = (vip(is_v6).ip(), client(is_v6, 0).ip());
                    let left = to_client(&error(packet(), ends, said, after));
                    let sent = world.one(0, 1, &came.build());
                    assert_eq!((sent.port, sent.frame), (0, left.build()), "{mode:?} {said:?}");
                }
            }
        }
        assert_eq!(world.drops(), []);
    }
}

/// FULL-NAT speaks from the local address, NAT keeps who sent it.
#[test]
fn an_error_from_the_clients_side_comes_to_the_backend_as_it_knows_the_client() {
    for (is_v6, mode, tcp) in translated_modes() {
        let mut world = World::new(plan(is_v6, is_v6, mode));
        let opened = open(&mut world, &ask(is_v6, 4000, tcp));
        let (backend, as_client) = opened.answer.addresses();
        let before = quotes(&opened.answered, is_v6);
        let after = quotes(&opened.answer.clone().ttl(63), is_v6);
        for from in [router(is_v6, false), client(is_v6, 0).ip()] {
            for said in errors(is_v6) {
                for (before, after) in before.iter().zip(&after) {
                    let came = error(packet(), (from, vip(is_v6).ip()), said, before);
                    let speaker = if mode == Mode::Nat { from } else { as_client };
                    let left = error(packet(), (speaker, backend), said, after);
                    let left = to_backend(&left, opened.number);
                    let sent = world.one(0, 0, &came.build());
                    assert_eq!((sent.port, sent.frame), (1, left.build()), "{mode:?} {said:?}");
                }
            }
        }
        assert_eq!(world.drops(), []);
    }
}

/// A backend that answers by itself hears about its answers as if it were alone.
#[test]
fn an_error_about_a_direct_backends_answer_goes_to_it_unchanged() {
    for is_v6 in [false, true] {
        for mode in [Mode::Dr, Mode::Tunnel(Encapsulation::Ipip)] {
            let mut world = World::new(plan(is_v6, is_v6, mode));
            world.one(0, 0, &ask(is_v6, 4000, true).build());
            let answer = packet().tcp(vip(is_v6), client(is_v6, 4000)).payload(b"by itself");
            let ends = (router(is_v6, false), vip(is_v6).ip());
            for (said, quote) in
                errors(is_v6).into_iter().flat_map(|e| quotes(&answer, is_v6).map(|q| (e, q)))
            {
                let came = error(packet(), ends, said, &quote);
                let sent = world.one(0, 0, &came.build());
                let left = to_backend(&came, 13).build();
                if mode == Mode::Dr {
                    assert_eq!(sent.frame, left);
                } else {
                    let outer = if is_v6 { 40 } else { 20 };
                    assert_eq!(sent.frame[..14], left[..14]);
                    assert_eq!(sent.frame[14 + outer..], left[14..], "wrapped, else unchanged");
                    assert_eq!(sent.frame.len(), left.len() + outer);
                }
            }
            assert_eq!(world.drops(), []);
        }
    }
}

/// A quoted UDP datagram without a checksum, IP options, extension headers: what is quoted stays what
/// it is.
#[test]
fn what_is_special_about_a_quoted_packet_stays() {
    for is_v6 in [false, true] {
        let mut world = World::new(plan(is_v6, is_v6, Mode::Fullnat));
        let plain = ask(is_v6, 4000, false);
        let opened = open(&mut world, &plain);
        let variants: Vec<fn(Builder) -> Builder> = if is_v6 {
            vec![|b| b.extension(0, &[0, 1, 4, 0, 0, 0, 0]), |b| b.flow_label(0x12345).tos(3)]
        } else {
            vec![Builder::without_checksum, |b| b.ip_options(&[1; 8])]
        };
        let pairs = variants.iter().map(|v| (v(opened.asked.clone()), v(plain.clone().ttl(63))));
        for (before, after) in pairs {
            let ends = (router(is_v6, true), opened.asked.addresses().0);
            let said = (if is_v6 { 1 } else { 3 }, 1, 0);
            let came = error(from_backend(13), ends, said, &before.ip_packet());
            let ends = (vip(is_v6).ip(), client(is_v6, 0).ip());
            let left = to_client(&error(packet(), ends, said, &after.ip_packet()));
            assert_eq!(world.one(0, 1, &came.build()).frame, left.build());
        }
    }
}

fn edited(is_v6: bool, edit: impl Fn(&mut Snapshot)) -> World {
    let mut world = World::new(plan(is_v6, is_v6, Mode::Fullnat));
    world.publish(edit);
    world
}

/// An error about an open connection, from a router behind us.
fn about(opened: &Opened, is_v6: bool) -> Builder {
    let ends = (router(is_v6, true), opened.asked.addresses().0);
    let said = if is_v6 { (1, 0, 0) } else { (3, 1, 0) };
    error(from_backend(opened.number), ends, said, &opened.asked.ip_packet())
}

#[test]
fn an_error_that_cannot_be_believed_is_refused_and_counted() {
    type Case = (Reason, fn(Builder, bool) -> Builder);
    let cases: [Case; 4] = [
        (Reason::IcmpChecksum, |error, _| error.l4_wrong_by(1)),
        (Reason::TtlExpired, |error, _| error.ttl(1)),
        (Reason::IpSource, |error, is_v6| {
            let (_, to) = error.addresses();
            let nobody: IpAddr =
                if is_v6 { "ff02::1".parse().unwrap() } else { [127, 0, 0, 1].into() };
            error.between((nobody, 0), (to, 0))
        }),
        (Reason::IpSource, |error, is_v6| {
            let (_, to) = error.addresses();
            assert_eq!(to, local(is_v6), "from its own destination");
            error.between((to, 0), (to, 0))
        }),
    ];
    for is_v6 in [false, true] {
        for (reason, lie) in cases {
            let mut world = World::new(plan(is_v6, is_v6, Mode::Fullnat));
            let opened = open(&mut world, &ask(is_v6, 4000, true));
            let came = lie(about(&opened, is_v6), is_v6);
            assert_eq!(world.exchange(0, 1, &came.build()), []);
            assert_eq!((world.drops(), world.punted()), (vec![(reason, 1)], 0));
        }
    }
}

#[test]
fn an_error_about_a_flow_we_do_not_know_is_refused() {
    for is_v6 in [false, true] {
        let mut world = World::new(plan(is_v6, is_v6, Mode::Fullnat));
        let opened = open(&mut world, &ask(is_v6, 4000, true));
        let (from, to) = opened.asked.sockets();
        let other = packet().tcp((from.ip(), from.port() ^ 1), to);
        let ends = (router(is_v6, true), from.ip());
        let said = if is_v6 { (1, 0, 0) } else { (3, 1, 0) };
        let came = error(from_backend(11), ends, said, &other.ip_packet());
        assert_eq!(world.exchange(0, 1, &came.build()), []);
        assert_eq!(world.drops(), [(Reason::NoConnection, 1)]);
    }
}

/// Redirects, questions, errors about what is not ours, in pieces, or quoting too little.
#[test]
fn other_icmp_is_the_kernels_unchanged() {
    for is_v6 in [false, true] {
        let mut world = World::new(plan(is_v6, is_v6, Mode::Fullnat));
        let opened = open(&mut world, &ask(is_v6, 4000, true));
        let to_us = opened.asked.addresses().0;
        let from = router(is_v6, true);
        let said = if is_v6 { (1, 0, 0) } else { (3, 1, 0) };
        let quote = opened.asked.ip_packet();
        let about = |ends, said, quote: &[u8]| error(from_backend(11), ends, said, quote);
        let short = if is_v6 { 43 } else { 23 };
        let mut later = quote.clone();
        later[7] |= 1;
        let mut rows = vec![
            about((from, host(is_v6, 1)), said, &quote),
            about((from, to_us), said, &quote[..short]),
            about((from, to_us), said, &[]),
            about((from, to_us), if is_v6 { (129, 0, 1) } else { (13, 0, 0) }, &quote),
            about((from, to_us), said, &quote).received_by(shunt::wire::Mac([0xff; 6])),
        ];
        if !is_v6 {
            rows.push(about((from, to_us), (5, 1, 0), &quote));
            rows.push(about((from, to_us), said, &later));
        }
        for row in rows {
            assert_eq!(world.exchange(0, 1, &row.build()), []);
            let punted = world.punt_lane(0).pop().unwrap();
            assert_eq!(shunt::dataplane::io::Packet::data(&punted), row.build());
        }
        assert_eq!(world.drops(), []);
    }
}

/// An error is spread by nothing that has to do with its flow: any worker may get it.
#[test]
fn errors_find_the_owner_from_any_worker() {
    for is_v6 in [false, true] {
        for mode in [Mode::Fullnat, Mode::Nat] {
            for card in [Card::Any, Card::Rss] {
                let mut world = World::new(Plan { workers: 4, card, ..plan(is_v6, is_v6, mode) });
                for port in 1..=12 {
                    let opened = open(&mut world, &ask(is_v6, port, true));
                    for worker in 0..4 {
                        let came = about(&opened, is_v6).build();
                        assert_eq!(world.one(worker, 1, &came).port, 0);
                        let ends = (router(is_v6, false), vip(is_v6).ip());
                        let said = if is_v6 { (3, 0, 0) } else { (11, 0, 0) };
                        let quote = opened.answered.ip_packet();
                        let came = error(packet(), ends, said, &quote).build();
                        assert_eq!(world.one(worker, 0, &came).port, 1);
                    }
                }
                assert_eq!(world.drops(), []);
            }
        }
    }
}

fn ping(is_v6: bool, to: IpAddr) -> Vec<u8> {
    let from = client(is_v6, 0);
    packet().between(from, (to, 0)).icmp(if is_v6 { 128 } else { 8 }, 0, 1).payload(b"ping").build()
}

#[test]
fn a_vip_is_pinged_by_policy_and_the_box_always_answers() {
    for is_v6 in [false, true] {
        let live = |s: &mut Snapshot| s.ping = Ping::Live;
        let dead = |s: &mut Snapshot| {
            s.ping = Ping::Live;
            s.backends.iter_mut().flatten().for_each(|backend| backend.weight = 0);
        };
        let worlds = [
            (edited(is_v6, |s| s.ping = Ping::Always), true),
            (edited(is_v6, |s| s.ping = Ping::Never), false),
            (edited(is_v6, live), true),
            (edited(is_v6, dead), false),
        ];
        for (mut world, answered) in worlds {
            let vip = vip(is_v6).ip();
            assert_eq!(world.exchange(0, 0, &ping(is_v6, vip)), []);
            assert_eq!(world.punted(), usize::from(answered));
            let counted = if answered { vec![] } else { vec![(Reason::Ping, 1)] };
            assert_eq!(world.drops(), counted);
            for to in [host(is_v6, 1), local(is_v6)] {
                world.exchange(0, 0, &ping(is_v6, to));
            }
            assert_eq!(world.punted(), 2 + usize::from(answered), "the box and its local address");
        }
    }
}

/// Neighbour discovery is to IPv6 what ARP is to IPv4: a flood must not silence it.
#[test]
fn neighbor_discovery_gets_through_a_flood() {
    let mut world = edited(true, |snapshot| snapshot.punt_per_second = 10);
    (0..100).for_each(|_| world.arrive(0, 0, &ping(true, host(true, 1))));
    let group = shunt::wire::Mac([0x33, 0x33, 0xff, 0, 0, 7]);
    let solicited: IpAddr = "ff02::1:ff00:7".parse().unwrap();
    let solicitation = packet().macs(CLIENT_MAC, group).ttl(255);
    let solicitation = solicitation.between(client(true, 0), (solicited, 0)).icmp(135, 0, 0);
    world.arrive(0, 0, &solicitation.clone().payload(&[0; 24]).build());
    let advertisement = packet().macs(CLIENT_MAC, OUR_MAC).ttl(255);
    let advertisement = advertisement.between(client(true, 0), vip(true)).icmp(136, 0, 0);
    world.arrive(0, 0, &advertisement.payload(&[0; 24]).build());
    world.poll();
    let mut kinds = vec![];
    while let Some(packet) = world.punt_lane(0).pop() {
        kinds.push(shunt::dataplane::io::Packet::data(&packet)[54]);
    }
    assert_eq!(kinds.len(), 34);
    assert!(kinds.contains(&135) && kinds.contains(&136));
    assert_eq!(world.drops(), [(Reason::PuntLimit, 68)]);
}

/// A reload that changes who makes new connections moves no older one: errors about them find it.
#[test]
fn errors_find_older_connections_when_a_reload_changes_who_makes_new_ones() {
    for (before, card) in
        [(Mode::Fullnat, Card::Rss), (Mode::Fullnat, Card::Any), (Mode::Dr, Card::Rss)]
    {
        let plan = Plan { workers: 4, card, ..plan(false, false, before) };
        let mut world = World::new(plan);
        let old: Vec<_> = (4001..=4040)
            .map(|port| {
                (port, world.one(usize::from(port % 4), 0, &ask(false, port, false).build()))
            })
            .collect();
        world.plan.modes = vec![Mode::Nat; 3];
        world.publish(|_| {});
        for (port, first) in &old {
            // From the client's side, about an answer.
            let answer = packet().udp(vip(false), client(false, *port)).payload(b"and back");
            let ends = (router(false, false), vip(false).ip());
            let error = error(packet(), ends, (3, 1, 0), &answer.ip_packet());
            let heard = world.one(usize::from(*port + 1) % 4, 0, &error.build());
            assert_eq!((heard.port, &heard.frame[..6]), (1, &first.frame[..6]), "{before:?}");
        }
        assert_eq!((world.connections(), world.drops()), ([40; 4], vec![]));
    }
}

/// Every service chooses by this scheduler.
pub(crate) fn choosing(scheduler: &'static str) -> impl Fn(&mut Snapshot) {
    move |snapshot| {
        let backends = snapshot.backends.clone();
        for service in snapshot.services.iter_mut().flatten() {
            let found = service.backends.iter().filter_map(|id| backends[id.index()].as_ref());
            let entries: Vec<Entry> = found
                .map(|backend| Entry {
                    address: (backend.address, backend.port).into(),
                    weight: backend.weight,
                    last_weight: backend.weight,
                    server_id: None,
                })
                .collect();
            let scheduler = Scheduler::named(scheduler).unwrap();
            service.scheduling = Scheduling::prepare(scheduler, Flags::default(), &entries);
        }
    }
}

/// Routers that spread packets over boxes may give an error to another box than its flow. If it is told by
/// a hash which backend has the flow, and that answers by itself, the error gets there; nothing is kept.
#[test]
fn an_error_about_another_boxs_flow_goes_where_a_hash_sends_the_flow() {
    let modes = [Mode::Dr, Mode::Tunnel(Encapsulation::Ipip), Mode::Nat, Mode::Fullnat];
    let pairs = ["mh", "sh", "dh", "rr"].into_iter().flat_map(|s| modes.map(|mode| (s, mode)));
    for (scheduler, mode) in pairs {
        for is_v6 in [false, true] {
            let [mut has_it, mut other] = [0, 1].map(|_| {
                let mut world = World::new(plan(is_v6, is_v6, mode));
                world.publish(choosing(scheduler));
                world
            });
            let knows = scheduler != "rr" && matches!(mode, Mode::Dr | Mode::Tunnel(_));
            let mut backends = BTreeSet::new();
            for n in 0..20 {
                let (client, vip) = (SocketAddr::new(host(is_v6, 100 + n), 4000), vip(is_v6));
                let syn = packet().tcp(client, vip).flags(2);
                let sent = has_it.one(0, 0, &syn.build());
                backends.insert(sent.frame[..6].to_vec());
                let answer = packet().tcp(vip, client).payload(b"by itself");
                let said = if is_v6 { (2, 0, 1280) } else { (3, 4, 1300) };
                let ends = (router(is_v6, false), vip.ip());
                let came = error(packet(), ends, said, &answer.ip_packet()).build();
                let got = other.exchange(0, 0, &came);
                let expected = if knows { has_it.exchange(0, 0, &came) } else { vec![] };
                let frames =
                    |sent: Vec<Sent>| sent.into_iter().map(|s| s.frame).collect::<Vec<_>>();
                let (got, expected) = (frames(got), frames(expected));
                assert_eq!(got.len(), usize::from(knows), "{scheduler} {mode:?}");
                assert!(got.iter().all(|frame| frame[..6] == sent.frame[..6]));
                if mode == Mode::Dr {
                    assert_eq!(got, expected, "as the box that has it sends it");
                }
            }
            let refused = if knows { vec![] } else { vec![(Reason::NoConnection, 20)] };
            assert_eq!(other.drops(), refused, "{scheduler} {mode:?}");
            assert_eq!(other.connections()[0], 0);
            assert!(scheduler == "dh" || backends.len() > 1, "{scheduler} chooses");
            let loads = other.plan.weights.len();
            for id in 0..u32::try_from(loads).unwrap() {
                assert_eq!(other.stats[0].loads.of(BackendId(id)).total, 0, "no place is kept");
            }
        }
    }
}
