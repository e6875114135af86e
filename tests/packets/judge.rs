//! What is wrong with a frame, in the opinion of three: `etherparse` ([`super::oracle`]), `smoltcp`,
//! and the sums of the RFCs written out here.
//!
//! Every checksum there is gets computed again: of the IP header, TCP, UDP, SCTP and ICMP, of GRE
//! and GUE, and of whatever is inside a tunnel or quoted by an error. Of a piece of a packet only
//! the header can be judged.

use std::net::IpAddr;

use shunt::wire::ipv4::SCTP;
use smoltcp::wire::{
    Icmpv4Packet, Icmpv6Packet, IpAddress, Ipv4Packet, Ipv6Packet, TcpPacket, UdpPacket,
};

use super::builder::{crc32c, sum};
use super::fragments::word;
use super::oracle::judge_any;

/// Port of GUE in tests.
const GUE: u16 = 6080;

/// An IP packet taken apart.
struct Ip<'a> {
    ends: (IpAddr, IpAddr),
    protocol: u8,
    payload: &'a [u8],
    is_piece: bool,
    /// Is all of it here? A quoted one may be cut off.
    is_whole: bool,
}

impl Ip<'_> {
    /// The sum over pseudo header and payload.
    fn sum(&self) -> u16 {
        let octets = |ip: IpAddr| match ip {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        };
        let length = u16::try_from(self.payload.len()).unwrap().to_be_bytes();
        let pseudo = [&[0, self.protocol], &length[..]].concat();
        sum(&[&octets(self.ends.0), &octets(self.ends.1), &pseudo, self.payload].concat())
    }
}

/// Complaints about a frame; none if it is right. Tags are looked through.
pub(crate) fn complaints(frame: &[u8]) -> Vec<String> {
    let tags = super::rules::counts::tags(frame);
    let bare = [&frame[..12], &frame[12 + tags..]].concat();
    let mut wrong = vec![];
    packet(&bare[14..], &mut wrong);
    let is_plain = open(&bare[14..]).is_ok_and(|ip| !ip.is_piece && is_plain(&ip));
    if is_plain {
        match judge_any(&bare) {
            Ok(seen) if seen.ip_right && seen.l4_right => {}
            Ok(_) => wrong.push("checksum: etherparse".to_owned()),
            Err(error) => wrong.push(format!("etherparse: {error}")),
        }
    }
    wrong
}

/// Is it of a protocol that etherparse's judge knows? It does not know that tunnels may go without
/// a UDP checksum over IPv6 (RFC 6935).
fn is_plain(ip: &Ip<'_>) -> bool {
    let is_bare_gue = ip.protocol == 17 && word(ip.payload, 2) == GUE && word(ip.payload, 6) == 0;
    [1, 6, 17, 58, SCTP].contains(&ip.protocol) && !is_bare_gue
}

fn packet(bytes: &[u8], wrong: &mut Vec<String>) {
    match open(bytes) {
        Err(complaint) => wrong.push(complaint),
        Ok(ip) if !ip.is_whole => wrong.push("cut off".to_owned()),
        Ok(ip) if ip.is_piece => {}
        Ok(ip) => payload(&ip, wrong),
    }
}

/// Reads an IP packet by our own rules and by smoltcp's.
fn open(bytes: &[u8]) -> Result<Ip<'_>, String> {
    if bytes[0] >> 4 == 4 { open_v4(bytes) } else { open_v6(bytes) }
}

fn open_v4(bytes: &[u8]) -> Result<Ip<'_>, String> {
    let header = usize::from(bytes[0] & 0xf) * 4;
    let length = usize::from(word(bytes, 2));
    if sum(&bytes[..header]) != 0xffff {
        return Err("IPv4 header checksum".to_owned());
    }
    if let Ok(other) = Ipv4Packet::new_checked(bytes)
        && !other.verify_checksum()
    {
        return Err("IPv4 header checksum: smoltcp".to_owned());
    }
    if length < bytes.len() {
        return Err(format!("{} bytes behind the packet", bytes.len() - length));
    }
    let address = |at: usize| IpAddr::from(<[u8; 4]>::try_from(&bytes[at..at + 4]).unwrap());
    Ok(Ip {
        ends: (address(12), address(16)),
        protocol: bytes[9],
        payload: &bytes[header..],
        is_piece: word(bytes, 6) & 0x3fff != 0,
        is_whole: length == bytes.len(),
    })
}

