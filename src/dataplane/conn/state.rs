//! The TCP state machine, table for table as IPVS has it (its INPUT, OUTPUT and INPUT-ONLY tables; RFC 9293
//! names mean the *pair* of ends here, seen from the middle).
//!
//! One event per packet, by precedence RST, SYN, FIN, ACK; none of them counts as a reset of what
//! was known. A SYN+ACK from the backend is an OUTPUT SYN and leaves `SYN_RECV` as it is: only the
//! client's ACK makes ESTABLISHED. There are no sequence checks: the balancer sees no windows.
//!
//! UDP has no flags, so a datagram of either side is its only event. IPVS has one state for it; here a flow is
//! half open until somebody answers or goes on, so that a flood of forged datagrams that nobody answers fills no
//! table with what would count as talking ([`super::reclaim`]). All four are listed as `UDP`, and last for the same time:
//!
//! ```text
//! UdpNone ─ client ─► UdpAsked ─ client ─► UdpUnanswered      where answers pass (NAT, FULL-NAT)
//!                        └────── backend ──────┴──────────► Udp
//! UdpNone ─ client ─► UdpAsked ─ client ──────────────────► Udp      where they do not (DR, tunnel)
//! ```
//!
//! States of all protocols are one list, so that a record has one byte for its state and a
//! timeout is found by it; SCTP's events and tables are in [`sctp`].

pub mod sctp;

/// TCP flag bits (RFC 9293, 3.1).
pub mod flags {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Synchronise sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Reset.
    pub const RST: u8 = 0x04;
    /// Push.
    pub const PSH: u8 = 0x08;
    /// The acknowledgement field counts.
    pub const ACK: u8 = 0x10;
}

/// The state of a connection (IPVS names). TCP begins with [`State::None`], SCTP with
/// [`State::SctpNone`], UDP with [`State::UdpNone`] or, each of one datagram, with
/// [`State::OnePacket`], which stays.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[repr(u8)]
pub enum State {
    /// Made, no event yet.
    #[default]
    None = 0,
    /// Both sides talked.
    Established = 1,
    /// The backend sent SYN.
    SynSent = 2,
    /// The client sent SYN.
    SynRecv = 3,
    /// One side closed.
    FinWait = 4,
    /// Both sides closed.
    TimeWait = 5,
    /// Reset, or last ACK seen.
    Close = 6,
    /// The client closed first.
    CloseWait = 7,
    /// Waiting for the last ACK.
    LastAck = 8,
    /// Unusual.
    Listen = 9,
    /// Answered by a SYN proxy.
    Synack = 10,
    /// A UDP flow: the backend has answered; where answers do not pass, the client has gone on.
    Udp = 11,
    /// One datagram of a service that schedules each by itself.
    OnePacket = 12,
    /// UDP: made, no datagram yet.
    #[serde(rename = "UDP", skip_deserializing)]
    UdpNone = 13,
    /// UDP: the client has sent one datagram.
    #[serde(rename = "UDP", skip_deserializing)]
    UdpAsked = 14,
    /// UDP: the client goes on, and nobody has answered.
    #[serde(rename = "UDP", skip_deserializing)]
    UdpUnanswered = 15,
    /// SCTP: made, no event yet.
    SctpNone = 16,
    /// SCTP: the client sent INIT.
    SctpInit1 = 17,
    /// SCTP: it did so again.
    SctpInit = 18,
    /// SCTP: the backend answered with a cookie.
    SctpCookieSent = 19,
    /// SCTP: the client gave the cookie back.
    SctpCookieReplied = 20,
    /// SCTP: the backend sent INIT.
    SctpCookieWait = 21,
    /// SCTP: the client answered that with a cookie.
    SctpCookie = 22,
    /// SCTP: the backend gave the client's cookie back.
    SctpCookieEchoed = 23,
    /// SCTP: both sides talked.
    SctpEstablished = 24,
    /// SCTP: the backend closes.
    SctpShutdownSent = 25,
    /// SCTP: the client closes.
    SctpShutdownReceived = 26,
    /// SCTP: the backend agreed to the client's closing.
    SctpShutdownAckSent = 27,
    /// SCTP: refused at the start.
    SctpRejected = 28,
    /// SCTP: over.
    SctpClosed = 29,
}

impl State {
    /// How many states there are.
    pub const COUNT: usize = 30;

