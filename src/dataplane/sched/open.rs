//! Who is open, without a walk: a tree of weights over a service's backends.
//!
//! ```text
//!            sum 6, most 3              the weight of each backend that may be chosen now,
//!       sum 5, most 3  sum 1, most 1    0 for the others; above them sums, and the largest
//!         3      2       0      1
//! position 0     1       2      3       as many leaves as a power of two has
//! ```
//!
//! A service that is full is asked for by every SYN of a flood, and one of ten thousand backends
//! that is open must be found among those that are not. Here both are a few steps up and down: is there
//! anybody (the root), the first from a place on, the first whose weight reaches a threshold, one
//! drawn as often as its weight.
//!
//! The tree is built when first asked for: who takes turns among backends that are all open never
//! does. From then on it is kept like the tournaments ([`super::tree`]): this worker's changes are
//! played into it, what others reopen is told ([`crate::stats::reopened`]), and what others fill is
//! found out when it is to be chosen, once.

use super::choice::Choice;

/// A backend, or all below.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, zerocopy::FromZeros, zerocopy::KnownLayout,
)]
#[repr(C)]
pub(super) struct Share {
    /// Of 65,536 weights of 65,535 at most: it fits.
    sum: u32,
    most: u32,
}

impl Share {
    fn of(weight: u32) -> Self {
        Self { sum: weight, most: weight }
    }

    fn and(self, other: Self) -> Self {
        Self { sum: self.sum.saturating_add(other.sum), most: self.most.max(other.most) }
    }
}

/// Puts everybody in: `nodes` has twice as many places as there are leaves.
fn build(nodes: &mut [Share], count: usize, weight: impl Fn(usize) -> u32) {
    let leaves = nodes.len() / 2;
    for (position, node) in nodes.iter_mut().skip(leaves).enumerate() {
        *node = Share::of(if position < count { weight(position) } else { 0 });
    }
    for place in (1..leaves).rev() {
        nodes[place] = nodes[2 * place].and(nodes[2 * place + 1]);
    }
}

/// A backend's weight is another one now.
pub(super) fn change(nodes: &mut [Share], position: usize, weight: u32) {
    let mut place = nodes.len() / 2 + position;
    let mut share = Share::of(weight);
    while let Some(node) = nodes.get_mut(place).filter(|node| **node != share) {
        *node = share;
        let Some(other) = nodes.get(place ^ 1).filter(|_| place > 1) else { return };
        share = share.and(*other);
        place /= 2;
    }
}

fn at(nodes: &[Share], place: usize) -> Share {
    nodes.get(place).copied().unwrap_or_default()
}

fn total(nodes: &[Share]) -> Share {
    at(nodes, 1)
}

/// The first from `from` on whose weight is at least `least`, which is not 0.
fn first(nodes: &[Share], from: usize, least: u32) -> Option<usize> {
    let leaves = nodes.len() / 2;
    let mut place = leaves + from;
    if from >= leaves {
        return None;
    }
    while at(nodes, place).most < least {
        // Up, as long as all on the right has been looked at.
        while place % 2 == 1 {
            if place == 1 {
                return None;
            }
            place /= 2;
        }
        place += 1;
    }
    while place < leaves {
        place *= 2;
        place += usize::from(at(nodes, place).most < least);
    }
    Some(place - leaves)
}

/// Whose share the number is in: those of all before have `number` or less together.
fn drawn(nodes: &[Share], mut number: u32) -> Option<usize> {
    let leaves = nodes.len() / 2;
    if number >= total(nodes).sum {
        return None;
    }
    let mut place = 1;
    while place < leaves {
        place *= 2;
        let left = at(nodes, place).sum;
        if number >= left {
            number -= left;
            place += 1;
        }
    }
    Some(place - leaves)
}

/// The sum of those before a place, and its own.
fn share(nodes: &[Share], position: usize) -> (u32, u32) {
    let mut place = nodes.len() / 2 + position;
    let (mut before, own) = (0, at(nodes, place).sum);
    while place > 1 {
        if place % 2 == 1 {
            before += at(nodes, place - 1).sum;
        }
        place /= 2;
    }
    (before, own)
}

