//! SCTP that nobody wants gets an ABORT (RFC 9260 section 8.4).
//!
//! | stray | answer | its tag |
//! |---|---|---|
//! | INIT | ABORT | the INIT's initiate tag |
//! | SHUTDOWN-ACK | SHUTDOWN-COMPLETE, T | as received |
//! | ABORT anywhere, SHUTDOWN-COMPLETE, COOKIE-ACK, ERROR | none | |
//! | a wrong checksum; INIT with a tag, or without an initiate tag | none | |
//! | everything else | ABORT, T | as received |
//!
//! T says that the tag is the receiver's own. Without these silences two boxes could answer each
//! other for ever. Beyond the RFC, every ERROR is left alone, not only that of a stale cookie.
//! At most [`CHUNKS_MAX`] chunks are looked at.

use zerocopy::{FromBytes, IntoBytes};

use super::turned;
use crate::dataplane::conn::state::sctp::Event;
use crate::dataplane::family::Family;
use crate::dataplane::io::Packet;
use crate::dataplane::parse::Parsed;
use crate::wire::sctp::{self, Chunk};
use crate::wire::{Be32, Raw32, ether, ipv4, ipv6};

/// The T bit: the tag is the one that was received.
const TAG_REFLECTED: u8 = 1;
/// Bytes of the answer behind its IP header.
const LENGTH: usize = sctp::LEN + sctp::CHUNK_LEN;
/// Longest answer.
const FRAME_MAX: usize = ether::LEN + ipv6::LEN + LENGTH;
/// Chunks looked at for an ABORT.
const CHUNKS_MAX: usize = 16;

/// Turns an SCTP packet into the ABORT, or the other end of a SHUTDOWN, that its sender gets. False
/// for what is never answered.
#[must_use]
pub fn sctp_abort<F: Family, P: Packet>(packet: &mut P, parsed: &Parsed<F>) -> bool {
    let Some((bytes, length)) = frame_for(packet.data(), parsed) else { return false };
    let written = bytes.get(..length).unwrap_or_default();
    if !packet.set_len(written.len()) {
        return false;
    }
    packet.data_mut().copy_from_slice(written);
    true
}

fn frame_for<F: Family>(frame: &[u8], parsed: &Parsed<F>) -> Option<([u8; FRAME_MAX], usize)> {
    if parsed.key.protocol != ipv4::SCTP {
        return None;
    }
    let (ether, _) = ether::Header::ref_from_prefix(frame).ok()?;
    let segment = frame.get(usize::from(parsed.l4)..usize::from(parsed.end))?;
    let (received, chunks) = sctp::Header::ref_from_prefix(segment).ok()?;
    let (tag, chunk) = answer(Event::from_index(parsed.signal), received.tag, chunks)?;
    if !sctp::verify(segment) {
        return None;
    }
    let ports = Raw32::new(received.ports.get().rotate_left(16));
    let mut bytes = [0; FRAME_MAX];
    turned(ether).write_to_prefix(&mut bytes).ok()?;
    let addresses = parsed.key.reversed().addresses;
    F::write_header(bytes.get_mut(ether::LEN..)?, LENGTH, ipv4::SCTP, addresses)?;
    let l4 = ether::LEN + F::HEADER;
    let answer = bytes.get_mut(l4..l4 + LENGTH)?;
    sctp::Header { ports, tag, ..*received }.write_to_prefix(answer).ok()?;
    chunk.write_to_prefix(answer.get_mut(sctp::LEN..)?).ok()?;
    sctp::set_checksum(answer);
    Some((bytes, l4 + LENGTH))
}

/// What is answered, under which tag.
fn answer(event: Event, tag: Be32, chunks: &[u8]) -> Option<(Be32, Chunk)> {
    let chunk = |kind, flags| {
        let length = u16::try_from(sctp::CHUNK_LEN).ok()?.into();
        Some(Chunk { kind, flags, length })
    };
    match event {
        Event::Abort | Event::ShutdownComplete | Event::CookieAck | Event::Error => None,
        _ if has_abort(chunks) => None,
        Event::Init if tag.get() != 0 => None,
        Event::Init => Some((initiate_tag(chunks)?, chunk(sctp::ABORT, 0)?)),
        Event::ShutdownAck => Some((tag, chunk(sctp::SHUTDOWN_COMPLETE, TAG_REFLECTED)?)),
        _ => Some((tag, chunk(sctp::ABORT, TAG_REFLECTED)?)),
    }
}

/// The tag that the sender of an INIT wants to be answered with: behind the chunk's header.
fn initiate_tag(chunks: &[u8]) -> Option<Be32> {
    let tag = Be32::from_bytes(*chunks.get(sctp::CHUNK_LEN..)?.first_chunk()?);
    (tag.get() != 0).then_some(tag)
}

/// Is one of the chunks an ABORT?
fn has_abort(mut chunks: &[u8]) -> bool {
    for _ in 0..CHUNKS_MAX {
        let Ok((chunk, _)) = Chunk::ref_from_prefix(chunks) else { return false };
        if chunk.kind == sctp::ABORT {
            return true;
        }
        let length = usize::from(chunk.length.get()).max(sctp::CHUNK_LEN);
        chunks = chunks.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    false
}
