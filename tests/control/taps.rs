//! TAP twins: what they look like to the kernel, and how fast frames pass them.

use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use shunt::control::parts::TapSpec;
use shunt::control::punt::keep::Keeper;
use shunt::control::punt::place::Placed;
use shunt::control::punt::{PuntError, Twin, pace, pump, setup};
use shunt::dataplane::io::Packet;
use shunt::dataplane::io::memory::{VecLane, VecPacket};
use shunt::ids::PortId;
use shunt::stats::collect::Sources;
use shunt::stats::slow::StaticFacts;
use shunt::wire::Mac;

use crate::namespace::Namespace;

pub(crate) fn spec(id: u8, tap: &str, address: [u8; 4]) -> TapSpec {
    TapSpec {
        id: PortId(id),
        port: format!("port{id}"),
        tap: tap.into(),
        mac: Mac([2, 0, 0, 0, 1, id]),
        mtu: 1400,
        addresses: vec![(address.into(), 24)],
        routes: vec![],
    }
}

pub(crate) fn netlink() -> rtnetlink::Handle {
    let (connection, handle, _) = rtnetlink::new_connection().unwrap();
    tokio::spawn(connection);
    handle
}

#[test]
fn a_tap_carries_the_ports_mac_mtu_addresses_and_routes_and_goes_with_its_owner() {
    let namespace = Namespace::new();
    let mut specs = [spec(0, "tw0", [10, 0, 0, 1]), spec(1, "tw1", [10, 0, 1, 1])];
    specs[1].routes = vec![([10, 7, 0, 0].into(), 16, [10, 0, 1, 254].into())];
    namespace.run(|| async {
        let handle = netlink();
        let twins = setup::create_all(&handle, &specs).await.unwrap();
        let link = namespace.ip("link show tw0");
        assert!(link.contains("mtu 1400") && link.contains("02:00:00:00:01:00"), "{link}");
        assert!(link.contains(",UP"), "{link}");
        assert!(namespace.ip("-4 addr show tw1").contains("inet 10.0.1.1/24"));
        let route = namespace.ip("route show 10.7.0.0/16");
        assert!(route.contains("via 10.0.1.254 dev tw1"), "{route}");
        assert_eq!(namespace.sh("cat /proc/sys/net/ipv4/conf/tw0/forwarding").trim(), "0");
        drop(twins);
    });
    assert!(!namespace.ip("link show").contains("tw0"));
}

#[test]
fn vips_come_and_go_as_host_addresses() {
    let namespace = Namespace::new();
    namespace.run(|| async {
        let handle = netlink();
        let twins = setup::create_all(&handle, &[spec(0, "tw0", [10, 0, 0, 1])]).await.unwrap();
        let indices = [(PortId(0), twins[0].index)];
        let vip = Placed { port: PortId(0), address: IpAddr::from([192, 0, 2, 1]) };
        setup::apply(&handle, &indices, &[vip, vip], &[]).await;
        assert!(namespace.ip("-4 addr show tw0").contains("inet 192.0.2.1/32"));
        setup::apply(&handle, &indices, &[], &[vip]).await;
        let left = namespace.ip("-4 addr show tw0");
        assert!(!left.contains("192.0.2.1") && left.contains("10.0.0.1/24"), "{left}");
    });
}

#[test]
fn ipv6_is_off_on_a_tap_until_it_has_an_address_of_it() {
    let namespace = Namespace::new();
    namespace.run(|| async {
        let handle = netlink();
        let mut second = spec(1, "tw1", [10, 0, 1, 1]);
        second.addresses.push(("fd01::1".parse().unwrap(), 64));
        second.routes = vec![("fd09::".parse().unwrap(), 16, "fe80::9".parse().unwrap())];
        let specs = [spec(0, "tw0", [10, 0, 0, 1]), second];
        let twins = setup::create_all(&handle, &specs).await.unwrap();
        assert_eq!(namespace.ip("-6 addr show tw0"), "", "not even a link-local address");
        let own = namespace.ip("-6 addr show tw1");
        assert!(own.contains("inet6 fd01::1/64") && own.contains("inet6 fe80::"), "{own}");
        assert!(!own.contains("tentative"), "usable at once: {own}");
        let route = namespace.ip("-6 route show fd09::/16");
        assert!(route.contains("via fe80::9 dev tw1"), "{route}");

        let indices = [(PortId(0), twins[0].index), (PortId(1), twins[1].index)];
        let vip = |port| Placed { port: PortId(port), address: "2001:db8::10".parse().unwrap() };
        setup::apply(&handle, &indices, &[vip(0), vip(0)], &[]).await;
        let there = namespace.ip("-6 addr show tw0");
        assert!(there.contains("inet6 2001:db8::10/128"), "{there}");
        assert!(!there.contains("tentative"), "{there}");
        setup::apply(&handle, &indices, &[], &[vip(0)]).await;
        assert!(!namespace.ip("-6 addr show tw0").contains("2001:db8::10"));
    });
}

