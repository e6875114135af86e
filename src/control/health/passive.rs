//! Passive checks: what workers see of real connections, in the place of a question.
//!
//! ```text
//! workers count (stats/answers.rs) ─ once a second ─► a row of unanswered connections ─► fall: down
//!                                                         ▲ an answer: 0                   │
//!                                                         └──── rests, then is tried ◄─────┘
//! ```
//!
//! A row is so many connections without an answer, and no answer to anybody in between; workers' counts are summed,
//! so a second in which anybody was answered is a second that begins the row anew. What is the backend's fault
//! and what is the client's, the data path has told apart.
//!
//! **Late news.** A client that asks again is seen at once. One that does not is counted when its connection's time
//! is over, a minute after its SYN as a rule, and by then the backend may have come back: such a connection counts only
//! if nobody was answered for as long as it was waited for.
//!
//! A backend that is down gets no connections, so nothing can be seen of it. After a rest it is up again, and
//! the next connections are the question. Its row begins at nothing, so those that fail first cost as many clients as
//! the first time.

use std::time::{Duration, Instant};

use crate::control::words::count;
use crate::dataplane::conn::expiry::ROUND_MS;
use crate::dataplane::conn::state::State;
use crate::dataplane::snapshot::{Protocol, Timeouts};
use crate::stats::answers::Answers;

/// Between two looks at the counts; the control thread may be late.
const LOOK: Duration = Duration::from_secs(2);
/// In which states connections wait for their backend; UDP's all last as long.
const AWAITS: [(Protocol, State); 4] = [
    (Protocol::Tcp, State::SynRecv),
    (Protocol::Udp, State::UdpAsked),
    (Protocol::Sctp, State::SctpInit1),
    (Protocol::Sctp, State::SctpInit),
];

/// When real connections take a backend down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// So many in a row without an answer.
    pub fall: u32,
    /// How long it then rests.
    pub rest: Duration,
    /// A connection that is counted because its time is over may have begun so long ago.
    pub waited: Duration,
}

impl Terms {
    /// How long a service that `speaks` these protocols keeps a connection without an answer, until it is seen
    /// to have been one.
    pub fn waited(timeouts: &Timeouts, speaks: impl Fn(Protocol) -> bool) -> Duration {
        let spoken = AWAITS.into_iter().filter(|(protocol, _)| speaks(*protocol));
        let longest = spoken.map(|(_, state)| timeouts.of(state)).max().unwrap_or(0);
        Duration::from_secs(longest.into()) + Duration::from_millis(ROUND_MS.into()) + LOOK
    }
}

/// What is known of a backend by its connections.
#[derive(Clone, Copy, Debug)]
pub struct Passive {
    /// As heard last; `None` when nothing is known of what came before.
    heard: Option<Answers>,
    /// Nobody was answered since then.
    quiet_since: Instant,
    row: u64,
    rests_until: Option<Instant>,
}

impl Passive {
    /// Nothing is known of it.
    pub fn new(now: Instant) -> Self {
        Self { heard: None, quiet_since: now, row: 0, rests_until: None }
    }

    /// Workers have counted so much of it since its id is its own.
    pub fn hear(&mut self, counted: Answers, terms: &Terms, now: Instant) {
        let Some(before) = self.heard.replace(counted) else { return };
        let more = counted.since(before);
        // It has another id, which counts from zero.
        let is_anew =
            counted.answers < before.answers || counted.unanswered() < before.unanswered();
        if self.rests_until.is_some() || is_anew {
            return;
        }
        if more.answers > 0 {
            (self.row, self.quiet_since) = (0, now);
            return;
        }
        let is_quiet = now.saturating_duration_since(self.quiet_since) > terms.waited;
        let lapsed = if is_quiet { more.lapsed } else { 0 };
        self.row = self.row.saturating_add(more.asked_again).saturating_add(lapsed);
        if self.row >= terms.fall.into() {
            self.rests_until = Some(now + terms.rest);
        }
    }

    /// Time has passed: who has rested is tried again.
    pub fn wake(&mut self, now: Instant) {
        if self.rests_until.is_some_and(|until| until <= now) {
            *self = Self { heard: self.heard, ..Self::new(now) };
        }
    }

    /// Does it let the backend serve?
    pub fn passes(&self) -> bool {
        self.rests_until.is_none()
    }

    /// Connections in a row without an answer; while it rests, those that have taken it down.
    pub fn row(&self) -> u64 {
        self.row
    }

    /// How much longer it rests.
    pub fn rests(&self, now: Instant) -> Option<Duration> {
        self.rests_until.map(|until| until.saturating_duration_since(now))
    }
}

