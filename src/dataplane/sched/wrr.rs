//! Weighted round robin, interleaved: passes over the list, each taking the backends whose weight
//! reaches a threshold. The threshold starts at `top`, falls by `step` (the weights' greatest
//! common divisor) from pass to pass, and starts over when it would reach zero; `top` is the
//! largest weight less (`step` − 1).
//!
//! Any change of the backends sends the pointer to the head of the list and recomputes `step` and
//! `top`; a threshold of zero or above `top` becomes `top`, another is rounded to a multiple of
//! `step` plus one. A fresh service is treated as if its backends had been added one by one, oldest
//! first: that is why its first pass has threshold 1. One that changes to this scheduler starts at
//! `top`.
//!
//! Even are whole rounds: in as many connections as the weights sum up to (by their divisor) each
//! backend gets its weight. Each worker has rounds of its own, and stands in the midst of one.

use super::choice::{Choice, Turn};
use super::method::Method;
use crate::dataplane::snapshot::gcd;

pub(super) const METHOD: Method =
    Method::new("wrr", "Short requests, backends that differ in strength: the default.", pick);

/// Backends looked at one by one before the tree is asked: in most lists the next is among them.
const NEAR: usize = 8;

fn pick(choice: &mut Choice<'_>) -> Option<usize> {
    if choice.has_changed {
        restart(choice);
    }
    if choice.turn.top == 0 {
        return None;
    }
    let mut next = choice.turn.last.map_or(0, |last| last.position + 1);
    loop {
        if let Some(position) = reaching(choice, next) {
            return choice.choose(position);
        }
        // Whoever was thought open and is not, is known by the next time.
        next_pass(choice)?;
        next = 0;
    }
}

/// Lowers the threshold to that of the next pass in which a backend is open.
fn next_pass(choice: &mut Choice<'_>) -> Option<()> {
    let is_limited = choice.walk.row.is_limited;
    let all = choice.turn.top + choice.turn.step - 1;
    let largest = if is_limited { choice.largest_open()? } else { all };
    let turn = &mut *choice.turn;
    let lower = turn.threshold.saturating_sub(turn.step);
    turn.threshold = if lower == 0 { turn.top } else { lower };
    // Passes that would find nobody: `step` divides every weight, so this ends at 1 or above.
    let passes = turn.threshold.saturating_sub(largest).div_ceil(turn.step);
    turn.threshold = turn.threshold.saturating_sub(passes * turn.step).max(1);
    Some(())
}

/// The first from `next` on whose weight reaches the threshold, and that has not had enough.
fn reaching(choice: &mut Choice<'_>, next: usize) -> Option<usize> {
    let (walk, threshold) = (choice.walk, choice.turn.threshold);
    let mut near = next..walk.len().min(next + NEAR);
    let reaches = |position: &usize| walk.weight(*position) >= threshold && walk.is_open(*position);
    near.find(reaches).or_else(|| choice.open_behind(next, threshold))
}

/// Recomputes what depends on the weights, and moves the pointer to the head of the list.
fn restart(choice: &mut Choice<'_>) {
    let is_fresh = choice.turn.last.is_none() && choice.turn.threshold == 0;
    choice.turn.last = None;
    if is_fresh {
        let (mut step, mut largest) = (0, 0);
        // Oldest first, as they were added.
        for weight in choice.walk.weights.iter().rev() {
            (step, largest) = (gcd(step, *weight), largest.max(*weight));
            adjust(choice.turn, step, largest);
        }
    } else {
        let row = choice.walk.row;
        adjust(choice.turn, row.divisor, row.largest);
    }
    // Workers start at different backends; the first one starts where IPVS does.
    if let Some(before) = choice.start().checked_sub(1) {
        choice.choose(before);
    }
}

/// Step, top and threshold as they follow from the weights' divisor and the largest of them.
fn adjust(turn: &mut Turn, divisor: u32, largest: u32) {
    turn.step = divisor.max(1);
    turn.top = if largest == 0 { 0 } else { largest - (turn.step - 1) };
    if turn.threshold == 0 || turn.threshold > turn.top {
        turn.threshold = turn.top;
    } else if turn.step > 1 {
        turn.threshold = turn.threshold / turn.step * turn.step + 1;
    }
}
