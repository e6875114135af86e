//! `[[service]]` and `[[service.backend]]`.
//!
//! Two passes: each service by itself, then all against all, because an address may have only one
//! part to play: a VIP is where clients connect, a local address where backends answer to, a
//! backend's is neither.

use std::collections::{HashMap, HashSet};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::ops::Range;

use toml::Spanned;

use super::super::error::Problems;
use super::super::plan::{Backend, Port, Service};
use super::super::schema;
use super::modes::{ServiceMode, refuse_other_port};
use super::value::{choice, integer, ipv4, name, socket};
use crate::dataplane::snapshot::{Mode, Protocol, Scheduler};
use crate::ids::limits;

const SERVICE_NAME_MAX: usize = 63;
/// As IPVS's: a larger one is a typing error.
const WEIGHT_MAX: i64 = 65_535;

/// An address and where it is written.
type Placed = (Ipv4Addr, Range<usize>);

/// A service with the places of its addresses.
struct Draft {
    service: Service,
    vip: Option<Placed>,
    locals: Vec<Placed>,
    backends: Vec<Placed>,
}

/// Checks all services, in file order.
pub(super) fn services(
    problems: &mut Problems,
    written: &[Spanned<schema::Service>],
    ports: &[Port],
) -> Vec<Service> {
    too_many(problems, written);
    let drafts: Vec<Draft> = written.iter().map(|written| draft(problems, written)).collect();
    unique(problems, written, &drafts);
    one_part_each(problems, &drafts);
    shared_with_the_kernel(problems, &drafts, ports);
    drafts.into_iter().map(|draft| draft.service).collect()
}

fn too_many(problems: &mut Problems, written: &[Spanned<schema::Service>]) {
    if let Some(excess) = written.get(limits::SERVICES) {
        problems.error(excess.span(), format!("more than {} services", limits::SERVICES));
    }
    let mut backends = written.iter().flat_map(|service| &service.get_ref().backend);
    if let Some(excess) = backends.nth(limits::BACKENDS) {
        let message = format!("more than {} backends over all services", limits::BACKENDS);
        problems.error(excess.address.span(), message);
    }
}

fn draft(problems: &mut Problems, written: &Spanned<schema::Service>) -> Draft {
    let (span, written) = (written.span(), written.get_ref());
    let service_name = written.name.get_ref();
    name(problems, "service name", &written.name, SERVICE_NAME_MAX);
    let address = socket(problems, "VIP", &written.address, "only IPv4 is balanced");
    let (mode, modes) = modes(problems, written);
    let fullnat = mode.needs_local_addresses(&modes);
    let locals = local_addresses(problems, written, span.clone(), fullnat);
    let (backends, places) = backends(problems, written, &modes, address);
    if written.backend.is_empty() {
        let message = format!("service `{service_name}` has no backends: it refuses everybody");
        problems.warn(span, message);
    }
    let protocols = [("tcp", Protocol::Tcp), ("udp", Protocol::Udp)];
    let schedulers = [("rr", Scheduler::Rr), ("wrr", Scheduler::Wrr)];
    let scheduler = written.scheduler.as_ref();
    let service = Service {
        name: service_name.clone(),
        protocol: choice(problems, "protocol", Some(&written.protocol), &protocols, Protocol::Tcp),
        address: address.unwrap_or(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0)),
        scheduler: choice(problems, "scheduler", scheduler, &schedulers, Scheduler::Wrr),
        local_addresses: locals.iter().map(|(address, _)| *address).collect(),
        backends,
    };
    let vip = address.map(|address| (*address.ip(), written.address.span()));
    Draft { service, vip, locals, backends: places }
}

/// The service's mode, and that of each backend.
fn modes(problems: &mut Problems, written: &schema::Service) -> (ServiceMode, Vec<Option<Mode>>) {
    let mode = ServiceMode::read(problems, written);
    let each = |backend| mode.of_backend(problems, backend);
    let modes: Vec<_> = written.backend.iter().map(each).collect();
    mode.refuse_idle_tunnel(problems, written, &modes);
    (mode, modes)
}

fn local_addresses(
    problems: &mut Problems,
    written: &schema::Service,
    service: Range<usize>,
    fullnat: bool,
) -> Vec<Placed> {
    let list = written.local_addresses.as_ref();
    let name = written.name.get_ref();
    match list.filter(|list| !list.get_ref().is_empty()) {
        None if fullnat => {
            let message = format!("service `{name}` has no local address, and FULL-NAT needs one");
            let help = "for example `local_addresses = [\"10.44.0.2\"]`, an address of this \
                        box's own that the backends can reach";
            problems.error_help(list.map_or(service, Spanned::span), message, help);
        }
        Some(list) if !fullnat => {
            let message =
                format!("nothing of service `{name}` has mode `fullnat`: these are not used");
            problems.warn(list.span(), message);
        }
        _ => {}
    }
    let mut seen = HashSet::new();
    let mut locals = Vec::new();
    for value in list.iter().flat_map(|list| list.get_ref()) {
        let ipv6 = "this service's VIP is IPv4";
        let Some(address) = ipv4(problems, "local address", value, ipv6) else { continue };
        if !seen.insert(address) {
            problems.error(value.span(), format!("local address {address} is listed twice"));
        }
        locals.push((address, value.span()));
    }
    locals
}

