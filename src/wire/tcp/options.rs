//! TCP options (RFC 9293 section 3.1; RFC 7323; RFC 2018).
//!
//! ```text
//!  header, 20 bytes │ option area: 0 to 40 bytes, whole words                    │ payload
//!                   │ kind │ kind length value … │ NOP │ … │ END, rest unread    │
//! ```
//!
//! [`walk`] gives one option after the other, and ends at END, at the end of the area, and at
//! the first option whose length cannot be: what follows could not be told apart, and hosts stop
//! there as well. Each step goes on by a byte or more within 40 bytes, so every walk is short.
//!
//! What changes options in place says what that does to the checksum. Options need not begin at
//! even offsets, so a number in one may lie across two of the checksum's words; the bytes then
//! count as if swapped, and so does the difference they make (RFC 1071 section 2 B):
//!
//! ```text
//!   even offset  │ MSS hi  MSS lo │          odd offset  │ ..  MSS hi │ MSS lo  .. │
//! ```

use std::ops::Range;

use zerocopy::FromBytes;

use super::{Header, LEN};
use crate::wire::checksum::{self, Delta};

/// Most bytes of options.
pub const AREA_MAX: usize = 40;

/// End of options; nothing behind it is one. A single byte.
pub const END: u8 = 0;
/// Nothing, for alignment. A single byte.
pub const NOP: u8 = 1;
/// Largest segment its sender takes; only in SYN.
pub const MSS: u8 = 2;
/// By how many bits windows are shifted; only in SYN.
pub const WINDOW_SCALE: u8 = 3;
/// SACK is understood; only in SYN.
pub const SACK_PERMITTED: u8 = 4;
/// What arrived beyond a gap: one to four pairs of sequence numbers.
pub const SACK: u8 = 5;
/// Timestamps.
pub const TIMESTAMPS: u8 = 8;
/// The client's address for the backend (TOA): IPv4 in 8 bytes, or IPv6 in 20.
pub const TOA: u8 = 254;
/// TOA's other kind, only ever for IPv6, in 20 bytes.
pub const TOA_IPV6: u8 = 253;

/// Bytes of an MSS option.
pub const MSS_LEN: usize = 4;
/// Bytes of a TOA option with an IPv4 address.
pub const TOA_LEN: usize = 8;
/// Bytes of a TOA option with an IPv6 address.
pub const TOA_IPV6_LEN: usize = 20;

/// Bytes of kind and length.
const PREFIX: usize = 2;
/// Bytes of a SACK block: two sequence numbers.
const BLOCK: usize = 8;

/// One option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpOption<'a> {
    /// What it is.
    pub kind: u8,
    /// Where it begins in the option area.
    pub offset: usize,
    /// All its bytes, kind and length included.
    pub bytes: &'a [u8],
}

/// The options of an area; made by [`walk`].
#[derive(Clone, Debug)]
pub struct Walk<'a> {
    area: &'a [u8],
    at: usize,
}

/// The option area of a segment: what its data offset claims, as far as it is there.
#[inline]
pub fn area(segment: &[u8]) -> &[u8] {
    segment.get(area_range(segment)).unwrap_or_default()
}

/// [`area`], to be changed.
#[inline]
pub fn area_mut(segment: &mut [u8]) -> &mut [u8] {
    let range = area_range(segment);
    segment.get_mut(range).unwrap_or_default()
}

#[inline]
fn area_range(segment: &[u8]) -> Range<usize> {
    let claimed = Header::ref_from_prefix(segment)
        .map_or(LEN, |(header, _)| usize::from(header.header_length()));
    LEN..claimed.min(segment.len()).max(LEN)
}

/// The options of `area`, one after the other, END if there is one the last.
#[inline]
pub fn walk(area: &[u8]) -> Walk<'_> {
    Walk { area: area.get(..AREA_MAX).unwrap_or(area), at: 0 }
}

impl<'a> Iterator for Walk<'a> {
    type Item = TcpOption<'a>;

