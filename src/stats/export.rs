//! `/metrics`: the numbers as Prometheus wants them.
//!
//! One collector reads [`Sources`] at scrape time; nothing is registered, updated or locked in
//! between. [`METRICS`] is the list of names with their meaning: `docs/metrics.md` is checked
//! against it by a test, and so is what a scrape yields.

use std::collections::BTreeMap;
use std::sync::Arc;

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};

use super::collect::{Activity, Refusals, Sources};
use super::devices::Losses;
use super::health::{BackendHealth, CheckResult, ServiceHealth};
use super::http::{Listener, ListenerStats, Turned};
use super::slow::ReloadResult;
use crate::dataplane::conn::state::Stage;
use crate::dataplane::cookie::Event;
use crate::dataplane::snapshot::Protocol;
use crate::dataplane::verdict::Reason;
use crate::ids::PortId;

mod histogram;
mod names;
mod volumes;

pub use names::{Kind, METRICS, Name};

/// Label values and the value.
type Point = (Vec<String>, f64);

/// The one collector.
#[derive(Debug)]
struct Everything {
    sources: Arc<Sources>,
    descriptions: Vec<Desc>,
}

/// A registry that answers with everything `sources` knows.
pub fn registry(sources: Arc<Sources>) -> prometheus::Result<prometheus::Registry> {
    let describe = |name: &Name| {
        let labels = name.labels.iter().map(|label| (*label).to_owned()).collect();
        Desc::new(name.name.into(), name.help.into(), labels, std::collections::HashMap::new())
    };
    let descriptions = METRICS.iter().map(describe).collect::<Result<_, _>>()?;
    let registry = prometheus::Registry::new();
    registry.register(Box::new(Everything { sources, descriptions }))?;
    Ok(registry)
}

/// What a scrape answers, in the text format.
pub fn text(registry: &prometheus::Registry) -> prometheus::Result<String> {
    prometheus::TextEncoder::new().encode_to_string(&registry.gather())
}

impl Collector for Everything {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let family = |name: &Name| match name.kind {
            Kind::Histogram => histogram::family(name, &self.sources),
            kind => family(name, kind, points(&self.sources, name.name)),
        };
        METRICS.iter().map(family).collect()
    }
}

/// All points of a metric. A name without an arm yields nothing, which a test refuses.
fn points(sources: &Sources, name: &str) -> Vec<Point> {
    let name = name.strip_prefix("shunt_").unwrap_or(name);
    daemon_points(sources, name)
        .or_else(|| health_points(sources, name))
        .or_else(|| http_points(sources, name))
        .or_else(|| port_points(sources, name))
        .or_else(|| service_points(sources, name))
        .or_else(|| volumes::points(sources, name))
        .or_else(|| worker_points(sources, name))
        .unwrap_or_default()
}

fn daemon_points(sources: &Sources, name: &str) -> Option<Vec<Point>> {
    let facts = &sources.facts;
    let slow = &sources.slow;
    let reloads = &slow.reloads;
    Some(match name {
        "build_info" => {
            let labels = [&facts.version, &facts.revision, &facts.dpdk_version];
            vec![(labels.map(Clone::clone).to_vec(), 1.0)]
        }
        "start_time_seconds" => one(slow.started_s),
        "generation" => one(slow.generation.get()),
        "table_capacity_connections" => one(facts.table_capacity),
        "table_reserved_bytes" => one(facts.table_bytes),
        "config_reloads_total" => {
            let point = |r: ReloadResult| point([r.label()], reloads.results[r as usize].get());
            ReloadResult::ALL.map(point).to_vec()
        }
        "config_last_reload_successful" => one(1 - reloads.last_failed.get().min(1)),
        "config_last_reload_timestamp_seconds" => one(reloads.last_s.get()),
        "config_last_reload_success_timestamp_seconds" => one(reloads.last_success_s.get()),
        "config_edits_total" => {
            vec![point(["applied"], slow.edits[0].get()), point(["refused"], slow.edits[1].get())]
        }
        "drift_changes" => one(slow.drift.get()),
        "backends_by_hand" => one(slow.by_hand.get()),
        "backends_next_hop" => vec![
            point(["resolved"], slow.neighbors.resolved.get()),
            point(["unanswered"], slow.neighbors.unanswered.get()),
            point(["unrouted"], slow.neighbors.unrouted.get()),
        ],
        "reclaimed_connections_total" => {
            let total = |stage: Stage| {
                let each = sources.workers.iter().map(|it| it.run.reclaimed[stage as usize].get());
                point([stage.label()], each.sum())
            };
            Stage::ALL.into_iter().filter(|stage| *stage != Stage::Open).map(total).collect()
        }
        "drops_total" => {
            let point = |reason: &Reason| point([reason.label()], sources.drops(*reason));
            Reason::ALL.iter().map(point).collect()
        }
        _ => return None,
    })
}

