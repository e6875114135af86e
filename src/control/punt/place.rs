//! Which TAP carries which VIP and local address.
//!
//! A VIP or local address goes as a /32 (IPv6: /128) on the TAP whose own subnet contains it, the
//! longest prefix if several do. If none does it is reached by a route of the network's, and goes on
//! the first TAP with an address of its family, or the very first. An address the box has anyway,
//! with its prefix, is not added a second time.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::control::config::plan::Plan;
use crate::control::parts::TapSpec;
use crate::control::prefix::same_network;
use crate::ids::{PortId, ServiceId};

/// A single address on a TAP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Placed {
    /// The port whose TAP carries it.
    pub port: PortId,
    /// The address.
    pub address: IpAddr,
}

/// What shall be on the TAPs, and what stays on them for a while. Whether it is there is the
/// kernel's to say: see [`super::keep`].
#[derive(Debug, Default)]
pub struct Addresses {
    wanted: BTreeSet<Placed>,
    lingering: Vec<Lingering>,
}

/// How long a removed local address stays at most once every worker has stopped handing it out. A
/// busy service always has connections, and which local address they use is not counted: without an
/// end the address would stay for ever.
pub const LINGER_MAX: Duration = Duration::from_secs(60 * 60);

/// An address no service lists any more. A worker that still has an older snapshot may yet hand it
/// out, and connections may use it for as long as its services have any: until then the kernel must
/// go on answering ARP for it.
#[derive(Debug)]
struct Lingering {
    placed: Placed,
    services: Vec<ServiceId>,
    /// The first generation without it, and when that was published; `None` before.
    gone: Option<(u64, Instant)>,
}

impl Lingering {
    fn is_over(
        &self,
        now: Instant,
        everywhere: u64,
        connections: &impl Fn(ServiceId) -> u64,
    ) -> bool {
        let Some((generation, since)) = self.gone else { return false };
        everywhere >= generation
            && (now.duration_since(since) >= LINGER_MAX
                || self.services.iter().all(|service| connections(*service) == 0))
    }
}

impl Addresses {
    /// Takes over a new plan and returns what to add. `users` names the services whose connections
    /// may use an address that goes.
    pub fn change(
        &mut self,
        wanted: BTreeSet<Placed>,
        users: impl Fn(IpAddr) -> Vec<ServiceId>,
    ) -> Vec<Placed> {
        // What lingers and is wanted again needs no adding.
        let there: BTreeSet<Placed> = self.on_taps();
        let add = wanted.difference(&there).copied().collect();
        self.lingering.retain(|lingering| !wanted.contains(&lingering.placed));
        for &placed in self.wanted.difference(&wanted) {
            let services = users(placed.address);
            self.lingering.push(Lingering { placed, services, gone: None });
        }
        self.wanted = wanted;
        add
    }

    /// The plan of the last change is out as this generation.
    pub fn published(&mut self, generation: u64, now: Instant) {
        for lingering in &mut self.lingering {
            lingering.gone.get_or_insert((generation, now));
        }
    }

    /// Addresses nobody uses any more: to be removed from the TAPs. `everywhere` is the oldest
    /// generation that a worker still uses.
    pub fn expire(
        &mut self,
        now: Instant,
        everywhere: u64,
        connections: impl Fn(ServiceId) -> u64,
    ) -> Vec<Placed> {
        let over = |l: &mut Lingering| l.is_over(now, everywhere, &connections);
        self.lingering.extract_if(.., over).map(|lingering| lingering.placed).collect()
    }

    /// Everything that shall be there now.
    pub fn on_taps(&self) -> BTreeSet<Placed> {
        let lingering = self.lingering.iter().map(|lingering| lingering.placed);
        self.wanted.iter().copied().chain(lingering).collect()
    }
}

/// Every VIP and local address of the plan, on its TAP.
pub fn place(taps: &[TapSpec], plan: &Plan) -> BTreeSet<Placed> {
    let service = |s: &super::super::config::plan::Service| {
        let vips = s.places().map(|place| place.address.vip);
        vips.chain(s.local_addresses.iter().copied()).collect::<Vec<_>>()
    };
    let addresses = plan.services.iter().flat_map(service);
    addresses.filter_map(|address| place_one(taps, address)).collect()
}