    #[inline]
    fn next(&mut self) -> Option<TcpOption<'a>> {
        let offset = self.at;
        let rest = self.area.get(offset..)?;
        let kind = *rest.first()?;
        let length = match kind {
            END | NOP => 1,
            _ => usize::from(*rest.get(1)?),
        };
        let found = rest.get(..length).filter(|_| length >= PREFIX || kind <= NOP);
        // Nothing more behind END, nor behind a length that cannot be.
        self.at = if kind == END || found.is_none() { self.area.len() } else { offset + length };
        found.map(|bytes| TcpOption { kind, offset, bytes })
    }
}

/// The first option of that kind.
#[inline]
pub fn find(area: &[u8], kind: u8) -> Option<TcpOption<'_>> {
    walk(area).find(|option| option.kind == kind)
}

/// Lowers an MSS above `limit` to it, and gives what that does to the checksum. Without an MSS
/// option nothing changes: its sender takes 536 bytes, or 1220 over IPv6 (RFC 9293 section 3.7.1).
#[inline]
pub fn lower_mss(area: &mut [u8], limit: u16) -> Delta {
    change_each(area, MSS, |option| {
        if let [_, length, high, low] = option
            && usize::from(*length) == MSS_LEN
            && u16::from_be_bytes([*high, *low]) > limit
        {
            [*high, *low] = limit.to_be_bytes();
        }
    })
}

/// Gives both edges of every SACK block another number, and says what that does to the checksum.
/// An option that does not hold whole blocks stays as it is: its reader skips it.
#[inline]
pub fn map_sack(area: &mut [u8], number: impl Fn(u32) -> u32) -> Delta {
    change_each(area, SACK, |option| {
        let Some((_, blocks)) = option.split_at_mut_checked(PREFIX) else { return };
        if !blocks.len().is_multiple_of(BLOCK) {
            return;
        }
        let (edges, _) = blocks.as_chunks_mut::<4>();
        for edge in edges {
            *edge = number(u32::from_be_bytes(*edge)).to_be_bytes();
        }
    })
}

/// Gives timestamps, ours and the echoed one, other values, and says what that does to the checksum.
#[inline]
pub fn map_timestamps(area: &mut [u8], values: impl Fn((u32, u32)) -> (u32, u32)) -> Delta {
    change_each(area, TIMESTAMPS, |option| {
        let Some((_, numbers)) = option.split_at_mut_checked(PREFIX) else { return };
        if let ([value, echo], []) = numbers.as_chunks_mut::<4>() {
            let mapped = values((u32::from_be_bytes(*value), u32::from_be_bytes(*echo)));
            (*value, *echo) = (mapped.0.to_be_bytes(), mapped.1.to_be_bytes());
        }
    })
}

/// Overwrites every option of that kind with NOPs, and gives what that does to the checksum.
#[inline]
pub fn blank(area: &mut [u8], kind: u8) -> Delta {
    change_each(area, kind, |option| option.fill(NOP))
}

