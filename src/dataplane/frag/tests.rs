//! Datagrams in pieces: the rules one by one, and any history against a plain list.

use std::net::Ipv4Addr;
use std::rc::Rc;

use proptest::prelude::*;
use zerocopy::FromZeros;

use super::*;
use crate::wire::fragment::Span;

fn v4(identification: u16) -> Key {
    let mut header = ipv4::Header::new_zeroed();
    let ends = (Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(198, 51, 100, 7));
    header.addresses.set(ipv4::address_pair(ends.0, ends.1));
    header.identification.set(identification);
    header.protocol = ipv4::UDP;
    Key::v4(&header)
}

fn v6(identification: u32) -> Key {
    Key::v6([3; 32], &fragment::Header::new(ipv4::UDP, Span::WHOLE, identification))
}

fn released<P>(fragments: &mut Fragments<P>) -> Vec<(P, u32)> {
    told(fragments).into_iter().map(|(packet, told)| (packet, told.ports)).collect()
}

fn told<P>(fragments: &mut Fragments<P>) -> Vec<(P, Told)> {
    std::iter::from_fn(|| fragments.released()).collect()
}

#[test]
fn a_first_piece_that_needs_the_length_waits_for_the_last_and_leaves_in_front() {
    let mut fragments = Fragments::new();
    let both = Told { ports: 77, length: 2000 };
    for (now_ms, last_first) in [(0, false), (10, true)] {
        assert_eq!(fragments.later(v4(1), "second", now_ms), Outcome::Held);
        if last_first {
            assert_eq!(fragments.last(v4(1), 2000, "last", now_ms), Outcome::Held);
            assert_eq!(told(&mut fragments), []);
        }
        assert_eq!(fragments.wait(v4(1), 77, "first", now_ms), Outcome::Held);
        if !last_first {
            assert_eq!(told(&mut fragments), []);
            assert_eq!(fragments.last(v4(1), 2000, "last", now_ms), Outcome::Held);
        }
        let order = ["first", "second", "last"].map(|packet| (packet, both));
        assert_eq!(told(&mut fragments), order);
        assert_eq!(fragments.later(v4(1), "late", now_ms), Outcome::Known("late", 77));
        // The next of that name waits for its own.
        assert_eq!(fragments.wait(v4(1), 78, "first", now_ms), Outcome::Held);
        assert_eq!(told(&mut fragments), []);
        assert_eq!(fragments.refuse(v4(1), now_ms), 1);
        fragments.tick(now_ms);
        assert_eq!(fragments.wait(v4(1), 78, "first", now_ms), Outcome::Held, "refused before");
        assert_eq!(fragments.last(v4(1), 9, "last", now_ms), Outcome::Held);
        assert_eq!(told(&mut fragments).len(), 2);
        let place = fragments.table.find(&v4(1)).unwrap();
        assert_eq!(fragments.forget(place), 0);
    }
    assert!(fragments.is_idle());
    let mut full = Fragments::with_limits(4, 1);
    assert_eq!(full.later(v4(1), 'a', 0), Outcome::Held);
    assert_eq!(full.wait(v4(1), 1, 'b', 0), Outcome::Refused('b', Refusal::Limit));
    assert_eq!(full.last(v4(1), 1, 'c', 0), Outcome::Refused('c', Refusal::Limit));
}

#[test]
fn pieces_before_the_first_wait_and_leave_with_its_ports_in_the_order_they_came() {
    let mut fragments = Fragments::new();
    assert_eq!(fragments.later(v4(1), "last", 0), Outcome::Held);
    assert_eq!(fragments.later(v4(2), "another's", 1), Outcome::Held);
    assert_eq!(fragments.later(v4(1), "second", 2), Outcome::Held);
    assert_eq!(released(&mut fragments), []);
    fragments.learn(v4(1), 77, 3);
    assert_eq!(released(&mut fragments), [("last", 77), ("second", 77)]);
    assert_eq!((fragments.held(), fragments.contexts()), (1, 2));
}

#[test]
fn pieces_after_the_first_go_its_way_and_a_new_first_piece_shows_another() {
    let mut fragments = Fragments::new();
    fragments.learn(v6(1), 77, 0);
    assert_eq!(fragments.later(v6(1), 'a', 59_999), Outcome::Known('a', 77));
    fragments.learn(v6(1), 0, 59_999);
    assert_eq!(fragments.later(v6(1), 'b', 60_001), Outcome::Known('b', 0));
}

