//! `clients` of a service: what is refused, and in which words; what may stand side by side.

use super::*;
use crate::control::config::plan::ClientGroup;

#[rustfmt::skip]
pub(super) const ROWS: &[Row] = &[
    Row {
        name: "clients on a list nobody has",
        edit: (
            "address = \"198.51.100.10:80\"",
            "address = \"198.51.100.10:80\"\nclients = [\"offlce\"]\nmode = \"dr\"\n[[list]]\nname = \"office\"\nnetworks = []\n[[service]]\nname = \"x\"\nprotocol = \"tcp\"\naddress = \"198.51.100.10:80\"",
        ),
        says: &[
            "shunt.toml:25:12: clients: there is no list `offlce`",
            "   25 | clients = [\"offlce\"]",
            "      |            ^^^^^^^^",
            "      help: did you mean `office`?",
        ],
    },
    Row {
        name: "clients that are neither a network nor a list",
        edit: (
            "address = \"198.51.100.10:80\"",
            "address = \"198.51.100.10:80\"\nclients = [\"10.0.0.1/8\", \"10.0.0/8\", \"friends\", \"\"]",
        ),
        says: &[
            "shunt.toml:25:12: clients: `10.0.0.1/8` has bits set beyond its prefix",
            "   25 | clients = [\"10.0.0.1/8\", \"10.0.0/8\", \"friends\", \"\"]",
            "      |            ^^^^^^^^^^^^",
            "      help: 10.0.0.0/8 is the network, 10.0.0.1/32 the address alone",
            "shunt.toml:25:26: clients: `10.0.0/8` is not a network",
            "   25 | clients = [\"10.0.0.1/8\", \"10.0.0/8\", \"friends\", \"\"]",
            "      |                          ^^^^^^^^^^",
            "      help: for example 192.0.2.0/24 or 2001:db8::1",
            "shunt.toml:25:38: clients: there is no list `friends`",
            "   25 | clients = [\"10.0.0.1/8\", \"10.0.0/8\", \"friends\", \"\"]",
            "      |                                      ^^^^^^^^^",
            "      help: a network, or a [[list]] with that `name`",
            "shunt.toml:25:49: clients: `` is not a network",
            "   25 | clients = [\"10.0.0.1/8\", \"10.0.0/8\", \"friends\", \"\"]",
            "      |                                                 ^^",
            "      help: for example 192.0.2.0/24 or 2001:db8::1",
        ],
    },
    Row {
        name: "clients of the other family, and the same twice",
        edit: (
            "address = \"198.51.100.10:80\"",
            "address = \"198.51.100.10:80\"\nclients = [\"2001:db8::/32\", \"10.0.0.7\", \"10.0.0.7/32\"]",
        ),
        says: &[
            "shunt.toml:25:12: clients: 2001:db8::/32 is IPv6, and this service's address is IPv4",
            "   25 | clients = [\"2001:db8::/32\", \"10.0.0.7\", \"10.0.0.7/32\"]",
            "      |            ^^^^^^^^^^^^^^^",
            "shunt.toml:25:41: clients: 10.0.0.7 is listed twice",
            "   25 | clients = [\"2001:db8::/32\", \"10.0.0.7\", \"10.0.0.7/32\"]",
            "      |                                         ^^^^^^^^^^^^^",
        ],
    },
];

/// The good file's first service, and another at the same place, with these further lines.
fn two(first: &str, second: &str) -> String {
    let lists = "[[list]]\nname = \"office\"\nnetworks = [\"10.1.0.0/16\", \"192.0.2.7\"]\n\
                 [[list]]\nname = \"lab\"\nnetworks = [\"10.2.0.0/16\", \"192.0.2.7\"]\n\
                 [[list]]\nname = \"empty\"\nnetworks = []\n";
    let web = "[[service]]\nname = \"web\"\nprotocol = \"tcp\"\naddress = \"198.51.100.10:80\"\n";
    let other = format!(
        "[[service]]\nname = \"own\"\nprotocol = \"tcp\"\nlocal_addresses = [\"10.44.0.2\"]\n\
         {second}\n[[service.backend]]\naddress = \"10.44.0.12:8080\"\n"
    );
    BASE.replacen(web, &format!("{lists}{other}{web}{first}\n"), 1)
}

