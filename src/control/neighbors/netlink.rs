//! The kernel's side: route questions, neighbour requests, dumps, and the multicast groups.
//!
//! Two sockets, because a multicast socket may lose messages (`ENOBUFS`) and a question must not.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use futures_util::{FutureExt, StreamExt, TryStreamExt};
use rtnetlink::packet_core::{NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourExtFlags, NeighbourFlags, NeighbourMessage,
    NeighbourState,
};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::{Handle, MulticastGroup};

use super::NeighborError;
use super::table::{Neighbor, Route, Via};
use crate::wire::Mac;

/// What the kernel announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A neighbour came, changed or went.
    Neighbor(Neighbor),
    /// A route, rule, link or address did: any route may be another one now.
    Routing,
    /// Messages were lost.
    Lost,
}

/// Groups whose messages can change a next hop.
const GROUPS: [MulticastGroup; 5] = [
    MulticastGroup::Neigh,
    MulticastGroup::Link,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv4Rule,
];

/// How often [`Kernel::drain`] looks again.
const DRAIN_ROUNDS_MAX: usize = 100;

type Messages = futures_util::stream::LocalBoxStream<'static, NetlinkMessage<RouteNetlinkMessage>>;

/// The sockets.
pub struct Kernel {
    handle: Handle,
    messages: Messages,
    /// Backends already told of in the log as routed by a next hop that is not IPv4.
    other_family: BTreeSet<Ipv4Addr>,
}

impl Kernel {
    /// Opens both sockets. Needs the runtime.
    pub fn open() -> Result<Self, NeighborError> {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        tokio::spawn(connection);
        Ok(Self { handle, messages: listen()?, other_family: BTreeSet::new() })
    }

    /// The next announcement that matters. Opens the socket anew if it broke.
    pub async fn event(&mut self) -> Event {
        while let Some(message) = self.messages.next().await {
            if let Some(event) = read(&message.payload) {
                return event;
            }
        }
        tokio::time::sleep(super::RETRY).await;
        match listen() {
            Ok(messages) => self.messages = messages,
            Err(error) => tracing::warn!(%error, "netlink not opened again"),
        }
        Event::Lost
    }

    /// Throws away what is queued, before a dump: messages from before a loss would be applied after
    /// the dump and bring back what has changed since. Gives up on a storm that does not end; what
    /// it says then is newer than the loss.
    pub async fn drain(&mut self) {
        for _ in 0..DRAIN_ROUNDS_MAX {
            // The socket is read by a task of its own: let it.
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            let mut dropped = 0;
            while let Some(Some(_)) = self.messages.next().now_or_never() {
                dropped += 1;
            }
            if dropped == 0 {
                return;
            }
        }
    }

    /// All IPv4 neighbours.
    pub async fn neighbors(&self) -> Result<Vec<Neighbor>, rtnetlink::Error> {
        let request = self.handle.neighbours().get().set_address_family(AddressFamily::Inet);
        let messages: Vec<_> = request.execute().try_collect().await?;
        Ok(messages.iter().filter_map(neighbor).collect())
    }

    /// Where the kernel would send a packet for `address`. `None` if nowhere, or to itself.
    pub async fn route(&mut self, address: Ipv4Addr) -> Option<Route> {
        let mut question = RouteMessage::default();
        question.header.address_family = AddressFamily::Inet;
        question.header.destination_prefix_length = 32;
        question.attributes.push(RouteAttribute::Destination(RouteAddress::Inet(address)));
        let answer = self.handle.route().get(question).execute().try_next().await;
        let leads = read_route(&answer.ok()??, address);
        if leads != Leads::OtherFamily {
            self.other_family.remove(&address);
        } else if self.other_family.insert(address) {
            tracing::warn!(backend = %address, "its route leads by a next hop that is not IPv4 (RTA_VIA): not supported, no next hop");
        }
        match leads {
            Leads::By(route) => Some(route),
            Leads::Nowhere | Leads::OtherFamily => None,
        }
    }

