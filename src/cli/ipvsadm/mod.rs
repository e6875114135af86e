//! `shunt ipvsadm`: the command people have in their hands, and their scripts, in front of this balancer.
//!
//! ```text
//! words ─► grammar ─► request ─┬─► edits ───────► the daemon
//!                              └─► list, save ◄── table ◄── the daemon
//! ```
//!
//! Lines, layouts, messages and exit codes are those of `ipvsadm` 1.31; `docs/ipvsadm.md` says where they differ.
//! `clap` reads the rest of our lines and not these: it has other sentences.

mod exchange;
pub mod grammar;
pub mod list;
pub mod messages;
pub mod names;
pub mod options;
pub mod order;
pub mod request;
mod run;
pub mod save;
mod seen;
pub mod table;
pub mod tunnels;
pub mod words;

pub use run::{Program, Session};

/// `-h`
pub const HELP: &str = include_str!("help.txt");

/// `-v`: scripts look for the number behind the `v`.
pub fn version() -> String {
    let own = env!("CARGO_PKG_VERSION");
    format!("ipvsadm v1.31 (shunt {own}, speaking as IPVS v1.2.1)\n")
}
