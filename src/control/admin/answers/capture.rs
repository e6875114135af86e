//! `capture`: frames from the workers' rings to whoever asked for them, as a pcapng stream.
//!
//! ```text
//! GET /capture ─► Captures ── a ring and an order for each worker ──► workers
//!                    │                                                  │ copies
//!                    └── Stream ◄── every 20 ms what is in the rings ◄──┘
//!                          └─► the answer's body, until count, time or bytes are reached, or nobody reads
//! ```
//!
//! There is one capture at a time. The control loop ends it when its time is over or its reader has gone, whatever
//! became of the stream: workers then give back what they were given, and it is freed here.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::oneshot;

use super::dump::DumpError;
use super::lease::{Place as Turn, Tenant, lease};
use super::world::World;
use crate::control::publish::Publisher;
use crate::dataplane::capture::filter::{FilterError, Program};
use crate::dataplane::capture::{Capture, Copied, Moment, Place, Ring, Wanted};
use crate::dataplane::snapshot::Link;
use crate::ids::{ServiceId, WorkerId};
use crate::stats::collect::Directory;
use crate::stats::latency::nanoseconds;

pub mod pcapng;

use pcapng::{Direction, Frame, Writer};

/// Longest capture, seconds.
pub const SECONDS_MAX: u64 = 3600;
/// Most frames of one capture.
pub const FRAMES_MAX: u64 = 10_000_000;
/// Most bytes of one capture.
pub const BYTES_MAX: u64 = 1 << 30;
/// Most bytes that are kept of a frame.
pub const SNAP_LEN_MAX: usize = 9216;
/// Bytes of all rings together, about.
const RINGS_BYTES: usize = 16 << 20;
/// Places of one worker's ring.
const PLACES: std::ops::RangeInclusive<usize> = 64..=4096;
/// Bytes that are sent at once, about.
const CHUNK: usize = 256 << 10;
/// Between two looks into the rings.
const PAUSE: Duration = Duration::from_millis(20);
/// How long a stream may take to its end after its time is over.
const GRACE: Duration = Duration::from_secs(2);

/// Why there is no capture.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CaptureError {
    /// A parameter cannot be understood.
    #[error(transparent)]
    Query(#[from] DumpError),
    /// No such port.
    #[error("no port `{0}`; `shunt ports` lists them")]
    NoPort(String),
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
    /// The filter is not one.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// Somebody else captures.
    #[error("a capture is running already; there is one at a time")]
    Busy,
}

/// The parameters of the request.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(deny_unknown_fields)]
pub struct Parameters {
    /// Only this port's frames, by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<String>,
    /// Only this service's frames, by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Only frames as they are received, or as they are sent; both if neither is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moment: Option<AskedMoment>,
    /// No more frames than so many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// No longer than so many seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u64>,
    /// No more bytes of a frame than so many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snap_len: Option<u64>,
    /// One frame in so many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub one_in: Option<NonZeroU32>,
    /// Only frames that a BPF program wants: see [`Program`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
}

/// [`Moment`], as it is asked for.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum AskedMoment {
    /// As received.
    Before,
    /// As sent.
    After,
}

/// Seconds of a capture that does not say how long.
pub const SECONDS: u64 = 60;
/// Bytes of a frame that are kept if nothing is said.
pub const SNAP_LEN: u64 = 2048;

/// A request that makes sense.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Asked {
    wanted: Wanted,
    duration: Duration,
    snap_len: usize,
}

fn number(
    name: &'static str,
    given: Option<u64>,
    usual: u64,
    most: u64,
) -> Result<u64, CaptureError> {
    let found = given.unwrap_or(usual);
    let error = CaptureError::Number { name, most, found };
    if (1..=most).contains(&found) { Ok(found) } else { Err(error) }
}

impl Parameters {
    fn understood(&self, world: &World<'_>) -> Result<Asked, CaptureError> {
        let snap_len = number("snap_len", self.snap_len, SNAP_LEN, SNAP_LEN_MAX as u64)?;
        Ok(Asked {
            wanted: Wanted {
                before: self.moment != Some(AskedMoment::After),
                after: self.moment != Some(AskedMoment::Before),
                place: self.port.as_ref().map(|name| place(name, world)).transpose()?,
                services: self
                    .service
                    .as_ref()
                    .map_or(Ok(Box::default()), |name| services(name, world.directory))?,
                filter: self.filter.as_ref().map(|text| text.parse::<Program>()).transpose()?,
                one_in: self.one_in.unwrap_or(NonZeroU32::MIN),
                frames_max: number("count", self.count, FRAMES_MAX, FRAMES_MAX)?,
            },
            duration: Duration::from_secs(number("seconds", self.seconds, SECONDS, SECONDS_MAX)?),
            snap_len: usize::try_from(snap_len).unwrap_or(SNAP_LEN_MAX),
        })
    }
}

