//! One backend: what its checks together say of it, how often that has changed, and how much of its share
//! it gets.
//!
//! ```text
//!           a check fails                       all checks pass
//!   up ─────────────────────► down ──────────────────────────────► up, share 0 ─► ... ─► whole share
//!                              │                                          (slow start)
//!                              │ the flap limit is reached
//!                              ▼
//!                            held ── all checks have passed for a whole window ──► up
//! ```
//!
//! Time is an argument.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::check::Policy;

/// A slow start ends in so many steps, each a snapshot.
const STEPS: u32 = 20;
/// No step is shorter.
const STEP_MIN: Duration = Duration::from_secs(1);

/// What is known of a backend's health.
#[derive(Clone, Debug)]
pub struct Standing {
    /// Do its checks, together, let it serve?
    pub is_up: bool,
    /// Since when.
    pub since: Instant,
    /// How often it has gone down.
    pub downs: u64,
    /// When it went down of late.
    recent: VecDeque<Instant>,
    /// It changes too often: it must pass until then.
    held: bool,
    /// Since when all checks pass.
    passing_since: Option<Instant>,
    /// When it came back, while it gets less than its share.
    rising_since: Option<Instant>,
}

/// What became of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It serves again.
    Up,
    /// It does not any more.
    Down,
    /// As it was, but its checks pass and it changes too often.
    Held,
}

impl Standing {
    /// A backend nobody has heard of yet.
    pub fn new(is_up: bool, now: Instant) -> Self {
        Self {
            is_up,
            since: now,
            downs: 0,
            recent: VecDeque::new(),
            held: false,
            passing_since: is_up.then_some(now),
            rising_since: None,
        }
    }

    /// Is it down only because it changes too often?
    pub fn is_held(&self) -> bool {
        self.held && self.passing_since.is_some()
    }

    /// Its checks say so by now, all of them (`passing`) or not. To be called at every change of one, and
    /// now and then.
    pub fn note(&mut self, passing: bool, policy: &Policy, now: Instant) -> Option<Turn> {
        let was_passing = self.passing_since.is_some();
        self.passing_since = passing.then(|| self.passing_since.unwrap_or(now));
        if self.is_up && !passing {
            self.fall(policy, now);
            return Some(Turn::Down);
        }
        let since = self.passing_since.filter(|_| !self.is_up)?;
        let window = Duration::from_secs(policy.flap_window_s.into());
        if self.held && policy.flap_limit > 0 && now.duration_since(since) < window {
            return (!was_passing).then_some(Turn::Held);
        }
        self.rise(policy, now);
        Some(Turn::Up)
    }

    fn fall(&mut self, policy: &Policy, now: Instant) {
        (self.is_up, self.since, self.rising_since) = (false, now, None);
        self.downs += 1;
        let window = Duration::from_secs(policy.flap_window_s.into());
        self.recent.retain(|at| now.duration_since(*at) < window);
        if policy.flap_limit > 0 {
            self.recent.push_back(now);
            self.held = self.recent.len() >= policy.flap_limit as usize;
        }
    }

    fn rise(&mut self, policy: &Policy, now: Instant) {
        (self.is_up, self.since, self.held) = (true, now, false);
        self.rising_since = (policy.slow_start_s > 0).then_some(now);
    }

    /// How much of its share it gets, of [`Standing::WHOLE`]; `None` for all of it.
    pub fn share(&self, policy: &Policy, now: Instant) -> Option<u32> {
        let since = self.rising_since?;
        let (whole, step) = slow_start(policy);
        let steps = now.duration_since(since).as_millis() / step.as_millis().max(1);
        let all = whole.as_millis().div_ceil(step.as_millis().max(1));
        if steps >= all {
            return None;
        }
        let share = (steps + 1) * u128::from(Self::WHOLE) / (all + 1);
        u32::try_from(share).ok().map(|share| share.max(1))
    }

    /// Ends a slow start whose time is over. True if it just has.
    pub fn end_slow_start(&mut self, policy: &Policy, now: Instant) -> bool {
        let is_over = self.rising_since.is_some() && self.share(policy, now).is_none();
        if is_over {
            self.rising_since = None;
        }
        is_over
    }

    /// A whole share.
    pub const WHOLE: u32 = 100;
}

/// How long a slow start takes, and one of its steps.
fn slow_start(policy: &Policy) -> (Duration, Duration) {
    let whole = Duration::from_secs(policy.slow_start_s.into());
    (whole, (whole / STEPS).max(STEP_MIN))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn a_backend_is_up_when_all_checks_pass_and_down_when_one_does_not() {
        let (start, policy) = (Instant::now(), Policy::default());
        let mut standing = Standing::new(true, start);
        assert_eq!(standing.note(true, &policy, start), None);
        assert_eq!(standing.note(false, &policy, at(start, 1)), Some(Turn::Down));
        assert_eq!(standing.note(false, &policy, at(start, 2)), None);
        assert_eq!((standing.is_up, standing.downs, standing.since), (false, 1, at(start, 1)));
        assert_eq!(standing.note(true, &policy, at(start, 3)), Some(Turn::Up));
        assert_eq!((standing.is_up, standing.share(&policy, at(start, 3))), (true, None));
    }

    #[test]
    fn who_goes_down_too_often_must_pass_for_a_whole_window_before_it_is_up() {
        let start = Instant::now();
        let policy = Policy { flap_limit: 2, flap_window_s: 60, ..Policy::default() };
        let mut standing = Standing::new(true, start);
        // When, do all checks pass, what becomes of it.
        let table = [
            (10, false, Some(Turn::Down)),
            (11, true, Some(Turn::Up)),
            (20, false, Some(Turn::Down)),
            (21, true, Some(Turn::Held)),
            (22, true, None),
            (30, false, None),
            (40, true, Some(Turn::Held)),
            (99, true, None),
            (100, true, Some(Turn::Up)),
            // The window has passed over the others.
            (110, false, Some(Turn::Down)),
            (111, true, Some(Turn::Up)),
        ];
        for (second, passing, expected) in table {
            let turn = standing.note(passing, &policy, at(start, second));
            assert_eq!(turn, expected, "second {second}");
        }
        assert_eq!(standing.downs, 3);
    }

    #[test]
    fn a_slow_start_grows_in_steps_from_little_to_all() {
        let start = Instant::now();
        let policy = Policy { slow_start_s: 10, ..Policy::default() };
        let mut standing = Standing::new(false, start);
        standing.note(true, &policy, start);
        let shares: Vec<_> = (0..=10).map(|n| standing.share(&policy, at(start, n))).collect();
        assert_eq!(shares.first(), Some(&Some(9)));
        assert_eq!(shares.last(), Some(&None));
        let numbers: Vec<u32> = shares.iter().filter_map(|share| *share).collect();
        assert_eq!(numbers.len(), 10);
        assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
        assert_eq!(Standing::new(true, start).share(&policy, start), None, "nor at the start");
    }
}
