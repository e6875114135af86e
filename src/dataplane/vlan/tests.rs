//! Bytes at the edge: what comes off, what goes on, what is nobody's.

use proptest::prelude::*;

use super::*;
use crate::dataplane::io::memory::VecPacket;
use crate::dataplane::snapshot::Steering;
use crate::wire::Mac;
use crate::wire::vlan::Vid;

const ADDRESSES: [u8; 12] = *b"to whomwhose";

fn tags(outer: u16, inner: Option<u16>) -> Tags {
    let vid = |number| Vid::new(number).unwrap();
    Tags { outer: vid(outer), inner: inner.map(vid) }
}

/// Two devices; on the first VLAN 100, 200 and [200, 100], on the second nothing.
fn edge() -> Edge {
    let on_first = |tags| Link::Tagged { on: PortId(0), tags };
    let links = [
        Link::Device,
        Link::Device,
        on_first(tags(100, None)),
        on_first(tags(200, None)),
        on_first(tags(200, Some(100))),
    ];
    let view =
        |link| PortView { mac: Mac::default(), mtu: 1500, steering: Steering::Software, link };
    Edge::new(&links.map(view))
}

fn frame(between: &[u8], rest: &[u8]) -> Vec<u8> {
    [&ADDRESSES, between, rest].concat()
}

/// What becomes of one received frame: its port and bytes, or the reason why not.
fn receive(on: u8, frame: &[u8]) -> Result<(u8, Vec<u8>), Reason> {
    let stats = WorkerStats::default();
    let mut packet = VecPacket::new(frame);
    packet.set_port(PortId(on));
    let mut burst = Burst::new();
    burst.push(packet);
    edge().receive(PortId(on), &mut burst, &stats);
    let dropped = Reason::ALL.iter().find(|reason| stats.drops[**reason as usize].get() == 1);
    match burst.pop() {
        Some(packet) => {
            assert_eq!(dropped, None);
            Ok((packet.port().0, packet.data().to_vec()))
        }
        None => Err(*dropped.unwrap()),
    }
}

const REST: &[u8] = &[7; 80];
const ONE: &[u8] = &[0x81, 0, 0, 100];

#[test]
fn tags_come_off_and_name_the_port() {
    let ip = [0x08, 0x00];
    let table: &[(&str, &[u8], u8)] = &[
        ("no tag", &[], 0),
        ("one tag", ONE, 2),
        ("one tag, priority 7 and DEI", &[0x81, 0, 0xf0, 100], 2),
        ("one tag with the outer TPID", &[0x88, 0xa8, 0, 100], 2),
        ("two tags", &[0x88, 0xa8, 0, 200, 0x81, 0, 0, 100], 4),
        ("two tags with the inner TPID", &[0x81, 0, 0, 200, 0x81, 0, 0, 100], 4),
        ("two tags with the outer TPID", &[0x88, 0xa8, 0, 200, 0x88, 0xa8, 0, 100], 4),
        ("the outer VID alone", &[0x88, 0xa8, 0, 200], 3),
        ("a priority only", &[0x81, 0, 0xe0, 0], 0),
        ("two priorities only", &[0x81, 0, 0xe0, 0, 0x81, 0, 0x20, 0], 0),
        ("a priority in front of a tag", &[0x81, 0, 0xe0, 0, 0x81, 0, 0, 100], 2),
        ("a priority behind a tag", &[0x81, 0, 0, 100, 0x81, 0, 0xe0, 0], 2),
    ];
    for (name, between, port) in table {
        let received = receive(0, &frame(&[between, &ip[..]].concat(), REST));
        assert_eq!(received, Ok((*port, frame(&ip, REST))), "{name}");
    }
}

#[test]
fn what_is_no_ports_is_dropped() {
    let table: &[(&str, &[u8])] = &[
        ("a VID nobody has", &[0x81, 0, 0, 101]),
        ("the reserved VID", &[0x81, 0, 0x0f, 0xff]),
        ("an inner VID nobody has", &[0x88, 0xa8, 0, 200, 0x81, 0, 0, 101]),
        ("an inner tag where none is expected", &[0x81, 0, 0, 100, 0x81, 0, 0, 100]),
        ("the two VIDs the other way round", &[0x88, 0xa8, 0, 100, 0x81, 0, 0, 200]),
        ("three tags", &[0x88, 0xa8, 0, 200, 0x81, 0, 0, 100, 0x81, 0, 0, 100]),
        ("three priorities", &[0x81, 0, 0, 0, 0x81, 0, 0, 0, 0x81, 0, 0, 0]),
    ];
    for (name, between) in table {
        let received = receive(0, &frame(&[between, &[8, 0][..]].concat(), REST));
        assert_eq!(received, Err(Reason::Vlan), "{name}");
    }
}

