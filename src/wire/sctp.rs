//! SCTP (RFC 9260 section 3) and its checksum.
//!
//! ```text
//!  0                                16                          31
//! │ source port                      │ destination port           │
//! │ verification tag: which association                           │
//! │ CRC32c of the whole packet, this field taken as zero          │
//! ├───────────────────────────────────────────────────────────────┤
//! │ chunk type      │ flags          │ length, this row included   │
//! │ value, padded to four bytes, the padding not in the length …  │
//! │ next chunk …                                                  │
//! ```
//!
//! The checksum is a CRC, not a sum: what a changed word does to it depends on how many bytes come
//! behind, so the whole packet is read again. But it covers no pseudo-header, so a rewritten
//! *address* does not show in it, and nothing is to do unless a *port* changes. Its four bytes lie
//! lowest first, the only number of the protocol that does (appendix A).
//!
//! A CRC is linear: two packets that differ in their ports have CRCs that differ by that of the
//! difference, all other bytes zero. So of a packet in pieces the first is enough, and the length
//! of the whole ([`foretell`]).

use zerocopy::little_endian::U32 as Le32;
use zerocopy::{FromBytes, IntoBytes};

use super::{Be16, Be32, Raw32};

/// Bytes of the common header.
pub const LEN: usize = size_of::<Header>();
/// Bytes of a chunk's header.
pub const CHUNK_LEN: usize = size_of::<Chunk>();

/// Payload.
pub const DATA: u8 = 0;
/// First packet of the four that make an association.
pub const INIT: u8 = 1;
/// The second.
pub const INIT_ACK: u8 = 2;
/// What has arrived.
pub const SACK: u8 = 3;
/// Is this path alive?
pub const HEARTBEAT: u8 = 4;
/// It is.
pub const HEARTBEAT_ACK: u8 = 5;
/// The end, at once.
pub const ABORT: u8 = 6;
/// Nothing more to send.
pub const SHUTDOWN: u8 = 7;
/// Nor here.
pub const SHUTDOWN_ACK: u8 = 8;
/// Something was wrong.
pub const ERROR: u8 = 9;
/// Third packet of the four.
pub const COOKIE_ECHO: u8 = 10;
/// The fourth.
pub const COOKIE_ACK: u8 = 11;
/// The end, in order.
pub const SHUTDOWN_COMPLETE: u8 = 14;

/// The common header.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    zerocopy::FromBytes,
    zerocopy::IntoBytes,
    zerocopy::KnownLayout,
    zerocopy::Immutable,
    zerocopy::Unaligned,
)]
#[repr(C)]
pub struct Header {
    /// Source then destination port, as they lie in memory.
    pub ports: Raw32,
    /// Verification tag: chosen by the receiver; zero in a packet with INIT.
    pub tag: Be32,
    /// CRC of the packet.
    pub checksum: Le32,
}

/// What every chunk begins with.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    zerocopy::FromBytes,
    zerocopy::IntoBytes,
    zerocopy::KnownLayout,
    zerocopy::Immutable,
    zerocopy::Unaligned,
)]
#[repr(C)]
pub struct Chunk {
    /// Chunk type.
    pub kind: u8,
    /// Meaning depends on the type.
    pub flags: u8,
    /// Bytes of the chunk with this header, without padding: at least 4 in a right one.
    pub length: Be16,
}

/// The CRC of a whole packet, its checksum field taken as zero. What is too short for a header
/// has no such field and is read as it is.
#[inline]
pub fn crc32c(packet: &[u8]) -> u32 {
    match Header::ref_from_prefix(packet) {
        Ok((header, chunks)) => crc32c_of(header, chunks),
        Err(_) => crc32c::crc32c(packet),
    }
}

#[inline]
fn crc32c_of(header: &Header, chunks: &[u8]) -> u32 {
    let header = Header { checksum: Le32::ZERO, ..*header };
    crc32c::crc32c_append(crc32c::crc32c(header.as_bytes()), chunks)
}

/// Is a packet's checksum right?
#[inline]
pub fn verify(packet: &[u8]) -> bool {
    Header::ref_from_prefix(packet)
        .is_ok_and(|(header, chunks)| header.checksum == crc32c_of(header, chunks))
}

