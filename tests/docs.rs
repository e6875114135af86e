//! The documents against the code: what they name exists, what they show works, what they list is
//! complete.
//!
//! Markdown is read as text: fenced blocks are told from prose by their fences, and code spans by
//! their backticks. That is all the Markdown these documents use.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says no by panicking"
)]

#[path = "docs/api.rs"]
mod api;
#[path = "docs/bench.rs"]
mod bench;
#[path = "docs/log.rs"]
mod log;
#[path = "docs/monitoring.rs"]
mod monitoring;
mod packets;
#[path = "docs/pages.rs"]
mod pages;
#[path = "docs/schema.rs"]
mod schema;
#[path = "shared/typed.rs"]
mod shared_typed;
#[path = "docs/typed.rs"]
mod typed;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Parser as _;
use clap::error::ErrorKind;
use packets::rules::{At, rules};
use shunt::control::config::{Machine, parse_for};
use shunt::dataplane::sched::Scheduler;
use shunt::dataplane::verdict::Reason;
use shunt::stats::export::METRICS;

const DOCUMENTS: &[&str] = &[
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "README.md",
    "docs/admin-api.md",
    "docs/capture.md",
    "docs/change-what-runs.md",
    "docs/client-address.md",
    "docs/configuration.md",
    "docs/doctor.md",
    "docs/drain-a-backend.md",
    "docs/dropped-packets.md",
    "docs/editing-the-configuration.md",
    "docs/explain.md",
    "docs/find-connections.md",
    "docs/first-service.md",
    "docs/floods.md",
    "docs/health-checks.md",
    "docs/import-from-keepalived.md",
    "docs/ipvsadm.md",
    "docs/log-messages.md",
    "docs/lvs-compatibility.md",
    "docs/metrics.md",
    "docs/monitoring.md",
    "docs/performance.md",
    "docs/remote-admin.md",
    "docs/replace-a-backend.md",
    "docs/restart-and-upgrade.md",
    "docs/routes-bgp-and-vrrp.md",
    "docs/schedulers.md",
    "docs/vlans.md",
    "docs/watch-what-happens.md",
    "dpdk-config/bind.md",
    "dpdk-config/hugepages.md",
];

/// Our programs, as they are typed.
const PROGRAMS: [&str; 3] = ["shuntd", "shunt", "shunt-bench"];

/// A document, taken apart.
struct Document {
    path: &'static str,
    /// Everything outside fenced blocks.
    prose: String,
    /// Language and text of each fenced block.
    blocks: Vec<(String, String)>,
}

impl Document {
    fn read(path: &'static str) -> Self {
        let text = fs::read_to_string(path).expect(path);
        let (mut prose, mut blocks) = (String::new(), Vec::new());
        let mut open: Option<(String, String)> = None;
        for line in text.lines() {
            match (line.trim_start().strip_prefix("```"), open.take()) {
                (Some(_), Some(block)) => blocks.push(block),
                (Some(language), None) => open = Some((language.trim().to_owned(), String::new())),
                (None, Some((language, block))) => open = Some((language, block + line + "\n")),
                (None, None) => prose.extend([line, "\n"]),
            }
        }
        assert!(open.is_none(), "{path}: a fenced block is not closed");
        Self { path, prose, blocks }
    }

    fn all() -> Vec<Self> {
        DOCUMENTS.iter().map(|path| Self::read(path)).collect()
    }

    fn blocks_of<'a>(&'a self, language: &'a str) -> impl Iterator<Item = &'a str> {
        let of_language = move |block: &&(String, String)| block.0 == language;
        self.blocks.iter().filter(of_language).map(|(_, text)| text.as_str())
    }

    /// Code spans of the prose.
    fn spans(&self) -> impl Iterator<Item = &str> {
        self.prose.split('`').skip(1).step_by(2)
    }

    /// First cells of the table below a heading, backticks taken off.
    fn first_column(&self, heading: &str) -> Vec<String> {
        let (_, below) = self.prose.split_once(&format!("\n## {heading}\n")).expect(heading);
        let section = below.split("\n## ").next().unwrap_or_default();
        let rows = section.lines().filter(|line| line.starts_with("| `"));
        rows.filter_map(|row| Some(row.split('`').nth(1)?.to_owned())).collect()
    }

    /// Every command line of ours that is shown.
    fn commands(&self) -> Vec<Vec<String>> {
        let typed = self.blocks_of("sh").flat_map(str::lines);
        let shown = self.blocks_of("text").flat_map(str::lines);
        let shown = shown.filter_map(|line| line.strip_prefix("$ "));
        let spans = self.spans().filter(|span| span.contains(' '));
        typed.chain(shown).chain(spans).filter_map(command).collect()
    }
}

