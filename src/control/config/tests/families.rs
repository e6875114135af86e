//! Both families, several addresses and ports of a service, and what its backends are told.

use super::*;
use crate::dataplane::snapshot::Ports;

#[rustfmt::skip]
pub(super) const ROWS: &[Row] = &[
    Row {
        name: "an IPv6 VIP without brackets",
        edit: (
            "198.51.100.10:80",
            "2001:db8::10",
        ),
        says: &[
            "shunt.toml:24:11: VIP 2001:db8::10 has no port",
            "   24 | address = \"2001:db8::10\"",
            "      |           ^^^^^^^^^^^^^^",
            "      help: for example [2001:db8::10]:80: the address in brackets",
        ],
    },
    Row {
        name: "a link-local VIP",
        edit: (
            "198.51.100.10:80",
            "[fe80::10]:80",
        ),
        says: &[
            "shunt.toml:24:11: VIP fe80::10 is link-local: which link it is on cannot be known",
            "   24 | address = \"[fe80::10]:80\"",
            "      |           ^^^^^^^^^^^^^^^",
            "      help: a global or unique local address",
        ],
    },
    Row {
        name: "a VIP of IPv4 in the form of IPv6",
        edit: (
            "198.51.100.10:80",
            "[::ffff:198.51.100.10]:80",
        ),
        says: &[
            "shunt.toml:24:11: VIP ::ffff:198.51.100.10 is an IPv4 address in the form of IPv6",
            "   24 | address = \"[::ffff:198.51.100.10]:80\"",
            "      |           ^^^^^^^^^^^^^^^^^^^^^^^^^^^",
            "      help: write it as 198.51.100.10",
        ],
    },
    Row {
        name: "the address of no IPv6 host",
        edit: (
            "198.51.100.10:80",
            "[::]:80",
        ),
        says: &[
            "shunt.toml:24:11: VIP :: is not an address of a host; a unicast address was expected",
            "   24 | address = \"[::]:80\"",
            "      |           ^^^^^^^^^",
        ],
    },
    Row {
        name: "a range of ports that runs backwards",
        edit: (
            "198.51.100.10:80",
            "198.51.100.10:81-80",
        ),
        says: &[
            "shunt.toml:24:11: VIP 198.51.100.10:81-80 has no range of ports: 81-80",
            "   24 | address = \"198.51.100.10:81-80\"",
            "      |           ^^^^^^^^^^^^^^^^^^^^^",
            "      help: the lower first, from 1 to 65535; port 0 alone stands for all",
        ],
    },
    Row {
        name: "a range from port 0",
        edit: (
            "198.51.100.10:80",
            "198.51.100.10:0-80",
        ),
        says: &[
            "shunt.toml:24:11: VIP 198.51.100.10:0-80 has no range of ports: 0-80",
            "   24 | address = \"198.51.100.10:0-80\"",
            "      |           ^^^^^^^^^^^^^^^^^^^^",
            "      help: the lower first, from 1 to 65535; port 0 alone stands for all",
        ],
    },
    Row {
        name: "a range that does not end",
        edit: (
            "198.51.100.10:80",
            "198.51.100.10:80-",
        ),
        says: &[
            "shunt.toml:24:11: VIP `198.51.100.10:80-` is not an address and port",
            "   24 | address = \"198.51.100.10:80-\"",
            "      |           ^^^^^^^^^^^^^^^^^^^",
            "      help: for example 192.0.2.10:80 or [2001:db8::10]:80; names are not resolved",
        ],
    },
    Row {
        name: "a further address of the other family",
        edit: (
            "address = \"198.51.100.10:80\"",
            "address = \"198.51.100.10:80\"\nmore_addresses = [\"[2001:db8::10]:80\"]",
        ),
        says: &[
            "shunt.toml:25:19: [2001:db8::10]:80 is IPv6, and this service's address is IPv4",
            "   25 | more_addresses = [\"[2001:db8::10]:80\"]",
            "      |                   ^^^^^^^^^^^^^^^^^^^",
            "      help: write a service for each family",
        ],
    },
    Row {
        name: "an address listed twice in one service",
        edit: (
            "address = \"198.51.100.10:80\"",
            "address = \"198.51.100.10:80\"\nmore_addresses = [\"198.51.100.11:80\", \"198.51.100.10:80\"]",
        ),
        says: &[
            "shunt.toml:25:39: 198.51.100.10:80 is listed twice",
            "   25 | more_addresses = [\"198.51.100.11:80\", \"198.51.100.10:80\"]",
            "      |                                       ^^^^^^^^^^^^^^^^^^",
        ],
    },
    Row {
        name: "another service's range of ports",
        edit: (
            "\"udp\"\naddress = \"198.51.100.10:53\"",
            "\"tcp\"\naddress = \"198.51.100.12:53\"\nmore_addresses = [\"198.51.100.10:80\"]",
        ),
        says: &[
            "shunt.toml:35:19: tcp 198.51.100.10:80 is the address of service `web` too",
            "   35 | more_addresses = [\"198.51.100.10:80\"]",
            "      |                   ^^^^^^^^^^^^^^^^^^",
        ],
    },
    Row {
        name: "ranges that overlap",
        edit: (
            "\"udp\"\naddress = \"198.51.100.10:53\"",
            "\"tcp\"\naddress = \"198.51.100.10:50-90\"\nmore_addresses = [\"198.51.100.10:85-99\"]",
        ),
        says: &[
            "shunt.toml:35:19: tcp 198.51.100.10:85-99 overlaps 198.51.100.10:50-90 of service `dns`, and neither lies inside the other",
            "   35 | more_addresses = [\"198.51.100.10:85-99\"]",
            "      |                   ^^^^^^^^^^^^^^^^^^^^^",
        ],
    },
    Row {
        name: "a range that overlaps one further down in the file",
        edit: (
            "address = \"198.51.100.10:80\"\nlocal_addresses = [\"10.44.0.2\"]\n",
            "address = \"198.51.100.10:85-99\"\nlocal_addresses = [\"10.44.0.2\"]\n[[service.backend]]\naddress = \"10.44.0.15:1\"\n[[service]]\nname = \"low\"\nprotocol = \"tcp\"\naddress = \"198.51.100.10:50-90\"\nlocal_addresses = [\"10.44.0.2\"]\n",
        ),
        says: &[
            "shunt.toml:31:11: tcp 198.51.100.10:50-90 overlaps 198.51.100.10:85-99 of service `web`, and neither lies inside the other",
            "   31 | address = \"198.51.100.10:50-90\"",
            "      |           ^^^^^^^^^^^^^^^^^^^^^",
        ],
    },
    Row {
        name: "one port of several in dr",
        edit: (
            "address = \"198.51.100.10:80\"\nlocal_addresses = [\"10.44.0.2\"]\n\n[[service.backend]]\naddress = \"10.44.0.11:8080\"",
            "mode = \"dr\"\naddress = \"198.51.100.10:80-81\"\n\n[[service.backend]]\naddress = \"10.44.0.11:80\"",
        ),
        says: &[
            "shunt.toml:28:11: backend 10.44.0.11:80 has mode `dr`, which keeps the port a client asked for, and this service has several",
            "   28 | address = \"10.44.0.11:80\"",
            "      |           ^^^^^^^^^^^^^^^",
            "      help: write `address = \"10.44.0.11:0\"`",
        ],
    },
    Row {
        name: "one port of all in a tunnel",
        edit: (
            "address = \"198.51.100.10:80\"\nlocal_addresses = [\"10.44.0.2\"]\n\n[[service.backend]]\naddress = \"10.44.0.11:8080\"",
            "mode = \"tunnel\"\naddress = \"198.51.100.10:0\"\n\n[[service.backend]]\naddress = \"[2001:db8::11]:80\"",
        ),
        says: &[
            "shunt.toml:28:11: backend [2001:db8::11]:80 has mode `tunnel`, which keeps the port a client asked for, and this service has several",
            "   28 | address = \"[2001:db8::11]:80\"",
            "      |           ^^^^^^^^^^^^^^^^^^^",
            "      help: write `address = \"[2001:db8::11]:0\"`",
        ],
    },
    Row {
        name: "any port of a service with one, in dr",
        edit: (
            "address = \"198.51.100.10:80\"\nlocal_addresses = [\"10.44.0.2\"]\n\n[[service.backend]]\naddress = \"10.44.0.11:8080\"",
            "mode = \"dr\"\naddress = \"198.51.100.10:80\"\nmore_addresses = [\"198.51.100.11:80\"]\n\n[[service.backend]]\naddress = \"10.44.0.11:0\"",
        ),
        says: &[
            "shunt.toml:29:11: backend 10.44.0.11:0 has mode `dr`, which keeps the service's port 80",
            "   29 | address = \"10.44.0.11:0\"",
            "      |           ^^^^^^^^^^^^^^",
            "      help: write `address = \"10.44.0.11:80\"`",
        ],
    },
    Row {
        name: "an IPv6 backend of an IPv4 VIP in dr",
        edit: (
            "address = \"198.51.100.10:80\"\nlocal_addresses = [\"10.44.0.2\"]\n\n[[service.backend]]\naddress = \"10.44.0.11:8080\"",
            "mode = \"dr\"\naddress = \"198.51.100.10:80\"\n\n[[service.backend]]\naddress = \"[2001:db8::11]:80\"",
        ),
        says: &[
            "shunt.toml:28:11: backend [2001:db8::11]:80 is IPv6, and in mode `dr` the VIP's IPv4 is needed",
            "   28 | address = \"[2001:db8::11]:80\"",
            "      |           ^^^^^^^^^^^^^^^^^^^",
            "      help: mode `tunnel` takes either family",
        ],
    },
    Row {
        name: "an IPv4 backend of an IPv6 VIP in nat",
        edit: (
            "address = \"198.51.100.10:80\"\nlocal_addresses = [\"10.44.0.2\"]",
            "mode = \"nat\"\naddress = \"[2001:db8::10]:80\"",
        ),
        says: &[
            "shunt.toml:28:11: backend 10.44.0.11:8080 is IPv4, and in mode `nat` the VIP's IPv6 is needed",
            "   28 | address = \"10.44.0.11:8080\"",
            "      |           ^^^^^^^^^^^^^^^^^",
            "      help: modes `fullnat` and `tunnel` take either family",
        ],
    },
    Row {
        name: "no local address of the backends' family",
        edit: (
            "address = \"198.51.100.10:80\"\nlocal_addresses = [\"10.44.0.2\"]",
            "address = \"[2001:db8::10]:80\"\nlocal_addresses = [\"fd00::2\"]",
        ),
        says: &[
            "shunt.toml:25:19: no local address is IPv4, and FULL-NAT needs one for 10.44.0.11:8080",
            "   25 | local_addresses = [\"fd00::2\"]",
            "      |                   ^^^^^^^^^^^",
        ],
    },
    Row {
        name: "one packet of TCP",
        edit: (
            "address = \"198.51.100.10:80\"",
            "address = \"198.51.100.10:80\"\none_packet = true",
        ),
        says: &[
            "shunt.toml:25:14: `one_packet` is for udp: a packet of tcp is not alone",
            "   25 | one_packet = true",
            "      |              ^^^^",
        ],
    },
    Row {
        name: "TOA for UDP",
        edit: (
            "\"udp\"",
            "\"udp\"\nclient_address = \"toa-253\"",
        ),
        says: &[
            "shunt.toml:34:18: `toa-253` is not for udp: it is an option of TCP",
            "   34 | client_address = \"toa-253\"",
            "      |                  ^^^^^^^^^",
        ],
    },
    Row {
        name: "PROXY as text for UDP",
        edit: (
            "\"udp\"",
            "\"udp\"\nclient_address = \"proxy-v1\"",
        ),
        says: &[
            "shunt.toml:34:18: `proxy-v1` is not for udp: it is a line of text in a stream; \"proxy-v2\" is",
            "   34 | client_address = \"proxy-v1\"",
            "      |                  ^^^^^^^^^^",
        ],
    },
    Row {
        name: "the client's address for SCTP",
        edit: (
            "\"tcp\"",
            "\"sctp\"\nclient_address = \"proxy-v2\"",
        ),
        says: &[
            "shunt.toml:24:18: `proxy-v2` is not for sctp: nothing tells the client's address there",
            "   24 | client_address = \"proxy-v2\"",
            "      |                  ^^^^^^^^^^",
        ],
    },
    Row {
        name: "the client's address for a backend that sees it",
        edit: (
            "address = \"10.44.0.11:8080\"\nweight = 1",
            "address = \"10.44.0.11:8080\"\nweight = 1\n[[service.backend]]\naddress = \"10.44.0.12:80\"\nmode = \"dr\"\n[[service]]\nname = \"x\"\nprotocol = \"tcp\"\naddress = \"198.51.100.19:80\"\nmode = \"tunnel\"\nclient_address = \"proxy-v1\"\n[[service.backend]]\naddress = \"10.44.0.12:80\"",
        ),
        says: &[
            "shunt.toml:38:18: `proxy-v1` is of no use in mode `tunnel`: the backend sees the client itself",
            "   38 | client_address = \"proxy-v1\"",
            "      |                  ^^^^^^^^^^",
        ],
    },
    Row {
        name: "TOA in NAT",
        edit: (
            "address = \"198.51.100.10:80\"\nlocal_addresses = [\"10.44.0.2\"]",
            "address = \"198.51.100.10:80\"\nmode = \"nat\"\nclient_address = \"toa\"",
        ),
        says: &[
            "shunt.toml:26:18: `toa` is of no use in mode `nat`: the backend sees the client itself",
            "   26 | client_address = \"toa\"",
            "      |                  ^^^^^",
        ],
    },
    Row {
        name: "SYN cookies for UDP",
        edit: ("\"udp\"", "\"udp\"\nsyn_cookies = \"always\""),
        says: &[
            "shunt.toml:34:15: `syn_cookies` is for tcp: there is no SYN in udp",
            "   34 | syn_cookies = \"always\"",
            "      |               ^^^^^^^^",
        ],
    },
    Row {
        name: "SYN cookies where the backend answers by itself",
        edit: (
            "address = \"10.44.0.11:8080\"\nweight = 1",
            "address = \"10.44.0.11:8080\"\nweight = 1\n[[service]]\nname = \"x\"\nprotocol = \"tcp\"\naddress = \"198.51.100.19:80\"\nmode = \"dr\"\nsyn_cookies = { above_per_second = 5 }\n[[service.backend]]\naddress = \"10.44.0.12:80\"",
        ),
        says: &[
            "shunt.toml:35:15: `syn_cookies` cannot be had in mode `dr`: the backend's answers do not pass here, so nobody can turn its sequence numbers into those the client was told",
            "   35 | syn_cookies = { above_per_second = 5 }",
            "      |               ^^^^^^^^^^^^^^^^^^^^^^^^",
        ],
    },
    Row {
        name: "SYN cookies for one backend behind a tunnel",
        edit: (
            "address = \"10.44.0.11:8080\"\nweight = 1",
            "address = \"10.44.0.11:8080\"\nweight = 1\n[[service]]\nname = \"x\"\nprotocol = \"tcp\"\naddress = \"198.51.100.19:80\"\nmode = \"nat\"\nsyn_cookies = \"always\"\n[[service.backend]]\naddress = \"10.44.0.12:80\"\nmode = \"tunnel\"",
        ),
        says: &[
            "shunt.toml:35:15: `syn_cookies` cannot be had in mode `tunnel`: the backend's answers do not pass here, so nobody can turn its sequence numbers into those the client was told",
            "   35 | syn_cookies = \"always\"",
            "      |               ^^^^^^^^",
        ],
    },
    Row {
        name: "an unknown word for SYN cookies",
        edit: (
            "address = \"198.51.100.10:80\"",
            "address = \"198.51.100.10:80\"\nsyn_cookies = \"sometimes\"",
        ),
        says: &[
            "shunt.toml:25:15: unknown value `sometimes` for syn_cookies",
            "   25 | syn_cookies = \"sometimes\"",
            "      |               ^^^^^^^^^^^",
            "      help: \"never\", \"always\" or { above_per_second = 1000 }",
        ],
    },
    Row {
        name: "SYN cookies above another unit",
        edit: (
            "address = \"198.51.100.10:80\"",
            "address = \"198.51.100.10:80\"\nsyn_cookies = { above_per_minute = 60 }",
        ),
        says: &[
            "shunt.toml:25:15: this table is not one of syn_cookies",
            "   25 | syn_cookies = { above_per_minute = 60 }",
            "      |               ^^^^^^^^^^^^^^^^^^^^^^^^^",
            "      help: \"never\", \"always\" or { above_per_second = 1000 }",
        ],
    },
    Row {
        name: "SYN cookies above nothing",
        edit: (
            "address = \"198.51.100.10:80\"",
            "address = \"198.51.100.10:80\"\nsyn_cookies = { above_per_second = 0 }",
        ),
        says: &[
            "shunt.toml:25:15: above_per_second 0 is out of range (1 to 100000000)",
            "   25 | syn_cookies = { above_per_second = 0 }",
            "      |               ^^^^^^^^^^^^^^^^^^^^^^^^",
            "      help: \"always\" is for none at all",
        ],
    },
    Row {
        name: "a number for SYN cookies",
        edit: (
            "address = \"198.51.100.10:80\"",
            "address = \"198.51.100.10:80\"\nsyn_cookies = 5",
        ),
        says: &[
            "shunt.toml:25:15: syn_cookies is a word or a table",
            "   25 | syn_cookies = 5",
            "      |               ^",
            "      help: \"never\", \"always\" or { above_per_second = 1000 }",
        ],
    },
    Row {
        name: "an unknown way to tell the client's address",
        edit: (
            "address = \"198.51.100.10:80\"",
            "address = \"198.51.100.10:80\"\nclient_address = \"proxy-v3\"",
        ),
        says: &[
            "shunt.toml:25:18: unknown value `proxy-v3` for client_address; supported: none, toa, toa-253, proxy-v1, proxy-v2",
            "   25 | client_address = \"proxy-v3\"",
            "      |                  ^^^^^^^^^^",
            "      help: did you mean `proxy-v2`?",
        ],
    },
    Row {
        name: "remote checksums of GRE",
        edit: (
            "address = \"10.44.0.11:8080\"\nweight = 1",
            "address = \"10.44.0.11:80\"\nmode = \"tunnel\"\ntunnel = { kind = \"gre\", remote_checksum = false }\n[[service.backend]]\naddress = \"10.44.0.12:80\"",
        ),
        says: &[
            "shunt.toml:30:44: `remote_checksum` is of kind `gue` only",
            "   30 | tunnel = { kind = \"gre\", remote_checksum = false }",
            "      |                                            ^^^^^",
        ],
    },
    Row {
        name: "remote checksums without the outer one",
        edit: (
            "address = \"10.44.0.11:8080\"\nweight = 1",
            "address = \"10.44.0.11:80\"\nmode = \"tunnel\"\ntunnel = { checksum = false, remote_checksum = true, kind = \"gue\", port = 1 }\n[[service.backend]]\naddress = \"10.44.0.12:80\"",
        ),
        says: &[
            "shunt.toml:30:23: `remote_checksum` needs the outer checksum, and this turns it off",
            "   30 | tunnel = { checksum = false, remote_checksum = true, kind = \"gue\", port = 1 }",
            "      |                       ^^^^^",
            "      help: leave `checksum` out: it is implied",
        ],
    },
    Row {
        name: "an MTU too small for IPv6",
        edit: (
            "addresses = [\"10.44.0.1/24\"]",
            "addresses = [\"10.44.0.1/24\", \"fd00::1/64\"]\nmtu = 1279",
        ),
        says: &[
            "shunt.toml:20:7: mtu 1279 is too small for this port's IPv6: 1280 is the least",
            "   20 | mtu = 1279",
            "      |       ^^^^",
        ],
    },
    Row {
        name: "an IPv6 port address without a host",
        edit: (
            "addresses = [\"10.44.0.1/24\"]",
            "addresses = [\"fd00::/64\"]",
        ),
        says: &[
            "shunt.toml:19:14: port address fd00::/64 is the subnet-router anycast address of its network",
            "   19 | addresses = [\"fd00::/64\"]",
            "      |              ^^^^^^^^^^^",
            "      help: an address between the first and the last was expected",
        ],
    },
    Row {
        name: "an IPv6 port address of prefix length 0",
        edit: (
            "addresses = [\"10.44.0.1/24\"]",
            "addresses = [\"fd00::1/0\"]",
        ),
        says: &[
            "shunt.toml:19:14: a port address needs a prefix length of 1 to 128",
            "   19 | addresses = [\"fd00::1/0\"]",
            "      |              ^^^^^^^^^^^",
        ],
    },
    Row {
        name: "an IPv6 prefix length too long",
        edit: (
            "addresses = [\"10.44.0.1/24\"]",
            "addresses = [\"fd00::1/129\"]",
        ),
        says: &[
            "shunt.toml:19:14: port address `fd00::1/129` is not an address with a prefix length",
            "   19 | addresses = [\"fd00::1/129\"]",
            "      |              ^^^^^^^^^^^^^",
            "      help: for example 192.0.2.1/24 or 2001:db8::1/64",
        ],
    },
    Row {
        name: "a link-local gateway without IPv6",
        edit: (
            "to = \"0.0.0.0/0\"\nvia = \"192.0.2.254\"",
            "to = \"::/0\"\nvia = \"fe80::1\"",
        ),
        says: &[
            "shunt.toml:14:7: gateway fe80::1 is link-local, and this port has no IPv6 address",
            "   14 | via = \"fe80::1\"",
            "      |       ^^^^^^^^^",
            "      help: give the port an IPv6 address",
        ],
    },
    Row {
        name: "an IPv6 gateway in none of the port's networks",
        edit: (
            "to = \"0.0.0.0/0\"\nvia = \"192.0.2.254\"",
            "to = \"2001:db8:9::/48\"\nvia = \"2001:db8::1\"",
        ),
        says: &[
            "shunt.toml:14:7: gateway 2001:db8::1 is in none of this port's networks",
            "   14 | via = \"2001:db8::1\"",
            "      |       ^^^^^^^^^^^^^",
            "      help: give the port an address in its network",
        ],
    },
    Row {
        name: "an IPv6 route with bits beyond its prefix",
        edit: (
            "to = \"0.0.0.0/0\"\nvia = \"192.0.2.254\"",
            "to = \"2001:db8::1/32\"\nvia = \"fe80::1\"",
        ),
        says: &[
            "shunt.toml:13:6: route destination 2001:db8::1/32 has bits beyond its prefix",
            "   13 | to = \"2001:db8::1/32\"",
            "      |      ^^^^^^^^^^^^^^^^",
            "      help: the network is 2001:db8::/32",
            "shunt.toml:14:7: gateway fe80::1 is link-local, and this port has no IPv6 address",
            "   14 | via = \"fe80::1\"",
            "      |       ^^^^^^^^^",
            "      help: give the port an IPv6 address",
        ],
    },
];

