//! One service of several protocols: found by each, and still the same one without it.

use super::*;
use crate::dataplane::snapshot::Place;

#[test]
fn one_service_is_found_by_each_of_its_protocols_and_they_come_and_go() {
    let mut compiler = Compiler::new();
    let c = &mut compiler;
    let base = service(80, &[(1, 1)]);
    let udp = Place { protocol: Protocol::Udp, address: base.address };
    let mut both = PlanService { other_protocols: vec![udp], ..base.clone() };
    both.backends[0].mode = Mode::Nat;
    let first = compile(c, vec![base.clone()]);
    assert_eq!(at(&first, VIP, 80, 17), None);
    let second = compile(c, vec![both.clone()]);
    assert_eq!(at(&second, VIP, 80, 17), at(&first, VIP, 80, 6));
    assert_eq!(at(&second, VIP, 80, 132), None);
    let backend = second.backends[0].unwrap();
    for (protocol, answers) in [(6, true), (17, true), (132, false)] {
        assert_eq!(second.is_nat_backend(backend.address, backend.port, protocol), answers);
    }
    // The other protocol becomes a service of its own: another one.
    let own = PlanService { protocol: Protocol::Udp, name: "u".into(), ..base.clone() };
    let third = compile(c, vec![base, own]);
    assert_eq!(at(&third, VIP, 80, 6), at(&first, VIP, 80, 6));
    assert_ne!(at(&third, VIP, 80, 17), at(&first, VIP, 80, 6));
}
