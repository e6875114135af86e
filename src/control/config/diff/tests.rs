//! What a reload would change, line by line.

use std::path::Path;

use super::*;
use crate::control::config::{Machine, parse_for};
use crate::dataplane::snapshot::{Encapsulation, GueChecksum, Mode};

const BASE: &str = include_str!("../tests/base.toml");

fn plan(text: &str) -> Plan {
    parse_for(text, Path::new("shunt.toml"), &Machine::with_cpus(8)).unwrap().plan
}

/// Edits of the good file, and the difference they make.
struct Row {
    name: &'static str,
    edits: &'static [(&'static str, &'static str)],
    says: &'static [&'static str],
}

const WEB: &str = "address = \"10.44.0.11:8080\"\nweight = 1";

const LOCALS_GO: (&str, &str) = ("80\"\nlocal_addresses = [\"10.44.0.2\"]\n", "80\"\n");

const ROWS: &[Row] = &[
    Row { name: "nothing", edits: &[], says: &[] },
    Row {
        name: "comments, blanks and defaults spelled out",
        edits: &[
            ("weight = 1", "# one\n\n"),
            ("name = \"web\"", "name = \"web\"\nscheduler = \"wrr\"\nmode = \"fullnat\""),
        ],
        says: &[],
    },
    Row {
        name: "a list more, and a service that asks it",
        edits: &[
            (
                "[[service]]",
                "[[list]]\nname = \"bots\"\nnetworks = [\"192.0.2.0/24\"]\n[[service]]",
            ),
            ("protocol = \"tcp\"", "protocol = \"tcp\"\ndeny = [\"bots\"]"),
        ],
        says: &["+ list bots: 1 network", "~ service web: deny [] -> [bots]"],
    },
    Row {
        name: "a weight",
        edits: &[("weight = 1", "weight = 7")],
        says: &["~ service web: backend 10.44.0.11:8080 weight 1 -> 7"],
    },
    Row {
        name: "a drain",
        edits: &[("weight = 1", "weight = 0")],
        says: &["~ service web: backend 10.44.0.11:8080 weight 1 -> 0 (drain)"],
    },
    Row {
        name: "a scheduler with flags, and limits of a backend",
        edits: &[
            (
                "name = \"web\"",
                "name = \"web\"\nscheduler = \"mh\"\nscheduler_flags = [\"mh-port\"]\nmh_slots = 65521",
            ),
            ("weight = 1", "max_connections = 100\nresume_below = 80"),
        ],
        says: &[
            "~ service web: scheduler wrr -> mh",
            "~ service web: scheduler_flags [] -> [mh-port]",
            "~ service web: mh_slots 4093 -> 65521",
            "~ service web: backend 10.44.0.11:8080 max_connections 0 -> 100",
            "~ service web: backend 10.44.0.11:8080 resume_below 0 -> 80",
        ],
    },
    Row {
        name: "a backend of QUIC",
        edits: &[
            ("\"198.51.100.10:53\"", "\"198.51.100.10:53\"\nscheduler = \"qh\""),
            ("\"10.44.0.21:53\"", "\"10.44.0.21:53\"\nquic_server_id = \"0A01\""),
        ],
        says: &[
            "~ service dns: scheduler wrr -> qh",
            "~ service dns: backend 10.44.0.21:53 quic_server_id none -> 0a01",
        ],
    },
    Row {
        name: "a service with all of it",
        edits: &[
            (
                "198.51.100.10:80\"",
                "198.51.100.10:81\"\nscheduler = \"sh\"\nscheduler_flags = [\"sh-port\", \"sh-fallback\"]",
            ),
            ("weight = 1", "max_connections = 100"),
        ],
        says: &[
            "+ service web tcp 198.51.100.10:81, sh (sh-fallback,sh-port), local 10.44.0.2, 1 backend",
            "- service web tcp 198.51.100.10:80, wrr, local 10.44.0.2, 1 backend",
        ],
    },
    Row {
        name: "a backend more",
        edits: &[(
            WEB,
            "address = \"10.44.0.12:8080\"\nweight = 3\n\
             [[service.backend]]\naddress = \"10.44.0.11:8080\"",
        )],
        says: &["+ service web: backend 10.44.0.12:8080 weight 3"],
    },
    Row {
        name: "a mode",
        edits: &[(WEB, "address = \"10.44.0.11:8080\"\nweight = 1\nmode = \"nat\""), LOCALS_GO],
        says: &[
            "~ service web: local_addresses [10.44.0.2] -> []",
            "~ service web: backend 10.44.0.11:8080 mode fullnat -> nat",
        ],
    },
    Row {
        name: "a mode and a weight of a backend",
        edits: &[(WEB, "address = \"10.44.0.11:8080\"\nweight = 0\nmode = \"nat\""), LOCALS_GO],
        says: &[
            "~ service web: local_addresses [10.44.0.2] -> []",
            "~ service web: backend 10.44.0.11:8080 mode fullnat -> nat",
            "~ service web: backend 10.44.0.11:8080 weight 1 -> 0 (drain)",
        ],
    },
    Row {
        name: "a backend more in another mode",
        edits: &[(
            WEB,
            "address = \"10.44.0.12:80\"\nmode = \"tunnel\"\n\
             tunnel = { kind = \"gue\", port = 6080 }\n\
             [[service.backend]]\naddress = \"10.44.0.11:8080\"",
        )],
        says: &["+ service web: backend 10.44.0.12:80 weight 1 mode tunnel gue:6080"],
    },
    Row {
        name: "another service without local addresses, in two modes",
        edits: &[
            LOCALS_GO,
            ("198.51.100.10:80", "198.51.100.10:81"),
            (
                WEB,
                "address = \"10.44.0.11:81\"\nmode = \"dr\"\n\
                 [[service.backend]]\naddress = \"10.44.0.12:81\"\nmode = \"nat\"",
            ),
        ],
        says: &[
            "+ service web tcp 198.51.100.10:81, wrr, 2 backends (dr, nat)",
            "- service web tcp 198.51.100.10:80, wrr, local 10.44.0.2, 1 backend",
        ],
    },
    Row {
        name: "checks that come and go with the kind",
        edits: &[(
            WEB,
            "address = \"10.44.0.11:8080\"\n[[service.backend.check]]\nkind = \"tcp\"\nport = 81\n\
             [[service.check]]\nkind = \"http\"\ninterval_ms = 500",
        )],
        says: &[
            "+ service web: check http GET / every 500 ms",
            "+ service web: backend 10.44.0.11:8080 check tcp port 81 every 2000 ms",
        ],
    },
    Row {
        name: "a backend for another, on the same host",
        edits: &[("10.44.0.11:8080", "10.44.0.11:8081")],
        says: &[
            "+ service web: backend 10.44.0.11:8081 weight 1",
            "- service web: backend 10.44.0.11:8080 weight 1",
        ],
    },
    Row {
        name: "a service's own settings",
        edits: &[
            ("name = \"web\"", "name = \"www\"\nscheduler = \"rr\""),
            ("[\"10.44.0.2\"]", "[\"10.44.0.3\", \"10.44.0.2\"]"),
        ],
        says: &[
            "~ service www: name web -> www",
            "~ service www: scheduler wrr -> rr",
            "~ service www: local_addresses [10.44.0.2] -> [10.44.0.3, 10.44.0.2]",
        ],
    },
    Row {
        name: "further addresses of a service",
        edits: &[(
            "address = \"198.51.100.10:80\"",
            "address = \"198.51.100.10:80\"\nmore_addresses = [\"198.51.100.11:8000-8099\"]\n\
             client_address = \"toa-253\"\nsyn_cookies = { above_per_second = 9 }",
        )],
        says: &[
            "~ service web: more_addresses [] -> [198.51.100.11:8000-8099]",
            "~ service web: client_address none -> toa-253",
            "~ service web: syn_cookies never -> above 9 a second",
        ],
    },
    Row {
        name: "for whom a service is",
        edits: &[(
            "address = \"198.51.100.10:80\"",
            "address = \"198.51.100.10:80\"\nclients = [\"10.0.0.0/8\", \"192.0.2.7\"]",
        )],
        says: &[
            "+ service web tcp 198.51.100.10:80, wrr, clients 10.0.0.0/8 192.0.2.7, \
             local 10.44.0.2, 1 backend",
            "- service web tcp 198.51.100.10:80, wrr, local 10.44.0.2, 1 backend",
        ],
    },
    Row {
        name: "who may come over, and who introduces himself",
        edits: &[(
            "address = \"198.51.100.10:80\"\nlocal_addresses = [\"10.44.0.2\"]",
            "address = \"198.51.100.10:80\"\nmode = \"nat\"\nsloppy = true\n\
             [[list]]\nname = \"up\"\nnetworks = []\n\
             [[service]]\nname = \"new\"\nprotocol = \"tcp\"\naddress = \"198.51.100.11:80\"\n\
             mode = \"nat\"\nclient_address = \"proxy-v2\"\nclient_address_from = [\"up\"]\n\
             syn_cookies = \"always\"\nsyn_cookies_wait_for_data = true\n\
             [[service.backend]]\naddress = \"10.44.0.12:8080\"\n\
             [[service]]\nname = \"newer\"\nprotocol = \"sctp\"\naddress = \"198.51.100.11:80\"\n\
             mode = \"nat\"\nsloppy = true",
        )],
        says: &[
            "+ list up: 0 networks",
            "~ service web: local_addresses [10.44.0.2] -> []",
            "~ service web: sloppy false -> true",
            "- service web: backend 10.44.0.11:8080 weight 1",
            "+ service new tcp 198.51.100.11:80, wrr, proxy-v2 but from up, SYN cookies always \
             until data, 1 backend (nat)",
            "+ service newer sctp 198.51.100.11:80, wrr, sloppy, 1 backend (nat)",
        ],
    },
    Row {
        name: "settings of a service that come and go with others",
        edits: &[
            (
                "address = \"198.51.100.10:80\"",
                "address = \"198.51.100.10:80\"\nclient_address = \"toa\"\n\
             client_address_from = [\"up\"]\nsyn_cookies = \"always\"\n\
             syn_cookies_wait_for_data = true",
            ),
            ("[[service]]", "[[list]]\nname = \"up\"\nnetworks = []\n[[service]]"),
        ],
        says: &[
            "+ list up: 0 networks",
            "~ service web: client_address none -> toa",
            "~ service web: client_address_from [] -> [up]",
            "~ service web: syn_cookies never -> always",
            "~ service web: syn_cookies_wait_for_data false -> true",
        ],
    },
    Row {
        name: "every datagram by itself",
        edits: &[(
            "address = \"198.51.100.10:53\"",
            "address = \"198.51.100.10:53\"\none_packet = true",
        )],
        says: &["~ service dns: one_packet false -> true"],
    },
    Row {
        name: "another service, of IPv6, at several addresses",
        edits: &[(
            "address = \"198.51.100.10:53\"",
            "address = \"[2001:db8::10]:53\"\none_packet = true\n\
             more_addresses = [\"[2001:db8::11]:0\"]\nclient_address = \"proxy-v2\"",
        )],
        says: &[
            "+ service dns udp [2001:db8::10]:53 [2001:db8::11]:0, wrr, one packet, proxy-v2, \
             local 10.44.0.2, 1 backend",
            "- service dns udp 198.51.100.10:53, wrr, local 10.44.0.2, 1 backend",
        ],
    },
    Row {
        name: "another range is another service",
        edits: &[("198.51.100.10:80", "198.51.100.10:80-81")],
        says: &[
            "+ service web tcp 198.51.100.10:80-81, wrr, local 10.44.0.2, 1 backend",
            "- service web tcp 198.51.100.10:80, wrr, local 10.44.0.2, 1 backend",
        ],
    },
    Row {
        name: "another port of the VIP is another service",
        edits: &[("198.51.100.10:80", "198.51.100.10:443")],
        says: &[
            "+ service web tcp 198.51.100.10:443, wrr, local 10.44.0.2, 1 backend",
            "- service web tcp 198.51.100.10:80, wrr, local 10.44.0.2, 1 backend",
        ],
    },
    Row {
        name: "another protocol is another service",
        edits: &[("\"udp\"", "\"tcp\""), ("address = \"10.44.0.21:53\"", WEB)],
        says: &[
            "+ service dns tcp 198.51.100.10:53, wrr, local 10.44.0.2, 1 backend",
            "- service dns udp 198.51.100.10:53, wrr, local 10.44.0.2, 1 backend",
        ],
    },
    Row {
        name: "settings that change at once",
        edits: &[(
            "[dpdk]",
            "drain_deadline_s = 5\nstrays = \"drop\"\nsyn_restarts = \"never\"\nreset_on_end = false\n\
             icmp_on_end = \"never\"\npunt_per_second = 9\nping = \"live\"\ntunnels_ignore_df = true\nlocal_out = true\n\
             directors = [\"10.44.0.3\"]\n\
             [timeouts]\nudp_s = 60\ntcp_none_s = 3\n[dpdk]",
        )],
        says: &[
            "~ [shunt] drain_deadline_s: 30 -> 5",
            "~ [shunt] strays: reject -> drop",
            "~ [shunt] syn_restarts: closed -> never",
            "~ [shunt] reset_on_end: true -> false",
            "~ [shunt] icmp_on_end: always -> never",
            "~ [shunt] ping: always -> live",
            "~ [shunt] tunnels_ignore_df: false -> true",
            "~ [shunt] local_out: false -> true",
            "~ [shunt] directors: [] -> [10.44.0.3]",
            "~ [shunt] punt_per_second: 20000 -> 9",
            "~ [timeouts] tcp_none_s: 2 -> 3",
            "~ [timeouts] udp_s: 300 -> 60",
        ],
    },
    Row {
        name: "a service's own timeouts",
        edits: &[("weight = 1", "[service.timeouts]\ntcp_close_s = 10\ntcp_established_s = 90")],
        says: &[
            "~ service web: tcp_established_s default -> 90",
            "~ service web: tcp_close_s default -> 10",
        ],
    },
    Row {
        name: "settings of the process",
        edits: &[
            (
                "workers = [1, 2]",
                "workers = [2, 1]\ncontrol_core = 0\nbusy_poll = true\nidle_sleep_us = 50\nadmin_socket = \"/x\"\n\
                 [limits]\nconnections = 2048\nconnections_ipv6 = 4096\ncookie_connections = 2048\nlimited_sources = 4096\n\
                 [metrics]\nlisten = \"\"",
            ),
            (
                "memory_mb = 512",
                "memory_mb = 1024\nhuge_pages = \"require\"\nfile_prefix = \"x\"\nsecondary_processes = true\n\
                 eal_arguments = [\"-v\"]\npacket_buffers = 65536",
            ),
        ],
        says: &[
            "! [shunt] workers: [1, 2] -> [2, 1] (needs a restart)",
            "! [shunt] control_core: none -> 0 (needs a restart)",
            "! [shunt] busy_poll: false -> true (needs a restart)",
            "! [shunt] idle_sleep_us: 0 -> 50 (needs a restart)",
            "! [shunt] admin_socket: /run/shunt/admin.sock -> /x (needs a restart)",
            "! [dpdk] huge_pages: auto -> require (needs a restart)",
            "! [dpdk] memory_mb: 512 -> 1024 (needs a restart)",
            "! [dpdk] file_prefix: shunt -> x (needs a restart)",
            "! [dpdk] secondary_processes: false -> true (needs a restart)",
            "! [dpdk] eal_arguments: [] -> [-v] (needs a restart)",
            "! [dpdk] packet_buffers: 32768 -> 65536 (needs a restart)",
            "! [limits] connections: 1000000 -> 2048 (needs a restart)",
            "! [limits] connections_ipv6: 1000000 -> 4096 (needs a restart)",
            "! [limits] cookie_connections: 65536 -> 2048 (needs a restart)",
            "! [limits] limited_sources: 65536 -> 4096 (needs a restart)",
            "! [metrics] listen: 127.0.0.1:9150 -> off (needs a restart)",
        ],
    },
    Row {
        name: "settings of a port",
        edits: &[
            ("0000:3b:00.0", "0000:3b:00.1"),
            (
                "\"192.0.2.1/24\"]",
                "\"192.0.2.2/24\"]\ntap = \"w\"\nmtu = 9000\n\
              rx_descriptors = 512\ntx_descriptors = 2048",
            ),
            ("192.0.2.254", "192.0.2.253"),
        ],
        says: &[
            "! [[port]] wan device: 0000:3b:00.0 -> 0000:3b:00.1 (needs a restart)",
            "! [[port]] wan tap: wan -> w (needs a restart)",
            "! [[port]] wan addresses: [192.0.2.1/24] -> [192.0.2.2/24] (needs a restart)",
            "! [[port]] wan mtu: 1500 -> 9000 (needs a restart)",
            "! [[port]] wan rx_descriptors: 1024 -> 512 (needs a restart)",
            "! [[port]] wan tx_descriptors: 1024 -> 2048 (needs a restart)",
            "! [[port]] wan route: [0.0.0.0/0 via 192.0.2.254] -> [0.0.0.0/0 via 192.0.2.253] \
             (needs a restart)",
        ],
    },
    Row {
        name: "a port that moves from a device to a VLAN",
        edits: &[("device = \"net_tap0,iface=x\"", "on = \"wan\"\nvlan = [200, 100]")],
        says: &[
            "! [[port]] lan device: net_tap0,iface=x -> none (needs a restart)",
            "! [[port]] lan on: none -> wan (needs a restart)",
            "! [[port]] lan vlan: none -> [200, 100] (needs a restart)",
            "! [[port]] lan rx_descriptors: 1024 -> none (needs a restart)",
            "! [[port]] lan tx_descriptors: 1024 -> none (needs a restart)",
        ],
    },
    Row {
        name: "other ports",
        edits: &[("name = \"lan\"", "name = \"inside\"")],
        says: &["! [[port]]: [wan, lan] -> [wan, inside] (needs a restart)"],
    },
];

