//! Clients and servers of our own, for what ready programs do not count. They run inside hosts as
//! `lab load`, `lab udp-load`, `lab echo`, `lab dns`, `lab decap`, `lab vlan`, `lab sctp`,
//! `lab forge` and `lab pieces`; load clients print one JSON report at their end.
//!
//! - [`load`]: HTTP requests, each on a connection of its own or many on one, every failure named.
//! - [`udp`]: datagrams from many source ports, and the echo that answers them.
//! - [`dns`]: a name server that answers every question with its own address, so that `dig` shows
//!   which backend it reached.
//! - [`decap`]: the far end of a tunnel, strict about what arrives.
//! - [`vlan`]: a VLAN interface, for kernels without.
//! - [`proxy`]: a PROXY protocol header before a datagram.
//! - [`sctp`]: one association, for kernels without SCTP.
//! - [`forge`]: a SYN with a client's address that is not true.
//! - [`pieces`]: datagrams that leave in pieces, in any order.
//! - [`report`]: what a client hands back.

pub mod decap;
pub mod dns;
pub mod forge;
pub mod load;
pub mod pieces;
pub mod proxy;
pub mod report;
pub mod sctp;
pub mod udp;
pub mod vlan;
