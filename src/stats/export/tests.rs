//! What a scrape yields, judged by the list of names, by the documentation, and by promtool.

use std::io::Write;
use std::process::{Command, Stdio};

use super::*;
use crate::dataplane::conn::key::Side;
use crate::dataplane::cookie::Event;
use crate::dataplane::snapshot::{Protocol, ServiceAddress};
use crate::ids::{BackendId, ServiceId};
use crate::stats::collect::{BackendEntry, Names, ServiceEntry};
use crate::stats::counters::WorkerStats;
use crate::stats::devices::Devices;
use crate::stats::health::Wards;
use crate::stats::slow::StaticFacts;

const DOCS: &str = include_str!("../../../docs/metrics.md");

fn at(text: &str) -> ServiceAddress {
    let socket: std::net::SocketAddr = text.parse().unwrap();
    ServiceAddress::one(socket.ip(), socket.port())
}

fn sources() -> Arc<Sources> {
    let facts = StaticFacts {
        version: "0.1.0".into(),
        revision: "abc".into(),
        dpdk_version: "DPDK 22.11".into(),
        memory: "huge pages".into(),
        tsc_hz: 1000,
        table_capacity: 1_000_000,
        table_bytes: 128_000_000,
    };
    let workers: Vec<_> = (0..2).map(|_| Arc::new(WorkerStats::default())).collect();
    let lost = || vec![Losses { missed: 7, ..Losses::default() }, Losses::default()];
    let sources = Sources::new(facts, vec!["wan".into(), "lan".into()], workers);
    let sources = sources.with_devices(Devices::new(lost));
    let address = |text: &str| text.parse().unwrap();
    let backend = |id, removed| BackendEntry {
        id: BackendId(id),
        service: ServiceId(0),
        address: address("10.0.0.2:80"),
        removed,
    };
    sources.rename(Names {
        services: vec![ServiceEntry {
            id: ServiceId(0),
            name: "web".into(),
            protocol: Protocol::Tcp,
            address: at("192.0.2.1:80"),
            removed: false,
        }],
        backends: vec![backend(0, true), backend(1, false)],
    });
    sources.slow.health.set_wards(Wards {
        backends: vec![BackendHealth {
            service: "web".into(),
            address: address("10.0.0.2:80"),
            is_up: false,
            downs: 3,
        }],
        services: vec![ServiceHealth { service: "web".into(), is_whole: true }],
    });
    Arc::new(sources)
}

fn scrape(sources: Arc<Sources>) -> String {
    text(&registry(sources).unwrap()).unwrap()
}

#[test]
fn every_metric_has_a_help_a_type_and_a_sample() {
    let text = scrape(sources());
    for name in METRICS {
        let kind = name.kind.label();
        for line in
            [format!("# HELP {} {}", name.name, name.help), format!("# TYPE {} {kind}", name.name)]
        {
            assert!(text.contains(&line), "{line} is missing");
        }
        let sample = |line: &&str| {
            let rest = line.strip_prefix(name.name);
            let is_bucket = |rest: &str| rest.starts_with("_bucket{");
            rest.is_some_and(|rest| match name.kind {
                Kind::Histogram => is_bucket(rest),
                _ => rest.starts_with([' ', '{']),
            })
        };
        assert!(text.lines().any(|line| sample(&line)), "no sample of {}", name.name);
    }
}

#[test]
fn counters_end_in_total_and_others_do_not() {
    for name in METRICS {
        assert_eq!(name.kind == Kind::Counter, name.name.ends_with("_total"), "{}", name.name);
        assert!(name.name.starts_with("shunt_"), "{}", name.name);
    }
}

#[test]
fn every_drop_reason_is_there_even_at_zero() {
    let text = scrape(sources());
    for reason in Reason::ALL {
        let line = format!("shunt_drops_total{{reason=\"{}\"}} 0", reason.label());
        assert!(text.contains(&line), "{line} is missing");
    }
}

#[test]
fn numbers_are_summed_over_workers_and_over_ids_of_one_name() {
    let sources = sources();
    for (worker, n) in sources.workers.iter().zip([1, 2]) {
        worker.ports[1].rx_bytes.add(100 * n);
        worker.run.busy_cycles.add(500 * n);
        worker.backends[0].new_connections.add(n);
        worker.backends[1].new_connections.add(10 * n);
        worker.drops[Reason::TtlExpired as usize].add(1);
    }
    let text = scrape(sources);
    for line in [
        "shunt_port_bytes_total{port=\"lan\",direction=\"receive\"} 300",
        "shunt_worker_busy_seconds_total{worker=\"1\"} 1",
        "shunt_new_connections_total{service=\"web\",backend=\"10.0.0.2:80\"} 33",
        "shunt_drops_total{reason=\"ttl_expired\"} 2",
        "shunt_backend_up{service=\"web\",backend=\"10.0.0.2:80\"} 0",
        "shunt_backend_downs_total{service=\"web\",backend=\"10.0.0.2:80\"} 3",
        "shunt_service_quorum{service=\"web\"} 1",
        "shunt_checks_total{result=\"timed_out\"} 0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
    }
}

