//! SYN cookies, packet by packet: what is answered, what is kept (nothing), what both ends read
//! afterwards, and every way in which it does not come to a connection. Whole streams are in
//! `cookie_streams.rs`.

use std::net::{Ipv4Addr, SocketAddr};

use shunt::dataplane::conn::state::State;
use shunt::dataplane::conn::state::flags::{ACK, FIN, PSH, RST, SYN};
use shunt::dataplane::cookie::Event;
use shunt::dataplane::snapshot::{ClientAddress, Mode, Snapshot, SynCookies};
use shunt::dataplane::verdict::Reason;

use crate::endpoints::{Segment, option};
use crate::introduce::{Families, TOA, V1, V2, ends, expected_option, inserted};
use crate::packets::oracle::judge_any;
use crate::packets::{Builder, CLIENT, CLIENT_MAC, Endpoint, OUR_INNER_MAC, OUR_MAC, VIP, packet};
use crate::parts::{all_v6, vip_v6};
use crate::world::{Card, Plan, Sent, World, backend_mac};

use Families::{Nat64, V4, V6};

mod anew;
mod damage;
mod limits;
mod patience;
mod shared;

/// By how many bits our windows are shifted, as documented.
const OUR_SCALE: u8 = 9;
/// The client's first number and timestamp.
const START: u32 = 0xffff_fff0;
const STAMP: u32 = 0x1111_0000;
/// The backend's.
const THEIRS: u32 = 0x7000_0000;
const THEIR_STAMP: u32 = 0xffff_ff00;

pub(crate) fn world(
    plan: Plan,
    families: Families,
    how: ClientAddress,
    cookies: SynCookies,
    edit: impl Fn(&mut Snapshot),
) -> World {
    let mut world = World::new(plan);
    publish(&mut world, families, how, cookies, edit);
    world
}

pub(crate) fn publish(
    world: &mut World,
    families: Families,
    how: ClientAddress,
    cookies: SynCookies,
    edit: impl Fn(&mut Snapshot),
) {
    world.publish(|snapshot| {
        match families {
            V4 => {}
            V6 => all_v6(snapshot),
            Nat64 => vip_v6(snapshot),
        }
        for service in snapshot.services.iter_mut().flatten() {
            (service.client_address, service.syn_cookies) = (how, cookies);
        }
        edit(snapshot);
    });
}

/// One backend, cookies always.
fn always(families: Families, how: ClientAddress, mode: Mode) -> World {
    let plan = Plan { weights: vec![Some(1)], modes: vec![mode], ..Plan::default() };
    world(plan, families, how, SynCookies::Always, |_| {})
}

fn simple() -> World {
    always(V4, ClientAddress::None, Mode::Fullnat)
}

fn tcp(families: Families) -> Builder {
    let (client, vip) = ends(families);
    packet().tcp(client, vip)
}

/// Timestamps, with filling.
fn stamps(value: u32, echo: u32) -> Vec<u8> {
    [&[1, 1, 8, 10][..], &value.to_be_bytes(), &echo.to_be_bytes()].concat()
}

/// MSS 1460, SACK, timestamps, scale 7: Linux's SYN.
fn full_options(stamp: u32) -> Vec<u8> {
    let stamps = [&[8, 10][..], &stamp.to_be_bytes(), &[0; 4]].concat();
    [&[2, 4, 5, 180, 4, 2][..], &stamps, &[1, 3, 3, 7]].concat()
}

fn stamps_of(segment: &Segment) -> Option<(u32, u32)> {
    let option = option(&segment.options, 8)?;
    let number = |at: usize| u32::from_be_bytes(option[at..at + 4].try_into().unwrap());
    Some((number(2), number(6)))
}

fn events(world: &World) -> Vec<(Event, u64)> {
    let count = |event: Event| {
        let of = |services: &[shunt::stats::counters::ServiceCounters]| -> u64 {
            services.iter().map(|service| service.cookies[event as usize].get()).sum()
        };
        world.stats.iter().map(|stats| of(&stats.services)).sum()
    };
    Event::ALL.iter().map(|event| (*event, count(*event))).filter(|(_, n)| *n > 0).collect()
}

