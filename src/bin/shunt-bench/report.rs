//! What is printed: a table for people, JSON for programs. The JSON's keys are stable.

use std::fmt::Write as _;

use hdrhistogram::Histogram;
use serde::Serialize;

/// One row of measurement.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    /// How packets were forwarded.
    pub(crate) mode: &'static str,
    /// Connections in the table.
    pub(crate) flows: u32,
    /// Bytes of a frame, FCS included.
    pub(crate) packet_size: u16,
    /// Packets measured.
    pub(crate) packets: u64,
    /// Millions of packets a second of one core's time, both directions together (median round).
    pub(crate) mpps: f64,
    /// TSC cycles a packet.
    pub(crate) cycles_per_packet: Spread,
    /// TSC cycles a packet of plain forwarding through the same ports, in the same run.
    pub(crate) floor_cycles_per_packet: Spread,
    /// Connections made a second while prefilling.
    pub(crate) new_connections_per_second: f64,
    /// Bytes of table reserved for each connection, index included.
    pub(crate) bytes_per_connection: f64,
    /// Packets offered that did not leave.
    pub(crate) lost_packets: u64,
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
}

impl Spread {
    /// The spread of rounds, each so many cycles for so many packets; zeros if there are none.
    pub(crate) fn of(rounds: impl Iterator<Item = (u64, u64)>) -> anyhow::Result<Self> {
        // Thousandths of a cycle a packet, to three significant digits.
        let mut histogram = Histogram::<u64>::new(3)?;
        for (cycles, packets) in rounds {
            histogram.record(cycles.saturating_mul(1000) / packets.max(1))?;
        }
        #[expect(clippy::cast_precision_loss, reason = "figures for people")]
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1000.0;
        Ok(Self { median: at(0.5), p10: at(0.1), p90: at(0.9) })
    }
}

/// The rows as text.
pub(crate) fn render(rows: &[Row], json: bool) -> String {
    if json {
        let text = serde_json::to_string_pretty(rows).unwrap_or_default();
        return text + "\n";
    }
    let mut out = String::new();
    let _ = writeln!(
        out,
        "{:<8} {:>10} {:>6} {:>8} {:>22} {:>22} {:>6} {:>12} {:>8} {:>6}",
        "mode",
        "flows",
        "bytes",
        "Mpps",
        "cycles/packet (10-90%)",
        "floor (10-90%)",
        "ratio",
        "new conn/s",
        "B/conn",
        "lost"
    );
    for row in rows {
        let _ = writeln!(
            out,
            "{:<8} {:>10} {:>6} {:>8.2} {:>22} {:>22} {:>6.1} {:>12.0} {:>8.1} {:>6}",
            row.mode,
            row.flows,
            row.packet_size,
            row.mpps,
            spread(row.cycles_per_packet),
            spread(row.floor_cycles_per_packet),
            row.cycles_per_packet.median / row.floor_cycles_per_packet.median,
            row.new_connections_per_second,
            row.bytes_per_connection,
            row.lost_packets
        );
        for (reason, count) in &row.refusals {
            let _ = writeln!(out, "         refused {count} ({reason})");
        }
    }
    out
}

/// Rows of a flood as text.
pub(crate) fn render_flood(rows: &[FloodRow], json: bool) -> String {
    if json {
        return serde_json::to_string_pretty(rows).unwrap_or_default() + "\n";
    }
    let mut out = String::new();
    let _ = writeln!(
        out,
        "{:<8} {:>10} {:>9} {:>22} {:>22} {:>7} {:>10} {:>8} {:>9} {:>6}",
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
            "{:<8} {:>10} {:>9} {:>22} {:>22} {:>6.1}% {:>10.0} {:>8} {:>9} {:>6}",
            row.cookies,
            row.flows,
            row.syns,
            spread(row.alone_cycles_per_packet),
            spread(row.flooded_cycles_per_packet),
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

fn spread(figure: Spread) -> String {
    format!("{:.1} ({:.1}-{:.1})", figure.median, figure.p10, figure.p90)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_that_of_its_rounds_to_three_digits() {
        let rounds = (1..=99u64).map(|n| (n * 2048, 2048));
        let spread = Spread::of(rounds).unwrap();
        for (figure, expected) in [(spread.p10, 10.0), (spread.median, 50.0), (spread.p90, 90.0)] {
            assert!((figure - expected).abs() < 0.1, "{spread:?}");
        }
        let large = Spread::of([(5_000_000, 10)].into_iter()).unwrap();
        assert!((large.median / 500_000.0 - 1.0).abs() < 0.001, "{large:?}");
    }
}