/// Writes the checksum a packet should have. What is too short for a header stays as it is.
#[inline]
pub fn set_checksum(packet: &mut [u8]) {
    if let Ok((header, chunks)) = Header::mut_from_prefix(packet) {
        header.checksum = Le32::new(crc32c_of(header, chunks));
    }
}

/// Gives a packet these ports (as they lie in memory): a right checksum stays right, a wrong one
/// stays wrong by the same bits, so what broke on one side is not sent on as whole. Two readings
/// of the packet, the second one cached; none if the ports are the same.
#[inline]
pub fn set_ports(packet: &mut [u8], ports: u32) {
    let Ok((header, chunks)) = Header::mut_from_prefix(packet) else { return };
    if header.ports == ports {
        return;
    }
    let wrong_by = header.checksum.get() ^ crc32c_of(header, chunks);
    header.ports = Raw32::new(ports);
    header.checksum = Le32::new(crc32c_of(header, chunks) ^ wrong_by);
}

/// By what the CRC of a packet of `length` bytes differs from that of another one, if their ports
/// differ by `difference` and nothing else.
fn difference_of_crc(difference: u32, length: usize) -> u32 {
    let bytes = difference.to_ne_bytes();
    let alone = crc32c::crc32c(&bytes) ^ crc32c::crc32c(&[0; 4]);
    crc32c::crc32c_combine(alone, 0, length.saturating_sub(bytes.len()))
}

