//! Addresses and ports, read and written as `ipvsadm` does.
//!
//! An address may be a host's name and a port a service's. Names are asked of the resolver for addresses, and
//! looked up in `/etc/services` for ports. Without `-n` the way back is taken too, and an address costs a question
//! to the resolver: each is asked for once.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};

use crate::dataplane::snapshot::{Ports, Protocol, ServiceAddress};

/// `host[:port]`, `[IPv6]:port` or an IPv6 address alone; the port is 0 if there is none. `None` if it is not one.
pub fn read(text: &str, protocol: Protocol) -> Option<SocketAddr> {
    parse(text, host_of, |name| port_of(name, protocol))
}

/// The same in numbers alone: what a name means here is not what it means on the machine that wrote it.
pub fn read_numbers(text: &str) -> Option<SocketAddr> {
    parse(text, |text| dotted(text).map(IpAddr::from), port_number)
}

fn parse(
    text: &str,
    host_of: impl Fn(&str) -> Option<IpAddr>,
    port_of: impl Fn(&str) -> Option<u16>,
) -> Option<SocketAddr> {
    if let Some(rest) = text.strip_prefix('[') {
        let (host, port) = rest.split_once("]:")?;
        let address: std::net::Ipv6Addr = host.parse().ok()?;
        return Some((address, port_of(port)?).into());
    }
    if let Ok(address) = text.parse::<std::net::Ipv6Addr>() {
        return Some((address, 0).into());
    }
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, port_of(port)?),
        None => (text, 0),
    };
    Some((host_of(host)?, port).into())
}

/// A host that is spelled in numbers, or that the resolver knows; IPv4 if it has both.
fn host_of(text: &str) -> Option<IpAddr> {
    if text.is_empty() {
        return None;
    }
    if let Some(address) = dotted(text) {
        return Some(address.into());
    }
    let known: Vec<_> = (text, 0).to_socket_addrs().ok()?.map(|socket| socket.ip()).collect();
    known.iter().find(|address| address.is_ipv4()).or(known.first()).copied()
}

/// An IPv4 address in any of its spellings: `192.0.2.1`, `192.0.513`, `3221225985`, `0xc0000201`.
pub fn dotted(text: &str) -> Option<Ipv4Addr> {
    let parts: Vec<u32> = text.split('.').map(digits).collect::<Option<_>>()?;
    let (last, first) = parts.split_last()?;
    let bits_left = 32 - 8 * u32::try_from(first.len()).ok()?;
    let fits = first.len() < 4
        && first.iter().all(|part| *part < 256)
        && u64::from(*last) < 1 << bits_left;
    let high = first.iter().fold(0u64, |sum, part| sum << 8 | u64::from(*part));
    fits.then_some(high << bits_left | u64::from(*last))
        .and_then(|bits| u32::try_from(bits).ok())
        .map(Ipv4Addr::from)
}

/// Decimal, `0` and octal, or `0x` and hexadecimal.
fn digits(text: &str) -> Option<u32> {
    let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(rest) => (rest, 16),
        None if text.len() > 1 && text.starts_with('0') => (text, 8),
        None => (text, 10),
    };
    let all = !digits.is_empty() && digits.chars().all(|digit| digit.is_digit(radix));
    all.then(|| u32::from_str_radix(digits, radix).ok()).flatten()
}

/// A port, by number or name.
fn port_of(text: &str, protocol: Protocol) -> Option<u16> {
    let named = || services().find(|(name, of, _)| name == text && *of == word(protocol));
    port_number(text).or_else(|| named().map(|(_, _, port)| port))
}

fn port_number(text: &str) -> Option<u16> {
    number(text, 0, 65_535).and_then(|port| u16::try_from(port).ok())
}

/// A decimal number in that range; a plus sign is allowed.
pub fn number(text: &str, least: u32, most: u32) -> Option<u32> {
    let digits = text.strip_prefix('+').unwrap_or(text);
    let all = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
    let number: u32 = all.then(|| digits.parse().ok()).flatten()?;
    (least..=most).contains(&number).then_some(number)
}

fn word(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    }
}

/// Name, protocol and port of each line of `/etc/services`, aliases included.
fn services() -> impl Iterator<Item = (String, String, u16)> {
    let text = std::fs::read_to_string("/etc/services").unwrap_or_default();
    let lines: Vec<_> = text.lines().flat_map(service_line).collect();
    lines.into_iter()
}

fn service_line(line: &str) -> Vec<(String, String, u16)> {
    let line = line.split('#').next().unwrap_or_default();
    let mut words = line.split_whitespace();
    let (Some(name), Some(place)) = (words.next(), words.next()) else { return vec![] };
    let Some((port, protocol)) = place.split_once('/') else { return vec![] };
    let Ok(port) = port.parse() else { return vec![] };
    let all = std::iter::once(name).chain(words);
    all.map(|name| (name.to_owned(), protocol.to_owned(), port)).collect()
}

