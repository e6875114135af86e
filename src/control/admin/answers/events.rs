//! `GET /watch`: what happens, as it happens, to everybody who watches.
//!
//! ```text
//! control loop ─► Bulletin ─► a ring of lines, one for all watchers ─┬─► Watcher ─► answer's body
//!                                                                    └─► Watcher ─► …
//! ```
//!
//! **Lines of JSON** and not server-sent events: `curl -N | jq` and every language's line reader take them as they are, a
//! line is what `shunt trace` answers with too, and what SSE would add (reconnecting with the last id) needs a
//! history that nobody keeps here. Who comes anew asks how things are.
//!
//! **Who is slow loses, and nobody else.** The ring holds the last [`KEPT`] events. A watcher that is further behind
//! is told how many it has lost and goes on with the oldest that is left. So a watcher costs a place in the ring's
//! list of readers, whatever it does, and the control loop never waits for one.
//!
//! A line comes at least every [`STILL`], so that either end finds out that the other has gone.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::{broadcast, oneshot};

use crate::control::admin::view::ReloadResult;
use crate::stats::http::HttpStats;

/// Events that are kept for who is behind.
pub const KEPT: usize = 4096;
/// Watchers at a time.
pub const WATCHERS_MAX: usize = 16;
/// A line at least this often.
pub const STILL: Duration = Duration::from_secs(15);
/// Lines of a change that an event tells; how many more there are it tells, too.
pub const CHANGES_MAX: usize = 50;
/// Bytes sent at once, about.
const CHUNK: usize = 64 << 10;

/// The parameters of the request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Parameters {
    /// End after so many events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
}

/// A line of the answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    /// Grows by one with each event since the daemon's start. Lines that are no event, but about the watch
    /// itself, have the number of the event before.
    pub number: u64,
    /// Unix time, in milliseconds.
    pub at_ms: u64,
    /// What has happened.
    #[serde(flatten)]
    pub what: What,
}

/// What has happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum What {
    /// The first line: the watch has begun, at this version of the configuration.
    Watching {
        /// Of the running configuration.
        version: u64,
        /// Published last.
        generation: u64,
    },
    /// Nothing has happened for a while.
    Still,
    /// This watcher was too slow.
    Lost {
        /// Events it has missed.
        events: u64,
    },
    /// Health checks let a backend serve again.
    BackendUp {
        /// Whose.
        service: String,
        /// Which.
        backend: SocketAddr,
    },
    /// They do not any more.
    BackendDown {
        /// Whose.
        service: String,
        /// Which.
        backend: SocketAddr,
        /// Which check failed, and how.
        why: String,
    },
    /// Enough of a service is up again.
    QuorumBack {
        /// Which.
        service: String,
    },
    /// Too little of a service is up.
    QuorumLost {
        /// Which.
        service: String,
    },
    /// A backend without a share of new connections has lost its last old one: it may go.
    Drained {
        /// Whose.
        service: String,
        /// Which.
        backend: SocketAddr,
    },
    /// The file was read again.
    Reload {
        /// The outcome.
        result: ReloadResult,
        /// One sentence, or the message about the file.
        message: String,
        /// What changed (or would have).
        #[serde(flatten)]
        changes: Changes,
    },
    /// What runs was changed.
    Edited {
        /// Of the running configuration now.
        version: u64,
        /// What changed.
        #[serde(flatten)]
        changes: Changes,
    },
    /// What runs was written to the file.
    Saved {
        /// The file.
        file: String,
    },
    /// What runs differs from the file.
    DriftAppeared {
        /// In so many lines.
        differences: u64,
    },
    /// It does not any more.
    DriftGone,
    /// An address that backends are reached at, or a director, has a next hop again.
    NextHopFound {
        /// The address.
        address: IpAddr,
    },
    /// It has none: connections to it are refused.
    NextHopLost {
        /// The address.
        address: IpAddr,
        /// Is there a route, and nobody answers?
        routed: bool,
    },
    /// A port's TAP is there and up again.
    TapUp {
        /// The port.
        port: String,
    },
    /// It is not.
    TapDown {
        /// The port.
        port: String,
    },
    /// A worker stands still.
    WorkerStalled {
        /// Which.
        worker: u8,
    },
    /// It moves again.
    WorkerMoves {
        /// Which.
        worker: u8,
    },
    /// The thread of health checks has ended by itself: another goes on with the verdicts there are.
    CheckThreadEnded,
    /// The daemon was told to end.
    Ending {
        /// Connections there are.
        connections: u64,
    },
}

