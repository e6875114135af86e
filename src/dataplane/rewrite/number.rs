//! The number of a datagram that leaves in pieces under an address that many share (FULL-NAT).
//!
//! The receiver puts together what has the same two addresses, protocol and identification. Behind a
//! local address many clients are one host to the backend, and their numbers, which each counts for
//! itself, often from 1, would meet: pieces of two datagrams would become one (RFC 6864 section 5.3).
//! So what leaves in pieces there is numbered anew:
//!
//! ```text
//! number = the client's number XOR mask          mask: a keyed hash of client and VIP
//! ```
//!
//! No table, and the same for all pieces of a datagram, whichever worker has them and in whatever order
//! they come. Of one client all numbers stay different. Two datagrams of different clients meet with the
//! odds of two drawn at random, 1 in 65,536 (IPv6: 1 in 4 billion), if both are incomplete at one
//! backend at once; nobody outside can choose to, who does not know the key.
//!
//! Whole packets keep their number: with DF it has no use, and without it the router that cuts them
//! cannot be known. What is cut here is numbered as what came in pieces.

use zerocopy::FromBytes;

use crate::wire::checksum::Delta;
use crate::wire::{fragment, ipv4, ipv6};

/// Changes the number of the datagram that an IP packet is a piece of, if it is one; once more, and it
/// is what it was.
pub(in crate::dataplane) fn mask_piece(packet: &mut [u8], mask: u32) {
    if mask != 0 && fragment::is_in(packet) {
        let _ = change(packet, mask);
    }
}

/// The same for a whole packet that will be cut; in IPv6 it has no number yet.
pub(in crate::dataplane) fn mask_whole(packet: &mut [u8], mask: u32) {
    if mask != 0 && !fragment::is_in(packet) {
        let _ = change(packet, mask);
    }
}

fn change(packet: &mut [u8], mask: u32) -> Option<()> {
    if packet.first()? >> 4 == 4 {
        let (header, _) = ipv4::Header::mut_from_prefix(packet).ok()?;
        let before = u16::from_ne_bytes(header.identification.to_bytes());
        header.identification.set(header.identification.get() ^ low_half(mask));
        let after = u16::from_ne_bytes(header.identification.to_bytes());
        header.checksum.set(Delta::of_u16(before, after).apply(header.checksum.get()));
        return Some(());
    }
    let walked = ipv6::walk(packet).filter(|walked| walked.protocol == fragment::NEXT_HEADER)?;
    let (header, _) = fragment::Header::mut_from_prefix(packet.get_mut(walked.offset..)?).ok()?;
    header.identification.set(header.identification.get() ^ mask);
    Some(())
}

#[expect(clippy::cast_possible_truncation, reason = "IPv4's is half as long")]
fn low_half(mask: u32) -> u16 {
    mask as u16
}
