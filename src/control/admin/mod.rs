//! The doors: an HTTP server on a unix socket for `shunt`, and `/metrics` on a listen address.
//!
//! ```text
//! shunt ── unix socket ──► server ── Command ──► control loop ── answer ──► server ──► shunt
//! Prometheus ── TCP ─────► server ── reads the counters itself
//! ```
//!
//! A folder for each stretch of a request's way:
//!
//! ```text
//! door: is there a seat, does it say in time what it wants, may it? ─► requests: which route, and is it well asked?
//!     ─► Command ─► answers: what the control loop says and does ─► view: the shapes it is said in
//! ```
//!
//! The routes are one table ([`requests::routes`]), of which the server is made and the description of the API
//! ([`requests::openapi`]).
//!
//! Errors are `{"error": "a sentence"}`. Whoever may open the socket may do all of it: it has mode
//! 0660. Handlers hold no state and touch none: they pass a [`Command`] on and wait, and the queue
//! for commands is bounded, so a stuck client costs a task and nothing else, and not for long ([`door`]).

pub mod answers;
pub mod door;
pub mod requests;
pub mod server;
pub mod view;

pub use door::claims::{ClaimError, Claims};

use tokio::sync::oneshot;

use self::answers::{capture, clear, dump, events, explain, trace};
use super::edit::Which;
use super::save::SaveError;

/// Commands that may wait for the control loop.
pub const COMMANDS_MAX: usize = 16;

/// What a handler asks of the control loop.
#[derive(Debug)]
pub enum Command {
    /// How is the daemon?
    Status(oneshot::Sender<view::Status>),
    /// What is balanced?
    Services(oneshot::Sender<view::Services>),
    /// A page of connections, or why not.
    Connections(dump::Query, oneshot::Sender<Result<view::Connections, dump::DumpError>>),
    /// End connections.
    Clear(clear::Parameters, oneshot::Sender<Result<view::Cleared, clear::ClearError>>),
    /// Copy frames, or why not.
    Capture(capture::Parameters, oneshot::Sender<Result<capture::Stream, capture::CaptureError>>),
    /// Follow a flow, or why not.
    Trace(trace::Parameters, oneshot::Sender<Result<trace::Stream, trace::TraceError>>),
    /// Say what would become of a packet, or why that cannot be said.
    Explain(
        explain::Parameters,
        oneshot::Sender<Result<explain::Explanation, explain::ExplainError>>,
    ),
    /// Tell what happens, or why not.
    Watch(events::Parameters, events::Reply),
    /// Read the file again.
    Reload(oneshot::Sender<view::Reload>),
    /// What runs?
    Running(oneshot::Sender<view::Running>),
    /// How does it differ from the file?
    Drift(bool, oneshot::Sender<view::Drift>),
    /// Change it.
    Edit(view::Edits, oneshot::Sender<Result<view::Edited, view::EditFailure>>),
    /// Drain a backend, or set its weight.
    Hand(view::Hand, oneshot::Sender<Result<view::Handed, view::EditFailure>>),
    /// Write it to the file; by force?
    Save(bool, oneshot::Sender<Result<view::Saved, SaveError>>),
    /// Begin counting anew; of all services, or of one.
    Zero(Option<Which>, oneshot::Sender<Result<view::Zeroed, view::EditFailure>>),
}
