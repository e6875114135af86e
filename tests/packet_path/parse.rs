//! Parsing, by the table.

use std::collections::BTreeSet;

use shunt::dataplane::io::RxInfo;
use shunt::dataplane::parse::{Parse, examine, parse};
use shunt::dataplane::verdict::Reason;

use crate::packets::{CLIENT, Expect, Row, VIP, packet, rows};

/// Everything parsing may refuse for; the properties hold it to this list.
pub(crate) const REASONS: [Reason; 10] = [
    Reason::Truncated,
    Reason::Segmented,
    Reason::IpVersion,
    Reason::IpHeaderLength,
    Reason::IpTotalLength,
    Reason::IpChecksum,
    Reason::L4Checksum,
    Reason::IpSource,
    Reason::TcpDataOffset,
    Reason::UdpLength,
];

fn assert_as_expected(row: &Row, answer: Parse) {
    let name = row.name;
    match (answer, row.expect) {
        (Parse::Flow(parsed), Expect::Flow) => assert_eq!(parsed, row.packet.parsed(), "{name}"),
        (Parse::Flow6(parsed), Expect::Flow6) => {
            assert_eq!(parsed, row.packet.parsed_v6(), "{name}");
        }
        (Parse::Other(other), Expect::Other(kind)) => {
            assert_eq!(other.kind, kind, "{name}");
            assert_eq!((other.source, other.destination), row.packet.addresses(), "{name}");
        }
        (Parse::NotIp, Expect::NotIp) => {}
        (Parse::Drop(reason), Expect::Drop(expected)) => assert_eq!(reason, expected, "{name}"),
        (answer, expected) => panic!("{name}: {answer:?}, expected {expected:?}"),
    }
}

#[test]
fn every_row_parses_as_the_table_says() {
    for row in rows() {
        assert_as_expected(&row, parse(&row.packet.build(), row.info));
    }
}

#[test]
fn the_examiner_alone_gives_the_same_answers() {
    for row in rows() {
        assert_as_expected(&row, examine(&row.packet.build(), row.info));
    }
}

#[test]
fn row_names_are_unique() {
    let names: BTreeSet<_> = rows().iter().map(|row| row.name).collect();
    assert_eq!(names.len(), rows().len());
}

#[test]
fn every_reason_parsing_can_give_has_a_row() {
    let rows = rows();
    let has = |reason| rows.iter().any(|row| row.expect == Expect::Drop(reason));
    let without: Vec<_> = REASONS.into_iter().filter(|reason| !has(*reason)).collect();
    assert_eq!(without, []);
}

#[test]
fn a_frame_cut_at_any_byte_is_refused_until_only_padding_is_cut() {
    for row in rows().into_iter().filter(|row| row.expect == Expect::Flow) {
        let (frame, whole) = (row.packet.build(), row.packet.parsed());
        for length in 0..frame.len() {
            let expected = match length {
                0..34 => Parse::Drop(Reason::Truncated),
                _ if length < usize::from(whole.end) => Parse::Drop(Reason::IpTotalLength),
                _ => Parse::Flow(whole),
            };
            assert_eq!(parse(&frame[..length], row.info), expected, "{} at {length}", row.name);
        }
    }
}

#[test]
fn an_ipv6_frame_cut_at_any_byte_is_refused_until_only_padding_is_cut() {
    for row in rows().into_iter().filter(|row| row.expect == Expect::Flow6) {
        let (frame, whole) = (row.packet.build(), row.packet.parsed_v6());
        for length in 0..frame.len() {
            let expected = match length {
                0..54 => Parse::Drop(Reason::Truncated),
                _ if length < usize::from(whole.end) => Parse::Drop(Reason::IpTotalLength),
                _ => Parse::Flow6(whole),
            };
            assert_eq!(parse(&frame[..length], row.info), expected, "{} at {length}", row.name);
        }
    }
}

#[test]
fn a_tcp_segment_cut_at_any_byte_is_refused_until_only_payload_is_cut() {
    let whole = packet().tcp(CLIENT, VIP).tcp_options(&[1; 12]).payload(b"payload");
    for length in 0..39 {
        let cut = whole.clone().cut(length).padding(20);
        let expected = match length {
            0..20 => Parse::Drop(Reason::Truncated),
            20..32 => Parse::Drop(Reason::TcpDataOffset),
            _ => Parse::Flow(cut.parsed()),
        };
        assert_eq!(parse(&cut.build(), RxInfo::default()), expected, "at {length}");
    }
}

#[test]
fn a_udp_datagram_cut_at_any_byte_is_refused() {
    let whole = packet().udp(CLIENT, VIP).payload(b"payload");
    for length in 0..15 {
        let cut = whole.clone().cut(length).padding(20);
        let expected = if length < 8 { Reason::Truncated } else { Reason::UdpLength };
        assert_eq!(parse(&cut.build(), RxInfo::default()), Parse::Drop(expected), "at {length}");
    }
}

#[test]
fn a_slice_longer_than_any_buffer_is_no_trouble() {
    let mut frame = packet().tcp(CLIENT, VIP).build();
    let whole = parse(&frame, RxInfo::default());
    frame.resize(100_000, 0);
    assert_eq!(parse(&frame, RxInfo::default()), whole, "the rest is padding");
    for length in 65_521..=65_535u16 {
        let info = RxInfo {
            ip_checksum: shunt::dataplane::io::ChecksumVerdict::Good,
            ..RxInfo::default()
        };
        let long = packet().tcp(CLIENT, VIP).total_length(length).padding(70_000).build();
        let fits = length == 65_521;
        assert_eq!(matches!(parse(&long, info), Parse::Flow(_)), fits, "{length}");
    }
}
