//! Schedulers and limits with packets: what counts as a connection, as an active one, and that
//! nothing stays counted.

use shunt::dataplane::conn::state::flags::{ACK, FIN, RST, SYN};
use shunt::dataplane::sched::Scheduler;
use shunt::dataplane::snapshot::{Encapsulation, Limit, Mode, Snapshot, SynCookies};
use shunt::dataplane::verdict::Reason;
use shunt::ids::BackendId;
use shunt::stats::loads::Load;

use crate::icmp::choosing;
use crate::life::{answer, client, from_client, open};
use crate::packets::oracle::judge;
use crate::packets::{VIP, packet};
use crate::world::{Plan, World};

/// Every service with this scheduler, every backend with this limit.
fn with(scheduler: &'static str, limit: Limit) -> impl Fn(&mut Snapshot) {
    move |snapshot| {
        for service in snapshot.services.iter_mut().flatten() {
            service.scheduling = Scheduler::named(scheduler).unwrap().into();
        }
        for backend in snapshot.backends.iter_mut().flatten() {
            backend.limit = limit;
        }
    }
}

fn load(world: &World, backend: u32) -> (u32, u32) {
    let Load { active, total } = world.stats[0].loads.of(BackendId(backend));
    (active, total)
}

/// Hosts that got the SYNs of clients from `ports` on.
fn hosts(world: &mut World, ports: std::ops::Range<u16>) -> Vec<u8> {
    let workers = usize::from(world.plan.workers);
    ports
        .flat_map(|port| {
            let worker = usize::from(port) % workers;
            world.exchange(worker, 0, &from_client(client(port), SYN))
        })
        .filter(|sent| sent.port == 1)
        .map(|sent| judge(&sent.frame).unwrap().destination.octets()[3])
        .collect()
}

#[test]
fn a_connection_is_active_from_its_syn_to_its_end() {
    let mut world = World::new(Plan::default());
    world.publish(with("wlc", Limit::NONE));
    let syn = world.one(0, 0, &from_client(client(5000), SYN));
    assert_eq!(load(&world, 2), (1, 1), "SYN_RECV");
    world.one(0, 1, &answer(&syn, SYN | ACK));
    world.one(0, 0, &from_client(client(5000), ACK));
    assert_eq!(load(&world, 2), (1, 1), "ESTABLISHED");
    world.one(0, 0, &from_client(client(5000), FIN | ACK));
    assert_eq!(load(&world, 2), (0, 1), "CLOSE_WAIT");
    world.one(0, 1, &answer(&syn, FIN | ACK));
    assert_eq!(load(&world, 2), (0, 1), "TIME_WAIT");
    world.wait(130);
    assert_eq!(load(&world, 2), (0, 0), "forgotten");
}

#[test]
fn udp_is_never_active() {
    let mut world = World::new(Plan::default());
    world.publish(with("wlc", Limit::NONE));
    for port in 5000..5006 {
        world.one(0, 0, &packet().udp(client(port), VIP).payload(b"?").build());
    }
    // The second service's backends.
    assert_eq!([3, 4, 5].map(|backend| load(&world, backend)), [(0, 2); 3]);
}

#[test]
fn wlc_follows_what_lives() {
    let mut world = World::new(Plan::default());
    world.publish(with("wlc", Limit::NONE));
    assert_eq!(hosts(&mut world, 5000..5006), [13, 12, 11, 13, 12, 11]);
    let there = open(&mut world, client(5006));
    assert_eq!(judge(&there.frame).unwrap().destination.octets()[3], 13);
    world.one(0, 1, &answer(&there, RST));
    // Reset, the third connection of 13 weighs as one inactive: still the most.
    assert_eq!(hosts(&mut world, 5007..5010), [12, 11, 13]);
    // Those half open are forgotten after a minute; the newest is first again.
    world.wait(63);
    assert_eq!(hosts(&mut world, 6000..6003), [13, 12, 11]);
}

#[test]
fn a_limit_accepts_exactly_as_many_and_the_next_are_refused() {
    for workers in [1, 2, 4] {
        let mut world = World::new(Plan { workers, ..Plan::default() });
        world.publish(with("wlc", Limit { most: 3, least: 0 }));
        assert_eq!(hosts(&mut world, 5000..5020).len(), 9, "{workers} workers");
        assert_eq!(world.drops(), [(Reason::NoBackend, 11)]);
        assert_eq!([0, 1, 2].map(|backend| load(&world, backend)), [(3, 3); 3]);
        world.wait(63);
        assert_eq!([0, 1, 2].map(|backend| load(&world, backend)), [(0, 0); 3]);
        assert_eq!(hosts(&mut world, 6000..6020).len(), 9, "{workers} workers, again");
    }
}

