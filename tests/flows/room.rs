//! PROXY headers where there is no room for them: ahead in a segment of their own, in a datagram that
//! is cut, or the sender is told, but never to send less than every way carries.

use shunt::dataplane::conn::state::flags::{ACK, FIN, PSH};
use shunt::dataplane::io::memory::VecPacket;
use shunt::dataplane::snapshot::{ClientAddress, Snapshot};
use shunt::dataplane::verdict::Reason;
use shunt::wire::tcp::URG;

use crate::endpoints::Segment;
use crate::introduce::Families::{self, Nat64, V4, V6};
use crate::introduce::{V1, V2, answer, datagram, ends, header, inserted, opened, tcp, world};
use crate::packets::oracle::judge_any;
use crate::packets::{OUR_INNER_MAC, packet};
use crate::parts::{cut, exchange_all, joined};
use crate::world::{Sent, backend_mac};

/// The header in a segment of its own, and the one it went in front of.
fn behind_its_header(how: ClientAddress, families: Families, sent: &[Sent]) -> Segment {
    let length = inserted(how, families);
    let ahead = Segment::read(&sent[0].frame);
    let (client, vip) = ends(families);
    assert_eq!(header(how, &ahead.payload), (client, vip, length));
    assert_eq!((ahead.sequence, ahead.ack, ahead.flags), (1001, 501, ACK));
    assert_eq!(ahead.payload.len(), length);
    let segment = Segment::read(&joined(&sent[1..]));
    assert_eq!(segment.sequence, 1001 + u32::try_from(length).unwrap());
    assert_eq!(
        (ahead.source, ahead.destination, &ahead.options),
        (segment.source, segment.destination, &segment.options)
    );
    segment
}

#[test]
fn a_header_without_room_goes_ahead_of_its_segment() {
    for (how, families) in [(V1, V4), (V2, V4), (V2, V6), (V1, Nat64)] {
        let length = inserted(how, families);
        let (ip, gain) = match families {
            V4 => (20, 0),
            V6 => (40, 0),
            Nat64 => (40, 20),
        };
        let most = 1500 + gain - ip - 20;
        let (mut world, syn) = opened(how, families, 1000);
        let segment = |payload| tcp(families).numbers(1001, 501).payload(&vec![7; payload]);
        let sent = Segment::read(&world.one(0, 0, &segment(most - length).build()).frame);
        assert_eq!(sent.payload.len(), most);
        for payload in [most - length + 1, most] {
            let flags = ACK | PSH | FIN | URG;
            let sent = world.exchange(0, 0, &segment(payload).flags(flags).build());
            assert_eq!(sent.len(), 2, "{how:?} {families:?}");
            let segment = behind_its_header(how, families, &sent);
            assert_eq!((segment.payload.len(), segment.flags), (payload, flags));
        }
        let told = world.one(0, 0, &segment(most + 1).build());
        assert_eq!(told.port, 0, "{how:?}");
        let at = if families == V4 { 38 } else { 58 };
        assert_eq!(told.frame[at..at + 4], u32::try_from(1500 + gain).unwrap().to_be_bytes());
        assert!(judge_any(&told.frame).unwrap().l4_right);
        assert_eq!(world.drops(), [(Reason::TooBig, 1)]);
        // It went once in the backend's stream.
        let delivered = 1001 + u32::try_from(length).unwrap();
        world.one(0, 1, &answer(&syn).flags(ACK).numbers(501, delivered).build());
        let again = Segment::read(&world.one(0, 0, &segment(most).build()).frame);
        assert_eq!((again.sequence, again.payload.len()), (delivered, most));
    }
}

#[test]
fn a_header_that_cannot_go_ahead_takes_its_segment_along() {
    let (mut world, _) = opened(V2, V4, 1000);
    let segment = tcp(V4).numbers(1001, 501).payload(&[7; 1460]).build();
    let dry = VecPacket::new(&segment).with_siblings_left(0);
    world.port(0, 0).inbound.push(dry).unwrap();
    world.poll();
    assert_eq!((world.sent(), world.drops()), (vec![], vec![(Reason::NoRoom, 1)]));
}

