//! Who hears that a connection has ended here, and not by its ends: both, by a RST or an ABORT with
//! a number they believe, which is what they said last of the other's.
//!
//! Only who believes in it: TCP and SCTP past their handshake and not over, UDP that was answered, of which both hear
//! as from a closed port, as far as that is wanted; and only where both
//! directions pass here. A worker that never received a packet has nothing to write one into: it
//! counts who was not told.

use shunt::dataplane::snapshot::{IcmpOnEnd, Mode};

use super::answers::{Trouble, report};
use super::sctp::Association;
use super::states::{Seat, State};
use super::{Connection, Model};
use crate::packet::{ACK, Body, Flow, Packet, RST, chunk};
use crate::packets::{OUR_INNER_MAC, OUR_MAC};
use crate::seen::Seen;

/// What somebody is told: by which port, and whether that is certain.
#[derive(Debug)]
pub(super) struct Notice {
    port: usize,
    packet: Packet,
    is_certain: bool,
}

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
        let (is_told, is_certain) = match connection.state {
            State::Udp => self.is_udp_told(connection),
            state => (self.config.resets && is_believed(state), true),
        };
        if !is_told || !translated {
            return;
        }
        for end in ends {
            let notice = self.notice(client, connection, *end);
            let notice = notice.map(|(port, packet)| Notice { port, packet, is_certain });
            self.notices.extend(notice);
        }
    }

    /// Are the ends of a flow of UDP told, and is that certain? An order to clear may be done at one worker
    /// and not yet at another: what then ends by silence may be taken for its doing.
    fn is_udp_told(&self, connection: &Connection) -> (bool, bool) {
        let is_removed = self.config.backend(connection.place).weight.is_none();
        let may_be_cleared = self.cleared_ms(connection).is_some();
        match self.config.icmp {
            IcmpOnEnd::Always => (true, true),
            IcmpOnEnd::Removal => (is_removed || may_be_cleared, is_removed),
            IcmpOnEnd::Never => (false, true),
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
        if connection.state == State::Udp {
            // As if it had sent one with nothing in it.
            let own = Packet {
                link: (link.1, link.0),
                ..Packet::new(to, from, Body::Udp { checksum: true })
            };
            return Some((port, report(&own, &own.frame(), Trouble::PortUnreachable, from)));
        }
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
        for notice in std::mem::take(&mut self.notices) {
            match seen.take(notice.port, &notice.packet.frame()) {
                Ok(()) => self.tally.told += 1,
                Err(_) if !notice.is_certain => {}
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
