//! Edits that change what the edits after them are found by.

use super::*;

/// Edits as they come in a request, and what the services are after them: name, address, and each backend with its weight.
type Row = (
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str, &'static [(&'static str, u32)])],
);

const DNS: (&str, &str, &[(&str, u32)]) =
    ("dns", "198.51.100.10:53", &[("10.44.0.21:53", 1), ("10.44.0.22:53", 3)]);

const ROWS: [Row; 8] = [
    (
        "a backend that is added beside others that were replaced",
        r#"[{"edit": "edit_service", "service": "web", "keys": {"backend": [{"address": "10.44.0.13:80"}]}},
                    {"edit": "add_backend", "service": "web", "keys": {"address": "10.44.0.11:8080"}},
                    {"edit": "edit_backend", "service": "web", "backend": "10.44.0.13:80", "keys": {"weight": 5}}]"#,
        &[("web", "198.51.100.10:80", &[("10.44.0.13:80", 5), ("10.44.0.11:8080", 1)]), DNS],
    ),
    (
        "the second of two is the first after they were replaced",
        r#"[{"edit": "edit_service", "service": "web",
                     "keys": {"backend": [{"address": "10.44.0.12:8080"}, {"address": "10.44.0.11:8080"}]}},
                    {"edit": "delete_backend", "service": "web", "backend": "10.44.0.12:8080"}]"#,
        &[("web", "198.51.100.10:80", &[("10.44.0.11:8080", 1)]), DNS],
    ),
    (
        "what was to be deleted is not there any more when all were replaced",
        r#"[{"edit": "delete_backend", "service": "web", "backend": "10.44.0.11:8080"},
                    {"edit": "edit_service", "service": "web", "keys": {"backend": [{"address": "10.44.0.13:80"}]}}]"#,
        &[("web", "198.51.100.10:80", &[("10.44.0.13:80", 1)]), DNS],
    ),
    (
        "a service by its new name",
        r#"[{"edit": "edit_service", "service": "web", "keys": {"name": "www"}},
                    {"edit": "delete_backend", "service": "www", "backend": "10.44.0.12:8080"}]"#,
        &[("www", "198.51.100.10:80", &[("10.44.0.11:8080", 2)]), DNS],
    ),
    (
        "two services that change names",
        r#"[{"edit": "edit_service", "service": "web", "keys": {"name": "x"}},
                    {"edit": "edit_service", "service": "dns", "keys": {"name": "web"}},
                    {"edit": "edit_service", "service": "x", "keys": {"name": "dns"}},
                    {"edit": "delete_backend", "service": "web", "backend": "10.44.0.21:53"}]"#,
        &[
            ("dns", "198.51.100.10:80", &[("10.44.0.11:8080", 2), ("10.44.0.12:8080", 1)]),
            ("web", "198.51.100.10:53", &[("10.44.0.22:53", 3)]),
        ],
    ),
    (
        "a service where it has gone, and another where it was",
        r#"[{"edit": "edit_service", "service": "web", "keys": {"address": "198.51.100.10:81"}},
                    {"edit": "add_service", "keys": {"name": "new", "protocol": "tcp", "address": "198.51.100.10:80", "mode": "nat"}},
                    {"edit": "delete_backend", "service": {"protocol": "tcp", "address": "198.51.100.10:81"}, "backend": "10.44.0.11:8080"}]"#,
        &[
            ("web", "198.51.100.10:81", &[("10.44.0.12:8080", 1)]),
            DNS,
            ("new", "198.51.100.10:80", &[]),
        ],
    ),
    (
        "a service that has become certain clients' leaves its place to everybody's",
        r#"[{"edit": "edit_service", "service": "web", "keys": {"clients": ["203.0.113.0/24"]}},
                    {"edit": "add_service", "keys": {"name": "all", "protocol": "tcp", "address": "198.51.100.10:80", "mode": "nat"}},
                    {"edit": "add_backend", "service": {"protocol": "tcp", "address": "198.51.100.10:80"}, "keys": {"address": "10.44.0.14:80"}}]"#,
        &[
            ("web", "198.51.100.10:80", &[("10.44.0.11:8080", 2), ("10.44.0.12:8080", 1)]),
            DNS,
            ("all", "198.51.100.10:80", &[("10.44.0.14:80", 1)]),
        ],
    ),
    (
        "a backend by its new address, and another by its old one",
        r#"[{"edit": "edit_backend", "service": "web", "backend": "10.44.0.11:8080", "keys": {"address": "10.44.0.13:80"}},
                    {"edit": "add_backend", "service": "web", "keys": {"address": "10.44.0.11:8080", "weight": 9}},
                    {"edit": "edit_backend", "service": "web", "backend": "10.44.0.13:80", "keys": {"weight": 6}}]"#,
        &[
            (
                "web",
                "198.51.100.10:80",
                &[("10.44.0.13:80", 6), ("10.44.0.12:8080", 1), ("10.44.0.11:8080", 9)],
            ),
            DNS,
        ],
    ),
];