    /// Every state, by number.
    pub const ALL: [State; Self::COUNT] = [
        State::None,
        State::Established,
        State::SynSent,
        State::SynRecv,
        State::FinWait,
        State::TimeWait,
        State::Close,
        State::CloseWait,
        State::LastAck,
        State::Listen,
        State::Synack,
        State::Udp,
        State::OnePacket,
        State::UdpNone,
        State::UdpAsked,
        State::UdpUnanswered,
        State::SctpNone,
        State::SctpInit1,
        State::SctpInit,
        State::SctpCookieSent,
        State::SctpCookieReplied,
        State::SctpCookieWait,
        State::SctpCookie,
        State::SctpCookieEchoed,
        State::SctpEstablished,
        State::SctpShutdownSent,
        State::SctpShutdownReceived,
        State::SctpShutdownAckSent,
        State::SctpRejected,
        State::SctpClosed,
    ];

    /// SCTP's states, in IPVS's order.
    pub const SCTP: [State; 14] = [
        State::SctpNone,
        State::SctpInit1,
        State::SctpInit,
        State::SctpCookieSent,
        State::SctpCookieReplied,
        State::SctpCookieWait,
        State::SctpCookie,
        State::SctpCookieEchoed,
        State::SctpEstablished,
        State::SctpShutdownSent,
        State::SctpShutdownReceived,
        State::SctpShutdownAckSent,
        State::SctpRejected,
        State::SctpClosed,
    ];

    /// The state with that number; a number out of range is [`State::None`].
    #[inline(always)]
    pub fn from_index(index: u8) -> Self {
        Self::ALL.get(index as usize).copied().unwrap_or(State::None)
    }

    /// Does a connection in this state count as active for schedulers? As in IPVS, UDP's never do.
    #[inline(always)]
    pub fn is_active(self) -> bool {
        const ACTIVE: u32 = 1 << State::Established as u32
            | 1 << State::SynSent as u32
            | 1 << State::SynRecv as u32
            | 1 << State::Synack as u32
            | 1 << State::SctpEstablished as u32;
        ACTIVE >> self as u32 & 1 != 0
    }

    /// Has the client begun and the backend, as far as states tell, not said a word? TCP's stays as it is
    /// when the backend agrees: there the record knows more.
    #[inline(always)]
    pub fn awaits_backend(self) -> bool {
        const AWAITS: u32 = 1 << State::SynRecv as u32
            | 1 << State::UdpAsked as u32
            | 1 << State::UdpUnanswered as u32
            | 1 << State::SctpInit1 as u32
            | 1 << State::SctpInit as u32;
        AWAITS >> self as u32 & 1 != 0
    }

    /// Is it over for both ends, so that its places may be used for another?
    pub fn is_reusable(self) -> bool {
        matches!(self, State::TimeWait | State::Close | State::SctpClosed)
    }
}

/// How far a connection has come, whatever its protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Stage {
    /// Begun; not both ends know that the other agrees.
    HalfOpen = 0,
    /// Both ends talk, or a flow of UDP goes on.
    Open = 1,
    /// One end has said its last, the other may still talk.
    Closing = 2,
    /// Over on both sides: kept for stragglers.
    Over = 3,
    /// One datagram, whose answer is awaited.
    OnePacket = 4,
}

impl Stage {
    /// How many there are.
    pub const COUNT: usize = 5;

    /// Every one, by number.
    pub const ALL: [Stage; Self::COUNT] =
        [Self::HalfOpen, Self::Open, Self::Closing, Self::Over, Self::OnePacket];

    /// As metrics name it.
    pub fn label(self) -> &'static str {
        match self {
            Self::HalfOpen => "half_open",
            Self::Open => "open",
            Self::Closing => "closing",
            Self::Over => "over",
            Self::OnePacket => "one_packet",
        }
    }
}

impl State {
    /// Its stage.
    #[inline]
    pub fn stage(self) -> Stage {
        match self {
            State::Established | State::Udp | State::UdpUnanswered | State::SctpEstablished => {
                Stage::Open
            }
            State::FinWait
            | State::CloseWait
            | State::LastAck
            | State::SctpShutdownSent
            | State::SctpShutdownReceived
            | State::SctpShutdownAckSent => Stage::Closing,
            State::TimeWait | State::Close | State::SctpRejected | State::SctpClosed => Stage::Over,
            State::OnePacket => Stage::OnePacket,
            _ => Stage::HalfOpen,
        }
    }

