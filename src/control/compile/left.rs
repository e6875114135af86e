//! Addresses that have left the file: VIPs and local addresses of connections that may live on.
//!
//! A packet that its worker does not know is told by its addresses to be ours and whose it is. An address
//! that is struck from the file would make the answer "nobody's" at once, and where packets do not come to
//! their owner by the card's doing its connections would end in the middle. So for a while a snapshot names
//! what was an address before. Nothing new begins there: what is of no connection is the kernel's. An
//! address that has become one of the other kind is that and nothing else.
//!
//! Which addresses the TAPs go on carrying is a question of its own (`punt::place`): it ends with the last
//! connection, which no snapshot waits for.
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
        let vips: BTreeSet<_> =
            services.iter().flat_map(|it| it.addresses().map(|at| at.vip)).collect();
        let locals: BTreeSet<_> =
            services.iter().flat_map(|it| it.local_addresses.iter().copied()).collect();
        self.vips.follow(&vips, &locals, now);
        self.locals.follow(&locals, &vips, now);
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
    /// `there` are the addresses of this kind by now, `others` those of the other.
    fn follow(&mut self, there: &BTreeSet<IpAddr>, others: &BTreeSet<IpAddr>, now: Instant) {
        let gone = self.there.difference(there).map(|address| (*address, now));
        self.left.extend(gone);
        self.left.retain(|(address, since)| {
            let is_used = there.contains(address) || others.contains(address);
            !is_used && now.duration_since(*since) < LINGER_MAX
        });
        self.left.drain(..self.left.len().saturating_sub(LEFT_MAX));
        self.there.clone_from(there);
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
        kind.follow(&set([1, 2, 3]), &set([]), minute(0));
        assert_eq!(left(&kind), set([]));
        kind.follow(&set([1]), &set([]), minute(1));
        assert_eq!(left(&kind), set([2, 3]));
        kind.follow(&set([1, 3]), &set([]), minute(2));
        assert_eq!(left(&kind), set([2]), "3 is back");
        kind.follow(&set([3]), &set([]), minute(60));
        assert_eq!(left(&kind), set([1, 2]));
        kind.follow(&set([3]), &set([]), minute(61));
        assert_eq!(left(&kind), set([1]), "2 left an hour ago");
    }

    #[test]
    fn an_address_of_the_other_kind_is_that_and_nothing_else() {
        let (mut kind, now) = (Kind::default(), Instant::now());
        kind.follow(&set([1, 2]), &set([3]), now);
        kind.follow(&set([]), &set([1]), now);
        assert_eq!(left(&kind), set([2]));
        kind.follow(&set([]), &set([]), now);
        assert_eq!(left(&kind), set([2]), "what is forgotten stays so");
    }

    #[test]
    fn no_more_are_remembered_than_there_is_room_for() {
        let (mut kind, now) = (Kind::default(), Instant::now());
        kind.follow(&set(0..10), &set([]), now);
        kind.follow(&set(10..10_000), &set([]), now);
        kind.follow(&set([]), &set([]), now);
        assert_eq!(kind.addresses().len(), LEFT_MAX);
        assert!(!left(&kind).contains(&IpAddr::from(Ipv4Addr::from_bits(0))), "the first to leave");
    }
}
