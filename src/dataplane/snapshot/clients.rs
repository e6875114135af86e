//! Services for some clients only: one VIP, port and protocol, told apart by who asks.
//!
//! ```text
//! client 10.1.2.3 asks 198.51.100.10:80 tcp        its networks, longest first      who claims the place for it
//!   /24  10.1.2.0/24    in list `office`      ──►  list office                ──►  nobody
//!   /8   10.0.0.0/8     written as it is      ──►  network 10.0.0.0/8         ──►  service `intern`   ◄── this
//!   none of them                              ──►  services for everybody     ──►  service `web`
//! ```
//!
//! Who asks comes before what is asked for, as IPVS looks for the service of a firewall mark before
//! any other: of two networks around a client the longer decides, and ports only within it. So what is found
//! does not depend on the order of anything, and validation can see to it that it is one service.
//!
//! Cost: asked for packets of no connection, at VIPs that have such services. There it is one lookup for
//! each length of prefix that is written anywhere, and one more for each network around the client.
//! Networks are kept once, however many services and addresses name their list.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::net::IpAddr;

use foldhash::fast::RandomState;

use super::{Ports, ServiceAddress};
use crate::dataplane::access::{ListSet, base};
use crate::ids::ServiceId;

/// Some of the clients, as a service names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Group {
    /// Those of a network: its first address, and the bits of its prefix.
    Network(IpAddr, u8),
    /// Those of the networks on a list, by its place.
    List(u8),
}

/// The networks that services tell their clients by.
#[derive(Clone, Default)]
pub struct Networks {
    /// Which lists have that very network on them; none if services name it themselves.
    lists: HashMap<(IpAddr, u8), ListSet, RandomState>,
    /// Lengths there are, the longest first: of IPv4, of IPv6.
    lengths: [Vec<u8>; 2],
}

/// A million lines help nobody.
impl fmt::Debug for Networks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} networks", self.lists.len())
    }
}

impl Networks {
    /// `networks` by first address and length, each with the lists it is on; it may come several times.
    pub fn new(networks: impl Iterator<Item = (IpAddr, u8, ListSet)>) -> Self {
        let mut all = Self::default();
        let mut has = [[false; 129]; 2];
        for (address, length, lists) in networks {
            let known = all.lists.entry((address, length)).or_default();
            *known = known.and(lists);
            has[usize::from(address.is_ipv6())][usize::from(length).min(128)] = true;
        }
        all.lengths = has.map(|has| (0..=128u8).rev().filter(|l| has[usize::from(*l)]).collect());
        all
    }

    /// The networks around a client, the longest first, and the lists each is on.
    fn around(&self, client: IpAddr) -> impl Iterator<Item = (IpAddr, u8, ListSet)> {
        let [v4, v6] = &self.lengths;
        let lengths = if client.is_ipv4() { v4 } else { v6 };
        lengths.iter().filter_map(move |&length| {
            let first = base(client, length);
            self.lists.get(&(first, length)).map(|lists| (first, length, *lists))
        })
    }
}

/// Services at the ports of one VIP and protocol, for some clients.
#[derive(Clone, Debug, Default)]
struct AtPorts {
    single: HashMap<u16, ServiceId, RandomState>,
    /// The narrowest first.
    ranges: Vec<(Ports, ServiceId)>,
}

impl AtPorts {
    fn enter(&mut self, ports: Ports, id: ServiceId) {
        if ports.first == ports.last {
            self.single.insert(ports.first, id);
            return;
        }
        let at = self.ranges.partition_point(|(other, _)| other.width() <= ports.width());
        self.ranges.insert(at, (ports, id));
    }

    /// The one with the narrowest ports around this one, and how wide they are.
    fn find(&self, port: u16) -> Option<(u16, ServiceId)> {
        let single = self.single.get(&port).map(|id| (0, *id));
        single.or_else(|| {
            let (ports, id) = self.ranges.iter().find(|(ports, _)| ports.contains(port))?;
            Some((ports.width(), *id))
        })
    }
}

/// Which service claims a place for which clients.
#[derive(Clone, Debug, Default)]
pub(super) struct Claims {
    /// By VIP, protocol and who asks.
    of: HashMap<(IpAddr, u8, Group), AtPorts, RandomState>,
    /// VIPs and protocols with any: all others need not look.
    places: HashSet<(IpAddr, u8), RandomState>,
}

impl Claims {
    pub(super) fn enter(
        &mut self,
        id: ServiceId,
        protocol: u8,
        address: ServiceAddress,
        group: Group,
    ) {
        let ServiceAddress { vip, ports } = address;
        self.places.insert((vip, protocol));
        self.of.entry((vip, protocol, group)).or_default().enter(ports, id);
    }

