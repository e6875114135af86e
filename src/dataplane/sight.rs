//! What a worker watches of its packets while it forwards them, and how little that costs when
//! nobody looks.
//!
//! ```text
//! burst ─► is it due? ─ no ──► the ordinary loop (nothing for any packet)
//!              └─ one in 64 ─► the same, and: received at …, staged for port 1 ─┐
//! port 1 is flushed ─► is a sample waiting there? ─────────────────────────────► now − received
//! ```
//!
//! A burst costs a subtraction and a branch, a flush a branch. The time is read twice for a sample,
//! and never otherwise.

use std::num::NonZeroU32;

/// Bursts of which one is sampled, unless somebody says otherwise: at full speed some ten thousand
/// samples a second, and far below one part in a hundred of a worker's time.
pub const SAMPLED_ONE_IN: NonZeroU32 = NonZeroU32::MIN.saturating_add(63);

/// What one worker watches.
#[derive(Debug)]
pub struct Sight {
    /// Of so many bursts one is sampled; `None` samples none.
    one_in: Option<NonZeroU32>,
    /// Bursts to the next that is looked at.
    countdown: u32,
    /// Is every burst looked at, because a flow is followed?
    is_following: bool,
    /// Of these, those since the last that was sampled.
    passed: u32,
}

impl Default for Sight {
    fn default() -> Self {
        let (one_in, countdown) = (Some(SAMPLED_ONE_IN), SAMPLED_ONE_IN.get());
        Self { one_in, countdown, is_following: false, passed: 0 }
    }
}

impl Sight {
    /// From now on one burst in so many is sampled, or none.
    pub fn sample(&mut self, one_in: Option<NonZeroU32>) {
        self.one_in = one_in;
        self.rewind();
    }

    /// From now on every burst is looked at, or again only those that are sampled.
    pub(super) fn follow(&mut self, is_following: bool) {
        self.is_following = is_following;
        self.rewind();
    }

    /// Counts a burst. Is it to be looked at?
    #[inline(always)]
    pub(super) fn is_due(&mut self) -> bool {
        self.countdown -= 1;
        self.countdown == 0
    }

    /// A burst is looked at: is its latency to be sampled?
    pub(super) fn begin(&mut self) -> bool {
        self.rewind();
        let Some(one_in) = self.one_in else { return false };
        if !self.is_following {
            return true;
        }
        self.passed = (self.passed + 1) % one_in.get();
        self.passed == 0
    }

    fn rewind(&mut self) {
        let next = self.one_in.map_or(u32::MAX, NonZeroU32::get);
        self.countdown = if self.is_following { 1 } else { next };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(sight: &mut Sight, bursts: u32) -> u32 {
        (0..bursts).map(|_| u32::from(sight.is_due() && sight.begin())).sum()
    }

    #[test]
    fn one_burst_in_so_many_is_sampled_and_none_where_that_is_off() {
        let mut sight = Sight::default();
        assert_eq!(due(&mut sight, 640), 10);
        sight.sample(NonZeroU32::new(3));
        assert_eq!(due(&mut sight, 30), 10);
        sight.sample(NonZeroU32::new(1));
        assert_eq!(due(&mut sight, 5), 5);
        sight.sample(NonZeroU32::new(4));
        sight.follow(true);
        assert_eq!(due(&mut sight, 40), 10, "the same share where each is looked at");
        sight.follow(false);
        assert_eq!(due(&mut sight, 40), 10);
        sight.sample(None);
        assert_eq!(due(&mut sight, 1000), 0);
    }
}
