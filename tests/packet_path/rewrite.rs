//! Rewriting: the frame that leaves is the frame the builder would build.

use shunt::dataplane::parse::{Parse, parse};
use shunt::dataplane::rewrite::translate::rewrite;

use crate::packets::oracle::judge_any;
use crate::packets::{
    BACKEND, BACKEND_V6, Builder, CLIENT, CLIENT_V6, Expect, LOCAL, LOCAL_V6, Row, TO_BACKEND, VIP,
    VIP_V6, packet, rows, translated, translation, translation_v6,
};

/// The rows a caller may rewrite: flows whose TTL survives it.
fn rewritable() -> impl Iterator<Item = Row> {
    let is_flow = |row: &Row| matches!(row.expect, Expect::Flow | Expect::Flow6);
    rows().into_iter().filter(move |row| is_flow(row) && row.packet.ttl_value() > 1)
}

fn is_v6(packet: &Builder) -> bool {
    packet.addresses().0.is_ipv6()
}

/// Rewrites `frame` as if it were `packet`; false if that was refused.
fn rewrite_as(packet: &Builder, frame: &mut [u8]) -> bool {
    if is_v6(packet) {
        let parsed = packet.parsed_v6();
        return rewrite(frame, &parsed, TO_BACKEND, &translation_v6(parsed.key));
    }
    let parsed = packet.parsed();
    rewrite(frame, &parsed, TO_BACKEND, &translation(parsed.key))
}

fn rewritten(row: &Row) -> Vec<u8> {
    let mut frame = row.packet.build();
    assert!(rewrite_as(&row.packet, &mut frame), "{}", row.name);
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
    let mut right = 0;
    for row in rewritable() {
        let frames = (row.packet.build(), rewritten(&row));
        let (before, after) = (judge_any(&frames.0).unwrap(), judge_any(&frames.1).unwrap());
        let (local, backend) = if is_v6(&row.packet) {
            (LOCAL_V6.0.into(), BACKEND_V6.0.into())
        } else {
            (LOCAL.0.into(), BACKEND.0.into())
        };
        assert_eq!((after.source, after.destination), (local, backend), "{}", row.name);
        assert_eq!(after.ports, (LOCAL.1, BACKEND.1), "{}", row.name);
        assert_eq!(after.ip_right, before.ip_right, "{}", row.name);
        assert_eq!(after.l4_right, before.l4_right, "a wrong checksum stays wrong: {}", row.name);
        right += usize::from(after.l4_right);
    }
    assert!(right > 60, "nearly all rows have right checksums, {right} do");
}

#[test]
fn a_rewritten_frame_parses_as_the_flow_it_became() {
    for row in rewritable() {
        let after = translated(row.packet.clone());
        let expected = if is_v6(&after) {
            Parse::Flow6(after.parsed_v6())
        } else {
            Parse::Flow(after.parsed())
        };
        assert_eq!(parse(&rewritten(&row), row.info), expected, "{}", row.name);
    }
}

#[test]
fn a_frame_that_is_not_the_parsed_one_is_refused_not_overrun() {
    let v4 = [packet().tcp(CLIENT, VIP), packet().udp(CLIENT, VIP)];
    let v6 = [packet().tcp(CLIENT_V6, VIP_V6), packet().udp(CLIENT_V6, VIP_V6)];
    for whole in v4.into_iter().chain(v6) {
        let frame = whole.build();
        for length in 0..frame.len() {
            let mut short = frame[..length].to_vec();
            assert!(!rewrite_as(&whole, &mut short), "at {length}");
        }
    }
}
