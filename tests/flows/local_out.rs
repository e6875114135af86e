//! The box's own programs as clients (`[shunt] local_out`): what the kernel sends to a VIP is
//! balanced, and what comes back goes to the kernel and not to the wire.

use std::net::{IpAddr, SocketAddr};

use shunt::dataplane::conn::state::flags::{ACK, RST, SYN};
use shunt::dataplane::io::Packet as _;
use shunt::dataplane::io::memory::VecPacket;
use shunt::dataplane::snapshot::{Encapsulation, Mode, Snapshot, SynCookies};
use shunt::dataplane::verdict::Reason;
use shunt::dataplane::worker::AIMED;
use shunt::ids::PortId;
use shunt::wire::vlan::{Tags, Vid};

use crate::endpoints::Segment;
use crate::packets::oracle::judge_any;
use crate::packets::{Builder, OUR_INNER_MAC, OUR_MAC, VIP, packet};
use crate::parts::{VIP6, all_v6, cut};
use crate::world::{Card, Plan, Sent, World, backend_mac};

const MODES: [Mode; 4] = [Mode::Fullnat, Mode::Nat, Mode::Dr, Mode::Tunnel(Encapsulation::Ipip)];

/// A program of the box, and the VIP it asks.
fn ends(is_v6: bool) -> (SocketAddr, SocketAddr) {
    if is_v6 {
        ("[2001:db8::1]:45000".parse().unwrap(), VIP6.into())
    } else {
        ("192.0.2.1:45000".parse().unwrap(), VIP.into())
    }
}

/// As the kernel frames it: the VIP is at the TAP's own link address.
fn framed(packet: Builder) -> Builder {
    packet.macs(OUR_MAC, OUR_MAC)
}

fn tcp(is_v6: bool, flags: u8) -> Builder {
    let (own, vip) = ends(is_v6);
    framed(packet().tcp(own, vip).flags(flags).numbers(1000, 0))
}

fn serve(is_v6: bool, edit: impl Fn(&mut Snapshot)) -> impl Fn(&mut Snapshot) {
    move |snapshot| {
        snapshot.own = [ends(false).0.ip(), ends(true).0.ip()].into();
        if is_v6 {
            all_v6(snapshot);
        }
        edit(snapshot);
    }
}

fn world(plan: Plan, is_v6: bool, edit: impl Fn(&mut Snapshot)) -> World {
    let mut world = World::new(plan);
    world.publish(serve(is_v6, edit));
    world
}

/// The kernel sends a frame by a port; what leaves by wires.
fn send(world: &mut World, port: u8, frame: &[u8]) -> Vec<Sent> {
    world.inject(PortId(port), frame);
    world.poll();
    world.sent()
}

/// What came to the kernel, and by which TAP.
fn to_kernel(world: &World) -> Vec<(PortId, Vec<u8>)> {
    let lanes = (0..usize::from(world.plan.workers)).map(|worker| world.punt_lane(worker));
    let all = lanes.flat_map(|lane| std::iter::from_fn(|| lane.pop()));
    all.map(|packet| (packet.port(), packet.data().to_vec())).collect()
}

/// The one frame that came to a program by the first TAP, from the VIP it asked.
fn heard(world: &World, is_v6: bool, name: &str) -> Vec<u8> {
    let mut frames = to_kernel(world);
    assert_eq!(frames.len(), 1, "{name}: {:?}", world.drops());
    let (port, frame) = frames.remove(0);
    assert_eq!((port, &frame[..12]), (PortId(0), &[OUR_MAC.0, OUR_MAC.0].concat()[..]), "{name}");
    let seen = judge_any(&frame).unwrap();
    let (own, vip) = ends(is_v6);
    assert_eq!((seen.source, seen.destination), (vip.ip(), own.ip()), "{name}");
    assert!(seen.ip_right && seen.l4_right, "{name}");
    frame
}

/// A backend's answer to what it got.
fn answer(there: &Sent, flags: u8) -> Vec<u8> {
    let seen = Segment::read(&there.frame);
    let host = match seen.destination.ip() {
        IpAddr::V4(to) => to.octets()[3],
        IpAddr::V6(to) => to.octets()[15],
    };
    let answer = packet().macs(backend_mac(host), OUR_INNER_MAC);
    answer.tcp(seen.destination, seen.source).flags(flags).numbers(500, 1001).build()
}

