//! What a reload takes away: a service with its connections, a backend that comes back as another one.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use shunt::dataplane::conn::state::flags::{ACK, RST, SYN};
use shunt::dataplane::snapshot::{Backend, Encapsulation, Mode, Snapshot};
use shunt::dataplane::verdict::Reason;
use shunt::ids::{BackendId, ServiceId};
use shunt::stats::counters::WorkerStats;
use shunt::stats::loads::Load;

use crate::endpoints::Segment;
use crate::life::{client, from_client, open};
use crate::packets::oracle::judge;
use crate::packets::{CLIENT, Endpoint, VIP, packet};
use crate::world::{Plan, Sent, World};

const TCP: ServiceId = ServiceId(0);
const UDP: ServiceId = ServiceId(1);

/// Limits that make workers count together.
fn terms(snapshot: &mut Snapshot) {
    snapshot.reset_on_end = true;
    for service in snapshot.services.iter_mut().flatten() {
        service.quotas.service.connections = 100;
    }
}

/// The service and its backends are gone; the ways to them are known for a while.
fn delete(snapshot: &mut Snapshot, id: ServiceId) {
    terms(snapshot);
    let is_its = |backend: &Option<Backend>| backend.is_some_and(|backend| backend.service == id);
    let gone = (0..).map(BackendId).zip(&snapshot.backends).filter(|(_, it)| is_its(it));
    let gone: Vec<_> =
        gone.filter_map(|(id, backend)| Some((id, backend.as_ref()?.next_hop?))).collect();
    snapshot.departed = gone.into();
    snapshot.services[id.index()] = None;
    for backend in snapshot.backends.iter_mut().filter(|it| is_its(it)) {
        *backend = None;
    }
}

fn sum(world: &World, of: impl Fn(&WorkerStats) -> u64) -> u64 {
    world.stats.iter().map(|stats| of(stats)).sum()
}

/// Nothing of the service is counted anywhere.
fn is_not_counted(world: &World, id: ServiceId) {
    let connections = sum(world, |stats| stats.services[id.index()].connections.get().into());
    assert_eq!((connections, world.stats[0].tallies.count(id)), (0, 0));
    for backend in (id.0 * 3..id.0 * 3 + 3).map(BackendId) {
        assert_eq!(world.stats[0].loads.of(backend), Load::default());
    }
}

fn ask(from: Endpoint) -> Vec<u8> {
    packet().udp(from, VIP).payload(b"question").build()
}

#[test]
fn a_deleted_services_connections_end_with_a_reset_to_both_ends_and_count_nowhere() {
    for (mode, workers) in [(Mode::Fullnat, 1), (Mode::Fullnat, 2), (Mode::Nat, 1), (Mode::Nat, 4)]
    {
        let mut world = World::new(Plan { workers, modes: vec![mode; 3], ..Plan::default() });
        world.publish(terms);
        let mut ends = BTreeSet::new();
        for port in 4_000..4_006 {
            let asked = judge(&open(&mut world, client(port)).frame).unwrap();
            ends.insert((0, SocketAddr::from(client(port))));
            ends.insert((1, (asked.destination, asked.ports.1).into()));
        }
        world.one(0, 0, &ask(client(5_000)));
        world.publish(|snapshot| delete(snapshot, TCP));
        world.wait(4);
        let told = world.sent();
        assert_eq!(told.len(), 12, "{mode:?}: both ends of six");
        let read = |sent: &Sent| (sent.port, Segment::read(&sent.frame));
        assert!(told.iter().map(read).all(|(_, segment)| segment.flags == RST));
        let heard = told.iter().map(read).map(|(port, segment)| (port, segment.destination));
        assert_eq!(heard.collect::<BTreeSet<_>>(), ends, "{mode:?}");
        assert_eq!(sum(&world, |stats| stats.run.ends_told.get()), 12);
        assert_eq!(sum(&world, |stats| stats.run.ends_untold.get()), 0);
        is_not_counted(&world, TCP);
        assert_eq!(world.connections(), [1; 4], "UDP's is another service");
        assert_eq!(world.stats[0].tallies.count(UDP), 1);
        // Who asks there now is told so, and nothing is left of the asking.
        let refused = world.one(0, 0, &from_client(client(4_000), SYN));
        assert_eq!(Segment::read(&refused.frame).flags, RST | ACK);
        assert_eq!(world.drops(), [(Reason::NoService, 1)]);
        is_not_counted(&world, TCP);
        // And when it is there again, it is as good as new.
        world.publish(terms);
        open(&mut world, client(4_000));
        assert_eq!(world.stats[0].tallies.count(TCP), 1);
    }
}

