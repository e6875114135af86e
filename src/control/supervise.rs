//! Signals in, systemd out, and the orderly end between them.
//!
//! ```text
//! serving ─ SIGTERM ─► draining ─ no connections left, deadline, or a second signal ─► stopping
//!                      (no new connections)                         stopping ─ workers stopped ─► ended
//! ```
//!
//! The signals are taken before anything else is ([`Early`]): whoever ends a daemon that is still
//! starting gets an orderly end too, and a SIGHUP that comes too early waits for its turn.
//!
//! SIGHUP is a reload. SIGINT is SIGTERM. systemd is told READY, RELOADING, STOPPING, a status line
//! and, while every worker moves, WATCHDOG.

use std::io;
use std::time::{Duration, Instant};

use sd_notify::NotifyState;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Workers that have not stopped by then are given up.
pub const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// SIGHUP.
    Reload,
    /// SIGTERM, SIGINT.
    End,
}

/// The signals of interest.
#[derive(Debug)]
pub struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Takes the signals over from their default. Needs the runtime.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// The next wish.
    pub async fn next(&mut self) -> Wish {
        tokio::select! {
            _ = self.hangup.recv() => Wish::Reload,
            _ = self.terminate.recv() => Wish::End,
            _ = self.interrupt.recv() => Wish::End,
        }
    }
}

/// The runtime and the signals of a daemon that is still starting.
#[derive(Debug)]
pub struct Early {
    pub(super) runtime: Runtime,
    pub(super) signals: Signals,
}

impl Early {
    /// Makes the control plane's runtime and takes the signals over. From here on no signal of
    /// interest ends the process by itself.
    pub fn listen() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let signals = runtime.block_on(async { Signals::listen() })?;
        Ok(Self { runtime, signals })
    }

    /// Has somebody wished the end? To be asked between two steps of the start. A reload that was
    /// wished is not forgotten: the control plane gets to it once it is ready.
    pub fn end_wished(&mut self) -> bool {
        let Signals { terminate, interrupt, .. } = &mut self.signals;
        self.runtime.block_on(async {
            tokio::select! {
                biased;
                _ = terminate.recv() => true,
                _ = interrupt.recv() => true,
                // The runtime looks for signals when it has nothing else to do.
                () = tokio::time::sleep(GLANCE) => false,
            }
        })
    }
}

/// How long one look for signals takes.
const GLANCE: Duration = Duration::from_millis(1);

/// How far the end has come. Time is an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Not asked for.
    Serving,
    /// No new connections; those there are may end by themselves.
    Draining {
        /// Until then.
        until: Instant,
    },
    /// The workers are leaving their loops.
    Stopping {
        /// At most until then.
        until: Instant,
    },
    /// Over; `clean` if every worker has left.
    Ended {
        /// Have all workers answered?
        clean: bool,
    },
}

impl Ending {
    /// Somebody wishes the end: the first time drains, the second time stops at once.
    pub fn wish(&mut self, now: Instant, drain: Duration) {
        *self = match *self {
            Self::Serving => Self::Draining { until: now + drain },
            Self::Draining { .. } => Self::Stopping { until: now + STOP_PATIENCE },
            later => later,
        };
    }

    /// Goes on if it is time. True if it has.
    pub fn step(&mut self, now: Instant, connections: u64, stopped: bool) -> bool {
        let next = match *self {
            Self::Draining { until } if connections == 0 || now >= until => {
                Self::Stopping { until: now + STOP_PATIENCE }
            }
            Self::Stopping { until } if stopped || now >= until => Self::Ended { clean: stopped },
            same => same,
        };
        std::mem::replace(self, next) != next
    }

    /// May new connections be made?
    pub fn accepting(self) -> bool {
        self == Self::Serving
    }
}

