//! The box's own programs as clients of its services, by every way and both families.

use std::net::IpAddr;

use anyhow::{Result, ensure};
use lab::network::{LOCAL, LOCAL6, WAN, WAN6};
use lab::{Host, programs};

use crate::families::{Original, datagrams, transfer};
use crate::ways::{Everyone, Way, on_every_way};

/// Whom a way's backend sees when the balancer itself asks.
fn seen(way: Way) -> Vec<IpAddr> {
    match (way.mode, way.ipv6) {
        ("fullnat", _) => {
            LOCAL.map(IpAddr::from).into_iter().chain(LOCAL6.map(IpAddr::from)).collect()
        }
        (_, true) => vec![WAN6.into()],
        (_, false) => vec![WAN.into()],
    }
}

fn asks(balancer: &Host, way: Way) -> Result<()> {
    let body = programs::curl(balancer, &way.url(""))?;
    let words: Vec<_> = body.split(' ').collect();
    ensure!(words[0] == way.backend_name(), "{} answered", words[0]);
    let saw: IpAddr = words[1].parse()?;
    ensure!(seen(way).contains(&saw), "the backend saw {saw}");
    Ok(())
}

fn on_the_box_itself(workers: usize) {
    let everyone = Everyone::new();
    let host = &everyone.rig.network.balancer;
    let rules = || ["-4", "-6"].map(|family| host.ip(&format!("{family} rule")).unwrap());
    let original = Original::new(&everyone);
    let before = rules();
    let mut config = everyone.config(workers);
    config.shunt.local_out = Some(true);
    let mut balancer = everyone.rig.start(config);
    let failures = [
        on_every_way("asks", |way| asks(host, way)),
        on_every_way("transfers", |way| transfer(&everyone, &original, host, way)),
        on_every_way("echoes", |way| datagrams(&everyone, host, way, "40", 20)),
        // The clients of the wire are served as ever.
        on_every_way("serves", |way| {
            programs::curl(everyone.narrow_client(), &way.url("")).map(drop)
        }),
    ];
    let failures = failures.concat();
    let drops = balancer.shunt(&["status"]).unwrap();
    assert!(failures.is_empty(), "\n{}\n{drops}", failures.join("\n"));
    // Off again: a VIP ends on the box, where nobody listens.
    let mut config = balancer.config.clone();
    config.shunt.local_out = None;
    balancer.reload(config).unwrap();
    let way = crate::ways::WAYS[0];
    assert!(programs::curl(host, &way.url("")).is_err(), "as without it");
    assert_eq!(rules(), before);
    balancer.stop().unwrap();
}

#[test]
fn programs_of_the_box_reach_every_backend_with_one_worker() {
    on_the_box_itself(1);
}

#[test]
fn programs_of_the_box_reach_every_backend_with_two_workers() {
    on_the_box_itself(2);
}
