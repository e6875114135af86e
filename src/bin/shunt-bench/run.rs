//! `run`: established connections, both directions in random order.
//!
//! ```text
//! prefill ─► rounds in turn until the time is over:
//!            the balancer │ plain forwarding │ table and rewrite alone │ memory alone, twice │ the balancer, by stages
//! ```
//!
//! Only the middle of each is timed; writing and checking packets is not. They take turns, so
//! that whatever disturbs the machine disturbs all of them. Several workers: see `crew`.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use anyhow::ensure;

use crate::bed::Round;
use crate::crew;
use crate::established::Established;
use crate::floor::Floor;
use crate::gate::Gate;
use crate::host::Hosts;
use crate::latency;
use crate::lines::{Lines, WAITED};
use crate::machine::Machine;
use crate::options::{IpVersion, RunOptions};
use crate::part::{self, Part};
use crate::report::Row;
use crate::synthetic::Synthetic;

/// Measures every row asked for.
pub(crate) fn run(options: &RunOptions) -> anyhow::Result<Vec<Row>> {
    let machine = Machine::start(&options.scene, options.workers.into())?;
    let row = |flows: &u32| match options.scene.ip {
        IpVersion::V4 => row::<Ipv4Addr>(&machine, options, *flows),
        IpVersion::V6 => row::<Ipv6Addr>(&machine, options, *flows),
    };
    options.flows.iter().map(row).collect()
}

fn row<F: Hosts>(machine: &Machine, options: &RunOptions, flows: u32) -> anyhow::Result<Row> {
    if options.workers > 1 {
        return crew::row::<F>(machine, options, flows);
    }
    let (scene, passing) = (&options.scene, options.new_per_mille > 0);
    let established = Established::<F>::new(machine, scene, flows, passing)?;
    Bench::new(machine, options, established)?.row()
}

/// One worker's state.
pub(crate) struct Bench<'a, F: Hosts> {
    machine: &'a Machine,
    options: &'a RunOptions,
    floor: Floor,
    synthetic: Synthetic,
    lines: Lines,
    pub(crate) established: Established<F>,
}

/// What the measured rounds gave.
#[derive(Debug, Default)]
pub(crate) struct Measured {
    pub(crate) shunt: Vec<Round>,
    pub(crate) floor: Vec<Round>,
    pub(crate) synthetic: Vec<Round>,
    pub(crate) memory: Vec<Round>,
    /// Of lines that were waited for, one after the other.
    pub(crate) waiting: Vec<Round>,
    /// Packets of the rounds by stages.
    pub(crate) staged: u64,
    pub(crate) lost: u64,
}

/// Where rounds are measured.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Company<'a> {
    /// There is one worker.
    Nobody,
    /// Timed parts begin when those of the others do.
    All(&'a Gate),
    /// The others sleep.
    Sleepers,
}

impl Company<'_> {
    fn meet(self) -> anyhow::Result<()> {
        if let Self::All(gate) = self { gate.meet() } else { Ok(()) }
    }
}

impl<'a, F: Hosts> Bench<'a, F> {
    pub(crate) fn new(
        machine: &'a Machine,
        options: &'a RunOptions,
        mut established: Established<F>,
    ) -> anyhow::Result<Self> {
        let in_flight = options.scene.in_flight;
        established.mix.new_per_mille = options.new_per_mille;
        established.mix.replies &= !options.no_replies;
        let template = established.traffic.template().clone();
        Ok(Self {
            machine,
            options,
            floor: Floor::new(&machine.eal, in_flight, options.scene.burst)?,
            synthetic: Synthetic::new(in_flight, template),
            lines: Lines::default(),
            established,
        })
    }

    fn row(mut self) -> anyhow::Result<Row> {
        let end = self.machine.in_time(Duration::from_secs(self.options.duration.into()));
        let (mut measured, mut rounds) = (Measured::default(), 0);
        // One round is measured, however slow the machine.
        while rounds <= self.options.warm_up || shunt::dpdk::clock::now() < end {
            self.turn(rounds, Company::Nobody, &mut measured)?;
            rounds += 1;
        }
        let part = self.part(measured, Vec::new());
        let row = part::row(self.machine, self.options, &[part])?;
        let half = row.mpps * 1e6 / 2.0;
        let Established { bed, traffic, mix, .. } = self.established;
        let latency_ns = latency::at(self.machine, bed, traffic, mix, half)?;
        Ok(Row { latency_ns, ..row })
    }

