//! The SCTP state machine, table for table as IPVS has it, seen from the middle as TCP's is.
//!
//! ```text
//!  client                  the pair of ends, both seen here          backend
//!    │ INIT ──────────────────────► INIT1                                │
//!    │                              COOKIE_SENT ◄───────────── INIT-ACK │
//!    │ COOKIE-ECHO ───────────────► COOKIE_REPLIED                       │
//!    │                              ESTABLISHED ◄─────────── COOKIE-ACK │
//!    │ SHUTDOWN ──────────────────► SHUTDOWN_RECEIVED                    │
//!    │                              SHUTDOWN_ACK_SENT ◄─── SHUTDOWN-ACK │
//!    │ SHUTDOWN-COMPLETE ─────────► CLOSED                               │
//! ```
//!
//! One event per packet: its first chunk's, but for one case. COOKIE-ECHO and COOKIE-ACK may be
//! bundled with what comes next (RFC 9260 section 5.1), and an ABORT there ends what they began.
//! No chunk behind the second is looked at. Chunks without a row of their own (SACK, HEARTBEAT,
//! any yet unknown) are traffic as DATA is.
//!
//! An association with several addresses is not understood: a packet from another address of the
//! same end is a stranger's. Neither verification tags nor checksums are looked at here.

use zerocopy::FromBytes;

use super::{Direction, Row, State, row};
use crate::wire::sctp::{self, Chunk};

/// The event of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Event {
    /// Payload, and everything that is none of the others.
    Data = 0,
    /// The first packet.
    Init = 1,
    /// Its answer.
    InitAck = 2,
    /// The answer's cookie, given back.
    CookieEcho = 3,
    /// The cookie was right.
    CookieAck = 4,
    /// Nothing more to send.
    Shutdown = 5,
    /// Nor here.
    ShutdownAck = 6,
    /// The end, in order.
    ShutdownComplete = 7,
    /// Something was wrong.
    Error = 8,
    /// The end, at once.
    Abort = 9,
}

const EVENTS: usize = 10;

impl Event {
    const ALL: [Self; EVENTS] = [
        Self::Data,
        Self::Init,
        Self::InitAck,
        Self::CookieEcho,
        Self::CookieAck,
        Self::Shutdown,
        Self::ShutdownAck,
        Self::ShutdownComplete,
        Self::Error,
        Self::Abort,
    ];

    /// The event with that number; data for a number out of range.
    #[inline]
    pub fn from_index(index: u8) -> Self {
        Self::ALL.get(usize::from(index)).copied().unwrap_or(Self::Data)
    }
}

/// The event of a packet with these chunks (all that follows the common header); `None` if not
/// even the first one's header is there.
#[inline]
pub fn event(chunks: &[u8]) -> Option<Event> {
    let (first, _) = Chunk::ref_from_prefix(chunks).ok()?;
    let event = of_chunk(first.kind);
    if matches!(event, Event::CookieEcho | Event::CookieAck) && aborts(first, chunks) {
        return Some(Event::Abort);
    }
    Some(event)
}

/// Is the chunk behind the first an ABORT?
#[inline]
fn aborts(first: &Chunk, chunks: &[u8]) -> bool {
    let length = usize::from(first.length.get());
    length >= sctp::CHUNK_LEN
        && chunks
            .get(length.next_multiple_of(4)..)
            .and_then(|rest| Chunk::ref_from_prefix(rest).ok())
            .is_some_and(|(second, _)| second.kind == sctp::ABORT)
}

#[inline]
fn of_chunk(kind: u8) -> Event {
    match kind {
        sctp::INIT => Event::Init,
        sctp::INIT_ACK => Event::InitAck,
        sctp::COOKIE_ECHO => Event::CookieEcho,
        sctp::COOKIE_ACK => Event::CookieAck,
        sctp::SHUTDOWN => Event::Shutdown,
        sctp::SHUTDOWN_ACK => Event::ShutdownAck,
        sctp::SHUTDOWN_COMPLETE => Event::ShutdownComplete,
        sctp::ERROR => Event::Error,
        sctp::ABORT => Event::Abort,
        _ => Event::Data,
    }
}

/// May a packet with this event make a connection? Only INIT: anything else belongs to an
/// association we do not know.
#[inline(always)]
pub fn starts(event: Event) -> bool {
    event == Event::Init
}