fn place(name: &str, world: &World<'_>) -> Result<Place, CaptureError> {
    let port = world.port(name).ok_or_else(|| CaptureError::NoPort(name.to_owned()))?;
    Ok(match world.snapshot.port(port).map(|view| view.link) {
        Some(Link::Tagged { on, tags }) => Place { port, device: on, tags: Some(tags) },
        _ => Place { port, device: port, tags: None },
    })
}

fn services(name: &str, directory: &Directory) -> Result<Box<[ServiceId]>, CaptureError> {
    let named = directory.names.services.iter().filter(|service| service.name == name);
    let ids: Box<[_]> = named.map(|service| service.id).collect();
    if ids.is_empty() { Err(DumpError::NoService(name.to_owned()).into()) } else { Ok(ids) }
}

type Reply = oneshot::Sender<Result<Stream, CaptureError>>;

/// A capture under way.
#[derive(Debug)]
struct Job {
    turn: Turn,
    deadline: Instant,
    /// Workers that have not been told to begin.
    to_begin: Vec<(WorkerId, Box<Capture>)>,
    /// Workers that have to be told to end.
    to_end: Vec<WorkerId>,
}

/// The capture that is under way, if there is one.
#[derive(Debug, Default)]
pub struct Captures {
    job: Option<Job>,
}

impl Captures {
    /// Does it wait for workers to be told?
    pub fn is_pressing(&self) -> bool {
        self.job.as_ref().is_some_and(|job| !job.to_begin.is_empty() || job.is_over())
    }

    /// Takes a request in.
    pub fn begin(&mut self, parameters: &Parameters, world: &World<'_>, reply: Reply) {
        let refused = self.job.as_ref().map(|_| CaptureError::Busy);
        let asked = refused.map_or_else(|| parameters.understood(world), Err);
        let asked = match asked {
            Ok(asked) => asked,
            Err(error) => return drop(reply.send(Err(error))),
        };
        let share = RINGS_BYTES / asked.snap_len / world.workers.max(1);
        let places = share.clamp(*PLACES.start(), *PLACES.end());
        let ring = || Arc::new(Ring::new(places, asked.snap_len));
        let rings: Vec<_> = std::iter::repeat_with(ring).take(world.workers).collect();
        let wanted = Arc::new(asked.wanted.clone());
        let part = |ring: &Arc<Ring>| Box::new(Capture::new(Arc::clone(&wanted), Arc::clone(ring)));
        let to_begin = (0..).map(WorkerId).zip(rings.iter().map(part)).collect();
        let deadline = Instant::now() + asked.duration;
        let (turn, tenant) = lease();
        let stream = Stream::new(rings, &asked, deadline, world, tenant);
        self.job = Some(Job { turn, deadline: deadline + GRACE, to_begin, to_end: vec![] });
        tracing::info!(?parameters, "capturing");
        // If nobody takes it, the reader is gone.
        drop(reply.send(Ok(stream)));
    }

    /// Tells workers to begin, and to end.
    pub fn poll(&mut self, publisher: &mut Publisher) {
        let Some(job) = &mut self.job else { return };
        if job.is_over() {
            job.to_begin.clear();
            job.to_end.retain(|worker| publisher.capture(*worker, None).is_err());
        }
        let mut waiting = Vec::new();
        for (worker, part) in job.to_begin.drain(..) {
            match publisher.capture(worker, Some(part)) {
                Ok(()) => job.to_end.push(worker),
                Err(back) => waiting.extend(back.map(|part| (worker, part))),
            }
        }
        job.to_begin = waiting;
        if job.is_over() && job.to_end.is_empty() {
            tracing::info!("the capture has ended");
            self.job = None;
        }
    }
}

impl Job {
    fn is_over(&self) -> bool {
        self.turn.is_left() || Instant::now() >= self.deadline
    }
}

