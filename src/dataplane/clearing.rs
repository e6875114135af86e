//! Connections that are ended because somebody asks for it (`shunt clear`), not because they are over.
//!
//! ```text
//! order ─► the sweep's next round: everything of these backends ends ─► answer: how many
//! ```
//!
//! The sweep that forgets (`conn/expiry.rs`) does it, as it does for a backend that was removed: within two
//! seconds, a few records a poll, both ends told as far as the allowance for that goes. What is made
//! meanwhile may or may not be met. One order is obeyed at a time; the control plane sees to that.

use crate::ids::{BackendId, limits};

const WORDS: usize = limits::BACKENDS / 64;

/// Whose connections end, and how many did. Made and freed by the control thread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clearing {
    /// A bit for each backend.
    backends: Box<[u64]>,
    /// Connections that ended.
    pub ended: u64,
}

impl Clearing {
    /// Of these backends.
    pub fn of(backends: impl IntoIterator<Item = BackendId>) -> Self {
        let mut bits = vec![0u64; WORDS];
        for id in backends {
            if let Some(word) = bits.get_mut(id.index() / 64) {
                *word |= 1 << (id.index() % 64);
            }
        }
        Self { backends: bits.into(), ended: 0 }
    }

    /// Do this backend's connections end?
    #[inline]
    pub fn is_about(&self, id: BackendId) -> bool {
        let word = self.backends.get(id.index() / 64).copied().unwrap_or(0);
        word & 1 << (id.index() % 64) != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_about_those_it_was_made_of() {
        let all = [0, 63, 64, 65_535];
        let clearing = Clearing::of(all.map(BackendId));
        let about = (0..=65_536).filter(|id| clearing.is_about(BackendId(*id)));
        assert!(about.eq(all));
    }
}
