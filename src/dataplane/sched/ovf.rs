//! Overflow: the highest weight of those with no more active connections than their weight; refuse
//! when all have more.

use super::least;
use super::method::Method;
use super::tree::Rank;

pub(super) const METHOD: Method = Method {
    compares_loads: true,
    ranks: &[|load, weight| if load.active > weight { Rank::NEVER } else { Rank::new(1, weight) }],
    ..Method::new(
        "ovf",
        "Fill one backend after the other; the weight is how many active connections one takes.",
        least::pick,
    )
};
