//! What IPVS makes of TCP flags, written down a second time: from the list of transitions in its
//! documentation, not from the tables of the balancer.
//!
//! One event per packet, by precedence RST, SYN, FIN, ACK; no flag at all goes to CLOSE. What is
//! not listed keeps its state.

use shunt::dataplane::snapshot::Timeouts;

use super::sctp::{self, Association};
use crate::packet::{ACK, Body, FIN, Packet, RST, SYN};

/// The states of IPVS that a connection can get into, and those of UDP. (LISTEN, `LAST_ACK` and
/// SYNACK have ways out in its tables, but none in.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    None,
    Established,
    SynSent,
    SynRecv,
    FinWait,
    TimeWait,
    Close,
    CloseWait,
    /// The backend has answered; where it does so past the balancer, the client has gone on.
    Udp,
    /// Made, nothing has passed.
    UdpNone,
    /// One datagram of the client.
    UdpAsked,
    /// More of them.
    UdpUnanswered,
    Sctp(Association),
}

/// Whose packet, and does the other side's traffic pass here?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seat {
    /// The client, and answers pass (FULL-NAT, NAT).
    Input,
    /// The backend.
    Output,
    /// The client, and answers do not pass (DR, tunnel).
    InputOnly,
}

use State::{
    Close, CloseWait, Established, FinWait, None, SynRecv, SynSent, TimeWait, Udp, UdpAsked,
    UdpNone, UdpUnanswered,
};

impl State {
    /// The state after a packet.
    pub(crate) fn after(self, seat: Seat, packet: &Packet) -> Self {
        match self {
            Udp | UdpNone | UdpAsked | UdpUnanswered => return self.after_datagram(seat),
            Self::Sctp(state) => {
                return Self::Sctp(state.after(seat, sctp::event(&packet.payload)));
            }
            _ => {}
        }
        let Body::Tcp { flags, .. } = packet.body else { return self };
        if flags & RST != 0 {
            self.after_reset(seat)
        } else if flags & SYN != 0 {
            self.after_syn(seat)
        } else if flags & FIN != 0 {
            self.after_fin(seat)
        } else if flags & ACK != 0 {
            self.after_ack()
        } else {
            Close
        }
    }

    fn after_datagram(self, seat: Seat) -> Self {
        match (seat, self) {
            (Seat::Output, _) | (Seat::InputOnly, UdpAsked) => Udp,
            (_, UdpNone) => UdpAsked,
            (Seat::Input, UdpAsked) => UdpUnanswered,
            (_, same) => same,
        }
    }

    fn after_syn(self, seat: Seat) -> Self {
        match (seat, self) {
            (Seat::Output, None | FinWait | TimeWait | Close | CloseWait) => SynSent,
            (Seat::Output, same) => same,
            (_, SynSent) => Established,
            (_, None | FinWait | TimeWait | Close | CloseWait) => SynRecv,
            (_, same) => same,
        }
    }

    fn after_fin(self, seat: Seat) -> Self {
        match (seat, self) {
            (Seat::Input | Seat::InputOnly, None) => Close,
            (Seat::Input, Established) => CloseWait,
            (Seat::Output | Seat::InputOnly, Established) => FinWait,
            (_, SynRecv) | (Seat::Input, FinWait) | (Seat::Output, None | CloseWait) => TimeWait,
            (_, same) => same,
        }
    }

    fn after_ack(self) -> Self {
        match self {
            None | SynRecv => Established,
            same => same,
        }
    }

    fn after_reset(self, seat: Seat) -> Self {
        match (seat, self) {
            (Seat::Output, None | Established | SynRecv | FinWait | CloseWait) => Close,
            (Seat::Output, same) => same,
            (_, None | Established | SynSent | FinWait | TimeWait | CloseWait) => Close,
            (_, same) => same,
        }
    }

    /// Its name, as the balancer lists it.
    pub(crate) fn name(self) -> String {
        match self {
            Self::Sctp(state) => format!("{state:?}"),
            state => format!("{state:?}"),
        }
    }

    /// Closed on both sides: a SYN starts another connection in its place.
    pub(crate) fn is_closed(self) -> bool {
        matches!(self, TimeWait | Close | Self::Sctp(Association::SctpClosed))
    }

    /// Closed, or not yet agreed on by both: at weight 0 a SYN starts another in its place.
    pub(crate) fn is_unsettled(self) -> bool {
        self.is_closed()
            || matches!(self, SynSent | SynRecv)
            || matches!(self, Self::Sctp(state) if state.is_unsettled())
    }

    /// Do both ends talk?
    pub(crate) fn is_open(self) -> bool {
        matches!(self, Established | Udp | UdpUnanswered | Self::Sctp(Association::SctpEstablished))
    }

    /// Milliseconds of silence after which it is over.
    pub(crate) fn timeout_ms(self, t: &Timeouts) -> u64 {
        let seconds = match self {
            None => t.tcp_none_s,
            Established => t.tcp_established_s,
            SynSent => t.tcp_syn_sent_s,
            SynRecv => t.tcp_syn_recv_s,
            FinWait => t.tcp_fin_wait_s,
            TimeWait => t.tcp_time_wait_s,
            Close => t.tcp_close_s,
            CloseWait => t.tcp_close_wait_s,
            Udp | UdpNone | UdpAsked | UdpUnanswered => t.udp_s,
            Self::Sctp(state) => state.timeout_s(t),
        };
        u64::from(seconds) * 1000
    }
}
