//! What the ways to tunnel backends carry, as routers on them have said (RFC 1191, RFC 8201).
//!
//! Only tunnels need it: an outer packet is ours, so the router's "too big" comes to us. In the
//! other modes the sender hears it and keeps it. One word per backend and worker: each worker
//! learns from the errors about its own connections. What was learned is forgotten after
//! [`LIFE_MS`], to notice a way that got wider.
//!
//! Anybody can write such an error, so none makes a way narrower than [`least`]. A link that is
//! narrower still, which nobody builds, gets packets that fit it only from who lets us cut.

use super::family::Family;
use crate::ids::{BackendId, limits};

/// How long a value is believed (RFC 1191 section 6.3: ten minutes).
pub(super) const LIFE_MS: u32 = 600_000;

/// Smallest value learned of an IPv4 way, though RFC 791 allows 68: Linux's own
/// (`net.ipv4.route.min_pmtu`).
const MTU_MIN_V4: u16 = 552;

/// Smallest value learned of a way of family `F`.
fn least<F: Family>() -> u16 {
    F::MTU_MIN.max(MTU_MIN_V4)
}

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
    /// A router said that the way to that backend, of family `F`, carries `mtu` bytes. Less than
    /// every way of the family carries is a forgery (RFC 8201 section 4).
    pub(super) fn learn<F: Family>(&mut self, backend: BackendId, mtu: u16, now_ms: u32) {
        if let Some(place) = self.learned.get_mut(backend.index())
            && mtu >= F::MTU_MIN
        {
            *place = (mtu.max(least::<F>()), now_ms);
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
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    #[test]
    fn what_was_learned_holds_for_ten_minutes_and_one_backend() {
        let mut mtus = PathMtus::default();
        let (a, b) = (BackendId(3), BackendId(4));
        mtus.learn::<Ipv4Addr>(a, 1300, 1_000);
        assert_eq!(mtus.limit(a, 1500, 1_000), 1300);
        assert_eq!(mtus.limit(a, 1200, 1_000), 1200, "never more than the port carries");
        assert_eq!(mtus.limit(b, 1500, 1_000), 1500);
        assert_eq!(mtus.limit(a, 1500, 1_000 + LIFE_MS - 1), 1300);
        assert_eq!(mtus.limit(a, 1500, 1_000 + LIFE_MS), 1500);
    }

    #[test]
    fn no_error_makes_a_way_narrower_than_linux_would_believe() {
        let learned = |learn: fn(&mut PathMtus, u16), said| {
            let mut mtus = PathMtus::default();
            learn(&mut mtus, said);
            mtus.limit(BackendId(0), 1500, 0)
        };
        let v4 = |mtus: &mut PathMtus, said| mtus.learn::<Ipv4Addr>(BackendId(0), said, 0);
        let v6 = |mtus: &mut PathMtus, said| mtus.learn::<Ipv6Addr>(BackendId(0), said, 0);
        let v4 = [553, 552, 551, 68, 67].map(|said| learned(v4, said));
        assert_eq!(v4, [553, 552, 552, 552, 1500]);
        assert_eq!([1281, 1280, 1279].map(|said| learned(v6, said)), [1281, 1280, 1500]);
        let nobody = BackendId(u32::try_from(limits::BACKENDS).unwrap());
        PathMtus::default().learn::<Ipv4Addr>(nobody, 1300, 0);
    }
}
