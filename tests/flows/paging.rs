//! A million connections listed while the worker forwards: each once, and no poll does more for it than one page.
//!
//! ```text
//! poll:  [ at most one order: 1,024 slots ]  [ packets ]      poll:  [ the next 1,024 slots ]  [ packets ]   …
//! ```
//!
//! A poll's part in it is counted in slots and not in time: that bound holds on every machine, and in every build.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use shunt::dataplane::orders::{ConnectionView, Page};
use shunt::dataplane::snapshot::{Mode, Protocol};

use crate::packets::{VIP, packet};
use crate::world::{Plan, World};

/// Flows of UDP in DR, one datagram each.
const CONNECTIONS: u32 = 1_000_000;
/// Packets that arrive at once while tables are filled.
const AT_ONCE: usize = 2000;
/// The address of the first IPv4 client.
const FIRST_V4: u32 = 0x0b00_0000;
const VIP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7);

/// The address of a client, by its number.
fn v4(n: u32) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::from_bits(FIRST_V4 + n), 40_000))
}

fn v6(n: u32) -> SocketAddr {
    SocketAddr::from((Ipv6Addr::from_bits((0x2001_0db8_0001 << 80) + u128::from(n)), 40_000))
}

/// Its datagram.
fn datagram(client: SocketAddr) -> Vec<u8> {
    let vip = if client.is_ipv4() { VIP.0.into() } else { IpAddr::V6(VIP6) };
    packet().udp(client, SocketAddr::new(vip, VIP.1)).payload(b"x").build()
}

/// The same with another source, in IPv4: a million are not built one by one.
fn from_another(template: &[u8], client: Ipv4Addr) -> Vec<u8> {
    let mut frame = template.to_vec();
    frame[26..30].copy_from_slice(&client.octets());
    frame[24..26].fill(0);
    let words = frame[14..34].chunks(2).map(|it| u32::from(u16::from_be_bytes([it[0], it[1]])));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap();
    frame[24..26].copy_from_slice(&(!folded).to_be_bytes());
    frame
}

/// A datagram of each of so many clients has gone on.
fn filled(world: &mut World, clients: u32) {
    let template = packet().udp(v4(0), VIP).without_checksum().payload(b"x").build();
    let all: Vec<u32> = (0..clients).collect();
    for some in all.chunks(AT_ONCE) {
        for n in some {
            let client = Ipv4Addr::from_bits(FIRST_V4 + n);
            world.arrive(0, 0, &from_another(&template, client));
        }
        world.poll();
        assert_eq!(world.sent().len(), some.len(), "drops: {:?}", world.drops());
    }
}

/// A datagram of each of these clients has gone on.
fn opened(world: &mut World, clients: impl Iterator<Item = SocketAddr>) {
    let clients: Vec<_> = clients.collect();
    for some in clients.chunks(AT_ONCE) {
        for client in some {
            world.arrive(0, 0, &datagram(*client));
        }
        world.poll();
        assert_eq!(world.sent().len(), some.len(), "drops: {:?}", world.drops());
    }
}

/// How often each of the first so many clients was listed.
#[derive(Debug)]
struct Told(Vec<u8>);

impl Told {
    fn of(clients: u32) -> Self {
        Self(vec![0; clients as usize])
    }

    /// Who has another address is another's.
    fn note(&mut self, row: &ConnectionView, first: SocketAddr) {
        let number = |address: IpAddr| match address {
            IpAddr::V4(address) => u128::from(address.to_bits()),
            IpAddr::V6(address) => address.to_bits(),
        };
        let n = number(row.client.ip()).checked_sub(number(first.ip()));
        let n = n.filter(|_| row.client.is_ipv4() == first.is_ipv4());
        if let Some(times) = n.and_then(|n| self.0.get_mut(usize::try_from(n).ok()?)) {
            *times += 1;
        }
    }

    fn all_once(&self) {
        let wrong = self.0.iter().position(|times| *times != 1);
        assert_eq!(wrong.map(|n| (n, self.0[n])), None, "a client, and how often it was listed");
    }
}

#[test]
fn a_million_connections_are_each_listed_once_and_every_poll_forwards_as_well() {
    let plan = Plan {
        capacity: CONNECTIONS + 4096,
        protocols: vec![Protocol::Udp],
        modes: vec![Mode::Dr; 3],
        ..Plan::default()
    };
    let mut world = World::new(plan);
    filled(&mut world, CONNECTIONS);
    assert_eq!(world.connections()[0], CONNECTIONS);

    let (mut told, mut page, mut polls) = (Told::of(CONNECTIONS), Page::default(), 0);
    while !page.done {
        // Someone who is known, and someone who is new: both go on in the very poll that turns a page.
        let new = CONNECTIONS + polls;
        for client in [v4(polls), v4(new)] {
            world.arrive(0, 0, &datagram(client));
        }
        let cursor = page.cursor;
        page = world.turn(0, Page { cursor, rows: Vec::with_capacity(10_000), ..Page::default() });
        assert_eq!(world.sent().len(), 2, "at {cursor}: {:?}", world.drops());
        let looked = page.cursor - cursor;
        assert!(page.done || looked <= Page::SLOTS_MAX, "{looked} slots from {cursor} on");
        assert!(page.rows.len() <= Page::SLOTS_MAX as usize, "{} rows", page.rows.len());
        page.rows.iter().for_each(|row| told.note(row, v4(0)));
        polls += 1;
    }
    told.all_once();
    assert!(polls >= CONNECTIONS / Page::SLOTS_MAX, "{polls} polls");
}

/// Between two pages the other family's table may grow: who stays is neither missed nor told twice.
#[test]
fn a_place_in_one_familys_table_does_not_move_when_the_others_grows() {
    let vips = vec![VIP.0.into(), VIP6.into()];
    let plan = Plan { capacity: 20_000, protocols: vec![Protocol::Udp], vips, ..Plan::default() };
    let (early, clients) = (100, 3000);
    for rows in [7, 500, 10_000] {
        let mut world = World::new(plan.clone());
        opened(&mut world, (0..early).map(v4).chain((0..clients).map(v6)));
        let (mut first, mut second) = (Told::of(early), Told::of(clients));
        let (mut page, mut late) = (Page::default(), early);
        while !page.done {
            page = world.turn(
                0,
                Page { cursor: page.cursor, rows: Vec::with_capacity(rows), ..Page::default() },
            );
            for row in &page.rows {
                first.note(row, v4(0));
                second.note(row, v6(0));
            }
            let more = if late < 10_000 { 20 } else { 0 };
            opened(&mut world, (late..late + more).map(v4));
            late += more;
        }
        first.all_once();
        second.all_once();
    }
}

/// A page that nobody waits for any more is a page: the next order is carried out as if it had not been.
#[test]
fn an_order_that_nobody_waits_for_holds_nothing_up() {
    let plan = Plan { protocols: vec![Protocol::Udp], modes: vec![Mode::Dr; 3], ..Plan::default() };
    let mut world = World::new(plan);
    opened(&mut world, (0..1000).map(v4));
    world.order_dump(10);
    world.poll();
    assert_eq!(world.answers(), 1);
    let mut told = Told::of(1000);
    world.list(64).iter().for_each(|row| told.note(row, v4(0)));
    told.all_once();
}
