//! `shunt ipvsadm` against Debian's `ipvsadm`, which runs here to its end without IPVS in the kernel: `shim.c`
//! answers for it.
//!
//! ```text
//! line ──┬─► ours ──────────────► message, exit code ─┐
//!        └─► ipvsadm + shim ────► message, exit code ─┴─ equal
//! table ─┬─► our layouts ───────► text ─┐
//!        └─► shim ─► ipvsadm ───► text ─┴─ equal, to the byte
//! ```
//!
//! The socket options it speaks through are of IPv4 and have no GUE and GRE. What IPv6 and tunnels look like is from
//! recorded output (`recorded.rs`).

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test says no by panicking")]

mod lines;
mod lists;
mod real;
mod recorded;
mod samples;
