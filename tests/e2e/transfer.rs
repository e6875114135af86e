//! Many bytes and many datagrams, all whole.

use std::fs;
use std::io::Read as _;
use std::net::SocketAddrV4;
use std::path::Path;

use lab::config::Config;
use lab::network::{self, VIP};
use lab::{Program, programs};

use crate::harness::Rig;

const TRANSFER_BYTES: u64 = 200_000_000;

/// Random bytes, so that nothing but the right bytes in the right order has their hash.
fn write_random(path: &Path) {
    let mut random = fs::File::open("/dev/urandom").unwrap().take(TRANSFER_BYTES);
    let copied = std::io::copy(&mut random, &mut fs::File::create(path).unwrap()).unwrap();
    assert_eq!(copied, TRANSFER_BYTES);
}

fn two_hundred_megabytes_both_ways(workers: usize) {
    let rig = Rig::new(1, 1);
    let mut balancer = rig.start(rig.web_config(workers, "rr", &[(1, 1)]));
    let (client, files) = (&rig.network.clients[0], &rig.web[0].folder);
    let original = rig.network.folder().join("original");
    write_random(&original);
    let sum = programs::sha256(&original).unwrap();
    let url = format!("http://{VIP}/blob");
    programs::upload(client, &original, &url).unwrap();
    assert_eq!(programs::sha256(&files.join("blob")).unwrap(), sum, "client to server");
    let back = rig.network.folder().join("back");
    programs::download(client, &url, &back).unwrap();
    assert_eq!(programs::sha256(&back).unwrap(), sum, "server to client");
    balancer.stop().unwrap();
}

#[test]
fn two_hundred_megabytes_arrive_whole_both_ways_with_one_worker() {
    two_hundred_megabytes_both_ways(1);
}

#[test]
fn two_hundred_megabytes_arrive_whole_both_ways_with_two_workers() {
    two_hundred_megabytes_both_ways(2);
}

/// An echo on port 7 of every backend, and a service for it.
fn udp_service(rig: &Rig, workers: usize) -> (Vec<Program>, Config) {
    let echoes = rig
        .network
        .backends
        .iter()
        .map(|host| programs::udp_echo(&rig.network, &rig.binaries, host, 7).unwrap())
        .collect();
    let backends: Vec<_> =
        (1..=3).map(|number| (SocketAddrV4::new(network::backend_address(number), 7), 1)).collect();
    let config = Config::new(&rig.network, workers).with_service("echo", "udp", 7, "rr", &backends);
    (echoes, config)
}

fn every_source_is_answered(workers: usize) {
    let rig = Rig::new(1, 3);
    let (_echoes, config) = udp_service(&rig, workers);
    let mut balancer = rig.start(config);
    let target = SocketAddrV4::new(VIP, 7);
    for size in ["40", "1400"] {
        let arguments = ["--sources", "600", "--rounds", "3", "--size", size];
        let client = &rig.network.clients[0];
        let report = programs::udp_load(&rig.binaries, client, target, &arguments).unwrap();
        let status = balancer.shunt(&["status"]).unwrap();
        assert_eq!((report.ok, report.failed), (1800, 0), "{report:?}\n{status}");
        // A source stays with its backend: three answers each. The first time, every source is
        // new and each backend gets a third of them; later some ports come again and stay.
        for answers in report.backends.values() {
            assert_eq!(answers % 3, 0, "{report:?}");
            assert!(size != "40" || answers.abs_diff(600) <= 6, "{report:?}");
        }
        assert_eq!(report.backends.len(), 3, "{report:?}");
    }
    balancer.stop().unwrap();
}

#[test]
fn datagrams_from_many_sources_are_all_answered_with_one_worker() {
    every_source_is_answered(1);
}

#[test]
fn datagrams_from_many_sources_are_all_answered_with_two_workers() {
    every_source_is_answered(2);
}

#[test]
fn datagrams_from_many_sources_are_all_answered_with_four_workers() {
    every_source_is_answered(4);
}
