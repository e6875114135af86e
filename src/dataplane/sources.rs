//! What each source of a service's clients has: connections, and a token bucket of new ones.
//!
//! ```text
//! client 192.0.2.7, service web/24 ──► (192.0.2.0, web, 24) ──siphash──► bucket, six entries
//!                                                               key, connections, tokens missing
//! ```
//!
//! **Shared by all workers**, looked at when a connection is made and touched once more when it ends.
//! A bucket is *claimed* while a connection is made, as persistence's are; nobody waits for a claim for
//! longer than [`PATIENCE`] looks. A connection's end claims nothing: the connection keeps the number of
//! its entry ([`Seat`]), and an entry with connections stays where it is. So the count is exact, whatever
//! the workers do: up with each connection, down with its end, and never above the limit.
//!
//! **Full**: of the entries without connections the one makes way whose tokens will be complete first; one
//! whose tokens are has nothing to lose. If all six have connections, or a claim is not to be had, the new
//! connection is let in *uncounted*, and a counter says so. It fails open because those who fill it
//! are not those who are refused: a flood from forged addresses must not lock real clients out, and
//! the service's own limit holds all the same. The hash is keyed and of cryptographic strength: nobody
//! outside can aim at a bucket.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use zerocopy::FromZeros;

use super::conn::index::Seed;
use super::mem::{HugePages, MemoryError, Region};
use super::quota::{Debt, Quota};
use super::siphash::siphash;
use crate::ids::ServiceId;

/// Entries of a bucket.
const WAYS: usize = 6;
/// How often a claim is asked for.
const PATIENCE: usize = 64;

/// Whose entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    address: [u64; 2],
    /// Service and prefix; never 0, which is an empty place.
    service: u64,
}

impl Source {
    /// The source that a client of a service is, or is in.
    pub fn of(address: IpAddr, service: ServiceId, prefix: u8) -> Self {
        let service = (u64::from(service.0) + 1) << 32 | u64::from(prefix);
        Self { address: network(address, prefix), service }
    }
}

/// The first `prefix` bits of an address, as two words; IPv4's are the first of all.
pub(super) fn network(address: IpAddr, prefix: u8) -> [u64; 2] {
    let bits = match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()) << 96,
        IpAddr::V6(v6) => v6.to_bits(),
    };
    let bits = bits & u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
    #[expect(clippy::cast_possible_truncation, reason = "both halves are taken")]
    let words = [(bits >> 64) as u64, bits as u64];
    words
}

/// Where a connection is counted: what it keeps so that its end can be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seat(pub u16);

impl Seat {
    /// Nowhere.
    pub const NONE: Self = Self(0);

    fn new(way: usize, source: Source) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "six ways, and 128 bits at most")]
        Self((way as u16 + 1) << 8 | (source.service & 0xff) as u16)
    }

    /// The prefix its source was found by, if it is one.
    #[inline]
    pub fn prefix(self) -> Option<u8> {
        let [way, prefix] = self.0.to_be_bytes();
        (way > 0).then_some(prefix)
    }

    fn way(self) -> usize {
        usize::from(self.0 >> 8).wrapping_sub(1)
    }
}

/// How a source was let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Counted here.
    Here(Seat),
    /// The same, and another source's tokens were forgotten.
    Evicted(Seat),
    /// Not counted.
    NoRoom,
}

/// Why a source is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It has as many connections as it may.
    Full,
    /// It has made as many in this time as it may.
    Fast,
}

/// One source. All but `connections` is changed by who has claimed the bucket only.
#[derive(Debug, FromZeros)]
#[repr(C)]
struct Entry {
    address: [AtomicU64; 2],
    service: AtomicU64,
    debt: AtomicU64,
    connections: AtomicU32,
    /// When its tokens are complete.
    full_ms: AtomicU32,
}

#[derive(Debug, FromZeros)]
#[repr(C, align(64))]
struct Bucket {
    /// 1 while somebody has it.
    claim: AtomicU32,
    reserved: AtomicU32,
    entries: [Entry; WAYS],
}

const _: () = assert!(size_of::<Bucket>() == 256, "a bucket is four cache lines");

/// All sources.
#[derive(Debug)]
pub struct Sources {
    buckets: Region<Bucket>,
    key: [u64; 2],
    /// The bucket that is tidied next.
    turn: AtomicU32,
}

impl Sources {
    /// Room for at least `count`, under the secret of this start.
    ///
    /// # Errors
    ///
    /// [`MemoryError`], as of any table.
    pub fn new(count: usize, seed: Seed, huge: HugePages) -> Result<Self, MemoryError> {
        let buckets = count.div_ceil(WAYS).next_power_of_two();
        let Seed(key) = seed;
        Ok(Self { buckets: Region::on(buckets, huge)?, key, turn: AtomicU32::new(0) })
    }

    /// Sources there is room for.
    pub fn capacity(&self) -> usize {
        self.buckets.len() * WAYS
    }

    /// Connections counted, and entries in use. Walks all of memory: not for workers.
    pub fn in_use(&self) -> (u64, usize) {
        let all = || self.buckets.iter().flat_map(|bucket| &bucket.entries);
        let connections = all().map(|entry| u64::from(entry.connections.load(Ordering::Relaxed)));
        let used = all().filter(|entry| entry.service.load(Ordering::Relaxed) != 0);
        (connections.sum(), used.count())
    }

