//! The doors: an HTTP server on a unix socket for `shunt`, and `/metrics` on a listen address.
//!
//! ```text
//! shunt ── unix socket ──► server ── Command ──► control loop ── answer ──► server ──► shunt
//! Prometheus ── TCP ─────► server ── reads the counters itself
//! ```
//!
//! | route | answer |
//! |---|---|
//! | `GET /status` | [`view::Status`] |
//! | `GET /services` | [`view::Services`] |
//! | `GET /connections?cursor&limit&service&backend&client` | [`view::Connections`], a page |
//! | `POST /clear?service&backend&all` | [`view::Cleared`], when they have ended |
//! | `POST /reload` | [`view::Reload`]; 200 applied or unchanged, 409 refused, 422 invalid |
//!
//! Errors are `{"error": "a sentence"}`. Whoever may open the socket may do all of it: it has mode
//! 0660. Handlers hold no state and touch none: they pass a [`Command`] on and wait, and the queue
//! for commands is bounded, so a stuck client costs a task and nothing else.

pub mod claims;
pub mod clear;
pub mod dump;
pub mod report;
pub mod server;
pub mod view;

pub use claims::{ClaimError, Claims};

use tokio::sync::oneshot;

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
    /// Read the file again.
    Reload(oneshot::Sender<view::Reload>),
}
