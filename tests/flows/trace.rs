//! The packets of a flow, followed: which, what became of them, and that stages come in their order.

use std::net::SocketAddr;
use std::sync::Arc;

use shunt::dataplane::conn::state::flags::{ACK, SYN};
use shunt::dataplane::explain::Flow;
use shunt::dataplane::flows::Fate;
use shunt::dataplane::snapshot::Protocol;
use shunt::dataplane::trace::{Passage, Passages, Trace};
use shunt::dataplane::verdict::Reason;
use shunt::ids::PortId;

use crate::life::{answer, client, from_client};
use crate::packets::{CLIENT, Endpoint, VIP};
use crate::world::{Plan, World};

fn flow(from: Endpoint, to: Endpoint) -> Flow {
    let socket = |end: Endpoint| SocketAddr::from((end.0, end.1));
    Flow { protocol: Protocol::Tcp, source: socket(from), destination: socket(to) }
}

/// Has every worker follow a flow.
fn follow(world: &mut World, flow: Flow, count: u64) -> Vec<Arc<Passages>> {
    let workers = usize::from(world.plan.workers);
    let queues: Vec<_> = (0..workers).map(|_| Arc::new(Passages::new(64))).collect();
    for (worker, queue) in queues.iter().enumerate() {
        assert!(!world.order_trace(worker, Some(Trace::new(flow, count, Arc::clone(queue)))));
    }
    queues
}

fn all(queues: &[Arc<Passages>]) -> Vec<Passage> {
    let mut all: Vec<_> =
        queues.iter().flat_map(|queue| std::iter::from_fn(|| queue.take())).collect();
    all.sort_by_key(|passage| passage.times.received);
    all
}

#[test]
fn a_flow_is_followed_both_ways_stage_by_stage_and_no_other_is() {
    let mut world = World::new(Plan::default());
    let queues = follow(&mut world, flow(CLIENT, VIP), 10);
    let sent = world.one(0, 0, &from_client(CLIENT, SYN));
    world.one(0, 0, &from_client(client(5000), SYN));
    world.one(0, 1, &answer(&sent, SYN | ACK));
    let passages = all(&queues);
    let told: Vec<_> =
        passages.iter().map(|it| (it.port, it.is_known, it.fate, it.refused)).collect();
    let (wan, lan) = (PortId(0), PortId(1));
    assert_eq!(told, [(wan, false, Fate::Send(lan), None), (lan, true, Fate::Send(wan), None)]);
    assert_eq!(passages[0].source, flow(CLIENT, VIP).source);
    assert_eq!(passages[1].destination.ip(), std::net::IpAddr::from([10, 44, 0, 2]));
    for Passage { times, .. } in passages {
        let stages =
            [times.received, times.parsed, times.looked_up, times.begun, times.decided, times.sent];
        assert!(stages.is_sorted_by(|a, b| a < b), "{stages:?}");
    }
    assert!(world.order_trace(0, None), "what was given comes back");
    world.one(0, 0, &from_client(CLIENT, ACK));
    assert_eq!(all(&queues), []);
}

#[test]
fn a_packet_that_is_refused_has_its_reason() {
    let mut world = World::new(Plan::default());
    let elsewhere = (VIP.0, 81);
    let queues = follow(&mut world, flow(CLIENT, elsewhere), 10);
    world.exchange(0, 0, &crate::packets::packet().tcp(CLIENT, elsewhere).flags(SYN).build());
    let passages = all(&queues);
    assert_eq!(passages.len(), 1);
    assert_eq!(passages[0].refused, Some(Reason::NoService));
}

#[test]
fn a_packet_that_changes_hands_is_seen_by_both_workers() {
    let mut world = World::new(Plan { workers: 2, ..Plan::default() });
    let mut seen = 0;
    for port in 3000..3016 {
        let queues = follow(&mut world, flow(client(port), VIP), 10);
        world.one(0, 0, &from_client(client(port), SYN));
        let mut passages = all(&queues);
        passages.sort_by_key(|passage| passage.is_taken_over);
        let handed = passages.iter().filter(|it| matches!(it.fate, Fate::HandOver(_))).count();
        assert_eq!(passages.len(), 1 + handed, "{port}");
        assert!(matches!(passages.last().unwrap().fate, Fate::Send(PortId(1))));
        assert_eq!(passages.last().unwrap().is_taken_over, handed == 1);
        seen += handed;
        (0..2).for_each(|worker| assert!(world.order_trace(worker, None)));
    }
    assert!(seen > 0, "handovers were among them");
}

#[test]
fn a_trace_ends_with_its_count_and_misses_what_nobody_reads() {
    let mut world = World::new(Plan::default());
    let queue = Arc::new(Passages::new(4));
    let part = Trace::new(flow(CLIENT, VIP), 10, Arc::clone(&queue));
    world.order_trace(0, Some(part));
    for flags in std::iter::once(SYN).chain([ACK; 19]) {
        world.exchange(0, 0, &from_client(CLIENT, flags));
    }
    assert_eq!((all(&[Arc::clone(&queue)]).len(), queue.missed()), (4, 6));
}
