//! Wanted addresses, their routes, and the neighbours behind them. Pure: no I/O, no time.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::dataplane::snapshot::NextHop;
use crate::ids::PortId;
use crate::wire::Mac;

/// A TAP the mirror cares about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its index in the kernel.
    pub index: u32,
    /// The port it is the twin of.
    pub port: PortId,
    /// The port's link-layer address.
    pub mac: Mac,
    /// Its addresses: where the kernel prefers none, we speak from the first of the backend's
    /// family.
    pub addresses: Vec<IpAddr>,
}

/// An address on a link: what a neighbour entry is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Via {
    /// Index of the link.
    pub index: u32,
    /// The gateway's address, which may be of the other family, or the destination's own when it is
    /// on the link.
    pub address: IpAddr,
}

/// What the kernel decides about packets to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Where they go.
    pub via: Via,
    /// The source it would give them, if it has a preference.
    pub our_address: Option<IpAddr>,
}

/// How an address is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// Where frames go on the link.
    pub next_hop: NextHop,
    /// Our own address towards it, of its family; unspecified if the link has none.
    pub our_address: IpAddr,
}

/// What the kernel says of a neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbor {
    /// Who.
    pub via: Via,
    /// Its link-layer address, while the kernel would use it.
    pub mac: Option<Mac>,
}

/// The outcome: ways to what is wanted, and what has none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// By wanted address.
    pub ways: HashMap<IpAddr, Way>,
    /// Wanted addresses without a route through one of our TAPs.
    pub unrouted: Vec<IpAddr>,
    /// Wanted addresses whose next hop has not answered.
    pub unanswered: Vec<IpAddr>,
}

impl View {
    /// Is there a way to everything wanted?
    pub fn complete(&self) -> bool {
        self.unrouted.is_empty() && self.unanswered.is_empty()
    }
}

/// The mirror.
#[derive(Debug)]
pub struct Table {
    links: Vec<Link>,
    wanted: BTreeMap<IpAddr, Option<Route>>,
    /// How many of them each next hop is of.
    needed: HashMap<Via, usize>,
    neighbors: HashMap<Via, Mac>,
}

impl Table {
    /// An empty table for these links.
    pub fn new(links: Vec<Link>) -> Self {
        let (wanted, needed, neighbors) = (BTreeMap::new(), HashMap::new(), HashMap::new());
        Self { links, wanted, needed, neighbors }
    }

    /// Replaces the wants; returns those that are new and have no route yet.
    pub fn want(&mut self, addresses: &[IpAddr]) -> Vec<IpAddr> {
        let addresses: BTreeSet<_> = addresses.iter().copied().collect();
        let needed = &mut self.needed;
        self.wanted.retain(|address, route| {
            let stays = addresses.contains(address);
            if let Some(route) = route.filter(|_| !stays) {
                drop_one(needed, route.via);
            }
            stays
        });
        let new = addresses.into_iter().filter(|address| !self.wanted.contains_key(address));
        let new: Vec<_> = new.collect();
        self.wanted.extend(new.iter().map(|address| (*address, None)));
        new
    }

    /// Everything wanted.
    pub fn wanted(&self) -> Vec<IpAddr> {
        self.wanted.keys().copied().collect()
    }

    /// Sets the route of a wanted address. Routes through links that are not ours are none.
    pub fn set_route(&mut self, address: IpAddr, route: Option<Route>) {
        let route = route.filter(|route| self.link(route.via.index).is_some());
        let Some(known) = self.wanted.get_mut(&address) else { return };
        if let Some(before) = std::mem::replace(known, route) {
            drop_one(&mut self.needed, before.via);
        }
        if let Some(route) = route {
            *self.needed.entry(route.via).or_default() += 1;
        }
    }

    /// Takes in a change. True if it may change a next hop.
    pub fn apply(&mut self, neighbor: Neighbor) -> bool {
        let Neighbor { via, mac } = neighbor;
        if self.link(via.index).is_none() {
            return false;
        }
        let before = match mac {
            Some(mac) => self.neighbors.insert(via, mac),
            None => self.neighbors.remove(&via),
        };
        before != mac && self.needed.contains_key(&via)
    }

    /// Replaces all neighbours by what a dump said.
    pub fn replace(&mut self, neighbors: Vec<Neighbor>) {
        self.neighbors.clear();
        for neighbor in neighbors {
            self.apply(neighbor);
        }
    }

    /// The next hops of everything wanted: what the kernel shall keep resolved.
    pub fn targets(&self) -> BTreeSet<Via> {
        self.needed.keys().copied().collect()
    }

    /// Next hops without a link-layer address.
    pub fn silent_targets(&self) -> BTreeSet<Via> {
        self.targets().into_iter().filter(|via| !self.neighbors.contains_key(via)).collect()
    }

    /// The outcome now.
    pub fn view(&self) -> View {
        let mut view = View::default();
        for (address, route) in &self.wanted {
            match route.map(|route| self.way(*address, route)) {
                None => view.unrouted.push(*address),
                Some(None) => view.unanswered.push(*address),
                Some(Some(way)) => {
                    view.ways.insert(*address, way);
                }
            }
        }
        view
    }

    fn way(&self, to: IpAddr, Route { via, our_address }: Route) -> Option<Way> {
        let link = self.link(via.index)?;
        let destination = *self.neighbors.get(&via)?;
        let next_hop = NextHop { port: link.port, source: link.mac, destination };
        let first = || link.addresses.iter().find(|ours| ours.is_ipv4() == to.is_ipv4()).copied();
        let our_address = our_address.or_else(first).unwrap_or_else(|| unspecified(to));
        Some(Way { next_hop, our_address })
    }

