//! The connection table against a plain `HashMap`.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use proptest::prelude::*;
use shunt::dataplane::conn::index::Seed;
use shunt::dataplane::conn::key::FlowKey;
use shunt::dataplane::conn::key::Side;
use shunt::dataplane::conn::record::{NewConnection, Way};
use shunt::dataplane::conn::state::{self, State};
use shunt::dataplane::conn::table::{Refusal, Slot, Table};
use shunt::dataplane::snapshot::ClientAddress;
use shunt::dataplane::sources::Seat;
use shunt::ids::{BackendId, PortId, ServiceId};
use shunt::wire::Mac;

/// The connection number `n`: its keys differ from every other number's.
fn connection(n: u32) -> NewConnection {
    let [high, upper, lower, low] = n.to_be_bytes();
    let client = (Ipv4Addr::new(10, high, upper, lower), 1024 + u16::from(low));
    let backend = (Ipv4Addr::new(172, 16, high, low), 8080);
    let local = (Ipv4Addr::new(192, 168, upper, lower), 1024 + u16::from(low));
    NewConnection {
        client: FlowKey::new(6, client, (Ipv4Addr::new(198, 51, 100, 10), 80)),
        backend: FlowKey::new(6, backend, local),
        service: ServiceId(n % 7),
        backend_id: BackendId(n % 65_536),
        client_mac: Mac([2, 0, high, upper, lower, low]),
        client_port: PortId(0),
        state: State::None,
        way: Way::Translated,
        introduction: ClientAddress::None,
        seat: Seat::NONE,
    }
}

/// The same, of any kind there is: its packets may pass here in one direction, and each of its
/// client's datagrams may be another connection.
fn any_kind(n: u32) -> NewConnection {
    let direct = n % 3 == 1;
    let new = connection(n);
    NewConnection {
        backend: if direct { new.client.reversed() } else { new.backend },
        way: if direct { Way::Direct } else { Way::Translated },
        state: if n % 5 < 2 { State::OnePacket } else { State::Udp },
        ..new
    }
}

/// Which sides of [`any_kind`] a packet can find: the rule spelled out.
fn found(n: u32) -> [bool; 2] {
    let (direct, one_packet) = (n % 3 == 1, n % 5 < 2);
    [!one_packet, !direct]
}

/// Its number: there are more connections than ids of backends.
fn number(Mac([.., high, upper, lower, low]): Mac) -> u32 {
    u32::from_be_bytes([high, upper, lower, low])
}

fn find(table: &Table, key: FlowKey) -> Option<(u32, Side)> {
    let hit = table.find(key, table.hash(key))?;
    Some((number(table.record(hit.slot).client_link().mac()), hit.side))
}

/// Both sides of `n` are found exactly as the model says, by the plain and by the staged lookup.
fn agree(table: &Table, n: u32, present: bool) {
    agree_on(table, &connection(n), [present; 2]);
    let reversed = connection(n).client.reversed();
    assert_eq!(find(table, reversed), None, "the opposite direction is another flow");
}

