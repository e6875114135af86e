//! What happens in a second: `shunt rates`, and what `shunt top` draws.
//!
//! ```text
//! reading ── a while ── reading        the daemon's counters, twice
//!      └──── difference ────┘ over the time between ─► Rates ─► a table, JSON, or the screen of `top`
//! ```
//!
//! Counters are matched by name. One that has fallen began anew (the daemon was restarted, a backend
//! removed and added): what it says now is what has come since, at most.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Instant;

use serde::Serialize;

use super::request::{RequestError, Socket};
use crate::control::admin::view::{
    Backend, Drops, Losses, Port, Service, Services, Status, Volumes, Worker,
};

pub mod sheet;

/// What the daemon said at a time.
#[derive(Clone, Debug)]
pub struct Reading {
    at: Instant,
    status: Status,
    services: Services,
}

impl Reading {
    /// Asks the daemon.
    pub fn take(socket: &Socket) -> Result<Self, RequestError> {
        let services = socket.get("/services")?;
        let status = socket.get("/status")?;
        Ok(Self { at: Instant::now(), status, services })
    }

    /// What it said of itself.
    pub fn status(&self) -> &Status {
        &self.status
    }
}

/// What happened between two readings, a second.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Rates {
    /// Time between the readings.
    pub seconds: f64,
    /// By port.
    pub ports: Vec<PortRates>,
    /// By worker.
    pub workers: Vec<WorkerRates>,
    /// By service.
    pub services: Vec<ServiceRates>,
    /// By service and backend.
    pub backends: Vec<BackendRates>,
    /// Packets refused, by reason; only what occurred.
    pub drops: Vec<DropRates>,
}

/// One port's traffic.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PortRates {
    /// Its name.
    pub port: String,
    /// Frames received a second.
    pub rx_packets: f64,
    /// Bits received a second, without FCS.
    pub rx_bits: f64,
    /// Frames sent a second.
    pub tx_packets: f64,
    /// Bits sent a second.
    pub tx_bits: f64,
    /// Frames its device lost by itself a second.
    pub lost_packets: f64,
    /// Frames given to the kernel a second.
    pub to_kernel_packets: f64,
    /// Frames from the kernel a second.
    pub from_kernel_packets: f64,
}

/// One worker's load.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WorkerRates {
    /// Its number.
    pub worker: u8,
    /// Its CPU.
    pub core: usize,
    /// Share of the last second spent in polls that moved packets, 0 to 1.
    pub busy: f64,
    /// Connections now.
    pub connections: u64,
    /// It is seen not to move.
    pub stalled: bool,
}

/// One service's connections.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ServiceRates {
    /// Its name.
    pub service: String,
    /// Where clients find it.
    pub address: String,
    /// Connections now.
    pub connections: u64,
    /// Connections made a second.
    pub new: f64,
    /// New connections refused a second.
    pub refused: f64,
    /// Packets and bits that passed.
    #[serde(flatten)]
    pub passed: PassedRates,
    /// Backends that take new connections.
    pub backends: usize,
}

/// One backend's connections.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BackendRates {
    /// Its service.
    pub service: String,
    /// Address and port.
    pub backend: String,
    /// Its weight; `None` once removed.
    pub weight: Option<u32>,
    /// Connections now.
    pub connections: u64,
    /// Those that schedulers count as active.
    pub active: u64,
    /// Connections made a second.
    pub new: f64,
    /// Packets and bits that passed.
    #[serde(flatten)]
    pub passed: PassedRates,
}

/// What passes between clients and backends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct PassedRates {
    /// Packets of clients a second.
    pub in_packets: f64,
    /// Their bits a second, IP headers included.
    pub in_bits: f64,
    /// Packets of backends a second.
    pub out_packets: f64,
    /// Their bits a second.
    pub out_bits: f64,
}

impl PassedRates {
    fn grown(now: Volumes, then: Volumes, rate: impl Fn(u64, u64) -> f64) -> Self {
        Self {
            in_packets: rate(now.in_packets, then.in_packets),
            in_bits: rate(now.in_bytes, then.in_bytes) * 8.0,
            out_packets: rate(now.out_packets, then.out_packets),
            out_bits: rate(now.out_bytes, then.out_bytes) * 8.0,
        }
    }

