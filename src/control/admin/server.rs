//! HTTP: routes to commands, answers to JSON, counters to text.
//!
//! Whoever connects and says nothing must not keep others out. So each listener has at most
//! [`CONNECTIONS_MAX`] connections at a time (the rest wait in the kernel's backlog), a request's
//! head must arrive within [`HEAD_PATIENCE`], and a connection lives [`LIFETIME`] and no longer:
//! clients that keep theirs open are told to make a new one. No route reads a body.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::serve::Listener;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::claims::{Claims, SocketFile};
use super::clear::{ClearError, Parameters as ClearParameters};
use super::dump::{self, DumpError, Parameters};
use super::view::{Failure, ReloadResult};
use super::{COMMANDS_MAX, Command};
use crate::stats::collect::Sources;
use crate::stats::export;

/// Connections of one listener at a time.
pub const CONNECTIONS_MAX: usize = 64;
/// How long the head of a request may take, from the connection or the answer before it.
pub const HEAD_PATIENCE: Duration = Duration::from_secs(5);
/// How long a connection lives; what it is asked by then it still answers.
pub const LIFETIME: Duration = Duration::from_secs(60);
/// How long the last answer may take.
const FAREWELL: Duration = Duration::from_secs(10);
/// Longest head of a request, bytes.
const HEAD_MAX: usize = 16 * 1024;

/// Where handlers put their commands.
type Door = mpsc::Sender<Command>;

/// The running servers. Their tasks end with the runtime.
#[derive(Debug)]
pub struct Served {
    /// What the handlers ask for.
    pub commands: mpsc::Receiver<Command>,
    /// Removes the socket when the daemon ends.
    pub file: SocketFile,
}

/// Starts answering on the claimed sockets. Needs the runtime.
pub fn serve(claims: Claims, sources: Arc<Sources>) -> std::io::Result<Served> {
    let (door, commands) = mpsc::channel(COMMANDS_MAX);
    let admin = UnixListener::from_std(claims.admin)?;
    tokio::spawn(accept(admin, admin_router(door)));
    if let Some(listener) = claims.metrics {
        let listener = TcpListener::from_std(listener)?;
        let router = metrics_router(sources).map_err(std::io::Error::other)?;
        tokio::spawn(accept(listener, router));
    }
    Ok(Served { commands, file: claims.file })
}

/// Takes connections, as many at a time as there are permits. Where the process has no file
/// descriptor left, [`Listener::accept`] waits and tries again.
async fn accept<L: Listener>(mut listener: L, router: Router) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    while let Ok(permit) = Arc::clone(&permits).acquire_owned().await {
        let (stream, _) = listener.accept().await;
        let router = router.clone();
        tokio::spawn(async move {
            converse(stream, router).await;
            drop(permit);
        });
    }
}

/// Answers on one connection. What ends it is the client's affair: nothing is logged.
async fn converse<S>(stream: S, router: Router)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_PATIENCE)
        .max_buf_size(HEAD_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    if tokio::time::timeout(LIFETIME, connection.as_mut()).await.is_err() {
        connection.as_mut().graceful_shutdown();
        let _ = tokio::time::timeout(FAREWELL, connection).await;
    }
}

fn admin_router(door: Door) -> Router {
    Router::new()
        .route("/status", get(status))
        .route("/services", get(services))
        .route("/connections", get(connections))
        .route("/clear", post(clear))
        .route("/reload", post(reload))
        .fallback(unknown)
        .with_state(door)
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

async fn status(State(door): State<Door>) -> Response {
    ask(&door, Command::Status).await.map(Json).into_response()
}

async fn services(State(door): State<Door>) -> Response {
    ask(&door, Command::Services).await.map(Json).into_response()
}

async fn reload(State(door): State<Door>) -> Response {
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

async fn connections(
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

async fn clear(
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

async fn unknown() -> Refusal {
    let text = "routes are GET /status, /services, /connections and POST /clear, /reload";
    Refusal(StatusCode::NOT_FOUND, text.into())
}

/// Passes a command on and waits for the answer.
async fn ask<T>(
    door: &Door,
    command: impl FnOnce(oneshot::Sender<T>) -> Command,
) -> Result<T, Refusal> {
    let ended = || Refusal(StatusCode::SERVICE_UNAVAILABLE, "the daemon is ending".into());
    let (reply, answer) = oneshot::channel();
    door.send(command(reply)).await.map_err(|_| ended())?;
    answer.await.map_err(|_| ended())
}

/// An error as JSON.
struct Refusal(StatusCode, String);

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