fn backends(
    problems: &mut Problems,
    written: &schema::Service,
    modes: &[Option<Mode>],
    vip: Option<SocketAddrV4>,
) -> (Vec<Backend>, Vec<Placed>) {
    let mut seen = HashSet::new();
    let (mut backends, mut places) = (Vec::new(), Vec::new());
    for (backend, mode) in written.backend.iter().zip(modes) {
        let weight = integer(problems, "weight", backend.weight.as_ref(), 0..=WEIGHT_MAX, 1);
        let (value, ipv6) = (&backend.address, "this service's VIP is IPv4");
        let Some(address) = socket(problems, "backend", value, ipv6) else { continue };
        if !seen.insert(address) {
            let name = written.name.get_ref();
            let message = format!("backend {address} is listed twice in service `{name}`");
            problems.error(value.span(), message);
        }
        if let (Some(vip), Some(mode)) = (vip, *mode) {
            refuse_other_port(problems, value, address, vip, mode);
        }
        backends.push(Backend { address, weight, mode: mode.unwrap_or_default() });
        places.push((*address.ip(), value.span()));
    }
    (backends, places)
}

/// No two services share a name, or a VIP, port and protocol.
fn unique(problems: &mut Problems, written: &[Spanned<schema::Service>], drafts: &[Draft]) {
    let mut names = HashSet::new();
    let mut keys = HashMap::new();
    for (written, draft) in written.iter().zip(drafts) {
        let (written, service) = (written.get_ref(), &draft.service);
        if !names.insert(&service.name) {
            let message = format!("service name `{}` is used twice", service.name);
            problems.error(written.name.span(), message);
        }
        if draft.vip.is_none() {
            continue;
        }
        let (protocol, address) = (service.protocol, service.address);
        if let Some(other) = keys.insert((protocol, address), &service.name) {
            let message = format!("{protocol} {address} is the address of service `{other}` too");
            problems.error(written.address.span(), message);
        }
    }
}

/// No address is VIP, local address and backend at once, over all services.
fn one_part_each(problems: &mut Problems, drafts: &[Draft]) {
    let mut vips = HashMap::new();
    let mut backends = HashMap::new();
    for draft in drafts {
        let name = draft.service.name.as_str();
        if let Some((address, _)) = &draft.vip {
            vips.entry(*address).or_insert(name);
        }
        for (address, _) in &draft.backends {
            backends.entry(*address).or_insert(name);
        }
    }
    for (address, span) in drafts.iter().flat_map(|draft| &draft.locals) {
        if let Some(service) = vips.get(address) {
            let message = format!("local address {address} is also the VIP of service `{service}`");
            problems.error(span.clone(), message);
        } else if let Some(service) = backends.get(address) {
            let message =
                format!("local address {address} is also a backend of service `{service}`");
            problems.error(span.clone(), message);
        }
    }
    for (address, span) in drafts.iter().flat_map(|draft| &draft.backends) {
        if let Some(service) = vips.get(address) {
            let message = format!("backend {address} is the VIP of service `{service}`: a loop");
            problems.error(span.clone(), message);
        }
    }
}

/// What a port's own address, which is the kernel's, cannot be, and what it had better not be: TCP
/// and UDP to a VIP or local address never reach the kernel's sockets.
fn shared_with_the_kernel(problems: &mut Problems, drafts: &[Draft], ports: &[Port]) {
    let own: HashSet<Ipv4Addr> =
        ports.iter().flat_map(|port| &port.addresses).map(|(address, _)| *address).collect();
    for draft in drafts {
        for (address, span) in draft.backends.iter().filter(|(address, _)| own.contains(address)) {
            let message = format!("backend {address} is a port's address: this host itself");
            problems.error(span.clone(), message);
        }
        let vip = draft.vip.iter().map(|place| ("VIP", place));
        let locals = draft.locals.iter().map(|place| ("local address", place));
        for (what, (address, span)) in vip.chain(locals) {
            if own.contains(address) {
                let message = format!(
                    "{what} {address} is a port's address too: ssh and the like to it will not \
                     reach this host"
                );
                problems.warn(span.clone(), message);
            }
        }
    }
}
