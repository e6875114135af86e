//! Packets that wait, in chains: a slab of fixed size, and numbers in place of pointers.
//!
//! ```text
//! slots   [p0|2] [ - |3] [p2|·] [ - |·] …        chain: first 0, last 2, two packets
//!            └──────────────▲                     free:  1 ─► 3 ─► …
//! ```
//!
//! Every slot is in exactly one chain or in the free one. A chain is a value without `Clone`: who
//! has it has its packets. Dropping one unread would lose its slots, so only [`super`] makes them.

use super::Told;

/// Says "no slot".
const NONE: u16 = u16::MAX;

/// Most packets a slab is made for.
const SLOTS_MAX: usize = NONE as usize;

/// Packets in order of arrival.
#[derive(Debug)]
pub(super) struct Chain {
    first: u16,
    last: u16,
    length: usize,
}

impl Chain {
    /// No packets.
    pub(super) const EMPTY: Self = Self { first: NONE, last: NONE, length: 0 };

    /// How many packets it has.
    pub(super) fn len(&self) -> usize {
        self.length
    }
}

#[derive(Debug)]
struct Slot<P> {
    packet: Option<P>,
    /// What was noted on it.
    told: Told,
    /// The next of its chain, or the next free one.
    next: u16,
}

/// The slab.
#[derive(Debug)]
pub(super) struct Held<P> {
    slots: Box<[Slot<P>]>,
    free: u16,
    length: usize,
}

impl<P> Held<P> {
    /// Room for that many packets.
    pub(super) fn new(packets: usize) -> Self {
        let count = u16::try_from(packets.min(SLOTS_MAX)).unwrap_or(NONE);
        let next = |at: u16| if at + 1 < count { at + 1 } else { NONE };
        let slot = |at| Slot { packet: None, told: Told::default(), next: next(at) };
        let free = if count == 0 { NONE } else { 0 };
        Self { slots: (0..count).map(slot).collect(), free, length: 0 }
    }

    /// How many packets it holds.
    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// Is there no room for another one?
    pub(super) fn is_full(&self) -> bool {
        self.free == NONE
    }

    fn slot(&mut self, at: u16) -> Option<&mut Slot<P>> {
        self.slots.get_mut(usize::from(at))
    }

    /// Puts a packet at a chain's end; gives it back when full.
    pub(super) fn push(&mut self, chain: &mut Chain, packet: P) -> Result<(), P> {
        let at = self.free;
        let Some(slot) = self.slot(at) else { return Err(packet) };
        let free = std::mem::replace(&mut slot.next, NONE);
        slot.packet = Some(packet);
        self.free = free;
        self.length += 1;
        self.append(chain, Chain { first: at, last: at, length: 1 });
        Ok(())
    }

    /// Puts a packet at a chain's front; gives it back when full.
    pub(super) fn push_front(&mut self, chain: &mut Chain, packet: P) -> Result<(), P> {
        let rest = std::mem::replace(chain, Chain::EMPTY);
        let done = self.push(chain, packet);
        self.append(chain, rest);
        done
    }

    /// Takes a chain's first packet out, with what was noted on it.
    pub(super) fn pop(&mut self, chain: &mut Chain) -> Option<(P, Told)> {
        let (at, free) = (chain.first, self.free);
        let slot = self.slot(at)?;
        let next = std::mem::replace(&mut slot.next, free);
        let (packet, told) = (slot.packet.take(), slot.told);
        self.free = at;
        self.length -= 1;
        chain.first = next;
        chain.length -= 1;
        chain.last = if next == NONE { NONE } else { chain.last };
        packet.map(|packet| (packet, told))
    }

    /// Puts the packets of `more` behind those of `chain`.
    #[expect(clippy::needless_pass_by_value, reason = "the chain is used up")]
    pub(super) fn append(&mut self, chain: &mut Chain, more: Chain) {
        if more.first == NONE {
            return;
        }
        match self.slot(chain.last) {
            Some(last) => last.next = more.first,
            None => chain.first = more.first,
        }
        chain.last = more.last;
        chain.length += more.length;
    }

    /// Notes something on every packet of a chain.
    pub(super) fn note(&mut self, chain: &Chain, told: Told) {
        let mut at = chain.first;
        while let Some(slot) = self.slot(at) {
            slot.told = told;
            at = slot.next;
        }
    }

    /// Frees the packets of a chain; returns how many.
    pub(super) fn clear(&mut self, mut chain: Chain) -> usize {
        std::iter::from_fn(|| self.pop(&mut chain)).count()
    }
}
