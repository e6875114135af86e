//! The neighbour mirror against a kernel: a veth stands in for the TAP, its peer for the network.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use shunt::control::neighbors::table::Link;
use shunt::control::neighbors::{Neighbors, View};
use shunt::ids::PortId;
use shunt::wire::Mac;

use crate::namespace::Namespace;

const A: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 1, 0, 2));
const FAR: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 9, 0, 1));
const FIRST: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 1, 0, 1));
const SECOND: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 1, 0, 3));
const SILENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 1, 0, 77));
const OWN: Mac = Mac([2, 0, 0, 0, 2, 1]);
const PEER: Mac = Mac([2, 0, 0, 0, 2, 2]);
const OTHER: Mac = Mac([2, 0, 0, 0, 2, 3]);

/// The balancer's namespace and the network's, joined.
struct Net {
    balancer: Namespace,
    network: Namespace,
}

fn net() -> Net {
    let (balancer, network) = (Namespace::new(), Namespace::new());
    let other = &network.name;
    balancer.ip(&format!(
        "link add lb0 address {OWN} type veth peer name n0 address {PEER} netns {other}"
    ));
    balancer.ip("addr add 10.1.0.1/24 dev lb0");
    balancer.ip("link set lb0 up");
    network.ip("addr add 10.1.0.2/24 dev n0");
    network.ip("addr add 10.1.0.254/24 dev n0");
    network.ip("link set n0 up");
    Net { balancer, network }
}

impl Net {
    fn index(&self) -> u32 {
        let text = self.balancer.ip("-o link show lb0");
        text.split(':').next().unwrap().trim().parse().unwrap()
    }

    fn start(&self) -> Neighbors {
        let addresses = vec![FIRST];
        let link = Link { index: self.index(), port: PortId(4), mac: OWN, addresses };
        Neighbors::start(vec![link]).unwrap()
    }
}

/// Waits until the view is as wished, up to three seconds.
async fn until(neighbors: &mut Neighbors, wish: impl Fn(&View) -> bool) -> std::sync::Arc<View> {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(3);
    loop {
        let view = neighbors.view();
        if wish(&view) {
            return view;
        }
        let change = tokio::time::timeout_at(deadline, neighbors.changed()).await;
        assert!(change.is_ok(), "still {view:?}");
    }
}

fn is_at(view: &View, address: IpAddr, mac: Mac) -> bool {
    view.ways.get(&address).is_some_and(|way| {
        let hop = way.next_hop;
        hop.destination == mac && hop.source == OWN && hop.port == PortId(4)
    })
}

#[test]
fn a_wanted_backend_is_resolved_without_any_traffic() {
    let net = net();
    net.balancer.run(|| async {
        let mut neighbors = net.start();
        let start = std::time::Instant::now();
        neighbors.want(vec![A]);
        until(&mut neighbors, |view| is_at(view, A, PEER)).await;
        println!("resolved after {:?}", start.elapsed());
    });
    // Keeping it so is the kernel's own business from now on.
    assert!(net.balancer.ip("neigh show").contains("managed"));
}

#[test]
fn a_backend_behind_a_gateway_follows_the_route() {
    let net = net();
    net.balancer.ip("route add 10.9.0.0/16 via 10.1.0.254");
    net.balancer.run(|| async {
        let mut neighbors = net.start();
        neighbors.want(vec![FAR]);
        until(&mut neighbors, |view| is_at(view, FAR, PEER)).await;
        net.balancer.ip(&format!("neigh replace 10.1.0.253 lladdr {OTHER} dev lb0 nud permanent"));
        net.balancer.ip("route change 10.9.0.0/16 via 10.1.0.253");
        until(&mut neighbors, |view| is_at(view, FAR, OTHER)).await;
        net.balancer.ip("route del 10.9.0.0/16");
        until(&mut neighbors, |view| view.unrouted == [FAR]).await;
        net.balancer.ip("route add default via 10.1.0.254");
        until(&mut neighbors, |view| is_at(view, FAR, PEER)).await;
    });
}

