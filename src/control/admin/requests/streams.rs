//! `GET /capture`, `GET /trace` and `GET /watch`: streams of unknown length as the answer's body.

use std::convert::Infallible;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use futures_util::stream::unfold;

use super::refusal::Refusal;
use super::{Door, Parameters, ask, asked};
use crate::control::admin::Command;
use crate::control::admin::answers::{capture, events, trace};
use crate::control::admin::door::Guest;
use crate::stats::http::Turned;

/// What the body is (registered with IANA).
pub(super) const PCAPNG: &str = "application/x-pcapng";

/// JSON, an object a line.
pub(super) const LINES: &str = "application/x-ndjson";

/// A watch lasts for as long as somebody reads: longer than a machine.
const FOR_GOOD: Duration = Duration::from_secs(u32::MAX as u64);

/// Answers with frames as they come.
pub(super) async fn capture(
    State(door): State<Door>,
    Extension(guest): Extension<Guest>,
    parameters: Parameters<capture::Parameters>,
) -> Result<Response, Refusal> {
    let parameters = asked(parameters)?;
    let stream = ask(&door, |reply| Command::Capture(parameters, reply)).await??;
    guest.patience().longer(stream.duration());
    let frames = unfold(stream, |mut stream| async {
        let frames = stream.next().await?;
        Some((Ok::<_, Infallible>(frames), stream))
    });
    Ok(([(header::CONTENT_TYPE, PCAPNG)], Body::from_stream(frames)).into_response())
}

/// Answers with packets of a flow as they pass.
pub(super) async fn trace(
    State(door): State<Door>,
    Extension(guest): Extension<Guest>,
    parameters: Parameters<trace::Parameters>,
) -> Result<Response, Refusal> {
    let parameters = asked(parameters)?;
    let stream = ask(&door, |reply| Command::Trace(parameters, reply)).await??;
    guest.patience().longer(stream.duration());
    let lines = unfold(stream, |mut stream| async {
        let lines = stream.next().await?;
        Some((Ok::<_, Infallible>(lines), stream))
    });
    Ok(([(header::CONTENT_TYPE, LINES)], Body::from_stream(lines)).into_response())
}

/// Answers with what happens, as it happens.
pub(super) async fn watch(
    State(door): State<Door>,
    Extension(guest): Extension<Guest>,
    parameters: Parameters<events::Parameters>,
) -> Result<Response, Refusal> {
    let parameters = asked(parameters)?;
    let watcher = ask(&door, |reply| Command::Watch(parameters, reply)).await?;
    let watcher = watcher.map_err(|events::TooMany| {
        let (code, sentence) = guest.turned_away(Turned::Watchers);
        Refusal(code, sentence)
    })?;
    guest.patience().lasting(FOR_GOOD);
    let lines = unfold(watcher, |mut watcher| async {
        let lines = watcher.next().await?;
        Some((Ok::<_, Infallible>(lines), watcher))
    });
    Ok(([(header::CONTENT_TYPE, LINES)], Body::from_stream(lines)).into_response())
}
