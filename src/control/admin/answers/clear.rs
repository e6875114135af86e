//! `clear`: connections end because the operator says so.
//!
//! All workers get the same order, and each answers when its sweep has been round once. One request is
//! served at a time; the next is refused, as it would most likely ask for the same.

use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::dump::{AddressFilter, DumpError};
use crate::control::admin::view;
use crate::control::publish::Publisher;
use crate::dataplane::clearing::Clearing;
use crate::ids::{BackendId, WorkerId};
use crate::stats::collect::{BackendEntry, Directory};

/// A worker's sweep takes two seconds, on an idle machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// Why nothing, or not all, was cleared.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClearError {
    /// A parameter cannot be understood.
    #[error(transparent)]
    Query(DumpError),
    /// Nobody is meant, or everybody and somebody.
    #[error("expected whose connections to end: `service`, `backend`, both of them, or `all`")]
    Whose,
    /// No backend is meant.
    #[error("no backend {0}; `shunt services` lists them")]
    Nobody(String),
    /// Somebody else clears.
    #[error("connections are being cleared already; wait a few seconds and try again")]
    Busy,
    /// A worker is stuck.
    #[error("worker {0} has not cleared within 20 s; `shunt status` shows whether it moves")]
    Silent(WorkerId),
}

/// The parameters of the request, as text. Nobody is meant by leaving all of them out.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(deny_unknown_fields)]
pub struct Parameters {
    /// Only this service's, by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Only this backend's: address or address:port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<String>,
    /// Every connection there is.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub all: bool,
}

impl Parameters {
    /// The backends that are meant, removed ones whose connections live included.
    fn backends(&self, directory: &Directory) -> Result<Vec<BackendId>, ClearError> {
        let is_narrowed = self.service.is_some() || self.backend.is_some();
        if self.all == is_narrowed {
            return Err(ClearError::Whose);
        }
        let named = |name: &String| {
            let services = directory.names.services.iter().filter(|it| it.name == *name);
            let ids: Vec<_> = services.map(|it| it.id).collect();
            let none = || ClearError::Query(DumpError::NoService(name.clone()));
            if ids.is_empty() { Err(none()) } else { Ok(ids) }
        };
        let services = self.service.as_ref().map(named).transpose()?;
        let parse = |text: &String| AddressFilter::parse("backend", text);
        let address = self.backend.as_ref().map(parse).transpose().map_err(ClearError::Query)?;
        let is_meant = |entry: &&BackendEntry| {
            services.as_ref().is_none_or(|ids| ids.contains(&entry.service))
                && address.is_none_or(|filter| filter.matches(entry.address))
        };
        let found = directory.names.backends.iter().filter(is_meant);
        let found: Vec<BackendId> = found.map(|entry| entry.id).collect();
        match &self.backend {
            Some(text) if found.is_empty() => Err(ClearError::Nobody(text.clone())),
            _ => Ok(found),
        }
    }
}

type Reply = oneshot::Sender<Result<view::Cleared, ClearError>>;

/// A request being served.
#[derive(Debug)]
struct Job {
    order: Clearing,
    /// Workers that still have to be told, and those that still have to answer.
    untold: Vec<WorkerId>,
    waiting: Vec<WorkerId>,
    deadline: Instant,
    reply: Reply,
}

/// The request that is served, if any.
#[derive(Debug, Default)]
pub struct Clears {
    job: Option<Job>,
}

impl Clears {
    /// Is there anything to do?
    pub fn active(&self) -> bool {
        self.job.is_some()
    }

    /// Takes a request in, for this many workers.
    pub fn begin(
        &mut self,
        parameters: &Parameters,
        directory: &Directory,
        (publisher, workers): (&Publisher, usize),
        reply: Reply,
    ) {
        let is_busy = self.active() || publisher.is_clearing();
        let backends = match parameters.backends(directory) {
            Ok(backends) if !is_busy => backends,
            refused => {
                let _ = reply.send(Err(refused.err().unwrap_or(ClearError::Busy)));
                return;
            }
        };
        let workers = (0u8..).map(WorkerId).take(workers);
        self.job = Some(Job {
            order: Clearing::of(backends),
            untold: workers.clone().collect(),
            waiting: workers.collect(),
            deadline: Instant::now() + PATIENCE,
            reply,
        });
    }

