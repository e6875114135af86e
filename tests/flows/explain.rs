//! What a flow's next packet would meet: said beforehand, and then it happens.

use std::net::SocketAddr;
use std::sync::Arc;

use shunt::dataplane::conn::state::flags::{ACK, SYN};
use shunt::dataplane::explain::{self, Flow, Outcome};
use shunt::dataplane::flows::Fate;
use shunt::dataplane::io::memory::VecPacket;
use shunt::dataplane::snapshot::{Protocol, Snapshot};
use shunt::dataplane::verdict::Reason;
use shunt::ids::{PortId, WorkerId};
use shunt::stats::loads::Loads;
use shunt::stats::tallies::Tallies;

use crate::life::{answer, client, from_client, open};
use crate::packets::oracle::judge_any;
use crate::packets::{CLIENT, Endpoint, OUR_MAC, VIP};
use crate::world::{Plan, World};

fn flow(protocol: Protocol, from: Endpoint, to: Endpoint) -> Flow {
    let socket = |end: Endpoint| SocketAddr::from((end.0, end.1));
    Flow { protocol, source: socket(from), destination: socket(to) }
}

fn tried(flow: Flow, snapshot: Snapshot) -> Outcome {
    let frame = explain::frame(flow, OUR_MAC).unwrap();
    let counts = (&Loads::default(), &Tallies::default());
    explain::decide(VecPacket::new(&frame), WorkerId(0), 1, &Arc::new(snapshot), counts).unwrap()
}

#[test]
fn a_synthetic_packet_is_right_to_an_independent_reader() {
    for protocol in Protocol::ALL {
        let wanted = flow(protocol, CLIENT, VIP);
        let seen = judge_any(&explain::frame(wanted, OUR_MAC).unwrap()).unwrap();
        assert_eq!((seen.source, seen.ports.0), (CLIENT.0.into(), CLIENT.1), "{protocol:?}");
        assert_eq!((seen.destination, seen.ports.1), (VIP.0.into(), VIP.1), "{protocol:?}");
        assert!(seen.ip_right, "{protocol:?}");
    }
}

#[test]
fn what_is_said_of_a_new_flow_is_what_then_happens() {
    let mut world = World::new(Plan::default());
    let mut backends = std::collections::BTreeSet::new();
    for (open, port) in (0..3).zip(3000..) {
        let edit = |snapshot: &mut Snapshot| {
            for (id, backend) in (0..).zip(snapshot.backends.iter_mut().flatten()) {
                backend.weight = u32::from(id % 3 == open);
            }
        };
        let said = tried(flow(Protocol::Tcp, client(port), VIP), world.snapshot(edit));
        assert_eq!((said.fate, said.refused), (Fate::Send(PortId(1)), None));
        let connection = said.connection.unwrap();
        world.publish(edit);
        let sent = world.one(0, 0, &from_client(client(port), SYN));
        let seen = judge_any(&sent.frame).unwrap();
        assert_eq!(connection.backend, SocketAddr::new(seen.destination, seen.ports.1), "{port}");
        assert_eq!(connection.local.ip(), seen.source);
        assert_eq!(said.frame[..12], sent.frame[..12], "the same next hop");
        backends.insert(connection.backend);
    }
    assert_eq!(backends.len(), 3, "{backends:?}");
}

#[test]
fn a_refusal_is_said_with_its_reason_and_nobody_elses_counters_move() {
    let world = World::new(Plan::default());
    let elsewhere = flow(Protocol::Tcp, CLIENT, (VIP.0, 81));
    let said = tried(elsewhere, world.snapshot(|_| ()));
    assert_eq!(said.refused, Some(Reason::NoService));
    assert_eq!(said.connection, None);
    let draining = |snapshot: &mut Snapshot| snapshot.accepting = false;
    let said = tried(flow(Protocol::Tcp, CLIENT, VIP), world.snapshot(draining));
    assert_eq!(said.refused, Some(Reason::Draining));
    let stranger = flow(Protocol::Tcp, CLIENT, ([203, 0, 113, 1].into(), 80));
    let said = tried(stranger, world.snapshot(|_| ()));
    assert!(matches!(said.fate, Fate::Punt(_)), "{said:?}");
    assert_eq!(world.drops(), []);
}

#[test]
fn a_known_flow_is_found_by_its_owner_from_either_end_and_stays_as_it_is() {
    for workers in [1_u8, 2, 4] {
        let mut world = World::new(Plan { workers, ..Plan::default() });
        let sent = open(&mut world, CLIENT);
        let seen = judge_any(&sent.frame).unwrap();
        world.wait(2);
        let before = world.list(16);
        let (local, backend) = (
            SocketAddr::new(seen.source, seen.ports.0),
            SocketAddr::new(seen.destination, seen.ports.1),
        );
        let back = Flow { protocol: Protocol::Tcp, source: backend, destination: local };
        for (asked, is_clients) in [(flow(Protocol::Tcp, CLIENT, VIP), true), (back, false)] {
            let found: Vec<_> =
                (0..usize::from(workers)).map(|worker| world.find(worker, asked)).collect();
            let known: Vec<_> = found.iter().filter_map(|find| find.known).collect();
            assert_eq!(known.len(), 1, "{workers} workers");
            assert_eq!(known[0].is_clients, is_clients);
            let leaves = if is_clients {
                (local, backend)
            } else {
                let ends = flow(Protocol::Tcp, VIP, CLIENT);
                (ends.source, ends.destination)
            };
            assert_eq!(known[0].leaves_as, leaves);
            assert_eq!(known[0].way.unwrap().port, PortId(u8::from(is_clients)));
        }
        assert_eq!(world.list(16), before, "nobody has touched it");
        world.one(0, 1, &answer(&sent, ACK));
    }
}

#[test]
fn the_owner_that_is_said_is_the_one_that_gets_the_connection() {
    let mut world = World::new(Plan { workers: 4, ..Plan::default() });
    let mut owners = std::collections::BTreeSet::new();
    for port in 3000..3032 {
        let said = world.find(usize::from(port % 4), flow(Protocol::Tcp, client(port), VIP));
        assert!(said.known.is_none());
        world.one(usize::from(port % 4), 0, &from_client(client(port), SYN));
        let all = world.list(64);
        let made = all.iter().find(|row| row.client.port() == port).unwrap();
        assert_eq!(said.owner, Some(made.worker), "{port}");
        owners.insert(made.worker);
    }
    assert_eq!(owners.len(), 4);
}