/// The first service of a file in which this is its address, further keys and backends.
fn service(text: &str) -> Service {
    let (head, _) = BASE.split_once("[[service]]").unwrap();
    let name = "[[service]]\nname = \"web\"\nprotocol = \"tcp\"\n";
    let reading = read(&format!("{head}{name}{text}")).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(reading.warnings, Vec::<String>::new(), "{text}");
    reading.plan.services.into_iter().next().unwrap()
}

fn with_backend(service: &str, backend: &str) -> String {
    format!("{service}\n[[service.backend]]\naddress = \"{backend}\"\n")
}

const LOCALS: &str = "local_addresses = [\"10.44.0.2\"]";

#[test]
fn an_address_is_one_port_a_range_or_all() {
    let v4 = "198.51.100.10".parse().unwrap();
    let v6 = "2001:db8::10".parse().unwrap();
    let range = |first, last| Ports { first, last };
    let table = [
        ("198.51.100.10:80", v4, Ports::one(80), "198.51.100.10:80"),
        ("198.51.100.10:8000-8099", v4, range(8000, 8099), "198.51.100.10:8000-8099"),
        ("198.51.100.10:80-80", v4, Ports::one(80), "198.51.100.10:80"),
        ("198.51.100.10:0", v4, Ports::ALL, "198.51.100.10:0"),
        ("198.51.100.10:1-65535", v4, Ports::ALL, "198.51.100.10:0"),
        ("[2001:db8::10]:80", v6, Ports::one(80), "[2001:db8::10]:80"),
        ("[2001:db8:0::10]:1-2", v6, range(1, 2), "[2001:db8::10]:1-2"),
        ("[2001:db8::10]:0", v6, Ports::ALL, "[2001:db8::10]:0"),
    ];
    for (written, vip, ports, shown) in table {
        let keys = format!("address = \"{written}\"\n{LOCALS}\n");
        let service = service(&with_backend(&keys, "10.44.0.11:80"));
        assert_eq!(service.address, ServiceAddress { vip, ports }, "{written}");
        assert_eq!(service.address.to_string(), shown);
    }
}

