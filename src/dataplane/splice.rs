//! The numbers of a connection whose client has shaken hands with us, and we with its backend.
//!
//! ```text
//!               client's side                     backend's side
//!  SYN+ACK      our number, our timestamp         the backend's own
//!               scale OUR_SCALE                   its own
//!
//!  client ──► backend   acknowledgment − ahead, SACK edges − ahead, echoed timestamp − stamp_ahead
//!  backend ──► client   sequence number + ahead, timestamp + stamp_ahead, window shifted
//! ```
//!
//! The client's own numbers, timestamps and windows reach the backend as they are, because our SYN
//! to it is the client's. So nothing here meets what [`super::introduce`] does to them.
//!
//! A backend's window is shifted from its scale to the one the client was told, down where that is
//! coarser: up to 511 bytes less, at most 32 MiB. A backend that does not scale takes the client's
//! windows unscaled as well.

use zerocopy::FromBytes;

use super::conn::splice::{STAMPS, Splice};
use super::introduce::set_number;
use crate::wire::checksum::Delta;
use crate::wire::tcp::{self, options};

/// Does to a client's segment what its backend expects. Our own SYN acknowledges nothing yet; its
/// window, as any SYN's, is not scaled.
pub(super) fn from_client(segment: &mut [u8], splice: &Splice) -> Option<()> {
    let (header, _) = tcp::Header::ref_from_prefix(segment).ok()?;
    let (is_syn, is_ack) = (header.flags & tcp::SYN != 0, header.flags & tcp::ACK != 0);
    let area = options::area_mut(segment);
    let mut delta = options::map_sack(area, |edge| edge.wrapping_sub(splice.ahead));
    if splice.has(STAMPS) && is_ack {
        let echoed = |(value, echo): (u32, u32)| (value, echo.wrapping_sub(splice.stamp_ahead));
        delta = delta.plus(options::map_timestamps(area, echoed));
    }
    let (header, _) = tcp::Header::mut_from_prefix(segment).ok()?;
    if is_ack {
        let number = header.acknowledgment.get().wrapping_sub(splice.ahead);
        delta = delta.plus(set_number(&mut header.acknowledgment, number));
    }
    if !is_syn {
        let shift = i8::try_from(splice.client_shift).unwrap_or(0);
        delta = delta.plus(set_window(header, shifted(header.window.get(), shift)));
    }
    header.checksum.set(delta.apply(header.checksum.get()));
    Some(())
}

/// Does to a backend's segment what its client expects.
pub(super) fn from_backend(segment: &mut [u8], splice: &Splice) -> Option<()> {
    let mut delta = Delta::ZERO;
    if splice.has(STAMPS) {
        let area = options::area_mut(segment);
        let ahead = |(value, echo): (u32, u32)| (value.wrapping_add(splice.stamp_ahead), echo);
        delta = options::map_timestamps(area, ahead);
    }
    let (header, _) = tcp::Header::mut_from_prefix(segment).ok()?;
    let number = header.sequence.get().wrapping_add(splice.ahead);
    delta = delta.plus(set_number(&mut header.sequence, number));
    delta = delta.plus(set_window(header, shifted(header.window.get(), splice.backend_shift)));
    header.checksum.set(delta.apply(header.checksum.get()));
    Some(())
}

/// Takes back in a backend's segment that an error quotes, from its transport header on, what
/// [`from_backend`] has done to its number.
pub(super) fn take_back(quoted: &mut [u8], splice: &Splice) {
    let Some(place) = quoted.get_mut(4..).and_then(|rest| rest.first_chunk_mut()) else { return };
    let before = *place;
    *place = u32::from_be_bytes(before).wrapping_sub(splice.ahead).to_be_bytes();
    let delta = Delta::of_u32(u32::from_ne_bytes(before), u32::from_ne_bytes(*place));
    if let Some(sum) = quoted.get_mut(16..).and_then(|rest| rest.first_chunk_mut()) {
        *sum = delta.apply(u16::from_ne_bytes(*sum)).to_ne_bytes();
    }
}

/// A window in another scale, at most what fits.
fn shifted(window: u16, shift: i8) -> u16 {
    let window = u64::from(window);
    let by = u32::from(shift.unsigned_abs());
    let shifted = if shift < 0 { window >> by } else { window << by };
    u16::try_from(shifted).unwrap_or(u16::MAX)
}

fn set_window(header: &mut tcp::Header, window: u16) -> Delta {
    let before = u16::from_ne_bytes(header.window.to_bytes());
    header.window.set(window);
    Delta::of_u16(before, u16::from_ne_bytes(header.window.to_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_never_grows_beyond_what_was_said_nor_fits_more_than_it_can() {
        let rows = [
            (1000, 0, 1000),
            (1000, 3, 8000),
            (65_535, 1, 65_535),
            (511, -9, 0),
            (512, -9, 1),
            (65_535, 5, 65_535),
            (65_535, -2, 16_383),
            (1, 14, 16_384),
        ];
        for (window, shift, expected) in rows {
            assert_eq!(shifted(window, shift), expected, "{window} by {shift}");
        }
    }
}
