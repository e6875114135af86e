//! What the daemon says of services, as a [`table`](super::table).

use std::collections::HashMap;
use std::net::SocketAddr;

use super::table::{Figures, Server, Service};
use crate::control::admin::view::{self, Volumes};
use crate::control::config;

/// Whose weights: those in use, or those that are configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weights {
    /// What health checks and hands leave: a backend that they have taken out is not there.
    InUse,
    /// What is saved.
    Configured,
}

/// How many clients persistence sends to a backend of a service.
type Persistent<'a> = HashMap<(&'a str, SocketAddr), u64>;

/// Those that are configured, in the order of their ids. `templates` are which clients persistence sends where.
pub(super) fn services(
    services: &view::Services,
    weights: Weights,
    templates: &[view::Connection],
) -> Vec<Service> {
    let mut persistent = Persistent::new();
    for template in templates {
        *persistent.entry((&template.service, template.backend)).or_default() += 1;
    }
    let there = services.services.iter().filter(|it| !it.removed);
    there.filter_map(|it| service(it, weights, &persistent)).collect()
}

fn service(seen: &view::Service, weights: Weights, persistent: &Persistent<'_>) -> Option<Service> {
    let (protocol, address) = config::place(&seen.protocol, &seen.address)?;
    let is_set = |end: &str| seen.scheduler_flags.iter().any(|flag| flag.ends_with(end));
    let weight = |it: &view::Backend| match weights {
        Weights::InUse => it.weight,
        Weights::Configured => it.configured_weight,
    };
    let clients = |it: &view::Backend| {
        persistent.get(&(seen.name.as_str(), it.address)).copied().unwrap_or(0)
    };
    let servers = seen.backends.iter().filter_map(|it| Some(server(it, weight(it)?, clients(it))));
    Some(Service {
        protocol,
        address,
        scheduler: seen.scheduler.clone(),
        flags: [is_set("fallback"), is_set("port")],
        persistence: seen.persistence.map(|it| (it.timeout_s, it.prefix)),
        is_ops: seen.one_packet,
        total: figures(seen.new_since_zero, seen.volumes_since_zero),
        rate: figures(seen.new_per_second, seen.volumes_per_second),
        locals: seen.local_addresses.clone(),
        servers: servers.collect(),
    })
}

fn server(seen: &view::Backend, weight: u32, persistent: u64) -> Server {
    Server {
        address: seen.address,
        forward: seen.forward.clone().unwrap_or_default(),
        weight,
        upper: seen.max_connections,
        lower: seen.resume_below,
        active: seen.active_connections,
        inactive: seen.connections.saturating_sub(seen.active_connections),
        persistent,
        total: figures(seen.new_since_zero, seen.volumes_since_zero),
        rate: figures(seen.new_per_second, seen.volumes_per_second),
    }
}

fn figures(connections: u64, volumes: Volumes) -> Figures {
    let Volumes { in_packets, in_bytes, out_packets, out_bytes } = volumes;
    Figures { connections, in_packets, out_packets, in_bytes, out_bytes }
}
