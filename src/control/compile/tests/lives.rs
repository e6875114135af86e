//! What outlives an edit, and what ends with an id: timeouts, ways, a service's life.

use super::*;

#[test]
fn a_services_timeouts_are_those_of_its_connections() {
    let mut own = service(80, &[(1, 1)]);
    own.timeouts = BTreeMap::from([("tcp_close_s", 3)]);
    let snapshot = compile(&mut Compiler::new(), vec![own, service(81, &[(1, 1)])]);
    let ms = |service, state| snapshot.timeout_ms(ServiceId(service), state);
    assert_eq!((ms(0, State::Close), ms(1, State::Close)), (3_000, 10_000));
    assert_eq!((ms(0, State::Udp), ms(1, State::Udp)), (77_000, 77_000), "as all services'");
}

/// Who is told that a connection has ended must still be found when the kernel is not asked any more.
#[test]
fn the_way_to_a_removed_backend_is_known_until_its_id_is_free() {
    let hop = NextHop { port: PortId(1), source: Mac([2; 6]), destination: Mac([4; 6]) };
    let way = || Way { next_hop: hop, our_address: Ipv4Addr::new(10, 0, 0, 9).into() };
    let mut compiler = Compiler::new();
    let c = &mut compiler;
    let (both, one) = (vec![service(80, &[(1, 1), (2, 1)])], vec![service(80, &[(1, 1)])]);
    c.compile(&plan(both.clone()), &[], &|_| Some(way()), true, None).unwrap();
    let gone = id_of(c, 80, 2).unwrap();
    let snapshot = compile(c, one.clone());
    assert_eq!((snapshot.way_to(gone), &*snapshot.departed), (Some(hop), &[(gone, hop)][..]));
    let kept = id_of(c, 80, 1).unwrap();
    assert_eq!(snapshot.way_to(kept), None, "one that is there is reached as it is now");
    c.release(2, |_| false);
    let snapshot = compile(c, one);
    assert_eq!((snapshot.way_to(gone), snapshot.departed.len()), (None, 0));
    // The next with that id was never reached.
    compile(c, both);
    let snapshot = compile(c, vec![]);
    assert_eq!(snapshot.departed.iter().filter(|(id, _)| *id == gone).count(), 0);
}

#[test]
fn an_id_that_passes_to_another_service_begins_another_life() {
    let mut compiler = Compiler::new();
    let c = &mut compiler;
    let first = compile(c, vec![service(80, &[(1, 1)])]);
    let edited = compile(c, vec![service(80, &[(1, 2), (2, 1)])]);
    assert_eq!(find(&first, 80).life, find(&edited, 80).life, "an edit is no new life");
    compile(c, vec![]);
    c.release(3, |_| false);
    let other = compile(c, vec![service(81, &[(1, 1)])]);
    assert_eq!(id_of(c, 81, 1), Some(BackendId(0)), "the ids are used again");
    assert_ne!(find(&other, 81).life, find(&first, 80).life);
}
