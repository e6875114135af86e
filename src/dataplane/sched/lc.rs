//! Least connections: the least overhead, whatever the weight, if it is not zero.

use super::least::{self, overhead};
use super::method::Method;
use super::tree::Rank;

pub(super) const METHOD: Method = Method {
    compares_loads: true,
    ranks: &[|load, _| Rank::new(overhead(load), 1)],
    ..Method::new("lc", "Connections differ in length, backends are alike.", least::pick)
};