/// Prepares the first piece of a packet of `whole` bytes for [`set_ports`], which takes the piece
/// for all there is: changes the checksum so that it will be right, or as wrong as it is, for the
/// whole packet.
pub fn foretell(piece: &mut [u8], ports: u32, whole: usize) {
    let length = piece.len();
    let Ok((header, _)) = Header::mut_from_prefix(piece) else { return };
    let difference = header.ports.get() ^ ports;
    let mistaken = difference_of_crc(difference, length);
    let meant = difference_of_crc(difference, whole);
    header.checksum = Le32::new(header.checksum.get() ^ mistaken ^ meant);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The checksum bit by bit, as its polynomial is defined (RFC 9260 appendix A): no table, no
    /// instruction, nothing of the library.
    fn bit_by_bit(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0, |crc, byte| {
            (0..8)
                .fold(crc ^ u32::from(*byte), |crc: u32, _| (crc >> 1) ^ (0x82f6_3b78 * (crc & 1)))
        })
    }

    #[test]
    fn the_vectors_of_rfc_3720_come_out_as_printed() {
        let up: Vec<u8> = (0x00..=0x1f).collect();
        let down: Vec<u8> = (0x00..=0x1f).rev().collect();
        // Appendix B.4; the last is its SCSI read command.
        let command: Vec<u8> = [
            0x01_c0_00_00_u32,
            0,
            0,
            0,
            0x14_00_00_00,
            0x00_00_04_00,
            0x00_00_00_14,
            0x00_00_00_18,
            0x28_00_00_00,
            0,
            0x02_00_00_00,
            0,
        ]
        .into_iter()
        .flat_map(u32::to_be_bytes)
        .collect();
        let rows: [(&[u8], [u8; 4]); 5] = [
            (&[0; 32], [0xaa, 0x36, 0x91, 0x8a]),
            (&[0xff; 32], [0x43, 0xab, 0xa8, 0x62]),
            (&up, [0x4e, 0x79, 0xdd, 0x46]),
            (&down, [0x5c, 0xdb, 0x3f, 0x11]),
            (&command, [0x56, 0x3a, 0x96, 0xd9]),
        ];
        for (bytes, printed) in rows {
            assert_eq!(crc32c::crc32c(bytes).to_le_bytes(), printed);
            assert_eq!(bit_by_bit(bytes).to_le_bytes(), printed, "the test's own reckoning");
        }
        // Zeros are their own packet with its checksum field zero.
        assert_eq!(Le32::new(crc32c(&[0; 32])).to_bytes(), rows[0].1);
    }

    #[test]
    fn a_checksum_set_is_right_and_any_flipped_bit_makes_it_wrong() {
        // The answer to a stranger: ABORT, the tag reflected.
        let mut packet = [0; LEN + CHUNK_LEN];
        packet[..8].copy_from_slice(&[0x04, 0x00, 0x0b, 0x59, 0xde, 0xad, 0xbe, 0xef]);
        packet[LEN..].copy_from_slice(&[ABORT, 1, 0, 4]);
        let expected = bit_by_bit(&packet);
        set_checksum(&mut packet);
        assert_eq!(packet[8..12], expected.to_le_bytes());
        assert!(verify(&packet));
        for bit in 0..packet.len() * 8 {
            let mut broken = packet;
            broken[bit / 8] ^= 1 << (bit % 8);
            assert!(!verify(&broken), "bit {bit}");
        }
    }

    #[test]
    fn what_is_shorter_than_a_header_is_never_right_and_never_touched() {
        for length in 0..LEN {
            let mut short = vec![0x5a; length];
            set_checksum(&mut short);
            set_ports(&mut short, 1);
            assert!(!verify(&short));
            assert_eq!(crc32c(&short), bit_by_bit(&short));
            assert!(short.iter().all(|byte| *byte == 0x5a));
        }
    }

    #[test]
    fn fields_are_where_the_rfc_draws_them() {
        let bytes = [0, 1, 0, 2, 0, 0, 0, 3, 4, 0, 0, 0, DATA, 7, 0, 17];
        let (header, rest) = Header::ref_from_prefix(&bytes).unwrap();
        assert_eq!(header.ports.to_bytes(), [0, 1, 0, 2]);
        assert_eq!((header.tag.get(), header.checksum.get()), (3, 4));
        let chunk = Chunk::ref_from_bytes(rest).unwrap();
        assert_eq!((chunk.kind, chunk.flags, chunk.length.get()), (DATA, 7, 17));
    }

    proptest! {
        #[test]
        fn the_checksum_is_that_of_the_definition_with_the_field_zero(
            mut packet in proptest::collection::vec(any::<u8>(), LEN..4000),
        ) {
            let ours = crc32c(&packet);
            packet[8..12].fill(0);
            prop_assert_eq!(ours, bit_by_bit(&packet));
        }

        #[test]
        fn new_ports_of_a_first_piece_are_those_of_the_whole_packet(
            mut packet in proptest::collection::vec(any::<u8>(), LEN..3000),
            first: prop::sample::Index,
            ports: [u8; 4],
            wrong_by: u32,
        ) {
            set_checksum(&mut packet);
            let right = u32::from_le_bytes(packet[8..12].try_into().unwrap());
            packet[8..12].copy_from_slice(&(right ^ wrong_by).to_le_bytes());
            let whole = packet.len();
            let first = LEN + first.index(whole - LEN + 1);
            let ports_number = u32::from_ne_bytes(ports);
            foretell(&mut packet[..first], ports_number, whole);
            set_ports(&mut packet[..first], ports_number);
            prop_assert_eq!(&packet[..4], &ports);
            let found = u32::from_le_bytes(packet[8..12].try_into().unwrap());
            packet[8..12].fill(0);
            prop_assert_eq!(found ^ bit_by_bit(&packet), wrong_by);
        }

        #[test]
        fn new_ports_keep_a_right_checksum_right_and_a_wrong_one_wrong(
            mut packet in proptest::collection::vec(any::<u8>(), LEN..200),
            ports: [u8; 4],
            wrong_by: u32,
        ) {
            set_checksum(&mut packet);
            let right = u32::from_le_bytes(packet[8..12].try_into().unwrap());
            packet[8..12].copy_from_slice(&(right ^ wrong_by).to_le_bytes());
            set_ports(&mut packet, u32::from_ne_bytes(ports));
            prop_assert_eq!(&packet[..4], &ports);
            let found = u32::from_le_bytes(packet[8..12].try_into().unwrap());
            packet[8..12].fill(0);
            prop_assert_eq!(found ^ bit_by_bit(&packet), wrong_by);
        }
    }
}
