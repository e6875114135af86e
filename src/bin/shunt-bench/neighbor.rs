//! ARP (RFC 826) and neighbour discovery (RFC 4861, section 7), as far as a generator needs them: it asks for
//! the box's link address, and answers for the hosts it stands for.
//!
//! ```text
//! ether 14 │ ARP: kinds 6, operation 2 │ sender MAC 6, IP 4 │ target MAC 6, IP 4
//! ether 14 │ IPv6 40 │ type 1, code 1, checksum 2, flags 4 │ target 16 │ option 2, MAC 6
//! ```
//!
//! Probes and announcements, whose sender asks for its own address, are never answered.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use shunt::dataplane::family::Family;
use shunt::wire::{Mac, checksum, ether};

const REQUEST: u16 = 1;
const REPLY: u16 = 2;
/// Ethernet, IPv4, and how long their addresses are.
const KINDS: [u8; 6] = [0, 1, 8, 0, 6, 4];
const ICMPV6: u8 = 58;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
/// An answer's: solicited, and overriding what was known.
const FLAGS: u8 = 0x60;
/// What nobody may have forwarded.
const HOP_LIMIT: u8 = 255;
/// Where a message of neighbour discovery begins, and how long it is with its option.
const MESSAGE: usize = 54;
const LENGTH: usize = 32;

/// Asks who has an address.
pub(crate) fn question((mac, address): (Mac, IpAddr), whom: IpAddr) -> Vec<u8> {
    match (address, whom) {
        (IpAddr::V4(address), IpAddr::V4(whom)) => {
            arp(REQUEST, [mac, Mac([0xff; 6])], (address, whom), Mac([0; 6]))
        }
        (IpAddr::V6(address), IpAddr::V6(whom)) => {
            let [.., a, b, c] = whom.octets();
            let low = u32::from_be_bytes([0xff, a, b, c]);
            let group = Ipv6Addr::from_bits(0xff02 << 112 | 1 << 32 | u128::from(low));
            let macs = [mac, Mac([0x33, 0x33, 0xff, a, b, c])];
            discovery(SOLICITATION, macs, (address, group), whom)
        }
        _ => Vec::new(),
    }
}

/// The answer to a question for one of our hosts.
pub(crate) fn answer(frame: &[u8], ours: Mac, is_ours: impl Fn(IpAddr) -> bool) -> Option<Vec<u8>> {
    let asker = mac(frame, 6)?;
    match kind(frame)? {
        ether::ARP => {
            let (operation, sender, target) = said(frame)?;
            let is_question = operation == REQUEST && !sender.is_unspecified() && sender != target;
            (is_question && is_ours(target.into()))
                .then(|| arp(REPLY, [ours, asker], (target, sender), asker))
        }
        ether::IPV6 => {
            let (sender, target) = (v6(frame, 22)?, v6(frame, 62)?);
            let is_question = is_discovery(frame, SOLICITATION) && !sender.is_unspecified();
            (is_question && is_ours(target.into()))
                .then(|| discovery(ADVERTISEMENT, [ours, asker], (target, sender), target))
        }
        _ => None,
    }
}

/// The link address of a host, if that is what the frame says.
pub(crate) fn told(frame: &[u8], whom: IpAddr) -> Option<Mac> {
    match whom {
        IpAddr::V4(whom) => {
            let (operation, sender, _) = said(frame).filter(|_| kind(frame) == Some(ether::ARP))?;
            (operation == REPLY && sender == whom).then(|| mac(frame, 22))?
        }
        IpAddr::V6(whom) => {
            let is_answer = kind(frame)? == ether::IPV6 && is_discovery(frame, ADVERTISEMENT);
            let says_it = frame.get(78..80)? == [2, 1];
            (is_answer && says_it && v6(frame, 62)? == whom).then(|| mac(frame, 80))?
        }
    }
}

/// The frame's type.
pub(crate) fn kind(frame: &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes(*frame.get(12..)?.first_chunk()?))
}

fn said(frame: &[u8]) -> Option<(u16, Ipv4Addr, Ipv4Addr)> {
    let operation = u16::from_be_bytes(*frame.get(20..)?.first_chunk()?);
    let [sender, target] = [28, 38].map(|at| frame.get(at..)?.first_chunk::<4>().copied());
    (frame.get(14..20)? == KINDS).then_some(())?;
    Some((operation, sender?.into(), target?.into()))
}

fn is_discovery(frame: &[u8], kind: u8) -> bool {
    let says = [(20, ICMPV6), (21, HOP_LIMIT), (MESSAGE, kind)];
    says.iter().all(|(at, byte)| frame.get(*at) == Some(byte))
}

fn mac(frame: &[u8], at: usize) -> Option<Mac> {
    frame.get(at..)?.first_chunk().copied().map(Mac)
}

fn v6(frame: &[u8], at: usize) -> Option<Ipv6Addr> {
    frame.get(at..)?.first_chunk::<16>().copied().map(Ipv6Addr::from)
}

fn header([source, destination]: [Mac; 2], kind: u16) -> Vec<u8> {
    [&destination.0[..], &source.0, &kind.to_be_bytes()].concat()
}

