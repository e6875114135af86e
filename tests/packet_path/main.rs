//! One packet's bytes, from parsing to what leaves: the packet table and its properties.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot build its packet shall fail loudly"
)]

#[path = "../packets/mod.rs"]
mod packets;

mod cut;
mod parse;
mod properties;
mod replies;
mod rewrite;
mod views;
