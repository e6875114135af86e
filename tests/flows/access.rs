//! Lists of clients: who may start a connection, in either family, whichever worker is asked.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use shunt::dataplane::access::{Access, ListSet, Listed, Network};
use shunt::dataplane::conn::state::flags::{ACK, SYN};
use shunt::dataplane::snapshot::{Mode, Snapshot};
use shunt::dataplane::verdict::Reason;

use crate::life::{from_client, open};
use crate::packets::{CLIENT, CLIENT_V6, VIP, VIP_V6, packet};
use crate::world::{Card, Plan, World};

const OFFICE: ListSet = ListSet::of(0);
const BOTS: ListSet = ListSet::of(1);

fn network(base: IpAddr, length: u8, lists: ListSet) -> Network {
    Network { base, length, lists }
}

/// The clients of both families are of the office.
fn lists() -> Listed {
    Listed(vec![network(CLIENT.0.into(), 32, OFFICE), network(CLIENT_V6.0.into(), 128, OFFICE)])
}

fn give(access: Access) -> impl Fn(&mut Snapshot) {
    move |snapshot| {
        snapshot.members = Some(Arc::new(lists()));
        for service in snapshot.services.iter_mut().flatten() {
            service.access = access;
        }
    }
}

fn plans() -> Vec<Plan> {
    let vips = || vec![VIP.0.into(), VIP_V6.0.into()];
    let plan = |workers, card, mode| Plan {
        workers,
        card,
        vips: vips(),
        modes: vec![mode; 3],
        ..Plan::default()
    };
    vec![
        plan(1, Card::Any, Mode::Fullnat),
        plan(1, Card::Any, Mode::Dr),
        plan(4, Card::Any, Mode::Nat),
        plan(4, Card::Rss, Mode::Fullnat),
    ]
}

#[test]
fn a_new_connection_is_made_if_the_lists_welcome_its_client() {
    let none = ListSet::default();
    // deny, allow: is the office welcome?
    let table = [
        (none, none, true),
        (BOTS, none, true),
        (OFFICE, none, false),
        (none, OFFICE, true),
        (none, BOTS, false),
        (OFFICE, OFFICE, false),
        (BOTS, OFFICE, true),
    ];
    for (deny, allow, welcome) in table {
        for plan in plans() {
            let workers = usize::from(plan.workers);
            let mut world = World::new(plan);
            world.publish(give(Access { deny, allow }));
            let tcp = from_client(CLIENT, SYN);
            let udp = packet().udp(CLIENT, VIP).payload(b"?").build();
            for frame in [tcp, udp] {
                let sent = world.exchange(workers - 1, 0, &frame);
                assert_eq!(sent.len(), usize::from(welcome), "{deny:?} {allow:?}");
            }
            let denied = if welcome { vec![] } else { vec![(Reason::Denied, 2)] };
            assert_eq!(world.drops(), denied, "{deny:?} {allow:?}");
        }
    }
}

#[test]
fn lists_hold_for_ipv6_as_well() {
    let mut world = World::new(Plan {
        vips: vec![VIP_V6.0.into()],
        v6: vec![true; 3],
        modes: vec![Mode::Dr; 3],
        ..Plan::default()
    });
    let syn = packet().tcp(CLIENT_V6, VIP_V6).flags(SYN).build();
    world.publish(give(Access { deny: OFFICE, ..Access::default() }));
    assert_eq!(world.exchange(0, 0, &syn), []);
    assert_eq!(world.drops(), [(Reason::Denied, 1)]);
    world.publish(give(Access { allow: OFFICE, ..Access::default() }));
    assert_eq!(world.exchange(0, 0, &syn).len(), 1);
}

#[test]
fn a_stranger_is_told_nothing_whatever_he_sends() {
    let mut world = World::new(Plan::default());
    world.publish(give(Access { deny: OFFICE, ..Access::default() }));
    for flags in [SYN, ACK, 0] {
        assert_eq!(world.exchange(0, 0, &from_client(CLIENT, flags)), []);
    }
    assert_eq!(world.drops(), [(Reason::Denied, 3)]);
    let neighbor = (Ipv4Addr::new(192, 0, 2, 250), CLIENT.1);
    world.one(0, 0, &from_client(neighbor, SYN));
}

#[test]
fn connections_outlive_a_list_their_client_gets_on() {
    let mut world = World::new(Plan::default());
    open(&mut world, CLIENT);
    world.publish(give(Access { deny: OFFICE, ..Access::default() }));
    world.one(0, 0, &from_client(CLIENT, ACK));
    assert_eq!(world.drops(), []);
}
