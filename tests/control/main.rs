//! The control plane against a real kernel: TAPs, netlink, sockets and signals, in network
//! namespaces made for each test. Needs root. No DPDK: workers are threads that obey orders, lanes
//! are vectors.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test says no by panicking")]

mod daemon;
mod doors;
mod namespace;
mod neighbors;
mod own;
mod remote;
mod taps;
