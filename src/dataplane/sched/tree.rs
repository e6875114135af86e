//! The best of many, kept up to date: a tournament.
//!
//! ```text
//!                 1: best of 2, 3                  nodes[0] is not used
//!            2: best of 4, 5    3: best of 6, 7    leaf of position p: nodes[n + p]
//!          4      5           6      7
//! ```
//!
//! Asking for the best is one load; a change is played up to the root, ten matches for 1,000
//! backends, and stops where nothing changes. A walk over the list, as IPVS has it, would cost
//! every new connection a cache line for each backend.
//!
//! Ranks are fractions, compared by multiplying across, as IPVS does. The smaller is better; of
//! equals the first in the list, which is the newest backend.

/// How good a backend is: the less, the better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rank {
    /// Below 2⁴⁸.
    over: u64,
    /// At most 65,535; 0 is never chosen.
    under: u32,
}

impl Rank {
    /// Not to be chosen.
    pub(super) const NEVER: Self = Self { over: 1, under: 0 };

    /// `over` / `under`.
    #[inline]
    pub(super) fn new(over: u64, under: u32) -> Self {
        if under == 0 { Self::NEVER } else { Self { over, under } }
    }

    /// May it be chosen at all?
    #[inline]
    pub(super) fn is_eligible(self) -> bool {
        self.under > 0
    }

    /// Is it better than another?
    #[inline]
    pub(super) fn is_less(self, other: Self) -> bool {
        self.over * u64::from(other.under) < other.over * u64::from(self.under)
    }

    /// Is it less than `over` / `under`?
    #[inline]
    pub(super) fn is_below(self, over: u64, under: u64) -> bool {
        self.is_eligible() && self.over * under < over * u64::from(self.under)
    }
}

/// A backend in the tournament.
#[derive(Clone, Copy, Debug, PartialEq, Eq, zerocopy::FromZeros, zerocopy::KnownLayout)]
#[repr(C)]
pub(super) struct Node {
    over: u64,
    under: u32,
    pub(super) position: u32,
}

impl Node {
    #[inline]
    pub(super) fn new(rank: Rank, position: u32) -> Self {
        Self { over: rank.over, under: rank.under, position }
    }

    #[inline]
    pub(super) fn rank(self) -> Rank {
        Rank { over: self.over, under: self.under }
    }

    /// The better of two.
    #[inline(always)]
    fn best(self, other: Self) -> Self {
        let mine = self.over * u64::from(other.under);
        let others = other.over * u64::from(self.under);
        let first = self.position < other.position;
        if mine < others || (mine == others && first) { self } else { other }
    }
}

/// Nodes a tree of `count` backends has.
#[inline]
pub(super) fn size(count: usize) -> usize {
    2 * count
}

/// Plays all matches: `nodes` is [`size`] long.
pub(super) fn build(nodes: &mut [Node], rank: impl Fn(usize) -> Rank) {
    let count = nodes.len() / 2;
    for (node, position) in nodes.iter_mut().skip(count).zip(0u32..) {
        *node = Node::new(rank(position as usize), position);
    }
    for place in (1..count).rev() {
        nodes[place] = nodes[2 * place].best(nodes[2 * place + 1]);
    }
}

/// The best of all; `None` if there are none.
#[inline]
pub(super) fn best(nodes: &[Node]) -> Option<Node> {
    nodes.get(1).copied()
}

/// The backend at `position` has another rank now.
#[inline]
pub(super) fn change(nodes: &mut [Node], position: u32, rank: Rank) {
    let mut place = nodes.len() / 2 + position as usize;
    let mut winner = Node::new(rank, position);
    while let Some(node) = nodes.get_mut(place) {
        if *node == winner {
            return;
        }
        *node = winner;
        if place <= 1 {
            return;
        }
        let Some(other) = nodes.get(place ^ 1) else { return };
        winner = winner.best(*other);
        place /= 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn nodes(count: usize) -> Vec<Node> {
        vec![Node::new(Rank::NEVER, 0); size(count)]
    }

    /// The first of the best, by walking.
    fn walked(ranks: &[Rank]) -> Option<usize> {
        let mut best: Option<usize> = None;
        for (position, rank) in ranks.iter().enumerate().filter(|(_, rank)| rank.is_eligible()) {
            let better = |best: usize| {
                rank.over * u64::from(ranks[best].under) < ranks[best].over * u64::from(rank.under)
            };
            if best.is_none_or(better) {
                best = Some(position);
            }
        }
        best
    }

    fn rank() -> impl Strategy<Value = Rank> {
        (0u64..6, 0u32..4).prop_map(|(over, under)| Rank::new(over, under))
    }

    proptest! {
        #[test]
        fn the_tree_knows_the_best_after_any_changes(
            mut ranks in proptest::collection::vec(rank(), 1..70),
            changes in proptest::collection::vec((any::<proptest::sample::Index>(), rank()), 0..100),
        ) {
            let mut nodes = nodes(ranks.len());
            build(&mut nodes, |position| ranks[position]);
            for (index, rank) in changes {
                let position = index.index(ranks.len());
                ranks[position] = rank;
                change(&mut nodes, u32::try_from(position).unwrap(), rank);
                let found = best(&nodes).filter(|node| node.rank().is_eligible());
                prop_assert_eq!(found.map(|node| node.position as usize), walked(&ranks));
            }
        }
    }

    #[test]
    fn a_tree_of_nobody_has_no_best() {
        assert_eq!(best(&nodes(0)), None);
        assert_eq!(best(&nodes(1)).map(Node::rank), Some(Rank::NEVER));
    }
}
