//! Hosts in network namespaces with real programs in them, on any Linux machine and without a
//! network card: what `make demo` and the end-to-end tests are written on. Needs root.
//!
//! ```text
//!   client-1 192.0.2.11 ──┐            ┌── balancer ──┐            ┌── 10.44.0.11 backend-1
//!                         ├── switch ──┤ lc        ls ├── switch ──┼── 10.44.0.12 backend-2
//!   client-2 192.0.2.12 ──┘  (bridge)  └──────────────┘  (bridge)  ├── 10.44.0.13 backend-3
//!                                                                  └── 10.44.0.14 backend-4
//! ```
//!
//! From the bottom up:
//!
//! - [`command`]: run a program to its end, with an error that says what it printed.
//! - [`cleanup`]: what this process made and must remove, on success, failure and Ctrl-C.
//! - [`host`]: one network namespace. [`network`]: the picture above.
//! - [`program`]: a child process in a host; [`programs`]: nginx, curl, wrk, iperf3, dig, socat;
//!   [`haproxy`].
//! - [`agent`]: small clients and servers of our own where no ready program counts what we need;
//!   they run inside hosts as the `lab` binary.
//! - [`huge`]: huge pages, borrowed.
//! - [`config`]: `shunt.toml` as a value. [`balancer`]: `shuntd` under test. [`metrics`]: what it
//!   exports.
//!
//! Every host has an address of each family. Limits: a host has one link, the balancer two, unless a
//! scenario adds some.

pub mod agent;
pub mod balancer;
pub mod cleanup;
pub mod command;
pub mod config;
pub mod haproxy;
pub mod host;
pub mod huge;
pub mod metrics;
pub mod network;
pub mod program;
pub mod programs;
pub mod wait;

pub use balancer::{Balancer, Binaries};
pub use host::Host;
pub use network::Network;
pub use program::Program;
