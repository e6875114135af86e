//! Cutting: what leaves fits, says what it is, and is the packet again when put together: by the
//! plain rules of RFC 791 and RFC 8200 written out here, and by `etherparse`.

use std::collections::BTreeMap;

use etherparse::defrag::IpDefragPool;
use etherparse::{PacketBuilder, SlicedPacket};
use proptest::prelude::*;
use shunt::dataplane::io::Packet;
use shunt::dataplane::io::memory::{ROOM, VecPacket};
use shunt::dataplane::rewrite::cut::{CutError, PIECES_MAX, cut};
use shunt::ids::PortId;

use super::packets::builder::sum;
use super::packets::{CLIENT, VIP, packet};

const ETHER: usize = 14;
const MORE: u16 = 0x2000;
/// Record route (not copied), no-operation, stream id (copied), end of list.
const OPTIONS: [u8; 12] = [7, 3, 4, 1, 0x88, 4, 0xab, 0xcd, 0, 0, 0, 0];
/// What is left of them in later pieces.
const COPIED: [u8; 12] = [1, 1, 1, 1, 0x88, 4, 0xab, 0xcd, 0, 0, 0, 0];

fn pieces(frame: &[u8], mtu: usize, identification: u32) -> Result<Vec<Vec<u8>>, CutError> {
    let mut sent = vec![];
    let mut send = |piece: VecPacket| sent.push(piece.data().to_vec());
    let count = cut(VecPacket::new(frame), ETHER, mtu, identification, &mut send);
    if let Ok(count) = count {
        assert_eq!(count, sent.len());
    } else {
        assert!(sent.is_empty(), "a packet leaves whole or not at all");
    }
    count.map(|_| sent)
}

fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// A piece taken apart by the letter of the standards.
#[derive(Debug)]
struct Piece {
    /// Link and IP header, with everything that tells pieces apart zeroed.
    header: Vec<u8>,
    offset: usize,
    more: bool,
    payload: Vec<u8>,
}

fn read_v4(frame: &[u8]) -> Piece {
    let ip = &frame[ETHER..];
    let header_length = usize::from(ip[0] & 15) * 4;
    assert_eq!(sum(&ip[..header_length]), 0xffff, "header checksum");
    assert_eq!(usize::from(word(ip, 2)), ip.len(), "total length");
    let mut header = frame[..ETHER + header_length].to_vec();
    header[ETHER + 2..ETHER + 4].fill(0);
    header[ETHER + 6] &= 0xc0;
    header[ETHER + 7] = 0;
    header[ETHER + 10..ETHER + 12].fill(0);
    Piece {
        header,
        offset: usize::from(word(ip, 6) & 0x1fff) * 8,
        more: word(ip, 6) & MORE != 0,
        payload: ip[header_length..].to_vec(),
    }
}

fn read_v6(frame: &[u8]) -> Piece {
    let ip = &frame[ETHER..];
    assert_eq!(usize::from(word(ip, 4)), ip.len() - 40, "payload length");
    let mut header = frame[..ETHER + 40].to_vec();
    header[ETHER + 4..ETHER + 6].fill(0);
    if ip[6] != 44 {
        return Piece { header, offset: 0, more: false, payload: ip[40..].to_vec() };
    }
    header[ETHER + 6] = ip[40];
    header.extend(&ip[44..48]);
    let (offset, more) = (usize::from(word(ip, 42) & 0xfff8), word(ip, 42) & 1 == 1);
    assert_eq!((ip[41], word(ip, 42) & 6), (0, 0), "reserved");
    Piece { header, offset, more, payload: ip[48..].to_vec() }
}

/// Puts pieces together, in whatever order they are; what is missing or double is a failure.
fn joined(pieces: impl IntoIterator<Item = Piece>) -> (usize, bool, Vec<u8>) {
    let by_offset: BTreeMap<usize, Piece> =
        pieces.into_iter().map(|piece| (piece.offset, piece)).collect();
    let start = *by_offset.keys().next().unwrap();
    let (mut payload, mut more) = (vec![], true);
    for (offset, piece) in by_offset {
        assert!(more, "a piece after the last");
        assert_eq!(offset, start + payload.len(), "no hole, no overlap");
        payload.extend(piece.payload);
        more = piece.more;
        assert!(!more || payload.len() % 8 == 0, "only the last may be odd");
    }
    (start, more, payload)
}

/// What `etherparse` makes of the pieces.
fn defragmented(pieces: &[Vec<u8>]) -> Option<Vec<u8>> {
    let mut pool = IpDefragPool::<(), ()>::new();
    let feed = |piece: &Vec<u8>| {
        let sliced = SlicedPacket::from_ethernet(piece).unwrap();
        pool.process_sliced_packet(&sliced, (), ()).unwrap()
    };
    pieces.iter().filter_map(feed).last().map(|whole| whole.payload)
}

fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|at| u8::try_from(at * 7 % 251).unwrap()).collect()
}

fn ipv6(payload: &[u8]) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv6([0x20; 16], [0x30; 16], 63);
    let mut frame = vec![];
    builder.udp(1, 2).write(&mut frame, payload).unwrap();
    frame
}

