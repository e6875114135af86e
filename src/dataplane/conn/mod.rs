//! One worker's shard of the connection table: owned by one worker, touched by nobody else.
//!
//! ```text
//!  FlowKey ── hash ──► home bucket (64 B: 8 tags, 8 slots) ──► record (64 B: both directions)
//!                 └──► alternate bucket, only if the home bucket says that entries spilled
//! ```
//!
//! [`key`] names a flow, [`record`] is the line that a packet needs, [`index`] finds it,
//! [`table`] keeps the two consistent, [`state`] is what becomes of one, [`ports`] chooses local
//! ports, [`splice`] is what some need besides, [`expiry`] forgets, [`reclaim`] says who makes way in a full
//! table and [`candidates`] whom it knows.

pub mod candidates;
pub mod expiry;
pub mod index;
pub mod key;
pub mod ports;
pub mod reclaim;
pub mod record;
pub mod splice;
pub mod state;
pub mod table;
