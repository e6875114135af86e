//! One address on one link: adding it, removing it, and seeing what is there.
//!
//! An IPv6 address is added without duplicate address detection (`IFA_F_NODAD`): it serves at once
//! and is never tentative, as one of IPv4 is. It needs IPv6 on the link, which is turned on with the
//! first one.
//!
//! VIPs and local addresses (single hosts, /128) are added as deprecated: the kernel takes packets for
//! them, but never speaks from one unasked. Left to itself it would choose any of them as the source of
//! a tunnel's outer header, of BGP or of a health check. With IPv4 the subnet's route names the source.

use std::collections::BTreeSet;
use std::net::IpAddr;

use futures_util::TryStreamExt;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, CacheInfo};
use rtnetlink::{AddressMessageBuilder, Handle};

use super::{setup, sysctls};

/// An address on a link: index, address, prefix length.
pub(super) type OnLink = (u32, IpAddr, u8);

/// Adds an address; no error if it is there.
pub(super) async fn add_address(
    handle: &Handle,
    index: u32,
    address: IpAddr,
    length: u8,
) -> Result<(), rtnetlink::Error> {
    let mut request = handle.address().add(index, address, length).replace();
    if address.is_ipv6() {
        if let Some(name) = setup::link_name(handle, index).await {
            sysctls::enable_ipv6(&name);
        }
        let flags = AddressAttribute::Flags(AddressFlags::Nodad);
        request.message_mut().attributes.push(flags);
        if length == 128 {
            let mut forever = CacheInfo::default();
            (forever.ifa_preferred, forever.ifa_valid) = (0, u32::MAX);
            request.message_mut().attributes.push(AddressAttribute::CacheInfo(forever));
        }
    }
    request.execute().await
}

/// Removes the address of a single host.
pub(super) async fn remove_address(
    handle: &Handle,
    index: u32,
    address: IpAddr,
) -> Result<(), rtnetlink::Error> {
    let message = match address {
        IpAddr::V4(address) => AddressMessageBuilder::<std::net::Ipv4Addr>::new()
            .index(index)
            .address(address, 32)
            .build(),
        IpAddr::V6(address) => AddressMessageBuilder::<std::net::Ipv6Addr>::new()
            .index(index)
            .address(address, 128)
            .build(),
    };
    handle.address().del(message).execute().await
}

/// Every address of every link, of both families.
pub(super) async fn present(handle: &Handle) -> Result<BTreeSet<OnLink>, rtnetlink::Error> {
    let mut present = BTreeSet::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut request = handle.address().get();
        request.message_mut().header.family = family;
        let messages: Vec<_> = request.execute().try_collect().await?;
        present.extend(messages.iter().filter_map(on_link));
    }
    Ok(present)
}

/// IPv6 has `IFA_LOCAL` only where there is a peer.
fn on_link(message: &AddressMessage) -> Option<OnLink> {
    let local = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    let own = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Address(address) => Some(*address),
        _ => None,
    });
    Some((message.header.index, local.or(own)?, message.header.prefix_len))
}
