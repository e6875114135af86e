//! How long packets are in a worker's hands: a histogram of fixed size, written by its owner alone.
//!
//! Log-linear, as HDR histograms are: eight steps to each power of two, so a figure is known to one
//! part in eight whatever its size, and finding its place takes a count of leading zeros and a shift.
//!
//! ```text
//! ticks  0 1 2 … 15 │ 16 18 20 … 30 │ 32 36 40 … 60 │ 64 72 …          up to 2³⁴, which is seconds
//! place  0 1 2 … 15 │ 16 17 18 … 23 │ 24 25 26 … 31 │ 32 33 …          255 takes what is longer
//! ```
//!
//! Ticks are the time stamp counter's; who reads turns them into seconds ([`Summary`], and the
//! exporter). What is read while the owner writes may be a sample or two apart.

use hdrhistogram::Histogram;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::counters::Counter;

/// Steps to each power of two, as a power of two.
const STEP_BITS: u32 = 3;
/// Places there are.
pub const PLACES: usize = 256;

/// Samples by how many ticks they took.
#[derive(Debug)]
pub struct Latencies {
    places: [Counter; PLACES],
    /// Ticks of all samples together.
    ticks: Counter,
}

impl Default for Latencies {
    fn default() -> Self {
        Self { places: std::array::from_fn(|_| Counter::default()), ticks: Counter::default() }
    }
}

/// The place of so many ticks.
#[expect(clippy::cast_possible_truncation, reason = "cut to the last place first")]
fn place(ticks: u64) -> usize {
    let steps = 1 << STEP_BITS;
    if ticks < steps {
        return ticks as usize;
    }
    let shift = ticks.ilog2() - STEP_BITS;
    let place = (u64::from(shift) << STEP_BITS) + (ticks >> shift);
    place.min(PLACES as u64 - 1) as usize
}

/// Fewest ticks of a place, and how many more may be there.
fn range(place: usize) -> (u64, u64) {
    let (place, steps) = (place as u64, 1 << STEP_BITS);
    let Some(shift) = (place >> STEP_BITS).checked_sub(1) else { return (place, 0) };
    ((place % steps + steps) << shift, (1 << shift) - 1)
}

impl Latencies {
    /// Counts a sample. Owner only.
    #[inline]
    pub fn record(&self, ticks: u64) {
        if let Some(counter) = self.places.get(place(ticks)) {
            counter.add(1);
        }
        self.ticks.add(ticks);
    }

    /// Ticks of all samples together.
    pub fn ticks(&self) -> u64 {
        self.ticks.get()
    }

    /// How many samples took so many ticks, in the middle of what each place can mean; places without any
    /// are left out.
    pub fn samples(&self) -> impl Iterator<Item = (u64, u64)> {
        let of = |(at, counter): (usize, &Counter)| {
            let (first, more) = range(at);
            (first + more / 2, counter.get())
        };
        self.places.iter().enumerate().map(of).filter(|(_, count)| *count > 0)
    }

    /// The samples of these workers together, in nanoseconds of a counter of `tsc_hz`; `None` without any.
    pub fn summary<'a>(all: impl Iterator<Item = &'a Self>, tsc_hz: u64) -> Option<Summary> {
        let mut histogram = Histogram::<u64>::new(2).ok()?;
        for (ticks, count) in all.flat_map(Self::samples) {
            // The histogram grows as it needs to: there is nothing to refuse.
            let _ = histogram.record_n(nanoseconds(ticks, tsc_hz), count);
        }
        let at = |quantile| histogram.value_at_quantile(quantile);
        (!histogram.is_empty()).then(|| Summary {
            samples: histogram.len(),
            p50_ns: at(0.5),
            p99_ns: at(0.99),
            p999_ns: at(0.999),
        })
    }
}

/// Ticks of a counter of `tsc_hz` as nanoseconds; 0 if that is not known.
pub fn nanoseconds(ticks: u64, tsc_hz: u64) -> u64 {
    let nanoseconds = (u128::from(ticks) * 1_000_000_000).checked_div(u128::from(tsc_hz));
    nanoseconds.and_then(|value| u64::try_from(value).ok()).unwrap_or_default()
}

/// What a histogram says, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Summary {
    /// Packets sampled since the start.
    pub samples: u64,
    /// Half of them took less.
    pub p50_ns: u64,
    /// 99 of 100.
    pub p99_ns: u64,
    /// 999 of 1,000.
    pub p999_ns: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn places_follow_each_other_without_a_gap() {
        let mut next = 0;
        for at in 0..PLACES {
            let (first, more) = range(at);
            assert_eq!(first, next, "place {at}");
            assert_eq!((place(first), place(first + more)), (at, at));
            next = first + more + 1;
        }
        assert_eq!(next, 1 << 34, "seconds of any counter");
        assert_eq!(place(u64::MAX), PLACES - 1);
    }

    #[test]
    fn a_summary_is_of_all_workers_in_nanoseconds() {
        let [few, many] = [Latencies::default(), Latencies::default()];
        assert_eq!(Latencies::summary([&few, &many].into_iter(), 2_000_000_000), None);
        (0..990).for_each(|_| few.record(2_000));
        (0..10).for_each(|_| many.record(2_000_000));
        let found = Latencies::summary([&few, &many].into_iter(), 2_000_000_000).unwrap();
        assert_eq!(found.samples, 1000);
        let near = |found: u64, wanted: u64| found.abs_diff(wanted) * 8 <= wanted;
        assert!(near(found.p50_ns, 1_000) && near(found.p99_ns, 1_000), "{found:?}");
        assert!(near(found.p999_ns, 1_000_000), "{found:?}");
    }

    proptest! {
        #[test]
        fn a_sample_is_known_to_one_part_in_eight(ticks in 0_u64..1 << 34) {
            let latencies = Latencies::default();
            latencies.record(ticks);
            let found: Vec<_> = latencies.samples().collect();
            prop_assert_eq!(found.len(), 1);
            prop_assert_eq!((found[0].1, latencies.ticks()), (1, ticks));
            prop_assert!(found[0].0.abs_diff(ticks) * 8 <= ticks, "{} for {}", found[0].0, ticks);
        }
    }
}
