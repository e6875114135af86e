//! Every refusal: its packet, its counter, and what the sender is told.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;

use shunt::dataplane::access::{ListSet, Listed, Network};
use shunt::dataplane::conn::index::Seed;
use shunt::dataplane::conn::key::FlowKey;
use shunt::dataplane::conn::state::flags::{ACK, FIN, PSH, SYN};
use shunt::dataplane::frag::HELD_MAX;
use shunt::dataplane::io::memory::VecPacket;
use shunt::dataplane::io::{ChecksumVerdict, RxInfo};
use shunt::dataplane::snapshot::{
    Encapsulation, Mode, Ping, Protocol, ServiceAddress, Snapshot, Strays, SynCookies,
};
use shunt::dataplane::verdict::Reason;
use shunt::ids::PortId;
use shunt::wire::vlan::{Tags, Vid};

use crate::endpoints::Segment;
use crate::life::{answer, client, from_client, open};
use crate::packets::{self, CLIENT, Endpoint, Expect, OUR_INNER_MAC, VIP, packet};
use crate::quotas::{fast, most, of_service, of_source, twice};
use crate::world::{Plan, World, backend_mac, host};

/// What the sender of a refused packet gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Nothing,
    Reset,
    PortUnreachable,
    TimeExceeded,
    FragmentationNeeded,
}

fn told(frames: &[crate::world::Sent]) -> Told {
    match frames {
        [] => Told::Nothing,
        [sent] if sent.frame[23] == 6 && sent.frame[47] & 4 != 0 => Told::Reset,
        [sent] if sent.frame[23] == 1 => match sent.frame[34..36] {
            [3, 3] => Told::PortUnreachable,
            [3, 4] => Told::FragmentationNeeded,
            [11, 0] => Told::TimeExceeded,
            _ => panic!("an ICMP error that is not in the list: {sent:?}"),
        },
        other => panic!("neither silence, nor RST, nor port unreachable: {other:?}"),
    }
}

/// A refusal: what was there before, what comes, and what follows.
struct Case {
    name: &'static str,
    reason: Reason,
    told: Told,
    run: fn() -> (World, Vec<crate::world::Sent>),
}

fn after(plan: Plan, frame: &[u8]) -> (World, Vec<crate::world::Sent>) {
    let mut world = World::new(plan);
    let sent = world.exchange(0, 0, frame);
    (world, sent)
}

fn with(edit: fn(&mut Snapshot), frame: &[u8]) -> (World, Vec<crate::world::Sent>) {
    let mut world = World::new(Plan::default());
    world.publish(edit);
    let sent = world.exchange(0, 0, frame);
    (world, sent)
}

fn syn() -> Vec<u8> {
    from_client(CLIENT, SYN)
}

fn elsewhere(port: u16) -> Endpoint {
    (VIP.0, port)
}

fn deny_all(snapshot: &mut Snapshot) {
    let all = Network { base: Ipv4Addr::UNSPECIFIED.into(), length: 0, lists: ListSet::of(0) };
    snapshot.members = Some(Arc::new(Listed(vec![all])));
    for service in snapshot.services.iter_mut().flatten() {
        service.access.deny = ListSet::of(0);
    }
}

fn cookies(snapshot: &mut Snapshot) {
    let services = snapshot.services.iter_mut().flatten();
    let tcp = services.filter(|service| service.protocol == Protocol::Tcp);
    tcp.for_each(|service| service.syn_cookies = SynCookies::Always);
}

fn syn_of(client: Endpoint) -> Vec<u8> {
    packet().tcp(client, VIP).flags(SYN).numbers(0, 0).build()
}

