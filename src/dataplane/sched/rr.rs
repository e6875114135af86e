//! Round robin: the next open backend after the last chosen. A weight only matters as zero or
//! not. If the last chosen was deleted, the pointer has moved back to the one before it.

use super::choice::Choice;
use super::method::Method;

pub(super) const METHOD: Method =
    Method::new("rr", "Short requests, backends that are alike.", pick);

fn pick(choice: &mut Choice<'_>) -> Option<usize> {
    let first = match choice.turn.last {
        None => choice.start(),
        Some(last) if !choice.has_changed => last.position + 1,
        Some(last) => {
            let stands = |id| choice.walk.seated(id).map(|position| position + 1);
            stands(last.backend).or_else(|| stands(choice.turn.before?)).unwrap_or(0)
        }
    };
    let first = if first < choice.walk.len() { first } else { 0 };
    let position = choice.walk.open_from(first)?;
    choice.choose(position)
}
