//! Which addresses are ours, and which service a VIP, protocol and port name.
//!
//! Asked for packets of no connection only. A service may be found at several addresses, at a
//! range of ports, or, port 0, at every port of a VIP that nobody else claims: the most specific
//! wins, as in IPVS. Services for some clients ([`super::clients`]) come before those for everybody, as
//! IPVS's of a firewall mark do.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use foldhash::fast::RandomState;

use super::clients::{Claims, Networks};
use super::{Backend, Place, Ports, Protocol, Service, ServiceAddress, Snapshot};
use crate::ids::ServiceId;

/// A VIP, a port and a protocol in two words: hashed in a third of the time an [`IpAddr`] takes, with every
/// new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct PlaceKey {
    address: u128,
    /// Protocol, family, port, from the highest byte down.
    rest: u32,
}

impl PlaceKey {
    #[inline]
    fn new(vip: IpAddr, port: u16, protocol: u8) -> Self {
        let (address, family) = match vip {
            IpAddr::V4(vip) => (vip.to_bits().into(), 4),
            IpAddr::V6(vip) => (vip.to_bits(), 6),
        };
        Self { address, rest: u32::from(protocol) << 24 | family << 16 | u32::from(port) }
    }
}

/// Which addresses are ours, and which service a VIP, protocol and port name.
#[derive(Clone, Debug, Default)]
pub(super) struct AddressTable {
    /// Services for some clients, and what these are known by.
    claims: Claims,
    networks: Arc<Networks>,
    /// Services for everybody at one port.
    services: HashMap<PlaceKey, ServiceId, RandomState>,
    /// Such at several: narrow ranges first, so that the first that contains the port is it.
    ranges: HashMap<(IpAddr, u8), Vec<(Ports, ServiceId)>, RandomState>,
    /// Services some backend of which sees or saw the client itself and answers through this box: their
    /// connections are owned by a worker that follows from the client alone.
    by_client: HashSet<ServiceId, RandomState>,
    /// Those backends, and whether their service is sloppy; port 0 stands for any.
    nat_backends: HashMap<(IpAddr, u16, u8), bool, RandomState>,
    /// Their addresses alone, and ours towards each.
    nat_addresses: HashMap<IpAddr, IpAddr, RandomState>,
    /// VIPs, and whether some service there has a backend that takes new connections.
    vips: HashMap<IpAddr, bool, RandomState>,
    /// Local addresses: backends' answers name no other address.
    locals: HashSet<IpAddr, RandomState>,
    /// What were VIPs of late.
    left_vips: HashSet<IpAddr, RandomState>,
    /// What were local addresses of late.
    left_locals: HashSet<IpAddr, RandomState>,
    /// What is, or was of late, a local address and no VIP: packets there are answers, whatever else they are.
    answers: HashSet<PlaceKey, RandomState>,
    /// The box's own, if they may be clients'.
    own: HashSet<IpAddr, RandomState>,
}

impl AddressTable {
    /// The table of a snapshot's services and backends.
    pub(super) fn new(snapshot: &Snapshot) -> Self {
        let own = snapshot.own.iter().copied().collect();
        let networks = Arc::clone(&snapshot.client_networks);
        let mut table = Self { networks, own, ..Self::default() };
        for (id, service) in (0u32..).zip(snapshot.services.iter()) {
            let Some(service) = service else { continue };
            let mut backends = service.backends.iter().filter_map(|id| snapshot.backend(*id));
            let is_live = service.is_scheduled() && backends.any(|backend| backend.weight > 0);
            table.enter(ServiceId(id), service, is_live);
        }
        for backend in snapshot.backends.iter().flatten() {
            if let Some(service) = snapshot.service(backend.service) {
                table.enter_backend(service, backend);
            }
        }
        table.left_vips.extend(snapshot.left_vips.iter());
        table.left_locals.extend(snapshot.left_locals.iter());
        table.by_client.extend(snapshot.had_nat.iter());
        let locals = table.locals.iter().chain(&table.left_locals).copied();
        let is_no_vip = |at: &IpAddr| !table.vips.contains_key(at) && !table.left_vips.contains(at);
        table.answers =
            locals.filter(is_no_vip).map(|address| PlaceKey::new(address, 0, 0)).collect();
        for ranges in table.ranges.values_mut() {
            ranges.sort_by_key(|(ports, _)| ports.width());
        }
        table
    }

