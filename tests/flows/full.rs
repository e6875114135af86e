//! A full table: who makes way, who never does, and what it costs the others.

use shunt::dataplane::conn::state::flags::{ACK, FIN, SYN};
use shunt::dataplane::conn::state::{Stage, State};
use shunt::dataplane::snapshot::{Mode, Protocol, Snapshot};
use shunt::dataplane::verdict::Reason;

use crate::life::{answer, client, from_client, open};
use crate::packets::{Endpoint, VIP, packet};
use crate::shop::second;
use crate::world::{Plan, World};

use std::net::Ipv4Addr;

/// One table of eight.
fn world(mode: Mode) -> World {
    World::new(Plan { capacity: 8, modes: vec![mode; 3], ..Plan::default() })
}

fn reclaimed(world: &World) -> [u64; Stage::COUNT] {
    let of = |stage: Stage| {
        let each = world.stats.iter().map(|stats| stats.run.reclaimed[stage as usize].get());
        each.sum()
    };
    Stage::ALL.map(of)
}

fn states(world: &mut World) -> Vec<(u16, State)> {
    let mut states: Vec<_> = world.list(64).iter().map(|it| (it.client.port(), it.state)).collect();
    states.sort_unstable_by_key(|(port, _)| *port);
    states
}

fn talking(world: &mut World, from: Endpoint) {
    open(world, from);
}

fn one_packet(world: &mut World, from: Endpoint) {
    world.one(0, 0, &datagram(from));
}

fn half_open(world: &mut World, from: Endpoint) {
    world.one(0, 0, &from_client(from, SYN));
}

fn closing(world: &mut World, from: Endpoint) {
    open(world, from);
    world.one(0, 0, &from_client(from, FIN | ACK));
}

fn over(world: &mut World, from: Endpoint) {
    let there = open(world, from);
    world.one(0, 0, &from_client(from, FIN | ACK));
    world.one(0, 1, &answer(&there, FIN | ACK));
}

/// Opens a connection and brings it where it is to be.
type Begin = fn(&mut World, Endpoint);

/// Of the first looked at, somebody who is over or half open goes at once; the others in their order.
#[test]
fn over_and_half_open_go_first_then_one_packet_then_closing_and_nobody_who_talks() {
    let mut world = world(Mode::Fullnat);
    let alone = |snapshot: &mut Snapshot| {
        snapshot.services[1].as_mut().unwrap().one_packet = true;
    };
    world.publish(alone);
    let steps: [Begin; 8] =
        [closing, talking, one_packet, half_open, over, half_open, over, talking];
    for (port, step) in (1..).zip(steps) {
        step(&mut world, client(port));
        world.now_ms += 10;
    }
    let cheap: &[u16] = &[5, 7, 4, 6];
    let mut left: Vec<u16> = (1..=8).collect();
    for (new, gone) in (100..).zip([cheap, cheap, cheap, cheap, &[3], &[1]]) {
        open(&mut world, client(new));
        let there: Vec<u16> = states(&mut world).iter().map(|(port, _)| *port).collect();
        let (went, stay): (Vec<u16>, Vec<u16>) =
            left.iter().partition(|port| !there.contains(port));
        assert!(matches!(went[..], [port] if gone.contains(&port)), "{went:?} went for {new}");
        assert_eq!(there, stay.iter().copied().chain(100..=new).collect::<Vec<u16>>());
        left = stay;
    }
    assert_eq!(world.drops(), []);
    // All that are left talk.
    assert_eq!(world.exchange(0, 0, &from_client(client(200), SYN)), []);
    assert_eq!(world.drops(), [(Reason::TableFull, 1)]);
    assert_eq!(world.connections(), [8; 4]);
    let mut expected = [0; Stage::COUNT];
    for stage in [Stage::Over, Stage::Over, Stage::HalfOpen, Stage::HalfOpen] {
        expected[stage as usize] += 1;
    }
    expected[Stage::OnePacket as usize] = 1;
    expected[Stage::Closing as usize] = 1;
    assert_eq!(reclaimed(&world), expected);
}

#[test]
fn what_makes_way_while_it_closes_is_told() {
    for (mode, told) in [(Mode::Fullnat, 2), (Mode::Nat, 2), (Mode::Dr, 0)] {
        let mut world = world(mode);
        let resets = |snapshot: &mut Snapshot| snapshot.reset_on_end = true;
        world.publish(resets);
        for port in 1..=8 {
            world.one(0, 0, &from_client(client(port), SYN));
            let there = world.one(0, 0, &from_client(client(port), ACK));
            if mode != Mode::Dr {
                world.one(0, 1, &answer(&there, ACK));
            }
        }
        world.one(0, 0, &from_client(client(3), FIN | ACK));
        let sent = world.exchange(0, 0, &from_client(client(9), SYN));
        assert_eq!(sent.len(), 1 + told, "{mode:?}");
        assert_eq!(world.connections(), [8; 4]);
    }
}

