//! Addresses and ports of a whole packet change: FULL-NAT and NAT.
//!
//! ```text
//! client ──► VIP            becomes   local address ──► backend      and back
//! ```
//!
//! The caller has found the connection and seen that the TTL is above one. Everything that can be
//! computed once a connection is in the [`Translation`]: per packet there remain a few stores and
//! incremental checksums (RFC 1624). Payload, TOS, identification, DF and options stay.

use super::{Translation, transport};
use crate::dataplane::family::Family;
use crate::dataplane::parse::Parsed;
use crate::wire::ether;

/// Stores link addresses and `translation` into the frame and takes one off its TTL or hop limit.
///
/// `parsed` must come from parsing this very frame. False, and the frame possibly half changed, if
/// it cannot have been: the offsets do not lie in the frame.
#[inline(always)]
#[must_use]
pub fn rewrite<F: Family>(
    frame: &mut [u8],
    parsed: &Parsed<F>,
    link: ether::Pair,
    translation: &Translation<F>,
) -> bool {
    let Some((network, rest)) = frame.split_at_mut_checked(usize::from(parsed.l4)) else {
        return false;
    };
    let Some((front, network)) = network.split_at_mut_checked(usize::from(parsed.l3)) else {
        return false;
    };
    link.store(front)
        && F::rewrite_network(network, translation)
        && transport::rewrite(rest, parsed, translation.ports, translation.l4_delta)
}