/// A backend's segment to who sent that.
fn from_backend(syn: &Sent) -> Builder {
    let seen = Segment::read(&syn.frame);
    let host = match seen.destination {
        SocketAddr::V4(to) => to.ip().octets()[3],
        SocketAddr::V6(to) => to.ip().octets()[15],
    };
    packet().macs(backend_mac(host), OUR_INNER_MAC).tcp(seen.destination, seen.source)
}

/// A connection of which the backend has been asked: what the client was told, and the SYN.
struct Asked {
    world: World,
    told: Segment,
    syn: Sent,
}

fn asked(mut world: World, families: Families, options: &[u8]) -> Asked {
    let syn = tcp(families).flags(SYN).numbers(START, 0).tcp_options(options).build();
    let told = Segment::read(&world.one(0, 0, &syn).frame);
    let back = stamps_of(&told).map_or(vec![], |(value, _)| stamps(STAMP + 5, value));
    let ack = tcp(families).numbers(START.wrapping_add(1), told.sequence.wrapping_add(1));
    let syn = world.one(0, 0, &ack.flags(ACK).window(500).tcp_options(&back).build());
    Asked { world, told, syn }
}

#[test]
fn a_syn_is_answered_from_the_vip_and_leaves_nothing_behind() {
    for families in [V4, V6, Nat64] {
        let mut world = always(families, ClientAddress::None, Mode::Fullnat);
        let syn = tcp(families).flags(SYN).numbers(START, 0).payload(b"early").ttl(3).build();
        let sent = world.one(0, 0, &syn);
        let told = Segment::read(&sent.frame);
        let (client, vip) = ends(families);
        assert_eq!((sent.port, told.source, told.destination), (0, vip, client));
        assert_eq!(sent.frame[..12], [CLIENT_MAC.0, OUR_MAC.0].concat());
        assert_eq!(sent.frame[if client.is_ipv4() { 22 } else { 21 }], 64, "TTL, hop limit");
        assert_eq!((told.flags, told.ack, told.payload.len()), (SYN | ACK, START + 1, 0));
        assert_eq!(world.connections(), [0; 4]);
        assert_eq!(events(&world), [(Event::Sent, 1)]);
        assert_eq!(world.drops(), []);
    }
}

