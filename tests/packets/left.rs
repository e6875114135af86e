//! What is left in workers when everything should be over: nothing, or it is said where.
//!
//! Everything that a connection, a datagram in pieces or a client takes is looked for where it is kept, not
//! where it is reported only: tables with both families' index entries and splices, what waits, what all
//! workers count together. Every world and the simulation ask this at their end.

use std::sync::Arc;

use shunt::dataplane::io::memory::Memory;
use shunt::dataplane::persistence::Templates;
use shunt::dataplane::sources::Sources;
use shunt::dataplane::worker::Worker;
use shunt::ids::{BackendId, ServiceId};
use shunt::stats::counters::WorkerStats;
use shunt::stats::loads::{Limit, Load};

/// Services and backends that tests make have lower ids.
const IDS: u32 = 1024;

/// How often time goes on before all must be over, at most, and by how much: together longer than anything
/// lasts, and often enough for what is tidied a bucket at a time.
pub(crate) const STEPS: u32 = 300;
pub(crate) const STEP_MS: u32 = 40_000;

/// Is there nothing that only time can end?
pub(crate) fn is_quiet(
    workers: &[Worker<Memory>],
    stats: &[Arc<WorkerStats>],
    templates: &Templates,
    now_ms: u32,
) -> bool {
    let sources = |stats: &WorkerStats| stats.tallies.sources.as_ref().map(Sources::in_use);
    let is_done = |worker: &Worker<Memory>| {
        worker.flows().tables().is_empty() && worker.held() == [0; 3] && !worker.is_behind()
    };
    workers.iter().all(is_done)
        && templates.live(now_ms) == 0
        && stats.first().and_then(|stats| sources(stats)).is_none_or(|used| used == (0, 0))
}

/// All that is left, in words.
pub(crate) fn left(
    workers: &[Worker<Memory>],
    stats: &[Arc<WorkerStats>],
    templates: &Templates,
    now_ms: u32,
) -> Vec<String> {
    let mut all: Vec<(String, u64)> = vec![];
    for (at, worker) in workers.iter().enumerate() {
        let tables = worker.flows().tables();
        let [pieces, segments, datagrams] = worker.held();
        let kept = [
            ("connections", u64::from(tables.len())),
            ("index entries", (tables.v4.index_entries() + tables.v6.index_entries()) as u64),
            ("splices", u64::from(tables.v4.splices().len() + tables.v6.splices().len())),
            ("waiting pieces", pieces as u64),
            ("waiting segments", segments as u64),
            ("datagrams in pieces", datagrams as u64),
        ];
        all.extend(kept.map(|(what, count)| (format!("worker {at}: {what}"), count)));
    }
    for (at, stats) in stats.iter().enumerate() {
        let services = stats.services.iter().map(|of| u64::from(of.connections.get())).sum();
        let backends = stats.backends.iter().map(|of| u64::from(of.connections.get())).sum();
        let gauges = [
            ("gauge", stats.connections.get().into()),
            ("gauges of services", services),
            ("gauges of backends", backends),
        ];
        all.extend(gauges.map(|(what, count)| (format!("worker {at}: {what}"), count)));
    }
    all.push(("templates".to_owned(), templates.live(now_ms) as u64));
    if let Some(stats) = stats.first() {
        all.extend(shared(stats));
    }
    let some = all.into_iter().filter(|(_, count)| *count > 0);
    some.map(|(what, count)| format!("{what}: {count}")).collect()
}

/// What all workers count together.
fn shared(stats: &WorkerStats) -> Vec<(String, u64)> {
    let mut all = vec![];
    for id in (0..IDS).map(BackendId) {
        let load = stats.loads.of(id);
        // A limit lower than any mark was made under.
        let is_marked = stats.loads.is_overloaded(id, Limit { most: 1, least: 0 });
        if load != Load::default() || is_marked {
            all.push((format!("{load:?} of {id:?}, marked: {is_marked}"), 1));
        }
    }
    for id in (0..IDS).map(ServiceId).filter(|id| stats.tallies.count(*id) > 0) {
        all.push((format!("shared count of {id:?}"), stats.tallies.count(id).into()));
    }
    if let Some(sources) = &stats.tallies.sources {
        let (connections, entries) = sources.in_use();
        all.push(("connections of sources".to_owned(), connections));
        all.push(("sources".to_owned(), entries as u64));
    }
    all
}
