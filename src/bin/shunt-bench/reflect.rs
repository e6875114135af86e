//! Hosts a tester stands for: clients of the address range that is set aside for it (RFC 2544, RFC 5180), and
//! backends that send back whatever comes.
//!
//! ```text
//! client 198.18.0.1 + n ─► VIP ─ box ─► backend: addresses, ports and links swapped ─► box ─► client
//! ```
//!
//! A backend's answer is the packet itself, so it carries the stamp back. A SYN becomes a SYN+ACK.

use std::net::{Ipv4Addr, Ipv6Addr};

use shunt::dataplane::conn::key::FlowKey;
use shunt::dataplane::family::Outline;
use shunt::wire::{checksum, ether};

use crate::frame::{Layout, flags};
use crate::host::Hosts;
use crate::neighbor;
use crate::options::{Mode, Transport};

const ETHER: usize = 14;
const TCP: u8 = 6;
/// TCP's flag of that name.
const RST: u8 = 4;
/// Where clients' ports begin.
const FIRST_PORT: u16 = 1024;
/// Clients with one port each; then the next port begins.
const CLIENTS: u32 = 1 << 16;

/// A family with a range for testers.
pub(crate) trait Tester: Hosts {
    /// The type of its frames.
    const ETHERTYPE: u16;
    /// Client `n`.
    fn tester(n: u16) -> Self;
    /// Which client it is.
    fn tester_number(self) -> Option<u16>;
}

/// 198.18.0.0/15.
const RANGE: u32 = 0xc612_0001;
/// `2001:2::/48`.
const RANGE_V6: u128 = 0x2001_0002 << 96 | 1;

impl Tester for Ipv4Addr {
    const ETHERTYPE: u16 = ether::IPV4;

    fn tester(n: u16) -> Self {
        Self::from_bits(RANGE + u32::from(n))
    }

    fn tester_number(self) -> Option<u16> {
        self.to_bits().checked_sub(RANGE)?.try_into().ok()
    }
}

impl Tester for Ipv6Addr {
    const ETHERTYPE: u16 = ether::IPV6;

    fn tester(n: u16) -> Self {
        Self::from_bits(RANGE_V6 + u128::from(n))
    }

    fn tester_number(self) -> Option<u16> {
        self.to_bits().checked_sub(RANGE_V6)?.try_into().ok()
    }
}

/// What a frame that came in is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// What client `n` was to get back; or, in modes in which answers do not pass the box, what its backend
    /// was to get.
    Back(u32),
    /// It is for a backend that answers.
    There,
    /// It is ours, and not what was to come: a wrong checksum, a client that was not asked for.
    Wrong,
    /// Somebody else's.
    Other,
}

/// The service asked, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<F: Tester> {
    pub(crate) vip: (F, u16),
    pub(crate) transport: Transport,
    pub(crate) mode: Mode,
    pub(crate) flows: u32,
}

impl<F: Tester> Asked<F> {
    /// What client `n` sends.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "the lower half")]
    pub(crate) fn key(&self, n: u32) -> FlowKey<F> {
        let port = FIRST_PORT.saturating_add(u16::try_from(n / CLIENTS).unwrap_or(u16::MAX));
        FlowKey::new(self.transport.protocol() as u8, (F::tester(n as u16), port), self.vip)
    }

    /// Whose packet it is.
    fn number(&self, key: FlowKey<F>) -> Option<u32> {
        let turn = u32::from(key.source_port().checked_sub(FIRST_PORT)?);
        let n = turn * CLIENTS + u32::from(key.source().tester_number()?);
        let is_vip = (key.destination(), key.destination_port()) == self.vip;
        (is_vip && n < self.flows).then_some(n)
    }

    /// How packets look that reach a backend.
    fn layout_there(&self) -> Layout {
        let plain = Layout::plain(self.transport);
        self.mode.wrapping().map_or(plain, |bytes| Layout::wrapped::<F>(self.transport, bytes))
    }

    /// How packets look whose stamp counts.
    pub(crate) fn layout_back(&self) -> Layout {
        if self.mode.has_replies() { Layout::plain(self.transport) } else { self.layout_there() }
    }

    /// What the frame is to us.
    pub(crate) fn see(&self, frame: &[u8]) -> Seen {
        let is_for_us = frame.first().is_some_and(|first| first & 1 == 0);
        let outline = frame.get(ETHER..).and_then(F::outline);
        let Some(outline) = outline.filter(|_| is_for_us) else { return Seen::Other };
        if neighbor::kind(frame) != Some(F::ETHERTYPE) {
            return Seen::Other;
        }
        if self.mode.has_replies() { self.see_both(frame, &outline) } else { self.see_there(frame) }
    }

    fn see_both(&self, frame: &[u8], outline: &Outline<F>) -> Seen {
        let layout = Layout::plain(self.transport);
        let is_ours = outline.protocol == self.transport.protocol() as u8;
        let Some(key) = layout.key_of::<F>(frame).filter(|_| is_ours) else { return Seen::Other };
        if !layout.is_right::<F>(frame) {
            return Seen::Wrong;
        }
        if (key.source(), key.source_port()) != self.vip {
            return Seen::There;
        }
        if outline.protocol == TCP && is_refusal(frame, ETHER + outline.header) {
            return Seen::Other;
        }
        self.number(key.reversed()).map_or(Seen::Wrong, Seen::Back)
    }

    fn see_there(&self, frame: &[u8]) -> Seen {
        let layout = self.layout_there();
        match layout.key_of::<F>(frame).and_then(|key| self.number(key)) {
            Some(n) if layout.is_right::<F>(frame) => Seen::Back(n),
            Some(_) => Seen::Wrong,
            None => Seen::Other,
        }
    }
}

