//! `explain`: what the balancer would do with a flow's next packet, and why.
//!
//! All workers are asked whether they know the connection. If none does, the packet goes through a scratch
//! worker here: see [`crate::dataplane::explain`]. One request is served at a time.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::world::World;
use crate::control::admin::view::flow::{FlowError, FlowText};
use crate::control::admin::view::spelled;
use crate::control::publish::Publisher;
use crate::dataplane::explain::{self, Find, Flow, Known, Outcome};
use crate::dataplane::flows::Fate;
use crate::dataplane::io::Packet as _;
use crate::dataplane::io::RxInfo;
use crate::dataplane::io::memory::VecPacket;
use crate::dataplane::parse::{Parse, parse};
use crate::dataplane::snapshot::Snapshot;
use crate::dataplane::verdict::Reason;
use crate::ids::{PortId, ServiceId, WorkerId};
use crate::stats::counters::WorkerStats;
use crate::wire::Mac;

/// How long a worker may take to look into its table.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why there is no explanation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExplainError {
    /// It is no flow.
    #[error(transparent)]
    Flow(#[from] FlowError),
    /// No such port.
    #[error("no port `{0}`; `shunt ports` lists them")]
    NoPort(String),
    /// Somebody else asks.
    #[error("another flow is being explained; try again")]
    Busy,
    /// A worker is stuck.
    #[error("worker {0} does not answer; `shunt status` shows whether it moves")]
    Silent(WorkerId),
    /// No memory for the scratch worker.
    #[error("no memory to try the packet: {0}")]
    Memory(String),
}

/// The parameters of the request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Parameters {
    /// The flow: see [`FlowText`].
    pub flow: String,
    /// The port it arrives by; the first if nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<String>,
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It goes on.
    Forward,
    /// Its sender gets an answer from the balancer: RST, an ICMP error, a SYN cookie.
    Answer,
    /// It is refused without a word.
    Drop,
    /// It is the kernel's.
    Kernel,
}

/// The explanation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Explanation {
    /// The flow.
    pub flow: String,
    /// The port it arrives by.
    pub port: String,
    /// What becomes of its next packet.
    pub verdict: Verdict,
    /// Why not forwarded: the metric's label.
    pub reason: Option<String>,
    /// What that means, or what else there is to say.
    pub because: String,
    /// Is it of a connection that is there?
    pub known: bool,
    /// The worker that has the connection, or would make it.
    pub worker: Option<u8>,
    /// The state of the connection.
    pub state: Option<String>,
    /// The service's name.
    pub service: Option<String>,
    /// How it chooses backends.
    pub scheduler: Option<String>,
    /// The backend: of a new connection one that may be chosen.
    pub backend: Option<SocketAddr>,
    /// The local address and port: of a new connection a candidate.
    pub local: Option<SocketAddr>,
    /// The flow as it leaves.
    pub leaves_as: Option<String>,
    /// The port it leaves by.
    pub leaves_by: Option<String>,
    /// The station it is sent to.
    pub next_hop: Option<String>,
}

type Reply = oneshot::Sender<Result<Explanation, ExplainError>>;

/// A request being served.
#[derive(Debug)]
struct Job {
    flow: Flow,
    port: PortId,
    /// Workers that have to be asked, and those that have to answer.
    unasked: Vec<WorkerId>,
    waiting: Vec<WorkerId>,
    found: Vec<(WorkerId, Box<Find>)>,
    deadline: Instant,
    reply: Reply,
}

/// The request that is served, if any.
#[derive(Debug, Default)]
pub struct Explains {
    job: Option<Job>,
}

impl Explains {
    /// Is there anything to do?
    pub fn active(&self) -> bool {
        self.job.is_some()
    }

    /// Takes a request in.
    pub fn begin(&mut self, parameters: &Parameters, world: &World<'_>, reply: Reply) {
        let asked = match self.job {
            Some(_) => Err(ExplainError::Busy),
            None => understood(parameters, world),
        };
        let (flow, port) = match asked {
            Ok(asked) => asked,
            Err(error) => return drop(reply.send(Err(error))),
        };
        let unasked = (0..).map(WorkerId).take(world.workers).collect();
        let deadline = Instant::now() + PATIENCE;
        let (waiting, found) = (vec![], vec![]);
        self.job = Some(Job { flow, port, unasked, waiting, found, deadline, reply });
    }

