//! Properties of the data path's parts, against models that cannot be wrong in the same way.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod local_ports;
mod table;
