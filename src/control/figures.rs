//! What lists show of the past: connections made, packets and bytes passed, since somebody set them to zero, and how
//! many a second of late.
//!
//! The counters themselves never go back: `/metrics` has them as they are. Zero is what is subtracted in
//! `shunt ipvsadm -L --stats`. A rate follows the last seconds as IPVS's estimator does: every two seconds a quarter of
//! the way to what these two seconds had.

use std::collections::HashMap;
use std::hash::Hash;

use crate::ids::{BackendId, ServiceId};
use crate::stats::volumes::Volumes;

/// Between two samples.
pub(super) const SAMPLED_EVERY_S: u32 = 2;
/// What a sample counts for: so much of the old rate stays.
const KEPT: f64 = 0.75;

/// What is counted of a service or a backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Connections made.
    pub(super) connections: u64,
    /// Packets and bytes.
    pub(super) volumes: Volumes,
}

/// How many numbers that are.
const NUMBERS: usize = 5;

impl Counts {
    fn numbers(self) -> [u64; NUMBERS] {
        let [a, b, c, d] = self.volumes.numbers();
        [self.connections, a, b, c, d]
    }

    fn of([connections, volumes @ ..]: [u64; NUMBERS]) -> Self {
        Self { connections, volumes: Volumes::of(volumes) }
    }
}

/// Of services and backends.
#[derive(Debug, Default)]
pub(super) struct Figures {
    pub(super) services: Counted<ServiceId>,
    pub(super) backends: Counted<BackendId>,
}

/// Of those with these ids.
#[derive(Debug)]
pub(super) struct Counted<I> {
    zeros: HashMap<I, Counts>,
    rates: HashMap<I, Rate>,
}

#[derive(Clone, Copy, Debug)]
struct Rate {
    last: Counts,
    a_second: [f64; NUMBERS],
}

impl Rate {
    /// A sample later.
    #[expect(clippy::cast_precision_loss, reason = "it is rounded for people anyway")]
    fn moved(self, now: Counts) -> Self {
        let (mut a_second, samples) = (self.a_second, now.numbers().into_iter());
        let samples = samples.zip(self.last.numbers()).map(|(now, last)| now.saturating_sub(last));
        for (old, latest) in a_second.iter_mut().zip(samples) {
            let latest = latest as f64 / f64::from(SAMPLED_EVERY_S);
            *old = *old * KEPT + latest * (1.0 - KEPT);
        }
        Self { last: now, a_second }
    }
}

impl<I> Default for Counted<I> {
    fn default() -> Self {
        Self { zeros: HashMap::new(), rates: HashMap::new() }
    }
}

impl<I: Copy + Eq + Hash> Counted<I> {
    /// Counting begins anew at `now`.
    pub(super) fn zero(&mut self, id: I, now: Counts) {
        self.zeros.insert(id, now);
    }

    /// What came since; all there is if the id has changed hands in between and anything stands lower.
    pub(super) fn since_zero(&self, id: I, now: Counts) -> Counts {
        let numbers = now.numbers();
        let is_before = |zero: &Counts| zero.numbers().iter().zip(&numbers).all(|(a, b)| a <= b);
        let Some(zero) = self.zeros.get(&id).copied().filter(is_before) else { return now };
        let connections = now.connections - zero.connections;
        Counts { connections, volumes: now.volumes.since(zero.volumes) }
    }

    /// How many a second.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rate is neither below zero nor beyond 64 bits"
    )]
    pub(super) fn rate(&self, id: I) -> Counts {
        let rate = self.rates.get(&id).map_or([0.0; NUMBERS], |rate| rate.a_second);
        Counts::of(rate.map(|number| number.round() as u64))
    }

    /// Takes a sample of all there are.
    pub(super) fn sample(&mut self, all: impl Iterator<Item = (I, Counts)>) {
        let mut rates = HashMap::with_capacity(self.rates.len());
        for (id, now) in all {
            let first = Rate { last: now, a_second: [0.0; NUMBERS] };
            let old = self.rates.get(&id).copied().unwrap_or(first);
            rates.insert(id, old.moved(now));
        }
        self.zeros.retain(|id, _| rates.contains_key(id));
        self.rates = rates;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(connections: u64, in_packets: u64) -> Counts {
        Counts { connections, volumes: Volumes { in_packets, ..Volumes::default() } }
    }

    #[test]
    fn zero_is_where_counting_begins_until_the_id_is_somebody_elses() {
        let mut counted = Counted::default();
        assert_eq!(counted.since_zero(1u32, counts(7, 70)), counts(7, 70));
        counted.zero(1, counts(7, 70));
        assert_eq!(counted.since_zero(1, counts(9, 70)), counts(2, 0));
        for lower in [counts(3, 100), counts(9, 69)] {
            assert_eq!(
                counted.since_zero(1, lower),
                lower,
                "it stands lower than it was: another's"
            );
        }
    }

    #[test]
    fn a_rate_comes_near_what_is_steady_and_falls_again() {
        let mut counted = Counted::default();
        let mut total = 0;
        for _ in 0..20 {
            counted.sample([(1u32, counts(total, 10 * total))].into_iter());
            total += 200;
        }
        let Counts { connections, volumes } = counted.rate(1);
        assert!((98..=100).contains(&connections), "{connections}");
        assert!((985..=1000).contains(&volumes.in_packets), "{volumes:?}");
        assert_eq!(volumes.out_bytes, 0);
        for _ in 0..30 {
            counted.sample([(1, counts(total, 10 * total))].into_iter());
        }
        assert_eq!(counted.rate(1), Counts::default());
        counted.sample(std::iter::empty());
        assert_eq!(counted.rates.len(), 0, "who is gone is forgotten");
    }
}
