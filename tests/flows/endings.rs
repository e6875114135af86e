//! Connections that end here and not by their ends: both ends hear of it, with numbers they believe.

use std::net::SocketAddr;

use proptest::prelude::*;
use shunt::dataplane::conn::state::flags::{ACK, FIN, PSH, RST, SYN};
use shunt::dataplane::snapshot::{
    ClientAddress, Encapsulation, IcmpOnEnd, Mode, Protocol, Snapshot, SynCookies,
};
use shunt::dataplane::verdict::Reason;
use shunt::ids::BackendId;

use crate::cookies;
use crate::endpoints::{End, Segment};
use crate::introduce::Families::{self, Nat64, V4, V6};
use crate::introduce::{TOA, V1, V2, ends, inserted};
use crate::life::{answer, client, from_client, open};
use crate::packets::builder::chunk;
use crate::packets::oracle::judge_any;
use crate::packets::{CLIENT, CLIENT_MAC, OUR_INNER_MAC, OUR_MAC, VIP, packet};
use crate::shop::{Ip, second, shop, stall};
use crate::world::{Plan, Sent, World, backend_mac};

/// Connections last ten seconds, and one backend is there or not.
fn terms(snapshot: &mut Snapshot) {
    snapshot.reset_on_end = true;
    snapshot.icmp_on_end = IcmpOnEnd::Always;
    snapshot.timeouts.tcp_established_s = 10;
    snapshot.timeouts.sctp_established_s = 10;
    snapshot.timeouts.tcp_close_wait_s = 10;
}

fn told(world: &World) -> [u64; 2] {
    let sum = |f: &dyn Fn(&shunt::stats::counters::WorkerStats) -> u64| {
        world.stats.iter().map(|stats| f(stats)).sum()
    };
    [sum(&|stats| stats.run.ends_told.get()), sum(&|stats| stats.run.ends_untold.get())]
}

/// Two hosts with a connection through the balancer, all that was sent having arrived.
struct Pair {
    families: Families,
    how: ClientAddress,
    world: World,
    client: End,
    server: End,
}

impl Pair {
    fn new(
        (families, how, mode, cookies): (Families, ClientAddress, Mode, SynCookies),
        workers: u8,
        start: u32,
    ) -> Self {
        let (ours, vip) = ends(families);
        let server = match families {
            V6 => "[2001:db8:44::11]:8080".parse().unwrap(),
            V4 | Nat64 => "10.44.0.11:8080".parse().unwrap(),
        };
        let plan = Plan { workers, weights: vec![Some(1)], modes: vec![mode], ..Plan::default() };
        let text = |length: usize| vec![0x2e; length];
        let mut pair = Self {
            families,
            how,
            world: cookies::world(plan, families, how, cookies, terms),
            client: End::client(ours, vip, start, &text(200)),
            server: End::server(server, start.rotate_left(9), &text(150)),
        };
        pair.carry(0, pair.client.syn(&[]));
        pair.carry(0, pair.client.ack());
        pair
    }

    /// A frame arrives, and all that follows from it.
    fn carry(&mut self, port: usize, frame: Vec<u8>) {
        let mut waiting = vec![(port, frame)];
        while let Some((port, frame)) = waiting.pop() {
            let worker = waiting.len() % self.world.stats.len();
            for sent in self.world.exchange(worker, port, &frame) {
                let inserted = inserted(self.how, self.families);
                let (end, other, extra) = match sent.port {
                    0 => (&mut self.client, &self.server, inserted),
                    _ => (&mut self.server, &self.client, 0),
                };
                let answers = end.receive(&sent.frame, &other.inbox, extra);
                waiting.extend(answers.into_iter().map(|frame| (sent.port, frame)));
            }
        }
    }

    /// Both say something, not their last.
    fn talk(&mut self, at: usize) {
        self.carry(0, self.client.send(at));
        self.carry(1, self.server.send(at));
    }

