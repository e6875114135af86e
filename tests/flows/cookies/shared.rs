//! Cookies where services share a place, each with clients of its own, and where one takes several protocols.

use std::net::IpAddr;

use shunt::dataplane::snapshot::Protocol;

use super::limits::comes_through;
use super::*;
use crate::packets::rules::Setup;
use crate::packets::rules::setup::{V4 as IPV4, through};
use crate::packets::rules::words::{FULLNAT, NAT};

/// Whose the first service is; the second is everybody's.
const HERS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 200);

/// Two services of TCP at the VIP, backend 11 for her alone and backend 12 for everybody.
fn two(mode: Mode) -> Setup {
    let mut setup = through(mode, IPV4);
    setup.services.retain(|offer| offer.protocol == Protocol::Tcp);
    let mut everybodys = setup.services[0].clone();
    everybodys.backends[0].number = 12;
    setup.services[0].clients = vec![(HERS.into(), 32)];
    setup.services.push(everybodys);
    setup
}

/// A world in which these services have cookies.
fn with_cookies(setup: &Setup, setting: (u8, Card), having: &[SynCookies]) -> World {
    let mut world = World::of(setup, setting);
    world.publish(|snapshot| {
        setup.furnish(snapshot);
        for (service, cookies) in snapshot.services.iter_mut().flatten().zip(having) {
            service.syn_cookies = *cookies;
        }
    });
    world
}

/// Every number of workers, however cards spread packets, in the modes that have cookies.
fn settings() -> impl Iterator<Item = (Mode, (u8, Card))> {
    [FULLNAT, NAT].into_iter().flat_map(|mode| {
        let cards = [Card::Any, Card::Rss];
        [1, 2, 4].into_iter().flat_map(move |n| cards.map(|card| (mode, (n, card))))
    })
}

/// Whom a client's SYN reaches in the end.
fn backend_of(world: &mut World, client: Endpoint) -> Option<Ipv4Addr> {
    let worker = usize::from(client.1) % usize::from(world.plan.workers);
    let sent = comes_through(world, worker, client, 1)?;
    match Segment::read(&sent.frame).destination {
        SocketAddr::V4(to) => Some(*to.ip()),
        SocketAddr::V6(_) => None,
    }
}

/// The same secrets, the same place: the cookie of the one is as good as the other's, and what counts is whose
/// the client is when it comes back.
#[test]
fn of_two_services_at_a_place_each_answers_the_syns_of_its_own_clients() {
    use SynCookies::{Always, Never};
    for (mode, setting) in settings() {
        for having in [[Always, Never], [Never, Always], [Always, Always]] {
            let mut world = with_cookies(&two(mode), setting, &having);
            for port in 0..8 {
                let (hers, other) = ((HERS, 2000 + port), (CLIENT.0, 2000 + port));
                let name = format!("{mode:?} {setting:?} {having:?} {port}");
                assert_eq!(backend_of(&mut world, hers), Some([10, 44, 0, 11].into()), "{name}");
                assert_eq!(backend_of(&mut world, other), Some([10, 44, 0, 12].into()), "{name}");
            }
            let cookies = 8 * having.iter().filter(|cookies| **cookies == Always).count() as u64;
            assert_eq!(events(&world), [(Event::Sent, cookies), (Event::Accepted, cookies)]);
            assert_eq!((world.connections(), world.drops()), ([16; 4], vec![]));
        }
    }
}

/// A client that is another's by the time it comes back is served by that one: nothing was promised but the VIP.
#[test]
fn whose_the_client_is_is_asked_when_it_comes_back() {
    for (mode, setting) in settings() {
        let having = [SynCookies::Always; 2];
        let mut world = with_cookies(&two(mode), setting, &having);
        let syn = packet().tcp((HERS, 9), VIP).flags(SYN).numbers(1, 0).build();
        let told = Segment::read(&world.one(0, 0, &syn).frame);
        let mut other = two(mode);
        other.services[0].clients = vec![(CLIENT.0.into(), 32)];
        world.publish(|snapshot| {
            other.furnish(snapshot);
            for service in snapshot.services.iter_mut().flatten() {
                service.syn_cookies = SynCookies::Always;
            }
        });
        let number = told.sequence.wrapping_add(1);
        let ack = packet().tcp((HERS, 9), VIP).numbers(2, number).flags(ACK).build();
        let asked = Segment::read(&world.one(0, 0, &ack).frame);
        assert_eq!(asked.destination.ip(), IpAddr::from([10, 44, 0, 12]));
        assert_eq!(asked.flags, SYN, "{mode:?} {setting:?}");
    }
}

/// Its datagrams and associations begin as they do without.
#[test]
fn of_a_service_of_several_protocols_tcp_alone_has_cookies() {
    for (mode, setting) in settings() {
        let mut setup = through(mode, IPV4);
        setup.services.retain(|offer| offer.protocol == Protocol::Tcp);
        setup.services[0].also = vec![Protocol::Udp];
        let mut world = with_cookies(&setup, setting, &[SynCookies::Always]);
        let asked = world.one(0, 0, &packet().udp(CLIENT, VIP).payload(b"?").build());
        assert_eq!(asked.port, 1, "{mode:?} {setting:?}: a datagram goes on at once");
        assert_eq!(events(&world), []);
        assert!(backend_of(&mut world, CLIENT).is_some());
        assert_eq!(events(&world), [(Event::Sent, 1), (Event::Accepted, 1)]);
        assert_eq!((world.connections(), world.drops()), ([2; 4], vec![]));
    }
}
