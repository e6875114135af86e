//! The box's own programs as clients: what the kernel is told, against a real kernel.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use shunt::control::parts::TapSpec;
use shunt::control::punt::aim::MARK;
use shunt::control::punt::own::{OwnPrograms, Way, Who};
use shunt::control::punt::place::Placed;
use shunt::control::punt::{Twin, setup};
use shunt::ids::PortId;

use crate::namespace::Namespace;
use crate::taps::{netlink, pumps, spec};

const VIPS: [&str; 2] = ["192.0.2.10", "2001:db8::10"];

fn tap() -> TapSpec {
    let mut spec = spec(0, "tw0", [10, 0, 0, 1]);
    spec.addresses.push(("fd01::1".parse().unwrap(), 64));
    spec
}

fn ways() -> BTreeSet<Way> {
    let way = |(vip, source): (&str, &str)| Way {
        port: PortId(0),
        vip: vip.parse().unwrap(),
        source: source.parse().unwrap(),
    };
    VIPS.into_iter().zip(["10.0.0.1", "fd01::1"]).map(way).collect()
}

fn vips(vips: &[&str]) -> BTreeSet<IpAddr> {
    vips.iter().map(|vip| vip.parse().unwrap()).collect()
}

fn rules(namespace: &Namespace) -> [String; 2] {
    ["-4", "-6"].map(|family| namespace.ip(&format!("{family} rule")))
}

/// A TAP that carries both VIPs, and what is done with it.
fn with_tap(work: impl AsyncFn(&Namespace, &rtnetlink::Handle, &[(PortId, u32)]) + Send + Sync) {
    with_twin(async |namespace, handle, twins: Rc<[Twin]>| {
        work(namespace, handle, &[(PortId(0), twins[0].index)]).await;
    });
}

fn with_twin(work: impl AsyncFn(&Namespace, &rtnetlink::Handle, Rc<[Twin]>) + Send + Sync) {
    let namespace = Namespace::new();
    namespace.sh("sysctl -qw net.ipv6.conf.all.disable_ipv6=0");
    namespace.run(|| async {
        let handle = netlink();
        let twins = setup::create_all(&handle, &[tap()]).await.unwrap();
        let indices = [(PortId(0), twins[0].index)];
        let placed = VIPS.map(|vip| Placed { port: PortId(0), address: vip.parse().unwrap() });
        setup::apply(&handle, &indices, &placed, &[]).await;
        work(&namespace, &handle, twins.into()).await;
    });
}

/// By which way a packet of this protocol from the box itself would go.
fn asked(namespace: &Namespace, vip: &str, protocol: &str) -> String {
    namespace.ip(&format!("route get {vip} ipproto {protocol} dport 80"))
}

/// Its packets leave, those of others do not; then those of all do, and in the end nobody's.
#[test]
fn checks_alone_leave_by_the_tap_when_they_alone_are_to() {
    with_tap(async |namespace, handle, twins| {
        let before = rules(namespace);
        let marked = |vip| namespace.ip(&format!("route get {vip} mark {MARK} ipproto tcp"));
        let mut own = OwnPrograms::default();
        for who in [Who::Checks, Who::Programs, Who::Checks] {
            assert_eq!(own.keep(handle, &[tap()], twins, (&ways(), who)).await, vips(&VIPS));
            for vip in VIPS {
                let (checks, others) = (marked(vip), asked(namespace, vip, "tcp"));
                assert!(checks.contains("dev tw0"), "{who:?}: {checks}");
                assert_eq!(others.contains("local"), who == Who::Checks, "{who:?}: {others}");
            }
        }
        let none = own.keep(handle, &[tap()], twins, (&BTreeSet::new(), Who::Checks)).await;
        assert_eq!(none, BTreeSet::new());
        assert_eq!(rules(namespace), before);
    });
}

