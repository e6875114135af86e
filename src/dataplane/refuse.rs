//! Saying no: every refusal is counted under its reason, and some are answered.
//!
//! What a sender is told when the policy is `strays = "reject"` follows IPVS: a VIP without the
//! service, or a TCP or SCTP packet of no connection, gets what the director's own stack would
//! send (RST, SCTP ABORT, or port unreachable for UDP), and so does an ACK without a right cookie; a
//! service without a usable backend, or with none but the client itself, answers port unreachable to
//! all of them; a TTL that ends here answers time exceeded, as from the VIP. Answers have a limit, so a flood from forged addresses is not reflected: one for what strays and
//! refused clients are told, another for what path MTU and traceroute live on, which the first, however
//! used up, does not silence. Silence where an answer
//! would mislead: a full table, a missing next hop or exhausted ports may be over when the client
//! tries again; nor is a backend told to give up a connection that its client may yet bring here from
//! another box (`sloppy`). And a stray with a wrong checksum is not answered, as no host would: who
//! knows whose it was.

use zerocopy::FromBytes;

use super::conn::key::FlowKey;
use super::family::Family;
use super::flows::{Fate, Flows};
use super::handshake::{in_pieces, segment_of};
use super::io::{ChecksumVerdict, Packet};
use super::parse::Parsed;
use super::reply::{IcmpError, sctp_abort, tcp_reset};
use super::rewrite::cross::lacks_checksum;
use super::snapshot::{Protocol, Strays};
use super::verdict::Reason;
use crate::wire::{checksum, udp};

/// What the sender of a refused packet is told.
enum Answer {
    Reset,
    Abort,
    Error(IcmpError),
}

impl Flows {
    /// Refuses a packet, and answers it where the reason and the policy ask for that.
    #[cold]
    pub(super) fn refuse<F: Family, P: Packet>(
        &mut self,
        packet: &mut P,
        parsed: &Parsed<F>,
        reason: Reason,
    ) -> Fate {
        self.stats.count_drop(reason);
        let answered = match self.answer_to(parsed.key.protocol, reason) {
            // A client may yet come over whose connection this is: see `Service::sloppy`.
            _ if reason == Reason::NoConnection && self.is_patient(parsed.key) => false,
            Some(Answer::Reset) if !is_intact(packet, parsed) => false,
            Some(Answer::Error(IcmpError::PortUnreachable))
                if is_stray(reason) && !is_intact(packet, parsed) =>
            {
                false
            }
            // Only what would be answered counts against a limit.
            Some(Answer::Error(IcmpError::TimeExceeded)) => {
                self.may_guide() && self.report(packet, parsed, IcmpError::TimeExceeded)
            }
            Some(answer) if self.may_answer() => match answer {
                Answer::Reset => tcp_reset(packet, parsed),
                Answer::Abort => sctp_abort(packet, parsed),
                Answer::Error(error) => self.report(packet, parsed, error),
            },
            _ => false,
        };
        self.answered(packet, answered)
    }

    /// What the sender of a refused packet is told, if anything. Strays may be met with silence;
    /// a TTL that ends here and a service without backends are none.
    fn answer_to(&self, protocol: u8, reason: Reason) -> Option<Answer> {
        let is_stray = is_stray(reason);
        if is_stray && self.snapshot.strays == Strays::Drop {
            return None;
        }
        match (reason, Protocol::from_number(protocol)) {
            (Reason::NoBackend | Reason::Hairpin, _) => {
                Some(Answer::Error(IcmpError::PortUnreachable))
            }
            (Reason::TtlExpired, _) => Some(Answer::Error(IcmpError::TimeExceeded)),
            (_, Some(Protocol::Tcp)) if is_stray => Some(Answer::Reset),
            (_, Some(Protocol::Sctp)) if is_stray => Some(Answer::Abort),
            (_, Some(Protocol::Udp)) if is_stray => Some(Answer::Error(IcmpError::PortUnreachable)),
            _ => None,
        }
    }

    /// Is it a backend's packet whose connection its client's next packet will make?
    fn is_patient<F: Family>(&self, key: FlowKey<F>) -> bool {
        let source = key.source().into();
        self.snapshot.is_sloppy_backend(source, key.source_port(), key.protocol)
    }

    /// Turns a packet into the ICMP error its sender gets; false if it gets none.
    pub(super) fn report<F: Family, P: Packet>(
        &self,
        packet: &mut P,
        parsed: &Parsed<F>,
        error: IcmpError,
    ) -> bool {
        let source = self.speaker(parsed.key);
        source.is_some_and(|source| F::report(packet, parsed.l3, error, source))
    }

    /// Who we are to the sender of a packet: whom it talks to. A NAT backend talks to clients
    /// themselves; to it we are the router it reaches them by.
    fn speaker<F: Family>(&self, key: FlowKey<F>) -> Option<F> {
        let to = key.destination();
        if self.snapshot.has_clients_at(to.into()) || self.snapshot.has_backends_at(to.into()) {
            return Some(to);
        }
        let ours = self.snapshot.towards_nat_backend(key.source().into());
        ours.filter(|ours| !ours.is_unspecified()).and_then(F::of)
    }

    /// Sends what has become an answer back where it came from; frees what has not.
    pub(super) fn answered<P: Packet>(&self, packet: &P, is_answer: bool) -> Fate {
        self.stats.run.replied.add(u64::from(is_answer));
        if is_answer { Fate::Send(packet.port()) } else { Fate::Free }
    }

    /// Is there allowance left for an answer? Without, the sender of a flood gets none.
    pub(super) fn may_answer(&mut self) -> bool {
        let may = self.replies.take();
        self.stats.run.unanswered.add(u64::from(!may));
        may
    }

    /// The same for what path MTU and traceroute live on, which no flood of strays shall silence.
    pub(super) fn may_guide(&mut self) -> bool {
        let may = self.guidance.take();
        self.stats.run.unanswered.add(u64::from(!may));
        may
    }
}

/// Is it a packet that belongs to nothing here?
fn is_stray(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::NoService
            | Reason::BackendGone
            | Reason::NoConnection
            | Reason::CookieBad
            | Reason::CookieOld
    )
}

/// Is the checksum of a TCP or UDP packet right, as far as that can be told? Of a piece it cannot.
pub(super) fn is_intact<F: Family, P: Packet>(packet: &P, parsed: &Parsed<F>) -> bool {
    let (frame, protocol) = (packet.data(), parsed.key.protocol);
    if packet.rx_info().l4_checksum == ChecksumVerdict::Good || in_pieces(frame, parsed) {
        return true;
    }
    let Some(segment) = segment_of(frame, parsed) else { return false };
    let is_right = |bytes| checksum::sum_l4(parsed.key.addresses, protocol, bytes) == 0xffff;
    if protocol != Protocol::Udp as u8 {
        return is_right(segment);
    }
    // A datagram may end before its packet does.
    let Ok((header, _)) = udp::Header::ref_from_prefix(segment) else { return false };
    let datagram = segment.get(..usize::from(header.length.get()));
    lacks_checksum(segment, protocol) || datagram.is_some_and(is_right)
}
