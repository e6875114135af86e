//! Pages of connections: a walk through the workers' tables, a bounded piece at a time.
//!
//! A worker looks at no more than [`Page::SLOTS_MAX`] slots for one order, and one order at a time
//! is with a worker. A request collects pages until it has its limit, the tables end, or
//! [`PAGES_MAX`] pages were turned; then it answers with a cursor to go on from. Persistence templates come behind the
//! last worker's connections, if they are wanted, from worker 0: they are all workers'. A cursor is
//! `worker:slot`, or `templates:place`, and stays good whatever happens in between: connections that come or go meanwhile
//! may be missed, none that stays is missed or told twice.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::control::admin::view::{self, spelled};
use crate::control::publish::Publisher;
use crate::dataplane::orders::{ConnectionView, Page, Rows};
use crate::ids::{ServiceId, WorkerId};
use crate::stats::collect::Directory;

/// Pages turned for one request.
pub const PAGES_MAX: u32 = 2048;
/// Connections in one answer.
pub const LIMIT_MAX: usize = 10_000;
/// Connections in one answer when the asker does not say.
pub const LIMIT_DEFAULT: usize = 1000;
/// Requests that may wait while one is served.
const WAITING_MAX: usize = 8;
/// A worker that has not answered by then is not going to.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why there is no page.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DumpError {
    /// A parameter cannot be understood.
    #[error("{0}")]
    BadQuery(String),
    /// The named service does not exist.
    #[error("there is no service named `{0}`; `shunt services` lists them")]
    NoService(String),
    /// Too many ask.
    #[error("{WAITING_MAX} requests for connections are waiting already; try again")]
    Busy,
    /// A worker is stuck.
    #[error("worker {0} did not answer within 5 s; `shunt status` shows whether it moves")]
    Silent(WorkerId),
}

/// An address that may come with a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::control) struct AddressFilter {
    address: IpAddr,
    port: Option<u16>,
}

impl AddressFilter {
    pub(in crate::control) fn parse(name: &str, text: &str) -> Result<Self, DumpError> {
        if let Ok(both) = text.parse::<SocketAddr>() {
            return Ok(Self { address: both.ip(), port: Some(both.port()) });
        }
        let address = text.parse().map_err(|_| {
            DumpError::BadQuery(format!(
                "{name} `{text}` is neither an address nor address:port ([address]:port for IPv6)"
            ))
        })?;
        Ok(Self { address, port: None })
    }

    pub(in crate::control) fn matches(self, address: SocketAddr) -> bool {
        self.address == address.ip() && self.port.is_none_or(|port| port == address.port())
    }
}

/// What is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    at: At,
    slot: u32,
    limit: usize,
    templates: Option<Templates>,
    service: Option<String>,
    backend: Option<AddressFilter>,
    client: Option<AddressFilter>,
}

/// The parameters of the request, as text.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(deny_unknown_fields)]
pub struct Parameters {
    /// Where to go on, from an earlier answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// Most connections in the answer, up to [`LIMIT_MAX`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Only this service's, by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Only this backend's: address or address:port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
    /// Only this client's: address or address:port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// Which clients persistence sends where: behind the connections, or in their place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub templates: Option<Templates>,
}

/// Are persistence templates listed?
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Templates {
    /// Behind the connections.
    Too,
    /// Nothing else is.
    Only,
}

/// What is looked through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Worker(u8),
    /// All workers' together: any of them can tell.
    Templates,
    End,
}

impl Default for At {
    fn default() -> Self {
        Self::Worker(0)
    }
}

/// In cursors.
const TEMPLATES: &str = "templates";

impl At {
    /// Who is asked, and for what.
    fn asks(self) -> Option<(WorkerId, Rows)> {
        match self {
            Self::Worker(worker) => Some((WorkerId(worker), Rows::Connections)),
            Self::Templates => Some((WorkerId(0), Rows::Templates)),
            Self::End => None,
        }
    }

    fn cursor(self, slot: u32) -> Option<String> {
        match self {
            Self::Worker(worker) => Some(format!("{worker}:{slot}")),
            Self::Templates => Some(format!("{TEMPLATES}:{slot}")),
            Self::End => None,
        }
    }
}

impl Query {
    /// Understands the parameters.
    pub fn parse(parameters: &Parameters) -> Result<Self, DumpError> {
        let (at, slot) = match &parameters.cursor {
            None if parameters.templates == Some(Templates::Only) => (At::Templates, 0),
            None => (At::default(), 0),
            Some(text) => parse_cursor(text).ok_or_else(|| {
                DumpError::BadQuery(format!("cursor `{text}` did not come from an earlier answer"))
            })?,
        };
        let filter = |name, text: &Option<String>| {
            text.as_deref().map(|text| AddressFilter::parse(name, text)).transpose()
        };
        Ok(Self {
            at,
            slot,
            templates: parameters.templates,
            limit: parameters.limit.unwrap_or(LIMIT_DEFAULT).clamp(1, LIMIT_MAX),
            service: parameters.service.clone(),
            backend: filter("backend", &parameters.backend)?,
            client: filter("client", &parameters.client)?,
        })
    }
}

fn parse_cursor(text: &str) -> Option<(At, u32)> {
    let (table, slot) = text.split_once(':')?;
    let at = if table == TEMPLATES { At::Templates } else { At::Worker(table.parse().ok()?) };
    Some((at, slot.parse().ok()?))
}

/// A request being served.
#[derive(Debug)]
struct Job {
    query: Query,
    services: Option<Vec<ServiceId>>,
    found: Vec<view::Connection>,
    pages: u32,
    asked: bool,
    deadline: Instant,
    reply: oneshot::Sender<Result<view::Connections, DumpError>>,
}

