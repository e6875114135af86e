//! `standard`: everything that has a bar, measured in one go, with the bar beside it.
//!
//! Each measurement is a process of its own (DPDK starts once in a process), the same that anybody
//! can run by hand; the figure is taken out of its JSON.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use clap::Args;
use serde_json::Value;

/// Where the table goes in the document.
const BEGIN: &str = "<!-- standard: begin -->";
const END: &str = "<!-- standard: end -->";

/// What `standard` does.
#[derive(Clone, Debug, Args)]
pub(crate) struct StandardOptions {
    /// Write the table into this document, between its marks.
    #[arg(long)]
    pub(crate) write: Option<PathBuf>,
    /// Print JSON, an object a line.
    #[arg(long)]
    pub(crate) json: bool,
    /// Exit code 1 if a bar is missed.
    #[arg(long)]
    pub(crate) assert: bool,
}

/// A command whose rows figures are taken from.
struct Measurement {
    options: &'static str,
    bars: &'static [Bar],
}

/// A figure and what it is held to.
struct Bar {
    what: &'static str,
    unit: &'static str,
    /// From the rows of its own command, and of the first.
    figure: fn(&[Value], &[Value]) -> Option<f64>,
    limit: Limit,
}

#[derive(Clone, Copy)]
enum Limit {
    AtMost(f64),
    AtLeast(f64),
}

impl Limit {
    fn holds(self, figure: f64) -> bool {
        match self {
            Self::AtMost(most) => figure <= most,
            Self::AtLeast(least) => figure >= least,
        }
    }
}

impl std::fmt::Display for Limit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AtMost(most) => write!(f, "≤ {most}"),
            Self::AtLeast(least) => write!(f, "≥ {least}"),
        }
    }
}

const CYCLES: &str = "cycles a packet";
const TIMES: &str = "times";
const MILLION: usize = 2;

fn number(rows: &[Value], row: usize, path: &str) -> Option<f64> {
    rows.get(row)?.pointer(path)?.as_f64()
}

fn cycles(rows: &[Value], row: usize) -> Option<f64> {
    number(rows, row, "/cycles_per_packet")
}

fn over_synthetic(rows: &[Value], row: usize) -> Option<f64> {
    Some(cycles(rows, row)? / number(rows, row, "/synthetic_cycles_per_packet")?)
}

/// Of the only row, against a million connections of the first command.
fn beside_fullnat(rows: &[Value], first: &[Value]) -> Option<f64> {
    Some(cycles(rows, 0)? / cycles(first, MILLION)?)
}

const fn most(
    what: &'static str,
    unit: &'static str,
    limit: f64,
    figure: fn(&[Value], &[Value]) -> Option<f64>,
) -> Bar {
    Bar { what, unit, figure, limit: Limit::AtMost(limit) }
}

const fn least(
    what: &'static str,
    unit: &'static str,
    limit: f64,
    figure: fn(&[Value], &[Value]) -> Option<f64>,
) -> Bar {
    Bar { what, unit, figure, limit: Limit::AtLeast(limit) }
}

/// All there is, in the order it is run.
const MEASUREMENTS: &[Measurement] = &[
    Measurement {
        options: "run --flows 1000,64000,1000000,10000000 --duration 10",
        bars: &[
            most("FULL-NAT, 1,000 connections", CYCLES, 90.0, |rows, _| cycles(rows, 0)),
            most("FULL-NAT, 64,000 connections", CYCLES, 90.0, |rows, _| cycles(rows, 1)),
            most("FULL-NAT, 1 million connections", CYCLES, 150.0, |rows, _| cycles(rows, 2)),
            most("FULL-NAT, 10 million connections", CYCLES, 160.0, |rows, _| cycles(rows, 3)),
            most("against table and rewrite alone, 1,000", TIMES, 1.8, |rows, _| {
                over_synthetic(rows, 0)
            }),
            most("against table and rewrite alone, 64,000", TIMES, 1.8, |rows, _| {
                over_synthetic(rows, 1)
            }),
            most("against table and rewrite alone, 1 million", TIMES, 1.8, |rows, _| {
                over_synthetic(rows, 2)
            }),
            most("against table and rewrite alone, 10 million", TIMES, 1.8, |rows, _| {
                over_synthetic(rows, 3)
            }),
            most("bytes of a connection, index included", "bytes", 128.0, |rows, _| {
                number(rows, 2, "/bytes_per_connection")
            }),
        ],
    },
    Measurement {
        options: "run --mode dr --flows 1000000 --duration 5",
        bars: &[most("DR beside FULL-NAT, 1 million", TIMES, 1.0, beside_fullnat)],
    },
    Measurement {
        options: "run --mode nat --flows 1000000 --duration 5",
        bars: &[most("NAT beside FULL-NAT, 1 million", TIMES, 1.0, beside_fullnat)],
    },
    Measurement {
        options: "run --mode ipip --flows 1000000 --duration 5",
        bars: &[most("IPIP beside FULL-NAT, 1 million", TIMES, 1.0, beside_fullnat)],
    },
    Measurement {
        options: "run --ip 6 --flows 1000000 --duration 5",
        bars: &[most("IPv6 FULL-NAT beside IPv4, 1 million", TIMES, 1.3, beside_fullnat)],
    },
    Measurement {
        options: "life --duration 5",
        bars: &[
            most("a packet that makes a connection, one ends", "cycles", 500.0, |rows, _| {
                number(rows, 0, "/cycles_per_connection/median")
            }),
            least("TCP lives, SYN to last ACK", "a second", 1.2e6, |rows, _| {
                number(rows, 1, "/connections_per_second")
            }),
        ],
    },
    Measurement {
        options: "choices --backends 1000",
        bars: &[most(
            "a new connection over rr, costliest scheduler",
            "cycles",
            200.0,
            |rows, _| {
                let over = (0..rows.len()).filter_map(|row| number(rows, row, "/over_rr"));
                over.reduce(f64::max)
            },
        )],
    },
    Measurement {
        options: "reload --backends 10000",
        bars: &[
            most("reload of 10,000 backends, 99 of 100 pauses", "µs", 50.0, |rows, _| {
                number(rows, 0, "/pause_us/p99")
            }),
            most("packets lost in it", "packets", 0.0, |rows, _| number(rows, 0, "/lost_packets")),
        ],
    },
    Measurement {
        options: "handover",
        bars: &[most("handover of a packet, on top", "cycles", 80.0, |rows, _| {
            number(rows, 0, "/on_top")
        })],
    },
    Measurement {
        options: "flood --duration 3",
        bars: &[least("a SYN flood, cookies above 100 a second: kept", "of 1", 0.9, |rows, _| {
            number(rows, 1, "/kept")
        })],
    },
    Measurement {
        options: "sweep --tolerated-ppm 100",
        bars: &[most("latency added at half load, p99.9", "µs", 20.0, |rows, _| {
            Some(number(rows, 0, "/latency/1/added_p999_ns")? / 1e3)
        })],
    },
];

