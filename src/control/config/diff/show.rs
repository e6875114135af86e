//! Changes as people read them: one line each, the first character saying what kind it is.

use std::fmt;
use std::net::SocketAddr;

use super::{Change, Diff};
use crate::control::config::client_address::word;
use crate::control::config::mode::line;
use crate::control::config::plan::{Backend, Persistence, Service};
use crate::control::health::check::{OnFailure, Policy, Target};
use crate::control::words::count;
use crate::dataplane::snapshot::{ClientAddress, Limit, Mode, Quotas, SourceQuota, SynCookies};

/// `name tcp 198.51.100.10:80, wrr, local 10.44.0.2, 3 backends`; what is not there, a default, or
/// only FULL-NAT, is left out.
fn summary(service: &Service) -> String {
    let Service { name, protocol, scheduler, backends, .. } = service;
    let own = service.addresses().map(|address| address.to_string());
    let others = service.other_protocols.iter().map(ToString::to_string);
    let addresses = join(own.chain(others));
    let flags: Vec<&str> = service.scheduler_flags.names(*scheduler).collect();
    let mut extra = match flags.as_slice() {
        [] => String::new(),
        flags => format!(" ({})", flags.join(",")),
    };
    if !service.clients.is_empty() {
        extra = format!("{extra}, clients {}", join(service.clients.iter()));
    }
    if service.one_packet {
        extra += ", one packet";
    }
    if service.sloppy {
        extra += ", sloppy";
    }
    if service.client_address != ClientAddress::None {
        extra = format!("{extra}, {}", word(service.client_address));
    }
    if !service.client_address_from.is_empty() {
        extra = format!("{extra} but from {}", join(service.client_address_from.iter()));
    }
    if service.persistence.is_some() {
        extra = format!("{extra}, persistent {}", persistence(service.persistence));
    }
    for (word, lists) in [("allow", &service.allow), ("deny", &service.deny)] {
        if !lists.is_empty() {
            extra = format!("{extra}, {word} {}", join(lists.iter()));
        }
    }
    if service.syn_cookies != SynCookies::Never {
        extra = format!("{extra}, SYN cookies {}", service.syn_cookies);
    }
    if service.syn_cookies_wait_for_data {
        extra += " until data";
    }
    for (key, seconds) in &service.timeouts {
        extra = format!("{extra}, {key} {seconds}");
    }
    if let Some(ports) = &service.udp_reflection_ports {
        extra = format!("{extra}, not from ports {}", join(ports.iter()));
    }
    for (key, value) in quotas(service.quotas).into_iter().filter(|(_, value)| *value > 0) {
        extra = format!("{extra}, {key} {value}");
    }
    if !service.local_addresses.is_empty() {
        extra = format!("{extra}, local {}", join(service.local_addresses.iter()));
    }
    let count = backends.len();
    let plural = if count == 1 { "" } else { "s" };
    let modes = modes(backends);
    format!("{name} {protocol} {addresses}, {scheduler}{extra}, {count} backend{plural}{modes}")
}

/// `360 s /24`, or `off`.
pub(super) fn persistence(persistence: Option<Persistence>) -> String {
    let Some(Persistence { timeout_s, prefix, to_drained }) = persistence else {
        return "off".to_owned();
    };
    let drained = if to_drained { ", drained too" } else { "" };
    format!("{timeout_s} s /{prefix}{drained}")
}

/// A timeout; `default` where it is not a service's own.
pub(super) fn seconds(seconds: Option<u32>) -> String {
    seconds.map_or_else(|| "default".to_owned(), |seconds| seconds.to_string())
}