#[test]
fn addresses_may_lie_inside_each_other_and_be_shared_by_protocols() {
    let more = "more_addresses = [\"198.51.100.10:80\", \"198.51.100.10:50-90\", \
                \"198.51.100.10:91-99\", \"198.51.100.11:80\", \"198.51.100.10:53\"]";
    let keys = format!("address = \"198.51.100.10:0\"\n{more}\n{LOCALS}\n");
    let service = service(&with_backend(&keys, "10.44.0.11:0"));
    let ports: Vec<_> = service.addresses().map(|address| address.to_string()).collect();
    assert_eq!(
        ports,
        [
            "198.51.100.10:0",
            "198.51.100.10:80",
            "198.51.100.10:50-90",
            "198.51.100.10:91-99",
            "198.51.100.11:80",
            "198.51.100.10:53",
        ]
    );
    // UDP port 53 of the same VIP is the good file's other service.
    let text = BASE.replacen("198.51.100.10:80", "198.51.100.10:53", 1);
    assert!(read(&text).is_ok());
}

#[test]
fn families_and_ports_are_mixed_where_the_mode_brings_them_together() {
    let six = "address = \"[2001:db8::10]:80\"";
    let both = "local_addresses = [\"10.44.0.2\", \"fd00::2\"]";
    let table = [
        // NAT64.
        (format!("{six}\n{LOCALS}"), vec!["10.44.0.11:8080"]),
        (format!("{six}\n{both}"), vec!["10.44.0.11:8080", "[fd00::11]:8080"]),
        (format!("{six}\nlocal_addresses = [\"fd00::2\"]"), vec!["[fd00::11]:1"]),
        (format!("{six}\nmode = \"nat\""), vec!["[fd00::11]:8080"]),
        (format!("{six}\nmode = \"dr\""), vec!["[fd00::11]:80"]),
        (format!("{six}\nmode = \"tunnel\""), vec!["[fd00::11]:80", "10.44.0.11:80"]),
        ("address = \"198.51.100.10:80\"\nmode = \"tunnel\"".into(), vec!["[fd00::11]:80"]),
        ("address = \"198.51.100.10:1-9\"\nmode = \"dr\"".into(), vec!["10.44.0.11:0"]),
        ("address = \"198.51.100.10:0\"\nmode = \"nat\"".into(), vec!["10.44.0.11:0"]),
        (format!("address = \"198.51.100.10:1-9\"\n{LOCALS}"), vec!["10.44.0.11:80"]),
    ];
    for (keys, backends) in table {
        let text = backends.iter().fold(keys, |text, backend| with_backend(&text, backend));
        let read: Vec<_> = service(&text).backends.iter().map(|b| b.address.to_string()).collect();
        assert_eq!(read, backends, "{text}");
    }
}

