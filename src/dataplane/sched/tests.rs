//! Sequences recorded from a kernel: backends A, B, C added in this order.

use super::*;
use crate::dataplane::snapshot::{
    Backend, ClientAddress, Mode, Protocol, ServiceAddress, SynCookies,
};
use crate::ids::ServiceId;
use std::net::Ipv4Addr;

/// A snapshot whose one service has backends of these weights, named by letters, oldest first.
fn snapshot(scheduler: Scheduler, revision: u64, weights: &[(char, u32)]) -> Snapshot {
    let id = |name: char| BackendId(name as u32 - 'A' as u32);
    let mut backends = vec![None; 26];
    for (name, weight) in weights {
        backends[id(*name).index()] = Some(Backend {
            service: ServiceId(0),
            address: Ipv4Addr::new(10, 44, 0, 11).into(),
            port: 8080,
            weight: *weight,
            mode: Mode::Fullnat,
            answers_here: false,
            our_address: Ipv4Addr::UNSPECIFIED.into(),
            next_hop: None,
        });
    }
    let service = Service {
        name: "test".into(),
        protocol: Protocol::Tcp,
        addresses: [ServiceAddress::one(Ipv4Addr::new(198, 51, 100, 10).into(), 80)].into(),
        scheduler,
        backends: weights.iter().rev().map(|(name, _)| id(*name)).collect(),
        locals: [Ipv4Addr::new(10, 44, 0, 2).into()].into_iter().collect(),
        one_packet: false,
        client_address: ClientAddress::None,
        syn_cookies: SynCookies::Never,
        revision,
    };
    let mut snapshot = Snapshot::default();
    snapshot.services = [Some(service)].into();
    snapshot.backends = backends.into();
    snapshot
}

fn sequence(snapshot: &Snapshot, turn: &mut Turn, worker: u8, flows: usize) -> String {
    let service = snapshot.service(ServiceId(0)).unwrap();
    let letter = |id: BackendId| char::from(b'A' + u8::try_from(id.0).unwrap());
    (0..flows)
        .map(|_| pick(snapshot, service, turn, WorkerId(worker)).map_or('.', letter))
        .collect()
}

#[test]
fn one_worker_gives_the_recorded_sequences() {
    use Scheduler::{Rr, Wrr};
    let rows = [
        (Rr, [1, 1, 1], "CBA"),
        (Rr, [2, 0, 1], "CA"),
        (Wrr, [3, 2, 1], "CBAABA"),
        (Wrr, [4, 2, 1], "CBAAABA"),
        (Wrr, [1, 1, 5], "CBACCCC"),
        (Wrr, [0, 0, 0], "."),
        (Rr, [0, 0, 0], "."),
    ];
    for (scheduler, [a, b, c], pattern) in rows {
        let snapshot = snapshot(scheduler, 1, &[('A', a), ('B', b), ('C', c)]);
        let expected: String = pattern.chars().cycle().take(24).collect();
        let got = sequence(&snapshot, &mut Turn::default(), 0, 24);
        assert_eq!(got, expected, "{scheduler:?} {a},{b},{c}");
    }
}

#[test]
fn several_workers_start_at_different_backends() {
    for scheduler in [Scheduler::Rr, Scheduler::Wrr] {
        let snapshot = snapshot(scheduler, 1, &[('A', 1), ('B', 1), ('C', 1)]);
        let firsts: String =
            (0..3).map(|w| sequence(&snapshot, &mut Turn::default(), w, 1)).collect();
        assert_eq!(firsts, "CBA", "{scheduler:?}");
    }
}

#[test]
fn rr_goes_on_before_a_deleted_last_choice() {
    let all = snapshot(Scheduler::Rr, 1, &[('A', 1), ('B', 1), ('C', 1), ('D', 1)]);
    let mut turn = Turn::default();
    assert_eq!(sequence(&all, &mut turn, 0, 2), "DC");
    let without = snapshot(Scheduler::Rr, 2, &[('A', 1), ('B', 1), ('D', 1)]);
    assert_eq!(sequence(&without, &mut turn, 0, 4), "BADB");
}

#[test]
fn rr_keeps_its_place_when_a_newer_backend_comes() {
    let two = snapshot(Scheduler::Rr, 1, &[('A', 1), ('B', 1)]);
    let mut turn = Turn::default();
    assert_eq!(sequence(&two, &mut turn, 0, 1), "B");
    let three = snapshot(Scheduler::Rr, 2, &[('A', 1), ('B', 1), ('C', 1)]);
    assert_eq!(sequence(&three, &mut turn, 0, 3), "ACB");
}

#[test]
fn wrr_restarts_at_the_head_after_a_change() {
    let before = snapshot(Scheduler::Wrr, 1, &[('A', 3), ('B', 2), ('C', 1)]);
    let mut turn = Turn::default();
    assert_eq!(sequence(&before, &mut turn, 0, 5), "CBAAB");
    // step 1, top 3, threshold 2 stands: the pass begins again at the newest.
    let after = snapshot(Scheduler::Wrr, 2, &[('A', 3), ('B', 2), ('C', 2)]);
    assert_eq!(sequence(&after, &mut turn, 0, 6), "CBACBA");
}

proptest::proptest! {
    /// Over whole rounds every backend gets exactly its weight (divided by the common divisor).
    #[test]
    fn wrr_honours_weights_exactly(weights in proptest::collection::vec(0u32..20, 1..8)) {
        let named: Vec<_> = ('A'..).zip(weights.iter().copied()).collect();
        let snapshot = snapshot(Scheduler::Wrr, 1, &named);
        let mut turn = Turn::default();
        let divisor = weights.iter().copied().filter(|w| *w > 0).fold(0, |a, b| {
            let (mut a, mut b) = (a, b);
            while b != 0 { (a, b) = (b, a % b); }
            a
        });
        if divisor == 0 {
            assert_eq!(sequence(&snapshot, &mut turn, 0, 1), ".");
            return Ok(());
        }
        let round: u32 = weights.iter().sum::<u32>() / divisor;
        // The first pass is a partial round; skip to where a round begins.
        let lead = weights.iter().filter(|w| **w > 0).count();
        sequence(&snapshot, &mut turn, 0, lead);
        let got = sequence(&snapshot, &mut turn, 0, round as usize);
        for (name, weight) in named {
            let count = got.chars().filter(|c| *c == name).count();
            proptest::prop_assert_eq!(count, (weight / divisor) as usize, "{}", got);
        }
    }
}
