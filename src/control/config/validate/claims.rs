//! Who may be asked where: no two services for the same clients at one place.
//!
//! ```text
//!  0 ─────────────────────────────────────────────── 65535    catch-all of `all`
//!          80 ────────────── 100                               `some`, inside it: the narrower is asked
//!                   90 ───────────── 110                       meets `some`, neither inside: refused
//! ```
//!
//! Claims of one VIP and protocol are taken by their first port, the widest first. Whatever was taken before thus
//! begins no later, and meets the one at hand if it ends inside it. That is asked of what is kept by where it ends,
//! for each group of clients by itself, so a VIP with ten thousand services for as many networks costs ten thousand
//! questions and not as many for each.
//!
//! Lists make groups that are not strangers: a network and each list it is on, two lists with a network in common.
//! They are few ([`ListSet::LISTS_MAX`](crate::dataplane::access::ListSet)), so each claim asks those it is related to.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::ops::Range;

use super::super::error::Problems;
use super::super::plan::{ClientGroup, ClientList, Service};
use super::groups::Rivals;
use super::vips::PlacedVip;
use crate::dataplane::snapshot::{Ports, Protocol, ServiceAddress};

/// A claim to ports of a VIP: where it is written, and by which service.
struct Claim<'a> {
    address: ServiceAddress,
    span: &'a Range<usize>,
    service: &'a Service,
}

/// No two services for the same clients have the same address, or ranges that meet with neither inside the
/// other.
pub(super) fn unique<'a>(
    problems: &mut Problems,
    services: impl Iterator<Item = (&'a Service, &'a [PlacedVip], &'a [Protocol])>,
    lists: &'a [ClientList],
) {
    let rivals = Rivals::new(lists);
    let mut claims: BTreeMap<(Protocol, IpAddr), Vec<Claim<'_>>> = BTreeMap::new();
    for (service, addresses, protocols) in services {
        for ((address, span), protocol) in addresses.iter().zip(protocols) {
            let claim = Claim { address: *address, span, service };
            claims.entry((*protocol, address.vip)).or_default().push(claim);
        }
    }
    for ((protocol, _), mut claims) in claims {
        // Sorting keeps the order of the file between equals: the later one is told of the earlier.
        claims.sort_by_key(|claim| {
            let Ports { first, last } = claim.address.ports;
            (first, Reverse(last))
        });
        refuse_meeting(problems, protocol, &claims, &rivals);
    }
}

/// Of claims sorted by first port, the widest first.
fn refuse_meeting<'a>(
    problems: &mut Problems,
    protocol: Protocol,
    claims: &[Claim<'a>],
    rivals: &Rivals<'a>,
) {
    let mut taken = Taken::default();
    for (place, claim) in claims.iter().enumerate() {
        let related = taken.related(&claim.service.clients, rivals);
        let of = |found: Option<usize>| found.and_then(|place| claims.get(place));
        let ports = claim.address.ports;
        if let Some(other) = of(first_of(&related, |ends| ends.same(ports))) {
            same(problems, protocol, claim, (other, rivals));
        } else if let Some(other) = of(first_of(&related, |ends| ends.meeting(ports))) {
            meeting(problems, protocol, claim, (other, rivals));
        }
        taken.take(place, claim, rivals);
    }
}

fn same<'a>(
    problems: &mut Problems,
    protocol: Protocol,
    claim: &Claim<'a>,
    (other, rivals): (&Claim<'a>, &Rivals<'a>),
) {
    let (address, service) = (claim.address, &other.service.name);
    let whose = rivals.common(&other.service.clients, &claim.service.clients).unwrap_or_default();
    let message = format!("{protocol} {address} is the address of service `{service}` too{whose}");
    problems.error(claim.span.clone(), message);
}

/// Said at the later of the two.
fn meeting<'a>(
    problems: &mut Problems,
    protocol: Protocol,
    claim: &Claim<'a>,
    (other, rivals): (&Claim<'a>, &Rivals<'a>),
) {
    let whose = rivals.common(&other.service.clients, &claim.service.clients).unwrap_or_default();
    let (at, of) =
        if claim.span.start > other.span.start { (claim, other) } else { (other, claim) };
    let (address, earlier, service) = (at.address, of.address, &of.service.name);
    let message = format!(
        "{protocol} {address} overlaps {earlier} of service `{service}`, and neither lies inside \
         the other{whose}"
    );
    problems.error(at.span.clone(), message);
}

/// Of whom a claim is kept: `None` for everybody.
type Whose<'a> = Option<&'a ClientGroup>;

/// Claims taken so far, at one VIP and protocol.
#[derive(Default)]
struct Taken<'a> {
    of: HashMap<Whose<'a>, Ends>,
    /// Those of networks that are on the list: whom a claim of the whole list asks.
    on_list: HashMap<&'a str, Ends>,
    /// Lists that somebody here claims for.
    lists: Vec<&'a ClientGroup>,
}

/// Claims for the same clients, each by its place among all.
#[derive(Default)]
struct Ends {
    /// The first with these very ports.
    same: HashMap<Ports, usize>,
    /// The first that ends there.
    by_last: BTreeMap<u16, usize>,
}

impl Ends {
    fn take(&mut self, place: usize, ports: Ports) {
        self.same.entry(ports).or_insert(place);
        self.by_last.entry(ports.last).or_insert(place);
    }

    fn same(&self, ports: Ports) -> Option<usize> {
        self.same.get(&ports).copied()
    }

    /// One that ends inside these ports, and before they do.
    fn meeting(&self, Ports { first, last }: Ports) -> Option<usize> {
        if first >= last {
            return None;
        }
        self.by_last.range(first..last).next().map(|(_, place)| *place)
    }
}

/// The earliest that any of them finds.
fn first_of(related: &[&Ends], find: impl Fn(&Ends) -> Option<usize>) -> Option<usize> {
    related.iter().filter_map(|ends| find(ends)).min()
}

impl<'a> Taken<'a> {
    /// What is kept for anybody these clients may be among.
    fn related(&self, clients: &'a [ClientGroup], rivals: &Rivals<'a>) -> Vec<&Ends> {
        if clients.is_empty() {
            return self.of.get(&None).into_iter().collect();
        }
        let mut related: Vec<&Ends> = Vec::new();
        for group in clients {
            related.extend(self.of.get(&Some(group)));
            let lists = self.lists.iter().filter(|list| **list != group);
            let lists = lists.filter(|list| rivals.shared(list, group).is_some());
            related.extend(lists.filter_map(|list| self.of.get(&Some(*list))));
            if let ClientGroup::List(name) = group {
                related.extend(self.on_list.get(name.as_str()));
            }
        }
        related
    }

    fn take(&mut self, place: usize, claim: &Claim<'a>, rivals: &Rivals<'a>) {
        let (ports, service) = (claim.address.ports, claim.service);
        let clients = &service.clients;
        if clients.is_empty() {
            self.of.entry(None).or_default().take(place, ports);
        }
        for group in clients {
            let ends = self.of.entry(Some(group)).or_default();
            if ends.same.is_empty() && matches!(group, ClientGroup::List(_)) {
                self.lists.push(group);
            }
            ends.take(place, ports);
            for list in rivals.lists_with(group) {
                self.on_list.entry(list).or_default().take(place, ports);
            }
        }
    }
}
