//! `standard`: everything that has a bar, measured in one go, with the bar beside it.
//!
//! Each measurement is a process of its own (DPDK starts once in a process), the same that anybody
//! can run by hand; the figure is taken out of its JSON. What is held against something else takes turns with it.

mod figures;
mod origin;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use clap::Args;
use serde_json::Value;

use self::figures::{Bar, Figure, Measurement, Rows};

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
    /// Run everything as shortly as it can be, to see that it runs: the figures are worth nothing.
    #[arg(long, conflicts_with = "write", conflicts_with = "assert")]
    pub(crate) rehearse: bool,
}

/// A bar and what was measured.
#[derive(Debug, serde::Serialize)]
pub(crate) struct Judged {
    what: &'static str,
    command: &'static str,
    /// What it took turns with.
    beside: Option<&'static str>,
    unit: &'static str,
    figure: f64,
    /// Of rounds the tenth and ninetieth percentile, of turns the lowest and highest.
    range: Option<[f64; 2]>,
    /// What the figure may be off by, where that is known.
    off_by: f64,
    /// The figure of undisturbed rounds alone, if there were enough.
    undisturbed: Option<f64>,
    /// What else belongs to it.
    note: String,
    bar: String,
    /// `null` where there is no bar, or nobody can tell.
    holds: Option<bool>,
    /// The same of undisturbed rounds.
    holds_undisturbed: Option<bool>,
}

/// All of it.
pub(crate) struct Found {
    judged: Vec<Judged>,
    origin: String,
    detail: String,
}

/// Measures all of it, or sees whether it could.
pub(crate) fn run(rehearse: bool) -> anyhow::Result<Found> {
    let begun = Instant::now();
    let (mut judged, mut first) = (Vec::new(), None);
    for measurement in figures::MEASUREMENTS {
        let rows = if rehearse { rehearsed(measurement)? } else { measured(measurement)? };
        for bar in measurement.bars {
            judged.push(judge(bar, measurement, &rows)?);
        }
        first.get_or_insert(rows);
    }
    let first = first.unwrap_or_default();
    let (origin, detail) = (origin::line(&first, begun.elapsed()), origin::detail(&first));
    Ok(Found { judged, origin, detail })
}

fn measured(measurement: &Measurement) -> anyhow::Result<Vec<Value>> {
    let Some((other, turns)) = measurement.beside else {
        eprintln!("shunt-bench {}", measurement.options);
        return rows(measurement.options);
    };
    eprintln!("shunt-bench {} (in turn with `{other}`, {turns} times)", measurement.options);
    let mut pairs = Vec::new();
    for _ in 0..turns {
        pairs.extend(rows(other)?);
        pairs.extend(rows(measurement.options)?);
    }
    Ok(pairs)
}

/// As [`measured`], of numbers that say nothing.
fn rehearsed(measurement: &Measurement) -> anyhow::Result<Vec<Value>> {
    let pairs = if measurement.beside.is_some() { 2 } else { 1 };
    let all =
        (0..pairs).map(|_| rows(measurement.rehearsal)).collect::<anyhow::Result<Vec<_>>>()?;
    Ok(all.concat())
}

fn judge(bar: &Bar, measurement: &Measurement, rows: &[Value]) -> anyhow::Result<Judged> {
    let command = measurement.options;
    let figure = (bar.figure)(&Rows(rows));
    let figure = figure.with_context(|| format!("`{command}` says nothing of: {}", bar.what))?;
    let holds = bar.limit.holds(&figure);
    let holds_undisturbed = bar.limit.holds_undisturbed(&figure);
    let Figure { value, range, off_by, undisturbed, note } = figure;
    Ok(Judged {
        what: bar.what,
        command,
        beside: measurement.beside.map(|(other, _)| other),
        unit: bar.unit,
        figure: value,
        range,
        off_by,
        undisturbed,
        note,
        bar: bar.limit.to_string(),
        holds,
        holds_undisturbed,
    })
}

