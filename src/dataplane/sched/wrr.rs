//! Weighted round robin, interleaved: passes over the list, each taking the backends whose weight
//! reaches a threshold. The threshold starts at `top`, falls by `step` (the weights' greatest
//! common divisor) from pass to pass, and starts over when it would reach zero; `top` is the
//! largest weight less (`step` − 1).
//!
//! Any change of the backends sends the pointer to the head of the list and recomputes `step` and
//! `top`; a threshold of zero or above `top` becomes `top`, another is rounded to a multiple of
//! `step` plus one. Each single change counts, also if no connection comes between two of them: they come with
//! the service ([`Weighings`]), and a reload is taken as removals, then edits, then additions. A fresh service's
//! backends are added one by one, oldest first: that is why its first pass has threshold 1. One that changes
//! to this scheduler starts at `top`.
//!
//! [`Weighings`]: crate::dataplane::snapshot::Weighings
//!
//! Even are whole rounds: in as many connections as the weights sum up to (by their divisor) each
//! backend gets its weight. Each worker has rounds of its own, and stands in the midst of one.

use super::choice::Choice;
use super::method::Method;

pub(super) const METHOD: Method =
    Method::new("wrr", "Short requests, backends that differ in strength: the default.", pick);

/// Backends looked at one by one before the tree is asked: in most lists the next is among them.
const NEAR: usize = 8;

fn pick(choice: &mut Choice<'_>) -> Option<usize> {
    if choice.has_changed {
        restart(choice);
    }
    if choice.turn.threshold == 0 {
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
    let row = choice.walk.row;
    let (step, top) = (row.weighing.step(), row.weighing.top());
    let largest = if row.is_limited { choice.largest_open()? } else { row.weighing.largest };
    let lower = choice.turn.threshold.saturating_sub(step);
    let threshold = if lower == 0 { top } else { lower };
    // Passes that would find nobody: `step` divides every weight, so this ends at 1 or above.
    let passes = threshold.saturating_sub(largest).div_ceil(step);
    choice.turn.threshold = threshold.saturating_sub(passes * step).max(1);
    Some(())
}

/// The first from `next` on whose weight reaches the threshold, and that has not had enough.
fn reaching(choice: &mut Choice<'_>, next: usize) -> Option<usize> {
    let (walk, threshold) = (choice.walk, choice.turn.threshold);
    let mut near = next..walk.len().min(next + NEAR);
    let reaches = |position: &usize| walk.weight(*position) >= threshold && walk.is_open(*position);
    near.find(reaches).or_else(|| choice.open_behind(next, threshold))
}

/// Goes through what changed, and moves the pointer to the head of the list.
fn restart(choice: &mut Choice<'_>) {
    let (service, row) = (choice.walk.service, choice.walk.row);
    let turn = &mut *choice.turn;
    let threshold = service.weighings.adjusted(turn.weighed, turn.threshold);
    // Whatever was not told: for one that suits the weights of now this changes nothing.
    turn.threshold = row.weighing.adjusted(threshold);
    turn.weighed = service.revision;
    turn.last = None;
    // Workers start at different backends; the first one starts where IPVS does.
    if let Some(before) = choice.start().checked_sub(1) {
        choice.choose(before);
    }
}
