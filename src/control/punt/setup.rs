//! Making the TAPs and giving them what they carry, over netlink.

use std::net::{IpAddr, Ipv4Addr};

use futures_util::TryStreamExt;
use rtnetlink::packet_route::link::LinkAttribute;
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage};
use rtnetlink::{AddressMessageBuilder, Handle, LinkUnspec, RouteMessageBuilder};

use super::place::Placed;
use super::{PuntError, Twin};
use crate::control::parts::TapSpec;
use crate::ids::PortId;

/// Makes every TAP: addresses, link up, routes. On an error all of them are gone again.
pub async fn create_all(handle: &Handle, specs: &[TapSpec]) -> Result<Vec<Twin>, PuntError> {
    for spec in specs {
        refuse_taken(handle, spec).await?;
    }
    let twins = specs.iter().map(Twin::create).collect::<Result<Vec<_>, _>>()?;
    for (spec, twin) in specs.iter().zip(&twins) {
        configure(handle, spec, twin.index).await?;
    }
    // Routes last: a gateway may be reached by another TAP than the one that lists the route.
    for (spec, twin) in specs.iter().zip(&twins) {
        add_routes(handle, spec, twin.index).await?;
    }
    warn_if_forwarding();
    Ok(twins)
}

async fn refuse_taken(handle: &Handle, spec: &TapSpec) -> Result<(), PuntError> {
    let found = handle.link().get().match_name(spec.tap.clone()).execute().try_next().await;
    match found {
        Ok(Some(_)) => Err(PuntError::Taken { port: spec.port.clone(), tap: spec.tap.clone() }),
        Ok(None) | Err(_) => Ok(()),
    }
}

async fn configure(handle: &Handle, spec: &TapSpec, index: u32) -> Result<(), PuntError> {
    settle_sysctls(&spec.tap);
    for (address, length) in &spec.addresses {
        let request = handle.address().add(index, IpAddr::V4(*address), *length);
        let added = request.replace().execute().await;
        added.map_err(|source| failed(spec, format!("address {address}/{length}"), source))?;
    }
    let up = LinkUnspec::new_with_index(index).up().build();
    let set = handle.link().set(up).execute().await;
    set.map_err(|source| failed(spec, "link up".into(), source))
}

async fn add_routes(handle: &Handle, spec: &TapSpec, index: u32) -> Result<(), PuntError> {
    for route in &spec.routes {
        let Err(source) = add_route(handle, index, *route).await else { continue };
        if exists(&source) {
            return Err(route_taken(handle, spec, *route).await);
        }
        let (destination, length, gateway) = route;
        return Err(failed(spec, format!("route {destination}/{length} via {gateway}"), source));
    }
    Ok(())
}

/// Destination, prefix length, gateway.
pub(super) type Route = (Ipv4Addr, u8, Ipv4Addr);

/// Adds a route, and never in the place of another: that one is somebody else's, and would be
/// missing when this TAP is gone.
pub(super) async fn add_route(
    handle: &Handle,
    index: u32,
    (destination, length, gateway): Route,
) -> Result<(), rtnetlink::Error> {
    let route = RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(destination, length)
        .gateway(gateway)
        .output_interface(index)
        .build();
    handle.route().add(route).execute().await
}

/// Did the kernel refuse because there is one already?
pub(super) fn exists(error: &rtnetlink::Error) -> bool {
    matches!(error, rtnetlink::Error::NetlinkError(said)
        if said.raw_code() == -rustix::io::Errno::EXIST.raw_os_error())
}

async fn route_taken(handle: &Handle, spec: &TapSpec, route: Route) -> PuntError {
    let (destination, length, gateway) = route;
    let found = existing_route(handle, route).await;
    let found = found.unwrap_or_else(|| format!("{destination}/{length}"));
    PuntError::RouteTaken {
        port: spec.port.clone(),
        found,
        wanted: format!("{destination}/{length} via {gateway}"),
    }
}