/// A cookie comes back so late, in a segment so far behind the first; what else happens then. What
/// goes to a backend is no answer.
fn cookie_back(
    late_ms: u32,
    behind: u32,
    then: fn(&mut World, u32),
) -> (World, Vec<crate::world::Sent>) {
    let mut world = World::new(Plan::default());
    world.now_ms = 65_536 * 8;
    world.publish(cookies);
    let told = Segment::read(&world.one(0, 0, &syn_of(CLIENT)).frame);
    world.now_ms += late_ms;
    let number = told.sequence.wrapping_add(1);
    let ack = packet().tcp(CLIENT, VIP).numbers(1 + behind, number).flags(ACK).build();
    let mut sent = world.exchange(0, 0, &ack);
    sent.retain(|sent| sent.port == 0);
    then(&mut world, number);
    (world, sent)
}

/// A connection whose backend then leaves; what the next packet of `side` gets.
fn gone(
    frame: fn(&crate::world::Sent) -> Vec<u8>,
    port: usize,
) -> (World, Vec<crate::world::Sent>) {
    let mut world = World::new(Plan::default());
    let there = open(&mut world, CLIENT);
    world.plan.weights = vec![None; 3];
    world.publish(|_| {});
    let sent = world.exchange(0, port, &frame(&there));
    (world, sent)
}