/// Said of a backend that such a row has taken down.
pub fn unanswered(row: u64) -> String {
    let row = usize::try_from(row).unwrap_or(usize::MAX);
    format!("passive: {} in a row without an answer", count(row, "connection"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERMS: Terms =
        Terms { fall: 3, rest: Duration::from_secs(30), waited: Duration::from_secs(64) };

    /// When, what has come since the last look (answers, asked again, lapsed), and the row after it.
    type Look = (u64, (u64, u64, u64), u64);

    /// Plays looks at a backend nobody has heard of. When it went down, if it did.
    fn play(name: &str, looks: &[Look]) -> Option<u64> {
        let start = Instant::now();
        let (mut passive, mut counted) = (Passive::new(start), Answers::default());
        passive.hear(counted, &TERMS, start);
        for (second, (answers, asked_again, lapsed), row) in looks {
            let now = start + Duration::from_secs(*second);
            let (answers, asked_again, lapsed) = (*answers, *asked_again, *lapsed);
            counted = counted.and(Answers { answers, asked_again, lapsed });
            passive.hear(counted, &TERMS, now);
            assert_eq!(passive.row(), *row, "{name}, second {second}");
            if !passive.passes() {
                return Some(*second);
            }
        }
        None
    }

    #[test]
    fn a_row_is_as_many_connections_as_nobody_was_answered_between() {
        let table: &[(&str, &[Look], Option<u64>)] = &[
            ("three in a row", &[(1, (0, 2, 0), 2), (2, (0, 1, 0), 3)], Some(2)),
            ("an answer between", &[(1, (0, 2, 0), 2), (2, (1, 0, 0), 0), (3, (0, 2, 0), 2)], None),
            ("an answer in the same second", &[(1, (1, 99, 0), 0), (2, (0, 2, 0), 2)], None),
            ("nothing at all", &[(1, (0, 0, 0), 0), (900, (0, 0, 0), 0)], None),
            ("old news of one that answers", &[(50, (1, 0, 0), 0), (60, (0, 0, 99), 0)], None),
            ("old news of one that is silent", &[(1, (1, 0, 0), 0), (66, (0, 0, 3), 3)], Some(66)),
            ("both kinds", &[(70, (0, 1, 1), 2), (71, (0, 0, 1), 3)], Some(71)),
        ];
        for (name, looks, expected) in table {
            assert_eq!(play(name, looks), *expected, "{name}");
        }
    }

    #[test]
    fn who_is_down_rests_and_is_tried_again_with_a_row_of_nothing() {
        let start = Instant::now();
        let at = |second| start + Duration::from_secs(second);
        let asked_again = |asked_again| Answers { asked_again, ..Answers::default() };
        let mut passive = Passive::new(start);
        passive.hear(asked_again(0), &TERMS, at(0));
        passive.hear(asked_again(3), &TERMS, at(1));
        assert_eq!((passive.passes(), passive.row()), (false, 3));
        assert_eq!(passive.rests(at(11)), Some(Duration::from_secs(20)));
        // What was there before asks on.
        passive.hear(asked_again(9), &TERMS, at(20));
        passive.wake(at(30));
        assert!(!passive.passes());
        passive.wake(at(31));
        assert_eq!((passive.passes(), passive.row(), passive.rests(at(31))), (true, 0, None));
        passive.hear(asked_again(11), &TERMS, at(32));
        assert_eq!(passive.row(), 2);
        passive.hear(asked_again(12), &TERMS, at(33));
        assert!(!passive.passes());
    }

    #[test]
    fn an_id_that_counts_anew_says_nothing_of_the_backend() {
        let start = Instant::now();
        let mut passive = Passive::new(start);
        let asked_again = |asked_again| Answers { asked_again, ..Answers::default() };
        for (counted, row) in [(50, 0), (52, 2), (1, 2), (2, 3)] {
            passive.hear(asked_again(counted), &TERMS, start);
            assert_eq!(passive.row(), row, "{counted}");
        }
    }

    #[test]
    fn late_news_is_as_late_as_a_connection_of_the_services_protocols_waits_for_its_backend() {
        let timeouts =
            Timeouts { tcp_syn_recv_s: 7, udp_s: 9, sctp_init_s: 8, ..Timeouts::default() };
        for (protocol, seconds) in [(Protocol::Tcp, 7), (Protocol::Udp, 9), (Protocol::Sctp, 8)] {
            let waited = Terms::waited(&timeouts, |spoken| spoken == protocol);
            assert_eq!(waited, Duration::from_secs(seconds + 2 + 2), "{protocol}");
        }
        assert_eq!(Terms::waited(&timeouts, |_| true), Duration::from_secs(9 + 2 + 2));
    }
}
