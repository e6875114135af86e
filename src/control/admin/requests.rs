//! From a request to a command, and from its outcome to an answer: what all handlers share.
//!
//! ```text
//! routes ─► a handler ─► asked, body ─► ask ── Command ──► control loop
//!               └──◄── JSON, lines, frames; or a Refusal: a status code and a sentence ──◄─┘
//! ```
//!
//! A handler looks at what was asked, passes it on and waits. `?` makes a [`Refusal`] of whatever went wrong on the way.

mod changes;
mod handlers;
pub mod openapi;
mod page;
mod refusal;
pub(super) mod routes;
mod streams;

use std::error::Error;

use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{FromRequest, Query, Request};
use axum::http::StatusCode;
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, oneshot};

use self::refusal::Refusal;
use super::Command;
use super::door::{BODY_PATIENCE, Guest};
use crate::stats::http::Turned;

/// Where handlers put their commands.
pub(super) type Door = mpsc::Sender<Command>;

/// The parameters of a request, as they are found.
type Parameters<T> = Result<Query<T>, QueryRejection>;

/// The parameters, if they are those of the route.
fn asked<T>(parameters: Parameters<T>) -> Result<T, Refusal> {
    let refusal = |rejection: QueryRejection| {
        Refusal(rejection.status(), format!("the query cannot be used: {}", why(&rejection)))
    };
    parameters.map(|Query(parameters)| parameters).map_err(refusal)
}

/// What is behind an error that says first where it happened.
fn why(error: &dyn Error) -> String {
    error.source().map_or_else(|| error.to_string(), ToString::to_string)
}

/// What is wrong with a body.
fn unusable(rejection: &JsonRejection) -> String {
    match rejection {
        JsonRejection::JsonDataError(error) => format!("the body cannot be used: {}", why(error)),
        JsonRejection::JsonSyntaxError(error) => format!("the body is no JSON: {}", why(error)),
        JsonRejection::MissingJsonContentType(_) => {
            "expected a body of JSON, with the header `content-type: application/json`".to_owned()
        }
        other => other.body_text(),
    }
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

/// The body, if it comes in time and is what it should be.
async fn body<T: DeserializeOwned>(guest: &Guest, request: Request) -> Result<T, Refusal> {
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
        Ok(Err(rejection)) => Err(Refusal(rejection.status(), unusable(&rejection))),
        Err(_) => Err(turned_away(Turned::SlowBody)),
    }
}