    /// Gives the order to whoever has room for it, and takes answers.
    pub fn poll(&mut self, publisher: &mut Publisher) {
        let answers = std::iter::from_fn(|| publisher.cleared());
        let answers: Vec<_> = answers.collect();
        let Some(job) = &mut self.job else { return };
        for (worker, answer) in answers {
            job.order.ended += answer.ended;
            job.waiting.retain(|other| *other != worker);
        }
        let order = &job.order;
        job.untold.retain(|worker| {
            let mut order = order.clone();
            order.ended = 0;
            publisher.clear(*worker, order).is_err()
        });
        let outcome = match job.waiting.first() {
            None => Ok(view::Cleared { connections: job.order.ended }),
            Some(worker) if Instant::now() >= job.deadline => Err(ClearError::Silent(*worker)),
            Some(_) => return,
        };
        if let Some(job) = self.job.take() {
            let _ = job.reply.send(outcome);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataplane::mailbox::mailbox;
    use crate::dataplane::orders::{Answer, Order, WorkerEnd};
    use crate::ids::ServiceId;
    use crate::stats::collect::{Names, ServiceEntry};

    fn directory() -> Directory {
        let service = |id: u32, name: &str| ServiceEntry {
            id: ServiceId(id),
            name: name.into(),
            protocol: crate::dataplane::snapshot::Protocol::Tcp,
            address: crate::dataplane::snapshot::ServiceAddress::one([198, 51, 100, 10].into(), 80),
            removed: false,
        };
        let backend = |id: u32, service: u32, host: u8| BackendEntry {
            id: BackendId(id),
            service: ServiceId(service),
            address: ([10, 44, 0, host], 8080).into(),
            removed: false,
        };
        let names = Names {
            services: vec![service(0, "web"), service(1, "mail")],
            backends: vec![backend(0, 0, 11), backend(1, 0, 12), backend(2, 1, 11)],
        };
        let mut directory = Directory::default();
        directory.names = names;
        directory
    }

    fn asked(service: Option<&str>, backend: Option<&str>) -> Parameters {
        let all = service.is_none() && backend.is_none();
        Parameters { service: service.map(Into::into), backend: backend.map(Into::into), all }
    }

    #[test]
    fn a_service_a_backend_both_or_all_say_who_is_meant() {
        let table: &[(Option<&str>, Option<&str>, &[u32])] = &[
            (None, None, &[0, 1, 2]),
            (Some("web"), None, &[0, 1]),
            (None, Some("10.44.0.11"), &[0, 2]),
            (Some("mail"), Some("10.44.0.11:8080"), &[2]),
        ];
        for (service, backend, ids) in table {
            let found = asked(*service, *backend).backends(&directory()).unwrap();
            assert_eq!(found, ids.iter().copied().map(BackendId).collect::<Vec<_>>());
        }
        let refused = |service, backend| {
            asked(service, backend).backends(&directory()).unwrap_err().to_string()
        };
        for all in [false, true] {
            let parameters = Parameters { all, ..asked(all.then_some("web"), None) };
            assert_eq!(parameters.backends(&directory()), Err(ClearError::Whose));
        }
        assert!(refused(Some("wob"), None).contains("no service named `wob`"));
        assert!(refused(None, Some("10.44.0.9")).contains("no backend 10.44.0.9"));
        assert!(refused(None, Some("ten")).contains("neither an address"));
    }

    fn ordered(end: &mut WorkerEnd) -> Clearing {
        let Some(Order::Clear(order)) = end.take() else { panic!("an order waits") };
        order
    }

    #[test]
    fn all_workers_are_asked_and_what_they_ended_is_summed_up() {
        let (controls, mut ends): (Vec<_>, Vec<_>) = (0..2).map(|_| mailbox()).unzip();
        let mut publisher = Publisher::new(controls);
        let mut clears = Clears::default();
        let begin = |clears: &mut Clears, publisher: &mut Publisher| {
            let (reply, answer) = oneshot::channel();
            clears.begin(&asked(Some("web"), None), &directory(), (publisher, 2), reply);
            clears.poll(publisher);
            answer
        };
        let mut first = begin(&mut clears, &mut publisher);
        let mut second = begin(&mut clears, &mut publisher);
        assert_eq!(second.try_recv().unwrap(), Err(ClearError::Busy));
        for (end, count) in ends.iter_mut().zip([3, 4]) {
            let mut order = ordered(end);
            assert!(order.is_about(BackendId(1)) && !order.is_about(BackendId(2)));
            assert!(first.try_recv().is_err(), "not before all have answered");
            order.ended = count;
            end.answer(Answer::Cleared(order));
            publisher.poll();
            clears.poll(&mut publisher);
        }
        assert_eq!(first.try_recv().unwrap(), Ok(view::Cleared { connections: 7 }));
        assert!(!clears.active() && !publisher.busy());
        begin(&mut clears, &mut publisher);
        ordered(&mut ends[0]);
    }
}
