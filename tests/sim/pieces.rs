//! Packets in pieces, cut and put together a second time: by RFC 791 and RFC 8200 section 4.5
//! alone, and as whole `Vec`s.
//!
//! [`cut`] says what a packet too long for its link must leave as, byte for byte. [`Assembly`] is
//! what a receiver does, and what the model does to see which packet left.

use std::collections::BTreeMap;

use crate::packet::LINK;
use crate::packets::builder::sum;

/// IPv6's number for the fragment header, and its length.
const FRAGMENT: u8 = 44;
const FRAGMENT_LEN: usize = 8;

/// Whose pieces belong together: addresses, identification, and in IPv4 the protocol.
type Name = (Vec<u8>, u32, u8);

/// Which part of a packet is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slice {
    pub(crate) offset: usize,
    pub(crate) length: usize,
    pub(crate) more: bool,
    /// IPv6's; IPv4's is in every packet.
    pub(crate) identification: u32,
}

/// One piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    name: Name,
    offset: usize,
    more: bool,
    /// Link and IP header as they would be without the cut, length and checksum not yet right.
    pub(crate) front: Vec<u8>,
    pub(crate) payload: Vec<u8>,
}

impl Piece {
    /// The piece in a frame; `None` if it holds a whole packet.
    pub(crate) fn read(frame: &[u8]) -> Option<Self> {
        match frame.get(LINK)? >> 4 {
            4 => Self::read_v4(frame),
            6 => Self::read_v6(frame),
            _ => None,
        }
    }

    fn read_v4(frame: &[u8]) -> Option<Self> {
        let word = |at: usize| Some(u16::from_be_bytes([*frame.get(at)?, *frame.get(at + 1)?]));
        let (length, id, place) = (word(LINK + 2)?, word(LINK + 4)?, word(LINK + 6)?);
        if place.trailing_zeros() >= 14 {
            return None;
        }
        let (front, payload) = frame.get(..LINK + usize::from(length))?.split_at(LINK + 20);
        let mut front = front.to_vec();
        front[LINK + 6] &= 0x40;
        front[LINK + 7] = 0;
        Some(Self {
            name: (frame[LINK + 12..LINK + 20].to_vec(), id.into(), frame[LINK + 9]),
            offset: usize::from(place & 0x1fff) * 8,
            more: place & 0x2000 != 0,
            front,
            payload: payload.to_vec(),
        })
    }

    fn read_v6(frame: &[u8]) -> Option<Self> {
        let header = frame.get(LINK + 40..LINK + 40 + FRAGMENT_LEN)?;
        if frame[LINK + 6] != FRAGMENT {
            return None;
        }
        let place = u16::from_be_bytes([header[2], header[3]]);
        let id = u32::from_be_bytes(header[4..8].try_into().ok()?);
        let length = usize::from(u16::from_be_bytes([frame[LINK + 4], frame[LINK + 5]]));
        let mut front = frame[..LINK + 40].to_vec();
        front[LINK + 6] = header[0];
        let payload = frame.get(LINK + 40 + FRAGMENT_LEN..LINK + 40 + length)?.to_vec();
        Some(Self {
            name: (frame[LINK + 8..LINK + 40].to_vec(), id, 0),
            offset: usize::from(place & !7),
            more: place & 1 != 0,
            front,
            payload,
        })
    }

    /// Which part of its packet it is.
    pub(crate) fn slice(&self) -> Slice {
        let is_v6 = self.front[LINK] >> 4 == 6;
        let identification = if is_v6 { self.name.1 } else { 0 };
        let length = self.payload.len();
        Slice { offset: self.offset, length, more: self.more, identification }
    }

    /// The pieces of an IPv6 one, of at most `mtu` bytes: they count on from where it lies.
    fn cut_again(&self, mtu: usize) -> Vec<Vec<u8>> {
        let room = (mtu - 40 - FRAGMENT_LEN) / 8 * 8;
        let last = self.payload.len().div_ceil(room) - 1;
        let piece = |(n, bytes): (usize, &[u8])| {
            let offset = u16::try_from(self.offset + n * room).unwrap();
            v6(&self.front, bytes, offset, n < last || self.more, self.name.1)
        };
        self.payload.chunks(room).enumerate().map(piece).collect()
    }

    /// What distinguishes the packet it is of from others of the same sender.
    pub(crate) fn identification(&self) -> u32 {
        self.name.1
    }
}