#[test]
fn our_address_is_the_one_the_kernel_would_speak_from() {
    let net = net();
    net.balancer.ip(&format!("addr add {SECOND}/24 dev lb0"));
    net.balancer.ip("route add 10.9.0.0/16 via 10.1.0.254");
    net.balancer.run(|| async {
        let mut neighbors = net.start();
        neighbors.want(vec![A, FAR]);
        let ours = |view: &View, address| view.ways.get(&address).map(|way| way.our_address);
        let speaks = |a, far| move |view: &View| (ours(view, A), ours(view, FAR)) == (a, far);
        until(&mut neighbors, speaks(Some(FIRST), Some(FIRST))).await;
        // The operator prefers another for one route; the other route stays as it is.
        net.balancer.ip(&format!("route change 10.9.0.0/16 via 10.1.0.254 src {SECOND}"));
        until(&mut neighbors, speaks(Some(FIRST), Some(SECOND))).await;
        // A VIP on the same interface is nobody's preference.
        net.balancer.ip("addr add 198.51.100.10/32 dev lb0");
        net.balancer.ip("route change 10.9.0.0/16 via 10.1.0.254");
        until(&mut neighbors, speaks(Some(FIRST), Some(FIRST))).await;
    });
}

#[test]
fn a_gateway_of_the_other_family_is_a_next_hop() {
    let net = net();
    net.balancer.sh("sysctl -qw net.ipv6.conf.lb0.disable_ipv6=0");
    net.balancer.ip("route add 10.9.0.0/16 via inet6 fe80::9 dev lb0");
    net.balancer.ip(&format!("neigh replace fe80::9 lladdr {OTHER} dev lb0 nud permanent"));
    net.balancer.run(|| async {
        let mut neighbors = net.start();
        neighbors.want(vec![FAR]);
        let view = until(&mut neighbors, |view| is_at(view, FAR, OTHER)).await;
        assert_eq!(view.ways[&FAR].our_address, FIRST, "of the backend's family all the same");
        net.balancer.ip("route replace 10.9.0.0/16 via 10.1.0.254");
        until(&mut neighbors, |view| is_at(view, FAR, PEER)).await;
    });
}

/// A network that speaks IPv6 too: `fd01::1` is the balancer, `fd01::2` and `fe80::254` are beyond.
fn net6() -> Net {
    let net = net();
    for (namespace, link, address) in
        [(&net.balancer, "lb0", "fd01::1/64"), (&net.network, "n0", "fd01::2/64")]
    {
        namespace.sh(&format!(
            "sysctl -qw net.ipv6.conf.{link}.disable_ipv6=0 net.ipv6.conf.{link}.dad_transmits=0"
        ));
        namespace.ip(&format!("addr add {address} dev {link} nodad"));
    }
    net.network.ip("addr add fe80::254/64 dev n0 nodad");
    net
}

#[test]
fn an_ipv6_backend_is_resolved_on_the_link_and_behind_a_link_local_gateway() {
    let net = net6();
    let [near, far, ours, second]: [IpAddr; 4] =
        ["fd01::2", "fd09::1", "fd01::1", "fd01::3"].map(|address| address.parse().unwrap());
    net.balancer.ip("route add fd09::/16 via fe80::254 dev lb0");
    net.balancer.run(|| async {
        let mut neighbors = net.start();
        neighbors.want(vec![near, far, A]);
        let known = |view: &View| [near, far, A].iter().all(|to| is_at(view, *to, PEER));
        let view = until(&mut neighbors, known).await;
        let from = |to| view.ways[&to].our_address;
        assert_eq!((from(near), from(far), from(A)), (ours, ours, FIRST));
        // A route and an address of the operator's are followed.
        net.balancer.ip(&format!("addr add {second}/64 dev lb0 nodad"));
        net.balancer.ip(&format!("route replace fd09::/16 via fe80::254 dev lb0 src {second}"));
        until(&mut neighbors, |view| view.ways.get(&far).is_some_and(|w| w.our_address == second))
            .await;
        net.balancer.ip("route del fd09::/16");
        until(&mut neighbors, |view| view.unrouted == [far]).await;
        net.balancer.ip(&format!("neigh replace fd01::2 lladdr {OTHER} dev lb0 nud permanent"));
        until(&mut neighbors, |view| is_at(view, near, OTHER)).await;
        net.balancer.ip("-6 rule add to fd01::2 prohibit");
        until(&mut neighbors, |view| view.unrouted.contains(&near)).await;
    });
}

#[test]
fn a_backend_that_does_not_answer_is_told_and_found_when_it_comes() {
    let net = net();
    net.balancer.run(|| async {
        let mut neighbors = net.start();
        neighbors.want(vec![SILENT, A]);
        let view = until(&mut neighbors, |view| is_at(view, A, PEER)).await;
        assert_eq!(view.unanswered, [SILENT]);
        // ARP gives up after three seconds; being asked for again every second finds it sooner.
        net.network.ip("addr add 10.1.0.77/24 dev n0");
        until(&mut neighbors, |view| is_at(view, SILENT, PEER)).await;
    });
}

