//! What holds for every packet, not only for those somebody thought of.

use std::net::Ipv6Addr;

use proptest::collection::vec;
use proptest::prelude::*;
use shunt::dataplane::conn::key::FlowKey;
use shunt::dataplane::io::{ChecksumVerdict, RxInfo};
use shunt::dataplane::parse::{Parse, examine, parse};
use shunt::dataplane::rewrite::translate::rewrite;
use shunt::wire::checksum::{self, Delta};

use zerocopy::IntoBytes;

use crate::packets::builder::{chunk, sum};
use crate::packets::oracle::{judge, judge_v6};
use crate::packets::{Builder, Endpoint, TO_BACKEND, packet, rows, translation_to};
use crate::parse::REASONS;

/// A word array whose checksum is asked for, never all zero: no header ever is.
fn words() -> impl Strategy<Value = Vec<u16>> {
    let word = prop_oneof![Just(0u16), Just(0xffff), any::<u16>()];
    vec(word, 4..40).prop_filter("a header is never all zero", |w| w.iter().any(|w| *w != 0))
}

fn bytes(words: &[u16]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

fn endpoint() -> impl Strategy<Value = Endpoint> {
    (1..=223u8, any::<[u8; 3]>(), any::<u16>())
        .prop_filter("loopback is no host", |(a, ..)| *a != 127)
        .prop_map(|(a, [b, c, d], port)| ([a, b, c, d].into(), port))
}

/// Any right TCP, UDP or SCTP packet.
fn flow_packet() -> impl Strategy<Value = Builder> {
    let transport = (
        prop::sample::select(vec![6u8, 17, 132]),
        any::<u8>(),
        any::<(u32, u32)>(),
        0..=10usize,
        any::<bool>(),
    );
    let network = (any::<u8>(), any::<u16>(), any::<bool>(), 2..=255u8, 0..=10usize);
    let ends = (endpoint(), endpoint()).prop_filter("two hosts", |(a, b)| a.0 != b.0);
    (ends, transport, network, vec(any::<u8>(), 0..200), 0..20usize).prop_map(
        |((from, to), transport, network, payload, padding)| {
            let (protocol, flags, (sequence, ack), tcp_words, summed) = transport;
            let payload = if protocol == 132 { chunk(flags, 0, &payload) } else { payload };
            let (tos, identification, df, ttl, ip_words) = network;
            let udp = packet().udp(from, to);
            let built = match (protocol, summed) {
                (6, _) => packet().tcp(from, to),
                (132, _) => packet().sctp(from, to, sequence),
                (_, true) => udp,
                (_, false) => udp.without_checksum(),
            };
            let built =
                built.flags(flags).numbers(sequence, ack).tcp_options(&vec![1; 4 * tcp_words]);
            let built = built.tos(tos).identification(identification).ttl(ttl).padding(padding);
            let built = built.flags_fragment(u16::from(df) << 14).payload(&payload);
            built.ip_options(&vec![1; 4 * ip_words])
        },
    )
}

fn endpoint_v6() -> impl Strategy<Value = (Ipv6Addr, u16)> {
    (any::<[u16; 8]>(), any::<u16>()).prop_map(|(mut words, port)| {
        words[0] = 0x2000 | words[0] & 0x1fff;
        (words.into(), port)
    })
}

/// Any right TCP or UDP packet of IPv6.
fn flow_packet_v6() -> impl Strategy<Value = Builder> {
    let transport = (any::<bool>(), any::<u8>(), 0..=10usize);
    let network = (any::<u8>(), 0..1u32 << 20, 2..=255u8, vec((0..2usize, 0..3u8), 0..4));
    let ends = (endpoint_v6(), endpoint_v6()).prop_filter("two hosts", |(a, b)| a.0 != b.0);
    (ends, transport, network, vec(any::<u8>(), 0..200), 0..20usize).prop_map(
        |((from, to), (is_tcp, flags, words), (tos, label, ttl, extensions), payload, padding)| {
            let built = if is_tcp { packet().tcp(from, to) } else { packet().udp(from, to) };
            let built = built.flags(flags).tcp_options(&vec![1; 4 * words]).tos(tos);
            let built = built.flow_label(label).ttl(ttl).padding(padding).payload(&payload);
            extensions.into_iter().fold(built, |built, (kind, eighths)| {
                let rest = vec![0; usize::from(eighths) * 8 + 6];
                built.extension([60, 43][kind], &[&[eighths], &rest[..]].concat())
            })
        },
    )
}

/// A frame from the table, with some bytes changed and perhaps its end missing.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let frames: Vec<_> = rows().iter().map(|row| row.packet.build()).collect();
    let changes = vec((0..60usize, any::<u8>()), 0..4);
    (prop::sample::select(frames), changes, any::<prop::sample::Index>(), any::<bool>()).prop_map(
        |(mut frame, changes, length, cut)| {
            for (at, value) in changes {
                if let Some(byte) = frame.get_mut(at) {
                    *byte = value;
                }
            }
            let length = if cut { length.index(frame.len() + 1) } else { frame.len() };
            frame.truncate(length);
            frame
        },
    )
}

