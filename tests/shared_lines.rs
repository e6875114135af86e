//! The packets of established connections write no line of memory that another worker looks at: so workers
//! cost each other nothing, however many there are. What a connection writes in its life is counted.
//!
//! Two workers of the real data path share what those of `shuntd` share: snapshot, mailboxes, loads, tallies,
//! sources, persistence templates. All of it is read-only while they poll, and every write is seen
//! (`tests/shared/trap.rs`). Lanes between workers, and to the kernel, are shared by design and are not
//! part of it: a packet that meets its owner touches none.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

#[path = "packets/mod.rs"]
mod packets;
#[path = "shared/trap.rs"]
mod trap;
#[path = "flows/world.rs"]
#[expect(dead_code, reason = "the world offers more than this test asks of it")]
mod world;

use packets::oracle::{judge, judge_any};
use packets::{CLIENT, CLIENT_V6, Endpoint, OUR_INNER_MAC, VIP, VIP_V6, packet};
use shunt::dataplane::conn::state::flags::{ACK, FIN, PSH, SYN};
use shunt::dataplane::persistence::Persistence;
use shunt::dataplane::snapshot::{
    Encapsulation, Limit, Mode, Quota, Quotas, Rate, Scheduler, Snapshot, SourceQuota,
};
use shunt::ids::{BackendId, limits};
use shunt::stats::loads::Loads;
use shunt::wire::Mac;
use world::{Plan, Sent, World, backend_mac};

const IPIP: Mode = Mode::Tunnel(Encapsulation::Ipip);
const B: BackendId = BackendId(7);
/// Writes of both workers for a millisecond: six places of a bucket, three words each, twice, and claims.
const HOUSEKEEPING_MAX: usize = 80;
/// No line.
const NONE: [usize; 0] = [];
/// Connections opened in each world.
const CONNECTIONS: u16 = 40;
/// Packets of each of them, each way.
const PACKETS: usize = 10;

/// What a service is like, and how often opening one of its connections writes a shared line, and ending it
/// its backend's load.
type Row = (&'static str, fn(&mut Snapshot), [usize; 2]);

const ROWS: [Row; 5] = [
    ("as it comes", |_| {}, [2, 2]),
    (
        "least connections",
        |snapshot| services(snapshot, |s| s.scheduling = Scheduler::named("lc").unwrap().into()),
        [2, 2],
    ),
    ("backends with a limit", limited, [2, 2]),
    ("sticky", |snapshot| services(snapshot, |s| s.persistence = Some(STICKY)), [7, 2]),
    ("quotas", |snapshot| services(snapshot, |s| s.quotas = QUOTAS), [10, 2]),
];

const STICKY: Persistence =
    Persistence { timeout_ms: 360_000, prefix: 32, to_drained: false, epoch: 1 };
const PLENTY: Quota = Quota { connections: 1000, rate: Rate { per_second: 1000, burst: 1000 } };
const QUOTAS: Quotas =
    Quotas { service: PLENTY, source: Some(SourceQuota { prefix: 32, quota: PLENTY }) };

fn services(snapshot: &mut Snapshot, edit: impl Fn(&mut shunt::dataplane::snapshot::Service)) {
    snapshot.services.iter_mut().flatten().for_each(edit);
}

fn limited(snapshot: &mut Snapshot) {
    for backend in snapshot.backends.iter_mut().flatten() {
        backend.limit = Limit { most: 1000, least: 0 };
    }
}

fn client(n: u16) -> Endpoint {
    (CLIENT.0, 1000 + n)
}

fn from_client(n: u16, flags: u8) -> Vec<u8> {
    packet().tcp(client(n), VIP).flags(flags).build()
}

fn answer(sent: &Sent, flags: u8) -> Vec<u8> {
    let seen = judge(&sent.frame).unwrap();
    let (backend, local) = ((seen.destination, seen.ports.1), (seen.source, seen.ports.0));
    let mac = backend_mac(seen.destination.octets()[3]);
    packet().macs(mac, OUR_INNER_MAC).tcp(backend, local).flags(flags).build()
}

/// What frames that came by a port of a worker wrote, and what left.
fn exchange(
    world: &mut World,
    port: usize,
    frames: &[(usize, Vec<u8>)],
) -> (Vec<usize>, Vec<Sent>) {
    for (worker, frame) in frames {
        world.arrive(*worker, port, frame);
    }
    let writes = trap::writes(|| world.poll());
    (writes, world.sent())
}

/// The frames of all clients, at either worker: one that is not theirs hands them over.
fn of_clients(flags: u8) -> Vec<(usize, Vec<u8>)> {
    (0..CONNECTIONS).map(|n| (usize::from(n % 2), from_client(n, flags))).collect()
}

/// Each at the worker the card would bring it to.
fn answers(sent: &[Sent], flags: u8) -> Vec<(usize, Vec<u8>)> {
    sent.iter().map(|sent| (sent.worker, answer(sent, flags))).collect()
}

/// One test at a time: memory is this process's.
static ALONE: Mutex<()> = Mutex::new(());

#[test]
fn every_write_is_seen_and_nothing_else() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    trap::sharing(true);
    let loads = Loads::default();
    trap::sharing(false);
    let own = Loads::default();
    assert_eq!(trap::writes(|| assert_eq!(loads.of(B).total, 0)), NONE, "looking");
    assert_eq!(trap::writes(|| own.turn(B, true)), NONE, "memory of one's own");
    let written = trap::writes(|| (0..3).for_each(|_| loads.turn(B, true)));
    assert_eq!(written.len(), 3);
    assert!(written.iter().all(|line| *line == written[0]), "one line");
    let elsewhere = trap::writes(|| loads.turn(BackendId(8), true));
    assert_eq!(elsewhere, [written[0] + 1]);
}

