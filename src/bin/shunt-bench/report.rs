//! What `run` prints: a table for people, JSON for programs. The JSON's keys are stable.

use std::fmt::Write as _;

use hdrhistogram::Histogram;
use serde::Serialize;
use shunt::dataplane::snapshot::Protocol;

use crate::bed::Round;
use crate::latency::Latency;
use crate::stages::StageCycles;
use crate::yardstick;

/// One row of measurement.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    /// How packets were forwarded.
    pub(crate) mode: &'static str,
    /// How backends were chosen.
    pub(crate) scheduler: &'static str,
    /// What connections spoke.
    pub(crate) protocol: Protocol,
    /// 4 or 6.
    pub(crate) ip: u8,
    /// Workers, each on a core of its own.
    pub(crate) workers: u8,
    /// Connections in their tables.
    pub(crate) flows: u32,
    /// Bytes of a frame, FCS included, on average.
    pub(crate) packet_size: f64,
    /// Packets measured.
    pub(crate) packets: u64,
    /// Millions of packets a second of the workers' time, both directions together (median round).
    pub(crate) mpps: f64,
    /// The same of one worker while the others sleep.
    pub(crate) one_worker_mpps: f64,
    /// All workers' rate over one's.
    pub(crate) scaling: f64,
    /// TSC cycles a packet: the median round.
    pub(crate) cycles_per_packet: f64,
    /// The same over all rounds.
    pub(crate) cycles_spread: Spread,
    /// TSC cycles a packet of plain forwarding through the same ports, in the same run.
    pub(crate) floor_cycles_per_packet: f64,
    /// TSC cycles a packet of looking up and rewriting alone, in the same table.
    pub(crate) synthetic_cycles_per_packet: f64,
    /// The same over all rounds.
    pub(crate) synthetic_spread: Spread,
    /// TSC cycles a packet of touching the lines of table that it needs, alone.
    pub(crate) memory_cycles_per_packet: f64,
    /// The same over all rounds.
    pub(crate) memory_spread: Spread,
    /// TSC cycles until a line of the table is there that was not asked for ahead.
    pub(crate) line_wait_cycles: Spread,
    /// Where the cycles go.
    pub(crate) stage_cycles: StageCycles,
    /// Connections made a second while prefilling.
    pub(crate) new_connections_per_second: f64,
    /// Bytes of table reserved for each connection, index included.
    pub(crate) bytes_per_connection: f64,
    /// Bytes of all tables of all workers.
    pub(crate) table_bytes: u64,
    /// Packets offered that did not leave.
    pub(crate) lost_packets: u64,
    /// Latency at half of what the worker can do, if it is the only one and there were two CPUs.
    pub(crate) latency_ns: Option<Latency>,
    /// Packets refused, by reason.
    pub(crate) refusals: Vec<(&'static str, u64)>,
}

/// One row of a flood.
#[derive(Debug, Serialize)]
pub(crate) struct FloodRow {
    /// `never`, `above` (a hundred a second) or `always`.
    pub(crate) cookies: &'static str,
    /// Established connections.
    pub(crate) flows: u32,
    /// Forged addresses.
    pub(crate) sources: u32,
    /// SYNs for each hundred packets of established connections.
    pub(crate) syns_per_100_packets: u32,
    /// SYNs of the flood.
    pub(crate) syns: u64,
    /// TSC cycles a packet of established connections, without the flood.
    pub(crate) alone_cycles_per_packet: Spread,
    /// The same when all of the flood's cost falls on them.
    pub(crate) flooded_cycles_per_packet: Spread,
    /// How much of their rate they keep on a worker that is busy to the last cycle.
    pub(crate) kept: f64,
    /// What a SYN costs, with all that follows from it.
    pub(crate) cycles_per_syn: f64,
    /// New clients that came during the flood.
    pub(crate) new_clients: u32,
    /// Those of them that a backend agreed to.
    pub(crate) connected_clients: u64,
    /// Packets of established connections that did not leave.
    pub(crate) lost_packets: u64,
    /// Packets refused, by reason.
    pub(crate) refusals: Vec<(&'static str, u64)>,
}

/// A figure over many rounds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Spread {
    /// Half of the rounds were below.
    pub(crate) median: f64,
    /// A tenth of the rounds were below.
    pub(crate) p10: f64,
    /// Nine tenths of the rounds were below.
    pub(crate) p90: f64,
    /// The median of those rounds that had the [whole core](crate::yardstick); `None` if there were too few.
    pub(crate) undisturbed: Option<f64>,
    /// How many of them there were, of a hundred.
    pub(crate) undisturbed_percent: f64,
}

