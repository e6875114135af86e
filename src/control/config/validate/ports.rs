//! `[[port]]` and `[[port.route]]`: devices, their TAP twins, and what the kernel gets to know.
//!
//! Addresses and routes are checked as strictly as the kernel will check them when they are set,
//! because by then the daemon has taken the network card away.

use std::collections::HashSet;
use std::hash::Hash;
use std::net::IpAddr;
use std::ops::Range;

use super::super::error::Problems;
use super::super::plan::{Daemon, Device, Line, Link, Port};
use super::super::schema::{self, Spanned};
use super::links;
use super::value::{address, integer, name, power_of_two, prefix, unicast};
use crate::control::prefix::{base, family, no_host, same_network, width};
use crate::dataplane::frag::HELD_MAX;
use crate::ids::limits;

/// Longest name of a network interface: `IFNAMSIZ` less its final zero byte.
const INTERFACE_NAME_MAX: usize = 15;
/// The loopback interface, and what stands for all and for coming ones under `/proc/sys/net`.
const RESERVED_INTERFACES: [&str; 3] = ["lo", "all", "default"];
const PORT_NAME_MAX: usize = 63;
const MTU_MIN: i64 = 576;
const MTU_MAX: i64 = 9216;

/// What may occur once only over all ports.
#[derive(Default)]
struct Seen {
    names: HashSet<String>,
    devices: HashSet<String>,
    taps: HashSet<String>,
    addresses: HashSet<IpAddr>,
    routes: HashSet<(IpAddr, u8)>,
    /// Ports that others are on.
    trunks: HashSet<String>,
}

/// Checks all ports, in file order.
pub(super) fn ports(problems: &mut Problems, written: &[Spanned<schema::Port>]) -> Vec<Port> {
    if written.is_empty() {
        let help = "a [[port]] table names a network device; one port is enough";
        problems.error_help(None, "no ports: there is nothing to receive packets from", help);
    }
    if let Some(excess) = written.get(limits::PORTS) {
        problems.error(excess.span(), format!("more than {} ports", limits::PORTS));
    }
    let (tagged, devices): (Vec<_>, Vec<_>) =
        written.iter().partition(|written| links::is_tagged(written.get_ref()));
    if let Some(excess) = devices.get(limits::DEVICES) {
        let message = format!("more than {} ports with a device", limits::DEVICES);
        problems.error(excess.span(), message);
    }
    let names: Vec<&str> =
        tagged.iter().map(|written| written.get_ref().name.get_ref().as_str()).collect();
    let trunks = tagged.iter().filter_map(|written| written.get_ref().on.as_ref());
    let trunks = trunks.map(|on| on.get_ref().clone()).collect();
    let mut seen = Seen { trunks, ..Seen::default() };
    let mut ports = Vec::new();
    for written in devices {
        ports.push(device_port(problems, written.get_ref(), &mut seen));
    }
    for written in tagged {
        let port = tagged_port(problems, written.get_ref(), &mut seen, &ports, &names);
        ports.push(port);
    }
    ports
}

/// Checks that the packet buffers are enough for the queues of these ports, and for the IP fragments
/// that workers hold.
pub(super) fn buffers(
    problems: &mut Problems,
    ports: &[Port],
    daemon: &Daemon,
    written: Option<&Spanned<i64>>,
) {
    let queues = daemon.worker_cores.len();
    let devices: Vec<&Device> = ports.iter().filter_map(Port::device).collect();
    let sum = |descriptors: fn(&Device) -> u16| {
        devices.iter().map(|device| usize::from(descriptors(device)) * queues).sum::<usize>()
    };
    let (rx, tx) = (sum(|device| device.rx_descriptors), sum(|device| device.tx_descriptors));
    let held = HELD_MAX * queues;
    let (count, span) = (daemon.packet_buffers, written.map(Spanned::span));
    let available = usize::try_from(count).unwrap_or(usize::MAX);
    let shape = format!("{} ports with {queues} queues each", devices.len());
    if available <= rx {
        let message = format!("packet_buffers {count} is too small: the receive rings take {rx}");
        let help = format!("{shape}: {} leaves room to send and hand over", rx + tx + rx.max(4096));
        problems.error_help(span, message, help);
    } else if available < rx + tx + held {
        let most = rx + tx + held;
        let message =
            format!("packet_buffers {count} may run out: {shape} can hold {most} at once");
        problems.warn(span, message);
    }
}