#[test]
fn what_backends_are_told_of_the_client_arrives_where_it_belongs() {
    for (word, meaning) in super::client_address::WORDS {
        let keys =
            format!("address = \"198.51.100.10:80\"\n{LOCALS}\nclient_address = \"{word}\"\n");
        let service = service(&with_backend(&keys, "10.44.0.11:80"));
        assert_eq!(service.client_address, meaning);
    }
    for (written, meaning) in [
        ("\"never\"", SynCookies::Never),
        ("\"always\"", SynCookies::Always),
        ("{ above_per_second = 70 }", SynCookies::Above { per_second: 70 }),
    ] {
        let replaced = format!("address = \"198.51.100.10:80\"\nsyn_cookies = {written}");
        let text = BASE.replace("address = \"198.51.100.10:80\"", &replaced);
        assert_eq!(read(&text).unwrap().plan.services[0].syn_cookies, meaning);
    }
    let text = BASE.replace("\"udp\"", "\"udp\"\none_packet = true\nclient_address = \"proxy-v2\"");
    let services = read(&text).unwrap().plan.services;
    assert_eq!((services[0].one_packet, services[1].one_packet), (false, true));
    assert_eq!(services[1].client_address, ClientAddress::ProxyV2);
    let text = BASE.replace("\"udp\"", "\"sctp\"");
    assert_eq!(read(&text).unwrap().plan.services[1].protocol, Protocol::Sctp);
}

