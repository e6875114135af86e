//! The bench's other commands, run as shortly as they can be: what they print is as documented, and all that has a
//! bar is found in it. The figures are worth nothing here, and none is looked at.

use std::collections::BTreeSet;
use std::process::Command;
use std::thread;

use serde_json::Value;

use crate::Document;
use crate::shared_typed::by;

/// What each command is told, to be short.
const SHORT: [&str; 9] = [
    "sweep --flows 1000 --trial-ms 20 --tolerated-ppm 1000000 --highest-kpps 100",
    "life --duration 1 --places 1048576",
    "checks --checks 20 --interval-ms 100 --seconds 1",
    "choices --each-ms 1 --warm-up-ms 0 --backends 10 --places 100000",
    "handover --flows 1024 --rounds 10",
    "idle --packets 10 --sleep-us 50",
    "overhead --flows 1000 --duration 1",
    "reload --backends 10 --reloads 2 --flows 1000",
    "compare BENCH BENCH --turns 1",
];

/// Lines of the page, and how they are told to be short.
const LINES: [(&str, &str); 5] = [
    ("run --flows 1000,64000,1000000 --duration 2", "run --flows 64,1000 --duration 1"),
    ("overhead --duration 10", "overhead --duration 1 --flows 1000"),
    ("idle", "idle --packets 10 --sleep-us 50"),
    ("run --workers 2 --flows 1000000", "run --workers 2 --flows 1000 --duration 1"),
    ("flood --duration 2", "flood --duration 1 --flows 2000 --sources 10000 --room 4000"),
];

/// Keys of a value, those within it behind a dot, those of a list's first behind brackets.
fn keys(value: &Value, before: &str, into: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            let dot = if before.is_empty() { "" } else { "." };
            for (key, value) in fields {
                keys(value, &format!("{before}{dot}{key}"), into);
            }
        }
        Value::Array(list) if list.first().is_some_and(Value::is_object) => {
            keys(&list[0], &format!("{before}[]"), into);
        }
        _ => {
            into.insert(before.to_owned());
        }
    }
}

/// What a command prints, an object a line.
fn printed(line: &str) -> Vec<Value> {
    let bench = env!("CARGO_BIN_EXE_shunt-bench");
    let words = line.split(' ').map(|word| if word == "BENCH" { bench } else { word });
    let mut command = Command::new(bench);
    command.args(words).arg("--json");
    if line.starts_with("compare") {
        command.args(["--", "--flows", "1000", "--duration", "1", "--no-huge"]);
    } else if !line.starts_with("checks") {
        command.arg("--no-huge");
    }
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "shunt-bench {line}: {said}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Whether a generator and a worker can have a CPU each: what needs that is not run where they cannot.
fn has_two_cpus() -> bool {
    thread::available_parallelism().is_ok_and(|cpus| cpus.get() > 1)
}

#[test]
fn every_commands_json_has_the_keys_documented() {
    let document = Document::read("docs/performance.md");
    let documented = document.first_column("JSON keys of the others");
    for line in SHORT {
        let name = line.split(' ').next().unwrap();
        if !has_two_cpus() && matches!(name, "sweep" | "idle") {
            continue;
        }
        let rows = printed(line);
        let mut found = BTreeSet::new();
        for row in &rows {
            keys(row, "", &mut found);
        }
        let of = |key: &String| Some(key.strip_prefix(name)?.strip_prefix(' ')?.to_owned());
        let listed: BTreeSet<_> = documented.iter().filter_map(of).collect();
        assert_eq!(listed, found, "{name}");
    }
}

#[test]
fn every_line_of_the_page_measures_something() {
    let lines = by(file!());
    let typed: Vec<_> = lines.iter().map(|it| it.line.split_once(' ').unwrap().1).collect();
    assert_eq!(typed, LINES.map(|(line, _)| line));
    for (line, short) in LINES {
        let options = line.split(' ').filter(|word| word.starts_with("--"));
        assert!(options.into_iter().all(|option| short.contains(option)), "{line}: {short}");
        if has_two_cpus() || !(line.contains("--workers 2") || line == "idle") {
            assert!(!printed(short).is_empty(), "{line}");
        }
    }
}

#[test]
fn all_that_has_a_bar_is_found_in_what_its_command_prints() {
    if !has_two_cpus() {
        return;
    }
    let bench = Command::new(env!("CARGO_BIN_EXE_shunt-bench"));
    let output = { bench }.args(["standard", "--rehearse", "--json"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let text = String::from_utf8(output.stdout).unwrap();
    let rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let held: Vec<_> = rows.iter().filter(|row| row["bar"] != "").collect();
    assert_eq!((rows.len(), held.len()), (27, 25));
    let whats: BTreeSet<_> = rows.iter().map(|row| row["what"].to_string()).collect();
    assert_eq!(whats.len(), rows.len(), "each row says what it is");
}

#[test]
fn what_a_command_cannot_measure_is_refused() {
    for (line, why) in [
        ("idle --ip 6", "expected --ip 4"),
        ("life --packet-size 128", "expected --packet-size 64"),
        ("choices --packet-size imix", "expected --packet-size 64"),
        ("flood --packet-size 1518", "expected --packet-size 64"),
        ("life --protocol udp", "expected --protocol tcp"),
        ("run --assert --flows 5", "give both to --flows"),
    ] {
        let bench = Command::new(env!("CARGO_BIN_EXE_shunt-bench"));
        let output = { bench }.args(line.split(' ')).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{line}: {said}");
        assert!(said.contains(why), "{line}: {said}");
    }
}

#[test]
fn plots_are_pictures_with_a_curve() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("plot.svg");
    printed(&format!("run --flows 64,1000 --duration 1 --plot {}", file.display()));
    let picture = std::fs::read_to_string(&file).unwrap();
    assert!(picture.starts_with("<svg") && picture.trim_end().ends_with("</svg>"), "{picture}");
    assert!(picture.contains("<polyline") || picture.contains("<path"), "{picture}");
}
