//! `clients` of a service: whose it is; and which services may be found at one place because of it.
//!
//! ```text
//! "10.0.0.0/8"  a network       ┐ of all services at a place (VIP, protocol, ports) the one with the longest
//! "192.0.2.7"   one client      ├ network around a client serves it: so the same network twice at one place
//! "office"      a list's name   ┘ is an error, written as it is or on a list
//! ```

use std::cell::RefCell;
use std::collections::HashMap;

use super::super::error::Problems;
use super::super::explain::did_you_mean;
use super::super::plan::{ClientGroup, ClientList};
use super::super::schema::{self, Spanned};
use super::lists::{Network, Wrong, network};
use super::vips::PlacedVip;
use crate::control::prefix::family;

/// Most networks and lists of one service: more are better kept in a list.
const GROUPS_MAX: usize = 64;

/// Whose the service is; empty for everybody's. `None` if one of them cannot be read: what would follow
/// from it is not judged then.
pub(super) fn clients(
    problems: &mut Problems,
    written: &schema::Service,
    vips: &[PlacedVip],
    lists: &[&str],
) -> Option<Vec<ClientGroup>> {
    let (mut groups, mut is_known) = (Vec::new(), true);
    for (number, value) in written.clients.iter().flat_map(Spanned::get_ref).enumerate() {
        if number >= GROUPS_MAX {
            let message = format!("more than {GROUPS_MAX} networks and lists in one `clients`");
            problems.error_help(value.span(), message, "a [[list]] holds as many as are needed");
            break;
        }
        let Some(group) = group(problems, value, vips, lists) else {
            is_known = false;
            continue;
        };
        if groups.contains(&group) {
            problems.error(value.span(), format!("clients: {group} is listed twice"));
        } else {
            groups.push(group);
        }
    }
    is_known.then_some(groups)
}

fn group(
    problems: &mut Problems,
    value: &Spanned<String>,
    vips: &[PlacedVip],
    lists: &[&str],
) -> Option<ClientGroup> {
    let text = value.get_ref();
    let wrong = match network(text) {
        Ok((first, length)) => {
            let vip = vips.first().map_or(first, |(address, _)| address.vip);
            if vip.is_ipv4() != first.is_ipv4() {
                let (own, other) = (family(first), family(vip));
                let message =
                    format!("clients: {text} is {own}, and this service's address is {other}");
                problems.error(value.span(), message);
            }
            return Some(ClientGroup::Network(first, length));
        }
        Err(wrong) => wrong,
    };
    if lists.contains(&text.as_str()) {
        return Some(ClientGroup::List(text.clone()));
    }
    let is_network = text.contains(['/', ':']) || !text.contains(|c: char| c.is_alphabetic());
    let Wrong { message, help } = wrong;
    if is_network {
        problems.error_help(value.span(), format!("clients: {message}"), help);
    } else {
        let help = did_you_mean(text, lists);
        let help = help.unwrap_or_else(|| "a network, or a [[list]] with that `name`".into());
        problems.error_help(value.span(), format!("clients: there is no list `{text}`"), help);
    }
    None
}

/// What two services' `clients` have in common. Lists are compared once for each pair.
pub(super) struct Rivals<'a> {
    lists: &'a [ClientList],
    compared: RefCell<HashMap<(&'a str, &'a str), Option<Network>>>,
}

impl<'a> Rivals<'a> {
    pub(super) fn new(lists: &'a [ClientList]) -> Self {
        Self { lists, compared: RefCell::default() }
    }

    /// Could one client be meant by both alike? Then, in words, which; everybody goes without saying.
    pub(super) fn common(
        &self,
        some: &'a [ClientGroup],
        others: &'a [ClientGroup],
    ) -> Option<String> {
        if some.is_empty() || others.is_empty() {
            return (some.is_empty() && others.is_empty()).then(String::new);
        }
        let mut pairs = some.iter().flat_map(|one| others.iter().map(move |other| (one, other)));
        let group = pairs.find_map(|(one, other)| self.shared(one, other))?;
        Some(format!(", for clients of {group}"))
    }

    /// A network of clients that both mean, or the list that both are.
    pub(super) fn shared(
        &self,
        one: &'a ClientGroup,
        other: &'a ClientGroup,
    ) -> Option<ClientGroup> {
        use ClientGroup::{List, Network};
        let found = match (one, other) {
            _ if one == other => return Some(one.clone()),
            (Network(..), Network(..)) => None,
            (&Network(first, length), List(name)) | (List(name), &Network(first, length)) => {
                let place = (first, length);
                self.networks(name).binary_search(&place).is_ok().then_some(place)
            }
            (List(one), List(other)) => {
                let mut compared = self.compared.borrow_mut();
                *compared.entry((one, other)).or_insert_with(|| {
                    let (one, other) = (self.networks(one), self.networks(other));
                    one.iter().find(|network| other.binary_search(network).is_ok()).copied()
                })
            }
        };
        found.map(|(first, length)| Network(first, length))
    }

    /// The lists that have this network on them, if it is one.
    pub(super) fn lists_with(&self, group: &ClientGroup) -> impl Iterator<Item = &'a str> {
        let network = match group {
            ClientGroup::Network(first, length) => Some((*first, *length)),
            ClientGroup::List(_) => None,
        };
        let has = move |list: &&'a ClientList| {
            network.is_some_and(|network| list.networks.binary_search(&network).is_ok())
        };
        self.lists.iter().filter(has).map(|list| list.name.as_str())
    }

    /// In order.
    fn networks(&self, name: &str) -> &'a [Network] {
        let list = self.lists.iter().find(|list| list.name == name);
        list.map_or(&[], |list| &list.networks)
    }
}
