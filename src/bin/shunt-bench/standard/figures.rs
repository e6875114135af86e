//! What is measured, which figure of it has a bar, and where the bar is.
//!
//! A figure comes with what says how much it is worth: of rounds the tenth and the ninetieth percentile, of turns
//! the lowest and the highest, and what a difference of two medians may be off by. Ratios and differences are
//! of one run, or of two that took turns; nothing is compared with what was measured minutes before.

use serde_json::Value;

/// A command whose rows figures are taken from.
pub(super) struct Measurement {
    pub(super) options: &'static str,
    /// The same, as short as it can be: to see that it runs.
    pub(super) rehearsal: &'static str,
    /// Run in turn with this one, so often: rows are this one's and the other's, in pairs.
    pub(super) beside: Option<(&'static str, usize)>,
    pub(super) bars: &'static [Bar],
}

/// A figure and what it is held to.
pub(super) struct Bar {
    pub(super) what: &'static str,
    pub(super) unit: &'static str,
    pub(super) figure: fn(&Rows<'_>) -> Option<Figure>,
    pub(super) limit: Limit,
}

/// What was measured, and how much that is worth.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Figure {
    pub(super) value: f64,
    /// Lowest and highest: of rounds a tenth and nine tenths, of turns all.
    pub(super) range: Option<[f64; 2]>,
    /// What it may be off by.
    pub(super) off_by: f64,
    /// The same of [undisturbed](crate::yardstick) rounds alone.
    pub(super) undisturbed: Option<f64>,
    /// What else belongs to it.
    pub(super) note: String,
}

impl From<f64> for Figure {
    fn from(value: f64) -> Self {
        Self { value, range: None, off_by: 0.0, undisturbed: None, note: String::new() }
    }
}

/// What was printed.
pub(super) struct Rows<'a>(pub(super) &'a [Value]);

impl Rows<'_> {
    pub(super) fn number(&self, row: usize, path: &str) -> Option<f64> {
        self.0.get(row)?.pointer(path)?.as_f64()
    }

    fn plain(&self, row: usize, path: &str) -> Option<Figure> {
        self.number(row, path).map(Figure::from)
    }

    /// Median, tenth and ninetieth percentile of the rounds.
    fn spread(&self, row: usize, path: &str) -> Option<Figure> {
        let of = |name: &str| self.number(row, &format!("{path}/{name}"));
        let range = Some([of("p10")?, of("p90")?]);
        Some(Figure { range, undisturbed: of("undisturbed"), ..of("median")?.into() })
    }

    fn cycles(&self, row: usize) -> Option<Figure> {
        self.spread(row, "/cycles_spread")
    }

    fn over_synthetic(&self, row: usize) -> Option<Figure> {
        self.both(row, "/cycles_spread", "/synthetic_spread", |all, alone| all / alone)
    }

    /// A rate, and the range that follows from that of its cycles.
    fn rate(&self, row: usize, rate: &str, cycles: &str) -> Option<Figure> {
        let (value, cycles) = (self.number(row, rate)?, self.spread(row, cycles)?);
        let of = |other: f64| value * cycles.value / other;
        let [low, high] = cycles.range?.map(of);
        let undisturbed = cycles.undisturbed.map(of);
        Some(Figure { range: Some([high, low]), undisturbed, ..value.into() })
    }

    /// How much more one median is than another.
    fn more(&self, row: usize, one: &str, other: &str) -> Option<Figure> {
        self.both(row, one, other, |one, other| one - other)
    }

    /// What two medians come to, of all rounds and of undisturbed ones.
    fn both(&self, row: usize, one: &str, other: &str, of: fn(f64, f64) -> f64) -> Option<Figure> {
        let (one, other) = (self.spread(row, one)?, self.spread(row, other)?);
        let undisturbed = one.undisturbed.zip(other.undisturbed).map(|(one, other)| of(one, other));
        Some(Figure { undisturbed, ..of(one.value, other.value).into() })
    }
}

/// The scheduler that costs most over `rr`.
fn costliest(rows: &Rows<'_>) -> Option<Figure> {
    let over = |row: usize| {
        let (one, rr) = ("/cycles_per_connection", "/rr_cycles_per_connection");
        let name = rows.0.get(row)?.pointer("/scheduler")?.as_str()?;
        Some(Figure { note: name.to_owned(), ..rows.more(row, one, rr)? })
    };
    let all = (0..rows.0.len()).filter_map(over);
    all.reduce(|most, it| if it.value > most.value { it } else { most })
}

