//! Edits of a small file: what is asked for changes, and nothing else does, comments included.

use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::control::config::diff::diff;
use crate::control::config::{Machine, parse_for};

mod included;
mod places;

const FILE: &str = r#"# The top.
[shunt]
workers = [1]

[[port]]
name = "wan"
device = "net_null0"
tap = "shunt-wan"
addresses = ["192.0.2.1/24"]

# The first service.
[[service]]
name = "web"
protocol = "tcp"
address = "198.51.100.10:80" # where clients go
local_addresses = ["10.44.0.2"]

# A good backend.
[[service.backend]]
address = "10.44.0.11:8080"
weight = 2 # twice

[[service.backend]]
address = "10.44.0.12:8080"

# The second.
[[service]]
name = "dns"
protocol = "udp"
address = "198.51.100.10:53"
mode = "dr"
backend = [{ address = "10.44.0.21:53" }, { address = "10.44.0.22:53", weight = 3 }]

# The end.
"#;

fn plan(text: &str) -> Result<Plan, String> {
    let reading = parse_for(text, Path::new("shunt.toml"), &Machine::with_cpus(4));
    reading.map(|reading| reading.plan).map_err(|errors| errors.to_string())
}

fn edited(edits: &[Edit]) -> Result<String, EditError> {
    apply_to(FILE, &plan(FILE).unwrap(), edits)
}

fn apply_to(text: &str, plan: &Plan, edits: &[Edit]) -> Result<String, EditError> {
    apply(&Files::alone(Path::new("shunt.toml"), text.to_owned()), plan, edits)
}

fn keys(json: &serde_json::Value) -> Keys {
    json.as_object().unwrap().clone()
}

fn web() -> Which {
    Which::Name("web".to_owned())
}

fn at(protocol: &str, address: &str) -> Which {
    Which::Place { protocol: protocol.to_owned(), address: address.to_owned() }
}

fn edit(json: serde_json::Value) -> Edit {
    serde_json::from_value(json).unwrap()
}

