//! `shunt schedule`: what a scheduler would do, by asking the scheduler. No daemon, no packets.
//!
//! ```text
//! $ shunt schedule --scheduler wrr --backend 10.44.0.11:8080=2 --backend 10.44.0.12:8080 --flows 3
//! 10.44.0.12:8080
//! 10.44.0.11:8080
//! 10.44.0.11:8080
//! ```
//!
//! Flows are numbered from 1; a change at N is made before flow N. Every flow is a new TCP
//! connection that becomes active and stays (unless `--end` says when it is over), at the one worker
//! there is. Chance begins alike each
//! time, so that the same command line gives the same answer. Exit codes: 0, or 2 if the
//! command line or the file of flows is wrong.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::builder::TypedValueParser as _;
use serde::{Serialize, Serializer as _};

use crate::dataplane::sched::{Flags, Scheduler, Slots};

mod limits;
mod simulation;

use limits::{Bound, End, bound, end};
use simulation::Simulation;

/// The command line.
#[derive(Debug, clap::Args)]
pub struct Schedule {
    /// Who chooses
    #[arg(long, value_name = "NAME", value_parser = scheduler())]
    scheduler: Scheduler,
    /// Its flags; those of others are allowed and mean nothing to one without any
    #[arg(long, value_name = "FLAG,...", value_delimiter = ',')]
    flags: Vec<String>,
    /// Slots of the table of mh and qh, as `mh_slots` in the file
    #[arg(long, value_name = "N", value_parser = slots, default_value_t = Slots::default())]
    mh_slots: Slots,
    /// A backend and its weight (1 if not said); the first given is the oldest
    #[arg(long = "backend", value_name = "ADDR[=WEIGHT]", required = true, value_parser = weighed)]
    backends: Vec<Weighed>,
    /// How many new TCP connections, from 192.0.2.2 ports 2000 up to 198.51.100.10:80; or a file
    /// of lines `CLIENT:PORT VIP:PORT`
    #[arg(long, value_name = "N|FILE", value_parser = flows)]
    flows: Flows,
    /// Before flow N (from 1) give a backend this weight; one that is not there is added
    #[arg(long = "set", value_name = "ADDR=WEIGHT@N", value_parser = set)]
    sets: Vec<Change>,
    /// Before flow N (from 1) remove a backend
    #[arg(long = "remove", value_name = "ADDR@N", value_parser = remove)]
    removes: Vec<Change>,
    /// A backend takes so many connections, as `max_connections` in the file (ipvsadm: -x)
    #[arg(long = "max-connections", value_name = "ADDR=N", value_parser = bound)]
    max_connections: Vec<Bound>,
    /// A full backend takes new ones when it has fewer, as `resume_below` (ipvsadm: -y)
    #[arg(long = "resume-below", value_name = "ADDR=N", value_parser = bound)]
    resume_below: Vec<Bound>,
    /// Before flow N (from 1) the connection of flow M ends
    #[arg(long = "end", value_name = "M@N", value_parser = end)]
    ends: Vec<End>,
}

