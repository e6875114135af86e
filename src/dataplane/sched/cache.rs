//! What lblc and lblcr remember: which backends serve a destination.
//!
//! ```text
//! service, VIP ── hash ──► one of 4,096 rows of four entries ──► up to eight backends each
//! ```
//!
//! IPVS allows 16,384 entries for each service and trims what was idle; here a worker has room for
//! 16,384 in all, and the entry of a full row that was used longest ago makes way, counted. A
//! destination that was forgotten is scheduled like a new one: nothing else is lost. A destination
//! here is one of a service's addresses, so the room lasts for as many.

use std::net::IpAddr;

use zerocopy::FromZeros;

use super::hash::{fold, golden};
use crate::ids::{BackendId, ServiceId};

const ROWS: usize = 4_096;
const WAYS: usize = 4;

/// Backends of one destination at most (lblcr).
pub(super) const MEMBERS: usize = 8;

/// A destination and who serves it.
#[derive(Clone, Copy, Debug, zerocopy::FromZeros, zerocopy::KnownLayout)]
pub(super) struct Entry {
    vip: u128,
    /// The service's id, plus one; 0 is a free entry.
    service: u32,
    used_ms: u32,
    /// When its backends last changed.
    pub(super) changed_ms: u32,
    count: u32,
    members: [u32; MEMBERS],
}

impl Entry {
    /// Who serves it, the last to come first.
    pub(super) fn members(&self) -> impl Iterator<Item = BackendId> + '_ {
        self.members.iter().take(self.count as usize).rev().copied().map(BackendId)
    }

    pub(super) fn len(&self) -> usize {
        self.count as usize
    }

    /// Serves it alone from now on.
    pub(super) fn set(&mut self, backend: BackendId, now_ms: u32) {
        self.count = 0;
        self.add(backend, now_ms);
    }

    /// Serves it too from now on. False if there are too many already.
    pub(super) fn add(&mut self, backend: BackendId, now_ms: u32) -> bool {
        if self.members().any(|member| member == backend) {
            return true;
        }
        let Some(free) = self.members.get_mut(self.count as usize) else { return false };
        *free = backend.0;
        self.count += 1;
        self.changed_ms = now_ms;
        true
    }

    /// Serves it no longer.
    pub(super) fn remove(&mut self, backend: BackendId, now_ms: u32) {
        let count = self.count as usize;
        let Some(place) = self.members.iter().take(count).position(|id| *id == backend.0) else {
            return;
        };
        self.members.copy_within(place + 1..count, place);
        self.count -= 1;
        self.changed_ms = now_ms;
    }
}

/// The destinations of one worker.
#[derive(Debug)]
pub(super) struct Cache {
    entries: Box<[Entry]>,
    forgotten: u64,
}

impl Default for Cache {
    /// Empty. The memory is the system's zero pages until it is used.
    fn default() -> Self {
        let entries = <[Entry]>::new_box_zeroed_with_elems(ROWS * WAYS);
        Self { entries: entries.unwrap_or_else(|_| Box::default()), forgotten: 0 }
    }
}

impl Cache {
    /// The entry of a destination; an empty one is made if there is none.
    pub(super) fn entry(
        &mut self,
        service: ServiceId,
        vip: IpAddr,
        now_ms: u32,
    ) -> Option<&mut Entry> {
        let word = fold(vip).wrapping_add(service.0.wrapping_mul(0x9E37));
        let row = (golden(word) as usize * 16 + golden(word.rotate_left(13)) as usize % 16) % ROWS;
        let ways = self.entries.get_mut(row * WAYS..(row + 1) * WAYS)?;
        let (service, vip) = (service.0 + 1, bits(vip));
        let is_it = |entry: &Entry| entry.service == service && entry.vip == vip;
        let idle = |entry: &Entry| match entry.service {
            0 => u64::MAX,
            _ => now_ms.wrapping_sub(entry.used_ms).into(),
        };
        let place = match ways.iter().position(is_it) {
            Some(place) => place,
            None => (0..WAYS).max_by_key(|way| ways.get(*way).map(idle))?,
        };
        let entry = ways.get_mut(place)?;
        if !is_it(entry) {
            self.forgotten += u64::from(entry.service != 0);
            (entry.service, entry.vip, entry.count) = (service, vip, 0);
        }
        entry.used_ms = now_ms;
        Some(entry)
    }

    pub(super) fn take_forgotten(&mut self) -> u64 {
        std::mem::take(&mut self.forgotten)
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn a_full_cache_forgets_what_was_used_longest_ago_and_counts() {
        let mut cache = Cache::default();
        let vip = |n: u32| IpAddr::from(Ipv4Addr::from_bits(0xc633_0000 + n));
        let count = u32::try_from(ROWS * WAYS).unwrap() * 2;
        for n in 0..count {
            let entry = cache.entry(ServiceId(3), vip(n), n).unwrap();
            assert_eq!(entry.len(), 0);
            entry.set(BackendId(n), n);
        }
        let kept = (0..count).filter(|n| {
            let entry = cache.entry(ServiceId(3), vip(*n), count).unwrap();
            entry.members().eq([BackendId(*n)])
        });
        assert!(kept.count() > 0);
        let newest = cache.entry(ServiceId(3), vip(count - 1), count).unwrap();
        assert_eq!(newest.used_ms, count);
        assert!(cache.take_forgotten() >= u64::from(count) / 2);
        assert_eq!(cache.take_forgotten(), 0);
    }

    #[test]
    fn a_destination_has_a_bounded_number_of_backends() {
        let mut cache = Cache::default();
        let entry = cache.entry(ServiceId(0), IpAddr::from([192, 0, 2, 1]), 0).unwrap();
        for n in 0..8 {
            assert!(entry.add(BackendId(n), n) && entry.add(BackendId(n), 99));
        }
        assert!(!entry.add(BackendId(8), 8));
        entry.remove(BackendId(3), 9);
        assert!(entry.members().map(|id| id.0).eq([7, 6, 5, 4, 2, 1, 0]));
        assert_eq!((entry.len(), entry.changed_ms), (7, 9));
        entry.remove(BackendId(3), 10);
        assert_eq!(entry.changed_ms, 9);
        entry.set(BackendId(1), 11);
        assert!(entry.members().eq([BackendId(1)]));
    }
}
