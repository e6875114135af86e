//! What NAT backends begin themselves: their way out is the balancer, whose kernel routes it.
//!
//! ```text
//!   client-1 (a web site) ── tap ⇄ Shunt ── the kernel: forwards, masquerades ── Shunt ⇄ tap ── backend-1
//! ```
//!
//! The backend of a service in NAT mode has the balancer for its default route, or its answers would
//! miss it. So all else it sends comes by as well: Shunt gives what can be no answer to the kernel, as
//! any packet for elsewhere, and the kernel does with it what it is told to.

use lab::network::{self, WAN};
use lab::programs;

use crate::harness::Rig;

/// What an operator writes for it: the TAPs may route, and who goes out goes as the box.
const FORWARD: [&str; 2] = ["net.ipv4.conf.wan0.forwarding=1", "net.ipv4.conf.lan0.forwarding=1"];
const RULES: &str = "add table ip backends; \
    add chain ip backends pass { type filter hook forward priority filter; policy drop; }; \
    add rule ip backends pass iifname lan0 oifname wan0 accept; \
    add rule ip backends pass ct state established,related accept; \
    add chain ip backends out { type nat hook postrouting priority srcnat; }; \
    add rule ip backends out ip saddr 10.44.0.0/24 oifname wan0 masquerade";

const REQUESTS: u32 = 20;

fn a_backend_reaches_the_world(workers: usize) {
    let rig = Rig::new(1, 1);
    let (network, world) = (&rig.network, &rig.network.clients[0]);
    let backend = &network.backends[0];
    network.answer_through_the_balancer(backend).unwrap();
    network.balancer.run("nft", &[RULES]).unwrap();
    let _site = programs::nginx(network, world).unwrap();
    let address = network::client_address(1);
    let mut config = rig.web_config(workers, "rr", &[(1, 1)]);
    config.set_mode("web", "nat", None).unwrap();
    let mut balancer = rig.start(config);
    assert!(!programs::ping(backend, address.into(), 1).unwrap(), "not unless told to");
    network.balancer.run("sysctl", &["-qw", FORWARD[0], FORWARD[1]]).unwrap();

    assert!(programs::ping(backend, address.into(), 3).unwrap(), "pings go out");
    let url = format!("http://{address}/");
    for body in programs::curl_many(backend, &url, REQUESTS).unwrap() {
        let words: Vec<_> = body.split_whitespace().collect();
        assert_eq!(words[..2], ["client-1", &WAN.to_string()], "as the balancer itself");
    }
    // Its service is none the worse for it.
    let body = programs::curl(world, "http://198.51.100.10/").unwrap();
    let words: Vec<_> = body.split_whitespace().collect();
    assert_eq!(words[..2], ["backend-1", &address.to_string()]);
    balancer.stop().unwrap();
}

#[test]
fn what_a_nat_backend_begins_goes_by_the_kernel_with_one_worker() {
    a_backend_reaches_the_world(1);
}

#[test]
fn what_a_nat_backend_begins_goes_by_the_kernel_with_four_workers() {
    a_backend_reaches_the_world(4);
}
