//! Round robin: the next eligible backend after the last chosen. A weight only matters as zero or
//! not. If the last chosen was deleted, the pointer has moved back to the one before it.

use super::{Turn, Walk};
use crate::ids::{BackendId, WorkerId};

pub(super) fn pick(
    walk: &Walk<'_>,
    turn: &mut Turn,
    changed: bool,
    worker: WorkerId,
) -> Option<BackendId> {
    let first = match turn.last {
        None => worker.index(),
        Some(last) if !changed => last.position + 1,
        Some(last) => {
            let stands = |id| walk.position_of(id).map(|position| position + 1);
            stands(last.backend).or_else(|| stands(turn.before?)).unwrap_or(0)
        }
    };
    let count = walk.len();
    let position = (0..count).map(|i| (first + i) % count).find(|p| walk.weight(*p) > 0)?;
    walk.choose(turn, position)
}
