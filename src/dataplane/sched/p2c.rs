//! Power of two choices (Mitzenmacher, 2001): two different backends drawn at random, and of them
//! the one with fewer connections for its weight. All workers' connections count, not latency:
//! this box does not measure any.

use super::choice::Choice;
use super::method::Method;
use super::tree::Rank;

pub(super) const METHOD: Method = Method::new(
    "p2c",
    "Large fleets and many boxes: nearly as even as wlc, and nobody runs to the newest backend.",
    pick,
);

/// Draws that hit a backend that is not open before the list itself is walked.
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

/// An open backend other than `not`, each as often.
fn draw(choice: &mut Choice<'_>, not: Option<usize>) -> Option<usize> {
    let others = choice.walk.len().checked_sub(usize::from(not.is_some()))?;
    let mut position = None;
    for _ in 0..DRAWS {
        let drawn = usize::try_from(choice.random.below(others as u64)).unwrap_or(0);
        let drawn = drawn + usize::from(not.is_some_and(|not| drawn >= not));
        position = Some(drawn);
        if choice.walk.is_ready(drawn) {
            return position;
        }
    }
    let walk = &choice.walk;
    walk.round_from(position?).find(|position| Some(*position) != not && walk.is_ready(*position))
}
