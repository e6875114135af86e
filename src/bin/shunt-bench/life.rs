//! `life`: connections that come and go.
//!
//! | row | what is timed |
//! |---|---|
//! | `open` | a SYN that makes a connection, while as many old ones are forgotten |
//! | `life` | SYN, SYN+ACK, ACK, FIN, FIN+ACK, ACK of a connection, and its being forgotten |
//!
//! Time is real: a second after its last packet a connection that is closed, or never was open, is
//! over, and the sweep has to keep up.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use anyhow::ensure;
use clap::Args;
use serde::Serialize;
use shunt::dpdk::clock;

use crate::bed::{Bed, Round};
use crate::frame::{Template, flags};
use crate::host::Hosts;
use crate::machine::Machine;
use crate::options::{IpVersion, Scene, Transport};
use crate::report::Spread;
use crate::scene;
use crate::traffic::{BACKENDS, CLIENTS, TO_US, Traffic};

/// Room for what a second brings, and another until it is swept.
const PLACES: u32 = 1 << 24;
/// How long until the first connections end, and some more.
const WARM_UP: Duration = Duration::from_millis(2500);

/// What `life` measures.
#[derive(Clone, Debug, Args)]
pub(crate) struct LifeOptions {
    #[command(flatten)]
    pub(crate) scene: Scene,
    /// Connections there is room for.
    #[arg(long, default_value_t = PLACES)]
    pub(crate) places: u32,
    /// Seconds of measuring for each row.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub(crate) duration: u32,
    /// Print JSON, an object a line.
    #[arg(long)]
    pub(crate) json: bool,
}

/// One row.
#[derive(Debug, Serialize)]
pub(crate) struct LifeRow {
    /// What was done to each connection.
    pub(crate) what: &'static str,
    /// How packets were forwarded.
    pub(crate) mode: &'static str,
    /// How backends were chosen.
    pub(crate) scheduler: &'static str,
    /// Backends to choose from.
    pub(crate) backends: u32,
    /// Packets of each connection.
    pub(crate) packets_each: u32,
    /// TSC cycles a connection, all of its packets and its end.
    pub(crate) cycles_per_connection: Spread,
    /// Connections a second of one core's time.
    pub(crate) connections_per_second: f64,
    /// Connections measured.
    pub(crate) connections: u64,
    /// Connections forgotten meanwhile.
    pub(crate) expired: u64,
    /// Connections in the table at the end.
    pub(crate) live: u32,
    /// Packets refused, by reason.
    pub(crate) refusals: Vec<(&'static str, u64)>,
}

/// A packet of a life: by which port, with which flags.
type Step = (usize, u8);

/// A connection that is opened and closed by its client.
const LIFE: [Step; 6] = [
    (CLIENTS, flags::SYN),
    (BACKENDS, flags::SYN | flags::ACK),
    (CLIENTS, flags::ACK),
    (CLIENTS, flags::FIN | flags::ACK),
    (BACKENDS, flags::FIN | flags::ACK),
    (CLIENTS, flags::ACK),
];

/// Both rows.
pub(crate) fn run(options: &LifeOptions) -> anyhow::Result<Vec<LifeRow>> {
    let scene = &options.scene;
    ensure!(
        scene.protocol == Transport::Tcp,
        "expected --protocol tcp: only TCP says when it ends"
    );
    scene.expect_shortest()?;
    let machine = Machine::start(scene, 1)?;
    let row = |what, steps: &[Step]| match scene.ip {
        IpVersion::V4 => Lives::<Ipv4Addr>::new(&machine, options, steps)?.row(what),
        IpVersion::V6 => Lives::<Ipv6Addr>::new(&machine, options, steps)?.row(what),
    };
    let mut rows = vec![row("open", &LIFE[..1])?];
    if scene.mode.has_replies() {
        rows.push(row("life", &LIFE)?);
    }
    Ok(rows)
}

struct Lives<'a, F: Hosts> {
    machine: &'a Machine,
    options: &'a LifeOptions,
    steps: Vec<(usize, Template)>,
    bed: Bed,
    traffic: Traffic<F>,
}

