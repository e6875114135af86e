//! A connection's first packet that is refused leaves nothing behind: no record, no load, no count of
//! a connection, and later pieces find nobody. And of answers there are only so many.

use proptest::prelude::*;
use shunt::dataplane::conn::state::flags::{ACK, SYN};
use shunt::dataplane::io::memory::VecPacket;
use shunt::dataplane::snapshot::{ClientAddress, Encapsulation, Mode};
use shunt::dataplane::verdict::Reason;
use shunt::ids::BackendId;
use shunt::stats::counters::WorkerStats;
use shunt::stats::loads::{Limit, Load};

use crate::life::{client, from_client};
use crate::packets::fragments::cut;
use crate::packets::{Builder, CLIENT, OUR_INNER_MAC, VIP, packet};
use crate::world::{self, Plan, World};

const MODES: [Mode; 5] = [
    Mode::Fullnat,
    Mode::Nat,
    Mode::Dr,
    Mode::Tunnel(Encapsulation::Ipip),
    Mode::Tunnel(Encapsulation::Gre { checksum: true }),
];
const WAYS: [ClientAddress; 4] = [
    ClientAddress::None,
    ClientAddress::Toa { kind_v6: 254 },
    ClientAddress::ProxyV1,
    ClientAddress::ProxyV2,
];

/// What may stand in a first packet's way.
#[derive(Clone, Debug)]
struct Case {
    mode: Mode,
    how: ClientAddress,
    is_udp: bool,
    df: bool,
    ttl: u8,
    length: usize,
    in_pieces: bool,
    headroom: usize,
    mtu: u16,
}

fn case() -> impl Strategy<Value = Case> {
    let packet = (any::<bool>(), any::<bool>(), 1..=3u8, 0..=1400usize, any::<bool>());
    let way = (0..MODES.len(), 0..WAYS.len(), 0..=128usize, prop::sample::select(vec![700, 1500]));
    (packet, way).prop_map(|((is_udp, df, ttl, length, in_pieces), (mode, how, headroom, mtu))| {
        let (mode, how) = (MODES[mode], WAYS[how]);
        Case { mode, how, is_udp, df, ttl, length, in_pieces, headroom, mtu }
    })
}

impl Case {
    fn world(&self) -> World {
        let plan = Plan { modes: vec![self.mode; 3], mtus: [1500, self.mtu], ..Plan::default() };
        let mut world = World::new(plan);
        world.publish(|snapshot| {
            snapshot.services.iter_mut().flatten().for_each(|s| s.client_address = self.how);
        });
        world
    }

    fn frames(&self) -> Vec<Vec<u8>> {
        let flags = if self.df && !self.in_pieces { 0x4000 } else { 0 };
        let ask: Builder = if self.is_udp {
            packet().udp(CLIENT, VIP)
        } else {
            packet().tcp(CLIENT, VIP).flags(SYN)
        };
        let ask = ask.flags_fragment(flags).ttl(self.ttl).payload(&vec![7; self.length]);
        if self.in_pieces { cut(&ask.build(), &[640], 9) } else { vec![ask.build()] }
    }