/// What `shunt diff` would print after these edits.
fn changes(edits: &[Edit]) -> Vec<String> {
    let text = edited(edits).unwrap();
    let new = plan(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    diff(&plan(FILE).unwrap(), &new).changes.iter().map(ToString::to_string).collect()
}

#[test]
fn without_edits_the_text_is_the_same_to_the_byte() {
    assert_eq!(edited(&[]).unwrap(), FILE);
}

/// Edits, and what `shunt diff` makes of each.
fn each_edit() -> Vec<(Edit, &'static str)> {
    let service = serde_json::json!({
        "protocol": "tcp", "address": "198.51.100.11:443", "mode": "dr", "scheduler": "wlc",
    });
    let backend = serde_json::json!({ "address": "10.44.0.13:8080", "weight": 5 });
    let tunnel = serde_json::json!({
        "address": "10.44.0.13:80", "mode": "tunnel", "tunnel": { "kind": "gue", "port": 6080 },
    });
    vec![
        (
            edit(serde_json::json!({ "edit": "add_service", "keys": service })),
            "+ service tcp-198.51.100.11-443 tcp 198.51.100.11:443, wlc, 0 backends",
        ),
        (
            edit(
                serde_json::json!({ "edit": "edit_service", "service": "web", "keys": { "scheduler": "rr" } }),
            ),
            "~ service web: scheduler wrr -> rr",
        ),
        (
            Edit::DeleteService { service: at("udp", "198.51.100.10:53") },
            "- service dns udp 198.51.100.10:53, wrr, 2 backends (dr)",
        ),
        (
            Edit::AddBackend { service: web(), keys: keys(&backend) },
            "+ service web: backend 10.44.0.13:8080 weight 5",
        ),
        (
            Edit::AddBackend { service: web(), keys: keys(&tunnel) },
            "+ service web: backend 10.44.0.13:80 weight 1 mode tunnel gue:6080",
        ),
        (
            Edit::EditBackend {
                service: web(),
                backend: "10.44.0.11:8080".parse().unwrap(),
                keys: keys(&serde_json::json!({ "weight": 0 })),
            },
            "~ service web: backend 10.44.0.11:8080 weight 2 -> 0 (drain)",
        ),
        (
            Edit::EditBackend {
                service: web(),
                backend: "10.44.0.11:8080".parse().unwrap(),
                keys: keys(&serde_json::json!({ "weight": null })),
            },
            "~ service web: backend 10.44.0.11:8080 weight 2 -> 1",
        ),
        (
            Edit::DeleteBackend {
                service: at("udp", "198.51.100.10:53"),
                backend: "10.44.0.21:53".parse().unwrap(),
            },
            "- service dns: backend 10.44.0.21:53",
        ),
        (
            Edit::AddLocalAddress { service: web(), address: "10.44.0.3".parse().unwrap() },
            "~ service web: local_addresses [10.44.0.2] -> [10.44.0.2, 10.44.0.3]",
        ),
        (
            Edit::SetTimeouts { keys: keys(&serde_json::json!({ "udp_s": 60 })) },
            "~ [timeouts] udp_s: 300 -> 60",
        ),
    ]
}

#[test]
fn each_edit_changes_what_it_says_and_nothing_else() {
    for (edit, expected) in each_edit() {
        let lines = changes(std::slice::from_ref(&edit));
        assert_eq!(lines.len(), 1, "{edit:?}: {lines:?}");
        assert!(lines[0].starts_with(expected), "{} is not {expected}", lines[0]);
        let text = edited(std::slice::from_ref(&edit)).unwrap();
        for comment in
            ["# The top.", "# The first service.", "# A good backend.", "# where clients go"]
        {
            assert!(text.contains(comment), "{edit:?} loses {comment}");
        }
    }
}

#[test]
fn a_value_that_changes_keeps_the_comment_beside_it_and_its_place() {
    let edit = Edit::EditBackend {
        service: web(),
        backend: "10.44.0.11:8080".parse().unwrap(),
        keys: keys(&serde_json::json!({ "weight": 7 })),
    };
    assert_eq!(edited(&[edit]).unwrap(), FILE.replace("weight = 2 # twice", "weight = 7 # twice"));
}

#[test]
fn all_services_may_go_and_others_come() {
    let service =
        serde_json::json!({ "protocol": "sctp", "address": "[2001:db8::10]:5000", "mode": "nat" });
    let backend = serde_json::json!({ "address": "[2001:db8:44::1]:5000" });
    let place = at("sctp", "[2001:db8::10]:5000");
    let edits = [
        Edit::DeleteServices,
        Edit::AddService { keys: keys(&service) },
        Edit::AddBackend { service: place, keys: keys(&backend) },
    ];
    let plan = plan(&edited(&edits).unwrap()).unwrap();
    assert_eq!(plan.services.len(), 1);
    assert_eq!(plan.services[0].name, "sctp-2001-db8--10-5000");
    assert_eq!(plan.services[0].backends.len(), 1);
}

#[test]
fn a_name_that_is_null_is_one_that_is_not_said() {
    let service = keys(&serde_json::json!({
        "name": null, "protocol": "tcp", "address": "198.51.100.30:80", "mode": "nat",
    }));
    let named = |edit| {
        let plan = plan(&edited(&[edit]).unwrap()).unwrap();
        plan.services.last().unwrap().name.clone()
    };
    assert_eq!(named(Edit::AddService { keys: service.clone() }), "tcp-198.51.100.30-80");
    assert_eq!(named(Edit::PutService { service: "shop".into(), keys: service }), "shop");
    let backend = "10.44.0.13:8080".parse().unwrap();
    let no_address = keys(&serde_json::json!({ "address": null, "weight": null }));
    let lines = changes(&[Edit::PutBackend { service: web(), backend, keys: no_address }]);
    assert_eq!(lines, ["+ service web: backend 10.44.0.13:8080 weight 1"]);
}

#[test]
fn a_file_without_services_gets_its_first_however_it_says_so() {
    let (head, _) = FILE.split_once("# The first service.").unwrap();
    for text in [head.to_owned(), format!("service = []\n{head}")] {
        let service = serde_json::json!({
            "protocol": "tcp", "address": "198.51.100.11:80", "mode": "dr", "backend": [],
        });
        let backend = serde_json::json!({ "address": "10.44.0.11:80" });
        let edits = [
            Edit::AddService { keys: keys(&service) },
            Edit::AddBackend { service: at("tcp", "198.51.100.11:80"), keys: keys(&backend) },
        ];
        let new = apply_to(&text, &plan(&text).unwrap(), &edits).unwrap();
        assert_eq!(plan(&new).unwrap().services[0].backends.len(), 1, "{new}");
        assert!(new.find("[[service]]") > new.find("[[port]]"), "{new}");
    }
}

#[test]
fn what_is_not_there_or_there_already_is_told() {
    let none = "10.44.0.99:1".parse().unwrap();
    let twice = keys(&serde_json::json!({ "address": "10.44.0.11:8080" }));
    let there = keys(&serde_json::json!({ "protocol": "tcp", "address": "198.51.100.10:80" }));
    let table = [
        (
            Edit::DeleteService { service: Which::Name("x".into()) },
            "there is no service `x`; `shunt services` lists them",
        ),
        (
            Edit::DeleteService { service: at("tcp", "198.51.100.10:53") },
            "there is no service tcp 198.51.100.10:53; `shunt services` lists them",
        ),
        (
            Edit::DeleteService { service: at("tcp", "x") },
            "tcp x is not a protocol and an address, like tcp and 198.51.100.10:80",
        ),
        (
            Edit::DeleteBackend { service: web(), backend: none },
            "service `web` has no backend 10.44.0.99:1",
        ),
        (
            Edit::AddBackend { service: web(), keys: twice },
            "service `web` has backend 10.44.0.11:8080 already",
        ),
        (
            Edit::AddService { keys: there },
            "there is a service at tcp 198.51.100.10:80 already; edit it, or delete it first",
        ),
        (
            Edit::DeleteLocalAddress { service: web(), address: "10.0.0.9".parse().unwrap() },
            "service `web` has no backend local address 10.0.0.9",
        ),
    ];
    for (edit, expected) in table {
        assert_eq!(edited(&[edit]).unwrap_err().to_string(), expected);
    }
}

#[test]
fn a_list_of_edits_is_made_in_order_and_all_of_it_or_nothing() {
    let add = |address: &str| Edit::AddBackend {
        service: web(),
        keys: keys(&serde_json::json!({ "address": address })),
    };
    let delete =
        |address: &str| Edit::DeleteBackend { service: web(), backend: address.parse().unwrap() };
    let lines = changes(&[
        add("10.44.0.13:1"),
        delete("10.44.0.13:1"),
        delete("10.44.0.12:8080"),
        add("10.44.0.12:8080"),
    ]);
    assert_eq!(lines, Vec::<String>::new());
    assert!(edited(&[add("10.44.0.13:1"), delete("10.44.0.99:1")]).is_err());
}

/// Edits about few services and backends, so that they meet.
fn some_edit() -> impl Strategy<Value = Edit> {
    let place = |port: u16| match port {
        83 => Which::Name("some".to_owned()),
        port => at("tcp", &format!("198.51.100.20:{port}")),
    };
    let address = |last: u8| SocketAddr::from(([10, 44, 1, last], 80));
    (0..14u8, 80..84u16, 1..4u8, 0..4u32).prop_map(move |(kind, port, last, weight)| {
        let (service, backend) = (place(port), address(last));
        let server =
            serde_json::json!({ "address": backend.to_string(), "weight": weight, "mode": "nat" });
        match kind {
            0 | 1 => Edit::AddService {
                keys: keys(&serde_json::json!({
                    "protocol": "tcp", "address": format!("198.51.100.20:{port}"), "mode": "nat",
                })),
            },
            2 => Edit::DeleteService { service },
            3 => Edit::EditService {
                service,
                keys: keys(&serde_json::json!({ "persistence_s": weight * 60 + 60 })),
            },
            4 | 5 => Edit::AddBackend { service, keys: keys(&server) },
            6 => Edit::EditBackend {
                service,
                backend,
                keys: keys(&serde_json::json!({ "weight": weight })),
            },
            7 => Edit::DeleteBackend { service, backend },
            // What later edits find things by.
            8 => Edit::EditService { service, keys: keys(&serde_json::json!({ "name": "some" })) },
            9 => Edit::EditService {
                service,
                keys: keys(&serde_json::json!({ "address": format!("198.51.100.20:{}", 80 + weight) })),
            },
            10 => Edit::EditService { service, keys: keys(&serde_json::json!({ "backend": [server] })) },
            11 => Edit::EditBackend {
                service,
                backend,
                keys: keys(&serde_json::json!({ "address": address(u8::try_from(weight).unwrap()).to_string() })),
            },
            12 => Edit::PutService {
                service: "some".to_owned(),
                keys: keys(&serde_json::json!({
                    "protocol": "tcp", "address": format!("198.51.100.20:{port}"), "mode": "nat",
                    "backend": [server],
                })),
            },
            _ => Edit::EditService {
                service,
                keys: keys(&serde_json::json!({ "persistence_s": null })),
            },
        }
    })
}

proptest! {
    /// One by one, with the plan read anew from the text after each, or all in one go.
    #[test]
    fn many_edits_are_the_same_one_by_one_and_at_once(edits in proptest::collection::vec(some_edit(), 0..24)) {
        let mut text = FILE.to_owned();
        let mut made = Vec::new();
        for edit in edits {
            let new = apply_to(&text, &plan(&text).unwrap(), std::slice::from_ref(&edit));
            // Two services of one name or place are for the reader to refuse.
            if let Ok(new) = new && plan(&new).is_ok() {
                text = new;
                made.push(edit);
            }
        }
        let at_once = edited(&made).unwrap();
        prop_assert_eq!(plan(&at_once), plan(&text), "{}", at_once);
    }
}

#[test]
fn what_is_put_is_there_as_it_was_put_and_putting_it_again_changes_nothing() {
    let put = |json: serde_json::Value| edit(json);
    let backend = |address: &str, keys: serde_json::Value| {
        put(serde_json::json!({
            "edit": "put_backend", "service": "web", "backend": address, "keys": keys
        }))
    };
    let service = |name: &str, keys: serde_json::Value| {
        put(serde_json::json!({ "edit": "put_service", "service": name, "keys": keys }))
    };
    for (what, edit, lines) in [
        ("a new backend", backend("10.44.0.13:8080", serde_json::json!({"weight": 5})), 1),
        ("as it is", backend("10.44.0.11:8080", serde_json::json!({"weight": 2})), 0),
        ("another weight", backend("10.44.0.11:8080", serde_json::json!({"weight": 7})), 1),
        ("no weight said", backend("10.44.0.11:8080", serde_json::json!({})), 1),
        (
            "a service with one backend, which keeps it",
            service(
                "web",
                serde_json::json!({
                    "protocol": "tcp", "address": "198.51.100.10:80", "scheduler": "rr",
                    "local_addresses": ["10.44.0.2"]
                }),
            ),
            1,
        ),
        (
            "a service with other backends",
            service(
                "dns",
                serde_json::json!({
                    "name": "dns", "protocol": "udp", "address": "198.51.100.10:53", "mode": "dr",
                    "backend": [{ "address": "10.44.0.21:53" }]
                }),
            ),
            1,
        ),
        (
            "a new service",
            service(
                "ntp",
                serde_json::json!({
                    "protocol": "udp", "address": "198.51.100.10:123", "mode": "dr",
                    "backend": [{ "address": "10.44.0.21:123" }]
                }),
            ),
            1,
        ),
    ] {
        let once =
            edited(std::slice::from_ref(&edit)).unwrap_or_else(|error| panic!("{what}: {error}"));
        let new = plan(&once).unwrap_or_else(|error| panic!("{what}: {error}\n{once}"));
        let changes = diff(&plan(FILE).unwrap(), &new).changes;
        assert_eq!(changes.len(), lines, "{what}: {changes:?}\n{once}");
        let twice = apply_to(&once, &new, &[edit]).unwrap();
        assert_eq!(plan(&twice).unwrap(), new, "{what}");
    }
    let elsewhere = backend("10.44.0.11:8080", serde_json::json!({"address": "10.44.0.12:8080"}));
    let error = edited(&[elsewhere]).unwrap_err();
    assert!(error.to_string().contains("in the body"), "{error}");
}
