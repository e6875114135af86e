//! Round robin: the next open backend after the last chosen. A weight only matters as zero or
//! not. In IPVS the pointer moves back to the one before whenever the last chosen is deleted; new
//! backends come at the head of the list. Both together: next is the first that was there before
//! the last chosen was added, whatever has come and gone since.

use super::choice::Choice;
use super::method::Method;

pub(super) const METHOD: Method =
    Method::new("rr", "Short requests, backends that are alike.", pick);

fn pick(choice: &mut Choice<'_>) -> Option<usize> {
    let first = match choice.turn.last {
        None => choice.start(),
        Some(last) if !choice.has_changed => last.position + 1,
        Some(last) => choice.walk.service.first_below(last.age),
    };
    let first = if first < choice.walk.len() { first } else { 0 };
    let position = choice.open_from(first)?;
    choice.choose(position)
}