/// A frame's packet in pieces of at most `mtu` bytes; a short one as it is. `identification` is
/// for IPv6.
pub(crate) fn cut(frame: &[u8], mtu: usize, identification: u32) -> Vec<Vec<u8>> {
    let is_v6 = frame[LINK] >> 4 == 6;
    let header = if is_v6 { 40 } else { 20 };
    if frame.len() - LINK <= mtu {
        return vec![frame.to_vec()];
    }
    if let Some(piece) = Piece::read(frame).filter(|_| is_v6) {
        return piece.cut_again(mtu);
    }
    let room = (mtu - header - if is_v6 { FRAGMENT_LEN } else { 0 }) / 8 * 8;
    let (front, payload) = frame.split_at(LINK + header);
    let last = payload.len().div_ceil(room) - 1;
    // An IPv4 piece may be cut again.
    let place = if is_v6 { 0 } else { u16::from_be_bytes([front[LINK + 6], front[LINK + 7]]) };
    let (base, goes_on) = (usize::from(place & 0x1fff) * 8, place & 0x2000 != 0);
    let pieces = payload.chunks(room).enumerate();
    let piece = |(n, bytes): (usize, &[u8])| {
        let (place, more) = (u16::try_from(base + n * room).unwrap(), n < last || goes_on);
        write(front, bytes, place, more, identification)
    };
    pieces.map(piece).collect()
}

/// The piece that is that part of a frame's packet.
pub(crate) fn part(frame: &[u8], slice: &Slice) -> Vec<u8> {
    let header = if frame[LINK] >> 4 == 6 { 40 } else { 20 };
    let (front, payload) = frame.split_at(LINK + header);
    let bytes = &payload[slice.offset..slice.offset + slice.length];
    let place = u16::try_from(slice.offset).unwrap();
    write(front, bytes, place, slice.more, slice.identification)
}

fn write(front: &[u8], bytes: &[u8], offset: u16, more: bool, identification: u32) -> Vec<u8> {
    if front[LINK] >> 4 == 6 {
        return v6(front, bytes, offset, more, identification);
    }
    v4(front, bytes, offset, more)
}

fn v4(front: &[u8], bytes: &[u8], offset: u16, more: bool) -> Vec<u8> {
    let mut front = front.to_vec();
    let flags = u16::from(front[LINK + 6] & 0x40) << 8 | if more { 0x2000 } else { 0 };
    front[LINK + 6..LINK + 8].copy_from_slice(&(flags | (offset / 8)).to_be_bytes());
    finish([front, bytes.to_vec()].concat())
}

fn v6(front: &[u8], bytes: &[u8], offset: u16, more: bool, identification: u32) -> Vec<u8> {
    let mut header = vec![front[LINK + 6], 0];
    header.extend((offset | u16::from(more)).to_be_bytes());
    header.extend(identification.to_be_bytes());
    let mut front = front.to_vec();
    front[LINK + 6] = FRAGMENT;
    finish([front, header, bytes.to_vec()].concat())
}

/// Makes length and checksum of an IP header right.
fn finish(mut frame: Vec<u8>) -> Vec<u8> {
    let length = u16::try_from(frame.len() - LINK).unwrap();
    let ip = &mut frame[LINK..];
    if ip[0] >> 4 == 6 {
        ip[4..6].copy_from_slice(&(length - 40).to_be_bytes());
        return frame;
    }
    ip[2..4].copy_from_slice(&length.to_be_bytes());
    ip[10..12].fill(0);
    let checksum = !sum(&ip[..20]);
    ip[10..12].copy_from_slice(&checksum.to_be_bytes());
    frame
}

/// Pieces that wait for others.
#[derive(Clone, Debug, Default)]
pub(crate) struct Assembly(BTreeMap<Name, Vec<Piece>>);

impl Assembly {
    /// A frame came: the whole packet it is, or completes.
    pub(crate) fn take(&mut self, frame: &[u8]) -> Option<Vec<u8>> {
        let Some(piece) = Piece::read(frame) else { return Some(frame.to_vec()) };
        let name = piece.name.clone();
        let pieces = self.0.entry(name.clone()).or_default();
        pieces.retain(|known| known.offset != piece.offset);
        pieces.push(piece);
        pieces.sort_by_key(|piece| piece.offset);
        let whole = joined(pieces)?;
        self.0.remove(&name);
        Some(whole)
    }
}

/// The packet, if all of it is there.
fn joined(pieces: &[Piece]) -> Option<Vec<u8>> {
    let mut frame = pieces.first()?.front.clone();
    let front = frame.len();
    for piece in pieces {
        let known = frame.len() - front;
        if piece.offset > known {
            return None;
        }
        frame.extend(piece.payload.get(known - piece.offset..).unwrap_or_default());
    }
    (!pieces.last()?.more).then(|| finish(frame))
}
