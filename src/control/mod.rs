//! Everything slow: one thread, one current-thread runtime.
//!
//! ```text
//! shunt.toml ─► config::schema ─► config::validate ─► Plan ─► config::diff ─► compile ─► publish
//!                                                      ▲                        ▲
//!                                        SIGHUP, edits                 neighbors (netlink)
//! ```

pub mod admin;
pub mod compile;
pub mod config;
pub mod configured;
pub mod credentials;
pub mod doctor;
pub mod edit;
pub mod edition;
mod edits;
pub mod effective;
mod figures;
mod hands;
pub mod health;
pub mod lists;
pub mod neighbors;
mod notice;
pub mod parts;
pub mod ports;
pub mod prefix;
pub mod publish;
pub mod punt;
mod reload;
mod runtime;
pub mod save;
pub mod secret;
mod start;
pub mod supervise;
pub mod voice;
pub mod watch;
pub mod words;

pub use start::{ControlError, run, run_with};
