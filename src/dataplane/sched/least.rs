//! The backend with the least of something: lc, wlc, sed, nq, fo, ovf, and the second opinion of
//! lblc and lblcr.
//!
//! With one worker the tree is always up to date, since every change of a load is this worker's
//! own. With several the winner's load is read again before it is believed, and with every pick
//! two more backends are looked at in turn, so that what others freed is seen after a round. Nobody is
//! refused for long on the word of an old tree: backends that are open again are told
//! ([`crate::stats::reopened`]), and where the tree knows of no place all the same, it is built anew
//! now and then.

use super::choice::Choice;
use super::tree::{self, Rank};
use crate::stats::loads::Load;

/// How often a winner that has more by now is put right before it is taken all the same.
const CORRECTIONS: usize = 16;

/// Backends looked at for others' changes with each pick.
const LOOKS: usize = 2;

/// IPVS's measure of work: an active connection weighs as 257 inactive ones.
#[inline]
pub(super) fn overhead(load: Load) -> u64 {
    u64::from(load.active) * 256 + u64::from(load.total)
}

/// Overhead by weight: wlc's rank.
#[inline]
pub(super) fn by_weight(load: Load, weight: u32) -> Rank {
    Rank::new(overhead(load), weight)
}

/// The best by the method's first rank.
#[inline]
pub(super) fn pick(choice: &mut Choice<'_>) -> Option<usize> {
    best(choice, 0).map(|(position, _)| position)
}

/// The best by the method's rank number `which`, and its rank.
pub(super) fn best(choice: &mut Choice<'_>, which: usize) -> Option<(usize, Rank)> {
    choice.grow();
    if choice.workers == 1 {
        return top(choice, which);
    }
    look_around(choice);
    choice.look_again(|choice| {
        choice.grow();
        believed(choice, which)
    })
}

/// The tree's answer.
fn top(choice: &mut Choice<'_>, which: usize) -> Option<(usize, Rank)> {
    let best = tree::best(choice.tree(which))?;
    best.rank().is_eligible().then_some((best.position as usize, best.rank()))
}

/// The tree's answer, put right where other workers have made it wrong.
fn believed(choice: &mut Choice<'_>, which: usize) -> Option<(usize, Rank)> {
    for _ in 0..CORRECTIONS {
        let best = tree::best(choice.tree(which))?;
        let position = best.position as usize;
        if choice.rank(which, position) == best.rank() {
            return best.rank().is_eligible().then_some((position, best.rank()));
        }
        choice.put_right(position);
    }
    top(choice, which)
}

fn look_around(choice: &mut Choice<'_>) {
    for _ in 0..LOOKS {
        let next = choice.turn.look + 1;
        choice.turn.look = if (next as usize) < choice.walk.len() { next } else { 0 };
        choice.put_right(choice.turn.look as usize);
    }
}
