//! Limits of services and of their sources, and suspects: what is refused, in which words, and what
//! is meant.

use super::{BASE, Row, read};
use crate::dataplane::snapshot::{Protocol, Quota, Quotas, Rate, SourceQuota};

const ADDRESS: &str = "address = \"198.51.100.10:80\"";

#[rustfmt::skip]
pub(super) const ROWS: &[Row] = &[
    Row {
        name: "a burst of nothing",
        edit: (ADDRESS, "address = \"198.51.100.10:80\"\nmax_new_burst = 5"),
        says: &[
            "shunt.toml:25:17: this does nothing without `max_new_per_second`",
            "   25 | max_new_burst = 5",
            "      |                 ^",
            "      help: for example `max_new_per_second = 100`",
        ],
    },
    Row {
        name: "a burst of less than a millisecond's worth",
        edit: (ADDRESS, "address = \"198.51.100.10:80\"\nsource_max_new_per_second = 5001\nsource_max_new_burst = 5"),
        says: &[
            "shunt.toml:26:24: source_max_new_burst 5 is less than a millisecond's worth of 5001",
            "   26 | source_max_new_burst = 5",
            "      |                        ^",
            "      help: 6 at least",
        ],
    },
    Row {
        name: "a source without a limit",
        edit: (ADDRESS, "address = \"198.51.100.10:80\"\nsource_prefix = 24\nmax_connections = 9"),
        says: &[
            "shunt.toml:25:17: this does nothing without a limit of sources",
            "   25 | source_prefix = 24",
            "      |                 ^^",
            "      help: for example `source_max_connections = 100`",
        ],
    },
    Row {
        name: "a source of more bits than an address has",
        edit: (ADDRESS, "address = \"198.51.100.10:80\"\nsource_prefix = 64\nsource_max_connections = 9"),
        says: &[
            "shunt.toml:25:17: source_prefix 64 is out of range (1 to 32)",
            "   25 | source_prefix = 64",
            "      |                 ^^",
        ],
    },
    Row {
        name: "reflection of TCP",
        edit: (ADDRESS, "address = \"198.51.100.10:80\"\nudp_reflection_ports = [53]"),
        says: &[
            "shunt.toml:25:24: `udp_reflection_ports` is for udp: nobody reflects tcp",
            "   25 | udp_reflection_ports = [53]",
            "      |                        ^^^^",
        ],
    },
    Row {
        name: "a reflection port that is none",
        edit: ("workers = [1, 2]", "workers = [1, 2]\nudp_reflection_ports = [53, 0]"),
        says: &[
            "shunt.toml:3:29: udp_reflection_ports: 0 is out of range (1 to 65535)",
            "    3 | udp_reflection_ports = [53, 0]",
            "      |                             ^",
        ],
    },
    Row {
        name: "fewer than no new connections",
        edit: (ADDRESS, "address = \"198.51.100.10:80\"\nmax_new_per_second = -1"),
        says: &[
            "shunt.toml:25:22: max_new_per_second -1 is out of range (0 to 100000000)",
            "   25 | max_new_per_second = -1",
            "      |                      ^^",
        ],
    },
];

fn quotas(keys: &str) -> Quotas {
    let text = BASE.replacen(ADDRESS, &format!("{ADDRESS}\n{keys}"), 1);
    read(&text).unwrap().plan.services[0].quotas
}

#[test]
fn limits_are_what_is_written_and_a_second_is_the_burst() {
    let rate = |per_second, burst| Rate { per_second, burst };
    let service = |connections, rate| Quota { connections, rate };
    let none = Quotas::default();
    let table = [
        ("", none),
        ("max_connections = 0\nmax_new_per_second = 0", none),
        ("max_connections = 7", Quotas { service: service(7, rate(0, 0)), ..none }),
        ("max_new_per_second = 50", Quotas { service: service(0, rate(50, 50)), ..none }),
        (
            "max_new_per_second = 50000000",
            Quotas { service: service(0, rate(50_000_000, 1_000_000)), ..none },
        ),
        (
            "max_new_per_second = 50\nmax_new_burst = 8",
            Quotas { service: service(0, rate(50, 8)), ..none },
        ),
        (
            "source_max_connections = 3",
            Quotas {
                source: Some(SourceQuota { prefix: 32, quota: service(3, rate(0, 0)) }),
                ..none
            },
        ),
        (
            "source_prefix = 24\nsource_max_new_per_second = 9",
            Quotas {
                source: Some(SourceQuota { prefix: 24, quota: service(0, rate(9, 9)) }),
                ..none
            },
        ),
    ];
    for (keys, expected) in table {
        assert_eq!(quotas(keys), expected, "{keys}");
    }
}

/// A client of IPv6 has a network, and picks addresses from it as it likes.
#[test]
fn a_source_of_ipv6_is_a_network_unless_said_otherwise() {
    let service = "[[service]]\nname = \"six\"\nprotocol = \"tcp\"\naddress = \"[2001:db8::10]:80\"\n\
                   local_addresses = [\"2001:db8:44::2\"]\nsource_max_connections = 3\n";
    let backend = "[[service.backend]]\naddress = \"[2001:db8:44::11]:80\"\n";
    for (keys, prefix) in [("", 64), ("source_prefix = 128\n", 128)] {
        let plan = read(&format!("{BASE}\n{service}{keys}{backend}")).unwrap().plan;
        let source = plan.services.last().and_then(|service| service.quotas.source);
        assert_eq!(source.map(|source| source.prefix), Some(prefix));
    }
}

#[test]
fn a_service_of_udp_has_everybodys_reflection_ports_or_its_own() {
    let everybody = "workers = [1, 2]\nudp_reflection_ports = [123, 53, 53]";
    let base = BASE.replacen("workers = [1, 2]", everybody, 1);
    let udp = "protocol = \"udp\"";
    assert!(base.contains(udp));
    for (own, expected) in [("", vec![53, 123]), ("[]", vec![]), ("[161, 19]", vec![19, 161])] {
        let line =
            if own.is_empty() { String::new() } else { format!("\nudp_reflection_ports = {own}") };
        let plan = read(&base.replacen(udp, &format!("{udp}{line}"), 1)).unwrap().plan;
        for service in &plan.services {
            let is_udp = service.protocol == Protocol::Udp;
            let expected: &[u16] = if is_udp { &expected } else { &[] };
            assert_eq!(plan.reflection_ports(service), expected, "{}: {own}", service.name);
        }
    }
}
