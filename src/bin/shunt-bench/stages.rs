//! The probe: reads the time stamp counter where the worker's stages end.
//!
//! It is on only in rounds of its own: a mark costs about 20 cycles, and there are five or six for a
//! burst.

use serde::Serialize;
use shunt::dataplane::probe::{Probe, Stage};
use shunt::dpdk::clock;

use crate::report::ratio;

/// Cycles by [`Stage`], while on.
#[derive(Debug, Default)]
pub(crate) struct Stopwatch {
    is_on: bool,
    last: u64,
    cycles: [u64; Stage::COUNT],
}

impl Stopwatch {
    /// From now on marks count.
    pub(crate) fn start(&mut self) {
        self.is_on = true;
        self.last = clock::now();
    }

    /// From now on they do not.
    pub(crate) fn stop(&mut self) {
        self.is_on = false;
    }

    /// What was counted so far, for each of so many packets.
    pub(crate) fn per_packet(&self, packets: u64) -> StageCycles {
        let of = |stage: Stage| ratio(self.cycles[stage as usize], packets.max(1));
        StageCycles {
            ports: of(Stage::Ports),
            parse: of(Stage::Parse),
            lookup: of(Stage::Lookup),
            rewrite: of(Stage::Rewrite),
            other: of(Stage::Other),
        }
    }
}

impl Probe for Stopwatch {
    #[inline]
    fn mark(&mut self, stage: Stage) {
        if self.is_on {
            let now = clock::now();
            self.cycles[stage as usize] += now - self.last;
            self.last = now;
        }
    }
}

impl StageCycles {
    /// The mean of several workers'.
    pub(crate) fn mean(of_workers: impl ExactSizeIterator<Item = Self>) -> Self {
        let share = 1.0 / crate::report::ratio(of_workers.len() as u64, 1);
        of_workers.fold(Self::default(), |sum, one| Self {
            ports: sum.ports + one.ports * share,
            parse: sum.parse + one.parse * share,
            lookup: sum.lookup + one.lookup * share,
            rewrite: sum.rewrite + one.rewrite * share,
            other: sum.other + one.other * share,
        })
    }
}

/// Cycles a packet by stage, the marks' own cost included.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct StageCycles {
    /// Taking packets from a port, giving them to one.
    pub(crate) ports: f64,
    /// Headers, hash, asking for the bucket.
    pub(crate) parse: f64,
    /// Tags, asking for the record.
    pub(crate) lookup: f64,
    /// Key, decision, rewriting.
    pub(crate) rewrite: f64,
    /// Orders, clock, sweep.
    pub(crate) other: f64,
}