#[test]
fn a_program_of_the_box_reaches_a_backend_and_hears_from_the_vip() {
    for (workers, card) in
        [(1, Card::Any), (2, Card::Any), (2, Card::Rss), (4, Card::Any), (4, Card::Rss)]
    {
        for (mode, is_v6) in MODES.into_iter().flat_map(|mode| [(mode, false), (mode, true)]) {
            let name = format!("{workers} workers, {card:?}, {mode:?}, IPv6: {is_v6}");
            let plan = Plan {
                workers,
                card,
                modes: vec![mode],
                weights: vec![Some(1)],
                ..Plan::default()
            };
            let mut world = world(plan, is_v6, |_| {});
            let sent = send(&mut world, 0, &tcp(is_v6, SYN).build());
            assert_eq!((sent.len(), sent[0].port), (1, 1), "{name}: {:?}", world.drops());
            assert_eq!(world.connections(), [1; 4], "{name}");
            if matches!(mode, Mode::Fullnat | Mode::Nat) {
                // Whichever worker gets it.
                for worker in 0..usize::from(workers) {
                    let left = world.exchange(worker, 1, &answer(&sent[0], SYN | ACK));
                    assert_eq!(left, [], "{name}: nothing for the wire");
                    let seen = Segment::read(&heard(&world, is_v6, &name));
                    assert_eq!((seen.flags, seen.ack), (SYN | ACK, 1001), "{name}");
                }
            }
            let again = send(&mut world, 0, &tcp(is_v6, ACK).build());
            assert_eq!((again.len(), again[0].port), (1, 1), "{name}");
            assert_eq!(world.connections(), [1; 4], "{name}");
            assert_eq!((world.drops(), world.punted()), (vec![], 0), "{name}");
        }
    }
}

#[test]
fn without_it_what_the_kernel_sends_leaves_as_it_is() {
    let mut world = World::new(Plan::default());
    let syn = tcp(false, SYN).build();
    let sent = send(&mut world, 0, &syn);
    assert_eq!((sent.len(), sent[0].port, &sent[0].frame), (1, 0, &syn));
    assert_eq!(world.connections(), [0; 4]);
}

#[test]
fn what_is_for_nobody_here_leaves_as_it_is() {
    let mut world = world(Plan::default(), false, |_| {});
    let (own, vip) = ends(false);
    let elsewhere: SocketAddr = "203.0.113.9:80".parse().unwrap();
    let ping =
        framed(packet().between((own.ip(), 0), (vip.ip(), 0)).icmp(8, 0, 1).payload(b"ping"));
    for frame in [framed(packet().tcp(own, elsewhere).flags(SYN)), ping] {
        let frame = frame.build();
        for port in [0, 1] {
            let sent = send(&mut world, port, &frame);
            assert_eq!((sent.len(), sent[0].port), (1, usize::from(port)));
            assert_eq!(sent[0].frame, frame);
        }
    }
    assert_eq!((world.connections(), world.punted()), ([0; 4], 0));
}

#[test]
fn a_program_hears_of_refusals() {
    for is_v6 in [false, true] {
        let (own, vip) = ends(is_v6);
        let closed: SocketAddr = (vip.ip(), 81).into();
        let mut world = world(Plan::default(), is_v6, |_| {});
        let stray = framed(packet().tcp(own, closed).flags(SYN)).build();
        assert_eq!(send(&mut world, 0, &stray), []);
        assert_eq!(Segment::read(&heard(&world, is_v6, "closed")).flags, RST | ACK);
        world.publish(serve(is_v6, |snapshot| {
            snapshot.backends.iter_mut().flatten().for_each(|backend| backend.weight = 0);
        }));
        assert_eq!(send(&mut world, 0, &tcp(is_v6, SYN).build()), []);
        let told = heard(&world, is_v6, "no backend");
        assert_eq!(told[if is_v6 { 54 } else { 34 }], if is_v6 { 1 } else { 3 }, "unreachable");
        assert_eq!(world.drops(), [(Reason::NoService, 1), (Reason::NoBackend, 1)]);
    }
}