/// All requests, served one after the other.
#[derive(Debug, Default)]
pub struct Dumps {
    jobs: VecDeque<Job>,
}

impl Dumps {
    /// Is there anything to do?
    pub fn active(&self) -> bool {
        !self.jobs.is_empty()
    }

    /// Takes a request in.
    pub fn begin(
        &mut self,
        query: Query,
        directory: &Directory,
        reply: oneshot::Sender<Result<view::Connections, DumpError>>,
    ) {
        let services = query.service.as_ref().map(|name| ids_of(directory, name));
        let refusal = match (&services, &query.service) {
            (Some(ids), Some(name)) if ids.is_empty() => Some(DumpError::NoService(name.clone())),
            _ => (self.jobs.len() > WAITING_MAX).then_some(DumpError::Busy),
        };
        if let Some(refusal) = refusal {
            let _ = reply.send(Err(refusal));
            return;
        }
        let deadline = Instant::now() + PATIENCE;
        let (found, pages) = (Vec::new(), 0);
        self.jobs.push_back(Job { query, services, found, pages, asked: false, deadline, reply });
    }

    /// Takes what came back and asks for what is next. `workers` is how many there are.
    pub fn poll(&mut self, publisher: &mut Publisher, workers: usize, directory: &Directory) {
        while let Some((worker, page)) = publisher.page() {
            self.take(worker, &page, directory);
        }
        while let Some(outcome) = self.jobs.front_mut().and_then(|job| job.step(publisher, workers))
        {
            if let Some(job) = self.jobs.pop_front() {
                let _ = job.reply.send(outcome);
            }
            if let Some(next) = self.jobs.front_mut() {
                next.deadline = Instant::now() + PATIENCE;
            }
        }
    }

    /// A page nobody asked for (its request gave up) is thrown away.
    fn take(&mut self, worker: WorkerId, page: &Page, directory: &Directory) {
        let is_asked = |job: &Job| job.query.at.asks().is_some_and(|(asked, _)| asked == worker);
        let expecting = |job: &&mut Job| job.asked && is_asked(job);
        if let Some(job) = self.jobs.front_mut().filter(expecting) {
            job.take(page, directory);
        }
    }
}

impl Job {
    fn take(&mut self, page: &Page, directory: &Directory) {
        self.asked = false;
        self.pages += 1;
        self.deadline = Instant::now() + PATIENCE;
        let rows = page.rows.iter().filter(|row| self.wants(row));
        let rows: Vec<_> = rows.map(|row| describe(row, directory)).collect();
        self.found.extend(rows);
        (self.query.at, self.query.slot) = match self.query.at {
            at if !page.done => (at, page.cursor),
            At::Worker(worker) => (At::Worker(worker.saturating_add(1)), 0),
            _ => (At::End, 0),
        };
    }

    /// Behind the last worker's connections come the templates, if they are wanted.
    fn go_on(&mut self, workers: usize) -> Result<(), DumpError> {
        let At::Worker(worker) = self.query.at else { return Ok(()) };
        if usize::from(worker) < workers {
            return Ok(());
        }
        if self.pages == 0 {
            let slot = self.query.slot;
            return Err(DumpError::BadQuery(format!(
                "cursor `{worker}:{slot}` did not come from an earlier answer: there is no worker \
                 {worker}"
            )));
        }
        self.query.at = self.query.templates.map_or(At::End, |_| At::Templates);
        Ok(())
    }

    fn wants(&self, row: &ConnectionView) -> bool {
        self.services.as_ref().is_none_or(|ids| ids.contains(&row.service_id))
            && self.query.backend.is_none_or(|filter| filter.matches(row.backend))
            && self.query.client.is_none_or(|filter| filter.matches(row.client))
    }

    /// Asks for the next page, or ends the request.
    fn step(
        &mut self,
        publisher: &mut Publisher,
        workers: usize,
    ) -> Option<Result<view::Connections, DumpError>> {
        if let Err(error) = self.go_on(workers) {
            return Some(Err(error));
        }
        let room = self.query.limit.saturating_sub(self.found.len());
        let is_enough = room == 0 || self.pages >= PAGES_MAX || self.reply.is_closed();
        let asks = self.query.at.asks().filter(|_| self.asked || !is_enough);
        let Some((worker, of)) = asks else {
            let connections = std::mem::take(&mut self.found);
            let next = self.query.at.cursor(self.query.slot);
            return Some(Ok(view::Connections { connections, next }));
        };
        if !self.asked {
            // Never more rows than there is room for: the cursor then needs no going back.
            let rows = Vec::with_capacity(room.min(Page::SLOTS_MAX as usize));
            let page = Page { of, cursor: self.query.slot, done: false, rows };
            self.asked = publisher.dump(worker, page).is_ok();
            if self.asked {
                return None;
            }
        }
        let is_late = Instant::now() >= self.deadline;
        is_late.then_some(Err(DumpError::Silent(worker)))
    }
}

fn ids_of(directory: &Directory, name: &str) -> Vec<ServiceId> {
    let named = directory.names.services.iter().filter(|service| service.name == name);
    named.map(|service| service.id).collect()
}

fn describe(row: &ConnectionView, directory: &Directory) -> view::Connection {
    let service = directory.names.service(row.service_id);
    view::Connection {
        protocol: spelled(&row.protocol),
        state: spelled(&row.state),
        client: row.client,
        vip: row.vip,
        local: row.local,
        backend: row.backend,
        service: service.map_or_else(String::new, |service| service.name.clone()),
        worker: row.worker.0,
        idle_ms: row.idle_ms,
        expires_ms: row.expires_ms,
    }
}

#[cfg(test)]
mod tests;
