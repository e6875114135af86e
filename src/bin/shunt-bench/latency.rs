//! Latency in nanoseconds, from the generator's hand back into it.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::bed::Bed;
use crate::host::Hosts;
use crate::machine::Machine;
use crate::rig::{Between, Rig};
use crate::traffic::{Mix, Traffic};

/// How long packets are offered.
const DURATION: Duration = Duration::from_secs(1);
/// And before that, without being counted.
const WARM_UP: Duration = Duration::from_millis(100);

/// Percentiles.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Latency {
    /// Millions of packets offered a second.
    pub(crate) offered_mpps: f64,
    /// Half of the packets took less.
    pub(crate) p50: f64,
    /// 99 of 100.
    pub(crate) p99: f64,
    /// 999 of 1,000.
    pub(crate) p999: f64,
}

impl Latency {
    /// Of what a trial found.
    pub(crate) fn of(machine: &Machine, offered_per_second: f64, cycles: &Histogram<u64>) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "figures for people")]
        let at = |quantile| cycles.value_at_quantile(quantile) as f64 * 1e9 / machine.hertz();
        Self {
            offered_mpps: offered_per_second / 1e6,
            p50: at(0.5),
            p99: at(0.99),
            p999: at(0.999),
        }
    }
}

/// What a packet waits at so many packets a second; `None` on a machine with one CPU, where worker
/// and generator would wait for each other.
pub(crate) fn at<F: Hosts>(
    machine: &Machine,
    bed: Bed,
    traffic: Traffic<F>,
    mix: Mix,
    per_second: f64,
) -> anyhow::Result<Option<Latency>> {
    let Some(cpus) = machine.two_cpus() else { return Ok(None) };
    let mut rig = Rig::start(machine, bed, traffic, mix, cpus)?;
    rig.trial(Between::Worker, per_second, WARM_UP)?;
    let trial = rig.trial(Between::Worker, per_second, DURATION)?;
    rig.end()?;
    Ok(Some(Latency::of(machine, trial.offered_per_second, &trial.latency)))
}
