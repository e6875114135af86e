//! Whose fault silence is: what counts for a backend as a connection it left without an answer, and what does not.

use shunt::dataplane::conn::state::flags::{ACK, FIN, PSH, RST, SYN};
use shunt::dataplane::snapshot::{ClientAddress, Encapsulation, Mode, Protocol, SynCookies};
use shunt::ids::BackendId;
use shunt::stats::answers::Answers;

use crate::cookies;
use crate::introduce::{self, Families, TOA, V1, answer, tcp, world_in};
use crate::packets::builder::chunk;
use crate::packets::oracle::judge_any;
use crate::packets::{CLIENT, OUR_INNER_MAC, VIP, packet};
use crate::world::{Plan, Sent, World, backend_mac};

use Families::{Nat64, V4, V6};
use Step::{Backend, Client, Seconds};

/// What happens.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// A segment of the client's, with these flags.
    Client(u8),
    /// One of the backend's, to what it got last.
    Backend(u8),
    /// Nothing, for so long.
    Seconds(u32),
}

/// What all workers have counted of all backends.
fn counted(world: &World) -> Answers {
    let of = |backend: u32| world.stats.iter().map(move |it| it.answers.of(BackendId(backend)));
    (0..8).flat_map(of).fold(Answers::default(), Answers::and)
}

fn numbers(world: &World) -> (u64, u64, u64) {
    let Answers { answers, asked_again, lapsed } = counted(world);
    (answers, asked_again, lapsed)
}

fn play(world: &mut World, families: Families, steps: &[Step]) {
    let mut got = None;
    for step in steps {
        match step {
            Client(flags) => got = world.exchange(0, 0, &tcp(families).flags(*flags).build()).pop(),
            Backend(flags) => {
                let frame = answer(got.as_ref().unwrap()).flags(*flags).build();
                world.exchange(0, 1, &frame);
            }
            Seconds(seconds) => world.wait(*seconds),
        }
    }
}

/// Steps, and what is counted after them: answers, asked again, lapsed.
type Row = (&'static str, &'static [Step], (u64, u64, u64));

/// Longer than anything half open is kept.
const FOR_EVER: Step = Seconds(70);
const ROWS: &[Row] = &[
    ("a client that waits and asks again", &[Client(SYN), Seconds(1), Client(SYN)], (0, 1, 0)),
    (
        "however often, it is one connection",
        &[Client(SYN), Seconds(1), Client(SYN), Seconds(2), Client(SYN), FOR_EVER],
        (0, 1, 0),
    ),
    ("a client that does not ask again", &[Client(SYN), Seconds(1), FOR_EVER], (0, 0, 1)),
    ("a SYN that comes twice at once", &[Client(SYN), Client(SYN)], (0, 0, 0)),
    (
        "a client that vanishes when it is answered",
        &[Client(SYN), Backend(SYN | ACK), FOR_EVER],
        (1, 0, 0),
    ),
    (
        "a client that does not hear the answer",
        &[Client(SYN), Backend(SYN | ACK), Seconds(1), Client(SYN), FOR_EVER],
        (1, 0, 0),
    ),
    (
        "a backend that wakes up",
        &[Client(SYN), Seconds(1), Client(SYN), Backend(SYN | ACK), Client(ACK)],
        (1, 1, 0),
    ),
    ("a refusal", &[Client(SYN), Backend(RST | ACK), FOR_EVER], (1, 0, 0)),
    (
        "a whole life",
        &[
            Client(SYN),
            Backend(SYN | ACK),
            Client(ACK),
            Client(PSH | ACK),
            Backend(PSH | ACK),
            Backend(FIN | ACK),
            Client(FIN | ACK),
            Seconds(130),
        ],
        (1, 0, 0),
    ),
    ("a forged ACK behind a SYN", &[Client(SYN), Client(ACK), Seconds(1000)], (0, 0, 0)),
];

#[test]
fn a_connection_is_unanswered_when_the_backend_never_said_a_word_of_it() {
    let modes = [(Mode::Fullnat, V4), (Mode::Fullnat, V6), (Mode::Fullnat, Nat64), (Mode::Nat, V4)];
    for (mode, families) in modes {
        for (name, steps, expected) in ROWS {
            let mut world = world_in(mode, ClientAddress::None, families, |_| {});
            play(&mut world, families, steps);
            assert_eq!(numbers(&world), *expected, "{mode:?} {families:?}: {name}");
        }
    }
}

#[test]
fn what_tells_the_backend_who_the_client_is_changes_nothing() {
    for how in [TOA, V1] {
        for (name, steps, expected) in ROWS {
            let mut world = introduce::world(how, V4, |_| {});
            play(&mut world, V4, steps);
            assert_eq!(numbers(&world), *expected, "{how:?}: {name}");
        }
    }
}

