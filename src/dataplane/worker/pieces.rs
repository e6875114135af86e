//! The worker's part in packets that come in pieces, and in those that leave in pieces.
//!
//! Here and not among the decisions, because pieces are held, released and made: packets change
//! hands. What is decided about each is in [`crate::dataplane::pieces`].

use super::Worker;
use crate::dataplane::flows::{Fate, Origin, PuntClass};
use crate::dataplane::frag::{Outcome, Refusal, Told};
use crate::dataplane::io::{Packet, Platform};
use crate::dataplane::pieces::{AnyPiece, Part};
use crate::dataplane::rewrite::cut;
use crate::dataplane::verdict::Reason;
use crate::ids::{PortId, WorkerId};
use crate::wire::ether;

impl<P: Platform> Worker<P> {
    /// A piece of a packet of ours, or of one that a peer handed over.
    #[cold]
    pub(super) fn piece(&mut self, packet: P::Packet, origin: Origin) {
        let piece = match AnyPiece::read(packet.data()) {
            Ok(piece) => piece,
            Err(reason) => return self.stats.count_drop(reason),
        };
        // The keeper has found out what there is to know, and that its flow is ours.
        if origin == Origin::Handover && packet.tag() != 0 {
            let told = piece.untagged(packet.tag());
            return self.follow(packet, &piece, told);
        }
        match piece.part() {
            Part::Foreign => {
                let fate = self.flows.foreign_piece(&piece);
                self.dispatch(packet, fate, Origin::Handover);
            }
            Part::Whole => self.pass_to_owner(packet, &piece, piece.told()),
            Part::First | Part::FirstOfCrc | Part::Unfit(_) | Part::Later => {
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
            Part::FirstOfCrc => {
                let now_ms = self.flows.now_ms();
                let outcome = self.fragments.wait(piece.name(), piece.told().ports, packet, now_ms);
                self.kept(piece, outcome);
            }
            Part::Unfit(reason) => {
                self.stats.count_drop(reason);
                let waited = self.fragments.refuse(piece.name(), self.flows.now_ms());
                self.stats.drops[Reason::Fragment as usize].add(waited as u64);
            }
            Part::Later | Part::Foreign => self.keep_later(packet, piece),
        }
    }

    fn keep_first(&mut self, packet: P::Packet, piece: &AnyPiece) {
        let told = piece.told();
        self.fragments.learn(piece.name(), told.ports, self.flows.now_ms());
        self.pass_to_owner(packet, piece, told);
        self.release();
    }

    fn keep_later(&mut self, packet: P::Packet, piece: &AnyPiece) {
        let (name, now_ms) = (piece.name(), self.flows.now_ms());
        let outcome = match piece.end() {
            Some(length) => self.fragments.last(name, length, packet, now_ms),
            None => self.fragments.later(name, packet, now_ms),
        };
        self.kept(piece, outcome);
    }

    fn kept(&mut self, piece: &AnyPiece, outcome: Outcome<P::Packet>) {
        match outcome {
            Outcome::Known(packet, ports) => {
                self.pass_to_owner(packet, piece, Told { ports, length: 0 });
            }
            Outcome::Held => self.release(),
            Outcome::Refused(_, Refusal::First) => self.stats.count_drop(Reason::Fragment),
            Outcome::Refused(_, Refusal::Limit) => self.stats.count_drop(Reason::FragmentLimit),
        }
    }

    /// Sends on what waits no longer.
    fn release(&mut self) {
        while let Some((held, told)) = self.fragments.released() {
            match AnyPiece::read(held.data()) {
                Ok(piece) => self.pass_to_owner(held, &piece, told),
                Err(reason) => self.stats.count_drop(reason),
            }
        }
    }

    /// To the worker that owns the flow, which may be this one; to the kernel, if the flow is none
    /// of ours. A tag of 0 says nothing: later pieces whose ports are both 0 are not handed over.
    fn pass_to_owner(&mut self, packet: P::Packet, piece: &AnyPiece, told: Told) {
        match self.flows.piece_owner(piece, told.ports) {
            None => self.give_to_kernel(packet, PuntClass::Other),
            Some(owner) if owner == self.flows.me() => self.follow(packet, piece, told),
            Some(owner) => self.hand_over_piece(packet, piece, told, owner),
        }
    }

    fn hand_over_piece(
        &mut self,
        mut packet: P::Packet,
        piece: &AnyPiece,
        told: Told,
        owner: WorkerId,
    ) {
        match piece.tag(told) {
            0 => self.stats.count_drop(Reason::Fragment),
            tag => {
                packet.set_tag(tag);
                self.hand_over(packet, owner);
            }
        }
    }

    fn follow(&mut self, mut packet: P::Packet, piece: &AnyPiece, told: Told) {
        match self.flows.piece(&mut packet, piece, told) {
            Fate::HandOver(owner) => self.hand_over_piece(packet, piece, told, owner),
            fate => self.dispatch(packet, fate, Origin::Handover),
        }
    }

    /// Counts pieces that waited in vain.
    #[inline]
    pub(super) fn forget_pieces(&mut self, now_ms: u32) {
        if !self.fragments.is_idle() {
            self.forget_old_pieces(now_ms);
        }
    }

    #[cold]
    fn forget_old_pieces(&mut self, now_ms: u32) {
        let dropped = self.fragments.tick(now_ms);
        self.stats.drops[Reason::FragmentTimeout as usize].add(dropped.too_old as u64);
        self.stats.drops[Reason::FragmentLimit as usize].add(dropped.made_room as u64);
    }

    /// Sends a segment behind the one that tells its backend who the client is, or neither.
    #[cold]
    pub(super) fn send_behind(&mut self, packet: P::Packet, port: PortId, mtu: u16) {
        match self.flows.segment_ahead(&packet) {
            Some(ahead) => self.send(ahead, port),
            None => return self.stats.count_drop(Reason::NoRoom),
        }
        if packet.data().len() > ether::LEN + usize::from(mtu) {
            self.cut(packet, port, mtu);
        } else {
            self.send(packet, port);
        }
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