#[test]
fn pieces_are_as_large_as_the_way_carries_and_only_the_last_is_not() {
    let lengths = |frame: &[u8], mtu| -> Vec<usize> {
        pieces(frame, mtu, 1).unwrap().iter().map(|piece| piece.len() - ETHER).collect()
    };
    let four = packet().udp(CLIENT, VIP).payload(&bytes(1472)).build();
    assert_eq!(lengths(&four, 1500), [1500], "fits");
    assert_eq!(lengths(&four, 1499), [1492, 28]);
    assert_eq!(lengths(&four, 820), [820, 700]);
    assert_eq!(lengths(&four, 576), [572, 572, 396], "552, 552 and 376 bytes of payload");
    assert_eq!(lengths(&ipv6(&bytes(1400)), 1448), [1448], "fits");
    assert_eq!(lengths(&ipv6(&bytes(1400)), 1447), [1440, 64], "1392 and 16 bytes of payload");
}

#[test]
fn a_packet_that_fits_is_given_on_untouched() {
    let frame = packet().udp(CLIENT, VIP).payload(&bytes(4)).ip_wrong_by(1).padding(14).build();
    assert_eq!(pieces(&frame, 32, 1), Ok(vec![frame]));
}

#[test]
fn pieces_leave_by_the_packets_port_without_its_tag() {
    let mut whole = VecPacket::new(&packet().udp(CLIENT, VIP).payload(&bytes(100)).build());
    whole.set_port(PortId(3));
    let mut ports = vec![];
    let mut send = |piece: VecPacket| ports.push((piece.port(), piece.tag()));
    assert_eq!(cut(whole, ETHER, 100, 0, &mut send), Ok(2));
    assert_eq!(ports, [(PortId(3), 0); 2]);
}

#[test]
fn options_that_are_not_copied_are_no_operations_after_the_first_piece() {
    let frame = packet().udp(CLIENT, VIP).ip_options(&OPTIONS).payload(&bytes(192)).build();
    let sent = pieces(&frame, 100, 0).unwrap();
    let options: Vec<_> = sent.iter().map(|piece| &piece[34..46]).collect();
    assert_eq!(options, [&OPTIONS, &COPIED, &COPIED, &COPIED]);
    let lying: [&[u8]; 4] = [&[7, 0, 4, 4], &[7, 9, 4, 4], &[1, 1, 1, 7], &[7, 1, 0, 0]];
    for options in lying {
        let frame = packet().udp(CLIENT, VIP).ip_options(options).payload(&bytes(192)).build();
        let sent = pieces(&frame, 100, 0).unwrap();
        assert!(sent.iter().all(|piece| piece[34..38] == *options), "left as they are");
    }
}

#[test]
fn what_cannot_be_cut_is_refused_with_the_reason() {
    let four = || packet().udp(CLIENT, VIP).payload(&bytes(200));
    let six = |next_header: u8| {
        let mut frame = ipv6(&bytes(200));
        frame[ETHER + 6] = next_header;
        frame
    };
    let table: [(&str, Vec<u8>, usize, CutError); 14] = [
        ("no IP", four().version(5).build(), 100, CutError::Header),
        ("short header", four().ihl(4).build(), 100, CutError::Header),
        ("longer than the frame", four().total_length(229).build(), 100, CutError::Header),
        ("shorter than its header", four().total_length(19).build(), 100, CutError::Header),
        ("past 65535", four().flags_fragment(0x1fff).build(), 100, CutError::Header),
        ("frame without a packet", vec![0; ETHER], 100, CutError::Header),
        ("frame without an end", four().build()[..30].to_vec(), 100, CutError::Header),
        ("hop-by-hop options", six(0), 100, CutError::Header),
        ("a fragment header without an end", six(44)[..ETHER + 46].to_vec(), 100, CutError::Header),
        ("IPv6 without an end", ipv6(&[])[..18].to_vec(), 100, CutError::Header),
        ("no room for payload", four().build(), 27, CutError::Mtu { mtu: 27 }),
        ("no room for a header", four().build(), 0, CutError::Mtu { mtu: 0 }),
        ("no room in IPv6", six(17), 55, CutError::Mtu { mtu: 55 }),
        ("too many", four().payload(&bytes(PIECES_MAX * 8 + 1)).build(), 28, CutError::TooMany),
    ];
    for (name, frame, mtu, error) in table {
        assert_eq!(pieces(&frame, mtu, 0), Err(error), "{name}");
    }
    let most = four().payload(&bytes(PIECES_MAX * 8 - 8)).build();
    assert_eq!(pieces(&most, 28, 0).unwrap().len(), PIECES_MAX, "the limit itself is fine");
}