#[test]
fn services_at_one_place_must_have_no_network_of_clients_in_common() {
    let all = "address = \"198.51.100.10:0\"";
    let same = "address = \"198.51.100.10:80\"";
    let meets = "address = \"198.51.100.10:70-90\"\nmore_addresses = [\"198.51.100.10:60-79\"]";
    let too = |of| format!("tcp 198.51.100.10:80 is the address of service `own` too{of}");
    let table = [
        ("", same, "clients = [\"10.0.0.0/8\"]", None),
        ("clients = [\"10.0.0.0/8\"]", same, "clients = [\"10.0.0.0/9\"]", None),
        ("clients = [\"0.0.0.0/0\"]", same, "", None),
        ("clients = [\"office\"]", same, "clients = [\"10.0.0.0/8\", \"10.1.1.0/24\"]", None),
        ("clients = [\"10.0.0.0/8\"]", all, "clients = [\"10.0.0.0/8\"]", None),
        ("clients = [\"empty\"]", same, "clients = [\"office\"]", None),
        ("clients = []", same, "clients = [\"office\"]", None),
        ("", same, "", Some(too(""))),
        (
            "clients = [\"192.0.2.0/24\", \"10.0.0.0/8\"]",
            same,
            "clients = [\"10.0.0.0/8\"]",
            Some(too(", for clients of 10.0.0.0/8")),
        ),
        (
            "clients = [\"office\"]",
            same,
            "clients = [\"10.1.0.0/16\"]",
            Some(too(", for clients of 10.1.0.0/16")),
        ),
        (
            "clients = [\"office\"]",
            same,
            "clients = [\"lab\"]",
            Some(too(", for clients of 192.0.2.7")),
        ),
        // Two of one name are one service to a reload.
        (
            "clients = [\"empty\"]",
            same,
            "clients = [\"empty\"]",
            Some(too(", for clients of empty")),
        ),
        (
            "clients = [\"10.0.0.0/8\"]",
            meets,
            "clients = [\"10.0.0.0/8\"]",
            Some(
                "tcp 198.51.100.10:60-79 overlaps 198.51.100.10:70-90 of service `own`, and \
                 neither lies inside the other, for clients of 10.0.0.0/8"
                    .into(),
            ),
        ),
    ];
    for (web, address, own, expected) in table {
        let text = two(web, &format!("{address}\n{own}"));
        let said = read(&text).map_or_else(|errors| errors.to_string(), |_| String::new());
        match &expected {
            Some(expected) => {
                assert!(said.contains(expected.as_str()), "{web} {own}: {said}");
                assert_eq!(said.matches("shunt.toml:").count(), 1, "{web} {own}: {said}");
            }
            None => assert_eq!(said, "", "{web} {own}"),
        }
    }
}

#[test]
fn networks_addresses_and_lists_are_read_as_written() {
    let text = two(
        "clients = [\"192.0.2.8\", \"10.0.0.0/8\", \"office\"]",
        "address = \"198.51.100.9:80\"",
    );
    let plan = read(&text).unwrap().plan;
    let clients = &plan.services[1].clients;
    let network = |text: &str, length| ClientGroup::Network(text.parse().unwrap(), length);
    let list = ClientGroup::List("office".into());
    assert_eq!(*clients, [network("192.0.2.8", 32), network("10.0.0.0", 8), list]);
    let shown: Vec<_> = clients.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["192.0.2.8", "10.0.0.0/8", "office"]);
}

#[test]
fn more_clients_than_the_limit_belong_on_a_list() {
    let many: Vec<_> = (0..65).map(|n| format!("\"10.0.{n}.0/24\"")).collect();
    let text = two(&format!("clients = [{}]", many.join(", ")), "address = \"198.51.100.9:80\"");
    let said = refusal(&text);
    assert!(said.contains("more than 64 networks and lists in one `clients`"), "{said}");
    assert!(said.contains("help: a [[list]] holds as many as are needed"), "{said}");
}
