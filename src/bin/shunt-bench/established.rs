//! A worker with connections that were made beforehand, and the time it lives in.

use anyhow::ensure;

use crate::bed::{Bed, Round};
use crate::host::Hosts;
use crate::machine::Machine;
use crate::options::Scene;
use crate::progress::Progress;
use crate::report::ratio;
use crate::scene;
use crate::traffic::{BACKENDS, CLIENTS, Mix, Traffic};

/// Room for connections that come and go: what a second can bring, and another until it is swept.
const PASSING: u32 = 1 << 24;

/// Room for so many connections, and for those that pass if there are any.
pub(crate) fn places(flows: u32, passing: bool) -> u32 {
    flows + if passing { PASSING } else { 0 }
}

/// The worker, and who knows its connections.
pub(crate) struct Established<F: Hosts> {
    pub(crate) bed: Bed,
    pub(crate) traffic: Traffic<F>,
    pub(crate) mix: Mix,
    /// Connections made a second of one core's time.
    pub(crate) new_connections_per_second: f64,
}

impl<F: Hosts> Established<F> {
    /// Makes `flows` connections; with `passing` there is room for more that come and go.
    pub(crate) fn new(
        machine: &Machine,
        scene: &Scene,
        flows: u32,
        passing: bool,
    ) -> anyhow::Result<Self> {
        let places = places(flows, passing);
        let snapshot = scene::snapshot::<F>(scene);
        let bed = Bed::new::<F>(&machine.eal, scene, places, snapshot)?;
        Self::on(machine, scene, flows, bed, Traffic::new(scene, &machine.pool)?)
    }

    /// Makes `flows` connections on that worker.
    pub(crate) fn on(
        machine: &Machine,
        scene: &Scene,
        flows: u32,
        bed: Bed,
        traffic: Traffic<F>,
    ) -> anyhow::Result<Self> {
        let mut made = Self {
            bed,
            traffic,
            mix: Mix { flows, replies: scene.mode.has_replies(), new_per_mille: 0 },
            new_connections_per_second: 0.0,
        };
        made.prefill(machine, scene.in_flight)?;
        Ok(made)
    }

    /// The time of its worker: its own, or where connections come and go the machine's.
    pub(crate) fn now_ms(&self, machine: &Machine) -> u32 {
        if self.mix.new_per_mille > 0 { machine.now_ms() } else { self.bed.worked_ms() }
    }

    /// The first packet of each connection, and another, so that it lasts. Only the first ones'
    /// time counts.
    fn prefill(&mut self, machine: &Machine, at_once: u32) -> anyhow::Result<()> {
        let (flows, bed, traffic) = (self.mix.flows, &mut self.bed, &mut self.traffic);
        let progress = Progress::new("prefill", flows);
        let mut total = Round::default();
        for first in (0..flows).step_by(at_once as usize) {
            let wanted = at_once.min(flows - first);
            let count = traffic.offer_new(&mut bed.wires[CLIENTS], wanted)?;
            total += bed.time_worker(bed.worked_ms());
            traffic.learn(&mut bed.wires[BACKENDS]);
            traffic.offer_again(&mut bed.wires[CLIENTS], first, count)?;
            bed.time_worker(bed.worked_ms());
            traffic.collect(&mut bed.wires, false);
            progress.at(first + count);
        }
        let (known, refusals) = (self.traffic.known(), self.bed.refusals());
        ensure!(known == flows as usize, "connections refused: {refusals:?}");
        let cycles = ratio(total.cycles, total.packets.max(1));
        self.new_connections_per_second = machine.hertz() / cycles;
        Ok(())
    }
}
