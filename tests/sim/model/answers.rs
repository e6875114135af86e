//! What the sender of a refused packet is told.

use std::net::SocketAddr;

use shunt::dataplane::snapshot::Protocol;
use shunt::dataplane::verdict::Reason;

use super::{Input, Model};
use crate::hosts::tcp::refusal;
use crate::packet::{Body, LINK, Packet};
use crate::seen::Seen;

/// Longest ICMP error, and what of it is not the quote.
const ERROR_MAX: usize = 576;
const ERROR_HEADERS: usize = 28;

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
        if !self.config.rejects {
            return Ok(());
        }
        let is_tcp = packet.flow().is_some_and(|flow| flow.protocol == Protocol::Tcp);
        let answer = match reason {
            Reason::NoService | Reason::NoConnection | Reason::BackendGone if is_tcp => {
                refusal(packet).map(|reset| turned(packet, reset))
            }
            Reason::NoService | Reason::NoBackend | Reason::BackendGone => {
                Some(error(packet, &input.frame, (3, 3), 0))
            }
            Reason::TtlExpired => Some(time_exceeded(packet, &input.frame)),
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
}

/// An answer goes back over the link the packet came by.
fn turned(packet: &Packet, answer: Packet) -> Packet {
    Packet { link: (packet.link.1, packet.link.0), ..answer }
}

/// RFC 792 and RFC 1191: what the way carries.
pub(super) fn fragmentation_needed(packet: &Packet, frame: &[u8], room: usize) -> Packet {
    error(packet, frame, (3, 4), u32::try_from(room).unwrap())
}

pub(super) fn time_exceeded(packet: &Packet, frame: &[u8]) -> Packet {
    error(packet, frame, (11, 0), 0)
}

/// An ICMP error, as from whom the packet was for, quoting it as it came.
fn error(packet: &Packet, frame: &[u8], (kind, code): (u8, u8), rest: u32) -> Packet {
    let portless = |address: SocketAddr| SocketAddr::new(address.ip(), 0);
    let (from, to) = (portless(packet.to), portless(packet.from));
    let whole = &frame[LINK..LINK + packet.length()];
    let payload = whole[..whole.len().min(ERROR_MAX - ERROR_HEADERS)].to_vec();
    let error = Packet::new(from, to, Body::Icmp { kind, code, rest });
    turned(packet, Packet { tos: 0xc0, payload, ..error })
}