#[test]
fn what_comes_after_a_refused_first_piece_is_refused_and_what_waited_is_dropped() {
    let mut fragments = Fragments::new();
    assert_eq!(fragments.later(v4(1), 'a', 0), Outcome::Held);
    assert_eq!(fragments.refuse(v4(1), 1), 1);
    assert_eq!(fragments.later(v4(1), 'b', 2), Outcome::Refused('b', Refusal::First));
    assert_eq!((fragments.held(), fragments.tick(3)), (0, Dropped::default()));
}

#[test]
fn a_datagram_is_named_by_addresses_identification_family_and_in_ipv4_protocol() {
    let mut header = ipv4::Header::new_zeroed();
    let mut keys = vec![Key::v4(&header), v6(0), v6(1)];
    keys.push(Key::v6([0; 32], &fragment::Header::new(0, Span::WHOLE, 0)));
    header.protocol = ipv4::TCP;
    keys.push(Key::v4(&header));
    header.identification.set(1);
    keys.push(Key::v4(&header));
    header.addresses.set(1);
    keys.push(Key::v4(&header));
    for (at, key) in keys.iter().enumerate() {
        assert_eq!(keys.iter().position(|other| other == key), Some(at));
    }
    let other_protocol = fragment::Header::new(ipv4::TCP, Span { offset: 8, more: true }, 1);
    assert_eq!(Key::v6([3; 32], &other_protocol), v6(1), "pieces may differ in it");
}

#[test]
fn each_family_has_its_age_also_over_the_wrap_of_the_clock() {
    for (key, age_ms) in [(v4(1), 30_000), (v6(1), 60_000)] {
        let since_ms = u32::MAX - 10_000;
        let at = |age_ms| since_ms.wrapping_add(age_ms);
        let mut fragments = Fragments::new();
        assert_eq!(fragments.later(key, 'a', since_ms), Outcome::Held);
        assert_eq!(fragments.tick(at(age_ms - 1)), Dropped::default());
        assert_eq!(fragments.tick(at(age_ms)), Dropped { too_old: 1, made_room: 0 });
        assert_eq!((fragments.held(), fragments.contexts()), (0, 0));
        fragments.learn(key, 7, at(age_ms));
        assert_eq!(fragments.later(key, 'b', at(2 * age_ms)), Outcome::Held, "too old unswept");
        assert_eq!(fragments.contexts(), 1);
    }
}

#[test]
fn one_datagram_cannot_wait_with_more_than_its_share() {
    let mut fragments = Fragments::new();
    assert_eq!(fragments.later(v4(1), 0, 0), Outcome::Held);
    for piece in 0..HELD_PER_DATAGRAM_MAX {
        assert_eq!(fragments.later(v4(2), piece, 1), Outcome::Held);
    }
    assert_eq!(fragments.later(v4(2), 99, 2), Outcome::Refused(99, Refusal::Limit));
    assert_eq!(fragments.tick(3), Dropped::default(), "and costs nobody else anything");
}

#[test]
fn under_a_flood_of_pieces_without_a_first_ordinary_reordering_comes_through() {
    let mut fragments = Fragments::new();
    let packet = Rc::new(());
    let mut dropped = 0;
    for flood in 0..10_000 {
        assert_eq!(fragments.later(v6(flood), Rc::clone(&packet), flood / 100), Outcome::Held);
        if flood == 9_000 {
            assert_eq!(fragments.later(v4(7), Rc::clone(&packet), flood / 100), Outcome::Held);
        }
        if flood == 9_200 {
            fragments.learn(v4(7), 77, flood / 100);
            assert_eq!(released(&mut fragments), [(Rc::clone(&packet), 77)]);
        }
        assert!(fragments.held() <= HELD_MAX && fragments.contexts() <= HELD_MAX + 1);
        assert_eq!(Rc::strong_count(&packet), 1 + fragments.held(), "held or freed");
        dropped += fragments.tick(flood / 100).made_room;
    }
    assert_eq!(dropped + fragments.held(), 10_000);
    drop(fragments);
    assert_eq!(Rc::strong_count(&packet), 1);
}

#[test]
fn when_there_is_no_room_for_a_datagram_the_one_known_longest_is_forgotten() {
    let mut fragments = Fragments::new();
    let count = u16::try_from(CONTEXTS).expect("contexts are numbered by 16 bits");
    for number in 0..=count {
        fragments.learn(v4(number), number.into(), number.into());
    }
    assert_eq!(fragments.contexts(), CONTEXTS);
    assert_eq!(fragments.later(v4(1), 'a', 5000), Outcome::Known('a', 1));
    assert_eq!(fragments.later(v4(0), 'b', 5000), Outcome::Held);
}

