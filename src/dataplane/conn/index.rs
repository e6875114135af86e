//! The index: from a flow's hash to candidate records, one cache line a look.
//!
//! A bucket holds eight entries of a 16-bit tag and a 32-bit reference. The reference names a
//! record and, in its lowest bit, which side's key it stands for. An entry lives in its *home*
//! bucket or, if that was full, in its *alternate* one; the home bucket counts how many of its
//! entries spilled, so an ordinary miss ends after one line.
//!
//! If both are full (one insert in some thousands at the design load, half full), one of their
//! sixteen entries moves to *its* other bucket. One move, no chain: the cost stays bounded, and the
//! chance that all sixteen others are full too is nil unless hashes were aimed at us. Then the
//! connection is refused and counted (`index_full`).
//!
//! The hash is seeded afresh at every start, so nobody outside can aim at a bucket; tags and
//! buckets only *propose* a record, the full key is always compared there.

use zerocopy::IntoBytes;

use crate::dataplane::mem::{Pages, Region, equal, prefetch};

use super::key::FlowKey;
use crate::dataplane::family::{Family, fold};
use crate::dataplane::siphash::siphash;

/// Entries of a bucket.
pub const WAYS: usize = 8;

/// Entries per connection: one per side.
const ENTRIES_PER_CONNECTION: usize = 2;

/// Share of entries in use when the table holds its limit, in percent.
const DESIGN_LOAD_PERCENT: usize = 50;

/// A bucket: one cache line.
#[derive(Clone, Copy, Debug, zerocopy::FromBytes, zerocopy::Immutable, zerocopy::KnownLayout)]
#[repr(C, align(64))]
pub struct Bucket {
    /// 0 is an empty entry.
    tags: [u16; WAYS],
    references: [u32; WAYS],
    /// Entries whose home is here and which live in their alternate bucket.
    spilled: u32,
    reserved: [u32; 3],
}

const _: () = assert!(size_of::<Bucket>() == 64, "a bucket is one cache line");

/// A flow's hash: names two buckets and a tag.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowHash(u64);

/// The secret of one start.
#[derive(Clone, Copy, Debug)]
pub struct Seed(pub [u64; 2]);

impl Seed {
    /// A fresh secret from the system.
    pub fn random() -> Result<Self, getrandom::Error> {
        Ok(Self([getrandom::u64()?, getrandom::u64()?]))
    }

    /// Hashes a key: 64-bit words through one 128-bit multiplication each, folded.
    #[inline(always)]
    pub fn hash<F: Family>(self, key: FlowKey<F>) -> FlowHash {
        let ports = u64::from(key.ports) | u64::from(key.protocol) << 32;
        let mixed = fold(F::condensed(key.addresses, self.0), ports ^ self.0[1]);
        FlowHash(fold(mixed, 0x9e37_79b9_7f4a_7c15 ^ self.0[1].rotate_left(23)))
    }

    /// A number for two addresses that others may see: it tells nothing of the secret, nor of any
    /// flow's hash.
    pub fn shown<F: Family>(self, addresses: F::Addresses) -> u64 {
        let mut words = [0; 4];
        let (bytes, _) = addresses.as_bytes().as_chunks();
        for (word, bytes) in words.iter_mut().zip(bytes) {
            *word = u64::from_le_bytes(*bytes);
        }
        siphash(self.0, &words)
    }
}

impl FlowHash {
    /// Never 0: that marks an empty entry.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "a tag is sixteen bits of the hash")]
    fn tag(self) -> u16 {
        ((self.0 >> 32) as u16).max(1)
    }

    /// A second, differently mixed value for other uses of the same key (choosing a worker).
    #[inline(always)]
    pub fn spread(self) -> u32 {
        (self.0.rotate_left(17) >> 32) as u32
    }
}

/// What a look into the index found: up to eight proposals in one bucket.
#[derive(Clone, Copy, Debug)]
pub struct Proposals {
    bucket: u32,
    /// Bit *i* set: entry *i* has the tag.
    ways: u32,
}

/// The index of one table.
#[derive(Debug)]
pub struct Index {
    buckets: Region<Bucket>,
}

impl Index {
    /// Buckets reserved for that many connections.
    pub fn buckets_for(connections: usize) -> usize {
        let entries = connections * ENTRIES_PER_CONNECTION * 100 / DESIGN_LOAD_PERCENT;
        entries.div_ceil(WAYS).max(2)
    }

    /// An empty index over zeroed memory.
    pub fn new(buckets: Region<Bucket>) -> Self {
        Self { buckets }
    }

    /// What its memory lies on.
    pub fn pages(&self) -> Pages {
        self.buckets.pages()
    }

    /// Bytes of memory reserved.
    pub fn bytes(&self) -> usize {
        self.buckets.len() * size_of::<Bucket>()
    }

