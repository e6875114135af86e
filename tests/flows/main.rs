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

mod access;
mod capture;
mod clear;
mod cookie_streams;
mod cookies;
mod deleted;
mod endings;
mod endpoints;
mod ends;
mod explain;
mod families;
mod full;
mod histories;
mod icmp;
mod introduce;
mod left;
mod life;
mod local_out;
mod modes;
mod nat64;
mod nat64_pieces;
mod numbers;
mod one_packet;
mod ownership;
mod paging;
mod parts;
mod persistence;
mod pieces;
mod quotas;
mod reasons;
mod refused;
mod restarts;
mod room;
mod rules;
mod schedulers;
mod sctp;
mod sctp_pieces;
mod services;
mod shop;
mod streams;
mod suspects;
mod trace;
mod tunnels;
mod unanswered;
mod vlan;
mod volumes;
