//! `[[list]]`, `allow` and `deny`: what is refused, and in which words.

use std::net::IpAddr;

use super::*;

#[rustfmt::skip]
pub(super) const ROWS: &[Row] = &[
    Row {
        name: "a list nobody has",
        edit: (
            "workers = [1, 2]",
            "workers = [1, 2]\ndeny = [\"bots\"]",
        ),
        says: &[
            "shunt.toml:3:9: deny: there is no list `bots`",
            "    3 | deny = [\"bots\"]",
            "      |         ^^^^^^",
            "      help: lists are [[list]] tables with a `name`",
        ],
    },
    Row {
        name: "clients that bring what nobody asks for",
        edit: (
            "address = \"198.51.100.10:80\"",
            "address = \"198.51.100.10:80\"\nclient_address_from = [\"up\"]\nmode = \"dr\"\n[[list]]\nname = \"up\"\nnetworks = []\n[[service]]\nname = \"x\"\nprotocol = \"tcp\"\naddress = \"198.51.100.11:80\"",
        ),
        says: &[
            "shunt.toml:25:23: this does nothing without `client_address`",
            "   25 | client_address_from = [\"up\"]",
            "      |                       ^^^^^^",
            "      help: for example `client_address = \"proxy-v2\"`",
        ],
    },
    Row {
        name: "a list of nothing",
        edit: (
            "[[service]]",
            "[[list]]\nname = \"bots\"\n\n[[service]]",
        ),
        says: &[
            "shunt.toml:21:1: list `bots` has neither `networks` nor a `file` of them",
            "   21 | [[list]]",
            "      | ^^^^^^^^",
        ],
    },
    Row {
        name: "a network with host bits, and none at all",
        edit: (
            "[[service]]",
            "[[list]]\nname = \"bots\"\nnetworks = [\"192.0.2.1/24\", \"bots\"]\n\n[[service]]",
        ),
        says: &[
            "shunt.toml:23:13: `192.0.2.1/24` has bits set beyond its prefix",
            "   23 | networks = [\"192.0.2.1/24\", \"bots\"]",
            "      |             ^^^^^^^^^^^^^^",
            "      help: 192.0.2.0/24 is the network, 192.0.2.1/32 the address alone",
            "shunt.toml:23:29: `bots` is not a network",
            "   23 | networks = [\"192.0.2.1/24\", \"bots\"]",
            "      |                             ^^^^^^",
            "      help: for example 192.0.2.0/24 or 2001:db8::1",
        ],
    },
    Row {
        name: "a name twice",
        edit: (
            "[[service]]",
            "[[list]]\nname = \"a\"\nnetworks = []\n[[list]]\nname = \"a\"\nnetworks = []\n\n[[service]]",
        ),
        says: &[
            "shunt.toml:25:8: list name `a` is used twice",
            "   25 | name = \"a\"",
            "      |        ^^^",
        ],
    },
    Row {
        name: "a file that is not there",
        edit: (
            "[[service]]",
            "[[list]]\nname = \"bots\"\nfile = \"no/such.list\"\n\n[[service]]",
        ),
        says: &[
            "shunt.toml:23:8: list file no/such.list cannot be opened: No such file or \
             directory (os error 2)",
            "   23 | file = \"no/such.list\"",
            "      |        ^^^^^^^^^^^^^^",
        ],
    },
];

/// A configuration with a list file beside it.
fn with_file(networks: &str) -> Result<Reading, ConfigErrors> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("bots.list"), networks).unwrap();
    let text = BASE.replacen(
        "[[service]]",
        "[[list]]\nname = \"bots\"\nnetworks = [\"10.0.0.0/8\"]\nfile = \"bots.list\"\n[[service]]",
        1,
    );
    parse_for(&text, &folder.path().join("shunt.toml"), &Machine::with_cpus(16))
}

#[test]
fn a_list_is_what_is_written_and_what_its_file_says_each_network_once() {
    let text = "# bots\n\n192.0.2.0/24 # a comment\n  203.0.113.7\n2001:db8::/32\n10.0.0.0/8\n";
    let lists = with_file(text).unwrap().plan.lists;
    let network = |base: &str, length| (base.parse::<IpAddr>().unwrap(), length);
    let expected = [
        network("10.0.0.0", 8),
        network("192.0.2.0", 24),
        network("203.0.113.7", 32),
        network("2001:db8::", 32),
    ];
    assert_eq!(lists[0].networks[..], expected);
}

#[test]
fn wrong_lines_of_a_list_file_are_told_with_their_numbers_and_counted() {
    let refusal = with_file("10.1.0.0/16\nx\n\ny\nz\nu\nv\nw\n").unwrap_err();
    let text = refusal.to_string();
    for line in [2, 4, 5, 6, 7] {
        assert!(text.contains(&format!("bots.list:{line}: `")), "{line}: {text}");
    }
    assert!(text.contains("bots.list: and 1 more lines are wrong"), "{text}");
}

#[test]
fn more_networks_than_the_limit_are_refused() {
    let mut many = String::new();
    for n in 0..=limits::NETWORKS {
        writeln!(many, "2001:db8::{:x}:{:x}", n >> 16, n & 0xffff).unwrap();
    }
    let text = with_file(&many).unwrap_err().to_string();
    assert!(text.contains("more than 1048576 networks over all lists"), "{text}");
}