fn health_points(sources: &Sources, name: &str) -> Option<Vec<Point>> {
    let (health, wards) = (&sources.slow.health, sources.slow.health.wards());
    let of_backends = |value: fn(&BackendHealth) -> u64| {
        let labels = |it: &BackendHealth| vec![it.service.clone(), it.address.to_string()];
        wards.backends.iter().map(|it| (labels(it), float(value(it)))).collect()
    };
    Some(match name {
        "backend_up" => of_backends(|backend| u64::from(backend.is_up)),
        "backend_downs_total" => of_backends(|backend| backend.downs),
        "service_quorum" => {
            let point = |it: &ServiceHealth| point([it.service.as_str()], u64::from(it.is_whole));
            wards.services.iter().map(point).collect()
        }
        "checks_total" => {
            let point = |it: CheckResult| point([it.label()], health.results[it as usize].get());
            CheckResult::ALL.map(point).to_vec()
        }
        "check_thread_ends_total" => one(health.thread_ends.get()),
        "check_lateness_seconds" => vec![(vec![], float(health.lateness_us.get()) / 1e6)],
        _ => return None,
    })
}

fn http_points(sources: &Sources, name: &str) -> Option<Vec<Point>> {
    let of_listeners = |value: fn(&ListenerStats) -> u64| {
        let point = |it: Listener| point([it.label()], value(sources.slow.http.of(it)));
        Listener::ALL.map(point).to_vec()
    };
    Some(match name {
        "http_connections" => of_listeners(|stats| stats.connections.get()),
        "http_requests_total" => of_listeners(|stats| stats.requests.get()),
        "watchers" => one(sources.slow.http.watchers.get()),
        "watch_events_total" => one(sources.slow.http.events.get()),
        "watch_lost_events_total" => one(sources.slow.http.lost_events.get()),
        "http_turned_away_total" => {
            let all = Listener::ALL.into_iter().flat_map(|it| Turned::ALL.map(|why| (it, why)));
            let count = |it, why| sources.slow.http.of(it).turned[why as usize].get();
            all.map(|(it, why)| point([it.label(), why.label()], count(it, why))).collect()
        }
        _ => return None,
    })
}

fn port_points(sources: &Sources, name: &str) -> Option<Vec<Point>> {
    if name == "tap_up" {
        let ports = sources.ports.iter().zip(&sources.slow.taps);
        return Some(ports.map(|(port, tap)| point([port], tap.up.get())).collect());
    }
    if name == "device_losses_total" {
        return Some(device_points(sources));
    }
    let values = |id: PortId| {
        let traffic = sources.port(id);
        let tap = &sources.slow.taps[id.index()];
        Some(match name {
            "port_packets_total" => {
                [("receive", traffic.rx_packets), ("transmit", traffic.tx_packets)]
            }
            "port_bytes_total" => [("receive", traffic.rx_bytes), ("transmit", traffic.tx_bytes)],
            "tap_packets_total" => {
                [("to_kernel", tap.to_kernel.get()), ("from_kernel", tap.from_kernel.get())]
            }
            "tap_dropped_packets_total" => [
                ("to_kernel", tap.to_kernel_dropped.get()),
                ("from_kernel", tap.from_kernel_dropped.get()),
            ],
            _ => return None,
        })
    };
    let mut points = Vec::new();
    for (id, port) in (0u8..).zip(&sources.ports) {
        let pairs = values(PortId(id))?;
        points.extend(pairs.map(|(direction, value)| point([port.as_str(), direction], value)));
    }
    Some(points)
}

/// Every cause of every port with a device, from the start.
fn device_points(sources: &Sources) -> Vec<Point> {
    let losses = sources.devices.losses();
    let ports = sources.ports.iter().zip(losses);
    let of = |(port, losses): (&String, Losses)| {
        losses.by_reason().map(|loss| point([port.as_str(), loss.reason], loss.packets))
    };
    ports.flat_map(of).collect()
}

/// By name rather than by id: a backend that was removed and added again has two ids for a while,
/// and must still be one series.
fn service_points(sources: &Sources, name: &str) -> Option<Vec<Point>> {
    match name {
        "syn_cookies_total" => return Some(cookie_points(sources)),
        "refused_connections_total" => return Some(refused_points(sources)),
        _ => {}
    }
    let value: fn(Activity) -> u64 = match name {
        "connections" => |activity| activity.connections,
        "active_connections" => |activity| activity.active,
        "new_connections_total" => |activity| activity.new_connections,
        "unanswered_connections_total" => |activity| activity.answers.unanswered(),
        _ => return None,
    };
    let directory = sources.directory();
    let services = directory.names.services.iter();
    let mut sums = BTreeMap::<Vec<String>, u64>::new();
    let by_id: BTreeMap<_, _> = services.map(|service| (service.id, &service.name)).collect();
    for backend in &directory.names.backends {
        let Some(service) = by_id.get(&backend.service) else { continue };
        let labels = vec![(*service).clone(), backend.address.to_string()];
        let carried = || match name {
            "new_connections_total" => directory.carried_connections(service, backend.address),
            "unanswered_connections_total" => {
                directory.carried_unanswered(service, backend.address)
            }
            _ => 0,
        };
        *sums.entry(labels).or_insert_with(carried) +=
            value(sources.backend(&directory, backend.id));
    }
    Some(sums.into_iter().map(|(labels, sum)| (labels, float(sum))).collect())
}

