//! Answers as text: columns without borders, numbers to the right, nothing to strip before `awk`.

use std::fmt::Write;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use crate::control::admin::view::{
    Backend, BackendHealth, ByHand, Cleared, Connection, Connections, Drift, Drops, NextHops, Port,
    Refusal, Reload, ReloadResult, Saved, Service, Services, Status, Volumes, Worker,
};

use self::parts::Lost;
use super::drain::told;
use super::rates::Rates;
use super::rates::sheet::{self, Cell, Sheet};
use crate::control::health::view::Quorum;
use crate::control::words::count;

pub mod parts;

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
    for more in [drops(&status.drops), losses(&Lost::all(&status.ports))] {
        if !more.is_empty() {
            text.push('\n');
            text += &more;
        }
    }
    text
}

/// Nothing of none.
fn losses(losses: &[Lost]) -> String {
    if losses.is_empty() {
        return String::new();
    }
    let row = |it: &Lost| {
        vec![it.packets.to_string(), it.port.clone(), it.reason.clone(), it.meaning.clone()]
    };
    table(&[">lost", "port", "reason", "meaning"], losses.iter().map(row).collect())
}

/// Nothing of none.
fn drops(drops: &[Drops]) -> String {
    if drops.is_empty() {
        return String::new();
    }
    let row = |d: &Drops| vec![d.packets.to_string(), d.reason.clone(), d.meaning.clone()];
    table(&[">dropped", "reason", "meaning"], drops.iter().map(row).collect())
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
            microseconds(worker.latency.map(|latency| latency.p50_ns)),
            microseconds(worker.latency.map(|latency| latency.p99_ns)),
            note.into(),
        ]
    };
    let headings =
        ["worker", ">core", ">busy", ">connections", ">generation", ">latency p50", ">p99", ""];
    table(&headings, workers.iter().map(row).collect())
}

/// `4.2µs`; `-` before there is one.
fn microseconds(ns: Option<u64>) -> String {
    ns.map_or_else(|| "-".into(), |ns| format!("{}.{}µs", ns / 1000, ns % 1000 / 100))
}

/// DPDK's name for a port's device: that of the file, without what is said of it.
fn device_name(port: &Port) -> &str {
    let device = port.device.as_deref().unwrap_or("-");
    device.split(',').next().unwrap_or(device)
}

fn ports(ports: &[Port]) -> String {
    let row = |port: &Port| {
        vec![
            port.name.clone(),
            device_name(port).to_owned(),
            port.mac.clone(),
            port.rx_packets.to_string(),
            port.rx_bytes.to_string(),
            port.tx_packets.to_string(),
            port.tx_bytes.to_string(),
            port.lost.map_or_else(|| "-".into(), |lost| lost.total().to_string()),
            if port.tap_up { port.tap.clone() } else { format!("{} DOWN", port.tap) },
            port.to_kernel_packets.to_string(),
            port.from_kernel_packets.to_string(),
            port.tap_dropped_packets.to_string(),
        ]
    };
    let headings = [
        "port",
        "device",
        "mac",
        ">rx packets",
        ">rx bytes",
        ">tx packets",
        ">tx bytes",
        ">lost",
        "tap",
        ">to kernel",
        ">from kernel",
        ">dropped",
    ];
    table(&headings, ports.iter().map(row).collect())
}

const SERVICE_HEADINGS: [&str; 14] = [
    "service",
    "protocol",
    "address",
    "scheduler",
    "forward",
    ">weight",
    ">connections",
    ">new",
    ">refused",
    ">in packets",
    ">in bytes",
    ">out packets",
    ">out bytes",
    "state",
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
    let quorum = || service.quorum.as_ref().map_or_else(String::new, quorum_note);
    let note = if service.removed { "removed".into() } else { quorum() };
    let mut own = vec![
        service.name.clone(),
        service.protocol.clone(),
        service.address.clone(),
        service.scheduler.clone(),
        String::new(),
        String::new(),
        service.connections.to_string(),
        service.new_connections.to_string(),
        service.refused.to_string(),
    ];
    own.extend(numbers(service.volumes));
    own.push(note);
    let more = service.more_addresses.iter().map(|address| further_row("also", address));
    let clients = service.clients.iter().map(|group| further_row("for", group));
    let refusals = service.refusals.iter().map(refusal_row);
    let rows = std::iter::once(own).chain(more).chain(clients).chain(refusals);
    rows.chain(service.backends.iter().map(backend_row)).collect()
}

