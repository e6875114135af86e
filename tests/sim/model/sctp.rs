//! What IPVS makes of SCTP chunks, written down a second time: from the table of its states, not
//! from the tables of the balancer.
//!
//! The first chunk decides, but for an ABORT right behind a cookie. What is not listed keeps its
//! state.

use shunt::dataplane::snapshot::Timeouts;

use super::states::Seat;
use crate::packet::chunk::{
    ABORT, COOKIE_ACK, COOKIE_ECHO, ERROR, INIT, INIT_ACK, SHUTDOWN, SHUTDOWN_ACK,
    SHUTDOWN_COMPLETE,
};

/// In the order of the reference, in which "from … to" is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Association {
    SctpNone,
    SctpInit1,
    SctpInit,
    SctpCookieSent,
    SctpCookieReplied,
    SctpCookieWait,
    SctpCookie,
    SctpCookieEchoed,
    SctpEstablished,
    SctpShutdownSent,
    SctpShutdownReceived,
    SctpShutdownAckSent,
    SctpRejected,
    SctpClosed,
}

use Association::{
    SctpClosed as Closed, SctpCookie as Cookie, SctpCookieEchoed as Echoed,
    SctpCookieReplied as Replied, SctpCookieSent as Sent, SctpCookieWait as Wait,
    SctpEstablished as Established, SctpInit as Init, SctpInit1 as Init1, SctpNone as None,
    SctpRejected as Rejected, SctpShutdownAckSent as AckSent, SctpShutdownReceived as Received,
    SctpShutdownSent as ShutdownSent,
};
use Seat::{Input, InputOnly, Output};

/// The chunk that counts.
pub(super) fn event(chunks: &[u8]) -> u8 {
    let length = usize::from(u16::from_be_bytes([chunks[2], chunks[3]]));
    let second = chunks.get(length.next_multiple_of(4)).copied();
    match (chunks[0], second) {
        (COOKIE_ECHO | COOKIE_ACK, Some(ABORT)) => ABORT,
        (first, _) => first,
    }
}

impl Association {
    /// Begun and not established, or refused.
    pub(super) fn is_unsettled(self) -> bool {
        (Init1..=Echoed).contains(&self) || matches!(self, Rejected | Closed)
    }

    /// The state after a packet.
    pub(super) fn after(self, seat: Seat, event: u8) -> Self {
        match event {
            INIT => self.after_init(seat),
            INIT_ACK => self.after_init_ack(seat),
            COOKIE_ECHO => self.after_cookie(seat),
            COOKIE_ACK => self.after_cookie_ack(seat),
            SHUTDOWN | SHUTDOWN_ACK | SHUTDOWN_COMPLETE => self.after_shutdown(seat, event),
            ERROR | ABORT => self.after_abort(seat, event),
            _ => match (seat, self) {
                (_, None) | (InputOnly, Wait) => Established,
                (_, same) => same,
            },
        }
    }

    fn after_init(self, seat: Seat) -> Self {
        match (seat, self) {
            (Output, Established) => Established,
            (Output, _) => Wait,
            (_, None) => Init1,
            (_, Init1 | Rejected | Closed) | (InputOnly, Sent | Replied | Wait) => Init,
            (_, same) => same,
        }
    }

    fn after_init_ack(self, seat: Seat) -> Self {
        match (seat, self) {
            (Input, None | Init1 | Init) => Wait,
            (Input, Wait) => Cookie,
            (Output, None | Init1 | Init) => Sent,
            (InputOnly, same) if same <= Wait => Echoed,
            (_, same) => same,
        }
    }

    fn after_cookie(self, seat: Seat) -> Self {
        match (seat, self) {
            (Input, None | Sent) => Replied,
            (Input, Init1) => Init,
            (Output, same) if same <= Cookie => Echoed,
            (InputOnly, same) if same <= Wait => Established,
            (_, same) => same,
        }
    }

    #[expect(clippy::match_same_arms, reason = "a row for each cell of the table")]
    fn after_cookie_ack(self, seat: Seat) -> Self {
        match (seat, self) {
            (Input, None | Echoed) => Established,
            (Output, same) if same <= Echoed => Established,
            (InputOnly, None | Sent | Replied | Cookie | Echoed) => Established,
            (_, same) => same,
        }
    }

    #[expect(clippy::match_same_arms, reason = "a row for each cell of the table")]
    fn after_shutdown(self, seat: Seat, event: u8) -> Self {
        match (event, seat, self) {
            (SHUTDOWN, Input | InputOnly, None | Established) => Received,
            (SHUTDOWN, Output, same) if same <= Established => ShutdownSent,
            (SHUTDOWN_ACK, Input, None | ShutdownSent | AckSent) => Closed,
            (SHUTDOWN_ACK, Input | InputOnly, Init1) => Init,
            (
                SHUTDOWN_ACK,
                Output,
                None | Init1 | Init | Sent | Replied | ShutdownSent | Received,
            ) => AckSent,
            (SHUTDOWN_ACK, InputOnly, None | Established | ShutdownSent | AckSent) => Closed,
            (SHUTDOWN_COMPLETE, Input, None | Init1 | Init | AckSent) => Closed,
            (SHUTDOWN_COMPLETE, Output, None) => Closed,
            (
                SHUTDOWN_COMPLETE,
                InputOnly,
                None | Init1 | Init | Sent | Replied | Received | AckSent,
            ) => Closed,
            (_, _, same) => same,
        }
    }

    fn after_abort(self, seat: Seat, event: u8) -> Self {
        match (event, seat, self) {
            (ERROR, Input, None | Echoed)
            | (ERROR, Output, None | Init1 | Init | Sent | Replied)
            | (ERROR, InputOnly, None) => Closed,
            (ERROR, _, same) => same,
            (_, Input | InputOnly, Wait) | (_, Output, Init1) => Rejected,
            _ => Closed,
        }
    }

    /// Seconds of silence after which it is over.
    pub(super) fn timeout_s(self, t: &Timeouts) -> u32 {
        match self {
            None => t.sctp_none_s,
            Init1 => t.sctp_init1_s,
            Init => t.sctp_init_s,
            Sent => t.sctp_cookie_sent_s,
            Replied => t.sctp_cookie_replied_s,
            Wait => t.sctp_cookie_wait_s,
            Cookie => t.sctp_cookie_s,
            Echoed => t.sctp_cookie_echoed_s,
            Established => t.sctp_established_s,
            ShutdownSent => t.sctp_shutdown_sent_s,
            Received => t.sctp_shutdown_received_s,
            AckSent => t.sctp_shutdown_ack_sent_s,
            Rejected => t.sctp_rejected_s,
            Closed => t.sctp_closed_s,
        }
    }
}
