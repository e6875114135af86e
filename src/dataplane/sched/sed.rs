//! Shortest expected delay: the least active connections for its weight, the new one included. The
//! strongest backend is asked first.

use super::least;
use super::method::Method;
use super::tree::Rank;
use crate::stats::loads::Load;

pub(super) const METHOD: Method = Method {
    compares_loads: true,
    ranks: &[delay],
    ..Method::new(
        "sed",
        "Few connections, backends that differ a lot in strength: the strongest come first.",
        least::pick,
    )
};

pub(super) fn delay(load: Load, weight: u32) -> Rank {
    Rank::new(u64::from(load.active) + 1, weight)
}