#[test]
fn a_deleted_services_datagrams_are_answered_with_port_unreachable() {
    for workers in [1, 2, 4] {
        for is_swept in [false, true] {
            let mut world = World::new(Plan { workers, ..Plan::default() });
            world.publish(terms);
            for port in 5_000..5_004 {
                world.one(0, 0, &ask(client(port)));
            }
            world.publish(|snapshot| delete(snapshot, UDP));
            if is_swept {
                world.wait(4);
                assert_eq!(world.sent(), [], "UDP ends without a word");
                is_not_counted(&world, UDP);
            }
            for port in 5_000..5_004 {
                let answer = world.one(0, 0, &ask(client(port)));
                assert_eq!((answer.port, &answer.frame[34..36]), (0, &[3, 3][..]));
            }
            // Whom the sweep has not met ends with its next datagram, which is one of nobody then.
            assert_eq!(world.drops(), [(Reason::NoService, 4)]);
            is_not_counted(&world, UDP);
        }
    }
}

/// How a client's packet reached the backend.
fn way(sent: &Sent) -> Mode {
    let frame = &sent.frame;
    let addresses = (&frame[26..30], &frame[30..34]);
    match (frame[23], addresses) {
        (4, _) => Mode::Tunnel(Encapsulation::Ipip),
        (_, (_, to)) if *to == VIP.0.octets() => Mode::Dr,
        (_, (from, _)) if *from == CLIENT.0.octets() => Mode::Nat,
        _ => Mode::Fullnat,
    }
}

/// A backend that is removed and added again with another method: what is left of its connections
/// goes on as it began and is counted again, what begins from then on begins by the new method.
#[test]
fn a_backend_that_comes_back_serves_old_connections_as_before_and_new_ones_by_its_new_method() {
    let tunnel = Mode::Tunnel(Encapsulation::Ipip);
    let methods = [
        (Mode::Fullnat, Mode::Nat),
        (Mode::Nat, Mode::Fullnat),
        (Mode::Dr, tunnel),
        (tunnel, Mode::Dr),
    ];
    for (old, new) in methods {
        for (workers, have_ended) in [(1, false), (1, true), (3, false), (3, true)] {
            let context = format!("{old:?} to {new:?}, {workers} workers, ended: {have_ended}");
            let plan =
                Plan { workers, weights: vec![Some(1)], modes: vec![old], ..Plan::default() };
            let mut world = World::new(plan);
            for flags in [SYN, ACK] {
                let sent = world.one(0, 0, &from_client(CLIENT, flags));
                assert_eq!(way(&sent), old, "{context}");
            }
            (world.plan.weights, world.plan.was_nat) = (vec![None], old == Mode::Nat);
            world.publish(|_| {});
            if have_ended {
                world.wait(4);
                world.sent();
            }
            let left = u32::from(!have_ended);
            assert_eq!(world.connections(), [left; 4], "{context}");
            (world.plan.weights, world.plan.modes) = (vec![Some(1)], vec![new]);
            world.publish(|_| {});
            let load = |world: &World| world.stats[0].loads.of(BackendId(0)).total;
            assert_eq!(load(&world), left, "{context}");
            let flags = if have_ended { SYN } else { ACK };
            let again = world.one(0, 0, &from_client(CLIENT, flags));
            assert_eq!(way(&again), if have_ended { new } else { old }, "{context}");
            let other = world.one(0, 0, &from_client(client(7), SYN));
            assert_eq!(way(&other), new, "{context}");
            assert_eq!((world.connections(), load(&world)), ([2; 4], 2), "{context}");
            let made = sum(&world, |stats| stats.backends[0].new_connections.get());
            assert_eq!(made, 2 + u64::from(have_ended), "{context}");
            assert_eq!(world.drops(), [], "{context}");
        }
    }
}
