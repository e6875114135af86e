//! What the weights of a service have been: what wrr's threshold has to go through.
//!
//! IPVS adjusts wrr's threshold at every single change of the backends, whether or not connections come
//! between. Here a worker looks at a service when a connection comes, which may be many changes
//! later. So a service carries what followed from its weights after each of the latest changes, with the
//! revision that brought it, and a worker goes through those it has not seen:
//!
//! ```text
//! after a change    divisor  largest   threshold 4, last seen at revision 6, becomes
//! revision 6           1        5
//! revision 7           1        1      1: at most the top, which is largest − (divisor − 1)
//! revision 7           1        5      1: it is never raised
//! revision 8           4        8      1: rounded to a multiple of the divisor, plus one
//! ```
//!
//! Kept is what can matter: not a change that lowers no threshold there can be after the one before it
//! (the same divisor or a part of it, a top as high), nor any that the next one outdoes (a multiple of its
//! divisor, a top as low), nor whatever was before a top of 1, which leaves one threshold. What is left is
//! seldom more than two or three. Of more than [`KEPT`] the oldest is forgotten: a worker that has seen no
//! connection of the service for so long may then stand in another pass than IPVS would. Its passes are as
//! even as any.

/// Changes of one service that are remembered.
const KEPT: usize = 32;

/// What follows from all weights of a service together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weighing {
    /// Greatest common divisor of those above zero; 0 if there are none.
    pub divisor: u32,
    /// The largest of them.
    pub largest: u32,
}

impl Weighing {
    /// Of one backend.
    pub const fn of(weight: u32) -> Self {
        Self { divisor: weight, largest: weight }
    }

    /// Of these and those.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let divisor = gcd(self.divisor, other.divisor);
        Self { divisor, largest: self.largest.max(other.largest) }
    }

    /// By how much the threshold falls from pass to pass.
    pub fn step(self) -> u32 {
        self.divisor.max(1)
    }

    /// Where passes start over; 0 if nobody has any weight.
    pub fn top(self) -> u32 {
        if self.largest == 0 { 0 } else { self.largest - (self.step() - 1) }
    }

    /// The threshold after a change that led to these weights; 0 is none yet.
    pub fn adjusted(self, threshold: u32) -> u32 {
        if threshold == 0 || threshold > self.top() {
            self.top()
        } else if self.step() > 1 {
            threshold / self.step() * self.step() + 1
        } else {
            threshold
        }
    }

    /// Does a threshold that suits `before` suit these as well?
    fn suits_all_of(self, before: Self) -> bool {
        if before.top() == 0 {
            return self.top() == 0;
        }
        self.top() >= before.top() && before.step().is_multiple_of(self.step())
    }

    /// Is any threshold the same after `before` and these as after these alone?
    fn outdoes(self, before: Self) -> bool {
        self.top() <= 1 || before.top() >= self.top() && self.step().is_multiple_of(before.step())
    }
}

impl FromIterator<u32> for Weighing {
    fn from_iter<T: IntoIterator<Item = u32>>(weights: T) -> Self {
        weights.into_iter().fold(Self::default(), |all, weight| all.and(Self::of(weight)))
    }
}

/// The weights after a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Change {
    revision: u64,
    weighing: Weighing,
    /// Was the scheduler given to backends that were there already?
    is_start: bool,
}

/// The latest weighings of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Weighings {
    /// Oldest first.
    changes: Vec<Change>,
    last: Weighing,
}

impl Weighings {
    /// A backend was added, removed or given another weight.
    pub fn note(&mut self, revision: u64, weighing: Weighing) {
        let before = std::mem::replace(&mut self.last, weighing);
        if weighing.suits_all_of(before) {
            return;
        }
        if weighing.top() <= 1 {
            self.changes.clear();
        }
        // A start is more than its weights: it is outdone by none.
        while self.changes.pop_if(|old| !old.is_start && weighing.outdoes(old.weighing)).is_some() {
        }
        self.push(Change { revision, weighing, is_start: false });
    }

    /// The scheduler was given to backends that are there: whatever was before is over.
    pub fn start(&mut self, revision: u64, weighing: Weighing) {
        self.changes.clear();
        self.last = weighing;
        self.push(Change { revision, weighing, is_start: true });
    }

    fn push(&mut self, change: Change) {
        if self.changes.len() == KEPT {
            self.changes.remove(0);
        }
        self.changes.push(change);
    }

    /// A threshold last adjusted at revision `seen`, after all that was since.
    pub fn adjusted(&self, seen: u64, threshold: u32) -> u32 {
        let since = self.changes.iter().filter(|change| change.revision > seen);
        since.fold(threshold, |threshold, change| {
            change.weighing.adjusted(if change.is_start { 0 } else { threshold })
        })
    }
}

/// The greatest common divisor; 0 is divided by all.
pub(crate) fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Thresholds there can be after the change at which each was last adjusted.
        #[test]
        fn what_is_left_out_never_mattered(
            weights in proptest::collection::vec((0..4u32, 0..7u32), 1..60),
            per_revision in 1..4u64,
        ) {
            let (mut weighings, mut all) = (Weighings::default(), vec![]);
            for (at, (divisor, times)) in (0u64..).zip(weights) {
                let largest = divisor * times;
                let weighing = Weighing { divisor: largest.min(divisor), largest };
                let revision = at / per_revision + 1;
                all.push((revision, weighing));
                weighings.note(revision, weighing);
                // Whoever last looked at the end of a revision, in whichever pass it stands.
                for (seen, then) in all.iter().rev().take(KEPT) {
                    let is_end = all.iter().rev().find(|(other, _)| other == seen) == Some(&(*seen, *then));
                    let passes = (1..=then.top()).rev().step_by(then.step() as usize);
                    for threshold in passes.filter(|_| is_end) {
                        let since = all.iter().filter(|(revision, _)| revision > seen);
                        let expected = since.fold(threshold, |it, (_, change)| change.adjusted(it));
                        prop_assert_eq!(weighings.adjusted(*seen, threshold), expected);
                    }
                }
                let all_of_it = all.iter().fold(0, |it, (_, change)| change.adjusted(it));
                prop_assert_eq!(weighings.adjusted(0, 0), all_of_it);
            }
        }
    }

    /// Every other change lowers thresholds a little less than the one before: all of them matter.
    #[test]
    fn no_more_are_kept_than_said_and_the_latest_hold() {
        let mut weighings = Weighings::default();
        for n in 1..=100 {
            weighings.note(u64::from(n), Weighing { divisor: 1, largest: 1_000 });
            weighings.note(u64::from(n), Weighing { divisor: 1, largest: n });
        }
        assert_eq!(weighings.changes.len(), KEPT);
        assert_eq!(weighings.adjusted(99, 99), 99);
        assert_eq!(weighings.adjusted(80, 1_000), 81);
        assert_eq!(weighings.adjusted(1, 1_000), 100 + 1 - u32::try_from(KEPT).unwrap());
    }

    #[test]
    fn a_start_ends_whatever_was() {
        let mut weighings = Weighings::default();
        weighings.note(1, Weighing { divisor: 1, largest: 2 });
        weighings.start(2, Weighing { divisor: 1, largest: 9 });
        assert_eq!(weighings.adjusted(1, 1), 9);
        weighings.note(3, Weighing { divisor: 1, largest: 8 });
        assert_eq!((weighings.adjusted(1, 1), weighings.adjusted(2, 3)), (8, 3));
    }
}
