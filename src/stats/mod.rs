//! Numbers: one name, one meaning, one owner.
//!
//! [`counters`] are written by exactly one worker and read by anyone. [`Collector`-side] reading,
//! summing and the Prometheus text live in `control::admin`, which calls into here at scrape time.

pub mod counters;
