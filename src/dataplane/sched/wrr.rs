//! Weighted round robin, interleaved: passes over the list, each taking the backends whose weight
//! reaches a threshold. The threshold starts at `top`, falls by `step` (the weights' greatest
//! common divisor) from pass to pass, and starts over when it would reach zero; `top` is the
//! largest weight less (`step` − 1).
//!
//! Any change of the backends sends the pointer to the head of the list and recomputes `step` and
//! `top`; a threshold of zero or above `top` becomes `top`, another is rounded to a multiple of
//! `step` plus one. A fresh service is treated as if its backends had been added one by one, oldest
//! first: that is why its first pass has threshold 1.

use super::{Turn, Walk};
use crate::ids::{BackendId, WorkerId};

pub(super) fn pick(
    walk: &Walk<'_>,
    turn: &mut Turn,
    changed: bool,
    worker: WorkerId,
) -> Option<BackendId> {
    if changed {
        restart(walk, turn, worker);
    }
    if turn.top == 0 {
        return None;
    }
    let mut next = turn.last.map_or(0, |last| last.position + 1);
    // Within `top / step` passes the threshold meets the largest weight; one more for the rest of
    // the pass under way.
    for _ in 0..=turn.top.div_ceil(turn.step) {
        let found = (next..walk.len()).find(|p| walk.weight(*p) >= turn.threshold);
        if let Some(position) = found {
            return walk.choose(turn, position);
        }
        turn.threshold =
            turn.threshold.checked_sub(turn.step).filter(|t| *t > 0).unwrap_or(turn.top);
        next = 0;
    }
    None
}

/// Recomputes what depends on the weights, and moves the pointer to the head of the list.
fn restart(walk: &Walk<'_>, turn: &mut Turn, worker: WorkerId) {
    let fresh = turn.last.is_none() && turn.threshold == 0;
    turn.last = None;
    let oldest = if fresh { (0..walk.len()).rev() } else { (0..0).rev() };
    for newest in oldest {
        adjust(walk, turn, newest);
    }
    if !fresh {
        adjust(walk, turn, 0);
    }
    // Workers start at different backends; the first one starts where IPVS does.
    if fresh && worker.0 > 0 && walk.len() > 1 {
        let position = (worker.index() - 1) % walk.len();
        walk.choose(turn, position);
    }
}

/// Step, top and threshold as they follow from the backends from position `newest` on.
fn adjust(walk: &Walk<'_>, turn: &mut Turn, newest: usize) {
    let weights = || (newest..walk.len()).map(|p| walk.weight(p)).filter(|w| *w > 0);
    turn.step = weights().fold(0, gcd).max(1);
    turn.top = weights().max().map_or(0, |largest| largest - (turn.step - 1));
    if turn.threshold == 0 || turn.threshold > turn.top {
        turn.threshold = turn.top;
    } else if turn.step > 1 {
        turn.threshold = turn.threshold / turn.step * turn.step + 1;
    }
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}