#[test]
fn programs_leave_by_the_tap_and_everything_is_put_back() {
    with_tap(async |namespace, handle, twins| {
        let before = rules(namespace);
        let mut own = OwnPrograms::default();
        own.keep(handle, &[tap()], twins, (&BTreeSet::new(), Who::Programs)).await;
        assert_eq!(rules(namespace), before, "nothing wanted, nothing done");
        own.keep(handle, &[tap()], twins, (&ways(), Who::Programs)).await;
        for (vip, source) in VIPS.into_iter().zip(["10.0.0.1", "fd01::1"]) {
            // `ip route get` does not know SCTP; the rule is there.
            for protocol in ["tcp", "udp"] {
                let way = asked(namespace, vip, protocol);
                assert!(way.contains("dev tw0") && way.contains(source), "{way}");
            }
            let ping = asked(namespace, vip, if vip.contains(':') { "ipv6-icmp" } else { "icmp" });
            assert!(ping.contains("local"), "{ping}");
            let neighbor = namespace.ip(&format!("neigh show {vip}"));
            assert!(neighbor.contains("02:00:00:00:01:00 PERMANENT"), "{neighbor}");
        }
        assert_eq!(namespace.sh("cat /proc/sys/net/ipv4/conf/tw0/accept_local").trim(), "1");
        let during = rules(namespace);
        assert!(during.iter().all(|rules| rules.contains("iif lo ipproto sctp")), "{during:?}");
        own.keep(handle, &[tap()], twins, (&ways(), Who::Programs)).await;
        assert_eq!(rules(namespace), during, "each rule once");
        own.keep(handle, &[tap()], twins, (&BTreeSet::new(), Who::Programs)).await;
        assert_eq!(rules(namespace), before);
        for vip in VIPS {
            assert!(asked(namespace, vip, "tcp").contains("local"));
            assert_eq!(namespace.ip(&format!("neigh show {vip}")), "");
        }
        assert_eq!(namespace.sh("cat /proc/sys/net/ipv4/conf/tw0/accept_local").trim(), "0");
    });
}

#[test]
fn what_is_taken_away_comes_back() {
    with_tap(async |namespace, handle, twins| {
        let mut own = OwnPrograms::default();
        own.keep(handle, &[tap()], twins, (&ways(), Who::Programs)).await;
        let during = rules(namespace);
        for line in [
            "link set tw0 down; ip link set tw0 up; ip addr replace fd01::1/64 dev tw0 nodad; \
             ip addr replace 2001:db8::10/128 dev tw0 nodad",
            "rule del pref 0 ipproto udp; ip -6 rule del pref 0 ipproto tcp",
            "neigh flush dev tw0 nud all; ip -6 neigh flush dev tw0 nud all",
        ] {
            namespace.sh(&format!("ip {line}"));
            own.keep(handle, &[tap()], twins, (&ways(), Who::Programs)).await;
            for vip in VIPS {
                assert!(asked(namespace, vip, "tcp").contains("dev tw0"), "{line}: {vip}");
                assert!(namespace.ip(&format!("neigh show {vip}")).contains("PERMANENT"), "{line}");
            }
        }
        let count = |text: &String| text.lines().count();
        assert_eq!(rules(namespace).each_ref().map(count), during.each_ref().map(count));
    });
}

#[test]
fn a_daemon_that_was_killed_leaves_nothing_that_matters_and_the_next_one_tidies_up() {
    with_tap(async |namespace, handle, twins| {
        let before = rules(namespace);
        OwnPrograms::default().keep(handle, &[tap()], twins, (&ways(), Who::Programs)).await;
        namespace.ip("link del tw0");
        namespace.ip("addr add 192.0.2.10/32 dev lo");
        assert!(asked(namespace, VIPS[0], "tcp").contains("local"), "the rules decide nothing");
        OwnPrograms::default().keep(handle, &[], &[], (&BTreeSet::new(), Who::Programs)).await;
        assert_eq!(rules(namespace), before);
    });
}