/// Why nothing, or not all, was scheduled.
#[derive(Debug, thiserror::Error)]
pub enum ScheduleError {
    /// A flag that no scheduler knows.
    #[error("there is no flag `{flag}`; there are {known}")]
    Flag {
        /// The flag.
        flag: String,
        /// What there is.
        known: String,
    },
    /// A backend that is given twice.
    #[error("backend {0} is given twice; use --set to change its weight")]
    Twice(SocketAddr),
    /// A backend that is not there when it is to be removed.
    #[error("backend {0} is not there before flow {1}, so it cannot be removed")]
    NotThere(SocketAddr, u64),
    /// A change that no flow comes after.
    #[error("backend {address} is to change before flow {at}, but there are {flows} flows")]
    TooLate {
        /// The backend.
        address: SocketAddr,
        /// The flow's number, from 1.
        at: u64,
        /// How many there are.
        flows: u64,
    },
    /// A limit of nobody.
    #[error("--max-connections names {0}, which is no --backend and is never added by --set")]
    NeverThere(SocketAddr),
    /// A lower limit without, or above, an upper one.
    #[error("--resume-below of {0} has to be at most its --max-connections, which has to be given")]
    Resume(SocketAddr),
    /// A connection that ends before it begins, or after all.
    #[error("flow {flow} cannot end before flow {at}: expected M@N, M below N, of {flows} flows")]
    End {
        /// Whose connection.
        flow: u64,
        /// Before which.
        at: u64,
        /// How many there are.
        flows: u64,
    },
    /// The file of flows cannot be read.
    #[error("cannot read {path}: {source}; --flows takes a number or a file")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A line of the file of flows is none.
    #[error("{path}:{line}: `{text}` is not a flow; expected `CLIENT:PORT VIP:PORT`")]
    Line {
        /// The file.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// What is there.
        text: String,
    },
    /// The answer cannot be written.
    #[error("cannot write the answer: {0}")]
    Output(#[from] io::Error),
}

/// A backend and its weight.
#[derive(Clone, Copy, Debug)]
struct Weighed {
    address: SocketAddr,
    weight: u32,
}

/// A change of the backends before a flow.
#[derive(Clone, Copy, Debug)]
struct Change {
    /// The flow's number, from 1.
    at: u64,
    address: SocketAddr,
    /// `None` removes.
    weight: Option<u32>,
}

#[derive(Clone, Debug)]
enum Flows {
    Count(u64),
    File(PathBuf),
}

/// A connection that asks for a backend, and the one it gets.
#[derive(Clone, Copy, Debug, Serialize)]
struct Row {
    flow: u64,
    client: SocketAddr,
    vip: SocketAddr,
    /// `None` is refused.
    backend: Option<SocketAddr>,
}

/// A flow's client, and the VIP it asks.
type Ends = (SocketAddr, SocketAddr);

/// Most flows that `--flows N` makes.
const FLOWS_MAX: u64 = 100_000_000;
/// As in the configuration.
const WEIGHT_MAX: u32 = 65_535;

const FIRST_CLIENT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const FIRST_PORT: u16 = 2_000;
const VIP: (Ipv4Addr, u16) = (Ipv4Addr::new(198, 51, 100, 10), 80);

fn scheduler() -> impl clap::builder::TypedValueParser<Value = Scheduler> {
    let names = Scheduler::ALL.iter().map(|scheduler| scheduler.method().name);
    let known = |name: String| Scheduler::named(&name).ok_or("no such scheduler");
    PossibleValuesParser::new(names).try_map(known)
}

fn address(text: &str) -> Result<SocketAddr, String> {
    let help = "expected an address with a port, like 10.44.0.11:8080 or [2001:db8::11]:8080";
    text.parse().map_err(|_| format!("`{text}` is not one; {help}"))
}

fn weight(text: &str) -> Result<u32, String> {
    let weight = text.parse().ok().filter(|weight| *weight <= WEIGHT_MAX);
    weight.ok_or_else(|| format!("`{text}` is not a weight; expected 0 to {WEIGHT_MAX}"))
}

fn weighed(text: &str) -> Result<Weighed, String> {
    match text.split_once('=') {
        Some((before, after)) => Ok(Weighed { address: address(before)?, weight: weight(after)? }),
        None => Ok(Weighed { address: address(text)?, weight: 1 }),
    }
}

fn place(text: &str) -> Result<(&str, u64), String> {
    let help = "expected `@N` at the end, the number (from 1) of the flow before which it happens";
    let (what, at) = text.rsplit_once('@').ok_or(help)?;
    let at = at.parse().ok().filter(|at| *at > 0).ok_or(help)?;
    Ok((what, at))
}

fn set(text: &str) -> Result<Change, String> {
    let (what, at) = place(text)?;
    let (before, after) = what.split_once('=').ok_or("expected ADDR=WEIGHT@N")?;
    Ok(Change { at, address: address(before)?, weight: Some(weight(after)?) })
}

fn remove(text: &str) -> Result<Change, String> {
    let (what, at) = place(text)?;
    Ok(Change { at, address: address(what)?, weight: None })
}

fn slots(text: &str) -> Result<Slots, String> {
    let slots = text.parse().ok().and_then(Slots::new);
    slots.ok_or_else(|| {
        let known: Vec<_> = Slots::ALL.iter().map(ToString::to_string).collect();
        format!("expected one of {}", known.join(", "))
    })
}

fn flows(text: &str) -> Result<Flows, String> {
    if text.is_empty() || !text.bytes().all(|digit| digit.is_ascii_digit()) {
        return Ok(Flows::File(text.into()));
    }
    let count = text.parse().ok().filter(|count| *count <= FLOWS_MAX);
    count.map(Flows::Count).ok_or_else(|| format!("at most {FLOWS_MAX} flows"))
}

impl Flows {
    /// How many there are, and each one's client and VIP.
    fn all(&self) -> Result<(u64, Box<dyn Iterator<Item = Ends>>), ScheduleError> {
        match self {
            Self::Count(count) => {
                Ok((*count, Box::new((0..*count).map(|n| (client(n), VIP.into())))))
            }
            Self::File(path) => {
                let read = fs::read_to_string(path);
                let text =
                    read.map_err(|source| ScheduleError::File { path: path.clone(), source })?;
                let lines = text.lines().zip(1..).filter(|(line, _)| is_flow(line));
                let flow = |(text, line): (&str, usize)| {
                    let wrong =
                        || ScheduleError::Line { path: path.clone(), line, text: text.into() };
                    pair(text).ok_or_else(wrong)
                };
                let flows = lines.map(flow).collect::<Result<Vec<_>, _>>()?;
                Ok((flows.len() as u64, Box::new(flows.into_iter())))
            }
        }
    }
}

/// Not blank, and no remark.
fn is_flow(line: &str) -> bool {
    !line.trim().is_empty() && !line.trim_start().starts_with('#')
}

fn pair(line: &str) -> Option<Ends> {
    let mut words = line.split_whitespace();
    let pair = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    words.next().is_none().then_some(pair)
}

/// The client of flow `n`, from 0: the next address when the ports of one are used up.
fn client(n: u64) -> SocketAddr {
    let ports = u64::from(u16::MAX - FIRST_PORT) + 1;
    let host = u32::try_from(n / ports).unwrap_or(u32::MAX);
    let port = FIRST_PORT + u16::try_from(n % ports).unwrap_or(0);
    let address = FIRST_CLIENT.to_bits().wrapping_add(host);
    (IpAddr::from(Ipv4Addr::from_bits(address)), port).into()
}

impl Schedule {
    /// As in IPVS any scheduler may be given any flag, and `sh-port` and `mh-port` are one.
    fn scheduler_flags(&self) -> Result<Flags, ScheduleError> {
        let known = || Scheduler::ALL.iter().flat_map(|scheduler| scheduler.method().flags);
        let none = Flags { slots: self.mh_slots, ..Flags::default() };
        self.flags.iter().try_fold(none, |flags, name| {
            let flag = known().find(|(known, _)| known == name);
            flag.map(|(_, flag)| flags.with(*flag)).ok_or_else(|| ScheduleError::Flag {
                flag: name.clone(),
                known: known().map(|(name, _)| *name).collect::<Vec<_>>().join(", "),
            })
        })
    }

