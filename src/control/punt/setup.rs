//! Making the TAPs and giving them what they carry, over netlink.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures_util::TryStreamExt;
use rtnetlink::packet_route::link::LinkAttribute;
use rtnetlink::packet_route::route::{RouteAttribute, RouteHeader, RouteMessage};
use rtnetlink::{Handle, LinkUnspec, RouteMessageBuilder};

use super::addresses::{add_address, remove_address};
use super::place::Placed;
use super::{PuntError, Twin, sysctls};
use crate::control::neighbors::{ip, unspecified};
use crate::control::parts::TapSpec;
use crate::control::prefix::width;
use crate::control::voice::Lines;
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
    sysctls::warn_if_forwarding();
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
    sysctls::settle(&spec.tap);
    for &(address, length) in &spec.addresses {
        let added = add_address(handle, index, address, length).await;
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
pub(super) type Route = (IpAddr, u8, IpAddr);

/// Adds a route, and never in the place of another: that one is somebody else's, and would be
/// missing when this TAP is gone.
pub(super) async fn add_route(
    handle: &Handle,
    index: u32,
    (destination, length, gateway): Route,
) -> Result<(), rtnetlink::Error> {
    let route = RouteMessageBuilder::<IpAddr>::new().destination_prefix(destination, length);
    // The configuration has both of one family.
    let Ok(route) = route.and_then(|route| route.gateway(gateway)) else {
        return Err(rtnetlink::Error::RequestFailed);
    };
    handle.route().add(route.output_interface(index).build()).execute().await
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
    let question = match destination {
        IpAddr::V4(_) => RouteMessageBuilder::<Ipv4Addr>::new().build(),
        IpAddr::V6(_) => RouteMessageBuilder::<Ipv6Addr>::new().build(),
    };
    let mut routes = handle.route().get(question).execute();
    while let Ok(Some(route)) = routes.try_next().await {
        let same = route.header.table == RouteHeader::RT_TABLE_MAIN
            && route.header.destination_prefix_length == length;
        let facts = Facts::of(&route);
        let default = unspecified(destination);
        if !same
            || facts.destination.unwrap_or(default) != destination
            || facts.metric != ordinary_metric(destination)
        {
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

/// The metric of a route that was given none.
fn ordinary_metric(destination: IpAddr) -> u32 {
    if destination.is_ipv4() { 0 } else { 1024 }
}

/// What of a route is told.
#[derive(Default)]
struct Facts {
    destination: Option<IpAddr>,
    gateway: Option<IpAddr>,
    index: Option<u32>,
    metric: u32,
}

impl Facts {
    fn of(route: &RouteMessage) -> Self {
        let mut facts = Self::default();
        for attribute in &route.attributes {
            match attribute {
                RouteAttribute::Destination(to) => facts.destination = ip(to),
                RouteAttribute::Gateway(via) => facts.gateway = ip(via),
                RouteAttribute::Oif(index) => facts.index = Some(*index),
                RouteAttribute::Priority(metric) => facts.metric = *metric,
                _ => {}
            }
        }
        facts
    }
}

pub(super) async fn link_name(handle: &Handle, index: u32) -> Option<String> {
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
    let mut failures = Lines::default();
    for &placed in add {
        let Some(index) = index_of(twins, placed) else { continue };
        let Placed { port, address } = placed;
        if let Err(error) = add_address(handle, index, address, width(address)).await
            && failures.may_say()
        {
            tracing::warn!(%address, %port, %error, "address not added to the TAP");
        }
    }
    for &placed in remove {
        let Some(index) = index_of(twins, placed) else { continue };
        let Placed { port, address } = placed;
        if let Err(error) = remove_address(handle, index, address).await
            && failures.may_say()
        {
            tracing::warn!(%address, %port, %error, "address not removed from the TAP");
        }
    }
    if let Some(kept) = failures.kept() {
        tracing::warn!(
            kept,
            "more addresses were not added to TAPs or removed; they were not logged"
        );
    }
}

fn index_of(twins: &[(PortId, u32)], placed: Placed) -> Option<u32> {
    twins.iter().find(|(port, _)| *port == placed.port).map(|(_, index)| *index)
}