/// Every service's refusals by reason. A reason that never occurred is left out, but for `no_backend`,
/// so that every service is there from the start: 16,384 services times nineteen reasons would be more
/// than anybody wants to store.
fn refused_points(sources: &Sources) -> Vec<Point> {
    let directory = sources.directory();
    let mut sums = BTreeMap::<&str, Refusals>::new();
    for service in &directory.names.services {
        let carried = || directory.carried_refused(&service.name);
        let sum = sums.entry(&service.name).or_insert_with(carried);
        let more = sources.service(&directory, service.id).refused;
        sum.iter_mut().zip(more).for_each(|(sum, more)| *sum = sum.wrapping_add(more));
    }
    let mut points = Vec::new();
    for (service, counts) in sums {
        for (reason, count) in Reason::OF_SERVICES.iter().zip(counts) {
            if count > 0 || *reason == Reason::NoBackend {
                points.push(point([service, reason.label()], count));
            }
        }
    }
    points
}

/// Every event of every service of TCP, from the start; of one that has TCP beside another protocol, from the
/// first.
fn cookie_points(sources: &Sources) -> Vec<Point> {
    let directory = sources.directory();
    let mut sums = BTreeMap::<Vec<String>, u64>::new();
    let services = directory.names.services.iter();
    for service in services {
        let activity = sources.service(&directory, service.id);
        if service.protocol != Protocol::Tcp && activity.cookies.iter().all(|count| *count == 0) {
            continue;
        }
        for &event in Event::ALL {
            let labels = vec![service.name.clone(), event.label().to_owned()];
            let carried = || directory.carried_cookies(&service.name, event);
            *sums.entry(labels).or_insert_with(carried) += activity.cookies[event as usize];
        }
    }
    sums.into_iter().map(|(labels, sum)| (labels, float(sum))).collect()
}

fn worker_points(sources: &Sources, name: &str) -> Option<Vec<Point>> {
    let mut points = Vec::new();
    for (id, worker) in sources.workers.iter().enumerate() {
        let run = &worker.run;
        let value = match name {
            "worker_busy_seconds_total" => sources.seconds(run.busy_cycles.get()),
            "worker_idle_seconds_total" => sources.seconds(run.idle_cycles.get()),
            "worker_busy_polls_total" => float(run.busy_polls.get()),
            "worker_connections" => float(u64::from(worker.connections.get())),
            "worker_generation" => float(run.generation.get()),
            "worker_stalled" => float(sources.slow.stalled[id].get()),
            "handed_over_packets_total" => float(run.handed_over.get()),
            "taken_over_packets_total" => float(run.taken_over.get()),
            "punted_packets_total" => float(run.punted.get()),
            "injected_packets_total" => float(run.injected.get()),
            "replied_packets_total" => float(run.replied.get()),
            "unanswered_packets_total" => float(run.unanswered.get()),
            "templates_evicted_total" => float(run.templates_evicted.get()),
            "templates_missed_total" => float(run.templates_missed.get()),
            "expired_connections_total" => float(run.expired.get()),
            "cleared_connections_total" => float(run.cleared.get()),
            "sources_evicted_total" => float(run.sources_evicted.get()),
            "sources_uncounted_total" => float(run.sources_uncounted.get()),
            "ends_told_total" => float(run.ends_told.get()),
            "ends_untold_total" => float(run.ends_untold.get()),
            "captured_frames_total" => float(run.captured.get()),
            "capture_missed_frames_total" => float(run.capture_missed.get()),
            "forgotten_destinations_total" => float(run.forgotten_destinations.get()),
            _ => return None,
        };
        points.push((vec![id.to_string()], value));
    }
    Some(points)
}

fn one(value: u64) -> Vec<Point> {
    vec![point([], value)]
}

fn point<const N: usize>(labels: [&str; N], value: u64) -> Point {
    (labels.map(str::to_owned).to_vec(), float(value))
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus samples are floats")]
fn float(value: u64) -> f64 {
    value as f64
}

fn family(name: &Name, kind: Kind, points: Vec<Point>) -> MetricFamily {
    let is_counter = kind == Kind::Counter;
    let mut family = MetricFamily::default();
    family.set_name(name.name.to_owned());
    family.set_help(name.help.to_owned());
    family.set_field_type(if is_counter { MetricType::COUNTER } else { MetricType::GAUGE });
    let metric = |(labels, value)| metric(name, is_counter, labels, value);
    family.set_metric(points.into_iter().map(metric).collect());
    family
}

fn metric(name: &Name, is_counter: bool, labels: Vec<String>, value: f64) -> Metric {
    let pair = |(label, value): (&&str, String)| {
        let mut pair = LabelPair::default();
        pair.set_name((*label).to_owned());
        pair.set_value(value);
        pair
    };
    let mut metric = Metric::from_label(name.labels.iter().zip(labels).map(pair).collect());
    if is_counter {
        let mut counter = Counter::default();
        counter.set_value(value);
        metric.set_counter(counter);
    } else {
        let mut gauge = Gauge::default();
        gauge.set_value(value);
        metric.set_gauge(gauge);
    }
    metric
}

#[cfg(test)]
mod tests;