#[test]
fn the_ipv6_table_is_as_large_as_the_other_unless_said() {
    let limits = |text: &str| {
        let daemon = read(&format!("{BASE}\n[limits]\n{text}")).unwrap().plan.daemon;
        (daemon.connections_max, daemon.connections_ipv6_max)
    };
    assert_eq!(limits("connections = 5000"), (5000, 5000));
    assert_eq!(limits("connections = 5000\nconnections_ipv6 = 2000"), (5000, 2000));
    assert_eq!(limits("connections_ipv6 = 2000"), (1_000_000, 2000));
}

#[test]
fn ports_take_addresses_and_routes_of_both_families() {
    let text = BASE
        .replacen("[\"192.0.2.1/24\"]", "[\"192.0.2.1/24\", \"2001:db8::1/64\"]\nmtu = 1280", 1)
        .replacen(
            "[[port.route]]",
            "[[port.route]]\nto = \"::/0\"\nvia = \"fe80::1\"\n\
             [[port.route]]\nto = \"fd00::/8\"\nvia = \"2001:db8::\"\n[[port.route]]",
            1,
        );
    let port = read(&text).unwrap().plan.ports.remove(0);
    let show = |(address, length): &(std::net::IpAddr, u8)| format!("{address}/{length}");
    let addresses: Vec<_> = port.addresses.iter().map(show).collect();
    assert_eq!(addresses, ["192.0.2.1/24", "2001:db8::1/64"]);
    let routes: Vec<_> =
        port.routes.iter().map(|(to, length, via)| format!("{to}/{length} {via}")).collect();
    assert_eq!(routes, ["::/0 fe80::1", "fd00::/8 2001:db8::", "0.0.0.0/0 192.0.2.254"]);
}
