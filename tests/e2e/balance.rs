//! Who gets which connection.

use std::collections::BTreeMap;

use lab::network::{LOCAL, VIP};
use lab::programs;

use crate::harness::Rig;

/// 300 connections by curl; how many each backend got, and that each saw a local address.
fn shares_of_300(workers: usize, scheduler: &str, backends: &[(u8, u32)]) -> BTreeMap<String, u32> {
    let rig = Rig::new(1, 3);
    let mut balancer = rig.start(rig.web_config(workers, scheduler, backends));
    let url = format!("http://{VIP}/");
    let bodies = programs::curl_many(&rig.network.clients[0], &url, 300).unwrap();
    assert_eq!(bodies.len(), 300);
    let mut shares = BTreeMap::new();
    for body in &bodies {
        let words: Vec<_> = body.split(' ').collect();
        assert!(LOCAL.iter().any(|local| local.to_string() == words[1]), "backend saw {body}");
        *shares.entry(words[0].to_owned()).or_default() += 1;
    }
    balancer.stop().unwrap();
    shares
}

/// Every worker follows the scheduler exactly, from a place of its own: a backend's share differs
/// from the ideal by less than one connection for each worker.
fn assert_shares(workers: u32, shares: &BTreeMap<String, u32>, ideal: &[(&str, u32)]) {
    let slack = if workers == 1 { 0 } else { workers };
    assert_eq!(shares.len(), ideal.len(), "{shares:?}");
    for (backend, expected) in ideal {
        let found = shares.get(*backend).copied().unwrap_or(0);
        assert!(found.abs_diff(*expected) <= slack, "{backend}: {shares:?}, ideal {ideal:?}");
    }
}

const EVEN: [(&str, u32); 3] = [("backend-1", 100), ("backend-2", 100), ("backend-3", 100)];

#[test]
fn rr_with_one_worker_gives_each_backend_exactly_its_third() {
    assert_shares(1, &shares_of_300(1, "rr", &[(1, 1), (2, 1), (3, 1)]), &EVEN);
}

#[test]
fn rr_with_two_workers_gives_each_backend_its_third() {
    assert_shares(2, &shares_of_300(2, "rr", &[(1, 1), (2, 1), (3, 1)]), &EVEN);
}

#[test]
fn wrr_with_one_worker_follows_the_weights_exactly() {
    let shares = shares_of_300(1, "wrr", &[(1, 2), (2, 1)]);
    assert_shares(1, &shares, &[("backend-1", 200), ("backend-2", 100)]);
}

#[test]
fn wrr_with_two_workers_follows_the_weights() {
    let shares = shares_of_300(2, "wrr", &[(1, 2), (2, 1)]);
    assert_shares(2, &shares, &[("backend-1", 200), ("backend-2", 100)]);
}