    /// A round of each.
    pub(crate) fn turn(
        &mut self,
        rounds: u32,
        company: Company<'_>,
        measured: &mut Measured,
    ) -> anyhow::Result<()> {
        let (shunt, missing) = self.shunt_round(rounds == 0, company)?;
        let floor = self.floor_round(company)?;
        let synthetic = self.synthetic_round(company)?;
        let memory = self.memory_round(company)?;
        let waiting = self.waiting_round(company)?;
        if rounds < self.options.warm_up {
            return Ok(());
        }
        measured.lost += missing;
        measured.shunt.push(shunt);
        measured.floor.push(floor);
        measured.synthetic.push(synthetic);
        measured.memory.push(memory);
        measured.waiting.push(waiting);
        if matches!(company, Company::Sleepers) {
            // Stages are those of all together. The round takes place all the same, so that caches are
            // as they are then.
            measured.lost += self.shunt_round(false, company)?.1;
        } else {
            measured.staged += self.staged_round(company)?;
        }
        Ok(())
    }

    /// What was found, of that the rounds with the other workers asleep.
    pub(crate) fn part(&mut self, measured: Measured, alone: Vec<Round>) -> Part {
        let Established { bed, traffic, mix, new_connections_per_second } = &mut self.established;
        let stage_cycles = bed.worker.probe().per_packet(measured.staged);
        let table = bed.table::<F>();
        Part {
            measured,
            alone,
            stage_cycles,
            flows: mix.flows,
            new_connections_per_second: *new_connections_per_second,
            packet_size: traffic.mean_size(),
            bytes: table.bytes() as u64,
            all_bytes: bed.sizes.bytes() as u64,
            places: table.capacity() as u64,
            refusals: bed.refusals(),
            handed_over: bed.stats.run.handed_over.get(),
        }
    }

    /// One round through the balancer. With `check` every frame that left is verified.
    fn shunt_round(&mut self, check: bool, company: Company<'_>) -> anyhow::Result<(Round, u64)> {
        let now_ms = self.established.now_ms(self.machine);
        let Established { bed, traffic, mix, .. } = &mut self.established;
        let offered = traffic.offer(&mut bed.wires, *mix)?;
        company.meet()?;
        let round = bed.time_worker(now_ms);
        let wrong = traffic.collect(&mut bed.wires, check);
        ensure!(
            wrong == 0,
            "{wrong} packets left that are not the translation of what was offered"
        );
        Ok((round, offered - round.packets.min(offered)))
    }

    /// The same, its cycles charged to stages; how many packets.
    fn staged_round(&mut self, company: Company<'_>) -> anyhow::Result<u64> {
        let now_ms = self.established.now_ms(self.machine);
        let Established { bed, traffic, mix, .. } = &mut self.established;
        traffic.offer(&mut bed.wires, *mix)?;
        company.meet()?;
        bed.worker.probe().start();
        let round = bed.time_worker(now_ms);
        bed.worker.probe().stop();
        traffic.collect(&mut bed.wires, false);
        Ok(round.packets)
    }

    /// One round of plain forwarding of the same packets.
    fn floor_round(&mut self, company: Company<'_>) -> anyhow::Result<Round> {
        let Established { traffic, mix, .. } = &mut self.established;
        traffic.offer(&mut self.floor.wires, *mix)?;
        company.meet()?;
        let round = self.floor.time();
        traffic.collect_untouched(&mut self.floor.wires);
        Ok(round)
    }

    /// One round of table and rewrite alone.
    fn synthetic_round(&mut self, company: Company<'_>) -> anyhow::Result<Round> {
        let now_ms = self.established.now_ms(self.machine);
        let Established { bed, traffic, mix, .. } = &mut self.established;
        self.synthetic.prepare(|| traffic.drawn_key(*mix));
        company.meet()?;
        let table = F::table_mut(bed.worker.flows_mut().tables_mut());
        Ok(self.synthetic.time(table, now_ms))
    }

    /// One round of touching the table's lines.
    fn memory_round(&mut self, company: Company<'_>) -> anyhow::Result<Round> {
        let now_ms = self.established.now_ms(self.machine);
        let Established { bed, traffic, mix, .. } = &mut self.established;
        let table = F::table_mut(bed.worker.flows_mut().tables_mut());
        self.lines.prepare(self.options.scene.in_flight, table, || traffic.drawn_key(*mix));
        company.meet()?;
        Ok(self.lines.time(table, now_ms))
    }

    /// One round of waiting for lines.
    fn waiting_round(&mut self, company: Company<'_>) -> anyhow::Result<Round> {
        let now_ms = self.established.now_ms(self.machine);
        let Established { bed, traffic, mix, .. } = &mut self.established;
        let table = F::table_mut(bed.worker.flows_mut().tables_mut());
        self.lines.prepare(WAITED, table, || traffic.drawn_key(*mix));
        company.meet()?;
        Ok(self.lines.time_waiting(table, now_ms))
    }
}
