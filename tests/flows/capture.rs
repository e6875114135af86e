//! Frames copied for a capture: which, from when, how many, and that forwarding does not notice.

use std::num::NonZeroU32;
use std::sync::Arc;

use shunt::dataplane::capture::{Capture, Moment, Place, Ring, Wanted};
use shunt::dataplane::conn::state::flags::{ACK, PSH, SYN};
use shunt::dataplane::snapshot::{Encapsulation, Mode};
use shunt::ids::{PortId, ServiceId};
use shunt::wire::vlan::{Tags, Vid};

use crate::life::{answer, client, from_client, open};
use crate::packets::{CLIENT, VIP, packet};
use crate::world::{Plan, World};

/// Everything, both ways.
fn all() -> Wanted {
    Wanted {
        before: true,
        after: true,
        place: None,
        services: Box::default(),
        filter: None,
        one_in: NonZeroU32::MIN,
        frames_max: 1000,
    }
}

/// A copy: when, by which device, and the frame.
type Found = (Moment, u8, Vec<u8>);

/// Has every worker capture, with that many places; what is found afterwards.
fn begin(world: &mut World, wanted: Wanted, places: usize) -> Vec<Arc<Ring>> {
    let wanted = Arc::new(wanted);
    let workers = usize::from(world.plan.workers);
    let rings: Vec<_> = (0..workers).map(|_| Arc::new(Ring::new(places, 2048))).collect();
    for (worker, ring) in rings.iter().enumerate() {
        let part = Capture::new(Arc::clone(&wanted), Arc::clone(ring));
        assert!(!world.order_capture(worker, Some(part)), "nothing was captured before");
    }
    rings
}

fn found(rings: &[Arc<Ring>]) -> Vec<Found> {
    let mut found = Vec::new();
    for ring in rings {
        while let Some(copied) = ring.take() {
            assert_eq!(copied.length, copied.bytes().len());
            found.push((copied.moment, copied.device.0, copied.bytes().to_vec()));
            ring.give_back(copied);
        }
    }
    found
}

fn datagram(port: u16) -> Vec<u8> {
    packet().udp(client(port), VIP).payload(b"?").build()
}

#[test]
fn a_frame_is_copied_as_it_was_received_and_as_it_is_sent() {
    let mut world = World::new(Plan::default());
    let rings = begin(&mut world, all(), 64);
    let there = from_client(CLIENT, SYN);
    let sent = world.one(0, 0, &there);
    let back = answer(&sent, SYN | ACK);
    let returned = world.one(0, 1, &back);
    let wanted = vec![
        (Moment::Before, 0, there),
        (Moment::After, 1, sent.frame),
        (Moment::Before, 1, back),
        (Moment::After, 0, returned.frame),
    ];
    assert_eq!(found(&rings), wanted);
    assert_eq!(world.stats[0].run.captured.get(), 4);
    assert!(world.order_capture(0, None), "what was given comes back");
    world.one(0, 0, &from_client(CLIENT, ACK));
    assert_eq!(found(&rings), [], "and then nothing is copied");
}

#[test]
fn what_is_refused_is_seen_before_and_what_is_made_here_after() {
    let mut world = World::new(Plan::default());
    let rings = begin(&mut world, all(), 64);
    let (malformed, stray) =
        (packet().tcp(CLIENT, VIP).ip_wrong_by(1).build(), from_client(CLIENT, ACK));
    world.exchange(0, 0, &malformed);
    let reset = world.one(0, 0, &stray);
    let wanted = [
        (Moment::Before, 0, malformed),
        (Moment::Before, 0, stray),
        (Moment::After, 0, reset.frame),
    ];
    assert_eq!(found(&rings), wanted);
}

#[test]
fn a_capture_of_a_port_or_a_moment_has_no_other_frames() {
    for (edit, wanted) in [
        (
            (|it: &mut Wanted| it.before = false) as fn(&mut Wanted),
            vec![(Moment::After, 1), (Moment::After, 0)],
        ),
        (|it| it.after = false, vec![(Moment::Before, 0), (Moment::Before, 1)]),
        (
            |it| it.place = Some(Place { port: PortId(1), device: PortId(1), tags: None }),
            vec![(Moment::After, 1), (Moment::Before, 1)],
        ),
        (|it| it.filter = Some("48.0.0.47_69.0.1.16_6.0.0.1_6.0.0.0".parse().unwrap()), {
            // The flags of a TCP segment: those with ACK.
            vec![(Moment::Before, 1), (Moment::After, 0)]
        }),
    ] {
        let mut world = World::new(Plan::default());
        let mut asked = all();
        edit(&mut asked);
        let rings = begin(&mut world, asked, 64);
        let sent = world.one(0, 0, &from_client(CLIENT, SYN));
        world.one(0, 1, &answer(&sent, SYN | ACK));
        let found: Vec<_> =
            found(&rings).into_iter().map(|(moment, device, _)| (moment, device)).collect();
        assert_eq!(found, wanted);
    }
}

