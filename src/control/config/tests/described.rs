//! The JSON Schema says what the reader says: the same ranges, words and defaults, and a sentence for every key.

use std::path::Path;

use serde_json::Value;

use super::super::described;
use super::super::plan::Plan;
use super::super::{Machine, parse_for};

const SHIPPED: &str = "dpdk-config/shunt.schema.json";

/// Every table once, with no more in it than it must have.
const SMALL: &str = r#"
shunt = { workers = [0, 1, 2] }
dpdk = {}
limits = {}
metrics = {}
admin = {}
timeouts = {}
list = [{ name = "some", networks = ["10.0.0.0/8"] }]
port = [{ name = "wan", device = "net_null0", addresses = ["192.0.2.1/24"] }]

[[service]]
name = "web"
protocol = "tcp"
address = "198.51.100.10:80"
local_addresses = ["192.0.2.2"]
timeouts = {}
health = {}
check = [{ kind = "tcp" }]
backend = [{ address = "192.0.2.11:80", check = [{ kind = "tcp" }] }]
"#;

/// What must stand beside a key for it to be looked at: where, and what.
const BESIDE: &[(&str, &[(&str, &str)])] = &[
    ("service/0/max_new_burst", &[("service/0/max_new_per_second", "100")]),
    ("service/0/source_max_new_burst", &[("service/0/source_max_new_per_second", "100")]),
    ("service/0/check/0/type", &[("service/0/check/0/kind", "\"dns\"")]),
    ("service/0/backend/0/check/0/type", &[("service/0/backend/0/check/0/kind", "\"dns\"")]),
    ("service/0/mh_slots", &[("service/0/scheduler", "\"mh\"")]),
    ("service/0/tunnel/port", &[("service/0/tunnel/kind", "\"gue\"")]),
    ("service/0/tunnel/", &[("service/0/mode", "\"tunnel\"")]),
    ("service/0/tunnel/checksum", &[("service/0/tunnel/kind", "\"gre\"")]),
    (
        "service/0/tunnel/remote",
        &[("service/0/tunnel/kind", "\"gue\""), ("service/0/tunnel/port", "6080")],
    ),
    ("service/0/backend/0/tunnel/port", &[("service/0/backend/0/tunnel/kind", "\"gue\"")]),
    ("service/0/backend/0/tunnel/", &[("service/0/backend/0/mode", "\"tunnel\"")]),
    ("service/0/backend/0/tunnel/checksum", &[("service/0/backend/0/tunnel/kind", "\"gre\"")]),
    (
        "service/0/backend/0/tunnel/remote",
        &[
            ("service/0/backend/0/tunnel/kind", "\"gue\""),
            ("service/0/backend/0/tunnel/port", "6080"),
        ],
    ),
];

/// Keys whose range is the family's: 32 of IPv4, 128 of IPv6.
const OF_FAMILY: [&str; 2] = ["persistence_prefix", "source_prefix"];

/// Every key of the file with its schema, by its place: `service/0/backend/0/weight`.
fn keys() -> Vec<(String, Value)> {
    let schema: Value = serde_json::from_str(&described::text()).unwrap();
    let mut found = Vec::new();
    walk("", &schema, &mut found);
    assert!(found.len() > 150, "only {} keys were found", found.len());
    found
}

fn walk(place: &str, schema: &Value, found: &mut Vec<(String, Value)>) {
    for (key, schema) in schema["properties"].as_object().into_iter().flatten() {
        let place = if place.is_empty() { key.clone() } else { format!("{place}/{key}") };
        found.push((place.clone(), schema.clone()));
        walk(&place, schema, found);
        walk(&format!("{place}/0"), &schema["items"], found);
    }
}

/// The small file with a key set, in TOML's words, or without it.
fn file(place: &str, value: Option<&str>) -> String {
    let mut file: toml::Table = SMALL.parse().unwrap();
    let beside = BESIDE.iter().filter(|(of, _)| place.starts_with(of)).flat_map(|(_, all)| *all);
    for (other, value) in beside.filter(|(other, _)| *other != place) {
        set(&mut file, other, Some(value));
    }
    set(&mut file, place, value);
    toml::to_string(&file).unwrap()
}