#[test]
fn a_frame_that_ends_in_its_tags_is_truncated() {
    let whole = frame(&[0x88, 0xa8, 0, 200, 0x81, 0, 0, 100], &[8, 0]);
    for length in 0..=whole.len() {
        let expected = match length {
            // No type at all: whoever parses it will say so.
            0..14 => Ok((0, whole[..length].to_vec())),
            14..22 => Err(Reason::Truncated),
            _ => Ok((4, [frame(&[8, 0], &[]), vec![0; 8]].concat())),
        };
        assert_eq!(receive(0, &whole[..length]), expected, "{length} bytes");
    }
}

#[test]
fn a_short_frame_keeps_its_length_with_zeros_at_its_end() {
    for (length, left) in [(46, 46), (60, 60), (62, 60), (63, 60), (64, 60), (65, 61), (100, 96)] {
        let whole = frame(&[ONE, &[8, 6]].concat(), &REST.repeat(2)[..length - 18]);
        let (port, bytes) = receive(0, &whole).unwrap();
        let (kept, added) = bytes.split_at(length - 4);
        assert_eq!((port, bytes.len()), (2, left), "{length}");
        assert_eq!(kept[12..], whole[16..], "{length}");
        assert!(added.iter().all(|byte| *byte == 0), "{length}");
    }
}

#[test]
fn a_device_without_tagged_ports_leaves_tags_alone() {
    for between in [ONE, &[0x81, 0, 0xe0, 0]] {
        let whole = frame(&[between, &[8, 0]].concat(), REST);
        assert_eq!(receive(1, &whole), Ok((1, whole.clone())));
    }
}

#[test]
fn tags_go_on_with_the_standards_types_and_no_priority() {
    let table: [(u8, &[u8]); 3] =
        [(2, ONE), (3, &[0x81, 0, 0, 200]), (4, &[0x88, 0xa8, 0, 200, 0x81, 0, 0, 100])];
    for (port, between) in table {
        let stats = WorkerStats::default();
        let mut packet = VecPacket::new(&frame(&[8, 0], REST));
        assert_eq!(edge().send(&mut packet, PortId(port), &stats), Ok(PortId(0)));
        assert_eq!(packet.data(), frame(&[between, &[8, 0]].concat(), REST), "port {port}");
        let counted = &stats.ports[usize::from(port)];
        assert_eq!((counted.tx_packets.get(), counted.tx_bytes.get()), (1, 94), "without tags");
    }
}

#[test]
fn a_packet_that_cannot_be_tagged_is_refused_and_not_counted() {
    let stats = WorkerStats::default();
    let mut tight = VecPacket::with_headroom(&frame(&[8, 0], REST), 7);
    assert_eq!(edge().send(&mut tight, PortId(4), &stats), Err(Reason::NoRoom));
    let mut packet = VecPacket::new(&frame(&[8, 0], REST));
    for port in [0, 1, 5, 255] {
        let sent = edge().send(&mut packet, PortId(port), &stats);
        assert_eq!(sent, Err(Reason::NextHop), "{port} is no tagged port");
    }
    assert!(stats.ports.iter().all(|port| port.tx_packets.get() == 0));
}

#[test]
fn a_burst_is_sorted_in_order_and_counted_by_port() {
    let stats = WorkerStats::default();
    let mut burst = Burst::new();
    for vid in [100, 7, 200, 100, 8, 100] {
        let bytes = frame(&[0x81, 0, 0, vid, 8, 0], &[vid; 80]);
        burst.push(VecPacket::new(&bytes));
    }
    edge().receive(PortId(0), &mut burst, &stats);
    let ports: Vec<u8> = burst.iter().map(|packet| packet.port().0).collect();
    assert_eq!(ports, [2, 3, 2, 2]);
    let counted =
        |port: usize| (stats.ports[port].rx_packets.get(), stats.ports[port].rx_bytes.get());
    assert_eq!((counted(2), counted(3)), ((3, 3 * 94), (1, 94)), "bytes without tags");
    assert_eq!(stats.drops[Reason::Vlan as usize].get(), 2);
}

proptest! {
    /// What goes on comes off again, for any port and any frame worth sending.
    #[test]
    fn what_was_sent_by_a_port_is_received_by_it(
        port in 2u8..5,
        rest in prop::collection::vec(any::<u8>(), 46..200),
    ) {
        let whole = frame(&[8, 0], &rest);
        let mut packet = VecPacket::new(&whole);
        prop_assert!(edge().send(&mut packet, PortId(port), &WorkerStats::default()).is_ok());
        prop_assert_eq!(receive(0, packet.data()), Ok((port, whole)));
    }

    #[test]
    fn no_bytes_are_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..40), from in 0usize..13) {
        let _ = receive(0, &bytes);
        let tagged = [&bytes[..from.min(bytes.len())], &[0x81, 0], &bytes].concat();
        let _ = receive(0, &tagged);
    }
}
