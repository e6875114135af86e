//! A reload as IPVS would see it: one change of a backend after the other. First those that are
//! gone leave, then those that stay get their new weights, then new ones come; each oldest first, as
//! keepalived does it.
//!
//! After each change the weights' divisor and the largest of them are asked for, so they are kept in a tree
//! over all backends there were and are: a service of 65,536 that is weighed anew costs sixteen steps each, not
//! a walk.
//!
//! ```text
//!        1, 6                divisor, largest of all that is below
//!      ╱      ╲
//!    3, 6     1, 1
//!   ╱   ╲    ╱   ╲
//!  3     6  1     0          weights; 0 for who is gone or not there yet
//! ```

use std::collections::HashMap;

use crate::dataplane::snapshot::{Weighing, Weighings};
use crate::ids::BackendId;

/// Notes what `revision` changed, from one order (newest first, with weights) to another.
pub(super) fn note(
    weighings: &mut Weighings,
    revision: u64,
    before: &[(BackendId, u32)],
    after: &[(BackendId, u32)],
) {
    let old: HashMap<BackendId, u32> = before.iter().copied().collect();
    let new: HashMap<BackendId, u32> = after.iter().copied().collect();
    let added = after.iter().rev().filter(|(id, _)| !old.contains_key(id));
    let all: Vec<BackendId> = before.iter().rev().chain(added).map(|(id, _)| *id).collect();
    let (gone, there): (Vec<_>, Vec<_>) =
        (0..).zip(&all).partition(|(_, id)| !new.contains_key(*id));
    let mut tree = Tree::new(all.iter().map(|id| old.get(id).copied().unwrap_or(0)).collect());
    // Whoever stays is before whoever comes in the list.
    for (position, id) in gone.into_iter().chain(there) {
        let weight = new.get(id).copied().unwrap_or(0);
        weighings.note(revision, tree.weigh(position, weight));
    }
}

/// Weights, and above them what follows from two each; the root is the second.
struct Tree(Vec<Weighing>);

impl Tree {
    fn new(weights: Vec<u32>) -> Self {
        let leaves = weights.into_iter().map(Weighing::of);
        let mut nodes = vec![Weighing::default(); leaves.len()];
        nodes.extend(leaves);
        let mut tree = Self(nodes);
        (1..tree.0.len() / 2).rev().for_each(|node| tree.join(node));
        tree
    }

    fn join(&mut self, node: usize) {
        self.0[node] = self.0[2 * node].and(self.0[2 * node + 1]);
    }

    /// One backend's weight is another; the whole then.
    fn weigh(&mut self, position: usize, weight: u32) -> Weighing {
        let mut node = self.0.len() / 2 + position;
        self.0[node] = Weighing::of(weight);
        while node > 1 {
            node /= 2;
            self.join(node);
        }
        self.0[1]
    }
}
