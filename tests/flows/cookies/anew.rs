//! A port used again while its connection by a cookie is known: the numbers begin anew when the backend
//! agrees to the client's own SYN, and not before.

use super::*;

/// The client's next first number, and the backend's.
const NEXT: u32 = 70_000;
const THEIR_NEXT: u32 = 0x3000_0000;

/// A connection that both ends have agreed to.
fn open(families: Families, how: ClientAddress, mode: Mode) -> Asked {
    let mut asked = asked(always(families, how, mode), families, &full_options(STAMP));
    let agree = from_backend(&asked.syn).flags(SYN | ACK);
    let agree = agree.numbers(THEIRS, START.wrapping_add(1));
    let options = [&stamps(THEIR_STAMP, STAMP + 5)[..], &[1, 3, 3, 4]].concat();
    assert_eq!(asked.world.one(0, 1, &agree.tcp_options(&options).build()).port, 1);
    asked
}

#[test]
fn a_backend_that_agrees_to_the_clients_next_syn_is_heard_by_the_client_itself() {
    let rows = [
        (V4, ClientAddress::None, Mode::Fullnat),
        (V4, ClientAddress::None, Mode::Nat),
        (V6, ClientAddress::None, Mode::Fullnat),
        (Nat64, ClientAddress::None, Mode::Fullnat),
        (V4, TOA, Mode::Fullnat),
        (V4, V1, Mode::Nat),
        (V6, V2, Mode::Fullnat),
        (Nat64, V2, Mode::Fullnat),
    ];
    for (families, how, mode) in rows {
        for late in [None, Some(ACK), Some(RST | ACK), Some(FIN | ACK)] {
            begins_anew((families, how, mode), late);
        }
    }
}

/// What `late` packet of the old connection comes between the client's SYN and the answer to it.
fn begins_anew((families, how, mode): (Families, ClientAddress, Mode), late: Option<u8>) {
    let name = format!("{families:?} {how:?} {mode:?} {late:?}");
    let Asked { mut world, told, .. } = open(families, how, mode);
    let syn = tcp(families).flags(SYN).numbers(NEXT, 0).window(300);
    let syn = world.one(0, 0, &syn.tcp_options(&full_options(STAMP)).build());
    let seen = Segment::read(&syn.frame);
    assert_eq!((syn.port, seen.sequence, seen.window), (1, NEXT, 300), "{name}");
    if let Some(flags) = late {
        let old = tcp(families).flags(flags);
        world.one(0, 0, &old.numbers(START.wrapping_add(1), told.sequence + 1).build());
    }
    // Twice: the client's ACK may be lost.
    for _ in 0..2 {
        let agree = from_backend(&syn).flags(SYN | ACK).numbers(THEIR_NEXT, NEXT + 1);
        let options = [&stamps(99, STAMP)[..], &[1, 3, 3, 4]].concat();
        let heard = world.one(0, 1, &agree.tcp_options(&options).window(1000).build());
        let seen = Segment::read(&heard.frame);
        assert_eq!((heard.port, seen.flags), (0, SYN | ACK), "{name}");
        assert_eq!((seen.sequence, seen.ack), (THEIR_NEXT, NEXT + 1), "{name}");
        assert_eq!((seen.window, stamps_of(&seen)), (1000, Some((99, STAMP))), "{name}");
        assert_eq!(option(&seen.options, 3), Some(&[3, 3, 4][..]), "{name}");
    }
    let header = u32::try_from(inserted(how, families)).unwrap();
    let data = tcp(families).flags(PSH | ACK).numbers(NEXT + 1, THEIR_NEXT + 1);
    let data = data.window(77).tcp_options(&stamps(STAMP + 1, 99)).payload(b"new");
    let seen = Segment::read(&world.one(0, 0, &data.build()).frame);
    assert_eq!((seen.sequence, seen.ack), (NEXT + 1, THEIR_NEXT + 1), "{name}");
    assert_eq!((seen.window, stamps_of(&seen)), (77, Some((STAMP + 1, 99))), "{name}");
    assert_eq!(seen.payload.len(), header as usize + 3, "{name}");
    let back = from_backend(&syn).numbers(THEIR_NEXT + 1, NEXT + 4 + header);
    let back = back.window(88).tcp_options(&stamps(100, STAMP + 1)).payload(b"hello");
    let seen = Segment::read(&world.one(0, 1, &back.build()).frame);
    assert_eq!((seen.sequence, seen.ack), (THEIR_NEXT + 1, NEXT + 4), "{name}");
    assert_eq!((seen.window, stamps_of(&seen)), (88, Some((100, STAMP + 1))), "{name}");
    assert_eq!((world.drops(), world.connections()), (vec![], [1; 4]), "{name}");
}

/// Anybody can forge a SYN; only the backend's agreement to it counts.
#[test]
fn a_syn_that_the_backend_does_not_agree_to_moves_nothing() {
    for (families, how) in [(V4, ClientAddress::None), (V6, V2), (Nat64, TOA)] {
        let Asked { mut world, told, syn } = open(families, how, Mode::Fullnat);
        let header = u32::try_from(inserted(how, families)).unwrap();
        let first = START.wrapping_add(1);
        world.one(0, 0, &tcp(families).flags(SYN).numbers(NEXT, 0).build());
        // It asks back, and repeats what it had agreed to: neither begins anything.
        let asks = from_backend(&syn).numbers(THEIRS + 1, first.wrapping_add(header)).build();
        let heard = Segment::read(&world.one(0, 1, &asks).frame);
        assert_eq!((heard.sequence, heard.ack), (told.sequence + 1, first));
        let repeats = from_backend(&syn).flags(SYN | ACK).numbers(THEIRS, first).build();
        let answer = world.one(0, 1, &repeats);
        let seen = Segment::read(&answer.frame);
        assert_eq!((answer.port, seen.flags & !PSH, seen.ack), (1, ACK, THEIRS + 1));
        // What it agrees to that nobody asked for is the client's to refuse.
        let other = from_backend(&syn).flags(SYN | ACK).numbers(5, NEXT + 9).build();
        assert_eq!(world.one(0, 1, &other).port, 0);
        let data = tcp(families).numbers(first, told.sequence + 1).payload(b"old").build();
        assert_eq!(Segment::read(&world.one(0, 0, &data).frame).ack, THEIRS + 1);
    }
}