fn set(file: &mut toml::Table, place: &str, value: Option<&str>) {
    let (path, key) = place.rsplit_once('/').unwrap();
    let mut table = file;
    let mut steps = path.split('/').peekable();
    while let Some(step) = steps.next() {
        let empty = || toml::Value::Table(toml::Table::new());
        let next = table.entry(step).or_insert_with(empty);
        table = match next {
            toml::Value::Array(list) => {
                assert_eq!(steps.next(), Some("0"), "{place}");
                list[0].as_table_mut().unwrap()
            }
            other => other.as_table_mut().unwrap(),
        };
    }
    let Some(value) = value else { return drop(table.remove(key)) };
    let value: toml::Table = format!("value = {value}").parse().unwrap();
    table.insert(key.to_owned(), value["value"].clone());
}

fn read(text: &str) -> Result<Plan, String> {
    let reading = parse_for(text, Path::new("shunt.toml"), &Machine::with_cpus(4));
    reading.map(|reading| reading.plan).map_err(|errors| errors.to_string())
}

fn key_of(place: &str) -> &str {
    place.rsplit('/').next().unwrap()
}

#[test]
fn the_schema_that_is_shipped_is_the_one_the_types_say() {
    let text = described::text();
    if std::env::var_os("SHUNT_WRITE_DOCS").is_some() {
        std::fs::write(SHIPPED, &text).unwrap();
    }
    let shipped = std::fs::read_to_string(SHIPPED).unwrap();
    assert_eq!(shipped, text, "SHUNT_WRITE_DOCS=1 cargo nextest run schema writes {SHIPPED} anew");
}

#[test]
fn every_key_has_a_sentence_in_the_schema() {
    for (place, schema) in keys() {
        let sentence = schema["description"].as_str().unwrap_or_default();
        assert!(sentence.ends_with(['.', ']']) && sentence.len() > 10, "{place}: {sentence:?}");
    }
}

#[test]
fn the_schema_knows_the_keys_that_the_reader_knows() {
    for (table, known) in super::super::schema::TABLES {
        let place = table.trim_matches(['[', ']']).split('.').collect::<Vec<_>>();
        let is_in = |found: &str| {
            let steps: Vec<&str> = found.split('/').filter(|step| *step != "0").collect();
            steps.split_last().is_some_and(|(_, path)| path == place)
        };
        let keys = keys();
        let mut found: Vec<&str> =
            keys.iter().filter(|(at, _)| is_in(at)).map(|(at, _)| key_of(at)).collect();
        let mut known = known.to_vec();
        found.sort_unstable();
        known.sort_unstable();
        assert_eq!(found, known, "{table}");
    }
}

#[test]
fn the_schemas_ranges_are_the_readers() {
    let mut seen = 0;
    for (place, schema) in keys() {
        let (Some(least), Some(most)) = (schema["minimum"].as_i64(), schema["maximum"].as_i64())
        else {
            continue;
        };
        if OF_FAMILY.contains(&key_of(&place)) {
            continue;
        }
        seen += 1;
        for value in [least - 1, most + 1] {
            let said = read(&file(&place, Some(&value.to_string()))).unwrap_err();
            let expected =
                format!("{} {value} is out of range ({least} to {most})", key_of(&place));
            assert!(said.contains(&expected), "{place}: not {expected} but {said}");
        }
    }
    assert!(seen > 80, "only {seen} ranges were found");
}

#[test]
fn the_schemas_words_are_the_readers() {
    let mut seen = 0;
    for (place, schema) in keys() {
        let Some(words) = schema["enum"].as_array() else { continue };
        seen += 1;
        let word = |word: &Value| word.as_str().map_or_else(|| word.to_string(), str::to_owned);
        let expected = words.iter().map(word).collect::<Vec<_>>().join(", ");
        let other = if words[0].is_string() { "\"no-such-word\"" } else { "7" };
        let said = read(&file(&place, Some(other))).unwrap_err();
        let said = said.lines().next().unwrap();
        assert!(said.ends_with(&expected), "{place}: {expected} is not how this ends: {said}");
    }
    assert!(seen > 15, "only {seen} lists of words were found");
}

#[test]
fn the_schemas_defaults_are_the_readers() {
    let mut seen = 0;
    for (place, schema) in keys().into_iter().filter(|(place, _)| place.contains('/')) {
        let default = &schema["default"];
        if default.is_null() || default.is_object() {
            continue;
        }
        seen += 1;
        let written = read(&file(&place, Some(&default.to_string())));
        let written = written.unwrap_or_else(|said| panic!("{place} = {default}: {said}"));
        let left_out = read(&file(&place, None)).unwrap();
        assert!(written == left_out, "{place} = {default} is not what is had without it");
    }
    assert!(seen > 60, "only {seen} defaults were found");
}
