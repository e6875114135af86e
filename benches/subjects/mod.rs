//! What is measured alone: one step of a packet's way each, without ports.
//!
//! `data_path.rs` times them (criterion), `instructions.rs` runs them under valgrind, where
//! `tests/instructions.rs` holds how many instructions each may take. A subject is a closure that
//! does its step so many times.

use std::hint::black_box;
use std::net::Ipv4Addr;
use std::sync::Arc;

use shunt::dataplane::conn::candidates::Candidates;
use shunt::dataplane::conn::expiry::Sweep;
use shunt::dataplane::conn::index::Seed;
use shunt::dataplane::conn::key::{FlowKey, Side};
use shunt::dataplane::conn::ports::Ownership;
use shunt::dataplane::conn::record::{NewConnection, Way};
use shunt::dataplane::conn::state::State;
use shunt::dataplane::conn::table::{Table, Tables};
use shunt::dataplane::flows::{Fate, Flows, Origin};
use shunt::dataplane::io::memory::VecPacket;
use shunt::dataplane::io::{BURST, Packet as _, RxInfo};
use shunt::dataplane::lookup::Looks;
use shunt::dataplane::parse::{self, Parsed};
use shunt::dataplane::rewrite::{Translation, translate};
use shunt::dataplane::sched::{Chooser, Entry, Flags, Flow, Scheduler, Scheduling};
use shunt::dataplane::snapshot::{
    Backend, ClientAddress, Limit, Link, Mode, NextHop, PortView, Service, ServiceAddress,
    Snapshot, Steering,
};
use shunt::dataplane::sources::Seat;
use shunt::ids::{BackendId, PortId, ServiceId, WorkerId};
use shunt::stats::loads::Loads;
use shunt::wire::Mac;
use shunt::wire::checksum::{self, Delta};

mod ways;

/// Does its step so many times.
pub(crate) type Run = Box<dyn FnMut(u32)>;

/// Connections of the tables: all in the first caches, so that what counts is the work.
const FLOWS: u32 = 1_000;
/// Backends to choose from.
const BACKENDS: u32 = 64;

const TCP: u8 = 6;
const VIP: (Ipv4Addr, u16) = (Ipv4Addr::new(198, 51, 100, 10), 80);
const BACKEND: (Ipv4Addr, u16) = (Ipv4Addr::new(172, 16, 0, 1), 8080);
const LOCAL: Ipv4Addr = Ipv4Addr::new(172, 17, 0, 1);
const HOP: NextHop = NextHop { port: PortId(1), source: Mac([2; 6]), destination: Mac([4; 6]) };

/// All of them, by name.
pub(crate) fn all() -> Vec<(&'static str, Run)> {
    let mut subjects: Vec<(&'static str, Run)> = vec![
        ("parse_v4", parse_v4()),
        ("parse_v6", parse_v6()),
        ("lookup", lookup()),
        ("rewrite", rewrite()),
        ("open_and_end", open_and_end()),
        ("checksum_1500_bytes", checksum_whole()),
        ("checksum_incremental", checksum_incremental()),
        ("port_choice", port_choice()),
        ("insert_and_remove", insert_and_remove()),
        ("sweep_of_a_live_record", sweep()),
    ];
    subjects.extend(ways::all());
    for (step, name) in CHOICES {
        subjects.extend(Scheduler::named(name).map(|scheduler| (step, choice(scheduler))));
    }
    subjects
}

/// Schedulers: those most use, and one of each kind of work.
const CHOICES: [(&str, &str); 4] = [
    ("scheduler_rr", "rr"),
    ("scheduler_wrr", "wrr"),
    ("scheduler_wlc", "wlc"),
    ("scheduler_mh", "mh"),
];

/// A TCP segment without payload, in a frame of the smallest size.
fn frame() -> [u8; 60] {
    let mut frame = [0; 60];
    frame[..6].copy_from_slice(&[2; 6]);
    frame[12..14].copy_from_slice(&[0x08, 0x00]);
    frame[14] = 0x45;
    frame[16..18].copy_from_slice(&40u16.to_be_bytes());
    frame[22..24].copy_from_slice(&[64, TCP]);
    frame[26..30].copy_from_slice(&Ipv4Addr::new(192, 0, 2, 7).octets());
    frame[30..34].copy_from_slice(&VIP.0.octets());
    frame[34..38].copy_from_slice(&[0x9c, 0x40, 0, 80]);
    frame[46..48].copy_from_slice(&[5 << 4, 0x10]);
    let sum = checksum::checksum(&frame[14..34]);
    frame[24..26].copy_from_slice(&sum.to_ne_bytes());
    frame
}

fn frame_v6() -> [u8; 74] {
    let mut frame = [0; 74];
    frame[..6].copy_from_slice(&[2; 6]);
    frame[12..14].copy_from_slice(&[0x86, 0xdd]);
    frame[14] = 0x60;
    frame[18..20].copy_from_slice(&20u16.to_be_bytes());
    frame[20..22].copy_from_slice(&[TCP, 64]);
    frame[22] = 0x20;
    frame[37] = 7;
    frame[38] = 0x20;
    frame[53] = 10;
    frame[54..58].copy_from_slice(&[0x9c, 0x40, 0, 80]);
    frame[66..68].copy_from_slice(&[5 << 4, 0x10]);
    frame
}

