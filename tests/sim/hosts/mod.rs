//! The ends of connections: small, but real. They number, acknowledge, retransmit, give up.
//!
//! - [`talk`]: what a connection is about, known to both ends from its first eight bytes.
//! - [`tcp`]: one end of a TCP connection.
//! - [`client`]: a client's port, used for one connection after another.
//! - [`backend`]: a server behind the balancer, reached in whatever mode.
//! - [`deeds`]: what they did, counted.

pub(crate) mod backend;
pub(crate) mod client;
pub(crate) mod deeds;
pub(crate) mod sctp;
pub(crate) mod talk;
pub(crate) mod tcp;
