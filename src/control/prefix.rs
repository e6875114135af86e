//! Networks of either family, as an address and a prefix length.
//!
//! Addresses are compared as numbers of 32 or 128 bits, the first bit first; addresses of
//! different families are never in one network.

use std::net::IpAddr;

pub use crate::dataplane::access::{base, width};

/// Are they in one network of that prefix length?
pub fn same_network(a: IpAddr, b: IpAddr, length: u8) -> bool {
    a.is_ipv4() == b.is_ipv4() && base(a, length) == base(b, length)
}

/// What an address at the edge of a network stands for, if it is no host's. Networks of one or two
/// addresses have no edge (RFC 3021, RFC 6164).
pub fn no_host(address: IpAddr, length: u8) -> Option<&'static str> {
    let is_base = base(address, length) == address;
    match address {
        _ if width(address).saturating_sub(length) < 2 => None,
        IpAddr::V4(_) if is_base => Some("network address"),
        IpAddr::V4(v4) => {
            let last = v4.to_bits() | u32::MAX.checked_shr(u32::from(length)).unwrap_or(0);
            (v4.to_bits() == last).then_some("broadcast address")
        }
        IpAddr::V6(_) => is_base.then_some("subnet-router anycast address"),
    }
}

/// `IPv4` or `IPv6`.
pub fn family(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "IPv4" } else { "IPv6" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_network_is_the_address_without_the_bits_beyond_its_prefix() {
        let table = [
            ("10.1.2.3", 32, "10.1.2.3"),
            ("10.1.2.3", 24, "10.1.2.0"),
            ("10.1.2.3", 9, "10.0.0.0"),
            ("10.1.2.3", 0, "0.0.0.0"),
            ("2001:db8:1::5", 128, "2001:db8:1::5"),
            ("2001:db8:1::5", 64, "2001:db8:1::"),
            ("2001:db8:1::5", 33, "2001:db8::"),
            ("2001:db8:1::5", 0, "::"),
        ];
        for (of, length, expected) in table {
            assert_eq!(base(address(of), length), address(expected), "{of}/{length}");
            assert!(same_network(address(of), address(expected), length), "{of}/{length}");
        }
    }

    #[test]
    fn the_families_share_no_network() {
        assert!(!same_network(address("0.0.0.0"), address("::"), 0));
        assert!(!same_network(address("10.0.0.1"), address("10.0.1.1"), 24));
        assert!(!same_network(address("fd00::1"), address("fd00:0:0:1::1"), 64));
    }

    #[test]
    fn the_edges_of_a_network_are_no_hosts() {
        let table = [
            ("10.0.0.0", 24, Some("network address")),
            ("10.0.0.255", 24, Some("broadcast address")),
            ("10.0.0.1", 24, None),
            ("10.0.0.0", 31, None),
            ("10.0.0.1", 31, None),
            ("10.0.0.0", 32, None),
            ("fd00::", 64, Some("subnet-router anycast address")),
            ("fd00::ffff:ffff:ffff:ffff", 64, None),
            ("fd00::", 127, None),
            ("fd00::", 128, None),
        ];
        for (of, length, expected) in table {
            assert_eq!(no_host(address(of), length), expected, "{of}/{length}");
        }
    }
}
