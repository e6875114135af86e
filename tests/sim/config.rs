//! What the balancer is configured to do, in the simulation's own words.
//!
//! The balancer's snapshot is made of it, and the model reads its rules from it: neither from the
//! other. A [`Change`] is a reload.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use shunt::dataplane::persistence::Persistence;
use shunt::dataplane::sched::Flags;
use shunt::dataplane::snapshot::{
    ClientAddress, IcmpOnEnd, Limit, Mode, Protocol, Quotas, Restarts, Scheduler, Timeouts,
};
use shunt::wire::Mac;

/// The whole of it.
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) services: Vec<Service>,
    /// What FULL-NAT backends see.
    pub(crate) locals: Vec<IpAddr>,
    /// Of the clients' port and the backends'.
    pub(crate) mtu: [u16; 2],
    pub(crate) timeouts: Timeouts,
    /// Are strays answered?
    pub(crate) rejects: bool,
    /// Are both ends told of a connection that ends here?
    pub(crate) resets: bool,
    /// And of one of UDP?
    pub(crate) icmp: IcmpOnEnd,
    /// May a tunnel's outer packet be cut, whatever the inner one says?
    pub(crate) ignores_df: bool,
    /// Which connections a client's SYN or INIT starts over.
    pub(crate) restarts: Restarts,
    /// Clients' addresses that are on the lists.
    pub(crate) lists: [Vec<IpAddr>; 2],
    /// Are flags that no host sends refused?
    pub(crate) drops_malformed: bool,
    /// Not draining.
    pub(crate) accepting: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Service {
    pub(crate) protocol: Protocol,
    /// Spoken there as well.
    pub(crate) also: Option<Protocol>,
    /// One place where it is found.
    pub(crate) vip: SocketAddr,
    /// All its ports there: the first and the last.
    pub(crate) ports: (u16, u16),
    pub(crate) scheduler: Scheduler,
    pub(crate) flags: Flags,
    /// How backends learn who the client is.
    pub(crate) introduces: ClientAddress,
    pub(crate) access: Access,
    /// From these ports, the first to the last, datagrams start nothing.
    pub(crate) reflected: Option<(u16, u16)>,
    /// The list of those it is for; everybody without one.
    pub(crate) clients: Option<usize>,
    /// Does it take over connections it has not seen begin?
    pub(crate) sloppy: bool,
    /// Is every datagram scheduled by itself?
    pub(crate) one_packet: bool,
    /// Do a client's connections stay with one backend?
    pub(crate) persistence: Option<Persistence>,
    /// How many it takes, and of each source.
    pub(crate) quotas: Quotas,
    /// If not everybody's.
    pub(crate) timeouts: Option<Timeouts>,
    /// Oldest first.
    pub(crate) backends: Vec<Backend>,
}

#[derive(Clone, Debug)]
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    /// Its port is the one the client asked at.
    pub(crate) any_port: bool,
    pub(crate) mac: Mac,
    pub(crate) mode: Mode,
    /// It is in NAT mode, or was.
    pub(crate) was_nat: bool,
    /// `None`: removed.
    pub(crate) weight: Option<u32>,
    /// The last one above zero.
    pub(crate) last_weight: u32,
    /// When it has had enough.
    pub(crate) limit: Limit,
    /// Its link address is known.
    pub(crate) reachable: bool,
}

/// Who may start connections: nobody on the one list, nobody who is not on the other.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Access {
    pub(crate) denied: Option<usize>,
    pub(crate) allowed: Option<usize>,
}

/// One backend of one service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) service: usize,
    pub(crate) backend: usize,
}

/// A reload, or an order.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// A weight, or `None` to remove the backend.
    Weight(Place, Option<u32>),
    /// New connections are forwarded so.
    Mode(Place, Mode),
    /// The kernel lost or found the next hop.
    Reachable(Place, bool),
    /// A port carries this much from now on.
    Mtu(usize, u16),
    /// Are strays answered?
    Rejects(bool),
    /// Are both ends told of a connection that ends here?
    Resets(bool),
    Icmp(IcmpOnEnd),
    /// Who may start connections to a service.
    Access(usize, Access),
    /// Are flags that no host sends refused?
    Malformed(bool),
    /// From which ports datagrams start nothing.
    Reflected(usize, Option<(u16, u16)>),
    /// Which connections start over.
    Restarts(Restarts),
    /// Timeouts.
    Timeouts(Timeouts),
    /// When a backend has had enough.
    Limit(Place, Limit),
    /// Who stays where, of a service.
    Persistence(usize, Option<Persistence>),
    /// How many a service takes.
    Quotas(usize, Quotas),
    /// A service's own timeouts.
    Own(usize, Option<Timeouts>),
    /// The connections of these backends end: an order.
    Clear(Vec<Place>),
    /// No new connections.
    Drain,
}

/// The balancer's own address on the backends' side, of either family.
pub(crate) fn our_address(is_v6: bool) -> IpAddr {
    if is_v6 {
        return Ipv6Addr::new(0xfd44, 0, 0, 0, 0, 0, 0, 1).into();
    }
    Ipv4Addr::new(10, 44, 0, 1).into()
}