fn parse_v4() -> Run {
    let frame = frame();
    assert!(parse::common(&frame, RxInfo::default()).is_some(), "an ordinary frame");
    Box::new(move |times| {
        for _ in 0..times {
            black_box(parse::common(black_box(&frame), RxInfo::default()));
        }
    })
}

fn parse_v6() -> Run {
    let frame = frame_v6();
    assert!(parse::common_v6(&frame, RxInfo::default()).is_some(), "an ordinary frame");
    Box::new(move |times| {
        for _ in 0..times {
            black_box(parse::common_v6(black_box(&frame), RxInfo::default()));
        }
    })
}

fn client(n: u32) -> FlowKey {
    let [_, b, c, d] = n.to_be_bytes();
    FlowKey::new(TCP, (Ipv4Addr::new(10, b, c, d), 40_000), VIP)
}

fn connection(n: u32) -> NewConnection {
    let local = u16::try_from(1024 + n).unwrap_or(u16::MAX);
    NewConnection {
        client: client(n),
        backend: FlowKey::new(TCP, BACKEND, (LOCAL, local)),
        service: ServiceId(0),
        backend_id: BackendId(0),
        client_mac: Mac([6; 6]),
        client_port: PortId(0),
        state: State::Established,
        way: Way::Translated,
        introduction: ClientAddress::None,
        seat: Seat::default(),
    }
}

#[expect(clippy::expect_used, reason = "without memory nothing can be measured")]
fn table(capacity: u32) -> Table {
    Table::new(capacity, Seed([1, 2])).expect("memory for a small table")
}

#[expect(clippy::expect_used, reason = "a table with room takes a connection")]
fn filled(capacity: u32) -> Table {
    let mut table = table(capacity);
    for n in 0..FLOWS {
        table.insert(&connection(n), 0).expect("room");
    }
    table
}

fn lookup() -> Run {
    let table = filled(FLOWS);
    let keys: Vec<_> = (0..FLOWS).map(client).collect();
    Box::new(move |times| {
        for n in 0..times {
            let key = keys[(n % FLOWS) as usize];
            let hash = table.hash(key);
            table.prefetch_bucket(hash);
            let guess = table.guess(hash);
            black_box(table.confirm(guess, key, hash));
        }
    })
}

#[expect(clippy::expect_used, reason = "shown by `parse_v4`")]
fn rewrite() -> Run {
    let table = filled(FLOWS);
    let mut frame = frame();
    let parsed: Parsed = parse::common(&frame, RxInfo::default()).expect("an ordinary frame");
    let key = client(7);
    let hit = table.find(key, table.hash(key)).expect("a connection");
    let record = *table.record(hit.slot);
    let to = record.translated(Side::Client);
    let (ip_delta, l4_delta) = record.deltas(Side::Client);
    let translation = Translation { addresses: to.addresses, ports: to.ports, ip_delta, l4_delta };
    Box::new(move |times| {
        for _ in 0..times {
            let done = translate::rewrite(&mut frame, &parsed, HOP.pair(), black_box(&translation));
            black_box(done);
        }
    })
}

/// What a worker knows, `rr` among the backends, two ports.
#[expect(clippy::expect_used, reason = "without memory nothing can be measured")]
fn flows() -> (Flows, Arc<Snapshot>) {
    let snapshot = world(Scheduler::named("rr").expect("there is one"));
    let tables = Tables::new(FLOWS, Seed([1, 2])).expect("memory for small tables");
    let snapshot = Arc::new(snapshot);
    let ownership = Ownership::new(WorkerId(0), 1, &[]);
    (Flows::new(tables, Arc::clone(&snapshot), ownership, Arc::default()), snapshot)
}

/// A SYN that makes a connection, a burst at a time, and that connection's end by the sweep.
fn open_and_end() -> Run {
    let (mut flows, snapshot) = flows();
    let syn = |n| with_flags(frame_of(n), 0x02);
    let mut burst: Vec<_> = (0u32..).take(BURST).map(|n| VecPacket::new(&syn(n))).collect();
    let (mut looks, mut next, mut now_ms) = (Looks::default(), 0, 0);
    Box::new(move |times| {
        for _ in 0..times as usize / BURST {
            for packet in &mut burst {
                next += 1;
                packet.data_mut().copy_from_slice(&syn(next));
            }
            looks.look(&burst, flows.tables(), Some(snapshot.stations()), &mut ());
            for (at, packet) in burst.iter_mut().enumerate() {
                let fate = looks.get(at).map(|look| flows.decide(packet, look, Origin::Port));
                assert_eq!(fate, Some(Fate::Send(HOP.port)), "a new connection's first packet");
            }
            // Long enough for all of them to be over, and looked at.
            now_ms += 120_000;
            flows.tick(now_ms);
            while flows.is_behind() {
                flows.tick(now_ms);
            }
            assert!(flows.tables().is_empty(), "nobody answered");
        }
    })
}

