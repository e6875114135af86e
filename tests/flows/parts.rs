//! Datagrams in pieces for the flow tests: cut and put together by the plain rules of RFC 791 and
//! RFC 8200, sharing nothing with the code under test; and the world in IPv6.

use std::net::Ipv6Addr;

use shunt::dataplane::io::memory::VecPacket;
use shunt::dataplane::snapshot::{ServiceAddress, Snapshot};

use crate::packets::builder::sum;
pub(crate) use crate::packets::fragments::cut;
use crate::packets::fragments::{seal, word};
use crate::world::{Sent, World};

/// The client, VIP and addresses of ours in IPv6; backends are `2001:db8:44::11` and so on.
pub(crate) const CLIENT6: (Ipv6Addr, u16) =
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2), 40_000);
pub(crate) const VIP6: (Ipv6Addr, u16) = (Ipv6Addr::new(0x2001, 0xdb8, 7, 0, 0, 0, 0, 7), 80);
pub(crate) const LOCAL6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x44, 0, 0, 0, 0, 2);
const OUTER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x44, 0, 0, 0, 0, 1);

/// Clients and VIP are IPv6.
pub(crate) fn vip_v6(snapshot: &mut Snapshot) {
    for service in snapshot.services.iter_mut().flatten() {
        service.addresses = [ServiceAddress::one(VIP6.0.into(), VIP6.1)].into();
    }
}

/// All is IPv6.
pub(crate) fn all_v6(snapshot: &mut Snapshot) {
    vip_v6(snapshot);
    for service in snapshot.services.iter_mut().flatten() {
        service.locals = [LOCAL6.into()].into_iter().collect();
    }
    for (index, backend) in snapshot.backends.iter_mut().enumerate() {
        let Some(backend) = backend else { continue };
        let host = u16::try_from(0x11 + index % 3).unwrap();
        backend.address = Ipv6Addr::new(0x2001, 0xdb8, 0x44, 0, 0, 0, 0, host).into();
        backend.our_address = OUTER6.into();
    }
}

/// The whole frame again; panics if anything is missing, twice there, or wrong. Of the header, the
/// first piece's counts.
pub(crate) fn join<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut read: Vec<_> = pieces.into_iter().map(open).collect();
    read.sort_by_key(|(offset, ..)| *offset);
    let name = read[0].3.clone();
    let mut whole = read[0].2.clone();
    let mut at = 0;
    let count = read.len();
    for (number, (offset, more, _, piece_name, payload)) in read.into_iter().enumerate() {
        assert_eq!((usize::from(offset), more), (at, number + 1 < count), "gapless");
        assert_eq!(piece_name, name, "of one datagram");
        at += payload.len();
        whole.extend(payload);
    }
    if whole[14] >> 4 == 6 {
        let length = u16::try_from(at).unwrap();
        whole[18..20].copy_from_slice(&length.to_be_bytes());
    } else {
        seal(&mut whole);
    }
    whole
}

/// Offset, "more", the header as of a whole packet, what names the datagram, and payload.
fn open(frame: &[u8]) -> (u16, bool, Vec<u8>, Vec<u8>, Vec<u8>) {
    if frame[14] >> 4 == 6 {
        assert_eq!(usize::from(word(frame, 18)), frame.len() - 54, "payload length");
        let mut header = frame[..54].to_vec();
        if header[20] != 44 {
            return (0, false, header, vec![], frame[54..].to_vec());
        }
        header[20] = frame[54];
        let field = word(frame, 56);
        let name = [&frame[22..54], &frame[58..62]].concat();
        return (field & 0xfff8, field & 1 == 1, header, name, frame[62..].to_vec());
    }
    assert_eq!(sum(&frame[14..34]), 0xffff, "header checksum");
    assert_eq!(usize::from(word(frame, 16)), frame.len() - 14, "total length");
    let mut header = frame[..34].to_vec();
    let field = word(frame, 20);
    header[20..22].copy_from_slice(&(field & 0x4000).to_be_bytes());
    let name = [&frame[18..20], &frame[23..24], &frame[26..34]].concat();
    ((field & 0x1fff) * 8, field & 0x2000 != 0, header, name, frame[34..].to_vec())
}

/// [`join`] of what left.
pub(crate) fn joined(sent: &[Sent]) -> Vec<u8> {
    join(sent.iter().map(|sent| &sent.frame[..]))
}

/// A whole IPv4 frame with that number; pieces under a local address have others than were sent.
pub(crate) fn numbered(mut whole: Vec<u8>, number: u16) -> Vec<u8> {
    if whole[14] >> 4 == 4 {
        whole[18..20].copy_from_slice(&number.to_be_bytes());
        seal(&mut whole);
    }
    whole
}

/// The number of the datagram that a frame holds a piece of.
pub(crate) fn number(frame: &[u8]) -> u32 {
    if frame[14] >> 4 == 4 {
        return word(frame, 18).into();
    }
    assert_eq!(frame[20], 44, "a piece");
    u32::from_be_bytes(frame[58..62].try_into().unwrap())
}

/// Lengths of the IP packets that left, in order.
pub(crate) fn lengths(sent: &[Sent]) -> Vec<usize> {
    sent.iter().map(|sent| sent.frame.len() - 14).collect()
}

/// Lets a worker receive a frame, whatever a card would have done.
pub(crate) fn put(world: &World, worker: usize, port: usize, frame: &[u8]) {
    world.port(worker, port).inbound.push(VecPacket::new(frame)).unwrap();
}

/// Lets worker 0 receive frames one after the other; what leaves.
pub(crate) fn exchange_all(world: &mut World, port: usize, frames: &[Vec<u8>]) -> Vec<Sent> {
    frames.iter().flat_map(|frame| world.exchange(0, port, frame)).collect()
}
