//! Tagged ports: services are reached through them as through any port, and nothing behind the
//! edge of the worker ever sees a tag. Sent frames are read by an independent reader.

use etherparse::{EtherType, LinkExtSlice, LinkSlice, SlicedPacket};
use shunt::dataplane::conn::state::flags::{ACK, SYN};
use shunt::dataplane::io::Packet as _;
use shunt::dataplane::snapshot::Mode;
use shunt::dataplane::verdict::Reason;
use shunt::ids::PortId;
use shunt::wire::vlan::{Tags, Vid};

use crate::life::{answer, from_client};
use crate::packets::oracle::judge;
use crate::packets::{CLIENT, OUR_MAC, VIP, packet};
use crate::world::{Card, Plan, Sent, World};

/// VLAN 100, and VLAN 100 in VLAN 200, on the clients' device.
const CLIENTS: PortId = PortId(2);
const CLIENTS_QINQ: PortId = PortId(3);
/// VLAN 30 in VLAN 20, on the backends' device.
const BACKENDS_QINQ: PortId = PortId(4);

fn tags(outer: u16, inner: Option<u16>) -> Tags {
    let vid = |number| Vid::new(number).unwrap();
    Tags { outer: vid(outer), inner: inner.map(vid) }
}

fn plan() -> Plan {
    let tagged = vec![
        (PortId(0), tags(100, None)),
        (PortId(0), tags(200, Some(100))),
        (PortId(1), tags(20, Some(30))),
    ];
    Plan { tagged, ..Plan::default() }
}

/// A frame with tags, outer first: TPID and VID.
fn tagged(frame: &[u8], tags: &[(u16, u16)]) -> Vec<u8> {
    let tags = tags.iter().flat_map(|(tpid, vid)| [tpid.to_be_bytes(), vid.to_be_bytes()].concat());
    [&frame[..12], &tags.collect::<Vec<_>>(), &frame[12..]].concat()
}

const ONE: &[(u16, u16)] = &[(0x8100, 100)];
const TWO: &[(u16, u16)] = &[(0x88a8, 200), (0x8100, 100)];
const BACK: &[(u16, u16)] = &[(0x88a8, 20), (0x8100, 30)];

/// The tags of a sent frame as the reader sees them, and the frame without.
fn read(sent: &Sent) -> (Vec<(u16, u16)>, Sent) {
    let sliced = SlicedPacket::from_ethernet(&sent.frame).unwrap();
    let Some(LinkSlice::Ethernet2(ethernet)) = &sliced.link else { panic!("no Ethernet") };
    let mut tpid = ethernet.ether_type();
    let mut tags = vec![];
    for extension in &sliced.link_exts {
        let LinkExtSlice::Vlan(tag) = extension else { panic!("{extension:?}") };
        assert_eq!(u8::from(tag.priority_code_point()), 0);
        assert!(!tag.drop_eligible_indicator());
        tags.push((tpid.0, tag.vlan_identifier().value()));
        tpid = tag.ether_type();
    }
    assert_eq!(tpid, EtherType::IPV4);
    let mut frame = sent.frame.clone();
    frame.drain(12..12 + 4 * tags.len());
    let seen = judge(&frame).unwrap();
    assert!(seen.ip_right && seen.l4_right);
    (tags, Sent { frame, ..*sent })
}

/// A whole exchange over these tags of the clients' and the backends' side; no tags: the device.
fn exchange(plan: Plan, client: &[(u16, u16)], backend: &[(u16, u16)]) -> World {
    let mut world = World::new(plan);
    for flags in [SYN, ACK, ACK] {
        let there = world.one(0, 0, &tagged(&from_client(CLIENT, flags), client));
        let (seen, there) = read(&there);
        assert_eq!((there.port, &*seen), (1, backend));
        let back = world.one(0, 1, &tagged(&answer(&there, ACK), backend));
        let (seen, back) = read(&back);
        assert_eq!((back.port, &*seen), (0, client));
        let seen = judge(&back.frame).unwrap();
        assert_eq!((seen.source, seen.ports.0), VIP);
        assert_eq!((seen.destination, seen.ports.1), CLIENT);
    }
    assert_eq!((world.connections(), world.drops()), ([1; 4], vec![]));
    world
}

