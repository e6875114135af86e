//! Any bytes, through parse, rewrite and answer: no panic, offsets true, checksums kept right.
//!
//! Plain `cargo test` runs both packet tables (what can arrive, and the packets of every rule), whatever lies in `tests/__fuzz__/*/{corpus,crashes}`,
//! and a second of random input each. A campaign:
//!
//! ```text
//! cargo install cargo-bolero
//! cargo test --test fuzz_parse_rewrite seed_the_corpus -- --ignored
//! cargo bolero test any_bytes --rustc-bootstrap -T 10m    (or mutated_packets)
//! ```
//!
//! `--rustc-bootstrap` lets a stable compiler build with the address sanitizer, whose runtime the
//! coverage counters need. Without that tool, and without coverage to guide it, a longer run is
//! `BOLERO_RANDOM_TEST_TIME_MS=600000 cargo test --release --test fuzz_parse_rewrite`.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a target that cannot run shall fail loudly"
)]

mod packets;

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::net::Ipv6Addr;
use std::time::Duration;

use packets::builder::sum;
use packets::oracle::{judge, judge_any, judge_v6};
use packets::rules::packets_in;
use packets::{LOCAL, LOCAL_V6, TO_BACKEND, rows, translation, translation_v6};
use shunt::dataplane::family::Family;
use shunt::dataplane::io::memory::{ROOM, VecPacket};
use shunt::dataplane::io::{ChecksumVerdict, Packet, RxInfo};
use shunt::dataplane::parse::{Parse, Parsed, examine, parse};
use shunt::dataplane::reply::{IcmpError, icmp_error, tcp_reset};
use shunt::dataplane::rewrite::translate::rewrite;

/// How long plain `cargo test` stays with each target.
const SHORT: Duration = Duration::from_secs(1);

/// Everything that can happen to a frame, and what must hold of it.
fn journey(frame: &[u8], info: RxInfo) {
    let frame = &frame[..frame.len().min(ROOM)];
    let answer = parse(frame, info);
    assert_eq!(answer, examine(frame, info), "both ways of parsing agree");
    match answer {
        Parse::Flow(parsed) => {
            through_rewrite(frame, &parsed);
            through_reset(frame, &parsed);
        }
        Parse::Flow6(parsed) => {
            through_rewrite_v6(frame, &parsed);
            through_reset(frame, &parsed);
        }
        _ => {}
    }
    // Not only flows are answered, and the offset is the caller's word: any must be survived.
    for l3 in [14, 0, 18, u16::MAX] {
        through_error(frame, l3, IcmpError::PortUnreachable);
        through_error(frame, l3, IcmpError::TimeExceeded);
        through_error_v6(frame, l3, IcmpError::TooBig { mtu: 1280 });
    }
}

fn through_rewrite(frame: &[u8], parsed: &Parsed) {
    if parsed.ttl < 2 {
        return;
    }
    let mut after = frame.to_vec();
    let translation = translation(parsed.key);
    assert!(rewrite(&mut after, parsed, TO_BACKEND, &translation), "offsets of a flow always fit");
    let trusting = RxInfo { ip_checksum: ChecksumVerdict::Good, ..RxInfo::default() };
    let Parse::Flow(again) = parse(&after, trusting) else { panic!("no flow any more") };
    let (key, ttl) = (again.key, parsed.ttl - 1);
    assert_eq!((key.addresses, key.ports), (translation.addresses, translation.ports));
    assert_eq!(again, Parsed { key, ttl, ..*parsed }, "nothing else moved");
    assert_eq!(ip_right(frame, parsed), ip_right(&after, parsed), "right stays right");
    // The oracle refuses IP options it thinks malformed; they are not the balancer's business.
    if let (Ok(was), Ok(is)) = (judge(frame), judge(&after)) {
        assert_eq!((was.ip_right, was.l4_right), (is.ip_right, is.l4_right), "right stays right");
        assert_eq!((is.source, is.ports.0), LOCAL);
    }
}

fn through_rewrite_v6(frame: &[u8], parsed: &Parsed<Ipv6Addr>) {
    if parsed.ttl < 2 {
        return;
    }
    let mut after = frame.to_vec();
    let translation = translation_v6(parsed.key);
    assert!(rewrite(&mut after, parsed, TO_BACKEND, &translation), "offsets of a flow always fit");
    let Parse::Flow6(again) = parse(&after, RxInfo::default()) else { panic!("no flow any more") };
    let (key, ttl) = (again.key, parsed.ttl - 1);
    assert_eq!((key.addresses, key.ports), (translation.addresses, translation.ports));
    assert_eq!(again, Parsed { key, ttl, ..*parsed }, "nothing else moved");
    if let (Ok(was), Ok(is)) = (judge_v6(frame), judge_v6(&after)) {
        assert_eq!(was.l4_right, is.l4_right, "right stays right");
        assert_eq!((is.source, is.ports.0), LOCAL_V6);
    }
}

