//! `trace`: the next packets of a flow, as lines of JSON, one for each packet.
//!
//! As a capture is ([`super::capture`]): an order and a queue for each worker, a stream that empties the queues, and an
//! end when enough packets have passed, the time is over or the reader has gone.

use std::sync::Arc;
use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::lease::{Place, Tenant, lease};
use super::world::World;
use crate::control::admin::view::flow::{FlowError, FlowText};
use crate::control::publish::Publisher;
use crate::dataplane::explain::Flow;
use crate::dataplane::flows::Fate;
use crate::dataplane::snapshot::Protocol;
use crate::dataplane::trace::{Passage, Passages, Times, Trace};
use crate::ids::{PortId, WorkerId};
use crate::stats::latency::nanoseconds;

/// Longest trace, seconds.
pub const SECONDS_MAX: u64 = 600;
/// Most packets of one trace.
pub const PACKETS_MAX: u64 = 10_000;
/// Packets of a trace that does not say how many.
pub const PACKETS: u64 = 10;
/// Seconds of a trace that does not say how long.
pub const SECONDS: u64 = 30;
/// Passages that may wait, each worker.
const ROOM: usize = 1024;
/// Between two looks into the queues.
const PAUSE: Duration = Duration::from_millis(20);
/// How long a stream may take to its end after its time is over.
const GRACE: Duration = Duration::from_secs(2);

/// Why nothing is followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TraceError {
    /// It is no flow.
    #[error(transparent)]
    Flow(#[from] FlowError),
    /// A number is too large, or nothing.
    #[error("expected {name} between 1 and {most}, not {found}")]
    Number {
        /// Which.
        name: &'static str,
        /// The limit.
        most: u64,
        /// What was asked for.
        found: u64,
    },
    /// Somebody else follows a flow.
    #[error("a flow is being followed already; there is one at a time")]
    Busy,
}

/// The parameters of the request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Parameters {
    /// The flow: see [`FlowText`].
    pub flow: String,
    /// No more packets than so many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// No longer than so many seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u64>,
}

/// Cycles of the time stamp counter that a packet spent in each stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Cycles {
    /// Until its burst was parsed.
    pub parse: u64,
    /// Until that was looked up.
    pub lookup: u64,
    /// Until those before it in the burst were done.
    pub wait: u64,
    /// Until it was decided about and rewritten.
    pub decide: u64,
    /// Until what was staged was given to the ports.
    pub send: u64,
}

impl From<Times> for Cycles {
    fn from(times: Times) -> Self {
        let Times { received, parsed, looked_up, begun, decided, sent } = times;
        Self {
            parse: parsed.saturating_sub(received),
            lookup: looked_up.saturating_sub(parsed),
            wait: begun.saturating_sub(looked_up),
            decide: decided.saturating_sub(begun),
            send: sent.saturating_sub(decided),
        }
    }
}

/// A packet of the flow: a line of the answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Line {
    /// Nanoseconds since the trace began.
    pub at_ns: u64,
    /// The worker it met.
    pub worker: u8,
    /// As it came.
    pub flow: String,
    /// The port it came by.
    pub port: String,
    /// Was it handed over by another worker?
    pub taken_over: bool,
    /// Was it of a connection in this worker's table?
    pub known: bool,
    /// What became of it.
    pub became: String,
    /// Why it was refused: the metric's label.
    pub reason: Option<String>,
    /// Where its time went.
    pub cycles: Cycles,
}

type Reply = oneshot::Sender<Result<Stream, TraceError>>;

/// A trace under way.
#[derive(Debug)]
struct Job {
    place: Place,
    deadline: Instant,
    to_begin: Vec<(WorkerId, Box<Trace>)>,
    to_end: Vec<WorkerId>,
}

/// The trace that is under way, if there is one.
#[derive(Debug, Default)]
pub struct Traces {
    job: Option<Job>,
}

fn number(name: &'static str, found: u64, most: u64) -> Result<u64, TraceError> {
    let error = TraceError::Number { name, most, found };
    if (1..=most).contains(&found) { Ok(found) } else { Err(error) }
}

impl Traces {
    /// Does it wait for workers to be told?
    pub fn is_pressing(&self) -> bool {
        self.job.as_ref().is_some_and(|job| !job.to_begin.is_empty() || job.is_over())
    }

    /// Takes a request in.
    pub fn begin(&mut self, parameters: &Parameters, world: &World<'_>, reply: Reply) {
        match self.begun(parameters, world) {
            // If nobody takes it, the reader is gone.
            Ok(stream) => drop(reply.send(Ok(stream))),
            Err(error) => drop(reply.send(Err(error))),
        }
    }

