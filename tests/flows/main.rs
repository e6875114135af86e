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

mod cookie_streams;
mod cookies;
mod endpoints;
mod ends;
mod families;
mod icmp;
mod introduce;
mod life;
mod modes;
mod nat64;
mod one_packet;
mod ownership;
mod parts;
mod pieces;
mod reasons;
mod rules;
mod sctp;
mod services;
mod shop;
mod streams;
mod tunnels;
mod vlan;