use State::{
    SctpClosed as Closed, SctpCookie as Cookie, SctpCookieEchoed as CookieEchoed,
    SctpCookieReplied as CookieReplied, SctpCookieSent as CookieSent, SctpCookieWait as CookieWait,
    SctpEstablished as Established, SctpInit as Init, SctpInit1 as Init1, SctpNone as None,
    SctpRejected as Rejected, SctpShutdownAckSent as ShutdownAckSent,
    SctpShutdownReceived as ShutdownReceived, SctpShutdownSent as ShutdownSent,
};

/// Packets of the client.
const INPUT: [Row; EVENTS] = [
    row(&[(&[None], Established)]),
    row(&[(&[None], Init1), (&[Init1, Rejected, Closed], Init)]),
    row(&[(&[None, Init1, Init], CookieWait), (&[CookieWait], Cookie)]),
    row(&[(&[None, CookieSent], CookieReplied), (&[Init1], Init)]),
    row(&[(&[None, CookieEchoed], Established)]),
    row(&[(&[None, Established], ShutdownReceived)]),
    row(&[(&[None, ShutdownSent, ShutdownAckSent], Closed), (&[Init1], Init)]),
    row(&[(&[None, Init1, Init, ShutdownAckSent], Closed)]),
    row(&[(&[None, CookieEchoed], Closed)]),
    row(&[(&State::SCTP, Closed), (&[CookieWait], Rejected)]),
];

/// Packets of the backend.
const OUTPUT: [Row; EVENTS] = [
    row(&[(&[None], Established)]),
    row(&[(&State::SCTP, CookieWait), (&[Established], Established)]),
    row(&[(&[None, Init1, Init], CookieSent)]),
    row(&[(&[None, Init1, Init, CookieSent, CookieReplied, CookieWait, Cookie], CookieEchoed)]),
    row(&[(
        &[None, Init1, Init, CookieSent, CookieReplied, CookieWait, Cookie, CookieEchoed],
        Established,
    )]),
    row(&[(
        &[
            None,
            Init1,
            Init,
            CookieSent,
            CookieReplied,
            CookieWait,
            Cookie,
            CookieEchoed,
            Established,
        ],
        ShutdownSent,
    )]),
    row(&[(
        &[None, Init1, Init, CookieSent, CookieReplied, ShutdownSent, ShutdownReceived],
        ShutdownAckSent,
    )]),
    row(&[(&[None], Closed)]),
    row(&[(&[None, Init1, Init, CookieSent, CookieReplied], Closed)]),
    row(&[(&State::SCTP, Closed), (&[Init1], Rejected)]),
];

/// Packets of the client when the backend's do not pass here (DR, tunnel).
const INPUT_ONLY: [Row; EVENTS] = [
    row(&[(&[None, CookieWait], Established)]),
    row(&[
        (&[None], Init1),
        (&[Init1, CookieSent, CookieReplied, CookieWait, Rejected, Closed], Init),
    ]),
    row(&[(&[None, Init1, Init, CookieSent, CookieReplied, CookieWait], CookieEchoed)]),
    row(&[(&[None, Init1, Init, CookieSent, CookieReplied, CookieWait], Established)]),
    row(&[(&[None, CookieSent, CookieReplied, Cookie, CookieEchoed], Established)]),
    row(&[(&[None, Established], ShutdownReceived)]),
    row(&[(&[None, Established, ShutdownSent, ShutdownAckSent], Closed), (&[Init1], Init)]),
    row(&[(
        &[None, Init1, Init, CookieSent, CookieReplied, ShutdownReceived, ShutdownAckSent],
        Closed,
    )]),
    row(&[(&[None], Closed)]),
    row(&[(&State::SCTP, Closed), (&[CookieWait], Rejected)]),
];

const TRANSITIONS: [[Row; EVENTS]; 3] = [INPUT, OUTPUT, INPUT_ONLY];

/// The state after a packet with this event.
#[inline(always)]
pub fn next(state: State, direction: Direction, event: Event) -> State {
    TRANSITIONS[direction as usize][event as usize][state as usize]
}

#[cfg(test)]
mod tests {
    use super::*;
    use Direction::{Input as C, InputOnly as D, Output as B};