/// A port with a device.
fn device_port(problems: &mut Problems, written: &schema::Port, seen: &mut Seen) -> Port {
    links::has_one(problems, written);
    let descriptors = |problems: &mut Problems, key, value: Option<&Spanned<i64>>| {
        power_of_two(problems, key, value, 64..=4096, 1024)
    };
    if let Some(value) = &written.device {
        device(problems, value, seen);
    }
    let mtu = integer(problems, "mtu", written.mtu.as_ref(), MTU_MIN..=MTU_MAX, 1500);
    let link = Device {
        device: written.device.as_ref().map(|device| device.get_ref().clone()).unwrap_or_default(),
        rx_descriptors: descriptors(problems, "rx_descriptors", written.rx_descriptors.as_ref()),
        tx_descriptors: descriptors(problems, "tx_descriptors", written.tx_descriptors.as_ref()),
    };
    port(problems, written, seen, Link::Device(link), mtu)
}

/// A port on another one of `ports`, whose link address and MTU it has.
fn tagged_port(
    problems: &mut Problems,
    written: &schema::Port,
    seen: &mut Seen,
    ports: &[Port],
    tagged: &[&str],
) -> Port {
    let found = links::tagged(problems, written, ports, tagged);
    let parent = found.and_then(|(on, _)| ports.get(on.index()));
    let most = parent.map_or(1500, |parent| parent.mtu);
    let mtu = integer(problems, "mtu", written.mtu.as_ref(), MTU_MIN..=MTU_MAX, most);
    if let (Some(value), Some(parent)) = (&written.mtu, parent)
        && mtu > most
    {
        let message = format!("mtu {mtu} is more than that of port `{}`, {most}", parent.name);
        problems.error(value.span(), message);
    }
    let link = found.map(|(on, tags)| Link::Tagged { on, tags });
    // Without one the file is refused.
    let link = link.unwrap_or_else(|| Link::Device(Device::default()));
    port(problems, written, seen, link, mtu)
}

fn port(
    problems: &mut Problems,
    written: &schema::Port,
    seen: &mut Seen,
    link: Link,
    mtu: u16,
) -> Port {
    name(problems, "port name", &written.name, PORT_NAME_MAX);
    once(problems, &mut seen.names, written.name.get_ref(), written.name.span(), || {
        format!("port name `{}` is used twice", written.name.get_ref())
    });
    let addresses = addresses(problems, written, seen);
    too_small_for_ipv6(problems, written, &addresses, mtu);
    let no_address = written.addresses.as_ref().is_none_or(|list| list.get_ref().is_empty());
    if no_address && !seen.trunks.contains(written.name.get_ref()) {
        let message = format!(
            "port `{}` has no address: nothing is reached through it but by routes made by hand",
            written.name.get_ref()
        );
        problems.warn(written.name.span(), message);
    }
    Port {
        name: written.name.get_ref().clone(),
        link,
        tap: tap(problems, written, seen),
        routes: routes(problems, written, &addresses, seen),
        mtu,
        addresses,
        // Known to who has the text.
        line: Line::default(),
    }
}

/// Reports the second occurrence of something.
fn once<K: Clone + Eq + Hash>(
    problems: &mut Problems,
    seen: &mut HashSet<K>,
    key: &K,
    span: Range<usize>,
    message: impl Fn() -> String,
) {
    if !seen.insert(key.clone()) {
        problems.error(span, message());
    }
}