    /// Scales a 32-bit value to a bucket number without a division.
    #[inline(always)]
    fn scale(&self, value: u32) -> u32 {
        ((u64::from(value) * self.buckets.len() as u64) >> 32) as u32
    }

    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "the low half is wanted")]
    fn home(&self, hash: FlowHash) -> u32 {
        self.scale(hash.0 as u32)
    }

    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "the high half is wanted")]
    fn alternate(&self, hash: FlowHash) -> u32 {
        let other = self.scale((hash.0 >> 32) as u32);
        let home = self.home(hash);
        if other == home { (home + 1) % self.buckets.len() as u32 } else { other }
    }

    /// Asks for the home bucket's line.
    #[inline(always)]
    pub fn prefetch(&self, hash: FlowHash) {
        prefetch(&self.buckets[self.home(hash) as usize]);
    }

    /// Entries of the home bucket that carry the flow's tag.
    #[inline(always)]
    pub fn propose(&self, hash: FlowHash) -> Proposals {
        self.propose_in(self.home(hash), hash)
    }

    /// Entries of the alternate bucket that carry the flow's tag, if any entry spilled there.
    #[inline(always)]
    pub fn propose_alternate(&self, hash: FlowHash) -> Option<Proposals> {
        let spilled = self.buckets[self.home(hash) as usize].spilled;
        (spilled != 0).then(|| self.propose_in(self.alternate(hash), hash))
    }

    #[inline(always)]
    fn propose_in(&self, bucket: u32, hash: FlowHash) -> Proposals {
        Proposals { bucket, ways: self.buckets[bucket as usize].ways_with(hash.tag()) }
    }

    /// The first proposal's reference, if there is one.
    #[inline(always)]
    pub fn first(&self, proposals: Proposals) -> Option<u32> {
        let way = proposals.ways.trailing_zeros() as usize;
        (way < WAYS).then(|| self.buckets[proposals.bucket as usize].references[way % WAYS])
    }

    /// The proposals after the first.
    #[inline(always)]
    pub fn rest(proposals: Proposals) -> Proposals {
        Proposals { ways: proposals.ways & proposals.ways.wrapping_sub(1), ..proposals }
    }

    /// Enters a reference. False, and nothing changed, if there is no room. `hash_of` gives the
    /// hash a reference in the index was entered under.
    pub fn insert(
        &mut self,
        hash: FlowHash,
        reference: u32,
        hash_of: impl Fn(u32) -> FlowHash,
    ) -> bool {
        self.put(hash, reference) || (self.make_room(hash, hash_of) && self.put(hash, reference))
    }

    /// Enters a reference into its home bucket or its alternate, if one has an empty entry.
    fn put(&mut self, hash: FlowHash, reference: u32) -> bool {
        let home = self.home(hash) as usize;
        if self.buckets[home].put(hash.tag(), reference) {
            return true;
        }
        let alternate = self.alternate(hash) as usize;
        let put = self.buckets[alternate].put(hash.tag(), reference);
        self.buckets[home].spilled += u32::from(put);
        put
    }

    /// Moves one entry out of the two buckets of `hash` to its other bucket.
    #[cold]
    fn make_room(&mut self, hash: FlowHash, hash_of: impl Fn(u32) -> FlowHash) -> bool {
        let crowded = [self.home(hash), self.alternate(hash)];
        crowded.iter().any(|bucket| {
            let references = self.buckets[*bucket as usize].references;
            references.iter().any(|reference| self.displace(*bucket, *reference, &hash_of))
        })
    }

    /// Moves an entry of a full bucket to its other bucket, if that has an empty entry.
    fn displace(&mut self, from: u32, reference: u32, hash_of: &impl Fn(u32) -> FlowHash) -> bool {
        let hash = hash_of(reference);
        let (home, alternate) = (self.home(hash), self.alternate(hash));
        let to = if from == home { alternate } else { home };
        if !self.buckets[to as usize].put(hash.tag(), reference) {
            return false;
        }
        self.buckets[from as usize].take(reference);
        let spilled = &mut self.buckets[home as usize].spilled;
        *spilled = if to == alternate { *spilled + 1 } else { *spilled - 1 };
        true
    }

    /// Removes a reference. False if it was not there.
    pub fn remove(&mut self, hash: FlowHash, reference: u32) -> bool {
        let home = self.home(hash) as usize;
        if self.buckets[home].take(reference) {
            return true;
        }
        let alternate = self.alternate(hash) as usize;
        let taken = self.buckets[alternate].take(reference);
        self.buckets[home].spilled -= u32::from(taken);
        taken
    }

    /// Entries in use, counted one by one: for tests and `shunt status`.
    pub fn entries(&self) -> usize {
        self.buckets.iter().map(|b| b.tags.iter().filter(|t| **t != 0).count()).sum()
    }
}

impl Bucket {
    /// One bit for each entry with that tag.
    #[inline(always)]
    fn ways_with(&self, tag: u16) -> u32 {
        equal(self.tags, tag)
    }

    fn put(&mut self, tag: u16, reference: u32) -> bool {
        let way = self.ways_with(0).trailing_zeros() as usize;
        if way >= WAYS {
            return false;
        }
        self.tags[way] = tag;
        self.references[way] = reference;
        true
    }

    fn take(&mut self, reference: u32) -> bool {
        let entry = |way: &usize| self.tags[*way] != 0 && self.references[*way] == reference;
        let Some(way) = (0..WAYS).find(entry) else { return false };
        self.tags[way] = 0;
        true
    }
}