/// Nobody here sees what a backend answers by itself.
#[test]
fn where_answers_do_not_pass_nothing_is_counted() {
    for mode in [Mode::Dr, Mode::Tunnel(Encapsulation::Ipip)] {
        let mut world = world_in(mode, ClientAddress::None, V4, |_| {});
        play(&mut world, V4, &[Client(SYN), Seconds(1), Client(SYN), FOR_EVER]);
        assert_eq!((numbers(&world), world.connections()), ((0, 0, 0), [0; 4]), "{mode:?}");
    }
}

/// Its time was not over.
#[test]
fn a_connection_that_ends_by_order_was_not_left_without_an_answer() {
    let mut world = world_in(Mode::Fullnat, ClientAddress::None, V4, |_| {});
    play(&mut world, V4, &[Client(SYN)]);
    world.clear(&[BackendId(0)]);
    assert_eq!((numbers(&world), world.connections()), ((0, 0, 0), [0; 4]), "cleared");
    play(&mut world, V4, &[Client(SYN)]);
    world.plan.weights = vec![None];
    world.publish(|_| {});
    world.wait(5);
    assert_eq!((numbers(&world), world.connections()), ((0, 0, 0), [0; 4]), "removed");
}

/// The handshake with the client is ours then, the one with the backend as well: it is asked four times.
#[test]
fn behind_cookies_it_is_our_own_question_that_counts() {
    for (flags, expected) in
        [(Some(SYN | ACK), (1, 0, 0)), (Some(RST | ACK), (1, 0, 0)), (None, (0, 1, 0))]
    {
        let plan = Plan { weights: vec![Some(1)], ..Plan::default() };
        let mut world = cookies::world(plan, V4, ClientAddress::None, SynCookies::Always, |_| {});
        let told = world.one(0, 0, &tcp(V4).flags(SYN).numbers(1000, 0).build());
        let theirs = u32::from_be_bytes(told.frame[38..42].try_into().unwrap());
        let ack = tcp(V4).flags(ACK).numbers(1001, theirs.wrapping_add(1));
        assert_eq!(numbers(&world), (0, 0, 0), "nobody was asked");
        let syn = world.one(0, 0, &ack.build());
        if let Some(flags) = flags {
            world.exchange(0, 1, &answer(&syn).flags(flags).numbers(7000, 1001).build());
        }
        world.wait(6);
        assert_eq!(numbers(&world), expected, "{flags:?}");
    }
}

fn udp_answer(got: &Sent) -> Vec<u8> {
    let seen = judge_any(&got.frame).unwrap();
    let (from, to) = ((seen.destination, seen.ports.1), (seen.source, seen.ports.0));
    packet().macs(backend_mac(11), OUR_INNER_MAC).udp(from, to).payload(b"yes").build()
}

#[test]
fn datagrams_nobody_answers_count_once_when_their_time_is_over() {
    for (is_answered, expected) in [(true, (1, 0, 0)), (false, (0, 0, 1))] {
        let mut world = World::new(Plan::default());
        let ask = packet().udp(CLIENT, VIP).payload(b"question").build();
        let got = world.one(0, 0, &ask);
        world.one(0, 0, &ask);
        if is_answered {
            world.one(0, 1, &udp_answer(&got));
            world.one(0, 1, &udp_answer(&got));
        }
        assert_eq!(counted(&world).unanswered(), 0);
        world.wait(310);
        assert_eq!(numbers(&world), expected);
    }
}

#[test]
fn an_association_is_unanswered_as_a_connection_is() {
    const INIT: u8 = 1;
    const INIT_ACK: u8 = 2;
    let init = packet().sctp(CLIENT, VIP, 0).payload(&chunk(INIT, 0, &[7; 20])).build();
    for (is_answered, expected) in [(true, (1, 0, 0)), (false, (0, 1, 0))] {
        let plan = Plan { protocols: vec![Protocol::Sctp], ..Plan::default() };
        let mut world = World::new(plan);
        let got = world.one(0, 0, &init);
        if is_answered {
            let seen = judge_any(&got.frame).unwrap();
            let (from, to) = ((seen.destination, seen.ports.1), (seen.source, seen.ports.0));
            let frame = packet().macs(backend_mac(13), OUR_INNER_MAC).sctp(from, to, 0x0707_0707);
            world.one(0, 1, &frame.payload(&chunk(INIT_ACK, 0, &[9; 20])).build());
        }
        world.wait(1);
        world.one(0, 0, &init);
        assert_eq!(numbers(&world), expected);
        world.wait(70);
        assert_eq!(numbers(&world), expected, "once");
    }
}
