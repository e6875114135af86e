//! Shunt: a layer-4 load balancer that drives whole network cards with DPDK.
//!
//! The folders, in the order a packet meets them:
//!
//! - [`dpdk`]: the fence around C, the one module whose soundness rests on its author. EAL, pools, owned packets, ports, rings, memory, clock.
//! - [`wire`]: headers as views over bytes, and checksum arithmetic. No policy, no I/O.
//! - [`dataplane`]: one packet's life. Parse, steer, look up, admit, rewrite, send. Runs without
//!   DPDK under test; knows nothing of the control plane.
//! - [`control`]: everything slow. Configuration, compile, publish, TAPs, neighbours, admin.
//! - [`stats`]: plain counters both planes may name, and their export.
//! - [`cli`]: what `shunt` prints and asks.
//! - [`ids`]: the newtypes all of them share.
//!
//! Imports point one way, `wire ← dataplane ← control ← bin`, and `tests/layering.rs` holds it.

pub mod dpdk;

pub mod cli;
pub mod control;
pub mod dataplane;
pub mod ids;
pub mod stats;
pub mod wire;
