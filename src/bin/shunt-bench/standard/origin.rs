//! Where a table comes from: the build, the machine, and what the first run says in detail.

use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

use serde_json::Value;

/// One line: what was measured, on what, and how long that took.
pub(super) fn line(rows: &[Value], took: Duration) -> String {
    let build = env!("SHUNT_VERSION");
    let cpu = field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown CPU".to_owned());
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default();
    let lost: u64 = rows.iter().filter_map(|row| row.pointer("/lost_packets")?.as_u64()).sum();
    format!(
        "shunt-bench {build} on {cpu}, {cpus} CPUs, Linux {}; load {load} at the end, {} minutes; \
         {lost} packets lost in the first command.\n",
        kernel.trim(),
        took.as_secs().div_ceil(60),
    )
}

const DETAIL: &str = "| connections | the balancer | ports | parse | lookup | rewrite | other | \
                      table and rewrite alone | memory alone | a line waited for | plain forwarding |\n\
                      |---|---|---|---|---|---|---|---|---|---|---|\n";

/// A row for each number of connections: where cycles go, and what parts of the work take alone; in brackets what
/// undisturbed rounds took.
pub(super) fn detail(rows: &[Value]) -> String {
    const KEYS: [(&str, &str); 10] = [
        ("/cycles_per_packet", "/cycles_spread/undisturbed"),
        ("/stage_cycles/ports", ""),
        ("/stage_cycles/parse", ""),
        ("/stage_cycles/lookup", ""),
        ("/stage_cycles/rewrite", ""),
        ("/stage_cycles/other", ""),
        ("/synthetic_cycles_per_packet", "/synthetic_spread/undisturbed"),
        ("/memory_cycles_per_packet", "/memory_spread/undisturbed"),
        ("/line_wait_cycles/median", "/line_wait_cycles/undisturbed"),
        ("/floor_cycles_per_packet", ""),
    ];
    let mut out = DETAIL.to_owned();
    for row in rows {
        let number = |key: &str| row.pointer(key).and_then(Value::as_f64).unwrap_or(f64::NAN);
        let _ = write!(out, "| {} |", number("/flows"));
        for (key, undisturbed) in KEYS {
            let alone = row.pointer(undisturbed).and_then(Value::as_f64);
            let alone = alone.map_or_else(String::new, |alone| format!(" ({alone:.1})"));
            let _ = write!(out, " {:.1}{alone} |", number(key));
        }
        out.push('\n');
    }
    out
}

/// What a file says behind a name and a colon, the first time.
fn field(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_detail_has_a_row_for_each_and_a_column_for_each_key() {
        let row = serde_json::json!({
            "flows": 1000, "cycles_per_packet": 90.0, "synthetic_cycles_per_packet": 60.0,
            "memory_cycles_per_packet": 14.0, "line_wait_cycles": {"median": 40.0, "undisturbed": 36.0}, "floor_cycles_per_packet": 2.0,
            "cycles_spread": {"undisturbed": 85.0}, "memory_spread": {"undisturbed": null},
            "stage_cycles": {"ports": 1.0, "parse": 2.0, "lookup": 3.0, "rewrite": 4.0, "other": 5.0},
        });
        let text = detail(&[row]);
        let row = "| 1000 | 90.0 (85.0) | 1.0 | 2.0 | 3.0 | 4.0 | 5.0 | 60.0 | 14.0 | 40.0 (36.0) | 2.0 |";
        assert_eq!(text.lines().last(), Some(row));
        let columns: Vec<_> = text.lines().map(|line| line.matches('|').count()).collect();
        assert!(columns.iter().all(|count| *count == 12), "{columns:?}");
    }
}