    /// Asks the kernel to resolve a neighbour and, with `keep`, to keep it resolved by itself.
    /// Failures are not errors: the neighbour will simply stay unknown and be asked for again.
    ///
    /// A permanent entry is left alone. It needs no asking, and `NTF_USE` would make it an ordinary
    /// one: the operator's static MAC would be lost.
    pub async fn ask(&self, via: Via, keep: bool) {
        if self.permanent(via).await {
            return;
        }
        let request = self.handle.neighbours().add(via.index, IpAddr::V4(via.address));
        let request = request.state(NeighbourState::None).flags(NeighbourFlags::Use);
        let mut request = request.replace();
        if keep {
            let managed = NeighbourAttribute::ExtFlags(NeighbourExtFlags::Managed);
            request.message_mut().attributes.push(managed);
        }
        if let Err(error) = request.execute().await {
            tracing::debug!(address = %via.address, %error, "the kernel does not ask for a neighbour");
        }
    }
}

impl Kernel {
    /// Has somebody set this neighbour by hand?
    async fn permanent(&self, via: Via) -> bool {
        let mut question = NeighbourMessage::default();
        question.header.family = AddressFamily::Inet;
        question.header.ifindex = via.index;
        let destination = NeighbourAddress::Inet(via.address);
        question.attributes.push(NeighbourAttribute::Destination(destination));
        let mut request = NetlinkMessage::from(RouteNetlinkMessage::GetNeighbour(question));
        request.header.flags = NLM_F_REQUEST;
        let Ok(mut answers) = self.handle.clone().request(request) else { return false };
        match answers.next().await.map(|answer| answer.payload) {
            Some(NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewNeighbour(found))) => {
                found.header.state == NeighbourState::Permanent
            }
            _ => false,
        }
    }
}

fn listen() -> Result<Messages, NeighborError> {
    let (connection, _, messages) = rtnetlink::new_multicast_connection(&GROUPS)?;
    tokio::spawn(connection);
    Ok(messages.map(|(message, _)| message).boxed_local())
}

/// What a message means here; `None` if nothing.
fn read(payload: &NetlinkPayload<RouteNetlinkMessage>) -> Option<Event> {
    use RouteNetlinkMessage as M;
    let message = match payload {
        NetlinkPayload::Overrun(_) => return Some(Event::Lost),
        NetlinkPayload::InnerMessage(message) => message,
        _ => return None,
    };
    match message {
        M::NewNeighbour(message) => neighbor(message).map(Event::Neighbor),
        M::DelNeighbour(message) => {
            neighbor(message).map(|gone| Event::Neighbor(Neighbor { mac: None, ..gone }))
        }
        M::NewRoute(_)
        | M::DelRoute(_)
        | M::NewRule(_)
        | M::DelRule(_)
        | M::NewLink(_)
        | M::DelLink(_)
        | M::NewAddress(_)
        | M::DelAddress(_) => Some(Event::Routing),
        _ => None,
    }
}

/// An IPv4 neighbour; `None` for other families and bridge entries.
fn neighbor(message: &NeighbourMessage) -> Option<Neighbor> {
    use NeighbourState as S;
    if message.header.family != AddressFamily::Inet {
        return None;
    }
    let mut address = None;
    let mut mac = None;
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(a)) => address = Some(*a),
            NeighbourAttribute::LinkLayerAddress(bytes) => {
                mac = <[u8; 6]>::try_from(bytes.as_slice()).ok().map(Mac);
            }
            _ => {}
        }
    }
    let usable = matches!(
        message.header.state,
        S::Reachable | S::Stale | S::Delay | S::Probe | S::Permanent
    );
    let via = Via { index: message.header.ifindex, address: address? };
    Some(Neighbor { via, mac: mac.filter(|_| usable) })
}

/// Where a route leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leads {
    /// Nothing leaves by it.
    Nowhere,
    /// To this neighbour, from this address.
    By(Route),
    /// To a neighbour of another family: RFC 5549 and the like.
    OtherFamily,
}

