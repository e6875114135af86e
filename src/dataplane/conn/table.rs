//! The table: records, their index, and the rule that ties them.
//!
//! The rule: a live record has exactly one index entry for each of its [`Record::sides`] (two; one
//! in DR and tunnel mode, and where every datagram is a connection; none where both is so, and then
//! it lives no longer than the packet); a free record has none and is on the free list. No
//! pointers, no reference counts: two flat regions that can be mapped, dumped and checked.
//!
//! Limits: `capacity` connections, fixed at start. Full is [`Refusal::Full`].

use std::net::{Ipv4Addr, Ipv6Addr};

use super::index::{FlowHash, Index, Seed};
use super::key::FlowKey;
use super::key::Side;
use super::record::{NewConnection, Record};
use super::splice::{Splice, Splices};
use crate::dataplane::family::Family;
use crate::dataplane::mem::{HugePages, MemoryError, Pages, Region, prefetch};

/// Why a connection was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The table holds its limit.
    Full,
    /// Both index buckets of one of the keys are full.
    IndexFull,
}

/// A record's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot(pub u32);

/// What a lookup found: whose packet it is, and of which connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hit {
    /// The connection.
    pub slot: Slot,
    /// The sender.
    pub side: Side,
}

impl Hit {
    #[inline(always)]
    fn from_reference(reference: u32) -> Self {
        Self { slot: Slot(reference >> 1), side: Side::from_bit(reference) }
    }

    #[inline(always)]
    fn reference(self) -> u32 {
        self.slot.0 << 1 | self.side as u32
    }
}

/// Most connections of one table: a reference keeps one bit for the side.
pub const CAPACITY_MAX: u32 = (1 << 31) - 1;

/// End of the free list.
const NIL: u32 = u32::MAX;

/// Splices of tables whose maker does not say how many.
const SPLICES_UNASKED: u32 = 1 << 16;

/// How many connections there is room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// IPv4.
    pub v4: u32,
    /// From IPv6 clients.
    pub v6: u32,
    /// Of either, those made by SYN cookies.
    pub splices: u32,
}

impl Sizes {
    /// Bytes reserved for tables of these sizes, indices included.
    pub fn bytes(self) -> usize {
        Table::<Ipv4Addr>::bytes_for(self.v4)
            + Table::<Ipv6Addr>::bytes_for(self.v6)
            + 2 * self.splices as usize * size_of::<Splice>()
    }
}

/// One worker's connections: IPv4's, and those whose client is IPv6.
#[derive(Debug)]
pub struct Tables {
    /// IPv4.
    pub v4: Table<Ipv4Addr>,
    /// IPv6, and from IPv6 clients to IPv4 backends.
    pub v6: Table<Ipv6Addr>,
}

impl Tables {
    /// Empty tables for that many connections each, under one seed.
    pub fn new(capacity: u32, seed: Seed) -> Result<Self, MemoryError> {
        let sizes = Sizes { v4: capacity, v6: capacity, splices: capacity.min(SPLICES_UNASKED) };
        Self::on(sizes, seed, HugePages::Auto)
    }

    /// Empty tables of these sizes, on the pages that `huge_pages` says.
    pub fn on(sizes: Sizes, seed: Seed, huge_pages: HugePages) -> Result<Self, MemoryError> {
        let (mut v4, mut v6) =
            (Table::on(sizes.v4, seed, huge_pages)?, Table::on(sizes.v6, seed, huge_pages)?);
        v4.splices = Splices::on(sizes.splices, huge_pages)?;
        v6.splices = Splices::on(sizes.splices, huge_pages)?;
        Ok(Self { v4, v6 })
    }

    /// Connections they hold.
    pub fn len(&self) -> u32 {
        self.v4.len() + self.v6.len()
    }

    /// Hold they none?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// One family's connections of a worker.
#[derive(Debug)]
pub struct Table<F: Family = Ipv4Addr> {
    records: Region<Record<F>>,
    index: Index,
    splices: Splices,
    seed: Seed,
    free: u32,
    /// Records ever used: those above were never touched.
    used: u32,
    live: u32,
}

impl<F: Family> Table<F> {
    /// An empty table for `capacity` connections (at most [`CAPACITY_MAX`]), none of them spliced, all
    /// memory reserved and touched.
    pub fn new(capacity: u32, seed: Seed) -> Result<Self, MemoryError> {
        Self::on(capacity, seed, HugePages::Auto)
    }