#[test]
fn latency_is_cumulative_by_worker_in_seconds() {
    let sources = sources();
    // A thousand ticks a second: a tick is a millisecond.
    for ticks in [2, 3, 3, 2_000] {
        sources.workers[1].latencies.record(ticks);
    }
    let text = scrape(sources);
    for line in [
        "shunt_latency_seconds_bucket{worker=\"0\",le=\"+Inf\"} 0",
        "shunt_latency_seconds_bucket{worker=\"1\",le=\"0.001\"} 0",
        "shunt_latency_seconds_bucket{worker=\"1\",le=\"0.002\"} 1",
        "shunt_latency_seconds_bucket{worker=\"1\",le=\"0.005\"} 3",
        "shunt_latency_seconds_bucket{worker=\"1\",le=\"1\"} 3",
        "shunt_latency_seconds_bucket{worker=\"1\",le=\"+Inf\"} 4",
        "shunt_latency_seconds_sum{worker=\"1\"} 2.008",
        "shunt_latency_seconds_count{worker=\"1\"} 4",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
    }
}

#[test]
fn a_names_counters_never_fall_when_an_old_id_of_its_is_freed_or_reused() {
    let sources = sources();
    let address = |text: &str| text.parse().unwrap();
    let service = |id, vip: &str, removed| ServiceEntry {
        id: ServiceId(id),
        name: "web".into(),
        protocol: Protocol::Tcp,
        address: at(vip),
        removed,
    };
    let backend = |id, service, to: &str, removed| BackendEntry {
        id: BackendId(id),
        service: ServiceId(service),
        address: address(to),
        removed,
    };
    let counts = |made: u64, refused: u64| {
        let text = scrape(Arc::clone(&sources));
        let label = "{service=\"web\",backend=\"10.0.0.2:80\"}";
        for line in [
            format!("shunt_new_connections_total{label} {made}"),
            format!(
                "shunt_refused_connections_total{{service=\"web\",reason=\"no_backend\"}} {refused}"
            ),
            format!("shunt_syn_cookies_total{{service=\"web\",event=\"sent\"}} {refused}"),
            "shunt_syn_cookies_total{service=\"web\",event=\"old\"} 0".to_owned(),
            format!("shunt_service_packets_total{{service=\"web\",direction=\"in\"}} {made}"),
            format!("shunt_service_bytes_total{{service=\"web\",direction=\"in\"}} {}", 40 * made),
            "shunt_service_packets_total{service=\"web\",direction=\"out\"} 0".to_owned(),
            format!(
                "shunt_backend_bytes_total{{service=\"web\",backend=\"10.0.0.2:80\",direction=\"in\"}} {}",
                40 * made
            ),
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
        }
    };
    let (old, new) = ("192.0.2.1:80", "192.0.2.2:80");
    let worker = &sources.workers[0];
    let make = |id: u32, many: u64| {
        worker.backends[id as usize].new_connections.add(many);
        (0..many).for_each(|_| worker.volumes.count(BackendId(id), Side::Client, 40));
    };
    make(0, 7);
    (0..3).for_each(|_| worker.services[0].count_refused(Reason::NoBackend));
    worker.services[0].cookies[Event::Sent as usize].add(3);
    // The VIP was edited: the name has two services, then one.
    let both = vec![service(0, old, true), service(1, new, false)];
    let backends = vec![backend(0, 0, "10.0.0.2:80", true), backend(2, 1, "10.0.0.2:80", false)];
    sources.rename(Names { services: both, backends });
    make(2, 10);
    worker.services[1].count_refused(Reason::NoBackend);
    worker.services[1].count_refused(Reason::SourceRate);
    worker.services[1].cookies[Event::Sent as usize].add(1);
    counts(17, 4);
    let current = service(1, new, false);
    let one = backend(2, 1, "10.0.0.2:80", false);
    sources.rename(Names { services: vec![current.clone()], backends: vec![one.clone()] });
    counts(17, 4);
    // Somebody else gets the free ids; what they count is theirs.
    let other = ServiceEntry { name: "dns".into(), ..service(0, "192.0.2.3:53", false) };
    let stranger = backend(0, 0, "10.0.0.9:53", false);
    sources.rename(Names { services: vec![other, current], backends: vec![stranger, one] });
    make(0, 100);
    counts(17, 4);
    // A name that goes takes its past with it.
    sources.rename(Names::default());
    let back = vec![service(1, new, false)];
    sources.rename(Names { services: back, backends: vec![backend(2, 1, "10.0.0.2:80", false)] });
    counts(0, 0);
}

#[test]
fn promtool_finds_nothing_to_criticise() {
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is needed: apt-get install prometheus");
    promtool.stdin.take().unwrap().write_all(scrape(sources()).as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.trim().is_empty(), "{said}");
}

#[test]
fn the_documentation_lists_exactly_the_metrics_and_reasons_there_are() {
    let metric = |name: &Name| {
        let kind = name.kind.label();
        let labels = name.labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>();
        format!("| `{}` | {kind} | {} | {} |", name.name, labels.join(", "), name.help)
    };
    let reason = |r: &Reason| format!("| `{}` | {} |", r.label(), r.describe().trim());
    let wanted = METRICS.iter().map(metric).chain(Reason::ALL.iter().map(reason));
    let wanted = wanted.collect::<Vec<_>>().join("\n");
    let found = DOCS.lines().filter(|line| line.starts_with("| `")).collect::<Vec<_>>().join("\n");
    assert!(found == wanted, "docs/metrics.md should have these rows, in this order:\n{wanted}");
}

#[test]
fn what_devices_lose_is_told_by_port_and_cause() {
    let text = scrape(sources());
    for (port, reason, count) in [
        ("wan", "missed", 7),
        ("wan", "tx_errors", 0),
        ("lan", "missed", 0),
        ("lan", "no_buffer", 0),
    ] {
        let line =
            format!("shunt_device_losses_total{{port=\"{port}\",reason=\"{reason}\"}} {count}\n");
        assert!(text.contains(&line), "{line}{text}");
    }
}