/// The words of a command line, if it starts one of our programs.
fn command(line: &str) -> Option<Vec<String>> {
    let mut words = words_of(line);
    let name = Path::new(words.first()?).file_name()?.to_str()?.to_owned();
    PROGRAMS.contains(&name.as_str()).then(|| {
        words[0] = name;
        words
    })
}

/// Up to the first that means something to a shell; quotes hold words together.
fn words_of(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted) = (Vec::new(), None::<String>, false);
    for letter in line.chars() {
        match letter {
            '\'' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            ';' | '|' | '#' if !quoted => break,
            space if space.is_whitespace() && !quoted => words.extend(word.take()),
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    words
}

/// What is wrong with a command line, as the program itself sees it. Nothing is carried out: a
/// final `--help` is only reached if all before it was understood.
fn refusal(words: &[String]) -> Option<String> {
    let program = match words[0].as_str() {
        "shunt" => {
            // A command that is only named need not be complete.
            let help = (words.len() == 2).then(|| "--help".to_owned());
            let parsed = shunt::cli::Arguments::try_parse_from(words.iter().cloned().chain(help));
            let wrong = parsed.err().filter(|error| error.kind() != ErrorKind::DisplayHelp);
            return wrong.map(|error| error.to_string());
        }
        "shuntd" => env!("CARGO_BIN_EXE_shuntd"),
        _ => env!("CARGO_BIN_EXE_shunt-bench"),
    };
    let output = Command::new(program).args(&words[1..]).arg("--help").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    (!output.status.success()).then_some(said)
}

fn report(wrong: &[String]) {
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// GitHub's name for a heading.
fn anchor(heading: &str) -> String {
    let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    heading.to_lowercase().chars().filter(kept).map(|c| if c == ' ' { '-' } else { c }).collect()
}

fn has_anchor(path: &Path, wanted: &str) -> bool {
    let text = fs::read_to_string(path).unwrap_or_default();
    let headings = text.lines().filter_map(|line| line.strip_prefix('#'));
    headings.map(|line| anchor(line.trim_start_matches('#').trim())).any(|found| found == wanted)
}

/// What is wrong with a link in a document.
fn broken(document: &Document, link: &str) -> Option<String> {
    if link.starts_with("https://") {
        return None;
    }
    let (file, wanted) = link.split_once('#').unwrap_or((link, ""));
    let own = Path::new(document.path);
    let target = match file {
        "" => own.to_owned(),
        file => own.parent().unwrap_or(Path::new("")).join(file),
    };
    let good = target.exists() && (wanted.is_empty() || has_anchor(&target, wanted));
    (!good).then(|| format!("{}: the link to {link} leads nowhere", document.path))
}

#[test]
fn every_document_is_checked() {
    let folders = [".", "docs", "dpdk-config"];
    let files = folders.iter().flat_map(|folder| fs::read_dir(folder).expect(folder));
    let paths = files.map(|entry| entry.unwrap().path()).filter(|path| is(path, "md"));
    let found: BTreeSet<_> =
        paths.map(|path| path.display().to_string().trim_start_matches("./").to_owned()).collect();
    let listed: BTreeSet<_> = DOCUMENTS.iter().map(|path| (*path).to_owned()).collect();
    assert_eq!(found, listed);
}

#[test]
fn links_lead_somewhere() {
    let mut wrong = Vec::new();
    let mut seen = 0;
    for document in Document::all() {
        let links = document.prose.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for link in links {
            seen += 1;
            wrong.extend(broken(&document, link));
        }
    }
    report(&wrong);
    assert!(seen > 40, "only {seen} links were found");
}

#[test]
fn whole_configurations_are_good_and_give_no_warning() {
    let machine = Machine::with_cpus(8);
    let mut wrong = Vec::new();
    let mut whole = 0;
    for document in Document::all() {
        for text in document.blocks_of("toml") {
            if let Err(error) = toml::from_str::<toml::Table>(text) {
                wrong.push(format!("{}: {error}", document.path));
            } else if text.contains("[shunt]") && text.contains("[[port]]") {
                whole += 1;
                match parse_for(text, Path::new(document.path), &machine) {
                    Ok(reading) => wrong.extend(reading.warnings),
                    Err(error) => wrong.push(error.to_string()),
                }
            }
        }
    }
    report(&wrong);
    assert!(whole > 0, "no document shows a whole configuration");
}

#[test]
fn commands_are_understood_by_the_programs() {
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    for document in Document::all() {
        for words in document.commands() {
            let said = refusal(&words);
            wrong.extend(said.map(|said| format!("{}: {words:?}: {said}", document.path)));
            seen.insert(words[..2].join(" "));
        }
    }
    report(&wrong);
    for wanted in ["shuntd run", "shuntd check", "shuntd diff", "shunt status", "shunt reload"] {
        assert!(seen.contains(wanted), "no document shows `{wanted}`, only {seen:?}");
    }
}

#[test]
fn the_units_commands_are_understood() {
    let unit = fs::read_to_string("dpdk-config/systemd/shuntd.service").unwrap();
    let commands = unit.lines().filter(|line| line.starts_with("Exec"));
    let commands: Vec<_> = commands.filter_map(|line| command(line.split_once('=')?.1)).collect();
    assert_eq!(commands.len(), 3, "{commands:?}");
    report(&commands.iter().filter_map(|words| refusal(words)).collect::<Vec<_>>());
}

#[test]
fn a_command_that_is_wrong_is_seen() {
    for line in ["shuntd check a b", "shunt statsu", "shunt-bench run --no-such-option", "shuntd x"]
    {
        let words = command(line).unwrap();
        assert!(refusal(&words).is_some(), "{line}");
    }
    assert_eq!(command("shunting yard"), None);
    let quoted = command("shunt capture --filter 'a | b' -w - | tcpdump").unwrap();
    assert_eq!(quoted, ["shunt", "capture", "--filter", "a | b", "-w", "-"]);
}

/// Does a code span mean a file or folder of this repository?
fn is_path(span: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '-');
    let endings = ["rs", "md", "toml", "h", "service"];
    let named = endings.iter().any(|ending| is(Path::new(span), ending)) && span != "shunt.toml";
    span.chars().all(plain) && !span.starts_with('/') && (span.contains('/') || named)
}

fn is(path: &Path, ending: &str) -> bool {
    path.extension().is_some_and(|extension| extension == ending)
}

/// The file or folder a span of ARCHITECTURE.md means.
fn resolved(span: &str) -> Option<PathBuf> {
    let places = [PathBuf::from(span), Path::new("src").join(span)];
    places.into_iter().find(|path| path.exists())
}

#[test]
fn architecture_names_files_that_exist() {
    let document = Document::read("ARCHITECTURE.md");
    let paths: Vec<_> = document.spans().filter(|span| is_path(span)).collect();
    assert!(paths.len() > 100, "only {} paths were found", paths.len());
    let gone = paths.into_iter().filter(|span| resolved(span).is_none());
    report(
        &gone
            .map(|span| format!("ARCHITECTURE.md names {span}, which is not there"))
            .collect::<Vec<_>>(),
    );
}

#[test]
fn architecture_has_a_place_for_every_source_file() {
    let document = Document::read("ARCHITECTURE.md");
    let (_, tree) = document.prose.split_once("\n## The tree\n").unwrap();
    let tree = tree.split("\n## ").next().unwrap();
    let spans = tree.split('`').skip(1).step_by(2).filter(|span| is_path(span));
    let named: Vec<PathBuf> = spans.filter_map(resolved).collect();
    let mut files = Vec::new();
    rust_files(Path::new("src"), &mut files);
    rust_files(Path::new("tests"), &mut files);
    assert!(files.len() > 100, "only {} files were found", files.len());
    let is_named = |file: &PathBuf| named.iter().any(|place| file.starts_with(place));
    let missing = files.iter().filter(|file| !is_test_module(file) && !is_named(file));
    report(
        &missing
            .map(|file| format!("ARCHITECTURE.md has no place for {}", file.display()))
            .collect::<Vec<_>>(),
    );
}

/// The unit tests of a source file, which live beside it.
fn is_test_module(file: &Path) -> bool {
    file.starts_with("src") && file.iter().any(|part| part == "tests" || part == "tests.rs")
}

fn rust_files(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, into);
        } else if is(&path, "rs") {
            into.push(path);
        }
    }
}