    /// The RSTs that left: to the client, to the backend, each with the very number its receiver
    /// waits for.
    fn assert_told(&mut self, sent: &[Sent]) {
        assert_eq!(sent.len(), 2, "{:?} {:?}", sent, self.world.drops());
        for (port, (own, mac)) in
            [(&self.client, CLIENT_MAC), (&self.server, backend_mac(11))].into_iter().enumerate()
        {
            let frame = &sent.iter().find(|sent| sent.port == port).expect("each side").frame;
            let reset = Segment::read(frame);
            let awaited = Segment::read(&own.ack());
            // Where that is 0, one more: 0 stands for nothing.
            let number = awaited.ack.max(1);
            assert_eq!((reset.flags, reset.sequence), (RST, number), "port {port}");
            assert_eq!((reset.source, reset.destination), (awaited.destination, awaited.source));
            let from = if port == 0 { OUR_MAC } else { OUR_INNER_MAC };
            assert_eq!(frame[..12], [mac.0, from.0].concat());
        }
        assert_eq!(told(&self.world), [2, 0]);
        assert_eq!(self.world.connections(), [0; 4]);
    }

    fn remove_backend(&mut self) {
        let (families, how) = (self.families, self.how);
        self.world.plan.weights = vec![None];
        cookies::publish(&mut self.world, families, how, SynCookies::Never, terms);
    }
}

type Kind = (Families, ClientAddress, Mode, SynCookies);

fn kinds() -> Vec<Kind> {
    let none = ClientAddress::None;
    let mut kinds = vec![];
    for cookies in [SynCookies::Never, SynCookies::Always] {
        for families in [V4, V6, Nat64] {
            kinds.extend([none, V1, V2, TOA].map(|how| (families, how, Mode::Fullnat, cookies)));
        }
        for families in [V4, V6] {
            kinds.extend([none, V2].map(|how| (families, how, Mode::Nat, cookies)));
        }
    }
    kinds
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Whatever the families, the mode, what is inserted, whoever shook hands: each end's own next
    /// number, as it is on its side.
    #[test]
    fn silence_ends_with_a_reset_to_both_ends(
        kind in prop::sample::select(kinds()),
        workers in prop::sample::select(vec![1u8, 2, 4]),
        start in prop_oneof![any::<u32>(), u32::MAX - 300..=u32::MAX],
        talks in 0usize..3,
    ) {
        let mut pair = Pair::new(kind, workers, start);
        (0..talks).for_each(|turn| pair.talk(40 * turn));
        pair.world.wait(9);
        prop_assert_eq!(pair.world.sent(), vec![]);
        pair.world.wait(4);
        let sent = pair.world.sent();
        pair.assert_told(&sent);
        prop_assert_eq!(pair.world.drops(), vec![]);
    }

    #[test]
    fn a_removed_backends_connections_end_with_a_reset_to_both_ends(
        kind in prop::sample::select(kinds()),
        workers in prop::sample::select(vec![1u8, 2, 4]),
        start: u32,
    ) {
        let mut pair = Pair::new(kind, workers, start);
        pair.talk(0);
        pair.remove_backend();
        pair.world.wait(4);
        let sent = pair.world.sent();
        pair.assert_told(&sent);
    }

    /// Who speaks first is answered, and the other hears of it at once.
    #[test]
    fn who_speaks_after_the_removal_is_answered_and_the_other_told(
        kind in prop::sample::select(kinds()),
        of_client: bool,
        start: u32,
    ) {
        let mut pair = Pair::new(kind, 1, start);
        pair.talk(0);
        pair.remove_backend();
        let (port, frame) =
            if of_client { (0, pair.client.send(40)) } else { (1, pair.server.send(40)) };
        let sent = pair.world.exchange(0, port, &frame);
        prop_assert_eq!(pair.world.drops(), vec![(Reason::BackendGone, 1)]);
        prop_assert_eq!(sent.len(), 2);
        for sent in sent {
            let (speaker, own) = match sent.port {
                0 => (of_client, &pair.client),
                _ => (!of_client, &pair.server),
            };
            // The one answered is answered by what it sent; its next number is what it has.
            let expected = Segment::read(&own.ack()).ack;
            let reset = Segment::read(&sent.frame);
            prop_assert!(reset.has(RST));
            prop_assert_eq!(reset.sequence, expected, "speaker: {}", speaker);
        }
        prop_assert_eq!(pair.world.connections(), [0; 4]);
    }
}

fn after(world: &mut World, seconds: u32) -> Vec<Sent> {
    world.wait(seconds);
    world.sent()
}

