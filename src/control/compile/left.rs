//! Addresses that have left the file: VIPs and local addresses of connections that may live on.
//!
//! A packet that its worker does not know is told by its addresses to be ours and whose it is. An address
//! that is struck from the file would make the answer "nobody's" at once, and where packets do not come to
//! their owner by the card's doing its connections would end in the middle. So for a while a snapshot names
//! what was an address before. Nothing new begins there.
//!
//! As long as the kernel goes on answering ARP for a local address ([`LINGER_MAX`]), or a little longer: a
//! snapshot is made at least once an hour. At most [`LEFT_MAX`] of each kind, those that left first
//! forgotten first: a file that replaces more than these at once is another box's.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Instant;

use crate::control::config::plan::Plan;
use crate::control::punt::place::LINGER_MAX;

/// Addresses of each kind that are remembered.
const LEFT_MAX: usize = 4096;

/// What has left, kind by kind.
#[derive(Debug, Default)]
pub(super) struct Left {
    pub(super) vips: Kind,
    pub(super) locals: Kind,
}

impl Left {
    /// Another plan is compiled.
    pub(super) fn follow(&mut self, plan: &Plan, now: Instant) {
        let services = &plan.services;
        let vips = services.iter().flat_map(|it| it.addresses().map(|at| at.vip)).collect();
        let locals = services.iter().flat_map(|it| it.local_addresses.iter().copied()).collect();
        self.vips.follow(vips, now);
        self.locals.follow(locals, now);
    }
}

/// Addresses of one kind.
#[derive(Debug, Default)]
pub(super) struct Kind {
    there: BTreeSet<IpAddr>,
    /// In the order in which they left.
    left: Vec<(IpAddr, Instant)>,
}

impl Kind {
    fn follow(&mut self, there: BTreeSet<IpAddr>, now: Instant) {
        let gone = self.there.difference(&there).map(|address| (*address, now));
        self.left.extend(gone);
        self.left.retain(|(address, since)| {
            !there.contains(address) && now.duration_since(*since) < LINGER_MAX
        });
        self.left.drain(..self.left.len().saturating_sub(LEFT_MAX));
        self.there = there;
    }

    /// Those that have left.
    pub(super) fn addresses(&self) -> Box<[IpAddr]> {
        self.left.iter().map(|(address, _)| *address).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use super::*;

    fn set(numbers: impl IntoIterator<Item = u32>) -> BTreeSet<IpAddr> {
        numbers.into_iter().map(|n| Ipv4Addr::from_bits(n).into()).collect()
    }

    fn left(kind: &Kind) -> BTreeSet<IpAddr> {
        kind.addresses().into_iter().collect()
    }

    #[test]
    fn an_address_that_left_is_named_for_an_hour_or_until_it_is_back() {
        let (mut kind, start) = (Kind::default(), Instant::now());
        let minute = |n: u64| start + Duration::from_secs(60 * n);
        kind.follow(set([1, 2, 3]), minute(0));
        assert_eq!(left(&kind), set([]));
        kind.follow(set([1]), minute(1));
        assert_eq!(left(&kind), set([2, 3]));
        kind.follow(set([1, 3]), minute(2));
        assert_eq!(left(&kind), set([2]), "3 is back");
        kind.follow(set([3]), minute(60));
        assert_eq!(left(&kind), set([1, 2]));
        kind.follow(set([3]), minute(61));
        assert_eq!(left(&kind), set([1]), "2 left an hour ago");
    }

    #[test]
    fn no_more_are_remembered_than_there_is_room_for() {
        let (mut kind, now) = (Kind::default(), Instant::now());
        kind.follow(set(0..10), now);
        kind.follow(set(10..10_000), now);
        kind.follow(set([]), now);
        assert_eq!(kind.addresses().len(), LEFT_MAX);
        assert!(!left(&kind).contains(&IpAddr::from(Ipv4Addr::from_bits(0))), "the first to leave");
    }
}
