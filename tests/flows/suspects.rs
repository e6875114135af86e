//! Packets no honest client sends, and what we send ourselves: nothing here amplifies.

use proptest::prelude::*;
use shunt::dataplane::conn::state::flags::{ACK, FIN, PSH, SYN};
use shunt::dataplane::snapshot::{Snapshot, Strays, SynCookies};
use shunt::dataplane::verdict::Reason;

use crate::life::{answer, from_client, open};
use crate::packets::{CLIENT, CLIENT_V6, VIP, VIP_V6, packet};
use crate::world::{Plan, Sent, World};

const URG: u8 = 0x20;

fn strict(snapshot: &mut Snapshot) {
    snapshot.drop_malformed_tcp = true;
}

#[test]
fn scans_are_dropped_in_silence_where_that_is_asked_for() {
    for flags in [0, FIN, FIN | PSH | URG, SYN | FIN, SYN | FIN | ACK, PSH, URG] {
        for (is_strict, workers) in
            [false, true].into_iter().flat_map(|it| [1, 2, 4].map(|n| (it, n)))
        {
            let mut world = World::new(Plan { workers, ..Plan::default() });
            world.publish(|snapshot| snapshot.drop_malformed_tcp = is_strict);
            let sent = world.exchange(0, 0, &from_client(CLIENT, flags));
            assert_eq!(sent.is_empty(), is_strict, "{flags:#x}");
            let is_scan = world.drops() == [(Reason::TcpFlags, 1)];
            assert_eq!(is_scan, is_strict, "{flags:#x}: {:?}", world.drops());
            let by_service =
                world.stats.iter().map(|stats| stats.services[0].all_refused()).sum::<u64>();
            assert_eq!(by_service, u64::from(is_strict), "{flags:#x}");
        }
    }
}

#[test]
fn what_belongs_to_a_connection_is_not_asked() {
    let mut world = World::new(Plan::default());
    world.publish(strict);
    let there = open(&mut world, CLIENT);
    for flags in [0, PSH, URG, FIN | PSH | URG] {
        world.one(0, 0, &from_client(CLIENT, flags));
        world.one(0, 1, &answer(&there, flags));
    }
    assert_eq!(world.drops(), []);
}

/// A datagram from a port that floods come from, to a service that wants none.
pub(crate) fn reflected() -> (World, Vec<Sent>) {
    let mut world = World::new(Plan::default());
    world.publish(|snapshot| {
        let services = snapshot.services.iter_mut().flatten();
        services.for_each(|service| service.reflection_ports = [53].into());
    });
    let sent = world.exchange(0, 0, &packet().udp((CLIENT.0, 53), VIP).payload(b"answer").build());
    (world, sent)
}

#[test]
fn reflected_datagrams_start_nothing_and_flows_that_are_there_go_on() {
    let ports = |snapshot: &mut Snapshot| {
        let services = snapshot.services.iter_mut().flatten();
        services.for_each(|service| service.reflection_ports = [53, 123].into());
    };
    let from = |port| packet().udp((CLIENT.0, port), VIP).payload(b"flood").build();
    for workers in [1, 2, 4] {
        let mut world = World::new(Plan { workers, ..Plan::default() });
        world.one(0, 0, &from(53));
        world.publish(ports);
        assert_eq!(world.exchange(0, 0, &from(123)), []);
        world.one(0, 0, &from(53));
        world.one(0, 0, &from(54));
        let tcp = packet().tcp((CLIENT.0, 123), VIP).flags(SYN).build();
        world.one(0, 0, &tcp);
        assert_eq!(world.drops(), [(Reason::ReflectionPort, 1)], "{workers} workers");
    }
}

/// Bytes of the IP packet in a frame, and whether it is IPv6.
fn length(frame: &[u8]) -> (usize, bool) {
    let at = |at: usize| usize::from(u16::from_be_bytes([frame[at], frame[at + 1]]));
    if frame[12..14] == [0x86, 0xdd] { (40 + at(18), true) } else { (at(16), false) }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    /// Whatever a stranger sends that is answered, the answer is one packet, back where it came from, and
    /// longer by the headers of an ICMP error at most; RST, ABORT and cookies by 4 bytes.
    #[test]
    fn our_answers_are_not_longer_than_what_asked(
        protocol in 0..3usize,
        v6 in any::<bool>(),
        flags in any::<u8>(),
        port in prop::sample::select(vec![80u16, 81]),
        ttl in prop::sample::select(vec![1u8, 64]),
        payload in prop::collection::vec(any::<u8>(), 0..1300),
        cookies in any::<bool>(),
        weight in 0..2u32,
    ) {
        let vips = vec![VIP.0.into(), VIP_V6.0.into()];
        let mut world = World::new(Plan { vips, weights: vec![Some(weight); 3], ..Plan::default() });
        world.publish(|snapshot| {
            snapshot.strays = Strays::Reject;
            let services = snapshot.services.iter_mut().flatten();
            services.filter(|_| cookies).for_each(|it| it.syn_cookies = SynCookies::Always);
        });
        let new = packet();
        let new = match (protocol, v6) {
            (0, false) => new.tcp(CLIENT, (VIP.0, port)).flags(flags),
            (0, true) => new.tcp(CLIENT_V6, (VIP_V6.0, port)).flags(flags),
            (1, false) => new.udp(CLIENT, (VIP.0, port)),
            (1, true) => new.udp(CLIENT_V6, (VIP_V6.0, port)),
            (_, false) => new.sctp(CLIENT, (VIP.0, port), 0),
            (_, true) => new.sctp(CLIENT_V6, (VIP_V6.0, port), 0),
        };
        let asked = new.ttl(ttl).payload(&payload).build();
        let sent = world.exchange(0, 0, &asked);
        prop_assert!(sent.len() <= 1, "one for one");
        let Some(back) = sent.iter().find(|sent| sent.port == 0) else { return Ok(()) };
        let ((before, is_v6), (after, _)) = (length(&asked), length(&back.frame));
        let is_error = if is_v6 { back.frame[20] == 58 } else { back.frame[23] == 1 };
        let more = match (is_error, is_v6) {
            (false, _) => 4,
            (true, false) => 28,
            (true, true) => 48,
        };
        prop_assert!(after <= before + more, "{before} asked, {after} answered");
    }
}