    /// Is it one in which a SYN or INIT of the client may start another connection, if the terms
    /// say so? Asked of every packet: out are those that talk, that are between client and balancer
    /// only, and whose very first packet it is.
    #[inline(always)]
    pub fn may_restart(self) -> bool {
        const NEVER: u32 = 1 << State::None as u32
            | 1 << State::SctpNone as u32
            | 1 << State::Established as u32
            | 1 << State::CloseWait as u32
            | 1 << State::LastAck as u32
            | 1 << State::Synack as u32
            | 1 << State::Udp as u32
            | 1 << State::OnePacket as u32
            | 1 << State::UdpNone as u32
            | 1 << State::UdpAsked as u32
            | 1 << State::UdpUnanswered as u32
            | 1 << State::SctpEstablished as u32
            | 1 << State::SctpShutdownSent as u32
            | 1 << State::SctpShutdownReceived as u32
            | 1 << State::SctpShutdownAckSent as u32;
        NEVER >> self as u32 & 1 == 0
    }
}

/// The event of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Event {
    /// Synchronise.
    Syn = 0,
    /// Finish.
    Fin = 1,
    /// Acknowledge, and nothing above.
    Ack = 2,
    /// Reset.
    Rst = 3,
    /// No flag at all; every datagram.
    Nothing = 4,
}

const EVENTS: usize = 5;

/// Event by the low five flag bits (FIN, SYN, RST, PSH, ACK).
const EVENT_OF: [Event; 32] = {
    let mut table = [Event::Nothing; 32];
    let mut bits = 0;
    while bits < 32 {
        table[bits as usize] = if bits & flags::RST != 0 {
            Event::Rst
        } else if bits & flags::SYN != 0 {
            Event::Syn
        } else if bits & flags::FIN != 0 {
            Event::Fin
        } else if bits & flags::ACK != 0 {
            Event::Ack
        } else {
            Event::Nothing
        };
        bits += 1;
    }
    table
};

impl Event {
    /// The event of a packet with these TCP flags.
    #[inline(always)]
    pub fn of(tcp_flags: u8) -> Self {
        EVENT_OF[(tcp_flags & 31) as usize]
    }
}

type Row = [State; State::COUNT];

/// Builds a row that keeps every state but those listed.
const fn row(changes: &[(&[State], State)]) -> Row {
    let mut row = State::ALL;
    let mut c = 0;
    while c < changes.len() {
        let (from, to) = changes[c];
        let mut f = 0;
        while f < from.len() {
            row[from[f] as usize] = to;
            f += 1;
        }
        c += 1;
    }
    row
}

use State::{
    Close, CloseWait, Established, FinWait, LastAck, Listen, None, SynRecv, SynSent, Synack,
    TimeWait, Udp, UdpAsked, UdpNone, UdpUnanswered,
};

/// No flag at all: whatever was known of TCP is void.
const VOID: &[State] =
    &[None, Established, SynSent, SynRecv, FinWait, TimeWait, CloseWait, LastAck, Listen, Synack];

/// Packets of the client.
const INPUT: [Row; EVENTS] = [
    row(&[
        (&[None, FinWait, TimeWait, Close, CloseWait, LastAck, Listen, Synack], SynRecv),
        (&[SynSent], Established),
    ]),
    row(&[(&[None], Close), (&[Established], CloseWait), (&[SynRecv, FinWait, Synack], TimeWait)]),
    row(&[(&[None, SynRecv, Synack], Established), (&[LastAck], Close)]),
    row(&[
        (&[None, Established, SynSent, FinWait, TimeWait, CloseWait], Close),
        (&[Synack], SynRecv),
    ]),
    row(&[(VOID, Close), (&[UdpNone], UdpAsked), (&[UdpAsked], UdpUnanswered)]),
];

/// Packets of the backend.
const OUTPUT: [Row; EVENTS] = [
    row(&[(&[None, FinWait, TimeWait, Close, CloseWait, LastAck], SynSent), (&[Synack], SynRecv)]),
    row(&[(&[None, SynRecv, CloseWait, Synack], TimeWait), (&[Established], FinWait)]),
    row(&[(&[None, SynRecv, Listen, Synack], Established)]),
    row(&[(&[None, Established, SynRecv, FinWait, CloseWait, LastAck, Listen, Synack], Close)]),
    row(&[(VOID, Close), (&[UdpNone, UdpAsked, UdpUnanswered], Udp)]),
];