#[test]
fn an_edit_finds_things_by_what_the_edits_before_it_have_made_of_them() {
    for (what, edits, expected) in ROWS {
        let edits: Vec<Edit> = serde_json::from_str(edits).unwrap();
        let text = edited(&edits).unwrap_or_else(|error| panic!("{what}: {error}"));
        let plan = plan(&text).unwrap_or_else(|error| panic!("{what}: {error}\n{text}"));
        let found: Vec<_> = plan
            .services
            .iter()
            .map(|service| {
                let backends = service.backends.iter();
                let backends = backends.map(|it| (it.address.to_string(), it.weight)).collect();
                (service.name.clone(), service.address.to_string(), backends)
            })
            .collect();
        let expected: Vec<(String, String, Vec<_>)> = expected
            .iter()
            .map(|(name, at, backends)| {
                let backends = backends.iter().map(|(it, weight)| ((*it).to_owned(), *weight));
                ((*name).to_owned(), (*at).to_owned(), backends.collect())
            })
            .collect();
        assert_eq!(found, expected, "{what}\n{text}");
    }
}

#[test]
fn what_was_found_before_is_not_found_by_its_old_name_or_address() {
    let table = [
        (
            serde_json::json!([
                { "edit": "edit_service", "service": "web", "keys": { "name": "www" } },
                { "edit": "delete_service", "service": "web" },
            ]),
            "there is no service `web`; `shunt services` lists them",
        ),
        (
            serde_json::json!([
                { "edit": "edit_service", "service": "web", "keys": { "backend": [] } },
                { "edit": "delete_backend", "service": "web", "backend": "10.44.0.11:8080" },
            ]),
            "service `web` has no backend 10.44.0.11:8080",
        ),
        (
            serde_json::json!([
                { "edit": "edit_service", "service": "web", "keys": { "backend": null } },
                { "edit": "delete_backend", "service": "web", "backend": "10.44.0.11:8080" },
            ]),
            "service `web` has no backend 10.44.0.11:8080",
        ),
        (
            serde_json::json!([
                {
                    "edit": "edit_backend", "service": "web", "backend": "10.44.0.11:8080",
                    "keys": { "address": "10.44.0.12:8080" },
                },
            ]),
            "service `web` has backend 10.44.0.12:8080 already",
        ),
        (
            serde_json::json!([
                {
                    "edit": "edit_service", "service": "web",
                    "keys": { "address": "198.51.100.10:81" },
                },
                {
                    "edit": "delete_service",
                    "service": { "protocol": "tcp", "address": "198.51.100.10:80" },
                },
            ]),
            "there is no service tcp 198.51.100.10:80; `shunt services` lists them",
        ),
    ];
    for (edits, expected) in table {
        let edits: Vec<Edit> = serde_json::from_value(edits).unwrap();
        assert_eq!(edited(&edits).unwrap_err().to_string(), expected, "{edits:?}");
    }
}
