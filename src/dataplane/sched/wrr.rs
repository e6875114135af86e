//! Weighted round robin, interleaved: passes over the list, each taking the backends whose weight
//! reaches a threshold. The threshold starts at `top`, falls by `step` (the weights' greatest
//! common divisor) from pass to pass, and starts over when it would reach zero; `top` is the
//! largest weight less (`step` − 1).
//!
//! Any change of the backends sends the pointer to the head of the list and recomputes `step` and
//! `top`; a threshold of zero or above `top` becomes `top`, another is rounded to a multiple of
//! `step` plus one. A fresh service is treated as if its backends had been added one by one, oldest
//! first: that is why its first pass has threshold 1.

use super::choice::{Choice, Turn};
use super::method::Method;

pub(super) const METHOD: Method =
    Method::new("wrr", "Short requests, backends that differ in strength: the default.", pick);

fn pick(choice: &mut Choice<'_>) -> Option<usize> {
    if choice.has_changed {
        restart(choice);
    }
    if choice.turn.top == 0 {
        return None;
    }
    let next = choice.turn.last.map_or(0, |last| last.position + 1);
    let position = if let Some(position) = reaching(choice, next) {
        position
    } else {
        next_pass(choice)?;
        reaching(choice, 0)?
    };
    choice.choose(position)
}

/// Lowers the threshold to that of the next pass in which a backend is open.
fn next_pass(choice: &mut Choice<'_>) -> Option<()> {
    let largest = largest_open(choice)?;
    let turn = &mut *choice.turn;
    let lower = turn.threshold.saturating_sub(turn.step);
    turn.threshold = if lower == 0 { turn.top } else { lower };
    // Passes that would find nobody: `step` divides every weight, so this ends at 1 or above.
    let passes = turn.threshold.saturating_sub(largest).div_ceil(turn.step);
    turn.threshold = turn.threshold.saturating_sub(passes * turn.step).max(1);
    Some(())
}

/// The largest weight of those that are open.
fn largest_open(choice: &Choice<'_>) -> Option<u32> {
    if !choice.walk.is_limited {
        return Some(choice.turn.top + choice.turn.step - 1);
    }
    let open = (0..choice.walk.len()).filter(|position| choice.walk.is_open(*position));
    open.map(|position| choice.walk.weight(position)).max()
}

/// The first from `next` on whose weight reaches the threshold, and that has not had enough.
fn reaching(choice: &Choice<'_>, mut next: usize) -> Option<usize> {
    let threshold = choice.turn.threshold;
    loop {
        let rest = choice.walk.weights.get(next..)?;
        let position = next + rest.iter().position(|weight| *weight >= threshold)?;
        if !choice.walk.is_overloaded(position) {
            return Some(position);
        }
        next = position + 1;
    }
}

/// Recomputes what depends on the weights, and moves the pointer to the head of the list.
fn restart(choice: &mut Choice<'_>) {
    let is_fresh = choice.turn.last.is_none() && choice.turn.threshold == 0;
    choice.turn.last = None;
    let weights = choice.walk.weights;
    let (mut step, mut largest) = (0, 0);
    // Oldest first, as they were added.
    for (position, weight) in weights.iter().enumerate().rev() {
        (step, largest) = (gcd(step, *weight), largest.max(*weight));
        if is_fresh || position == 0 {
            adjust(choice.turn, step, largest);
        }
    }
    if weights.is_empty() {
        adjust(choice.turn, 0, 0);
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

/// The greatest common divisor; 0 is divided by all.
fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}