impl Config {
    pub(crate) fn backend(&self, place: Place) -> &Backend {
        &self.services[place.service].backends[place.backend]
    }

    pub(crate) fn apply(&mut self, change: &Change) {
        match change {
            Change::Weight(place, weight) => self.backend_mut(*place).weigh(*weight),
            Change::Mode(place, mode) => self.backend_mut(*place).set_mode(*mode),
            Change::Reachable(place, reachable) => self.backend_mut(*place).reachable = *reachable,
            Change::Mtu(port, mtu) => self.mtu[*port] = *mtu,
            Change::Rejects(rejects) => self.rejects = *rejects,
            Change::Resets(resets) => self.resets = *resets,
            Change::Icmp(icmp) => self.icmp = *icmp,
            Change::Access(service, access) => self.services[*service].access = *access,
            Change::Malformed(drops) => self.drops_malformed = *drops,
            Change::Reflected(service, ports) => self.services[*service].reflected = *ports,
            Change::Restarts(restarts) => self.restarts = *restarts,
            Change::Timeouts(timeouts) => self.timeouts = *timeouts,
            Change::Limit(place, limit) => self.backend_mut(*place).limit = *limit,
            Change::Persistence(service, terms) => self.services[*service].persistence = *terms,
            Change::Quotas(service, quotas) => self.services[*service].quotas = *quotas,
            Change::Own(service, timeouts) => self.services[*service].timeouts = *timeouts,
            Change::Clear(_) => {}
            Change::Drain => self.accepting = false,
        }
    }

    /// How long connections of a service may be silent.
    pub(crate) fn timeouts_of(&self, service: usize) -> &Timeouts {
        self.services[service].timeouts.as_ref().unwrap_or(&self.timeouts)
    }

    /// The service for that: one that is for this client before one for everybody, then the one with
    /// the fewest ports, if there are several.
    pub(crate) fn service_at(
        &self,
        protocol: Protocol,
        client: IpAddr,
        asked: SocketAddr,
    ) -> Option<usize> {
        let is_there = |service: &Service| {
            let (first, last) = service.ports;
            let is_its_port = (first..=last).contains(&asked.port());
            let is_its_client =
                service.clients.is_none_or(|list| self.lists[list].contains(&client));
            let is_its_place = service.speaks(protocol) && service.vip.ip() == asked.ip();
            is_its_place && is_its_port && is_its_client
        };
        let all = self.services.iter().enumerate().filter(|(_, service)| is_there(service));
        let rank =
            |service: &Service| (service.clients.is_none(), service.ports.1 - service.ports.0);
        all.min_by_key(|(_, service)| rank(service)).map(|(at, _)| at)
    }

    /// May this client start connections to the service?
    pub(crate) fn admits(&self, service: usize, client: IpAddr) -> bool {
        let Access { denied, allowed } = self.services[service].access;
        let is_on = |list: usize| self.lists[list].contains(&client);
        !denied.is_some_and(is_on) && allowed.is_none_or(is_on)
    }

    /// Is this a backend's address?
    pub(crate) fn has_host(&self, address: IpAddr) -> bool {
        let mut backends = self.services.iter().flat_map(|service| &service.backends);
        backends.any(|backend| backend.address.ip() == address)
    }

    /// Has this address a backend whose answers to clients pass here?
    pub(crate) fn is_at_nat_backend(&self, address: IpAddr) -> bool {
        let mut backends = self.services.iter().flat_map(|service| &service.backends);
        backends.any(|b| b.address.ip() == address && b.was_nat && b.weight.is_some())
    }

    fn backend_mut(&mut self, place: Place) -> &mut Backend {
        &mut self.services[place.service].backends[place.backend]
    }
}

impl Service {
    /// Is it found by that protocol?
    pub(crate) fn speaks(&self, protocol: Protocol) -> bool {
        self.protocol == protocol || self.also == Some(protocol)
    }
}

impl Backend {
    /// Where it serves who asked at that port.
    pub(crate) fn serves_at(&self, asked: u16) -> SocketAddr {
        let port = if self.any_port { asked } else { self.address.port() };
        SocketAddr::new(self.address.ip(), port)
    }

    /// Could it have sent this?
    pub(crate) fn is_at(&self, address: SocketAddr) -> bool {
        self.serves_at(address.port()) == address
    }

    /// Would it get packets from itself, if that client was sent to it?
    pub(crate) fn is_client(&self, address: IpAddr) -> bool {
        self.mode != Mode::Fullnat && self.address.ip() == address
    }

    fn weigh(&mut self, weight: Option<u32>) {
        self.weight = weight;
        self.last_weight = weight.filter(|w| *w > 0).unwrap_or(self.last_weight);
    }

    pub(crate) fn set_mode(&mut self, mode: Mode) {
        self.mode = mode;
        self.was_nat |= mode == Mode::Nat;
    }
}