    /// The service at that place for this client, if it is one for some clients.
    #[inline]
    pub(super) fn find(
        &self,
        networks: &Networks,
        client: IpAddr,
        (vip, port, protocol): (IpAddr, u16, u8),
    ) -> Option<ServiceId> {
        if self.places.is_empty() || !self.places.contains(&(vip, protocol)) {
            return None;
        }
        let claim = |group| self.of.get(&(vip, protocol, group))?.find(port);
        networks.around(client).find_map(|(first, length, lists)| {
            let lists = lists.places().map(Group::List);
            let groups = std::iter::once(Group::Network(first, length)).chain(lists);
            let narrowest = groups.filter_map(claim).min_by_key(|(width, _)| *width);
            narrowest.map(|(_, service)| service)
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::dataplane::access::Network;

    const VIP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 10));

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn at(first: u16, last: u16) -> ServiceAddress {
        ServiceAddress { vip: VIP, ports: Ports { first, last } }
    }

    #[test]
    fn the_longest_network_decides_and_ports_only_within_it() {
        let networks = Networks::new(
            [
                (address("10.0.0.0"), 8, ListSet::default()),
                (address("10.1.0.0"), 16, ListSet::of(0)),
                (address("10.1.0.0"), 16, ListSet::of(14)),
                (address("0.0.0.0"), 0, ListSet::default()),
                (address("2001:db8::"), 32, ListSet::of(0)),
            ]
            .into_iter(),
        );
        let mut claims = Claims::default();
        let ten = Group::Network(address("10.0.0.0"), 8);
        let all = Group::Network(address("0.0.0.0"), 0);
        for (id, place, group) in [
            (0, at(80, 80), ten),
            (1, at(0, 65_535), Group::List(0)),
            (2, at(80, 89), Group::List(14)),
            (3, at(443, 443), all),
        ] {
            claims.enter(ServiceId(id), 6, place, group);
        }
        let table = [
            ("10.2.0.1", 80, 6, Some(0)),
            ("10.2.0.1", 81, 6, None),
            ("10.2.0.1", 443, 6, Some(3)),
            ("10.1.0.1", 80, 6, Some(2)),
            ("10.1.0.1", 90, 6, Some(1)),
            ("10.1.0.1", 443, 6, Some(1)),
            ("10.1.0.1", 80, 17, None),
            ("192.0.2.1", 443, 6, Some(3)),
            ("192.0.2.1", 80, 6, None),
            ("2001:db8::1", 80, 6, Some(1)),
            ("2001:db9::1", 443, 6, None),
        ];
        for (client, port, protocol, expected) in table {
            let found = claims.find(&networks, address(client), (VIP, port, protocol));
            assert_eq!(found, expected.map(ServiceId), "{client} {port} {protocol}");
        }
        let elsewhere = (address("198.51.100.11"), 80, 6);
        assert_eq!(claims.find(&networks, address("10.2.0.1"), elsewhere), None);
    }

    fn group() -> impl Strategy<Value = (u8, u8, Option<u8>)> {
        (any::<u8>(), 0..=32u8, prop::option::of(0..3u8))
    }

    proptest! {
        /// What is found is what looking through all claims one by one says.
        #[test]
        fn a_claim_is_found_as_if_each_was_asked(
            written in prop::collection::vec(group(), 1..12),
            places in prop::collection::vec((0..4u16, 0..4u16), 12),
            probes in prop::collection::vec((any::<u8>(), 0..8u16), 1..20),
        ) {
            let host = |bits: u8| IpAddr::from([10, bits & 3, bits >> 6, bits & 0x0f]);
            let networks: Vec<_> = written.iter().map(|&(bits, length, list)| {
                let lists = list.map_or_else(ListSet::default, |list| ListSet::of(list.into()));
                (base(host(bits), length), length, lists)
            }).collect();
            let mut claims = Claims::default();
            // Each service names a network or, if that is on a list, the list.
            let services: Vec<_> = (0u32..).zip(&networks).zip(&written).zip(&places).map(
                |(((id, network), (_, _, list)), (first, more))| {
                    let group = list.map_or(Group::Network(network.0, network.1), Group::List);
                    let place = at(*first, first + more);
                    claims.enter(ServiceId(id), 6, place, group);
                    (ServiceId(id), group, place.ports)
                }).collect();
            let all = Networks::new(networks.iter().copied());
            for (bits, port) in probes {
                let client = host(bits);
                let length = |group: Group| {
                    let around = networks.iter().filter(|(base, length, lists)| {
                        let network = Network { base: *base, length: *length, lists: *lists };
                        let is_of = match group {
                            Group::Network(first, bits) => (first, bits) == (*base, *length),
                            Group::List(place) => lists.meets(ListSet::of(place.into())),
                        };
                        is_of && network.contains(client)
                    });
                    around.map(|(_, length, _)| *length).max()
                };
                let fit = services.iter().filter(|(_, _, ports)| ports.contains(port));
                let rank = |(id, group, ports): &(ServiceId, Group, Ports)| {
                    length(*group).map(|length| (length, u16::MAX - ports.width(), *id))
                };
                let best = fit.filter_map(rank).max();
                let found = claims.find(&all, client, (VIP, port, 6));
                let found_rank = found.map(|id| rank(&services[id.index()]).unwrap());
                // Of two alike either will do: validation refuses them.
                prop_assert_eq!(found_rank.map(|it| (it.0, it.1)), best.map(|it| (it.0, it.1)));
            }
        }
    }
}
