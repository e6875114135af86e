//! What a new configuration changes: an ordered list that can be printed before it is applied.
//!
//! ```text
//! ! [shunt] workers: [1] -> [1, 2] (needs a restart)
//! ~ [timeouts] udp_s: 300 -> 60
//! ~ list bots: 12 networks added, 3 removed
//! + service dns udp 198.51.100.10:53, rr, local 10.44.0.2, 2 backends
//! ~ service web: check http GET / interval_ms 2000 -> 500
//! ~ service web: backend 10.44.0.11:8080 weight 1 -> 0 (drain)
//! - service old tcp 198.51.100.9:80, 1 backend
//! ```
//!
//! A service is the same one if its protocol, `address` and the first of its `clients` are; its name,
//! `more_addresses` and further `clients` may change. A backend is the same one if its service, address and port are. The order of services, backends and checks in the
//! file is not a difference: see `control::compile` for what counts instead.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::client_address::word;
use super::mode::line;
use super::plan::{Backend, ClientGroup, ClientList, Device, Link, Plan, Port, Service};
use crate::control::health::check::Check;
use crate::dataplane::sched::ServerId;
use crate::dataplane::snapshot::{Protocol, ServiceAddress, Timeouts};

mod change;
mod checks;
mod show;

pub use change::Change;
use checks::Whose;

/// All differences between two plans: settings, then services in the new file's order, then the
/// services that leave.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Diff {
    /// In the order they are printed.
    pub changes: Vec<Change>,
}

impl Diff {
    /// Nothing changed.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// The changes a reload cannot make.
    pub fn needs_restart(&self) -> impl Iterator<Item = &Change> {
        self.changes.iter().filter(|change| change.needs_restart())
    }

    /// One sentence naming what a reload cannot change, if anything:
    /// `needs a restart: [shunt] workers, [[port]] wan mtu`.
    pub fn restart_notice(&self) -> Option<String> {
        let settings: Vec<&str> = self.changes.iter().filter_map(Change::restart_setting).collect();
        (!settings.is_empty()).then(|| format!("needs a restart: {}", settings.join(", ")))
    }
}

/// What `new` changes of `old`.
pub fn diff(old: &Plan, new: &Plan) -> Diff {
    let mut changes = Vec::new();
    daemon(&mut changes, old, new);
    ports(&mut changes, old, new);
    settings(&mut changes, old, new);
    lists(&mut changes, &old.lists, &new.lists);
    services(&mut changes, old, new);
    Diff { changes }
}

/// Two values of one setting as text; `None` if they are equal.
fn differ<T: PartialEq>(old: &T, new: &T, show: impl Fn(&T) -> String) -> Option<(String, String)> {
    (old != new).then(|| (show(old), show(new)))
}

fn daemon(changes: &mut Vec<Change>, old: &Plan, new: &Plan) {
    let remote = [old, new].map(|plan| plan.remote.as_ref().map(|remote| remote.listen));
    let (old, new) = (&old.daemon, &new.daemon);
    let mut push = |setting: &str, difference: Option<(String, String)>| {
        changes.extend(difference.map(|(from, to)| Change::Restart {
            setting: setting.to_owned(),
            from,
            to,
        }));
    };
    let core = |core: &Option<usize>| core.map_or("none".to_owned(), |core| core.to_string());
    let listen = |listen: &Option<_>| {
        listen.map_or("off".to_owned(), |listen: SocketAddr| listen.to_string())
    };
    push("[shunt] workers", differ(&old.worker_cores, &new.worker_cores, |v| list(v)));
    push("[shunt] control_core", differ(&old.control_core, &new.control_core, core));
    push("[shunt] busy_poll", differ(&old.busy_poll, &new.busy_poll, bool::to_string));
    let us = |sleep: &Duration| sleep.as_micros().to_string();
    push("[shunt] idle_sleep_us", differ(&old.idle_sleep, &new.idle_sleep, us));
    push(
        "[shunt] admin_socket",
        differ(&old.admin_socket, &new.admin_socket, |v| v.display().to_string()),
    );
    push("[dpdk] huge_pages", differ(&old.huge_pages, &new.huge_pages, ToString::to_string));
    push("[dpdk] memory_mb", differ(&old.memory_mb, &new.memory_mb, u32::to_string));
    push("[dpdk] file_prefix", differ(&old.file_prefix, &new.file_prefix, String::clone));
    push(
        "[dpdk] secondary_processes",
        differ(&old.secondary_processes, &new.secondary_processes, bool::to_string),
    );
    push("[dpdk] eal_arguments", differ(&old.eal_arguments, &new.eal_arguments, |v| list(v)));
    push("[dpdk] packet_buffers", differ(&old.packet_buffers, &new.packet_buffers, u32::to_string));
    push(
        "[limits] connections",
        differ(&old.connections_max, &new.connections_max, u32::to_string),
    );
    push(
        "[limits] connections_ipv6",
        differ(&old.connections_ipv6_max, &new.connections_ipv6_max, u32::to_string),
    );
    push(
        "[limits] persistent_clients",
        differ(&old.persistent_clients_max, &new.persistent_clients_max, u32::to_string),
    );
    push(
        "[limits] cookie_connections",
        differ(&old.cookie_connections_max, &new.cookie_connections_max, u32::to_string),
    );
    push(
        "[limits] limited_sources",
        differ(&old.limited_sources_max, &new.limited_sources_max, u32::to_string),
    );
    push("[metrics] listen", differ(&old.metrics_listen, &new.metrics_listen, listen));
    push("[admin] listen", differ(&remote[0], &remote[1], listen));
}