    fn link(&self, index: u32) -> Option<&Link> {
        self.links.iter().find(|link| link.index == index)
    }
}

/// One less needs this next hop.
fn drop_one(needed: &mut HashMap<Via, usize>, via: Via) {
    if let Some(count) = needed.get_mut(&via) {
        *count -= 1;
        if *count == 0 {
            needed.remove(&via);
        }
    }
}

/// No address, of the same family.
pub(in crate::control) fn unspecified(like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));
    const B: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 9, 0, 3));
    const GATEWAY: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 254));
    const SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 9));
    const FIRST: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
    const OURS: u32 = 7;

    fn mac(last: u8) -> Mac {
        Mac([2, 0, 0, 0, 0, last])
    }

    fn via(address: IpAddr) -> Via {
        Via { index: OURS, address }
    }

    /// A route to which the kernel would give the source [`SOURCE`].
    fn route(address: IpAddr) -> Route {
        Route { via: via(address), our_address: Some(SOURCE) }
    }

    fn link() -> Link {
        Link { index: OURS, port: PortId(1), mac: mac(1), addresses: vec![FIRST] }
    }

    fn table() -> Table {
        let mut table = Table::new(vec![link()]);
        assert_eq!(table.want(&[A, B, A]), [A, B]);
        table.set_route(A, Some(route(A)));
        table.set_route(B, Some(route(GATEWAY)));
        table
    }

    fn way(destination: Mac) -> Way {
        let next_hop = NextHop { port: PortId(1), source: mac(1), destination };
        Way { next_hop, our_address: SOURCE }
    }

    #[test]
    fn a_backend_on_the_link_is_its_own_next_hop_and_one_behind_a_gateway_is_not() {
        let mut table = table();
        assert!(table.apply(Neighbor { via: via(A), mac: Some(mac(2)) }));
        assert!(table.apply(Neighbor { via: via(GATEWAY), mac: Some(mac(3)) }));
        let view = table.view();
        assert_eq!(view.ways, HashMap::from([(A, way(mac(2))), (B, way(mac(3)))]));
        assert!(view.complete());
    }

    #[test]
    fn our_address_is_the_kernels_choice_else_the_links_first_of_that_family_else_none() {
        let six = |last| IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last));
        let (v4, v6) = (unspecified(A), unspecified(six(2)));
        let both = vec![six(1), FIRST, six(3)];
        let rows = [
            (A, Some(SOURCE), both.clone(), SOURCE),
            (A, None, both.clone(), FIRST),
            (A, None, vec![six(1)], v4),
            (six(2), Some(six(9)), both.clone(), six(9)),
            (six(2), None, both, six(1)),
            (six(2), None, vec![FIRST], v6),
        ];
        for (to, our_address, addresses, expected) in rows {
            let mut table = Table::new(vec![Link { addresses, ..link() }]);
            table.want(&[to]);
            table.set_route(to, Some(Route { via: via(to), our_address }));
            table.apply(Neighbor { via: via(to), mac: Some(mac(2)) });
            assert_eq!(table.view().ways[&to].our_address, expected);
        }
    }

    #[test]
    fn what_is_not_answered_and_what_is_not_routed_are_told_apart() {
        let mut table = table();
        table.set_route(B, None);
        let view = table.view();
        assert_eq!((view.unanswered, view.unrouted), (vec![A], vec![B]));
        assert_eq!(table.silent_targets(), BTreeSet::from([via(A)]));
    }

    #[test]
    fn a_route_through_somebody_elses_interface_is_none() {
        let mut table = table();
        let via = Via { index: 99, address: A };
        table.set_route(A, Some(Route { via, our_address: Some(SOURCE) }));
        assert_eq!(table.view().unrouted, [A]);
        assert!(!table.apply(Neighbor { via: Via { index: 99, address: A }, mac: Some(mac(2)) }));
    }

    #[test]
    fn only_changes_to_next_hops_in_use_count() {
        let mut table = table();
        let known = Neighbor { via: via(A), mac: Some(mac(2)) };
        assert!(table.apply(known));
        assert!(!table.apply(known), "the same again");
        assert!(table.apply(Neighbor { mac: Some(mac(9)), ..known }), "another MAC");
        assert!(table.apply(Neighbor { mac: None, ..known }), "failed");
        assert!(!table.apply(Neighbor { mac: None, ..known }), "still failed");
        let other = via(Ipv4Addr::new(10, 0, 0, 77).into());
        assert!(!table.apply(Neighbor { via: other, mac: Some(mac(5)) }), "nobody's next hop");
    }

    #[test]
    fn wants_that_go_take_their_targets_with_them_and_those_that_stay_keep_their_routes() {
        let mut table = table();
        assert_eq!(table.want(&[B]), [] as [IpAddr; 0]);
        assert_eq!(table.targets(), BTreeSet::from([via(GATEWAY)]));
    }

    #[test]
    fn a_dump_replaces_what_was_known() {
        let mut table = table();
        table.apply(Neighbor { via: via(A), mac: Some(mac(2)) });
        table.replace(vec![Neighbor { via: via(GATEWAY), mac: Some(mac(3)) }]);
        assert_eq!(table.view().ways, HashMap::from([(B, way(mac(3)))]));
    }
}
