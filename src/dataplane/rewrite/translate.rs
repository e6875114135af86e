//! Addresses and ports of a whole packet change: FULL-NAT and NAT.
//!
//! ```text
//! client ──► VIP            becomes   local address ──► backend      and back
//! ```
//!
//! The caller has found the connection and seen that the TTL is above one. Everything that can be
//! computed once a connection is in the [`Translation`]: per packet there remain a few stores and
//! incremental checksums (RFC 1624). Payload, TOS, identification, DF and options stay.

use zerocopy::FromBytes;

use super::{Translation, transport};
use crate::dataplane::family::Family;
use crate::dataplane::parse::Parsed;
use crate::dataplane::snapshot::NextHop;
use crate::wire::ether;

/// Stores `translation` into the frame and takes one off its TTL or hop limit.
///
/// `parsed` must come from parsing this very frame. False, and the frame possibly half changed, if
/// it cannot have been: the offsets do not lie in the frame.
#[inline(always)]
#[must_use]
pub fn rewrite<F: Family>(
    frame: &mut [u8],
    parsed: &Parsed<F>,
    translation: &Translation<F>,
) -> bool {
    let Some((network, rest)) = frame.split_at_mut_checked(usize::from(parsed.l4)) else {
        return false;
    };
    let Some((link, network)) = network.split_at_mut_checked(usize::from(parsed.l3)) else {
        return false;
    };
    rewrite_link(link, translation.next_hop)
        && F::rewrite_network(network, translation)
        && transport::rewrite(rest, parsed, translation.ports, translation.l4_delta)
}

/// Stores the link addresses alone.
#[inline(always)]
#[must_use]
pub fn rewrite_link(link: &mut [u8], next_hop: NextHop) -> bool {
    let Ok((header, _)) = ether::Header::mut_from_prefix(link) else { return false };
    header.destination = next_hop.destination;
    header.source = next_hop.source;
    true
}