#[expect(clippy::too_many_lines, reason = "a table: a row for each refusal")]
fn cases() -> Vec<Case> {
    use Told::{FragmentationNeeded, Nothing, PortUnreachable, Reset, TimeExceeded};
    let case = |name, reason, told, run| Case { name, reason, told, run };
    vec![
        case("TCP to a port without service", Reason::NoService, Reset, || {
            after(Plan::default(), &packet().tcp(CLIENT, elsewhere(81)).flags(SYN).build())
        }),
        case("UDP to a port without service", Reason::NoService, PortUnreachable, || {
            after(Plan::default(), &packet().udp(CLIENT, elsewhere(81)).payload(b"?").build())
        }),
        case("the same, when strays are dropped", Reason::NoService, Nothing, || {
            let frame = packet().tcp(CLIENT, elsewhere(81)).flags(SYN).build();
            with(|s| s.strays = Strays::Drop, &frame)
        }),
        case("an ACK of no connection", Reason::NoConnection, Reset, || {
            after(Plan::default(), &from_client(CLIENT, ACK))
        }),
        case("a null segment of no connection", Reason::NoConnection, Reset, || {
            after(Plan::default(), &from_client(CLIENT, 0))
        }),
        case("a RST of no connection", Reason::NoConnection, Nothing, || {
            after(Plan::default(), &from_client(CLIENT, 4))
        }),
        case("a backend's segment of no connection", Reason::NoConnection, Reset, || {
            let mut world = World::new(Plan::default());
            let local = (world.plan.locals[0], 4000);
            let stray = packet().macs(backend_mac(11), OUR_INNER_MAC);
            let stray = stray.tcp(packets::BACKEND, local).flags(ACK).build();
            let sent = world.exchange(0, 1, &stray);
            (world, sent)
        }),
        case("a scan", Reason::TcpFlags, Nothing, || {
            with(|snapshot| snapshot.drop_malformed_tcp = true, &from_client(CLIENT, SYN | FIN))
        }),
        case("a reflected datagram", Reason::ReflectionPort, Nothing, crate::suspects::reflected),
        case("a full service", Reason::ServiceFull, Nothing, || twice(of_service(most(1)))),
        case("a service asked too fast", Reason::ServiceRate, Nothing, || {
            twice(of_service(fast(1, 1)))
        }),
        case("a full source", Reason::SourceFull, Nothing, || twice(of_source(most(1)))),
        case("a source too fast", Reason::SourceRate, Nothing, || twice(of_source(fast(1, 1)))),
        case("a client on a denied list", Reason::Denied, Nothing, || with(deny_all, &syn())),
        case("no backend with weight", Reason::NoBackend, PortUnreachable, || {
            let plan = Plan { weights: vec![Some(0), Some(0)], ..Plan::default() };
            after(plan, &syn())
        }),
        case("a backend that is its own client", Reason::Hairpin, PortUnreachable, || {
            let (weights, modes) = (vec![Some(1)], vec![Mode::Nat]);
            let ask = packet().tcp((Ipv4Addr::new(10, 44, 0, 11), 5), VIP).flags(SYN);
            after(Plan { weights, modes, ..Plan::default() }, &ask.build())
        }),
        case("a client whose backend left", Reason::BackendGone, Reset, || {
            gone(|_| from_client(CLIENT, PSH | ACK), 0)
        }),
        case("a backend that left but still talks", Reason::BackendGone, Reset, || {
            gone(|there| answer(there, ACK), 1)
        }),
        case("a new connection while draining", Reason::Draining, Nothing, || {
            with(|s| s.accepting = false, &syn())
        }),
        case("a full table", Reason::TableFull, Nothing, || {
            let mut world = World::new(Plan { capacity: 2, ..Plan::default() });
            for port in [1, 2] {
                world.one(0, 0, &from_client(client(port), SYN));
                world.one(0, 0, &from_client(client(port), ACK));
            }
            let sent = world.exchange(0, 0, &syn());
            (world, sent)
        }),
        case("keys aimed at one bucket", Reason::IndexFull, Nothing, index_full),
        case("an ACK without a cookie", Reason::CookieBad, Reset, || {
            with(cookies, &from_client(CLIENT, ACK))
        }),
        case("a cookie of minutes ago", Reason::CookieOld, Reset, || {
            cookie_back(140_000, 0, |_, _| {})
        }),
        case("a segment before the one with the cookie", Reason::CookieEarly, Nothing, || {
            cookie_back(0, 5, |_, _| {})
        }),
        case(
            "more connections by cookies than there is room for",
            Reason::CookieFull,
            Nothing,
            || {
                let mut world = World::new(Plan { capacity: 1, ..Plan::default() });
                world.publish(cookies);
                let told = Segment::read(&world.one(0, 0, &syn_of(client(1))).frame);
                let ack = packet().tcp(client(1), VIP).numbers(1, told.sequence.wrapping_add(1));
                world.one(0, 0, &ack.build());
                let sent = world.exchange(0, 0, &syn_of(CLIENT));
                (world, sent)
            },
        ),
        case("data before the backend has answered", Reason::CookieHeld, Nothing, || {
            cookie_back(0, 0, |world, number| {
                let again = packet().tcp(CLIENT, VIP).flags(SYN).numbers(0, number).build();
                world.exchange(0, 0, &again);
                world.sent();
            })
        }),
        case("local ports used up", Reason::LocalPorts, Nothing, local_ports),
        case("a backend the kernel cannot resolve", Reason::NextHop, Nothing, || {
            let unresolved = |s: &mut Snapshot| {
                s.backends.iter_mut().flatten().for_each(|backend| backend.next_hop = None);
            };
            with(unresolved, &syn())
        }),
        case("a last hop", Reason::TtlExpired, TimeExceeded, || {
            after(Plan::default(), &packet().tcp(CLIENT, VIP).flags(SYN).ttl(1).build())
        }),
        case("a last hop in a connection", Reason::TtlExpired, TimeExceeded, || {
            let mut world = World::new(Plan::default());
            open(&mut world, CLIENT);
            let late = packet().tcp(CLIENT, VIP).flags(ACK).ttl(1).build();
            let sent = world.exchange(0, 0, &late);
            (world, sent)
        }),
        case("a SYN a switch flooded", Reason::OtherStation, Nothing, || {
            after(
                Plan::default(),
                &packet().macs(packets::CLIENT_MAC, backend_mac(9)).tcp(CLIENT, VIP).build(),
            )
        }),
        case("a tag nobody has", Reason::Vlan, Nothing, || {
            let tag = Tags { outer: Vid::new(100).unwrap(), inner: None };
            let plan = Plan { tagged: vec![(PortId(0), tag)], ..Plan::default() };
            let frame = syn();
            after(plan, &[&frame[..12], &[0x81, 0, 0, 101], &frame[12..]].concat())
        }),
        case("ARP for somebody else", Reason::OtherStation, Nothing, || {
            after(
                Plan::default(),
                &packet().macs(packets::CLIENT_MAC, backend_mac(9)).ethertype(0x0806).build(),
            )
        }),
        case("longer than the next link carries", Reason::TooBig, FragmentationNeeded, || {
            let frame = packet().tcp(CLIENT, VIP).flags(SYN).payload(&[0; 1500]).build();
            after(Plan::default(), &frame)
        }),
        case("a buffer without room for an outer header", Reason::NoRoom, Nothing, || {
            let modes = vec![Mode::Tunnel(Encapsulation::Ipip); 3];
            let mut world = World::new(Plan { modes, ..Plan::default() });
            let tight = VecPacket::with_headroom(&syn(), 19);
            world.port(0, 0).inbound.push(tight).unwrap();
            world.poll();
            let sent = world.sent();
            (world, sent)
        }),
        case(
            "one client port, two VIPs, one NAT backend",
            Reason::ClientPort,
            Nothing,
            client_port,
        ),
        case("a source that is no host", Reason::IpSource, Nothing, || {
            let source = (Ipv4Addr::new(224, 0, 0, 1), 5);
            after(Plan::default(), &packet().tcp(source, VIP).flags(SYN).build())
        }),
        case("a source that is the VIP itself", Reason::IpSource, Nothing, || {
            after(Plan::default(), &packet().tcp(elsewhere(9), VIP).flags(SYN).build())
        }),
        case("SCTP that begins in pieces", Reason::Fragment, Nothing, || {
            let init = [1, 0, 0, 20, 0, 0, 0, 1, 0, 0, 255, 255, 0, 10, 0, 10, 0, 0, 0, 1];
            let frame = packet().sctp(CLIENT, VIP, 0).payload(&init).flags_fragment(0x2000);
            let mut world = World::new(Plan::default());
            assert_eq!(world.exchange(0, 0, &frame.build()), [], "it waits for the last");
            let last = packet().sctp(CLIENT, VIP, 0).payload(&init).flags_fragment(4);
            let sent = world.exchange(0, 0, &last.build());
            (world, sent)
        }),
        case("a first piece without TCP's flags", Reason::FragmentTiny, Nothing, || {
            let frame = packet().tcp(CLIENT, VIP).flags(SYN).flags_fragment(0x2000).cut(8);
            after(Plan::default(), &frame.build())
        }),
        case("more pieces than may wait", Reason::FragmentLimit, Nothing, || {
            let mut world = World::new(Plan::default());
            let held = u16::try_from(HELD_MAX).unwrap();
            let later = |id| packet().udp(CLIENT, VIP).payload(&[7; 64]).identification(id);
            (0..=held).for_each(|id| world.arrive(0, 0, &later(id).flags_fragment(1).build()));
            world.poll();
            (world, vec![])
        }),
        case("a piece whose first one never comes", Reason::FragmentTimeout, Nothing, || {
            let mut world = World::new(Plan::default());
            let later = packet().udp(CLIENT, VIP).payload(&[7; 64]).flags_fragment(1).build();
            let sent = world.exchange(0, 0, &later);
            world.wait(31);
            (world, sent)
        }),
        case("no buffers for the pieces of a long packet", Reason::Uncut, Nothing, || {
            let mut world = World::new(Plan::default());
            world.publish(|snapshot| snapshot.ports[1].mtu = 576);
            let frame = packet().udp(CLIENT, VIP).flags_fragment(0).payload(&[7; 1000]).build();
            let dry = VecPacket::new(&frame).with_siblings_left(0);
            world.port(0, 0).inbound.push(dry).unwrap();
            world.poll();
            let sent = world.sent();
            (world, sent)
        }),
        case("an error whose checksum is wrong", Reason::IcmpChecksum, Nothing, || {
            let mut world = World::new(Plan::default());
            let there = open(&mut world, CLIENT);
            let error = packet().macs(backend_mac(13), OUR_INNER_MAC);
            let error = error.between(packets::BACKEND, (world.plan.locals[0], 0)).icmp(3, 1, 0);
            let error = error.payload(&there.frame[14..]).l4_wrong_by(1).build();
            let sent = world.exchange(0, 1, &error);
            (world, sent)
        }),
        case("a narrow way, said to us alone", Reason::IcmpUntold, Nothing, || {
            let modes = vec![Mode::Tunnel(Encapsulation::Ipip); 3];
            let mut world = World::new(Plan { modes, ..Plan::default() });
            let frame = packet().udp(CLIENT, VIP).flags_fragment(0).payload(&[7; 1000]).build();
            let there = world.one(0, 0, &frame);
            let (router, ours) = ((host(false, 254), 0), (host(false, 1), 0));
            let error = packet().macs(backend_mac(13), OUR_INNER_MAC).between(router, ours);
            let error = error.icmp(3, 4, 900).payload(&there.frame[14..]).build();
            let sent = world.exchange(0, 1, &error);
            (world, sent)
        }),
        case("a ping nobody shall answer", Reason::Ping, Nothing, || {
            with(|s| s.ping = Ping::Never, &packet().between(CLIENT, VIP).icmp(8, 0, 1).build())
        }),
        case("an IPv6 packet that routes itself on", Reason::Extensions, Nothing, || {
            let plan = Plan { vips: vec![packets::VIP_V6.0.into()], ..Plan::default() };
            let frame = packet().tcp(packets::CLIENT_V6, packets::VIP_V6);
            after(plan, &frame.extension(43, &[0, 0, 1, 0, 0, 0, 0]).build())
        }),
        case("GRE for a VIP", Reason::Protocol, Nothing, || {
            after(Plan::default(), &packet().between(CLIENT, VIP).protocol(47).build())
        }),
        case("a buffer in segments", Reason::Segmented, Nothing, || {
            received(RxInfo { segmented: true, ..RxInfo::default() })
        }),
        case("a checksum the port found wrong", Reason::L4Checksum, Nothing, || {
            received(RxInfo { l4_checksum: ChecksumVerdict::Bad, ..RxInfo::default() })
        }),
        case("an owner that does not keep up", Reason::HandoverFull, Nothing, handover_full),
        case("a packet sent on by mistake", Reason::HandoverLoop, Nothing, handover_loop),
        case("too much for the kernel at once", Reason::PuntLimit, Nothing, || {
            let mut world = World::new(Plan::default());
            world.publish(|s| s.punt_per_second = 10);
            (0..40).for_each(|_| world.arrive(0, 0, &packet().ethertype(0x0806).build()));
            world.poll();
            assert_eq!(world.punted(), 32, "a burst goes through");
            (world, vec![])
        }),
        case("a kernel that does not keep up", Reason::PuntFull, Nothing, || {
            let mut world = World::new(Plan { lane: 4, ..Plan::default() });
            world.now_ms += 1_000;
            for _ in 0..5 {
                world.arrive(0, 0, &packet().ethertype(0x0806).build());
                world.poll();
            }
            assert_eq!(world.punt_lane(0).len(), 4);
            (world, vec![])
        }),
        case("a port that takes no more", Reason::TxFull, Nothing, || {
            let mut world = World::new(Plan { lane: 2, ..Plan::default() });
            for port in 1..=3 {
                world.arrive(0, 0, &from_client(client(port), SYN));
                world.poll();
            }
            let sent = world.sent();
            assert_eq!(sent.len(), 2);
            (world, vec![])
        }),
    ]
}

