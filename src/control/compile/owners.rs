//! Whose connections are owned by who the client is: as one service's at a VIP, so all services' there.
//!
//! ```text
//! service    a     b        c       d
//! at VIP     1     1  2     2  3    4        a has a backend in NAT mode: then so b by VIP 1, and c by VIP 2
//! ```
//!
//! Each service that has it hands it on once, by each of its places, and each place takes it once: however long the
//! chain, the work is what the places are.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use crate::control::config::plan::Service;
use crate::dataplane::snapshot::Protocol;

/// A VIP, by one protocol.
type At = (Protocol, IpAddr);

/// Which of the services have it, given those that have it by themselves.
pub(super) fn by_client(services: &[Service], mut has: Vec<bool>) -> Vec<bool> {
    let mut news: Vec<usize> = (0..).zip(&has).filter(|(_, has)| **has).map(|(n, _)| n).collect();
    if news.is_empty() {
        return has;
    }
    let mut at: HashMap<At, Vec<usize>> = HashMap::new();
    for (number, service) in services.iter().enumerate() {
        for place in places(service) {
            at.entry(place).or_default().push(number);
        }
    }
    while let Some(service) = news.pop().and_then(|number| services.get(number)) {
        // A place that is taken out has told all its services.
        for neighbour in places(service).into_iter().filter_map(|at_| at.remove(&at_)).flatten() {
            if let Some(has) = has.get_mut(neighbour).filter(|has| !**has) {
                *has = true;
                news.push(neighbour);
            }
        }
    }
    has
}

fn places(service: &Service) -> HashSet<At> {
    service.places().map(|place| (place.protocol, place.address.vip)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataplane::snapshot::ServiceAddress;

    fn service(vips: &[u8]) -> Service {
        let at = |vip: &u8| ServiceAddress::one(IpAddr::from([198, 51, 100, *vip]), 80);
        let (first, more) = vips.split_first().unwrap();
        Service {
            address: at(first),
            more_addresses: more.iter().map(at).collect(),
            ..Service::default()
        }
    }

    #[test]
    fn it_goes_from_vip_to_vip_and_to_nobody_else() {
        let services = [service(&[1]), service(&[1, 2]), service(&[3, 2]), service(&[4])];
        let table = [
            ([false; 4], [false; 4]),
            ([true, false, false, false], [true, true, true, false]),
            ([false, false, true, false], [true, true, true, false]),
            ([false, false, false, true], [false, false, false, true]),
        ];
        for (has, expected) in table {
            assert_eq!(by_client(&services, has.to_vec()), expected, "{has:?}");
        }
    }

    #[test]
    fn another_protocol_at_the_vip_is_another_place() {
        let udp = Service { protocol: Protocol::Udp, ..service(&[1]) };
        assert_eq!(by_client(&[service(&[1]), udp], vec![true, false]), [true, false]);
    }
}