/// How much of a service must be up, unless any of it will do, and is.
fn quorum_note(quorum: &Quorum) -> String {
    let Quorum { whole, live, wanted, in_force } = *quorum;
    let asked = if in_force < wanted { format!(", {wanted} asked for") } else { String::new() };
    match (whole, wanted) {
        (true, 0 | 1) => String::new(),
        (true, _) => format!("quorum {in_force}{asked}: {live} up"),
        (false, _) => format!("quorum {in_force}{asked}: lost, {live} up"),
    }
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
    let mut row = vec![
        String::new(),
        "->".into(),
        backend.address.to_string(),
        String::new(),
        backend.forward.as_ref().map_or_else(String::new, ToString::to_string),
        backend.weight.map_or_else(String::new, |weight| weight.to_string()),
        backend.connections.to_string(),
        backend.new_connections.to_string(),
        String::new(),
    ];
    row.extend(numbers(backend.volumes));
    row.push(remark(backend));
    row
}

/// Packets and bytes in, then out.
fn numbers(volumes: Volumes) -> [String; 4] {
    volumes.numbers().map(|number| number.to_string())
}

/// All that is to be said about a backend.
fn remark(backend: &Backend) -> String {
    [note(backend), by_hand(backend)].join(" ").trim().to_owned()
}

/// What the operator has set, and when it ends.
fn by_hand(backend: &Backend) -> String {
    match backend.by_hand {
        None => String::new(),
        Some(ByHand { ends_in_s: None, .. }) => "by hand".to_owned(),
        Some(ByHand { ends_in_s: Some(left), .. }) => {
            format!("by hand, ended in {}", duration(left))
        }
    }
}

/// What is odd about a backend, or what its checks say.
fn note(backend: &Backend) -> String {
    let health = backend.health.as_ref();
    let is_up = health.is_none_or(|health| health.state == "up");
    let word = match (backend.weight, backend.reachable) {
        _ if !is_up => return health.map_or_else(String::new, ill),
        (None, _) if backend.sorry => "sorry",
        (None, _) if health.is_some() => "sorry backends serve",
        (None, _) => "removed",
        (Some(_), false) => "unreachable",
        (Some(0), true) if !backend.sorry => "draining",
        (Some(_), true) if backend.sorry => "sorry",
        (Some(_), true) => "",
    };
    match health {
        Some(BackendHealth { share_percent: Some(share), .. }) => {
            format!("up, {share}% of its share")
        }
        Some(_) if word.is_empty() => "up".into(),
        _ => word.into(),
    }
}

/// `down: http GET /: status 503`
fn ill(health: &BackendHealth) -> String {
    let why = health.why().map_or_else(String::new, |why| format!(": {why}"));
    format!("{}{why}", health.state)
}

/// `shunt rates`: a table for each kind of thing.
pub fn rates(rates: &Rates) -> String {
    let sheets = [
        sheet::ports(rates),
        sheet::workers(rates),
        sheet::services(rates),
        sheet::backends(rates),
        sheet::drops(rates),
    ];
    let tables = sheets.iter().filter(|sheet| !sheet.rows.is_empty()).map(of_sheet);
    tables.collect::<Vec<_>>().join("\n")
}

fn of_sheet(sheet: &Sheet) -> String {
    let is_number =
        |at: usize| sheet.rows.iter().any(|row| row.get(at).is_some_and(Cell::is_number));
    let mark = |(at, heading): (usize, &&str)| {
        if is_number(at) { format!(">{heading}") } else { (*heading).to_owned() }
    };
    let headings: Vec<String> = sheet.headings.iter().enumerate().map(mark).collect();
    let headings: Vec<&str> = headings.iter().map(String::as_str).collect();
    let rows = sheet.rows.iter().map(|row| row.iter().map(Cell::plain).collect());
    table(&headings, rows.collect())
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

/// `shunt diff`: what has changed since the file was read, what is beside it, and what the file says by now.
pub fn drift(drift: &Drift) -> String {
    let text =
        drift.by_hand.iter().map(told).fold(lines(&drift.changes), |text, line| text + &line);
    let unread = drift.on_disk.as_ref().map_or(&[][..], |it| &it.unread);
    if unread.is_empty() {
        return text;
    }
    let (file, many) = (&drift.file, count(unread.len(), "change"));
    let head = format!("{file}: {many} since it was read, in use after a reload:\n");
    unread.iter().fold(text + &head, |text, line| format!("{text}  {line}\n"))
}

/// `shunt save`.
pub fn saved(saved: &Saved) -> String {
    format!(
        "{}: saved, {}\n{}",
        saved.file,
        count(saved.changes.len(), "change"),
        lines(&saved.changes)
    )
}

fn lines(lines: &[String]) -> String {
    lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect()
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
    if !outcome.undone.is_empty() {
        text += "made at runtime, and undone:\n";
    }
    for change in &outcome.undone {
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

pub(super) fn duration(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, minutes) => format!("{minutes}m {}s", seconds % 60),
        (0, hours, minutes) => format!("{hours}h {minutes}m"),
        (days, hours, _) => format!("{days}d {hours}h"),
    }
}

#[cfg(test)]
pub(super) mod tests;
