//! qh: connections stay with their backend through changes of address.

use super::*;

/// Two backends with server ids, and one more.
fn bed() -> Bed {
    let mut bed = Bed::new("qh", &[], 2);
    for (name, server_id) in [('A', "0a01"), ('B', "0a02"), ('C', "0a03")] {
        bed.seat(name, 1);
        bed.edit(name, |seat| seat.server_id = Some(server_id.parse().unwrap()));
    }
    bed.publish();
    bed
}

fn initial(connection_id: &[u8]) -> Vec<u8> {
    let length = u8::try_from(connection_id.len()).unwrap();
    [&[0xc3, 0, 0, 0, 1, length], connection_id, &[0, 0, 0]].concat()
}

fn short(connection_id: &[u8]) -> Vec<u8> {
    [&[0x41], connection_id, &[0xff; 20]].concat()
}

fn ask(bed: &mut Bed, client: [u8; 4], datagram: &[u8]) -> Option<char> {
    let flow = Flow { datagram, ..from(client.into(), 4433) };
    bed.place(usize::from(client[3] % 2), &flow)
}

#[test]
fn a_connection_stays_when_the_clients_address_changes() {
    let mut bed = bed();
    let mut seen = std::collections::BTreeSet::new();
    for n in 0..60 {
        let made_up = [n, 9, 8, 7, 6, 5, 4, 3];
        let backend = ask(&mut bed, [192, 0, 2, n], &initial(&made_up)).unwrap();
        seen.insert(backend);
        // Sent again from elsewhere before anything came back.
        assert_eq!(ask(&mut bed, [10, 0, 0, n + 1], &initial(&made_up)), Some(backend));
        // The server chose its own id; the client moves.
        let servers = [0x20, 0x0a, 1 + u8::try_from(id(backend).0).unwrap(), n, 1, 2, 3];
        for client in [[10, 0, 0, n], [172, 16, 0, n + 1]] {
            assert_eq!(ask(&mut bed, client, &short(&servers)), Some(backend));
            assert_eq!(ask(&mut bed, client, &initial(&servers)), Some(backend));
        }
    }
    assert_eq!(seen.len(), 3);
}

#[test]
fn a_drained_backend_keeps_its_connections_and_gets_no_new_ones() {
    let mut bed = bed();
    bed.weigh('B', 0);
    bed.publish();
    assert_eq!(ask(&mut bed, [192, 0, 2, 1], &short(&[0, 0x0a, 2, 7, 7])), Some('B'));
    // Not even where a client makes up an id with its server id in it.
    let aimed = |n: u8| [0, 0x0a, 2, n, 7, 1, 1, 1];
    for n in 0..60 {
        for id in [[n; 8], aimed(n)] {
            assert_ne!(ask(&mut bed, [192, 0, 2, n], &initial(&id)).unwrap(), 'B', "{id:?}");
        }
    }
}

#[test]
fn limits_hold_for_connections_that_move() {
    let mut bed = bed();
    bed.edit('A', |seat| seat.limit = Limit { most: 1, least: 0 });
    bed.publish();
    let moving = short(&[0, 0x0a, 1, 5]);
    assert_eq!(ask(&mut bed, [192, 0, 2, 1], &moving), Some('A'));
    assert_eq!(ask(&mut bed, [192, 0, 2, 2], &moving), None);
}

#[test]
fn what_says_nothing_goes_by_the_clients_address() {
    let unknown = short(&[0, 0x0b, 9, 1, 2, 3]);
    let unroutable = short(&[0xe0, 0x0a, 1, 1, 2, 3]);
    let empty = initial(&[]);
    let rows: [&[u8]; 6] = [&[], &[0x41], &[0xc3, 0, 0], &unknown, &unroutable, &empty];
    let mut bed = bed();
    for n in 0..30 {
        let choices = rows.map(|datagram| ask(&mut bed, [192, 0, 2, n], datagram).unwrap());
        assert!(choices.iter().all(|choice| *choice == choices[0]), "{choices:?}");
    }
}