fn read_route(route: &RouteMessage, address: Ipv4Addr) -> Leads {
    if route.header.kind != RouteType::Unicast {
        return Leads::Nowhere;
    }
    let mut index = None;
    let mut gateway = None;
    let mut our_address = None;
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Oif(oif) => index = Some(*oif),
            RouteAttribute::Gateway(RouteAddress::Inet(via)) => gateway = Some(*via),
            RouteAttribute::PrefSource(RouteAddress::Inet(ours)) => our_address = Some(*ours),
            RouteAttribute::Via(_) => return Leads::OtherFamily,
            _ => {}
        }
    }
    let Some(index) = index else { return Leads::Nowhere };
    let via = Via { index, address: gateway.unwrap_or(address) };
    Leads::By(Route { via, our_address })
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

    fn message(state: NeighbourState, mac: Option<Vec<u8>>) -> NeighbourMessage {
        let mut message = NeighbourMessage::default();
        message.header.family = AddressFamily::Inet;
        message.header.ifindex = 3;
        message.header.state = state;
        let destination = NeighbourAttribute::Destination(NeighbourAddress::Inet(A));
        message.attributes.push(destination);
        message.attributes.extend(mac.map(NeighbourAttribute::LinkLayerAddress));
        message
    }

    #[test]
    fn a_mac_counts_while_the_kernel_would_use_it() {
        use NeighbourState as S;
        let table = [
            (S::Reachable, true),
            (S::Stale, true),
            (S::Delay, true),
            (S::Probe, true),
            (S::Permanent, true),
            (S::Incomplete, false),
            (S::Failed, false),
            (S::None, false),
        ];
        for (state, usable) in table {
            let known = neighbor(&message(state, Some(vec![2, 0, 0, 0, 0, 9]))).unwrap();
            assert_eq!(known.mac.is_some(), usable, "{state:?}");
        }
    }

    #[test]
    fn a_link_layer_address_of_another_length_is_none() {
        let odd = neighbor(&message(NeighbourState::Reachable, Some(vec![1, 2]))).unwrap();
        assert_eq!(odd.mac, None);
    }

    #[test]
    fn other_families_are_not_neighbours_of_ours() {
        let mut other = message(NeighbourState::Reachable, None);
        other.header.family = AddressFamily::Bridge;
        assert_eq!(neighbor(&other), None);
    }

    #[test]
    fn a_deleted_neighbour_has_no_mac_whatever_the_message_carries() {
        let gone = message(NeighbourState::Reachable, Some(vec![2, 0, 0, 0, 0, 9]));
        let payload = NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelNeighbour(gone));
        let via = Via { index: 3, address: A };
        assert_eq!(read(&payload), Some(Event::Neighbor(Neighbor { via, mac: None })));
    }

    #[test]
    fn lost_messages_are_told() {
        assert_eq!(read(&NetlinkPayload::Overrun(vec![])), Some(Event::Lost));
    }

    #[test]
    fn the_gateway_is_the_next_hop_else_the_destination_itself() {
        let mut route = RouteMessage::default();
        route.header.kind = RouteType::Unicast;
        route.attributes.push(RouteAttribute::Oif(3));
        let by = |address| Leads::By(Route { via: Via { index: 3, address }, our_address: None });
        assert_eq!(read_route(&route, A), by(A));
        let gateway = Ipv4Addr::new(10, 0, 0, 254);
        route.attributes.push(RouteAttribute::Gateway(RouteAddress::Inet(gateway)));
        assert_eq!(read_route(&route, A), by(gateway));
        route.header.kind = RouteType::Local;
        let here = "an address of the box's own is no backend";
        assert_eq!(read_route(&route, A), Leads::Nowhere, "{here}");
    }

    #[test]
    fn our_address_is_the_source_the_kernel_prefers() {
        let mut route = RouteMessage::default();
        route.header.kind = RouteType::Unicast;
        route.attributes.push(RouteAttribute::Oif(3));
        let ours = Ipv4Addr::new(10, 0, 0, 1);
        route.attributes.push(RouteAttribute::PrefSource(RouteAddress::Inet(ours)));
        let via = Via { index: 3, address: A };
        assert_eq!(read_route(&route, A), Leads::By(Route { via, our_address: Some(ours) }));
    }
}
