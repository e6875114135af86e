//! Numbers of the control thread: TAPs, reloads, neighbours, and what is fixed at start.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use super::counters::Counter;
use super::health::HealthStats;
use super::http::HttpStats;
use crate::ids::limits;

/// Frames of one port's TAP. Written by the control thread only.
#[derive(Debug, Default)]
pub struct TapCounters {
    /// Frames given to the kernel.
    pub to_kernel: Counter,
    /// Frames for the kernel which the TAP did not take.
    pub to_kernel_dropped: Counter,
    /// Frames of the kernel's put into the inject lane.
    pub from_kernel: Counter,
    /// Frames of the kernel's for which there was no buffer or no room in the lane.
    pub from_kernel_dropped: Counter,
    /// 1 while the TAP is there and up.
    pub up: Counter,
    /// 1 once it could not be read any more.
    pub lost: Counter,
}

/// How a reload ended.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum ReloadResult {
    /// Read, compared, published.
    Applied,
    /// Read, and nothing differed.
    Unchanged,
    /// Read, but it cannot be applied to a running daemon.
    Refused,
    /// Not read: the file is wrong.
    Invalid,
}

impl ReloadResult {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Applied, Self::Unchanged, Self::Refused, Self::Invalid];

    /// The metric label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Unchanged => "unchanged",
            Self::Refused => "refused",
            Self::Invalid => "invalid",
        }
    }

    /// Does the daemon now run what the file says?
    pub fn success(self) -> bool {
        matches!(self, Self::Applied | Self::Unchanged)
    }
}

/// Reloads so far.
#[derive(Debug, Default)]
pub struct ReloadCounters {
    /// By [`ReloadResult`].
    pub results: [Counter; 4],
    /// Unix time of the last reload, or of the start, in seconds.
    pub last_s: Counter,
    /// Unix time of the last successful one, or of the start, in seconds.
    pub last_success_s: Counter,
    /// 1 if the last one failed.
    pub last_failed: Counter,
}

impl ReloadCounters {
    /// Counts a reload that ended at `now_s`.
    pub fn note(&self, result: ReloadResult, now_s: u64) {
        self.results[result as usize].add(1);
        self.last_s.set(now_s);
        self.last_failed.set(u64::from(!result.success()));
        if result.success() {
            self.last_success_s.set(now_s);
        }
    }
}

/// Backends by how well they are reached.
#[derive(Debug, Default)]
pub struct NeighborCounts {
    /// With a next hop.
    pub resolved: Counter,
    /// Their next hop has not answered.
    pub unanswered: Counter,
    /// No route through a port.
    pub unrouted: Counter,
}

/// All numbers of the control thread.
#[derive(Debug)]
pub struct SlowStats {
    /// By port.
    pub taps: [TapCounters; limits::PORTS],
    /// Reloads.
    pub reloads: ReloadCounters,
    /// Next hops of the backends.
    pub neighbors: NeighborCounts,
    /// Health checks.
    pub health: Arc<HealthStats>,
    /// The HTTP servers.
    pub http: Arc<HttpStats>,
    /// Requests that changed the configuration at runtime: made, and refused.
    pub edits: [Counter; 2],
    /// Differences of what runs to the file.
    pub drift: Counter,
    /// Backends that are drained or weighed by hand.
    pub by_hand: Counter,
    /// Generation last published.
    pub generation: Counter,
    /// By worker: 1 while it is seen not to move.
    pub stalled: Box<[Counter]>,
    /// Unix time of the start, in seconds.
    pub started_s: u64,
}

impl SlowStats {
    /// Fresh numbers of a daemon starting now with this many workers.
    pub fn new(workers: usize) -> Self {
        let stats = Self {
            taps: std::array::from_fn(|_| TapCounters::default()),
            reloads: ReloadCounters::default(),
            neighbors: NeighborCounts::default(),
            health: Arc::default(),
            http: Arc::default(),
            edits: std::array::from_fn(|_| Counter::default()),
            drift: Counter::default(),
            by_hand: Counter::default(),
            generation: Counter::default(),
            stalled: std::iter::repeat_with(Counter::default).take(workers).collect(),
            started_s: unix_now_s(),
        };
        stats.reloads.last_s.set(stats.started_s);
        stats.reloads.last_success_s.set(stats.started_s);
        stats
    }
}

/// Unix time in seconds.
pub fn unix_now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// What is fixed at start and only shown.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
pub struct StaticFacts {
    /// Version of Shunt.
    pub version: String,
    /// Git revision it was built from.
    pub revision: String,
    /// DPDK's own version line.
    pub dpdk_version: String,
    /// One line: huge pages or not, and how much.
    pub memory: String,
    /// TSC cycles a second: turns cycle counters into seconds.
    pub tsc_hz: u64,
    /// Connections over all workers.
    pub table_capacity: u64,
    /// Bytes reserved for connection tables over all workers.
    pub table_bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_reload_keeps_the_time_of_the_last_success() {
        let reloads = ReloadCounters::default();
        reloads.note(ReloadResult::Applied, 10);
        reloads.note(ReloadResult::Invalid, 20);
        assert_eq!((reloads.last_s.get(), reloads.last_success_s.get()), (20, 10));
        assert_eq!(reloads.last_failed.get(), 1);
        reloads.note(ReloadResult::Unchanged, 30);
        assert_eq!((reloads.last_success_s.get(), reloads.last_failed.get()), (30, 0));
    }

    #[test]
    fn results_are_counted_under_their_own_label() {
        let reloads = ReloadCounters::default();
        for (n, result) in (1..).zip(ReloadResult::ALL) {
            (0..n).for_each(|_| reloads.note(result, 1));
        }
        let counts: Vec<_> = reloads.results.iter().map(Counter::get).collect();
        assert_eq!(counts, [1, 2, 3, 4]);
    }
}
