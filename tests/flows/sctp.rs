//! SCTP associations from INIT to SHUTDOWN-COMPLETE, in every mode: states, checksums, timeouts.

use std::net::SocketAddr;

use shunt::dataplane::conn::state::State;
use shunt::dataplane::snapshot::{Encapsulation, Mode, Ports, Protocol};
use shunt::dataplane::verdict::Reason;

use crate::packets::builder::chunk;
use crate::packets::oracle::judge_any;
use crate::packets::{Builder, OUR_INNER_MAC, packet};
use crate::shop::{FAMILIES, Ip, Stall, furnish, host, inside, shop, stall};
use crate::world::{Card, Plan, Sent, World, backend_mac};

use End::{Backend, Client};

const IPIP: Mode = Mode::Tunnel(Encapsulation::Ipip);

/// Who says something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Client,
    Backend,
}

// Chunk types (RFC 9260 section 3.2).
const DATA: u8 = 0;
const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
const SACK: u8 = 3;
const HEARTBEAT: u8 = 4;
const ABORT: u8 = 6;
const SHUTDOWN: u8 = 7;
const SHUTDOWN_ACK: u8 = 8;
const ERROR: u8 = 9;
const COOKIE_ECHO: u8 = 10;
const COOKIE_ACK: u8 = 11;
const SHUTDOWN_COMPLETE: u8 = 14;

/// Who says what, and the state that follows.
type Step = (End, u8, State);

/// A whole association: both ends' packets are seen.
const WHOLE: &[Step] = &[
    (Client, INIT, State::SctpInit1),
    (Backend, INIT_ACK, State::SctpCookieSent),
    (Client, COOKIE_ECHO, State::SctpCookieReplied),
    (Backend, COOKIE_ACK, State::SctpEstablished),
    (Client, DATA, State::SctpEstablished),
    (Backend, SACK, State::SctpEstablished),
    (Backend, DATA, State::SctpEstablished),
    (Client, SACK, State::SctpEstablished),
    (Client, HEARTBEAT, State::SctpEstablished),
    (Client, SHUTDOWN, State::SctpShutdownReceived),
    (Backend, SHUTDOWN_ACK, State::SctpShutdownAckSent),
    (Client, SHUTDOWN_COMPLETE, State::SctpClosed),
];

/// The same where the backend answers by itself, as its client's packets alone tell it: nobody
/// sees the COOKIE-ACK, so that the cookie has to do.
const HALF: &[Step] = &[
    (Client, INIT, State::SctpInit1),
    (Client, COOKIE_ECHO, State::SctpEstablished),
    (Client, DATA, State::SctpEstablished),
    (Client, SACK, State::SctpEstablished),
    (Client, SHUTDOWN, State::SctpShutdownReceived),
    (Client, SHUTDOWN_COMPLETE, State::SctpClosed),
];

/// A packet with one chunk; INIT's tag is zero.
fn says(kind: u8, from: SocketAddr, to: SocketAddr) -> Builder {
    let tag = if kind == INIT { 0 } else { 0x7a67_7a67 };
    packet().sctp(from, to, tag).payload(&chunk(kind, 0, &[kind ^ 0x5a; 20]))
}

/// An association on its way: its client, and what its backend got last.
struct Association {
    client: SocketAddr,
    vip: SocketAddr,
    got: Option<Sent>,
}

impl Association {
    fn new(ip: Ip, port: u16) -> Self {
        let vip = SocketAddr::new(ip.vip(1), 2905);
        Self { client: ip.client(port), vip, got: None }
    }

    /// The packet an end sends.
    fn packet(&self, end: End, kind: u8) -> Builder {
        if end == Client {
            return says(kind, self.client, self.vip);
        }
        let got = self.got.as_ref().unwrap();
        let seen = judge_any(&got.frame).unwrap();
        let (from, to) = ((seen.destination, seen.ports.1), (seen.source, seen.ports.0));
        says(kind, from.into(), to.into()).macs(backend_mac(host(got)), OUR_INNER_MAC)
    }

    /// Sends it, and holds the frame that leaves to what it must be.
    fn step(&mut self, world: &mut World, at: usize, mode: Mode, end: End, kind: u8) {
        let (port, frame) = (usize::from(end == Backend), self.packet(end, kind).build());
        let sent = world.one(at, port, &frame);
        let seen = inside(mode, &sent);
        assert!(seen.ip_right && seen.l4_right, "{mode:?} {end:?} {kind}");
        match end {
            Client => self.got = Some(sent),
            Backend => {
                let (from, to) = ((seen.source, seen.ports.0), (seen.destination, seen.ports.1));
                assert_eq!((SocketAddr::from(from), SocketAddr::from(to)), (self.vip, self.client));
            }
        }
    }
}

fn stalls(ip: Ip, mode: Mode, port: u16) -> [Stall; 1] {
    let service = stall(Protocol::Sctp, &[(ip.vip(1), Ports::one(2905))]);
    [Stall { mode, port, ..service }]
}