    /// One more connection of a source, if it may.
    ///
    /// # Errors
    ///
    /// [`Refused`]; nothing has changed then.
    pub fn enter(&self, source: Source, quota: Quota, now_ms: u32) -> Result<Found, Refused> {
        let Some(bucket) = self.bucket(source).and_then(Claimed::of) else {
            return Ok(Found::NoRoom);
        };
        let known = bucket.entries.iter().position(|entry| entry.is_of(source));
        let Some(way) = known.or_else(|| bucket.room(now_ms)) else { return Ok(Found::NoRoom) };
        let Some(entry) = bucket.entries.get(way) else { return Ok(Found::NoRoom) };
        let evicted = known.is_none() && entry.left_ms(now_ms) > 0;
        if known.is_none() {
            entry.write(source);
        }
        entry.enter(quota, now_ms)?;
        let seat = Seat::new(way, source);
        Ok(if evicted { Found::Evicted(seat) } else { Found::Here(seat) })
    }

    /// A connection that was counted at `seat` is over.
    pub fn leave(&self, source: Source, seat: Seat) {
        let entry = self.bucket(source).and_then(|bucket| bucket.entries.get(seat.way()));
        let Some(entry) = entry else { return };
        debug_assert!(entry.is_of(source), "an entry with connections stays");
        let before = entry.connections.fetch_sub(1, Ordering::Relaxed);
        debug_assert!(before > 0, "a connection ends once");
    }

    /// Forgets sources of one bucket that have no connection and all their tokens. Called by every
    /// worker about once a millisecond, it comes round in minutes.
    pub fn tidy(&self, now_ms: u32) {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) as usize;
        let Some(bucket) = self.buckets.get(turn & (self.buckets.len() - 1)) else { return };
        let Some(bucket) = Claimed::of(bucket) else { return };
        for entry in bucket.entries.iter().filter(|entry| entry.left_ms(now_ms) == 0) {
            // What is complete lacks nothing: no clock can make more of it.
            entry.debt.store(0, Ordering::Relaxed);
            entry.full_ms.store(now_ms, Ordering::Relaxed);
            if entry.connections.load(Ordering::Relaxed) == 0 {
                entry.service.store(0, Ordering::Relaxed);
            }
        }
    }

    fn bucket(&self, source: Source) -> Option<&Bucket> {
        let [high, low] = source.address;
        let hash = siphash(self.key, &[high, low, source.service]);
        let mask = self.buckets.len() as u64 - 1;
        #[expect(clippy::cast_possible_truncation, reason = "below the number of buckets")]
        self.buckets.get((hash & mask) as usize)
    }
}

/// A bucket that nobody else may change until this is dropped.
struct Claimed<'a>(&'a Bucket);

impl<'a> Claimed<'a> {
    fn of(bucket: &'a Bucket) -> Option<Self> {
        for _ in 0..PATIENCE {
            // Looking is cheaper than trying while another worker has the line.
            if bucket.claim.load(Ordering::Relaxed) == 0
                && bucket.claim.swap(1, Ordering::Acquire) == 0
            {
                return Some(Self(bucket));
            }
            std::hint::spin_loop();
        }
        None
    }

    /// An entry for a source that has none.
    fn room(&self, now_ms: u32) -> Option<usize> {
        let free = |(_, entry): &(usize, &Entry)| entry.connections.load(Ordering::Relaxed) == 0;
        let entries = self.0.entries.iter().enumerate().filter(free);
        entries.min_by_key(|(_, entry)| entry.left_ms(now_ms)).map(|(way, _)| way)
    }
}

impl std::ops::Deref for Claimed<'_> {
    type Target = Bucket;

    fn deref(&self) -> &Bucket {
        self.0
    }
}

impl Drop for Claimed<'_> {
    fn drop(&mut self) {
        self.0.claim.store(0, Ordering::Release);
    }
}

impl Entry {
    fn is_of(&self, source: Source) -> bool {
        let [high, low] = [0, 1].map(|n: usize| self.address[n].load(Ordering::Relaxed));
        source == Source { address: [high, low], service: self.service.load(Ordering::Relaxed) }
    }

    fn write(&self, source: Source) {
        for (place, part) in self.address.iter().zip(source.address) {
            place.store(part, Ordering::Relaxed);
        }
        self.service.store(source.service, Ordering::Relaxed);
        self.debt.store(0, Ordering::Relaxed);
        self.full_ms.store(0, Ordering::Relaxed);
    }

    /// Milliseconds until its tokens are complete; 0 if they are, or nobody has it.
    fn left_ms(&self, now_ms: u32) -> u32 {
        let left = self.full_ms.load(Ordering::Relaxed).wrapping_sub(now_ms);
        let lacks = self.debt.load(Ordering::Relaxed) != 0 && left <= u32::MAX / 2;
        if lacks && self.service.load(Ordering::Relaxed) != 0 { left } else { 0 }
    }

    fn enter(&self, quota: Quota, now_ms: u32) -> Result<(), Refused> {
        // Others can only take away meanwhile.
        if quota.connections > 0 && self.connections.load(Ordering::Relaxed) >= quota.connections {
            return Err(Refused::Full);
        }
        if quota.rate.per_second > 0 {
            let debt = Debt::from_bits(self.debt.load(Ordering::Relaxed));
            let debt = debt.take(quota.rate, now_ms).ok_or(Refused::Fast)?;
            let full_ms = debt.at_ms.wrapping_add(debt.full_in_ms(quota.rate));
            self.debt.store(debt.to_bits(), Ordering::Relaxed);
            self.full_ms.store(full_ms, Ordering::Relaxed);
        }
        self.connections.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
