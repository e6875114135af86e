//! Flat memory for tables: the data path's one door to `crate::dpdk` besides `io`.
//!
//! Tables are fixed-length slices on huge pages, reserved and touched at start: no page fault and
//! no growth later. A prefetch is a hint; nothing depends on it but time. A line's tags are compared
//! together.

pub use crate::dpdk::lanes::equal;
pub use crate::dpdk::memory::{HugePages, MemoryError, Pages, Region, prefetch, prefetch_write};