/// Two services with the same NAT backends: what comes back to a client's port could be either's.
fn client_port() -> (World, Vec<crate::world::Sent>) {
    let modes = vec![Mode::Nat];
    let mut world = World::new(Plan { weights: vec![Some(1)], modes, ..Plan::default() });
    world.publish(|snapshot| {
        let mut second = snapshot.services[0].clone().unwrap();
        second.addresses = [ServiceAddress::one(VIP.0.into(), 81)].into();
        let mut services = snapshot.services.to_vec();
        services.push(Some(second));
        snapshot.services = services.into();
    });
    world.one(0, 0, &syn());
    let sent = world.exchange(0, 0, &packet().tcp(CLIENT, elsewhere(81)).flags(SYN).build());
    (world, sent)
}

fn received(info: RxInfo) -> (World, Vec<crate::world::Sent>) {
    let mut world = World::new(Plan::default());
    let mut frame = VecPacket::new(&syn());
    frame.info = info;
    world.port(0, 0).inbound.push(frame).unwrap();
    world.poll();
    let sent = world.sent();
    (world, sent)
}

/// With the seed known, clients can be made that all fall into one pair of buckets.
fn index_full() -> (World, Vec<crate::world::Sent>) {
    let key = FlowKey::new(6, CLIENT, VIP);
    let blind = Seed([5, u64::from(key.ports) | 6 << 32]);
    let mut world = World::new(Plan { seed: blind, ..Plan::default() });
    let from = |n: u8| from_client(([192, 0, 2, n].into(), CLIENT.1), SYN);
    for n in 1..=16 {
        world.one(0, 0, &from(n));
    }
    let sent = world.exchange(0, 0, &from(17));
    assert_eq!(world.connections(), [16; 4], "nothing is left behind");
    (world, sent)
}

