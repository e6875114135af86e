//! The schema that is shipped takes what is shown, and refuses what no file may say.

use std::fs;

use serde_json::Value;

use super::{Document, report};

/// The problems a validator that knows nothing of Shunt finds in a text.
fn problems(text: &str) -> Vec<String> {
    let schema = fs::read_to_string("dpdk-config/shunt.schema.json").unwrap();
    let schema: Value = serde_json::from_str(&schema).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let table: toml::Table = text.parse().unwrap();
    let file = serde_json::to_value(table).unwrap();
    let say = |error: jsonschema::ValidationError<'_>| format!("{error}");
    validator.iter_errors(&file).map(say).collect()
}

#[test]
fn the_sample_is_what_its_schema_says() {
    let sample = fs::read_to_string("dpdk-config/shunt.toml").unwrap();
    report(&problems(&sample));
    assert!(sample.starts_with("#:schema ./shunt.schema.json\n"), "editors find it");
}

#[test]
fn whole_configurations_in_documents_are_what_the_schema_says() {
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for document in Document::all() {
        for text in document.blocks_of("toml").filter(|text| text.contains("[shunt]")) {
            seen += 1;
            wrong.extend(problems(text).into_iter().map(|it| format!("{}: {it}", document.path)));
        }
    }
    report(&wrong);
    assert!(seen > 1, "only {seen} were found");
}

#[test]
fn what_no_file_may_say_the_schema_refuses() {
    let service =
        "[[service]]\nname = \"web\"\nprotocol = \"tcp\"\naddress = \"198.51.100.10:80\"\n";
    let table = [
        ("[shunt]\nworkers = []\n", 1),
        ("[shunt]\nworkers = [1]\nping = \"sometimes\"\n", 1),
        ("[shunt]\nworkers = [1]\nwrokers = [2]\n", 1),
        ("[dpdk]\nmemory_mb = 63\n", 1),
        ("[timeouts]\nudp_s = 0\n", 1),
        ("[[port]]\nname = \"dmz\"\non = \"lan\"\nvlan = [1, 2, 3]\n", 1),
        ("[[port]]\nname = \"dmz\"\non = \"lan\"\nvlan = [1, 2]\n", 0),
        ("[[service]]\nprotocol = \"tcp\"\naddress = \"198.51.100.10:80\"\n", 1),
        ("SERVICE", 0),
        ("SERVICEsyn_cookies = { above_per_second = 0 }\n", 1),
        ("SERVICEsyn_cookies = { above_per_second = 1 }\n", 0),
        ("SERVICEscheduler_flags = [\"mh-prot\"]\n", 1),
        ("SERVICE[[service.backend]]\naddress = \"10.44.0.11:80\"\nweight = 65536\n", 1),
        ("SERVICE[[service.check]]\nkind = \"http\"\npath = \"healthz\"\n", 1),
    ];
    for (text, expected) in table {
        let text = text.replace("SERVICE", service);
        let found = problems(&text);
        assert_eq!(found.len(), expected, "{text}: {found:?}");
    }
}
