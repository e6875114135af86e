//! Power of two choices (Mitzenmacher, 2001): two different backends drawn at random, each as often
//! as its weight, and of them the one with fewer connections for its weight. All workers' connections count, not latency:
//! this box does not measure any.

use super::choice::Choice;
use super::method::Method;
use super::tree::Rank;

pub(super) const METHOD: Method = Method {
    compares_loads: true,
    ..Method::new(
        "p2c",
        "Large fleets and many boxes: nearly as even as wlc, and nobody runs to the newest backend.",
        pick,
    )
};

/// Draws that hit the same backend, or one that is not open, before one is drawn from the others.
const DRAWS: usize = 16;

fn pick(choice: &mut Choice<'_>) -> Option<usize> {
    let one = draw(choice, None)?;
    let Some(other) = draw(choice, Some(one)) else { return Some(one) };
    let connections = |position| {
        let total = choice.walk.load(position).total;
        Rank::new(u64::from(total) + 1, choice.walk.weight(position))
    };
    Some(if connections(other).is_less(connections(one)) { other } else { one })
}

/// An open backend other than `not`, each as often as its weight.
fn draw(choice: &mut Choice<'_>, not: Option<usize>) -> Option<usize> {
    let sums = choice.walk.sums;
    let sum = u64::from(*sums.last()?);
    for _ in 0..DRAWS {
        let drawn = choice.random.below(sum.max(1));
        let position = sums.partition_point(|up_to| u64::from(*up_to) <= drawn);
        if Some(position) != not && choice.walk.is_ready(position) {
            return Some(position);
        }
    }
    choice.draw_open(not, 0)
}
