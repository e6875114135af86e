//! The order of lists.
//!
//! Services by family, protocol, address and port; backends by address and port. `ipvsadm` compares IPv4 addresses by
//! the sign of their difference in 32 bits, so that those more than half the space apart come the wrong
//! way round: 198.51.100.1 before 10.44.0.5. That is no order in the strict sense (three addresses may each come
//! before the next, in a ring), and what comes out depends on the way of sorting. So it is C's merge sort
//! here too: halves, the first the shorter, and of equals the first.

use std::cmp::Ordering;
use std::net::IpAddr;

use super::table::{Server, Service};

/// Sorts services, and the backends of each.
pub fn sort(services: Vec<Service>) -> Vec<Service> {
    let mut sorted = merge_sort(services, &by_place);
    for service in &mut sorted {
        service.servers = merge_sort(std::mem::take(&mut service.servers), &by_socket);
    }
    sorted
}

fn by_place(one: &Service, other: &Service) -> Ordering {
    let family = |service: &Service| service.address.vip.is_ipv6();
    family(one)
        .cmp(&family(other))
        .then_with(|| one.protocol.cmp(&other.protocol))
        .then_with(|| by_address(one.address.vip, other.address.vip))
        .then_with(|| one.address.ports.first.cmp(&other.address.ports.first))
}

fn by_socket(one: &Server, other: &Server) -> Ordering {
    let (one, other) = (one.address, other.address);
    let family = one.is_ipv6().cmp(&other.is_ipv6());
    family
        .then_with(|| by_address(one.ip(), other.ip()))
        .then_with(|| one.port().cmp(&other.port()))
}

fn by_address(one: IpAddr, other: IpAddr) -> Ordering {
    match (one, other) {
        (IpAddr::V4(one), IpAddr::V4(other)) => {
            u32::from(one).wrapping_sub(u32::from(other)).cast_signed().cmp(&0)
        }
        (one, other) => one.cmp(&other),
    }
}

fn merge_sort<T>(mut items: Vec<T>, compare: &dyn Fn(&T, &T) -> Ordering) -> Vec<T> {
    if items.len() < 2 {
        return items;
    }
    let second = items.split_off(items.len() / 2);
    let mut first = merge_sort(items, compare).into_iter().peekable();
    let mut second = merge_sort(second, compare).into_iter().peekable();
    let mut merged = Vec::new();
    while let (Some(one), Some(other)) = (first.peek(), second.peek()) {
        let next = if compare(one, other).is_gt() { second.next() } else { first.next() };
        merged.extend(next);
    }
    merged.extend(first.chain(second));
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sorting_keeps_equals_in_order_and_all_of_them() {
        let items: Vec<(u32, usize)> = [3, 1, 2, 1, 3, 0, 2].into_iter().zip(0..).collect();
        let mut expected = items.clone();
        expected.sort_by_key(|(key, _)| *key);
        assert_eq!(merge_sort(items, &|one, other| one.0.cmp(&other.0)), expected);
    }

    #[test]
    fn addresses_far_apart_come_the_wrong_way_round() {
        let compare =
            |one: &str, other: &str| by_address(one.parse().unwrap(), other.parse().unwrap());
        assert_eq!(compare("10.44.0.5", "10.44.0.6"), Ordering::Less);
        assert_eq!(compare("198.51.100.1", "10.44.0.5"), Ordering::Less);
        assert_eq!(compare("10.44.0.5", "198.51.100.1"), Ordering::Greater);
    }
}