impl Choice<'_> {
    /// The tree, as far as this worker knows.
    fn shares(&mut self) -> &mut [Share] {
        if self.turn.summed != self.time {
            self.turn.summed = self.time;
            let walk = self.walk;
            build(self.shares, walk.len(), |position| walk.open_weight(position));
        }
        self.shares
    }

    /// Is anybody open?
    pub(super) fn is_any_open(&mut self) -> bool {
        self.open_from(0).is_some()
    }

    /// The first open one from `position` on, round the end.
    pub(super) fn open_from(&mut self, position: usize) -> Option<usize> {
        if self.walk.takes(position) {
            return Some(position);
        }
        self.look_again(|choice| {
            choice.open_behind(position, 1).or_else(|| choice.open_behind(0, 1))
        })
    }

    /// The first open one from `position` on, not round the end, whose weight is at least `least`.
    pub(super) fn open_behind(&mut self, position: usize, least: u32) -> Option<usize> {
        loop {
            let found = first(self.shares(), position, least)?;
            if self.walk.takes(found) {
                return Some(found);
            }
            self.put_right(found);
        }
    }

    /// The largest weight of those that are open, as far as is known.
    pub(super) fn largest_open(&mut self) -> Option<u32> {
        self.look_again(|choice| Some(total(choice.shares()).most).filter(|most| *most > 0))
    }

    /// One of those that are open, each as often as its weight, the first with `more` on top; not
    /// the one at `not`.
    pub(super) fn draw_open(&mut self, not: Option<usize>, more: u32) -> Option<usize> {
        self.look_again(|choice| choice.draw_once(not, more))
    }

    fn draw_once(&mut self, not: Option<usize>, more: u32) -> Option<usize> {
        loop {
            let nodes = &*self.shares();
            let (before, left_out) = not.map_or((0, 0), |position| share(nodes, position));
            let sum = total(nodes).sum - left_out;
            if sum == 0 {
                return None;
            }
            let number = self.random.below(u64::from(sum) + u64::from(more));
            let number = u32::try_from(number).unwrap_or(u32::MAX).saturating_sub(more);
            let number = if number < before { number } else { number + left_out };
            let found = drawn(self.shares, number)?;
            if self.walk.takes(found) {
                return Some(found);
            }
            self.put_right(found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn made(weights: &[u32]) -> Vec<Share> {
        let mut nodes = vec![Share::of(77); 2 * weights.len().next_power_of_two()];
        build(&mut nodes, weights.len(), |position| weights[position]);
        nodes
    }

    proptest! {
        /// Against a list that is walked.
        #[test]
        fn what_the_tree_says_is_what_a_walk_finds(
            mut weights in proptest::collection::vec(0u32..5, 1..40),
            changes in proptest::collection::vec((any::<proptest::sample::Index>(), 0u32..5), 0..40),
            from in 0usize..70,
            least in 1u32..5,
        ) {
            let mut nodes = made(&weights);
            for (index, weight) in changes {
                let position = index.index(weights.len());
                weights[position] = weight;
                change(&mut nodes, position, weight);
            }
            let sum: u32 = weights.iter().sum();
            let most = weights.iter().copied().max().unwrap();
            prop_assert_eq!(total(&nodes), Share { sum, most });
            let walked = (from..weights.len()).find(|position| weights[*position] >= least);
            prop_assert_eq!(first(&nodes, from, least), walked);
            let owners = weights.iter().enumerate();
            let owners = owners.flat_map(|(at, weight)| std::iter::repeat_n(at, *weight as usize));
            let found: Vec<usize> = (0..).map_while(|number| drawn(&nodes, number)).collect();
            prop_assert_eq!(found, owners.collect::<Vec<_>>());
            for (position, weight) in weights.iter().enumerate() {
                let before = weights[..position].iter().sum();
                prop_assert_eq!(share(&nodes, position), (before, *weight));
            }
        }
    }

    #[test]
    fn nobody_is_found_where_nobody_is() {
        for nodes in [vec![], made(&[0]), made(&[0, 0, 0])] {
            assert_eq!((first(&nodes, 0, 1), drawn(&nodes, 0)), (None, None));
        }
    }
}
