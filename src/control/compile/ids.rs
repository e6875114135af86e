//! Numbers for things that come and go: stable while the thing lives, and for as long after as
//! anybody may still hold the number.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;

use super::CompileError;

#[derive(Clone, Debug)]
enum Slot<K> {
    Free,
    /// In the plan compiled as this generation.
    Live {
        key: K,
        seen: u64,
    },
    /// Gone since this generation.
    Retired {
        key: K,
        since: u64,
    },
}

/// Ids from 0 to a limit. The lowest free one is given out first.
#[derive(Debug)]
pub(super) struct Ids<K> {
    slots: Vec<Slot<K>>,
    by_key: HashMap<K, u32>,
    /// Free slots; those past the end of `slots` are free too.
    free: BTreeSet<u32>,
    limit: usize,
}

impl<K: Clone + Eq + Hash> Ids<K> {
    pub(super) fn new(limit: usize) -> Self {
        Self { slots: Vec::new(), by_key: HashMap::new(), free: BTreeSet::new(), limit }
    }

    /// The highest id in use, plus one.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// The id of a live or retired key.
    pub(super) fn find(&self, key: &K) -> Option<u32> {
        self.by_key.get(key).copied()
    }

    /// The key of an id in use, and whether it is retired.
    pub(super) fn get(&self, id: u32) -> Option<(&K, bool)> {
        match self.slots.get(id as usize)? {
            Slot::Free => None,
            Slot::Live { key, .. } => Some((key, false)),
            Slot::Retired { key, .. } => Some((key, true)),
        }
    }

    /// All ids in use, ascending.
    pub(super) fn used(&self) -> impl Iterator<Item = u32> {
        let used = |(id, slot)| (!matches!(slot, &Slot::Free)).then_some(id);
        (0u32..).zip(&self.slots).filter_map(used)
    }

    /// Ids retired at `generation`, ascending.
    pub(super) fn retired_at(&self, generation: u64) -> impl Iterator<Item = u32> {
        let then = move |(id, slot)| match slot {
            &Slot::Retired { since, .. } if since == generation => Some(id),
            _ => None,
        };
        (0u32..).zip(&self.slots).filter_map(then)
    }

    /// How many ids are retired.
    pub(super) fn retired(&self) -> usize {
        self.slots.iter().filter(|slot| matches!(slot, Slot::Retired { .. })).count()
    }

    /// Refuses more new keys than there are ids for.
    pub(super) fn check_room(&self, what: &'static str, wanted: usize) -> Result<(), CompileError> {
        let (limit, used) = (self.limit, self.slots.len() - self.free.len());
        if wanted <= limit - used {
            return Ok(());
        }
        Err(CompileError::Full { what, wanted, used, limit, retired: self.retired() })
    }

    /// Gives every key its id, the one it has or a free one, and retires what is not among them.
    /// The caller has asked [`Ids::check_room`].
    pub(super) fn assign(&mut self, keys: impl Iterator<Item = K>, generation: u64) -> Vec<u32> {
        let ids = keys.map(|key| self.take(key, generation)).collect();
        for slot in &mut self.slots {
            if let Slot::Live { key, seen } = slot
                && *seen != generation
            {
                *slot = Slot::Retired { key: key.clone(), since: generation };
            }
        }
        ids
    }

    fn take(&mut self, key: K, generation: u64) -> u32 {
        let id = self.find(&key).or_else(|| self.free.pop_first()).unwrap_or_else(|| {
            self.slots.push(Slot::Free);
            u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
        });
        self.slots[id as usize] = Slot::Live { key: key.clone(), seen: generation };
        self.by_key.insert(key, id);
        id
    }

    /// Frees the ids that were retired at `generation` or before and that `idle` agrees to;
    /// returns them.
    pub(super) fn release(&mut self, generation: u64, idle: impl Fn(u32) -> bool) -> Vec<u32> {
        let mut freed = Vec::new();
        for (id, slot) in (0u32..).zip(&mut self.slots) {
            if let Slot::Retired { key, since } = slot
                && *since <= generation
                && idle(id)
            {
                self.by_key.remove(key);
                *slot = Slot::Free;
                self.free.insert(id);
                freed.push(id);
            }
        }
        self.shrink();
        freed
    }

    fn shrink(&mut self) {
        while matches!(self.slots.last(), Some(Slot::Free)) {
            self.slots.pop();
        }
        // Ids past the end are free by being there.
        let end = u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
        self.free.split_off(&end);
    }
}
