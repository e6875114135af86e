//! What the control plane may ask of a worker, and what comes back.

use std::net::SocketAddr;
use std::sync::Arc;

use super::capture::Capture;
use super::clearing::Clearing;
use super::conn::state::State;
use super::explain::Find;
use super::mailbox;
use super::snapshot::{Protocol, Snapshot};
use super::trace::Trace;
use crate::ids::{BackendId, ServiceId, WorkerId};

/// An order to a worker. Each is answered by exactly one [`Answer`].
#[derive(Debug)]
pub enum Order {
    /// Use this snapshot from the next burst on. Answer: [`Answer::Retired`], the one before.
    Publish(Arc<Snapshot>),
    /// Describe some connections. Answer: [`Answer::Page`].
    Dump(Page),
    /// End these connections. Answer, when the sweep has been round: [`Answer::Cleared`].
    Clear(Clearing),
    /// Copy these frames from now on, or none. Answer: [`Answer::Capture`].
    Capture(Option<Box<Capture>>),
    /// Look for a flow. Answer: [`Answer::Found`].
    Find(Box<Find>),
    /// Follow this flow from now on, or none. Answer: [`Answer::Trace`].
    Trace(Option<Box<Trace>>),
    /// Leave the loop. Answer: [`Answer::Stopped`].
    Stop,
}

/// The answer to an [`Order`].
#[derive(Debug)]
pub enum Answer {
    /// The snapshot that was replaced, to be freed by the receiver.
    Retired(Arc<Snapshot>),
    /// The page of a dump, filled in.
    Page(Page),
    /// Those connections have ended: how many.
    Cleared(Clearing),
    /// What frames were copied for before, to be freed by the receiver.
    Capture(Option<Box<Capture>>),
    /// What is known of a flow, filled in.
    Found(Box<Find>),
    /// What was followed before, to be freed by the receiver.
    Trace(Option<Box<Trace>>),
    /// The worker has left its loop.
    Stopped,
}

/// The control thread's end of a worker's mailbox.
pub type ControlEnd = mailbox::ControlEnd<Order, Answer>;
/// The worker's end of its mailbox.
pub type WorkerEnd = mailbox::WorkerEnd<Order, Answer>;

/// What is looked through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rows {
    /// The worker's connections.
    #[default]
    Connections,
    /// Which clients persistence sends where: all workers' together.
    Templates,
}

/// A page of the connection table, or of persistence templates. The asker allocates `rows` with the capacity it
/// wants; the worker fills it without allocating, looking at no more than [`Page::SLOTS_MAX`] slots a
/// time, or [`Page::TEMPLATES_MAX`] templates.
#[derive(Debug, Default)]
pub struct Page {
    /// Of what.
    pub of: Rows,
    /// Slot to start from; after the answer, where to go on.
    pub cursor: u32,
    /// True in the answer when the table's end was reached.
    pub done: bool,
    /// The connections found. A template is one in state NONE whose client has port 0.
    pub rows: Vec<ConnectionView>,
}

impl Page {
    /// Most table slots a worker looks at for one page: about 10 µs of its time.
    pub const SLOTS_MAX: u32 = 1024;
    /// Most templates: each costs more, as others may have claimed it.
    pub const TEMPLATES_MAX: u32 = 252;
}

/// One connection, for people and programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ConnectionView {
    /// Its owner.
    pub worker: WorkerId,
    /// Its protocol.
    pub protocol: Protocol,
    /// Its state.
    pub state: State,
    /// The client.
    pub client: SocketAddr,
    /// The VIP and port it was made to.
    pub vip: SocketAddr,
    /// The local address and port the backend sees.
    pub local: SocketAddr,
    /// The backend.
    pub backend: SocketAddr,
    /// The service's id.
    pub service_id: ServiceId,
    /// The backend's id.
    pub backend_id: BackendId,
    /// Milliseconds since its last packet.
    pub idle_ms: u32,
    /// Milliseconds until it is forgotten if no packet comes.
    pub expires_ms: u32,
}
