//! `[[service]]` and `[[service.backend]]`.
//!
//! Two passes: each service by itself, then all against all, because an address may have only one
//! part to play: a VIP is where clients connect, a local address where backends answer to, a
//! backend's is neither.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::ops::Range;
use std::path::Path;

use super::super::error::Problems;
use super::super::plan::{Backend, ClientList, Port, Service};
use super::super::schema::{self, Spanned};
use super::lists::names;
use super::modes::ServiceMode;
use super::value::{choice, integer, name, socket};
use super::vips::{self, PlacedVip, refuse_unreachable};
use super::{
    checks, claims, clients, cookies, groups, health, locals, quotas, scheduling, sloppy, suspects,
    timeouts,
};
use crate::dataplane::snapshot::{Mode, Place, Ports, Protocol, ServiceAddress};
use crate::ids::limits;

const SERVICE_NAME_MAX: usize = 63;
/// As IPVS's: a larger one is a typing error.
const WEIGHT_MAX: i64 = 65_535;

/// An address and where it is written.
pub(super) type Placed = (IpAddr, Range<usize>);

/// A service with the places of its addresses.
struct Draft {
    service: Service,
    vips: Vec<PlacedVip>,
    /// Is it known whose it is?
    has_clients: bool,
    /// Of each of `vips`.
    protocols: Vec<Protocol>,
    locals: Vec<Placed>,
    backends: Vec<Placed>,
}

/// What the rest of the file says that services depend on.
pub(super) struct Around<'a> {
    /// Names of lists, those with mistakes included.
    pub(super) known: &'a [&'a str],
    pub(super) lists: &'a [ClientList],
    /// Where the file is.
    pub(super) origin: &'a Path,
    /// Does `[shunt]` say `sloppy`?
    pub(super) is_sloppy: bool,
}

