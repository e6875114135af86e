//! What the sender of a refused packet is told.

use std::net::SocketAddr;

use shunt::dataplane::snapshot::Protocol;
use shunt::dataplane::verdict::Reason;

use super::{Input, Model};
use crate::config::our_address;
use crate::hosts::{sctp, tcp};
use crate::packet::{Body, LINK, Packet};
use crate::seen::Seen;

/// What a packet's sender may be told.
#[derive(Clone, Copy, Debug)]
pub(super) enum Trouble {
    PortUnreachable,
    TimeExceeded,
    /// The way carries so much.
    TooBig(usize),
}

impl Trouble {
    /// Type, code and second word: RFC 792 and RFC 1191, RFC 4443.
    fn words(self, is_v6: bool) -> (u8, u8, u32) {
        match (self, is_v6) {
            (Self::PortUnreachable, false) => (3, 3, 0),
            (Self::PortUnreachable, true) => (1, 4, 0),
            (Self::TimeExceeded, false) => (11, 0, 0),
            (Self::TimeExceeded, true) => (3, 0, 0),
            (Self::TooBig(room), false) => (3, 4, u32::try_from(room).unwrap()),
            (Self::TooBig(room), true) => (2, 0, u32::try_from(room).unwrap()),
        }
    }
}

impl Model {
    /// A drop; the sender is told by policy.
    pub(super) fn refuse(
        &mut self,
        reason: Reason,
        packet: &Packet,
        input: &Input,
        seen: &mut Seen,
    ) -> Result<(), String> {
        self.drop(reason, seen)?;
        // Silence is for strays; a TTL that ends and a service without backends are none.
        let is_stray = !matches!(reason, Reason::TtlExpired | Reason::NoBackend | Reason::Hairpin);
        // A client may yet come over whose connection this is.
        let is_early = packet.flow().is_some_and(|flow| self.is_of_sloppy(&flow));
        if reason == Reason::NoConnection && is_early {
            return Ok(());
        }
        if is_stray && !self.config.rejects {
            return Ok(());
        }
        let has_own_word = packet.flow().is_some_and(|flow| flow.protocol != Protocol::Udp);
        let answer = match reason {
            Reason::NoService | Reason::NoConnection | Reason::BackendGone if has_own_word => {
                // A checksum over all pieces proves nothing of the first, and what is not proven is not
                // answered.
                let of_sctp = sctp::refusal(packet).filter(|_| packet.piece.is_none());
                let answer = tcp::refusal(packet).or(of_sctp);
                answer.map(|answer| turned(packet, answer))
            }
            Reason::NoService
            | Reason::NoBackend
            | Reason::Hairpin
            | Reason::NoConnection
            | Reason::BackendGone => self.error(packet, &input.frame, Trouble::PortUnreachable),
            Reason::TtlExpired => self.error(packet, &input.frame, Trouble::TimeExceeded),
            _ => None,
        };
        answer.map_or(Ok(()), |answer| self.answered(&answer, input, seen))
    }

    /// This went back where the packet came from.
    pub(super) fn answered(
        &mut self,
        answer: &Packet,
        input: &Input,
        seen: &mut Seen,
    ) -> Result<(), String> {
        self.tally.answered += 1;
        seen.take(input.port, &answer.frame())
    }

    /// An ICMP error, as from whom the packet was for, quoting it as it came. To a NAT backend,
    /// whose packets are for clients, we are a router.
    pub(super) fn error(&self, packet: &Packet, frame: &[u8], trouble: Trouble) -> Option<Packet> {
        let ours = self.is_vip(packet.to) || self.config.locals.contains(&packet.to.ip());
        let router = self.config.is_at_nat_backend(packet.from.ip());
        let router = router.then(|| SocketAddr::new(our_address(packet.is_v6()), 0));
        let from = if ours { packet.to } else { router? };
        Some(report(packet, frame, trouble, from))
    }
}

/// The error about a packet, to its sender.
pub(super) fn report(packet: &Packet, frame: &[u8], trouble: Trouble, from: SocketAddr) -> Packet {
    let portless = |address: SocketAddr| SocketAddr::new(address.ip(), 0);
    let (kind, code, rest) = trouble.words(packet.is_v6());
    let body = Body::Icmp { kind, code, rest };
    let error = Packet::new(portless(from), portless(packet.from), body);
    // Of the longest error allowed, what its own headers leave.
    let (room, tos) = if packet.is_v6() { (1280 - 48, 0) } else { (576 - 28, 0xc0) };
    let whole = &frame[LINK..LINK + packet.length()];
    let payload = whole[..whole.len().min(room)].to_vec();
    turned(packet, Packet { tos, payload, ..error })
}

/// An answer goes back over the link the packet came by.
fn turned(packet: &Packet, answer: Packet) -> Packet {
    Packet { link: (packet.link.1, packet.link.0), ..answer }
}
