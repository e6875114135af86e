//! Packets and bytes of services and backends, each way.
//!
//! Two directions of two metrics are four series for each backend, as many again as of its connections. In DR and
//! tunnel mode nothing comes back through here: `out` of a backend is left out until something does. `in`, and both of
//! a service, are there from the start.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::{Point, point};
use crate::stats::collect::Sources;
use crate::stats::volumes::Volumes;

/// The points of one of these metrics.
pub(super) fn points(sources: &Sources, name: &str) -> Option<Vec<Point>> {
    Some(match name {
        "service_packets_total" => of_services(sources, packets),
        "service_bytes_total" => of_services(sources, bytes),
        "backend_packets_total" => of_backends(sources, packets),
        "backend_bytes_total" => of_backends(sources, bytes),
        _ => return None,
    })
}

/// In and out.
type Ways = [(&'static str, u64); 2];

fn packets(volumes: Volumes) -> Ways {
    [("in", volumes.in_packets), ("out", volumes.out_packets)]
}

fn bytes(volumes: Volumes) -> Ways {
    [("in", volumes.in_bytes), ("out", volumes.out_bytes)]
}

fn of_services(sources: &Sources, ways: fn(Volumes) -> Ways) -> Vec<Point> {
    let directory = sources.directory();
    let mut sums = BTreeMap::<&str, Volumes>::new();
    for service in &directory.names.services {
        let carried = || directory.carried_service_volumes(&service.name);
        let sum = sums.entry(&service.name).or_insert_with(carried);
        *sum = sum.and(sources.service_volumes(&directory, service.id));
    }
    let each = sums.into_iter().flat_map(|(service, sum)| {
        ways(sum).map(|(direction, value)| point([service, direction], value))
    });
    each.collect()
}

/// By name rather than by id, as connections are.
fn of_backends(sources: &Sources, ways: fn(Volumes) -> Ways) -> Vec<Point> {
    let directory = sources.directory();
    let services = directory.names.services.iter();
    let names: BTreeMap<_, _> = services.map(|service| (service.id, &*service.name)).collect();
    let mut sums = BTreeMap::<(&str, SocketAddr), Volumes>::new();
    for backend in &directory.names.backends {
        let Some(service) = names.get(&backend.service) else { continue };
        let carried = || directory.carried_volumes(service, backend.address);
        let sum = sums.entry((service, backend.address)).or_insert_with(carried);
        *sum = sum.and(sources.backend(&directory, backend.id).volumes);
    }
    let mut points = Vec::with_capacity(2 * sums.len());
    for ((service, backend), sum) in sums {
        let backend = backend.to_string();
        for (direction, value) in ways(sum) {
            if direction == "in" || value > 0 {
                points.push(point([service, &backend, direction], value));
            }
        }
    }
    points
}
