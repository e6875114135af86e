//! The IP header's part of a translation: addresses, hop count and, in IPv4, the checksum.

use zerocopy::FromBytes;

use super::Translation;
use crate::wire::checksum::Delta;
use crate::wire::{Raw64, ipv4, ipv6};
use std::net::{Ipv4Addr, Ipv6Addr};

/// Stores new addresses into an IPv4 header and takes one off its TTL.
#[inline(always)]
pub(in crate::dataplane) fn v4(network: &mut [u8], translation: &Translation<Ipv4Addr>) -> bool {
    let Ok((header, _)) = ipv4::Header::mut_from_prefix(network) else { return false };
    let delta = translation.ip_delta.plus(Delta::TTL_MINUS_ONE);
    header.ttl = header.ttl.wrapping_sub(1);
    header.checksum.set(delta.apply(header.checksum.get()));
    header.addresses.set(translation.addresses);
    true
}

/// Stores new addresses into an IPv6 header and takes one off its hop limit.
#[inline(always)]
pub(in crate::dataplane) fn v6(network: &mut [u8], translation: &Translation<Ipv6Addr>) -> bool {
    let Ok((header, _)) = ipv6::Header::mut_from_prefix(network) else { return false };
    header.hop_limit = header.hop_limit.wrapping_sub(1);
    header.addresses = translation.addresses.map(Raw64::new);
    true
}