    /// Packets in, bits in, packets out, bits out.
    pub fn numbers(self) -> [f64; 4] {
        let Self { in_packets, in_bits, out_packets, out_bits } = self;
        [in_packets, in_bits, out_packets, out_bits]
    }
}

/// Packets refused for one reason.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DropRates {
    /// The metric's label.
    pub reason: String,
    /// Packets a second.
    pub packets: f64,
    /// Since the start.
    pub total: u64,
    /// What it means.
    pub meaning: String,
}

impl Rates {
    /// What happened from one reading to the next.
    pub fn between(before: &Reading, after: &Reading) -> Self {
        let seconds = (after.at - before.at).as_secs_f64().max(1e-3);
        Self::over(seconds, (&before.status, &before.services), (&after.status, &after.services))
    }

    fn over(seconds: f64, before: (&Status, &Services), after: (&Status, &Services)) -> Self {
        let rate = |now, then| rate(now, then, seconds);
        Self {
            seconds,
            ports: ports(before.0, after.0, rate),
            workers: workers(after.0),
            services: services(before.1, after.1, rate),
            backends: backends(before.1, after.1, rate),
            drops: drops(before.0, after.0, rate),
        }
    }
}

/// A counter's growth a second.
#[expect(clippy::cast_precision_loss, reason = "for people: 53 bits of it are enough")]
fn rate(now: u64, then: u64, seconds: f64) -> f64 {
    let grown = if now >= then { now - then } else { now };
    grown as f64 / seconds
}

/// Things by what names them.
fn by<'a, K: Hash + Eq, T>(
    things: impl IntoIterator<Item = &'a T>,
    key: impl Fn(&'a T) -> K,
) -> HashMap<K, &'a T> {
    things.into_iter().map(|thing| (key(thing), thing)).collect()
}

fn ports(before: &Status, after: &Status, rate: impl Fn(u64, u64) -> f64) -> Vec<PortRates> {
    let known = by(&before.ports, |port| port.name.as_str());
    let one = |now: &Port| {
        let then = known.get(now.name.as_str());
        let grown = |of: fn(&Port) -> u64| rate(of(now), then.map_or(0, |then| of(then)));
        PortRates {
            port: now.name.clone(),
            rx_packets: grown(|port| port.rx_packets),
            rx_bits: grown(|port| port.rx_bytes) * 8.0,
            tx_packets: grown(|port| port.tx_packets),
            tx_bits: grown(|port| port.tx_bytes) * 8.0,
            lost_packets: grown(|port| port.lost.map_or(0, Losses::total)),
            to_kernel_packets: grown(|port| port.to_kernel_packets),
            from_kernel_packets: grown(|port| port.from_kernel_packets),
        }
    };
    after.ports.iter().map(one).collect()
}

fn workers(after: &Status) -> Vec<WorkerRates> {
    let one = |now: &Worker| WorkerRates {
        worker: now.id,
        core: now.core,
        busy: now.busy,
        connections: now.connections,
        stalled: now.stalled,
    };
    after.workers.iter().map(one).collect()
}

fn services(
    before: &Services,
    after: &Services,
    rate: impl Fn(u64, u64) -> f64,
) -> Vec<ServiceRates> {
    let known = by(&before.services, |service| service.name.as_str());
    let one = |now: &Service| {
        let then = known.get(now.name.as_str());
        ServiceRates {
            service: now.name.clone(),
            address: now.address.clone(),
            connections: now.connections,
            new: rate(now.new_connections, then.map_or(0, |then| then.new_connections)),
            refused: rate(now.refused, then.map_or(0, |then| then.refused)),
            passed: PassedRates::grown(
                now.volumes,
                then.map_or_else(Volumes::default, |then| then.volumes),
                &rate,
            ),
            backends: now.backends.iter().filter(|backend| backend.weight > Some(0)).count(),
        }
    };
    after.services.iter().map(one).collect()
}

