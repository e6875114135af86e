//! One packet's life, in the order of the files.
//!
//! ```text
//! io::rx ─► parse ─► lookup ─┬─ hit ─────────────────────────► rewrite ─► tx
//!            │               └─ miss ► steer ─┬─ mine ► admit ────▲
//!            │                                └─► handover lane of the owner
//!            └─► punt lane (the kernel), an answer, or a counted reason
//! ```
//!
//! The contract of the path: no allocation, no lock, no log line, no formatting, no system call,
//! no panic. Time is an argument. Every packet meets exactly one [`flows::Fate`], and every
//! refusal has a [`verdict::Reason`] that is counted. Nothing here names `control`.

pub mod access;
mod accounts;
pub mod admit;
pub mod allowance;
pub mod capture;
pub mod clearing;
pub mod conn;
pub mod cookie;
pub mod cross;
pub mod describe;
mod endings;
mod established;
pub mod explain;
pub mod family;
mod fate;
pub mod flows;
pub mod frag;
mod handshake;
pub mod icmp;
mod introduce;
pub mod io;
mod ipip;
pub mod lookup;
pub mod mailbox;
pub mod mem;
mod onward;
mod opening;
pub mod orders;
pub mod parse;
mod path_mtu;
pub mod persistence;
mod pieces;
mod place;
pub mod probe;
pub mod quota;
pub mod refuse;
pub mod reply;
pub mod rewrite;
pub mod run;
pub mod sched;
mod segment;
pub mod sight;
mod siphash;
pub mod snapshot;
pub mod sources;
mod special;
mod splice;
pub mod steer;
mod suspect;
mod sync;
pub mod trace;
pub mod tx;
mod unanswered;
pub mod verdict;
pub mod vlan;
pub mod worker;
