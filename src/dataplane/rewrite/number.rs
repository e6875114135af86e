//! The number of a datagram that leaves in pieces under an address that many share (FULL-NAT).
//!
//! The receiver puts together what has the same two addresses, protocol and identification. Behind a
//! local address many clients are one host to the backend, and their numbers, which each counts for
//! itself, often from 1, would meet: pieces of two datagrams would become one (RFC 6864 section 5.3).
//! So what leaves in pieces there is numbered anew:
//!
//! ```text
//! number = the client's number XOR mask          mask: SipHash of client and VIP
//! ```
//!
//! No table, and the same for all pieces of a datagram, whichever worker has them and in whatever order
//! they come. Of one client all numbers stay different. Two datagrams of different clients meet with the
//! odds of two drawn at random, 1 in 65,536 (IPv6: 1 in 4 billion), if both are incomplete at one
//! backend at once; nobody outside can choose to, who does not know the key.
//!
//! An error about such a piece is told to the client under the client's number: the mask once more.
//!
//! Limits: whole packets keep their number. With DF it means nothing, and who may cut one without is
//! not ours to know; what is cut here is numbered as what came in pieces. Answers keep theirs: what a
//! client gets from the VIP was numbered by several backends, as in any NAT.

use zerocopy::FromBytes;

use crate::wire::checksum::Delta;
use crate::wire::{fragment, ipv4, ipv6};

/// Changes the number of the datagram that an IP packet is a piece of, if it is one; once more, and it
/// is what it was.
pub(in crate::dataplane) fn mask_piece(packet: &mut [u8], mask: u32) {
    if mask != 0 && is_piece(packet) {
        let _ = change(packet, mask);
    }
}

/// The same for a whole packet that will be cut; in IPv6 it has no number yet.
pub(in crate::dataplane) fn mask_whole(packet: &mut [u8], mask: u32) {
    if mask != 0 && !is_piece(packet) {
        let _ = change(packet, mask);
    }
}

/// Is it a part of its datagram only? An atomic fragment is all of its.
fn is_piece(packet: &[u8]) -> bool {
    match packet.first() {
        Some(byte) if byte >> 4 == 6 => {
            fragment::of_v6(packet).is_some_and(|header| header.span().is_piece())
        }
        _ => fragment::is_in(packet),
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use zerocopy::IntoBytes;

    use super::*;
    use crate::wire::{Raw16, Raw64, checksum};

    fn packet_v4(number: u16, flags_fragment: u16) -> Vec<u8> {
        let mut header = ipv4::Header {
            version_ihl: ipv4::VERSION_IHL,
            tos: 0,
            total_length: 28.into(),
            identification: number.into(),
            flags_fragment: flags_fragment.into(),
            ttl: 64,
            protocol: ipv4::UDP,
            checksum: Raw16::ZERO,
            addresses: Raw64::new(0x0102_0304_0506_0708),
        };
        header.checksum = Raw16::new(checksum::checksum(header.as_bytes()));
        [header.as_bytes(), &[7; 8]].concat()
    }

    fn packet_v6(number: u32, span: fragment::Span) -> Vec<u8> {
        let piece = fragment::Header::new(ipv4::UDP, span, number);
        let header = ipv6::Header {
            version_class_label: ipv6::version_class(0),
            payload_length: 16.into(),
            next_header: ipv6::FRAGMENT,
            hop_limit: 64,
            addresses: [Raw64::new(1); 4],
        };
        [header.as_bytes(), piece.as_bytes(), &[7; 8]].concat()
    }

    proptest! {
        /// A piece gets the number changed by the mask and a right checksum, nothing else; masked
        /// again it is what it was. A whole packet stays, unless it is going to be cut.
        #[test]
        fn a_mask_changes_the_number_of_a_piece_alone_and_back(
            number: u32, mask: u32, offset in 0u16..1000, more: bool, is_v6: bool,
        ) {
            let span = fragment::Span { offset: offset * 8, more };
            let packet = if is_v6 {
                packet_v6(number, span)
            } else {
                packet_v4(low_half(number), span.bits_v4())
            };
            let expected = if is_v6 {
                packet_v6(number ^ mask, span)
            } else {
                packet_v4(low_half(number ^ mask), span.bits_v4())
            };
            let (mut piece, mut whole) = (packet.clone(), packet.clone());
            mask_piece(&mut piece, mask);
            mask_whole(&mut whole, mask);
            let (changed, kept) = if span.is_piece() { (&piece, &whole) } else { (&whole, &piece) };
            prop_assert_eq!(kept, &packet);
            prop_assert_eq!(changed, &expected);
            mask_piece(&mut piece, mask);
            mask_whole(&mut whole, mask);
            prop_assert_eq!((&piece, &whole), (&packet, &packet));
        }
    }
}
