//! Saying no: every refusal is counted under its reason, and some are answered.
//!
//! What a sender is told when the policy is `strays = "reject"` follows IPVS: a VIP without the
//! service, or a TCP or SCTP packet of no connection, gets what the director's own stack would
//! send (RST, SCTP ABORT, or port unreachable for UDP), and so does an ACK without a right cookie; a service without a usable backend answers
//! port unreachable to all of them; a TTL that ends here answers time exceeded, as from the VIP.
//! Answers have a limit, so a flood from forged addresses is not reflected. Silence where an answer
//! would mislead: a full table, a missing next hop or exhausted ports may be over when the client
//! tries again.

use super::conn::key::FlowKey;
use super::family::Family;
use super::flows::{Fate, Flows};
use super::io::Packet;
use super::parse::Parsed;
use super::reply::{IcmpError, sctp_abort, tcp_reset};
use super::snapshot::{Protocol, Strays};
use super::verdict::Reason;

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
        let is_tcp = parsed.key.protocol == Protocol::Tcp as u8;
        let is_sctp = parsed.key.protocol == Protocol::Sctp as u8;
        let answered = self.snapshot.strays == Strays::Reject
            && self.may_answer()
            && match reason {
                Reason::NoService | Reason::BackendGone | Reason::NoConnection if is_tcp => {
                    tcp_reset(packet, parsed)
                }
                Reason::CookieBad | Reason::CookieOld => tcp_reset(packet, parsed),
                Reason::NoService | Reason::BackendGone | Reason::NoConnection if is_sctp => {
                    sctp_abort(packet, parsed)
                }
                Reason::NoService | Reason::BackendGone | Reason::NoBackend => {
                    self.report(packet, parsed, IcmpError::PortUnreachable)
                }
                Reason::TtlExpired => self.report(packet, parsed, IcmpError::TimeExceeded),
                _ => false,
            };
        self.answered(packet, answered)
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
        if self.snapshot.is_vip(to.into()) || self.snapshot.is_local(to.into()) {
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
}
