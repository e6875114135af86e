//! The concurrency primitives of [`super::mailbox`], in one place so that the model checker in
//! `tests/mailbox_model.rs` can put its own in their stead.

pub(super) use std::sync::Arc;
pub(super) use std::sync::atomic::{AtomicU64, Ordering};

/// A bounded queue: `push` gives the value back when full, `pop` is `None` when empty.
pub(super) type Queue<T> = crossbeam::queue::ArrayQueue<T>;
