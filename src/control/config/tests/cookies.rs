//! `syn_cookies`: what is refused, and in which words.

use super::Row;

#[rustfmt::skip]
pub(super) const ROWS: &[Row] = &[
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
        name: "waiting for data without cookies",
        edit: (
            "address = \"198.51.100.10:80\"",
            "address = \"198.51.100.10:80\"\nsyn_cookies_wait_for_data = true",
        ),
        says: &[
            "shunt.toml:25:29: this does nothing without `syn_cookies`",
            "   25 | syn_cookies_wait_for_data = true",
            "      |                             ^^^^",
            "      help: \"never\", \"always\" or { above_per_second = 1000 }",
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
];
