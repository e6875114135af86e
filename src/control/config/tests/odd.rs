//! What is used all the same, with a warning.

use super::Row;

#[rustfmt::skip]
pub(super) const ROWS: &[Row] = &[
    Row {
        name: "two workers on one CPU",
        edit: (
            "workers = [1, 2]",
            "workers = [1, 2, 1]",
        ),
        says: &[
            "shunt.toml:2:18: warning: CPU 1 carries another worker too: for tests, both are slow",
            "    2 | workers = [1, 2, 1]",
            "      |                  ^",
        ],
    },
    Row {
        name: "a control core that carries a worker",
        edit: (
            "workers = [1, 2]",
            "workers = [1, 2]\ncontrol_core = 1",
        ),
        says: &[
            "shunt.toml:3:16: warning: CPU 1 carries a worker too: control will be slow \
             under load",
            "    3 | control_core = 1",
            "      |                ^",
        ],
    },
    Row {
        name: "buffers that may run out",
        edit: (
            "memory_mb = 512",
            "packet_buffers = 8703",
        ),
        says: &[
            "shunt.toml:5:18: warning: packet_buffers 8703 may run out: 2 ports with 2 \
             queues each can hold 8704 at once",
            "    5 | packet_buffers = 8703",
            "      |                  ^^^^",
        ],
    },
    Row {
        name: "a service without backends",
        edit: (
            "\n[[service.backend]]\naddress = \"10.44.0.21:53\"\n",
            "",
        ),
        says: &[
            "shunt.toml:31:1: warning: service `dns` has no backends: it refuses everybody",
            "   31 | [[service]]",
            "      | ^^^^^^^^^^^",
        ],
    },
    Row {
        name: "local addresses and nothing in FULL-NAT",
        edit: (
            "80\"\nlocal_addresses = [\"10.44.0.2\"]",
            "80\"\nmode = \"nat\"\nlocal_addresses = [\"10.44.0.2\"]",
        ),
        says: &[
            "shunt.toml:26:19: warning: nothing of service `web` has mode `fullnat`: these are \
             not used",
            "   26 | local_addresses = [\"10.44.0.2\"]",
            "      |                   ^^^^^^^^^^^^^",
        ],
    },
    Row {
        name: "a VIP that is a port's address",
        edit: (
            "198.51.100.10:80",
            "192.0.2.1:80",
        ),
        says: &[
            "shunt.toml:24:11: warning: VIP 192.0.2.1 is a port's address too: ssh and the \
             like to it will not reach this host",
            "   24 | address = \"192.0.2.1:80\"",
            "      |           ^^^^^^^^^^^^^^",
        ],
    },
    Row {
        name: "a local address that is a port's address",
        edit: (
            "80\"\nlocal_addresses = [\"10.44.0.2\"]",
            "80\"\nlocal_addresses = [\"10.44.0.1\"]",
        ),
        says: &[
            "shunt.toml:25:20: warning: local address 10.44.0.1 is a port's address too: ssh \
             and the like to it will not reach this host",
            "   25 | local_addresses = [\"10.44.0.1\"]",
            "      |                    ^^^^^^^^^^^",
        ],
    },
    Row {
        name: "a port without an address",
        edit: (
            "addresses = [\"10.44.0.1/24\"]",
            "addresses = []",
        ),
        says: &[
            "shunt.toml:17:8: warning: port `lan` has no address: nothing is reached through it but by routes made by hand",
            "   17 | name = \"lan\"",
            "      |        ^^^^^",
        ],
    },
    Row {
        name: "a service whose connections come by cookies, and fewer of those than there may be",
        edit: ("address = \"198.51.100.10:80\"", "address = \"198.51.100.10:80\"\nsyn_cookies = \"always\""),
        says: &[
            "shunt.toml:25:15: warning: every connection of this service comes by a cookie, but of 1000000 that may live only 65536 may have come so, of all services: then SYNs are dropped; `cookie_connections` in [limits] is how many",
            "   25 | syn_cookies = \"always\"",
            "      |               ^^^^^^^^",
        ],
    },
];