#[test]
fn a_page_says_what_to_do_for_every_reason() {
    let document = Document::read("docs/dropped-packets.md");
    let listed = document.first_column("Every reason");
    let wanted: Vec<_> = Reason::ALL.iter().map(|reason| reason.label()).collect();
    assert_eq!(listed, wanted, "one row for each reason, in the order of the code");
}

#[test]
fn schedulers_are_listed_as_the_code_has_them() {
    let document = Document::read("docs/schedulers.md");
    let rows: Vec<String> = Scheduler::ALL
        .iter()
        .map(|scheduler| {
            let method = scheduler.method();
            let flags = method.flags.iter().map(|(name, _)| format!("`{name}`"));
            let flags = flags.collect::<Vec<_>>().join(", ");
            let (name, when) = (method.name, method.when);
            format!("| `{name}` | {when} | {flags} |").replace("|  |", "| |")
        })
        .collect();
    let head = "| scheduler | when to use it | flags |\n|---|---|---|\n";
    let (_, table) = document.prose.split_once(head).unwrap();
    let table: Vec<&str> = table.lines().take_while(|line| line.starts_with('|')).collect();
    assert_eq!(table, rows, "one row for each scheduler, in the order and words of the code");
    let known = Scheduler::ALL.iter().flat_map(|scheduler| scheduler.method().flags);
    let known: BTreeSet<_> = known.map(|(name, _)| (*name).to_owned()).collect();
    let (_, flags) = document.prose.split_once("\n## Flags\n").unwrap();
    let flags = flags.split("\n## ").next().unwrap();
    let rows = flags.lines().filter(|line| line.starts_with("| `"));
    let cells = rows.filter_map(|row| row.split(" | ").next());
    let listed = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    let listed: BTreeSet<_> = listed.map(str::to_owned).collect();
    assert_eq!(listed, known);
}

