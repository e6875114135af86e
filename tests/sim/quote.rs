//! The packet an ICMP error quotes, read and rewritten a second time: RFC 792, RFC 4443 and, between
//! the families, RFC 7915, on `Vec`s.
//!
//! A quote may end anywhere, so a checksum in it cannot be computed anew: what changed is added to
//! it (RFC 1624, equation 3), here with whole words and the slow sum.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use shunt::dataplane::snapshot::Protocol;

use crate::packet::Flow;
use crate::packets::builder::sum;

/// IPv6's number for the fragment header, and its length.
const FRAGMENT: u8 = 44;
const FRAGMENT_LEN: usize = 8;
/// The longest error: RFC 1812 section 4.3.2.3, RFC 4443 section 2.4 c; less its own headers.
pub(crate) const ROOM: [usize; 2] = [576 - 28, 1280 - 48];

fn is_v6(quote: &[u8]) -> bool {
    quote.first().is_some_and(|first| first >> 4 == 6)
}

fn word(quote: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(quote.get(at..at + 2)?.try_into().ok()?))
}

/// The protocol and where its header starts; `None` if the quote is of a later piece or too short.
fn transport(quote: &[u8]) -> Option<(u8, usize)> {
    if quote.first()? >> 4 == 4 {
        let first = word(quote, 6)?.trailing_zeros() >= 13;
        return (first && quote.len() >= 20).then(|| (quote[9], 20));
    }
    if *quote.get(6)? != FRAGMENT {
        return (quote.len() >= 40).then(|| (quote[6], 40));
    }
    let first = word(quote, 42)? & !7 == 0;
    first.then_some((quote[40], 40 + FRAGMENT_LEN))
}

/// The protocol of the packet, if it is whole or a first piece.
pub(crate) fn protocol(packet: &[u8]) -> Option<u8> {
    Some(transport(packet)?.0)
}

/// Who sent the packet to whom.
pub(crate) fn ends(quote: &[u8]) -> Option<(IpAddr, IpAddr)> {
    let v4 = |at: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(quote.get(at..at + 4)?).ok()?));
    let v6 = |at: usize| Some(Ipv6Addr::from(<[u8; 16]>::try_from(quote.get(at..at + 16)?).ok()?));
    if is_v6(quote) {
        return Some((v6(8)?.into(), v6(24)?.into()));
    }
    Some((v4(12)?.into(), v4(16)?.into()))
}

/// The flow of the quoted packet.
pub(crate) fn flow(quote: &[u8]) -> Option<Flow> {
    let (protocol, l4) = transport(quote)?;
    let (from, to) = ends(quote)?;
    let (from, to) =
        (SocketAddr::new(from, word(quote, l4)?), SocketAddr::new(to, word(quote, l4 + 2)?));
    Some(Flow { protocol: Protocol::from_number(protocol)?, from, to })
}

/// Length of the quoted packet, as its header has it.
pub(crate) fn length(quote: &[u8]) -> usize {
    let said = word(quote, if is_v6(quote) { 4 } else { 2 }).map_or(0, usize::from);
    said + if is_v6(quote) { 40 } else { 0 }
}

/// Nobody may cut it.
pub(crate) fn is_whole(quote: &[u8]) -> bool {
    is_v6(quote) || quote.get(6).is_some_and(|flags| flags & 0x40 != 0)
}

/// A first piece as if it were not one: without IPv6's header for it.
pub(crate) fn bare(quote: &[u8]) -> Vec<u8> {
    if !quote.is_empty() && is_v6(quote) && quote.get(6) == Some(&FRAGMENT) && quote.len() >= 48 {
        let mut front = quote[..40].to_vec();
        front[6] = quote[40];
        return [&front, &quote[48..]].concat();
    }
    quote.to_vec()
}

/// A packet as a router quotes it that let it come down to `ttl`.
pub(crate) fn aged(packet: &[u8], ttl: u8) -> Vec<u8> {
    let mut packet = packet.to_vec();
    if is_v6(&packet) {
        packet[7] = ttl;
        return packet;
    }
    packet[8] = ttl;
    seal(&mut packet);
    packet
}

/// Makes the checksum of an IPv4 header right.
fn seal(packet: &mut [u8]) {
    packet[10..12].fill(0);
    let checksum = !sum(&packet[..20]);
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// What of a flow is summed up in a transport checksum.
fn summed(flow: &Flow) -> Vec<u8> {
    let ports = [flow.from.port(), flow.to.port()].map(u16::to_be_bytes).concat();
    [octets(flow.from.ip()), octets(flow.to.ip()), ports].concat()
}

/// What the transport header says once its packet is of flow `about`, which was of `was`.
fn transport_as(bytes: &[u8], was: &Flow, about: &Flow) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[..4].copy_from_slice(&summed(about)[summed(about).len() - 4..]);
    let at = match was.protocol {
        Protocol::Tcp => 16,
        Protocol::Udp => 6,
        Protocol::Sctp => return bytes,
    };
    let Some(before) = word(&bytes, at) else { return bytes };
    // A UDP sender that computed none.
    if was.protocol == Protocol::Udp && before == 0 {
        return bytes;
    }
    let inverted: Vec<u8> = summed(was).iter().map(|byte| !byte).collect();
    let parts = [&(!before).to_be_bytes()[..], &inverted, &summed(about)].concat();
    let after = !sum(&parts);
    let after = if was.protocol == Protocol::Udp && after == 0 { 0xffff } else { after };
    bytes[at..at + 2].copy_from_slice(&after.to_be_bytes());
    bytes
}