/// Undisturbed rounds that say something.
const ENOUGH: u64 = 20;

impl Spread {
    /// The spread of rounds; zeros if there are none.
    pub(crate) fn of(rounds: impl Iterator<Item = Round>) -> anyhow::Result<Self> {
        // Thousandths of a cycle a packet, to three significant digits.
        let (mut all, mut undisturbed) = (Histogram::<u64>::new(3)?, Histogram::<u64>::new(3)?);
        for Round { cycles, packets, yardstick } in rounds {
            let figure = cycles.saturating_mul(1000) / packets.max(1);
            all.record(figure)?;
            if yardstick::is_undisturbed(yardstick) {
                undisturbed.record(figure)?;
            }
        }
        let at = |quantile| thousandths(&all, quantile);
        let count = undisturbed.len();
        Ok(Self {
            median: at(0.5),
            p10: at(0.1),
            p90: at(0.9),
            undisturbed: (count >= ENOUGH).then(|| thousandths(&undisturbed, 0.5)),
            undisturbed_percent: 100.0 * ratio(count, all.len().max(1)),
        })
    }
}

impl std::fmt::Display for Spread {
    /// The median, in brackets a tenth and nine tenths, and what undisturbed rounds say.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { median, p10, p90, undisturbed, undisturbed_percent } = self;
        let alone = undisturbed.map(|alone| format!("; {alone:.1} in {undisturbed_percent:.0} %"));
        f.pad(&format!("{median:.1} ({p10:.1}-{p90:.1}{})", alone.unwrap_or_default()))
    }
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn thousandths(histogram: &Histogram<u64>, quantile: f64) -> f64 {
    histogram.value_at_quantile(quantile) as f64 / 1000.0
}

/// One figure in terms of another.
#[expect(clippy::cast_precision_loss, reason = "figures for people")]
pub(crate) fn ratio(a: u64, b: u64) -> f64 {
    a as f64 / b as f64
}

/// The rows as text: a table, or an object a line.
pub(crate) fn render(rows: &[Row], json: bool) -> String {
    if json {
        let line = |row: &Row| serde_json::to_string(row).unwrap_or_default() + "\n";
        return rows.iter().map(line).collect();
    }
    let mut out = String::new();
    let _ = writeln!(
        out,
        "{:<8} {:>10} {:>6} {:>7} {:>36} {:>6} {:>6} {:>9} {:>6} {:>9} {:>7} {:>5}  {:<31} {:>20}",
        "mode",
        "flows",
        "bytes",
        "Mpps",
        "cycles (10-90%; undisturbed)",
        "floor",
        "ratio",
        "synthetic",
        "memory",
        "new conn/s",
        "B/conn",
        "lost",
        "ports+parse+lookup+rewrite+other",
        "µs p50/p99/p99.9",
    );
    for row in rows {
        line(&mut out, row);
    }
    out
}

fn line(out: &mut String, row: &Row) {
    let _ = writeln!(
        out,
        "{:<8} {:>10} {:>6.0} {:>7.2} {:>36} {:>6.1} {:>6.1} {:>9.1} {:>6.1} {:>10.0} {:>7.1} {:>5}  {:<32} {:>20}",
        row.mode,
        row.flows,
        row.packet_size,
        row.mpps,
        row.cycles_spread,
        row.floor_cycles_per_packet,
        row.cycles_per_packet / row.floor_cycles_per_packet,
        row.synthetic_cycles_per_packet,
        row.memory_cycles_per_packet,
        row.new_connections_per_second,
        row.bytes_per_connection,
        row.lost_packets,
        stages(&row.stage_cycles),
        row.latency_ns.map_or_else(|| "-".to_owned(), latency),
    );
    if row.workers > 1 {
        let Row { workers, one_worker_mpps: one, scaling, .. } = row;
        let _ = writeln!(
            out,
            "         {workers} workers: {scaling:.2} times one alone ({one:.2} Mpps)"
        );
    }
    for (reason, count) in &row.refusals {
        let _ = writeln!(out, "         refused {count} ({reason})");
    }
}

