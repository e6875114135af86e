//! Answers as text: columns without borders, numbers to the right, nothing to strip before `awk`.

use std::fmt::Write;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use crate::control::admin::view::{
    Backend, Cleared, Connection, Connections, NextHops, Port, Refusal, Reload, ReloadResult,
    Service, Services, Status, Worker,
};

use crate::control::words::count;

/// A table with these headings; those starting with `>` are right-aligned.
fn table(headings: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(headings.iter().map(|heading| heading.trim_start_matches('>')));
    table.add_rows(rows);
    for (column, heading) in table.column_iter_mut().zip(headings) {
        column.set_padding((0, 2));
        if heading.starts_with('>') {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}

/// `shunt status`.
pub fn status(status: &Status) -> String {
    let mut text = head(status);
    text.push('\n');
    text += &workers(&status.workers);
    text.push('\n');
    text += &ports(&status.ports);
    if !status.drops.is_empty() {
        let row = |d: &crate::control::admin::view::Drops| {
            vec![d.packets.to_string(), d.reason.clone(), d.meaning.clone()]
        };
        let rows = status.drops.iter().map(row).collect();
        text.push('\n');
        text += &table(&[">dropped", "reason", "meaning"], rows);
    }
    text
}

fn head(status: &Status) -> String {
    let facts = &status.facts;
    let state = if status.accepting { "accepting" } else { "draining: no new connections" };
    let bytes = size(facts.table_bytes);
    let (now, capacity) = (status.connections, facts.table_capacity);
    let mut lines = vec![
        ("shuntd", format!("{} ({}), {}", facts.version, facts.revision, facts.dpdk_version)),
        ("memory", facts.memory.clone()),
        ("uptime", duration(status.uptime_s)),
        ("file", format!("{}, generation {}, {state}", status.file, status.generation)),
        ("table", format!("{now} of {capacity} connections, {bytes} reserved")),
        ("next hops", next_hops(&status.next_hops)),
    ];
    if let Some(last) = &status.last_reload {
        lines.push(("reload", format!("{}: {}", last.result.label(), last.message)));
    }
    lines.iter().fold(String::new(), |mut text, (name, value)| {
        let _ = writeln!(text, "{name:<10} {value}");
        text
    })
}

fn next_hops(hops: &NextHops) -> String {
    let mut text = format!("{} resolved", hops.resolved);
    let mut list = |addresses: &[std::net::IpAddr], what: &str| {
        if !addresses.is_empty() {
            let names: Vec<_> = addresses.iter().map(ToString::to_string).collect();
            let _ = write!(text, "; {what}: {}", names.join(", "));
        }
    };
    list(&hops.unanswered, "no answer from");
    list(&hops.unrouted, "no route to");
    text
}

fn workers(workers: &[Worker]) -> String {
    let row = |worker: &Worker| {
        let note = if worker.stalled { "STANDS STILL" } else { "" };
        vec![
            worker.id.to_string(),
            worker.core.to_string(),
            format!("{:.0}%", worker.busy * 100.0),
            worker.connections.to_string(),
            worker.generation.to_string(),
            note.into(),
        ]
    };
    let headings = ["worker", ">core", ">busy", ">connections", ">generation", ""];
    table(&headings, workers.iter().map(row).collect())
}

fn ports(ports: &[Port]) -> String {
    let row = |port: &Port| {
        vec![
            port.name.clone(),
            port.mac.clone(),
            port.rx_packets.to_string(),
            port.rx_bytes.to_string(),
            port.tx_packets.to_string(),
            port.tx_bytes.to_string(),
            if port.tap_up { port.tap.clone() } else { format!("{} DOWN", port.tap) },
            port.to_kernel_packets.to_string(),
            port.from_kernel_packets.to_string(),
            port.tap_dropped_packets.to_string(),
        ]
    };
    let headings = [
        "port",
        "mac",
        ">rx packets",
        ">rx bytes",
        ">tx packets",
        ">tx bytes",
        "tap",
        ">to kernel",
        ">from kernel",
        ">dropped",
    ];
    table(&headings, ports.iter().map(row).collect())
}

const SERVICE_HEADINGS: [&str; 10] = [
    "service",
    "protocol",
    "address",
    "scheduler",
    "forward",
    ">weight",
    ">connections",
    ">new",
    ">refused",
    "",
];

/// `shunt services`: a line per service, and under it one per further address, per
/// network or list of its clients, and per backend.
pub fn services(services: &Services) -> String {
    if services.services.is_empty() {
        return "no services\n".into();
    }
    let rows = services.services.iter().flat_map(service_rows).collect();
    table(&SERVICE_HEADINGS, rows)
}

fn service_rows(service: &Service) -> Vec<Vec<String>> {
    let note = if service.removed { "removed" } else { "" };
    let own = vec![
        service.name.clone(),
        service.protocol.clone(),
        service.address.clone(),
        service.scheduler.clone(),
        String::new(),
        String::new(),
        service.connections.to_string(),
        service.new_connections.to_string(),
        service.refused.to_string(),
        note.into(),
    ];
    let more = service.more_addresses.iter().map(|address| further_row("also", address));
    let clients = service.clients.iter().map(|group| further_row("for", group));
    let refusals = service.refusals.iter().map(refusal_row);
    let rows = std::iter::once(own).chain(more).chain(clients).chain(refusals);
    rows.chain(service.backends.iter().map(backend_row)).collect()
}

/// A reason why the service above refused new connections.
fn refusal_row(refusal: &Refusal) -> Vec<String> {
    let mut row = vec![String::new(); SERVICE_HEADINGS.len()];
    row[1] = "refused".into();
    row[2].clone_from(&refusal.reason);
    row[8] = refusal.connections.to_string();
    row
}

/// A further address of the service above, or some of its clients.
fn further_row(word: &str, what: &str) -> Vec<String> {
    let mut row = vec![String::new(); SERVICE_HEADINGS.len()];
    row[1] = word.into();
    row[2] = what.into();
    row
}

fn backend_row(backend: &Backend) -> Vec<String> {
    let note = match (backend.weight, backend.reachable) {
        (None, _) => "removed",
        (Some(_), false) => "unreachable",
        (Some(0), true) => "draining",
        (Some(_), true) => "",
    };
    vec![
        String::new(),
        "->".into(),
        backend.address.to_string(),
        String::new(),
        backend.forward.as_ref().map_or_else(String::new, ToString::to_string),
        backend.weight.map_or_else(String::new, |weight| weight.to_string()),
        backend.connections.to_string(),
        backend.new_connections.to_string(),
        String::new(),
        note.into(),
    ]
}

/// `shunt connections`.
pub fn connections(connections: &Connections) -> String {
    let row = |connection: &Connection| {
        vec![
            connection.protocol.clone(),
            connection.state.clone(),
            connection.client.to_string(),
            connection.vip.to_string(),
            connection.local.to_string(),
            connection.backend.to_string(),
            connection.service.clone(),
            connection.worker.to_string(),
            seconds(connection.idle_ms),
            seconds(connection.expires_ms),
        ]
    };
    let headings = [
        "protocol", "state", "client", "vip", "local", "backend", "service", ">worker", ">idle",
        ">expires",
    ];
    let mut text = table(&headings, connections.connections.iter().map(row).collect());
    if connections.next.is_some() {
        text += "there are more; a higher --limit or a filter shows them\n";
    }
    text
}

/// `shunt reload`.
pub fn reload(outcome: &Reload) -> String {
    let mut text = format!("{}: {}\n", outcome.result.label(), outcome.message);
    let would = outcome.result == ReloadResult::Refused && !outcome.changes.is_empty();
    if would {
        text += "the file would change:\n";
    }
    for change in &outcome.changes {
        let _ = writeln!(text, "  {change}");
    }
    text
}

/// `shunt clear`.
pub fn cleared(cleared: &Cleared) -> String {
    let count = count(usize::try_from(cleared.connections).unwrap_or(usize::MAX), "connection");
    format!("{count} ended\n")
}

fn seconds(ms: u32) -> String {
    format!("{}.{}s", ms / 1000, ms % 1000 / 100)
}

/// A size to the byte, and the same to be read: `393216 B (384 KiB)`, `1500000 B (1.4 MiB)`.
fn size(bytes: u64) -> String {
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let Some((unit, shift)) = units.into_iter().find(|(_, shift)| bytes >> shift > 0) else {
        return format!("{bytes} B");
    };
    let tenths = (u128::from(bytes) * 10) >> shift;
    match (tenths / 10, tenths % 10) {
        (whole, 0) => format!("{bytes} B ({whole} {unit})"),
        (whole, tenth) => format!("{bytes} B ({whole}.{tenth} {unit})"),
    }
}

fn duration(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, minutes) => format!("{minutes}m {}s", seconds % 60),
        (0, hours, minutes) => format!("{hours}h {minutes}m"),
        (days, hours, _) => format!("{days}d {hours}h"),
    }
}

#[cfg(test)]
mod tests;
