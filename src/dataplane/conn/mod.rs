//! One worker's shard of the connection table.

pub mod key;
pub mod state;
