//! What does not fit the schema: syntax, unknown and missing keys, wrong types.

use super::Row;

#[rustfmt::skip]
pub(super) const ROWS: &[Row] = &[
    Row {
        name: "an unknown key of a backend",
        edit: (
            "weight = 1",
            "wieght = 1",
        ),
        says: &[
            "shunt.toml:29:1: unknown key `wieght`; known keys here: address, weight, max_connections, resume_below, \
             quic_server_id, mode, tunnel, sorry, check",
            "   29 | wieght = 1",
            "      | ^^^^^^",
            "      help: did you mean `weight`?",
        ],
    },
    Row {
        name: "an unknown key of a service",
        edit: (
            "protocol = \"tcp\"",
            "protocoll = \"tcp\"",
        ),
        says: &[
            "shunt.toml:23:1: unknown key `protocoll`; known keys here: name, protocol, \
             address, more_addresses, clients, mode, tunnel, scheduler, scheduler_flags, \
             mh_slots, local_addresses, one_packet, sloppy, client_address, \
             client_address_from, persistence_s, persistence_prefix, persistence_to_drained, \
             allow, deny, syn_cookies, syn_cookies_wait_for_data, \
             max_connections, max_new_per_second, max_new_burst, source_prefix, \
             source_max_connections, source_max_new_per_second, source_max_new_burst, \
             udp_reflection_ports, timeouts, health, check, backend",
            "   23 | protocoll = \"tcp\"",
            "      | ^^^^^^^^^",
            "      help: did you mean `protocol`?",
        ],
    },
    Row {
        name: "an unknown key of a list",
        edit: (
            "[[service]]",
            "[[list]]\nname = \"bots\"\nnetwork = []\n[[service]]",
        ),
        says: &[
            "shunt.toml:23:1: unknown key `network`; known keys here: name, networks, file",
            "   23 | network = []",
            "      | ^^^^^^^",
            "      help: did you mean `networks`?",
        ],
    },
    Row {
        name: "an unknown key of a port",
        edit: (
            "device = \"0000:3b:00.0\"",
            "pci = \"0000:3b:00.0\"",
        ),
        says: &[
            "shunt.toml:9:1: unknown key `pci`; known keys here: name, device, on, vlan, tap, \
             addresses, mtu, rx_descriptors, tx_descriptors, route",
            "    9 | pci = \"0000:3b:00.0\"",
            "      | ^^^",
        ],
    },
    Row {
        name: "an unknown key of a route",
        edit: (
            "via = \"192.0.2.254\"",
            "gw = \"192.0.2.254\"",
        ),
        says: &[
            "shunt.toml:14:1: unknown key `gw`; known keys here: to, via",
            "   14 | gw = \"192.0.2.254\"",
            "      | ^^",
        ],
    },
    Row {
        name: "an unknown key of [shunt]",
        edit: (
            "workers = [1, 2]",
            "worker = [1, 2]",
        ),
        says: &[
            "shunt.toml:2:1: unknown key `worker`; known keys here: workers, control_core, \
             busy_poll, idle_sleep_us, admin_socket, drain_deadline_s, strays, drop_malformed_tcp, \
             udp_reflection_ports, syn_restarts, reset_on_end, icmp_on_end, ping, \
             tunnels_ignore_df, sloppy, local_out, directors, punt_per_second, deny",
            "    2 | worker = [1, 2]",
            "      | ^^^^^^",
            "      help: did you mean `workers`?",
        ],
    },
    Row {
        name: "an unknown key of [dpdk]",
        edit: (
            "memory_mb = 512",
            "memory = 512",
        ),
        says: &[
            "shunt.toml:5:1: unknown key `memory`; known keys here: huge_pages, memory_mb, \
             file_prefix, secondary_processes, eal_arguments, packet_buffers",
            "    5 | memory = 512",
            "      | ^^^^^^",
            "      help: did you mean `memory_mb`?",
        ],
    },
    Row {
        name: "an unknown table",
        edit: (
            "[dpdk]",
            "[dpkd]",
        ),
        says: &[
            "shunt.toml:4:2: unknown key `dpkd`; known keys here: shunt, dpdk, limits, \
             metrics, admin, timeouts, port, list, service",
            "    4 | [dpkd]",
            "      |  ^^^^",
            "      help: did you mean `dpdk`?",
        ],
    },
    Row {
        name: "a missing key of a service",
        edit: (
            "protocol = \"tcp\"\n",
            "",
        ),
        says: &[
            "shunt.toml:21:1: missing key `protocol`",
            "   21 | [[service]]",
            "      | ^^^^^^^^^^^",
        ],
    },
    Row {
        name: "a missing key of a port",
        edit: (
            "device = \"0000:3b:00.0\"\n",
            "",
        ),
        says: &[
            "shunt.toml:8:8: port `wan` has no `device`",
            "    8 | name = \"wan\"",
            "      |        ^^^^^",
            "      help: or `on` and `vlan`, for the frames of another port with a VLAN tag",
        ],
    },
    Row {
        name: "a missing key of a route",
        edit: (
            "via = \"192.0.2.254\"\n",
            "",
        ),
        says: &[
            "shunt.toml:12:1: missing key `via`",
            "   12 | [[port.route]]",
            "      | ^^^^^^^^^^^^^^",
        ],
    },
    Row {
        name: "a missing key of a backend",
        edit: (
            "address = \"10.44.0.11:8080\"\n",
            "",
        ),
        says: &[
            "shunt.toml:27:1: missing key `address`",
            "   27 | [[service.backend]]",
            "      | ^^^^^^^^^^^^^^^^^^^",
        ],
    },
    Row {
        name: "a key given twice",
        edit: (
            "weight = 1",
            "weight = 1\nweight = 2",
        ),
        says: &[
            "shunt.toml:30:1: duplicate key",
            "   30 | weight = 2",
            "      | ^^^^^^",
        ],
    },
    Row {
        name: "a table given twice",
        edit: (
            "memory_mb = 512",
            "memory_mb = 512\n[shunt]",
        ),
        says: &[
            "shunt.toml:6:2: duplicate key",
            "    6 | [shunt]",
            "      |  ^^^^^",
        ],
    },
    Row {
        name: "a string where a number belongs",
        edit: (
            "weight = 1",
            "weight = \"1\"",
        ),
        says: &[
            "shunt.toml:29:10: expected an integer, found string \"1\"",
            "   29 | weight = \"1\"",
            "      |          ^^^",
        ],
    },
    Row {
        name: "a number where a string belongs",
        edit: (
            "name = \"web\"",
            "name = 7",
        ),
        says: &[
            "shunt.toml:22:8: expected a string in quotes, found integer `7`",
            "   22 | name = 7",
            "      |        ^",
        ],
    },
    Row {
        name: "a number where a list belongs",
        edit: (
            "workers = [1, 2]",
            "workers = 1",
        ),
        says: &[
            "shunt.toml:2:11: expected an array, like [a, b], found integer `1`",
            "    2 | workers = 1",
            "      |           ^",
        ],
    },
    Row {
        name: "a number where a switch belongs",
        edit: (
            "workers = [1, 2]",
            "workers = [1, 2]\nbusy_poll = 1",
        ),
        says: &[
            "shunt.toml:3:13: expected true or false, found integer `1`",
            "    3 | busy_poll = 1",
            "      |             ^",
        ],
    },
    Row {
        name: "a table where a list of tables belongs",
        edit: (
            "[[port.route]]",
            "[port.route]",
        ),
        says: &[
            "shunt.toml:12:1: expected an array of tables, found a table",
            "   12 | [port.route]",
            "      | ^^^^^^^^^^^^",
            "      help: write the header in two brackets: [[...]]",
        ],
    },
    Row {
        name: "a number where a table belongs",
        edit: (
            "[shunt]",
            "timeouts = 512\n[shunt]",
        ),
        says: &[
            "shunt.toml:1:12: expected a table, found integer `512`",
            "    1 | timeouts = 512",
            "      |            ^^^",
        ],
    },
    Row {
        name: "a known key in the wrong table",
        edit: (
            "workers = [1, 2]",
            "workers = [1, 2]\nmemory_mb = 512",
        ),
        says: &[
            "shunt.toml:3:1: unknown key `memory_mb`; known keys here: workers, \
             control_core, busy_poll, idle_sleep_us, admin_socket, drain_deadline_s, strays, drop_malformed_tcp, \
             udp_reflection_ports, syn_restarts, reset_on_end, icmp_on_end, ping, \
             tunnels_ignore_df, sloppy, local_out, directors, punt_per_second, deny",
            "    3 | memory_mb = 512",
            "      | ^^^^^^^^^",
            "      help: `memory_mb` belongs to [dpdk]",
        ],
    },
    Row {
        name: "a number beyond 63 bits",
        edit: (
            "weight = 1",
            "weight = 9223372036854775808",
        ),
        says: &[
            "shunt.toml:29:10: expected an integer of at most 64 bits, found integer \
             `9223372036854775808`",
            "   29 | weight = 9223372036854775808",
            "      |          ^^^^^^^^^^^^^^^^^^^",
        ],
    },
    Row {
        name: "a fraction where an integer belongs",
        edit: (
            "weight = 1",
            "weight = 1.5",
        ),
        says: &[
            "shunt.toml:29:10: expected an integer, found floating point `1.5`",
            "   29 | weight = 1.5",
            "      |          ^^^",
        ],
    },
    Row {
        name: "a number beyond 64 bits",
        edit: (
            "weight = 1",
            "weight = 99999999999999999999",
        ),
        says: &[
            "shunt.toml:29:10: expected an integer of at most 64 bits, found integer \
             `99999999999999999999`",
            "   29 | weight = 99999999999999999999",
            "      |          ^^^^^^^^^^^^^^^^^^^^",
        ],
    },
    Row {
        name: "a missing value",
        edit: (
            "weight = 1",
            "weight =",
        ),
        says: &[
            "shunt.toml:29:9: string values must be quoted, expected literal string",
            "   29 | weight =",
            "      |         ^",
        ],
    },
    Row {
        name: "a string that does not end",
        edit: (
            "name = \"web\"",
            "name = \"web",
        ),
        says: &[
            "shunt.toml:22:12: invalid basic string, expected `\"`",
            "   22 | name = \"web",
            "      |            ^",
        ],
    },
    Row {
        name: "a tab, a letter of two bytes and a carriage return before the place",
        edit: (
            "weight = 1",
            "\t\"wäight\" = 1\r",
        ),
        says: &[
            "shunt.toml:29:2: unknown key `wäight`; known keys here: address, weight, max_connections, resume_below, \
             quic_server_id, mode, tunnel, sorry, check",
            "   29 |  \"wäight\" = 1",
            "      |  ^^^^^^^^",
            "      help: did you mean `weight`?",
        ],
    },
    Row {
        name: "a control character",
        edit: (
            "name = \"web\"",
            "name = \"we\x1b[31mb\"",
        ),
        says: &[
            "shunt.toml:22:11: invalid basic string, expected non-double-quote visible \
             characters, `\\`",
            "   22 | name = \"we�[31mb\"",
            "      |           ^",
        ],
    },
    Row {
        name: "an escaped control character in a key",
        edit: (
            "weight = 1",
            "\"we\\u001b[31might\" = 1",
        ),
        says: &[
            "shunt.toml:29:1: unknown key `we�[31might`; known keys here: address, weight, max_connections, resume_below, \
             quic_server_id, mode, tunnel, sorry, check",
            "   29 | \"we\\u001b[31might\" = 1",
            "      | ^^^^^^^^^^^^^^^^^^",
        ],
    },
];