#[test]
fn a_mac_that_changes_is_followed_and_one_that_fails_is_dropped() {
    let net = net();
    net.balancer.run(|| async {
        let mut neighbors = net.start();
        neighbors.want(vec![A]);
        until(&mut neighbors, |view| is_at(view, A, PEER)).await;
        net.balancer.ip(&format!("neigh replace 10.1.0.2 lladdr {OTHER} dev lb0 nud stale"));
        until(&mut neighbors, |view| is_at(view, A, OTHER)).await;
        net.balancer.ip("neigh replace 10.1.0.2 dev lb0 nud failed");
        until(&mut neighbors, |view| view.unanswered == [A]).await;
    });
}

#[test]
fn a_link_that_goes_down_takes_its_next_hops_with_it_and_brings_them_back() {
    let net = net();
    net.balancer.run(|| async {
        let mut neighbors = net.start();
        neighbors.want(vec![A]);
        until(&mut neighbors, |view| is_at(view, A, PEER)).await;
        net.balancer.ip("link set lb0 down");
        until(&mut neighbors, |view| view.unrouted == [A]).await;
        net.balancer.ip("link set lb0 up");
        until(&mut neighbors, |view| is_at(view, A, PEER)).await;
    });
}

#[test]
fn an_address_of_the_box_itself_is_not_reached_through_a_port() {
    let net = net();
    net.balancer.run(|| async {
        let mut neighbors = net.start();
        neighbors.want(vec![FIRST]);
        until(&mut neighbors, |view| view.unrouted.len() == 1).await;
    });
}

#[test]
fn a_mac_set_by_hand_is_used_and_stays_as_it_was_set() {
    let net = net();
    net.balancer.ip(&format!("neigh replace {SILENT} lladdr {OTHER} dev lb0 nud permanent"));
    net.balancer.run(|| async {
        let mut neighbors = net.start();
        neighbors.want(vec![SILENT]);
        until(&mut neighbors, |view| is_at(view, SILENT, OTHER)).await;
        neighbors.want(vec![]);
        until(&mut neighbors, |view| view.ways.is_empty()).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        let entry = net.balancer.ip(&format!("neigh show {SILENT}"));
        assert!(entry.contains("PERMANENT") && entry.contains(&OTHER.to_string()), "{entry}");
    });
}

#[test]
fn what_is_no_longer_wanted_is_let_go() {
    let net = net();
    net.balancer.run(|| async {
        let mut neighbors = net.start();
        neighbors.want(vec![A]);
        until(&mut neighbors, |view| is_at(view, A, PEER)).await;
        neighbors.want(vec![]);
        until(&mut neighbors, |view| view.ways.is_empty() && view.complete()).await;
        for _ in 0..100 {
            if !net.balancer.ip("neigh show").contains("managed") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the kernel still keeps it: {}", net.balancer.ip("neigh show"));
    });
}

#[test]
fn hundreds_of_backends_are_all_resolved() {
    let net = net();
    let addresses: Vec<_> = (3..=202).map(|n| IpAddr::from([10, 1, 0, n])).collect();
    let add = "for i in $(seq 3 202); do echo addr add 10.1.0.$i/24 dev n0; done | ip -batch -";
    net.network.sh(add);
    net.balancer.run(|| async {
        let mut neighbors = net.start();
        let start = std::time::Instant::now();
        neighbors.want(addresses.clone());
        until(&mut neighbors, |view| view.ways.len() == 200).await;
        println!("200 backends resolved after {:?}", start.elapsed());
        assert!(neighbors.view().complete(), "{:?}", neighbors.view());
    });
}

#[test]
fn messages_lost_in_a_storm_of_route_changes_are_made_up_for() {
    let net = net();
    net.balancer.ip("route add 10.9.0.0/16 via 10.1.0.254");
    net.balancer.ip(&format!("neigh replace 10.1.0.253 lladdr {OTHER} dev lb0 nud permanent"));
    net.balancer.run(|| async {
        let mut neighbors = net.start();
        neighbors.want(vec![FAR, A]);
        until(&mut neighbors, View::complete).await;
        // Enough messages to overrun a socket that nobody reads meanwhile.
        net.balancer.sh("for i in $(seq 1 40); do for j in $(seq 0 250); do echo route add 10.$((i+20)).$j.0/24 via 10.1.0.254; done; done | ip -batch -");
        // These come when the socket is full already: nobody will hear of them.
        net.balancer.ip("route change 10.9.0.0/16 via 10.1.0.253");
        net.balancer.ip(&format!("neigh replace 10.1.0.2 lladdr {OTHER} dev lb0 nud permanent"));
        until(&mut neighbors, |view| is_at(view, FAR, OTHER) && is_at(view, A, OTHER)).await;
    });
}