fn arp(
    operation: u16,
    macs: [Mac; 2],
    (sender, target): (Ipv4Addr, Ipv4Addr),
    target_mac: Mac,
) -> Vec<u8> {
    let mut frame = header(macs, ether::ARP);
    frame.extend(KINDS);
    frame.extend(operation.to_be_bytes());
    frame.extend(macs[0].0.iter().chain(&sender.octets()));
    frame.extend(target_mac.0.iter().chain(&target.octets()));
    frame.resize(60, 0);
    frame
}

fn discovery(
    kind: u8,
    macs: [Mac; 2],
    (source, destination): (Ipv6Addr, Ipv6Addr),
    target: Ipv6Addr,
) -> Vec<u8> {
    let mut frame = header(macs, ether::IPV6);
    frame.resize(MESSAGE, 0);
    let pair = Ipv6Addr::pair(source, destination);
    let written = Ipv6Addr::write_header(&mut frame[14..], LENGTH, ICMPV6, pair);
    debug_assert!(written.is_some(), "there is room for a header");
    frame[21] = HOP_LIMIT;
    // The option: the sender's link address in a question, the target's in an answer.
    let (flags, option) = if kind == ADVERTISEMENT { (FLAGS, 2) } else { (0, 1) };
    frame.extend([kind, 0, 0, 0, flags, 0, 0, 0]);
    frame.extend(target.octets());
    frame.extend([option, 1]);
    frame.extend(macs[0].0);
    let sum = !checksum::sum_l4(pair, ICMPV6, &frame[MESSAGE..]);
    frame[MESSAGE + 2..MESSAGE + 4].copy_from_slice(&sum.to_ne_bytes());
    frame
}

#[cfg(test)]
mod tests {
    use etherparse::{Icmpv6Slice, LaxPacketHeaders, NetSlice, SlicedPacket, TransportSlice};

    use super::*;

    const US: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const BOX: Mac = Mac([2, 0, 0, 0, 0, 9]);

    fn hosts(v6: bool) -> [IpAddr; 2] {
        let hosts = if v6 { ["2001:db8::1", "2001:db8::abcd:9"] } else { ["10.0.0.1", "10.0.0.9"] };
        hosts.map(|host| host.parse().unwrap())
    }

    #[test]
    fn a_question_is_answered_and_the_answer_understood() {
        for v6 in [false, true] {
            let [us, host] = hosts(v6);
            let asked = question((US, us), host);
            assert!(LaxPacketHeaders::from_ethernet(&asked).is_ok());
            let said = answer(&asked, BOX, |address| address == host).unwrap();
            assert_eq!(said[..12], [US.0, BOX.0].concat());
            assert_eq!(told(&said, host), Some(BOX));
            assert_eq!(told(&said, us), None, "of somebody else");
            assert_eq!(answer(&asked, BOX, |address| address == us), None, "not ours");
            assert_eq!(answer(&said, BOX, |_| true), None, "no question");
        }
    }

    #[test]
    fn probes_and_announcements_are_not_answered() {
        let [us, _] = hosts(false);
        assert_eq!(answer(&question((US, us), us), BOX, |_| true), None);
        for (v6, nobody) in [(false, "0.0.0.0"), (true, "::")] {
            let probe = question((US, nobody.parse().unwrap()), hosts(v6)[1]);
            assert_eq!(answer(&probe, BOX, |_| true), None);
        }
    }

    #[test]
    fn messages_of_neighbour_discovery_have_right_checksums_and_go_to_the_hosts_group() {
        let [us, host] = hosts(true);
        let asked = question((US, us), host);
        let said = answer(&asked, BOX, |_| true).unwrap();
        for frame in [&asked, &said] {
            let sliced = SlicedPacket::from_ethernet(frame).unwrap();
            let Some(NetSlice::Ipv6(ip)) = sliced.net else { panic!("IPv6") };
            let Some(TransportSlice::Icmpv6(message)) = sliced.transport else { panic!("ICMPv6") };
            let header = ip.header();
            assert_eq!(header.hop_limit(), 255);
            let is_right = Icmpv6Slice::is_checksum_valid;
            assert!(is_right(&message, header.source(), header.destination()));
        }
        let sliced = SlicedPacket::from_ethernet(&asked).unwrap();
        let Some(NetSlice::Ipv6(ip)) = sliced.net else { panic!("IPv6") };
        assert_eq!(ip.header().destination_addr(), "ff02::1:ffcd:9".parse::<Ipv6Addr>().unwrap());
        assert_eq!(asked[..6], [0x33, 0x33, 0xff, 0xcd, 0, 9]);
    }

    #[test]
    fn a_frame_cut_anywhere_says_nothing() {
        for v6 in [false, true] {
            let [us, host] = hosts(v6);
            let whole = question((US, us), host);
            let needed = if v6 { 78 } else { 42 };
            for length in 0..needed {
                assert_eq!(answer(&whole[..length], BOX, |_| true), None, "{length}");
                assert_eq!(told(&whole[..length], us), None, "{length}");
            }
        }
    }
}
