//! Everything slow: one thread, one current-thread runtime.
//!
//! ```text
//! shunt.toml ─► config::schema ─► config::validate ─► Plan ─► config::diff ─► compile ─► publish
//!                                                      ▲                        ▲
//!                                        SIGHUP, admin socket          neighbors (netlink)
//! ```

pub mod admin;
pub mod compile;
pub mod config;
pub mod configured;
pub mod lists;
pub mod neighbors;
pub mod parts;
pub mod ports;
pub mod prefix;
pub mod publish;
pub mod punt;
mod reload;
mod runtime;
mod start;
pub mod supervise;
pub mod watch;
pub mod words;

pub use start::{ControlError, run, run_with};
