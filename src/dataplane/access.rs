//! Who may start a connection: named lists of networks, and what a service makes of them.
//!
//! ```text
//! client's address ──► the lists it is in ──► service: one it denies?       ─► refused (`denied`)
//!                      (one lookup, a bit              allows some, not this? ─► refused (`denied`)
//!                       for each list)                 else                   ─► welcome
//! ```
//!
//! Asked once for each new connection, never of one that is there: an address that gets on a list
//! keeps the connections it has. The refusal is silence, as a firewall's: an answer to a forged
//! source would reach somebody else.
//!
//! One lookup answers for all lists, however many networks they have, because every network
//! carries the bits of all lists that contain it. How the networks are stored is the affair of
//! whoever implements [`Membership`].

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Some of the configured lists, a bit each.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct ListSet(pub u16);

impl ListSet {
    /// Most lists there can be: DPDK's tables keep one bit of sixteen for themselves.
    pub const LISTS_MAX: usize = 15;

    /// The set of one list, by its place; nothing beyond [`Self::LISTS_MAX`].
    pub const fn of(place: usize) -> Self {
        if place < Self::LISTS_MAX { Self(1 << place) } else { Self(0) }
    }

    /// The places of its lists.
    pub fn places(self) -> impl Iterator<Item = u8> {
        (0u8..).take(Self::LISTS_MAX).filter(move |place| self.0 >> place & 1 == 1)
    }

    /// Those in either.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Is one of them in both?
    pub const fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Is none in it?
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Debug for ListSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ListSet({:#b})", self.0)
    }
}

/// Bits of an address: the longest prefix.
pub fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// The network an address is in: its bits beyond the prefix cleared.
pub fn base(address: IpAddr, length: u8) -> IpAddr {
    let host = u32::from(width(address).saturating_sub(length));
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(host).unwrap_or(0);
            Ipv4Addr::from_bits(address.to_bits() & mask).into()
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(host).unwrap_or(0);
            Ipv6Addr::from_bits(address.to_bits() & mask).into()
        }
    }
}

/// A network and every list it is in, those of the networks around it included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// Its first address.
    pub base: IpAddr,
    /// Bits of the prefix.
    pub length: u8,
    /// The lists.
    pub lists: ListSet,
}

/// Which lists an address is in.
pub trait Membership: fmt::Debug + Send + Sync {
    /// The lists with a network that contains `address`.
    fn lists_of(&self, address: IpAddr) -> ListSet;
}

/// What a service makes of the lists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// Clients on one of these are refused.
    pub deny: ListSet,
    /// If any, clients on none of these are refused.
    pub allow: ListSet,
}

impl Access {
    /// Is everybody welcome, whatever the lists say?
    #[inline]
    pub const fn is_open(self) -> bool {
        self.deny.is_empty() && self.allow.is_empty()
    }

    /// Is a client on these lists welcome? Denying goes before allowing.
    #[inline]
    pub const fn admits(self, lists: ListSet) -> bool {
        !self.deny.meets(lists) && (self.allow.is_empty() || self.allow.meets(lists))
    }
}

/// Networks as they are, looked through one by one: for tests and tools, and the judge of faster
/// ways.
#[derive(Clone, Debug, Default)]
pub struct Listed(pub Vec<Network>);

impl Membership for Listed {
    fn lists_of(&self, address: IpAddr) -> ListSet {
        let around = self.0.iter().filter(|network| network.contains(address));
        around.max_by_key(|network| network.length).map_or_else(ListSet::default, |it| it.lists)
    }
}

impl Network {
    /// Is the address in it?
    pub fn contains(&self, address: IpAddr) -> bool {
        base(self.base, self.length) == base(address, self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn denying_goes_before_allowing_and_no_list_allows_all() {
        let (none, office, bots) = (ListSet::default(), ListSet::of(0), ListSet::of(1));
        let both = office.and(bots);
        // deny, allow, the client's lists: welcome?
        let table = [
            (none, none, none, true),
            (none, none, both, true),
            (bots, none, none, true),
            (bots, none, bots, false),
            (none, office, none, false),
            (none, office, office, true),
            (none, both, bots, true),
            (bots, office, both, false),
            (bots, office, office, true),
        ];
        for (deny, allow, client, welcome) in table {
            let access = Access { deny, allow };
            assert_eq!(access.admits(client), welcome, "{access:?} of {client:?}");
            assert_eq!(access.is_open(), deny.is_empty() && allow.is_empty());
        }
    }

    #[test]
    fn the_longest_network_around_an_address_says_its_lists() {
        let network = |base: &str, length, lists| Network {
            base: base.parse().unwrap(),
            length,
            lists: ListSet(lists),
        };
        let listed = Listed(vec![
            network("0.0.0.0", 0, 1),
            network("10.0.0.0", 8, 3),
            network("10.1.2.3", 32, 7),
            network("2001:db8::", 32, 8),
        ]);
        let table = [
            ("192.0.2.1", 1),
            ("10.255.255.255", 3),
            ("11.0.0.0", 1),
            ("10.1.2.3", 7),
            ("10.1.2.2", 3),
            ("2001:db8:ffff::1", 8),
            ("2001:db9::", 0),
        ];
        for (address, lists) in table {
            assert_eq!(listed.lists_of(address.parse().unwrap()), ListSet(lists), "{address}");
        }
    }

    #[test]
    fn every_list_has_a_bit_of_its_own() {
        let all = (0..ListSet::LISTS_MAX).map(ListSet::of);
        assert!(all.clone().all(|set| !set.is_empty()));
        assert_eq!(all.fold(0, |bits, set| bits + set.0), (1 << ListSet::LISTS_MAX) - 1);
        assert!(ListSet::of(ListSet::LISTS_MAX).is_empty());
        for bits in [0, 1, 0b101, 0x7fff] {
            let places = ListSet(bits).places().map(usize::from).map(ListSet::of);
            assert_eq!(places.fold(ListSet::default(), ListSet::and), ListSet(bits));
        }
    }
}