#[test]
fn packets_of_established_connections_write_no_shared_line() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    for (name, edit, each_writes) in ROWS {
        let mut world = quiet_world(edit);
        let opened = open(&mut world);
        let (_, sent) = exchange(&mut world, 0, &of_clients(PSH | ACK));
        assert_eq!(sent.len(), usize::from(CONNECTIONS), "{name}: {:?}", world.drops());
        assert!(sent.iter().any(|s| s.worker == 0) && sent.iter().any(|s| s.worker == 1));
        let answers = answers(&sent, PSH | ACK);
        for _ in 0..PACKETS {
            assert_eq!(exchange(&mut world, 0, &of_clients(PSH | ACK)).0, NONE, "{name}: requests");
            assert_eq!(exchange(&mut world, 1, &answers).0, NONE, "{name}: answers");
        }
        assert_eq!(world.drops(), [], "{name}");
        assert_eq!(trap::writes(|| (0..1000).for_each(|_| world.poll())), NONE, "{name}: idle");
        let ended = end(&mut world, &sent);
        let each = |writes: usize| writes.div_ceil(usize::from(CONNECTIONS));
        let found = [each(opened), each(ended)];
        assert_eq!(found, each_writes, "{name}: writes for each connection opened, and ended");
    }
}

/// How connections of a world go, and what is spoken.
struct Kind {
    name: &'static str,
    mode: Mode,
    is_v6: bool,
    is_udp: bool,
}

impl Kind {
    const ALL: [Self; 6] = [
        Self { name: "NAT", mode: Mode::Nat, is_v6: false, is_udp: false },
        Self { name: "DR", mode: Mode::Dr, is_v6: false, is_udp: false },
        Self { name: "IPIP", mode: IPIP, is_v6: false, is_udp: false },
        Self { name: "UDP", mode: Mode::Fullnat, is_v6: false, is_udp: true },
        Self { name: "IPv6", mode: Mode::Fullnat, is_v6: true, is_udp: false },
        Self { name: "IPv6 UDP", mode: Mode::Nat, is_v6: true, is_udp: true },
    ];

    fn plan(&self) -> Plan {
        let plan = Plan { workers: 2, sharing: trap::sharing, ..Plan::default() };
        let plan = Plan { modes: vec![self.mode; 3], ..plan };
        if !self.is_v6 {
            return plan;
        }
        let (vips, locals_v6) = (vec![VIP_V6.0.into()], vec!["2001:db8:44::2".parse().unwrap()]);
        Plan { vips, locals_v6, v6: vec![true; 3], ..plan }
    }

    /// A packet between those two.
    fn between(&self, macs: Option<Mac>, ends: [SocketAddr; 2], flags: u8) -> Vec<u8> {
        let packet = macs.map_or_else(packet, |mac| packet().macs(mac, OUR_INNER_MAC));
        let [source, destination] = ends;
        if self.is_udp {
            packet.udp(source, destination).build()
        } else {
            packet.tcp(source, destination).flags(flags).build()
        }
    }

    fn of_clients(&self, flags: u8) -> Vec<(usize, Vec<u8>)> {
        let ends = |n: u16| {
            if self.is_v6 {
                [(CLIENT_V6.0, 1000 + n).into(), VIP_V6.into()]
            } else {
                [client(n).into(), VIP.into()]
            }
        };
        let frame = |n: u16| (usize::from(n % 2), self.between(None, ends(n), flags));
        (0..CONNECTIONS).map(frame).collect()
    }