#[test]
fn without_buffers_or_headroom_nothing_is_sent() {
    let frame = packet().udp(CLIENT, VIP).payload(&bytes(1000)).build();
    for (siblings, expected) in
        [(0, Err(CutError::NoBuffer)), (1, Err(CutError::NoBuffer)), (2, Ok(3))]
    {
        let mut sent = 0;
        let whole = VecPacket::new(&frame).with_siblings_left(siblings);
        assert_eq!(cut(whole, ETHER, 400, 0, &mut |_| sent += 1), expected);
        assert_eq!(sent, expected.unwrap_or(0));
    }
    let no_room = VecPacket::with_headroom(&ipv6(&bytes(1000)), 7);
    let send = &mut |_| panic!("nothing is sent");
    assert_eq!(cut(no_room, ETHER, 400, 0, send), Err(CutError::NoRoom));
    let mut longer_than_a_buffer = VecPacket::new(&packet().payload(&bytes(ROOM - 34)).build());
    assert!(longer_than_a_buffer.prepend(20).is_some());
    let frame = packet().protocol(4).payload(&bytes(ROOM - 14)).build();
    longer_than_a_buffer.data_mut().copy_from_slice(&frame);
    let mut sent = 0;
    assert_eq!(
        cut(longer_than_a_buffer, ETHER, ROOM, 0, &mut |_| sent += 1),
        Ok(2),
        "headroom used"
    );
    assert_eq!(sent, 2);
}

proptest! {
    #[test]
    fn ipv4_pieces_put_together_are_the_packet(
        length in 0_usize..1900,
        flags in prop::sample::select(vec![0, 0x4000, 0x8000, MORE, 0x0011, MORE | 0x0100]),
        options in prop::sample::select(vec![0, 4, 12]),
        padding in 0_usize..20,
        mtus in (68_usize..1600, 68_usize..1600),
    ) {
        let whole = packet().protocol(17).flags_fragment(flags).ip_options(&OPTIONS[..options]);
        // All pieces but the last are whole units, also those that are cut again.
        let length = if flags & MORE == 0 { length } else { length / 8 * 8 };
        let whole = whole.payload(&bytes(length)).padding(padding);
        let frame = whole.build();
        let sent = pieces(&frame, mtus.0, 0).unwrap();
        let original = read_v4(&frame[..frame.len() - padding]);
        if sent.len() > 1 {
            for (at, piece) in sent.iter().enumerate() {
                prop_assert!(piece.len() - ETHER <= mtus.0);
                let (mut expected, kept) = (original.header.clone(), &COPIED[..options]);
                if at > 0 {
                    expected[ETHER + 20..].copy_from_slice(kept);
                }
                prop_assert_eq!(read_v4(piece).header, expected);
            }
        }
        let twice: Vec<_> = sent.iter().flat_map(|piece| pieces(piece, mtus.1, 0).unwrap()).collect();
        for cut in [&sent, &twice] {
            // A packet that fits keeps its padding.
            let unpadded = cut.iter().map(|piece| &piece[..ETHER + usize::from(word(piece, 16))]);
            let (offset, more, payload) = joined(unpadded.map(read_v4));
            prop_assert_eq!((offset, more), (original.offset, original.more));
            prop_assert_eq!(&payload, &original.payload);
            if cut.len() > 1 && !original.more && original.offset == 0 {
                prop_assert_eq!(defragmented(cut), Some(payload));
            }
        }
    }

    #[test]
    fn ipv6_pieces_put_together_are_the_packet(
        length in 0_usize..1900,
        identification in any::<u32>(),
        mtu in 80_usize..1600,
        again in 80_usize..1600,
    ) {
        let frame = ipv6(&bytes(length));
        let sent = pieces(&frame, mtu, identification).unwrap();
        // A piece has its own identification when it is cut again.
        let twice: Vec<_> = match sent.len() {
            1 => vec![],
            _ => sent.iter().flat_map(|piece| pieces(piece, again, 0).unwrap()).collect(),
        };
        let original = read_v6(&frame);
        if sent.len() == 1 {
            prop_assert_eq!(&sent[0], &frame);
        } else {
            let header = [&original.header[..], &identification.to_be_bytes()].concat();
            for piece in &sent {
                prop_assert!(piece.len() - ETHER <= mtu);
                prop_assert_eq!(&read_v6(piece).header, &header);
            }
            prop_assert!(twice.iter().all(|piece| piece.len() - ETHER <= again));
            prop_assert!(twice.iter().all(|piece| read_v6(piece).header == header));
            prop_assert_eq!(defragmented(&sent), Some(original.payload.clone()));
            prop_assert_eq!(defragmented(&twice), Some(original.payload.clone()));
        }
        let (offset, more, payload) = joined(sent.iter().map(|piece| read_v6(piece)));
        prop_assert_eq!((offset, more, payload), (0, false, original.payload));
    }

    #[test]
    fn any_bytes_are_cut_or_refused_and_nothing_else(
        frame in prop::collection::vec(any::<u8>(), 0..200),
        version in prop::sample::select(vec![0x45_u8, 0x46, 0x4f, 0x60]),
        l3 in 0_usize..20,
        mtu in 0_usize..300,
    ) {
        let mut frame = frame;
        if let Some(first) = frame.get_mut(l3) {
            *first = version;
        }
        let mut sent = 0;
        let count = cut(VecPacket::new(&frame), l3, mtu, 0, &mut |piece: VecPacket| {
            sent += 1;
            assert!(piece.data().len() <= frame.len() + 8);
        });
        prop_assert_eq!(count.unwrap_or(0), sent);
    }
}
