//! The datagrams a worker has met in pieces: found by key, forgotten by age.
//!
//! ```text
//! hash ─► bucket ─► context ─► context        one chain a bucket, two buckets a context
//!
//! oldest ◄─► … ◄─► newest                     one list for each family, waiting or not: in each
//!                                             the oldest is first, and the first to go
//! ```
//!
//! Flat memory of fixed size, numbers in place of pointers. The hash is seeded afresh at every
//! start, so nobody outside can aim at a bucket.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;

use super::held::Chain;
use super::{AGE_MS, Key, Told};

/// Says "no context".
const NONE: u16 = u16::MAX;
/// Most contexts a table is made for.
const CONTEXTS_MAX: usize = NONE as usize;
/// Buckets to a context.
const BUCKETS_PER_CONTEXT: usize = 2;
/// Lists by age: two families, waiting or not.
const LISTS: usize = 4;

/// Where a context lies: from [`Table::find`] or [`Table::insert`], good until it is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place(u16);

/// What is known of a datagram.
#[derive(Debug)]
pub(super) enum State {
    /// These pieces wait for others.
    Waiting(Wait),
    /// Its ports, wire bytes.
    Known(u32),
    /// Its first piece was refused.
    Refused,
}

/// What waits, and for what.
#[derive(Debug)]
pub(super) struct Wait {
    /// The pieces that have come.
    pub(super) chain: Chain,
    /// The ports, if the first piece is one of them.
    pub(super) ports: Option<u32>,
    /// Bytes of the datagram; 0 until its last piece has come.
    pub(super) length: u16,
}

impl Wait {
    /// Nothing has come.
    pub(super) const NONE: Self = Self { chain: Chain::EMPTY, ports: None, length: 0 };

    /// Nothing to wait for, if that was what it waited for.
    pub(super) fn told(&self) -> Option<Told> {
        let (ports, length) = (self.ports?, self.length);
        (length > 0).then_some(Told { ports, length })
    }
}

#[derive(Debug)]
struct Context {
    /// `None` in a free one.
    key: Option<Key>,
    state: State,
    since_ms: u32,
    /// The next in its bucket, or the next free one.
    next: u16,
    older: u16,
    newer: u16,
}

#[derive(Clone, Copy, Debug)]
struct List {
    oldest: u16,
    newest: u16,
}

/// The table.
#[derive(Debug)]
pub(super) struct Table {
    contexts: Box<[Context]>,
    buckets: Box<[u16]>,
    lists: [List; LISTS],
    free: u16,
    length: usize,
    hasher: RandomState,
}

impl Table {
    /// Room for that many datagrams.
    pub(super) fn new(contexts: usize) -> Self {
        let count = u16::try_from(contexts.min(CONTEXTS_MAX)).unwrap_or(NONE);
        let context = |at: u16| Context {
            key: None,
            state: State::Refused,
            since_ms: 0,
            next: if at + 1 < count { at + 1 } else { NONE },
            older: NONE,
            newer: NONE,
        };
        let buckets = usize::from(count) * BUCKETS_PER_CONTEXT;
        Self {
            contexts: (0..count).map(context).collect(),
            buckets: vec![NONE; buckets.next_power_of_two()].into(),
            lists: [List { oldest: NONE, newest: NONE }; LISTS],
            free: if count == 0 { NONE } else { 0 },
            length: 0,
            hasher: RandomState::default(),
        }
    }

    /// How many datagrams it knows.
    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// Is there no room for another one?
    pub(super) fn is_full(&self) -> bool {
        self.free == NONE
    }

    fn context(&mut self, at: u16) -> Option<&mut Context> {
        self.contexts.get_mut(usize::from(at))
    }

    /// The bucket of a key: the link to its first context.
    #[expect(clippy::cast_possible_truncation, reason = "some bits of a hash are wanted")]
    fn bucket(&self, key: &Key) -> usize {
        self.hasher.hash_one(key) as usize & (self.buckets.len() - 1)
    }

    /// Where a datagram is known.
    pub(super) fn find(&self, key: &Key) -> Option<Place> {
        let mut at = *self.buckets.get(self.bucket(key))?;
        while let Some(context) = self.contexts.get(usize::from(at)) {
            if context.key.as_ref() == Some(key) {
                return Some(Place(at));
            }
            at = context.next;
        }
        None
    }

    /// What is known of it.
    pub(super) fn state(&mut self, place: Place) -> Option<&mut State> {
        self.context(place.0).map(|context| &mut context.state)
    }