/// One local address, one backend: as many connections as there are ports, and then no more.
fn local_ports() -> (World, Vec<crate::world::Sent>) {
    let plan = Plan { weights: vec![Some(1)], capacity: 70_000, lane: 64, ..Plan::default() };
    let mut world = World::new(plan);
    for n in 0..64_512u32 {
        let [_, _, c, d] = n.to_be_bytes();
        let from = (Ipv4Addr::from([203, 0, c, d]), 7);
        world.arrive(0, 0, &packet().tcp(from, VIP).flags(SYN).build());
        if n % 32 == 31 {
            world.poll();
            assert_eq!(world.sent().len(), 32);
        }
    }
    assert_eq!(world.connections(), [64_512; 4], "every port is used");
    let sent = world.exchange(0, 0, &syn());
    (world, sent)
}

/// Two workers, of which one never polls: its lane fills, and the other counts.
fn handover_full() -> (World, Vec<crate::world::Sent>) {
    let mut world = World::new(Plan { workers: 2, lane: 4, ..Plan::default() });
    for port in 1001..1200 {
        world.arrive(0, 0, &from_client(client(port), SYN));
        world.poll_one(0);
        world.sent();
    }
    (world, vec![])
}

/// A packet that reached worker 1 by handover and is not its own is dropped there, not sent round.
fn handover_loop() -> (World, Vec<crate::world::Sent>) {
    let mut world = World::new(Plan { workers: 2, ..Plan::default() });
    let locals = world.plan.locals[0];
    let strays: Vec<_> = (2000..2100)
        .map(|port| packet().tcp(packets::BACKEND, (locals, port)).flags(4).build())
        .collect();
    // Worker 1 believes that it got them from worker 0.
    for frame in &strays {
        world.hand_to(1, frame);
    }
    world.poll();
    (world, vec![])
}

