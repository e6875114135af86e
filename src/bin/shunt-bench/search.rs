//! The highest rate at which nothing is lost (after RFC 2544, section 26.1): halving the interval.

use crate::rig::Trial;

/// Trials of a search: the answer is known to a thousandth of the first interval.
const TRIALS: u32 = 10;
/// Short of what was asked by more than this the generator was the limit.
const KEPT_UP: f64 = 0.98;

/// What is searched for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Search {
    /// Highest rate tried, in packets a second.
    pub(crate) highest: f64,
    /// Packets of a million that may be lost in a trial that counts as without loss.
    pub(crate) tolerated_ppm: u32,
}

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct NoLoss {
    /// Packets a second; 0 if some were lost in every trial.
    pub(crate) per_second: f64,
    /// Was the generator the limit?
    pub(crate) generator_bound: bool,
}

impl Search {
    /// Searches by trials at a rate each.
    pub(crate) fn run(
        self,
        mut trial: impl FnMut(f64) -> anyhow::Result<Trial>,
    ) -> anyhow::Result<NoLoss> {
        let (mut good, mut bad) = (0.0, self.highest);
        for _ in 0..TRIALS {
            let rate = f64::midpoint(good, bad);
            let trial = trial(rate)?;
            if self.is_lossless(&trial) {
                // What was really offered counts, not what was asked for.
                good = trial.offered_per_second.min(rate).max(good);
                if trial.offered_per_second < rate * KEPT_UP {
                    return Ok(NoLoss { per_second: good, generator_bound: true });
                }
            } else {
                bad = rate;
            }
        }
        Ok(NoLoss { per_second: good, generator_bound: false })
    }

    fn is_lossless(self, trial: &Trial) -> bool {
        u128::from(trial.lost) * 1_000_000
            <= u128::from(trial.offered) * u128::from(self.tolerated_ppm)
    }
}

#[cfg(test)]
mod tests {
    use hdrhistogram::Histogram;

    use super::*;

    /// A box that forwards so many packets a second, and a generator that makes so many.
    fn search(forwards: f64, makes: f64, tolerated_ppm: u32) -> NoLoss {
        let search = Search { highest: 8e6, tolerated_ppm };
        let trial = |rate: f64| {
            let offered_per_second = rate.min(makes);
            let lost = if offered_per_second > forwards { 10 } else { 0 };
            let latency = Histogram::new(3)?;
            Ok(Trial { offered_per_second, offered: 1_000_000, lost, latency })
        };
        search.run(trial).unwrap()
    }

    #[test]
    fn the_rate_found_is_the_highest_without_loss() {
        for forwards in [0.1e6, 2.5e6, 7.9e6] {
            let found = search(forwards, 1e9, 0);
            assert!(!found.generator_bound);
            assert!((found.per_second - forwards).abs() <= 8e6 / 1024.0, "{found:?}");
            assert!(found.per_second <= forwards, "{found:?}");
        }
    }

    #[test]
    fn a_slow_generator_claims_no_more_than_it_offered() {
        assert_eq!(search(7e6, 3e6, 0), NoLoss { per_second: 3e6, generator_bound: true });
    }

    #[test]
    fn loss_that_is_tolerated_is_none() {
        assert!(search(1e6, 1e9, 10).per_second > 7.9e6);
        assert!(search(1e6, 1e9, 9).per_second <= 1e6);
    }
}