#[test]
fn a_programs_cookie_comes_back_and_its_backend_is_asked() {
    let always = |snapshot: &mut Snapshot| {
        for service in snapshot.services.iter_mut().flatten() {
            service.syn_cookies = SynCookies::Always;
        }
    };
    for workers in [1, 2, 4] {
        let mut world = world(Plan { workers, ..Plan::default() }, false, always);
        assert_eq!(send(&mut world, 0, &tcp(false, SYN).build()), []);
        let told = Segment::read(&heard(&world, false, "cookie"));
        assert_eq!(told.flags, SYN | ACK);
        let ack = tcp(false, ACK).numbers(1001, told.sequence.wrapping_add(1));
        let asked = send(&mut world, 0, &ack.build());
        assert_eq!((asked.len(), asked[0].port), (1, 1));
        assert_eq!(Segment::read(&asked[0].frame).flags, SYN);
    }
}

/// Pieces know no card's choice, whole packets of the box's come by none.
#[test]
fn pieces_and_whole_datagrams_of_a_program_are_of_one_connection() {
    for (workers, card) in [(1, Card::Any), (2, Card::Rss), (4, Card::Any), (4, Card::Rss)] {
        for mode in MODES {
            let plan = Plan { workers, card, modes: vec![mode; 3], ..Plan::default() };
            let mut world = world(plan, false, |_| {});
            let (own, vip) = ends(false);
            let ask = framed(packet().udp(own, vip).flags_fragment(0).payload(&[7; 1200]));
            assert_eq!(send(&mut world, 0, &ask.build()).len(), 1);
            for piece in cut(&ask.build(), &[400, 400], 9) {
                world.inject(PortId(0), &piece);
            }
            world.poll();
            assert_eq!(world.sent().len(), 3, "{workers} {card:?} {mode:?}: {:?}", world.drops());
            assert_eq!(world.connections(), [1; 4], "{workers} {card:?} {mode:?}");
        }
    }
}

#[test]
fn a_program_behind_the_tap_of_a_tagged_port_is_answered_there() {
    let tags = Tags { outer: Vid::new(100).unwrap(), inner: None };
    let plan = Plan { tagged: vec![(PortId(0), tags)], ..Plan::default() };
    let mut world = world(plan, false, |_| {});
    let there = send(&mut world, 2, &tcp(false, SYN).build());
    assert_eq!((there.len(), there[0].port), (1, 1));
    assert_eq!(world.exchange(0, 1, &answer(&there[0], SYN | ACK)), []);
    let heard = to_kernel(&world);
    assert_eq!((heard.len(), heard[0].0), (1, PortId(2)));
}

#[test]
fn what_programs_get_counts_against_what_may_be_punted() {
    let slow = |snapshot: &mut Snapshot| snapshot.punt_per_second = 320;
    let mut world = world(Plan::default(), false, slow);
    let there = send(&mut world, 0, &tcp(false, SYN).build());
    for _ in 0..100 {
        world.exchange(0, 1, &answer(&there[0], ACK));
    }
    assert_eq!((world.punted(), world.drops()), (32, vec![(Reason::PuntLimit, 68)]));
}

/// It asks one backend what its VIP says there: it is nobody's who is to be balanced, whatever the mode.
#[test]
fn a_check_that_asks_the_vip_leaves_for_its_backend_as_it_is() {
    for (mode, is_v6) in MODES.into_iter().flat_map(|mode| [(mode, false), (mode, true)]) {
        let mut world = world(Plan { modes: vec![mode; 3], ..Plan::default() }, is_v6, |_| {});
        let frame = tcp(is_v6, SYN).macs(backend_mac(12), OUR_INNER_MAC).build();
        let mut packet = VecPacket::new(&frame);
        packet.set_port(PortId(1));
        packet.set_tag(AIMED);
        world.injects[0].push(packet).unwrap();
        world.poll();
        let sent = world.sent();
        assert_eq!(sent.len(), 1, "{mode:?}");
        assert_eq!((sent[0].port, &sent[0].frame), (1, &frame), "{mode:?}");
        assert_eq!((world.connections(), world.drops()), ([0; 4], vec![]), "{mode:?}");
    }
}