/// Ports are compared by position, because that is their id.
fn ports(changes: &mut Vec<Change>, old: &Plan, new: &Plan) {
    let names = |ports: &[Port]| each(ports, |port| port.name.clone());
    let same = old.ports.iter().map(|port| &port.name).eq(new.ports.iter().map(|port| &port.name));
    if !same {
        let (from, to) = (names(&old.ports), names(&new.ports));
        changes.push(Change::Restart { setting: "[[port]]".into(), from, to });
        return;
    }
    for (before, now) in old.ports.iter().zip(&new.ports) {
        port(changes, (before, &old.ports), (now, &new.ports));
    }
}

/// Each port with all of its configuration.
fn port(changes: &mut Vec<Change>, old: (&Port, &[Port]), new: (&Port, &[Port])) {
    let ((old, before), (new, now)) = (old, new);
    let mut push = |key: &str, difference: Option<(String, String)>| {
        changes.extend(difference.map(|(from, to)| Change::Restart {
            setting: format!("[[port]] {} {key}", new.name),
            from,
            to,
        }));
    };
    let (was, is) = (Under::of(old, before), Under::of(new, now));
    push("device", differ(&was.device, &is.device, String::clone));
    push("on", differ(&was.on, &is.on, String::clone));
    push("vlan", differ(&was.vlan, &is.vlan, String::clone));
    push("tap", differ(&old.tap, &new.tap, String::clone));
    push(
        "addresses",
        differ(&old.addresses, &new.addresses, |v| {
            each(v, |(address, length)| format!("{address}/{length}"))
        }),
    );
    push("mtu", differ(&old.mtu, &new.mtu, u16::to_string));
    push("rx_descriptors", differ(&was.rx_descriptors, &is.rx_descriptors, String::clone));
    push("tx_descriptors", differ(&was.tx_descriptors, &is.tx_descriptors, String::clone));
    push("route", differ(&old.routes, &new.routes, |v| each(v, route)));
}

/// What is under a port, key by key; `none` where it has no such key.
struct Under {
    device: String,
    on: String,
    vlan: String,
    rx_descriptors: String,
    tx_descriptors: String,
}

impl Under {
    fn of(port: &Port, ports: &[Port]) -> Self {
        let none = || "none".to_owned();
        match &port.link {
            Link::Device(Device { device, rx_descriptors, tx_descriptors }) => Self {
                device: device.clone(),
                on: none(),
                vlan: none(),
                rx_descriptors: rx_descriptors.to_string(),
                tx_descriptors: tx_descriptors.to_string(),
            },
            Link::Tagged { on, tags } => Self {
                device: none(),
                on: ports.get(on.index()).map_or_else(none, |port| port.name.clone()),
                vlan: tags.to_string(),
                rx_descriptors: none(),
                tx_descriptors: none(),
            },
        }
    }
}

fn route((to, length, via): &(IpAddr, u8, IpAddr)) -> String {
    format!("{to}/{length} via {via}")
}

