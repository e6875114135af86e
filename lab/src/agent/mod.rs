//! Clients and servers of our own, for what ready programs do not count. They run inside hosts as
//! `lab load`, `lab udp-load`, `lab echo` and `lab dns`, and print one JSON report at their end.
//!
//! - [`load`]: HTTP requests, each on a connection of its own or many on one, every failure named.
//! - [`udp`]: datagrams from many source ports, and the echo that answers them.
//! - [`dns`]: a name server that answers every question with its own address, so that `dig` shows
//!   which backend it reached.
//! - [`report`]: what a client hands back.

pub mod dns;
pub mod load;
pub mod report;
pub mod udp;
