//! `sloppy`: where it cannot be had, in which words, and what `[shunt] sloppy` is for.

use super::*;

#[rustfmt::skip]
pub(super) const ROWS: &[Row] = &[
    Row {
        name: "sloppy UDP",
        edit: ("\"udp\"", "\"udp\"\nsloppy = true"),
        says: &[
            "shunt.toml:34:10: `sloppy` is for tcp and sctp: every datagram starts a connection anyway",
            "   34 | sloppy = true",
            "      |          ^^^^",
        ],
    },
    Row {
        name: "sloppy FULL-NAT",
        edit: ("\"tcp\"", "\"tcp\"\nsloppy = true"),
        says: &[
            "shunt.toml:24:10: `sloppy` cannot be had in mode `fullnat`: the backend knows the connection by a local address and port that only the box before could tell",
            "   24 | sloppy = true",
            "      |          ^^^^",
        ],
    },
    Row {
        name: "sloppy and SYN cookies",
        edit: (
            "local_addresses = [\"10.44.0.2\"]",
            "mode = \"nat\"\nsloppy = true\nsyn_cookies = \"always\"",
        ),
        says: &[
            "shunt.toml:26:10: `sloppy` and `syn_cookies` exclude each other: any ACK would make a connection, not only one that brings a cookie",
            "   26 | sloppy = true",
            "      |          ^^^^",
        ],
    },
    Row {
        name: "sloppy and a PROXY header",
        edit: (
            "local_addresses = [\"10.44.0.2\"]",
            "mode = \"nat\"\nsloppy = true\nclient_address = \"proxy-v1\"",
        ),
        says: &[
            "shunt.toml:26:10: `sloppy` and `client_address` exclude each other: only the box that put the header in can tell by how much the numbers behind it are shifted",
            "   26 | sloppy = true",
            "      |          ^^^^",
        ],
    },
];

/// What the TCP and the UDP service of the base are, with this instead of the first one's local
/// addresses.
fn sloppy(everywhere: bool, keys: &str) -> [bool; 2] {
    let text = BASE.replacen("local_addresses = [\"10.44.0.2\"]", keys, 1);
    let text = text.replace("[1, 2]", &format!("[1, 2]\nsloppy = {everywhere}"));
    let services = read(&text).unwrap().plan.services;
    [services[0].sloppy, services[1].sloppy]
}

#[test]
fn sloppy_everywhere_is_for_services_that_can_and_do_not_say_otherwise() {
    let table = [
        (false, "mode = \"nat\"", false),
        (false, "mode = \"nat\"\nsloppy = true", true),
        (true, "mode = \"nat\"", true),
        (true, "mode = \"nat\"\nsloppy = false", false),
        (true, "mode = \"nat\"\nsyn_cookies = \"always\"", false),
        (true, "mode = \"nat\"\nclient_address = \"proxy-v2\"", false),
        (true, "local_addresses = [\"10.44.0.2\"]", false),
        (true, "local_addresses = [\"10.44.0.2\"]\nsloppy = false", false),
    ];
    for (everywhere, keys, expected) in table {
        assert_eq!(sloppy(everywhere, keys), [expected, false], "{everywhere}, {keys}");
    }
}