#[test]
fn without_a_scheduler_what_lives_goes_on_and_nobody_is_told_that_he_is_connected() {
    for cookies in [SynCookies::Never, SynCookies::Always] {
        let mut world = World::new(Plan::default());
        world.publish(with("wlc", Limit::NONE));
        let there = open(&mut world, client(5000));
        world.publish(|snapshot| {
            with("none", Limit::NONE)(snapshot);
            for service in snapshot.services.iter_mut().flatten() {
                service.syn_cookies = cookies;
            }
            assert!(!snapshot.clone().indexed().is_live_vip(VIP.0.into()), "nor does ping");
        });
        assert_eq!(world.one(0, 0, &from_client(client(5000), ACK)).port, 1);
        assert_eq!(world.one(0, 1, &answer(&there, ACK)).port, 0);
        let told = world.one(0, 0, &from_client(client(5001), SYN));
        let seen = judge(&told.frame).unwrap();
        assert_eq!((told.port, seen.source, seen.ports), (0, VIP.0, (0, 0)), "by ICMP");
        assert_eq!(world.drops(), [(Reason::NoBackend, 1)]);
        assert_eq!(world.connections(), [1; 4]);
    }
}

#[test]
fn what_is_refused_after_a_choice_takes_no_place() {
    let mut world = World::new(Plan { capacity: 4, ..Plan::default() });
    world.publish(|snapshot| {
        with("rr", Limit { most: 100, least: 0 })(snapshot);
        snapshot.backends[1].as_mut().unwrap().next_hop = None;
    });
    for (port, flags) in (5000..5040).flat_map(|port| [(port, SYN), (port, ACK)]) {
        world.exchange(0, 0, &from_client(client(port), flags));
    }
    assert_eq!([0, 1, 2].map(|backend| load(&world, backend).1), [2, 0, 2]);
    assert_eq!(world.connections(), [4; 4]);
    let reasons: Vec<_> = world.drops().into_iter().map(|(reason, _)| reason).collect();
    assert!(reasons.contains(&Reason::TableFull) && reasons.contains(&Reason::NextHop));
}

/// What takes the last place and makes no connection fills nobody: a SYN that is refused by what can be
/// asked only of the backend chosen, and an ICMP error about a flow that another box may have.
#[test]
fn nothing_but_connections_makes_a_backend_full() {
    for workers in [1, 2] {
        let (weights, modes) = (vec![Some(1)], vec![Mode::Dr]);
        let mut world = World::new(Plan { workers, weights, modes, ..Plan::default() });
        world.publish(|snapshot| {
            with("sh", Limit { most: 4, least: 0 })(snapshot);
            choosing("sh")(snapshot);
        });
        assert_eq!(hosts(&mut world, 5000..5003).len(), 3);
        let router = std::net::IpAddr::from([192, 0, 2, 254]);
        let long = packet().tcp(client(6000), VIP).flags(SYN).payload(&[0; 1500]);
        let answer = packet().tcp(VIP, client(6001)).payload(b"of another box").ip_packet();
        let error = packet().between((router, 0), (std::net::IpAddr::from(VIP.0), 0));
        for frame in [long.build(), error.icmp(3, 4, 1300).payload(&answer).build()] {
            assert_eq!(world.exchange(0, 0, &frame).len(), 1);
            assert_eq!(load(&world, 0).1, 3);
        }
        assert_eq!(world.drops(), [(Reason::TooBig, 1)]);
        assert_eq!(hosts(&mut world, 5003..5013).len(), 1, "{workers} workers: the fourth of four");
    }
}

#[test]
fn a_backend_that_cannot_be_reached_does_not_draw_all_connections() {
    let mut world = World::new(Plan::default());
    world.publish(|snapshot| {
        with("wlc", Limit::NONE)(snapshot);
        snapshot.backends[2].as_mut().unwrap().next_hop = None;
    });
    assert_eq!(hosts(&mut world, 5000..5004), [12, 11, 12, 11]);
}

#[test]
fn nothing_stays_counted_in_any_mode() {
    let modes = [Mode::Fullnat, Mode::Nat, Mode::Dr, Mode::Tunnel(Encapsulation::Ipip)];
    for workers in [1, 2, 4] {
        for scheduler in Scheduler::ALL.iter().map(|scheduler| scheduler.method().name) {
            let mut world =
                World::new(Plan { workers, modes: modes[..3].to_vec(), ..Plan::default() });
            // A limit that is set, and taken away while connections live.
            world.publish(with(scheduler, Limit { most: 5, least: 2 }));
            for port in 5000..5030 {
                let worker = usize::from(port % u16::from(workers));
                world.exchange(worker, 0, &from_client(client(port), SYN));
                world.exchange(worker, 0, &from_client(client(port), ACK));
                world.exchange(worker, 0, &packet().udp(client(port), VIP).payload(b"?").build());
                if port % 3 == 0 {
                    world.exchange(worker, 0, &from_client(client(port), FIN | ACK));
                }
            }
            world.publish(with(scheduler, Limit::NONE));
            world.wait(910);
            for backend in 0..6 {
                assert_eq!(load(&world, backend), (0, 0), "{scheduler}, {workers} workers");
            }
        }
    }
}
