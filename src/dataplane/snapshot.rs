//! What workers may see of the world: immutable, complete, replaced as a whole.
//!
//! The control plane compiles a snapshot, publishes it through the mailbox, and frees it when the
//! last worker has sent it back. Tables are indexed by stable ids; a `None` is an id not in use, or
//! a backend that was removed while connections still name it.

use std::net::IpAddr;
use std::sync::Arc;

use super::access::{Access, ListSet, Membership};
use super::conn::key::FlowKey;
use super::conn::state::State;
use super::cookie::Secret;
use super::family::Family;
use super::persistence::Persistence;
pub use super::quota::{Quota, Quotas, Rate, SourceQuota};
pub use super::sched::{Scheduler, Scheduling};
use crate::ids::{BackendId, PortId, ServiceId};
pub use crate::stats::loads::Limit;
use crate::wire::vlan::Tags;
use crate::wire::{Mac, ether};

mod addresses;
mod clients;
mod hops;
mod seats;
mod terms;
mod timeouts;
mod weighings;

use addresses::AddressTable;
pub use clients::{Group, Networks};
use hops::Hops;
pub use hops::{Hop, Station, Stations, Way};
use seats::Seats;
pub(crate) use seats::{Row, room_max};
pub use terms::{
    ClientAddress, Encapsulation, GueChecksum, IcmpOnEnd, Locals, Mode, Ping, Place, Ports,
    Protocol, Restarts, ServiceAddress, Strays, SynCookies,
};
use timeouts::Sets;
pub use timeouts::Timeouts;
pub(crate) use weighings::gcd;
pub use weighings::{Weighing, Weighings};

/// Where a frame goes on the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextHop {
    /// Outgoing port.
    pub port: PortId,
    /// Source address of the frame: the outgoing port's own.
    pub source: Mac,
    /// Destination address of the frame: the gateway's or the backend's.
    pub destination: Mac,
}

impl NextHop {
    /// The front of a frame that goes there.
    #[inline]
    pub const fn pair(self) -> ether::Pair {
        ether::Pair::new(self.destination, self.source)
    }
}

/// One backend of one service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backend {
    /// The service it belongs to.
    pub service: ServiceId,
    /// Its address.
    pub address: IpAddr,
    /// Its port; 0 keeps the port the client asked for.
    pub port: u16,
    /// How packets reach it.
    pub mode: Mode,
    /// Do its answers to clients pass here as they are: is it in NAT mode, or was it, so that
    /// connections of that time may live?
    pub answers_here: bool,
    /// Our own address towards it: the outer source of tunnel packets. Of `address`'s family.
    pub our_address: IpAddr,
    /// Its share of new connections; 0 drains: no new connections, existing ones live.
    pub weight: u32,
    /// When it has had enough.
    pub limit: Limit,
    /// How to reach it; `None` while the kernel has not resolved it.
    pub next_hop: Option<NextHop>,
}

impl Backend {
    /// Is it the client of that address, in a mode in which it would get packets from itself?
    #[inline]
    pub fn is_client(&self, address: IpAddr) -> bool {
        self.mode != Mode::Fullnat && self.address == address
    }
}

/// One service: where clients find it, and who serves it. The default is one that nobody finds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// Its name in the configuration.
    pub name: Box<str>,
    /// Balanced protocol; the first if there are several.
    pub protocol: Protocol,
    /// Where clients find it by that one; never empty, one family.
    pub addresses: Box<[ServiceAddress]>,
    /// Where they find it by others.
    pub other_protocols: Box<[Place]>,
    /// Whose service it is; empty for everybody's.
    pub clients: Box<[Group]>,
    /// How a backend is chosen.
    pub scheduling: Scheduling,
    /// Its backends, *newest first*: the order IPVS walks and every scheduler here relies on.
    pub backends: Box<[BackendId]>,
    /// How many were added to the service before each of `backends` and since gone or not: falls from
    /// the first to the last. Empty where ids tell as much: higher ones came later.
    pub ages: Box<[u64]>,
    /// Addresses FULL-NAT may use towards the backends, by family.
    pub locals: Locals,
    /// Is every datagram scheduled by itself (UDP)?
    pub one_packet: bool,
    /// May packets that are not a connection's first start one (TCP, SCTP)?
    pub sloppy: bool,
    /// How backends learn the client's address.
    pub client_address: ClientAddress,
    /// Clients on one of these lists bring it themselves.
    pub client_address_from: ListSet,
    /// Do a client's connections go to one backend?
    pub persistence: Option<Persistence>,
    /// Who may start connections.
    pub access: Access,
    /// When SYNs are answered with cookies (TCP).
    pub syn_cookies: SynCookies,
    /// Is a backend asked only when the client has said something?
    pub syn_cookies_wait_for_data: bool,
    /// Timeouts by state, if not the snapshot's.
    pub timeouts: Option<Box<Timeouts>>,
    /// How many connections it takes, and how many new ones a second.
    pub quotas: Quotas,
    /// Source ports of datagrams that start nothing (UDP).
    pub reflection_ports: Box<[u16]>,
    /// Grows by one when the set, order or weights of `backends` change: schedulers restart on it.
    pub revision: u64,
    /// What their weights were after the latest changes.
    pub weighings: Weighings,
    /// Another one after the id was another service's, or nobody's: schedulers know nothing of it then.
    pub life: u64,
}