    /// What backends answer, where that passes here.
    fn answers(&self, sent: &[Sent], flags: u8) -> Vec<(usize, Vec<u8>)> {
        let passes = matches!(self.mode, Mode::Nat | Mode::Fullnat);
        let answer = |sent: &Sent| {
            let seen = judge_any(&sent.frame).unwrap();
            let ends = [(seen.destination, seen.ports.1), (seen.source, seen.ports.0)];
            (
                sent.worker,
                self.between(
                    Some(Mac(*sent.frame.first_chunk().unwrap())),
                    ends.map(SocketAddr::from),
                    flags,
                ),
            )
        };
        sent.iter().filter(|_| passes).map(answer).collect()
    }
}

#[test]
fn nor_do_those_of_any_mode_family_or_protocol() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    for kind in Kind::ALL {
        trap::forget_mappings();
        let mut world = World::new(kind.plan());
        let name = kind.name;
        world.publish(|_| {});
        let (_, first) = exchange(&mut world, 0, &kind.of_clients(SYN));
        exchange(&mut world, 1, &kind.answers(&first, SYN | ACK));
        let (_, sent) = exchange(&mut world, 0, &kind.of_clients(ACK));
        assert_eq!(sent.len(), usize::from(CONNECTIONS), "{name}: {:?}", world.drops());
        let answers = kind.answers(&sent, PSH | ACK);
        for _ in 0..PACKETS {
            let requests = kind.of_clients(PSH | ACK);
            assert_eq!(exchange(&mut world, 0, &requests).0, NONE, "{name}: requests");
            assert_eq!(exchange(&mut world, 1, &answers).0, NONE, "{name}: answers");
        }
        assert_eq!(world.drops(), [], "{name}");
    }
}

/// Opens all connections; how often that wrote a shared line.
fn open(world: &mut World) -> usize {
    let (asked, sent) = exchange(world, 0, &of_clients(SYN));
    let (agreed, _) = exchange(world, 1, &answers(&sent, SYN | ACK));
    let (opened, _) = exchange(world, 0, &of_clients(ACK));
    asked.len() + agreed.len() + opened.len()
}

/// Both ends say goodbye, and time passes until all is forgotten; how often that wrote to a backend's load.
fn end(world: &mut World, sent: &[Sent]) -> usize {
    let loads = loads(world);
    let (asked, _) = exchange(world, 0, &of_clients(FIN | ACK));
    let (agreed, _) = exchange(world, 1, &answers(sent, FIN | ACK));
    let (closed, _) = exchange(world, 0, &of_clients(ACK));
    world.now_ms += 300_000;
    let mut polls = 0;
    let forgotten = trap::writes(|| {
        while world.connections() != [0; 4] && polls < 1000 {
            world.poll();
            polls += 1;
        }
    });
    assert!(polls < 1000, "all is forgotten: {:?}", world.connections());
    let writes = [asked, agreed, closed, forgotten].concat();
    writes.iter().filter(|line| loads.contains(line)).count()
}

/// The lines of all backends' loads.
fn loads(world: &World) -> Range<usize> {
    let loads = &world.stats[0].loads;
    let first = trap::writes(|| loads.turn(BackendId(0), true))[0];
    loads.turn(BackendId(0), false);
    first..first + limits::BACKENDS
}

/// Once a millisecond each worker looks after what all share: a bucket of persistence templates, and one of sources.
/// That has its time, not its packets.
#[test]
fn housekeeping_is_bounded_by_time() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut world = quiet_world(|_| {});
    for _ in 0..10 {
        world.now_ms += 1;
        let writes = trap::writes(|| world.poll());
        assert!((1..=HOUSEKEEPING_MAX).contains(&writes.len()), "{}", writes.len());
        assert_eq!(trap::writes(|| world.poll()), NONE, "in the same millisecond");
    }
}

/// Two workers that have begun.
fn quiet_world(edit: fn(&mut Snapshot)) -> World {
    // Those of the world before.
    trap::forget_mappings();
    let mut world = World::new(Plan { workers: 2, sharing: trap::sharing, ..Plan::default() });
    world.publish(edit);
    world
}

/// Packets that make no connection cost nobody else anything either.
#[test]
fn what_is_refused_or_the_kernels_writes_no_shared_line() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut world = quiet_world(|_| {});
    let rows = [
        ("strays, answered", packet().tcp(client(500), VIP).flags(ACK).build()),
        ("malformed", packet().tcp(CLIENT, VIP).ip_wrong_by(1).build()),
        ("for the kernel", packet().ethertype(0x0806).build()),
    ];
    for (name, frame) in rows {
        let frames = [(0, frame.clone()), (1, frame)];
        assert_eq!(exchange(&mut world, 0, &frames).0, NONE, "{name}");
    }
}
