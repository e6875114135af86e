//! Histograms of the data path as Prometheus wants them: cumulative, with bounds in seconds.

use prometheus::proto::{Bucket, Histogram, LabelPair, Metric, MetricFamily, MetricType};

use super::names::Name;
use crate::stats::collect::Sources;
use crate::stats::latency::{Latencies, nanoseconds};

/// Upper bounds: three to a power of ten, from what a busy worker takes to what an interrupted one does.
const BOUNDS_NS: [u64; 19] = [
    1_000,
    2_000,
    5_000,
    10_000,
    20_000,
    50_000,
    100_000,
    200_000,
    500_000,
    1_000_000,
    2_000_000,
    5_000_000,
    10_000_000,
    20_000_000,
    50_000_000,
    100_000_000,
    200_000_000,
    500_000_000,
    1_000_000_000,
];

/// Latency of every worker.
pub(super) fn family(name: &Name, sources: &Sources) -> MetricFamily {
    let metric = |(id, latencies): (usize, &Latencies)| {
        let mut pair = LabelPair::default();
        pair.set_name(name.labels.concat());
        pair.set_value(id.to_string());
        let mut metric = Metric::from_label(vec![pair]);
        metric.set_histogram(histogram(latencies, sources));
        metric
    };
    let all = sources.workers.iter().map(|worker| &worker.latencies).enumerate();
    let mut family = MetricFamily::default();
    family.set_name(name.name.to_owned());
    family.set_help(name.help.to_owned());
    family.set_field_type(MetricType::HISTOGRAM);
    family.set_metric(all.map(metric).collect());
    family
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus samples are floats")]
fn histogram(latencies: &Latencies, sources: &Sources) -> Histogram {
    let mut counts = [0_u64; BOUNDS_NS.len()];
    let mut all = 0;
    for (ticks, count) in latencies.samples() {
        let took = nanoseconds(ticks, sources.facts.tsc_hz);
        let within = BOUNDS_NS.iter().zip(&mut counts).filter(|(bound, _)| took <= **bound);
        within.for_each(|(_, sum)| *sum += count);
        all += count;
    }
    let bucket = |(bound, count): (&u64, u64)| {
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(*bound as f64 / 1e9);
        bucket.set_cumulative_count(count);
        bucket
    };
    let mut histogram = Histogram::default();
    histogram.set_bucket(BOUNDS_NS.iter().zip(counts).map(bucket).collect());
    histogram.set_sample_count(all);
    histogram.set_sample_sum(sources.seconds(latencies.ticks()));
    histogram
}
