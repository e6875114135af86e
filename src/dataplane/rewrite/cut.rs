//! A packet longer than the way carries, cut into pieces that fit.
//!
//! ```text
//! link | IPv4 | payload ………………………………………      IPv4: same header, offset and M, length, checksum
//! link | IPv4 | piece    link | IPv4 | piece …
//!
//! link | IPv6 | payload ……………………………………       IPv6: the fragment header comes in between,
//! link | IPv6 | fragment | piece   link | …      if there is none (RFC 8200, 4.5)
//! ```
//!
//! The frame is finished: link addresses, TTL, translation, an outer header if there is one. It may
//! be a piece itself; offsets then count on from its own, and M stays set in the last of its pieces
//! if it was. Whether it may be cut (DF, in IPv6 who sent it) is the caller's to ask, and the bit
//! stays as it is. Pieces keep the packet's identification; the caller's is for IPv6 packets that
//! have none.
//!
//! IPv4 options without the copied flag (RFC 791, 3.1) are no-operations in all pieces but the
//! first, as in Linux, so that all headers are equally long.
//!
//! The packet's own buffer becomes the first piece; the others come from the same pool and are
//! copied to. All are made before one is sent, so a packet leaves whole or not at all. Limit:
//! [`PIECES_MAX`], enough for the longest datagram over IPv6's least MTU.

use arrayvec::ArrayVec;
use zerocopy::{FromBytes, IntoBytes};

use crate::dataplane::io::Packet;
use crate::wire::fragment::{self, Span, UNIT};
use crate::wire::{Raw16, checksum, ipv4};

/// Most pieces one packet is cut into.
pub const PIECES_MAX: usize = 64;
/// Bytes of an IPv6 header, and where in it payload length and next header lie.
const IPV6_LEN: usize = 40;
const IPV6_PAYLOAD_LENGTH: usize = 4;
const IPV6_NEXT_HEADER: usize = 6;
/// Bytes of headers in front of an IPv6 piece.
const IPV6_CUT: usize = IPV6_LEN + fragment::LEN;
/// IPv6 headers that must stay in front of the fragment header: hop-by-hop options, routing,
/// destination options. What is made here has none of them.
const IPV6_UNCUT: [u8; 3] = [0, 43, 60];
/// IPv4 options of one byte, and the flag of those that go into every piece.
const OPTION_END: u8 = 0;
const OPTION_NOP: u8 = 1;
const OPTION_COPIED: u8 = 0x80;

/// Why a packet could not be cut. It is gone, and nothing of it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CutError {
    /// What is at that place is no IP packet that can be cut.
    #[error(
        "an IPv4 packet, or an IPv6 one without extension headers but a fragment header, was expected"
    )]
    Header,
    /// Not eight bytes of payload fit.
    #[error("an MTU of {mtu} does not hold a header and 8 bytes: raise it to 68 (IPv6: 1280)")]
    Mtu {
        /// The MTU asked for.
        mtu: usize,
    },
    /// The limit.
    #[error("more than {PIECES_MAX} pieces would be needed: raise the MTU")]
    TooMany,
    /// The pool is empty.
    #[error("no packet buffer is left for the pieces: reserve more")]
    NoBuffer,
    /// No room for the fragment header in front, or for a piece in a fresh buffer.
    #[error("the buffers have no room for a piece and its headers")]
    NoRoom,
}