#[test]
fn log_lines_explained_are_lines_of_the_code() {
    let document = Document::read("docs/log-messages.md");
    let mut files = Vec::new();
    rust_files(Path::new("src"), &mut files);
    let source: String = files.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    let lines = document.first_column("Lines that ask something of you");
    assert!(lines.len() > 10, "only {} lines were found", lines.len());
    let gone = lines.iter().filter(|line| !source.contains(line.as_str()));
    report(&gone.map(|line| format!("nothing logs `{line}`")).collect::<Vec<_>>());
}

#[test]
fn metrics_named_anywhere_exist() {
    let known: BTreeSet<_> = METRICS.iter().map(|metric| metric.name).collect();
    let mut wrong = Vec::new();
    for document in Document::all() {
        let word = |c: char| !(c.is_ascii_lowercase() || c == '_');
        let spans = document.spans().filter(|span| !span.contains('*')).flat_map(|s| s.split(word));
        let named = spans.filter(|word| word.starts_with("shunt_"));
        // Of a histogram Prometheus makes three series.
        let metric = |name: &str| {
            let ending = ["_bucket", "_sum", "_count"].iter().find_map(|it| name.strip_suffix(it));
            ending.filter(|name| known.contains(name)).map_or(name.to_owned(), str::to_owned)
        };
        let unknown = named.filter(|name| !known.contains(metric(name).as_str()));
        wrong.extend(unknown.map(|name| format!("{}: there is no metric {name}", document.path)));
    }
    report(&wrong);
}

#[test]
fn the_benchs_options_are_those_documented() {
    let documented =
        [("run", "Options"), ("flood", "Options of a flood"), ("generate", "Options of generate")];
    for (command, heading) in documented {
        let bench = Command::new(env!("CARGO_BIN_EXE_shunt-bench"));
        let output = { bench }.args([command, "--help"]).output().unwrap();
        let help = String::from_utf8(output.stdout).unwrap();
        let options = help.split_whitespace().filter(|word| word.starts_with("--"));
        let known: BTreeSet<_> =
            options.filter(|option| *option != "--help").map(str::to_owned).collect();
        let document = Document::read("docs/performance.md");
        let listed: BTreeSet<_> = document.first_column(heading).into_iter().collect();
        assert_eq!(listed, known, "{command}");
    }
}

/// Keys of an object, those of objects within it behind a dot.
fn keys(value: &serde_json::Value, before: &str, into: &mut BTreeSet<String>) {
    for (key, value) in value.as_object().expect("an object") {
        let key = format!("{before}{key}");
        if value.is_object() {
            keys(value, &format!("{key}."), into);
        } else {
            into.insert(key);
        }
    }
}

