//! Which service a packet is for, what makes a connection there, and what strays are told.

use std::net::SocketAddr;

use shunt::dataplane::conn::state::flags::{ACK, FIN, PSH, RST, SYN};
use shunt::dataplane::snapshot::{Encapsulation, Mode, Ports, Protocol, Strays};
use shunt::dataplane::verdict::Reason;

use crate::packets::builder::chunk;
use crate::packets::oracle::judge_any;
use crate::packets::{Builder, CLIENT_MAC, packet};
use crate::shop::{FAMILIES, Ip, PROTOCOLS, first, host, inside, second, shop, stall};
use crate::world::{Plan, Sent, World};

use Protocol::{Sctp, Tcp, Udp};

const IPIP: Mode = Mode::Tunnel(Encapsulation::Ipip);
const RANGE: Ports = Ports { first: 8000, last: 8099 };

/// Exact before range, narrow before wide, catch-all last; each protocol, family and VIP for
/// itself; a service at several addresses is one.
#[test]
fn the_most_specific_service_of_family_protocol_and_address_is_found() {
    for ip in FAMILIES {
        let at = |n, ports| (ip.vip(n), ports);
        let stalls = [
            stall(Tcp, &[at(1, Ports::ALL)]),
            stall(Tcp, &[at(1, RANGE)]),
            stall(Tcp, &[at(1, Ports { first: 8010, last: 8019 })]),
            stall(Tcp, &[at(1, Ports::one(8015))]),
            stall(Udp, &[at(1, Ports::one(53)), at(1, RANGE)]),
            stall(Sctp, &[at(1, Ports::ALL)]),
            stall(Tcp, &[at(2, Ports::one(80)), at(2, Ports::one(443)), at(3, RANGE)]),
        ];
        let rows = [
            (Tcp, 1, 8015, Some(3)),
            (Tcp, 1, 8010, Some(2)),
            (Tcp, 1, 8019, Some(2)),
            (Tcp, 1, 8020, Some(1)),
            (Tcp, 1, 8000, Some(1)),
            (Tcp, 1, 8099, Some(1)),
            (Tcp, 1, 8100, Some(0)),
            (Tcp, 1, 7999, Some(0)),
            (Tcp, 1, 1, Some(0)),
            (Tcp, 1, 65535, Some(0)),
            (Udp, 1, 53, Some(4)),
            (Udp, 1, 8050, Some(4)),
            (Udp, 1, 54, None),
            (Sctp, 1, 53, Some(5)),
            (Tcp, 2, 80, Some(6)),
            (Tcp, 2, 443, Some(6)),
            (Tcp, 2, 8000, None),
            (Tcp, 3, 8000, Some(6)),
            (Tcp, 3, 80, None),
            (Udp, 2, 80, None),
        ];
        for (protocol, vip, port, service) in rows {
            let mut world = shop(Plan::default(), &stalls);
            let to = SocketAddr::new(ip.vip(vip), port);
            let sent = world.exchange(0, 0, &first(protocol, ip.client(4000), to).build());
            let context = format!("{protocol:?} {to}");
            let left = sent.iter().find(|sent| sent.port == 1).map(host);
            assert_eq!(left, service.map(|service| 11 + service), "{context}");
            let listed = world.list(4).first().map(|row| row.service_id.0);
            assert_eq!(listed, service.map(u32::from), "{context}");
            let refused = world.drops();
            assert_eq!(refused.is_empty(), service.is_some(), "{context}: {refused:?}");
        }
    }
}

/// IPVS keeps a mark for it; here several addresses, ports and ranges are one service, with one
/// scheduler and one count.
#[test]
fn addresses_of_one_service_share_its_scheduler_and_its_count() {
    let mut world = World::new(Plan::default());
    world.publish(|snapshot| {
        let service = snapshot.services[0].as_mut().unwrap();
        let more = stall(Tcp, &[(Ip::V4.vip(9), Ports::one(443)), (Ip::V4.vip(9), RANGE)]);
        service.addresses = service.addresses.iter().copied().chain(more.addresses).collect();
    });
    let asked = [(7, 80), (9, 443), (9, 8000), (9, 8001), (7, 80), (9, 443)];
    let mut ports = 5000..;
    let hosts = asked.map(|(vip, port)| {
        let to = SocketAddr::new(Ip::V4.vip(vip), port);
        host(&world.one(0, 0, &first(Tcp, Ip::V4.client(ports.next().unwrap()), to).build()))
    });
    assert_eq!(hosts, [13, 12, 11, 13, 12, 11], "in turn, whichever address was asked");
    assert_eq!(world.stats[0].services[0].new_connections.get(), 6);
}