/// Cuts the packet whose IP header lies at `l3` into pieces of at most `mtu` bytes, link header not
/// counted, and gives them to `send` in order, ports as the packet's, tags 0. A packet that fits is
/// given on as it is. Returns how many there were. `identification` is for IPv6.
pub fn cut<P: Packet>(
    mut packet: P,
    l3: usize,
    mtu: usize,
    identification: u32,
    send: &mut impl FnMut(P),
) -> Result<usize, CutError> {
    let whole = Whole::read(packet.data(), l3, identification).ok_or(CutError::Header)?;
    if whole.length <= mtu {
        send(packet);
        return Ok(1);
    }
    let step = whole.step(mtu).ok_or(CutError::Mtu { mtu })?;
    let count = (whole.length - whole.header).div_ceil(step);
    if count > PIECES_MAX {
        return Err(CutError::TooMany);
    }
    let mut later = ArrayVec::<P, PIECES_MAX>::new();
    for number in 1..count {
        later.push(whole.later(&packet, number * step, step)?);
    }
    whole.first(&mut packet, step).ok_or(CutError::NoRoom)?;
    send(packet);
    later.into_iter().for_each(send);
    Ok(count)
}

/// What comes between the header a piece shares with its packet and its payload.
#[derive(Clone, Copy)]
enum Family {
    V4,
    V6 { next_header: u8, identification: u32 },
}

/// The packet before it is cut.
#[derive(Clone, Copy)]
struct Whole {
    family: Family,
    /// Where its header begins.
    l3: usize,
    /// Bytes of the header that each piece gets.
    header: usize,
    /// Bytes of header and payload.
    length: usize,
    /// Where in its datagram it lies.
    span: Span,
}

impl Whole {
    /// Reads the headers. `None` if that is no packet that can be cut.
    fn read(frame: &[u8], l3: usize, identification: u32) -> Option<Self> {
        let packet = frame.get(l3..)?;
        let whole = match packet.first()? >> 4 {
            4 => Self::read_v4(packet, l3),
            6 => Self::read_v6(packet, l3, identification),
            _ => None,
        }?;
        let payload = whole.length.checked_sub(whole.header)?;
        let end_in_datagram = usize::from(whole.span.offset) + payload;
        let fits = whole.length <= packet.len() && u16::try_from(end_in_datagram).is_ok();
        fits.then_some(whole)
    }

    fn read_v4(packet: &[u8], l3: usize) -> Option<Self> {
        let (header, _) = ipv4::Header::ref_from_prefix(packet).ok()?;
        let bytes = usize::from(header.header_length());
        let length = usize::from(header.total_length.get());
        let whole = Self { family: Family::V4, l3, header: bytes, length, span: header.span() };
        (bytes >= ipv4::LEN).then_some(whole)
    }

    fn read_v6(packet: &[u8], l3: usize, identification: u32) -> Option<Self> {
        let payload = packet.get(IPV6_PAYLOAD_LENGTH..)?.first_chunk::<2>()?;
        let length = IPV6_LEN + usize::from(u16::from_be_bytes(*payload));
        let next_header = *packet.get(IPV6_NEXT_HEADER)?;
        if next_header == fragment::NEXT_HEADER {
            let (piece, _) = fragment::Header::ref_from_prefix(packet.get(IPV6_LEN..)?).ok()?;
            let (next_header, identification) = (piece.next_header, piece.identification.get());
            let family = Family::V6 { next_header, identification };
            return Some(Self { family, l3, header: IPV6_CUT, length, span: piece.span() });
        }
        let family = Family::V6 { next_header, identification };
        let whole = Self { family, l3, header: IPV6_LEN, length, span: Span::WHOLE };
        (!IPV6_UNCUT.contains(&next_header)).then_some(whole)
    }

    /// Bytes in front of a piece's payload, link header not counted.
    fn headers(&self) -> usize {
        match self.family {
            Family::V4 => self.header,
            Family::V6 { .. } => IPV6_CUT,
        }
    }

    /// Payload bytes of all pieces but the last.
    fn step(&self, mtu: usize) -> Option<usize> {
        let step = mtu.checked_sub(self.headers())? / UNIT * UNIT;
        (step > 0).then_some(step)
    }

    /// The piece from `at` bytes into the payload on, in a buffer of its own.
    fn later<P: Packet>(&self, packet: &P, at: usize, step: usize) -> Result<P, CutError> {
        let mut piece = packet.sibling().ok_or(CutError::NoBuffer)?;
        let bytes = step.min(self.length - self.header - at);
        let made = piece.set_len(self.l3 + self.headers() + bytes)
            && self.fill(piece.data_mut(), packet.data(), at).is_some();
        made.then_some(piece).ok_or(CutError::NoRoom)
    }