    /// What waits there, if it is known and waits.
    pub(super) fn waiting(&mut self, place: Option<Place>) -> Option<&mut Wait> {
        match self.state(place?)? {
            State::Waiting(wait) => Some(wait),
            State::Known(_) | State::Refused => None,
        }
    }

    /// Is its time over?
    pub(super) fn is_over(&self, place: Place, now_ms: u32) -> bool {
        let context = self.contexts.get(usize::from(place.0));
        let age = |c: &Context| Some((now_ms.wrapping_sub(c.since_ms), c.key?.family()));
        context.and_then(age).is_some_and(|(age_ms, family)| age_ms >= AGE_MS[family as usize])
    }

    /// Enters a datagram that is not known. `None` without room.
    pub(super) fn insert(&mut self, key: Key, state: State, now_ms: u32) -> Option<Place> {
        let (at, bucket) = (self.free, self.bucket(&key));
        let head = *self.buckets.get(bucket)?;
        let context = self.context(at)?;
        let free = std::mem::replace(&mut context.next, head);
        (context.key, context.state) = (Some(key), state);
        *self.buckets.get_mut(bucket)? = at;
        self.free = free;
        self.length += 1;
        self.enlist(at, now_ms);
        Some(Place(at))
    }

    /// Replaces what is known of a datagram, which is the newest from now on; returns the old.
    pub(super) fn replace(&mut self, place: Place, state: State, now_ms: u32) -> Option<State> {
        self.delist(place.0);
        let old = std::mem::replace(&mut self.context(place.0)?.state, state);
        self.enlist(place.0, now_ms);
        Some(old)
    }

    /// Forgets a datagram; returns what was known.
    pub(super) fn remove(&mut self, place: Place) -> Option<State> {
        let at = place.0;
        self.delist(at);
        let free = self.free;
        let context = self.context(at)?;
        let key = context.key.take()?;
        let next = std::mem::replace(&mut context.next, free);
        let state = std::mem::replace(&mut context.state, State::Refused);
        self.unlink(&key, at, next);
        self.free = at;
        self.length -= 1;
        Some(state)
    }

    /// Takes `at` out of its bucket; `next` came after it.
    fn unlink(&mut self, key: &Key, at: u16, next: u16) {
        let bucket = self.bucket(key);
        let Some(head) = self.buckets.get_mut(bucket) else { return };
        if *head == at {
            *head = next;
            return;
        }
        let mut before = *head;
        while let Some(context) = self.context(before) {
            if context.next == at {
                context.next = next;
                return;
            }
            before = context.next;
        }
    }

    /// The list a context belongs to.
    fn list(&self, at: u16) -> Option<usize> {
        let context = self.contexts.get(usize::from(at))?;
        let waiting = usize::from(matches!(context.state, State::Waiting(_)));
        context.key.map(|key| waiting * 2 + key.family() as usize)
    }

    /// Makes it the newest of its list.
    fn enlist(&mut self, at: u16, now_ms: u32) {
        let Some(list) = self.list(at).and_then(|list| self.lists.get_mut(list)) else { return };
        let older = std::mem::replace(&mut list.newest, at);
        if older == NONE {
            list.oldest = at;
        }
        if let Some(context) = self.context(older) {
            context.newer = at;
        }
        if let Some(context) = self.context(at) {
            (context.older, context.newer, context.since_ms) = (older, NONE, now_ms);
        }
    }

    /// Takes it out of its list.
    fn delist(&mut self, at: u16) {
        let Some(number) = self.list(at) else { return };
        let Some(context) = self.context(at) else { return };
        let (older, newer) = (context.older, context.newer);
        match self.context(older) {
            Some(context) => context.newer = newer,
            None => self.lists[number % LISTS].oldest = newer,
        }
        match self.context(newer) {
            Some(context) => context.older = older,
            None => self.lists[number % LISTS].newest = older,
        }
    }

    /// The datagram known longest, of all of them or of those that wait.
    pub(super) fn oldest(&self, waiting_only: bool, now_ms: u32) -> Option<Place> {
        let lists = self.lists.get(if waiting_only { 2 } else { 0 }..)?;
        let heads = lists.iter().filter_map(|list| {
            let context = self.contexts.get(usize::from(list.oldest))?;
            Some((now_ms.wrapping_sub(context.since_ms), Place(list.oldest)))
        });
        heads.max_by_key(|(age_ms, _)| *age_ms).map(|(_, place)| place)
    }

    /// A datagram whose time is over, if there is one.
    pub(super) fn overdue(&self, now_ms: u32) -> Option<Place> {
        let heads = self.lists.iter().map(|list| Place(list.oldest));
        heads.into_iter().find(|place| self.is_over(*place, now_ms))
    }
}