/// Backend port 0 keeps the client's, any other is put in its place; the client sees the port it
/// asked for come back. DR and tunnel keep it anyway.
#[test]
fn the_port_is_kept_or_mapped_in_every_mode_and_comes_back() {
    for ip in FAMILIES {
        for protocol in PROTOCOLS {
            for (mode, port) in [
                (Mode::Fullnat, 0),
                (Mode::Fullnat, 9000),
                (Mode::Nat, 0),
                (Mode::Nat, 9000),
                (Mode::Dr, 0),
                (IPIP, 0),
            ] {
                for workers in [1, 3] {
                    for ports in [RANGE, Ports::ALL] {
                        let service = stall(protocol, &[(ip.vip(1), ports)]);
                        let stalls = [crate::shop::Stall { mode, port, ..service }];
                        let plan = Plan { workers, ..Plan::default() };
                        there_and_back(&mut shop(plan, &stalls), ip, protocol, (mode, port));
                    }
                }
            }
        }
    }
}

fn there_and_back(world: &mut World, ip: Ip, protocol: Protocol, (mode, port): (Mode, u16)) {
    let workers = usize::from(world.plan.workers);
    for (at, asked) in [8000, 8042, 8099].into_iter().enumerate() {
        let context = format!("{ip:?} {protocol:?} {mode:?} to {asked}");
        let (client, vip) = (ip.client(4000), SocketAddr::new(ip.vip(1), asked));
        let there = world.one(at % workers, 0, &first(protocol, client, vip).build());
        let seen = inside(mode, &there);
        assert!(seen.ip_right && seen.l4_right, "{context}");
        assert_eq!(seen.ports.1, if port == 0 { asked } else { port }, "{context}");
        if matches!(mode, Mode::Dr | Mode::Tunnel(_)) {
            assert_eq!((seen.destination, seen.ports.0), (vip.ip(), 4000), "{context}");
            continue;
        }
        assert_eq!(seen.destination, ip.inner(11), "{context}");
        let back = world.one((at + 1) % workers, 1, &second(protocol, &there));
        let seen = judge_any(&back.frame).unwrap();
        assert!(seen.ip_right && seen.l4_right, "{context}");
        assert_eq!((seen.source, seen.destination), (vip.ip(), client.ip()), "{context}");
        assert_eq!((back.port, seen.ports), (0, (asked, 4000)), "{context}");
        // NAT, one port of the backend: the client's next address would get the same answers.
        if mode == Mode::Nat && port != 0 {
            break;
        }
    }
    assert_eq!(world.drops(), []);
}

/// A packet with one chunk, of an association under way.
fn said(from: SocketAddr, to: SocketAddr, kind: u8) -> Builder {
    packet().sctp(from, to, 0x7a67).payload(&chunk(kind, 0, &[0x33; 16]))
}

#[test]
fn only_what_begins_a_connection_makes_one() {
    for ip in FAMILIES {
        let (client, vip) = (ip.client(4000), SocketAddr::new(ip.vip(1), 80));
        let (ftp_data, other) = (ip.client(20), ip.client(21));
        let tcp = |flags| packet().tcp(client, vip).flags(flags);
        let mut rows = vec![
            ("SYN", tcp(SYN), true),
            ("SYN+ACK", tcp(SYN | ACK), true),
            ("SYN+FIN", tcp(SYN | FIN), true),
            ("SYN with data", tcp(SYN | PSH).payload(b"early"), true),
            ("SYN+RST", tcp(SYN | RST), false),
            ("SYN with every other flag", tcp(0xff), false),
            ("ACK", tcp(ACK), false),
            ("FIN", tcp(FIN), false),
            ("FIN+ACK", tcp(FIN | ACK), false),
            ("RST", tcp(RST), false),
            ("no flag", tcp(0), false),
            ("SYN from port 20", packet().tcp(ftp_data, vip).flags(SYN), false),
            ("SYN from port 21", packet().tcp(other, vip).flags(SYN), true),
            ("datagram", first(Udp, client, vip), true),
            ("empty datagram", packet().udp(client, vip), true),
            ("datagram from port 20", first(Udp, ftp_data, vip), true),
            ("INIT", first(Sctp, client, vip), true),
            ("INIT from port 20", first(Sctp, ftp_data, vip), true),
        ];
        // Every chunk type of RFC 9260 but INIT, and one that nobody knows.
        let others = [0, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 0xc1];
        rows.extend(others.map(|kind| ("another chunk", said(client, vip, kind), false)));
        for (name, packet, makes) in rows {
            let all = PROTOCOLS.map(|protocol| stall(protocol, &[(ip.vip(1), Ports::one(80))]));
            let mut world = shop(Plan::default(), &all);
            let sent = world.exchange(0, 0, &packet.build());
            assert_eq!(world.connections(), [u32::from(makes); 4], "{ip:?} {name}");
            assert_eq!(sent.iter().any(|sent| sent.port == 1), makes, "{ip:?} {name}");
            let stray: &[_] = if makes { &[] } else { &[(Reason::NoConnection, 1)] };
            assert_eq!(world.drops(), stray, "{ip:?} {name}");
        }
    }
}

