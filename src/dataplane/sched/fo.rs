//! Failover: the highest weight takes everything, as long as it is open.

use super::least;
use super::method::Method;
use super::tree::Rank;

pub(super) const METHOD: Method = Method {
    compares_loads: true,
    ranks: &[|_, weight| Rank::new(1, weight)],
    ..Method::new(
        "fo",
        "One backend serves, the others stand by in the order of weights.",
        least::pick,
    )
};
