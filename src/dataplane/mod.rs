//! One packet's life, in the order of the files.
//!
//! ```text
//! io::rx ─► parse ─► steer ─► lookup ─┬─ hit ──────────► rewrite ─► tx
//!            │         │              └─ miss ► admit ────▲
//!            │         └─► handover ring of the owner
//!            └─► punt ring (the kernel) or Drop(reason)
//! ```
//!
//! The contract of the path: no allocation, no lock, no log line, no formatting, no system call,
//! no panic. Time is an argument. Every packet ends in exactly one [`verdict::Verdict`], and every
//! `Drop` carries a [`verdict::Reason`] that is counted. Nothing here names `control`.

pub mod conn;
pub mod io;
pub mod mailbox;
pub mod orders;
pub mod parse;
pub mod reply;
pub mod rewrite;
pub mod snapshot;
mod sync;
pub mod verdict;