fn edited(row: &Row) -> Plan {
    let text = row.edits.iter().fold(BASE.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "{}: no {from:?}", row.name);
        text.replacen(from, to, 1)
    });
    plan(&text)
}

#[test]
fn a_difference_is_a_line_and_no_difference_is_none() {
    for row in ROWS {
        let diff = diff(&plan(BASE), &edited(row));
        assert_eq!(diff.to_string().lines().collect::<Vec<_>>(), row.says, "{}", row.name);
        assert_eq!(diff.is_empty(), row.says.is_empty(), "{}", row.name);
    }
}

#[test]
fn a_plan_differs_from_any_other_and_not_from_itself() {
    let plans: Vec<Plan> = ROWS.iter().map(edited).collect();
    for old in &plans {
        for new in &plans {
            assert_eq!(diff(old, new).is_empty(), old == new);
        }
    }
}

#[test]
fn what_needs_a_restart_is_told_apart() {
    let new = BASE.replace("[1, 2]", "[1]\nstrays = \"drop\"").replace("memory_mb = 512", "")
        + "\n[limits]\nconnections = 5000\nconnections_ipv6 = 1000000";
    let diff =
        diff(&plan(BASE), &plan(&new.replace("name = \"lan\"", "name = \"lan\"\nmtu = 600")));
    let notice = diff.restart_notice().unwrap();
    assert_eq!(notice, "needs a restart: [shunt] workers, [limits] connections, [[port]] lan mtu");
    assert_eq!((diff.changes.len(), diff.needs_restart().count()), (4, 3));
    let diff = self::diff(&plan(BASE), &plan(&BASE.replace("weight = 1", "weight = 2")));
    assert_eq!((diff.restart_notice(), diff.needs_restart().count()), (None, 0));
}

