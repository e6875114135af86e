//! What cookies refuse, and what a flood may not do.

use super::*;

#[test]
fn a_cookie_is_refused_that_is_wrong_old_or_somebody_elses() {
    type Row = (&'static str, Endpoint, u32, u32, Reason, Event);
    let other = (CLIENT.0, 40_001);
    let rows: [Row; 4] = [
        ("a guess", CLIENT, 0, 1, Reason::CookieBad, Event::Bad),
        ("another port", other, 0, 0, Reason::CookieBad, Event::Bad),
        ("two minutes and more", CLIENT, 140_000, 0, Reason::CookieOld, Event::Old),
        ("long ago", CLIENT, 500_000, 0, Reason::CookieBad, Event::Bad),
    ];
    for (name, from, late_ms, wrong_by, reason, event) in rows {
        let mut world = simple();
        world.now_ms = 65_536 * 8;
        let syn = tcp(V4).flags(SYN).numbers(START, 0).build();
        let told = Segment::read(&world.one(0, 0, &syn).frame);
        world.now_ms += late_ms;
        let number = told.sequence.wrapping_add(1 + wrong_by);
        let ack = packet().tcp(from, VIP).flags(ACK).numbers(START + 1, number).build();
        let reset = world.one(0, 0, &ack);
        assert_eq!((reset.port, Segment::read(&reset.frame).flags), (0, RST), "{name}");
        assert_eq!(world.drops(), [(reason, 1)], "{name}");
        assert_eq!(events(&world), [(Event::Sent, 1), (event, 1)], "{name}");
        assert_eq!(world.connections(), [0; 4], "{name}");
    }
}

#[test]
fn secrets_may_change_under_way_once() {
    use shunt::dataplane::cookie::Secret;
    let (a, b, c) = (Secret([1, 2]), Secret([3, 4]), Secret([5, 6]));
    for (now, right) in [([a, a], true), ([b, a], true), ([c, b], false)] {
        let plan = || Plan { weights: vec![Some(1)], ..Plan::default() };
        let edit = |secrets| move |s: &mut Snapshot| s.cookie_secrets = secrets;
        let none = ClientAddress::None;
        let mut world = world(plan(), V4, none, SynCookies::Always, edit([a, a]));
        let syn = tcp(V4).flags(SYN).numbers(START, 0).build();
        let told = Segment::read(&world.one(0, 0, &syn).frame);
        publish(&mut world, V4, none, SynCookies::Always, edit(now));
        let ack = tcp(V4).numbers(START + 1, told.sequence + 1).flags(ACK).build();
        let sent = world.one(0, 0, &ack);
        assert_eq!(Segment::read(&sent.frame).flags == SYN, right, "{now:?}");
    }
}

#[test]
fn a_client_is_told_that_it_is_connected_only_where_that_can_be_kept() {
    type Row = (&'static str, fn(&mut Snapshot), Reason);
    let rows: [Row; 3] = [
        (
            "no weight",
            |s| s.backends.iter_mut().flatten().for_each(|b| b.weight = 0),
            Reason::NoBackend,
        ),
        (
            "no way",
            |s| s.backends.iter_mut().flatten().for_each(|b| b.next_hop = None),
            Reason::NextHop,
        ),
        ("draining", |s| s.accepting = false, Reason::Draining),
    ];
    for (name, edit, reason) in rows {
        let none = ClientAddress::None;
        let mut world = world(Plan::default(), V4, none, SynCookies::Always, edit);
        world.exchange(0, 0, &tcp(V4).flags(SYN).numbers(START, 0).build());
        assert_eq!(world.drops(), [(reason, 1)], "{name}");
        assert_eq!(events(&world), [], "{name}");
        // Whose cookie comes back too late for that hears so.
        publish(&mut world, V4, none, SynCookies::Always, |_| {});
        let told = world.one(0, 0, &tcp(V4).flags(SYN).numbers(START, 0).build());
        publish(&mut world, V4, none, SynCookies::Always, edit);
        let number = Segment::read(&told.frame).sequence.wrapping_add(1);
        let reset = world.one(0, 0, &tcp(V4).numbers(START + 1, number).flags(ACK).build());
        assert_eq!(Segment::read(&reset.frame).flags, RST, "{name}");
        assert_eq!(world.drops(), [(reason, 2)], "{name}");
        assert!(events(&world).contains(&(Event::Refused, 1)), "{name}");
        assert_eq!(world.connections(), [0; 4], "{name}");
    }
}

#[test]
fn a_syn_that_acknowledges_something_is_not_reflected() {
    let mut world = simple();
    let reset = world.one(0, 0, &tcp(V4).flags(SYN | ACK).numbers(9, 9).build());
    assert_eq!(Segment::read(&reset.frame).flags, RST);
    assert_eq!(world.drops(), [(Reason::NoConnection, 1)]);
}

/// SYN and ACK of a client; does a SYN go to a backend?
pub(super) fn comes_through(
    world: &mut World,
    worker: usize,
    client: Endpoint,
    start: u32,
) -> Option<Sent> {
    let syn = packet().tcp(client, VIP).flags(SYN).numbers(start, 0).build();
    let told = world.exchange(worker, 0, &syn);
    let [told] = &told[..] else { return None };
    if told.port == 1 {
        return Some(told.clone());
    }
    let number = Segment::read(&told.frame).sequence.wrapping_add(1);
    let ack = packet().tcp(client, VIP).numbers(start.wrapping_add(1), number).flags(ACK).build();
    let mut sent = world.exchange(worker, 0, &ack);
    sent.pop().filter(|sent| sent.port == 1)
}

#[test]
fn a_million_forged_syns_cost_no_memory_while_clients_come_through() {
    let plan = Plan { capacity: 128, lane: 128, ..Plan::default() };
    let mut world = world(plan, V4, ClientAddress::None, SynCookies::Always, |_| {});
    let mut opened = 0;
    for n in 0..1_000_000_u32 {
        let forged = (Ipv4Addr::from(0x0b00_0000 + n), 40_000);
        let syn = packet().tcp(forged, VIP).flags(SYN).numbers(n, 0).build();
        world.arrive(0, 0, &syn);
        if n % 100 == 99 {
            world.now_ms += 1;
            world.poll();
            world.sent();
        }
        if n % 10_000 == 9_999 {
            let port = 20_000 + u16::try_from(n / 10_000).unwrap();
            opened += usize::from(comes_through(&mut world, 0, (CLIENT.0, port), n).is_some());
        }
    }
    assert_eq!(opened, 100);
    assert_eq!(events(&world)[..2], [(Event::Sent, 1_000_100), (Event::Accepted, 100)]);
    assert!(world.connections()[0] <= 100, "only clients that are there");
    assert_eq!(world.drops(), []);
    world.wait(140);
    assert_eq!(world.connections(), [0; 4]);
}

#[test]
fn below_the_rate_a_syn_makes_a_connection_and_above_it_gets_a_cookie() {
    for workers in [1, 2, 4] {
        let plan = Plan { workers, weights: vec![Some(1)], ..Plan::default() };
        let rate = SynCookies::Above { per_second: 4000 };
        let mut world = world(plan, V4, ClientAddress::None, rate, |_| {});
        // An ACK of nobody while none was sent has nothing to do with cookies.
        world.one(0, 0, &tcp(V4).flags(ACK).numbers(1, 1).build());
        assert_eq!(world.drops(), [(Reason::NoConnection, 1)]);
        let mut direct = 0;
        for port in 1..=2000 {
            let syn = packet().tcp((CLIENT.0, 10_000 + port), VIP).flags(SYN).build();
            let sent = world.one(usize::from(port % u16::from(workers)), 0, &syn);
            direct += usize::from(sent.port == 1);
        }
        // A tenth of a second's worth at once, over all workers.
        assert_eq!(direct, 400, "{workers}");
        assert_eq!(world.connections()[0], 400, "{workers}");
        let sent = comes_through(&mut world, 0, (CLIENT.0, 9), 7).expect("by a cookie");
        assert_eq!(Segment::read(&sent.frame).sequence, 7);
        world.now_ms += 100;
        let syn = packet().tcp((CLIENT.0, 8), VIP).flags(SYN).build();
        assert_eq!(world.one(0, 0, &syn).port, 1, "{workers}: it is below the rate again");
    }
}

#[test]
fn connections_are_made_whichever_worker_gets_what() {
    for workers in [1, 2, 4] {
        for (card, mode) in [
            (Card::Any, Mode::Fullnat),
            (Card::Rss, Mode::Fullnat),
            (Card::Any, Mode::Nat),
            (Card::Rss, Mode::Nat),
        ] {
            let name = format!("{workers} {card:?} {mode:?}");
            let plan = Plan {
                workers,
                card,
                weights: vec![Some(1)],
                modes: vec![mode],
                ..Plan::default()
            };
            let mut world = world(plan, V4, ClientAddress::None, SynCookies::Always, |_| {});
            for n in 0..64_u16 {
                let (client, worker) =
                    ((CLIENT.0, 30_000 + n), usize::from(n % u16::from(workers)));
                let syn = comes_through(&mut world, worker, client, n.into()).expect(&name);
                let agree = from_backend(&syn).flags(SYN | ACK);
                let agree = agree.numbers(THEIRS, u32::from(n) + 1).build();
                let elsewhere = (worker + 1) % usize::from(workers);
                let ack = world.one(elsewhere, 1, &agree);
                assert_eq!(Segment::read(&ack.frame).ack, THEIRS + 1, "{name}");
            }
            assert_eq!(world.connections(), [64; 4], "{name}");
            assert_eq!(world.drops(), [], "{name}");
        }
    }
}

#[test]
fn full_is_refused_before_the_client_is_told_anything() {
    let plan = Plan { capacity: 2, weights: vec![Some(1)], ..Plan::default() };
    let mut world = world(plan, V4, ClientAddress::None, SynCookies::Always, |_| {});
    for port in 1..=2 {
        comes_through(&mut world, 0, (CLIENT.0, port), 1).unwrap();
    }
    assert!(comes_through(&mut world, 0, (CLIENT.0, 3), 1).is_none());
    assert_eq!(world.drops(), [(Reason::CookieFull, 1)]);
    assert!(events(&world).contains(&(Event::Full, 1)));
    world.wait(10);
    world.sent();
    assert!(comes_through(&mut world, 0, (CLIENT.0, 3), 1).is_some(), "room again");
}

#[test]
fn a_port_used_again_gets_another_cookie() {
    let Asked { mut world, syn, .. } = asked(simple(), V4, &[]);
    let agree = from_backend(&syn).flags(SYN | ACK).numbers(THEIRS, START + 1).build();
    world.one(0, 1, &agree);
    world.one(0, 1, &from_backend(&syn).flags(RST).numbers(THEIRS + 1, 0).build());
    let again = comes_through(&mut world, 0, CLIENT, 99).expect("a new connection");
    assert_eq!(Segment::read(&again.frame).sequence, 99);
    assert_eq!(world.connections(), [1; 4]);
}
