//! HTTP: routes to commands, answers to JSON, counters to text. Who is let in, and what is refused before a route is
//! looked at, is [`super::door`]'s affair.

use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::extract::{DefaultBodyLimit, FromRequest, Query, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::de::DeserializeOwned;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{mpsc, oneshot};

use super::capture::CaptureError;
use super::claims::{Claims, SocketFile};
use super::clear::{ClearError, Parameters as ClearParameters};
use super::door::{BODY_MAX, BODY_PATIENCE, Guest, Tally, keep};
use super::dump::{self, DumpError, Parameters};
use super::explain::{ExplainError, Parameters as ExplainParameters};
use super::lock::{Keys, lock};
use super::routes;
use super::trace::TraceError;
use super::view::{Failure, ReloadResult};
use super::{COMMANDS_MAX, Command};
use crate::control::credentials::Credentials;
use crate::stats::collect::Sources;
use crate::stats::export;
use crate::stats::http::{Listener, Turned};

/// Where handlers put their commands.
pub(super) type Door = mpsc::Sender<Command>;

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

pub(super) async fn status(State(door): State<Door>) -> Response {
    ask(&door, Command::Status).await.map(Json).into_response()
}

pub(super) async fn services(State(door): State<Door>) -> Response {
    ask(&door, Command::Services).await.map(Json).into_response()
}

pub(super) async fn reload(State(door): State<Door>) -> Response {
    match ask(&door, Command::Reload).await {
        Ok(outcome) => (reload_code(outcome.result), Json(outcome)).into_response(),
        Err(refusal) => refusal.into_response(),
    }
}

fn reload_code(result: ReloadResult) -> StatusCode {
    match result {
        ReloadResult::Applied | ReloadResult::Unchanged => StatusCode::OK,
        ReloadResult::Refused => StatusCode::CONFLICT,
        ReloadResult::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
    }
}

pub(super) async fn connections(
    State(door): State<Door>,
    parameters: Result<Query<Parameters>, axum::extract::rejection::QueryRejection>,
) -> Response {
    let query = match parameters {
        Ok(Query(parameters)) => dump::Query::parse(&parameters),
        Err(rejection) => Err(DumpError::BadQuery(rejection.body_text())),
    };
    let query = match query {
        Ok(query) => query,
        Err(error) => return Refusal::from(error).into_response(),
    };
    match ask(&door, |reply| Command::Connections(query, reply)).await {
        Ok(Ok(page)) => Json(page).into_response(),
        Ok(Err(error)) => Refusal::from(error).into_response(),
        Err(refusal) => refusal.into_response(),
    }
}

pub(super) async fn clear(
    State(door): State<Door>,
    parameters: Result<Query<ClearParameters>, axum::extract::rejection::QueryRejection>,
) -> Response {
    let parameters = match parameters {
        Ok(Query(parameters)) => parameters,
        Err(rejection) => {
            return Refusal::from(DumpError::BadQuery(rejection.body_text())).into_response();
        }
    };
    match ask(&door, |reply| Command::Clear(parameters, reply)).await {
        Ok(Ok(cleared)) => Json(cleared).into_response(),
        Ok(Err(error)) => Refusal::from(error).into_response(),
        Err(refusal) => refusal.into_response(),
    }
}

pub(super) async fn explain(
    State(door): State<Door>,
    parameters: Result<Query<ExplainParameters>, axum::extract::rejection::QueryRejection>,
) -> Response {
    let parameters = match parameters {
        Ok(Query(parameters)) => parameters,
        Err(rejection) => {
            return Refusal::from(DumpError::BadQuery(rejection.body_text())).into_response();
        }
    };
    match ask(&door, |reply| Command::Explain(parameters, reply)).await {
        Ok(Ok(explanation)) => Json(explanation).into_response(),
        Ok(Err(error)) => Refusal::from(error).into_response(),
        Err(refusal) => refusal.into_response(),
    }
}

pub(super) async fn unknown() -> Refusal {
    Refusal(StatusCode::NOT_FOUND, format!("there is no such route; there are {}", routes::names()))
}

/// Passes a command on and waits for the answer.
pub(super) async fn ask<T>(
    door: &Door,
    command: impl FnOnce(oneshot::Sender<T>) -> Command,
) -> Result<T, Refusal> {
    let ended = || Refusal(StatusCode::SERVICE_UNAVAILABLE, "the daemon is ending".into());
    let (reply, answer) = oneshot::channel();
    door.send(command(reply)).await.map_err(|_| ended())?;
    answer.await.map_err(|_| ended())
}

/// The body, if it comes in time and is what it should be.
pub(super) async fn body<T: DeserializeOwned>(
    guest: &Guest,
    request: Request,
) -> Result<T, Refusal> {
    let turned_away = |why| {
        let (code, sentence) = guest.turned_away(why);
        Refusal(code, sentence)
    };
    let body = Json::<T>::from_request(request, &());
    match tokio::time::timeout(BODY_PATIENCE, body).await {
        Ok(Ok(Json(body))) => Ok(body),
        Ok(Err(rejection)) if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            Err(turned_away(Turned::LongBody))
        }
        Ok(Err(rejection)) => Err(Refusal(rejection.status(), rejection.body_text())),
        Err(_) => Err(turned_away(Turned::SlowBody)),
    }
}

/// An error as JSON.
pub(super) struct Refusal(pub(super) StatusCode, pub(super) String);

impl From<DumpError> for Refusal {
    fn from(error: DumpError) -> Self {
        let code = match &error {
            DumpError::BadQuery(_) => StatusCode::BAD_REQUEST,
            DumpError::NoService(_) => StatusCode::NOT_FOUND,
            DumpError::Busy | DumpError::Silent(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self(code, error.to_string())
    }
}

impl From<CaptureError> for Refusal {
    fn from(error: CaptureError) -> Self {
        let code = match error {
            CaptureError::Query(error) => return error.into(),
            CaptureError::NoPort(_) => StatusCode::NOT_FOUND,
            CaptureError::Number { .. } | CaptureError::Filter(_) => StatusCode::BAD_REQUEST,
            CaptureError::Busy => StatusCode::CONFLICT,
        };
        Self(code, error.to_string())
    }
}

impl From<ExplainError> for Refusal {
    fn from(error: ExplainError) -> Self {
        let code = match &error {
            ExplainError::Flow(_) => StatusCode::BAD_REQUEST,
            ExplainError::NoPort(_) => StatusCode::NOT_FOUND,
            ExplainError::Busy => StatusCode::CONFLICT,
            ExplainError::Silent(_) | ExplainError::Memory(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self(code, error.to_string())
    }
}

impl From<TraceError> for Refusal {
    fn from(error: TraceError) -> Self {
        let code = match error {
            TraceError::Busy => StatusCode::CONFLICT,
            TraceError::Flow(_) | TraceError::Number { .. } => StatusCode::BAD_REQUEST,
        };
        Self(code, error.to_string())
    }
}

impl From<ClearError> for Refusal {
    fn from(error: ClearError) -> Self {
        let code = match &error {
            ClearError::Query(DumpError::NoService(_)) | ClearError::Nobody(_) => {
                StatusCode::NOT_FOUND
            }
            ClearError::Query(_) | ClearError::Whose => StatusCode::BAD_REQUEST,
            ClearError::Busy => StatusCode::CONFLICT,
            ClearError::Silent(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self(code, error.to_string())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, Json(Failure { error: self.1 })).into_response()
    }
}