    /// Writes the piece from `at` on; `piece` is as long as it shall be.
    fn fill(&self, piece: &mut [u8], packet: &[u8], at: usize) -> Option<()> {
        let kept = self.l3 + self.header;
        let (front, payload) = piece.split_at_mut_checked(self.l3 + self.headers())?;
        front.get_mut(..kept)?.copy_from_slice(packet.get(..kept)?);
        payload.copy_from_slice(packet.get(kept + at..)?.get(..payload.len())?);
        if let Family::V4 = self.family {
            keep_copied(front.get_mut(self.l3 + ipv4::LEN..)?);
        }
        self.finish(piece, at)
    }

    /// Makes the packet itself the first piece.
    fn first<P: Packet>(&self, packet: &mut P, step: usize) -> Option<()> {
        let added = self.headers() - self.header;
        if added > 0 {
            packet.prepend(added)?;
            packet.data_mut().get_mut(..self.l3 + self.header + added)?.copy_within(added.., 0);
        }
        packet.set_len(self.l3 + self.headers() + step).then_some(())?;
        self.finish(packet.data_mut(), 0)
    }

    /// Makes the headers of the piece from `at` on say what it is.
    fn finish(&self, piece: &mut [u8], at: usize) -> Option<()> {
        let piece = piece.get_mut(self.l3..)?;
        let payload = piece.len().checked_sub(self.headers())?;
        let is_last = at + payload == self.length - self.header;
        let offset = self.span.offset.checked_add(u16::try_from(at).ok()?)?;
        let span = Span { offset, more: !is_last || self.span.more };
        match self.family {
            Family::V4 => finish_v4(piece, self.header, span),
            Family::V6 { next_header, identification } => {
                finish_v6(piece, fragment::Header::new(next_header, span, identification))
            }
        }
    }
}

fn finish_v4(piece: &mut [u8], header_length: usize, span: Span) -> Option<()> {
    let length = u16::try_from(piece.len()).ok()?;
    let (header, _) = ipv4::Header::mut_from_prefix(piece).ok()?;
    let flags = header.flags_fragment.get() & !ipv4::FRAGMENT_MASK;
    header.flags_fragment.set(flags | span.bits_v4());
    header.total_length.set(length);
    header.checksum = Raw16::ZERO;
    let sum = checksum::checksum(piece.get(..header_length)?);
    let (header, _) = ipv4::Header::mut_from_prefix(piece).ok()?;
    header.checksum = Raw16::new(sum);
    Some(())
}

fn finish_v6(piece: &mut [u8], header: fragment::Header) -> Option<()> {
    let payload = u16::try_from(piece.len().checked_sub(IPV6_LEN)?).ok()?;
    let length = piece.get_mut(IPV6_PAYLOAD_LENGTH..)?.first_chunk_mut::<2>()?;
    *length = payload.to_be_bytes();
    *piece.get_mut(IPV6_NEXT_HEADER)? = fragment::NEXT_HEADER;
    header.write_to_prefix(piece.get_mut(IPV6_LEN..)?).ok()
}

/// Turns options that are for the first piece only into no-operations. Stops where an option lies
/// about its length, as a receiver must.
fn keep_copied(mut options: &mut [u8]) {
    while let Some(&kind) = options.first() {
        let length = match (kind, options.get(1)) {
            (OPTION_END, _) | (_, None) => return,
            (OPTION_NOP, _) => 1,
            (_, Some(0 | 1)) => return,
            (_, Some(&length)) => usize::from(length),
        };
        let Some((option, rest)) = options.split_at_mut_checked(length) else { return };
        if kind & OPTION_COPIED == 0 {
            option.fill(OPTION_NOP);
        }
        options = rest;
    }
}