/// What a stray is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Nothing,
    /// TCP flags and sequence number.
    Tcp(u8, u32),
    /// ICMP port unreachable.
    Unreachable,
    /// The SCTP chunk's type and flags, and the tag.
    Sctp(u8, u8, u32),
}

/// Reads an answer; it must be right, alone, and from the VIP back to the client.
fn told(ip: Ip, sent: &[Sent]) -> Told {
    let [sent] = sent else {
        assert_eq!(sent, []);
        return Told::Nothing;
    };
    let frame = &sent.frame;
    let seen = judge_any(frame).unwrap();
    assert!(seen.ip_right && seen.l4_right);
    assert_eq!((sent.port, &frame[..6]), (0, &CLIENT_MAC.0[..]));
    assert_eq!((seen.source, seen.destination), (ip.vip(1), ip.client(0).ip()));
    let (protocol, l4) = match ip {
        Ip::V4 => (frame[23], &frame[34..]),
        Ip::V6 => (frame[20], &frame[54..]),
    };
    let word = |at: usize| u32::from_be_bytes(l4[at..at + 4].try_into().unwrap());
    match (protocol, seen.ports.1) {
        (6, 4000) => Told::Tcp(l4[13], word(4)),
        (132, 4000) => {
            assert_eq!(l4[14..], [0, 4], "one chunk and nothing in it");
            Told::Sctp(l4[12], l4[13], word(4))
        }
        (1, 0) if l4[..2] == [3, 3] => Told::Unreachable,
        (58, 0) if l4[..2] == [1, 4] => Told::Unreachable,
        other => panic!("not an answer: {other:?}"),
    }
}

const TAG: u32 = 0x7a67;
const ABORT: u8 = 6;
const REFLECTED: u8 = 1;