    /// Changes, in the order in which they happen; before the same flow removals come first.
    fn changes(&self) -> Result<Vec<Change>, ScheduleError> {
        let mut changes: Vec<Change> = self.removes.iter().chain(&self.sets).copied().collect();
        changes.sort_by_key(|change| change.at);
        let mut there: HashSet<_> = self.backends.iter().map(|backend| backend.address).collect();
        for Change { at, address, weight } in &changes {
            match weight {
                Some(_) => drop(there.insert(*address)),
                None if there.remove(address) => {}
                None => return Err(ScheduleError::NotThere(*address, *at)),
            }
        }
        Ok(changes)
    }

    fn simulation(&self) -> Result<Simulation, ScheduleError> {
        let added = || self.sets.iter().map(|set| set.address);
        let given = || self.backends.iter().map(|backend| backend.address);
        let is_known = |address| given().chain(added()).any(|known| known == address);
        let limits = limits::limits(&self.max_connections, &self.resume_below, is_known)?;
        let mut simulation = Simulation::new(self.scheduler, self.scheduler_flags()?, limits);
        for Weighed { address, weight } in &self.backends {
            if simulation.has(*address) {
                return Err(ScheduleError::Twice(*address));
            }
            simulation.set(*address, *weight);
        }
        Ok(simulation)
    }
}

/// Schedules: rows or JSON to `out`, shares to `err`.
pub fn run(
    schedule: &Schedule,
    json: bool,
    out: &mut impl Write,
    err: &mut impl Write,
) -> Result<(), ScheduleError> {
    let mut simulation = schedule.simulation()?;
    let changes = schedule.changes()?;
    let (count, flows) = schedule.flows.all()?;
    if let Some(Change { at, address, .. }) = changes.iter().find(|change| change.at > count) {
        return Err(ScheduleError::TooLate { address: *address, at: *at, flows: count });
    }
    let ends = limits::ends(&schedule.ends, count)?;
    simulation.keep_all_of(ends.values().flatten().copied());
    let mut changes = changes.iter().peekable();
    let (mut shares, mut refused) = (BTreeMap::<SocketAddr, u64>::new(), 0);
    // One at a time: there may be a hundred million.
    let rows = (1..).zip(flows).map(|(flow, (client, vip))| {
        ends.get(&flow).into_iter().flatten().for_each(|ended| simulation.end(*ended));
        while let Some(change) = changes.next_if(|change| change.at <= flow) {
            simulation.apply(change);
        }
        let backend = simulation.connect(flow, client, vip);
        match backend {
            Some(backend) => *shares.entry(backend).or_default() += 1,
            None => refused += 1,
        }
        Row { flow, client, vip, backend }
    });
    if json {
        let mut list = serde_json::Serializer::pretty(&mut *out);
        list.collect_seq(rows).map_err(io::Error::from)?;
        writeln!(out)?;
    } else {
        for row in rows {
            match row.backend {
                Some(backend) => writeln!(out, "{backend}")?,
                None => writeln!(out, "refused")?,
            }
        }
    }
    out.flush()?;
    summary(&simulation, &shares, refused, err)
}

/// `10.44.0.11:8080  weight 5  20 (83.3 %)`, oldest first, then those that are gone.
fn summary(
    simulation: &Simulation,
    shares: &BTreeMap<SocketAddr, u64>,
    refused: u64,
    err: &mut impl Write,
) -> Result<(), ScheduleError> {
    let total = shares.values().sum::<u64>() + refused;
    // Per mille, rounded.
    let percent = |count: u64| {
        let mille = (count * 1000 + total / 2).checked_div(total).unwrap_or(0);
        format!("{}.{} %", mille / 10, mille % 10)
    };
    for (address, weight) in simulation.backends() {
        let count = shares.get(&address).copied().unwrap_or(0);
        writeln!(err, "{address}  weight {weight}  {count} ({})", percent(count))?;
    }
    for (address, count) in shares.iter().filter(|(address, _)| !simulation.has(**address)) {
        writeln!(err, "{address}  removed  {count} ({})", percent(*count))?;
    }
    writeln!(err, "refused  {refused} ({})", percent(refused))?;
    Ok(())
}