impl Service {
    /// Everywhere clients find it.
    pub fn places(&self) -> impl Iterator<Item = Place> + '_ {
        let own = |address: &ServiceAddress| Place { protocol: self.protocol, address: *address };
        self.addresses.iter().map(own).chain(self.other_protocols.iter().copied())
    }

    /// What is spoken there; some of it perhaps several times.
    pub fn protocols(&self) -> impl Iterator<Item = Protocol> + '_ {
        std::iter::once(self.protocol)
            .chain(self.other_protocols.iter().map(|place| place.protocol))
    }

    /// The age of the backend at that place of the list.
    pub fn age(&self, position: usize) -> Option<u64> {
        let by_id = || self.backends.get(position).map(|id| u64::from(id.0));
        self.ages.get(position).copied().or_else(by_id)
    }

    /// The first place whose backend was added before one of that age; past the end if none was.
    pub fn first_below(&self, age: u64) -> usize {
        if self.ages.is_empty() {
            return self.backends.partition_point(|id| u64::from(id.0) >= age);
        }
        self.ages.partition_point(|other| *other >= age)
    }

    /// Does anybody get new connections, as far as its scheduler goes?
    pub fn is_scheduled(&self) -> bool {
        self.scheduling.scheduler != Scheduler::NONE
    }
}

/// How packets received by a port find their owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Steering {
    /// The port spreads flows by Toeplitz over the 4-tuple with this key and redirection table:
    /// a flow stays with the queue that got its first packet.
    Rss {
        /// The hash key, 40 or 52 bytes.
        key: Box<[u8]>,
        /// Hash (low bits) to queue, a power of two long. Queue *n* belongs to worker *n*.
        table: Box<[u16]>,
    },
    /// Nothing is known of how the port spreads packets: the owner is computed in software and the
    /// packet handed over if another worker got it.
    Software,
}

/// What is under a port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Link {
    /// A device of its own.
    #[default]
    Device,
    /// The frames of another port's device that carry these tags. Ports of this kind come after all
    /// of the other.
    Tagged {
        /// The port with the device.
        on: PortId,
        /// Which frames.
        tags: Tags,
    },
}

/// A port as workers see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortView {
    /// Its link-layer address.
    pub mac: Mac,
    /// Longest IP packet it sends.
    pub mtu: u16,
    /// How its packets find their owner.
    pub steering: Steering,
    /// What is under it.
    pub link: Link,
}