fn settings(changes: &mut Vec<Change>, old: &Plan, new: &Plan) {
    let mut push = |setting: &str, difference: Option<(String, String)>| {
        changes.extend(difference.map(|(from, to)| Change::Setting {
            setting: setting.to_owned(),
            from,
            to,
        }));
    };
    push(
        "[shunt] drain_deadline_s",
        differ(&old.drain_deadline, &new.drain_deadline, |v| v.as_secs().to_string()),
    );
    push("[shunt] strays", differ(&old.strays, &new.strays, ToString::to_string));
    push(
        "[shunt] drop_malformed_tcp",
        differ(&old.drop_malformed_tcp, &new.drop_malformed_tcp, bool::to_string),
    );
    push(
        "[shunt] udp_reflection_ports",
        differ(&old.udp_reflection_ports, &new.udp_reflection_ports, |v| list(v)),
    );
    push("[shunt] syn_restarts", differ(&old.restarts, &new.restarts, ToString::to_string));
    push("[shunt] reset_on_end", differ(&old.reset_on_end, &new.reset_on_end, bool::to_string));
    push("[shunt] icmp_on_end", differ(&old.icmp_on_end, &new.icmp_on_end, ToString::to_string));
    push("[shunt] ping", differ(&old.ping, &new.ping, ToString::to_string));
    push(
        "[shunt] tunnels_ignore_df",
        differ(&old.tunnels_ignore_df, &new.tunnels_ignore_df, bool::to_string),
    );
    push("[shunt] local_out", differ(&old.local_out, &new.local_out, bool::to_string));
    push("[shunt] directors", differ(&old.directors, &new.directors, |v| list(v)));
    push(
        "[shunt] punt_per_second",
        differ(&old.punt_per_second, &new.punt_per_second, u32::to_string),
    );
    push("[shunt] deny", differ(&old.deny, &new.deny, |v| list(v)));
    if let (Some(before), Some(now)) = (&old.remote, &new.remote) {
        for (key, from, to) in before.credentials.differences(&now.credentials) {
            push(&format!("[admin] {key}"), Some((from, to)));
        }
    }
    for key in Timeouts::KEYS {
        let (was, is) = (old.timeouts.named(key), new.timeouts.named(key));
        push(&format!("[timeouts] {key}"), differ(&was, &is, |seconds| show::seconds(*seconds)));
    }
}

/// A list is the same one if its name is.
fn lists(changes: &mut Vec<Change>, old: &[ClientList], new: &[ClientList]) {
    let find = |lists: &[ClientList], name: &str| {
        lists.iter().find(|list| list.name == name).map(|list| Arc::clone(&list.networks))
    };
    for ClientList { name, networks } in new {
        let list = name.clone();
        match find(old, name) {
            None => changes.push(Change::ListAdded { list, networks: networks.len() }),
            Some(before) if before != *networks => {
                let (added, removed) = (beyond(networks, &before), beyond(&before, networks));
                changes.push(Change::ListChanged { list, added, removed });
            }
            Some(_) => {}
        }
    }
    for ClientList { name, networks } in old.iter().filter(|it| find(new, &it.name).is_none()) {
        let (list, networks) = (name.clone(), networks.len());
        changes.push(Change::ListRemoved { list, networks });
    }
}

/// How many of `some` are not in `others`; both in order.
fn beyond<T: Ord>(some: &[T], others: &[T]) -> usize {
    some.iter().filter(|one| others.binary_search(one).is_err()).count()
}

type ServiceKey<'a> = (Protocol, ServiceAddress, Option<&'a ClientGroup>);

fn key(service: &Service) -> ServiceKey<'_> {
    (service.protocol, service.address, service.clients.first())
}

fn services(changes: &mut Vec<Change>, old: &Plan, new: &Plan) {
    let before: HashMap<ServiceKey<'_>, &Service> =
        old.services.iter().map(|service| (key(service), service)).collect();
    let after: HashSet<ServiceKey<'_>> = new.services.iter().map(key).collect();
    for service in &new.services {
        match before.get(&key(service)) {
            Some(before) => service_changes(changes, before, service),
            None => changes.push(Change::ServiceAdded(service.clone())),
        }
    }
    let removed = old.services.iter().filter(|service| !after.contains(&key(service)));
    changes.extend(removed.cloned().map(Change::ServiceRemoved));
}

