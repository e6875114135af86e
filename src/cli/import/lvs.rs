//! From what LVS has to what Shunt has: one door for keepalived and ipvsadm.
//!
//! | LVS | `shunt.toml` |
//! |---|---|
//! | virtual service, group of addresses | `[[service]]`, `more_addresses` |
//! | firewall mark | a service written as a comment: only the packet filter knows whose packets carry it |
//! | scheduler (`wlc` if none is named), flags | `scheduler`, `scheduler_flags` |
//! | masquerading, gatewaying, ipip | `mode` `nat`, `dr`, `tunnel` |
//! | FULL-NAT and its local addresses, as DPVS has them | `mode` `fullnat`, `local_addresses` |
//! | persistence, netmask | `persistence_s`, `persistence_prefix` |
//! | one-packet scheduling | `one_packet` |
//! | upper and lower threshold | `max_connections`, `resume_below` |
//! | checks and what they decide, as keepalived has them | `[service.health]`, `[[service.check]]`, `sorry` |
//!
//! What LVS takes and Shunt refuses is mended where nothing is lost by it (a port that IPVS would not
//! have looked at), and else left out and told. What comes out is what `shuntd check` accepts.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};

use super::draft::{ADDRESSES_MAX, Backend, Service};
use super::health::{CHECKS_MAX, Check, Policy};
use super::note::{Notes, Place};
use crate::control::prefix::family;
use crate::dataplane::sched::Scheduler;
use crate::dataplane::snapshot::{Mode, Protocol};

/// What `shunt.toml` takes for `persistence_s`.
const PERSISTENCE_S: std::ops::RangeInclusive<u32> = 20..=2_073_600;
const WEIGHT_MAX: u32 = 65_535;
/// Most characters of a service's name.
const NAME_MAX: usize = 63;

/// Something that is written somewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Said<T> {
    /// Where.
    pub(super) place: Place,
    /// What.
    pub(super) value: T,
}

/// A virtual service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Virtual {
    /// Where it begins, and as what.
    pub(super) place: Place,
    /// What opens it.
    pub(super) origin: String,
    /// A name somebody has given it.
    pub(super) name: Option<String>,
    /// Its protocol.
    pub(super) protocol: Protocol,
    /// Addresses and ports, each with the line that has it.
    pub(super) addresses: Vec<Said<SocketAddr>>,
    /// Firewall marks.
    pub(super) marks: Vec<Said<u32>>,
    /// By name.
    pub(super) scheduler: Option<Said<String>>,
    /// By name.
    pub(super) flags: Vec<Said<String>>,
    /// Is every datagram alone?
    pub(super) one_packet: Option<Place>,
    /// Seconds.
    pub(super) persistence: Option<Said<u32>>,
    /// A netmask, or a prefix length.
    pub(super) granularity: Option<Said<String>>,
    /// Of the box, for backends in mode `fullnat`.
    pub(super) local_addresses: Vec<IpAddr>,
    /// How it takes what checks say.
    pub(super) health: Policy,
    /// Who serves it.
    pub(super) reals: Vec<Real>,
}

/// A real server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Real {
    /// Where it is written.
    pub(super) place: Place,
    /// As what.
    pub(super) origin: String,
    /// Its address.
    pub(super) address: IpAddr,
    /// Its port; 0 for the one the client asked for.
    pub(super) port: u16,
    /// How packets reach it.
    pub(super) mode: Mode,
    /// Its share.
    pub(super) weight: u32,
    /// Upper and lower threshold, 0 for none.
    pub(super) thresholds: (u32, u32),
    /// What it is asked.
    pub(super) checks: Vec<Check>,
    /// Does it serve only while too little else does?
    pub(super) sorry: bool,
}

/// Services for all of them. `taken` are names that others have.
pub(super) fn services(
    virtuals: &[Virtual],
    taken: &HashSet<String>,
    notes: &mut Notes,
) -> Vec<Service> {
    let vips = virtuals.iter().flat_map(|it| &it.addresses).map(|it| it.value.ip()).collect();
    let mut all = All { names: taken.clone(), claimed: HashMap::new(), vips, notes };
    virtuals.iter().flat_map(|one| all.services(one)).collect()
}

struct All<'a> {
    names: HashSet<String>,
    /// Which line has it already.
    claimed: HashMap<(Protocol, SocketAddr), Place>,
    vips: HashSet<IpAddr>,
    notes: &'a mut Notes,
}