/// A stray, from the client to a port of the VIP, and what it is told.
type Stray = (&'static str, fn(SocketAddr, SocketAddr) -> Builder, Told);

/// Strays to a service, of no connection.
const OF_NO_CONNECTION: &[Stray] = &[
    ("ACK", |c, v| packet().tcp(c, v).numbers(1, 77).flags(ACK), Told::Tcp(RST, 77)),
    ("FIN+ACK", |c, v| packet().tcp(c, v).numbers(1, 77).flags(FIN | ACK), Told::Tcp(RST, 77)),
    ("no flags", |c, v| packet().tcp(c, v).flags(0), Told::Tcp(RST | ACK, 0)),
    ("RST", |c, v| packet().tcp(c, v).flags(RST), Told::Nothing),
    ("SYN+RST", |c, v| packet().tcp(c, v).flags(SYN | RST), Told::Nothing),
    ("DATA", |c, v| said(c, v, 0), Told::Sctp(ABORT, REFLECTED, TAG)),
    ("INIT-ACK", |c, v| said(c, v, 2), Told::Sctp(ABORT, REFLECTED, TAG)),
    ("HEARTBEAT", |c, v| said(c, v, 4), Told::Sctp(ABORT, REFLECTED, TAG)),
    ("ABORT", |c, v| said(c, v, 6), Told::Nothing),
    ("SHUTDOWN", |c, v| said(c, v, 7), Told::Sctp(ABORT, REFLECTED, TAG)),
    ("SHUTDOWN-ACK", |c, v| said(c, v, 8), Told::Sctp(14, REFLECTED, TAG)),
    ("ERROR", |c, v| said(c, v, 9), Told::Nothing),
    ("COOKIE-ECHO", |c, v| said(c, v, 10), Told::Sctp(ABORT, REFLECTED, TAG)),
    ("COOKIE-ACK", |c, v| said(c, v, 11), Told::Nothing),
    ("SHUTDOWN-COMPLETE", |c, v| said(c, v, 14), Told::Nothing),
    (
        "DATA and ABORT",
        |c, v| {
            let chunks = [chunk(0, 3, &[0; 13]), chunk(3, 0, &[0; 12]), chunk(6, 0, b"")];
            packet().sctp(c, v, TAG).payload(&chunks.concat())
        },
        Told::Nothing,
    ),
    ("DATA with a wrong checksum", |c, v| said(c, v, 0).l4_wrong_by(1), Told::Nothing),
];

/// Strays to a port of the VIP without service.
const OF_NO_SERVICE: &[Stray] = &[
    ("SYN", |c, v| packet().tcp(c, v).flags(SYN), Told::Tcp(RST | ACK, 0)),
    ("ACK", |c, v| packet().tcp(c, v).numbers(1, 77).flags(ACK), Told::Tcp(RST, 77)),
    ("RST", |c, v| packet().tcp(c, v).flags(RST), Told::Nothing),
    ("datagram", |c, v| packet().udp(c, v).payload(b"?"), Told::Unreachable),
    ("INIT", |c, v| first(Sctp, c, v), Told::Sctp(ABORT, 0, 0x1e1e_1e1e)),
    ("INIT with a tag", |c, v| said(c, v, 1), Told::Nothing),
    (
        "INIT without a tag to answer with",
        |c, v| packet().sctp(c, v, 0).payload(&chunk(1, 0, &[0; 16])),
        Told::Nothing,
    ),
    ("INIT cut off", |c, v| packet().sctp(c, v, 0).payload(&chunk(1, 0, b"")), Told::Nothing),
    ("DATA", |c, v| said(c, v, 0), Told::Sctp(ABORT, REFLECTED, TAG)),
    ("ABORT", |c, v| said(c, v, 6), Told::Nothing),
    ("SHUTDOWN-COMPLETE", |c, v| said(c, v, 14), Told::Nothing),
];

#[test]
fn strays_are_told_what_the_directors_own_stack_would_say() {
    let tables =
        [(80, Reason::NoConnection, OF_NO_CONNECTION), (81, Reason::NoService, OF_NO_SERVICE)];
    for ip in FAMILIES {
        let all = PROTOCOLS.map(|protocol| stall(protocol, &[(ip.vip(1), Ports::one(80))]));
        for (port, reason, strays) in tables {
            let to = SocketAddr::new(ip.vip(1), port);
            for (name, stray, expected) in strays {
                let mut world = shop(Plan::default(), &all);
                let frame = stray(ip.client(4000), to).build();
                let answer = told(ip, &world.exchange(0, 0, &frame));
                assert_eq!(answer, *expected, "{ip:?} {name} to {port}");
                assert_eq!(world.drops(), [(reason, 1)], "{ip:?} {name} to {port}");
                assert_eq!(world.connections(), [0; 4]);
            }
        }
    }
}

#[test]
fn strays_get_silence_where_that_is_the_policy() {
    for ip in FAMILIES {
        for (port, strays) in [(80, OF_NO_CONNECTION), (81, OF_NO_SERVICE)] {
            for (name, stray, _) in strays {
                // The plan's services are of IPv4: for IPv6 there is no VIP at all without these.
                let mut world = World::new(Plan::default());
                world.publish(|snapshot| {
                    snapshot.strays = Strays::Drop;
                    let all = PROTOCOLS.map(|p| stall(p, &[(ip.vip(1), Ports::one(80))]));
                    crate::shop::furnish(snapshot, &all);
                });
                let to = SocketAddr::new(ip.vip(1), port);
                let sent = world.exchange(0, 0, &stray(ip.client(4000), to).build());
                assert_eq!(sent, [], "{ip:?} {name} to {port}");
                assert_eq!(world.punted(), 0, "never the host's own sockets");
            }
        }
    }
}
