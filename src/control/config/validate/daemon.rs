//! `[shunt]`, `[dpdk]`, `[limits]` and `[metrics]`: the process and its limits.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::super::error::{Problems, Span};
use super::super::machine::{Machine, MissingCpu};
use super::super::plan::{Daemon, HugePages};
use super::super::schema::{self, Spanned};
use super::suspects::reflection_ports;
use super::value::{choice, integer, name};
use crate::dataplane::snapshot::{IcmpOnEnd, Ping, Restarts, Strays};
use crate::ids::limits;

/// Longest path of a unix socket: `sun_path` less its final zero byte (unix(7)).
const SOCKET_PATH_MAX: usize = 107;
/// Most connections of one worker: slots are named by 31 bits.
const WORKER_CONNECTIONS_MAX: i64 = (1 << 31) - 1;

/// The reloadable part of `[shunt]`.
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
pub(super) struct Policy {
    pub(super) strays: Strays,
    pub(super) drop_malformed_tcp: bool,
    pub(super) udp_reflection_ports: Vec<u16>,
    pub(super) restarts: Restarts,
    pub(super) reset_on_end: bool,
    pub(super) icmp_on_end: IcmpOnEnd,
    pub(super) ping: Ping,
    pub(super) tunnels_ignore_df: bool,
    /// Of services that do not say it themselves.
    pub(super) sloppy: bool,
    pub(super) local_out: bool,
    pub(super) punt_per_second: u32,
    pub(super) drain_deadline: Duration,
}

/// Checks everything that needs a restart to change, ports aside.
pub(super) fn daemon(problems: &mut Problems, file: &schema::File, machine: &Machine) -> Daemon {
    let none = schema::Shunt::default();
    let (shunt, span) = match &file.shunt {
        Some(shunt) => (shunt.get_ref(), Some(shunt.span())),
        None => (&none, None),
    };
    let dpdk = &file.dpdk;
    let worker_cores = workers(problems, shunt, span, machine);
    let (connections_max, connections_ipv6_max) = connections(problems, file, worker_cores.len());
    let cookies = file.limits.cookie_connections.as_ref();
    let sources = file.limits.limited_sources.as_ref();
    Daemon {
        control_core: control_core(problems, shunt, &worker_cores, machine),
        busy_poll: shunt.busy_poll.as_ref().is_some_and(|on| *on.get_ref()),
        idle_sleep: Duration::from_micros(integer(
            problems,
            "idle_sleep_us",
            shunt.idle_sleep_us.as_ref(),
            0..=1000,
            0,
        )),
        connections_max,
        connections_ipv6_max,
        persistent_clients_max: integer(
            problems,
            "persistent_clients",
            file.limits.persistent_clients.as_ref(),
            1024..=1 << 26,
            65_536,
        ),
        cookie_connections_max: integer(
            problems,
            "cookie_connections",
            cookies,
            1024..=1 << 28,
            65_536,
        ),
        limited_sources_max: integer(problems, "limited_sources", sources, 1024..=1 << 26, 65_536),
        worker_cores,
        packet_buffers: integer(
            problems,
            "packet_buffers",
            dpdk.packet_buffers.as_ref(),
            1024..=1 << 27,
            32_768,
        ),
        admin_socket: admin_socket(problems, shunt),
        metrics_listen: metrics_listen(problems, &file.metrics),
        huge_pages: huge_pages(problems, dpdk),
        memory_mb: integer(problems, "memory_mb", dpdk.memory_mb.as_ref(), 64..=1 << 20, 512),
        file_prefix: file_prefix(problems, dpdk),
        secondary_processes: secondary_processes(problems, dpdk),
        eal_arguments: eal_arguments(dpdk),
    }
}