/// The main table's route to the same destination with the same metric, as `ip route` tells it.
async fn existing_route(handle: &Handle, (destination, length, _): Route) -> Option<String> {
    let mut routes = handle.route().get(RouteMessageBuilder::<Ipv4Addr>::new().build()).execute();
    while let Ok(Some(route)) = routes.try_next().await {
        let same = route.header.table == RouteHeader::RT_TABLE_MAIN
            && route.header.destination_prefix_length == length;
        let facts = Facts::of(&route);
        if !same || facts.destination != destination || facts.metric != 0 {
            continue;
        }
        let via = facts.gateway.map_or_else(String::new, |gateway| format!(" via {gateway}"));
        let device = match facts.index {
            Some(index) => link_name(handle, index).await,
            None => None,
        };
        let device = device.map_or_else(String::new, |name| format!(" dev {name}"));
        return Some(format!("{destination}/{length}{via}{device}"));
    }
    None
}

/// What of a route is told.
struct Facts {
    destination: Ipv4Addr,
    gateway: Option<Ipv4Addr>,
    index: Option<u32>,
    metric: u32,
}

impl Facts {
    fn of(route: &RouteMessage) -> Self {
        let mut facts =
            Self { destination: Ipv4Addr::UNSPECIFIED, gateway: None, index: None, metric: 0 };
        for attribute in &route.attributes {
            match attribute {
                RouteAttribute::Destination(RouteAddress::Inet(to)) => facts.destination = *to,
                RouteAttribute::Gateway(RouteAddress::Inet(via)) => facts.gateway = Some(*via),
                RouteAttribute::Oif(index) => facts.index = Some(*index),
                RouteAttribute::Priority(metric) => facts.metric = *metric,
                _ => {}
            }
        }
        facts
    }
}

async fn link_name(handle: &Handle, index: u32) -> Option<String> {
    let link = handle.link().get().match_index(index).execute().try_next().await.ok()??;
    link.attributes.into_iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name),
        _ => None,
    })
}

fn failed(spec: &TapSpec, what: String, source: rtnetlink::Error) -> PuntError {
    let source = Box::new(source);
    PuntError::Setup { port: spec.port.clone(), tap: spec.tap.clone(), what, source }
}

/// Adds and removes VIPs and local addresses. A failure is logged, not fatal: the others are
/// independent of it, and the next reload tries again what is missing.
pub async fn apply(handle: &Handle, twins: &[(PortId, u32)], add: &[Placed], remove: &[Placed]) {
    for placed in add {
        let Some(index) = index_of(twins, *placed) else { continue };
        let request = handle.address().add(index, IpAddr::V4(placed.address), 32).replace();
        if let Err(error) = request.execute().await {
            tracing::warn!(address = %placed.address, port = %placed.port, %error, "address not added to the TAP");
        }
    }
    for placed in remove {
        let Some(index) = index_of(twins, *placed) else { continue };
        let builder = AddressMessageBuilder::<Ipv4Addr>::new().index(index);
        let message = builder.address(placed.address, 32).build();
        if let Err(error) = handle.address().del(message).execute().await {
            tracing::warn!(address = %placed.address, port = %placed.port, %error, "address not removed from the TAP");
        }
    }
}

fn index_of(twins: &[(PortId, u32)], placed: Placed) -> Option<u32> {
    twins.iter().find(|(port, _)| *port == placed.port).map(|(_, index)| *index)
}

/// Best effort: without IPv6 the TAP stays silent by itself, with `arp_notify` coming up tells the
/// neighbours, with `arp_announce` requests never carry an address of another subnet.
fn settle_sysctls(tap: &str) {
    let table = [
        (format!("/proc/sys/net/ipv6/conf/{tap}/disable_ipv6"), "1"),
        (format!("/proc/sys/net/ipv4/conf/{tap}/arp_notify"), "1"),
        (format!("/proc/sys/net/ipv4/conf/{tap}/arp_announce"), "2"),
        (format!("/proc/sys/net/ipv4/conf/{tap}/forwarding"), "0"),
    ];
    for (file, value) in table {
        if let Err(error) = std::fs::write(&file, value) {
            tracing::debug!(file, %error, "not set");
        }
    }
}

/// With forwarding on, the kernel would route what is punted to it past the balancer.
fn warn_if_forwarding() {
    let on = std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward");
    if on.is_ok_and(|on| on.trim() != "0") {
        tracing::warn!(
            "net.ipv4.ip_forward is on here: the kernel routes by itself between its other \
             interfaces; turn it off unless that is wanted: sysctl -w net.ipv4.ip_forward=0"
        );
    }
}