impl<'a, F: Hosts> Lives<'a, F> {
    fn new(machine: &'a Machine, options: &'a LifeOptions, steps: &[Step]) -> anyhow::Result<Self> {
        let scene = &options.scene;
        let template = |&(port, flags): &Step| {
            (port, Template::new::<F>(64, Transport::Tcp, flags, TO_US[port]))
        };
        Ok(Self {
            machine,
            options,
            steps: steps.iter().map(template).collect(),
            bed: Bed::new::<F>(&machine.eal, scene, options.places, scene::snapshot::<F>(scene))?,
            traffic: Traffic::new(scene, &machine.pool)?,
        })
    }

    fn row(mut self, what: &'static str) -> anyhow::Result<LifeRow> {
        self.rounds(self.machine.in_time(WARM_UP))?;
        let before = self.bed.stats.run.expired.get();
        let duration = Duration::from_secs(self.options.duration.into());
        let rounds = self.rounds(self.machine.in_time(duration))?;
        let spread = Spread::of(rounds.iter().copied())?;
        let scene = &self.options.scene;
        Ok(LifeRow {
            what,
            mode: scene.mode.name(),
            scheduler: scene.scheduler.method().name,
            backends: scene.backends,
            packets_each: u32::try_from(self.steps.len()).unwrap_or(u32::MAX),
            cycles_per_connection: spread,
            connections_per_second: self.machine.hertz() / spread.median,
            connections: rounds.iter().map(|round| round.packets).sum(),
            expired: self.bed.stats.run.expired.get() - before,
            live: self.bed.table::<F>().len(),
            refusals: self.bed.refusals(),
        })
    }

    /// Rounds until then; `packets` of each are connections.
    fn rounds(&mut self, end: u64) -> anyhow::Result<Vec<Round>> {
        let mut rounds = Vec::new();
        while clock::now() < end {
            rounds.push(self.round()?);
        }
        Ok(rounds)
    }

    /// A burst of connections, from the first packet to the last.
    fn round(&mut self) -> anyhow::Result<Round> {
        let count = self.options.scene.in_flight;
        let mut whole = Round::default();
        let first = self.traffic.begin_batch();
        for step in 0..self.steps.len() {
            let (port, template) = &self.steps[step];
            let port = *port;
            self.traffic.offer_step(&mut self.bed.wires[port], port, template, first, count)?;
            let round = self.bed.time_worker(self.machine.now_ms());
            let refusals = || self.bed.refusals();
            ensure!(round.packets == u64::from(count), "packets refused: {:?}", refusals());
            whole += round;
            self.traffic.take_batch(&mut self.bed.wires, step == 0);
        }
        Ok(Round { packets: count.into(), ..whole })
    }
}

/// The rows as text.
pub(crate) fn render(rows: &[LifeRow], json: bool) -> String {
    if json {
        let line = |row: &LifeRow| serde_json::to_string(row).unwrap_or_default() + "\n";
        return rows.iter().map(line).collect();
    }
    let head = format!(
        "{:<6} {:<8} {:<9} {:>8} {:>8} {:>36} {:>12} {:>10} {:>10}\n",
        "what",
        "mode",
        "scheduler",
        "backends",
        "packets",
        "cycles each (10-90%)",
        "conn/s",
        "expired",
        "live"
    );
    rows.iter().fold(head, |text, row| text + &line(row))
}

fn line(row: &LifeRow) -> String {
    let line = format!(
        "{:<6} {:<8} {:<9} {:>8} {:>8} {:>36} {:>12.0} {:>10} {:>10}\n",
        row.what,
        row.mode,
        row.scheduler,
        row.backends,
        row.packets_each,
        row.cycles_per_connection,
        row.connections_per_second,
        row.expired,
        row.live,
    );
    let refused = |(reason, count): &(&str, u64)| format!("       refused {count} ({reason})\n");
    line + &row.refusals.iter().map(refused).collect::<String>()
}