/// The world, as one generation of the configuration and the kernel's neighbour table make it.
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Counts publications, from 1.
    pub generation: u64,
    /// By [`PortId`].
    pub ports: Box<[PortView]>,
    /// By [`ServiceId`]; as long as the highest id in use.
    pub services: Box<[Option<Service>]>,
    /// By [`BackendId`]; as long as the highest id in use.
    pub backends: Box<[Option<Backend>]>,
    /// Services that had a backend in NAT mode. It may be gone, but the owners of the service's
    /// other connections followed from the client when they were made, and must not move.
    pub had_nat: Box<[ServiceId]>,
    /// Timeouts by state, of services without any of their own.
    pub timeouts: Timeouts,
    /// Answer to strays.
    pub strays: Strays,
    /// Are segments that no host sends dropped, if they are of no connection?
    pub drop_malformed_tcp: bool,
    /// Which connections a SYN starts over.
    pub restarts: Restarts,
    /// Are both ends told when a connection of TCP or SCTP ends here, and not by them?
    pub reset_on_end: bool,
    /// When are those of a flow of UDP?
    pub icmp_on_end: IcmpOnEnd,
    /// How backends are reached that were removed and whose connections may still be here, by id.
    pub departed: Box<[(BackendId, NextHop)]>,
    /// VIPs that no service has any more, whose connections may still be here.
    pub left_vips: Box<[IpAddr]>,
    /// The same of local addresses.
    pub left_locals: Box<[IpAddr]>,
    /// Where frames of other boxes with the same VIPs come from: what these pass on is not scheduled again.
    pub directors: Box<[Mac]>,
    /// Answer to pings.
    pub ping: Ping,
    /// Is DF of a tunnel's outer header clear whatever the inner one says, so that the outer
    /// packet may be cut (IPVS `pmtu_disc=0`)?
    pub tunnels_ignore_df: bool,
    /// False while draining before exit: no new connections.
    pub accepting: bool,
    /// What SYN cookies are keyed with, and what they were keyed with before.
    pub cookie_secrets: [Secret; 2],
    /// Packets a second each worker may punt to the kernel.
    pub punt_per_second: u32,
    /// Addresses of the box itself, if its own programs are clients of its services; else none.
    pub own: Box<[IpAddr]>,
    /// Networks that tell services' clients apart.
    pub client_networks: Arc<Networks>,
    /// Which configured lists an address is in; `None` without any.
    pub members: Option<Arc<dyn Membership>>,
    /// Built from the fields above by [`Snapshot::indexed`].
    addresses: AddressTable,
    /// Likewise.
    hops: Hops,
    /// Likewise.
    seats: Seats,
    /// Likewise.
    timeout_sets: Sets,
    /// Likewise.
    limited: Box<[ServiceId]>,
}

impl Snapshot {
    /// Builds the lookup tables from `self`'s services. Call once, after the fields are set.
    #[must_use]
    pub fn indexed(mut self) -> Self {
        self.addresses = AddressTable::new(&self);
        self.hops = Hops::new(&self);
        self.seats = Seats::new(&self);
        let own = self.services.iter().map(|service| service.as_ref()?.timeouts.as_deref());
        self.timeout_sets = Sets::new(&self.timeouts, own);
        let all = (0..).map(ServiceId).zip(&self.services);
        let is_limited = |service: &Option<Service>| {
            service.as_ref().is_some_and(|service| service.quotas.service.connections > 0)
        };
        self.limited = all.filter(|(_, service)| is_limited(service)).map(|(id, _)| id).collect();
        self
    }

    /// The port of that id, whichever of its sides is meant.
    #[inline(always)]
    pub fn port(&self, id: PortId) -> Option<&PortView> {
        self.ports.get(id.link().index())
    }

    /// Is this a client on the box itself?
    #[inline]
    pub fn is_own(&self, address: IpAddr) -> bool {
        self.addresses.is_own(address)
    }

    /// The port of that id as frames see it.
    #[inline(always)]
    pub fn station(&self, id: PortId) -> Station {
        self.hops.stations.of(id)
    }

    /// All of them.
    #[inline(always)]
    pub fn stations(&self) -> &Stations {
        &self.hops.stations
    }

    /// The way to the backend of that id.
    #[inline(always)]
    pub fn hop(&self, id: BackendId) -> Hop {
        self.hops.to(id)
    }

    /// Our address and the backend's of that id, as an outer IPv4 header has them; `None` if they are not
    /// known in IPv4.
    #[inline(always)]
    pub fn outer_ends(&self, id: BackendId) -> Option<u64> {
        self.hops.outer_ends(id)
    }

    /// The service for a VIP, port and protocol: one for some clients that this client is one of, the
    /// longest network deciding; else one for everybody. Among either: the one at that very port, else the
    /// one with the narrowest range around it, the catch-all last.
    #[inline]
    pub fn service_for(&self, client: IpAddr, place: (IpAddr, u16, u8)) -> Option<ServiceId> {
        self.addresses.service_for(client, place)
    }

    /// The service that a client's packets with this key are for.
    #[inline]
    pub(in crate::dataplane) fn service_of<F: Family>(&self, key: FlowKey<F>) -> Option<ServiceId> {
        let place = (key.destination().into(), key.destination_port(), key.protocol);
        self.service_for(key.source().into(), place)
    }

    /// Does the owner of this service's connections follow from the client alone?
    #[inline]
    pub fn is_by_client(&self, service: ServiceId) -> bool {
        self.addresses.is_by_client(service)
    }

    /// Is this a backend whose packets to clients are answers of NAT mode?
    #[inline]
    pub fn is_nat_backend(&self, address: IpAddr, port: u16, protocol: u8) -> bool {
        self.addresses.is_nat_backend(address, port, protocol)
    }