    /// The states in their order, a letter each.
    const LETTERS: [(char, State); 14] = [
        ('N', None),
        ('1', Init1),
        ('I', Init),
        ('s', CookieSent),
        ('r', CookieReplied),
        ('w', CookieWait),
        ('c', Cookie),
        ('e', CookieEchoed),
        ('E', Established),
        ('S', ShutdownSent),
        ('R', ShutdownReceived),
        ('A', ShutdownAckSent),
        ('J', Rejected),
        ('C', Closed),
    ];

    /// The whole of the three tables: a row each event, columns as in [`LETTERS`], a letter the
    /// next state.
    #[test]
    fn every_transition_is_the_recorded_one() {
        let rows = [
            (C, Event::Data, "E1IsrwceESRAJC"),
            (C, Event::Init, "1IIsrwceESRAII"),
            (C, Event::InitAck, "wwwsrcceESRAJC"),
            (C, Event::CookieEcho, "rIIrrwceESRAJC"),
            (C, Event::CookieAck, "E1IsrwcEESRAJC"),
            (C, Event::Shutdown, "R1IsrwceRSRAJC"),
            (C, Event::ShutdownAck, "CIIsrwceECRCJC"),
            (C, Event::ShutdownComplete, "CCCsrwceESRCJC"),
            (C, Event::Error, "C1IsrwcCESRAJC"),
            (C, Event::Abort, "CCCCCJCCCCCCCC"),
            (B, Event::Data, "E1IsrwceESRAJC"),
            (B, Event::Init, "wwwwwwwwEwwwww"),
            (B, Event::InitAck, "ssssrwceESRAJC"),
            (B, Event::CookieEcho, "eeeeeeeeESRAJC"),
            (B, Event::CookieAck, "EEEEEEEEESRAJC"),
            (B, Event::Shutdown, "SSSSSSSSSSRAJC"),
            (B, Event::ShutdownAck, "AAAAAwceEAAAJC"),
            (B, Event::ShutdownComplete, "C1IsrwceESRAJC"),
            (B, Event::Error, "CCCCCwceESRAJC"),
            (B, Event::Abort, "CJCCCCCCCCCCCC"),
            (D, Event::Data, "E1IsrEceESRAJC"),
            (D, Event::Init, "1IIIIIceESRAII"),
            (D, Event::InitAck, "eeeeeeceESRAJC"),
            (D, Event::CookieEcho, "EEEEEEceESRAJC"),
            (D, Event::CookieAck, "E1IEEwEEESRAJC"),
            (D, Event::Shutdown, "R1IsrwceRSRAJC"),
            (D, Event::ShutdownAck, "CIIsrwceCCRCJC"),
            (D, Event::ShutdownComplete, "CCCCCwceESCCJC"),
            (D, Event::Error, "C1IsrwceESRAJC"),
            (D, Event::Abort, "CCCCCJCCCCCCCC"),
        ];
        assert_eq!(rows.len(), EVENTS * TRANSITIONS.len());
        for (direction, event, expected) in rows {
            let next_of = |(_, state): &(char, State)| {
                let to = next(*state, direction, event);
                LETTERS.iter().find(|(_, state)| *state == to).map_or('?', |(letter, _)| *letter)
            };
            let got: String = LETTERS.iter().map(next_of).collect();
            assert_eq!(got, expected, "{direction:?} {event:?}");
        }
    }

    #[test]
    fn a_state_of_another_protocol_is_left_alone() {
        let others = State::ALL.into_iter().filter(|state| !State::SCTP.contains(state));
        for state in others {
            for direction in [C, B, D] {
                for event in (0..=u8::MAX).map(of_chunk) {
                    assert_eq!(next(state, direction, event), state);
                }
            }
        }
    }

