//! Numbers of health checks: written by the health thread, names and verdicts by the control thread.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::counters::Counter;

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckResult {
    /// As it should.
    Passed,
    /// With an answer that is not good, or a refusal.
    Failed,
    /// Without an answer in time.
    TimedOut,
    /// It could not be asked: a limit, a permission, a program that is not there.
    NotRun,
}

impl CheckResult {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Passed, Self::Failed, Self::TimedOut, Self::NotRun];

    /// The metric label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
            Self::NotRun => "not_run",
        }
    }
}

/// A backend that is checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendHealth {
    /// Its service's name.
    pub service: String,
    /// Its address and port.
    pub address: SocketAddr,
    /// Is it up?
    pub is_up: bool,
    /// How often it has gone down.
    pub downs: u64,
}

/// A service whose backends are checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceHealth {
    /// Its name.
    pub service: String,
    /// Is enough of it up?
    pub is_whole: bool,
}

/// Who is well.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wards {
    /// By service, in the plan's order.
    pub backends: Vec<BackendHealth>,
    /// In the plan's order.
    pub services: Vec<ServiceHealth>,
}

/// All numbers of health checks.
#[derive(Debug, Default)]
pub struct HealthStats {
    /// By [`CheckResult`].
    pub results: [Counter; 4],
    /// The latest check of the window that has ended, in microseconds.
    pub lateness_us: Counter,
    /// The same of the window that is running.
    worst_us: Counter,
    /// How often the thread of checks has ended, and was not told to.
    pub thread_ends: Counter,
    wards: Mutex<Arc<Wards>>,
}

impl HealthStats {
    /// A check began so late.
    pub fn note_lateness(&self, late: Duration) {
        let late = u64::try_from(late.as_micros()).unwrap_or(u64::MAX);
        if late > self.worst_us.get() {
            self.worst_us.set(late);
            self.lateness_us.set(late.max(self.lateness_us.get()));
        }
    }

    /// A window is over.
    pub fn end_window(&self) {
        self.lateness_us.set(self.worst_us.get());
        self.worst_us.set(0);
    }

    /// Who is well.
    pub fn wards(&self) -> Arc<Wards> {
        Arc::clone(&self.wards.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Says who is well.
    pub fn set_wards(&self, wards: Wards) {
        *self.wards.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(wards);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lateness_is_the_worst_of_this_window_or_the_last() {
        let stats = HealthStats::default();
        let late = |ms| stats.note_lateness(Duration::from_millis(ms));
        late(3);
        late(7);
        late(5);
        assert_eq!(stats.lateness_us.get(), 7000);
        stats.end_window();
        late(1);
        assert_eq!(stats.lateness_us.get(), 7000, "until a window was better");
        stats.end_window();
        assert_eq!(stats.lateness_us.get(), 1000);
    }
}