/// The median of the pairs' ratios, the second over the first.
fn over_the_other(rows: &Rows<'_>) -> Option<Figure> {
    let ratios = ratios(rows, "/cycles_per_packet")?;
    let undisturbed = self::ratios(rows, "/cycles_spread/undisturbed");
    let undisturbed = undisturbed.and_then(|them| them.get(them.len() / 2).copied());
    let value = *ratios.get(ratios.len() / 2)?;
    Some(Figure { range: Some([*ratios.first()?, *ratios.last()?]), undisturbed, ..value.into() })
}

/// Each pair's ratio, the second over the first, sorted; `None` if one does not have that figure.
fn ratios(rows: &Rows<'_>, path: &str) -> Option<Vec<f64>> {
    let cycles = |row: &Value| row.pointer(path)?.as_f64();
    let ratio = |pair: &[Value]| Some(cycles(pair.get(1)?)? / cycles(pair.first()?)?);
    let mut ratios = rows.0.chunks(2).map(ratio).collect::<Option<Vec<_>>>()?;
    ratios.sort_by(f64::total_cmp);
    Some(ratios)
}

/// What of the slowest of a thousand is the balancer's at half load, in microseconds.
fn added_latency(rows: &Rows<'_>) -> Option<Figure> {
    let micros = |key: &str| Some(rows.number(0, &format!("/latency/1/{key}"))? / 1e3);
    let floor = micros("floor_latency_ns/p999")?;
    let rate = rows.number(0, "/latency/1/latency_ns/offered_mpps")?;
    let is_bound = rows.0.first()?.pointer("/generator_bound")?.as_bool()?;
    let of = if is_bound { "of the generator's most" } else { "of the worker's most" };
    let note = format!("at {rate:.1} Mpps, half {of}; plain forwarding's p99.9 is {floor:.0} µs");
    let (value, off_by) = (micros("added_p999_ns")?, micros("added_p999_off_by_ns")?);
    Some(Figure { off_by, note, ..value.into() })
}

fn being_watched(rows: &Rows<'_>) -> Option<Figure> {
    let off_by = rows.number(0, "/overhead_off_by_percent")?;
    Some(Figure { off_by, ..rows.number(0, "/overhead_percent")?.into() })
}

/// Where the bar is.
#[derive(Clone, Copy)]
pub(super) enum Limit {
    AtMost(f64),
    AtLeast(f64),
    /// There is none: it is told, not held.
    Nowhere,
}

impl Limit {
    /// `None` where nobody can tell: there is no bar, or it lies within what the figure may be off by.
    pub(super) fn holds(self, figure: &Figure) -> Option<bool> {
        self.is_kept(figure.value, figure.off_by)
    }

    /// The same of undisturbed rounds.
    pub(super) fn holds_undisturbed(self, figure: &Figure) -> Option<bool> {
        self.is_kept(figure.undisturbed?, 0.0)
    }

    fn is_kept(self, value: f64, off_by: f64) -> Option<bool> {
        let [at_least, at_most] = [value - off_by, value + off_by];
        match self {
            Self::AtMost(most) if (at_least <= most) == (at_most <= most) => Some(value <= most),
            Self::AtLeast(least) if (at_least >= least) == (at_most >= least) => {
                Some(value >= least)
            }
            Self::AtMost(_) | Self::AtLeast(_) | Self::Nowhere => None,
        }
    }
}

impl std::fmt::Display for Limit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AtMost(most) => write!(f, "≤ {most}"),
            Self::AtLeast(least) => write!(f, "≥ {least}"),
            Self::Nowhere => Ok(()),
        }
    }
}

const CYCLES: &str = "cycles a packet";
const TIMES: &str = "times";
/// FULL-NAT of IPv4, which others are held against, in turn with them.
const FULLNAT: Option<(&str, usize)> = Some(("run --flows 1000000 --duration 2", 5));

