//! SCTP that nobody wants gets an ABORT (RFC 9260 section 8.4).

use zerocopy::{FromBytes, IntoBytes};

use super::turned;
use crate::dataplane::conn::state::sctp::Event;
use crate::dataplane::family::Family;
use crate::dataplane::io::Packet;
use crate::dataplane::parse::Parsed;
use crate::wire::{Be32, Raw32, ether, ipv6, sctp};

/// The T bit: the tag is the one that was received.
const TAG_REFLECTED: u8 = 1;
/// Bytes of the answer behind its IP header.
const LENGTH: usize = sctp::LEN + sctp::CHUNK_LEN;
/// Longest ABORT frame.
const ABORT_MAX: usize = ether::LEN + ipv6::LEN + LENGTH;

/// Turns an SCTP packet into the ABORT its sender gets. False for what is never answered: an ABORT,
/// and the last word of an association.
#[must_use]
pub fn sctp_abort<F: Family, P: Packet>(packet: &mut P, parsed: &Parsed<F>) -> bool {
    let Some((bytes, length)) = abort_for(packet.data(), parsed) else { return false };
    let written = bytes.get(..length).unwrap_or_default();
    if !packet.set_len(written.len()) {
        return false;
    }
    packet.data_mut().copy_from_slice(written);
    true
}

fn abort_for<F: Family>(frame: &[u8], parsed: &Parsed<F>) -> Option<([u8; ABORT_MAX], usize)> {
    let event = Event::from_index(parsed.signal);
    if matches!(event, Event::Abort | Event::ShutdownComplete | Event::Error) {
        return None;
    }
    let (ether, _) = ether::Header::ref_from_prefix(frame).ok()?;
    let segment = frame.get(usize::from(parsed.l4)..usize::from(parsed.end))?;
    let (received, chunks) = sctp::Header::ref_from_prefix(segment).ok()?;
    let (tag, flags) = match event {
        Event::Init => (initiate_tag(chunks)?, 0),
        _ => (received.tag, TAG_REFLECTED),
    };
    let ports = Raw32::new(received.ports.get().rotate_left(16));
    let header = sctp::Header { ports, tag, ..*received };
    let chunk = sctp::Chunk {
        kind: sctp::ABORT,
        flags,
        length: u16::try_from(sctp::CHUNK_LEN).ok()?.into(),
    };
    let mut bytes = [0; ABORT_MAX];
    turned(ether).write_to_prefix(&mut bytes).ok()?;
    let addresses = parsed.key.reversed().addresses;
    F::write_header(bytes.get_mut(ether::LEN..)?, LENGTH, sctp::PROTOCOL, addresses)?;
    let l4 = ether::LEN + F::HEADER;
    let answer = bytes.get_mut(l4..l4 + LENGTH)?;
    header.write_to_prefix(answer).ok()?;
    chunk.write_to_prefix(answer.get_mut(sctp::LEN..)?).ok()?;
    sctp::set_checksum(answer);
    Some((bytes, l4 + LENGTH))
}

/// The tag that the sender of an INIT wants to be answered with: behind the chunk's header.
fn initiate_tag(chunks: &[u8]) -> Option<Be32> {
    Some(Be32::from_bytes(*chunks.get(sctp::CHUNK_LEN..)?.first_chunk()?))
}