fn world(ip: Ip, mode: Mode, port: u16, plan: Plan) -> World {
    shop(plan, &stalls(ip, mode, port))
}

fn state(world: &mut World) -> State {
    world.list(4)[0].state
}

#[test]
fn an_association_goes_through_the_recorded_states_in_every_mode() {
    let rows = [
        (Mode::Fullnat, 0, WHOLE),
        (Mode::Fullnat, 3000, WHOLE),
        (Mode::Nat, 0, WHOLE),
        (Mode::Nat, 3000, WHOLE),
        (Mode::Dr, 0, HALF),
        (IPIP, 0, HALF),
    ];
    for ip in FAMILIES {
        for (mode, port, steps) in rows {
            for (workers, card) in [(1, Card::Any), (3, Card::Any), (4, Card::Rss)] {
                let mut world = world(ip, mode, port, Plan { workers, card, ..Plan::default() });
                let mut association = Association::new(ip, 4000);
                for (at, (end, kind, expected)) in steps.iter().enumerate() {
                    association.step(&mut world, at % usize::from(workers), mode, *end, *kind);
                    assert_eq!(state(&mut world), *expected, "{ip:?} {mode:?} {end:?} {kind}");
                }
                assert_eq!((world.connections(), world.drops()), ([1; 4], vec![]));
            }
        }
    }
}

/// The CRC covers ports and no addresses: where the ports stay nothing is computed, and a wrong
/// one arrives as it was; where they change a wrong one stays wrong by the same bits.
#[test]
fn a_checksum_is_made_anew_only_with_the_ports_and_a_wrong_one_stays_wrong() {
    let crc = |ip: Ip, frame: &[u8], outer: usize| {
        let at = 14 + outer + ip.header() + 8;
        u32::from_le_bytes(frame[at..at + 4].try_into().unwrap())
    };
    for ip in FAMILIES {
        let association = Association::new(ip, 4000);
        for wrong_by in [0u16, 1, 0x8001] {
            let broken = association.packet(Client, INIT).l4_wrong_by(wrong_by).build();
            for (mode, port, outer) in [(Mode::Nat, 0, 0), (Mode::Dr, 0, 0), (IPIP, 0, ip.header())]
            {
                let sent = world(ip, mode, port, Plan::default()).one(0, 0, &broken);
                assert_eq!(crc(ip, &sent.frame, outer), crc(ip, &broken, 0), "{mode:?}");
                assert_eq!(inside(mode, &sent).l4_right, wrong_by == 0, "{mode:?}");
            }
            for (mode, port) in [(Mode::Nat, 3000), (Mode::Fullnat, 0), (Mode::Fullnat, 3000)] {
                let whole = association.packet(Client, INIT).build();
                let right = world(ip, mode, port, Plan::default()).one(0, 0, &whole);
                let sent = world(ip, mode, port, Plan::default()).one(0, 0, &broken);
                assert_ne!(
                    crc(ip, &right.frame, 0),
                    crc(ip, &whole, 0),
                    "{mode:?}: a port changed"
                );
                let differ = crc(ip, &sent.frame, 0) ^ crc(ip, &right.frame, 0);
                assert_eq!(differ, u32::from(wrong_by), "{mode:?}");
                assert_eq!(inside(mode, &sent).l4_right, wrong_by == 0, "{mode:?}");
            }
        }
    }
}

#[test]
fn an_association_times_out_in_each_state() {
    /// What is said, the state it leads to, and that state's seconds (IPVS defaults).
    type Row<'a> = (&'a [(End, u8)], State, u32);
    let open = [(Client, INIT), (Backend, INIT_ACK), (Client, COOKIE_ECHO), (Backend, COOKIE_ACK)];
    let with = |more: &[(End, u8)]| [&open[..], more].concat();
    let established = with(&[]);
    let client_closes = with(&[(Client, SHUTDOWN)]);
    let agreed = with(&[(Client, SHUTDOWN), (Backend, SHUTDOWN_ACK)]);
    let backend_closes = with(&[(Backend, SHUTDOWN)]);
    let closed = with(&[(Backend, SHUTDOWN), (Client, SHUTDOWN_ACK), (Backend, SHUTDOWN_COMPLETE)]);
    let aborted = with(&[(Client, ABORT)]);
    let rows: &[Row<'_>] = &[
        (&[(Client, INIT)], State::SctpInit1, 4),
        (&[(Client, INIT), (Client, INIT)], State::SctpInit, 61),
        (&open[..2], State::SctpCookieSent, 61),
        (&open[..3], State::SctpCookieReplied, 61),
        (&[(Client, INIT), (Backend, INIT)], State::SctpCookieWait, 61),
        (&[(Client, INIT), (Backend, INIT), (Client, INIT_ACK)], State::SctpCookie, 61),
        (&[(Client, INIT), (Backend, COOKIE_ECHO)], State::SctpCookieEchoed, 61),
        (&established, State::SctpEstablished, 900),
        (&client_closes, State::SctpShutdownReceived, 61),
        (&agreed, State::SctpShutdownAckSent, 61),
        (&backend_closes, State::SctpShutdownSent, 61),
        (&closed, State::SctpClosed, 61),
        (&aborted, State::SctpClosed, 61),
        (&[(Client, INIT), (Backend, ABORT)], State::SctpRejected, 4),
        (&[(Client, INIT), (Backend, ERROR)], State::SctpClosed, 61),
    ];
    for (steps, expected, timeout_s) in rows {
        let mut world = world(Ip::V4, Mode::Fullnat, 3000, Plan::default());
        let mut association = Association::new(Ip::V4, 4000);
        for (end, kind) in *steps {
            association.step(&mut world, 0, Mode::Fullnat, *end, *kind);
        }
        assert_eq!(state(&mut world), *expected, "{steps:?}");
        world.wait(timeout_s - 1);
        assert_eq!(world.connections(), [1; 4], "{expected:?} lives {timeout_s} s");
        world.wait(4);
        assert_eq!(world.connections(), [0; 4], "{expected:?} is over after {timeout_s} s");
    }
}