fn verdict() -> impl Strategy<Value = ChecksumVerdict> {
    use ChecksumVerdict::{Bad, Good, Unknown};
    prop_oneof![6 => Just(Unknown), 6 => Just(Good), 1 => Just(Bad)]
}

fn info() -> impl Strategy<Value = RxInfo> {
    (verdict(), verdict(), prop::bool::weighted(0.05)).prop_map(|(ip, l4, segmented)| RxInfo {
        ip_checksum: ip,
        l4_checksum: l4,
        segmented,
    })
}

/// Everything parsing promises about its answer.
fn hold_to_promises(frame: &[u8], info: RxInfo) -> Result<(), TestCaseError> {
    let answer = parse(frame, info);
    prop_assert_eq!(answer, examine(frame, info), "both paths agree");
    match answer {
        Parse::Flow6(p) => {
            let (l3, l4, end) = (usize::from(p.l3), usize::from(p.l4), usize::from(p.end));
            let fixed = match p.key.protocol {
                6 => 20,
                132 => 16,
                _ => 8,
            };
            prop_assert!(l3 == 14 && l3 + 40 <= l4 && l4 + fixed <= end && end <= frame.len());
            prop_assert_eq!(&frame[l3 + 8..l3 + 40], p.key.addresses.as_bytes());
            prop_assert_eq!(&frame[l4..l4 + 4], &p.key.ports.to_ne_bytes());
        }
        Parse::Flow(p) => {
            let (l3, l4, end) = (usize::from(p.l3), usize::from(p.l4), usize::from(p.end));
            let fixed = match p.key.protocol {
                6 => 20,
                132 => 16,
                _ => 8,
            };
            prop_assert!(l3 == 14 && l3 + 20 <= l4 && l4 + fixed <= end && end <= frame.len());
            prop_assert_eq!(&frame[l3 + 12..l3 + 20], &p.key.addresses.to_ne_bytes());
            prop_assert_eq!(&frame[l4..l4 + 4], &p.key.ports.to_ne_bytes());
        }
        Parse::Drop(reason) => prop_assert!(REASONS.contains(&reason), "{reason:?}"),
        Parse::Other(_) | Parse::NotIp => {}
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    #[test]
    fn the_sum_is_the_one_of_rfc_1071(bytes in vec(any::<u8>(), 0..300)) {
        prop_assert_eq!(checksum::sum(&bytes), sum(&bytes).to_be());
    }

    #[test]
    fn the_sum_of_two_parts_is_the_sum_of_the_whole(
        bytes in vec(any::<u8>(), 0..300), at in any::<prop::sample::Index>(),
    ) {
        let at = at.index(bytes.len() + 1) & !1;
        let (header, body) = bytes.split_at(at);
        prop_assert_eq!(checksum::checksum_of_two(header, body), checksum::checksum(&bytes));
    }

    #[test]
    fn a_header_verifies_with_its_checksum_and_with_no_other(
        header in any::<[u8; 20]>(), wrong in any::<u16>(),
    ) {
        let mut header = header;
        header[0] = 0x45;
        header[10..12].fill(0);
        let right = checksum::checksum(&header);
        header[10..12].copy_from_slice(&right.to_ne_bytes());
        prop_assert!(checksum::verify(&header) && checksum::verify_20(&header));
        header[10..12].copy_from_slice(&wrong.to_ne_bytes());
        // 0xffff is the other face of 0x0000.
        let verifies = wrong == right || (right == 0 && wrong == 0xffff);
        prop_assert_eq!(checksum::verify(&header), verifies);
        prop_assert_eq!(checksum::verify_20(&header), verifies);
    }

    #[test]
    fn a_delta_applied_equals_summing_again(
        before in words(), new in any::<[u16; 4]>(), at in any::<prop::sample::Index>(),
        width in 0..3usize,
    ) {
        let width = 1 << width;
        let at = at.index(before.len() - 3);
        let mut after = before.clone();
        after[at..at + width].copy_from_slice(&new[..width]);
        prop_assume!(after.iter().any(|word| *word != 0));
        let (old_bytes, new_bytes) = (bytes(&before[at..at + width]), bytes(&new[..width]));
        let delta = match width {
            1 => Delta::of_u16(before[at], new[0]),
            2 => Delta::of_u32(
                u32::from_ne_bytes(old_bytes.try_into().unwrap()),
                u32::from_ne_bytes(new_bytes.try_into().unwrap()),
            ),
            _ => Delta::of_u64(
                u64::from_ne_bytes(old_bytes.try_into().unwrap()),
                u64::from_ne_bytes(new_bytes.try_into().unwrap()),
            ),
        };
        let (was, is) = (checksum::checksum(&bytes(&before)), checksum::checksum(&bytes(&after)));
        prop_assert_eq!(delta.apply(was), is);
        prop_assert_eq!(delta.inverse().apply(is), was, "and back");
        prop_assert_eq!(delta.plus(delta.inverse()).apply(was), was, "there and back at once");
        let udp = |checksum| if checksum == 0 { 0xffff } else { checksum };
        prop_assert_eq!(delta.apply_udp(udp(was)), udp(is));
        prop_assert_eq!(delta.apply_udp(0), 0, "none stays none");
    }

    #[test]
    fn a_right_checksum_stays_right_whichever_face_of_zero_it_shows(
        before in words(), new in any::<u16>(), at in any::<prop::sample::Index>(),
    ) {
        // The last word is the checksum, and the first makes it zero.
        let at = 1 + at.index(before.len() - 1);
        let mut header = before;
        header[0] = 0;
        header[0] = checksum::checksum(&bytes(&header));
        prop_assert_eq!(checksum::checksum(&bytes(&header)), 0);
        let delta = Delta::of_u16(header[at], new);
        header[at] = new;
        for face in [0, 0xffff] {
            let whole = [&header[..], &[delta.apply(face)]].concat();
            prop_assert!(checksum::verify(&bytes(&whole)));
        }
    }

    #[test]
    fn deltas_add_up_in_any_order(a in any::<(u64, u64)>(), b in any::<(u32, u32)>(), c in 0..0xffffu16) {
        let (a, b) = (Delta::of_u64(a.0, a.1), Delta::of_u32(b.0, b.1));
        prop_assert_eq!(a.plus(b).apply(c), b.apply(a.apply(c)));
        prop_assert_eq!(b.plus(a).apply(c), a.apply(b.apply(c)));
        prop_assert_eq!(Delta::ZERO.apply(c), c);
    }

    #[test]
    fn the_ttl_delta_is_that_of_one_less(ttl in 1..=255u8, protocol in any::<u8>(), c in 0..0xffffu16) {
        let word = |ttl| u16::from_ne_bytes([ttl, protocol]);
        let delta = Delta::of_u16(word(ttl), word(ttl - 1));
        prop_assert_eq!(Delta::TTL_MINUS_ONE.apply(c), delta.apply(c));
    }

    #[test]
    fn random_bytes_are_parsed_without_panic_and_as_promised(
        frame in vec(any::<u8>(), 0..200), info in info(),
    ) {
        hold_to_promises(&frame, info)?;
    }

    #[test]
    fn mutated_packets_are_parsed_without_panic_and_as_promised(frame in mutated(), info in info()) {
        hold_to_promises(&frame, info)?;
    }

    #[test]
    fn every_right_packet_is_a_flow(packet in flow_packet()) {
        prop_assert_eq!(parse(&packet.build(), RxInfo::default()), Parse::Flow(packet.parsed()));
    }

    #[test]
    fn rewriting_equals_building_anew_and_the_oracle_agrees(
        packet in flow_packet(), from in endpoint(), to in endpoint(),
    ) {
        let parsed = packet.parsed();
        let translation = translation_to(parsed.key, FlowKey::new(parsed.key.protocol, from, to));
        let mut frame = packet.build();
        prop_assert!(rewrite(&mut frame, &parsed, TO_BACKEND, &translation));
        let anew = packet.clone().macs(TO_BACKEND.source(), TO_BACKEND.destination()).between(from, to);
        prop_assert_eq!(&frame, &anew.ttl(parsed.ttl - 1).build());
        let judged = judge(&frame).map_err(TestCaseError::fail)?;
        prop_assert!(judged.ip_right && judged.l4_right, "{judged:?}");
    }

    #[test]
    fn every_right_ipv6_packet_is_a_flow(packet in flow_packet_v6()) {
        let expected = Parse::Flow6(packet.parsed_v6());
        prop_assert_eq!(parse(&packet.build(), RxInfo::default()), expected);
    }

    #[test]
    fn rewriting_ipv6_equals_building_anew_and_the_oracle_agrees(
        packet in flow_packet_v6(), from in endpoint_v6(), to in endpoint_v6(),
    ) {
        let parsed = packet.parsed_v6();
        let middle = FlowKey::new(parsed.key.protocol, from, to);
        let translation = translation_to(parsed.key, middle);
        let mut frame = packet.build();
        prop_assert!(rewrite(&mut frame, &parsed, TO_BACKEND, &translation));
        let anew = packet.clone().macs(TO_BACKEND.source(), TO_BACKEND.destination()).between(from, to);
        prop_assert_eq!(&frame, &anew.ttl(parsed.ttl - 1).build());
        let judged = judge_v6(&frame).map_err(TestCaseError::fail)?;
        prop_assert!(judged.l4_right, "{judged:?}");
        // And back, as the record does it: by the inverse.
        let mut back = translation_to(middle, parsed.key);
        back.l4_delta = translation.l4_delta.inverse();
        prop_assert!(rewrite(&mut frame, &parsed, TO_BACKEND, &back));
        let expected = packet.macs(TO_BACKEND.source(), TO_BACKEND.destination()).ttl(parsed.ttl.wrapping_sub(2));
        prop_assert_eq!(frame, expected.build());
    }

    #[test]
    fn there_and_back_restores_addresses_ports_and_checksums(
        packet in flow_packet(), from in endpoint(), to in endpoint(),
    ) {
        let parsed = packet.parsed();
        prop_assume!(parsed.ttl > 2);
        let middle = FlowKey::new(parsed.key.protocol, from, to);
        let mut frame = packet.build();
        prop_assert!(rewrite(&mut frame, &parsed, TO_BACKEND, &translation_to(parsed.key, middle)));
        let mut back = translation_to(middle, parsed.key);
        let there = translation_to(parsed.key, middle);
        // The record keeps one direction's deltas: the other's are the inverse.
        (back.ip_delta, back.l4_delta) = (there.ip_delta.inverse(), there.l4_delta.inverse());
        prop_assert!(rewrite(&mut frame, &parsed, TO_BACKEND, &back));
        let expected = packet.macs(TO_BACKEND.source(), TO_BACKEND.destination()).ttl(parsed.ttl - 2);
        prop_assert_eq!(frame, expected.build());
    }
}
