//! Several workers: whoever receives a packet, its owner deals with it.

use proptest::prelude::*;
use shunt::dataplane::conn::state::flags::{ACK, FIN, SYN};

use crate::life::{answer, client, from_client};
use crate::packets::oracle::judge;
use crate::packets::{CLIENT, VIP};
use crate::world::{Card, Plan, World};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Connections whose packets reach any worker in any direction are made once, stay with their
    /// backend, and come back to their client.
    #[test]
    fn any_arrival_reaches_the_owner(
        workers in 1u8..=16,
        arrivals in prop::collection::vec(any::<prop::sample::Index>(), 40),
    ) {
        let mut world = World::new(Plan { workers, ..Plan::default() });
        let mut arrivals = arrivals.iter().map(|a| a.index(workers.into()));
        let mut anywhere = || arrivals.next().unwrap();
        for port in 1..=8 {
            let first = world.one(anywhere(), 0, &from_client(client(port), SYN));
            let backend = judge(&first.frame).unwrap().destination;
            let back = world.one(anywhere(), 1, &answer(&first, SYN | ACK));
            let back = judge(&back.frame).unwrap();
            prop_assert_eq!((back.source, back.destination), (VIP.0, CLIENT.0));
            prop_assert_eq!(back.ports, (VIP.1, port));
            for flags in [ACK, FIN | ACK] {
                let more = world.one(anywhere(), 0, &from_client(client(port), flags));
                prop_assert_eq!(judge(&more.frame).unwrap().destination, backend);
            }
        }
        prop_assert_eq!(world.connections(), [8; 4]);
        prop_assert_eq!(world.drops(), vec![]);
    }

    /// Where the card spreads by RSS, nothing is ever handed over: the local port was chosen so.
    #[test]
    fn with_rss_every_reply_comes_straight_to_its_owner(
        workers in 1u8..=16,
        ports in prop::collection::hash_set(1u16.., 1..60),
    ) {
        let mut world = World::new(Plan { workers, card: Card::Rss, ..Plan::default() });
        let count = u32::try_from(ports.len()).unwrap();
        for port in ports {
            let first = world.one(0, 0, &from_client(client(port), SYN));
            world.one(0, 1, &answer(&first, SYN | ACK));
            world.one(0, 0, &from_client(client(port), ACK));
        }
        prop_assert_eq!(world.handed_over(), 0);
        prop_assert_eq!(world.connections(), [count; 4]);
        prop_assert_eq!(world.drops(), vec![]);
    }

    /// After any history and enough time every table is empty and every count zero.
    #[test]
    fn nothing_leaks(
        workers in 1u8..=4,
        start in prop::sample::select(vec![1_000, u32::MAX - 20_000, u32::MAX - 500_000]),
        history in prop::collection::vec((0usize..8, 1u16..40, 0usize..4), 1..120),
    ) {
        let mut world = World::new(Plan { workers, capacity: 64, ..Plan::default() });
        // Milliseconds wrap after 49 days; nothing may notice.
        world.now_ms = start;
        world.poll();
        let mut last = std::collections::HashMap::new();
        for (event, port, at) in history {
            let at = at % usize::from(workers);
            match event {
                0..=4 => {
                    let flags = [SYN, SYN, ACK, FIN | ACK, 0][event];
                    let sent = world.exchange(at, 0, &from_client(client(port), flags));
                    if let Some(sent) = sent.into_iter().find(|sent| sent.port == 1) {
                        last.insert(port, sent);
                    }
                }
                5 => if let Some(sent) = last.get(&port) {
                    let reply = answer(sent, [SYN | ACK, ACK, FIN | ACK][usize::from(port) % 3]);
                    world.exchange(at, 1, &reply);
                },
                6 => {
                    let index = usize::from(port) % 3;
                    world.plan.weights[index] = match world.plan.weights[index] {
                        Some(0) => None,
                        Some(_) => Some(0),
                        None => Some(2),
                    };
                    world.publish(|_| {});
                }
                _ => world.wait(3),
            }
            let [table, ..] = world.connections();
            prop_assert_eq!(world.connections(), [table; 4]);
        }
        world.wait(905);
        prop_assert_eq!(world.connections(), [0; 4]);
    }
}