    /// Is this such a backend, of a service whose connections any packet of a client starts?
    #[inline]
    pub fn is_sloppy_backend(&self, address: IpAddr, port: u16, protocol: u8) -> bool {
        self.addresses.is_sloppy_backend(address, port, protocol)
    }

    /// Is this the address of a backend whose packets to clients are answers of NAT mode?
    #[inline]
    pub fn has_nat_backend(&self, address: IpAddr) -> bool {
        self.towards_nat_backend(address).is_some()
    }

    /// Our own address towards such a backend.
    #[inline]
    pub fn towards_nat_backend(&self, address: IpAddr) -> Option<IpAddr> {
        self.addresses.towards_nat_backend(address)
    }

    /// Is this some service's VIP?
    #[inline]
    pub fn is_vip(&self, address: IpAddr) -> bool {
        self.addresses.vip(address).is_some()
    }

    /// Is this some service's VIP, or was it one of late, so that connections may be there?
    #[inline]
    pub fn has_clients_at(&self, address: IpAddr) -> bool {
        self.is_vip(address) || self.addresses.was_vip(address)
    }

    /// Are there other boxes with the same VIPs?
    #[inline]
    pub fn has_directors(&self) -> bool {
        !self.directors.is_empty()
    }

    /// Does another box with the same VIPs send frames from there?
    #[inline]
    pub fn is_director(&self, sender: Mac) -> bool {
        self.directors.contains(&sender)
    }

    /// Is this a VIP with a backend that takes new connections?
    #[inline]
    pub fn is_live_vip(&self, address: IpAddr) -> bool {
        self.addresses.vip(address).unwrap_or(false)
    }

    /// Is this a local address of some service?
    #[inline]
    pub fn is_local(&self, address: IpAddr) -> bool {
        self.addresses.is_local(address)
    }

    /// Is this some service's local address, or was it one of late, so that backends may answer to it?
    #[inline]
    pub fn has_backends_at(&self, address: IpAddr) -> bool {
        self.is_local(address) || self.addresses.was_local(address)
    }

    /// Is it [`Snapshot::has_backends_at`] and not [`Snapshot::has_clients_at`]? One question in place of both.
    #[inline]
    pub(in crate::dataplane) fn is_for_answers(&self, address: IpAddr) -> bool {
        self.addresses.is_for_answers(address)
    }

    /// May this client start a connection to the service?
    #[inline]
    pub fn admits(&self, service: ServiceId, client: IpAddr) -> bool {
        let access = self.service(service).map_or_else(Access::default, |service| service.access);
        let lists = || self.members.as_ref().map(|members| members.lists_of(client));
        access.is_open() || access.admits(lists().unwrap_or_default())
    }

    /// How to reach a backend, also one that was removed a moment ago.
    pub fn way_to(&self, id: BackendId) -> Option<NextHop> {
        let departed = || {
            let at = self.departed.binary_search_by_key(&id, |(departed, _)| *departed).ok()?;
            self.departed.get(at).map(|(_, hop)| *hop)
        };
        self.backend(id).map_or_else(departed, |backend| backend.next_hop)
    }

    /// Milliseconds without a packet after which a connection of the service, in that state, is
    /// forgotten.
    #[inline(always)]
    pub fn timeout_ms(&self, service: ServiceId, state: State) -> u32 {
        self.timeout_sets.ms(service, state)
    }

    /// How backends of a service learn this client's address: not from us if it brings its own, or if
    /// there is no way in its protocol.
    #[inline]
    pub fn introduction(&self, service: &Service, client: IpAddr, protocol: u8) -> ClientAddress {
        let trusted = service.client_address_from;
        let lists = || self.members.as_ref().map(|members| members.lists_of(client));
        if !trusted.is_empty() && trusted.meets(lists().unwrap_or_default()) {
            return ClientAddress::None;
        }
        let over = |protocol| service.client_address.over(protocol);
        Protocol::from_number(protocol).map_or(ClientAddress::None, over)
    }

    /// Where backends sit in their services' lists.
    #[inline]
    pub(crate) fn seats(&self) -> &Seats {
        &self.seats
    }

    /// Services whose connections are limited in number.
    pub(crate) fn limited(&self) -> &[ServiceId] {
        &self.limited
    }

    /// The service of that id, if it exists.
    #[inline]
    pub fn service(&self, id: ServiceId) -> Option<&Service> {
        self.services.get(id.index())?.as_ref()
    }

    /// The backend of that id, if it exists.
    #[inline]
    pub fn backend(&self, id: BackendId) -> Option<&Backend> {
        self.backends.get(id.index())?.as_ref()
    }
}