impl All<'_> {
    /// One for each family; more where there are more addresses than one can have.
    fn services(&mut self, one: &Virtual) -> Vec<Service> {
        let addresses = self.addresses(one);
        for mark in &one.marks {
            self.notes.lost(
                &mark.place,
                &format!("fwmark {}", mark.value),
                "a firewall mark is the packet filter's, which Shunt's packets do not pass",
                "give the service the addresses that the filter's rules name, as `address` and \
                 `more_addresses`, and networks of clients as `clients`",
            );
        }
        let (v4, v6): (Vec<_>, Vec<_>) = addresses.into_iter().partition(SocketAddr::is_ipv4);
        let mut parts: Vec<Vec<SocketAddr>> = [v4, v6]
            .iter()
            .flat_map(|addresses| addresses.chunks(ADDRESSES_MAX).map(<[_]>::to_vec))
            .collect();
        if parts.is_empty() && !one.marks.is_empty() {
            parts.push(Vec::new());
        }
        parts.into_iter().map(|addresses| self.service(one, addresses)).collect()
    }

    /// Those of its addresses that can be a VIP, and that nobody else has.
    fn addresses(&mut self, one: &Virtual) -> Vec<SocketAddr> {
        let mut addresses = Vec::new();
        for Said { place, value } in &one.addresses {
            if let Some(why) = no_host(value.ip()) {
                self.notes.lost(place, &value.to_string(), &format!("it is {why}"), "");
                continue;
            }
            match self.claimed.insert((one.protocol, *value), place.clone()) {
                None => addresses.push(*value),
                Some(first) => {
                    let why = format!("{first} has it already, with {}", one.protocol);
                    self.notes.lost(place, &value.to_string(), &why, "");
                }
            }
        }
        addresses
    }

    fn service(&mut self, one: &Virtual, addresses: Vec<SocketAddr>) -> Service {
        let scheduler = self.scheduler(one);
        let persistence_s = one.persistence.as_ref().map(|said| self.persistence(said));
        let is_v6 = match addresses.first() {
            Some(address) => address.is_ipv6(),
            None => one.reals.first().is_some_and(|real| real.address.is_ipv6()),
        };
        let width = if is_v6 { 128 } else { 32 };
        let granularity = one.granularity.as_ref().filter(|_| persistence_s.is_some());
        let is_udp = one.protocol == Protocol::Udp;
        if let (Some(place), false) = (&one.one_packet, is_udp) {
            self.notes.changed(place, "ops", "it is for UDP, and did nothing here");
        }
        let mut backends = self.backends(one, &addresses);
        if backends.iter().all(|it| it.left_out || it.sorry) {
            let why = "no real server is left: the service refuses every connection";
            self.notes.lost(&one.place, &one.origin, why, "");
        }
        let has_gap = one.local_addresses.is_empty()
            && backends.iter().any(|it| it.mode == Mode::Fullnat && !it.left_out);
        if has_gap {
            let why = "mode `fullnat` needs addresses of this box that backends answer to";
            let mend = "write them as `local_addresses`, and take the `#` away";
            self.notes.lost(&one.place, &one.origin, why, mend);
        }
        Service {
            has_gap,
            place: one.place.clone(),
            origin: one.origin.clone(),
            name: self.name(one, addresses.first()),
            protocol: one.protocol,
            scheduler,
            flags: self.flags(one, scheduler),
            one_packet: one.one_packet.is_some() && is_udp,
            persistence_s,
            persistence_prefix: granularity.and_then(|said| self.prefix(said, width)),
            local_addresses: one.local_addresses.clone(),
            health: self.health(one),
            checks: shared(&mut backends),
            backends,
            addresses,
        }
    }

    /// A hysteresis is less than its quorum.
    fn health(&mut self, one: &Virtual) -> Policy {
        let mut health = one.health.clone();
        let most = health.quorum.unwrap_or(1).saturating_sub(1);
        if let Some(wanted) = health.hysteresis.filter(|wanted| *wanted > most) {
            let why = format!("it is less than the quorum: {most} is written");
            self.notes.changed(&one.place, &format!("hysteresis {wanted}"), &why);
            health.hysteresis = Some(most);
        }
        health
    }

    fn scheduler(&mut self, one: &Virtual) -> Scheduler {
        let usual = Scheduler::named("wlc").unwrap_or(Scheduler::WRR);
        let Some(Said { place, value }) = &one.scheduler else { return usual };
        Scheduler::named(value).unwrap_or_else(|| {
            let known: Vec<_> = Scheduler::ALL.iter().map(|it| it.method().name).collect();
            let mend = format!("choose one of {}; `wlc` is written", known.join(", "));
            self.notes.lost(place, value, "Shunt has no such scheduler", &mend);
            usual
        })
    }

    /// The kernel has three nameless bits; `sh` and `mh` give two of them the same meanings.
    fn flags(&mut self, one: &Virtual, scheduler: Scheduler) -> Vec<&'static str> {
        let mut flags = Vec::new();
        for Said { place, value } in &one.flags {
            let meaning = match value.as_str() {
                "flag-1" | "sh-fallback" | "mh-fallback" => "-fallback",
                "flag-2" | "sh-port" | "mh-port" => "-port",
                _ => "none",
            };
            let mut known = scheduler.method().flags.iter().map(|(name, _)| *name);
            match known.find(|name| name.ends_with(meaning)) {
                Some(name) if flags.contains(&name) => {}
                Some(name) => flags.push(name),
                None => {
                    let why = format!("scheduler {scheduler} has no such flag, it did nothing");
                    self.notes.remark(place, value, &why);
                }
            }
        }
        flags
    }

    fn persistence(&mut self, said: &Said<u32>) -> u32 {
        let seconds = said.value.clamp(*PERSISTENCE_S.start(), *PERSISTENCE_S.end());
        if seconds != said.value {
            let (least, most) = (PERSISTENCE_S.start(), PERSISTENCE_S.end());
            let why = format!("persistence_s is {least} to {most}: {seconds} is written");
            self.notes.changed(&said.place, &format!("persistence {}", said.value), &why);
        }
        seconds
    }

    /// A netmask in IPv4, a prefix length in either family; none if all bits count.
    fn prefix(&mut self, said: &Said<String>, width: u8) -> Option<u8> {
        let length = match said.value.parse::<IpAddr>() {
            Ok(IpAddr::V4(mask)) if width == 32 => {
                let length = mask.to_bits().leading_ones();
                (mask.to_bits().count_ones() == length).then(|| length.try_into().ok()).flatten()
            }
            Ok(_) => None,
            Err(_) => said.value.parse().ok().filter(|length| *length <= width),
        };
        if length.is_none() {
            let why = "it is no mask of leading ones for the service's family";
            let mend = "write `persistence_prefix`, the number of bits that make a client";
            self.notes.lost(&said.place, &said.value, why, mend);
        }
        length.filter(|length| *length < width)
    }

    /// A name nobody has yet: the given one, or protocol, address and port.
    fn name(&mut self, one: &Virtual, address: Option<&SocketAddr>) -> String {
        let plain = |c: char| match c {
            c if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') => c,
            _ => '-',
        };
        let fallback = match (address, one.marks.first()) {
            (Some(it), _) => format!("{}-{}-{}", one.protocol, it.ip(), it.port()),
            (None, Some(mark)) => format!("fwmark-{}", mark.value),
            (None, None) => one.protocol.to_string(),
        };
        let given = one.name.as_deref().filter(|name| name.chars().any(char::is_alphanumeric));
        let wish: String =
            given.unwrap_or(&fallback).chars().map(plain).take(NAME_MAX - 12).collect();
        let family = address.filter(|it| it.is_ipv6()).map(|_| format!("{wish}-v6"));
        let second = family.into_iter().chain([format!("{wish}-{}", one.protocol)]);
        let numbered = (2..).map(|number| format!("{wish}-{number}"));
        let mut names = std::iter::once(wish.clone()).chain(second).chain(numbered);
        let name = names.find(|name| !self.names.contains(name)).unwrap_or(wish);
        self.names.insert(name.clone());
        name
    }

    fn backends(&mut self, one: &Virtual, addresses: &[SocketAddr]) -> Vec<Backend> {
        let mut seen = HashSet::new();
        let mut backends = Vec::new();
        for real in &one.reals {
            let mut backend = self.backend(real, addresses);
            if let Some(why) = self.unusable(&backend, addresses.first()) {
                backend.left_out = true;
                self.notes.lost(&real.place, &real.origin, &why, "");
            } else if !seen.insert(backend.address) {
                backend.left_out = true;
                let why = format!("backend {} is listed twice", backend.address);
                self.notes.lost(&real.place, &real.origin, &why, "");
            }
            backends.push(backend);
        }
        backends
    }

    fn backend(&mut self, real: &Real, addresses: &[SocketAddr]) -> Backend {
        let weight = real.weight.min(WEIGHT_MAX);
        if weight != real.weight {
            let why = format!("weights end at {WEIGHT_MAX}, which is written");
            self.notes.changed(&real.place, &format!("weight {}", real.weight), &why);
        }
        let (upper, lower) = real.thresholds;
        let below = lower.min(upper);
        if below != lower {
            let why = format!("a lower threshold is at most the upper: {below} is written");
            self.notes.changed(&real.place, &format!("lower threshold {lower}"), &why);
        }
        let port = self.port(real, addresses);
        Backend {
            address: SocketAddr::new(real.address, port),
            mode: real.mode,
            weight,
            max_connections: upper,
            resume_below: below,
            sorry: real.sorry,
            checks: self.checks(real, port),
            left_out: false,
        }
    }

    /// Its checks. They ask the port that was said of it, which its packets may not go to; and some port.
    fn checks(&mut self, real: &Real, port: u16) -> Vec<Check> {
        let mut checks = real.checks.clone();
        for check in checks.iter_mut().filter(|it| it.has_port() && !it.says("port")) {
            if real.port != 0 && real.port != port {
                check.number("port", real.port.into());
            }
        }
        let asks = |check: &Check| port != 0 || !check.has_port() || check.says("port");
        let (mut asking, others): (Vec<_>, Vec<_>) = checks.into_iter().partition(asks);
        if !others.is_empty() {
            let why = "its checks ask no port: it has none of its own";
            self.notes.lost(&real.place, &real.origin, why, "write them with a `port`");
        }
        if asking.len() > CHECKS_MAX {
            let why = format!("it has more than {CHECKS_MAX} checks: the first are written");
            self.notes.lost(&real.place, &real.origin, &why, "ask for several pages by one check");
            asking.truncate(CHECKS_MAX);
        }
        asking
    }

    /// Where packets keep their port the backend's is the service's, or 0 if that has several; IPVS
    /// takes any there, and does not look at it.
    fn port(&mut self, real: &Real, addresses: &[SocketAddr]) -> u16 {
        let mut ports = addresses.iter().map(SocketAddr::port);
        let first = ports.next().unwrap_or(0);
        let only = if ports.all(|port| port == first) { first } else { 0 };
        let keeps = matches!(real.mode, Mode::Dr | Mode::Tunnel(_));
        if real.port != 0 && keeps && real.port != only {
            let why = "packets keep their port in this mode, and IPVS did not look at it";
            self.notes.remark(&real.place, &real.origin, why);
        }
        if keeps || real.port == 0 { only } else { real.port }
    }

    fn unusable(&self, backend: &Backend, vip: Option<&SocketAddr>) -> Option<String> {
        let address = backend.address.ip();
        if let Some(why) = no_host(address) {
            return Some(format!("{address} is {why}; a backend is another host"));
        }
        if self.vips.contains(&address) {
            return Some(format!("{address} is a VIP as well: a loop"));
        }
        let vip = vip?.ip();
        let between = match backend.mode {
            Mode::Tunnel(_) => true,
            Mode::Fullnat => vip.is_ipv6(),
            Mode::Nat | Mode::Dr => false,
        };
        (vip.is_ipv4() != address.is_ipv4() && !between).then(|| {
            let (own, wanted) = (family(address), family(vip));
            format!(
                "{address} is {own}, and its mode needs the VIP's {wanted}; IPv4 backends of an \
                 IPv6 VIP are reached with mode `fullnat` and `local_addresses`"
            )
        })
    }
}

/// The checks that all who are checked share: they are the service's then, and none of theirs.
fn shared(backends: &mut [Backend]) -> Vec<Check> {
    let all = || backends.iter().filter(|it| !it.sorry && !it.left_out);
    let Some(first) = all().next().map(|it| it.checks.clone()) else { return Vec::new() };
    if !all().all(|it| it.checks == first) {
        return Vec::new();
    }
    for backend in backends.iter_mut() {
        backend.checks.clear();
    }
    first
}

/// What an address is that no other host can have.
fn no_host(address: IpAddr) -> Option<&'static str> {
    match address {
        _ if address.is_loopback() => Some("a loopback address, this box itself"),
        _ if address.is_multicast() => Some("a multicast address"),
        _ if address.is_unspecified() => Some("no address of a host"),
        IpAddr::V4(v4) if v4.is_broadcast() || v4.octets()[0] == 0 => Some("no address of a host"),
        IpAddr::V6(v6) if v6.is_unicast_link_local() => Some("link-local"),
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => Some("IPv4 in the form of IPv6"),
        _ => None,
    }
}