#[test]
fn half_closed_connections_are_ended_too_and_closed_ones_are_not() {
    for (flags, is_told) in [(None, true), (Some(FIN | ACK), true), (Some(RST), false)] {
        let mut world = World::new(Plan::default());
        world.publish(terms);
        open(&mut world, CLIENT);
        if let Some(flags) = flags {
            world.one(0, 0, &from_client(CLIENT, flags));
        }
        let sent = after(&mut world, 15);
        assert_eq!(sent.len(), if is_told { 2 } else { 0 }, "{flags:?}");
        assert_eq!(world.connections(), [0; 4]);
    }
}

#[test]
fn nobody_is_told_of_what_was_never_agreed_on_or_answered_or_where_it_is_off() {
    type Case = (&'static str, fn(&mut World));
    let cases: [Case; 6] = [
        ("half open", |world| {
            let syn = world.one(0, 0, &from_client(CLIENT, SYN));
            world.one(0, 1, &answer(&syn, SYN | ACK));
        }),
        ("UDP that nobody answered", |world| {
            world.one(0, 0, &packet().udp(CLIENT, VIP).payload(b"?").build());
        }),
        ("UDP that nobody answered, whose client goes on", |world| {
            for _ in 0..3 {
                world.one(0, 0, &packet().udp(CLIENT, VIP).payload(b"?").build());
            }
        }),
        ("UDP where it is off", |world| {
            let sent = world.one(0, 0, &packet().udp(CLIENT, VIP).payload(b"?").build());
            world.one(0, 1, &second(Protocol::Udp, &sent));
            world.publish(|snapshot| {
                terms(snapshot);
                snapshot.icmp_on_end = IcmpOnEnd::Never;
            });
        }),
        ("UDP, each datagram by itself", |world| {
            world.publish(|snapshot| {
                terms(snapshot);
                snapshot.services[1].as_mut().unwrap().one_packet = true;
            });
            let sent = world.one(0, 0, &packet().udp(CLIENT, VIP).payload(b"?").build());
            world.one(0, 1, &second(Protocol::Udp, &sent));
        }),
        ("off", |world| {
            open(world, CLIENT);
            world.publish(|snapshot| {
                terms(snapshot);
                snapshot.reset_on_end = false;
            });
        }),
    ];
    for (name, case) in cases {
        let mut world = World::new(Plan::default());
        world.publish(terms);
        case(&mut world);
        assert_eq!(after(&mut world, 310), [], "{name}");
        assert_eq!((told(&world), world.connections()), ([0; 2], [0; 4]), "{name}");
    }
}

#[test]
fn where_answers_do_not_pass_nobody_is_told() {
    for mode in [Mode::Dr, Mode::Tunnel(Encapsulation::Ipip)] {
        for removed in [false, true] {
            let mut world = World::new(Plan { modes: vec![mode; 3], ..Plan::default() });
            world.publish(terms);
            world.one(0, 0, &from_client(CLIENT, SYN));
            world.one(0, 0, &from_client(CLIENT, ACK));
            if removed {
                world.plan.weights = vec![None; 3];
                world.publish(terms);
            }
            assert_eq!(after(&mut world, 15), [], "{mode:?}");
            assert_eq!(world.connections(), [0; 4]);
        }
    }
}

#[test]
fn an_associations_ends_are_aborted_under_their_tags() {
    const TO_BACKEND: u32 = 0x0b0b_0b0b;
    const TO_CLIENT: u32 = 0x0c0c_0c0c;
    for ip in [Ip::V4, Ip::V6] {
        for mode in [Mode::Fullnat, Mode::Nat] {
            let address = (ip.vip(1), shunt::dataplane::snapshot::Ports::one(2905));
            let stalls = [crate::shop::Stall { mode, ..stall(Protocol::Sctp, &[address]) }];
            let mut world = shop(Plan::default(), &stalls);
            world.publish(|snapshot| {
                crate::shop::furnish(snapshot, &stalls);
                terms(snapshot);
            });
            let (client, vip) = (ip.client(5000), SocketAddr::new(ip.vip(1), 2905));
            let ask = |tag: u32, kind: u8| {
                packet().sctp(client, vip, tag).payload(&chunk(kind, 0, &[kind; 16])).build()
            };
            let got = world.one(0, 0, &ask(0, 1));
            let back = |kind: u8| {
                let seen = judge_any(&got.frame).unwrap();
                let from = SocketAddr::new(seen.destination, seen.ports.1);
                let to = SocketAddr::new(seen.source, seen.ports.0);
                let said = packet().sctp(from, to, TO_CLIENT).payload(&chunk(kind, 0, &[kind; 16]));
                said.macs(backend_mac(11), OUR_INNER_MAC).build()
            };
            world.one(0, 1, &back(2));
            world.one(0, 0, &ask(TO_BACKEND, 10));
            world.one(0, 1, &back(11));
            let sent = after(&mut world, 14);
            assert_eq!(sent.len(), 2, "{ip:?} {mode:?}");
            for sent in sent {
                let seen = judge_any(&sent.frame).unwrap();
                assert!(seen.ip_right && seen.l4_right, "{ip:?} {mode:?}");
                let (tag, to) = match sent.port {
                    0 => (TO_CLIENT, client.ip()),
                    _ => (TO_BACKEND, ip.inner(11)),
                };
                let sctp = &sent.frame[14 + ip.header()..];
                assert_eq!(sctp[4..8], tag.to_be_bytes(), "{ip:?} {mode:?} {}", sent.port);
                assert_eq!(sctp[12..], [6, 0, 0, 4], "ABORT, no cause");
                assert_eq!(seen.destination, to);
            }
        }
    }
}

/// How a flow of UDP ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ends {
    Silence,
    Removal,
    Clear,
}

