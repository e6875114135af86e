//! A token bucket: how much of something may still happen, refilled by time.
//!
//! Used where a flood would otherwise be somebody else's problem: packets punted to the kernel,
//! answers to strays. It holds a tenth of a second's worth, at least a burst.

use super::io::BURST;

/// Tokens count in thousandths, so that a millisecond at one a second is not nothing.
const UNIT: u64 = 1000;

/// How many more may pass. Starts full at the first rate it is given.
#[derive(Clone, Copy, Debug, Default)]
pub struct Allowance {
    tokens: u64,
    last_ms: u32,
    /// The rate it was filled for.
    per_second: u32,
}

impl Allowance {
    /// Earns what is due by `now_ms` at `per_second`.
    #[inline]
    pub fn refill(&mut self, now_ms: u32, per_second: u32) {
        let elapsed = now_ms.wrapping_sub(self.last_ms);
        if elapsed == 0 && per_second == self.per_second {
            return;
        }
        let full = (u64::from(per_second) * 100).max(BURST as u64 * UNIT);
        let earned = u64::from(elapsed) * u64::from(per_second);
        // A rate never used before starts with a full bucket: the first packets for the kernel are
        // the answers that make next hops known.
        let before = if per_second == self.per_second { self.tokens } else { full };
        (self.last_ms, self.per_second) = (now_ms, per_second);
        self.tokens = (before + earned).min(full);
    }

    /// One more: true if it may pass.
    #[inline]
    pub fn take(&mut self) -> bool {
        let left = self.tokens.checked_sub(UNIT);
        self.tokens = left.unwrap_or(self.tokens);
        left.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes as many as it gets.
    fn drain(allowance: &mut Allowance) -> u32 {
        (0..100_000).take_while(|_| allowance.take()).count().try_into().unwrap()
    }

    #[test]
    fn it_starts_full_and_earns_by_time_also_over_the_wrap() {
        let mut allowance = Allowance::default();
        allowance.refill(u32::MAX - 4, 1000);
        assert_eq!(drain(&mut allowance), 100);
        allowance.refill(u32::MAX - 4, 1000);
        assert_eq!(drain(&mut allowance), 0, "no time, no tokens");
        allowance.refill(5, 1000);
        assert_eq!(drain(&mut allowance), 10, "ten milliseconds over the wrap");
        allowance.refill(60_000, 1000);
        assert_eq!(drain(&mut allowance), 100, "never more than it holds");
    }

    #[test]
    fn a_small_rate_still_lets_a_burst_through_and_a_slow_trickle() {
        let mut allowance = Allowance::default();
        allowance.refill(1, 2);
        assert_eq!(drain(&mut allowance), 32);
        allowance.refill(400, 2);
        assert_eq!(drain(&mut allowance), 0);
        allowance.refill(501, 2);
        assert_eq!(drain(&mut allowance), 1);
    }
}