    fn begun(&mut self, parameters: &Parameters, world: &World<'_>) -> Result<Stream, TraceError> {
        if self.job.is_some() {
            return Err(TraceError::Busy);
        }
        let FlowText(flow) = parameters.flow.parse()?;
        let count = number("count", parameters.count.unwrap_or(PACKETS), PACKETS_MAX)?;
        let seconds = number("seconds", parameters.seconds.unwrap_or(SECONDS), SECONDS_MAX)?;
        let duration = Duration::from_secs(seconds);
        let queue = || Arc::new(Passages::new(ROOM));
        let queues: Vec<_> = std::iter::repeat_with(queue).take(world.workers).collect();
        let part = |queue: &Arc<Passages>| Box::new(Trace::new(flow, count, Arc::clone(queue)));
        let to_begin = (0..).map(WorkerId).zip(queues.iter().map(part)).collect();
        let deadline = Instant::now() + duration;
        let (place, tenant) = lease();
        let stream = Stream {
            tenant,
            queues,
            ports: world.ports.to_vec(),
            protocol: flow.protocol,
            since: world.ticks,
            tsc_hz: world.tsc_hz,
            deadline,
            duration,
            left: count,
        };
        self.job = Some(Job { place, deadline: deadline + GRACE, to_begin, to_end: vec![] });
        tracing::info!(flow = %FlowText(flow), "following a flow");
        Ok(stream)
    }

    /// Tells workers to begin, and to end.
    pub fn poll(&mut self, publisher: &mut Publisher) {
        let Some(job) = &mut self.job else { return };
        if job.is_over() {
            job.to_begin.clear();
            job.to_end.retain(|worker| publisher.trace(*worker, None).is_err());
        }
        let mut waiting = Vec::new();
        for (worker, part) in job.to_begin.drain(..) {
            match publisher.trace(worker, Some(part)) {
                Ok(()) => job.to_end.push(worker),
                Err(back) => waiting.extend(back.map(|part| (worker, part))),
            }
        }
        job.to_begin = waiting;
        if job.is_over() && job.to_end.is_empty() {
            self.job = None;
        }
    }
}

impl Job {
    fn is_over(&self) -> bool {
        self.place.is_left() || Instant::now() >= self.deadline
    }
}

/// Passages that have not been read.
#[derive(Debug)]
pub struct Stream {
    tenant: Tenant,
    queues: Vec<Arc<Passages>>,
    ports: Vec<String>,
    protocol: Protocol,
    /// Ticks when it began.
    since: u64,
    tsc_hz: u64,
    deadline: Instant,
    duration: Duration,
    left: u64,
}

impl Stream {
    /// The longest it may take.
    pub fn duration(&self) -> Duration {
        self.duration + GRACE
    }

    /// The next lines; `None` behind the last.
    pub async fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            let is_late = Instant::now() >= self.deadline;
            let lines = self.gather();
            let is_over = is_late || self.left == 0;
            if is_over {
                self.tenant.leave().await;
            }
            if is_over || !lines.is_empty() {
                return (!lines.is_empty()).then_some(lines);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn gather(&mut self) -> Vec<u8> {
        let of = |(worker, queue): (u8, &Arc<Passages>)| {
            std::iter::from_fn(|| queue.take()).map(|it| (worker, it)).collect::<Vec<_>>()
        };
        let mut passages: Vec<_> = (0..).zip(&self.queues).flat_map(of).collect();
        passages.sort_by_key(|(_, passage)| passage.times.received);
        passages.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
        self.left -= passages.len() as u64;
        let line = |(worker, passage): &(u8, Passage)| {
            let mut text = serde_json::to_vec(&self.line(*worker, passage)).unwrap_or_default();
            text.push(b'\n');
            text
        };
        passages.iter().flat_map(line).collect()
    }

    fn line(&self, worker: u8, passage: &Passage) -> Line {
        let Passage { source, destination, .. } = *passage;
        let flow = Flow { protocol: self.protocol, source, destination };
        let since = passage.times.received.saturating_sub(self.since);
        Line {
            at_ns: nanoseconds(since, self.tsc_hz),
            worker,
            flow: FlowText(flow).to_string(),
            port: self.port(passage.port),
            taken_over: passage.is_taken_over,
            known: passage.is_known,
            became: self.became(passage.fate, passage.refused.is_some()),
            reason: passage.refused.map(|reason| reason.label().to_owned()),
            cycles: passage.times.into(),
        }
    }

    fn port(&self, port: PortId) -> String {
        let port = port.link();
        self.ports.get(port.index()).map_or_else(|| port.to_string(), Clone::clone)
    }

    fn became(&self, fate: Fate, is_refused: bool) -> String {
        match fate {
            Fate::Send(port) if is_refused => format!("answered by {}", self.port(port)),
            Fate::Send(port) | Fate::Ask(port) | Fate::Opened(port) => {
                format!("sent by {}", self.port(port))
            }
            Fate::Cut(port, most) => {
                format!("sent by {} in pieces of {most} bytes", self.port(port))
            }
            Fate::SendBehind(port, _) => {
                format!("sent by {} behind the client's address", self.port(port))
            }
            Fate::Hold => "held until its backend agrees".to_owned(),
            Fate::Piece => "given to the keeper of pieces".to_owned(),
            Fate::HandOver(worker) => format!("handed to worker {worker}"),
            Fate::Punt(_) => "given to the kernel".to_owned(),
            Fate::Free => "dropped".to_owned(),
        }
    }
}
