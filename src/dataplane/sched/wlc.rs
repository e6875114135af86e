//! Weighted least connections: the least overhead for its weight.

use super::least::{self, by_weight};
use super::method::Method;

pub(super) const METHOD: Method = Method {
    compares_loads: true,
    ranks: &[by_weight],
    ..Method::new(
        "wlc",
        "Connections differ in length, backends in strength: the safe choice where they last.",
        least::pick,
    )
};
