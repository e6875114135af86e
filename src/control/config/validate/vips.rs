//! `address` and `more_addresses` of a service.
//!
//! ```text
//! 198.51.100.10:80           one port                     ┐ the narrowest that contains the port
//! 198.51.100.10:8000-8099    a range                      ├ a client asked for is its service:
//! 198.51.100.10:0            every port nobody claims     ┘ so of two ranges of one VIP and
//! [2001:db8::10]:80          the same for IPv6              protocol, one must lie in the other
//! ```                                                       or they must not meet at all
//!
//! [`super::claims`] sees to that. A service has one family. A catch-all is the range of all ports. What is in `more_addresses` may be of
//! another protocol, which then stands before it: `udp 198.51.100.10:443`.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use super::super::error::Problems;
use super::super::schema::{self, Spanned};
use super::value::{no_socket, unicast};
use crate::control::prefix::family;
use crate::dataplane::snapshot::{Mode, Place, Ports, Protocol, ServiceAddress};

/// Most addresses of one service.
const ADDRESSES_MAX: usize = 1024;

/// Every port there is, written as a range, is the catch-all.
const EVERY_PORT: Ports = Ports { first: 1, last: u16::MAX };

/// An address of a service and where it is written.
pub(super) type PlacedVip = (ServiceAddress, Range<usize>);

/// All addresses of a service, the first first, and beside it the protocol of each. Empty if that one
/// cannot be read: what would follow from it is not judged then.
pub(super) fn addresses(
    problems: &mut Problems,
    written: &schema::Service,
    own: Protocol,
) -> (Vec<PlacedVip>, Vec<Protocol>) {
    let first = service_address(problems, &written.address, written.address.get_ref());
    let more = written.more_addresses.iter().flat_map(Spanned::get_ref);
    let mut placed: Vec<PlacedVip> =
        first.map(|first| (first, written.address.span())).into_iter().collect();
    let mut protocols = vec![own; placed.len()];
    let mut seen: HashSet<Place> =
        first.map(|address| Place { protocol: own, address }).into_iter().collect();
    for (number, value) in more.enumerate() {
        if number + 1 >= ADDRESSES_MAX {
            let message = format!("more than {ADDRESSES_MAX} addresses of one service");
            problems.error(value.span(), message);
            break;
        }
        let Some((protocol, text)) = of_protocol(problems, value, own) else { continue };
        let Some(address) = service_address(problems, value, text) else { continue };
        let Some(first) = first else { continue };
        if !seen.insert(Place { protocol, address }) {
            problems.error(value.span(), format!("{} is listed twice", value.get_ref()));
        } else if address.vip.is_ipv4() != first.vip.is_ipv4() {
            let (own, other) = (family(address.vip), family(first.vip));
            let message = format!("{address} is {own}, and this service's address is {other}");
            problems.error_help(value.span(), message, "write a service for each family");
        } else {
            placed.push((address, value.span()));
            protocols.push(protocol);
        }
    }
    (placed, protocols)
}

/// The protocol before an address, or else the service's own; and the address.
fn of_protocol<'a>(
    problems: &mut Problems,
    value: &'a Spanned<String>,
    own: Protocol,
) -> Option<(Protocol, &'a str)> {
    let text = value.get_ref();
    let Some((word, address)) = text.split_once(' ') else { return Some((own, text)) };
    let protocol = Protocol::ALL.into_iter().find(|protocol| protocol.to_string() == word);
    if protocol.is_none() {
        let message = format!("unknown protocol `{word}` in `{text}`; supported: tcp, udp, sctp");
        problems.error(value.span(), message);
    }
    Some((protocol?, address))
}

fn service_address(
    problems: &mut Problems,
    value: &Spanned<String>,
    text: &str,
) -> Option<ServiceAddress> {
    let Some((vip, ports)) = read(text) else {
        let (message, help) = no_socket("VIP", text, "an address and port");
        problems.error_help(value.span(), message, help);
        return None;
    };
    if !unicast(problems, "VIP", value, vip) {
        return None;
    }
    if ports.last < ports.first || (ports.first == 0 && ports != Ports::ALL) {
        let Ports { first, last } = ports;
        let message = format!("VIP {text} has no range of ports: {first}-{last}");
        let help = "the lower first, from 1 to 65535; port 0 alone stands for all";
        problems.error_help(value.span(), message, help);
        return None;
    }
    let ports = if ports == EVERY_PORT { Ports::ALL } else { ports };
    Some(ServiceAddress { vip, ports })
}

