//! Who hears that a connection has ended here, and not by its ends: both, by a RST or an ABORT with
//! a number they believe, which is what they said last of the other's.
//!
//! Only who believes in it: TCP and SCTP past their handshake and not over; and only where both
//! directions pass here. A worker that never received a packet has nothing to write one into: it
//! counts who was not told.

use shunt::dataplane::snapshot::Mode;

use super::sctp::Association;
use super::states::{Seat, State};
use super::{Connection, Model};
use crate::packet::{ACK, Body, Flow, Packet, RST, chunk};
use crate::packets::{OUR_INNER_MAC, OUR_MAC};
use crate::seen::Seen;

/// What a packet says of the other end's numbers.
fn said(packet: &Packet) -> Option<u32> {
    match packet.body {
        // 0 stands for nothing.
        Body::Tcp { ack, flags, .. } if flags & ACK != 0 => Some(ack.max(1)),
        Body::Sctp { tag } if tag != 0 => Some(tag),
        _ => None,
    }
}

/// Do both ends believe in it?
fn is_believed(state: State) -> bool {
    use Association::{
        SctpEstablished, SctpShutdownAckSent, SctpShutdownReceived, SctpShutdownSent,
    };
    match state {
        State::Established | State::FinWait | State::CloseWait => true,
        State::Sctp(state) => matches!(
            state,
            SctpEstablished | SctpShutdownSent | SctpShutdownReceived | SctpShutdownAckSent
        ),
        _ => false,
    }
}

impl Connection {
    /// A packet of that side passes.
    pub(super) fn hears(&mut self, seat: Seat, packet: &Packet) {
        let Some(number) = said(packet) else { return };
        match seat {
            Seat::Output => self.said[1] = number,
            // Of the old connection nothing is kept once the client has asked for a new one.
            _ if self.stream.is_asked_anew() => {}
            _ => self.said[0] = number,
        }
    }
}

impl Model {
    /// A connection has ended here: the client, the backend or both will hear so.
    pub(super) fn announce(&mut self, client: &Flow, connection: &Connection, ends: &[Seat]) {
        let translated = matches!(connection.mode, Mode::Fullnat | Mode::Nat);
        if !self.config.resets || !is_believed(connection.state) || !translated {
            return;
        }
        for end in ends {
            let notice = self.notice(client, connection, *end);
            self.notices.extend(notice);
        }
    }

    /// What one end is told: the port it leaves by, and the packet.
    fn notice(&self, client: &Flow, connection: &Connection, end: Seat) -> Option<(usize, Packet)> {
        let backend = self.config.backend(connection.place);
        let [by_client, by_backend] = connection.said;
        let is_client = end != Seat::Output;
        let (own, others) =
            if is_client { (by_client, by_backend) } else { (by_backend, by_client) };
        let (port, link, from, to) = if is_client {
            (0, (OUR_MAC, connection.router), client.to, client.from)
        } else {
            let answers = connection.answers.filter(|_| backend.reachable)?;
            (1, (OUR_INNER_MAC, backend.mac), answers.to, answers.from)
        };
        let (number, body, payload) = if let State::Sctp(_) = connection.state {
            (others, Body::Sctp { tag: others }, vec![chunk::ABORT, 0, 0, 4])
        } else {
            let flags = RST;
            let body = Body::Tcp { sequence: own, ack: 0, flags, window: 0, options: vec![] };
            (own, body, vec![])
        };
        (number != 0).then(|| (port, Packet { link, payload, ..Packet::new(from, to, body) }))
    }

    /// So many were not told, as the balancer counts it.
    pub(crate) fn were_not_told(&mut self, count: u64) {
        self.untold += count;
    }

    /// Those that were to hear something have heard it.
    pub(super) fn tell(&mut self, seen: &mut Seen) -> Result<(), String> {
        for (port, notice) in std::mem::take(&mut self.notices) {
            match seen.take(port, &notice.frame()) {
                Ok(()) => self.tally.told += 1,
                Err(_) if self.untold > 0 => self.untold -= 1,
                Err(error) => return Err(format!("of a connection's end {error}")),
            }
        }
        if self.untold > 0 {
            return Err(format!("{} too many were not told", self.untold));
        }
        Ok(())
    }

    /// Time has passed, and this came of it.
    pub(crate) fn pass(&mut self, mut seen: Seen) -> Result<(), String> {
        self.tell(&mut seen)?;
        self.drop_lost_pieces(&mut seen)?;
        seen.is_explained()
    }
}
