//! What is wrong with the process and its limits.

use super::Row;

#[rustfmt::skip]
pub(super) const ROWS: &[Row] = &[
    Row {
        name: "no [shunt] at all",
        edit: (
            "[shunt]\nworkers = [1, 2]\n",
            "",
        ),
        says: &[
            "shunt.toml: no workers: `workers` names the CPU of each",
            "      help: for example `workers = [1, 2]` under [shunt]; `lscpu -e` lists the \
             CPUs",
        ],
    },
    Row {
        name: "no workers",
        edit: (
            "workers = [1, 2]\n",
            "",
        ),
        says: &[
            "shunt.toml:1:1: no workers: `workers` names the CPU of each",
            "    1 | [shunt]",
            "      | ^^^^^^^",
            "      help: for example `workers = [1, 2]` under [shunt]; `lscpu -e` lists the \
             CPUs",
        ],
    },
    Row {
        name: "an empty list of workers",
        edit: (
            "workers = [1, 2]",
            "workers = []",
        ),
        says: &[
            "shunt.toml:2:11: no workers: this list is empty",
            "    2 | workers = []",
            "      |           ^^",
            "      help: for example `workers = [1, 2]` under [shunt]; `lscpu -e` lists the \
             CPUs",
        ],
    },
    Row {
        name: "a worker CPU that does not exist",
        edit: (
            "workers = [1, 2]",
            "workers = [1, 16]",
        ),
        says: &[
            "shunt.toml:2:15: worker CPU 16 does not exist; CPUs here: 0-15",
            "    2 | workers = [1, 16]",
            "      |               ^^",
        ],
    },
    Row {
        name: "a negative worker CPU",
        edit: (
            "workers = [1, 2]",
            "workers = [-1]",
        ),
        says: &[
            "shunt.toml:2:12: worker -1 is not the number of a CPU",
            "    2 | workers = [-1]",
            "      |            ^^",
        ],
    },
    Row {
        name: "a control core that does not exist",
        edit: (
            "workers = [1, 2]",
            "workers = [1, 2]\ncontrol_core = 19",
        ),
        says: &[
            "shunt.toml:3:16: control_core CPU 19 does not exist; CPUs here: 0-15",
            "    3 | control_core = 19",
            "      |                ^^",
        ],
    },
    Row {
        name: "a relative admin socket",
        edit: (
            "workers = [1, 2]",
            "workers = [1, 2]\nadmin_socket = \"shunt.sock\"",
        ),
        says: &[
            "shunt.toml:3:16: admin_socket `shunt.sock` is not an absolute path",
            "    3 | admin_socket = \"shunt.sock\"",
            "      |                ^^^^^^^^^^^^",
            "      help: for example /run/shunt/admin.sock",
        ],
    },
    Row {
        name: "a drain deadline below zero",
        edit: (
            "workers = [1, 2]",
            "workers = [1, 2]\ndrain_deadline_s = -1",
        ),
        says: &[
            "shunt.toml:3:20: drain_deadline_s -1 is out of range (0 to 86400)",
            "    3 | drain_deadline_s = -1",
            "      |                    ^^",
        ],
    },
    Row {
        name: "an unknown answer to strays",
        edit: (
            "workers = [1, 2]",
            "workers = [1, 2]\nstrays = \"Reject\"",
        ),
        says: &[
            "shunt.toml:3:10: unknown value `Reject` for strays; supported: reject, drop",
            "    3 | strays = \"Reject\"",
            "      |          ^^^^^^^^",
            "      help: did you mean `reject`?",
        ],
    },
    Row {
        name: "a director that is no address",
        edit: (
            "workers = [1, 2]",
            "workers = [1, 2]\ndirectors = [\"box2\"]",
        ),
        says: &[
            "shunt.toml:3:14: director `box2` is not an IP address",
            "    3 | directors = [\"box2\"]",
            "      |              ^^^^^^",
            "      help: for example 192.0.2.10 or 2001:db8::10",
        ],
    },
    Row {
        name: "a director that is this box",
        edit: (
            "workers = [1, 2]",
            "workers = [1, 2]\ndirectors = [\"10.44.0.1\"]",
        ),
        says: &[
            "shunt.toml:3:14: director 10.44.0.1 is a port's address: this host itself",
            "    3 | directors = [\"10.44.0.1\"]",
            "      |              ^^^^^^^^^^^",
        ],
    },
    Row {
        name: "a director behind a router",
        edit: (
            "workers = [1, 2]",
            "workers = [1, 2]\ndirectors = [\"198.51.100.3\"]",
        ),
        says: &[
            "shunt.toml:3:14: director 198.51.100.3 is on no link of this box",
            "    3 | directors = [\"198.51.100.3\"]",
            "      |              ^^^^^^^^^^^^^^",
            "      help: an address in the network of a port's: it is known by what its frames come from",
        ],
    },
    Row {
        name: "no punting at all",
        edit: (
            "workers = [1, 2]",
            "workers = [1, 2]\npunt_per_second = 0",
        ),
        says: &[
            "shunt.toml:3:19: punt_per_second 0 is out of range (1 to 10000000)",
            "    3 | punt_per_second = 0",
            "      |                   ^",
        ],
    },
    Row {
        name: "an unknown policy for huge pages",
        edit: (
            "memory_mb = 512",
            "huge_pages = \"yes\"",
        ),
        says: &[
            "shunt.toml:5:14: unknown value `yes` for huge_pages; supported: auto, require, \
             never",
            "    5 | huge_pages = \"yes\"",
            "      |              ^^^^^",
        ],
    },
    Row {
        name: "too little memory",
        edit: (
            "memory_mb = 512",
            "memory_mb = 0",
        ),
        says: &[
            "shunt.toml:5:13: memory_mb 0 is out of range (64 to 1048576)",
            "    5 | memory_mb = 0",
            "      |             ^",
        ],
    },
    Row {
        name: "a file prefix with a slash",
        edit: (
            "memory_mb = 512",
            "file_prefix = \"a/b\"",
        ),
        says: &[
            "shunt.toml:5:15: file_prefix `a/b` is not a name",
            "    5 | file_prefix = \"a/b\"",
            "      |               ^^^^^",
            "      help: use letters, digits, `.`, `_` and `-`",
        ],
    },
    Row {
        name: "secondary processes on pages they may not find",
        edit: (
            "memory_mb = 512",
            "secondary_processes = true",
        ),
        says: &[
            "shunt.toml:5:23: secondary_processes needs huge pages, always",
            "    5 | secondary_processes = true",
            "      |                       ^^^^",
            "      help: set huge_pages = \"require\"",
        ],
    },
    Row {
        name: "fewer buffers than the rings take",
        edit: (
            "memory_mb = 512",
            "packet_buffers = 4096",
        ),
        says: &[
            "shunt.toml:5:18: packet_buffers 4096 is too small: the receive rings take 4096",
            "    5 | packet_buffers = 4096",
            "      |                  ^^^^",
            "      help: 2 ports with 2 queues each: 12288 leaves room to send and hand over",
        ],
    },
    Row {
        name: "too few connections",
        edit: (
            "[dpdk]",
            "[limits]\nconnections = 1023\n[dpdk]",
        ),
        says: &[
            "shunt.toml:5:15: connections 1023 is out of range (1024 to 4294967294)",
            "    5 | connections = 1023",
            "      |               ^^^^",
        ],
    },
    Row {
        name: "more connections than the workers can name",
        edit: (
            "workers = [1, 2]",
            "workers = [1]\n[limits]\nconnections = 2147483648",
        ),
        says: &[
            "shunt.toml:4:15: connections 2147483648 is out of range (1024 to 2147483647)",
            "    4 | connections = 2147483648",
            "      |               ^^^^^^^^^^",
        ],
    },
    Row {
        name: "metrics on no address",
        edit: (
            "[dpdk]",
            "[metrics]\nlisten = \"localhost:9150\"\n[dpdk]",
        ),
        says: &[
            "shunt.toml:5:10: listen `localhost:9150` is not an address and port",
            "    5 | listen = \"localhost:9150\"",
            "      |          ^^^^^^^^^^^^^^^^",
            "      help: for example 127.0.0.1:9150 or [::1]:9150; \"\" turns metrics off",
        ],
    },
    Row {
        name: "metrics on port 0",
        edit: (
            "[dpdk]",
            "[metrics]\nlisten = \"127.0.0.1:0\"\n[dpdk]",
        ),
        says: &[
            "shunt.toml:5:10: listen `127.0.0.1:0` is not an address and port",
            "    5 | listen = \"127.0.0.1:0\"",
            "      |          ^^^^^^^^^^^^^",
            "      help: for example 127.0.0.1:9150 or [::1]:9150; \"\" turns metrics off",
        ],
    },
    Row {
        name: "a timeout of zero",
        edit: (
            "[dpdk]",
            "[timeouts]\nudp_s = 0\n[dpdk]",
        ),
        says: &[
            "shunt.toml:5:9: udp_s 0 is out of range (1 to 2678400)",
            "    5 | udp_s = 0",
            "      |         ^",
        ],
    },
    Row {
        name: "a timeout beyond 31 days",
        edit: (
            "[dpdk]",
            "[timeouts]\ntcp_established_s = 2678401\n[dpdk]",
        ),
        says: &[
            "shunt.toml:5:21: tcp_established_s 2678401 is out of range (1 to 2678400)",
            "    5 | tcp_established_s = 2678401",
            "      |                     ^^^^^^^",
        ],
    },
];
