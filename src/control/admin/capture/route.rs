//! `GET /capture`, `GET /trace` and `GET /watch`: streams of unknown length as the answer's body.

use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures_util::stream::unfold;

use super::{Parameters, Stream};
use crate::control::admin::door::Guest;
use crate::control::admin::dump::DumpError;
use crate::control::admin::server::{Door, Refusal, ask};
use crate::control::admin::{Command, events, trace};
use crate::stats::http::Turned;

/// What the body is (registered with IANA).
pub const PCAPNG: &str = "application/x-pcapng";

/// A watch lasts for as long as somebody reads: longer than a machine.
const FOR_GOOD: Duration = Duration::from_secs(u32::MAX as u64);

/// JSON, an object a line.
pub(in crate::control::admin) const LINES: &str = "application/x-ndjson";

/// Answers with frames as they come.
pub(in crate::control::admin) async fn capture(
    State(door): State<Door>,
    Extension(guest): Extension<Guest>,
    parameters: Result<Query<Parameters>, axum::extract::rejection::QueryRejection>,
) -> Response {
    let parameters = match parameters {
        Ok(Query(parameters)) => parameters,
        Err(rejection) => {
            return Refusal::from(DumpError::BadQuery(rejection.body_text())).into_response();
        }
    };
    match ask(&door, |reply| Command::Capture(parameters, reply)).await {
        Ok(Ok(stream)) => {
            guest.patience().longer(stream.duration());
            ([(header::CONTENT_TYPE, PCAPNG)], body(stream)).into_response()
        }
        Ok(Err(error)) => Refusal::from(error).into_response(),
        Err(refusal) => refusal.into_response(),
    }
}

fn body(stream: Stream) -> Body {
    let parts = unfold(stream, |mut stream| async {
        let part = stream.next().await?;
        Some((Ok::<_, std::convert::Infallible>(part), stream))
    });
    Body::from_stream(parts)
}

/// Answers with packets of a flow as they pass.
pub(in crate::control::admin) async fn trace(
    State(door): State<Door>,
    Extension(guest): Extension<Guest>,
    parameters: Result<Query<trace::Parameters>, axum::extract::rejection::QueryRejection>,
) -> Response {
    let parameters = match parameters {
        Ok(Query(parameters)) => parameters,
        Err(rejection) => {
            return Refusal::from(DumpError::BadQuery(rejection.body_text())).into_response();
        }
    };
    match ask(&door, |reply| Command::Trace(parameters, reply)).await {
        Ok(Ok(stream)) => {
            guest.patience().longer(stream.duration());
            let lines = unfold(stream, |mut stream| async {
                let lines = stream.next().await?;
                Some((Ok::<_, std::convert::Infallible>(lines), stream))
            });
            ([(header::CONTENT_TYPE, LINES)], Body::from_stream(lines)).into_response()
        }
        Ok(Err(error)) => Refusal::from(error).into_response(),
        Err(refusal) => refusal.into_response(),
    }
}

/// Answers with what happens, as it happens.
pub(in crate::control::admin) async fn watch(
    State(door): State<Door>,
    Extension(guest): Extension<Guest>,
    parameters: Result<Query<events::Parameters>, axum::extract::rejection::QueryRejection>,
) -> Response {
    let parameters = match parameters {
        Ok(Query(parameters)) => parameters,
        Err(rejection) => {
            return Refusal::from(DumpError::BadQuery(rejection.body_text())).into_response();
        }
    };
    match ask(&door, |reply| Command::Watch(parameters, reply)).await {
        Ok(Ok(watcher)) => {
            guest.patience().lasting(FOR_GOOD);
            let lines = unfold(watcher, |mut watcher| async {
                let lines = watcher.next().await?;
                Some((Ok::<_, std::convert::Infallible>(lines), watcher))
            });
            ([(header::CONTENT_TYPE, LINES)], Body::from_stream(lines)).into_response()
        }
        Ok(Err(events::TooMany)) => {
            let (code, sentence) = guest.turned_away(Turned::Watchers);
            Refusal(code, sentence).into_response()
        }
        Err(refusal) => refusal.into_response(),
    }
}