fn open_v6(bytes: &[u8]) -> Result<Ip<'_>, String> {
    let length = 40 + usize::from(word(bytes, 4));
    if length < bytes.len() {
        return Err(format!("{} bytes behind the packet", bytes.len() - length));
    }
    if length == bytes.len()
        && let Err(error) = Ipv6Packet::new_checked(bytes)
    {
        return Err(format!("IPv6 header: smoltcp: {error}"));
    }
    let address = |at: usize| IpAddr::from(<[u8; 16]>::try_from(&bytes[at..at + 16]).unwrap());
    let (mut protocol, mut at, mut is_piece) = (bytes[6], 40, false);
    while let 0 | 43 | 44 | 60 = protocol {
        is_piece |= protocol == 44 && word(bytes, at + 2) & 0xfff9 != 0;
        let length = if protocol == 44 { 8 } else { 8 * (1 + usize::from(bytes[at + 1])) };
        (protocol, at) = (bytes[at], at + length);
    }
    let (ends, is_whole) = ((address(8), address(24)), length == bytes.len());
    Ok(Ip { ends, protocol, payload: &bytes[at..], is_piece, is_whole })
}

fn payload(ip: &Ip<'_>, wrong: &mut Vec<String>) {
    let mut check = |is_right: bool, what: &str| {
        if !is_right {
            wrong.push(format!("checksum: {what}"));
        }
    };
    let (source, destination) = (IpAddress::from(ip.ends.0), IpAddress::from(ip.ends.1));
    match ip.protocol {
        6 => {
            check(ip.sum() == 0xffff, "TCP");
            let other = TcpPacket::new_checked(ip.payload);
            check(other.is_ok_and(|tcp| tcp.verify_checksum(&source, &destination)), "smoltcp");
        }
        17 => {
            let none = word(ip.payload, 6) == 0 && ip.ends.0.is_ipv4();
            let none = none || (word(ip.payload, 6) == 0 && word(ip.payload, 2) == GUE);
            check(none || ip.sum() == 0xffff, "UDP");
            let other = UdpPacket::new_checked(ip.payload);
            let other = other.is_ok_and(|udp| udp.verify_checksum(&source, &destination));
            check(none || other, "smoltcp");
            if word(ip.payload, 2) == GUE {
                gue(&ip.payload[8..], wrong);
            }
        }
        SCTP => {
            let mut packet = ip.payload.to_vec();
            packet[8..12].fill(0);
            check(ip.payload[8..12] == crc32c(&packet).to_le_bytes(), "SCTP");
        }
        4 | 41 => packet(ip.payload, wrong),
        47 => {
            let has_sum = ip.payload[0] & 0x80 != 0;
            check(!has_sum || sum(ip.payload) == 0xffff, "GRE");
            packet(&ip.payload[if has_sum { 8 } else { 4 }..], wrong);
        }
        1 | 58 => icmp(ip, wrong),
        other => wrong.push(format!("protocol {other}")),
    }
}

/// What is in GUE, its checksum filled in if it was left to the receiver.
fn gue(bytes: &[u8], wrong: &mut Vec<String>) {
    let options = usize::from(bytes[0] & 0x1f) * 4;
    let mut inner = bytes[4 + options..].to_vec();
    if options > 0 {
        let [start, field] = [8, 10].map(|at| usize::from(word(bytes, at)));
        let checksum = (!sum(&inner[start..])).to_be_bytes();
        inner[field..field + 2].copy_from_slice(&checksum);
    }
    packet(&inner, wrong);
}

fn icmp(ip: &Ip<'_>, wrong: &mut Vec<String>) {
    let (ours, other) = if let (IpAddr::V6(from), IpAddr::V6(to)) = ip.ends {
        let other = Icmpv6Packet::new_checked(ip.payload);
        // smoltcp refuses types it has no name for.
        (ip.sum(), other.is_err() || other.is_ok_and(|icmp| icmp.verify_checksum(&from, &to)))
    } else {
        let other = Icmpv4Packet::new_checked(ip.payload);
        (sum(ip.payload), other.is_ok_and(|icmp| icmp.verify_checksum()))
    };
    if ours != 0xffff || !other {
        wrong.push("checksum: ICMP".to_owned());
    }
    let is_error = if ip.protocol == 58 {
        ip.payload[0] < 128
    } else {
        [3, 4, 5, 11, 12].contains(&ip.payload[0])
    };
    if is_error {
        quoted(&ip.payload[8..], wrong);
    }
}

/// A quoted packet: its header, and if all of it is there, the rest too.
fn quoted(bytes: &[u8], wrong: &mut Vec<String>) {
    match open(bytes) {
        Err(complaint) => wrong.push(format!("quoted: {complaint}")),
        Ok(ip) if ip.is_whole && !ip.is_piece => payload(&ip, wrong),
        Ok(_) => {}
    }
}