/// Writes addresses.
#[derive(Debug, Default)]
pub struct Writer {
    numeric: bool,
    hosts: RefCell<HashMap<IpAddr, String>>,
    ports: RefCell<Option<HashMap<(String, u16), String>>>,
}

impl Writer {
    /// In numbers only, or with the names that are known.
    pub fn new(numeric: bool) -> Self {
        Self { numeric, ..Self::default() }
    }

    /// Address and port.
    pub fn socket(&self, address: SocketAddr, protocol: Protocol) -> String {
        let (host, port) = (self.host(address.ip()), self.port(address.port(), protocol));
        format!("{host}:{port}")
    }

    /// A service's place: a range of ports has no name.
    pub fn place(&self, address: ServiceAddress, protocol: Protocol) -> String {
        let host = self.host(address.vip);
        match address.ports {
            Ports { first, last } if first != last && address.ports != Ports::ALL => {
                format!("{host}:{first}-{last}")
            }
            Ports { first, .. } => format!("{host}:{}", self.port(first, protocol)),
        }
    }

    fn host(&self, address: IpAddr) -> String {
        let spelled = if self.numeric { address.to_string() } else { self.named(address) };
        if address.is_ipv6() { format!("[{spelled}]") } else { spelled }
    }

    fn named(&self, address: IpAddr) -> String {
        let ask = || dns_lookup::lookup_addr(&address).unwrap_or_else(|_| address.to_string());
        self.hosts.borrow_mut().entry(address).or_insert_with(ask).clone()
    }

    fn port(&self, port: u16, protocol: Protocol) -> String {
        if self.numeric {
            return port.to_string();
        }
        let mut known = self.ports.borrow_mut();
        let known = known.get_or_insert_with(|| {
            let mut known = HashMap::new();
            for (name, protocol, port) in services() {
                known.entry((protocol, port)).or_insert(name);
            }
            known
        });
        let name = known.get(&(word(protocol).to_owned(), port));
        name.cloned().unwrap_or_else(|| port.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_in_every_spelling_that_ipvsadm_reads() {
        let table = [
            ("192.0.2.1:80", Some("192.0.2.1:80")),
            ("192.0.2.1", Some("192.0.2.1:0")),
            ("192.0.2.1:+80", Some("192.0.2.1:80")),
            ("192.0.2.1:080", Some("192.0.2.1:80")),
            ("192.0.2.1:http", Some("192.0.2.1:80")),
            ("192.0.513:80", Some("192.0.2.1:80")),
            ("3221225985:80", Some("192.0.2.1:80")),
            ("0xc0000201:80", Some("192.0.2.1:80")),
            ("[2001:db8::1]:80", Some("[2001:db8::1]:80")),
            ("2001:db8::1", Some("[2001:db8::1]:0")),
            ("2001:db8::1:80", Some("[2001:db8::1:80]:0")),
            ("192.0.2.1:0x50", None),
            ("192.0.2.1:65536", None),
            ("192.0.2.1:", None),
            ("192.0.2.1:nonesuch", None),
            ("192.0.2.256:80", None),
            ("192.0.2.1.5:80", None),
            (":80", None),
            ("[2001:db8::1]", None),
            ("[2001:db8::1]80", None),
            ("[2001:db8::1:80", None),
            ("[]:80", None),
        ];
        for (text, expected) in table {
            let read = read(text, Protocol::Tcp).map(|socket| socket.to_string());
            assert_eq!(read.as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn in_numbers_alone_no_name_is_looked_up() {
        let table = [
            ("192.0.2.1:80", Some("192.0.2.1:80")),
            ("192.0.2.1", Some("192.0.2.1:0")),
            ("[2001:db8::1]:80", Some("[2001:db8::1]:80")),
            ("192.0.2.1:http", None),
            ("localhost:80", None),
            ("$VIP:80", None),
        ];
        for (text, expected) in table {
            let read = read_numbers(text).map(|socket| socket.to_string());
            assert_eq!(read.as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn a_line_of_services_has_aliases_and_a_comment() {
        let line = "http-alt\t8080/tcp\twebcache www-alt # ALT";
        let names: Vec<_> =
            service_line(line).into_iter().map(|(name, _, port)| (name, port)).collect();
        let expected = ["http-alt", "webcache", "www-alt"].map(|name| (name.to_owned(), 8080));
        assert_eq!(names, expected);
        assert_eq!(service_line("# nothing"), []);
    }
}
