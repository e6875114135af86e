//! What is shipped for Prometheus and Grafana, judged by promtool: it loads, alerts when it should, and
//! names metrics that there are.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use shunt::stats::export::METRICS;

const FOLDER: &str = "dpdk-config/prometheus";
const RULES: &str = "dpdk-config/prometheus/shunt.rules.yml";
const DASHBOARD: &str = "dpdk-config/grafana/shunt.json";

/// What promtool says of a file, if it does not like it.
fn promtool(arguments: &[&str], folder: &Path) {
    let output = Command::new("promtool").args(arguments).current_dir(folder).output();
    let output = output.expect("expected promtool: `make deps` installs it");
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
}

#[test]
fn alerts_load_into_prometheus() {
    promtool(&["check", "rules", "shunt.rules.yml"], Path::new(FOLDER));
}

#[test]
fn alerts_fire_when_a_box_is_ill_and_not_when_it_is_well() {
    promtool(&["test", "rules", "shunt.rules.test.yml"], Path::new(FOLDER));
}

/// Every alert has a line in the document, in the order of the rules, and a test when it fires.
#[test]
fn every_alert_is_explained_and_tested() {
    let rules = fs::read_to_string(RULES).unwrap();
    let named = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
    let named: Vec<_> = named.collect();
    assert!(named.len() > 10, "only {named:?} were found");
    let listed = super::Document::read("docs/monitoring.md").first_column("Alerts");
    assert_eq!(listed, named);
    let tests = fs::read_to_string("dpdk-config/prometheus/shunt.rules.test.yml").unwrap();
    for alert in named {
        let (quiet, fires) = (format!("alertname: {alert} }}"), format!("alertname=\"{alert}\""));
        assert!(tests.contains(&quiet) && tests.contains(&fires), "{alert} has no test");
    }
}

/// All strings under this key, however deep.
fn strings<'a>(value: &'a Value, key: &str, into: &mut Vec<&'a str>) {
    match value {
        Value::Object(fields) => {
            into.extend(fields.get(key).and_then(Value::as_str));
            fields.values().for_each(|field| strings(field, key, into));
        }
        Value::Array(items) => items.iter().for_each(|item| strings(item, key, into)),
        _ => {}
    }
}

fn dashboard() -> Value {
    serde_json::from_str(&fs::read_to_string(DASHBOARD).unwrap()).unwrap()
}

/// Grafana puts its variables in; then the expressions must be `PromQL`. Each becomes a recording rule, which
/// promtool reads as Prometheus would.
#[test]
fn the_dashboards_expressions_are_promql() {
    let dashboard = dashboard();
    let mut expressions = Vec::new();
    strings(&dashboard, "expr", &mut expressions);
    assert!(expressions.len() > 20, "only {} were found", expressions.len());
    let rule = |(n, expression): (usize, &&str)| {
        let filled = ["$__rate_interval", "$__interval"]
            .iter()
            .fold((*expression).to_owned(), |text, variable| text.replace(variable, "5m"));
        serde_json::json!({ "record": format!("panel:{n}"), "expr": filled })
    };
    let rules: Vec<_> = expressions.iter().enumerate().map(rule).collect();
    let file = serde_json::json!({ "groups": [{ "name": "dashboard", "rules": rules }] });
    let folder = tempfile::tempdir().unwrap();
    // JSON is YAML.
    fs::write(folder.path().join("rules.yml"), file.to_string()).unwrap();
    promtool(&["check", "rules", "rules.yml"], folder.path());
}

/// Panels have an id and a place of their own, and lie within the grid.
#[test]
fn the_dashboards_panels_do_not_overlap() {
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().unwrap();
    let (mut ids, mut cells) = (BTreeSet::new(), BTreeSet::new());
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{panel}");
        let at = |key: &str| panel["gridPos"][key].as_u64().unwrap();
        assert!(at("x") + at("w") <= 24, "{panel}");
        for (x, y) in (at("x")..at("x") + at("w"))
            .flat_map(|x| (at("y")..at("y") + at("h")).map(move |y| (x, y)))
        {
            assert!(cells.insert((x, y)), "{} lies on another", panel["title"]);
        }
    }
}

#[test]
fn alerts_and_dashboard_name_metrics_that_there_are() {
    let known: BTreeSet<_> = METRICS.iter().map(|metric| metric.name).collect();
    let text = [RULES, DASHBOARD].map(|path| fs::read_to_string(path).unwrap()).concat();
    let is_name = |c: char| c.is_ascii_lowercase() || c == '_';
    let words = text.split(|c| !is_name(c)).filter(|word| word.starts_with("shunt_"));
    let plain = |word: &str| {
        let of_histogram =
            ["_bucket", "_sum", "_count"].iter().find_map(|end| word.strip_suffix(end));
        of_histogram.unwrap_or(word).to_owned()
    };
    let unknown: BTreeSet<_> = words
        .filter(|word| !known.contains(word) && !known.contains(plain(word).as_str()))
        .collect();
    assert!(unknown.is_empty(), "no such metrics: {unknown:?}");
}

/// Metrics that nobody needs drawn, and why.
const NOT_DRAWN: &[(&str, &str)] = &[
    ("shunt_worker_busy_polls_total", "what is busy in seconds is drawn"),
    ("shunt_taken_over_packets_total", "the other end of those handed over, which are drawn"),
    ("shunt_captured_frames_total", "who captures is told when it ends"),
    ("shunt_capture_missed_frames_total", "who captures is told when it ends"),
    ("shunt_config_last_reload_timestamp_seconds", "reloads are drawn when they happen"),
    ("shunt_config_last_reload_success_timestamp_seconds", "reloads are drawn when they happen"),
    ("shunt_watch_events_total", "what watchers miss is drawn"),
    ("shunt_table_reserved_bytes", "it is fixed at the start"),
];

/// A metric that is new is drawn, has an alert, or a reason why neither.
#[test]
fn every_metric_is_drawn_or_alerted_or_has_a_reason_not_to_be() {
    let text = [RULES, DASHBOARD].map(|path| fs::read_to_string(path).unwrap()).concat();
    let is_seen = |name: &str| {
        let longer = |c: char| c.is_ascii_lowercase() || c == '_';
        let ends = text.match_indices(name).map(|(at, _)| &text[at + name.len()..]);
        ends.into_iter().any(|rest| rest.starts_with("_bucket") || !rest.starts_with(longer))
    };
    for metric in METRICS {
        let reason = NOT_DRAWN.iter().find(|(name, _)| *name == metric.name);
        assert_eq!(is_seen(metric.name), reason.is_none(), "{}: {reason:?}", metric.name);
    }
    for (name, _) in NOT_DRAWN {
        assert!(METRICS.iter().any(|metric| metric.name == *name), "{name} is none any more");
    }
}
