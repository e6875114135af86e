//! What the table of connections is held to (`--assert`).
//!
//! One bar is absolute: a million connections, whose records no cache holds, at most
//! [`CYCLES_MAX`] cycles a packet. The other compares two rows of the same run, which a slow machine
//! shifts together: less than [`RISE_MAX`] times what a thousand connections cost.

use crate::report::Row;

/// Connections of the row that is judged.
pub(crate) const MANY: u32 = 1_000_000;
/// Connections of the row it is compared with.
pub(crate) const FEW: u32 = 1_000;
/// Median cycles a packet with [`MANY`].
const CYCLES_MAX: f64 = 150.0;
/// How many times the median with [`FEW`] is too much.
const RISE_MAX: f64 = 2.0;

/// Whether these counts make both rows.
pub(crate) fn can_judge(flows: &[u32]) -> bool {
    flows.contains(&MANY) && flows.contains(&FEW)
}

/// A sentence for each bar that was missed. Rows that are not there miss every bar.
pub(crate) fn missed(rows: &[Row]) -> Vec<String> {
    let median = |flows: u32| {
        let row = rows.iter().find(|row| row.flows == flows);
        row.map_or(f64::NAN, |row| row.cycles_per_packet)
    };
    judge(median(FEW), median(MANY))
}

/// [`missed`] by the two medians.
fn judge(few: f64, many: f64) -> Vec<String> {
    let rise = many / few;
    let held = [
        (many <= CYCLES_MAX, format!("{many:.1} cycles a packet, the bar is {CYCLES_MAX}")),
        (
            rise < RISE_MAX,
            format!("{rise:.2} times the {few:.1} cycles of {FEW} flows, the bar is {RISE_MAX}"),
        ),
    ];
    let missed = held.into_iter().filter(|(held, _)| !held);
    missed.map(|(_, what)| format!("missed: {MANY} flows took {what}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bar_is_missed_by_its_own_excess_and_named() {
        let table: [(f64, f64, &[&str]); 7] = [
            (56.0, 90.0, &[]),
            (75.1, 150.0, &[]),
            (100.0, 150.1, &["150.1 cycles"]),
            (50.0, 100.0, &["2.00 times"]),
            (50.0, 250.0, &["250.0 cycles", "5.00 times"]),
            (f64::NAN, 90.0, &["times"]),
            (50.0, f64::NAN, &["cycles", "times"]),
        ];
        for (few, many, expected) in table {
            let found = judge(few, many);
            assert_eq!(found.len(), expected.len(), "{few} {many}: {found:?}");
            for (sentence, words) in found.iter().zip(expected) {
                assert!(sentence.contains(words), "{few} {many}: {found:?}");
            }
        }
    }

    #[test]
    fn both_counts_are_needed() {
        assert!(can_judge(&[1_000, 64_000, 1_000_000]));
        assert!(!can_judge(&[1_000_000]));
        assert!(!can_judge(&[1_000, 64_000]));
    }
}