type OfRows = fn(&Rows<'_>) -> Option<Figure>;

const fn most(what: &'static str, unit: &'static str, limit: f64, figure: OfRows) -> Bar {
    Bar { what, unit, figure, limit: Limit::AtMost(limit) }
}

const fn least(what: &'static str, unit: &'static str, limit: f64, figure: OfRows) -> Bar {
    Bar { what, unit, figure, limit: Limit::AtLeast(limit) }
}

/// All there is, in the order it is run.
pub(super) const MEASUREMENTS: &[Measurement] = &[
    Measurement {
        options: FIRST,
        rehearsal: "run --flows 1000,1000,1000,1000 --duration 1 --no-huge",
        beside: None,
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
                rows.plain(2, "/bytes_per_connection")
            }),
            most("all tables of a worker with 10 million", "GB", 1.3, |rows| {
                Some((rows.number(3, "/table_bytes")? / 1e9).into())
            }),
        ],
    },
    Measurement {
        options: "run --mode dr --flows 1000000 --duration 2",
        rehearsal: "run --mode dr --flows 1000 --duration 1 --no-huge",
        beside: FULLNAT,
        bars: &[most("DR beside FULL-NAT, 1 million", TIMES, 1.0, over_the_other)],
    },
    Measurement {
        options: "run --mode nat --flows 1000000 --duration 2",
        rehearsal: "run --mode nat --flows 1000 --duration 1 --no-huge",
        beside: FULLNAT,
        bars: &[most("NAT beside FULL-NAT, 1 million", TIMES, 1.0, over_the_other)],
    },
    Measurement {
        options: "run --mode ipip --flows 1000000 --duration 2",
        rehearsal: "run --mode ipip --flows 1000 --duration 1 --no-huge",
        beside: FULLNAT,
        bars: &[most("IPIP beside FULL-NAT, 1 million", TIMES, 1.0, over_the_other)],
    },
    Measurement {
        options: "run --ip 6 --flows 1000000 --duration 2",
        rehearsal: "run --ip 6 --flows 1000 --duration 1 --no-huge",
        beside: FULLNAT,
        bars: &[most("IPv6 FULL-NAT beside IPv4, 1 million", TIMES, 1.3, over_the_other)],
    },
    Measurement {
        options: "run --workers 2 --flows 1000000 --duration 5",
        rehearsal: "run --workers 2 --flows 1000 --duration 1 --no-huge",
        beside: None,
        bars: &[Bar {
            what: "two workers on two CPUs over one alone, 1 million",
            unit: TIMES,
            figure: |rows| rows.plain(0, "/scaling"),
            limit: Limit::Nowhere,
        }],
    },
    Measurement {
        options: "life --duration 5",
        rehearsal: "life --duration 1 --places 1048576 --no-huge",
        beside: None,
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
        rehearsal: "choices --each-ms 1 --warm-up-ms 0 --backends 10 --places 100000 --no-huge",
        beside: None,
        bars: &[most("a new connection over rr, costliest scheduler", "cycles", 200.0, costliest)],
    },
    Measurement {
        options: "reload --backends 10000",
        rehearsal: "reload --backends 10 --reloads 2 --flows 1000 --no-huge",
        beside: None,
        bars: &[
            most("reload of 10,000 backends, 99 of 100 pauses", "µs", 50.0, |rows| {
                rows.plain(0, "/pause_us/p99")
            }),
            most("packets refused in it", "packets", 0.0, |rows| rows.plain(0, "/lost_packets")),
        ],
    },
    Measurement {
        options: "reload --backends 10000 --scheduler wlc",
        rehearsal: "reload --backends 10 --scheduler wlc --reloads 2 --flows 1000 --no-huge",
        beside: None,
        bars: &[
            most("the same with wlc, 99 of 100 pauses", "µs", 50.0, |rows| {
                rows.plain(0, "/pause_us/p99")
            }),
            Bar {
                what: "the first round behind it, whose first choice builds a tree: half took longer by",
                unit: "µs",
                figure: |rows| rows.plain(0, "/first_round_us/p50"),
                limit: Limit::Nowhere,
            },
        ],
    },
    Measurement {
        options: "handover",
        rehearsal: "handover --flows 1024 --rounds 10 --no-huge",
        beside: None,
        bars: &[most("handover of a packet, on top", "cycles", 80.0, |rows| {
            let (handed, direct) = ("/handed_over_cycles_per_packet", "/direct_cycles_per_packet");
            rows.more(0, handed, direct)
        })],
    },
    Measurement {
        options: "overhead --duration 10",
        rehearsal: "overhead --flows 1000 --duration 1 --no-huge",
        beside: None,
        bars: &[most(
            "port counters, latency samples, idle capture hooks: on top",
            "%",
            3.0,
            being_watched,
        )],
    },
    Measurement {
        options: "flood --duration 3",
        rehearsal: "flood --duration 1 --flows 2000 --sources 10000 --room 4000 --no-huge",
        beside: None,
        bars: &[least("a SYN flood, cookies above 100 a second: kept", "of 1", 0.9, |rows| {
            let (alone, flooded) = ("/alone_cycles_per_packet", "/flooded_cycles_per_packet");
            rows.both(1, alone, flooded, |alone, flooded| alone / flooded)
        })],
    },
    Measurement {
        options: "idle --sleep-us 50",
        rehearsal: "idle --packets 10 --sleep-us 50 --no-huge",
        beside: None,
        bars: &[most("an idle worker's first packet waits, over busy_poll", "µs", 5.0, |rows| {
            let wait = |row| rows.number(row, "/first_packet_p50_ns");
            Some(((wait(1)? - wait(0)?) / 1e3).into())
        })],
    },
    Measurement {
        options: "sweep --tolerated-ppm 100",
        rehearsal: "sweep --flows 1000 --trial-ms 20 --tolerated-ppm 1000000 --highest-kpps 100 --no-huge",
        beside: None,
        bars: &[most("latency added at half load, p99.9, median slice", "µs", 20.0, added_latency)],
    },
];