#[test]
fn a_datagram_that_waits_longest_does_not_make_room_for_its_own() {
    let mut fragments = Fragments::with_limits(4, 2);
    assert_eq!(fragments.later(v4(1), 'a', 0), Outcome::Held);
    assert_eq!(fragments.later(v4(2), 'b', 1), Outcome::Held);
    assert_eq!(fragments.later(v4(1), 'c', 2), Outcome::Refused('c', Refusal::Limit));
    assert_eq!(fragments.later(v4(2), 'd', 3), Outcome::Held, "at the cost of the first");
    assert_eq!(fragments.tick(4), Dropped { too_old: 0, made_room: 1 });
    fragments.learn(v4(2), 5, 5);
    assert_eq!(fragments.later(v4(3), 'e', 6), Outcome::Refused('e', Refusal::Limit));
    assert_eq!(released(&mut fragments), [('b', 5), ('d', 5)], "released ones are safe");
}

/// What may happen to the key of that number.
#[derive(Clone, Copy, Debug)]
enum Event {
    Learn(u32),
    Wait(u32),
    Refuse,
    Later,
    Last(u16),
    Tick,
}

fn event() -> impl Strategy<Value = (u32, Event, u32)> {
    let kind = prop_oneof![
        2 => any::<u32>().prop_map(Event::Learn),
        1 => Just(Event::Refuse),
        2 => any::<u32>().prop_map(Event::Wait),
        6 => Just(Event::Later),
        2 => (1_u16..).prop_map(Event::Last),
        1 => Just(Event::Tick),
    ];
    (0_u32..9, kind, prop_oneof![4 => 1_u32..50, 1 => 1_u32..40_000])
}

#[derive(Clone, Debug, PartialEq)]
enum Known {
    /// The packets, in front the first piece, and what they wait for.
    Waiting(Vec<u32>, Option<u32>, u16),
    Ports(u32),
    Refused,
}

/// The rules, on a list: oldest first.
#[derive(Debug, Default)]
struct Model {
    datagrams: Vec<(Key, u64, Known)>,
    dropped: Dropped,
}

impl Model {
    const CONTEXTS: usize = 5;
    const HELD: usize = 7;

    fn held(&self) -> usize {
        self.datagrams.iter().map(|(_, _, known)| waiting(known).len()).sum()
    }

    fn expire(&mut self, now_ms: u64) {
        let over = |(key, since_ms, _): &mut (Key, u64, Known)| {
            now_ms - *since_ms >= u64::from(AGE_MS[key.family() as usize])
        };
        let gone = self.datagrams.extract_if(.., over);
        self.dropped.too_old += gone.map(|(_, _, known)| waiting(&known).len()).sum::<usize>();
    }

    fn evict(&mut self, at: usize) {
        self.dropped.made_room += waiting(&self.datagrams.remove(at).2).len();
    }

    /// A first piece; returns what waited for it.
    fn conclude(&mut self, key: Key, known: Known, now_ms: u64) -> Vec<u32> {
        let before = self.datagrams.iter().position(|(other, _, _)| *other == key);
        let before = before.map(|at| self.datagrams.remove(at).2);
        if self.datagrams.len() == Self::CONTEXTS {
            self.evict(0);
        }
        self.datagrams.push((key, now_ms, known));
        before.as_ref().map_or(vec![], |known| waiting(known).to_vec())
    }

    fn later(&mut self, key: Key, packet: u32, now_ms: u64) -> Outcome<u32> {
        let known = self.datagrams.iter().find(|(other, _, _)| *other == key);
        match known.map(|(_, _, known)| known) {
            Some(Known::Ports(ports)) => return Outcome::Known(packet, *ports),
            Some(Known::Refused) => return Outcome::Refused(packet, Refusal::First),
            Some(Known::Waiting(..)) | None => {}
        }
        self.hold(key, packet, now_ms)
    }

