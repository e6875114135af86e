//! What lblc and lblcr remember: which backends serve a destination.
//!
//! ```text
//! service, VIP ── hash ──► one of 4,096 rows of four entries ──► up to eight backends each
//! ```
//!
//! IPVS allows 16,384 entries for each service, trims what was idle for six minutes when there are more,
//! and forgets what was idle for a day (`lblc_expiration`). Here a worker has room for 16,384 in all, and
//! the entry of a full row that was used longest ago makes way, counted; one that was idle for a day is
//! not believed. A destination that was forgotten is scheduled like a new one: nothing else is lost. A
//! destination here is one of a service's addresses, so the room lasts for as many.
//!
//! An entry is of one life of its service, and names backends by age, which unlike an id is never
//! another's: nobody inherits anything.

use std::net::IpAddr;

use zerocopy::FromZeros;

use super::hash::{fold, golden};
use crate::ids::ServiceId;

const ROWS: usize = 4_096;
const WAYS: usize = 4;

/// As IPVS's `lblc_expiration` and `lblcr_expiration`: a destination that nobody asked for so long is
/// forgotten, and a set that has not changed for so long loses a member.
pub(super) const EXPIRATION_MS: u32 = 86_400_000;

/// Backends of one destination at most (lblcr).
pub(super) const MEMBERS: usize = 8;

const _: () = assert!(size_of::<Entry>() == 128, "an entry is two cache lines");

/// Who serves a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) age: u64,
    /// Where it stood in the list.
    pub(super) place: usize,
}

/// A destination and who serves it.
#[derive(Clone, Copy, Debug, zerocopy::FromZeros, zerocopy::KnownLayout)]
pub(super) struct Entry {
    vip: u128,
    /// The service's life.
    life: u64,
    /// The service's id, plus one; 0 is a free entry.
    service: u32,
    used_ms: u32,
    /// When its backends last changed.
    pub(super) changed_ms: u32,
    count: u32,
    /// By age.
    members: [u64; MEMBERS],
    /// Where each stood in the list when it was looked for last: mostly it still does.
    places: [u16; MEMBERS],
}

impl Entry {
    /// Who serves it, the last to come first.
    pub(super) fn members(&self) -> impl Iterator<Item = Member> + '_ {
        let members = self.members.iter().zip(&self.places).take(self.count as usize);
        members.rev().map(|(age, place)| Member { age: *age, place: usize::from(*place) })
    }

    pub(super) fn len(&self) -> usize {
        self.count as usize
    }

    /// Serves it alone from now on.
    pub(super) fn set(&mut self, member: Member, now_ms: u32) {
        self.count = 0;
        self.add(member, now_ms);
    }

    /// Serves it too from now on, unless it does already or there are too many. Whether anything is
    /// different now.
    pub(super) fn add(&mut self, member: Member, now_ms: u32) -> bool {
        let at = self.count as usize;
        if self.members().any(|other| other.age == member.age) {
            return false;
        }
        let (Some(age), Some(place)) = (self.members.get_mut(at), self.places.get_mut(at)) else {
            return false;
        };
        (*age, *place) = (member.age, u16::try_from(member.place).unwrap_or(u16::MAX));
        self.count += 1;
        self.changed_ms = now_ms;
        true
    }

    /// Members that stand elsewhere by now are told where.
    pub(super) fn find_anew(&mut self, place_of: impl Fn(Member) -> Option<usize>) {
        for (age, place) in self.members.iter().zip(&mut self.places).take(self.count as usize) {
            let found = place_of(Member { age: *age, place: usize::from(*place) });
            *place = found.and_then(|found| u16::try_from(found).ok()).unwrap_or(*place);
        }
    }

    /// Serves it no longer.
    pub(super) fn remove(&mut self, age: u64, now_ms: u32) {
        let count = self.count as usize;
        let Some(place) = self.members.iter().take(count).position(|member| *member == age) else {
            return;
        };
        self.members.copy_within(place + 1..count, place);
        self.places.copy_within(place + 1..count, place);
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
        (service, life): (ServiceId, u64),
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
        if entry.life != life || now_ms.wrapping_sub(entry.used_ms) > EXPIRATION_MS {
            (entry.life, entry.count) = (life, 0);
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

    fn member(age: u64) -> Member {
        Member { age, place: usize::try_from(age % 100).unwrap() }
    }

    #[test]
    fn a_full_cache_forgets_what_was_used_longest_ago_and_counts() {
        let mut cache = Cache::default();
        let vip = |n: u32| IpAddr::from(Ipv4Addr::from_bits(0xc633_0000 + n));
        let count = u32::try_from(ROWS * WAYS).unwrap() * 2;
        for n in 0..count {
            let entry = cache.entry((ServiceId(3), 0), vip(n), n).unwrap();
            assert_eq!(entry.len(), 0);
            entry.set(member(n.into()), n);
        }
        let kept = (0..count).filter(|n| {
            let entry = cache.entry((ServiceId(3), 0), vip(*n), count).unwrap();
            entry.members().eq([member(u64::from(*n))])
        });
        assert!(kept.count() > 0);
        let newest = cache.entry((ServiceId(3), 0), vip(count - 1), count).unwrap();
        assert_eq!(newest.used_ms, count);
        assert!(cache.take_forgotten() >= u64::from(count) / 2);
        assert_eq!(cache.take_forgotten(), 0);
    }

    #[test]
    fn what_was_idle_for_a_day_or_anothers_is_forgotten() {
        let (mut cache, start) = (Cache::default(), u32::MAX - 5);
        let mut members = |life, now_ms| {
            let vip = IpAddr::from([192, 0, 2, 1]);
            let entry = cache.entry((ServiceId(0), life), vip, now_ms).unwrap();
            let known = entry.len();
            entry.set(member(1), now_ms);
            known
        };
        assert_eq!(members(7, start), 0);
        let day = start.wrapping_add(EXPIRATION_MS);
        assert_eq!((members(7, day), members(7, day)), (1, 1), "idle for a day, no longer");
        assert_eq!(members(7, day.wrapping_add(EXPIRATION_MS + 1)), 0, "a millisecond more");
        assert_eq!((members(8, 0), members(8, 0)), (0, 1), "another service with its id");
    }

    #[test]
    fn a_destination_has_a_bounded_number_of_backends() {
        let mut cache = Cache::default();
        let entry = cache.entry((ServiceId(0), 0), IpAddr::from([192, 0, 2, 1]), 0).unwrap();
        for n in 0..8 {
            assert!(entry.add(member(n.into()), n) && !entry.add(member(n.into()), 99));
        }
        assert!(!entry.add(member(8), 8));
        entry.remove(3, 9);
        assert!(entry.members().eq([7, 6, 5, 4, 2, 1, 0].map(member)));
        assert_eq!((entry.len(), entry.changed_ms), (7, 9));
        entry.remove(3, 10);
        assert_eq!(entry.changed_ms, 9);
        entry.set(member(1), 11);
        assert!(entry.members().eq([member(1)]));
        entry.find_anew(|member| Some(member.place + 6));
        assert!(entry.members().eq([Member { age: 1, place: 7 }]), "stands elsewhere by now");
    }
}
