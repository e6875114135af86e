//! Numbers: one name, one meaning, one owner.
//!
//! ```text
//! workers ──► counters::WorkerStats ─┐
//! control ──► slow::SlowStats ───────┼─► collect::Sources (sums, when asked) ─┬─► export: /metrics
//! names   ──► collect::Directory ────┘                                        └─► shunt status
//! ```
//!
//! [`latency`] is the one number that is a histogram.
//!
//! [`counters`] are written by exactly one worker and read by anyone, [`slow`] by the control thread
//! only. Nothing is summed until somebody asks. [`loads`] and [`tallies`] alone are written by
//! all workers: they decide by them.

pub mod answers;
pub mod collect;
pub mod counters;
pub mod devices;
pub mod export;
pub mod health;
pub mod http;
pub mod latency;
pub mod loads;
pub mod reopened;
pub mod slow;
pub mod tallies;
pub mod volumes;