fn place_one(taps: &[TapSpec], address: IpAddr) -> Option<Placed> {
    if taps.iter().flat_map(|tap| &tap.addresses).any(|(own, _)| *own == address) {
        return None;
    }
    let home = taps
        .iter()
        .filter_map(|tap| Some((longest_match(tap, address)?, tap)))
        .reduce(|best, next| if next.0 > best.0 { next } else { best })
        .map(|(_, tap)| tap);
    let speaks =
        |tap: &&TapSpec| tap.addresses.iter().any(|(own, _)| own.is_ipv4() == address.is_ipv4());
    let home = home.or_else(|| taps.iter().find(speaks)).or(taps.first());
    home.map(|tap| Placed { port: tap.id, address })
}

/// The TAP that carries a VIP, as its port's own address or besides.
pub(super) fn home(taps: &[TapSpec], vip: IpAddr) -> Option<&TapSpec> {
    let has = |tap: &&TapSpec| tap.addresses.iter().any(|(own, _)| *own == vip);
    let placed = || place_one(taps, vip);
    taps.iter().find(has).or_else(|| {
        let placed = placed()?;
        taps.iter().find(|tap| tap.id == placed.port)
    })
}

fn longest_match(tap: &TapSpec, address: IpAddr) -> Option<u8> {
    let contains = |(own, length): &&(IpAddr, u8)| same_network(*own, address, *length);
    tap.addresses.iter().filter(contains).map(|(_, length)| *length).max()
}

#[cfg(test)]
pub(super) mod tests {
    use std::path::Path;

    use super::*;
    use crate::control::config::{Machine, parse_for};
    use crate::wire::Mac;

    /// A TAP with these addresses.
    pub(in super::super) fn tap(id: u8, addresses: &[(&str, u8)]) -> TapSpec {
        TapSpec {
            id: PortId(id),
            port: format!("p{id}"),
            tap: format!("t{id}"),
            mac: Mac([2, 0, 0, 0, 0, id]),
            mtu: 1500,
            addresses: addresses.iter().map(|(a, l)| (a.parse().unwrap(), *l)).collect(),
            routes: vec![],
        }
    }

    fn placed(port: u8, address: &str) -> Placed {
        Placed { port: PortId(port), address: address.parse().unwrap() }
    }

    #[test]
    fn an_address_goes_to_the_longest_subnet_that_contains_it_else_to_the_first_tap() {
        let taps = [
            tap(0, &[("192.0.2.1", 24)]),
            tap(1, &[("10.0.0.1", 8)]),
            tap(2, &[("10.1.0.1", 16), ("203.0.113.1", 32)]),
        ];
        let table = [
            ("192.0.2.9", Some(0)),
            ("10.9.9.9", Some(1)),
            ("10.1.9.9", Some(2)),
            ("198.51.100.1", Some(0)),
            ("203.0.113.2", Some(0)),
            ("10.1.0.1", None),
            ("203.0.113.1", None),
        ];
        for (address, port) in table {
            let want = port.map(|port| placed(port, address));
            assert_eq!(place_one(&taps, address.parse().unwrap()), want, "{address}");
        }
    }

    #[test]
    fn an_ipv6_address_goes_where_ipv6_is_spoken() {
        let taps = [
            tap(0, &[("192.0.2.1", 24)]),
            tap(1, &[("10.0.0.1", 8), ("2001:db8:1::1", 64)]),
            tap(2, &[("2001:db8::1", 32)]),
        ];
        let table = [
            ("2001:db8:1::10", Some(1)),
            ("2001:db8:2::10", Some(2)),
            ("fd00::10", Some(1)),
            ("2001:db8::1", None),
        ];
        for (address, port) in table {
            let want = port.map(|port| placed(port, address));
            assert_eq!(place_one(&taps, address.parse().unwrap()), want, "{address}");
        }
        let only_v4 = place_one(&taps[..1], "fd00::10".parse().unwrap());
        assert_eq!(only_v4, Some(placed(0, "fd00::10")), "somewhere it must be");
    }

