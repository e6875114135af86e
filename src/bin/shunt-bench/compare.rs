//! `compare`: two builds in turn, on the same machine, in the same minutes.
//!
//! Each turn runs `run --json` of one build and then of the other, so that whatever else the machine
//! does meets both. The figure is the ratio of the two medians; their spread says what it is worth.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};

/// What `compare` runs.
#[derive(Clone, Debug, Args)]
pub(crate) struct CompareOptions {
    /// A `shunt-bench`: before.
    pub(crate) a: PathBuf,
    /// Another: after.
    pub(crate) b: PathBuf,
    /// Turns.
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) turns: u32,
    /// Print JSON, an object a line.
    #[arg(long)]
    pub(crate) json: bool,
    /// Options of `run`, behind `--`.
    #[arg(last = true)]
    pub(crate) options: Vec<String>,
}

/// What is read of a build's row.
#[derive(Clone, Debug, Deserialize)]
struct Row {
    flows: u32,
    cycles_per_packet: f64,
    floor_cycles_per_packet: f64,
}

/// One number of connections, with both builds.
#[derive(Debug, Serialize)]
pub(crate) struct Compared {
    /// Connections.
    pub(crate) flows: u32,
    /// Cycles a packet of each turn, sorted.
    pub(crate) a: Vec<f64>,
    /// The other build's.
    pub(crate) b: Vec<f64>,
    /// The floor's, of both.
    pub(crate) floor: Vec<f64>,
    /// Median of `b` over median of `a`.
    pub(crate) ratio: f64,
}

/// Runs both in turn.
pub(crate) fn run(options: &CompareOptions) -> anyhow::Result<Vec<Compared>> {
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for _ in 0..options.turns {
        a.push(rows(&options.a, &options.options)?);
        b.push(rows(&options.b, &options.options)?);
    }
    let first = a.first().context("no turn was run")?;
    (0..first.len()).map(|row| compared(&a, &b, row)).collect()
}

fn rows(program: &Path, options: &[String]) -> anyhow::Result<Vec<Row>> {
    let output = Command::new(program).args(["run", "--json"]).args(options).output();
    let output = output.with_context(|| format!("cannot run {}", program.display()))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{} failed: {said}", program.display());
    let text = String::from_utf8(output.stdout)?;
    let row = |line: &str| serde_json::from_str(line).context("expected a row of `run --json`");
    text.lines().map(row).collect()
}

fn compared(a: &[Vec<Row>], b: &[Vec<Row>], row: usize) -> anyhow::Result<Compared> {
    let column = |turns: &[Vec<Row>], figure: fn(&Row) -> f64| {
        let mut figures: Vec<_> =
            turns.iter().filter_map(|rows| rows.get(row)).map(figure).collect();
        figures.sort_by(f64::total_cmp);
        figures
    };
    let cycles = |row: &Row| row.cycles_per_packet;
    let (of_a, of_b) = (column(a, cycles), column(b, cycles));
    let mut floor = column(a, |row| row.floor_cycles_per_packet);
    floor.extend(column(b, |row| row.floor_cycles_per_packet));
    floor.sort_by(f64::total_cmp);
    let flows = a.first().and_then(|rows| rows.get(row)).context("a row is missing")?.flows;
    let ratio = median(&of_b) / median(&of_a);
    Ok(Compared { flows, a: of_a, b: of_b, floor, ratio })
}

/// Of sorted figures.
fn median(figures: &[f64]) -> f64 {
    let middle = figures.len() / 2;
    match figures {
        [] => f64::NAN,
        _ if figures.len() % 2 == 1 => figures[middle],
        _ => f64::midpoint(figures[middle - 1], figures[middle]),
    }
}

/// The rows as text.
pub(crate) fn render(rows: &[Compared], json: bool) -> String {
    if json {
        let line = |row: &Compared| serde_json::to_string(row).unwrap_or_default() + "\n";
        return rows.iter().map(line).collect();
    }
    let spread = |figures: &[f64]| {
        let (least, most) = (figures.first(), figures.last());
        let [least, most] = [least, most].map(|figure| figure.copied().unwrap_or(f64::NAN));
        format!("{:.1} ({least:.1}-{most:.1})", median(figures))
    };
    let head = format!(
        "{:>10} {:>22} {:>22} {:>16} {:>7}\n",
        "flows", "A cycles", "B cycles", "floor", "B/A"
    );
    rows.iter().fold(head, |text, row| {
        let (a, b, floor) = (spread(&row.a), spread(&row.b), spread(&row.floor));
        text + &format!("{:>10} {a:>22} {b:>22} {floor:>16} {:>7.3}\n", row.flows, row.ratio)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(figures: &[f64]) -> Vec<Vec<Row>> {
        let row = |&cycles_per_packet: &f64| {
            vec![Row { flows: 7, cycles_per_packet, floor_cycles_per_packet: 1.0 }]
        };
        figures.iter().map(row).collect()
    }

    #[test]
    fn the_ratio_is_that_of_the_medians() {
        let found = compared(&turns(&[10.0, 30.0, 20.0]), &turns(&[30.0, 10.0, 20.0, 40.0]), 0);
        let found = found.unwrap();
        assert_eq!(found.a, [10.0, 20.0, 30.0]);
        assert!((found.ratio - 1.25).abs() < 1e-9, "{found:?}");
        assert_eq!(found.flows, 7);
    }

    #[test]
    fn a_row_that_is_missing_is_an_error() {
        assert!(compared(&turns(&[1.0]), &turns(&[1.0]), 1).is_err());
    }
}
