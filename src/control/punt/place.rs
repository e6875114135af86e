//! Which TAP carries which VIP and local address.
//!
//! A VIP or local address goes as a /32 on the TAP whose own subnet contains it, the longest prefix
//! if several do, and on the first TAP if none does (it is then reached by a route of the
//! network's). An address the box has anyway, with its prefix, is not added a second time.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use crate::control::config::plan::Plan;
use crate::control::parts::TapSpec;
use crate::ids::{PortId, ServiceId};

/// A /32 on a TAP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Placed {
    /// The port whose TAP carries it.
    pub port: PortId,
    /// The address.
    pub address: Ipv4Addr,
}

/// What is on the TAPs, and what stays on them for a while.
#[derive(Debug, Default)]
pub struct Addresses {
    placed: BTreeSet<Placed>,
    lingering: Vec<Lingering>,
}

/// A local address no service lists any more but connections may still use: the kernel must go on
/// answering ARP for it until its services have none left.
#[derive(Debug)]
struct Lingering {
    placed: Placed,
    services: Vec<ServiceId>,
}

/// What to do on the TAPs.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Moves {
    /// Addresses to add.
    pub add: Vec<Placed>,
    /// Addresses to remove.
    pub remove: Vec<Placed>,
}

impl Addresses {
    /// Takes over a new plan. `users` names the services whose connections may still use an
    /// address that goes; if there are any, it lingers instead.
    pub fn change(
        &mut self,
        wanted: BTreeSet<Placed>,
        users: impl Fn(Ipv4Addr) -> Vec<ServiceId>,
    ) -> Moves {
        let new: Vec<_> = wanted.difference(&self.placed).copied().collect();
        let add: Vec<_> = new.into_iter().filter(|placed| !self.revive(*placed)).collect();
        let gone: Vec<_> = self.placed.difference(&wanted).copied().collect();
        self.placed = wanted;
        let mut remove = Vec::new();
        for placed in gone {
            match users(placed.address) {
                services if services.is_empty() => remove.push(placed),
                services => self.lingering.push(Lingering { placed, services }),
            }
        }
        Moves { add, remove }
    }

    /// An address that lingers and is wanted again needs no adding.
    fn revive(&mut self, placed: Placed) -> bool {
        let before = self.lingering.len();
        self.lingering.retain(|lingering| lingering.placed != placed);
        self.lingering.len() < before
    }

    /// Addresses whose last connection has gone. They are to be removed from the TAPs.
    pub fn expire(&mut self, connections: impl Fn(ServiceId) -> u64) -> Vec<Placed> {
        let idle = |l: &mut Lingering| l.services.iter().all(|service| connections(*service) == 0);
        self.lingering.extract_if(.., idle).map(|lingering| lingering.placed).collect()
    }
}

/// Every VIP and local address of the plan, on its TAP.
pub fn place(taps: &[TapSpec], plan: &Plan) -> BTreeSet<Placed> {
    let service = |s: &super::super::config::plan::Service| {
        std::iter::once(*s.address.ip())
            .chain(s.local_addresses.iter().copied())
            .collect::<Vec<_>>()
    };
    let addresses = plan.services.iter().flat_map(service);
    addresses.filter_map(|address| place_one(taps, address)).collect()
}

fn place_one(taps: &[TapSpec], address: Ipv4Addr) -> Option<Placed> {
    if taps.iter().flat_map(|tap| &tap.addresses).any(|(own, _)| *own == address) {
        return None;
    }
    let home = taps
        .iter()
        .filter_map(|tap| Some((longest_match(tap, address)?, tap)))
        .reduce(|best, next| if next.0 > best.0 { next } else { best })
        .map(|(_, tap)| tap);
    home.or(taps.first()).map(|tap| Placed { port: tap.id, address })
}

fn longest_match(tap: &TapSpec, address: Ipv4Addr) -> Option<u8> {
    let contains = |(own, length): &&(Ipv4Addr, u8)| same_subnet(*own, address, *length);
    tap.addresses.iter().filter(contains).map(|(_, length)| *length).max()
}

fn same_subnet(a: Ipv4Addr, b: Ipv4Addr, length: u8) -> bool {
    let shift = 32 - u32::from(length.min(32));
    u64::from(a.to_bits()) >> shift == u64::from(b.to_bits()) >> shift
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::control::config::{Machine, parse_for};
    use crate::wire::Mac;

    fn tap(id: u8, addresses: &[(&str, u8)]) -> TapSpec {
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
        let mut addresses = Addresses::default();
        let first = BTreeSet::from([placed(0, "192.0.2.1"), placed(0, "192.0.2.2")]);
        let moves = addresses.change(first, |_| vec![]);
        assert_eq!(moves.add, [placed(0, "192.0.2.1"), placed(0, "192.0.2.2")]);
        let second = BTreeSet::from([placed(0, "192.0.2.2"), placed(0, "192.0.2.3")]);
        let moves = addresses.change(second, |_| vec![]);
        assert_eq!(moves.add, [placed(0, "192.0.2.3")]);
        assert_eq!(moves.remove, [placed(0, "192.0.2.1")]);
    }

    #[test]
    fn a_local_address_lingers_until_its_services_have_no_connections() {
        let mut addresses = Addresses::default();
        addresses.change(BTreeSet::from([placed(0, "10.0.0.9")]), |_| vec![]);
        let moves = addresses.change(BTreeSet::new(), |_| vec![ServiceId(3)]);
        assert_eq!(moves, Moves::default(), "it stays");
        assert_eq!(addresses.expire(|_| 1), []);
        assert_eq!(addresses.expire(|id| u64::from(id != ServiceId(3))), [placed(0, "10.0.0.9")]);
        assert_eq!(addresses.expire(|_| 0), [], "only once");
    }

    #[test]
    fn a_lingering_address_that_is_wanted_again_is_not_added_twice_nor_removed() {
        let mut addresses = Addresses::default();
        let one = BTreeSet::from([placed(0, "10.0.0.9")]);
        addresses.change(one.clone(), |_| vec![]);
        addresses.change(BTreeSet::new(), |_| vec![ServiceId(3)]);
        assert_eq!(addresses.change(one, |_| vec![]), Moves::default());
        assert_eq!(addresses.expire(|_| 0), []);
    }
}