/// To each end the error about an empty datagram of its own, every checksum right (an independent reader says
/// so), over the link it is reached by; by silence only where that is wanted.
#[test]
fn both_ends_of_a_flow_of_udp_hear_of_a_closed_port() {
    let both = |mode| [(Ip::V4, Ip::V4, mode), (Ip::V6, Ip::V6, mode)];
    let ways = [both(Mode::Fullnat), both(Mode::Nat)].concat();
    for (ip, inner, mode) in ways.into_iter().chain([(Ip::V6, Ip::V4, Mode::Fullnat)]) {
        for icmp in [IcmpOnEnd::Always, IcmpOnEnd::Removal] {
            for end in [Ends::Silence, Ends::Removal, Ends::Clear] {
                let is_told = end != Ends::Silence || icmp == IcmpOnEnd::Always;
                let case = format!("{ip:?} {inner:?} {mode:?} {icmp:?} {end:?}");
                a_flow_of_udp_ends((ip, inner, mode), icmp, end, is_told, &case);
            }
        }
    }
}

fn a_flow_of_udp_ends(
    (ip, inner, mode): (Ip, Ip, Mode),
    icmp: IcmpOnEnd,
    end: Ends,
    is_told: bool,
    case: &str,
) {
    let address = (ip.vip(1), shunt::dataplane::snapshot::Ports::one(53));
    let stalls = [crate::shop::Stall { mode, ..stall(Protocol::Udp, &[address]) }];
    let mut world = shop(Plan::default(), &stalls);
    let furnished = |snapshot: &mut Snapshot| {
        crate::shop::furnish(snapshot, &stalls);
        terms(snapshot);
        let backend = snapshot.backends[0].as_mut().unwrap();
        (backend.address, backend.our_address) = (inner.inner(11), inner.inner(1));
        snapshot.icmp_on_end = icmp;
        snapshot.timeouts.udp_s = 10;
    };
    world.publish(furnished);
    let (client, vip) = (ip.client(5000), SocketAddr::new(ip.vip(1), 53));
    let got = world.one(0, 0, &packet().udp(client, vip).payload(b"question").build());
    let seen = judge_any(&got.frame).unwrap();
    let (peer, backend) = ((seen.source, seen.ports.0), (seen.destination, seen.ports.1));
    world.one(0, 1, &second(Protocol::Udp, &got));
    let sent = match end {
        Ends::Silence => after(&mut world, 14),
        Ends::Clear => world.clear(&[BackendId(0)]).1,
        Ends::Removal => {
            world.publish(|snapshot| {
                furnished(snapshot);
                let hop = snapshot.backends[0].take().unwrap().next_hop.unwrap();
                snapshot.departed = [(BackendId(0), hop)].into();
            });
            after(&mut world, 4)
        }
    };
    assert_eq!((sent.len(), world.connections()), (if is_told { 2 } else { 0 }, [0; 4]), "{case}");
    for sent in sent {
        let (ip, from, to) = match sent.port {
            0 => (ip, vip, client),
            _ => (inner, peer.into(), backend.into()),
        };
        let seen = judge_any(&sent.frame).unwrap();
        assert!(seen.ip_right && seen.l4_right, "{case}");
        assert_eq!((seen.source, seen.destination), (from.ip(), to.ip()), "{case}");
        let message = &sent.frame[14 + ip.header()..];
        let unreachable = if ip == Ip::V4 { [3, 3] } else { [1, 4] };
        assert_eq!(message[..2], unreachable, "{case}");
        // What is quoted is a datagram of the receiver's.
        let quoted = judge_any(&[&sent.frame[..14], &message[8..]].concat()).unwrap();
        assert!(quoted.ip_right && quoted.l4_right, "{case}");
        assert_eq!((quoted.source, quoted.ports.0), (to.ip(), to.port()), "{case}");
        assert_eq!((quoted.destination, quoted.ports.1), (from.ip(), from.port()), "{case}");
    }
}

