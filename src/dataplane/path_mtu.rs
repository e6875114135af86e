//! What the ways to tunnel backends carry, as routers on them have said (RFC 1191, RFC 8201).
//!
//! Only tunnels need it: an outer packet is ours, so the router's "too big" comes to us. In the
//! other modes the sender hears it and keeps it. One word per backend and worker: each worker
//! learns from the errors about its own connections. What was learned is forgotten after
//! [`LIFE_MS`], to notice a way that got wider.

use crate::ids::{BackendId, limits};

/// How long a value is believed (RFC 1191 section 6.3: ten minutes).
pub(super) const LIFE_MS: u32 = 600_000;

/// Smallest value believed: the least MTU of IPv4 (RFC 791). A lower one is a forgery.
pub(super) const MTU_MIN: u16 = 68;

/// The values of one worker.
#[derive(Debug)]
pub(super) struct PathMtus {
    /// By backend: what was learned, and when; 0 is nothing.
    learned: Box<[(u16, u32)]>,
}

impl Default for PathMtus {
    fn default() -> Self {
        Self { learned: vec![(0, 0); limits::BACKENDS].into() }
    }
}

impl PathMtus {
    /// A router said that the way to that backend carries `mtu` bytes.
    pub(super) fn learn(&mut self, backend: BackendId, mtu: u16, now_ms: u32) {
        if let Some(place) = self.learned.get_mut(backend.index())
            && mtu >= MTU_MIN
        {
            *place = (mtu, now_ms);
        }
    }

    /// What the way to that backend carries, at most `mtu`.
    pub(super) fn limit(&self, backend: BackendId, mtu: u16, now_ms: u32) -> u16 {
        match self.learned.get(backend.index()) {
            Some((learned, at)) if *learned > 0 && now_ms.wrapping_sub(*at) < LIFE_MS => {
                mtu.min(*learned)
            }
            _ => mtu,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_learned_holds_for_ten_minutes_and_one_backend() {
        let mut mtus = PathMtus::default();
        let (a, b) = (BackendId(3), BackendId(4));
        mtus.learn(a, 1300, 1_000);
        assert_eq!(mtus.limit(a, 1500, 1_000), 1300);
        assert_eq!(mtus.limit(a, 1200, 1_000), 1200, "never more than the port carries");
        assert_eq!(mtus.limit(b, 1500, 1_000), 1500);
        assert_eq!(mtus.limit(a, 1500, 1_000 + LIFE_MS - 1), 1300);
        assert_eq!(mtus.limit(a, 1500, 1_000 + LIFE_MS), 1500);
    }

    #[test]
    fn nobody_is_believed_who_says_less_than_68() {
        let mut mtus = PathMtus::default();
        mtus.learn(BackendId(0), MTU_MIN - 1, 0);
        assert_eq!(mtus.limit(BackendId(0), 1500, 0), 1500);
        mtus.learn(BackendId(u32::try_from(limits::BACKENDS).unwrap()), 1300, 0);
    }
}
