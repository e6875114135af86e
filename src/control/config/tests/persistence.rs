//! `persistence_…`: what is refused, and in which words.

use super::Row;

#[rustfmt::skip]
pub(super) const ROWS: &[Row] = &[
    Row {
        name: "a client remembered for less than living connections say so again",
        edit: ("address = \"198.51.100.10:80\"", "address = \"198.51.100.10:80\"\npersistence_s = 19"),
        says: &[
            "shunt.toml:25:17: persistence_s 19 is out of range (20 to 2073600)",
            "   25 | persistence_s = 19",
            "      |                 ^^",
        ],
    },
    Row {
        name: "a client remembered for longer than a worker's clock can tell",
        edit: ("address = \"198.51.100.10:80\"", "address = \"198.51.100.10:80\"\npersistence_s = 2073601"),
        says: &[
            "shunt.toml:25:17: persistence_s 2073601 is out of range (20 to 2073600)",
            "   25 | persistence_s = 2073601",
            "      |                 ^^^^^^^",
        ],
    },
    Row {
        name: "a network of clients longer than an address",
        edit: ("address = \"198.51.100.10:80\"", "address = \"198.51.100.10:80\"\npersistence_s = 360\npersistence_prefix = 33"),
        says: &[
            "shunt.toml:26:22: persistence_prefix 33 is out of range (0 to 32)",
            "   26 | persistence_prefix = 33",
            "      |                      ^^",
        ],
    },
    Row {
        name: "a network of clients nobody remembers",
        edit: ("address = \"198.51.100.10:80\"", "address = \"198.51.100.10:80\"\npersistence_prefix = 24"),
        says: &[
            "shunt.toml:25:22: this does nothing without `persistence_s`",
            "   25 | persistence_prefix = 24",
            "      |                      ^^",
            "      help: for example `persistence_s = 360`",
        ],
    },
    Row {
        name: "drained backends for clients nobody remembers",
        edit: ("address = \"198.51.100.10:80\"", "address = \"198.51.100.10:80\"\npersistence_to_drained = true"),
        says: &[
            "shunt.toml:25:26: this does nothing without `persistence_s`",
            "   25 | persistence_to_drained = true",
            "      |                          ^^^^",
            "      help: for example `persistence_s = 360`",
        ],
    },
];