#[test]
fn a_tagged_port_is_captured_with_its_tags_and_without_its_devices_other_frames() {
    let tags = Tags { outer: Vid::new(100).unwrap(), inner: None };
    let plan = Plan { tagged: vec![(PortId(0), tags)], ..Plan::default() };
    let mut world = World::new(plan);
    let place = Place { port: PortId(2), device: PortId(0), tags: Some(tags) };
    let rings = begin(&mut world, Wanted { place: Some(place), ..all() }, 64);
    let plain = from_client(client(5000), SYN);
    let tagged = [&plain[..12], &[0x81, 0, 0, 100], &plain[12..]].concat();
    world.one(0, 0, &from_client(client(5001), SYN));
    let sent = world.one(0, 0, &tagged);
    let back = world.one(0, 1, &answer(&sent, SYN | ACK));
    assert_eq!(back.frame[12..16], [0x81, 0, 0, 100]);
    assert_eq!(found(&rings), [(Moment::Before, 0, tagged), (Moment::After, 0, back.frame)]);
}

#[test]
fn a_services_frames_are_found_once_each_whichever_worker_they_meet() {
    for workers in [1_u8, 2, 4] {
        let mut world = World::new(Plan { workers, ..Plan::default() });
        let wanted = Wanted { services: [ServiceId(0)].into(), ..all() };
        let rings = begin(&mut world, wanted, 256);
        let mut expected = Vec::new();
        for port in 0..16_u16 {
            let met = usize::from(port) % usize::from(workers);
            world.exchange(met, 0, &datagram(6000 + port));
            let syn = from_client(client(7000 + port), SYN);
            let sent = world.one(met, 0, &syn);
            let back = answer(&sent, SYN | ACK);
            let returned = world.one((met + 1) % usize::from(workers), 1, &back);
            expected.extend([
                (Moment::Before, 0, syn),
                (Moment::After, 1, sent.frame),
                (Moment::Before, 1, back),
                (Moment::After, 0, returned.frame),
            ]);
        }
        let mut found = found(&rings);
        let order = |it: &Found| (it.0 == Moment::After, it.1, it.2.clone());
        found.sort_by_key(order);
        expected.sort_by_key(order);
        assert_eq!(found.len(), expected.len(), "{workers} workers");
        assert_eq!(found, expected, "{workers} workers");
    }
}

#[test]
fn a_service_is_known_by_the_packet_inside_a_tunnel() {
    for kind in [
        Encapsulation::Ipip,
        Encapsulation::Gre { checksum: false },
        Encapsulation::Gre { checksum: true },
    ] {
        let plan = Plan { modes: vec![Mode::Tunnel(kind); 3], ..Plan::default() };
        let mut world = World::new(plan);
        let rings = begin(&mut world, Wanted { services: [ServiceId(0)].into(), ..all() }, 64);
        let sent = world.one(0, 0, &from_client(CLIENT, SYN));
        world.exchange(0, 0, &datagram(6000));
        let wanted =
            [(Moment::Before, 0, from_client(CLIENT, SYN)), (Moment::After, 1, sent.frame)];
        assert_eq!(found(&rings), wanted, "{kind:?}");
    }
}

#[test]
fn a_capture_that_nobody_reads_misses_frames_and_forwarding_does_not() {
    let mut world = World::new(Plan::default());
    let rings = begin(&mut world, all(), 10);
    open(&mut world, CLIENT);
    let before = world.stats[0].run.captured.get() + world.stats[0].run.capture_missed.get();
    assert_eq!(before, 6, "three packets, twice each");
    for _ in 0..100 {
        world.one(0, 0, &from_client(CLIENT, ACK | PSH));
    }
    let run = &world.stats[0].run;
    assert_eq!((run.captured.get(), run.capture_missed.get()), (10, 196));
    assert_eq!((found(&rings).len(), rings[0].missed()), (10, 196));
    assert_eq!(world.drops(), []);
}

#[test]
fn a_capture_takes_its_share_and_no_more_than_it_was_told() {
    let mut world = World::new(Plan::default());
    open(&mut world, CLIENT);
    let wanted =
        Wanted { after: false, one_in: NonZeroU32::new(4).unwrap(), frames_max: 5, ..all() };
    let rings = begin(&mut world, wanted, 64);
    for packets in [12, 100] {
        for _ in 0..packets {
            world.one(0, 0, &from_client(CLIENT, ACK));
        }
        assert_eq!(found(&rings).len(), if packets == 12 { 3 } else { 2 });
    }
}
