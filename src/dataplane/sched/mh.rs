//! Maglev hashing (Eisenbud and others, NSDI 2016), as the kernel has it: a table in which each
//! backend claims slots in an order of its own, in turns by weight. When a backend comes or goes,
//! few slots besides its own change hands.
//!
//! ```text
//! start = H₁(port + address) mod N     step = H₂(port + address) mod (N − 1) + 1
//! claims: start, start + step, start + 2·step … the next one that is free, until all are taken
//! client's slot = H₁(port + address) mod N
//! ```
//!
//! The table is made of each backend's *last weight above zero*: a backend that is drained keeps
//! its slots, so that nobody else's clients move; its own are refused or, with `mh-fallback`, look
//! on. Every box with the same backends in the same order has the same table.
//!
//! What else changes hands when a backend leaves depends on how many slots each has, and on how their steps
//! lie to each other: with the kernel's 4,093, up to some thirty backends and equal weights, mostly less than
//! 2 % of all, and seldom much more. Unequal weights make longer rounds, and move more; more slots less.

use std::net::SocketAddr;

use super::choice::Choice;
use super::hash::{client, fold, sip13};
use super::method::{Entry, Flag, Flags, Method, Prepared, Slots};
use crate::dataplane::snapshot::gcd;

pub(super) const METHOD: Method = Method {
    flags: &[("mh-fallback", Flag::Fallback), ("mh-port", Flag::Port)],
    has_table: true,
    by_flow_alone: true,
    prepare: Some(prepare),
    ..Method::new(
        "mh",
        "Several boxes in front of the same backends without shared state: every box, a kernel \
         director too, gives a client the same backend, and few move when one leaves.",
        pick,
    )
};

/// The keys of the two hashes, both halves alike.
const FIRST: u64 = 2_654_435_761;
const SECOND: u64 = 2_654_446_892;

/// Slots looked at before the list itself is: only if hardly any backend is open.
const PROBES: u32 = 256;

#[expect(clippy::cast_possible_truncation, reason = "the kernel keeps the lower half")]
fn hash(key: u64, word: u32) -> u32 {
    sip13(key, &word.to_le_bytes()) as u32
}

pub(super) fn prepare(entries: &[Entry], flags: Flags) -> Prepared {
    Prepared { slots: table(entries, flags.slots), ..Prepared::default() }
}

/// A backend on its way through the slots.
struct Claimant {
    position: u16,
    next: u32,
    step: u32,
    turns: u32,
}

/// Slot to position; empty if nobody claims any.
fn table(entries: &[Entry], slots: Slots) -> Box<[u16]> {
    let size = slots.count();
    let turns = turns(entries, slots);
    let mut claimants: Vec<Claimant> = entries
        .iter()
        .zip(0u16..)
        .zip(turns)
        .filter(|(_, turns)| *turns > 0)
        .map(|((entry, position), turns)| {
            let word = word(entry.address);
            let step = hash(SECOND, word) % (size - 1) + 1;
            Claimant { position, next: hash(FIRST, word) % size, step, turns }
        })
        .collect();
    if claimants.is_empty() {
        return Box::default();
    }
    let mut slots = vec![None; size as usize];
    let mut free = size;
    loop {
        for claimant in &mut claimants {
            for _ in 0..claimant.turns {
                claim(&mut slots, claimant);
                free -= 1;
                if free == 0 {
                    return slots.into_iter().map(Option::unwrap_or_default).collect();
                }
            }
        }
    }
}

fn claim(slots: &mut [Option<u16>], claimant: &mut Claimant) {
    let size = u32::try_from(slots.len()).unwrap_or(u32::MAX);
    while slots[claimant.next as usize].is_some() {
        claimant.next = (claimant.next + claimant.step) % size;
    }
    slots[claimant.next as usize] = Some(claimant.position);
}

fn word(address: SocketAddr) -> u32 {
    fold(address.ip()).wrapping_add(address.port().into())
}

/// How many slots each claims in a round: its weight by the common divisor, halved until the largest
/// has no more bits than half those of the table's size, as the kernel's build for that size does.
fn turns(entries: &[Entry], slots: Slots) -> impl Iterator<Item = u32> {
    let weights = || entries.iter().map(|entry| entry.last_weight);
    let divisor = weights().fold(0, gcd).max(1);
    let largest = weights().max().unwrap_or(0) / divisor;
    let shift = (u32::BITS - largest.leading_zeros())
        .saturating_sub((u32::BITS - slots.count().leading_zeros()) / 2);
    weights().map(move |weight| if weight == 0 { 0 } else { ((weight / divisor) >> shift).max(1) })
}

fn pick(choice: &mut Choice<'_>) -> Option<usize> {
    at(choice, client(choice), choice.flags().fallback)
}

/// The backend at `word`'s slot, if it is open; else, if `look_on`, the first that is.
pub(super) fn at(choice: &mut Choice<'_>, word: u32, look_on: bool) -> Option<usize> {
    let (walk, size) = (choice.walk, choice.flags().slots.count());
    let slots = &walk.service.scheduling.prepared().slots;
    let slot = |offset: u32| hash(FIRST, offset.wrapping_add(word)) % size;
    let open = |slot: u32| {
        let position = usize::from(*slots.get(slot as usize)?);
        walk.is_open(position).then_some(position)
    };
    let first = slot(0);
    if let Some(position) = open(first) {
        return Some(position);
    }
    if !look_on || slots.is_empty() || !choice.is_any_open() {
        return None;
    }
    let probed = (0..PROBES).find_map(|i| open(slot((i + first) % size)));
    probed.or_else(|| choice.open_from(first as usize % walk.len().max(1)))
}

#[cfg(test)]
pub(super) fn table_of(entries: &[Entry], slots: u32) -> Box<[u16]> {
    table(entries, Slots::new(slots).unwrap())
}
