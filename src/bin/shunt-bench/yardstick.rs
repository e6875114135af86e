//! How much of the core a round had: a fixed piece of work, timed just before and just behind it.
//!
//! ```text
//! yardstick │ the round │ yardstick        the slower of the two says how fast the core was meanwhile
//! ```
//!
//! Cycles of the TSC say how long something took, not how much of a core there was to do it with: on a shared host
//! another machine's work may take half of a core's units (hyper-threads of one core), and no counter
//! tells. The yardstick does: independent chains of simple operations, as many as the core can begin at once, in
//! registers only, so that it takes longer as soon as somebody else's operations go in between or the clock
//! falls. A round counts as undisturbed if its yardsticks took hardly longer than the fastest of the whole run.
//! What it does not see: neighbours in caches and memory; one who never leaves.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};

use shunt::dpdk::clock;

/// Chains that do not wait for each other: more than any core begins at once.
const CHAINS: usize = 8;
/// Links of each: about a thousand cycles in all.
const LINKS: u64 = 256;
/// Links that are not timed: what the round has pushed out of the core comes back meanwhile.
const FIRST_LINKS: u64 = 64;
/// An undisturbed yardstick is as fast as the fastest, but for so much, in percent. A core that is shared takes nearly
/// twice as long.
const TOLERANCE: u64 = 10;

/// The fastest so far, of all threads.
static FASTEST: AtomicU64 = AtomicU64::new(u64::MAX);

/// Takes the yardstick once; its TSC cycles.
#[inline(never)]
pub(crate) fn take() -> u64 {
    let chains = linked(black_box(std::array::from_fn(|n| n as u64)), FIRST_LINKS);
    let start = clock::now();
    black_box(linked(black_box(chains), LINKS));
    let took = clock::now() - start;
    FASTEST.fetch_min(took, Ordering::Relaxed);
    took
}

#[inline(never)]
fn linked(mut chains: [u64; CHAINS], links: u64) -> [u64; CHAINS] {
    for link in 0..links {
        for chain in &mut chains {
            *chain = chain.rotate_left(7) ^ link;
        }
    }
    chains
}

/// Had the core nobody else's work meanwhile, as far as the run so far can tell?
pub(crate) fn is_undisturbed(took: u64) -> bool {
    is_as_fast(took, FASTEST.load(Ordering::Relaxed))
}

fn is_as_fast(took: u64, fastest: u64) -> bool {
    took <= fastest.saturating_add(fastest / 100 * TOLERANCE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_slower_by_more_than_a_tenth_was_disturbed() {
        for (took, undisturbed) in [(1000, true), (1100, true), (1101, false), (2000, false)] {
            assert_eq!(is_as_fast(took, 1000), undisturbed, "{took}");
        }
    }

    #[test]
    fn the_fastest_is_undisturbed_itself() {
        let fastest = (0..100).map(|_| take()).min().unwrap_or_default();
        assert!(fastest > 0, "it takes time");
        assert!(FASTEST.load(Ordering::Relaxed) <= fastest);
        assert!(is_undisturbed(FASTEST.load(Ordering::Relaxed)));
    }
}