/// A bar and what was measured.
#[derive(Debug, serde::Serialize)]
pub(crate) struct Judged {
    what: &'static str,
    command: &'static str,
    unit: &'static str,
    figure: f64,
    bar: String,
    holds: bool,
}

/// Measures all of it.
pub(crate) fn run() -> anyhow::Result<Vec<Judged>> {
    let mut judged = Vec::new();
    let mut first = Vec::new();
    for measurement in MEASUREMENTS {
        eprintln!("shunt-bench {}", measurement.options);
        let rows = rows(measurement.options)?;
        if first.is_empty() {
            first.clone_from(&rows);
        }
        for bar in measurement.bars {
            judged.push(judge(bar, measurement.options, &rows, &first)?);
        }
    }
    Ok(judged)
}

fn judge(
    bar: &Bar,
    command: &'static str,
    rows: &[Value],
    first: &[Value],
) -> anyhow::Result<Judged> {
    let figure = (bar.figure)(rows, first);
    let figure = figure.with_context(|| format!("`{command}` says nothing of: {}", bar.what))?;
    Ok(Judged {
        what: bar.what,
        command,
        unit: bar.unit,
        figure,
        bar: bar.limit.to_string(),
        holds: bar.limit.holds(figure),
    })
}

fn rows(options: &str) -> anyhow::Result<Vec<Value>> {
    let program = std::env::current_exe().context("where is this program?")?;
    let output = Command::new(program).args(options.split(' ')).arg("--json").output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`shunt-bench {options}` failed: {said}");
    let text = String::from_utf8(output.stdout)?;
    text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

/// The table as Markdown, or an object a line.
pub(crate) fn render(judged: &[Judged], json: bool) -> String {
    if json {
        let line = |row: &Judged| serde_json::to_string(row).unwrap_or_default() + "\n";
        return judged.iter().map(line).collect();
    }
    let mut out = "| what | measured | bar | held | command |\n|---|---|---|---|---|\n".to_owned();
    for Judged { what, command, unit, figure, bar, holds } in judged {
        let held = if *holds { "yes" } else { "**no**" };
        let figure = rounded(*figure);
        let _ = writeln!(out, "| {what} | {figure} {unit} | {bar} | {held} | `{command}` |");
    }
    out
}

fn rounded(figure: f64) -> String {
    if figure.abs() < 10.0 {
        format!("{figure:.2}")
    } else if figure.abs() < 1000.0 {
        format!("{figure:.1}")
    } else {
        format!("{figure:.0}")
    }
}

/// Puts the table between the document's marks.
pub(crate) fn write(file: &Path, table: &str) -> anyhow::Result<()> {
    let named = || file.display().to_string();
    let text = std::fs::read_to_string(file).with_context(named)?;
    let whole = placed(&text, table)
        .with_context(|| format!("{}: expected the lines {BEGIN} and {END}", named()))?;
    std::fs::write(file, whole).with_context(named)
}

fn placed(text: &str, table: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{table}{END}{after}"))
}

/// Whether a bar was missed.
pub(crate) fn is_missed(judged: &[Judged]) -> bool {
    judged.iter().any(|row| !row.holds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_takes_the_place_of_the_old_one() {
        let text = format!("a\n{BEGIN}\nold\n{END}\nb\n");
        assert_eq!(placed(&text, "new\n").unwrap(), format!("a\n{BEGIN}\nnew\n{END}\nb\n"));
        assert_eq!(placed("a", "new"), None);
    }

    #[test]
    fn a_bar_holds_at_its_very_limit_and_not_beyond() {
        assert!(Limit::AtMost(90.0).holds(90.0) && !Limit::AtMost(90.0).holds(90.1));
        assert!(Limit::AtLeast(1.2e6).holds(1.2e6) && !Limit::AtLeast(1.2e6).holds(1.1e6));
        assert!(!Limit::AtMost(90.0).holds(f64::NAN) && !Limit::AtLeast(1.0).holds(f64::NAN));
    }

    #[test]
    fn figures_are_found_in_rows_as_they_are_printed() {
        let row = r#"{"cycles_per_packet": 120.0, "synthetic_cycles_per_packet": 80.0}"#;
        let rows = vec![serde_json::from_str(row).unwrap(); 4];
        let bar = &MEASUREMENTS[0].bars[6];
        assert_eq!((bar.figure)(&rows, &rows), Some(1.5));
        assert_eq!((MEASUREMENTS[1].bars[0].figure)(&rows, &rows), Some(1.0));
    }
}
