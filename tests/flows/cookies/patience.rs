//! Cookies whose service waits for data, and what repeated ACKs may bring about.

use super::*;

/// A service that asks its backend only when the client has said something.
fn patient(families: Families, workers: u8) -> World {
    let plan = Plan { workers, weights: vec![Some(1)], ..Plan::default() };
    world(plan, families, ClientAddress::None, SynCookies::Always, |snapshot| {
        for service in snapshot.services.iter_mut().flatten() {
            service.syn_cookies_wait_for_data = true;
        }
    })
}

/// What a client is told, and its ACK.
fn greeted(world: &mut World, families: Families) -> (Segment, Builder) {
    let syn = tcp(families).flags(SYN).numbers(START, 0).build();
    let told = Segment::read(&world.one(0, 0, &syn).frame);
    let ack = tcp(families).numbers(START.wrapping_add(1), told.sequence.wrapping_add(1));
    (told, ack.flags(ACK))
}

#[test]
fn an_ack_alone_leaves_nothing_behind_where_data_is_awaited() {
    for families in [V4, V6, Nat64] {
        for workers in [1, 2, 4] {
            let mut world = patient(families, workers);
            let (_, ack) = greeted(&mut world, families);
            assert_eq!(world.exchange(0, 0, &ack.build()), []);
            assert_eq!(world.connections(), [0; 4]);
            world.wait(30);
            assert_eq!(world.sent(), []);
            // The first data brings the cookie too.
            let syn = world.one(0, 0, &ack.clone().flags(PSH | ACK).payload(b"hello").build());
            let seen = Segment::read(&syn.frame);
            assert_eq!((syn.port, seen.flags, seen.sequence), (1, SYN, START));
            let agree = from_backend(&syn).flags(SYN | ACK).numbers(THEIRS, START + 1).build();
            let sent = world.exchange(0, 1, &agree);
            let last = Segment::read(&sent.last().unwrap().frame);
            assert_eq!((sent.len(), &last.payload[..]), (2, &b"hello"[..]));
            assert_eq!((last.sequence, last.ack), (START + 1, THEIRS + 1));
            let expected =
                [(Event::Sent, 1), (Event::Accepted, 1), (Event::Waited, 1), (Event::Opened, 1)];
            let mut events = events(&world);
            events.sort_by_key(|(event, _)| expected.iter().position(|(it, _)| it == event));
            assert_eq!(events, expected, "{families:?}, {workers}");
            assert_eq!(world.drops(), []);
        }
    }
}

#[test]
fn waiting_for_data_ends_with_the_cookies_life() {
    let mut world = patient(V4, 1);
    let (_, ack) = greeted(&mut world, V4);
    world.exchange(0, 0, &ack.build());
    world.now_ms += 140_000;
    let reset = world.one(0, 0, &ack.flags(PSH | ACK).payload(b"hello").build());
    assert_eq!((reset.port, Segment::read(&reset.frame).flags), (0, RST));
    assert_eq!(world.drops(), [(Reason::CookieOld, 1)]);
}

#[test]
fn a_client_that_says_only_goodbye_has_said_something() {
    let mut world = patient(V4, 1);
    let (_, ack) = greeted(&mut world, V4);
    let syn = world.one(0, 0, &ack.flags(FIN | ACK).build());
    assert_eq!((syn.port, Segment::read(&syn.frame).flags), (1, SYN));
}

#[test]
fn one_cookie_ten_thousand_times_over_is_one_connection_four_syns_and_ten_segments_kept() {
    let mut world = simple();
    let (_, ack) = greeted(&mut world, V4);
    let ack = ack.build();
    let mut sent = vec![];
    for _ in 0..10_000 {
        sent.extend(world.exchange(0, 0, &ack));
        assert!(world.connections()[0] <= 1);
        // In half the time a backend is asked.
        world.now_ms += u32::from(sent.len() < 3);
    }
    let asked = |sent: &[Sent]| {
        sent.iter().filter(|s| s.port == 1).all(|s| Segment::read(&s.frame).flags == SYN)
    };
    assert!(asked(&sent) && sent.len() <= 4, "{}", sent.len());
    assert_eq!(events(&world)[..2], [(Event::Sent, 1), (Event::Accepted, 1)]);
    assert_eq!(world.drops(), [(Reason::CookieHeld, 10_000 - 1 - 10)]);
}

#[test]
fn wrong_cookies_get_no_more_answers_than_other_strays() {
    let mut world = simple();
    let (told, _) = greeted(&mut world, V4);
    let mut answers = 0;
    for n in 0..40_000_u32 {
        let guess = tcp(V4).numbers(START + 1, told.sequence.wrapping_add(2 + n)).flags(ACK);
        answers += world.exchange(0, 0, &guess.build()).len();
        // Twenty a millisecond, for two seconds.
        world.now_ms += u32::from(n % 20 == 19);
    }
    // A tenth of a second's worth at once, and two seconds of ten thousand.
    assert!((20_000..=21_010).contains(&answers), "{answers}");
    assert_eq!(world.connections(), [0; 4]);
}
