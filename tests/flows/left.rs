//! An address leaves the file by a reload: its connections stay, whichever worker their packets meet.

use std::net::{IpAddr, Ipv4Addr};

use shunt::dataplane::conn::state::flags::{ACK, SYN};
use shunt::dataplane::snapshot::{Mode, ServiceAddress, Snapshot};
use shunt::dataplane::verdict::Reason;

use crate::life::{answer, client, from_client};
use crate::packets::oracle::judge;
use crate::packets::{VIP, packet};
use crate::world::{Card, Plan, World};

const WORKERS: u8 = 4;
const CLIENTS: u16 = 8;
const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 99));

/// Gives the services another address in place of the only one, or other local addresses.
type Edit = fn(&mut Snapshot);

fn another_port(snapshot: &mut Snapshot) {
    for service in snapshot.services.iter_mut().flatten() {
        service.addresses = [ServiceAddress::one(VIP.0.into(), VIP.1 + 1)].into();
    }
}

fn another_vip(snapshot: &mut Snapshot) {
    for service in snapshot.services.iter_mut().flatten() {
        service.addresses = [ServiceAddress::one(OTHER, VIP.1)].into();
    }
    snapshot.left_vips = [VIP.0.into()].into();
}

fn other_locals(snapshot: &mut Snapshot) {
    let services = snapshot.services.iter_mut().flatten();
    let replace = |service: &mut shunt::dataplane::snapshot::Service| {
        let other = [IpAddr::from([10, 44, 0, 199])].into_iter().collect();
        std::mem::replace(&mut service.locals, other)
    };
    let left: Vec<IpAddr> =
        services.flat_map(|it| replace(it).iter().collect::<Vec<_>>()).collect();
    snapshot.left_locals = left.into();
}

/// Connections are made, the file is edited, and their packets come in by every worker.
fn stays(mode: Mode, card: Card, edit: Edit) -> World {
    let plan = Plan { workers: WORKERS, card, modes: vec![mode; 3], ..Plan::default() };
    let mut world = World::new(plan);
    let made: Vec<_> =
        (1..=CLIENTS).map(|port| world.one(0, 0, &from_client(client(port), SYN))).collect();
    world.publish(edit);
    for (port, first) in (1..).zip(&made) {
        let backend = judge(&first.frame).unwrap().destination;
        for at in 0..usize::from(WORKERS) {
            let there = world.one(at, 0, &from_client(client(port), ACK));
            assert_eq!(judge(&there.frame).unwrap().destination, backend);
            let back = world.one(at, 1, &answer(first, ACK));
            assert_eq!(judge(&back.frame).unwrap().destination, client(port).0);
        }
    }
    assert_eq!(world.drops(), []);
    assert_eq!(world.punted(), 0);
    assert_eq!(world.connections(), [u32::from(CLIENTS); 4]);
    world
}

#[test]
fn connections_to_a_place_that_leaves_the_file_stay() {
    for mode in [Mode::Fullnat, Mode::Nat] {
        for card in [Card::Any, Card::Rss] {
            let mut world = stays(mode, card, another_port);
            world.exchange(0, 0, &from_client(client(99), SYN));
            assert_eq!(world.drops(), [(Reason::NoService, 1)], "nothing new begins there");
            let mut world = stays(mode, card, another_vip);
            world.exchange(0, 0, &from_client(client(99), SYN));
            assert_eq!((world.drops(), world.punted()), (vec![], 1), "the kernel's again");
        }
    }
}

#[test]
fn connections_from_a_local_address_that_leaves_the_file_stay() {
    for card in [Card::Any, Card::Rss] {
        stays(Mode::Fullnat, card, other_locals);
    }
}

/// It may be the box's own by now, where its kernel listens; what nobody knows is refused at one that is
/// still a local address.
#[test]
fn what_is_of_no_connection_at_a_local_address_that_left_is_the_kernels() {
    let stray = |local| packet().tcp(client(77), local).flags(SYN).build();
    for card in [Card::Any, Card::Rss] {
        let mut world = stays(Mode::Fullnat, card, |_| ());
        let sent = world.one(0, 0, &from_client(client(1), ACK));
        let left = (judge(&sent.frame).unwrap().source, 22);
        world.exchange(0, 0, &stray(left));
        assert_eq!((world.drops(), world.punted()), (vec![(Reason::NoConnection, 1)], 0));
        world.publish(other_locals);
        for worker in 0..usize::from(WORKERS) {
            world.exchange(worker, 0, &stray(left));
            assert_eq!(
                (world.drops(), world.punted()),
                (vec![(Reason::NoConnection, 1)], worker + 1)
            );
        }
    }
}