/// The keys that limit a service and its sources, with their values.
pub(super) fn quotas(quotas: Quotas) -> [(&'static str, u32); 7] {
    let Quotas { service, source } = quotas;
    let SourceQuota { prefix, quota } = source.unwrap_or_default();
    [
        ("max_connections", service.connections),
        ("max_new_per_second", service.rate.per_second),
        ("max_new_burst", service.rate.burst),
        ("source_prefix", prefix.into()),
        ("source_max_connections", quota.connections),
        ("source_max_new_per_second", quota.rate.per_second),
        ("source_max_new_burst", quota.rate.burst),
    ]
}

fn join<T: fmt::Display>(values: impl Iterator<Item = T>) -> String {
    values.map(|value| value.to_string()).collect::<Vec<_>>().join(" ")
}

/// ` (dr, tunnel ipip)`, each mode once; nothing if there is none but FULL-NAT.
fn modes(backends: &[Backend]) -> String {
    let mut modes: Vec<Mode> = Vec::new();
    for backend in backends {
        if !modes.contains(&backend.mode) {
            modes.push(backend.mode);
        }
    }
    if modes.iter().all(|mode| *mode == Mode::Fullnat) {
        return String::new();
    }
    let modes: Vec<String> = modes.into_iter().map(line).collect();
    format!(" ({})", modes.join(", "))
}

/// `10.44.0.12:80 weight 1 mode dr`; FULL-NAT goes without saying.
fn whole(backend: &Backend) -> String {
    let Backend { address, weight, limit, quic_server_id, sorry, mode } = backend;
    let mode = match mode {
        Mode::Fullnat => String::new(),
        mode => format!(" mode {}", line(*mode)),
    };
    let limit = match limit {
        Limit { most: 0, .. } => String::new(),
        Limit { most, least: 0 } => format!(" max {most}"),
        Limit { most, least } => format!(" max {most} resume below {least}"),
    };
    let id = quic_server_id.map_or_else(String::new, |id| format!(" quic {id}"));
    let sorry = if *sorry { " sorry" } else { "" };
    format!("{address} weight {weight}{limit}{id}{mode}{sorry}")
}

/// Each setting of `[service.health]` under its key.
pub(super) fn health(policy: Policy) -> Vec<(&'static str, String)> {
    let Policy {
        quorum,
        hysteresis,
        on_failure,
        starts_up,
        flap_limit,
        flap_window_s,
        slow_start_s,
        passive_fall,
        passive_rest_s,
        target,
    } = policy;
    let on_failure = match on_failure {
        OnFailure::Remove => "remove",
        OnFailure::Drain => "drain",
    };
    let target = match target {
        Target::Backend => "backend",
        Target::Vip => "vip",
    };
    vec![
        ("quorum", quorum.to_string()),
        ("quorum_hysteresis", hysteresis.to_string()),
        ("on_failure", on_failure.into()),
        ("start", if starts_up { "up" } else { "down" }.into()),
        ("flap_limit", flap_limit.to_string()),
        ("flap_window_s", flap_window_s.to_string()),
        ("slow_start_s", slow_start_s.to_string()),
        ("passive_fall", passive_fall.to_string()),
        ("passive_rest_s", passive_rest_s.to_string()),
        ("target", target.into()),
    ]
}

/// `service web: check`, or `service web: backend 10.44.0.12:80 check`.
struct Checked<'a>(&'a str, &'a Option<SocketAddr>);

impl fmt::Display for Checked<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(service, backend) = self;
        write!(f, "service {service}: ")?;
        backend.map_or(Ok(()), |backend| write!(f, "backend {backend} "))?;
        f.write_str("check")
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Restart { setting, from, to } => {
                write!(f, "! {setting}: {from} -> {to} (needs a restart)")
            }
            Self::Setting { setting, from, to } => write!(f, "~ {setting}: {from} -> {to}"),
            Self::ListAdded { list, networks } => {
                write!(f, "+ list {list}: {}", count(*networks, "network"))
            }
            Self::ListChanged { list, added, removed } => {
                write!(f, "~ list {list}: {} added, {removed} removed", count(*added, "network"))
            }
            Self::ListRemoved { list, networks } => {
                write!(f, "- list {list}: {}", count(*networks, "network"))
            }
            Self::ServiceAdded(service) => write!(f, "+ service {}", summary(service)),
            Self::ServiceRemoved(service) => write!(f, "- service {}", summary(service)),
            Self::ServiceSetting { service, setting, from, to } => {
                write!(f, "~ service {service}: {setting} {from} -> {to}")
            }
            Self::BackendAdded { service, backend } => {
                write!(f, "+ service {service}: backend {}", whole(backend))
            }
            Self::BackendRemoved { service, backend } => {
                write!(f, "- service {service}: backend {}", whole(backend))
            }
            Self::BackendMode { service, address, from, to } => {
                write!(f, "~ service {service}: backend {address} mode {from} -> {to}")
            }
            Self::BackendSetting { service, address, setting, from, to } => {
                write!(f, "~ service {service}: backend {address} {setting} {from} -> {to}")
            }
            Self::CheckAdded { service, backend, check } => {
                let of = Checked(service, backend);
                write!(f, "+ {of} {check} every {} ms", check.interval_ms)
            }
            Self::CheckSetting { service, backend, check, setting, from, to } => {
                write!(f, "~ {} {check} {setting} {from} -> {to}", Checked(service, backend))
            }
            Self::CheckRemoved { service, backend, check } => {
                let of = Checked(service, backend);
                write!(f, "- {of} {check} every {} ms", check.interval_ms)
            }
            Self::BackendWeight { service, address, from, to } => {
                let drain = if *to == 0 { " (drain)" } else { "" };
                write!(f, "~ service {service}: backend {address} weight {from} -> {to}{drain}")
            }
        }
    }
}

impl fmt::Display for Diff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.changes.iter().try_for_each(|change| writeln!(f, "{change}"))
    }
}