#[test]
fn what_the_cookie_can_carry_is_offered_and_nothing_else() {
    type Row = (&'static str, Vec<u8>, Option<u8>, bool, bool);
    let stamp = [&[8, 10][..], &STAMP.to_be_bytes(), &[0; 4]].concat();
    let rows: [Row; 6] = [
        ("nothing", vec![], None, false, false),
        ("all", full_options(STAMP), Some(OUR_SCALE), true, true),
        ("scale and SACK without timestamps", vec![4, 2, 3, 3, 7, 0, 0, 0], None, false, false),
        ("timestamps alone", [&[1, 1][..], &stamp].concat(), None, false, true),
        ("and SACK", [&[4, 2][..], &stamp].concat(), None, true, true),
        ("and scale", [&stamp[..], &[3, 3, 14, 1, 1, 1]].concat(), Some(OUR_SCALE), false, true),
    ];
    for (name, options, scale, sack, has_stamps) in rows {
        let mut world = simple();
        let syn = tcp(V4).flags(SYN).numbers(START, 0).tcp_options(&options).build();
        let sent = world.one(0, 0, &syn);
        let told = Segment::read(&sent.frame);
        assert_eq!(option(&told.options, 2), Some(&[2, 4, 5, 180][..]), "{name}: MSS");
        assert_eq!(option(&told.options, 3).map(|o| o[2]), scale, "{name}: scale");
        assert_eq!(option(&told.options, 4).is_some(), sack, "{name}: SACK");
        assert_eq!(stamps_of(&told).map(|(_, echo)| echo), has_stamps.then_some(STAMP), "{name}");
        assert!(sent.frame.len() <= syn.len() + 4, "{name}: an answer is no amplifier");
    }
}

#[test]
fn the_mss_told_is_what_the_narrowest_port_carries_less_what_is_inserted() {
    let rows = [
        (V4, ClientAddress::None, [1500, 1500], 1460),
        (V4, ClientAddress::None, [1500, 1400], 1360),
        (V6, ClientAddress::None, [9000, 1500], 1440),
        (V4, TOA, [1500, 1500], 1452),
        (V6, TOA, [1500, 1500], 1420),
        (V4, V2, [1500, 1500], 1432),
        (V4, V1, [1500, 1500], 1404),
        (V6, V1, [1500, 1500], 1336),
    ];
    for (families, how, mtus, expected) in rows {
        let plan = Plan { weights: vec![Some(1)], mtus, ..Plan::default() };
        let mut world = world(plan, families, how, SynCookies::Always, |_| {});
        let syn = tcp(families).flags(SYN).numbers(START, 0).build();
        let told = Segment::read(&world.one(0, 0, &syn).frame);
        let mss = option(&told.options, 2).map(|o| u16::from_be_bytes([o[2], o[3]]));
        assert_eq!(mss, Some(expected), "{families:?} {how:?} {mtus:?}");
    }
}

#[test]
fn the_backend_gets_the_clients_own_syn() {
    let rows = [
        (V4, ClientAddress::None, Mode::Fullnat),
        (V4, ClientAddress::None, Mode::Nat),
        (V6, ClientAddress::None, Mode::Fullnat),
        (V6, ClientAddress::None, Mode::Nat),
        (Nat64, ClientAddress::None, Mode::Fullnat),
        (V4, TOA, Mode::Fullnat),
        (V6, TOA, Mode::Fullnat),
        (Nat64, V2, Mode::Fullnat),
    ];
    for (families, how, mode) in rows {
        let Asked { mut world, syn, .. } =
            asked(always(families, how, mode), families, &full_options(STAMP));
        let seen = Segment::read(&syn.frame);
        let name = format!("{families:?} {how:?} {mode:?}");
        assert_eq!((syn.port, seen.flags, seen.sequence), (1, SYN, START), "{name}");
        assert_eq!(syn.frame[..12], [backend_mac(11).0, OUR_INNER_MAC.0].concat(), "{name}");
        assert_eq!(option(&seen.options, 3), Some(&[3, 3, 7][..]), "{name}");
        assert_eq!(option(&seen.options, 4), Some(&[4, 2][..]), "{name}");
        assert_eq!(stamps_of(&seen), Some((STAMP + 5, 0)), "{name}");
        let mss: u16 = if families == V4 { 1460 } else { 1440 };
        assert_eq!(option(&seen.options, 2).unwrap()[2..], mss.to_be_bytes(), "{name}");
        assert_eq!(seen.window, 500 << 7, "{name}: as the client's next ACK says, unscaled");
        if mode == Mode::Nat {
            assert_eq!(seen.source, ends(families).0, "{name}");
        }
        if how == TOA {
            let toa = expected_option(TOA, ends(families).0);
            assert!(seen.options.starts_with(&toa), "{name}");
        }
        assert_eq!(world.list(4)[0].state, State::Synack, "{name}");
        assert_eq!(world.connections(), [1; 4], "{name}");
        assert_eq!(events(&world), [(Event::Sent, 1), (Event::Accepted, 1)], "{name}");
    }
}

#[test]
fn both_ends_read_their_own_numbers_from_then_on() {
    let rows = [
        (V4, ClientAddress::None, Mode::Fullnat),
        (V4, ClientAddress::None, Mode::Nat),
        (V6, ClientAddress::None, Mode::Fullnat),
        (V6, ClientAddress::None, Mode::Nat),
        (Nat64, ClientAddress::None, Mode::Fullnat),
        (V4, TOA, Mode::Fullnat),
        (V6, V1, Mode::Fullnat),
        (V4, V2, Mode::Nat),
        (Nat64, V2, Mode::Fullnat),
    ];
    for (families, how, mode) in rows {
        let name = format!("{families:?} {how:?} {mode:?}");
        let Asked { mut world, told, syn } =
            asked(always(families, how, mode), families, &full_options(STAMP));
        let first = START.wrapping_add(1);
        // The newest of our clock: no answer to its SYN that the client may have had is newer.
        let our_stamp = world.now_ms | 31;
        let theirs = [
            &[2, 4, 5, 180, 4, 2, 8, 10][..],
            &THEIR_STAMP.to_be_bytes(),
            &(STAMP + 5).to_be_bytes(),
            &[1, 3, 3, 4],
        ]
        .concat();
        let agree = from_backend(&syn).flags(SYN | ACK).numbers(THEIRS, first);
        let ack = world.one(0, 1, &agree.tcp_options(&theirs).window(1000).build());
        let seen = Segment::read(&ack.frame);
        let header = inserted(how, families);
        assert_eq!((ack.port, seen.flags & !PSH, seen.sequence), (1, ACK, first), "{name}");
        assert_eq!((seen.ack, seen.payload.len()), (THEIRS + 1, header), "{name}");
        assert_eq!(stamps_of(&seen), Some((STAMP + 5, THEIR_STAMP)), "{name}");
        assert_eq!(seen.window, 500, "{name}");
        assert_eq!(world.list(4)[0].state, State::Established, "{name}");

        // The backend's data: its number, its clock and its window become those the client knows.
        let length = u32::try_from(header).unwrap();
        let data = from_backend(&syn).flags(PSH | ACK).payload(b"hello").window(3000);
        let data = data.numbers(THEIRS + 1, first.wrapping_add(length));
        let data = data.tcp_options(&stamps(THEIR_STAMP.wrapping_add(400), STAMP + 6));
        let there = world.one(0, 1, &data.build());
        let seen = Segment::read(&there.frame);
        assert_eq!((there.port, seen.sequence, seen.ack), (0, told.sequence + 1, first), "{name}");
        assert_eq!(stamps_of(&seen), Some((our_stamp.wrapping_add(400), STAMP + 6)), "{name}");
        assert_eq!(seen.window, 3000 >> 5, "{name}: from scale 4 to 9");
        assert_eq!(seen.payload, b"hello", "{name}");

        // And back: acknowledgment, SACK and echo.
        let ours = told.sequence + 6;
        let edges = [ours + 10, ours + 20].map(u32::to_be_bytes).concat();
        let options = [&stamps(STAMP + 9, our_stamp.wrapping_add(400))[..], &[1, 1, 5, 10], &edges];
        let back = tcp(families).flags(PSH | ACK).numbers(first, ours).window(77);
        let back = back.tcp_options(&options.concat()).payload(b"and back").build();
        let seen = Segment::read(&world.one(0, 0, &back).frame);
        let expected = [THEIRS + 16, THEIRS + 26].map(u32::to_be_bytes).concat();
        assert_eq!(seen.ack, THEIRS + 6, "{name}");
        assert_eq!(option(&seen.options, 5).unwrap()[2..], expected, "{name}");
        assert_eq!(stamps_of(&seen), Some((STAMP + 9, THEIR_STAMP.wrapping_add(400))), "{name}");
        assert_eq!((seen.window, seen.sequence.wrapping_sub(first)), (77, length), "{name}");
        assert!(seen.payload.ends_with(b"and back"), "{name}");
        assert_eq!(world.drops(), [], "{name}");
        assert!(events(&world).contains(&(Event::Opened, 1)), "{name}");
    }
}

#[test]
fn windows_are_right_whatever_either_end_scales_by() {
    // The backend's scale, or none; its window; what the client reads; the client's, 40 at scale 7,
    // as the backend reads it.
    let rows = [
        (Some(0), 60_000, 60_000 >> 9, 40),
        (Some(9), 60_000, 60_000, 40),
        (Some(14), 60_000, 65_535, 40),
        (Some(12), 100, 800, 40),
        (None, 60_000, 60_000 >> 9, 40 << 7),
    ];
    for (scale, window, to_client, to_backend) in rows {
        let Asked { mut world, told, syn } = asked(simple(), V4, &full_options(STAMP));
        let first = START.wrapping_add(1);
        let scaling = scale.map_or(vec![], |scale| vec![1, 3, 3, scale]);
        let options = [&stamps(THEIR_STAMP, STAMP + 5)[..], &scaling].concat();
        let agree = from_backend(&syn).flags(SYN | ACK).numbers(THEIRS, first);
        world.one(0, 1, &agree.tcp_options(&options).build());
        let data = from_backend(&syn).numbers(THEIRS + 1, first).window(window);
        let seen = Segment::read(&world.one(0, 1, &data.build()).frame);
        assert_eq!(seen.window, to_client, "{scale:?}");
        let back = tcp(V4).numbers(first, told.sequence + 1).window(40).build();
        assert_eq!(Segment::read(&world.one(0, 0, &back).frame).window, to_backend, "{scale:?}");
    }
    // Without timestamps nobody scales.
    let Asked { mut world, syn, .. } = asked(simple(), V4, &[2, 4, 5, 180, 1, 3, 3, 7]);
    assert_eq!(option(&Segment::read(&syn.frame).options, 3), None);
    let agree = from_backend(&syn).flags(SYN | ACK).numbers(THEIRS, START + 1).build();
    world.one(0, 1, &agree);
    let data = from_backend(&syn).numbers(THEIRS + 1, START + 1).window(60_001).build();
    assert_eq!(Segment::read(&world.one(0, 1, &data).frame).window, 60_001);
}

#[test]
fn a_backend_that_takes_less_than_the_client_was_told_makes_it_hear_so() {
    for (families, mss, takes) in [(V4, 1000, 1040), (V6, 1300, 1360), (Nat64, 1300, 1360)] {
        let Asked { mut world, told, syn } =
            asked(always(families, ClientAddress::None, Mode::Fullnat), families, &[]);
        let options = [&[2, 4][..], &u16::to_be_bytes(mss)].concat();
        let agree = from_backend(&syn).flags(SYN | ACK).numbers(THEIRS, START + 1);
        world.one(0, 1, &agree.tcp_options(&options).build());
        let sized = |length: usize| {
            let segment = tcp(families).numbers(START + 1, told.sequence + 1);
            segment.payload(&vec![7; length]).build()
        };
        assert_eq!(world.one(0, 0, &sized(mss.into())).port, 1, "{families:?}");
        let error = world.one(0, 0, &sized(usize::from(mss) + 1));
        let seen = judge_any(&error.frame).unwrap();
        assert_eq!((error.port, seen.source), (0, ends(families).1.ip()), "{families:?}");
        let header = if families == V4 { 34 } else { 54 };
        let said = &error.frame[header + 6..header + 8];
        assert_eq!(said, u16::to_be_bytes(takes), "{families:?}");
        assert_eq!(world.drops(), [(Reason::TooBig, 1)], "{families:?}");
    }
}

/// What a client sends behind its handshake.
fn data(told: &Segment, at: u32, bytes: &[u8]) -> Builder {
    let first = START.wrapping_add(1).wrapping_add(at);
    tcp(V4).flags(PSH | ACK).numbers(first, told.sequence + 1).payload(bytes)
}

#[test]
fn what_the_client_says_meanwhile_is_held_and_goes_on_in_order() {
    let Asked { mut world, told, syn } = asked(simple(), V4, &[]);
    for at in 0..12 {
        assert_eq!(world.exchange(0, 0, &data(&told, at, b"a").build()), []);
    }
    assert_eq!(world.drops(), [(Reason::CookieHeld, 2)], "ten are held");
    let agree = from_backend(&syn).flags(SYN | ACK).numbers(THEIRS, START + 1).build();
    let sent = world.exchange(0, 1, &agree);
    let numbers: Vec<u32> = sent.iter().map(|s| Segment::read(&s.frame).sequence).collect();
    let expected: Vec<u32> =
        std::iter::once(0).chain(0..10).map(|at: u32| START.wrapping_add(1 + at)).collect();
    assert_eq!(numbers, expected, "the ACK, and what was held");
    assert!(sent.iter().all(|s| s.port == 1 && Segment::read(&s.frame).ack == THEIRS + 1));
}

#[test]
fn an_ack_that_was_lost_does_no_harm() {
    for (name, flags, payload) in [("data", PSH | ACK, &b"hello"[..]), ("FIN", FIN | ACK, b"")] {
        let mut world = simple();
        let syn = tcp(V4).flags(SYN).numbers(START, 0).build();
        let told = Segment::read(&world.one(0, 0, &syn).frame);
        // A later segment overtakes the first: dropped in silence.
        assert_eq!(world.exchange(0, 0, &data(&told, 5, b"later").build()), [], "{name}");
        assert_eq!(world.drops(), [(Reason::CookieEarly, 1)], "{name}");
        let first = data(&told, 0, payload).flags(flags).build();
        // Asked by a packet of ours, because this one is held; the first, whose kind there was
        // nothing to make from, leaves with the same poll.
        let syn = world.one(0, 0, &first);
        assert_eq!(Segment::read(&syn.frame).flags, SYN, "{name}");
        let agree = from_backend(&syn).flags(SYN | ACK).numbers(THEIRS, START + 1).build();
        let sent = world.exchange(0, 1, &agree);
        let seen: Vec<_> = sent.iter().map(|s| Segment::read(&s.frame)).collect();
        assert_eq!((seen.len(), seen[0].flags), (2, ACK), "{name}");
        assert_eq!((seen[1].flags, &seen[1].payload[..]), (flags, payload), "{name}");
    }
}

#[test]
fn a_client_whose_ack_was_lost_does_not_wait_behind_others() {
    let Asked { mut world, .. } = asked(simple(), V4, &[]);
    world.now_ms += 10;
    let other = (CLIENT.0, 50_000);
    let syn = packet().tcp(other, VIP).flags(SYN).numbers(START, 0).build();
    let told = Segment::read(&world.one(0, 0, &syn).frame);
    let data = packet().tcp(other, VIP).numbers(START + 1, told.sequence + 1).payload(b"hello");
    assert_eq!(Segment::read(&world.one(0, 0, &data.build()).frame).flags, SYN);
}

#[test]
fn a_backend_that_repeats_itself_is_acknowledged_again_and_the_client_hears_nothing() {
    let Asked { mut world, syn, .. } = asked(simple(), V4, &full_options(STAMP));
    let agree = from_backend(&syn).flags(SYN | ACK).numbers(THEIRS, START + 1).build();
    let first = world.one(0, 1, &agree);
    let second = world.one(0, 1, &agree);
    assert_eq!((first.frame.clone(), first.port), (second.frame, 1));
    assert!(events(&world).contains(&(Event::BackendPlain, 1)), "it does no timestamps");
}

#[test]
fn a_backend_that_refuses_makes_the_client_hear_it() {
    for families in [V4, V6, Nat64] {
        let Asked { mut world, told, syn } = asked(
            always(families, ClientAddress::None, Mode::Fullnat),
            families,
            &full_options(STAMP),
        );
        // One that acknowledges something else is of nobody.
        let stray = from_backend(&syn).flags(RST | ACK).numbers(0, START + 7).build();
        assert_eq!(world.exchange(0, 1, &stray), []);
        let reset = from_backend(&syn).flags(RST | ACK).numbers(0, START + 1).build();
        let heard = world.one(0, 1, &reset);
        let seen = Segment::read(&heard.frame);
        assert_eq!((heard.port, seen.flags), (0, RST | ACK));
        assert_eq!((seen.sequence, seen.ack), (told.sequence + 1, START + 1));
        assert!(events(&world).contains(&(Event::BackendRefused, 1)));
        world.wait(20);
        assert_eq!(world.connections(), [0; 4]);
        assert_eq!(world.sent(), []);
    }
}

#[test]
fn a_silent_backend_is_asked_four_times_and_then_the_client_hears_of_it() {
    for families in [V4, V6, Nat64] {
        let Asked { mut world, told, syn } = asked(
            always(families, ClientAddress::None, Mode::Fullnat),
            families,
            &full_options(STAMP),
        );
        let hello = tcp(families).flags(PSH | ACK).payload(b"hello");
        let hello = hello.numbers(START.wrapping_add(1), told.sequence + 1).build();
        assert_eq!(world.exchange(0, 0, &hello), []);
        let mut heard = vec![];
        for ms in (0..6000).step_by(100) {
            world.now_ms += 100;
            world.poll();
            heard.extend(world.sent().into_iter().map(|sent| (ms + 100, sent)));
        }
        let times: Vec<_> = heard.iter().map(|(ms, sent)| (*ms, sent.port)).collect();
        assert_eq!(times, [(1000, 1), (2000, 1), (3000, 1), (4000, 0)]);
        let again = Segment::read(&heard[0].1.frame);
        assert_eq!(again, Segment::read(&syn.frame), "the same SYN");
        let reset = Segment::read(&heard[3].1.frame);
        let (client, vip) = ends(families);
        assert_eq!((reset.source, reset.destination, reset.flags), (vip, client, RST | ACK));
        assert_eq!((reset.sequence, reset.ack), (told.sequence + 1, START + 1));
        assert_eq!(heard[3].1.frame[..12], [CLIENT_MAC.0, OUR_MAC.0].concat());
        assert_eq!(world.connections(), [0; 4]);
        assert!(events(&world).contains(&(Event::BackendSilent, 1)));
        world.wait(3);
        assert_eq!(world.drops(), [(Reason::CookieHeld, 1)], "what was held is freed");
    }
}

#[test]
fn a_backend_that_remembers_an_older_connection_is_told_so_and_asked_again() {
    let Asked { mut world, syn, .. } = asked(simple(), V4, &[]);
    let old = from_backend(&syn).flags(ACK).numbers(5, 900).build();
    let said = |sent: &[Sent]| -> Vec<_> {
        let read = |sent: &Sent| (sent.port, Segment::read(&sent.frame));
        sent.iter().map(read).map(|(port, seen)| (port, seen.flags, seen.sequence)).collect()
    };
    let reset = (1, RST, 900);
    let again = (1, SYN, START);
    assert_eq!(said(&world.exchange(0, 1, &old)), [reset, again], "at once");
    assert_eq!(world.list(4)[0].state, State::Synack);
    // A backend that never lets go is asked at the usual pace, and as often as any.
    for _ in 0..3 {
        assert_eq!(said(&world.exchange(0, 1, &old)), [reset]);
        assert_eq!(said(&world.exchange(0, 1, &old)), [reset]);
        world.now_ms += 1000;
        world.poll();
        assert_eq!(said(&world.sent()), [again]);
    }
    world.now_ms += 1000;
    world.poll();
    let last = world.sent();
    assert_eq!((last[0].port, Segment::read(&last[0].frame).flags), (0, RST | ACK), "given up");
    assert_eq!(world.connections(), [0; 4]);
}

#[test]
fn a_backend_that_remembered_is_acknowledged_again_as_any() {
    let Asked { mut world, syn, .. } = asked(simple(), V4, &[]);
    let old = from_backend(&syn).flags(ACK).numbers(5, 900).build();
    assert_eq!(world.exchange(0, 1, &old).len(), 2, "it is told so and asked again");
    let agree = from_backend(&syn).flags(SYN | ACK).numbers(THEIRS, START + 1).build();
    let first = world.one(0, 1, &agree);
    let second = world.one(0, 1, &agree);
    assert_eq!(
        (first.frame.clone(), first.port),
        (second.frame, 1),
        "and the client hears nothing"
    );
}

#[test]
fn what_backends_that_remember_are_answered_has_a_limit() {
    let Asked { mut world, syn, .. } = asked(simple(), V4, &[]);
    let old = from_backend(&syn).flags(ACK).numbers(5, 900).build();
    let sent: usize = (0..5_000).map(|_| world.exchange(0, 1, &old).len()).sum();
    assert!((500..=1_002).contains(&sent), "a tenth of a second's worth of 10,000: {sent}");
}

#[test]
fn what_waits_for_a_dead_backend_leaves_room_for_the_others() {
    let plan = Plan { weights: vec![Some(1), Some(0)], ..Plan::default() };
    let mut world = world(plan, V4, ClientAddress::None, SynCookies::Always, |_| {});
    let speak = |world: &mut World, port: u16, segments: u32| {
        let tcp = || packet().tcp((crate::packets::CLIENT.0, port), crate::packets::VIP);
        let syn = tcp().flags(SYN).numbers(START, 0).build();
        let told = Segment::read(&world.one(0, 0, &syn).frame);
        let mut sent = vec![];
        for n in 0..segments {
            let from = START.wrapping_add(1 + n * 5);
            let data = tcp().numbers(from, told.sequence.wrapping_add(1)).flags(PSH | ACK);
            sent.extend(world.exchange(0, 0, &data.payload(b"hello").build()));
        }
        sent
    };
    for n in 0..120 {
        speak(&mut world, 5000 + n, 10);
    }
    let crowded = |world: &World| {
        events(world).iter().find(|(event, _)| *event == Event::Crowded).map(|(_, n)| *n)
    };
    assert_eq!(crowded(&world), Some(1200 - 512), "half of all places, no more");
    assert_eq!(world.drops(), [(Reason::CookieHeld, 1200 - 512)]);
    world.plan.weights = vec![Some(0), Some(1)];
    publish(&mut world, V4, ClientAddress::None, SynCookies::Always, |_| {});
    let syns = speak(&mut world, 9000, 10);
    let agree = from_backend(&syns[0]).flags(SYN | ACK).numbers(THEIRS, START + 1).build();
    assert_eq!(world.exchange(0, 1, &agree).len(), 11, "the ACK, and all that waited");
    assert_eq!(crowded(&world), Some(1200 - 512));
}

#[test]
fn a_client_that_gives_up_meanwhile_takes_the_backend_along() {
    let Asked { mut world, told, .. } = asked(simple(), V4, &[]);
    let wrong = tcp(V4).flags(RST).numbers(START.wrapping_add(77), 0).build();
    assert_eq!(world.exchange(0, 0, &wrong), [], "anybody can guess addresses");
    let reset = tcp(V4).flags(RST | ACK).numbers(START + 1, told.sequence + 1).build();
    let sent = world.one(0, 0, &reset);
    let seen = Segment::read(&sent.frame);
    assert_eq!((sent.port, seen.flags, seen.sequence), (1, RST, START + 1));
    assert_eq!(world.connections(), [0; 4]);
}

#[test]
fn an_error_about_a_backends_segment_quotes_the_backends_number() {
    let Asked { mut world, told, syn } = asked(simple(), V4, &[]);
    let agree = from_backend(&syn).flags(SYN | ACK).numbers(THEIRS, START + 1).build();
    world.one(0, 1, &agree);
    let data = from_backend(&syn).numbers(THEIRS + 1, START + 1).payload(&[7; 900]).build();
    let there = world.one(0, 1, &data);
    let quote = &there.frame[14..14 + 28];
    let error = packet().icmp(3, 4, 600).payload(quote);
    let error = error.between((CLIENT.0, 0), (VIP.0, 0)).build();
    let back = world.one(0, 0, &error);
    let number = &back.frame[14 + 20 + 8 + 20 + 4..][..4];
    assert_eq!(number, (THEIRS + 1).to_be_bytes());
    assert_eq!(told.flags, SYN | ACK);
}