fn device(problems: &mut Problems, value: &Spanned<String>, seen: &mut Seen) {
    let device = value.get_ref();
    if device.is_empty() || device.chars().any(char::is_whitespace) {
        let message = format!("device `{device}` is not a device");
        let help = "a PCI address (0000:3b:00.0) or a virtual device (net_tap0,iface=x)";
        return problems.error_help(value.span(), message, help);
    }
    let id = device_id(device);
    if !is_pci(&id) && !is_virtual(&id) {
        let message = format!("device `{id}` is neither a PCI address nor a virtual device");
        return problems.error_help(value.span(), message, device_help(&id));
    }
    once(problems, &mut seen.devices, &id, value.span(), || {
        format!("device `{id}` is used by two ports")
    });
}

/// `0000:3b:00.0`, as [`device_id`] writes it.
fn is_pci(id: &str) -> bool {
    let id = id.strip_prefix("pci:").unwrap_or(id);
    let fields: Vec<&str> = id.split([':', '.']).collect();
    let hex = |field: &&str| field.bytes().all(|byte| byte.is_ascii_hexdigit());
    let lengths = fields.iter().map(|field| field.len());
    id.matches(':').count() == 2 && lengths.eq([4, 2, 2, 1]) && fields.iter().all(hex)
}

/// `net_af_packet0`: the name of a network driver.
fn is_virtual(id: &str) -> bool {
    id.strip_prefix("vdev:").unwrap_or(id).starts_with("net_")
}

/// A plain word is most likely an interface of the kernel.
fn device_help(id: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
    if id.len() <= INTERFACE_NAME_MAX
        && id.starts_with(char::is_alphabetic)
        && id.chars().all(plain)
    {
        return format!("for an interface of the kernel, write `net_af_packet0,iface={id}`");
    }
    "a PCI address (0000:3b:00.0) or a virtual device (net_af_packet0,iface=eth1)".into()
}

/// What EAL tells devices apart by: the part before the options, a PCI address with its domain.
fn device_id(device: &str) -> String {
    let id = device.split(',').next().unwrap_or(device).to_lowercase();
    let short_pci = id.len() == 7 && id.as_bytes()[2] == b':' && id.as_bytes()[5] == b'.';
    if short_pci { format!("0000:{id}") } else { id }
}

fn tap(problems: &mut Problems, written: &schema::Port, seen: &mut Seen) -> String {
    let value = written.tap.as_ref().unwrap_or(&written.name);
    let tap = value.get_ref();
    if written.tap.is_some() {
        name(problems, "tap", value, INTERFACE_NAME_MAX);
    } else if tap.len() > INTERFACE_NAME_MAX {
        let message = format!("port name `{tap}` is too long for its TAP interface");
        let help = format!("set `tap` to a name of at most {INTERFACE_NAME_MAX} characters");
        problems.error_help(value.span(), message, help);
    }
    if RESERVED_INTERFACES.contains(&tap.as_str()) {
        let message = format!("tap `{tap}` is a name the kernel keeps for itself");
        problems.error_help(value.span(), message, "for example `tap = \"wan0\"`");
    }
    once(problems, &mut seen.taps, tap, value.span(), || format!("tap `{tap}` is used twice"));
    tap.clone()
}

fn addresses(
    problems: &mut Problems,
    written: &schema::Port,
    seen: &mut Seen,
) -> Vec<(IpAddr, u8)> {
    let mut addresses = Vec::new();
    for value in written.addresses.iter().flat_map(Spanned::get_ref) {
        let Some((address, length)) = prefix(problems, "port address", value) else { continue };
        if !unicast(problems, "port address", value, address) {
            continue;
        }
        if length == 0 {
            let most = width(address);
            let message = format!("a port address needs a prefix length of 1 to {most}");
            problems.error(value.span(), message);
        }
        if let Some(kind) = no_host(address, length) {
            let message = format!("port address {address}/{length} is the {kind} of its network");
            let help = "an address between the first and the last was expected";
            problems.error_help(value.span(), message, help);
        }
        once(problems, &mut seen.addresses, &address, value.span(), || {
            format!("port address {address} is used twice")
        });
        addresses.push((address, length));
    }
    addresses
}