#[test]
fn an_abort_behind_a_cookie_is_what_counts() {
    for (end, kind) in [(Client, COOKIE_ECHO), (Backend, COOKIE_ACK)] {
        let mut world = world(Ip::V4, Mode::Fullnat, 3000, Plan::default());
        let mut association = Association::new(Ip::V4, 4000);
        association.step(&mut world, 0, Mode::Fullnat, Client, INIT);
        association.step(&mut world, 0, Mode::Fullnat, Backend, INIT_ACK);
        let chunks = [chunk(kind, 0, &[7; 5]), chunk(ABORT, 0, b"")].concat();
        let both = association.packet(end, kind).payload(&chunks);
        world.one(0, usize::from(end == Backend), &both.build());
        assert_eq!(state(&mut world), State::SctpClosed, "{end:?}");
    }
}

/// As a SYN does with TCP's.
#[test]
fn an_init_makes_a_new_connection_of_a_closed_association_and_leaves_others_alone() {
    for (last, again) in [(SHUTDOWN_COMPLETE, 2), (COOKIE_ECHO, 1)] {
        let mut world = world(Ip::V4, Mode::Fullnat, 3000, Plan::default());
        let mut association = Association::new(Ip::V4, 4000);
        for (end, kind) in [(Client, INIT), (Client, last), (Client, INIT)] {
            association.step(&mut world, 0, Mode::Fullnat, end, kind);
        }
        assert_eq!(world.stats[0].services[0].new_connections.get(), again);
        assert_eq!(world.connections(), [1; 4]);
    }
}

#[test]
fn both_ends_of_an_association_whose_backend_left_are_aborted() {
    for (end, mode) in [(Client, Mode::Fullnat), (Backend, Mode::Fullnat), (Client, Mode::Nat)] {
        let mut world = world(Ip::V4, mode, 3000, Plan::default());
        let mut association = Association::new(Ip::V4, 4000);
        for (end, kind, _) in &WHOLE[..4] {
            association.step(&mut world, 0, mode, *end, *kind);
        }
        let frame = association.packet(end, DATA).build();
        world.publish(|snapshot| {
            furnish(snapshot, &stalls(Ip::V4, mode, 3000));
            snapshot.backends[0] = None;
        });
        let told = world.one(0, usize::from(end == Backend), &frame);
        assert_eq!(told.port, usize::from(end == Backend));
        let seen = judge_any(&told.frame).unwrap();
        assert!(seen.ip_right && seen.l4_right);
        assert_eq!((told.frame[46], told.frame[47]), (ABORT, 1), "the tag is the receiver's own");
        assert_eq!(told.frame[38..42], 0x7a67_7a67_u32.to_be_bytes());
        assert_eq!(world.drops(), [(Reason::BackendGone, 1)]);
    }
}

/// What an end sends from an address that its association began without is a stranger's: told so, and
/// the association is none the wiser.
#[test]
fn an_associations_other_addresses_are_strangers() {
    for ip in FAMILIES {
        for mode in [Mode::Fullnat, Mode::Nat] {
            let mut world = world(ip, mode, 3000, Plan::default());
            let mut association = Association::new(ip, 4000);
            for (end, kind, _) in &WHOLE[..4] {
                association.step(&mut world, 0, mode, *end, *kind);
            }
            let other = SocketAddr::new(ip.inner(77), 4000);
            let told = world.one(0, 0, &says(DATA, other, association.vip).build());
            let seen = judge_any(&told.frame).unwrap();
            assert!(seen.ip_right && seen.l4_right);
            assert_eq!((seen.destination, seen.ports.1), (other.ip(), other.port()));
            let chunk = 14 + ip.header() + 12;
            assert_eq!(told.frame[chunk..chunk + 2], [ABORT, 1], "with the tag it came with");
            assert_eq!(world.drops(), [(Reason::NoConnection, 1)]);
            assert_eq!((world.connections(), state(&mut world)), ([1; 4], State::SctpEstablished));
            association.step(&mut world, 0, mode, Client, DATA);
        }
    }
}
