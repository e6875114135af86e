//! Locality-based least connections with replication: as lblc, but a destination has a *set* of
//! backends. The least loaded of them is used; if it has too much, wlc's choice joins. A set that
//! has not changed for a day loses its most loaded member. A set of [`MEMBERS`](super::cache) is
//! full: then nobody joins, and the least loaded of all takes the connection as a guest.

use super::choice::Choice;
use super::lblc::{by_activity, has_too_much};
use super::least::{self, by_weight};
use super::method::Method;
use crate::ids::BackendId;

pub(super) const METHOD: Method = Method {
    ranks: &[by_weight, by_activity],
    ..Method::new(
        "lblcr",
        "As lblc, but an address that is asked for a lot gets several backends.",
        pick,
    )
};

/// As IPVS's `lblcr_expiration`.
const UNCHANGED_MS: u32 = 86_400_000;

fn pick(choice: &mut Choice<'_>) -> Option<usize> {
    let (service, vip, now_ms) = (choice.id, choice.flow.vip, choice.flow.now_ms);
    let mut entry = *choice.cache.entry(service, vip, now_ms)?;
    let (least, most) = extremes(choice, entry.members());
    if let Some(most) = most.filter(|_| entry.len() > 1)
        && now_ms.wrapping_sub(entry.changed_ms) > UNCHANGED_MS
    {
        entry.remove(choice.walk.id(most)?, now_ms);
        *choice.cache.entry(service, vip, now_ms)? = entry;
    }
    if let Some(least) = least
        && !has_too_much(choice, least)
    {
        return Some(least);
    }
    let position = least::pick(choice)?;
    let id = choice.walk.id(position)?;
    forget_the_gone(choice, &mut entry, now_ms);
    entry.add(id, now_ms);
    *choice.cache.entry(service, vip, now_ms)? = entry;
    Some(position)
}

/// The least and the most loaded open member.
fn extremes(
    choice: &Choice<'_>,
    members: impl Iterator<Item = BackendId>,
) -> (Option<usize>, Option<usize>) {
    let (mut least, mut most) = (None, None);
    let rank = |position| by_weight(choice.walk.load(position), choice.walk.weight(position));
    let seated = members.filter_map(|id| choice.walk.seated(id));
    for position in seated.filter(|position| choice.walk.is_ready(*position)) {
        if least.is_none_or(|least| rank(position).is_less(rank(least))) {
            least = Some(position);
        }
        if most.is_none_or(|most| rank(most).is_less(rank(position))) {
            most = Some(position);
        }
    }
    (least, most)
}

/// Backends that left the service make room.
fn forget_the_gone(choice: &Choice<'_>, entry: &mut super::cache::Entry, now_ms: u32) {
    let members = *entry;
    for id in members.members().filter(|id| choice.walk.seated(*id).is_none()) {
        entry.remove(id, now_ms);
    }
}
