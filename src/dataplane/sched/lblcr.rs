//! Locality-based least connections with replication: as lblc, but a destination has a *set* of
//! backends. The least loaded of them is used; if it has too much, wlc's choice joins. A set that
//! has not changed for a day loses its most loaded member. A set of [`MEMBERS`](super::cache) is
//! full: then nobody joins, and the least loaded of all takes the connection as a guest.

use super::cache::{EXPIRATION_MS, Entry, Member};
use super::choice::Choice;
use super::lblc::{by_activity, has_too_much};
use super::least::{self, by_weight};
use super::method::Method;
use super::tree::Rank;

pub(super) const METHOD: Method = Method {
    compares_loads: true,
    ranks: &[by_weight, by_activity],
    ..Method::new(
        "lblcr",
        "As lblc, but an address that is asked for a lot gets several backends.",
        pick,
    )
};

fn pick(choice: &mut Choice<'_>) -> Option<usize> {
    let service = (choice.id, choice.walk.service.life);
    let (vip, now_ms) = (choice.flow.vip, choice.flow.now_ms);
    let mut entry = *choice.cache.entry(service, vip, now_ms)?;
    let (least, most) = extremes(choice, entry.members());
    if let Some(most) = most.filter(|_| entry.len() > 1)
        && now_ms.wrapping_sub(entry.changed_ms) > EXPIRATION_MS
    {
        entry.remove(choice.walk.age(most)?, now_ms);
        *choice.cache.entry(service, vip, now_ms)? = entry;
    }
    if let Some(least) = least
        && !has_too_much(choice, least)
    {
        return Some(least);
    }
    let position = least::pick(choice)?;
    let age = choice.walk.age(position)?;
    let have_gone = forget_the_gone(choice, &mut entry, now_ms);
    if entry.add(Member { age, place: position }, now_ms) || have_gone {
        entry.find_anew(|member| choice.walk.seated(member));
        *choice.cache.entry(service, vip, now_ms)? = entry;
    }
    Some(position)
}

/// The least and the most loaded open member.
fn extremes(
    choice: &Choice<'_>,
    members: impl Iterator<Item = Member>,
) -> (Option<usize>, Option<usize>) {
    let walk = &choice.walk;
    let seated = members.filter_map(|member| walk.seated(member));
    let ready = seated.filter(|position| walk.is_ready(*position));
    // Each load is read once: its line is as cold as any.
    let ranked = ready.map(|at| (at, by_weight(walk.load(at), walk.weight(at))));
    let (least, most) = ranked.fold((None, None), |(least, most), now: (usize, Rank)| {
        let is_less = |than: &(usize, Rank)| now.1.is_less(than.1);
        let is_more = |than: &(usize, Rank)| than.1.is_less(now.1);
        (
            least.filter(|least| !is_less(least)).or(Some(now)),
            most.filter(|most| !is_more(most)).or(Some(now)),
        )
    });
    (least.map(|(at, _)| at), most.map(|(at, _)| at))
}

/// Backends that left the service make room. Whether there were any.
fn forget_the_gone(choice: &Choice<'_>, entry: &mut Entry, now_ms: u32) -> bool {
    let before = *entry;
    let is_gone = |member: &Member| choice.walk.seated(*member).is_none();
    for member in before.members().filter(is_gone) {
        entry.remove(member.age, now_ms);
    }
    entry.len() < before.len()
}