    fn enter(&mut self, id: ServiceId, service: &Service, is_live: bool) {
        for Place { protocol, address } in service.places() {
            let (ServiceAddress { vip, ports }, protocol) = (address, protocol as u8);
            for group in &service.clients {
                self.claims.enter(id, protocol, address, *group);
            }
            if !service.clients.is_empty() {
                // It has its place among the claims.
            } else if ports.first == ports.last {
                self.services.insert(PlaceKey::new(vip, ports.first, protocol), id);
            } else {
                self.ranges.entry((vip, protocol)).or_default().push((ports, id));
            }
            *self.vips.entry(vip).or_default() |= is_live;
        }
        self.locals.extend(service.locals.iter());
    }

    fn enter_backend(&mut self, service: &Service, backend: &Backend) {
        if backend.answers_here {
            for protocol in service.protocols() {
                let key = (backend.address, backend.port, protocol as u8);
                let is_sloppy = service.sloppy && protocol != Protocol::Udp;
                *self.nat_backends.entry(key).or_default() |= is_sloppy;
            }
            self.nat_addresses.insert(backend.address, backend.our_address);
            self.by_client.insert(backend.service);
        }
    }

    #[inline]
    pub(super) fn service_for(
        &self,
        client: IpAddr,
        place @ (vip, port, protocol): (IpAddr, u16, u8),
    ) -> Option<ServiceId> {
        let own = self.claims.find(&self.networks, client, place);
        own.or_else(|| self.services.get(&PlaceKey::new(vip, port, protocol)).copied()).or_else(
            || {
                let ranges = self.ranges.get(&(vip, protocol))?;
                ranges.iter().find(|(ports, _)| ports.contains(port)).map(|(_, service)| *service)
            },
        )
    }

    #[inline]
    pub(super) fn is_by_client(&self, service: ServiceId) -> bool {
        self.by_client.contains(&service)
    }

    #[inline]
    pub(super) fn is_nat_backend(&self, address: IpAddr, port: u16, protocol: u8) -> bool {
        self.nat_backends.contains_key(&(address, port, protocol))
            || self.nat_backends.contains_key(&(address, 0, protocol))
    }

    pub(super) fn is_sloppy_backend(&self, address: IpAddr, port: u16, protocol: u8) -> bool {
        let keys = [(address, port, protocol), (address, 0, protocol)];
        keys.iter().any(|key| self.nat_backends.get(key).is_some_and(|sloppy| *sloppy))
    }

    pub(super) fn towards_nat_backend(&self, address: IpAddr) -> Option<IpAddr> {
        self.nat_addresses.get(&address).copied()
    }

    /// Is it a VIP, and if so, one with a backend that takes new connections?
    #[inline]
    pub(super) fn vip(&self, address: IpAddr) -> Option<bool> {
        self.vips.get(&address).copied()
    }

    #[inline]
    pub(super) fn was_vip(&self, address: IpAddr) -> bool {
        self.left_vips.contains(&address)
    }

    #[inline]
    pub(super) fn was_local(&self, address: IpAddr) -> bool {
        self.left_locals.contains(&address)
    }

    #[inline]
    pub(super) fn is_for_answers(&self, address: IpAddr) -> bool {
        self.answers.contains(&PlaceKey::new(address, 0, 0))
    }

    #[inline]
    pub(super) fn is_own(&self, address: IpAddr) -> bool {
        self.own.contains(&address)
    }

    #[inline]
    pub(super) fn is_local(&self, address: IpAddr) -> bool {
        self.locals.contains(&address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One question says what two say, for whatever an address can be at once.
    #[test]
    fn what_is_for_answers_alone_is_a_local_address_and_no_vip() {
        let address = |n: u8| IpAddr::from([10, 0, 0, n]);
        let those = |bit: u8| (0..16).filter(move |n| n & bit != 0).map(address);
        let service = |vip| {
            let addresses = [ServiceAddress::one(vip, 80)].into();
            Some(Service { addresses, locals: those(2).collect(), ..Service::default() })
        };
        let snapshot = Snapshot {
            services: those(1).map(service).collect(),
            left_vips: those(4).collect(),
            left_locals: those(8).collect(),
            ..Snapshot::default()
        };
        let snapshot = snapshot.indexed();
        for n in 0..17 {
            let at = address(n);
            let both = snapshot.has_backends_at(at) && !snapshot.has_clients_at(at);
            assert_eq!(snapshot.is_for_answers(at), both, "{at}");
            assert_eq!(both, n < 16 && n & 0b1010 != 0 && n & 0b0101 == 0, "{at}");
        }
    }
}