#[test]
fn every_refusal_is_counted_under_its_reason_and_told_by_policy() {
    for case in cases() {
        let (world, sent) = (case.run)();
        let drops = world.drops();
        assert!(drops.iter().any(|(reason, _)| *reason == case.reason), "{}: {drops:?}", case.name);
        let others = drops.iter().filter(|(reason, _)| *reason != case.reason).count();
        let loose = matches!(case.reason, Reason::HandoverLoop);
        assert!(others == 0 || loose, "{}: nothing else: {drops:?}", case.name);
        assert_eq!(told(&sent), case.told, "{}", case.name);
        let replied: u64 = world.stats.iter().map(|s| s.run.replied.get()).sum();
        assert_eq!(replied, u64::from(case.told != Told::Nothing), "{}", case.name);
    }
}

/// A stray is not a connection refused; a client that finds nobody is.
#[test]
fn refused_connections_are_those_that_would_have_been_new() {
    let refused = |frame: &[u8], weight| {
        let plan = Plan { weights: vec![Some(weight)], ..Plan::default() };
        let (world, _) = after(plan, frame);
        world.stats[0].services[0].all_refused()
    };
    assert_eq!(refused(&from_client(CLIENT, ACK), 1), 0);
    assert_eq!(refused(&syn(), 1), 0);
    assert_eq!(refused(&syn(), 0), 1);
}

