//! Frames in pieces, by the plain rules of RFC 791 and RFC 8200: shares nothing with the code under
//! test.

use super::builder::sum;

pub(crate) fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// Makes an IPv4 frame's length and header checksum right.
pub(crate) fn seal(frame: &mut [u8]) {
    let length = u16::try_from(frame.len() - 14).unwrap();
    frame[16..18].copy_from_slice(&length.to_be_bytes());
    frame[24..26].fill(0);
    let checksum = !sum(&frame[14..34]);
    frame[24..26].copy_from_slice(&checksum.to_be_bytes());
}

/// A whole frame of either family in pieces with so many bytes of payload; the last takes the rest.
pub(crate) fn cut(frame: &[u8], lengths: &[usize], identification: u32) -> Vec<Vec<u8>> {
    let is_v6 = frame[14] >> 4 == 6;
    let header = if is_v6 { 54 } else { 34 };
    let mut at = 0;
    let mut pieces = vec![];
    for length in lengths.iter().copied().chain([usize::MAX]) {
        let rest = &frame[header + at..];
        let (payload, more) = (&rest[..length.min(rest.len())], length < rest.len());
        if payload.is_empty() {
            break;
        }
        let offset = u16::try_from(at).unwrap();
        let mut piece = frame[..header].to_vec();
        if is_v6 {
            piece[20] = 44;
            piece.extend([frame[20], 0]);
            piece.extend((offset | u16::from(more)).to_be_bytes());
            piece.extend(identification.to_be_bytes());
            let length = u16::try_from(8 + payload.len()).unwrap();
            piece[18..20].copy_from_slice(&length.to_be_bytes());
            piece.extend(payload);
        } else {
            let flags = word(frame, 20) & 0x4000 | if more { 0x2000 } else { 0 };
            piece[18..20].copy_from_slice(&identification.to_be_bytes()[2..]);
            piece[20..22].copy_from_slice(&(flags | offset >> 3).to_be_bytes());
            piece.extend(payload);
            seal(&mut piece);
        }
        pieces.push(piece);
        at += payload.len();
    }
    pieces
}
