//! The only hand-written `unsafe` of the project: DPDK, and the machine's memory and clock, behind
//! types that cannot be misused from safe code.
//!
//! - [`memory`]: fixed tables on huge pages, and cache prefetching. Needs no EAL.
//! - [`clock`]: the CPU's time stamp counter as milliseconds. Needs no EAL.
//! - [`eal`]: DPDK's environment: arguments, the one start, the end when nothing is in use.
//! - `overheard`: what DPDK prints while it refuses something, for our own message.
//! - [`lcore`]: threads and CPUs.
//! - [`pool`], [`mbuf`]: packet buffers, and one of them, owned.
//! - [`port`]: probe → configure → start; what the device does and what software does instead.
//! - [`burst`]: receiving and sending on a queue.
//! - [`fib`]: networks of addresses, looked up in a few loads.
//! - [`ring`]: lanes of packets between two threads.
//! - `secondary`: what DPDK's own tools attach to, where they may.
//! - [`children`]: programs we start inherit no file of DPDK's. Needs no EAL.
//! - [`lanes`]: eight numbers compared at once. Needs no EAL.
//!
//! The lifetimes of C are kept by ownership: a queue keeps its port, a port its pool, all of them
//! EAL. What a thread may not do, the types do not offer: a queue and a lane's end cannot be
//! cloned and are used through `&mut`; a thread's registration cannot leave it. [`eal`] tells how
//! packets, which are too small to keep anything, fit in.

#![expect(unsafe_code, reason = "the FFI fence: the workspace denies it everywhere else")]

pub mod burst;
pub mod children;
pub mod clock;
pub mod eal;
pub mod fib;
pub mod lanes;
pub mod lcore;
pub mod mbuf;
pub mod memory;
mod overheard;
pub mod pool;
pub mod port;
pub mod rest;
pub mod ring;
mod secondary;

#[cfg(test)]
pub(crate) mod tests;