fn agree_on(table: &Table, new: &NewConnection, found: [bool; 2]) {
    let sides = [(new.client, Side::Client), (new.backend, Side::Backend)];
    for ((key, side), found) in sides.into_iter().zip(found) {
        assert_eq!(find(table, key), found.then_some((number(new.client_mac), side)));
        let hash = table.hash(key);
        let staged = table.confirm(table.guess(hash), key, hash);
        assert_eq!(staged, table.find(key, hash));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Any history of inserts and removes at up to 95 % load leaves what the model holds.
    #[test]
    fn table_is_a_hash_map(
        seed in any::<[u64; 2]>(),
        capacity in 16u32..600,
        history in prop::collection::vec((any::<bool>(), 0u32..1200), 1..3000),
    ) {
        let mut table = Table::new(capacity, Seed(seed)).unwrap();
        let mut model: HashMap<u32, Slot> = HashMap::new();
        let limit = capacity as usize * 95 / 100;
        for (insert, n) in history {
            if insert && !model.contains_key(&n) && model.len() < limit {
                model.insert(n, table.insert(&connection(n), 0).unwrap());
            } else if !insert && let Some(slot) = model.remove(&n) {
                table.remove(slot);
            }
            prop_assert_eq!(table.len() as usize, model.len());
        }
        prop_assert_eq!(table.index_entries(), 2 * model.len());
        (0..1200).for_each(|n| agree(&table, n, model.contains_key(&n)));
    }

    /// The same where connections enter one side in the index, or none: each that passes here is
    /// found by its packets and by no others, and nothing stays behind.
    #[test]
    fn the_sides_whose_packets_pass_are_found(
        seed in any::<[u64; 2]>(),
        history in prop::collection::vec((any::<bool>(), 0u32..300), 1..1000),
    ) {
        let mut table = Table::new(400, Seed(seed)).unwrap();
        let mut model: HashMap<u32, Slot> = HashMap::new();
        for (insert, n) in history {
            if insert && !model.contains_key(&n) {
                let slot = table.insert(&any_kind(n), 0).unwrap();
                // No packet's event makes another kind of it.
                let record = table.record_mut(slot);
                record.set_state(state::advance(record.state(), record.direction(Side::Client), 0));
                model.insert(n, slot);
            } else if !insert && let Some(slot) = model.remove(&n) {
                table.remove(slot);
            }
        }
        let passing = |n: &u32| found(*n).into_iter().filter(|found| *found).count();
        prop_assert_eq!(table.index_entries(), model.keys().map(passing).sum::<usize>());
        for n in 0..300 {
            let present = model.contains_key(&n);
            agree_on(&table, &any_kind(n), found(n).map(|found| found && present));
        }
        for slot in model.values() {
            table.remove(*slot);
        }
        prop_assert_eq!((table.len(), table.index_entries()), (0, 0));
    }

    /// A full table refuses, says so, and is as it was; room made by a removal is used again.
    #[test]
    fn full_is_a_refusal(seed in any::<[u64; 2]>(), capacity in 8u32..300) {
        let mut table = Table::new(capacity, Seed(seed)).unwrap();
        let slots: Vec<_> = (0..capacity).map(|n| table.insert(&connection(n), 0)).collect();
        prop_assert!(slots.iter().all(Result::is_ok));
        prop_assert_eq!(table.insert(&connection(capacity), 0), Err(Refusal::Full));
        (0..capacity).for_each(|n| agree(&table, n, true));
        table.remove(slots[0].unwrap());
        prop_assert!(table.insert(&connection(capacity), 0).is_ok());
        agree(&table, 0, false);
        agree(&table, capacity, true);
    }
}

/// Large enough that bucket statistics matter: every connection finds room in the index.
#[test]
fn a_hundred_thousand_connections_fill_the_table_to_its_limit() {
    let capacity = 100_000;
    let mut table = Table::new(capacity, Seed([0x1234_5678_9abc_def0, 42])).unwrap();
    let refused = (0..capacity).filter(|n| table.insert(&connection(*n), 0).is_err()).count();
    assert_eq!(refused, 0);
    (0..capacity).step_by(97).for_each(|n| agree(&table, n, true));
    assert_eq!(table.index_entries(), 2 * capacity as usize);
}

/// DESIGN: one 64-byte record plus its index entries, at most 128 bytes together.
#[test]
fn a_connection_costs_at_most_128_bytes() {
    for capacity in [1_024, 100_000, 1_000_000, 10_000_000] {
        let bytes = Table::<Ipv4Addr>::bytes_for(capacity);
        assert!(bytes <= capacity as usize * 128, "{capacity}: {bytes}");
    }
    let table = Table::<Ipv4Addr>::new(50_000, Seed([1, 2])).unwrap();
    assert_eq!(table.bytes(), Table::<Ipv4Addr>::bytes_for(50_000));
}

/// An all-zero seed would let an all-zero word hash to zero; any fresh seed must spread all keys.
#[test]
fn equal_low_bits_do_not_crowd_a_bucket() {
    let mut table = Table::new(4096, Seed([7, 9])).unwrap();
    for i in 0..4096u32 {
        let client = (Ipv4Addr::from(i << 16), 80);
        let local = (Ipv4Addr::new(10, 0, 0, 1), u16::try_from(i + 1024).unwrap());
        let new = NewConnection {
            client: FlowKey::new(17, client, (Ipv4Addr::new(198, 51, 100, 10), 80)),
            backend: FlowKey::new(17, (Ipv4Addr::new(10, 0, 0, 2), 80), local),
            ..connection(i)
        };
        assert!(table.insert(&new, 0).is_ok(), "connection {i}");
    }
}