/// ARP gets through a flood of other packets for the kernel.
#[test]
fn a_flood_does_not_keep_arp_from_the_kernel() {
    let mut world = World::new(Plan::default());
    world.publish(|snapshot| snapshot.punt_per_second = 10);
    (0..100).for_each(|_| world.arrive(0, 0, &packet().ethertype(0x88cc).build()));
    world.arrive(0, 0, &packet().ethertype(0x0806).build());
    world.poll();
    let mut kinds = vec![];
    while let Some(packet) = world.punt_lane(0).pop() {
        kinds.push(shunt::dataplane::io::Packet::data(&packet)[12..14].to_vec());
    }
    assert_eq!(kinds.len(), 33);
    assert!(kinds.contains(&vec![8, 6]));
}

/// Rows of the packet table are refused by a whole worker as parsing alone refuses them.
#[test]
fn malformed_packets_are_counted_under_their_reason() {
    for row in packets::rows() {
        let Expect::Drop(reason) = row.expect else { continue };
        let mut world = World::new(Plan::default());
        let mut packet = VecPacket::new(&row.packet.build());
        packet.info = row.info;
        world.port(0, 0).inbound.push(packet).unwrap();
        world.poll();
        assert_eq!(world.drops(), [(reason, 1)], "{}", row.name);
        assert_eq!(world.sent(), [], "{}", row.name);
    }
}

/// No reason without a test: what the two tests above see is the whole list.
#[test]
fn every_reason_has_a_case() {
    let parsed = packets::rows().into_iter().filter_map(|row| match row.expect {
        Expect::Drop(reason) => Some(reason),
        _ => None,
    });
    let seen: BTreeSet<_> = parsed.chain(cases().iter().map(|case| case.reason)).collect();
    let all: BTreeSet<_> = Reason::ALL.iter().copied().collect();
    assert_eq!(seen, all);
}

/// UDP has no end: when its backend leaves, the next datagram finds another one.
#[test]
fn udp_whose_backend_left_is_scheduled_anew() {
    let mut world = World::new(Plan::default());
    let ask = packet().udp(CLIENT, VIP).payload(b"question").build();
    let first = packets::oracle::judge(&world.one(0, 0, &ask).frame).unwrap().destination;
    world.plan.weights[usize::from(first.octets()[3] - 11)] = None;
    world.publish(|_| {});
    let second = packets::oracle::judge(&world.one(0, 0, &ask).frame).unwrap().destination;
    assert_ne!(first, second);
    assert_eq!((world.connections(), world.drops()), ([1; 4], vec![]));
}

/// What is not the balancer's goes to the kernel, whole and unchanged.
#[test]
fn other_traffic_is_the_kernels() {
    let own = (Ipv4Addr::new(192, 0, 2, 1), 22);
    let frames = [
        ("ARP", packet().ethertype(0x0806).build()),
        ("LLDP", packet().ethertype(0x88cc).build()),
        ("ssh to the box", packet().tcp(CLIENT, own).flags(SYN).build()),
        ("ping of the VIP", packet().between(CLIENT, VIP).icmp(8, 0, 1).build()),
        ("a fragment for the box", packet().udp(CLIENT, own).flags_fragment(0x2000).build()),
    ];
    for (name, frame) in frames {
        let mut world = World::new(Plan::default());
        assert_eq!(world.exchange(0, 0, &frame), [], "{name}");
        let punted = world.punt_lane(0).pop().expect(name);
        assert_eq!(shunt::dataplane::io::Packet::data(&punted), frame, "{name}");
        assert_eq!(world.drops(), [], "{name}");
    }
}