/// Checks the reloadable part of `[shunt]`.
pub(super) fn policy(problems: &mut Problems, file: &schema::File) -> Policy {
    let none = schema::Shunt::default();
    let shunt = file.shunt.as_ref().map_or(&none, Spanned::get_ref);
    let strays = [("reject", Strays::Reject), ("drop", Strays::Drop)];
    let restarts =
        [("never", Restarts::Never), ("closed", Restarts::Closed), ("closing", Restarts::Closing)];
    let icmp_on_end = [
        ("always", IcmpOnEnd::Always),
        ("removal", IcmpOnEnd::Removal),
        ("never", IcmpOnEnd::Never),
    ];
    let ping = [("always", Ping::Always), ("live", Ping::Live), ("never", Ping::Never)];
    let deadline =
        integer(problems, "drain_deadline_s", shunt.drain_deadline_s.as_ref(), 0..=86_400, 30);
    Policy {
        strays: choice(problems, "strays", shunt.strays.as_ref(), &strays, Strays::Reject),
        drop_malformed_tcp: shunt.drop_malformed_tcp.as_ref().is_some_and(|on| *on.get_ref()),
        udp_reflection_ports: reflection_ports(problems, shunt.udp_reflection_ports.as_ref()),
        restarts: choice(
            problems,
            "syn_restarts",
            shunt.syn_restarts.as_ref(),
            &restarts,
            Restarts::Closed,
        ),
        reset_on_end: shunt.reset_on_end.as_ref().is_none_or(|on| *on.get_ref()),
        icmp_on_end: choice(
            problems,
            "icmp_on_end",
            shunt.icmp_on_end.as_ref(),
            &icmp_on_end,
            IcmpOnEnd::Always,
        ),
        ping: choice(problems, "ping", shunt.ping.as_ref(), &ping, Ping::Always),
        tunnels_ignore_df: shunt.tunnels_ignore_df.as_ref().is_some_and(|on| *on.get_ref()),
        sloppy: shunt.sloppy.as_ref().is_some_and(|on| *on.get_ref()),
        local_out: shunt.local_out.as_ref().is_some_and(|on| *on.get_ref()),
        punt_per_second: integer(
            problems,
            "punt_per_second",
            shunt.punt_per_second.as_ref(),
            1..=10_000_000,
            20_000,
        ),
        drain_deadline: Duration::from_secs(deadline),
    }
}

fn workers(
    problems: &mut Problems,
    shunt: &schema::Shunt,
    table: Span,
    machine: &Machine,
) -> Vec<usize> {
    let help = "for example `workers = [1, 2]` under [shunt]; `lscpu -e` lists the CPUs";
    let Some(list) = shunt.workers.as_ref() else {
        problems.error_help(table, "no workers: `workers` names the CPU of each", help);
        return Vec::new();
    };
    if list.get_ref().is_empty() {
        problems.error_help(list.span(), "no workers: this list is empty", help);
    }
    if let Some(excess) = list.get_ref().get(limits::WORKERS) {
        problems.error(excess.span(), format!("more than {} workers", limits::WORKERS));
        return Vec::new();
    }
    let mut seen = BTreeSet::new();
    let mut cpus = Vec::new();
    for value in list.get_ref() {
        let Some(cpu) = cpu(problems, "worker", value, machine) else { continue };
        if !seen.insert(cpu) {
            let message = format!("CPU {cpu} carries another worker too: for tests, both are slow");
            problems.warn(value.span(), message);
        }
        cpus.push(cpu);
    }
    cpus
}

fn control_core(
    problems: &mut Problems,
    shunt: &schema::Shunt,
    workers: &[usize],
    machine: &Machine,
) -> Option<usize> {
    let value = shunt.control_core.as_ref()?;
    let cpu = cpu(problems, "control_core", value, machine)?;
    if workers.contains(&cpu) {
        let message = format!("CPU {cpu} carries a worker too: control will be slow under load");
        problems.warn(value.span(), message);
    }
    Some(cpu)
}

