//! The servers: one for the admin API on each of its doors, one for `/metrics`, which reads the counters itself.

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::mpsc;

use super::door::claims::{Claims, SocketFile};
use super::door::lock::{Keys, lock};
use super::door::{BODY_MAX, Tally, keep};
use super::requests::routes;
use super::{COMMANDS_MAX, Command};
use crate::control::credentials::Credentials;
use crate::stats::collect::Sources;
use crate::stats::export;
use crate::stats::http::Listener;

/// The running servers. Their tasks end with the runtime.
#[derive(Debug)]
pub struct Served {
    /// What the handlers ask for.
    pub commands: mpsc::Receiver<Command>,
    /// Changes the lock of the door beyond the machine, if there is that door.
    pub keys: Option<Keys>,
    /// Removes the socket when the daemon ends.
    pub file: SocketFile,
}

/// Starts answering on the claimed sockets. Needs the runtime.
pub fn serve(
    claims: Claims,
    sources: Arc<Sources>,
    credentials: Option<&Credentials>,
) -> std::io::Result<Served> {
    let (door, commands) = mpsc::channel(COMMANDS_MAX);
    let admin = UnixListener::from_std(claims.admin)?;
    let http = Arc::clone(&sources.slow.http);
    let router = routes::router(door).layer(DefaultBodyLimit::max(BODY_MAX));
    tokio::spawn(keep(admin, router.clone(), Tally::new(&http, Listener::Admin), None));
    let mut keys = None;
    if let (Some(listener), Some(credentials)) = (claims.remote, credentials) {
        let (ours, lock) = lock(credentials).map_err(std::io::Error::other)?;
        keys = Some(ours);
        let listener = TcpListener::from_std(listener)?;
        tokio::spawn(keep(listener, router, Tally::new(&http, Listener::Remote), Some(lock)));
    }
    if let Some(listener) = claims.metrics {
        let listener = TcpListener::from_std(listener)?;
        let router = metrics_router(sources).map_err(std::io::Error::other)?;
        tokio::spawn(keep(listener, router, Tally::new(&http, Listener::Metrics), None));
    }
    Ok(Served { commands, keys, file: claims.file })
}

fn metrics_router(sources: Arc<Sources>) -> prometheus::Result<Router> {
    let registry = export::registry(sources)?;
    Ok(Router::new().route("/metrics", get(metrics)).with_state(registry))
}

async fn metrics(State(registry): State<prometheus::Registry>) -> Response {
    match export::text(&registry) {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