/// The header checksum by the slow sum, for headers the oracle would not read.
fn ip_right(frame: &[u8], parsed: &Parsed) -> bool {
    sum(&frame[usize::from(parsed.l3)..usize::from(parsed.l4)]) == 0xffff
}

fn through_reset<F: Family>(frame: &[u8], parsed: &Parsed<F>) {
    let mut packet = VecPacket::new(frame);
    if tcp_reset(&mut packet, parsed) {
        let judged = judge_any(packet.data()).unwrap();
        assert!(judged.ip_right && judged.l4_right);
        let (from, to) = (parsed.key.destination().into(), parsed.key.source().into());
        assert_eq!((judged.source, judged.destination), (from, to));
        let ports = (parsed.key.destination_port(), parsed.key.source_port());
        assert_eq!(judged.ports, ports);
        assert_ne!(packet.data()[packet.data().len() - 7] & 0x04, 0);
    }
}

fn through_error(frame: &[u8], l3: u16, kind: IcmpError) {
    let mut packet = VecPacket::new(frame);
    if icmp_error(&mut packet, l3, kind, LOCAL.0) {
        let judged = judge(packet.data()).unwrap();
        assert!(judged.ip_right && judged.l4_right);
        assert!(packet.data().len() <= 14 + 576);
    } else {
        assert_eq!(packet.data(), frame, "refused means untouched");
    }
}

fn through_error_v6(frame: &[u8], l3: u16, kind: IcmpError) {
    let mut packet = VecPacket::new(frame);
    if icmp_error(&mut packet, l3, kind, LOCAL_V6.0) {
        assert!(judge_v6(packet.data()).unwrap().l4_right);
        assert!(packet.data().len() <= 14 + 1280);
    } else {
        assert_eq!(packet.data(), frame, "refused means untouched");
    }
}

fn verdict(number: u8) -> ChecksumVerdict {
    match number % 4 {
        0 => ChecksumVerdict::Good,
        1 => ChecksumVerdict::Bad,
        _ => ChecksumVerdict::Unknown,
    }
}

#[test]
fn any_bytes() {
    for row in rows() {
        journey(&row.packet.build(), row.info);
    }
    for (_, frame) in packets_in() {
        journey(&frame, RxInfo::default());
    }
    bolero::check!().with_test_time(SHORT).for_each(|frame: &[u8]| {
        journey(frame, RxInfo::default());
        let trusting = RxInfo { ip_checksum: ChecksumVerdict::Good, ..RxInfo::default() };
        journey(frame, trusting);
    });
}

/// Every packet of both tables, by name.
fn seeds() -> Vec<(String, Vec<u8>)> {
    let rows = rows().into_iter().map(|row| (row.name.to_owned(), row.packet.build()));
    rows.chain(packets_in()).collect()
}

/// A row, bytes to change in it, bytes to leave off its end, and what the port said.
type Mutation = (u16, Vec<(u8, u8)>, u8, (u8, u8));

#[test]
fn mutated_packets() {
    let frames: Vec<_> = seeds().into_iter().map(|(_, frame)| frame).collect();
    let target = bolero::check!().with_test_time(SHORT).with_type::<Mutation>();
    target.for_each(|(row, changes, shorter, (ip, l4))| {
        let mut frame = frames[usize::from(*row) % frames.len()].clone();
        for (at, value) in changes.iter().take(8) {
            if let Some(byte) = frame.get_mut(usize::from(*at)) {
                *byte = *value;
            }
        }
        if *shorter < 64 {
            frame.truncate(frame.len().saturating_sub(usize::from(*shorter)));
        }
        journey(
            &frame,
            RxInfo { ip_checksum: verdict(*ip), l4_checksum: verdict(*l4), segmented: false },
        );
    });
}

#[test]
#[ignore = "writes the seeds of a fuzzing campaign into the source tree"]
fn seed_the_corpus() {
    let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let corpus = corpus.join("tests/__fuzz__/any_bytes/corpus");
    std::fs::create_dir_all(&corpus).unwrap();
    for (name, frame) in seeds() {
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        std::fs::write(corpus.join(format!("{:016x}", hasher.finish())), frame).unwrap();
    }
    assert!(std::fs::read_dir(&corpus).unwrap().count() >= seeds().len());
}

#[test]
fn the_target_reaches_every_kind_of_answer() {
    let answers: Vec<_> = rows().iter().map(|row| parse(&row.packet.build(), row.info)).collect();
    assert!(answers.iter().any(|answer| matches!(answer, Parse::Flow(_))));
    assert!(answers.iter().any(|answer| matches!(answer, Parse::Flow6(_))));
    assert!(answers.iter().any(|answer| matches!(answer, Parse::Other(_))));
    assert!(answers.iter().any(|answer| matches!(answer, Parse::NotIp)));
    assert!(answers.iter().any(|answer| matches!(answer, Parse::Drop(_))));
}
