//! Power of two choices, by weight: two backends drawn at random, each as often as its weight, and
//! of them the one with less overhead for its weight. As in IPVS a draw is from 0 to the sum of
//! the weights inclusive, so the first in the list gets a little more.

use super::choice::Choice;
use super::least::by_weight;
use super::method::Method;

pub(super) const METHOD: Method = Method {
    compares_loads: true,
    ..Method::new(
        "twos",
        "As wlc, for many boxes or workers that do not know each other's connections: no herd runs \
         to the backend that was idle last.",
        pick,
    )
};

/// Draws that hit a full backend before one is drawn from those that are not.
const DRAWS: usize = 16;

fn pick(choice: &mut Choice<'_>) -> Option<usize> {
    let (one, other) = (draw(choice)?, draw(choice)?);
    let rank = |position| by_weight(choice.walk.load(position), choice.walk.weight(position));
    Some(if rank(other).is_less(rank(one)) { other } else { one })
}

/// An open backend, each as often as its weight.
fn draw(choice: &mut Choice<'_>) -> Option<usize> {
    let sums = choice.walk.sums;
    let sum = u64::from(*sums.last()?);
    for _ in 0..DRAWS {
        let drawn = choice.random.below(sum + 1).max(1);
        let position = sums.partition_point(|up_to| u64::from(*up_to) < drawn);
        if choice.walk.is_ready(position) {
            return Some(position);
        }
    }
    choice.draw_open(None, 1)
}