/// systemd, if it started us; nothing otherwise.
#[derive(Debug)]
pub struct Systemd {
    watchdog: Option<Duration>,
    fed: Instant,
    /// Since the end began: when more time was asked for last.
    extended: Option<Instant>,
    tell: fn(&[NotifyState<'_>]),
}

/// More time to stop in is asked for in portions: a number that fits (a `u32` of microseconds ends
/// at 71 minutes), and a daemon that hangs while draining is still ended by systemd.
const EXTENSION_US: u32 = 60_000_000;
/// Between two portions.
const EXTEND_EVERY: Duration = Duration::from_secs(15);

impl Systemd {
    /// Finds out whether anybody listens.
    pub fn new(now: Instant) -> Self {
        Self { watchdog: sd_notify::watchdog_enabled(), fed: now, extended: None, tell }
    }

    /// The service is up, or a reload is over.
    pub fn ready(&self, status: &str) {
        if self.extended.is_some() {
            return;
        }
        (self.tell)(&[NotifyState::Ready, NotifyState::Status(status)]);
    }

    /// A reload begins.
    pub fn reloading(&self) {
        if self.extended.is_some() {
            return;
        }
        match NotifyState::monotonic_usec_now() {
            Ok(now) => (self.tell)(&[NotifyState::Reloading, now]),
            Err(error) => tracing::debug!(%error, "systemd not told of the reload"),
        }
    }

    /// The end begins. Nothing but the end is told of from now on.
    pub fn stopping(&mut self, now: Instant) {
        self.extended = Some(now);
        (self.tell)(&[NotifyState::Stopping, NotifyState::ExtendTimeoutUsec(EXTENSION_US)]);
    }

    /// While draining: asks for more time when it is time to.
    pub fn extend(&mut self, now: Instant) {
        let due = self.extended.is_some_and(|last| now.duration_since(last) >= EXTEND_EVERY);
        if due {
            self.extended = Some(now);
            (self.tell)(&[NotifyState::ExtendTimeoutUsec(EXTENSION_US)]);
        }
    }

    /// Feeds the watchdog when half its time is over, if all is well.
    pub fn feed(&mut self, now: Instant, well: bool) {
        let due = self.watchdog.is_some_and(|period| now.duration_since(self.fed) >= period / 2);
        if due && well {
            self.fed = now;
            (self.tell)(&[NotifyState::Watchdog]);
        }
    }
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "systemd not told");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    thread_local! {
        static TOLD: std::cell::RefCell<Vec<String>> = const { std::cell::RefCell::new(vec![]) };
    }

    fn record(states: &[NotifyState<'_>]) {
        let words = states.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        TOLD.with_borrow_mut(|told| told.push(words));
    }

    #[test]
    fn a_drain_asks_systemd_for_time_again_and_again_and_speaks_of_no_reload() {
        let now = Instant::now();
        let mut systemd = Systemd { tell: record, ..Systemd::new(now) };
        systemd.ready("up");
        systemd.extend(now + EXTEND_EVERY);
        systemd.stopping(now);
        systemd.reloading();
        systemd.ready("up");
        systemd.extend(now + EXTEND_EVERY / 2);
        systemd.extend(now + EXTEND_EVERY);
        systemd.extend(now + EXTEND_EVERY);
        systemd.extend(now + 2 * EXTEND_EVERY);
        let more = "EXTEND_TIMEOUT_USEC=60000000";
        let stopping = format!("STOPPING=1 {more}");
        let want = ["READY=1 STATUS=up", &stopping, more, more];
        assert_eq!(TOLD.take(), want);
    }

    const DRAIN: Duration = Duration::from_secs(30);

    #[test]
    fn an_end_drains_until_the_last_connection_is_gone() {
        let now = Instant::now();
        let mut ending = Ending::Serving;
        assert!(!ending.step(now, 0, false), "nobody asked");
        ending.wish(now, DRAIN);
        assert!(!ending.accepting());
        assert!(!ending.step(now, 3, false));
        assert!(ending.step(now, 0, false));
        assert!(matches!(ending, Ending::Stopping { .. }));
        assert!(!ending.step(now, 0, false));
        assert!(ending.step(now, 0, true));
        assert_eq!(ending, Ending::Ended { clean: true });
    }

    #[test]
    fn the_deadline_and_a_second_signal_end_the_drain() {
        let now = Instant::now();
        let mut ending = Ending::Serving;
        ending.wish(now, DRAIN);
        assert!(!ending.step(now + DRAIN / 2, 3, false));
        let mut patient = ending;
        assert!(patient.step(now + DRAIN, 3, false));
        assert!(matches!(patient, Ending::Stopping { .. }));
        ending.wish(now, DRAIN);
        assert!(matches!(ending, Ending::Stopping { .. }));
    }

    #[test]
    fn workers_that_never_stop_are_given_up_and_that_is_told() {
        let now = Instant::now();
        let mut ending = Ending::Stopping { until: now + STOP_PATIENCE };
        assert!(ending.step(now + STOP_PATIENCE, 0, false));
        assert_eq!(ending, Ending::Ended { clean: false });
    }
}
