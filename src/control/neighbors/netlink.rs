//! The kernel's side: route questions, neighbour requests, dumps, and the multicast groups.
//!
//! Two sockets, because a multicast socket may lose messages (`ENOBUFS`) and a question must not.

use std::net::IpAddr;

use futures_util::{FutureExt, StreamExt, TryStreamExt};
use rtnetlink::packet_core::{NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourExtFlags, NeighbourFlags, NeighbourMessage,
    NeighbourState,
};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteType, RouteVia,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::{Handle, MulticastGroup};

use super::NeighborError;
use super::table::{Neighbor, Route, Via};
use crate::control::prefix::width;
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
const GROUPS: [MulticastGroup; 8] = [
    MulticastGroup::Neigh,
    MulticastGroup::Link,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv4Rule,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv6Route,
    MulticastGroup::Ipv6Rule,
];

/// How often [`Kernel::drain`] looks again.
const DRAIN_ROUNDS_MAX: usize = 100;

type Messages = futures_util::stream::LocalBoxStream<'static, NetlinkMessage<RouteNetlinkMessage>>;

/// The sockets.
pub struct Kernel {
    handle: Handle,
    messages: Messages,
}

impl Kernel {
    /// Opens both sockets. Needs the runtime.
    pub fn open() -> Result<Self, NeighborError> {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        tokio::spawn(connection);
        Ok(Self { handle, messages: listen()? })
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

    /// All neighbours, of both families.
    pub async fn neighbors(&self) -> Result<Vec<Neighbor>, rtnetlink::Error> {
        let mut neighbors = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let request = self.handle.neighbours().get().set_address_family(family);
            let messages: Vec<_> = request.execute().try_collect().await?;
            neighbors.extend(messages.iter().filter_map(neighbor));
        }
        Ok(neighbors)
    }

    /// Where the kernel would send a packet for `address`. `None` if nowhere, or to itself.
    pub async fn route(&self, address: IpAddr) -> Option<Route> {
        let mut question = RouteMessage::default();
        question.header.address_family = family(address);
        question.header.destination_prefix_length = width(address);
        question.attributes.push(RouteAttribute::Destination(address.into()));
        let answer = self.handle.route().get(question).execute().try_next().await;
        read_route(&answer.ok()??, address)
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
        let request = self.handle.neighbours().add(via.index, via.address);
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
        question.header.family = family(via.address);
        question.header.ifindex = via.index;
        let destination = via.address.into();
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

fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
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

/// A neighbour; `None` for bridge entries and the like.
fn neighbor(message: &NeighbourMessage) -> Option<Neighbor> {
    use NeighbourState as S;
    if !matches!(message.header.family, AddressFamily::Inet | AddressFamily::Inet6) {
        return None;
    }
    let mut address = None;
    let mut mac = None;
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(a)) => {
                address = Some(IpAddr::V4(*a));
            }
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(a)) => {
                address = Some(IpAddr::V6(*a));
            }
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

/// Where a route leads; `None` if nothing leaves by it. The gateway may be of the other family (RFC
/// 8950): what its frames say is its link-layer address, whichever protocol found that out.
fn read_route(route: &RouteMessage, address: IpAddr) -> Option<Route> {
    if route.header.kind != RouteType::Unicast {
        return None;
    }
    let mut index = None;
    let mut gateway = None;
    let mut our_address = None;
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Oif(oif) => index = Some(*oif),
            RouteAttribute::Gateway(via) => gateway = Some(ip(via)?),
            RouteAttribute::Via(RouteVia::Inet6(via)) => gateway = Some(IpAddr::V6(*via)),
            RouteAttribute::Via(RouteVia::Inet(via)) => gateway = Some(IpAddr::V4(*via)),
            RouteAttribute::Via(_) => return None,
            RouteAttribute::PrefSource(ours) => our_address = ip(ours),
            _ => {}
        }
    }
    let via = Via { index: index?, address: gateway.unwrap_or(address) };
    Some(Route { via, our_address })
}

/// The address in a route's attribute, if it is one of IP.
pub(in crate::control) fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some(IpAddr::V4(*address)),
        RouteAddress::Inet6(address) => Some(IpAddr::V6(*address)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    const A: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));
    const A6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2));

    fn message(state: NeighbourState, mac: Option<Vec<u8>>) -> NeighbourMessage {
        message_of(A, state, mac)
    }

    fn message_of(
        address: IpAddr,
        state: NeighbourState,
        mac: Option<Vec<u8>>,
    ) -> NeighbourMessage {
        let mut message = NeighbourMessage::default();
        message.header.family = family(address);
        message.header.ifindex = 3;
        message.header.state = state;
        let destination = NeighbourAttribute::Destination(address.into());
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
    fn an_ipv6_neighbour_is_one_too() {
        let reachable = NeighbourState::Reachable;
        let known = neighbor(&message_of(A6, reachable, Some(vec![2, 0, 0, 0, 0, 9]))).unwrap();
        let via = Via { index: 3, address: A6 };
        assert_eq!(known, Neighbor { via, mac: Some(Mac([2, 0, 0, 0, 0, 9])) });
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

    fn route_by(attributes: Vec<RouteAttribute>) -> RouteMessage {
        let mut route = RouteMessage::default();
        route.header.kind = RouteType::Unicast;
        route.attributes.push(RouteAttribute::Oif(3));
        route.attributes.extend(attributes);
        route
    }

    #[test]
    fn the_gateway_of_either_family_is_the_next_hop_else_the_destination_itself() {
        let gateway = Ipv4Addr::new(10, 0, 0, 254);
        let link_local: Ipv6Addr = "fe80::9".parse().unwrap();
        let via = |gateway: IpAddr| vec![RouteAttribute::Gateway(gateway.into())];
        let of_other_family = vec![RouteAttribute::Via(RouteVia::Inet6(link_local))];
        let table = [
            (A, vec![], A),
            (A, via(gateway.into()), gateway.into()),
            (A, of_other_family, link_local.into()),
            (A6, vec![], A6),
            (A6, via(link_local.into()), link_local.into()),
        ];
        for (to, attributes, next) in table {
            let route = Route { via: Via { index: 3, address: next }, our_address: None };
            assert_eq!(read_route(&route_by(attributes), to), Some(route), "{to} by {next}");
        }
    }

    #[test]
    fn an_address_of_the_boxs_own_is_no_backend() {
        let mut route = route_by(vec![]);
        route.header.kind = RouteType::Local;
        assert_eq!(read_route(&route, A), None);
    }

    #[test]
    fn our_address_is_the_source_the_kernel_prefers() {
        let ours = [Ipv4Addr::new(10, 0, 0, 1).into(), "fd00::1".parse().unwrap()];
        for (to, ours) in [A, A6].into_iter().zip(ours) {
            let route = route_by(vec![RouteAttribute::PrefSource(IpAddr::into(ours))]);
            let via = Via { index: 3, address: to };
            let expected = Route { via, our_address: Some(ours) };
            assert_eq!(read_route(&route, to), Some(expected));
        }
    }
}
