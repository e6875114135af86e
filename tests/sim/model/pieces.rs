//! Datagrams in pieces: a first piece is treated as a whole packet is, later ones follow it, and
//! those that come before it wait. Each goes on by itself, as the part of the translated packet
//! that it was of the packet.
//!
//! SCTP's checksum depends on how long the whole is: all wait until first and last have come.

use std::net::IpAddr;

use shunt::dataplane::snapshot::Protocol;
use shunt::dataplane::verdict::Reason;

use super::rules::{List, starts};
use super::states::Seat;
use super::{Input, Model};
use crate::packet::{Flow, Packet};
use crate::pieces::Slice;
use crate::seen::Seen;

/// How long a datagram is known: IPv4, IPv6.
const AGE_MS: [u64; 2] = [30_000, 60_000];

/// Addresses, identification, protocol (IPv4).
pub(super) type Name = (IpAddr, IpAddr, u32, u8);

/// What is known of a datagram.
#[derive(Debug)]
pub(super) struct Datagram {
    since_ms: u64,
    /// Has its first piece come?
    known: bool,
    waiting: Vec<Input>,
}

fn name(packet: &Packet, flow: Flow) -> Option<Name> {
    let piece = packet.piece?;
    let (id, protocol) = if packet.is_v6() {
        (piece.identification, 0)
    } else {
        (packet.id.into(), flow.protocol as u8)
    };
    Some((flow.from.ip(), flow.to.ip(), id, protocol))
}

/// Which part of its datagram it is.
fn at(input: &Input) -> Option<Slice> {
    input.packet.as_ref()?.piece
}

impl Model {
    /// A piece.
    pub(super) fn piece(
        &mut self,
        packet: &Packet,
        flow: Flow,
        input: &Input,
        seen: &mut Seen,
        list: List<'_>,
    ) -> Result<(), String> {
        let (Some(name), Some(piece)) = (name(packet, flow), packet.piece) else {
            return Err("no piece".to_owned());
        };
        let balanced = self.is_vip(flow.to)
            || self.config.locals.contains(&flow.to.ip())
            || self.config.is_at_nat_backend(flow.from.ip());
        if !balanced {
            return seen.punt(&input.frame);
        }
        let now_ms = self.now_ms;
        if flow.protocol == Protocol::Sctp {
            return self.piece_of_sctp(name, flow, input, seen, list);
        }
        if piece.offset == 0 {
            let known = Datagram { since_ms: now_ms, known: true, waiting: vec![] };
            let before = self.datagrams.insert(name, known);
            self.first_piece(packet, flow, input, seen, list)?;
            let waiting = before.map_or(vec![], |datagram| datagram.waiting);
            return waiting.iter().try_for_each(|input| self.later_piece(flow, input, seen, list));
        }
        let unknown = || Datagram { since_ms: now_ms, known: false, waiting: vec![] };
        let datagram = self.datagrams.entry(name).or_insert_with(unknown);
        if datagram.known {
            return self.later_piece(flow, input, seen, list);
        }
        datagram.waiting.push(input.clone());
        Ok(())
    }

    fn piece_of_sctp(
        &mut self,
        name: Name,
        flow: Flow,
        input: &Input,
        seen: &mut Seen,
        list: List<'_>,
    ) -> Result<(), String> {
        let is_first = |input: &Input| at(input).is_some_and(|piece| piece.offset == 0);
        let is_last = |input: &Input| at(input).is_some_and(|piece| !piece.more);
        let now_ms = self.now_ms;
        let unknown = || Datagram { since_ms: now_ms, known: false, waiting: vec![] };
        let datagram = self.datagrams.entry(name).or_insert_with(unknown);
        if is_first(input) {
            if datagram.known {
                *datagram = unknown();
            }
            datagram.waiting.insert(0, input.clone());
        } else if datagram.known {
            return self.later_piece(flow, input, seen, list);
        } else {
            datagram.waiting.push(input.clone());
        }
        if !datagram.waiting.iter().any(is_first) || !datagram.waiting.iter().any(is_last) {
            return Ok(());
        }
        let waiting = std::mem::take(&mut datagram.waiting);
        *datagram = Datagram { known: true, ..unknown() };
        for input in &waiting {
            match &input.packet {
                Some(packet) if is_first(input) => {
                    self.first_piece_of_sctp(packet, flow, input, seen, list)?;
                }
                _ => self.later_piece(flow, input, seen, list)?,
            }
        }
        Ok(())
    }