    fn hold(&mut self, key: Key, packet: u32, now_ms: u64) -> Outcome<u32> {
        if self.held() == Self::HELD {
            let waits = |(_, _, known): &(Key, u64, Known)| matches!(known, Known::Waiting(..));
            match self.datagrams.iter().position(waits) {
                Some(at) if self.datagrams[at].0 != key => self.evict(at),
                _ => return Outcome::Refused(packet, Refusal::Limit),
            }
        }
        let place = self.datagrams.iter_mut().find(|(other, _, _)| *other == key);
        if let Some((_, _, Known::Waiting(packets, ..))) = place {
            packets.push(packet);
        } else {
            self.conclude(key, Known::Waiting(vec![packet], None, 0), now_ms);
        }
        Outcome::Held
    }

    fn wait(&mut self, key: Key, ports: u32, packet: u32, now_ms: u64) -> Outcome<u32> {
        let waits = |known: &Known| matches!(known, Known::Waiting(..));
        self.datagrams.retain(|(other, _, known)| *other != key || waits(known));
        let outcome = self.hold(key, packet, now_ms);
        let place = self.datagrams.iter_mut().find(|(other, _, _)| *other == key);
        if let (Outcome::Held, Some((_, _, Known::Waiting(packets, known, _)))) = (&outcome, place)
        {
            packets.rotate_right(1);
            *known = Some(ports);
        }
        outcome
    }

    fn last(&mut self, key: Key, length: u16, packet: u32, now_ms: u64) -> Outcome<u32> {
        let outcome = self.later(key, packet, now_ms);
        let place = self.datagrams.iter_mut().find(|(other, _, _)| *other == key);
        if let (Outcome::Held, Some((_, _, Known::Waiting(_, _, known)))) = (&outcome, place) {
            *known = length;
        }
        outcome
    }

    /// What waits no longer, now that both are known.
    fn complete(&mut self, key: Key, now_ms: u64) -> Vec<(u32, Told)> {
        let place = self.datagrams.iter().find(|(other, _, _)| *other == key);
        match place.map(|(_, _, known)| known.clone()) {
            Some(Known::Waiting(packets, Some(ports), length)) if length > 0 => {
                self.conclude(key, Known::Ports(ports), now_ms);
                packets.into_iter().map(|packet| (packet, Told { ports, length })).collect()
            }
            _ => vec![],
        }
    }
}

fn waiting(known: &Known) -> &[u32] {
    if let Known::Waiting(packets, ..) = known { packets } else { &[] }
}

proptest! {
    /// Any history leaves what the list holds, and no packet is lost or doubled.
    #[test]
    fn it_is_the_list_of_the_rules(
        start_ms in any::<u32>(),
        history in prop::collection::vec(event(), 1..300),
    ) {
        let mut fragments = Fragments::with_limits(Model::CONTEXTS, Model::HELD);
        let mut model = Model::default();
        let mut now = 0_u64;
        for (packet, (number, event, pause_ms)) in (0_u32..).zip(history) {
            now += u64::from(pause_ms);
            let now_ms = start_ms.wrapping_add(u32::try_from(now).expect("days"));
            let even = number % 2 == 0;
            let key = if even { v4(u16::try_from(number).expect("small")) } else { v6(number) };
            let dropped = fragments.tick(now_ms);
            model.expire(now);
            prop_assert_eq!(dropped, std::mem::take(&mut model.dropped));
            match event {
                Event::Learn(ports) => {
                    fragments.learn(key, ports, now_ms);
                    let expected = model.conclude(key, Known::Ports(ports), now);
                    let expected: Vec<_> = expected.into_iter().map(|p| (p, ports)).collect();
                    prop_assert_eq!(released(&mut fragments), expected);
                }
                Event::Refuse => {
                    let expected = model.conclude(key, Known::Refused, now).len();
                    prop_assert_eq!(fragments.refuse(key, now_ms), expected);
                }
                Event::Later => {
                    let expected = model.later(key, packet, now);
                    prop_assert_eq!(fragments.later(key, packet, now_ms), expected);
                }
                Event::Wait(ports) => {
                    let expected = model.wait(key, ports, packet, now);
                    prop_assert_eq!(fragments.wait(key, ports, packet, now_ms), expected);
                    prop_assert_eq!(told(&mut fragments), model.complete(key, now));
                }
                Event::Last(length) => {
                    let expected = model.last(key, length, packet, now);
                    prop_assert_eq!(fragments.last(key, length, packet, now_ms), expected);
                    prop_assert_eq!(told(&mut fragments), model.complete(key, now));
                }
                Event::Tick => prop_assert_eq!(fragments.tick(now_ms), Dropped::default()),
            }
            prop_assert_eq!(fragments.held(), model.held());
            prop_assert_eq!(fragments.contexts(), model.datagrams.len());
        }
    }
}
