//! `run`: established connections, both directions in random order.
//!
//! ```text
//! prefill ─► rounds in turn until the time is over:
//!            the balancer │ plain forwarding │ table and rewrite alone │ the balancer, by stages
//! ```
//!
//! Only the middle of each is timed; writing and checking packets is not. The four take turns, so
//! that whatever disturbs the machine disturbs all of them.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use anyhow::ensure;

use crate::bed::Round;
use crate::established::Established;
use crate::floor::Floor;
use crate::host::Hosts;
use crate::latency;
use crate::machine::Machine;
use crate::options::{IpVersion, RunOptions};
use crate::report::{Row, Spread, ratio};
use crate::synthetic::Synthetic;

/// Measures every row asked for.
pub(crate) fn run(options: &RunOptions) -> anyhow::Result<Vec<Row>> {
    let machine = Machine::start(&options.scene, 1)?;
    let row = |flows: &u32| match options.scene.ip {
        IpVersion::V4 => Bench::<Ipv4Addr>::new(&machine, options, *flows)?.row(),
        IpVersion::V6 => Bench::<Ipv6Addr>::new(&machine, options, *flows)?.row(),
    };
    options.flows.iter().map(row).collect()
}

/// One row's state.
struct Bench<'a, F: Hosts> {
    machine: &'a Machine,
    options: &'a RunOptions,
    floor: Floor,
    synthetic: Synthetic,
    established: Established<F>,
}

/// What the measured rounds gave.
#[derive(Default)]
struct Measured {
    shunt: Vec<Round>,
    floor: Vec<Round>,
    synthetic: Vec<Round>,
    /// Packets of the rounds by stages.
    staged: u64,
    lost: u64,
}

impl<'a, F: Hosts> Bench<'a, F> {
    fn new(machine: &'a Machine, options: &'a RunOptions, flows: u32) -> anyhow::Result<Self> {
        let scene = &options.scene;
        let mut established =
            Established::<F>::new(machine, scene, flows, options.new_per_mille > 0)?;
        established.mix.new_per_mille = options.new_per_mille;
        established.mix.replies &= !options.no_replies;
        let template = established.traffic.template().clone();
        Ok(Self {
            machine,
            options,
            floor: Floor::new(&machine.eal, scene.in_flight)?,
            synthetic: Synthetic::new(scene.in_flight, template),
            established,
        })
    }

    fn row(mut self) -> anyhow::Result<Row> {
        let end = self.machine.in_time(Duration::from_secs(self.options.duration.into()));
        let mut measured = Measured::default();
        let mut rounds = 0;
        while rounds < self.options.warm_up || shunt::dpdk::clock::now() < end {
            self.turn(rounds, &mut measured)?;
            rounds += 1;
        }
        ensure!(
            !measured.shunt.is_empty(),
            "no time was left behind the warm-up: raise --duration"
        );
        self.report(&measured)
    }

    /// A round of each.
    fn turn(&mut self, rounds: u32, measured: &mut Measured) -> anyhow::Result<()> {
        let (shunt, missing) = self.shunt_round(rounds == 0)?;
        let floor = self.floor_round()?;
        let synthetic = self.synthetic_round();
        if rounds < self.options.warm_up {
            return Ok(());
        }
        measured.lost += missing;
        measured.shunt.push(shunt);
        measured.floor.push(floor);
        measured.synthetic.push(synthetic);
        measured.staged += self.staged_round()?;
        Ok(())
    }

    fn report(self, measured: &Measured) -> anyhow::Result<Row> {
        let (scene, machine) = (&self.options.scene, self.machine);
        let Established { mut bed, traffic, mix, new_connections_per_second } = self.established;
        let cycles = spread(&measured.shunt)?;
        let stage_cycles = bed.worker.probe().per_packet(measured.staged);
        let (refusals, packet_size) = (bed.refusals(), traffic.mean_size());
        let (bytes, places) = (bed.table::<F>().bytes(), bed.table::<F>().capacity());
        let half = machine.hertz() / cycles.median / 2.0;
        Ok(Row {
            mode: scene.mode.name(),
            scheduler: scene.scheduler.method().name,
            protocol: scene.protocol.protocol(),
            ip: if F::IS_V6 { 6 } else { 4 },
            flows: mix.flows,
            packet_size,
            packets: measured.shunt.iter().map(|round| round.packets).sum(),
            mpps: machine.hertz() / cycles.median / 1e6,
            cycles_per_packet: cycles.median,
            cycles_spread: cycles,
            floor_cycles_per_packet: spread(&measured.floor)?.median,
            synthetic_cycles_per_packet: spread(&measured.synthetic)?.median,
            stage_cycles,
            new_connections_per_second,
            bytes_per_connection: ratio(bytes as u64, places as u64),
            lost_packets: measured.lost,
            latency_ns: latency::at(machine, bed, traffic, mix, half)?,
            refusals,
        })
    }

    /// One round through the balancer. With `check` every frame that left is verified.
    fn shunt_round(&mut self, check: bool) -> anyhow::Result<(Round, u64)> {
        let Established { bed, traffic, mix, .. } = &mut self.established;
        let offered = traffic.offer(&mut bed.wires, *mix)?;
        let round = bed.time_worker(self.machine.now_ms());
        let wrong = traffic.collect(&mut bed.wires, check);
        ensure!(
            wrong == 0,
            "{wrong} packets left that are not the translation of what was offered"
        );
        Ok((round, offered - round.packets.min(offered)))
    }

    /// The same, its cycles charged to stages; how many packets.
    fn staged_round(&mut self) -> anyhow::Result<u64> {
        let Established { bed, traffic, mix, .. } = &mut self.established;
        traffic.offer(&mut bed.wires, *mix)?;
        bed.worker.probe().start();
        let round = bed.time_worker(self.machine.now_ms());
        bed.worker.probe().stop();
        traffic.collect(&mut bed.wires, false);
        Ok(round.packets)
    }

    /// One round of plain forwarding of the same packets.
    fn floor_round(&mut self) -> anyhow::Result<Round> {
        let Established { traffic, mix, .. } = &mut self.established;
        traffic.offer(&mut self.floor.wires, *mix)?;
        let round = self.floor.time();
        traffic.collect_untouched(&mut self.floor.wires);
        Ok(round)
    }

    /// One round of table and rewrite alone.
    fn synthetic_round(&mut self) -> Round {
        let Established { bed, traffic, mix, .. } = &mut self.established;
        self.synthetic.prepare(|| traffic.drawn_key(*mix));
        let table = F::table_mut(bed.worker.flows_mut().tables_mut());
        self.synthetic.time(table, self.machine.now_ms())
    }
}

fn spread(rounds: &[Round]) -> anyhow::Result<Spread> {
    Spread::of(rounds.iter().map(|round| (round.cycles, round.packets)))
}
