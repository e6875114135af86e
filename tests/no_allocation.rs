//! The packet path allocates nothing: not for a hit, not for a new connection, not for a refusal,
//! a reply, a handover, a punt, a snapshot or a listing, a piece of a packet or a PROXY header. What
//! is cut allocates here a buffer for each piece, since a `Vec` packet is one; an mbuf is not.
//!
//! The allocator counts what this thread asks of it; freeing is not counted, since a `Vec` packet
//! that is dropped frees (an mbuf goes back to its pool).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

#[path = "packets/mod.rs"]
mod packets;
#[path = "flows/world.rs"]
#[expect(dead_code, reason = "the world offers more than this test asks of it")]
mod world;

use packets::{CLIENT, Endpoint, VIP, packet};
use shunt::dataplane::capture::{Capture, Ring, Wanted};
use shunt::dataplane::conn::state::flags::{ACK, SYN};
use shunt::dataplane::explain::Flow;
use shunt::dataplane::frag::{Fragments, Key, Outcome};
use shunt::dataplane::io::memory::VecPacket;
use shunt::dataplane::rewrite::cut::cut;
use shunt::dataplane::snapshot::{ClientAddress, Protocol, SynCookies};
use shunt::dataplane::trace::{Passages, Trace};
use shunt::ids::ServiceId;
use shunt::wire::fragment::{self, Span};
use world::{Plan, World};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

#[expect(unsafe_code, reason = "an allocator can only be written so; it forwards to the system's")]
// SAFETY: every call is passed on to `System` with the arguments it came with.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations while every worker polls until nothing moves.
fn allocations(world: &mut World) -> u64 {
    let before = ALLOCATIONS.with(Cell::get);
    world.poll();
    ALLOCATIONS.with(Cell::get) - before
}

/// Every worker has received something: it keeps a buffer to make others from.
fn warm(world: &mut World, workers: usize) {
    for worker in 0..workers {
        world.arrive(worker, 0, &packet().ethertype(0x0806).build());
    }
    world.poll();
    world.sent();
}

fn client(port: u16) -> Endpoint {
    (CLIENT.0, port)
}

#[test]
fn the_counter_counts() {
    let before = ALLOCATIONS.with(Cell::get);
    drop(std::hint::black_box(Box::new(1)));
    assert_eq!(ALLOCATIONS.with(Cell::get) - before, 1);
}

