//! FULL-NAT: both addresses and both ports change.
//!
//! ```text
//! client ──► VIP            becomes   local address ──► backend      and back
//! ```
//!
//! The caller has found the connection and seen that the TTL is above one. Everything that can be
//! computed once a connection is in the [`Translation`]: per packet there remain a few stores and
//! two incremental checksums (RFC 1624). Payload, TOS, identification, DF and options stay.

use zerocopy::FromBytes;

use super::Translation;
use crate::dataplane::conn::key::FlowKey;
use crate::dataplane::parse::Parsed;
use crate::wire::checksum::Delta;
use crate::wire::{ether, ipv4, tcp, udp};

/// Stores `translation` into the frame and takes one off its TTL.
///
/// `parsed` must come from parsing this very frame. False, and the frame possibly half changed, if
/// it cannot have been: the offsets do not lie in the frame.
#[inline(always)]
#[must_use]
pub fn rewrite(frame: &mut [u8], parsed: &Parsed, translation: &Translation) -> bool {
    let (l3, l4) = (usize::from(parsed.l3), usize::from(parsed.l4));
    let Some((network, transport)) = frame.split_at_mut_checked(l4) else { return false };
    let Some((link, network)) = network.split_at_mut_checked(l3) else { return false };
    rewrite_link(link, translation)
        && rewrite_network(network, translation)
        && match parsed.key.protocol {
            ipv4::TCP => rewrite_tcp(transport, translation),
            _ => rewrite_udp(transport, translation),
        }
}

#[inline(always)]
fn rewrite_link(link: &mut [u8], translation: &Translation) -> bool {
    let Ok((header, _)) = ether::Header::mut_from_prefix(link) else { return false };
    header.destination = translation.next_hop.destination;
    header.source = translation.next_hop.source;
    true
}

#[inline(always)]
fn rewrite_network(network: &mut [u8], translation: &Translation) -> bool {
    let Ok((header, _)) = ipv4::Header::mut_from_prefix(network) else { return false };
    let delta = translation.ip_delta.plus(Delta::TTL_MINUS_ONE);
    header.ttl = header.ttl.wrapping_sub(1);
    header.checksum.set(delta.apply(header.checksum.get()));
    header.addresses.set(translation.addresses);
    true
}

#[inline(always)]
fn rewrite_tcp(transport: &mut [u8], translation: &Translation) -> bool {
    let Ok((header, _)) = tcp::Header::mut_from_prefix(transport) else { return false };
    header.ports.set(translation.ports);
    header.checksum.set(translation.l4_delta.apply(header.checksum.get()));
    true
}

#[inline(always)]
fn rewrite_udp(transport: &mut [u8], translation: &Translation) -> bool {
    let Ok((header, _)) = udp::Header::mut_from_prefix(transport) else { return false };
    header.ports.set(translation.ports);
    header.checksum.set(translation.l4_delta.apply_udp(header.checksum.get()));
    true
}

/// What turning packets of `from` into packets of `to` does to the IPv4 header checksum (TTL not
/// included) and to the TCP or UDP checksum.
#[must_use]
pub fn translation_deltas(from: FlowKey, to: FlowKey) -> (Delta, Delta) {
    let ip = Delta::of_u64(from.addresses, to.addresses);
    (ip, ip.plus(Delta::of_u32(from.ports, to.ports)))
}
