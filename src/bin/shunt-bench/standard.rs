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
    figure: fn(&Rows<'_>) -> Option<f64>,
    limit: Limit,
}

/// What was printed, and which of its rounds are asked for.
struct Rows<'a> {
    /// Of the bar's own command.
    own: &'a [Value],
    /// Of the first command.
    first: &'a [Value],
    /// [`MEDIAN`] or [`TENTH`].
    rounds: &'static str,
}

/// Key of a spread's median.
const MEDIAN: &str = "median";
/// Key of what a tenth of the rounds stayed below: those that neighbours disturbed least.
const TENTH: &str = "p10";

impl Rows<'_> {
    fn number(&self, row: usize, path: &str) -> Option<f64> {
        number(self.own, row, path)
    }

    /// Of a spread, the rounds asked for.
    fn spread(&self, row: usize, path: &str) -> Option<f64> {
        self.number(row, &format!("{path}/{}", self.rounds))
    }

    fn cycles(&self, row: usize) -> Option<f64> {
        self.spread(row, "/cycles_spread")
    }

    fn over_synthetic(&self, row: usize) -> Option<f64> {
        Some(self.number(row, CYCLES_KEY)? / self.number(row, "/synthetic_cycles_per_packet")?)
    }

    /// A rate that was computed from the median, as the rounds asked for have it.
    fn rate(&self, row: usize, rate: &str, cycles: &str) -> Option<f64> {
        let median = self.number(row, &format!("{cycles}/{MEDIAN}"))?;
        Some(self.number(row, rate)? * median / self.spread(row, cycles)?)
    }

    /// How much more one spread is than another.
    fn more(&self, row: usize, one: &str, other: &str) -> Option<f64> {
        Some(self.spread(row, one)? - self.spread(row, other)?)
    }
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

/// Of the only row, against a million connections of the first command.
fn beside_fullnat(rows: &Rows<'_>) -> Option<f64> {
    let path = format!("/cycles_spread/{}", rows.rounds);
    Some(number(rows.own, 0, &path)? / number(rows.first, MILLION, &path)?)
}

const CYCLES: &str = "cycles a packet";
const TIMES: &str = "times";
const CYCLES_KEY: &str = "/cycles_per_packet";
const MILLION: usize = 2;

fn number(rows: &[Value], row: usize, path: &str) -> Option<f64> {
    rows.get(row)?.pointer(path)?.as_f64()
}

