//! Destination hashing: 256 slots filled with the backends in list order, weights ignored; the
//! slot is the hash of the address the client asked for. If its backend is not open, refuse.

use super::choice::Choice;
use super::hash::{SLOTS, fold, golden};
use super::method::{Entry, Flags, Method, Prepared};

pub(super) const METHOD: Method = Method {
    by_flow_alone: true,
    prepare: Some(prepare),
    ..Method::new("dh", "A service at many addresses: one backend for each address.", pick)
};

fn prepare(entries: &[Entry], _: Flags) -> Prepared {
    let slots = (0..=u16::MAX).take(entries.len()).cycle().take(SLOTS as usize);
    Prepared { slots: slots.collect(), ..Prepared::default() }
}

fn pick(choice: &mut Choice<'_>) -> Option<usize> {
    let slot = golden(fold(choice.flow.vip));
    let position = *choice.walk.service.scheduling.prepared().slots.get(slot as usize)?;
    Some(position.into()).filter(|position| choice.walk.is_open(*position))
}