/// The rows of one command. Packets that were lost (exit code 1) are a result as well.
fn rows(options: &str) -> anyhow::Result<Vec<Value>> {
    let program = std::env::current_exe().context("where is this program?")?;
    let output = Command::new(program).args(options.split(' ')).arg("--json").output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    let has_measured = matches!(output.status.code(), Some(0 | 1));
    ensure!(has_measured, "`shunt-bench {options}` failed: {said}");
    let text = String::from_utf8(output.stdout)?;
    text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

const HEAD: &str = "| what | measured | range | undisturbed | bar | held | command |\n|---|---|---|---|---|---|---|\n";

/// Tables as Markdown with what they are of, or an object a line.
pub(crate) fn render(found: &Found, json: bool) -> String {
    if json {
        let line = |row: &Judged| serde_json::to_string(row).unwrap_or_default() + "\n";
        return found.judged.iter().map(line).collect();
    }
    let mut out = format!("{}\n{HEAD}", found.origin);
    found.judged.iter().for_each(|row| row.write(&mut out));
    let _ = write!(out, "\nThe first command in detail, cycles a packet:\n\n{}", found.detail);
    out
}

impl Judged {
    fn write(&self, out: &mut String) {
        let Self { what, command, unit, bar, note, .. } = self;
        let figure = rounded(self.figure);
        let range = match self.range {
            Some([low, high]) => format!("{} to {}", rounded(low), rounded(high)),
            None if self.off_by > 0.0 => format!("± {}", rounded(self.off_by)),
            None => String::new(),
        };
        let held = match (self.holds, self.holds_undisturbed) {
            (Some(true), _) => "yes",
            (Some(false), Some(true)) => "**no**; undisturbed yes",
            (Some(false), _) => "**no**",
            (None, _) if bar.is_empty() => "",
            (None, _) => "cannot be told",
        };
        let undisturbed = self.undisturbed.map(rounded).unwrap_or_default();
        let note = if note.is_empty() { String::new() } else { format!(" ({note})") };
        let _ = writeln!(
            out,
            "| {what} | {figure} {unit}{note} | {range} | {undisturbed} | {bar} | {held} | `{command}` |"
        );
    }
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
pub(crate) fn is_missed(found: &Found) -> bool {
    found.judged.iter().any(|row| row.holds == Some(false))
}

#[cfg(test)]
mod tests {
    use super::figures::Limit;
    use super::*;

    #[test]
    fn the_table_takes_the_place_of_the_old_one() {
        let text = format!("a\n{BEGIN}\nold\n{END}\nb\n");
        assert_eq!(placed(&text, "new\n").unwrap(), format!("a\n{BEGIN}\nnew\n{END}\nb\n"));
        assert_eq!(placed("a", "new"), None);
    }

    #[test]
    fn a_row_says_what_is_known_of_its_figure_and_nothing_else() {
        let figure: fn(&Rows<'_>) -> Option<Figure> = |rows| {
            Some(Figure { off_by: rows.number(0, "/off_by")?, ..rows.number(0, "/lost")?.into() })
        };
        let line = |lost: f64, off_by: f64, limit| {
            let bar = Bar { what: "lost", unit: "packets", figure, limit };
            let (options, rehearsal) = ("reload", "");
            let measurement = Measurement { options, rehearsal, beside: None, bars: &[] };
            let rows = [serde_json::json!({ "lost": lost, "off_by": off_by })];
            let mut out = String::new();
            judge(&bar, &measurement, &rows).unwrap().write(&mut out);
            out
        };
        let none = Limit::AtMost(0.0);
        assert_eq!(line(0.0, 0.0, none), "| lost | 0.00 packets |  |  | ≤ 0 | yes | `reload` |\n");
        assert_eq!(
            line(2.0, 0.0, none),
            "| lost | 2.00 packets |  |  | ≤ 0 | **no** | `reload` |\n"
        );
        let told = "| lost | 1.00 packets | ± 2.00 |  | ≤ 0 | cannot be told | `reload` |\n";
        assert_eq!(line(1.0, 2.0, none), told);
        assert_eq!(
            line(1.0, 0.0, Limit::Nowhere),
            "| lost | 1.00 packets |  |  |  |  | `reload` |\n"
        );
    }
}
