//! Every metric: its name, its meaning, its labels. The documentation is checked against this.

/// What Prometheus is told of a value's behaviour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, until a restart.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// One metric.
#[derive(Clone, Copy, Debug)]
pub struct Name {
    /// Full name.
    pub name: &'static str,
    /// Counter or gauge.
    pub kind: Kind,
    /// Label names, in the order of the values.
    pub labels: &'static [&'static str],
    /// One sentence.
    pub help: &'static str,
}

const fn counter(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Name {
    Name { name, kind: Kind::Counter, labels, help }
}

const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Name {
    Name { name, kind: Kind::Gauge, labels, help }
}

const PORT: &[&str] = &["port", "direction"];
const BACKEND: &[&str] = &["service", "backend"];
const WORKER: &[&str] = &["worker"];

/// All of them.
pub const METRICS: &[Name] = &[
    gauge(
        "shunt_build_info",
        &["version", "revision", "dpdk"],
        "Always 1; the labels say what was built.",
    ),
    gauge("shunt_start_time_seconds", &[], "Unix time at which the daemon started."),
    gauge("shunt_generation", &[], "Generation of the snapshot last published to the workers."),
    counter("shunt_port_packets_total", PORT, "Frames a port received or took for sending."),
    counter("shunt_port_bytes_total", PORT, "Bytes of those frames, without FCS."),
    gauge("shunt_connections", BACKEND, "Connections in the tables now."),
    gauge("shunt_active_connections", BACKEND, "Those of them that schedulers count as active."),
    counter("shunt_new_connections_total", BACKEND, "Connections made."),
    counter(
        "shunt_refused_connections_total",
        &["service", "reason"],
        "New connections refused, by service and reason.",
    ),
    counter("shunt_syn_cookies_total", &["service", "event"], "What happened with SYN cookies."),
    counter("shunt_drops_total", &["reason"], "Packets refused, by reason."),
    counter("shunt_worker_busy_seconds_total", WORKER, "Time in polls that moved a packet."),
    counter(
        "shunt_worker_idle_seconds_total",
        WORKER,
        "Time in empty polls, pauses and short sleeps.",
    ),
    counter("shunt_worker_busy_polls_total", WORKER, "Polls that moved at least one packet."),
    gauge("shunt_worker_connections", WORKER, "Connections in the worker's table now."),
    gauge("shunt_worker_generation", WORKER, "Generation of the snapshot the worker uses."),
    gauge("shunt_worker_stalled", WORKER, "1 while the worker is seen not to move."),
    counter(
        "shunt_handed_over_packets_total",
        WORKER,
        "Packets given to the worker that owns their connection.",
    ),
    counter(
        "shunt_taken_over_packets_total",
        WORKER,
        "Packets of own connections taken from other workers.",
    ),
    counter("shunt_punted_packets_total", WORKER, "Packets passed to the kernel."),
    counter("shunt_injected_packets_total", WORKER, "Packets of the kernel's sent out."),
    counter("shunt_replied_packets_total", WORKER, "Packets answered in place with RST or ICMP."),
    counter(
        "shunt_unanswered_packets_total",
        WORKER,
        "Packets that would have been answered, had answers not had a limit.",
    ),
    counter(
        "shunt_expired_connections_total",
        WORKER,
        "Connections forgotten after their timeout.",
    ),
    counter("shunt_cleared_connections_total", WORKER, "Connections ended by `shunt clear`."),
    counter(
        "shunt_reclaimed_connections_total",
        &["stage"],
        "Connections that made way for others in a full table, by how far they had come.",
    ),
    counter(
        "shunt_ends_told_total",
        WORKER,
        "RSTs, ABORTs and ICMP errors to the ends of connections that ended here.",
    ),
    counter(
        "shunt_ends_untold_total",
        WORKER,
        "Connections that ended here without a word: too many at once, or no packet buffer.",
    ),
    counter(
        "shunt_templates_evicted_total",
        WORKER,
        "Persistence templates that made way for others: the limit is too low.",
    ),
    counter(
        "shunt_templates_missed_total",
        WORKER,
        "Connections scheduled as if without persistence: another worker had the place.",
    ),
    counter(
        "shunt_sources_evicted_total",
        WORKER,
        "Sources whose used-up new connections were forgotten for want of room: the limit is too low.",
    ),
    counter(
        "shunt_sources_uncounted_total",
        WORKER,
        "Connections that do not count for their source: no room, or another worker had the place.",
    ),
    counter(
        "shunt_forgotten_destinations_total",
        WORKER,
        "Destinations that schedulers `lblc` and `lblcr` forgot for want of room.",
    ),
    counter("shunt_tap_packets_total", PORT, "Frames exchanged with the kernel through a TAP."),
    counter(
        "shunt_tap_dropped_packets_total",
        PORT,
        "Frames the TAP or the inject lane did not take.",
    ),
    gauge(
        "shunt_tap_up",
        &["port"],
        "1 while the port's TAP is there and up: the kernel has a way in and out.",
    ),
    gauge(
        "shunt_backends_next_hop",
        &["state"],
        "Backend addresses by how well the kernel reaches them.",
    ),
    counter("shunt_config_reloads_total", &["result"], "Reloads by how they ended."),
    gauge(
        "shunt_config_last_reload_successful",
        &[],
        "1 if the last reload left no difference to the file.",
    ),
    gauge(
        "shunt_config_last_reload_timestamp_seconds",
        &[],
        "Unix time of the last reload, or of the start.",
    ),
    gauge(
        "shunt_config_last_reload_success_timestamp_seconds",
        &[],
        "Unix time of the last successful reload, or of the start.",
    ),
    gauge("shunt_table_capacity_connections", &[], "Connections all tables can hold."),
    gauge("shunt_table_reserved_bytes", &[], "Memory reserved for the connection tables."),
];