/// Rows of a flood as text.
pub(crate) fn render_flood(rows: &[FloodRow], json: bool) -> String {
    if json {
        let line = |row: &FloodRow| serde_json::to_string(row).unwrap_or_default() + "\n";
        return rows.iter().map(line).collect();
    }
    let mut out = String::new();
    let _ = writeln!(
        out,
        "{:<8} {:>10} {:>9} {:>36} {:>36} {:>7} {:>10} {:>8} {:>9} {:>6}",
        "cookies",
        "flows",
        "SYNs",
        "alone (10-90%)",
        "flooded (10-90%)",
        "kept",
        "cycles/SYN",
        "clients",
        "connected",
        "lost"
    );
    for row in rows {
        let _ = writeln!(
            out,
            "{:<8} {:>10} {:>9} {:>36} {:>36} {:>6.1}% {:>10.0} {:>8} {:>9} {:>6}",
            row.cookies,
            row.flows,
            row.syns,
            row.alone_cycles_per_packet,
            row.flooded_cycles_per_packet,
            row.kept * 100.0,
            row.cycles_per_syn,
            row.new_clients,
            row.connected_clients,
            row.lost_packets
        );
        for (reason, count) in &row.refusals {
            let _ = writeln!(out, "         refused {count} ({reason})");
        }
    }
    out
}

fn stages(cycles: &StageCycles) -> String {
    let StageCycles { ports, parse, lookup, rewrite, other } = cycles;
    format!("{ports:.1}+{parse:.1}+{lookup:.1}+{rewrite:.1}+{other:.1}")
}

fn latency(figure: Latency) -> String {
    let Latency { p50, p99, p999, .. } = figure;
    format!("{:.1}/{:.1}/{:.1}", p50 / 1e3, p99 / 1e3, p999 / 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_that_of_its_rounds_to_three_digits() {
        let round = |cycles, packets| Round { cycles, packets, yardstick: u64::MAX };
        let rounds = (1..=99u64).map(|n| round(n * 2048, 2048));
        let spread = Spread::of(rounds).unwrap();
        for (figure, expected) in [(spread.p10, 10.0), (spread.median, 50.0), (spread.p90, 90.0)] {
            assert!((figure - expected).abs() < 0.1, "{spread:?}");
        }
        let large = Spread::of([round(5_000_000, 10)].into_iter()).unwrap();
        assert!((large.median / 500_000.0 - 1.0).abs() < 0.001, "{large:?}");
    }

    #[test]
    fn rounds_that_had_the_whole_core_are_told_from_the_others() {
        let fastest = (0..100).map(|_| yardstick::take()).min().unwrap_or_default();
        let whole = Round { cycles: 100, packets: 1, yardstick: 1 };
        let half = Round { cycles: 200, packets: 1, yardstick: fastest * 4 };
        let of = |whole_ones, halves| {
            let rounds =
                std::iter::repeat_n(whole, whole_ones).chain(std::iter::repeat_n(half, halves));
            Spread::of(rounds).unwrap()
        };
        let spread = of(20, 60);
        assert!((spread.median - 200.0).abs() < 0.2, "{spread:?}");
        assert!(
            spread.undisturbed.is_some_and(|median| (median - 100.0).abs() < 0.2),
            "{spread:?}"
        );
        assert!((spread.undisturbed_percent - 25.0).abs() < 0.1, "{spread:?}");
        assert_eq!(of(19, 60).undisturbed, None, "too few");
    }
}
