//! Source hashing: 256 slots, each backend taking as many in a row as its weight (at least one),
//! again and again until all are taken; the slot is the hash of the client's address, with
//! `sh-port` of its port too. If its backend is not open, refuse; with `sh-fallback` look on at
//! offsets that begin with the slot's own number.

use super::choice::Choice;
use super::hash::{SLOTS, client, golden};
use super::method::{Entry, Flag, Flags, Method, Prepared};

pub(super) const METHOD: Method = Method {
    flags: &[("sh-fallback", Flag::Fallback), ("sh-port", Flag::Port)],
    by_flow_alone: true,
    prepare: Some(prepare),
    ..Method::new(
        "sh",
        "A client stays with its backend without persistence; for boxes beside kernel directors \
         that use it. `mh` moves fewer clients when backends change.",
        pick,
    )
};

fn prepare(entries: &[Entry], _: Flags) -> Prepared {
    let shares = entries.iter().zip(0u16..);
    let shares = shares
        .flat_map(|(entry, position)| std::iter::repeat_n(position, entry.weight.max(1) as usize));
    Prepared { slots: shares.cycle().take(SLOTS as usize).collect(), ..Prepared::default() }
}

fn pick(choice: &mut Choice<'_>) -> Option<usize> {
    let walk = choice.walk;
    let slots = &walk.service.scheduling.prepared().slots;
    let slot = golden(client(choice));
    let open = |slot: u32| {
        let position = usize::from(*slots.get(slot as usize)?);
        walk.is_open(position).then_some(position)
    };
    if let Some(position) = open(slot) {
        return Some(position);
    }
    let looks_on = choice.flags().fallback && choice.is_any_open();
    let tries = if looks_on { SLOTS } else { 0 };
    (0..tries).find_map(|i| open(((i + slot) % SLOTS + slot) % SLOTS))
}