    /// Asks workers and takes their answers; the last one completes the explanation.
    pub fn poll(
        &mut self,
        publisher: &mut Publisher,
        world: &World<'_>,
        workers: &[Arc<WorkerStats>],
    ) {
        while let Some((worker, find)) = publisher.found() {
            // One that comes too late is nobody's.
            if let Some(job) = &mut self.job
                && job.flow == find.flow
            {
                job.waiting.retain(|it| *it != worker);
                job.found.push((worker, find));
            }
        }
        let Some(job) = &mut self.job else { return };
        let Job { unasked, waiting, flow, .. } = job;
        unasked.retain(|worker| {
            let was_asked = publisher.find(*worker, Box::new(Find::new(*flow))).is_ok();
            waiting.extend(was_asked.then_some(*worker));
            !was_asked
        });
        let late = job.waiting.first().or(job.unasked.first()).copied();
        if late.is_some() && Instant::now() < job.deadline {
            return;
        }
        let Some(job) = self.job.take() else { return };
        let explained = late.map_or_else(
            || explained(&job, world, workers),
            |worker| Err(ExplainError::Silent(worker)),
        );
        drop(job.reply.send(explained));
    }
}

fn understood(parameters: &Parameters, world: &World<'_>) -> Result<(Flow, PortId), ExplainError> {
    let FlowText(flow) = parameters.flow.parse()?;
    let Some(name) = &parameters.port else { return Ok((flow, PortId(0))) };
    let port = world.port(name).ok_or_else(|| ExplainError::NoPort(name.clone()))?;
    Ok((flow, port))
}

fn explained(
    job: &Job,
    world: &World<'_>,
    workers: &[Arc<WorkerStats>],
) -> Result<Explanation, ExplainError> {
    let mut explanation = Explanation {
        flow: FlowText(job.flow).to_string(),
        port: name_of(job.port, world),
        verdict: Verdict::Kernel,
        reason: None,
        because: String::new(),
        known: false,
        worker: None,
        state: None,
        service: None,
        scheduler: None,
        backend: None,
        local: None,
        leaves_as: None,
        leaves_by: None,
        next_hop: None,
    };
    let known = job.found.iter().find_map(|(worker, find)| Some((*worker, find.known?)));
    if let Some((worker, known)) = known {
        explanation.of_known(worker, known, job.flow, world);
        return Ok(explanation);
    }
    let owner = job.found.iter().find_map(|(_, find)| find.owner);
    explanation.worker = owner.map(|worker| worker.0);
    let (source, destination) = (job.flow.source, job.flow.destination);
    let place = (destination.ip(), destination.port(), job.flow.protocol as u8);
    if let Some(service) = world.snapshot.service_for(source.ip(), place) {
        explanation.name_service(service, world.snapshot);
    }
    let outcome = tried(job, owner.unwrap_or_default(), world, workers)?;
    explanation.of_outcome(&outcome, job.flow, world);
    Ok(explanation)
}

/// Has a scratch worker decide about a synthetic packet.
fn tried(
    job: &Job,
    owner: WorkerId,
    world: &World<'_>,
    workers: &[Arc<WorkerStats>],
) -> Result<Outcome, ExplainError> {
    let station = world.snapshot.station(job.port).mac();
    let frame = explain::frame(job.flow, station).unwrap_or_default();
    let mut packet = VecPacket::new(&frame);
    packet.set_port(job.port);
    let nobody = WorkerStats::default;
    let shared = workers.first().map_or_else(|| Arc::new(nobody()), Arc::clone);
    let count = u8::try_from(world.workers).unwrap_or(u8::MAX).max(1);
    let counts = (&*shared.loads, &*shared.tallies);
    explain::decide(packet, owner, count, world.snapshot, counts)
        .map_err(|error| ExplainError::Memory(error.to_string()))
}