    /// As [`Table::new`], on the pages that `huge_pages` says.
    pub fn on(capacity: u32, seed: Seed, huge_pages: HugePages) -> Result<Self, MemoryError> {
        let capacity = capacity.min(CAPACITY_MAX);
        let records = Region::on(capacity as usize, huge_pages)?;
        let buckets = Region::on(Index::buckets_for(capacity as usize), huge_pages)?;
        let index = Index::new(buckets);
        let splices = Splices::on(0, huge_pages)?;
        Ok(Self { records, index, splices, seed, free: NIL, used: 0, live: 0 })
    }

    /// Most connections it can hold.
    pub fn capacity(&self) -> usize {
        self.records.len()
    }

    /// What its memory lies on, records and index.
    pub fn pages(&self) -> (Pages, Pages) {
        (self.records.pages(), self.index.pages())
    }

    /// Connections it holds.
    pub fn len(&self) -> u32 {
        self.live
    }

    /// Holds it none?
    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// Is there no room for another?
    #[inline]
    pub fn is_full(&self) -> bool {
        self.live as usize >= self.records.len()
    }

    /// Are over seven eighths of it taken?
    #[inline]
    pub fn is_nearly_full(&self) -> bool {
        let capacity = self.records.len();
        self.live as usize > capacity - capacity / 8
    }

    /// Records ever used; all live ones are below.
    pub fn used(&self) -> u32 {
        self.used
    }

    /// Bytes reserved, index included.
    pub fn bytes(&self) -> usize {
        self.records.len() * size_of::<Record<F>>() + self.index.bytes()
    }

    /// Bytes reserved for a table of that capacity, index included.
    pub fn bytes_for(capacity: u32) -> usize {
        let buckets = Index::buckets_for(capacity as usize);
        capacity as usize * size_of::<Record<F>>() + buckets * size_of::<super::index::Bucket>()
    }

    /// The hash of a key under this table's seed.
    #[inline(always)]
    pub fn hash(&self, key: FlowKey<F>) -> FlowHash {
        self.seed.hash(key)
    }

    /// A number for two addresses, under this table's seed, that others may see.
    pub fn shown(&self, addresses: F::Addresses) -> u64 {
        self.seed.shown::<F>(addresses)
    }

    /// First stage of a lookup: asks for the bucket.
    #[inline(always)]
    pub fn prefetch_bucket(&self, hash: FlowHash) {
        self.index.prefetch(hash);
    }

    /// Asks for the buckets that a connection's end will need, and for nothing else.
    #[inline]
    pub fn prefetch_end(&self, slot: Slot) {
        let record = self.record(slot);
        for side in record.sides() {
            self.prefetch_bucket(self.hash(record.key(*side)));
        }
    }

    /// Second stage: the likely connection, its record asked for. Not verified.
    #[inline(always)]
    pub fn guess(&self, hash: FlowHash) -> Option<Hit> {
        let reference = self.index.first(self.index.propose(hash))?;
        let hit = Hit::from_reference(reference);
        self.prefetch_record(hit.slot);
        Some(hit)
    }

    /// Third stage: the guess if it is right, a full search if not.
    #[inline(always)]
    pub fn confirm(&self, guess: Option<Hit>, key: FlowKey<F>, hash: FlowHash) -> Option<Hit> {
        match guess {
            Some(hit) if self.record(hit.slot).matches(hit.side, key) => Some(hit),
            _ => self.find(key, hash),
        }
    }

    /// The connection of a packet with this key.
    pub fn find(&self, key: FlowKey<F>, hash: FlowHash) -> Option<Hit> {
        let search = |mut proposals| {
            while let Some(reference) = self.index.first(proposals) {
                let hit = Hit::from_reference(reference);
                if self.record(hit.slot).matches(hit.side, key) {
                    return Some(hit);
                }
                proposals = Index::rest(proposals);
            }
            None
        };
        search(self.index.propose(hash)).or_else(|| search(self.index.propose_alternate(hash)?))
    }

    /// Asks for a record's line, or both of them.
    #[inline(always)]
    pub fn prefetch_record(&self, slot: Slot) {
        let record = &self.records[slot.0 as usize];
        prefetch(record);
        if F::IS_V6 {
            prefetch(&record.seen_ms);
        }
    }

    /// A record.
    #[inline(always)]
    pub fn record(&self, slot: Slot) -> &Record<F> {
        &self.records[slot.0 as usize]
    }

    /// A record, to be changed. The keys cannot be.
    #[inline(always)]
    pub fn record_mut(&mut self, slot: Slot) -> &mut Record<F> {
        &mut self.records[slot.0 as usize]
    }

    /// What connections made by SYN cookies need besides.
    #[inline(always)]
    pub fn splices(&self) -> &Splices {
        &self.splices
    }

    /// The same, to be changed.
    #[inline(always)]
    pub fn splices_mut(&mut self) -> &mut Splices {
        &mut self.splices
    }