/// Lets `change` write into each option of that kind, and adds up what that does to the checksum.
/// The option's length is read before, so the walk goes on behind it whatever is written.
#[inline]
fn change_each(area: &mut [u8], kind: u8, mut change: impl FnMut(&mut [u8])) -> Delta {
    let mut delta = Delta::ZERO;
    let mut at = 0;
    while let Some(option) = (Walk { at, ..walk(area) }).next() {
        let TcpOption { kind: found, offset, bytes } = option;
        let range = offset..offset + bytes.len();
        at = range.end;
        if found == END {
            break;
        }
        if found == kind
            && let Some(bytes) = area.get_mut(range)
        {
            let before = checksum::sum(bytes);
            change(bytes);
            let changed = Delta::of_u16(before, checksum::sum(bytes));
            delta = delta.plus(if offset % 2 == 0 { changed } else { changed.swapped() });
        }
    }
    delta
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::{TcpOptionElement, TcpOptionsIterator};
    use proptest::prelude::*;

    fn kinds(area: &[u8]) -> Vec<(u8, usize, usize)> {
        walk(area).map(|option| (option.kind, option.offset, option.bytes.len())).collect()
    }

    #[test]
    fn a_walk_ends_where_a_host_stops_reading() {
        type Row<'a> = (&'a str, &'a [u8], &'a [(u8, usize, usize)]);
        let rows: &[Row<'_>] = &[
            ("no options", &[], &[]),
            (
                "MSS, NOP, window scale",
                &[2, 4, 5, 180, 1, 3, 3, 7],
                &[(MSS, 0, 4), (NOP, 4, 1), (WINDOW_SCALE, 5, 3)],
            ),
            ("nothing behind END", &[1, 0, 2, 4, 5, 180], &[(NOP, 0, 1), (END, 1, 1)]),
            ("a length of 0", &[1, 8, 0, 1], &[(NOP, 0, 1)]),
            ("a length of 1", &[8, 1, 1], &[]),
            ("no length", &[1, 1, 8], &[(NOP, 0, 1), (NOP, 1, 1)]),
            ("a length beyond the area", &[4, 2, 8, 10, 0, 0], &[(SACK_PERMITTED, 0, 2)]),
            ("a kind nobody knows", &[77, 3, 9, 4, 2], &[(77, 0, 3), (SACK_PERMITTED, 3, 2)]),
        ];
        for (name, area, expected) in rows {
            assert_eq!(kinds(area), *expected, "{name}");
        }
        assert_eq!(kinds(&[NOP; 100]).len(), AREA_MAX, "no area is longer");
    }

    #[test]
    fn the_area_is_what_the_data_offset_claims_and_the_segment_has() {
        let rows = [(5, 60, 0), (6, 60, 4), (15, 60, 40), (15, 30, 10), (4, 60, 0), (15, 19, 0)];
        for (words, length, expected) in rows {
            let mut segment = vec![0; length];
            segment[12] = words << 4;
            assert_eq!(area(&segment).len(), expected, "{words} words of {length} bytes");
            assert_eq!(area_mut(&mut segment).len(), expected);
        }
        assert!(area(&[]).is_empty());
    }

    #[test]
    fn the_mss_is_lowered_never_raised_and_only_where_it_is_one() {
        let rows: &[(&[u8], u16, &[u8])] = &[
            (&[2, 4, 5, 180], 1400, &[2, 4, 5, 120]),
            (&[2, 4, 5, 180], 1460, &[2, 4, 5, 180]),
            (&[2, 4, 5, 180], 9000, &[2, 4, 5, 180]),
            (&[1, 2, 4, 5, 180, 1, 1, 0], 1400, &[1, 2, 4, 5, 120, 1, 1, 0]),
            (&[2, 4, 5, 180, 2, 4, 5, 181], 1400, &[2, 4, 5, 120, 2, 4, 5, 120]),
            (&[2, 3, 255, 0], 1400, &[2, 3, 255, 0]),
            (&[0, 2, 4, 5, 180], 1400, &[0, 2, 4, 5, 180]),
        ];
        for (before, limit, after) in rows {
            let mut area = before.to_vec();
            lower_mss(&mut area, *limit);
            assert_eq!(area, *after, "{before:?} to {limit}");
        }
    }

    #[test]
    fn both_edges_of_every_block_are_changed() {
        let shift_sack = |area: &mut [u8], by: u32| map_sack(area, |edge| edge.wrapping_add(by));
        let mut area = vec![1, 1, 5, 18];
        area.extend([0, 0, 0, 1, 0, 0, 1, 0, 255, 255, 255, 254, 0, 0, 0, 0]);
        let before = area.clone();
        shift_sack(&mut area, 3);
        assert_eq!(area[4..], [0, 0, 0, 4, 0, 0, 1, 3, 0, 0, 0, 1, 0, 0, 0, 3]);
        shift_sack(&mut area, 3_u32.wrapping_neg());
        assert_eq!(area, before);

        let mut no_whole_block = vec![5, 9, 1, 2, 3, 4, 5, 6, 7];
        let delta = shift_sack(&mut no_whole_block, 3);
        assert_eq!((no_whole_block, delta.apply(7)), (vec![5, 9, 1, 2, 3, 4, 5, 6, 7], 7));
    }

    #[test]
    fn a_blanked_option_leaves_the_others_where_they_were() {
        let mut area = vec![2, 4, 5, 180, 254, 8, 0, 80, 10, 0, 0, 1, 254, 3, 7, 4, 2];
        blank(&mut area, TOA);
        assert_eq!(area, [2, 4, 5, 180, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 4, 2]);
        assert_eq!((find(&area, TOA), find(&area, SACK_PERMITTED).unwrap().offset), (None, 15));
    }

    /// Areas as hosts make them and as nobody does: options of all kinds at all offsets, or noise.
    fn any_area() -> impl Strategy<Value = Vec<u8>> {
        let option = prop_oneof![
            Just(vec![NOP]),
            any::<u16>().prop_map(|mss| [&[MSS, 4][..], &mss.to_be_bytes()].concat()),
            (1..=4_u8)
                .prop_flat_map(|blocks| proptest::collection::vec(
                    any::<u8>(),
                    usize::from(blocks) * BLOCK
                ))
                .prop_map(|blocks| {
                    let length = u8::try_from(PREFIX + blocks.len()).unwrap();
                    [&[SACK, length][..], &blocks].concat()
                }),
            any::<[u8; 8]>().prop_map(|value| [&[TIMESTAMPS, 10][..], &value].concat()),
            any::<[u8; 6]>().prop_map(|value| [&[TOA, 8][..], &value].concat()),
            (any::<u8>(), any::<u8>()).prop_map(|(kind, length)| vec![kind, length]),
        ];
        prop_oneof![
            proptest::collection::vec(option, 0..8).prop_map(|options| options.concat()),
            proptest::collection::vec(any::<u8>(), 0..=AREA_MAX),
        ]
        .prop_map(|mut area| {
            area.truncate(AREA_MAX);
            area.resize(area.len().next_multiple_of(4), NOP);
            area
        })
    }

    proptest! {
        #[test]
        fn a_walk_goes_forward_without_gaps_within_the_area(
            area in proptest::collection::vec(any::<u8>(), 0..64),
        ) {
            let mut end = 0;
            for option in walk(&area) {
                prop_assert_eq!(option.offset, end);
                prop_assert!(!option.bytes.is_empty());
                end += option.bytes.len();
                prop_assert!(end <= AREA_MAX);
                prop_assert_eq!(option.bytes, &area[option.offset..end]);
                prop_assert_eq!(option.kind, option.bytes[0]);
            }
        }

        /// The independent reader knows fewer kinds, and stops at what it does not know.
        #[test]
        fn an_independent_reader_finds_the_same_options(area in any_area()) {
            let theirs = TcpOptionsIterator::from_slice(&area).map_while(Result::ok);
            prop_assert!(theirs.clone().count() <= walk(&area).count());
            for (ours, theirs) in walk(&area).zip(theirs) {
                let (kind, length) = match theirs {
                    TcpOptionElement::Noop => (NOP, 1),
                    TcpOptionElement::MaximumSegmentSize(_) => (MSS, MSS_LEN),
                    TcpOptionElement::WindowScale(_) => (WINDOW_SCALE, 3),
                    TcpOptionElement::SelectiveAcknowledgementPermitted => (SACK_PERMITTED, 2),
                    TcpOptionElement::SelectiveAcknowledgement(_, others) => {
                        (SACK, 2 + BLOCK * (1 + others.iter().flatten().count()))
                    }
                    TcpOptionElement::Timestamp(..) => (TIMESTAMPS, 10),
                };
                prop_assert_eq!((ours.kind, ours.bytes.len()), (kind, length));
            }
        }

        #[test]
        fn the_checksum_follows_every_change_as_if_computed_anew(
            fixed: [u8; LEN],
            mut area in any_area(),
            limit: u16,
            by: u32,
            kind in prop_oneof![Just(TOA), Just(TIMESTAMPS), Just(MSS), any::<u8>()],
            which in 0..3,
        ) {
            const ADDRESSES: u64 = 0x0a00_0001_c000_0207;
            let sum = |area: &[u8]| checksum::tcp(ADDRESSES, &[&fixed[..], area].concat());
            let before = sum(&area);
            let length = area.len();
            let delta = match which {
                0 => lower_mss(&mut area, limit),
                1 => map_sack(&mut area, |edge| edge.wrapping_add(by)),
                _ => blank(&mut area, kind),
            };
            prop_assert_eq!(area.len(), length);
            prop_assert_eq!(delta.apply(before), sum(&area));
        }
    }
}
