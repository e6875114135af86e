//! What a daemon logs: an event a line, as text or JSON, and no more of one reload than people read.

use std::fmt::Write as _;

use serde_json::Value;

use super::Bench;

/// Services that one reload brings.
const MANY: usize = 1000;
/// As docs/log-messages.md has it.
const LINES_OF_ONE: usize = 20;

/// So many services, each with a backend.
fn services(many: usize) -> String {
    let mut text = String::new();
    for n in 0..many {
        let (high, low) = (n / 250, n % 250 + 1);
        writeln!(
            text,
            "[[service]]\nname = \"s{n}\"\nprotocol = \"tcp\"\naddress = \"198.51.{high}.{low}:80\"\n\
             local_addresses = [\"192.0.2.2\"]\n[[service.backend]]\naddress = \"192.0.2.11:80\"",
        )
        .unwrap();
    }
    text
}

/// The objects among lines; DPDK writes lines of its own.
fn events(said: &str) -> Vec<Value> {
    let lines = said.lines().filter(|line| line.starts_with('{'));
    lines.map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_reload_of_a_thousand_services_logs_twenty_lines_and_how_many_more() {
    let bench = Bench::new();
    let mut daemon = bench.start_with(&bench.config(), &[("SHUNT_LOG_FORMAT", "json")]);
    daemon.until(r#""message":"ready""#);
    let file = bench.folder.path().join("shunt.toml");
    std::fs::write(file, bench.config() + &services(MANY)).unwrap();
    daemon.signal("HUP");
    daemon.until("reload: more lines were not logged");
    daemon.signal("TERM");
    assert_eq!(daemon.end().code(), Some(0), "{}", daemon.said);

    let events = events(&daemon.said);
    for event in &events {
        for field in ["timestamp", "level", "message"] {
            assert!(event[field].is_string(), "{event}");
        }
    }
    let of = |message: &str| -> Vec<_> {
        events.iter().filter(|event| event["message"] == message).collect()
    };
    assert_eq!(of("reload: applied").len(), 1);
    let changes = of("reload: changed");
    assert_eq!(changes.len(), LINES_OF_ONE);
    assert!(changes[0]["change"].as_str().unwrap().contains("s0"), "{}", changes[0]);
    let kept = of("reload: more lines were not logged; `shunt reload` prints all");
    assert_eq!(kept.len(), 1, "{kept:?}");
    assert!(kept[0]["kept"].as_u64().unwrap() >= (MANY - LINES_OF_ONE) as u64, "{kept:?}");
}

#[test]
fn a_form_of_the_log_that_is_none_is_refused() {
    let bench = Bench::new();
    let mut daemon = bench.start_with(&bench.config(), &[("SHUNT_LOG_FORMAT", "xml")]);
    assert_eq!(daemon.end().code(), Some(2));
    assert!(daemon.said.contains("expected `text` or `json`"), "{}", daemon.said);
}