    /// A connection's splice, if it has one.
    #[inline]
    pub fn splice(&self, slot: Slot) -> Option<&Splice> {
        self.splices.get(self.record(slot).splice()?)
    }

    /// The same, to be changed.
    #[inline]
    pub fn splice_mut(&mut self, slot: Slot) -> Option<&mut Splice> {
        let number = self.record(slot).splice()?;
        self.splices.get_mut(number)
    }

    /// A side of a connection says so of the other's numbers. Not of the old ones, once the client
    /// has asked for new ones.
    pub fn remember(&mut self, slot: Slot, side: Side, number: u32) {
        if side == Side::Client && self.record(slot).asks_anew() {
            return;
        }
        match self.record(slot).splice().filter(|_| side == Side::Backend) {
            None => self.record_mut(slot).remember(side, number),
            Some(splice) => self.splices.remember(splice, number),
        }
    }

    /// What a side of a connection said last; 0 is nothing.
    pub fn said(&self, slot: Slot, side: Side) -> u32 {
        match self.splice(slot).filter(|_| side == Side::Backend) {
            None if side == Side::Client && self.record(slot).asks_anew() => 0,
            None => self.record(slot).said(side),
            Some(splice) => splice.said(),
        }
    }

    /// Gives a connection that has none a splice; its number, if there is room.
    pub fn put_splice(&mut self, slot: Slot, splice: Splice) -> Option<u32> {
        let number = self.splices.put(splice, slot.0)?;
        self.record_mut(slot).set_splice(number);
        Some(number)
    }

    /// Makes a connection. The caller has made sure that no key of its [`Record::sides`] is in the
    /// table.
    pub fn insert(&mut self, new: &NewConnection<F>, now_ms: u32) -> Result<Slot, Refusal> {
        self.insert_hashed(new, self.hash(new.backend), now_ms)
    }

    /// As [`Table::insert`], for who has the hash of the backend's key already.
    #[inline]
    pub fn insert_hashed(
        &mut self,
        new: &NewConnection<F>,
        backend: FlowHash,
        now_ms: u32,
    ) -> Result<Slot, Refusal> {
        let slot = self.take_free().ok_or(Refusal::Full)?;
        // Written first: making room in the index asks records for their keys.
        let record = Record::new(new, now_ms);
        self.records[slot.0 as usize] = record;
        for (entered, side) in record.sides().iter().enumerate() {
            let reference = Hit { slot, side: *side }.reference();
            let hash = match side {
                Side::Client => self.seed.hash(new.client),
                Side::Backend => backend,
            };
            if !self.enter(hash, reference) {
                self.withdraw(slot, &record, &record.sides()[..entered]);
                return Err(Refusal::IndexFull);
            }
        }
        self.live += 1;
        Ok(slot)
    }

    fn enter(&mut self, hash: FlowHash, reference: u32) -> bool {
        let (records, seed) = (&self.records, self.seed);
        self.index.insert(hash, reference, |entered| {
            let hit = Hit::from_reference(entered);
            seed.hash(records[hit.slot.0 as usize].key(hit.side))
        })
    }

    /// Forgets a connection. Nothing happens if the slot is free.
    pub fn remove(&mut self, slot: Slot) {
        let record = self.records[slot.0 as usize];
        if record.is_live() {
            if let Some(number) = record.splice() {
                self.splices.give_back(number);
            }
            self.withdraw(slot, &record, record.sides());
            self.live -= 1;
        }
    }

    /// Takes a record's entries for `sides` out of the index, and frees it.
    fn withdraw(&mut self, slot: Slot, record: &Record<F>, sides: &[Side]) {
        for side in sides {
            let reference = Hit { slot, side: *side }.reference();
            let removed = self.index.remove(self.seed.hash(record.key(*side)), reference);
            debug_assert!(removed, "a live record has its index entries");
        }
        self.give_back(slot);
    }

    fn take_free(&mut self) -> Option<Slot> {
        if self.free != NIL {
            let slot = Slot(self.free);
            self.free = self.records[self.free as usize].link();
            // Long untouched, and its link is needed for the next connection but one.
            if let Some(next) = self.records.get(self.free as usize) {
                prefetch(next);
            }
            return Some(slot);
        }
        let slot = Slot(self.used);
        ((self.used as usize) < self.records.len()).then(|| self.used += 1)?;
        Some(slot)
    }

    fn give_back(&mut self, slot: Slot) {
        let record = &mut self.records[slot.0 as usize];
        record.retire();
        record.set_link(self.free);
        self.free = slot.0;
    }

    /// Index entries in use: one for each of the [`Record::sides`].
    pub fn index_entries(&self) -> usize {
        self.index.entries()
    }
}