/// What comes, and the frame of packet *n* of it.
type Row = (&'static str, fn(u16) -> Vec<u8>);

#[test]
fn no_packet_costs_an_allocation() {
    let mut world = World::new(Plan { workers: 2, ..Plan::default() });
    warm(&mut world, 2);
    let rows: [Row; 6] = [
        ("new connections", |n| packet().tcp(client(n), VIP).flags(SYN).build()),
        ("known connections", |n| packet().tcp(client(n), VIP).flags(ACK).build()),
        ("udp", |n| packet().udp(client(n), VIP).payload(b"?").build()),
        ("strays, answered", |n| packet().tcp(client(n + 1000), VIP).flags(ACK).build()),
        ("for the kernel", |_| packet().ethertype(0x0806).build()),
        ("malformed", |_| packet().tcp(CLIENT, VIP).ip_wrong_by(1).build()),
    ];
    for (name, frame) in rows {
        (1..200).for_each(|n| world.arrive(usize::from(n % 2), 0, &frame(n)));
        assert_eq!(allocations(&mut world), 0, "{name}");
        world.sent();
    }
    assert!(world.handed_over() > 0, "handovers were among them");
}

#[test]
fn a_snapshot_and_a_listing_cost_no_allocation() {
    let mut world = World::new(Plan::default());
    (1..100).for_each(|n| world.arrive(0, 0, &packet().tcp(client(n), VIP).flags(SYN).build()));
    world.poll();
    world.order_publish();
    assert_eq!(allocations(&mut world), 0, "a snapshot");
    world.order_dump(64);
    assert_eq!(allocations(&mut world), 0, "a listing");
    assert_eq!(world.answers(), 2);
}

#[test]
fn watching_costs_no_allocation() {
    let mut world = World::new(Plan::default());
    warm(&mut world, 1);
    let wanted = Wanted {
        before: true,
        after: true,
        place: None,
        services: [ServiceId(0)].into(),
        filter: Some("40.0.0.12_21.0.1.2048_6.0.0.1_6.0.0.0".parse().unwrap()),
        one_in: NonZeroU32::MIN,
        frames_max: 1000,
    };
    // Of what passes, more than there is room for.
    let (ring, passages) = (Arc::new(Ring::new(64, 64)), Arc::new(Passages::new(4)));
    world.order_capture(0, Some(Capture::new(Arc::new(wanted), Arc::clone(&ring))));
    let [source, destination] = [client(7), VIP].map(SocketAddr::from);
    let flow = Flow { protocol: Protocol::Tcp, source, destination };
    world.order_trace(0, Some(Trace::new(flow, 100, Arc::clone(&passages))));
    (1..200).for_each(|n| {
        world.arrive(0, 0, &packet().tcp(client(n % 20), VIP).flags(SYN).build());
    });
    assert_eq!(allocations(&mut world), 0);
    assert!(ring.missed() > 0 && passages.missed() > 0, "and it was watched");
}

#[test]
fn forgetting_costs_no_allocation() {
    let mut world = World::new(Plan::default());
    (1..200).for_each(|n| {
        world.arrive(0, 0, &packet().udp(client(n), VIP).payload(b"?").build());
    });
    world.poll();
    world.sent();
    let before = ALLOCATIONS.with(Cell::get);
    world.wait(310);
    assert_eq!(ALLOCATIONS.with(Cell::get), before);
    assert_eq!(world.connections(), [0; 4]);
}

#[test]
fn pieces_are_held_released_and_forgotten_without_an_allocation() {
    let mut fragments = Fragments::new();
    let before = ALLOCATIONS.with(Cell::get);
    let mut released = 0;
    for round in 0..20_000_u32 {
        let header = fragment::Header::new(17, Span { offset: 8, more: true }, round / 4);
        let key = Key::v6([7; 32], &header);
        let now_ms = round * 10;
        // Of every other datagram the first piece never comes.
        if round % 8 == 3 {
            fragments.learn(key, round, now_ms);
            released += std::iter::from_fn(|| fragments.released()).count();
        } else {
            assert!(!matches!(fragments.later(key, round, now_ms), Outcome::Known(..)));
        }
        fragments.tick(now_ms);
    }
    assert_eq!(ALLOCATIONS.with(Cell::get), before);
    assert!(released > 1000, "{released} were among them");
}

/// Pieces through two workers: kept, held, handed over, sent, refused.
#[test]
fn pieces_cost_no_allocation_on_their_way() {
    let mut world = World::new(Plan { workers: 2, ..Plan::default() });
    warm(&mut world, 2);
    let piece = |n: u16, place: u16| {
        let frame = packet().udp(client(n), VIP).identification(n).flags_fragment(place);
        frame.payload(&[7; 64]).build()
    };
    let rows: [Row; 3] = [
        ("later pieces, held", |n| {
            let later = packet().udp(CLIENT, VIP).identification(n).flags_fragment(9);
            later.payload(&[7; 64]).build()
        }),
        ("first pieces", |n| {
            let first = packet().udp(client(n), VIP).identification(n).flags_fragment(0x2000);
            first.payload(&[7; 64]).build()
        }),
        ("tiny first pieces", |n| {
            let tiny = packet().tcp(client(n), VIP).identification(n).flags_fragment(0x2000);
            tiny.cut(8).build()
        }),
    ];
    for (name, frame) in rows {
        (1..200).for_each(|n| world.arrive(usize::from(n % 2), 0, &frame(n)));
        assert_eq!(allocations(&mut world), 0, "{name}");
        world.sent();
    }
    (1..200).for_each(|n| world.arrive(0, 0, &piece(n, 9)));
    assert_eq!(allocations(&mut world), 0, "later pieces of what is known");
    assert!(world.sent().len() > 100);
}

#[test]
fn telling_who_the_client_is_costs_no_allocation() {
    for how in [ClientAddress::Toa { kind_v6: 254 }, ClientAddress::ProxyV1, ClientAddress::ProxyV2]
    {
        let mut world = World::new(Plan { workers: 2, ..Plan::default() });
        warm(&mut world, 2);
        world.publish(|snapshot| {
            snapshot.services.iter_mut().flatten().for_each(|service| service.client_address = how);
        });
        let rows: [Row; 3] = [
            ("SYN", |n| packet().tcp(client(n), VIP).flags(SYN).numbers(6, 0).build()),
            ("data", |n| packet().tcp(client(n), VIP).numbers(7, 1).payload(b"data").build()),
            ("a datagram", |n| packet().udp(client(n), VIP).payload(b"?").build()),
        ];
        for (name, frame) in rows {
            (1..200).for_each(|n| world.arrive(usize::from(n % 2), 0, &frame(n)));
            assert_eq!(allocations(&mut world), 0, "{how:?}: {name}");
            assert_eq!(world.sent().len(), 199);
        }
    }
}

#[test]
fn cookies_cost_no_allocation_but_a_buffer_to_make_others_from() {
    let mut world = World::new(Plan { workers: 2, ..Plan::default() });
    world.publish(|snapshot| {
        let services = snapshot.services.iter_mut().flatten();
        services.for_each(|service| service.syn_cookies = SynCookies::Always);
    });
    warm(&mut world, 2);
    let syn = |n| packet().tcp(client(n), VIP).flags(SYN).numbers(6, 0).build();
    (1..200).for_each(|n| world.arrive(usize::from(n % 2), 0, &syn(n)));
    assert_eq!(allocations(&mut world), 0, "answers");
    let told = world.sent();
    assert_eq!(told.len(), 199);
    // Each answer's number comes back; every other time with data, which waits.
    for (n, answer) in told.iter().enumerate() {
        let frame = &answer.frame;
        let port = u16::from_be_bytes([frame[36], frame[37]]);
        let number = u32::from_be_bytes(frame[38..42].try_into().unwrap()).wrapping_add(1);
        let back = packet().tcp((CLIENT.0, port), VIP).numbers(7, number);
        let back = if n % 2 == 0 { back } else { back.payload(b"data") };
        world.arrive(answer.worker, 0, &back.build());
    }
    // What is made of a worker's spare for each connection whose first segment waits.
    let made = allocations(&mut world);
    assert!((99..=100).contains(&made), "{made}");
    assert_eq!(world.sent().len(), 199, "a SYN for each");
}

#[test]
fn cutting_costs_no_allocation_but_the_buffers_of_the_pieces() {
    let frame = packet().udp(CLIENT, VIP).payload(&[0; 1400]).build();
    let whole = VecPacket::new(&frame);
    let before = ALLOCATIONS.with(Cell::get);
    let mut sent = 0_u64;
    let count = cut(whole, 14, 576, 0, &mut |_| sent += 1);
    // A buffer made of a `Vec` is one allocation; an mbuf comes from its pool.
    assert_eq!(ALLOCATIONS.with(Cell::get) - before, sent - 1);
    assert_eq!((count, sent), (Ok(3), 3));
}