fn backends(
    before: &Services,
    after: &Services,
    rate: impl Fn(u64, u64) -> f64,
) -> Vec<BackendRates> {
    let all = |services: &Services| -> HashMap<_, _> {
        let of = |service: &Service| {
            let name = service.name.clone();
            let one = move |backend: &Backend| {
                let counted = (backend.new_connections, backend.volumes);
                ((name.clone(), backend.address), counted)
            };
            service.backends.iter().map(one).collect::<Vec<_>>()
        };
        services.services.iter().flat_map(of).collect()
    };
    let known = all(before);
    let of = |service: &Service| {
        let one = |now: &Backend| {
            let then = known.get(&(service.name.clone(), now.address));
            let (new, volumes) = then.copied().unwrap_or_default();
            BackendRates {
                service: service.name.clone(),
                backend: now.address.to_string(),
                weight: now.weight,
                connections: now.connections,
                active: now.active_connections,
                new: rate(now.new_connections, new),
                passed: PassedRates::grown(now.volumes, volumes, &rate),
            }
        };
        service.backends.iter().map(one).collect::<Vec<_>>()
    };
    after.services.iter().flat_map(of).collect()
}

fn drops(before: &Status, after: &Status, rate: impl Fn(u64, u64) -> f64) -> Vec<DropRates> {
    let known = by(&before.drops, |drops| drops.reason.as_str());
    let one = |now: &Drops| DropRates {
        reason: now.reason.clone(),
        packets: rate(now.packets, known.get(now.reason.as_str()).map_or(0, |then| then.packets)),
        total: now.packets,
        meaning: now.meaning.clone(),
    };
    after.drops.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::tables::tests::status_view;

    /// A service and its backend, as the daemon says it.
    fn services_view() -> Services {
        let said = serde_json::json!({ "services": [{
            "name": "web", "protocol": "tcp", "address": "192.0.2.1:80", "scheduler": "wrr",
            "removed": false, "connections": 20, "new_connections": 400, "refused": 4,
            "backends": [{
                "address": "10.0.0.2:80", "weight": 1, "reachable": true, "connections": 5,
                "new_connections": 100,
            }],
        }]});
        serde_json::from_value(said).unwrap()
    }

    #[test]
    fn counters_become_rates_and_gauges_stay() {
        let (before, services) = (status_view(), services_view());
        let (mut after, mut later) = (before.clone(), services.clone());
        after.ports[0].rx_packets += 500;
        after.ports[0].rx_bytes += 32_000;
        after.ports[0].lost = Some(Losses { missed: 8, tx_errors: 2, ..Losses::default() });
        after.drops[0].packets += 30;
        let service = &mut later.services[0];
        service.new_connections += 20;
        service.refused += 4;
        service.volumes = Volumes::of([30, 3_000, 40, 40_000]);
        service.backends[0].new_connections += 10;
        service.backends[0].volumes = Volumes::of([10, 1_000, 20, 20_000]);
        let rates = Rates::over(2.0, (&before, &services), (&after, &later));
        let port = &rates.ports[0];
        assert!((port.rx_packets - 250.0).abs() < 1e-9 && (port.rx_bits - 128_000.0).abs() < 1e-9);
        assert!(port.tx_packets.abs() < 1e-9, "nothing was sent");
        assert!((port.lost_packets - 5.0).abs() < 1e-9, "all causes together");
        assert!((rates.drops[0].packets - 15.0).abs() < 1e-9);
        assert_eq!(rates.drops[0].total, after.drops[0].packets);
        let (service, backend) = (&rates.services[0], &rates.backends[0]);
        assert!((service.new - 10.0).abs() < 1e-9 && (service.refused - 2.0).abs() < 1e-9);
        assert!((backend.new - 5.0).abs() < 1e-9);
        assert_eq!(format!("{:.0?}", service.passed.numbers()), "[15, 12000, 20, 160000]");
        assert_eq!(format!("{:.0?}", backend.passed.numbers()), "[5, 4000, 10, 80000]");
        assert_eq!(service.connections, services.services[0].connections);
    }

    #[test]
    fn a_counter_that_has_fallen_began_anew() {
        assert!((rate(30, 1000, 2.0) - 15.0).abs() < 1e-9);
        assert!(rate(1000, 1000, 2.0).abs() < 1e-9);
    }
}