/// Packets of the client when the backend's do not pass here (DR, tunnel).
const INPUT_ONLY: [Row; EVENTS] = [
    INPUT[Event::Syn as usize],
    row(&[(&[None], Close), (&[Established], FinWait), (&[SynRecv, Synack], TimeWait)]),
    INPUT[Event::Ack as usize],
    row(&[(&[None, Established, SynSent, FinWait, TimeWait, CloseWait, Synack], Close)]),
    row(&[(VOID, Close), (&[UdpNone], UdpAsked), (&[UdpAsked], Udp)]),
];

/// Which of the three tables a packet is an event of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Direction {
    /// The client's packet, where both directions pass.
    Input = 0,
    /// The backend's packet.
    Output = 1,
    /// The client's packet, where the backend answers by itself.
    InputOnly = 2,
}

const TRANSITIONS: [[Row; EVENTS]; 3] = [INPUT, OUTPUT, INPUT_ONLY];

/// Is it an open connection's ordinary packet: an acknowledgement in [`State::Established`], with data or
/// not, or a datagram in [`State::Udp`]? Nearly all are, whoever sent it, and nothing follows. A property
/// holds this to the tables.
#[inline(always)]
pub fn keeps(state: u8, signal: u8) -> bool {
    const FIRST: u8 = flags::SYN | flags::FIN | flags::RST | flags::ACK;
    (state == State::Established as u8 && signal & FIRST == flags::ACK) || state == State::Udp as u8
}

/// The state after a packet that says `signal`: TCP flags, or the number of an SCTP event. The
/// state knows which of them it is.
#[inline(always)]
pub fn advance(state: State, direction: Direction, signal: u8) -> State {
    if state as u8 >= State::SctpNone as u8 {
        return sctp::next(state, direction, sctp::Event::from_index(signal));
    }
    next(state, direction, signal)
}

/// The state after a packet with these flags.
#[inline(always)]
pub fn next(state: State, direction: Direction, tcp_flags: u8) -> State {
    TRANSITIONS[direction as usize][Event::of(tcp_flags) as usize][state as usize]
}

#[cfg(test)]
mod tests {
    use super::*;
    use flags::{ACK, FIN, PSH, RST, SYN};

    const C: Direction = Direction::Input;
    const B: Direction = Direction::Output;
    const D: Direction = Direction::InputOnly;

    #[test]
    fn what_is_said_to_keep_a_state_keeps_it_in_the_tables() {
        let mut kept = 0;
        for state in State::ALL {
            for direction in [C, B, D] {
                for signal in (0..=u8::MAX).filter(|signal| keeps(state as u8, *signal)) {
                    assert_eq!(
                        advance(state, direction, signal),
                        state,
                        "{direction:?} {signal:#x}"
                    );
                    kept += 1;
                }
            }
        }
        assert!(kept > 0, "some packet keeps a state");
    }

    #[test]
    fn ordinary_lives_pass_through_the_recorded_states() {
        let rows: &[(&str, &[Step])] = &[
            (
                "client closes first",
                &[
                    (C, SYN, SynRecv),
                    (B, SYN | ACK, SynRecv),
                    (C, ACK, Established),
                    (C, PSH | ACK, Established),
                    (C, FIN | ACK, CloseWait),
                    (B, FIN | ACK, TimeWait),
                    (C, ACK, TimeWait),
                ],
            ),
            (
                "backend closes first",
                &[
                    (C, SYN, SynRecv),
                    (C, ACK, Established),
                    (B, FIN | ACK, FinWait),
                    (C, FIN | ACK, TimeWait),
                    (B, ACK, TimeWait),
                    (C, SYN, SynRecv),
                ],
            ),
            ("refused by the backend", &[(C, SYN, SynRecv), (B, RST | ACK, Close)]),
            ("client's reset in SYN_RECV stays", &[(C, SYN, SynRecv), (C, RST, SynRecv)]),
            (
                "DR: the client's FIN, and the ACK that follows",
                &[
                    (D, SYN, SynRecv),
                    (D, ACK, Established),
                    (D, FIN | ACK, FinWait),
                    (D, ACK, FinWait),
                ],
            ),
            ("null packet closes", &[(C, SYN, SynRecv), (C, ACK, Established), (C, 0, Close)]),
            ("SYN+FIN is a SYN", &[(C, SYN | FIN, SynRecv)]),
        ];
        assert_lives(None, rows);
    }