/// The quote, its packet being one of flow `about`, of the same family.
pub(crate) fn of_flow(quote: &[u8], about: &Flow) -> Vec<u8> {
    let (Some(was), Some((_, l4))) = (flow(quote), transport(quote)) else { return quote.to_vec() };
    let mut front = quote[..l4].to_vec();
    let ends = [octets(about.from.ip()), octets(about.to.ip())].concat();
    let at = if is_v6(quote) { 8 } else { 12 };
    front[at..at + ends.len()].copy_from_slice(&ends);
    if !is_v6(quote) {
        seal(&mut front);
    }
    [front, transport_as(&quote[l4..], &was, about)].concat()
}

/// The quote of a piece, its identification changed by a mask; of a whole packet, as it is.
pub(crate) fn masked(quote: &[u8], mask: u32) -> Vec<u8> {
    let mut quote = quote.to_vec();
    let change = |place: &mut [u8], mask: &[u8]| {
        place.iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
    };
    if is_v6(&quote) {
        let is_piece =
            quote.get(6) == Some(&FRAGMENT) && word(&quote, 42).is_some_and(|it| it & !6 != 0);
        if let Some(place) = quote.get_mut(44..48).filter(|_| is_piece) {
            change(place, &mask.to_be_bytes());
        }
    } else if quote.len() >= 20 && word(&quote, 6).is_some_and(|it| it & 0x3fff != 0) {
        change(&mut quote[4..6], &mask.to_be_bytes()[2..]);
        seal(&mut quote);
    }
    quote
}

/// The quote of a TCP segment, its sequence number another one.
pub(crate) fn renumbered(quote: &[u8], number: impl Fn(u32) -> u32) -> Vec<u8> {
    let mut quote = quote.to_vec();
    let Some((_, l4)) = transport(&quote) else { return quote };
    let Some(place) = quote.get_mut(l4 + 4..l4 + 8) else { return quote };
    let before: [u8; 4] = (&*place).try_into().unwrap();
    let after = number(u32::from_be_bytes(before)).to_be_bytes();
    place.copy_from_slice(&after);
    if let Some(checksum) = word(&quote, l4 + 16) {
        let parts = [&(!checksum).to_be_bytes()[..], &before.map(|byte| !byte), &after].concat();
        quote[l4 + 16..l4 + 18].copy_from_slice(&(!sum(&parts)).to_be_bytes());
    }
    quote
}

/// The quote, its packet being one of flow `about`, of the other family: RFC 7915, 4.1 and 5.1. It
/// is shortened to what an error of that family may quote.
pub(crate) fn crossed(quote: &[u8], about: &Flow) -> Vec<u8> {
    let (Some(was), Some((protocol, l4))) = (flow(quote), transport(quote)) else {
        return quote.to_vec();
    };
    let behind = u16::try_from(length(quote) - l4).unwrap();
    let ends = [octets(about.from.ip()), octets(about.to.ip())].concat();
    let front = if is_v6(quote) {
        let (tos, ttl) = (quote[0] << 4 | quote[1] >> 4, quote[7]);
        let length = (behind + 20).to_be_bytes();
        // Of a piece, the low half of the identification, and what says that more follow.
        let piece = quote[6] == FRAGMENT;
        let more = if piece { (quote[43] & 1) << 5 } else { 0x40 };
        let id = if piece { [quote[46], quote[47]] } else { [0, 0] };
        let front = [0x45, tos, length[0], length[1], id[0], id[1], more, 0, ttl, protocol, 0, 0];
        let mut front = [&front[..], &ends].concat();
        seal(&mut front);
        front
    } else {
        let (tos, ttl, more) = (quote[1], quote[8], quote[6] >> 5 & 1);
        let piece = [protocol, 0, 0, more, 0, 0, quote[4], quote[5]];
        let (next, piece) = if more == 1 { (FRAGMENT, &piece[..]) } else { (protocol, &[][..]) };
        let length = (behind + u16::try_from(piece.len()).unwrap()).to_be_bytes();
        let front = [0x60 | tos >> 4, tos << 4, 0, 0, length[0], length[1], next, ttl];
        [&front[..], &ends, piece].concat()
    };
    let mut whole = [front, transport_as(&quote[l4..], &was, about)].concat();
    whole.truncate(ROOM[usize::from(!is_v6(quote))]);
    whole
}
