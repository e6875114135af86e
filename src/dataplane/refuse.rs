//! Saying no: every refusal is counted under its reason, and some are answered.
//!
//! What a sender is told when the policy is `strays = "reject"` follows IPVS: a VIP without the
//! service, or a TCP or SCTP packet of no connection, gets what the director's own stack would
//! send (RST, SCTP ABORT, or port unreachable for UDP); a service without a usable backend answers
//! port unreachable to all of them; a TTL that ends here answers time exceeded, as from the VIP.
//! Answers have a limit, so a flood from forged addresses is not reflected. Silence where an answer
//! would mislead: a full table, a missing next hop or exhausted ports may be over when the client
//! tries again.

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
                Reason::NoService | Reason::BackendGone | Reason::NoConnection if is_sctp => {
                    sctp_abort(packet, parsed)
                }
                Reason::NoService | Reason::BackendGone | Reason::NoBackend => {
                    let source = parsed.key.destination();
                    F::report(packet, parsed.l3, IcmpError::PortUnreachable, source)
                }
                Reason::TtlExpired => {
                    let source = parsed.key.destination();
                    F::report(packet, parsed.l3, IcmpError::TimeExceeded, source)
                }
                _ => false,
            };
        self.answered(packet, answered)
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