/// Checks all services, in file order.
pub(super) fn services(
    problems: &mut Problems,
    written: &[Spanned<schema::Service>],
    ports: &[Port],
    around: &Around<'_>,
) -> Vec<Service> {
    too_many(problems, written);
    let drafts: Vec<Draft> =
        written.iter().map(|written| draft(problems, written, around)).collect();
    unique(problems, written, &drafts, around.lists);
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

fn draft(
    problems: &mut Problems,
    written: &Spanned<schema::Service>,
    &Around { known: lists, is_sloppy, origin, .. }: &Around<'_>,
) -> Draft {
    let (span, written) = (written.span(), written.get_ref());
    let service_name = written.name.get_ref();
    name(problems, "service name", &written.name, SERVICE_NAME_MAX);
    let known = choice(problems, "protocol", Some(&written.protocol), &PROTOCOLS, None);
    let own = known.unwrap_or(Protocol::Tcp);
    let (vips, protocols) = vips::addresses(problems, written, own);
    // An unknown one is told of once; what would follow from it is not judged.
    let spoken = if known.is_some() { spoken(own, &protocols) } else { Vec::new() };
    let (mode, modes) = modes(problems, written);
    let (backends, places) = backends(problems, written, &modes, &vips);
    let served = (vips.as_slice(), backends.as_slice());
    let locals = locals::local_addresses(problems, written, span.clone(), &mode, &modes, served);
    if written.backend.is_empty() {
        let message = format!("service `{service_name}` has no backends: it refuses everybody");
        problems.warn(span, message);
    }
    let scheduler = scheduling::scheduler(problems, written, &spoken);
    scheduling::refuse_server_ids(problems, written, scheduler, &backends);
    let nowhere = ServiceAddress { vip: IpAddr::from([0; 4]), ports: Ports::ALL };
    let clients = groups::clients(problems, written, &vips, lists);
    let has_clients = clients.is_some();
    let (more_addresses, other_protocols) = further(own, &vips, &protocols);
    let client_address = clients::client_address(problems, written, &spoken, &modes);
    let syn_cookies = cookies::syn_cookies(problems, written, &spoken, &modes);
    let mut service = Service {
        name: service_name.clone(),
        protocol: own,
        address: vips.first().map_or(nowhere, |(address, _)| *address),
        more_addresses,
        other_protocols,
        clients: clients.unwrap_or_default(),
        scheduler,
        scheduler_flags: scheduling::flags(problems, written, scheduler),
        local_addresses: locals.iter().map(|(address, _)| *address).collect(),
        one_packet: clients::one_packet(problems, written, &spoken),
        sloppy: false,
        client_address,
        client_address_from: clients::brought_by(problems, written, client_address, lists),
        persistence: clients::persistence(problems, written, &vips),
        allow: names(problems, "allow", written.allow.as_ref(), lists),
        deny: names(problems, "deny", written.deny.as_ref(), lists),
        syn_cookies,
        syn_cookies_wait_for_data: cookies::wait_for_data(problems, written, syn_cookies),
        timeouts: timeouts::own(problems, &written.timeouts, &spoken),
        quotas: quotas::quotas(problems, written, &vips),
        udp_reflection_ports: suspects::of_service(problems, written, &spoken),
        health: health::policy(problems, &written.health),
        checks: checks::of_service(problems, written, origin),
        backend_checks: checks::of_backends(problems, written, origin),
        backends,
    };
    health::refuse_idle(problems, written, &service);
    health::refuse_blind(problems, written, &service);
    health::refuse_astray(problems, written, &service);
    service.sloppy = sloppy::sloppy(problems, written, &service, is_sloppy);
    Draft { service, vips, has_clients, protocols, locals, backends: places }
}

/// Each once, the service's own first.
fn spoken(own: Protocol, protocols: &[Protocol]) -> Vec<Protocol> {
    let others = Protocol::ALL.into_iter().filter(|it| *it != own && protocols.contains(it));
    std::iter::once(own).chain(others).collect()
}

/// Where else clients find it: by its own protocol, and by others.
fn further(
    own: Protocol,
    vips: &[PlacedVip],
    protocols: &[Protocol],
) -> (Vec<ServiceAddress>, Vec<Place>) {
    let all = vips.iter().zip(protocols).skip(1);
    let all = all.map(|((address, _), protocol)| Place { protocol: *protocol, address: *address });
    let (own, others): (Vec<_>, Vec<_>) = all.partition(|place| place.protocol == own);
    (own.into_iter().map(|place| place.address).collect(), others)
}

/// What `protocol` may be. An unknown one is told of once; what would follow from it is not judged.
const PROTOCOLS: [(&str, Option<Protocol>); 3] =
    [("tcp", Some(Protocol::Tcp)), ("udp", Some(Protocol::Udp)), ("sctp", Some(Protocol::Sctp))];

/// The service's mode, and that of each backend.
fn modes(problems: &mut Problems, written: &schema::Service) -> (ServiceMode, Vec<Option<Mode>>) {
    let mode = ServiceMode::read(problems, written);
    let each = |backend| mode.of_backend(problems, backend);
    let modes: Vec<_> = written.backend.iter().map(each).collect();
    mode.refuse_idle_tunnel(problems, written, &modes);
    (mode, modes)
}

fn backends(
    problems: &mut Problems,
    written: &schema::Service,
    modes: &[Option<Mode>],
    vips: &[PlacedVip],
) -> (Vec<Backend>, Vec<Placed>) {
    let mut seen = HashSet::new();
    let (mut backends, mut places) = (Vec::new(), Vec::new());
    for (backend, mode) in written.backend.iter().zip(modes) {
        let weight = integer(problems, "weight", backend.weight.as_ref(), 0..=WEIGHT_MAX, 1);
        let value = &backend.address;
        let Some(address) = socket(problems, "backend", value) else { continue };
        if !seen.insert(address) {
            let name = written.name.get_ref();
            let message = format!("backend {address} is listed twice in service `{name}`");
            problems.error(value.span(), message);
        }
        if let Some(mode) = *mode {
            refuse_unreachable(problems, value, address, vips, mode);
        }
        let limit = scheduling::limit(problems, backend);
        let quic_server_id = scheduling::server_id(problems, backend);
        let mode = mode.unwrap_or_default();
        let sorry = backend.sorry.as_ref().is_some_and(|sorry| *sorry.get_ref());
        backends.push(Backend { address, weight, limit, quic_server_id, sorry, mode });
        places.push((address.ip(), value.span()));
    }
    (backends, places)
}

/// No two services share a name, or an address.
fn unique(
    problems: &mut Problems,
    written: &[Spanned<schema::Service>],
    drafts: &[Draft],
    lists: &[ClientList],
) {
    let mut names = HashSet::new();
    for (written, draft) in written.iter().zip(drafts) {
        if !names.insert(&draft.service.name) {
            let message = format!("service name `{}` is used twice", draft.service.name);
            problems.error(written.get_ref().name.span(), message);
        }
    }
    let known = drafts.iter().filter(|draft| draft.has_clients);
    let known = known.map(|it| (&it.service, &*it.vips, &*it.protocols));
    claims::unique(problems, known, lists);
}

/// No address is VIP, local address and backend at once, over all services.
fn one_part_each(problems: &mut Problems, drafts: &[Draft]) {
    let mut vips = HashMap::new();
    let mut backends = HashMap::new();
    for draft in drafts {
        let name = draft.service.name.as_str();
        for (address, _) in &draft.vips {
            vips.entry(address.vip).or_insert(name);
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
    let own: HashSet<IpAddr> =
        ports.iter().flat_map(|port| &port.addresses).map(|(address, _)| *address).collect();
    for draft in drafts {
        for (address, span) in draft.backends.iter().filter(|(address, _)| own.contains(address)) {
            let message = format!("backend {address} is a port's address: this host itself");
            problems.error(span.clone(), message);
        }
        let vips = draft.vips.iter().map(|(address, span)| ("VIP", address.vip, span));
        let locals = draft.locals.iter().map(|(address, span)| ("local address", *address, span));
        for (what, address, span) in vips.chain(locals) {
            if own.contains(&address) {
                let message = format!(
                    "{what} {address} is a port's address too: ssh and the like to it will not \
                     reach this host"
                );
                problems.warn(span.clone(), message);
            }
        }
    }
}
