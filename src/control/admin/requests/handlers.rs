//! Handlers for those who ask how things are, and for a reload.

use axum::Json;
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};

use super::refusal::Refusal;
use super::{Door, Parameters, ask, asked, routes};
use crate::control::admin::Command;
use crate::control::admin::answers::{clear, dump, explain};
use crate::control::admin::view::{self, ReloadResult};

pub(super) async fn status(State(door): State<Door>) -> Result<Json<view::Status>, Refusal> {
    ask(&door, Command::Status).await.map(Json)
}

pub(super) async fn services(State(door): State<Door>) -> Result<Json<view::Services>, Refusal> {
    ask(&door, Command::Services).await.map(Json)
}

pub(super) async fn reload(State(door): State<Door>) -> Result<Response, Refusal> {
    let outcome = ask(&door, Command::Reload).await?;
    Ok((reload_code(outcome.result), Json(outcome)).into_response())
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
    parameters: Parameters<dump::Parameters>,
) -> Result<Json<view::Connections>, Refusal> {
    let query = dump::Query::parse(&asked(parameters)?)?;
    Ok(Json(ask(&door, |reply| Command::Connections(query, reply)).await??))
}

pub(super) async fn clear(
    State(door): State<Door>,
    parameters: Parameters<clear::Parameters>,
) -> Result<Json<view::Cleared>, Refusal> {
    let parameters = asked(parameters)?;
    Ok(Json(ask(&door, |reply| Command::Clear(parameters, reply)).await??))
}

pub(super) async fn explain(
    State(door): State<Door>,
    parameters: Parameters<explain::Parameters>,
) -> Result<Json<explain::Explanation>, Refusal> {
    let parameters = asked(parameters)?;
    Ok(Json(ask(&door, |reply| Command::Explain(parameters, reply)).await??))
}

/// The path is one, the method is not; which are, is also in the header `allow`.
pub(super) async fn not_so(method: Method, uri: Uri) -> Refusal {
    let said = format!("there is no {method} {}; there are {}", uri.path(), routes::names());
    Refusal(StatusCode::METHOD_NOT_ALLOWED, said)
}

pub(super) async fn unknown() -> Refusal {
    Refusal(StatusCode::NOT_FOUND, format!("there is no such route; there are {}", routes::names()))
}