    /// What can be counted of connections, and of loads.
    fn traces(world: &World) -> (u64, [u32; 4], Vec<Load>) {
        let new = |s: &WorkerStats| {
            let backends = s.backends.iter().take(16).map(|b| b.new_connections.get());
            let services = s.services.iter().take(16).map(|s| s.new_connections.get());
            backends.chain(services).sum::<u64>()
        };
        let made = world.stats.iter().map(|stats| new(stats)).sum();
        let loads = (0..6).map(|id| world.stats[0].loads.of(BackendId(id))).collect();
        (made, world.connections(), loads)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_refused_first_packet_leaves_nothing_behind(case in case()) {
        let mut world = case.world();
        let before = Case::traces(&world);
        for frame in case.frames() {
            let tight = VecPacket::with_headroom(&frame, case.headroom);
            world.port(0, 0).inbound.push(tight).unwrap();
            world.poll();
        }
        let went_on = world.sent().iter().any(|sent| sent.port == 1);
        let drops = world.drops();
        prop_assert!(went_on || !drops.is_empty(), "{case:?}");
        if !went_on {
            prop_assert_eq!(Case::traces(&world), before, "{:?}: {:?}", case, drops);
        }
    }
}

/// Forty times a hundred strays; none of them has been answered before.
fn flood(world: &mut World) {
    for n in 0..40u32 {
        for port in 1..=100 {
            let stray = from_client((CLIENT.0, port + u16::try_from(n).unwrap() * 100), ACK);
            world.arrive(0, 0, &stray);
        }
        world.poll();
    }
    world.sent();
}

/// A flood of strays is not reflected without bound.
#[test]
fn answers_have_a_limit() {
    let mut world = World::new(Plan::default());
    flood(&mut world);
    let run = &world.stats[0].run;
    let (replied, unanswered) = (run.replied.get(), run.unanswered.get());
    assert_eq!((replied, replied + unanswered), (1000, 4000), "a tenth of a second's worth");
}

/// Nor does it silence a path MTU or a traceroute, which have a limit of their own.
#[test]
fn a_flood_of_strays_leaves_path_mtu_and_time_exceeded_alone() {
    let mut world = World::new(Plan { modes: vec![MODES[3]; 3], ..Plan::default() });
    let first = world.one(0, 0, &from_client((CLIENT.0, 5000), SYN));
    flood(&mut world);
    assert_eq!(world.exchange(0, 0, &from_client(CLIENT, ACK)), [], "strays have used theirs up");
    let big = packet().tcp((CLIENT.0, 5000), VIP).payload(&[7; 1460]);
    let last = packet().tcp((CLIENT.0, 5000), VIP).ttl(1);
    for (ask, said) in [(&big, [3, 4]), (&last, [11, 0])] {
        let told = world.one(0, 0, &ask.build());
        assert_eq!((told.port, &told.frame[34..36]), (0, &said[..]));
    }
    // What a router says of the tunnel's packet.
    let router = (world::host(false, 254), 0);
    let error = packet().macs(world::backend_mac(13), OUR_INNER_MAC);
    let error = error.between(router, (world::host(false, 1), 0)).icmp(11, 0, 0);
    let told = world.one(0, 1, &error.payload(&first.frame[14..]).build());
    assert_eq!((told.port, &told.frame[34..36]), (0, &[11, 0][..]));
    let mut answered = 0;
    for _ in 0..40 {
        (0..100).for_each(|_| world.arrive(0, 0, &last.build()));
        world.poll();
        answered += world.sent().len();
    }
    assert_eq!(answered, 1000 - 3, "and that is a limit");
}

/// A packet that would have taken a backend's last place, and could not be written, has filled nothing: the
/// next one gets it.
#[test]
fn who_could_not_be_sent_on_has_filled_no_backend() {
    let ipip = Mode::Tunnel(Encapsulation::Ipip);
    let plan = Plan { weights: vec![Some(1)], modes: vec![ipip], ..Plan::default() };
    for frame in [
        |port| packet().tcp(client(port), VIP).flags(SYN).build(),
        |port| packet().udp(client(port), VIP).payload(b"?").build(),
    ] {
        let mut world = World::new(plan.clone());
        world.publish(|snapshot| {
            let backends = snapshot.backends.iter_mut().flatten();
            backends.for_each(|backend| backend.limit = Limit { most: 3, least: 1 });
        });
        (1..=2).for_each(|port| drop(world.one(0, 0, &frame(port))));
        let tight = VecPacket::with_headroom(&frame(3), 19);
        world.port(0, 0).inbound.push(tight).unwrap();
        world.poll();
        assert_eq!((world.sent(), world.drops()), (vec![], vec![(Reason::NoRoom, 1)]));
        assert_eq!(world.connections(), [2; 4]);
        world.one(0, 0, &frame(4));
        assert_eq!(world.connections(), [3; 4]);
        world.exchange(0, 0, &frame(5));
        assert_eq!(world.connections(), [3; 4], "now it is full");
    }
}