    /// Whoever forges one datagram, and hears no answer, has opened nothing.
    #[test]
    fn a_flow_of_udp_is_half_open_until_it_is_answered_or_goes_on() {
        let rows: &[(&str, &[Step])] = &[
            ("answered", &[(C, 0, UdpAsked), (B, 0, Udp), (C, 0, Udp), (B, 0, Udp)]),
            ("goes on", &[(C, 0, UdpAsked), (C, 0, UdpUnanswered), (C, 0, UdpUnanswered)]),
            ("answered late", &[(C, 0, UdpAsked), (C, 0, UdpUnanswered), (B, 0, Udp)]),
            ("answers do not pass", &[(D, 0, UdpAsked), (D, 0, Udp), (D, 0, Udp)]),
        ];
        assert_lives(UdpNone, rows);
        let stages = [UdpNone, UdpAsked, UdpUnanswered, Udp].map(State::stage);
        assert_eq!(stages, [Stage::HalfOpen, Stage::HalfOpen, Stage::Open, Stage::Open]);
    }

    #[test]
    fn all_states_of_udp_are_listed_as_one() {
        for state in [UdpNone, UdpAsked, UdpUnanswered, Udp] {
            assert_eq!(serde_json::to_value(state).unwrap(), "UDP", "{state:?}");
        }
        assert_eq!(serde_json::from_value::<State>("UDP".into()).unwrap(), Udp);
    }

    type Step = (Direction, u8, State);

    fn assert_lives(first: State, rows: &[(&str, &[Step])]) {
        for (name, steps) in rows {
            let mut state = first;
            for (i, (direction, flags, expected)) in steps.iter().enumerate() {
                state = next(state, *direction, *flags);
                assert_eq!(state, *expected, "{name}, step {i}");
            }
        }
    }

    #[test]
    fn a_state_is_found_by_its_number_and_any_other_number_is_none() {
        for (index, state) in (0..=u8::MAX).zip(State::ALL) {
            assert_eq!((state as u8, State::from_index(index)), (index, state));
        }
        assert_eq!(State::from_index(u8::try_from(State::COUNT).unwrap()), None);
    }

    #[test]
    fn those_are_active_that_ipvs_counts() {
        let active: Vec<State> = State::ALL.into_iter().filter(|s| s.is_active()).collect();
        assert_eq!(active, [Established, SynSent, SynRecv, Synack, State::SctpEstablished]);
    }

    #[test]
    fn what_is_over_may_make_way_for_a_new_start() {
        let reusable: Vec<State> = State::ALL.into_iter().filter(|s| s.is_reusable()).collect();
        assert_eq!(reusable, [TimeWait, Close, State::SctpClosed]);
    }

    /// The whole of both tables, state by state, in the notation of the source's own rows:
    /// columns are the states 0..=10, letters name the next state.
    #[test]
    fn every_transition_is_the_recorded_one() {
        let name = |s: State| match s {
            None => 'N',
            Established => 'E',
            SynSent => 'S',
            SynRecv => 'R',
            FinWait => 'F',
            TimeWait => 'T',
            Close => 'C',
            CloseWait => 'W',
            LastAck => 'A',
            Listen => 'L',
            Synack => 'K',
            _ => '?',
        };
        let rows = [
            (C, SYN, "REERRRRRRRR"),
            (C, FIN, "CWSTTTCWALT"),
            (C, ACK, "EESEFTCWCLE"),
            (C, RST, "CCCRCCCCALR"),
            (B, SYN, "SESRSSSSSLR"),
            (B, FIN, "TFSTFTCTALT"),
            (B, ACK, "EESEFTCWAEE"),
            (B, RST, "CCSCCTCCCCC"),
            (D, SYN, "REERRRRRRRR"),
            (D, FIN, "CFSTFTCWALT"),
            (D, ACK, "EESEFTCWCLE"),
            (D, RST, "CCCRCCCCALC"),
        ];
        for (direction, flag, expected) in rows {
            let got: String =
                State::ALL[..11].iter().map(|s| name(next(*s, direction, flag))).collect();
            assert_eq!(got, expected, "{direction:?} {flag:#x}");
        }
    }
}
