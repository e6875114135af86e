//! Files of any size, each large in one way.

use std::fmt::Write as _;
use std::path::Path;

use shunt::control::config::plan::Plan;
use shunt::control::config::{Machine, parse_for};

/// What every file begins with.
const HEAD: &str = r#"
[shunt]
workers = [0]

[[port]]
name = "wan"
device = "net_null0"
addresses = ["192.0.2.1/24", "10.0.0.1/8"]
"#;

/// The plan of a text.
pub(crate) fn plan(text: &str) -> Plan {
    parse_for(text, Path::new("shunt.toml"), &Machine::with_cpus(4)).unwrap().plan
}

/// An address of 172.16.0.0/12, the next one each time.
pub(crate) fn vip(number: usize) -> String {
    format!("172.{}.{}.{}", 16 + number / 65_536, number / 256 % 256, number % 256)
}

/// An address of 10.0.0.0/8.
pub(crate) fn backend(number: usize) -> String {
    format!("10.{}.{}.{}:8080", 1 + number / 65_536, number / 256 % 256, number % 256)
}

fn service(text: &mut String, number: usize, address: &str, more: &str) {
    let backend = backend(number);
    write!(
        text,
        "\n[[service]]\nname = \"s{number}\"\nprotocol = \"tcp\"\naddress = \"{address}\"\n{more}\n\
         \n[[service.backend]]\naddress = \"{backend}\"\n"
    )
    .unwrap();
}

const LOCAL: &str = "local_addresses = [\"192.0.2.2\"]";

/// Services with a VIP each.
pub(crate) fn apart(services: usize) -> String {
    let mut text = HEAD.to_owned();
    (0..services).for_each(|n| service(&mut text, n, &format!("{}:80", vip(n + 1)), LOCAL));
    text
}

/// Services at one VIP, a port each.
pub(crate) fn ports(services: usize) -> String {
    let mut text = HEAD.to_owned();
    (0..services).for_each(|n| service(&mut text, n, &format!("172.16.0.1:{}", n + 1), LOCAL));
    text
}

/// Services at one place, for a network each.
pub(crate) fn networks(services: usize) -> String {
    let mut text = HEAD.to_owned();
    for n in 0..services {
        let more = format!("{LOCAL}\nclients = [\"{}\"]", vip(n + 65_536));
        service(&mut text, n, "172.16.0.1:80", &more);
    }
    text
}

/// One service, and a `key` of each backend.
pub(crate) fn wide(backends: usize, key: &str) -> String {
    let mut text = format!(
        "{HEAD}\n[[service]]\nname = \"wide\"\nprotocol = \"tcp\"\naddress = \"172.16.0.1:80\"\n{LOCAL}\n"
    );
    for n in 0..backends {
        writeln!(text, "\n[[service.backend]]\naddress = \"{}\"\n{key}", backend(n)).unwrap();
    }
    text
}

/// Services each of which shares a VIP with the next; the first is in NAT mode.
pub(crate) fn chain(services: usize) -> String {
    let mut text = HEAD.to_owned();
    for n in 0..services {
        let mode = if n == 0 { "mode = \"nat\"" } else { LOCAL };
        let next = format!("{mode}\nmore_addresses = [\"{}:443\"]", vip(n + 2));
        service(&mut text, n, &format!("{}:80", vip(n + 1)), &next);
    }
    text
}