#[test]
fn a_header_goes_ahead_of_a_segment_in_pieces() {
    for (how, families) in [(V1, V4), (V2, V4), (V2, V6), (V1, V6), (V2, Nat64)] {
        for order in [[0, 1, 2], [2, 1, 0]] {
            let (mut world, syn) = opened(how, families, 1000);
            let data = tcp(families).flags_fragment(0).numbers(1001, 501).payload(&[7; 500]);
            let pieces = cut(&data.build(), &[200, 200], 7);
            let sent = exchange_all(&mut world, 0, &order.map(|number| pieces[number].clone()));
            assert_eq!(sent.len(), 4, "{how:?} {families:?}: {:?}", world.drops());
            let segment = behind_its_header(how, families, &sent);
            assert_eq!(segment.payload, [7; 500]);
            let all = segment.sequence + 500;
            let back = world.one(0, 1, &answer(&syn).flags(ACK).numbers(501, all).build());
            assert_eq!(Segment::read(&back.frame).ack, 1501);
            assert_eq!(world.drops(), []);
        }
    }
}

#[test]
fn a_datagram_without_room_for_its_header_is_too_big_or_cut() {
    for (families, ip) in [(V4, 20), (V6, 40)] {
        let length = if families == V4 { 28 } else { 52 };
        let mut world = world(V2, families, |_| {});
        let fits = 1500 - ip - 8 - length;
        let of = |payload: usize| datagram(families, &vec![7; payload]);
        assert_eq!(world.one(0, 0, &of(fits).build()).frame.len(), 1514);
        let told = world.one(0, 0, &of(fits + 1).flags_fragment(0x4000).build());
        let at = if families == V4 { 38 } else { 58 };
        let mtu = u32::try_from(1500 - length).unwrap();
        assert_eq!((told.port, &told.frame[at..at + 4]), (0, &mtu.to_be_bytes()[..]));
        assert_eq!(world.drops(), [(Reason::TooBig, 1)]);
        if families == V4 {
            assert_eq!(world.exchange(0, 0, &of(fits + 1).build()).len(), 2, "without DF");
        }
    }
}

/// A sender of IPv6 need not make anything shorter than 1280 bytes, and would not if it was told.
#[test]
fn nobody_is_told_less_than_every_way_carries() {
    let narrow = |snapshot: &mut Snapshot| snapshot.ports[1].mtu = 1300;
    let mut world = world(V2, V6, narrow);
    let of = |length: usize| datagram(V6, &vec![7; length - 48]).build();
    let sent = world.exchange(0, 0, &of(1280));
    assert_eq!(sent.len(), 2);
    assert!(sent.iter().all(|sent| sent.port == 1 && sent.frame.len() <= 14 + 1300));
    let whole = joined(&sent);
    assert!(judge_any(&whole).unwrap().l4_right);
    assert_eq!(whole.len(), 14 + 1280 + 52);
    let told = world.one(0, 0, &of(1281));
    assert_eq!((told.port, &told.frame[58..62]), (0, &1280u32.to_be_bytes()[..]));
    assert_eq!(world.drops(), [(Reason::TooBig, 1)]);
}

/// What a router behind us says is kept where the client cannot be told: then packets are made to
/// fit here.
#[test]
fn a_way_that_carries_less_than_a_client_can_be_told_is_remembered() {
    let router = "2001:db8:44::99".parse::<std::net::IpAddr>().unwrap();
    let error = |got: &Sent| {
        let ours = judge_any(&got.frame).unwrap().source;
        let error = packet().macs(backend_mac(11), OUR_INNER_MAC).between((router, 0), (ours, 0));
        error.icmp(2, 0, 1280).payload(&got.frame[14..14 + 1200]).build()
    };
    let mut dgrams = world(V2, V6, |_| {});
    let of = |length: usize| datagram(V6, &vec![7; length - 48]).build();
    let got = dgrams.one(0, 0, &of(1280));
    let told = dgrams.one(0, 1, &error(&got));
    assert_eq!((told.port, &told.frame[58..62]), (0, &1280u32.to_be_bytes()[..]));
    let sent = dgrams.exchange(0, 0, &of(1280));
    assert_eq!(sent.len(), 2);
    assert!(sent.iter().all(|sent| sent.frame.len() <= 14 + 1280));
    assert!(judge_any(&joined(&sent)).unwrap().l4_right);

    let (mut stream, _) = opened(V2, V6, 1000);
    let segment = tcp(V6).numbers(1001, 501).payload(&[7; 1220]).build();
    let got = stream.one(0, 0, &segment);
    stream.one(0, 1, &error(&got));
    let sent = stream.exchange(0, 0, &segment);
    assert_eq!(behind_its_header(V2, V6, &sent).payload.len(), 1220);
    // A wider way is noticed again.
    stream.wait(601);
    assert_eq!(stream.drops(), []);
}
