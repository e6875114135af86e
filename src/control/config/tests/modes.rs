//! Modes and tunnels: what is taken, and what is wrong with the rest.

use super::*;
use crate::dataplane::snapshot::{Encapsulation, GueChecksum};

/// The first backend and all it says, to be edited.
const BACKEND: &str = "address = \"10.44.0.11:8080\"\nweight = 1";
/// The first service's address and local addresses.
const SERVICE: &str = "address = \"198.51.100.10:80\"\nlocal_addresses = [\"10.44.0.2\"]";

#[rustfmt::skip]
pub(super) const ROWS: &[Row] = &[
    Row {
        name: "an unknown mode, and nothing that would follow from it",
        edit: (
            SERVICE,
            "mode = \"tunel\"\ntunnel = { kind = \"gre\" }\naddress = \"198.51.100.10:80\"",
        ),
        says: &[
            "shunt.toml:24:8: unknown value `tunel` for mode; supported: fullnat, nat, dr, tunnel",
            "   24 | mode = \"tunel\"",
            "      |        ^^^^^^^",
            "      help: did you mean `tunnel`?",
        ],
    },
    Row {
        name: "an unknown mode of a backend, and nothing that would follow from it",
        edit: (
            BACKEND,
            "address = \"10.44.0.11:8080\"\nmode = \"route\"\ntunnel = { kind = \"gre\" }",
        ),
        says: &[
            "shunt.toml:29:8: unknown value `route` for mode; supported: fullnat, nat, dr, tunnel",
            "   29 | mode = \"route\"",
            "      |        ^^^^^^^",
        ],
    },
    Row {
        name: "one backend in FULL-NAT among others, and no local address",
        edit: (
            "local_addresses = [\"10.44.0.2\"]\n\n[[service.backend]]\naddress = \"10.44.0.11:8080\"",
            "mode = \"nat\"\n\n[[service.backend]]\naddress = \"10.44.0.12:8080\"\n\
             [[service.backend]]\naddress = \"10.44.0.11:8080\"\nmode = \"fullnat\"",
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
        name: "another port than the service's in dr",
        edit: (
            BACKEND,
            "address = \"10.44.0.11:8080\"\nmode = \"dr\"\n\
             [[service.backend]]\naddress = \"10.44.0.12:80\"",
        ),
        says: &[
            "shunt.toml:28:11: backend 10.44.0.11:8080 has mode `dr`, which keeps the service's \
             port 80",
            "   28 | address = \"10.44.0.11:8080\"",
            "      |           ^^^^^^^^^^^^^^^^^",
            "      help: write `address = \"10.44.0.11:80\"`",
        ],
    },
    Row {
        name: "another port than the service's in a tunnel",
        edit: (
            BACKEND,
            "address = \"10.44.0.11:8080\"\nmode = \"tunnel\"\n\
             [[service.backend]]\naddress = \"10.44.0.12:80\"",
        ),
        says: &[
            "shunt.toml:28:11: backend 10.44.0.11:8080 has mode `tunnel`, which keeps the \
             service's port 80",
            "   28 | address = \"10.44.0.11:8080\"",
            "      |           ^^^^^^^^^^^^^^^^^",
            "      help: write `address = \"10.44.0.11:80\"`",
        ],
    },
    Row {
        name: "tunnel settings of a service without tunnels",
        edit: (
            "80\"\nlocal_addresses = [\"10.44.0.2\"]\n",
            "80\"\nlocal_addresses = [\"10.44.0.2\"]\n[service.tunnel]\nkind = \"gre\"\n",
        ),
        says: &[
            "shunt.toml:26:1: service `web` has tunnel settings and nothing of mode `tunnel`",
            "   26 | [service.tunnel]",
            "      | ^^^^^^^^^^^^^^^^",
            "      help: write `mode = \"tunnel\"`, or remove them",
        ],
    },
    Row {
        name: "tunnel settings of a backend in another mode",
        edit: (
            BACKEND,
            "address = \"10.44.0.11:8080\"\n[service.backend.tunnel]\nkind = \"gre\"",
        ),
        says: &[
            "shunt.toml:29:1: backend 10.44.0.11:8080 has tunnel settings and mode `fullnat`",
            "   29 | [service.backend.tunnel]",
            "      | ^^^^^^^^^^^^^^^^^^^^^^^^",
            "      help: write `mode = \"tunnel\"`, or remove them",
        ],
    },
    Row {
        name: "an unknown kind of tunnel, and nothing that would follow from it",
        edit: (
            BACKEND,
            "address = \"10.44.0.11:80\"\nmode = \"tunnel\"\n\
             tunnel = { kind = \"vxlan\", port = 0 }\n\
             [[service.backend]]\naddress = \"10.44.0.12:80\"",
        ),
        says: &[
            "shunt.toml:30:19: unknown value `vxlan` for kind; supported: ipip, gue, gre",
            "   30 | tunnel = { kind = \"vxlan\", port = 0 }",
            "      |                   ^^^^^^^",
        ],
    },
    Row {
        name: "GUE without a port",
        edit: (
            BACKEND,
            "address = \"10.44.0.11:80\"\nmode = \"tunnel\"\ntunnel = { kind = \"gue\" }\n\
             [[service.backend]]\naddress = \"10.44.0.12:80\"",
        ),
        says: &[
            "shunt.toml:30:10: a tunnel of kind `gue` needs a port",
            "   30 | tunnel = { kind = \"gue\" }",
            "      |          ^^^^^^^^^^^^^^^^",
            "      help: for example `port = 6080`, where the backends listen for it",
        ],
    },
    Row {
        name: "GUE to port 0",
        edit: (
            BACKEND,
            "address = \"10.44.0.11:80\"\nmode = \"tunnel\"\n\
             tunnel = { kind = \"gue\", port = 0 }\n\
             [[service.backend]]\naddress = \"10.44.0.12:80\"",
        ),
        says: &[
            "shunt.toml:30:33: port 0 is out of range (1 to 65535)",
            "   30 | tunnel = { kind = \"gue\", port = 0 }",
            "      |                                 ^",
        ],
    },
    Row {
        name: "a port for a tunnel that has none",
        edit: (
            BACKEND,
            "address = \"10.44.0.11:80\"\nmode = \"tunnel\"\n\
             tunnel = { kind = \"gre\", port = 6080 }\n\
             [[service.backend]]\naddress = \"10.44.0.12:80\"",
        ),
        says: &[
            "shunt.toml:30:33: `port` is of kind `gue` only: the others have none",
            "   30 | tunnel = { kind = \"gre\", port = 6080 }",
            "      |                                 ^^^^",
        ],
    },
    Row {
        name: "a checksum for the tunnel that has none, which is the default",
        edit: (
            BACKEND,
            "address = \"10.44.0.11:80\"\nmode = \"tunnel\"\ntunnel = { checksum = false }\n\
             [[service.backend]]\naddress = \"10.44.0.12:80\"",
        ),
        says: &[
            "shunt.toml:30:23: `checksum` is of kinds `gue` and `gre` only: `ipip` has none",
            "   30 | tunnel = { checksum = false }",
            "      |                       ^^^^^",
        ],
    },
    Row {
        name: "an unknown key of a tunnel",
        edit: (
            BACKEND,
            "address = \"10.44.0.11:80\"\nmode = \"tunnel\"\n[service.backend.tunnel]\nkey = 7",
        ),
        says: &[
            "shunt.toml:31:1: unknown key `key`; known keys here: kind, port, checksum, \
             remote_checksum",
            "   31 | key = 7",
            "      | ^^^",
        ],
    },
];

/// The modes of the first service's backends in a file whose first service is this.
fn modes(service: &str) -> Vec<Mode> {
    let (head, _) = BASE.split_once("[[service]]").unwrap();
    let name = "[[service]]\nname = \"web\"\nprotocol = \"tcp\"\naddress = \"198.51.100.10:80\"\n";
    let reading = read(&format!("{head}{name}{service}")).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(reading.warnings, Vec::<String>::new(), "{service}");
    reading.plan.services[0].backends.iter().map(|backend| backend.mode).collect()
}

/// A backend at the service's port with further keys.
fn backend(number: u8, keys: &str) -> String {
    format!("[[service.backend]]\naddress = \"10.44.0.{number}:80\"\n{keys}\n")
}

#[test]
fn a_backends_own_mode_and_tunnel_hold_over_its_services() {
    let gue = |port, checksum| Mode::Tunnel(Encapsulation::Gue { port, checksum });
    let gre = |checksum| Mode::Tunnel(Encapsulation::Gre { checksum });
    let ipip = Mode::Tunnel(Encapsulation::Ipip);
    let plain = backend(11, "");
    let locals = "local_addresses = [\"10.44.0.2\"]";
    let table: [(String, Vec<Mode>); 9] = [
        (format!("{locals}\n{plain}"), vec![Mode::Fullnat]),
        (format!("mode = \"nat\"\n{plain}"), vec![Mode::Nat]),
        (format!("mode = \"dr\"\n{plain}"), vec![Mode::Dr]),
        (format!("mode = \"tunnel\"\n{plain}"), vec![ipip]),
        (
            format!(
                "mode = \"tunnel\"\n[service.tunnel]\nkind = \"gre\"\nchecksum = true\n{plain}"
            ),
            vec![gre(true)],
        ),
        (
            format!(
                "{locals}\nmode = \"nat\"\n{plain}{}{}{}",
                backend(12, "mode = \"dr\""),
                backend(13, "mode = \"fullnat\""),
                backend(14, "mode = \"tunnel\"\n[service.backend.tunnel]\nkind = \"gre\""),
            ),
            vec![Mode::Nat, Mode::Dr, Mode::Fullnat, gre(false)],
        ),
        // The service's table is for whoever tunnels, though the service itself does not.
        (
            format!(
                "mode = \"dr\"\n[service.tunnel]\nkind = \"gue\"\nport = 6080\n{plain}{}",
                backend(12, "mode = \"tunnel\""),
            ),
            vec![Mode::Dr, gue(6080, GueChecksum::Zero)],
        ),
        // A backend's own table is taken whole: nothing of the service's shines through.
        (
            format!(
                "mode = \"tunnel\"\n[service.tunnel]\nkind = \"gue\"\nport = 6080\n\
                 checksum = true\n{plain}{}{}",
                backend(12, "tunnel = { kind = \"gue\", port = 7 }"),
                backend(13, "tunnel = {}"),
            ),
            vec![gue(6080, GueChecksum::Outer), gue(7, GueChecksum::Zero), ipip],
        ),
        ("mode = \"tunnel\"\ntunnel = { kind = \"ipip\" }\n".to_owned() + &plain, vec![ipip]),
    ];
    for (service, expected) in table {
        assert_eq!(modes(&service), expected, "{service}");
    }
}

#[test]
fn any_port_will_do_where_ports_are_rewritten() {
    let text = BASE.replace("local_addresses = [\"10.44.0.2\"]", "mode = \"nat\"");
    let services = read(&text).unwrap().plan.services;
    assert_eq!(services[0].backends[0].address.port(), 8080);
    assert!(services.iter().all(|service| service.local_addresses.is_empty()));
}