#[test]
fn where_somebody_elses_rule_is_beside_the_local_one_nothing_is_done_in_its_family() {
    with_tap(async |namespace, handle, twins| {
        namespace.ip("rule add pref 1 from 203.0.113.0/24 lookup main");
        let before = rules(namespace);
        let mut own = OwnPrograms::default();
        let open = own.keep(handle, &[tap()], twins, (&ways(), Who::Programs)).await;
        assert_eq!(rules(namespace)[0], before[0]);
        assert!(asked(namespace, VIPS[0], "tcp").contains("local"));
        assert_eq!(open, vips(&VIPS[1..]), "the other family is as ever");
        assert!(asked(namespace, VIPS[1], "tcp").contains("dev tw0"));
        namespace.ip("rule del pref 1 from 203.0.113.0/24");
        let open = own.keep(handle, &[tap()], twins, (&ways(), Who::Programs)).await;
        assert_eq!(open, vips(&VIPS));
    });
}

#[test]
fn a_vip_whose_way_cannot_be_had_takes_none_from_the_others() {
    with_tap(async |namespace, handle, twins| {
        let mut wanted = ways();
        let (vip, source) = ("192.0.2.11".parse().unwrap(), "10.0.0.1".parse().unwrap());
        wanted.insert(Way { port: PortId(1), vip, source });
        let mut own = OwnPrograms::default();
        for _ in 0..2 {
            let open = own.keep(handle, &[tap()], twins, (&wanted, Who::Checks)).await;
            assert_eq!(open, vips(&VIPS), "port 1 has no TAP");
        }
        namespace.ip("link set tw0 down");
        let open = own.keep(handle, &[tap()], twins, (&wanted, Who::Checks)).await;
        assert_eq!(open, BTreeSet::new(), "a TAP that is down carries nobody");
        namespace.ip("link set tw0 up");
        namespace.ip("addr replace 2001:db8::10/128 dev tw0 nodad");
        namespace.ip("addr replace fd01::1/64 dev tw0 nodad");
        let open = own.keep(handle, &[tap()], twins, (&wanted, Who::Checks)).await;
        assert_eq!(open, vips(&VIPS), "what was lost is there again");
    });
}

/// So long that its frame needs no padding.
const QUESTION: &[u8] = b"what would a program want to know of a VIP?";

/// The frame as its receiver would answer it, by UDP: who sent it gets it. Checksums stay.
fn turned(frame: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    let (addresses, length) = if frame[12..14] == [8, 0] { (26, 4) } else { (22, 16) };
    let turn = |frame: &mut Vec<u8>, at: usize, length: usize| {
        let (one, other) = frame[at..at + 2 * length].split_at_mut(length);
        one.swap_with_slice(other);
    };
    turn(&mut frame, addresses, length);
    turn(&mut frame, addresses + 2 * length, 2);
    frame
}

/// A program asks the VIP by UDP: the frame comes out of the TAP, and what comes in from the VIP, an
/// address of the kernel's own, is heard.
#[test]
fn the_kernel_sends_to_the_vip_and_takes_what_comes_from_it() {
    with_twin(async |_, handle, twins| {
        let indices = [(PortId(0), twins[0].index)];
        OwnPrograms::default().keep(handle, &[tap()], &indices, (&ways(), Who::Programs)).await;
        let path = pumps(twins, 64).await;
        for (vip, any) in VIPS.into_iter().zip(["0.0.0.0:0", "[::]:0"]) {
            let vip: IpAddr = vip.parse().unwrap();
            let socket = tokio::net::UdpSocket::bind(any).await.unwrap();
            socket.connect((vip, 53)).await.unwrap();
            assert_ne!(socket.local_addr().unwrap().ip(), vip, "not from the VIP itself");
            socket.send(QUESTION).await.unwrap();
            let asked = path.frame(|frame| frame.ends_with(QUESTION)).await;
            assert_eq!(asked[..12], [2, 0, 0, 0, 1, 0].repeat(2), "to and from the TAP's own");
            path.deliver(&turned(&asked));
            let mut heard = [0; 64];
            let answer = tokio::time::timeout(Duration::from_secs(2), socket.recv(&mut heard));
            assert_eq!(answer.await.expect("an answer").unwrap(), QUESTION.len(), "{vip}");
        }
    });
}
