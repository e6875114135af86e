//! Identifications of what leaves in pieces, or may be cut: nobody's datagram is put together with
//! parts of another's (RFC 6864).

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use shunt::dataplane::snapshot::{Encapsulation, Mode, Snapshot};

use crate::ends::{self, ask, plan};
use crate::packets::{VIP, packet};
use crate::parts::{VIP6, all_v6, cut, number as of};
use crate::world::{Card, Plan, World};

/// Under a local address clients share, two with one number do not meet; the pieces of a datagram stay
/// together wherever they land, and one client's datagrams apart. Elsewhere numbers stay.
#[test]
fn clients_that_share_an_address_share_no_numbers() {
    for (v6, workers) in [(false, 1), (false, 4), (true, 1), (true, 4)] {
        let plan = |mode| Plan { modes: vec![mode; 3], workers, ..Plan::default() };
        let family = |snapshot: &mut Snapshot| {
            if v6 {
                all_v6(snapshot);
            }
        };
        let sent_of = |world: &mut World, from: IpAddr, number: u32| {
            let to: SocketAddr = if v6 { VIP6.into() } else { VIP.into() };
            let ask = packet().udp((from, 4000), to).flags_fragment(0).payload(&[7; 1400]);
            let pieces = cut(&ask.build(), &[504, 504], number);
            let sent = pieces
                .iter()
                .enumerate()
                .rev()
                .flat_map(|(at, piece)| world.exchange(at % usize::from(workers), 0, piece));
            let numbers: Vec<u32> = sent.map(|sent| of(&sent.frame)).collect();
            assert_eq!(numbers.len(), 3);
            assert!(numbers.iter().all(|other| *other == numbers[0]), "of one datagram");
            numbers[0]
        };
        let client = |n: u8| -> IpAddr {
            if v6 {
                IpAddr::from([0x2001, 0xdb8, 0xc, 0, 0, 0, 0, n.into()])
            } else {
                [192, 0, 2, n].into()
            }
        };
        let mut world = World::new(plan(Mode::Fullnat));
        world.publish(family);
        let mut seen = BTreeSet::new();
        for n in 2..22 {
            let numbers: Vec<_> =
                (1..=10).map(|number| sent_of(&mut world, client(n), number)).collect();
            let own: BTreeSet<_> = numbers.iter().copied().collect();
            assert_eq!(own.len(), 10, "a client's own stay apart");
            seen.extend(own);
        }
        // Of 200 numbers drawn among 65,536 a pair or none meets; as they were sent, all do.
        assert!(seen.len() >= 190, "{v6} {workers}: {}", seen.len());
        for mode in [Mode::Nat, Mode::Dr] {
            let mut world = World::new(plan(mode));
            world.publish(family);
            assert_eq!(sent_of(&mut world, client(2), 7), 7, "{mode:?}");
        }
        assert_eq!(world.drops(), []);
    }
}

/// Source and destination of an IP frame.
fn addresses(frame: &[u8]) -> (IpAddr, IpAddr) {
    let v4 = |at: usize| <[u8; 4]>::try_from(&frame[at..at + 4]).unwrap().into();
    let v6 = |at: usize| <[u8; 16]>::try_from(&frame[at..at + 16]).unwrap().into();
    if frame[14] >> 4 == 4 { (v4(26), v4(30)) } else { (v6(22), v6(38)) }
}

/// A backend that got some pieces and not the others says so, or a router behind us what it has against
/// one. The client hears of what it sent: the number is its own again.
#[test]
fn an_error_about_a_piece_quotes_the_clients_number() {
    let numbers = [(false, false), (true, true), (true, false)];
    for (client_v6, backend_v6) in numbers {
        let mut world = World::new(ends::plan(client_v6, backend_v6, Mode::Fullnat));
        let ask = ends::ask(client_v6, 4000, false).flags_fragment(0).payload(&[7; 1000]);
        let pieces = cut(&ask.build(), &[504], 0x1_2345);
        let sent = world.one(0, 0, &pieces[0]);
        assert_ne!(of(&sent.frame), of(&pieces[0]), "{client_v6} {backend_v6}");
        let (from, to) = addresses(&sent.frame);
        let told = if backend_v6 { (3, 1) } else { (11, 1) };
        let error = ends::from_backend(sent.frame[5]).between((to, 0), (from, 0));
        let error = error.icmp(told.0, told.1, 0).payload(&sent.frame[14..]);
        let heard = world.one(0, 1, &error.build());
        let quote = [&heard.frame[..14], &ends::told(&heard).quote].concat();
        let version = quote[14] >> 4;
        assert_eq!(version == 6, client_v6);
        // Of IPv6's number IPv4 has room for the low half.
        let low = if client_v6 == backend_v6 { u32::MAX } else { 0xffff };
        assert_eq!(of(&quote), of(&pieces[0]) & low, "{client_v6} {backend_v6}");
        if client_v6 == backend_v6 {
            let from = 14 + if client_v6 { 8 } else { 12 };
            assert_eq!(quote[from..], pieces[0][from..], "and all else");
        }
        assert_eq!(world.drops(), []);
    }
}

/// Workers share the outer addresses. However unevenly they are used, and however often numbers of 16
/// bits have wrapped, none gives one that another has just given.
#[test]
fn workers_never_share_a_number() {
    for workers in [2, 3, 4, 7] {
        let shape = Plan {
            workers,
            card: Card::Rss,
            ..plan(false, false, Mode::Tunnel(Encapsulation::Ipip))
        };
        let mut world = World::new(shape);
        let mut number = |port: u16| {
            let sent = world.one(0, 0, &ask(false, port, false).flags_fragment(0).build());
            (sent.worker, u16::from_be_bytes([sent.frame[18], sent.frame[19]]))
        };
        let mut flows = BTreeMap::new();
        for port in 4000.. {
            flows.entry(number(port).0).or_insert(port);
            if flows.len() == usize::from(workers) {
                break;
            }
        }
        for ahead in flows.values() {
            // As far ahead as it takes 16 bits to come around, in steps of the number of workers.
            for _ in 0..=0x1_0000 / u32::from(workers) {
                number(*ahead);
            }
            let mut seen = BTreeSet::new();
            for _ in 0..100 {
                assert!(flows.values().all(|port| seen.insert(number(*port).1)), "{workers}");
            }
        }
    }
}