#[test]
fn the_keeper_sees_ipv6_addresses_and_puts_back_what_is_missing() {
    let namespace = Namespace::new();
    namespace.run(|| async {
        let handle = netlink();
        let mut spec = spec(0, "tw0", [10, 0, 0, 1]);
        spec.addresses.push(("fd01::1".parse().unwrap(), 64));
        spec.routes = vec![("::".parse().unwrap(), 0, "fd01::9".parse().unwrap())];
        let specs = [spec];
        let twins = setup::create_all(&handle, &specs).await.unwrap();
        let indices = [(PortId(0), twins[0].index)];
        let vip = Placed { port: PortId(0), address: "2001:db8::10".parse().unwrap() };
        let mut keeper = Keeper::default();
        let wanted = std::collections::BTreeSet::from([vip]);
        for take_off in ["addr flush dev tw0", "route del default dev tw0", "addr show tw0"] {
            namespace.ip(&format!("-6 {take_off}"));
            keeper.keep(&handle, &specs, &indices, &wanted, &[]).await;
            let there = namespace.ip("-6 addr show tw0");
            assert!(there.contains("fd01::1/64") && there.contains("2001:db8::10/128"), "{there}");
            assert!(namespace.ip("-6 route show default").contains("via fd01::9"), "{take_off}");
        }
    });
}

#[test]
fn an_ipv6_route_of_the_hosts_own_survives_a_port_that_wants_the_same() {
    let namespace = Namespace::new();
    namespace.ip("link add mg0 type veth peer name mg1");
    namespace.sh("sysctl -qw net.ipv6.conf.mg0.disable_ipv6=0");
    namespace.ip("addr add fd02::2/64 dev mg0 nodad");
    namespace.ip("link set mg0 up");
    namespace.ip("link set mg1 up");
    namespace.ip("route add default via fd02::9 dev mg0");
    let before = namespace.ip("-6 route show default");
    namespace.run(|| async {
        let mut spec = spec(0, "tw0", [10, 0, 0, 1]);
        spec.addresses.push(("fd01::1".parse().unwrap(), 64));
        spec.routes = vec![("::".parse().unwrap(), 0, "fd01::9".parse().unwrap())];
        let error = setup::create_all(&netlink(), &[spec]).await.unwrap_err().to_string();
        let wanted = "port `port0`: there is already a route ::/0 via fd02::9 dev mg0";
        assert!(error.starts_with(wanted), "{error}");
    });
    assert_eq!(namespace.ip("-6 route show default"), before);
}

#[test]
fn an_interface_that_has_the_name_is_left_alone_and_told_of() {
    let namespace = Namespace::new();
    namespace.ip("link add tw1 type veth peer name tw9");
    namespace.run(|| async {
        let specs = [spec(0, "tw0", [10, 0, 0, 1]), spec(1, "tw1", [10, 0, 1, 1])];
        let error = setup::create_all(&netlink(), &specs).await.unwrap_err();
        assert!(matches!(error, PuntError::Taken { .. }), "{error}");
        assert!(error.to_string().contains("ip link del tw1"), "{error}");
    });
    let links = namespace.ip("link show");
    assert!(links.contains("tw1") && !links.contains("tw0"), "nothing half-made: {links}");
}

#[test]
fn a_route_of_the_hosts_own_survives_a_port_that_wants_the_same() {
    let namespace = Namespace::new();
    namespace.ip("link add mg0 type veth peer name mg1");
    namespace.ip("addr add 172.31.0.2/24 dev mg0");
    namespace.ip("link set mg0 up");
    namespace.ip("link set mg1 up");
    namespace.ip("route add default via 172.31.0.9 dev mg0");
    let before = namespace.ip("route show default");
    namespace.run(|| async {
        let mut spec = spec(0, "tw0", [10, 0, 0, 1]);
        spec.routes = vec![([0, 0, 0, 0].into(), 0, [10, 0, 0, 254].into())];
        let error = setup::create_all(&netlink(), &[spec]).await.unwrap_err().to_string();
        let wanted = "port `port0`: there is already a route 0.0.0.0/0 via 172.31.0.9 dev mg0; \
                      remove it, or leave this route out";
        assert!(error.starts_with(wanted), "{error}");
    });
    assert_eq!(namespace.ip("route show default"), before);
    assert!(!namespace.ip("link show").contains("tw0"), "nothing half-made");
}

/// An ARP request of 10.0.0.9 for 10.0.0.1 (RFC 826).
fn arp_request() -> VecPacket {
    let sender = [2, 0, 0, 0, 0, 9];
    let mut frame = [&[0xff; 6][..], &sender, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1]].concat();
    frame.extend([&sender[..], &[10, 0, 0, 9], &[0; 6], &[10, 0, 0, 1]].concat());
    frame.resize(60, 0);
    VecPacket::new(&frame)
}

pub(crate) struct SlowPath {
    punt: VecLane,
    inject: VecLane,
    sources: Arc<Sources>,
    twins: Rc<[Twin]>,
}

/// The pumps over one TAP.
async fn slow_path(inject_limit: usize) -> SlowPath {
    let twins = setup::create_all(&netlink(), &[spec(0, "tw0", [10, 0, 0, 1])]).await.unwrap();
    pumps(twins.into(), inject_limit).await
}

