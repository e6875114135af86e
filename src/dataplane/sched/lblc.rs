//! Locality-based least connections: a destination keeps its backend as long as that one is open
//! and does not have more active connections than its weight while another has fewer than half of
//! its own; then it gets the one wlc would choose.

use super::cache::Member;
use super::choice::Choice;
use super::least::{self, by_weight};
use super::method::Method;
use super::tree::Rank;

pub(super) const METHOD: Method = Method {
    compares_loads: true,
    ranks: &[by_weight, by_activity],
    ..Method::new(
        "lblc",
        "Caches behind a service at many addresses: each address stays with one backend until that \
         one has too much.",
        pick,
    )
};

/// Active connections by weight: who has room.
pub(super) fn by_activity(load: crate::stats::loads::Load, weight: u32) -> Rank {
    Rank::new(load.active.into(), weight)
}

fn pick(choice: &mut Choice<'_>) -> Option<usize> {
    let service = (choice.id, choice.walk.service.life);
    let (vip, now_ms) = (choice.flow.vip, choice.flow.now_ms);
    let kept = choice.cache.entry(service, vip, now_ms)?.members().next();
    let kept = kept.and_then(|member| choice.walk.seated(member));
    if let Some(position) = kept.filter(|position| choice.walk.is_ready(*position))
        && !has_too_much(choice, position)
    {
        return Some(position);
    }
    let position = least::pick(choice)?;
    let age = choice.walk.age(position)?;
    choice.cache.entry(service, vip, now_ms)?.set(Member { age, place: position }, now_ms);
    Some(position)
}

/// Has it more active connections than its weight, while another has fewer than half of its own?
pub(super) fn has_too_much(choice: &mut Choice<'_>, position: usize) -> bool {
    let active = choice.walk.load(position).active;
    active > choice.walk.weight(position)
        && least::best(choice, 1).is_some_and(|(_, rank)| rank.is_below(1, 2))
}