/// Where a PROXY header is in the stream, a SYN that nobody agreed to leaves no room for what the client said
/// last: it may be anybody's. So he hears with his next packet; the backend hears at once.
#[test]
fn after_a_forged_syn_into_a_stream_with_a_header_the_client_hears_when_it_speaks() {
    let mut pair = Pair::new((V4, V1, Mode::Fullnat, SynCookies::Never), 1, 77);
    pair.talk(0);
    let (ours, vip) = ends(V4);
    let forged = packet().tcp(ours, vip).flags(SYN).numbers(0x0f0f_0f0f, 0).build();
    assert_eq!(pair.world.exchange(0, 0, &forged).len(), 1, "the backend will challenge it");
    pair.remove_backend();
    let sent = after(&mut pair.world, 4);
    let told: Vec<usize> = sent.iter().map(|sent| sent.port).collect();
    assert_eq!(told, [1], "{:?}", pair.world.drops());
    let reset = Segment::read(&pair.world.one(0, 0, &pair.client.send(40)).frame);
    assert!(reset.has(RST));
    assert_eq!(reset.sequence, Segment::read(&pair.client.ack()).ack);
}

#[test]
fn a_removed_backends_udp_clients_go_elsewhere_or_hear_that_there_is_nobody() {
    let ask = || packet().udp(CLIENT, VIP).payload(b"question").build();
    let mut world = World::new(Plan::default());
    world.publish(terms);
    let first = world.one(0, 0, &ask());
    let chosen = usize::from(first.frame[5] - 11);
    world.plan.weights[chosen] = None;
    world.publish(terms);
    let next = world.one(0, 0, &ask());
    assert!(next.port == 1 && next.frame[5] != first.frame[5], "another backend, at once");
    world.plan.weights = vec![None; 3];
    world.publish(terms);
    let nobody = world.one(0, 0, &ask());
    let icmp = &nobody.frame[34..36];
    assert_eq!((nobody.port, icmp), (0, &[3, 3][..]), "port unreachable");
    assert_eq!(world.drops(), [(Reason::NoBackend, 1)]);
}

/// More end at once than may be told: the others end in silence, are counted, and are answered when
/// they speak.
#[test]
fn there_is_a_limit_and_who_was_not_told_is_answered() {
    let mut world = World::new(Plan { capacity: 16_384, lane: 16_384, ..Plan::default() });
    world.publish(terms);
    for port in 1_001..=9_000 {
        open(&mut world, client(port));
    }
    world.now_ms += 20_000;
    for _ in 0..2_000 {
        world.poll();
    }
    let sent = world.sent().len();
    let [ends, untold] = told(&world);
    assert_eq!((u64::try_from(sent).unwrap(), ends / 2 + untold), (ends, 8_000));
    assert_eq!(ends / 2, 5_000, "a tenth of a second's worth");
    let stray = world.one(0, 0, &from_client(client(1_007), PSH | ACK));
    assert!(Segment::read(&stray.frame).has(RST));
}
