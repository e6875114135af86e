//! Never queue: the first backend without an active connection; if all have some, as sed.

use super::least;
use super::method::Method;
use super::sed::delay;
use super::tree::Rank;

pub(super) const METHOD: Method = Method {
    compares_loads: true,
    ranks: &[|load, weight| if load.active == 0 { Rank::new(0, 1) } else { delay(load, weight) }],
    ..Method::new("nq", "As sed, but no backend is left idle while another queues.", least::pick)
};