    #[test]
    fn a_service_without_local_addresses_places_its_vip_alone() {
        let file = include_str!("../config/tests/base.toml");
        let file = file.replace("local_addresses = [\"10.44.0.2\"]", "mode = \"nat\"");
        let machine = Machine::with_cpus(4);
        let plan = parse_for(&file, Path::new("shunt.toml"), &machine).unwrap().plan;
        let taps = [tap(0, &[("192.0.2.1", 24)]), tap(1, &[("10.44.0.1", 24)])];
        assert_eq!(place(&taps, &plan), BTreeSet::from([placed(0, "198.51.100.10")]));
    }

    #[test]
    fn a_default_length_prefix_contains_everything() {
        assert_eq!(
            place_one(&[tap(0, &[]), tap(1, &[("10.0.0.1", 0)])], "9.9.9.9".parse().unwrap()),
            Some(placed(1, "9.9.9.9"))
        );
    }

    #[test]
    fn a_change_adds_what_is_new_and_removes_what_nobody_uses() {
        let (mut addresses, now) = (Addresses::default(), Instant::now());
        let first = BTreeSet::from([placed(0, "192.0.2.1"), placed(0, "192.0.2.2")]);
        let add = addresses.change(first, |_| vec![]);
        assert_eq!(add, [placed(0, "192.0.2.1"), placed(0, "192.0.2.2")]);
        let second = BTreeSet::from([placed(0, "192.0.2.2"), placed(0, "192.0.2.3")]);
        assert_eq!(addresses.change(second, |_| vec![]), [placed(0, "192.0.2.3")]);
        addresses.published(2, now);
        assert_eq!(addresses.expire(now, 2, |_| 0), [placed(0, "192.0.2.1")]);
    }

    /// 10.0.0.9 is listed no more since generation 2; service 3 may have connections of it.
    fn lingering(now: Instant) -> Addresses {
        let mut addresses = Addresses::default();
        addresses.change(BTreeSet::from([placed(0, "10.0.0.9")]), |_| vec![]);
        assert_eq!(addresses.change(BTreeSet::new(), |_| vec![ServiceId(3)]), []);
        assert_eq!(addresses.expire(now, u64::MAX, |_| 0), [], "not published yet");
        addresses.published(2, now);
        addresses.published(5, now + LINGER_MAX);
        addresses
    }

    #[test]
    fn a_local_address_lingers_until_its_services_have_no_connections() {
        let now = Instant::now();
        let mut addresses = lingering(now);
        assert_eq!(addresses.expire(now, 2, |_| 1), []);
        assert_eq!(addresses.on_taps().len(), 1);
        let others = |id| u64::from(id != ServiceId(3));
        assert_eq!(addresses.expire(now, 2, others), [placed(0, "10.0.0.9")]);
        assert_eq!(addresses.expire(now, 2, |_| 0), [], "only once");
    }

    #[test]
    fn an_address_stays_while_a_worker_may_still_hand_it_out() {
        let now = Instant::now();
        let mut addresses = lingering(now);
        assert_eq!(addresses.expire(now + 2 * LINGER_MAX, 1, |_| 0), [], "not even for long");
        assert_eq!(addresses.expire(now, 2, |_| 0), [placed(0, "10.0.0.9")]);
    }

    #[test]
    fn an_address_of_a_service_that_always_has_connections_goes_in_the_end() {
        let now = Instant::now();
        let mut addresses = lingering(now);
        let before = now + LINGER_MAX / 2;
        assert_eq!(addresses.expire(before, 2, |_| 1), []);
        assert_eq!(addresses.expire(now + LINGER_MAX, 2, |_| 1), [placed(0, "10.0.0.9")]);
    }

    #[test]
    fn a_lingering_address_that_is_wanted_again_is_not_added_twice_nor_removed() {
        let now = Instant::now();
        let mut addresses = lingering(now);
        let one = BTreeSet::from([placed(0, "10.0.0.9")]);
        assert_eq!(addresses.change(one, |_| vec![]), []);
        addresses.published(3, now);
        assert_eq!(addresses.expire(now, 3, |_| 0), []);
        assert_eq!(addresses.on_taps().len(), 1);
    }
}
