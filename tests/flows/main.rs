//! Whole flows through real workers, without DPDK: what happens to a connection from its first
//! packet to its last, with one worker and with several.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "../packets/mod.rs"]
mod packets;
#[allow(dead_code, reason = "shared with the allocation test, which asks for other parts")]
mod world;

mod life;
mod modes;
mod one_packet;
mod ownership;
mod reasons;
mod sctp;
mod services;
mod shop;
mod vlan;
