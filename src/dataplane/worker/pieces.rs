//! The worker's part in packets that come in pieces, and in those that leave in pieces.
//!
//! Here and not among the decisions, because pieces are held, released and made: packets change
//! hands. What is decided about each is in [`crate::dataplane::pieces`].

use super::Worker;
use crate::dataplane::flows::{Origin, PuntClass};
use crate::dataplane::frag::{Outcome, Refusal};
use crate::dataplane::io::{Packet, Platform};
use crate::dataplane::pieces::{AnyPiece, Part};
use crate::dataplane::rewrite::cut;
use crate::dataplane::verdict::Reason;
use crate::ids::PortId;
use crate::wire::ether;

impl<P: Platform> Worker<P> {
    /// A piece of a packet of ours, or of one that a peer handed over.
    #[cold]
    pub(super) fn piece(&mut self, packet: P::Packet, origin: Origin) {
        let piece = match AnyPiece::read(packet.data()) {
            Ok(piece) => piece,
            Err(reason) => return self.stats.count_drop(reason),
        };
        // The keeper has found out its ports, and that its flow is ours.
        if origin == Origin::Handover && packet.tag() != 0 {
            let ports = packet.tag();
            return self.follow(packet, &piece, ports);
        }
        match piece.part() {
            Part::Foreign => {
                let fate = self.flows.foreign_piece(&piece);
                self.dispatch(packet, fate, Origin::Handover);
            }
            Part::Whole => self.pass_to_owner(packet, &piece, piece.ports()),
            Part::First | Part::Unfit(_) | Part::Later => {
                self.pass_to_keeper(packet, &piece, origin);
            }
        }
    }

    /// To the worker that keeps pieces between these hosts, which may be this one.
    fn pass_to_keeper(&mut self, packet: P::Packet, piece: &AnyPiece, origin: Origin) {
        let keeper = self.flows.keeper(piece);
        match origin {
            _ if keeper == self.flows.me() => self.keep(packet, piece),
            Origin::Port => self.hand_over(packet, keeper),
            Origin::Handover => self.stats.count_drop(Reason::HandoverLoop),
        }
    }

    fn keep(&mut self, packet: P::Packet, piece: &AnyPiece) {
        match piece.part() {
            Part::First | Part::Whole => self.keep_first(packet, piece),
            Part::Unfit(reason) => {
                self.stats.count_drop(reason);
                let waited = self.fragments.refuse(piece.name(), self.flows.now_ms());
                self.stats.drops[Reason::Fragment as usize].add(waited as u64);
            }
            Part::Later | Part::Foreign => self.keep_later(packet, piece),
        }
    }

    fn keep_first(&mut self, packet: P::Packet, piece: &AnyPiece) {
        let ports = piece.ports();
        self.fragments.learn(piece.name(), ports, self.flows.now_ms());
        self.pass_to_owner(packet, piece, ports);
        while let Some((held, ports)) = self.fragments.released() {
            match AnyPiece::read(held.data()) {
                Ok(piece) => self.pass_to_owner(held, &piece, ports),
                Err(reason) => self.stats.count_drop(reason),
            }
        }
    }

    fn keep_later(&mut self, packet: P::Packet, piece: &AnyPiece) {
        match self.fragments.later(piece.name(), packet, self.flows.now_ms()) {
            Outcome::Known(packet, ports) => self.pass_to_owner(packet, piece, ports),
            Outcome::Held => {}
            Outcome::Refused(_, Refusal::First) => self.stats.count_drop(Reason::Fragment),
            Outcome::Refused(_, Refusal::Limit) => self.stats.count_drop(Reason::FragmentLimit),
        }
    }

    /// To the worker that owns the flow, which may be this one; to the kernel, if the flow is none
    /// of ours. A tag of 0 says nothing, so ports that are both 0 are not handed over.
    fn pass_to_owner(&mut self, mut packet: P::Packet, piece: &AnyPiece, ports: u32) {
        match self.flows.piece_owner(piece, ports) {
            None => self.give_to_kernel(packet, PuntClass::Other),
            Some(owner) if owner == self.flows.me() => self.follow(packet, piece, ports),
            Some(_) if ports == 0 => self.stats.count_drop(Reason::Fragment),
            Some(owner) => {
                packet.set_tag(ports);
                self.hand_over(packet, owner);
            }
        }
    }

    fn follow(&mut self, mut packet: P::Packet, piece: &AnyPiece, ports: u32) {
        let fate = self.flows.piece(&mut packet, piece, ports);
        self.dispatch(packet, fate, Origin::Handover);
    }

    /// Counts pieces that waited in vain.
    pub(super) fn forget_pieces(&mut self, now_ms: u32) {
        let dropped = self.fragments.tick(now_ms);
        self.stats.drops[Reason::FragmentTimeout as usize].add(dropped.too_old as u64);
        self.stats.drops[Reason::FragmentLimit as usize].add(dropped.made_room as u64);
    }

    /// Cuts a packet longer than `mtu`, and sends the pieces.
    #[cold]
    pub(super) fn cut(&mut self, packet: P::Packet, port: PortId, mtu: u16) {
        let identification = self.flows.next_identification();
        let mut send = |piece| self.send(piece, port);
        if cut::cut(packet, ether::LEN, mtu.into(), identification, &mut send).is_err() {
            self.stats.count_drop(Reason::Uncut);
        }
    }
}
