//! Which check of a new plan takes the place of which that runs.
//!
//! ```text
//!  runs             new plan
//!  tcp   up    ┌──► http /a   the same: it goes on, its row of answers with it
//!  http  down ─┘    tcp 1 s   the same question, asked otherwise: begins anew, up as that was
//!        └──────►   dns       asks something else: begins as its backend stands
//! ```
//!
//! Not by position: who writes a check in front of others, or takes one out, has said nothing of the others. Those that
//! are the same find each other first, then those that put the same question to the same address, each in
//! the order they are written in. A backend has sixteen checks at most, so all are compared with all.

use super::check::Check;
use super::patient::Running;
use super::probe::Asked;

/// For each check that is wanted the one whose place it takes, and those whose place nobody takes.
pub(super) fn heirs(
    wanted: &[(&Check, Asked)],
    mut running: Vec<Running>,
) -> (Vec<Option<Running>>, Vec<Running>) {
    let mut heirs: Vec<Option<Running>> = wanted.iter().map(|_| None).collect();
    for is_heir in [is_same, asks_the_same] {
        let free = heirs.iter_mut().zip(wanted).filter(|(heir, _)| heir.is_none());
        for (heir, (check, asked)) in free {
            let place = running.iter().position(|it| is_heir(it, check, asked));
            *heir = place.map(|place| running.remove(place));
        }
    }
    (heirs, running)
}

/// Is there nothing to change?
pub(super) fn is_same(running: &Running, check: &Check, asked: &Asked) -> bool {
    running.check == *check && running.asked == *asked
}

/// What it has found out is an answer to the new one's question, too.
fn asks_the_same(running: &Running, check: &Check, asked: &Asked) -> bool {
    running.check.probe == check.probe && running.asked.target == asked.target
}
