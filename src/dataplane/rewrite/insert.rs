//! Bytes put into a packet: behind its transport header, or among its options.
//!
//! What is in front of the place moves into the headroom; what is behind stays where it is.
//! Lengths and checksums follow by difference (RFC 1624), so a wrong checksum stays wrong.

use zerocopy::FromBytes;

use crate::dataplane::family::Family;
use crate::dataplane::io::Packet;
use crate::dataplane::parse::Parsed;
use crate::wire::checksum::{self, Delta};
use crate::wire::{tcp, udp};

/// Puts `bytes` at `at` and makes the IP packet as much longer. What that does to a transport
/// checksum: the pseudo-header's length, the bytes, and, if they are odd in number, what follows,
/// whose bytes change places in their words. `at` is an even number of bytes behind `l4`.
fn insert<F: Family, P: Packet>(
    packet: &mut P,
    parsed: &mut Parsed<F>,
    at: usize,
    bytes: &[u8],
) -> Option<Delta> {
    let count = bytes.len();
    let before = parsed.end - parsed.l4;
    let follows = checksum::sum(packet.data().get(at..usize::from(parsed.end))?);
    let longer = u16::try_from(count).ok().and_then(|count| parsed.end.checked_add(count))?;
    if !packet.set_len(usize::from(parsed.end)) {
        return None;
    }
    packet.prepend(count)?;
    let frame = packet.data_mut();
    frame.copy_within(count..count + at, 0);
    frame.get_mut(at..at + count)?.copy_from_slice(bytes);
    parsed.end = longer;
    relength(frame, parsed)?;
    let mut delta = Delta::of_u16(before.to_be(), (parsed.end - parsed.l4).to_be())
        .plus(Delta(checksum::sum(bytes)));
    if count % 2 == 1 {
        delta = delta.plus(Delta::of_u16(follows, follows.swap_bytes()));
    }
    Some(delta)
}

/// Stores the packet's new length into its IP header.
fn relength<F: Family>(frame: &mut [u8], parsed: &Parsed<F>) -> Option<()> {
    let header = frame.get_mut(usize::from(parsed.l3)..usize::from(parsed.l4))?;
    F::set_length(header, parsed.length()).then_some(())
}

/// Puts an option, of even length, in front of a segment's others.
pub(in crate::dataplane) fn into_options<F: Family, P: Packet>(
    packet: &mut P,
    parsed: &mut Parsed<F>,
    option: &[u8],
) -> Option<()> {
    let l4 = usize::from(parsed.l4);
    let delta = insert(packet, parsed, l4 + tcp::LEN, option)?;
    let (header, _) = tcp::Header::mut_from_prefix(packet.data_mut().get_mut(l4..)?).ok()?;
    let words = u8::try_from(option.len() / 4).ok()?;
    let before = u16::from_ne_bytes([header.data_offset, header.flags]);
    header.data_offset = header.data_offset.checked_add(words << 4)?;
    let after = u16::from_ne_bytes([header.data_offset, header.flags]);
    let delta = delta.plus(Delta::of_u16(before, after));
    header.checksum.set(delta.apply(header.checksum.get()));
    Some(())
}

/// Puts bytes into a TCP segment's payload, at an offset of the frame.
pub(in crate::dataplane) fn into_stream<F: Family, P: Packet>(
    packet: &mut P,
    parsed: &mut Parsed<F>,
    at: usize,
    bytes: &[u8],
) -> Option<()> {
    let delta = insert(packet, parsed, at, bytes)?;
    let segment = packet.data_mut().get_mut(usize::from(parsed.l4)..)?;
    let (header, _) = tcp::Header::mut_from_prefix(segment).ok()?;
    let delta = if header.flags & tcp::URG == 0 {
        delta
    } else {
        delta.plus(move_urgent(header, bytes.len()))
    };
    header.checksum.set(delta.apply(header.checksum.get()));
    Some(())
}

/// Makes the urgent pointer count bytes that are now in front of what it points to.
fn move_urgent(header: &mut tcp::Header, count: usize) -> Delta {
    let before = u16::from_ne_bytes(header.urgent.to_bytes());
    let by = u16::try_from(count).unwrap_or(0);
    header.urgent.set(header.urgent.get().saturating_add(by));
    Delta::of_u16(before, u16::from_ne_bytes(header.urgent.to_bytes()))
}

/// Puts bytes in front of a UDP datagram's payload.
pub(in crate::dataplane) fn into_datagram<F: Family, P: Packet>(
    packet: &mut P,
    parsed: &mut Parsed<F>,
    bytes: &[u8],
) -> Option<()> {
    let l4 = usize::from(parsed.l4);
    let delta = insert(packet, parsed, l4 + udp::LEN, bytes)?;
    let (header, _) = udp::Header::mut_from_prefix(packet.data_mut().get_mut(l4..)?).ok()?;
    let before = u16::from_ne_bytes(header.length.to_bytes());
    let longer = u16::try_from(bytes.len()).ok()?;
    header.length.set(header.length.get().checked_add(longer)?);
    let after = u16::from_ne_bytes(header.length.to_bytes());
    let delta = delta.plus(Delta::of_u16(before, after));
    header.checksum.set(delta.apply_udp(header.checksum.get()));
    Some(())
}

/// Takes a TCP segment's payload off.
pub(in crate::dataplane) fn cut_payload<F: Family, P: Packet>(
    packet: &mut P,
    parsed: &mut Parsed<F>,
) -> Option<()> {
    let l4 = usize::from(parsed.l4);
    let segment = packet.data().get(l4..usize::from(parsed.end))?;
    let (header, _) = tcp::Header::ref_from_prefix(segment).ok()?;
    let length = header.header_length();
    let payload = checksum::sum(segment.get(usize::from(length)..)?);
    let before = parsed.end - parsed.l4;
    parsed.end = parsed.l4 + u16::from(length);
    let frame = packet.data_mut();
    relength(frame, parsed)?;
    let (header, _) = tcp::Header::mut_from_prefix(frame.get_mut(l4..)?).ok()?;
    let delta =
        Delta::of_u16(payload, 0).plus(Delta::of_u16(before.to_be(), u16::from(length).to_be()));
    header.checksum.set(delta.apply(header.checksum.get()));
    packet.set_len(usize::from(parsed.end)).then_some(())
}