fn cpu(
    problems: &mut Problems,
    what: &str,
    value: &Spanned<i64>,
    machine: &Machine,
) -> Option<usize> {
    let Ok(cpu) = usize::try_from(*value.get_ref()) else {
        let message = format!("{what} {} is not the number of a CPU", value.get_ref());
        problems.error(value.span(), message);
        return None;
    };
    if !machine.has_cpu(cpu) {
        let message = machine.no_cpu(what, cpu);
        match machine.missing_cpu {
            MissingCpu::Refuse => problems.error(value.span(), message),
            MissingCpu::Warn => problems.warn(value.span(), message),
        }
    }
    Some(cpu)
}

/// IPv4 connections, and IPv6 ones: as many unless said otherwise.
fn connections(problems: &mut Problems, file: &schema::File, workers: usize) -> (u32, u32) {
    let workers = i64::try_from(workers.max(1)).unwrap_or(1);
    let most = WORKER_CONNECTIONS_MAX.saturating_mul(workers).min(i64::from(u32::MAX));
    let schema::Limits { connections, connections_ipv6, .. } = &file.limits;
    let v4 = integer(problems, "connections", connections.as_ref(), 1024..=most, 1_000_000);
    let v6 = integer(problems, "connections_ipv6", connections_ipv6.as_ref(), 1024..=most, v4);
    (v4, v6)
}

fn admin_socket(problems: &mut Problems, shunt: &schema::Shunt) -> PathBuf {
    let Some(value) = &shunt.admin_socket else { return "/run/shunt/admin.sock".into() };
    let path = PathBuf::from(value.get_ref());
    if !path.is_absolute() || path.file_name().is_none() {
        let message = format!("admin_socket `{}` is not an absolute path", path.display());
        problems.error_help(value.span(), message, "for example /run/shunt/admin.sock");
    } else if value.get_ref().len() > SOCKET_PATH_MAX {
        let message = format!("admin_socket is longer than {SOCKET_PATH_MAX} bytes (unix(7))");
        problems.error(value.span(), message);
    }
    path
}

fn metrics_listen(problems: &mut Problems, metrics: &schema::Metrics) -> Option<SocketAddr> {
    let Some(value) = &metrics.listen else {
        return Some(SocketAddr::from(([127, 0, 0, 1], 9150)));
    };
    if value.get_ref().is_empty() {
        return None;
    }
    let listen = value.get_ref().parse().ok().filter(|listen: &SocketAddr| listen.port() != 0);
    if listen.is_none() {
        let message = format!("listen `{}` is not an address and port", value.get_ref());
        let help = "for example 127.0.0.1:9150 or [::1]:9150; \"\" turns metrics off";
        problems.error_help(value.span(), message, help);
    }
    listen
}

fn huge_pages(problems: &mut Problems, dpdk: &schema::Dpdk) -> HugePages {
    let choices =
        [("auto", HugePages::Auto), ("require", HugePages::Require), ("never", HugePages::Never)];
    choice(problems, "huge_pages", dpdk.huge_pages.as_ref(), &choices, HugePages::Auto)
}

fn file_prefix(problems: &mut Problems, dpdk: &schema::Dpdk) -> String {
    let Some(value) = &dpdk.file_prefix else { return "shunt".into() };
    name(problems, "file_prefix", value, 32);
    value.get_ref().clone()
}

/// What another process maps must have a name, and ordinary pages have none.
fn secondary_processes(problems: &mut Problems, dpdk: &schema::Dpdk) -> bool {
    let Some(value) = dpdk.secondary_processes.as_ref().filter(|on| *on.get_ref()) else {
        return false;
    };
    let wanted = dpdk.huge_pages.as_ref().map(|value| value.get_ref().as_str());
    if wanted != Some("require") {
        let message = "secondary_processes needs huge pages, always";
        problems.error_help(value.span(), message, "set huge_pages = \"require\"");
    }
    true
}

fn eal_arguments(dpdk: &schema::Dpdk) -> Vec<String> {
    let list = dpdk.eal_arguments.iter().flat_map(Spanned::get_ref);
    list.map(|argument| argument.get_ref().clone()).collect()
}
