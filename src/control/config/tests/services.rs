//! What is wrong with services and backends.

use super::Row;

#[rustfmt::skip]
pub(super) const ROWS: &[Row] = &[
    Row {
        name: "a service name used twice",
        edit: (
            "name = \"dns\"",
            "name = \"web\"",
        ),
        says: &[
            "shunt.toml:32:8: service name `web` is used twice",
            "   32 | name = \"web\"",
            "      |        ^^^^^",
        ],
    },
    Row {
        name: "a service name that is none",
        edit: (
            "name = \"web\"",
            "name = \"\"",
        ),
        says: &[
            "shunt.toml:22:8: service name `` is not a name",
            "   22 | name = \"\"",
            "      |        ^^",
            "      help: use letters, digits, `.`, `_` and `-`",
        ],
    },
    Row {
        name: "a VIP, protocol and port used twice",
        edit: (
            "\"udp\"\naddress = \"198.51.100.10:53\"",
            "\"tcp\"\naddress = \"198.51.100.10:80\"",
        ),
        says: &[
            "shunt.toml:34:11: tcp 198.51.100.10:80 is the address of service `web` too",
            "   34 | address = \"198.51.100.10:80\"",
            "      |           ^^^^^^^^^^^^^^^^^^",
        ],
    },
    Row {
        name: "a VIP without a port",
        edit: (
            "198.51.100.10:80",
            "198.51.100.10",
        ),
        says: &[
            "shunt.toml:24:11: VIP 198.51.100.10 has no port",
            "   24 | address = \"198.51.100.10\"",
            "      |           ^^^^^^^^^^^^^^^",
            "      help: for example 198.51.100.10:80",
        ],
    },
    Row {
        name: "a VIP that is a name",
        edit: (
            "198.51.100.10:80",
            "www.example.com:80",
        ),
        says: &[
            "shunt.toml:24:11: VIP `www.example.com:80` is not an address and port",
            "   24 | address = \"www.example.com:80\"",
            "      |           ^^^^^^^^^^^^^^^^^^^^",
            "      help: for example 192.0.2.10:80 or [2001:db8::10]:80; names are not resolved",
        ],
    },
    Row {
        name: "a VIP that is multicast",
        edit: (
            "198.51.100.10:80",
            "239.1.1.1:80",
        ),
        says: &[
            "shunt.toml:24:11: VIP 239.1.1.1 is a multicast address; a unicast address was \
             expected",
            "   24 | address = \"239.1.1.1:80\"",
            "      |           ^^^^^^^^^^^^^^",
        ],
    },
    Row {
        name: "a VIP that is loopback",
        edit: (
            "198.51.100.10:80",
            "127.0.0.1:80",
        ),
        says: &[
            "shunt.toml:24:11: VIP 127.0.0.1 is a loopback address; a unicast address was \
             expected",
            "   24 | address = \"127.0.0.1:80\"",
            "      |           ^^^^^^^^^^^^^^",
        ],
    },
    Row {
        name: "a VIP that is broadcast",
        edit: (
            "198.51.100.10:80",
            "255.255.255.255:80",
        ),
        says: &[
            "shunt.toml:24:11: VIP 255.255.255.255 is the broadcast address; a unicast \
             address was expected",
            "   24 | address = \"255.255.255.255:80\"",
            "      |           ^^^^^^^^^^^^^^^^^^^^",
        ],
    },
    Row {
        name: "a VIP that is unspecified",
        edit: (
            "198.51.100.10:80",
            "0.0.0.0:80",
        ),
        says: &[
            "shunt.toml:24:11: VIP 0.0.0.0 is not an address of a host; a unicast address \
             was expected",
            "   24 | address = \"0.0.0.0:80\"",
            "      |           ^^^^^^^^^^^^",
        ],
    },
    Row {
        name: "an unknown protocol, and nothing that would follow from it",
        edit: (
            "\"tcp\"",
            "\"tpc\"\none_packet = true\nclient_address = \"toa\"",
        ),
        says: &[
            "shunt.toml:23:12: unknown value `tpc` for protocol; supported: tcp, udp, sctp",
            "   23 | protocol = \"tpc\"",
            "      |            ^^^^^",
        ],
    },
    Row {
        name: "an unknown scheduler",
        edit: (
            "name = \"web\"",
            "name = \"web\"\nscheduler = \"wlx\"",
        ),
        says: &[
            "shunt.toml:23:13: unknown value `wlx` for scheduler; supported: rr, wrr, lc, wlc, sed, \
             nq, p2c, twos, sh, mh, qh, dh, fo, ovf, lblc, lblcr, none",
            "   23 | scheduler = \"wlx\"",
            "      |             ^^^^^",
            "      help: did you mean `wlc`?",
        ],
    },
    Row {
        name: "flags of another scheduler",
        edit: (
            "name = \"web\"",
            "name = \"web\"\nscheduler = \"mh\"\nscheduler_flags = [\"mh-port\", \"sh-port\"]",
        ),
        says: &[
            "shunt.toml:24:31: unknown value `sh-port` for scheduler_flags; supported: \
             mh-fallback, mh-port",
            "   24 | scheduler_flags = [\"mh-port\", \"sh-port\"]",
            "      |                               ^^^^^^^^^",
            "      help: did you mean `mh-port`?",
        ],
    },
    Row {
        name: "flags of a scheduler that has none",
        edit: (
            "name = \"web\"",
            "name = \"web\"\nscheduler_flags = [\"sh-port\"]",
        ),
        says: &[
            "shunt.toml:23:20: scheduler `wrr` has no flags",
            "   23 | scheduler_flags = [\"sh-port\"]",
            "      |                    ^^^^^^^^^",
        ],
    },
    Row {
        name: "a table of another size, for nobody",
        edit: ("name = \"web\"", "name = \"web\"\nmh_slots = 4096"),
        says: &[
            "shunt.toml:23:12: mh_slots is of no use to scheduler `wrr`: it has no table",
            "   23 | mh_slots = 4096",
            "      |            ^^^^",
            "shunt.toml:23:12: mh_slots 4096 is not one of 251, 509, 1021, 2039, 4093, 8191, 16381, \
             32749, 65521, 131071",
            "   23 | mh_slots = 4096",
            "      |            ^^^^",
        ],
    },
    Row {
        name: "a lower limit above the upper",
        edit: ("weight = 1", "max_connections = 10\nresume_below = 11"),
        says: &[
            "shunt.toml:30:16: resume_below 11 is above max_connections 10: it would never be full",
            "   30 | resume_below = 11",
            "      |                ^^",
            "      help: at most max_connections, or 0",
        ],
    },
    Row {
        name: "qh for TCP, and a backend without a server id",
        edit: (
            "name = \"web\"",
            "name = \"web\"\nscheduler = \"qh\"",
        ),
        says: &[
            "shunt.toml:23:13: scheduler `qh` is for udp: it looks into QUIC packets",
            "   23 | scheduler = \"qh\"",
            "      |             ^^^^",
            "shunt.toml:29:11: backend 10.44.0.11:8080 has no quic_server_id, which scheduler `qh` \
             goes by",
            "   29 | address = \"10.44.0.11:8080\"",
            "      |           ^^^^^^^^^^^^^^^^^",
        ],
    },
    Row {
        name: "a server id nobody goes by, and one that is none",
        edit: ("weight = 1", "quic_server_id = \"0x1\""),
        says: &[
            "shunt.toml:29:18: quic_server_id `0x1` is not one: expected 1 to 15 bytes in \
             hexadecimal, two digits each",
            "   29 | quic_server_id = \"0x1\"",
            "      |                  ^^^^^",
            "      help: for example \"0a01\"",
            "shunt.toml:29:18: quic_server_id is of no use to scheduler `wrr`",
            "   29 | quic_server_id = \"0x1\"",
            "      |                  ^^^^^",
            "      help: scheduler = \"qh\" goes by it",
        ],
    },
    Row {
        name: "no local address",
        edit: (
            "address = \"198.51.100.10:80\"\nlocal_addresses = [\"10.44.0.2\"]",
            "address = \"198.51.100.10:80\"",
        ),
        says: &[
            "shunt.toml:21:1: service `web` has no local address, and FULL-NAT needs one",
            "   21 | [[service]]",
            "      | ^^^^^^^^^^^",
            "      help: for example `local_addresses = [\"10.44.0.2\"]`, an address of this \
             box's own that the backends can reach",
        ],
    },
    Row {
        name: "an empty list of local addresses",
        edit: (
            "80\"\nlocal_addresses = [\"10.44.0.2\"]",
            "80\"\nlocal_addresses = []",
        ),
        says: &[
            "shunt.toml:25:19: service `web` has no local address, and FULL-NAT needs one",
            "   25 | local_addresses = []",
            "      |                   ^^",
            "      help: for example `local_addresses = [\"10.44.0.2\"]`, an address of this \
             box's own that the backends can reach",
        ],
    },
    Row {
        name: "a local address listed twice",
        edit: (
            "80\"\nlocal_addresses = [\"10.44.0.2\"]",
            "80\"\nlocal_addresses = [\"10.44.0.2\", \"10.44.0.2\"]",
        ),
        says: &[
            "shunt.toml:25:33: local address 10.44.0.2 is listed twice",
            "   25 | local_addresses = [\"10.44.0.2\", \"10.44.0.2\"]",
            "      |                                 ^^^^^^^^^^^",
        ],
    },
    Row {
        name: "a local address that is a VIP",
        edit: (
            "80\"\nlocal_addresses = [\"10.44.0.2\"]",
            "80\"\nlocal_addresses = [\"198.51.100.10\"]",
        ),
        says: &[
            "shunt.toml:25:20: local address 198.51.100.10 is also the VIP of service `web`",
            "   25 | local_addresses = [\"198.51.100.10\"]",
            "      |                    ^^^^^^^^^^^^^^^",
        ],
    },
    Row {
        name: "a local address that is a backend of another service",
        edit: (
            "80\"\nlocal_addresses = [\"10.44.0.2\"]",
            "80\"\nlocal_addresses = [\"10.44.0.21\"]",
        ),
        says: &[
            "shunt.toml:25:20: local address 10.44.0.21 is also a backend of service `dns`",
            "   25 | local_addresses = [\"10.44.0.21\"]",
            "      |                    ^^^^^^^^^^^^",
        ],
    },
    Row {
        name: "a local address with a port",
        edit: (
            "80\"\nlocal_addresses = [\"10.44.0.2\"]",
            "80\"\nlocal_addresses = [\"10.44.0.2:1\"]",
        ),
        says: &[
            "shunt.toml:25:20: local address `10.44.0.2:1` is not an IP address",
            "   25 | local_addresses = [\"10.44.0.2:1\"]",
            "      |                    ^^^^^^^^^^^^^",
            "      help: for example 192.0.2.10 or 2001:db8::10",
        ],
    },
    Row {
        name: "a backend of the other family",
        edit: (
            "10.44.0.11:8080",
            "[2001:db8::11]:8080",
        ),
        says: &[
            "shunt.toml:28:11: backend [2001:db8::11]:8080 is IPv6, and in mode `fullnat` the \
             VIP's IPv4 is needed",
            "   28 | address = \"[2001:db8::11]:8080\"",
            "      |           ^^^^^^^^^^^^^^^^^^^^^",
            "      help: only mode `tunnel` brings IPv4 clients to it",
        ],
    },
    Row {
        name: "a backend of the other family without a port",
        edit: (
            "10.44.0.11:8080",
            "2001:db8::11",
        ),
        says: &[
            "shunt.toml:28:11: backend 2001:db8::11 has no port",
            "   28 | address = \"2001:db8::11\"",
            "      |           ^^^^^^^^^^^^^^",
            "      help: for example [2001:db8::11]:80: the address in brackets",
        ],
    },
    Row {
        name: "a backend listed twice",
        edit: (
            "weight = 1",
            "weight = 1\n[[service.backend]]\naddress = \"10.44.0.11:8080\"",
        ),
        says: &[
            "shunt.toml:31:11: backend 10.44.0.11:8080 is listed twice in service `web`",
            "   31 | address = \"10.44.0.11:8080\"",
            "      |           ^^^^^^^^^^^^^^^^^",
        ],
    },
    Row {
        name: "a backend with port 0",
        edit: (
            "10.44.0.11:8080",
            "10.44.0.11:0",
        ),
        says: &[
            "shunt.toml:28:11: backend 10.44.0.11:0 has port 0, the port a client asked for, and \
             this service has one port, 80",
            "   28 | address = \"10.44.0.11:0\"",
            "      |           ^^^^^^^^^^^^^^",
            "      help: write `address = \"10.44.0.11:80\"`",
        ],
    },
    Row {
        name: "a backend that is a VIP",
        edit: (
            "10.44.0.11:8080",
            "198.51.100.10:8080",
        ),
        says: &[
            "shunt.toml:28:11: backend 198.51.100.10 is the VIP of service `web`: a loop",
            "   28 | address = \"198.51.100.10:8080\"",
            "      |           ^^^^^^^^^^^^^^^^^^^^",
        ],
    },
    Row {
        name: "a backend that is this host",
        edit: (
            "10.44.0.11:8080",
            "10.44.0.1:8080",
        ),
        says: &[
            "shunt.toml:28:11: backend 10.44.0.1 is a port's address: this host itself",
            "   28 | address = \"10.44.0.1:8080\"",
            "      |           ^^^^^^^^^^^^^^^^",
        ],
    },
    Row {
        name: "a weight below zero",
        edit: (
            "weight = 1",
            "weight = -1",
        ),
        says: &[
            "shunt.toml:29:10: weight -1 is out of range (0 to 65535)",
            "   29 | weight = -1",
            "      |          ^^",
        ],
    },
    Row {
        name: "a weight too large",
        edit: (
            "weight = 1",
            "weight = 65536",
        ),
        says: &[
            "shunt.toml:29:10: weight 65536 is out of range (0 to 65535)",
            "   29 | weight = 65536",
            "      |          ^^^^^",
        ],
    },
    Row {
        name: "several problems at once, in the order of the file",
        edit: (
            "weight = 1",
            "weight = -1\n[[service.backend]]\naddress = \"x\"\n[limits]\nconnections = 1",
        ),
        says: &[
            "shunt.toml:29:10: weight -1 is out of range (0 to 65535)",
            "   29 | weight = -1",
            "      |          ^^",
            "shunt.toml:31:11: backend `x` is not an address and port",
            "   31 | address = \"x\"",
            "      |           ^^^",
            "      help: for example 192.0.2.10:80 or [2001:db8::10]:80; names are not resolved",
            "shunt.toml:33:15: connections 1 is out of range (1024 to 4294967294)",
            "   33 | connections = 1",
            "      |               ^",
        ],
    },
];