/// Lines of a change, the first of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Changes {
    /// One line each.
    pub changes: Vec<String>,
    /// So many are left out.
    pub more_changes: u64,
}

impl From<&[String]> for Changes {
    fn from(lines: &[String]) -> Self {
        let changes: Vec<_> = lines.iter().take(CHANGES_MAX).cloned().collect();
        let more_changes = (lines.len() - changes.len()) as u64;
        Self { changes, more_changes }
    }
}

/// Why somebody may not watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{WATCHERS_MAX} are watching already")]
pub struct TooMany;

/// What the control loop is asked for.
pub type Reply = oneshot::Sender<Result<Watcher, TooMany>>;

/// Where the control loop tells what happens.
#[derive(Debug)]
pub struct Bulletin {
    ring: broadcast::Sender<Arc<str>>,
    number: u64,
    stats: Arc<HttpStats>,
}

fn line(number: u64, what: What) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let at_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
    let text = serde_json::to_string(&Event { number, at_ms, what });
    text.unwrap_or_default() + "\n"
}

impl Bulletin {
    /// Nothing has happened yet.
    pub fn new(stats: Arc<HttpStats>) -> Self {
        Self { ring: broadcast::Sender::new(KEPT), number: 0, stats }
    }

    /// Tells everybody who watches.
    pub fn tell(&mut self, what: What) {
        self.number += 1;
        self.stats.events.add(1);
        if self.ring.receiver_count() > 0 {
            // Nobody may be left to hear it; so be it.
            let _ = self.ring.send(line(self.number, what).into());
        }
    }

    /// Somebody watches from now on.
    pub fn watch(
        &self,
        parameters: &Parameters,
        version: u64,
        generation: u64,
    ) -> Result<Watcher, TooMany> {
        if self.ring.receiver_count() >= WATCHERS_MAX {
            return Err(TooMany);
        }
        self.stats.watchers.set(self.stats.watchers.get() + 1);
        Ok(Watcher {
            events: self.ring.subscribe(),
            first: Some(line(self.number, What::Watching { version, generation })),
            number: self.number,
            left: parameters.count,
            stats: Arc::clone(&self.stats),
        })
    }
}

/// Somebody who watches.
#[derive(Debug)]
pub struct Watcher {
    events: broadcast::Receiver<Arc<str>>,
    first: Option<String>,
    /// Of the last event seen or lost.
    number: u64,
    left: Option<u64>,
    stats: Arc<HttpStats>,
}