fn service_changes(changes: &mut Vec<Change>, old: &Service, new: &Service) {
    let mut push = |setting, difference: Option<(String, String)>| {
        changes.extend(difference.map(|(from, to)| Change::ServiceSetting {
            service: new.name.clone(),
            setting,
            from,
            to,
        }));
    };
    push("name", differ(&old.name, &new.name, String::clone));
    let (was, is) = (further(old), further(new));
    push("more_addresses", differ(&was, &is, |v| list(v)));
    push("clients", differ(&old.clients, &new.clients, |v| list(v)));
    push("scheduler", differ(&old.scheduler, &new.scheduler, ToString::to_string));
    let (was, is) = (flags(old), flags(new));
    push("scheduler_flags", differ(&was, &is, |names| list(names)));
    let (was, is) = (old.scheduler_flags.slots, new.scheduler_flags.slots);
    push("mh_slots", differ(&was, &is, ToString::to_string));
    push("local_addresses", differ(&old.local_addresses, &new.local_addresses, |v| list(v)));
    push("one_packet", differ(&old.one_packet, &new.one_packet, bool::to_string));
    push("sloppy", differ(&old.sloppy, &new.sloppy, bool::to_string));
    let address = |address: &_| word(*address).to_owned();
    push("persistence", differ(&old.persistence, &new.persistence, |it| show::persistence(*it)));
    push("allow", differ(&old.allow, &new.allow, |v| list(v)));
    push("deny", differ(&old.deny, &new.deny, |v| list(v)));
    push("client_address", differ(&old.client_address, &new.client_address, address));
    let (was, is) = (&old.client_address_from, &new.client_address_from);
    push("client_address_from", differ(was, is, |v| list(v)));
    push("syn_cookies", differ(&old.syn_cookies, &new.syn_cookies, ToString::to_string));
    let (was, is) = (old.syn_cookies_wait_for_data, new.syn_cookies_wait_for_data);
    push("syn_cookies_wait_for_data", differ(&was, &is, bool::to_string));
    for key in Timeouts::KEYS {
        let (was, is) = (old.timeouts.get(key).copied(), new.timeouts.get(key).copied());
        push(key, differ(&was, &is, |seconds| show::seconds(*seconds)));
    }
    let ports = |ports: &Option<Vec<u16>>| {
        ports.as_ref().map_or_else(|| "default".to_owned(), |ports| list(ports))
    };
    let (was, is) = (&old.udp_reflection_ports, &new.udp_reflection_ports);
    push("udp_reflection_ports", differ(was, is, ports));
    let (was, is) = (show::quotas(old.quotas), show::quotas(new.quotas));
    for ((key, from), (_, to)) in was.into_iter().zip(is) {
        push(key, differ(&from, &to, u32::to_string));
    }
    let (was, is) = (show::health(old.health), show::health(new.health));
    for ((key, from), (_, to)) in was.into_iter().zip(is) {
        push(key, differ(&from, &to, String::clone));
    }
    let whose = Whose { service: &new.name, backend: None };
    checks::compare(changes, &whose, &old.checks, &new.checks);
    backend_changes(changes, old, new);
}

/// What is in `more_addresses`.
fn further(service: &Service) -> Vec<String> {
    let others = service.other_protocols.iter().map(ToString::to_string);
    service.more_addresses.iter().map(ToString::to_string).chain(others).collect()
}

fn backend_changes(changes: &mut Vec<Change>, old: &Service, new: &Service) {
    let before: HashMap<SocketAddr, Backend> =
        old.backends.iter().map(|&backend| (backend.address, backend)).collect();
    let after: HashSet<SocketAddr> = new.backends.iter().map(|backend| backend.address).collect();
    let service = || new.name.clone();
    for &backend in &new.backends {
        match before.get(&backend.address) {
            None => changes.push(Change::BackendAdded { service: service(), backend }),
            Some(&before) => {
                backend_settings(changes, &service, before, backend);
                let whose = Whose { service: &new.name, backend: Some(backend.address) };
                let [was, is] = [old, new].map(|it| own_checks(it, backend.address));
                checks::compare(changes, &whose, was, is);
            }
        }
    }
    for &backend in old.backends.iter().filter(|backend| !after.contains(&backend.address)) {
        changes.push(Change::BackendRemoved { service: service(), backend });
    }
}

fn backend_settings(
    changes: &mut Vec<Change>,
    service: &impl Fn() -> String,
    old: Backend,
    new: Backend,
) {
    let Backend { address, weight: to, limit, quic_server_id, sorry, mode } = new;
    if old.mode != mode {
        let (from, to) = (line(old.mode), line(mode));
        changes.push(Change::BackendMode { service: service(), address, from, to });
    }
    if old.weight != to {
        let (service, from) = (service(), old.weight);
        changes.push(Change::BackendWeight { service, address, from, to });
    }
    let mut push = |setting, difference: Option<(String, String)>| {
        changes.extend(difference.map(|(from, to)| Change::BackendSetting {
            service: service(),
            address,
            setting,
            from,
            to,
        }));
    };
    push("max_connections", differ(&old.limit.most, &limit.most, u32::to_string));
    push("resume_below", differ(&old.limit.least, &limit.least, u32::to_string));
    let id = |id: &Option<ServerId>| id.map_or("none".to_owned(), |id| id.to_string());
    push("quic_server_id", differ(&old.quic_server_id, &quic_server_id, id));
    push("sorry", differ(&old.sorry, &sorry, bool::to_string));
}

/// Checks of a backend's own.
fn own_checks(service: &Service, backend: SocketAddr) -> &[Check] {
    service.backend_checks.get(&backend).map_or(&[], Vec::as_slice)
}

/// Names of a service's scheduler flags.
fn flags(service: &Service) -> Vec<&'static str> {
    service.scheduler_flags.names(service.scheduler).collect()
}

/// A list as it would be written, without the quotes.
fn list<T: fmt::Display>(values: &[T]) -> String {
    each(values, T::to_string)
}

fn each<T>(values: &[T], show: impl Fn(&T) -> String) -> String {
    format!("[{}]", values.iter().map(show).collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests;
