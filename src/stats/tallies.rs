//! What all workers count together because it is limited: connections of services and of sources,
//! and new ones a second.
//!
//! ```text
//! one cache line a service:  tokens missing, as of when │ connections
//! sources:                   `dataplane::sources`
//! ```
//!
//! A service's connections are compared and swapped, so they are exact; its token bucket is one word and
//! swapped too. A service without limits touches neither (`dataplane::quota`).

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use zerocopy::FromZeros;

use crate::dataplane::quota::{Debt, Rate};
use crate::dataplane::sources::Sources;
use crate::ids::{ServiceId, limits};

#[derive(Debug, Default, zerocopy::FromZeros, zerocopy::KnownLayout)]
#[repr(C, align(64))]
struct Line {
    debt: AtomicU64,
    connections: AtomicU32,
}

/// All of it.
#[derive(Debug)]
pub struct Tallies {
    /// By [`ServiceId`].
    services: Box<[Line]>,
    /// `None` without room for any: then nobody's source is limited.
    pub sources: Option<Sources>,
}

impl Default for Tallies {
    /// No connections, and no room for sources. The memory is the system's zero pages until it is
    /// used.
    fn default() -> Self {
        let lines = <[Line]>::new_box_zeroed_with_elems(limits::SERVICES);
        Self { services: lines.unwrap_or_else(|_| Box::default()), sources: None }
    }
}

impl Tallies {
    /// With room for sources.
    pub fn with(sources: Sources) -> Self {
        Self { sources: Some(sources), ..Self::default() }
    }

    /// Connections of a service that is limited.
    #[inline]
    pub fn count(&self, service: ServiceId) -> u32 {
        self.services.get(service.index()).map_or(0, |line| line.connections.load(Relaxed))
    }

    /// How many connections services have, apart from these from now on; without sources and rates.
    #[must_use]
    pub fn copied(&self) -> Self {
        let copy = Self::default();
        for (to, from) in copy.services.iter().zip(&self.services) {
            let connections = from.connections.load(Relaxed);
            if connections != 0 {
                to.connections.store(connections, Relaxed);
            }
        }
        copy
    }

    /// One more, if there are fewer than `most`.
    #[inline]
    pub fn take(&self, service: ServiceId, most: u32) -> bool {
        let Some(line) = self.services.get(service.index()) else { return false };
        let one_more = |count| (count < most).then_some(count + 1);
        line.connections.fetch_update(Relaxed, Relaxed, one_more).is_ok()
    }

    /// So many more, whatever the limit: they were there before it.
    pub fn add(&self, service: ServiceId, count: u32) {
        if let Some(line) = self.services.get(service.index()) {
            line.connections.fetch_add(count, Relaxed);
        }
    }

    /// So many less.
    #[inline]
    pub fn give_back(&self, service: ServiceId, count: u32) {
        let Some(line) = self.services.get(service.index()) else { return };
        let before = line.connections.fetch_sub(count, Relaxed);
        debug_assert!(before >= count, "what is given back was taken");
    }

    /// One new connection, if the rate allows it.
    #[inline]
    pub fn spend(&self, service: ServiceId, rate: Rate, now_ms: u32) -> bool {
        let Some(line) = self.services.get(service.index()) else { return false };
        let spent = |bits| Debt::from_bits(bits).take(rate, now_ms).map(Debt::to_bits);
        line.debt.fetch_update(Relaxed, Relaxed, spent).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    const S: ServiceId = ServiceId(3);

    /// What four threads get together.
    fn together(each: impl Fn() -> usize + Sync) -> usize {
        thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(&each)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        })
    }

    #[test]
    fn several_threads_take_exactly_as_many_as_there_are() {
        let tallies = Tallies::default();
        let taken = together(|| (0..1000).take_while(|_| tallies.take(S, 500)).count());
        assert_eq!((taken, tallies.count(S)), (500, 500));
        assert_eq!(tallies.count(ServiceId(2)), 0, "nobody else's");
        tallies.give_back(S, 2);
        assert_eq!((tallies.take(S, 499), tallies.take(S, 499)), (true, false));
    }

    #[test]
    fn several_threads_spend_exactly_the_burst_and_what_time_gives() {
        let (tallies, rate) = (Tallies::default(), Rate { per_second: 100, burst: 300 });
        for (now_ms, expected) in [(5, 300), (5, 0), (1_005, 100), (60_000, 300)] {
            let spent =
                together(|| (0..1000).take_while(|_| tallies.spend(S, rate, now_ms)).count());
            assert_eq!(spent, expected, "at {now_ms}");
        }
    }
}