#[test]
fn a_reload_makes_exactly_the_changes_that_need_no_restart() {
    let running = plan(BASE);
    for row in ROWS {
        let new = edited(row);
        let all = diff(&running, &new);
        let made = diff(&running, &new.with_fixed_of(&running));
        let expected: Vec<_> = all.changes.into_iter().filter(|c| !c.needs_restart()).collect();
        assert_eq!(made.changes, expected, "{}", row.name);
    }
}

#[test]
fn the_order_of_services_and_backends_in_the_file_is_no_difference() {
    let mut new = plan(BASE);
    new.services.reverse();
    let first = plan(BASE).services[0].backends[0];
    let address = "10.44.0.12:80".parse().unwrap();
    let second = Backend { address, weight: 2, mode: Mode::Nat, ..first };
    let mut old = plan(BASE);
    old.services[0].backends.push(second);
    new.services[1].backends.insert(0, second);
    assert!(diff(&old, &new).is_empty());
}

#[test]
fn as_json_a_change_carries_its_kind_and_values() {
    let new =
        BASE.replace("weight = 1", "weight = 0").replace("198.51.100.10:53", "198.51.100.9:53");
    let json = serde_json::to_value(diff(&plan(BASE), &plan(&new))).unwrap();
    let dns = |change: &str, address: &str| {
        serde_json::json!({
            "change": change,
            "name": "dns",
            "protocol": "udp",
            "address": address,
            "scheduler": "wrr",
            "local_addresses": ["10.44.0.2"],
            "backends": [{ "address": "10.44.0.21:53", "weight": 1, "mode": "fullnat" }],
        })
    };
    let weight = serde_json::json!({
        "change": "backend_weight",
        "service": "web",
        "address": "10.44.0.11:8080",
        "from": 1,
        "to": 0,
    });
    let expected = [
        weight,
        dns("service_added", "198.51.100.9:53"),
        dns("service_removed", "198.51.100.10:53"),
    ];
    assert_eq!(json, serde_json::Value::from(expected.to_vec()));
}

