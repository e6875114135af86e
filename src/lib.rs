//! Shunt: a layer-4 load balancer that drives whole network cards with DPDK.
//!
//! The folders, in the order a packet meets them:
//!
//! - [`dpdk`]: the only `unsafe` here. EAL, pools, owned packets, ports, rings, memory, clock.
//! - [`wire`]: headers as views over bytes, and checksum arithmetic. No policy, no I/O.
//! - [`dataplane`]: one packet's life. Parse, steer, look up, admit, rewrite, send. Runs without
//!   DPDK under test; knows nothing of the control plane.
//! - [`control`]: everything slow. Configuration, compile, publish, TAPs, neighbours, admin.
//! - [`stats`]: plain counters both planes may name, and their export.
//! - [`cli`]: what `shunt` prints and asks.
//! - [`ids`]: the newtypes all of them share.
//!
//! Imports point one way, `wire ← dataplane ← control ← bin`, and `tests/layering.rs` holds it.

#[expect(unsafe_code, reason = "the FFI fence: every other module forbids it")]
pub mod dpdk;

#[forbid(unsafe_code)]
pub mod cli;
#[forbid(unsafe_code)]
pub mod control;
#[forbid(unsafe_code)]
pub mod dataplane;
#[forbid(unsafe_code)]
pub mod ids;
#[forbid(unsafe_code)]
pub mod stats;
#[forbid(unsafe_code)]
pub mod wire;