const fn most(
    what: &'static str,
    unit: &'static str,
    limit: f64,
    figure: fn(&Rows<'_>) -> Option<f64>,
) -> Bar {
    Bar { what, unit, figure, limit: Limit::AtMost(limit) }
}

const fn least(
    what: &'static str,
    unit: &'static str,
    limit: f64,
    figure: fn(&Rows<'_>) -> Option<f64>,
) -> Bar {
    Bar { what, unit, figure, limit: Limit::AtLeast(limit) }
}

/// All there is, in the order it is run.
const MEASUREMENTS: &[Measurement] = &[
    Measurement {
        options: "run --flows 1000,64000,1000000,10000000 --duration 10",
        bars: &[
            most("FULL-NAT, 1,000 connections", CYCLES, 90.0, |rows| rows.cycles(0)),
            most("FULL-NAT, 64,000 connections", CYCLES, 90.0, |rows| rows.cycles(1)),
            most("FULL-NAT, 1 million connections", CYCLES, 150.0, |rows| rows.cycles(2)),
            most("FULL-NAT, 10 million connections", CYCLES, 160.0, |rows| rows.cycles(3)),
            most("against table and rewrite alone, 1,000", TIMES, 1.8, |rows| {
                rows.over_synthetic(0)
            }),
            most("against table and rewrite alone, 64,000", TIMES, 1.8, |rows| {
                rows.over_synthetic(1)
            }),
            most("against table and rewrite alone, 1 million", TIMES, 1.8, |rows| {
                rows.over_synthetic(2)
            }),
            most("against table and rewrite alone, 10 million", TIMES, 1.8, |rows| {
                rows.over_synthetic(3)
            }),
            most("bytes of a connection, index included", "bytes", 128.0, |rows| {
                rows.number(2, "/bytes_per_connection")
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
            most("a packet that makes a connection, one ends", "cycles", 500.0, |rows| {
                rows.spread(0, "/cycles_per_connection")
            }),
            least("TCP lives, SYN to last ACK", "a second", 1.2e6, |rows| {
                rows.rate(1, "/connections_per_second", "/cycles_per_connection")
            }),
        ],
    },
    Measurement {
        options: "choices --backends 1000",
        bars: &[most("a new connection over rr, costliest scheduler", "cycles", 200.0, |rows| {
            let (one, rr) = ("/cycles_per_connection", "/rr_cycles_per_connection");
            let over = (0..rows.own.len()).filter_map(|row| rows.more(row, one, rr));
            over.reduce(f64::max)
        })],
    },
    Measurement {
        options: "reload --backends 10000",
        bars: &[
            most("reload of 10,000 backends, 99 of 100 pauses", "µs", 50.0, |rows| {
                rows.number(0, "/pause_us/p99")
            }),
            most("packets lost in it", "packets", 0.0, |rows| rows.number(0, "/lost_packets")),
        ],
    },
    Measurement {
        options: "handover",
        bars: &[most("handover of a packet, on top", "cycles", 80.0, |rows| {
            rows.more(0, "/handed_over_cycles_per_packet", "/direct_cycles_per_packet")
        })],
    },
    Measurement {
        options: "overhead --duration 10",
        bars: &[most("metrics, latency samples, idle capture hooks: on top", "%", 3.0, |rows| {
            rows.number(0, "/overhead_percent")
        })],
    },
    Measurement {
        options: "flood --duration 3",
        bars: &[least("a SYN flood, cookies above 100 a second: kept", "of 1", 0.9, |rows| {
            let (alone, flooded) = ("/alone_cycles_per_packet", "/flooded_cycles_per_packet");
            Some(rows.spread(1, alone)? / rows.spread(1, flooded)?)
        })],
    },
    Measurement {
        options: "sweep --tolerated-ppm 100",
        bars: &[most("latency added at half load, p99.9", "µs", 20.0, |rows| {
            Some(rows.number(0, "/latency/1/added_p999_ns")? / 1e3)
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
    /// The same of the least disturbed tenth of the rounds, where there are rounds.
    least_disturbed: Option<f64>,
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
    let of = |rounds| {
        let figure = (bar.figure)(&Rows { own: rows, first, rounds });
        figure.with_context(|| format!("`{command}` says nothing of: {}", bar.what))
    };
    let (figure, tenth) = (of(MEDIAN)?, of(TENTH)?);
    Ok(Judged {
        what: bar.what,
        command,
        unit: bar.unit,
        figure,
        least_disturbed: (tenth.to_bits() != figure.to_bits()).then_some(tenth),
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

const HEAD: &str = "| what | measured | least disturbed tenth | bar | held | command |\n\
                    |---|---|---|---|---|---|\n";

/// The table as Markdown, or an object a line.
pub(crate) fn render(judged: &[Judged], json: bool) -> String {
    if json {
        let line = |row: &Judged| serde_json::to_string(row).unwrap_or_default() + "\n";
        return judged.iter().map(line).collect();
    }
    let mut out = HEAD.to_owned();
    for Judged { what, command, unit, figure, least_disturbed, bar, holds } in judged {
        let held = if *holds { "yes" } else { "**no**" };
        let (figure, tenth) = (rounded(*figure), least_disturbed.map_or_else(String::new, rounded));
        let _ =
            writeln!(out, "| {what} | {figure} {unit} | {tenth} | {bar} | {held} | `{command}` |");
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
        let row = r#"{"cycles_per_packet": 120.0, "synthetic_cycles_per_packet": 80.0,
            "cycles_spread": {"median": 120.0, "p10": 100.0, "p90": 200.0},
            "cycles_per_connection": {"median": 500.0, "p10": 400.0}, "connections_per_second": 8.0}"#;
        let own = vec![serde_json::from_str(row).unwrap(); 4];
        let of = |rounds| Rows { own: &own, first: &own, rounds };
        assert_eq!((MEASUREMENTS[0].bars[6].figure)(&of(MEDIAN)), Some(1.5));
        assert_eq!((MEASUREMENTS[0].bars[0].figure)(&of(MEDIAN)), Some(120.0));
        assert_eq!((MEASUREMENTS[0].bars[0].figure)(&of(TENTH)), Some(100.0));
        assert_eq!((MEASUREMENTS[1].bars[0].figure)(&of(TENTH)), Some(1.0));
        let (rate, cycles) = ("/connections_per_second", "/cycles_per_connection");
        assert_eq!(of(MEDIAN).rate(0, rate, cycles), Some(8.0));
        assert_eq!(of(TENTH).rate(0, rate, cycles), Some(10.0));
    }

    #[test]
    fn a_figure_without_rounds_has_no_least_disturbed_tenth() {
        let rows = [serde_json::json!({"lost_packets": 0.0})];
        let bar = most("lost", "packets", 0.0, |rows| rows.number(0, "/lost_packets"));
        let judged = judge(&bar, "reload", &rows, &rows).unwrap();
        assert!(judged.holds && judged.least_disturbed.is_none());
        assert!(render(&[judged], false).contains("| lost | 0.00 packets |  | ≤ 0 | yes |"));
    }
}