#[test]
fn further_protocols_of_a_service_come_and_go() {
    let more = "address = \"198.51.100.10:80\"\nmore_addresses = [\"udp 198.51.100.10:80\", \"198.51.100.11:80\"]";
    let both = plan(&BASE.replacen("address = \"198.51.100.10:80\"", more, 1));
    let said = diff(&plan(BASE), &both).to_string();
    let change = "more_addresses [] -> [198.51.100.11:80, udp 198.51.100.10:80]";
    assert_eq!(said, format!("~ service web: {change}\n"));
    let mut none = both.clone();
    none.services.retain(|service| service.name != "web");
    let said = diff(&none, &both).to_string();
    let places = "tcp 198.51.100.10:80 198.51.100.11:80 udp 198.51.100.10:80";
    assert_eq!(said, format!("+ service web {places}, wrr, local 10.44.0.2, 1 backend\n"));
}

#[test]
fn further_clients_of_a_service_come_and_go() {
    let with = |more: &str| {
        let clients = format!("address = \"198.51.100.10:80\"\nclients = [\"10.0.0.0/8\"{more}]");
        plan(&BASE.replacen("address = \"198.51.100.10:80\"", &clients, 1))
    };
    let said = diff(&with(""), &with(", \"192.0.2.7\"")).to_string();
    assert_eq!(said, "~ service web: clients [10.0.0.0/8] -> [10.0.0.0/8, 192.0.2.7]\n");
}