    #[test]
    fn ordinary_lives_pass_through_the_recorded_states() {
        type Step = (Direction, Event, State);
        let rows: &[(&str, &[Step])] = &[
            (
                "client closes",
                &[
                    (C, Event::Init, Init1),
                    (B, Event::InitAck, CookieSent),
                    (C, Event::CookieEcho, CookieReplied),
                    (B, Event::CookieAck, Established),
                    (C, Event::Data, Established),
                    (B, Event::Data, Established),
                    (C, Event::Shutdown, ShutdownReceived),
                    (B, Event::ShutdownAck, ShutdownAckSent),
                    (C, Event::ShutdownComplete, Closed),
                    (C, Event::Init, Init),
                ],
            ),
            (
                "backend closes",
                &[
                    (C, Event::Init, Init1),
                    (B, Event::InitAck, CookieSent),
                    (C, Event::CookieEcho, CookieReplied),
                    (B, Event::CookieAck, Established),
                    (B, Event::Shutdown, ShutdownSent),
                    (C, Event::ShutdownAck, Closed),
                    (B, Event::ShutdownComplete, Closed),
                ],
            ),
            ("nobody listens", &[(C, Event::Init, Init1), (B, Event::Abort, Rejected)]),
            (
                "DR",
                &[
                    (D, Event::Init, Init1),
                    (D, Event::CookieEcho, Established),
                    (D, Event::Data, Established),
                    (D, Event::Shutdown, ShutdownReceived),
                    (D, Event::ShutdownComplete, Closed),
                ],
            ),
        ];
        for (name, steps) in rows {
            let mut state = None;
            for (i, (direction, event, expected)) in steps.iter().enumerate() {
                state = next(state, *direction, *event);
                assert_eq!(state, *expected, "{name}, step {i}");
            }
        }
    }

    #[test]
    fn the_first_chunk_counts_but_for_an_abort_behind_a_cookie() {
        const ECHO: u8 = sctp::COOKIE_ECHO;
        const ACK: u8 = sctp::COOKIE_ACK;
        const ABORT: u8 = sctp::ABORT;
        let rows: &[(&str, &[u8], Option<Event>)] = &[
            ("no chunk", &[], Option::None),
            ("half a header", &[1, 0, 0], Option::None),
            ("INIT", &[1, 0, 0, 4], Some(Event::Init)),
            ("INIT cut short", &[1, 0, 0, 20, 7], Some(Event::Init)),
            ("SACK is traffic", &[3, 0, 0, 4], Some(Event::Data)),
            ("unknown is traffic", &[200, 0, 0, 4], Some(Event::Data)),
            ("cookie, then data", &[ECHO, 0, 0, 4, 0, 3, 0, 4], Some(Event::CookieEcho)),
            ("cookie, then abort", &[ECHO, 0, 0, 4, ABORT, 0, 0, 4], Some(Event::Abort)),
            ("answer, then abort", &[ACK, 0, 0, 4, ABORT, 0, 0, 4], Some(Event::Abort)),
            (
                "padding is skipped",
                &[ECHO, 0, 0, 5, 9, 0, 0, 0, ABORT, 0, 0, 4],
                Some(Event::Abort),
            ),
            ("data, then abort", &[0, 3, 0, 4, ABORT, 0, 0, 4], Some(Event::Data)),
            ("an abort cut short", &[ECHO, 0, 0, 4, ABORT, 0, 0], Some(Event::CookieEcho)),
            ("a length of 3", &[ECHO, 0, 0, 3, ABORT, 0, 0, 4], Some(Event::CookieEcho)),
            ("a length of 0", &[ECHO, 0, 0, 0, ABORT, 0, 0, 4], Some(Event::CookieEcho)),
            ("a length beyond all", &[ECHO, 0, 255, 255, ABORT, 0, 0, 4], Some(Event::CookieEcho)),
            (
                "an abort in third place",
                &[ECHO, 0, 0, 4, 0, 3, 0, 4, ABORT, 0, 0, 4],
                Some(Event::CookieEcho),
            ),
        ];
        for (name, chunks, expected) in rows {
            assert_eq!(event(chunks), *expected, "{name}");
        }
    }

    #[test]
    fn chunk_types_are_numbered_as_in_rfc_9260_and_only_init_starts() {
        let rows = [
            (0, Event::Data),
            (1, Event::Init),
            (2, Event::InitAck),
            (6, Event::Abort),
            (7, Event::Shutdown),
            (8, Event::ShutdownAck),
            (9, Event::Error),
            (10, Event::CookieEcho),
            (11, Event::CookieAck),
            (14, Event::ShutdownComplete),
        ];
        for kind in 0..=u8::MAX {
            let expected = rows.iter().find(|row| row.0 == kind).map_or(Event::Data, |row| row.1);
            assert_eq!(event(&[kind, 0, 0, 4]), Some(expected), "type {kind}");
        }
        let starters = rows.into_iter().filter(|(_, event)| starts(*event));
        assert_eq!(starters.collect::<Vec<_>>(), [(1, Event::Init)]);
    }
}
