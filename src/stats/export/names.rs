//! Every metric: its name, its meaning, its labels. The documentation is checked against this.

/// What Prometheus is told of a value's behaviour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, until a restart.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Samples, by how large they are at most.
    Histogram,
}

impl Kind {
    /// As Prometheus spells it.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// One metric.
#[derive(Clone, Copy, Debug)]
pub struct Name {
    /// Full name.
    pub name: &'static str,
    /// Counter, gauge or histogram.
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
const SERVICE_WAY: &[&str] = &["service", "direction"];
const BACKEND_WAY: &[&str] = &["service", "backend", "direction"];
const WORKER: &[&str] = &["worker"];
const LISTENER: &[&str] = &["listener"];

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
    counter(
        "shunt_device_losses_total",
        &["port", "reason"],
        "Packets that a port's device lost by itself, where its driver counts them.",
    ),
    gauge("shunt_connections", BACKEND, "Connections in the tables now."),
    gauge("shunt_active_connections", BACKEND, "Those of them that schedulers count as active."),
    counter("shunt_new_connections_total", BACKEND, "Connections made."),
    counter(
        "shunt_unanswered_connections_total",
        BACKEND,
        "Connections that their backend left without an answer, where its answers pass here.",
    ),
    counter(
        "shunt_service_packets_total",
        SERVICE_WAY,
        "Packets that went on between a service's clients and its backends.",
    ),
    counter(
        "shunt_service_bytes_total",
        SERVICE_WAY,
        "Bytes of those packets, IP headers included.",
    ),
    counter(
        "shunt_backend_packets_total",
        BACKEND_WAY,
        "Packets that went on between clients and a backend.",
    ),
    counter(
        "shunt_backend_bytes_total",
        BACKEND_WAY,
        "Bytes of those packets, IP headers included.",
    ),
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
    Name {
        name: "shunt_latency_seconds",
        kind: Kind::Histogram,
        labels: WORKER,
        help: "Time from receiving a packet to sending it, of one packet in each 64 bursts.",
    },
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
    counter("shunt_captured_frames_total", WORKER, "Frames copied for `shunt capture`."),
    counter(
        "shunt_capture_missed_frames_total",
        WORKER,
        "Frames that `shunt capture` misses: nobody read as fast as they came.",
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
    gauge("shunt_backend_up", BACKEND, "1 while a backend's health checks let it serve, else 0."),
    counter("shunt_backend_downs_total", BACKEND, "Times a backend went down."),
    gauge(
        "shunt_service_quorum",
        &["service"],
        "1 while enough of a service's backends are up, else 0: its sorry backends, if it has any, serve in their place.",
    ),
    counter("shunt_checks_total", &["result"], "Health checks by how they ended."),
    gauge(
        "shunt_check_lateness_seconds",
        &[],
        "How much too late the latest health check of the last ten seconds began.",
    ),
    counter(
        "shunt_check_thread_ends_total",
        &[],
        "Times the thread of health checks ended by itself; another is started within a second.",
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
    counter(
        "shunt_config_edits_total",
        &["result"],
        "Requests to change the running configuration.",
    ),
    gauge(
        "shunt_drift_changes",
        &[],
        "Differences of the running configuration to the file, as `shunt diff` shows them.",
    ),
    gauge("shunt_http_connections", LISTENER, "Connections to the HTTP servers now."),
    counter("shunt_http_requests_total", LISTENER, "Requests that were let in."),
    counter(
        "shunt_http_turned_away_total",
        &["listener", "reason"],
        "Connections and requests that a limit of the HTTP servers turned away, by reason.",
    ),
    gauge("shunt_watchers", &[], "Who follows `GET /watch` now."),
    counter("shunt_watch_events_total", &[], "Events that were told to whoever watched."),
    counter(
        "shunt_watch_lost_events_total",
        &[],
        "Events that a watcher missed, as it did not read as fast as they came.",
    ),
    gauge(
        "shunt_backends_by_hand",
        &[],
        "Backends whose weight was set by hand (`shunt drain`, `shunt weight`), beside the file.",
    ),
    gauge("shunt_table_capacity_connections", &[], "Connections all tables can hold."),
    gauge("shunt_table_reserved_bytes", &[], "Memory reserved for the connection tables."),
];