/// The box says no: that is an answer, but not what was to come.
fn is_refusal(frame: &[u8], transport: usize) -> bool {
    frame.get(transport + 13).is_some_and(|bits| bits & RST != 0)
}

/// Turns a packet for a backend into what the backend answers; false if it is none.
pub(crate) fn reflect<F: Tester>(frame: &mut [u8]) -> bool {
    let Some(outline) = frame.get(ETHER..).and_then(F::outline) else { return false };
    let addresses = F::reversed(outline.addresses);
    let (Some((links, packet)), segment) =
        (frame.split_at_mut_checked(ETHER), outline.header..outline.length)
    else {
        return false;
    };
    links[..2 * 6].rotate_left(6);
    if !F::readdress(packet, addresses) {
        return false;
    }
    let Some(segment) = packet.get_mut(segment) else { return false };
    let Some(ports) = segment.first_chunk_mut::<4>() else { return false };
    ports.rotate_left(2);
    if outline.protocol == TCP { agree::<F>(segment, addresses) } else { true }
}

/// A SYN is agreed to; other segments stay as they are.
fn agree<F: Tester>(segment: &mut [u8], addresses: F::Addresses) -> bool {
    let Some(header) = segment.first_chunk_mut::<20>() else { return false };
    if header[13] & (flags::SYN | flags::ACK) != flags::SYN {
        return true;
    }
    let [_, _, _, _, a, b, c, d, ..] = *header;
    let next = u32::from_be_bytes([a, b, c, d]).wrapping_add(1);
    header[8..12].copy_from_slice(&next.to_be_bytes());
    header[13] |= flags::ACK;
    header[16..18].fill(0);
    let sum = !checksum::sum_l4(addresses, TCP, segment);
    segment[16..18].copy_from_slice(&sum.to_ne_bytes());
    true
}

#[cfg(test)]
mod tests {
    use shunt::wire::Mac;

    use super::*;
    use crate::frame::Template;

    const MACS: [Mac; 2] = [Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2])];

    fn asked<F: Tester>(transport: Transport, vip: F) -> Asked<F> {
        Asked { vip: (vip, 80), transport, mode: Mode::Fullnat, flows: 200_000 }
    }

    fn there_and_back<F: Tester>(transport: Transport, vip: F, kind: u8) {
        let asked = asked(transport, vip);
        let template = Template::new::<F>(64, transport, kind, MACS);
        for n in [0, 1, 65_535, 65_536, 199_999] {
            let mut frame = vec![0; template.len()];
            template.write(&mut frame, asked.key(n), 77);
            assert_eq!(asked.see(&frame), Seen::There, "as plain forwarding brings it");
            assert!(reflect::<F>(&mut frame));
            assert_eq!(asked.see(&frame), Seen::Back(n));
            assert_eq!(frame[..12], [MACS[0].0, MACS[1].0].concat());
            assert_eq!(asked.layout_back().stamp_of::<F>(&frame), Some(77));
            let direct = Asked { mode: Mode::Dr, ..asked };
            assert_eq!(direct.see(&frame), Seen::Other, "answers do not pass there");
            let last = frame.len() - 1;
            frame[last] ^= 1;
            assert_eq!(asked.see(&frame), Seen::Wrong);
        }
    }

    #[test]
    fn what_is_reflected_is_the_right_answer() {
        let (v4, v6) =
            (Ipv4Addr::new(198, 51, 100, 10), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));
        for kind in [flags::SYN, flags::ACK] {
            there_and_back(Transport::Tcp, v4, kind);
            there_and_back(Transport::Tcp, v6, kind);
        }
        there_and_back(Transport::Udp, v4, 0);
        there_and_back(Transport::Udp, v6, 0);
    }

    #[test]
    fn a_syn_is_agreed_to_once() {
        let asked = asked(Transport::Tcp, Ipv4Addr::new(198, 51, 100, 10));
        let template = Template::new::<Ipv4Addr>(64, Transport::Tcp, flags::SYN, MACS);
        let mut frame = vec![0; template.len()];
        template.write(&mut frame, asked.key(5), 0);
        reflect::<Ipv4Addr>(&mut frame);
        assert_eq!((frame[47], &frame[42..46]), (flags::SYN | flags::ACK, &[0, 0, 0, 1][..]));
        let answer = frame.clone();
        reflect::<Ipv4Addr>(&mut frame);
        assert_eq!(frame[38..48], answer[38..48], "nobody agrees to an agreement");
    }

    #[test]
    fn a_refusal_is_no_answer() {
        let asked = asked(Transport::Tcp, Ipv4Addr::new(198, 51, 100, 10));
        for (kind, seen) in [(flags::ACK, Seen::Back(5)), (flags::ACK | RST, Seen::Other)] {
            let template = Template::new::<Ipv4Addr>(64, Transport::Tcp, kind, MACS);
            let mut frame = vec![0; template.len()];
            template.write(&mut frame, asked.key(5).reversed(), 0);
            assert_eq!(asked.see(&frame), seen);
        }
    }

    #[test]
    fn clients_of_a_smaller_run_are_told_from_strangers() {
        let asked = asked(Transport::Udp, Ipv4Addr::new(198, 51, 100, 10));
        let template = Template::new::<Ipv4Addr>(64, Transport::Udp, 0, MACS);
        let mut frame = vec![0; template.len()];
        template.write(&mut frame, asked.key(200_000).reversed(), 0);
        assert_eq!(asked.see(&frame), Seen::Wrong);
        assert_eq!(asked.see(&frame[..20]), Seen::Other);
        frame[0] = 0xff;
        assert_eq!(asked.see(&frame), Seen::Other, "everybody's");
    }
}
