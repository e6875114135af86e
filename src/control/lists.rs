//! Lists of client networks, from the plan to what workers look up.
//!
//! ```text
//! list office   10.0.0.0/8 , 192.0.2.0/24        10.0.0.0/8    office
//! list bots     10.1.2.3   , 198.51.100.0/24 ──► 10.1.2.3      office, bots     ──► Membership
//!                                    (flatten)   192.0.2.0/24  office          (DPDK's rte_fib)
//!                                                198.51.…      bots
//! ```
//!
//! Every network carries the lists of all networks around it, so that finding the longest one is
//! finding them all. One that would say nothing new is left out.
//!
//! The networks that tell services' clients apart (`clients`) are looked up as they are, by their length
//! ([`Networks`]): there it is the longest one that counts, and many services may each have their own.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use super::config::plan::{ClientGroup, ClientList, Plan, Service};
use super::prefix::same_network;
use crate::dataplane::access::{Access, ListSet, Membership, Network};
use crate::dataplane::snapshot::{Group, Networks};

/// Makes flattened networks ready for lookup; the error says what there is too much of.
pub type MakeMembers = Arc<dyn Fn(&[Network]) -> Result<Arc<dyn Membership>, String> + Send + Sync>;

/// The networks of all lists, IPv4 first, by base and length, each with all lists it is in.
pub fn flatten(lists: &[ClientList]) -> Vec<Network> {
    let mut all: Vec<Network> = Vec::new();
    for (place, list) in lists.iter().enumerate() {
        let lists = ListSet::of(place);
        all.extend(list.networks.iter().map(|&(base, length)| Network { base, length, lists }));
    }
    all.sort_unstable_by_key(|network| (network.base, network.length));
    let mut flat: Vec<Network> = Vec::with_capacity(all.len());
    // Networks around the one at hand, each inside the one before.
    let mut around: Vec<Network> = Vec::new();
    for mut network in all {
        while around.last().is_some_and(|outer| !contains(outer, network.base)) {
            around.pop();
        }
        let known = around.last().map_or_else(ListSet::default, |outer| outer.lists);
        network.lists = network.lists.and(known);
        if network.lists == known {
            continue;
        }
        match around.last_mut() {
            // The same network in two lists.
            Some(same) if same.length == network.length => {
                same.lists = network.lists;
                if let Some(last) = flat.last_mut() {
                    last.lists = network.lists;
                }
            }
            _ => {
                around.push(network);
                flat.push(network);
            }
        }
    }
    flat
}

fn contains(outer: &Network, address: IpAddr) -> bool {
    same_network(outer.base, address, outer.length)
}

/// What a service makes of the plan's lists: its own `allow` and `deny`, and everybody's `deny`.
pub(super) fn access(plan: &Plan, service: &Service) -> Access {
    let set = |names| lists(plan, names);
    Access { deny: set(&plan.deny).and(set(&service.deny)), allow: set(&service.allow) }
}

/// The plan's lists of these names.
pub(super) fn lists(plan: &Plan, names: &[String]) -> ListSet {
    let place = |name: &String| plan.lists.iter().position(|list| list.name == *name);
    let places = names.iter().filter_map(place);
    places.map(ListSet::of).fold(ListSet::default(), ListSet::and)
}

/// A service's `clients` as workers see them.
pub(super) fn groups(plan: &Plan, service: &Service) -> Box<[Group]> {
    let group = |group: &ClientGroup| match group {
        ClientGroup::Network(first, length) => Some(Group::Network(*first, *length)),
        ClientGroup::List(name) => {
            let place = plan.lists.iter().position(|list| list.name == *name)?;
            u8::try_from(place).ok().map(Group::List)
        }
    };
    service.clients.iter().filter_map(group).collect()
}

