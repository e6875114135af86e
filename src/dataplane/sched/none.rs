//! No scheduler: nobody is chosen. As in IPVS, whose services may have none, connections that are
//! there go on, persistent clients go where they are used to, and all others are refused.

use super::method::Method;

pub(super) const METHOD: Method = Method::new(
    "none",
    "Nobody new: connections that are there go on, and persistent clients find their backend.",
    |_| None,
);