#[test]
fn an_edit_of_the_tunnel_is_an_edit_of_the_mode() {
    let with = |mode| {
        let mut plan = plan(BASE);
        plan.services[0].backends[0].mode = mode;
        plan
    };
    let gue = |port, checksum| Mode::Tunnel(Encapsulation::Gue { port, checksum });
    let rows = [
        (Mode::Nat, Mode::Dr, "nat -> dr"),
        (
            Mode::Tunnel(Encapsulation::Ipip),
            gue(1, GueChecksum::Zero),
            "tunnel ipip -> tunnel gue:1",
        ),
        (gue(1, GueChecksum::Zero), gue(2, GueChecksum::Zero), "tunnel gue:1 -> tunnel gue:2"),
        (
            gue(1, GueChecksum::Zero),
            gue(1, GueChecksum::Outer),
            "tunnel gue:1 -> tunnel gue:1 checksum",
        ),
    ];
    for (from, to, change) in rows {
        let said = diff(&with(from), &with(to)).to_string();
        assert_eq!(said, format!("~ service web: backend 10.44.0.11:8080 mode {change}\n"));
    }
    let json = serde_json::to_value(diff(&with(Mode::Nat), &with(Mode::Dr))).unwrap();
    let expected = serde_json::json!([{
        "change": "backend_mode",
        "service": "web",
        "address": "10.44.0.11:8080",
        "from": "nat",
        "to": "dr",
    }]);
    assert_eq!(json, expected);
}

mod checks;