/// Ticks of the workers' counter as time of day.
#[derive(Clone, Copy, Debug)]
struct WallClock {
    ticks: u64,
    time_ns: u64,
    hz: u64,
}

impl WallClock {
    fn new(world: &World<'_>) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let time_ns = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        Self { ticks: world.ticks, time_ns, hz: world.tsc_hz }
    }

    /// Nothing is older than the capture.
    fn time_ns(self, ticks: u64) -> u64 {
        self.time_ns.saturating_add(nanoseconds(ticks.saturating_sub(self.ticks), self.hz))
    }
}

/// What has been captured and not been read.
#[derive(Debug)]
pub struct Stream {
    tenant: Tenant,
    rings: Vec<Arc<Ring>>,
    clock: WallClock,
    deadline: Instant,
    duration: Duration,
    frames_left: u64,
    bytes_left: u64,
    /// A frame came that was one, or some bytes, too many.
    is_full: bool,
    writer: Writer,
    is_ended: bool,
}

impl Stream {
    fn new(
        rings: Vec<Arc<Ring>>,
        asked: &Asked,
        deadline: Instant,
        world: &World<'_>,
        tenant: Tenant,
    ) -> Self {
        let mut writer = Writer::default();
        writer.section(concat!("shunt ", env!("CARGO_PKG_VERSION")));
        let snap_len = u32::try_from(asked.snap_len).unwrap_or(u32::MAX);
        let devices = world.snapshot.ports.iter().take_while(|port| port.link == Link::Device);
        for (port, _) in world.ports.iter().zip(devices) {
            let describe = |what: &str| format!("{what} port {port}");
            writer.interface(&format!("{port}-in"), &describe("before: received by"), snap_len);
            writer.interface(&format!("{port}-out"), &describe("after: sent by"), snap_len);
        }
        Self {
            tenant,
            rings,
            clock: WallClock::new(world),
            deadline,
            duration: asked.duration,
            frames_left: asked.wanted.frames_max,
            bytes_left: BYTES_MAX,
            is_full: false,
            writer,
            is_ended: false,
        }
    }

    /// The longest it may take.
    pub fn duration(&self) -> Duration {
        self.duration + GRACE
    }

    /// The next part of the file; `None` behind its end.
    pub async fn next(&mut self) -> Option<Vec<u8>> {
        while !self.is_ended {
            let is_late = Instant::now() >= self.deadline;
            let is_dry = self.gather();
            if self.frames_left == 0 || self.is_full || (is_late && is_dry) {
                self.end();
                self.tenant.leave().await;
            }
            if !self.writer.is_empty() {
                return Some(self.writer.take());
            }
            tokio::time::sleep(PAUSE).await;
        }
        None
    }

    /// Takes what is in the rings, the oldest first. False if there may be more.
    fn gather(&mut self) -> bool {
        let mut copies: Vec<(usize, Box<Copied>)> = Vec::new();
        let mut bytes = 0;
        for (at, ring) in self.rings.iter().enumerate() {
            while bytes < CHUNK
                && let Some(copied) = ring.take()
            {
                bytes += copied.bytes().len();
                copies.push((at, copied));
            }
        }
        copies.sort_by_key(|(_, copied)| copied.ticks);
        for (at, copied) in copies {
            self.write(&copied);
            if let Some(ring) = self.rings.get(at) {
                ring.give_back(copied);
            }
        }
        bytes < CHUNK
    }

    fn write(&mut self, copied: &Copied) {
        let kept = copied.bytes().len() as u64;
        self.is_full |= self.frames_left == 0 || self.bytes_left < kept;
        if self.is_full {
            return;
        }
        self.frames_left -= 1;
        self.bytes_left -= kept;
        let (direction, offset) = match copied.moment {
            Moment::Before => (Direction::In, 0),
            Moment::After => (Direction::Out, 1),
        };
        self.writer.frame(Frame {
            interface: u32::from(copied.device.0) * 2 + offset,
            time_ns: self.clock.time_ns(copied.ticks),
            direction,
            bytes: copied.bytes(),
            length: u32::try_from(copied.length).unwrap_or(u32::MAX),
        });
    }

    fn end(&mut self) {
        let missed = self.rings.iter().map(|ring| ring.missed()).sum();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.writer.missed(0, u64::try_from(now.as_nanos()).unwrap_or(u64::MAX), missed);
        self.is_ended = true;
    }
}

#[cfg(test)]
mod tests;