/// The same segment with these flags: nobody looks at its checksum.
fn with_flags(mut frame: [u8; 60], flags: u8) -> [u8; 60] {
    frame[47] = flags;
    frame
}

/// What that client sends.
fn frame_of(n: u32) -> [u8; 60] {
    let mut frame = frame();
    let [_, b, c, d] = n.to_be_bytes();
    frame[26..30].copy_from_slice(&[10, b, c, d]);
    frame[24..26].fill(0);
    let sum = checksum::checksum(&frame[14..34]);
    frame[24..26].copy_from_slice(&sum.to_ne_bytes());
    frame
}

/// The same of IPv6, which has no checksum of its own.
fn frame_of_v6(n: u32) -> Vec<u8> {
    let mut frame = frame_v6();
    frame[30..34].copy_from_slice(&n.to_be_bytes());
    frame.to_vec()
}

fn checksum_whole() -> Run {
    let packet = vec![0x5a; 1500];
    Box::new(move |times| {
        for _ in 0..times {
            black_box(checksum::checksum(black_box(&packet)));
        }
    })
}

fn checksum_incremental() -> Run {
    let mut sum = 0x1234;
    Box::new(move |times| {
        for n in 0..times {
            sum = Delta::of_u32(n, black_box(!n)).apply(sum);
        }
        black_box(sum);
    })
}

fn port_choice() -> Run {
    let table = filled(FLOWS);
    let ownership = Ownership::new(WorkerId(0), 1, &[]);
    let mut turn = 0;
    Box::new(move |times| {
        for _ in 0..times {
            let is_free = |key| table.find(key, table.hash(key)).is_none();
            black_box(ownership.choose(&mut turn, &[LOCAL], TCP, BACKEND, is_free));
        }
    })
}

fn insert_and_remove() -> Run {
    let mut table = filled(2 * FLOWS);
    let mut n = FLOWS;
    Box::new(move |times| {
        for _ in 0..times {
            n = if n + 1 < 2 * FLOWS { n + 1 } else { FLOWS };
            if let Ok(slot) = table.insert(&connection(n), 0) {
                table.remove(slot);
            }
        }
    })
}

fn sweep() -> Run {
    let mut table = filled(FLOWS);
    let (mut sweep, mut now_ms) = (Sweep::default(), 0);
    let mut candidates = Candidates::default();
    // One record a millisecond: the table goes round in a second.
    Box::new(move |times| {
        for _ in 0..times {
            now_ms += 1;
            sweep.run(
                &mut table,
                now_ms,
                &mut candidates,
                |record| black_box(record.seen_ms) > 1,
                |_, _| (),
            );
        }
    })
}

fn choice(scheduler: Scheduler) -> Run {
    let snapshot = world(scheduler);
    let loads = Loads::default();
    let mut chooser = Chooser::new(WorkerId(0), 1, 1);
    Box::new(move |times| {
        for n in 0..times {
            let [_, b, c, d] = n.to_be_bytes();
            let flow = Flow {
                client: Ipv4Addr::new(10, b, c, d).into(),
                client_port: 40_000,
                vip: VIP.0.into(),
                datagram: &[],
                now_ms: 0,
            };
            let chosen = chooser.place(&snapshot, &loads, ServiceId(0), &flow);
            if let Some(backend) = black_box(chosen) {
                loads.give_back(backend, false, Limit::NONE);
                chooser.changed(&snapshot, &loads, backend);
            }
        }
    })
}

fn world(scheduler: Scheduler) -> Snapshot {
    let address = |n: u32| {
        let [.., d] = (n + 1).to_be_bytes();
        Ipv4Addr::new(172, 16, 0, d)
    };
    let entry = |n: u32| Entry {
        address: (address(n), BACKEND.1).into(),
        weight: 1,
        last_weight: 1,
        server_id: None,
    };
    let entries: Vec<_> = (0..BACKENDS).rev().map(entry).collect();
    let backend = |n: u32| Backend {
        service: ServiceId(0),
        address: address(n).into(),
        port: BACKEND.1,
        mode: Mode::Fullnat,
        answers_here: false,
        our_address: LOCAL.into(),
        weight: 1,
        limit: Limit::NONE,
        next_hop: Some(HOP),
    };
    let mut snapshot = Snapshot::default();
    snapshot.accepting = true;
    snapshot.services = [Some(Service {
        addresses: [ServiceAddress::one(VIP.0.into(), VIP.1)].into(),
        locals: [LOCAL.into()].into_iter().collect(),
        scheduling: Scheduling::prepare(scheduler, Flags::default(), &entries),
        backends: (0..BACKENDS).rev().map(BackendId).collect(),
        revision: 1,
        ..Service::default()
    })]
    .into();
    snapshot.backends = (0..BACKENDS).map(|n| Some(backend(n))).collect();
    let (mac, mtu) = (HOP.source, 1500);
    let port = PortView { mac, mtu, steering: Steering::Software, link: Link::Device };
    snapshot.ports = [port.clone(), port].into();
    snapshot.indexed()
}