/// The pumps over the first of these TAPs.
pub(crate) async fn pumps(twins: Rc<[Twin]>, inject_limit: usize) -> SlowPath {
    let (punt, inject) = (VecLane::new(1024), VecLane::new(inject_limit));
    let sources = Arc::new(Sources::new(StaticFacts::default(), vec!["port0".into()], vec![]));
    let make = Rc::new(|frame: &[u8]| Some(VecPacket::new(frame)));
    let drain = pump::drain(vec![punt.clone()], Rc::clone(&twins), Arc::clone(&sources));
    tokio::task::spawn_local(drain);
    let lane = Rc::new(RefCell::new(inject.clone()));
    let shared = (Arc::clone(&sources), Arc::default());
    let inject_task = pump::inject(Rc::clone(&twins), 0, lane, make, shared);
    tokio::task::spawn_local(inject_task);
    // Let both reach their first wait, and the kernel say its gratuitous ARP.
    tokio::time::sleep(Duration::from_millis(50)).await;
    while inject.pop().is_some() {}
    SlowPath { punt, inject, sources, twins }
}

impl SlowPath {
    /// Waits for such a frame of the kernel's.
    pub(crate) async fn frame(&self, is_it: impl Fn(&[u8]) -> bool) -> Vec<u8> {
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(2) {
            tokio::time::sleep(Duration::from_millis(1)).await;
            let found = std::iter::from_fn(|| self.inject.pop()).find(|it| is_it(it.data()));
            if let Some(packet) = found {
                return packet.data().to_vec();
            }
        }
        panic!("the kernel did not send that");
    }

    /// Gives the kernel a frame.
    pub(crate) fn deliver(&self, frame: &[u8]) {
        assert!(self.punt.push(VecPacket::new(frame)).is_ok());
    }

    /// Sends the request, waits for the kernel's answer, and says how long that took.
    async fn exchange(&self) -> Duration {
        let start = Instant::now();
        assert!(self.punt.push(arp_request()).is_ok());
        while start.elapsed() < Duration::from_secs(2) {
            tokio::task::yield_now().await;
            let Some(answer) = self.inject.pop() else { continue };
            assert_eq!(answer.port(), PortId(0));
            let data = answer.data();
            let is_reply = data[12..14] == [8, 6] && data[20..22] == [0, 2];
            if is_reply {
                assert_eq!(data[22..28], [2, 0, 0, 0, 1, 0], "the port's own MAC");
                return start.elapsed();
            }
        }
        panic!("the kernel did not answer");
    }
}

#[test]
fn every_arp_request_is_answered_through_the_tap() {
    let namespace = Namespace::new();
    let mut times = namespace.run(|| async {
        let path = slow_path(1024).await;
        let mut times = Vec::new();
        for _ in 0..200 {
            times.push(path.exchange().await);
        }
        assert!(path.sources.slow.taps[0].to_kernel.get() >= 200);
        assert_eq!(path.sources.slow.taps[0].to_kernel_dropped.get(), 0);
        assert_eq!(path.twins.len(), 1);
        times
    });
    times.sort();
    let (median, p99) = (times[100], times[197]);
    println!("ARP through the TAP: median {median:?}, p99 {p99:?}");
}

/// How often this thread has gone to sleep of its own accord.
fn sleeps() -> u128 {
    let text = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let count = text.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    count.unwrap().trim().parse().unwrap()
}

#[test]
fn an_idle_slow_path_looks_at_its_slow_pace_only() {
    let namespace = Namespace::new();
    namespace.run(|| async {
        let _path = slow_path(16).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        let (before, start) = (sleeps(), Instant::now());
        tokio::time::sleep(Duration::from_secs(2)).await;
        let (looks, elapsed) = (sleeps() - before, start.elapsed());
        println!("idle slow path: {looks} sleeps in {elapsed:?}");
        // One lane is looked at; the other side waits to be woken. At the fast pace: ten times.
        let slow = elapsed.as_micros() / pace::SLOW.as_micros();
        assert!(looks <= 2 * slow, "{looks} sleeps, at the slow pace {slow}");
        assert!(looks > 0, "it does look");
    });
}

#[test]
fn what_the_inject_lane_does_not_take_is_counted() {
    let namespace = Namespace::new();
    namespace.run(|| async {
        let path = slow_path(0).await;
        for _ in 0..10 {
            assert!(path.punt.push(arp_request()).is_ok());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        let counters = &path.sources.slow.taps[0];
        assert!(counters.to_kernel.get() >= 10);
        assert!(counters.from_kernel_dropped.get() >= 10);
        assert_eq!(counters.from_kernel.get(), 0);
    });
}

#[test]
fn a_frame_of_a_port_without_a_tap_is_counted_not_delivered() {
    let namespace = Namespace::new();
    namespace.run(|| async {
        let path = slow_path(16).await;
        let mut stray = arp_request();
        stray.set_port(PortId(3));
        assert!(path.punt.push(stray).is_ok());
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(path.sources.slow.taps[3].to_kernel_dropped.get(), 1);
        assert_eq!(path.sources.slow.taps[0].to_kernel.get(), 0);
    });
}