impl Watcher {
    /// The next lines; `None` when there will be no more.
    pub async fn next(&mut self) -> Option<String> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        if self.left == Some(0) {
            return None;
        }
        match tokio::time::timeout(STILL, self.events.recv()).await {
            Err(_) => Some(line(self.number, What::Still)),
            Ok(Err(RecvError::Closed)) => None,
            Ok(Err(RecvError::Lagged(events))) => Some(self.lost(events)),
            Ok(Ok(event)) => {
                let mut lines = String::new();
                self.take(&event, &mut lines);
                self.gather(&mut lines);
                Some(lines)
            }
        }
    }

    /// What else is there, as far as it fits.
    fn gather(&mut self, lines: &mut String) {
        while lines.len() < CHUNK && self.left != Some(0) {
            match self.events.try_recv() {
                Ok(event) => self.take(&event, lines),
                Err(TryRecvError::Lagged(events)) => lines.push_str(&self.lost(events)),
                Err(TryRecvError::Empty | TryRecvError::Closed) => return,
            }
        }
    }

    fn take(&mut self, event: &str, lines: &mut String) {
        self.number += 1;
        self.left = self.left.map(|left| left.saturating_sub(1));
        lines.push_str(event);
    }

    fn lost(&mut self, events: u64) -> String {
        self.number += events;
        self.stats.lost_events.add(events);
        line(self.number, What::Lost { events })
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.stats.watchers.set(self.stats.watchers.get().saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulletin() -> Bulletin {
        Bulletin::new(Arc::default())
    }

    fn watch(bulletin: &Bulletin, count: Option<u64>) -> Watcher {
        bulletin.watch(&Parameters { count }, 7, 3).unwrap()
    }

    fn events(lines: &str) -> Vec<Event> {
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[tokio::test]
    async fn a_watch_begins_with_where_things_stand_and_goes_on_with_what_happens() {
        let mut bulletin = bulletin();
        bulletin.tell(What::DriftGone);
        let mut watcher = watch(&bulletin, None);
        bulletin.tell(What::DriftAppeared { differences: 2 });
        bulletin.tell(What::Saved { file: "shunt.toml".into() });
        let first = events(&watcher.next().await.unwrap());
        assert_eq!(first[0].number, 1);
        assert_eq!(first[0].what, What::Watching { version: 7, generation: 3 });
        let next = events(&watcher.next().await.unwrap());
        let numbers: Vec<_> = next.iter().map(|event| event.number).collect();
        assert_eq!(numbers, [2, 3], "two lines at once, as both were there");
        assert_eq!(next[0].what, What::DriftAppeared { differences: 2 });
        drop(bulletin);
        assert_eq!(watcher.next().await, None, "the daemon has ended");
    }

    #[tokio::test]
    async fn who_is_slow_is_told_how_many_events_are_lost_and_goes_on_and_nobody_else_loses() {
        let mut bulletin = bulletin();
        let (mut slow, mut quick) = (watch(&bulletin, None), watch(&bulletin, None));
        let mut seen = 0;
        quick.next().await.unwrap();
        for _ in 0..KEPT + 100 {
            bulletin.tell(What::DriftGone);
            seen += events(&quick.next().await.unwrap()).len();
        }
        assert_eq!(seen, KEPT + 100);
        slow.next().await.unwrap();
        let lost = events(&slow.next().await.unwrap());
        assert_eq!((lost[0].number, &lost[0].what), (100, &What::Lost { events: 100 }));
        let next = events(&slow.next().await.unwrap());
        assert_eq!(next[0].number, 101, "the oldest that is left");
        assert_eq!(bulletin.stats.lost_events.get(), 100);
    }

    #[tokio::test]
    async fn a_watch_ends_after_as_many_events_as_were_asked_for() {
        let mut bulletin = bulletin();
        let mut watcher = watch(&bulletin, Some(2));
        (0..3).for_each(|_| bulletin.tell(What::DriftGone));
        watcher.next().await.unwrap();
        assert_eq!(events(&watcher.next().await.unwrap()).len(), 2);
        assert_eq!(watcher.next().await, None);
    }

    #[test]
    fn there_are_only_so_many_watchers_and_who_leaves_makes_room() {
        let bulletin = bulletin();
        let mut all: Vec<_> = (0..WATCHERS_MAX).map(|_| watch(&bulletin, None)).collect();
        assert_eq!(bulletin.stats.watchers.get(), WATCHERS_MAX as u64);
        assert!(bulletin.watch(&Parameters::default(), 1, 1).is_err());
        all.pop();
        assert!(bulletin.watch(&Parameters::default(), 1, 1).is_ok());
    }

    #[test]
    fn of_a_great_change_the_first_lines_are_told_and_how_many_there_are() {
        let lines: Vec<_> = (0..70).map(|n| n.to_string()).collect();
        let told = Changes::from(&lines[..]);
        assert_eq!((told.changes.len(), told.more_changes), (CHANGES_MAX, 20));
    }

    #[test]
    fn a_line_is_read_as_it_was_written() {
        let changes = Changes { changes: vec!["web: weight 1 to 2".into()], more_changes: 0 };
        for what in [
            What::Still,
            What::Edited { version: 8, changes: changes.clone() },
            What::Reload { result: ReloadResult::Refused, message: "no".into(), changes },
            What::BackendDown {
                service: "web".into(),
                backend: "[2001:db8::1]:80".parse().unwrap(),
                why: "tcp: refused".into(),
            },
        ] {
            assert_eq!(events(&line(5, what.clone()))[0].what, what);
        }
    }
}
