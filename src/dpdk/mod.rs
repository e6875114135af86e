//! The only hand-written `unsafe` of the project: DPDK, and the machine's memory and clock, behind
//! types that cannot be misused from safe code.
//!
//! - [`memory`]: fixed tables on huge pages, and cache prefetching. Needs no EAL.
//! - [`clock`]: the CPU's time stamp counter as milliseconds. Needs no EAL.

pub mod clock;
pub mod memory;