#[test]
fn a_service_is_reached_through_any_mix_of_tagged_and_untagged_ports() {
    for client in [&[], ONE, TWO] {
        for (port, backend) in [(PortId(1), &[][..]), (BACKENDS_QINQ, BACK)] {
            for mode in [Mode::Fullnat, Mode::Nat] {
                let plan = Plan { backend_port: port, modes: vec![mode; 3], ..plan() };
                exchange(plan, client, backend);
            }
        }
    }
}

#[test]
fn a_connection_goes_on_whatever_worker_gets_its_tagged_packets() {
    for card in [Card::Any, Card::Rss] {
        let mut world =
            World::new(Plan { workers: 4, card, backend_port: BACKENDS_QINQ, ..plan() });
        let mut there = None;
        for worker in 0..4 {
            let flags = if worker == 0 { SYN } else { ACK };
            let sent = world.one(worker, 0, &tagged(&from_client(CLIENT, flags), ONE));
            there = Some(read(&sent).1);
        }
        let reply = tagged(&answer(&there.unwrap(), ACK), BACK);
        for worker in 0..4 {
            let back = world.one(worker, 1, &reply);
            assert_eq!(read(&back).0, ONE, "{card:?}, worker {worker}");
        }
        assert_eq!((world.connections(), world.drops()), ([1; 4], vec![]));
    }
}

#[test]
fn a_client_that_moves_to_another_vlan_is_answered_there() {
    let mut world = World::new(plan());
    let there = world.one(0, 0, &tagged(&from_client(CLIENT, SYN), ONE));
    world.one(0, 0, &tagged(&from_client(CLIENT, ACK), TWO));
    let back = world.one(0, 1, &answer(&there, ACK));
    assert_eq!(read(&back).0, TWO);
}

#[test]
fn a_refusal_is_answered_with_the_tags_of_what_was_refused() {
    let mut world = World::new(plan());
    let stray = packet().tcp(CLIENT, (VIP.0, 81)).flags(SYN).build();
    let reset = world.one(0, 0, &tagged(&stray, TWO));
    assert_eq!(read(&reset).0, TWO);
    assert_eq!(world.drops(), [(Reason::NoService, 1)]);
}

#[test]
fn the_kernels_twin_of_a_tagged_port_sees_no_tags() {
    let mut world = World::new(plan());
    let arp = packet().ethertype(0x0806).payload(&[1; 46]).build();
    for (tags, port) in [(&[][..], PortId(0)), (ONE, CLIENTS), (TWO, CLIENTS_QINQ)] {
        assert_eq!(world.exchange(0, 0, &tagged(&arp, tags)), []);
        let punted = world.punt_lane(0).pop().unwrap();
        assert_eq!((punted.port(), punted.data()), (port, &*arp), "{tags:?}");
        world.inject(port, &arp);
        world.poll();
        let sent = world.sent();
        assert_eq!(sent.len(), 1, "{tags:?}");
        assert_eq!((sent[0].port, &sent[0].frame), (0, &tagged(&arp, tags)), "{tags:?}");
    }
    assert_eq!(world.drops(), []);
}

#[test]
fn devices_count_what_is_on_the_wire_and_tagged_ports_their_own() {
    let world = exchange(plan(), ONE, &[]);
    let counted = |port: PortId| {
        let port = &world.stats[0].ports[port.index()];
        [&port.rx_packets, &port.tx_packets, &port.rx_bytes, &port.tx_bytes]
            .map(shunt::stats::counters::Counter::get)
    };
    let (device, port) = (counted(PortId(0)), counted(CLIENTS));
    assert_eq!(device[..2], [3, 3]);
    assert_eq!(port[..2], [3, 3]);
    assert_eq!(device[2..].iter().sum::<u64>(), port[2..].iter().sum::<u64>() + 6 * 4);
    assert_eq!(counted(CLIENTS_QINQ), [0; 4]);
}

#[test]
fn a_tagged_frame_for_another_station_is_not_ours() {
    let mut world = World::new(plan());
    let flooded = packet().received_by(crate::world::backend_mac(9)).tcp(CLIENT, VIP).flags(SYN);
    assert_eq!(world.exchange(0, 0, &tagged(&flooded.build(), ONE)), []);
    assert_eq!(world.drops(), [(Reason::OtherStation, 1)]);
    let ours = packet().received_by(OUR_MAC).tcp(CLIENT, VIP).flags(SYN);
    world.one(0, 0, &tagged(&ours.build(), ONE));
}