/// What tells services' clients apart, kept from one compilation to the next: most change nothing
/// about it, and lists may be long.
#[derive(Debug, Default)]
pub(super) struct Told {
    groups: BTreeSet<ClientGroup>,
    lists: Vec<ClientList>,
    networks: Arc<Networks>,
}

impl Told {
    /// The networks that tell the clients of this plan's services apart.
    pub(super) fn of(&mut self, plan: &Plan) -> Arc<Networks> {
        let all = plan.services.iter().flat_map(|service| &service.clients);
        let groups: BTreeSet<ClientGroup> = all.cloned().collect();
        let uses_lists = groups.iter().any(|group| matches!(group, ClientGroup::List(_)));
        if groups != self.groups || (uses_lists && plan.lists != self.lists) {
            self.networks = Arc::new(networks(&groups, &plan.lists));
            (self.groups, self.lists) = (groups, plan.lists.clone());
        }
        Arc::clone(&self.networks)
    }
}

fn networks(groups: &BTreeSet<ClientGroup>, lists: &[ClientList]) -> Networks {
    let written = groups.iter().filter_map(|group| match group {
        ClientGroup::Network(first, length) => Some((*first, *length, ListSet::default())),
        ClientGroup::List(_) => None,
    });
    let named = (0..).zip(lists).filter(|(_, list)| {
        groups.iter().any(|group| matches!(group, ClientGroup::List(name) if *name == list.name))
    });
    let listed = named.flat_map(|(place, list)| {
        list.networks.iter().map(move |&(first, length)| (first, length, ListSet::of(place)))
    });
    Networks::new(written.chain(listed))
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;
    use crate::control::prefix::base;
    use crate::dataplane::access::Listed;

    fn list(name: &str, networks: &[(IpAddr, u8)]) -> ClientList {
        ClientList { name: name.into(), networks: networks.into() }
    }

    /// Networks that often lie in one another.
    fn network() -> impl Strategy<Value = (IpAddr, u8)> {
        let v4 = (any::<u8>(), 0..=32u8).prop_map(|(bits, length)| {
            let address = Ipv4Addr::new(10, bits & 3, bits >> 6, bits & 0x0f);
            (base(address.into(), length), length)
        });
        let v6 = (any::<u8>(), 0..=128u8).prop_map(|(bits, length)| {
            let [a, b] = [u16::from(bits & 3), u16::from(bits >> 4)];
            (base(Ipv6Addr::new(0x2001, 0xdb8, a, 0, 0, 0, 0, b).into(), length), length)
        });
        prop_oneof![v4, v6]
    }

    proptest! {
        /// An address is in a list if a network of it contains the address: nothing else counts,
        /// neither order nor what lies around or is listed twice.
        #[test]
        fn flattened_lists_say_of_every_address_what_the_lists_say(
            written in prop::collection::vec(prop::collection::vec(network(), 0..12), 0..5),
            probes in prop::collection::vec(network(), 1..20),
        ) {
            let lists: Vec<_> = written.iter().map(|networks| list("any", networks)).collect();
            let flat = Listed(flatten(&lists));
            for (address, _) in probes {
                let mut expected = ListSet::default();
                for (place, networks) in written.iter().enumerate() {
                    if networks.iter().any(|&(base, length)| same_network(base, address, length)) {
                        expected = expected.and(ListSet::of(place));
                    }
                }
                prop_assert_eq!(flat.lists_of(address), expected, "{}", address);
            }
        }

        /// What a network says differs from what the one around it says.
        #[test]
        fn no_flattened_network_is_there_for_nothing(
            written in prop::collection::vec(prop::collection::vec(network(), 0..12), 0..5),
        ) {
            let lists: Vec<_> = written.iter().map(|networks| list("any", networks)).collect();
            let flat = flatten(&lists);
            for (place, one) in flat.iter().enumerate() {
                let mut others = flat.clone();
                others.remove(place);
                prop_assert_ne!(Listed(others).lists_of(one.base), one.lists, "{:?}", one);
            }
        }
    }
}