/// Forged packets from everywhere, each address once, and now and then something else.
fn flood(
    world: &mut World,
    forged: fn(Endpoint) -> Vec<u8>,
    mut now_and_then: impl FnMut(&mut World, u16),
) {
    let each = world.stats.len();
    for n in 0..5_000u32 {
        let from = (Ipv4Addr::from(0x0b00_0000 + n), 40_000);
        world.arrive(n as usize % each, 0, &forged(from));
        if n % 16 == 15 || n % 500 == 499 {
            world.now_ms += 1;
            world.poll();
            world.sent();
        }
        if n % 500 == 499 {
            now_and_then(world, u16::try_from(n / 500).unwrap());
        }
    }
}

/// Forged SYNs fill the table many times over; who has finished a handshake stays, and who comes finds
/// room.
#[test]
fn a_flood_of_syns_pushes_out_itself_and_not_the_clients() {
    for workers in [1u8, 2, 4] {
        let mut world = World::new(Plan { workers, capacity: 64, lane: 256, ..Plan::default() });
        for port in 101..=120 {
            open(&mut world, client(port));
        }
        let come = |world: &mut World, n| drop(open(world, client(1_000 + n)));
        flood(&mut world, |from| from_client(from, SYN), come);
        let open_now = |world: &mut World| {
            states(world).iter().filter(|(_, state)| *state == State::Established).count()
        };
        assert_eq!(open_now(&mut world), 30, "{workers}");
        assert_eq!(world.drops(), [], "{workers}: nobody is refused");
        let made_way: u64 = reclaimed(&world)[Stage::HalfOpen as usize];
        assert!(made_way >= 5_000 - 64 * u64::from(workers), "{workers}: {made_way}");
        for port in 101..=120 {
            world.one(0, 0, &from_client(client(port), ACK));
        }
    }
}

fn datagram(from: Endpoint) -> Vec<u8> {
    packet().udp(from, VIP).payload(b"?").build()
}

/// A flow of UDP that goes on: answered, where answers pass; else its client has sent two.
fn asks(world: &mut World, mode: Mode, from: Endpoint) {
    let there = world.one(0, 0, &datagram(from));
    if mode == Mode::Dr {
        world.one(0, 0, &datagram(from));
    } else {
        world.one(0, 1, &second(Protocol::Udp, &there));
    }
}

/// The same of forged datagrams: nobody has answered them.
#[test]
fn a_flood_of_datagrams_pushes_out_itself_and_not_the_clients() {
    for (workers, mode) in
        [(1u8, Mode::Fullnat), (2, Mode::Fullnat), (4, Mode::Nat), (1, Mode::Dr), (4, Mode::Dr)]
    {
        let plan = Plan { workers, capacity: 64, lane: 256, ..Plan::default() };
        let mut world = World::new(Plan { modes: vec![mode; 3], ..plan });
        (101..=120).for_each(|port| asks(&mut world, mode, client(port)));
        flood(&mut world, datagram, |world, n| asks(world, mode, client(1_000 + n)));
        let there = states(&mut world);
        let going_on: Vec<u16> =
            there.iter().filter(|(_, state)| *state == State::Udp).map(|(port, _)| *port).collect();
        assert_eq!(going_on, (101..=120).chain(1_000..1_010).collect::<Vec<u16>>(), "{mode:?}");
        assert_eq!(world.drops(), [], "{workers} {mode:?}: nobody is refused");
        let made_way: u64 = reclaimed(&world)[Stage::HalfOpen as usize];
        assert!(made_way >= 5_000 - 64 * u64::from(workers), "{workers}: {made_way}");
    }
}

/// Who sends a second datagram goes on, answered or not: he stays, and who is new is refused.
#[test]
fn flows_whose_clients_have_gone_on_never_make_way() {
    for mode in [Mode::Fullnat, Mode::Nat, Mode::Dr] {
        let mut world = world(mode);
        for port in 1..=8 {
            world.one(0, 0, &datagram(client(port)));
            world.one(0, 0, &datagram(client(port)));
        }
        assert_eq!(world.exchange(0, 0, &datagram(client(9))), [], "{mode:?}");
        assert_eq!((world.connections(), world.drops()), ([8; 4], vec![(Reason::TableFull, 1)]));
    }
}

/// Nearly all talk, and a few looks at random would meet none of the others most of the time: whoever could make
/// way is found.
#[test]
fn who_can_make_way_is_found_among_many_who_talk() {
    for mode in [Mode::Fullnat, Mode::Dr] {
        let mut world = World::new(Plan {
            capacity: 1_000,
            lane: 1_024,
            modes: vec![mode; 3],
            ..Plan::default()
        });
        for port in 1_001..=2_000 {
            world.one(0, 0, &datagram(client(port)));
            if port % 50 != 0 {
                world.one(0, 0, &datagram(client(port)));
            }
        }
        world.wait(3);
        for port in 3_001..=3_020 {
            world.one(0, 0, &datagram(client(port)));
            world.one(0, 0, &datagram(client(port)));
        }
        assert_eq!((world.drops(), world.connections()), (vec![], [1_000; 4]), "{mode:?}");
        assert_eq!(reclaimed(&world)[Stage::HalfOpen as usize], 20, "{mode:?}");
        assert_eq!(world.exchange(0, 0, &datagram(client(4_001))), [], "all talk now");
        assert_eq!(world.drops(), [(Reason::TableFull, 1)]);
    }
}
