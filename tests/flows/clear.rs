//! Connections that are ended by order: whose, how many, who is told, and what stays.

use shunt::dataplane::conn::state::flags::{ACK, RST, SYN};
use shunt::dataplane::snapshot::{IcmpOnEnd, Protocol};
use shunt::ids::BackendId;

use crate::endpoints::Segment;
use crate::life::{client, from_client, open};
use crate::packets::{CLIENT, Endpoint, VIP, packet};
use crate::shop::second;
use crate::world::{Plan, World};

/// Clients with an open connection each, over two backends in turn.
const CLIENTS: u16 = 8;

fn datagram(from: Endpoint) -> Vec<u8> {
    packet().udp(from, VIP).payload(b"hello").build()
}

fn filled(workers: u8) -> World {
    let plan = Plan { workers, weights: vec![Some(1), Some(1)], ..Plan::default() };
    let mut world = World::new(plan);
    world.publish(|snapshot| snapshot.reset_on_end = true);
    for n in 0..CLIENTS {
        open(&mut world, client(3000 + n));
    }
    world
}

/// Where each connection goes, by client's port.
fn hosts(world: &mut World) -> Vec<(u16, BackendId)> {
    let mut all: Vec<_> =
        world.list(64).iter().map(|row| (row.client.port(), row.backend_id)).collect();
    all.sort_unstable_by_key(|(port, _)| *port);
    all
}

#[test]
fn one_backends_connections_end_and_both_ends_of_each_are_told() {
    for workers in [1, 2, 4] {
        let mut world = filled(workers);
        let before = hosts(&mut world);
        let gone: Vec<_> = before.iter().filter(|(_, id)| *id == BackendId(0)).collect();
        assert!(!gone.is_empty() && gone.len() < usize::from(CLIENTS));
        let (ended, sent) = world.clear(&[BackendId(0)]);
        assert_eq!(ended, gone.len() as u64, "{workers}");
        let told = |port| sent.iter().filter(move |sent| sent.port == port);
        for port in [0, 1] {
            assert_eq!(told(port).count(), gone.len(), "{workers}: each end");
            assert!(told(port).all(|sent| Segment::read(&sent.frame).flags == RST));
        }
        let left: Vec<_> = before.iter().copied().filter(|(_, id)| *id != BackendId(0)).collect();
        assert_eq!(hosts(&mut world), left);
        let cleared: u64 = world.stats.iter().map(|stats| stats.run.cleared.get()).sum();
        let expired: u64 = world.stats.iter().map(|stats| stats.run.expired.get()).sum();
        assert_eq!((cleared, expired), (ended, 0));
        // The backend is as good as before, for the same clients too.
        for (port, _) in gone {
            world.one(0, 0, &from_client((CLIENT.0, *port), SYN));
        }
        assert_eq!(world.connections()[0], u32::from(CLIENTS));
        assert_eq!(world.drops(), []);
    }
}

/// Flows of UDP too: of them those hear that were answered, where it is wanted.
#[test]
fn everything_ends() {
    for (icmp, udp) in [(IcmpOnEnd::Always, 3), (IcmpOnEnd::Removal, 3), (IcmpOnEnd::Never, 0)] {
        everything_ends_and_of_udp_so_many_are_told(icmp, udp);
    }
}

fn everything_ends_and_of_udp_so_many_are_told(icmp: IcmpOnEnd, udp: usize) {
    let mut world = filled(2);
    world.publish(|snapshot| {
        snapshot.reset_on_end = true;
        snapshot.icmp_on_end = icmp;
    });
    for n in 0..5 {
        let there = world.one(0, 0, &datagram(client(4000 + n)));
        if n < 3 {
            world.one(0, 1, &second(Protocol::Udp, &there));
        }
    }
    let all: Vec<BackendId> = (0..16).map(BackendId).collect();
    let (ended, sent) = world.clear(&all);
    assert_eq!((ended, sent.len()), (u64::from(CLIENTS) + 5, 2 * (usize::from(CLIENTS) + udp)));
    let errors = sent.iter().filter(|sent| sent.frame[23] == 1);
    assert_eq!(errors.count(), 2 * udp, "{icmp:?}");
    assert_eq!(world.connections(), [0; 4]);
    assert_eq!(world.clear(&all).0, 0, "nothing is left");
    // Who speaks afterwards is a stray.
    let reset = world.one(0, 0, &from_client(client(3000), ACK));
    assert_eq!(Segment::read(&reset.frame).flags, RST);
}

#[test]
fn an_empty_table_is_cleared_at_once() {
    let mut world = World::new(Plan::default());
    assert_eq!(world.clear(&[BackendId(0)]), (0, vec![]));
}