    fn first_piece_of_sctp(
        &mut self,
        packet: &Packet,
        flow: Flow,
        input: &Input,
        seen: &mut Seen,
        list: List<'_>,
    ) -> Result<(), String> {
        // No association begins in pieces, nor anew.
        let client = self.client_of(flow);
        if self.is_flow(&flow) && client.is_none() {
            return self.drop(Reason::Fragment, seen);
        }
        if client == Some(flow) && starts(packet, flow.protocol) {
            let connection = &self.connections[&flow];
            let is_gone = self.config.backend(connection.place).weight.is_none();
            if is_gone || self.starts_over(connection) {
                let gone = self.forget(&flow).filter(|_| is_gone);
                if let Some(connection) = gone {
                    self.announce(&flow, &connection, &[Seat::Output]);
                }
                return self.drop(Reason::Fragment, seen);
            }
        }
        self.first_piece(packet, flow, input, seen, list)
    }

    /// Could it be a flow of ours? If not, its pieces are for the kernel.
    pub(super) fn is_flow(&self, flow: &Flow) -> bool {
        self.is_vip(flow.to)
            || self.config.locals.contains(&flow.to.ip())
            || self.is_nat_backend(flow)
    }

    fn client_of(&self, flow: Flow) -> Option<Flow> {
        if self.connections.contains_key(&flow) {
            return Some(flow);
        }
        self.answers.get(&flow).copied()
    }

    fn first_piece(
        &mut self,
        packet: &Packet,
        flow: Flow,
        input: &Input,
        seen: &mut Seen,
        list: List<'_>,
    ) -> Result<(), String> {
        if !self.is_flow(&flow) {
            return seen.punt(&input.frame);
        }
        self.whole(packet, flow, input, seen, list)
    }

    /// A piece without ports, of a flow that its first one named.
    fn later_piece(
        &mut self,
        flow: Flow,
        input: &Input,
        seen: &mut Seen,
        list: List<'_>,
    ) -> Result<(), String> {
        let Some(packet) = &input.packet else { return Err("no piece".to_owned()) };
        if !self.is_flow(&flow) {
            return seen.punt(&input.frame);
        }
        let Some(client) = self.client_of(flow) else {
            // The first one was refused, and counted by its reason.
            return self.drop(Reason::Fragment, seen);
        };
        let seat = if client == flow { Seat::Input } else { Seat::Output };
        if let (Seat::Input, Some(connection)) = (seat, self.connections.get_mut(&client)) {
            connection.router = packet.link.0;
        }
        let backend = self.config.backend(self.connections[&client].place);
        if backend.weight.is_none() {
            return self.drop(Reason::BackendGone, seen);
        }
        if seat == Seat::Input && !backend.reachable {
            return self.drop(Reason::NextHop, seen);
        }
        if packet.ttl <= 1 {
            return self.drop(Reason::TtlExpired, seen);
        }
        self.find_worker(&client, list);
        let room = if seat == Seat::Input {
            self.room(&client, packet.is_v6(), true)
        } else {
            self.config.mtu[0].into()
        };
        if packet.length() > room && packet.df {
            return self.drop(Reason::TooBig, seen);
        }
        self.tally.pieces += 1;
        let now_ms = self.now_ms;
        if let Some(connection) = self.connections.get_mut(&client) {
            connection.seen_ms = now_ms;
            self.tally.passes(connection.place, seat, packet.length());
        }
        if seat == Seat::Input {
            let introduced = self.introduce_later(&client, packet, room);
            self.towards_backend(&client, &introduced, seen)
        } else {
            self.towards_client(&client, packet, seen)
        }
    }

    /// Datagrams whose time is over are forgotten, and what waited for their first piece.
    pub(super) fn forget_pieces(&mut self) {
        let now_ms = self.now_ms;
        let mut lost = 0;
        self.datagrams.retain(|name, datagram| {
            let is_young = now_ms - datagram.since_ms < AGE_MS[usize::from(name.0.is_ipv6())];
            lost += if is_young { 0 } else { datagram.waiting.len() };
            is_young
        });
        self.pieces_lost += lost;
    }
}
