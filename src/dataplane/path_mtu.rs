//! What the ways to tunnel backends carry, as routers on them have said (RFC 1191, RFC 8201).
//!
//! Only tunnels need it: an outer packet is ours, so the router's "too big" comes to us. In the
//! other modes the sender hears it and keeps it. One word per backend and worker: each worker
//! learns from the errors about its own connections. What was learned is forgotten after
//! [`LIFE_MS`], to notice a way that got wider.
//!
//! What is believed never rises on a message (RFC 1191 section 3, RFC 8201 section 4): a router that
//! says more than another is further off, or lies. Nor does it outlive the backend: another one that
//! gets its id has a way of its own.
//!
//! Anybody can write such an error, so none makes a way narrower than [`least`]. A link that is
//! narrower still, which nobody builds, gets packets that fit it only from who lets us cut.

use super::family::Family;
use super::snapshot::{Backend, Snapshot};
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
    /// Is there anything?
    is_any: bool,
}

impl Default for PathMtus {
    fn default() -> Self {
        Self { learned: vec![(0, 0); limits::BACKENDS].into(), is_any: false }
    }
}

impl PathMtus {
    /// A router said that the way to that backend, of family `F`, carries `mtu` bytes. Less than
    /// every way of the family carries is a forgery (RFC 8201 section 4).
    pub(super) fn learn<F: Family>(&mut self, backend: BackendId, mtu: u16, now_ms: u32) {
        let said = mtu.max(least::<F>());
        if mtu < F::MTU_MIN || self.limit(backend, u16::MAX, now_ms) < said {
            return;
        }
        if let Some(place) = self.learned.get_mut(backend.index()) {
            *place = (said, now_ms);
            self.is_any = true;
        }
    }

    /// Another snapshot: what was learned of backends that are gone, or have moved, is forgotten.
    pub(super) fn renew(&mut self, before: &Snapshot, now: &Snapshot) {
        if !self.is_any {
            return;
        }
        let address = |backend: &Backend| backend.address;
        for (id, place) in (0..).map(BackendId).zip(&mut self.learned).take(before.backends.len()) {
            if before.backend(id).map(address) != now.backend(id).map(address) {
                *place = (0, 0);
            }
        }
    }

    /// What the way to that backend carries, at most `mtu`.
    #[inline]
    pub(super) fn limit(&self, backend: BackendId, mtu: u16, now_ms: u32) -> u16 {
        if !self.is_any {
            return mtu;
        }
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
    use crate::dataplane::snapshot::{Encapsulation, Limit, Mode};
    use crate::ids::ServiceId;

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
    fn no_message_makes_a_way_wider_before_the_narrower_one_is_forgotten() {
        let (mut mtus, a) = (PathMtus::default(), BackendId(3));
        let said = [(1300, 0, 1300), (1400, 10, 1300), (1200, 20, 1200), (1200, 30, 1200)];
        for (mtu, now_ms, expected) in said {
            mtus.learn::<Ipv4Addr>(a, mtu, now_ms);
            assert_eq!(mtus.limit(a, 1500, now_ms), expected, "{mtu} said");
        }
        mtus.learn::<Ipv4Addr>(a, 1400, 29 + LIFE_MS);
        assert_eq!(mtus.limit(a, 1500, 29 + LIFE_MS), 1200, "said again at 30");
        mtus.learn::<Ipv4Addr>(a, 1400, 30 + LIFE_MS);
        assert_eq!(mtus.limit(a, 1500, 30 + LIFE_MS), 1400, "forgotten by then");
    }

    fn at(address: [u8; 4]) -> Backend {
        Backend {
            service: ServiceId(0),
            address: address.into(),
            port: 80,
            mode: Mode::Tunnel(Encapsulation::Ipip),
            answers_here: false,
            our_address: [10, 44, 0, 1].into(),
            weight: 1,
            limit: Limit::NONE,
            next_hop: None,
        }
    }

    #[test]
    fn what_was_learned_goes_with_the_backend() {
        let snapshot = |backends: &[Option<Backend>]| {
            let mut snapshot = Snapshot::default();
            snapshot.backends = backends.into();
            snapshot
        };
        let (one, other) = (at([10, 44, 0, 11]), at([10, 44, 0, 12]));
        let first = snapshot(&[Some(one), Some(other)]);
        let table = [
            (snapshot(&[Some(Backend { weight: 7, ..one }), Some(other)]), 1300),
            (snapshot(&[Some(at([10, 44, 0, 13])), Some(other)]), 1500),
            (snapshot(&[None, Some(other)]), 1500),
            (snapshot(&[]), 1500),
        ];
        for (now, expected) in table {
            let mut mtus = PathMtus::default();
            for id in [0, 1] {
                mtus.learn::<Ipv4Addr>(BackendId(id), 1300, 0);
            }
            mtus.renew(&first, &now);
            assert_eq!(mtus.limit(BackendId(0), 1500, 0), expected, "{:?}", now.backends);
            let is_there = now.backend(BackendId(1)).is_some();
            assert_eq!(mtus.limit(BackendId(1), 1500, 0), if is_there { 1300 } else { 1500 });
        }
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