/// An address of a service, if it is one.
pub(in super::super) fn read_place(text: &str) -> Option<ServiceAddress> {
    let (vip, ports) = read(text)?;
    let is_range = ports.first <= ports.last && (ports.first > 0 || ports == Ports::ALL);
    let ports = if ports == EVERY_PORT { Ports::ALL } else { ports };
    is_range.then_some(ServiceAddress { vip, ports })
}

/// `address:port`, or `address:first-last`, which reads as the former with the last one cut off.
fn read(text: &str) -> Option<(IpAddr, Ports)> {
    let (socket, last) = match text.rsplit_once('-') {
        Some((socket, last)) => (socket, Some(last.parse().ok()?)),
        None => (text, None),
    };
    let socket: SocketAddr = socket.parse().ok()?;
    let ports = match (socket.port(), last) {
        (0, None) => Ports::ALL,
        (port, None) => Ports::one(port),
        (first, Some(last)) => Ports { first, last },
    };
    Some((socket.ip(), ports))
}

/// The port a client of this service asks for, if there is only one.
pub(super) fn only_port(addresses: &[PlacedVip]) -> Option<u16> {
    let (first, rest) = addresses.split_first()?;
    let Ports { first: port, last } = first.0.ports;
    let alike = rest.iter().all(|(address, _)| address.ports == first.0.ports);
    (port == last && alike).then_some(port)
}

/// Refuses a backend whose family or port packets cannot be brought to in this mode.
pub(super) fn refuse_unreachable(
    problems: &mut Problems,
    written: &Spanned<String>,
    backend: SocketAddr,
    addresses: &[PlacedVip],
    mode: Mode,
) {
    let Some((first, _)) = addresses.first() else { return };
    if let Some((message, help)) = other_family(backend, first.vip, mode) {
        problems.error_help(written.span(), message, help);
    }
    let only = only_port(addresses);
    if let Some(message) = other_port(backend, only, mode) {
        let meant = SocketAddr::new(backend.ip(), only.unwrap_or(0));
        problems.error_help(written.span(), message, format!("write `address = \"{meant}\"`"));
    }
}

/// The mode's word, and whether packets keep their port in it.
fn word(mode: Mode) -> (&'static str, bool) {
    match mode {
        Mode::Fullnat => ("fullnat", false),
        Mode::Nat => ("nat", false),
        Mode::Dr => ("dr", true),
        Mode::Tunnel(_) => ("tunnel", true),
    }
}

fn other_family(backend: SocketAddr, vip: IpAddr, mode: Mode) -> Option<(String, &'static str)> {
    let any = match mode {
        Mode::Fullnat => vip.is_ipv6(),
        Mode::Nat | Mode::Dr => false,
        Mode::Tunnel(_) => true,
    };
    if any || vip.is_ipv4() == backend.is_ipv4() {
        return None;
    }
    let (own, other, (word, _)) = (family(backend.ip()), family(vip), word(mode));
    let message =
        format!("backend {backend} is {own}, and in mode `{word}` the VIP's {other} is needed");
    let help = match (mode, vip) {
        (Mode::Fullnat, _) => "only mode `tunnel` brings IPv4 clients to it",
        (_, IpAddr::V4(_)) => "mode `tunnel` takes either family",
        (_, IpAddr::V6(_)) => "modes `fullnat` and `tunnel` take either family",
    };
    Some((message, help))
}

/// What is wrong with a backend's port, where clients of the service ask for this one `only`.
fn other_port(backend: SocketAddr, only: Option<u16>, mode: Mode) -> Option<String> {
    let (word, keeps) = word(mode);
    match only {
        Some(port) if keeps && backend.port() != port => Some(format!(
            "backend {backend} has mode `{word}`, which keeps the service's port {port}"
        )),
        Some(port) if backend.port() == 0 => Some(format!(
            "backend {backend} has port 0, the port a client asked for, and this service has one \
             port, {port}"
        )),
        None if keeps && backend.port() != 0 => Some(format!(
            "backend {backend} has mode `{word}`, which keeps the port a client asked for, and \
             this service has several"
        )),
        Some(_) | None => None,
    }
}