#[test]
fn the_benchs_json_has_the_keys_documented() {
    let output = Command::new(env!("CARGO_BIN_EXE_shunt-bench"))
        .args(["run", "--flows", "1000", "--duration", "1", "--no-huge", "--json"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let row: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut printed = BTreeSet::new();
    keys(&row, "", &mut printed);
    let document = Document::read("docs/performance.md");
    let mut listed: BTreeSet<_> = document.first_column("JSON keys").into_iter().collect();
    if row["latency_ns"].is_null() {
        // A machine with one CPU cannot tell.
        listed.retain(|key| !key.starts_with("latency_ns."));
        listed.insert("latency_ns".to_owned());
    }
    assert_eq!(listed, printed);
    assert_eq!(row["lost_packets"], 0);
    assert_eq!(row["bytes_per_connection"], 96.0);
}

/// A flood, shortly and by counts: established connections lose nothing, and new clients get through,
/// with cookies all of them, and nearly all without, as what is half open makes way in the full table.
#[test]
fn a_flood_keeps_nobody_out_and_is_printed_as_documented() {
    let options = ["--flows", "2000", "--sources", "100000", "--room", "2000", "--syns", "50"];
    let output = Command::new(env!("CARGO_BIN_EXE_shunt-bench"))
        .arg("flood")
        .args(options)
        .args(["--duration", "1", "--no-huge", "--json"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8(output.stdout).unwrap();
    let rows: Vec<serde_json::Value> =
        said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let document = Document::read("docs/performance.md");
    let listed: BTreeSet<_> = document.first_column("JSON keys of a flood").into_iter().collect();
    let kinds: Vec<_> = rows.iter().map(|row| row["cookies"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["never", "above", "always"]);
    for row in &rows {
        let mut printed = BTreeSet::new();
        keys(row, "", &mut printed);
        assert_eq!(listed, printed);
        assert_eq!(row["lost_packets"], 0, "{row}");
        assert!(row["syns"].as_u64().unwrap() > 4000, "enough to fill the table: {row}");
        let [came, connected] =
            ["new_clients", "connected_clients"].map(|key| row[key].as_u64().unwrap());
        if row["cookies"] == "never" {
            assert!(connected * 10 > came * 9, "the flood pushes out itself: {row}");
        } else {
            assert_eq!(connected, came, "{row}");
        }
    }
}

#[test]
fn compatibility_names_tests_that_exist() {
    let text = fs::read_to_string("docs/lvs-compatibility.md").unwrap();
    let named: Vec<_> = text.split('`').filter(|word| is(Path::new(word), "rs")).collect();
    assert!(named.len() > 20, "only {} tests are named", named.len());
    let missing: Vec<_> = named.iter().filter(|path| !Path::new(path).exists()).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// How a row says what has become of what IPVS does.
const MARKS: [&str; 3] = ["same", "better", "not done"];

/// What may be left undone, as rows call it.
const UNDONE: [&str; 6] = ["FTP", "SIP", "AH and ESP", "cache bypass", "UOA", "sync_"];

/// A row of three cells begins what it says of Shunt with a mark, and names what holds it, unless
/// there is nothing to hold; then it says why.
#[test]
fn compatibility_marks_every_row_and_names_what_holds_it() {
    let text = fs::read_to_string("docs/lvs-compatibility.md").unwrap();
    let rows = text.lines().filter(|line| line.starts_with('|') && !line.starts_with("|---"));
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for row in rows.filter(|row| !row.ends_with("| Shunt | test |")) {
        seen += 1;
        let mut cells = row.trim_matches('|').splitn(3, " | ").map(str::trim);
        let [_, says, holds] = [(); 3].map(|()| cells.next().unwrap_or_default());
        let follows = |rest: &str| !rest.starts_with(char::is_alphanumeric);
        let mark = MARKS.iter().find(|mark| says.strip_prefix(**mark).is_some_and(follows));
        let held = match mark {
            None => false,
            Some(&"not done") => {
                says.starts_with("not done: ") && UNDONE.iter().any(|it| row.contains(it))
            }
            Some(_) => holds.contains('`'),
        };
        wrong.extend((!held).then(|| format!("docs/lvs-compatibility.md: {row}")));
    }
    assert!(seen > 150, "only {seen} rows were found");
    report(&wrong);
}

/// Rules of what IPVS leaves to the kernel it sits in: VLANs.
const BEYOND_IPVS: &str = "vlan: ";

/// A rule that is named exists, and one that exists is named.
#[test]
fn compatibility_names_the_rules_there_are() {
    let document = Document::read("docs/lvs-compatibility.md");
    let named: BTreeSet<_> = document.spans().filter_map(|s| s.strip_prefix("rule: ")).collect();
    let table: BTreeSet<_> = rules(&At::ONE_WORKER).iter().map(|rule| rule.name).collect();
    let gone = named.difference(&table).map(|name| format!("there is no rule {name}"));
    let expected = table.iter().filter(|name| !name.starts_with(BEYOND_IPVS));
    let unnamed = expected.filter(|name| !named.contains(*name));
    let unnamed = unnamed.map(|name| format!("docs/lvs-compatibility.md does not name {name}"));
    report(&gone.chain(unnamed).collect::<Vec<_>>());
}