/// What the [origin](super::origin) shows in detail.
pub(super) const FIRST: &str = "run --flows 1000,64000,1000000,10000000 --duration 10";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_holds_at_its_very_limit_and_not_beyond() {
        let holds = |limit: Limit, value: f64| limit.holds(&value.into());
        assert_eq!(holds(Limit::AtMost(90.0), 90.0), Some(true));
        assert_eq!(holds(Limit::AtMost(90.0), 90.1), Some(false));
        assert_eq!(holds(Limit::AtLeast(1.2e6), 1.2e6), Some(true));
        assert_eq!(holds(Limit::AtLeast(1.2e6), 1.1e6), Some(false));
        assert_eq!(holds(Limit::AtMost(90.0), f64::NAN), Some(false));
        assert_eq!(holds(Limit::AtLeast(1.0), f64::NAN), Some(false));
        assert_eq!(holds(Limit::Nowhere, 1.0), None);
    }

    #[test]
    fn a_bar_within_what_the_figure_may_be_off_by_cannot_be_told() {
        let holds =
            |value: f64, off_by| Limit::AtMost(20.0).holds(&Figure { off_by, ..value.into() });
        assert_eq!([holds(10.0, 9.0), holds(10.0, 11.0)], [Some(true), None]);
        assert_eq!([holds(30.0, 9.0), holds(30.0, 11.0)], [Some(false), None]);
    }

    #[test]
    fn figures_are_found_in_rows_as_they_are_printed() {
        let row = r#"{"cycles_per_packet": 120.0, "synthetic_cycles_per_packet": 80.0,
            "cycles_spread": {"median": 120.0, "p10": 100.0, "p90": 200.0, "undisturbed": 90.0},
            "synthetic_spread": {"median": 80.0, "p10": 70.0, "p90": 90.0, "undisturbed": 50.0},
            "cycles_per_connection": {"median": 500.0, "p10": 400.0, "p90": 1000.0},
            "connections_per_second": 8.0}"#;
        let own = vec![serde_json::from_str(row).unwrap(); 4];
        let rows = Rows(&own);
        let over = Figure { undisturbed: Some(1.8), ..1.5.into() };
        assert_eq!(rows.over_synthetic(2), Some(over));
        let (range, undisturbed) = (Some([100.0, 200.0]), Some(90.0));
        let cycles = Figure { range, undisturbed, ..120.0.into() };
        assert_eq!(rows.cycles(0), Some(cycles));
        let rate = Figure { range: Some([4.0, 10.0]), ..8.0.into() };
        assert_eq!(rows.rate(0, "/connections_per_second", "/cycles_per_connection"), Some(rate));
    }

    #[test]
    fn what_took_turns_is_compared_pair_by_pair() {
        let row = |cycles: f64| serde_json::json!({ "cycles_per_packet": cycles });
        let turns = [100.0, 120.0, 200.0, 210.0, 50.0, 100.0].map(row);
        let expected = Figure { range: Some([1.05, 2.0]), ..1.2.into() };
        assert_eq!(over_the_other(&Rows(&turns)), Some(expected));
        assert_eq!(over_the_other(&Rows(&turns[..3])), None);
    }
}