fn name_of(port: PortId, world: &World<'_>) -> String {
    let port = port.link();
    world.ports.get(port.index()).map_or_else(|| port.to_string(), Clone::clone)
}

impl Explanation {
    fn name_service(&mut self, id: ServiceId, snapshot: &Snapshot) {
        let Some(service) = snapshot.service(id) else { return };
        self.service = Some(service.name.to_string());
        self.scheduler = Some(spelled(&service.scheduling.scheduler));
    }

    fn refused(&mut self, reason: Reason) {
        self.reason = Some(reason.label().to_owned());
        reason.describe().trim().clone_into(&mut self.because);
    }

    fn of_known(&mut self, worker: WorkerId, known: Known, flow: Flow, world: &World<'_>) {
        let Known { connection, is_clients, leaves_as: (source, destination), way } = known;
        self.known = true;
        self.worker = Some(worker.0);
        self.state = Some(spelled(&connection.state));
        self.backend = Some(connection.backend);
        self.local = (connection.local != connection.client).then_some(connection.local);
        self.name_service(connection.service_id, world.snapshot);
        match way {
            Ok(hop) => {
                self.verdict = Verdict::Forward;
                self.because = format!(
                    "It is of a connection that is there, from the {}.",
                    if is_clients { "client" } else { "backend" }
                );
                self.leaves_as = Some(FlowText(Flow { source, destination, ..flow }).to_string());
                self.leaves_by = Some(name_of(hop.port, world));
                self.next_hop = Some(hop.destination.to_string());
            }
            Err(reason) => {
                self.verdict = Verdict::Drop;
                self.refused(reason);
            }
        }
    }

    fn of_outcome(&mut self, outcome: &Outcome, flow: Flow, world: &World<'_>) {
        let leaves = leaves_as(&outcome.frame, flow);
        if let Some(connection) = outcome.connection {
            self.backend = Some(connection.backend);
            self.local = (connection.local != connection.client).then_some(connection.local);
        }
        if let Some(reason) = outcome.refused {
            self.refused(reason);
        }
        match outcome.fate {
            Fate::Send(port)
            | Fate::Ask(port)
            | Fate::Opened(port)
            | Fate::Cut(port, _)
            | Fate::SendBehind(port, _) => {
                let is_answer = leaves.is_some_and(|it| it.destination == flow.source)
                    || outcome.refused.is_some();
                self.verdict = if is_answer { Verdict::Answer } else { Verdict::Forward };
                if self.because.is_empty() {
                    let text = if is_answer {
                        "The client is asked for a SYN cookie first."
                    } else {
                        "It makes a connection."
                    };
                    text.clone_into(&mut self.because);
                }
                self.leaves_as = leaves.map(|flow| FlowText(flow).to_string());
                self.leaves_by = Some(name_of(port, world));
                let to = outcome.frame.first_chunk().map(|bytes| Mac(*bytes).to_string());
                self.next_hop = to;
            }
            Fate::Punt(_) => {
                self.verdict = Verdict::Kernel;
                self.because = if world.snapshot.is_vip(flow.destination.ip()) {
                    "No service takes it.".to_owned()
                } else {
                    "It is not for a VIP or local address of ours.".to_owned()
                };
            }
            _ => self.verdict = Verdict::Drop,
        }
    }
}

/// The flow of a frame; `None` of one into a tunnel.
fn leaves_as(frame: &[u8], flow: Flow) -> Option<Flow> {
    let (source, destination) = match parse(frame, RxInfo::default()) {
        Parse::Flow(parsed) => {
            let key = parsed.key;
            let source = SocketAddr::new(key.source().into(), key.source_port());
            (source, SocketAddr::new(key.destination().into(), key.destination_port()))
        }
        Parse::Flow6(parsed) => {
            let key = parsed.key;
            let source = SocketAddr::new(key.source().into(), key.source_port());
            (source, SocketAddr::new(key.destination().into(), key.destination_port()))
        }
        _ => return None,
    };
    Some(Flow { source, destination, ..flow })
}
