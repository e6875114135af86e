//! Rewriting: the frame that leaves is the frame the builder would build.

use shunt::dataplane::parse::{Parse, parse};
use shunt::dataplane::rewrite::translate::rewrite;

use crate::packets::oracle::judge;
use crate::packets::{
    BACKEND, CLIENT, Expect, LOCAL, Row, VIP, packet, rows, translated, translation,
};

/// The rows a caller may rewrite: flows whose TTL survives it.
fn rewritable() -> impl Iterator<Item = Row> {
    rows().into_iter().filter(|row| row.expect == Expect::Flow && row.packet.ttl_value() > 1)
}

fn rewritten(row: &Row) -> Vec<u8> {
    let mut frame = row.packet.build();
    let parsed = row.packet.parsed();
    assert!(rewrite(&mut frame, &parsed, &translation(parsed.key)), "{}", row.name);
    frame
}

#[test]
fn a_rewritten_frame_is_to_the_byte_the_one_the_builder_builds() {
    for row in rewritable() {
        assert_eq!(rewritten(&row), translated(row.packet.clone()).build(), "{}", row.name);
    }
}

#[test]
fn an_independent_reader_finds_every_rewritten_frame_right() {
    for row in rewritable() {
        let (before, after) =
            (judge(&row.packet.build()).unwrap(), judge(&rewritten(&row)).unwrap());
        assert_eq!((after.source, after.ports.0), LOCAL, "{}", row.name);
        assert_eq!((after.destination, after.ports.1), BACKEND, "{}", row.name);
        assert_eq!(after.ip_right, before.ip_right, "{}", row.name);
        assert_eq!(after.l4_right, before.l4_right, "a wrong checksum stays wrong: {}", row.name);
    }
    let right = rewritable().filter(|row| judge(&rewritten(row)).unwrap().l4_right).count();
    assert!(right > 30, "nearly all rows have right checksums, {right} do");
}

#[test]
fn a_rewritten_frame_parses_as_the_flow_it_became() {
    for row in rewritable() {
        let expected = Parse::Flow(translated(row.packet.clone()).parsed());
        assert_eq!(parse(&rewritten(&row), row.info), expected, "{}", row.name);
    }
}

#[test]
fn a_frame_that_is_not_the_parsed_one_is_refused_not_overrun() {
    for whole in [packet().tcp(CLIENT, VIP), packet().udp(CLIENT, VIP)] {
        let (frame, parsed) = (whole.build(), whole.parsed());
        for length in 0..frame.len() {
            let mut short = frame[..length].to_vec();
            assert!(!rewrite(&mut short, &parsed, &translation(parsed.key)), "at {length}");
        }
    }
}