/// IPv6 wants a link that passes 1280 bytes (RFC 8200, 5); the kernel takes its addresses off others.
const IPV6_MTU_MIN: u16 = 1280;

fn too_small_for_ipv6(
    problems: &mut Problems,
    written: &schema::Port,
    addresses: &[(IpAddr, u8)],
    mtu: u16,
) {
    let has_ipv6 = addresses.iter().any(|(address, _)| address.is_ipv6());
    if let Some(value) = written.mtu.as_ref().filter(|_| has_ipv6 && mtu < IPV6_MTU_MIN) {
        let message =
            format!("mtu {mtu} is too small for this port's IPv6: {IPV6_MTU_MIN} is the least");
        problems.error(value.span(), message);
    }
}

fn routes(
    problems: &mut Problems,
    written: &schema::Port,
    addresses: &[(IpAddr, u8)],
    seen: &mut Seen,
) -> Vec<(IpAddr, u8, IpAddr)> {
    let mut routes = Vec::new();
    for route in &written.route {
        let to = destination(problems, &route.to, seen);
        let via = gateway(problems, &route.via, to, addresses);
        if let (Some((network, length)), Some(via)) = (to, via) {
            routes.push((network, length, via));
        }
    }
    routes
}

fn destination(
    problems: &mut Problems,
    value: &Spanned<String>,
    seen: &mut Seen,
) -> Option<(IpAddr, u8)> {
    let (network, length) = prefix(problems, "route destination", value)?;
    let base = base(network, length);
    if base != network {
        let message = format!("route destination {network}/{length} has bits beyond its prefix");
        problems.error_help(value.span(), message, format!("the network is {base}/{length}"));
    }
    once(problems, &mut seen.routes, &(base, length), value.span(), || {
        format!("there is a route to {base}/{length} already")
    });
    Some((base, length))
}

fn gateway(
    problems: &mut Problems,
    value: &Spanned<String>,
    to: Option<(IpAddr, u8)>,
    addresses: &[(IpAddr, u8)],
) -> Option<IpAddr> {
    if let (Ok(via), Some((to, _))) = (value.get_ref().parse::<IpAddr>(), to)
        && via.is_ipv4() != to.is_ipv4()
    {
        let (own, other) = (family(via), family(to));
        let message = format!("gateway {via} is {own}, and the route's destination is {other}");
        problems.error(value.span(), message);
        return None;
    }
    if let Ok(IpAddr::V6(via)) = value.get_ref().parse()
        && via.is_unicast_link_local()
    {
        if !addresses.iter().any(|(address, _)| address.is_ipv6()) {
            let message = format!("gateway {via} is link-local, and this port has no IPv6 address");
            problems.error_help(value.span(), message, "give the port an IPv6 address");
        }
        return Some(via.into());
    }
    let via = address(problems, "gateway", value)?;
    let reaches = |&(own, length): &(IpAddr, u8)| same_network(own, via, length);
    // Of IPv6, the edge is the address of all routers there.
    let edge = |&(_, length): &(IpAddr, u8)| no_host(via, length).filter(|_| via.is_ipv4());
    if let Some(kind) = addresses.iter().filter(|net| reaches(net)).find_map(edge) {
        let message = format!("gateway {via} is the {kind} of this port's network");
        problems.error(value.span(), message);
    } else if !addresses.iter().any(reaches) {
        let message = format!("gateway {via} is in none of this port's networks");
        problems.error_help(value.span(), message, "give the port an address in its network");
    } else if addresses.iter().any(|(address, _)| *address == via) {
        problems.error(value.span(), format!("gateway {via} is this port's own address"));
    }
    Some(via)
}
