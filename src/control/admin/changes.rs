//! Handlers for those who change what runs, and look how it differs from the file.
//!
//! `PUT` and `DELETE` are edits as those of `POST /edit` are, of one thing each. Putting the same twice is putting it once,
//! so a program that does not know whether its request has arrived sends it again. The version of what runs comes as
//! `ETag` and may go as `If-Match`.

use std::net::SocketAddr;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use schemars::JsonSchema;
use serde::Deserialize;

use super::Command;
use super::door::Guest;
use super::server::{Door, Refusal, ask, body};
use super::view::{EditKind, Edits, Hand};
use crate::control::edit::{Edit, Keys, Which};
use crate::control::save::SaveError;

pub(super) async fn running(State(door): State<Door>) -> Response {
    match ask(&door, Command::Running).await {
        Ok(running) => tagged(running.version, running),
        Err(refusal) => refusal.into_response(),
    }
}

pub(super) async fn drift(State(door): State<Door>) -> Response {
    ask(&door, Command::Drift).await.map(Json).into_response()
}

pub(super) async fn edit(
    State(door): State<Door>,
    Extension(guest): Extension<Guest>,
    headers: HeaderMap,
    request: Request,
) -> Response {
    let edits = async {
        let version = expected(&headers)?;
        let edits: Edits = body(&guest, request).await?;
        Ok(Edits { version: version.or(edits.version), ..edits })
    };
    carry_out(&door, edits.await).await
}

/// `PUT /services/NAME`
pub(super) async fn put_service(
    State(door): State<Door>,
    Extension(guest): Extension<Guest>,
    Path(service): Path<String>,
    headers: HeaderMap,
    request: Request,
) -> Response {
    let edits = async {
        let version = expected(&headers)?;
        let keys: Keys = body(&guest, request).await?;
        Ok(Edits { version, edits: vec![Edit::PutService { service, keys }] })
    };
    carry_out(&door, edits.await).await
}

/// `DELETE /services/NAME`
pub(super) async fn delete_service(
    State(door): State<Door>,
    Path(service): Path<String>,
    headers: HeaderMap,
) -> Response {
    let service = Which::Name(service);
    let edits = vec![Edit::DeleteService { service }];
    carry_out(&door, expected(&headers).map(|version| Edits { version, edits })).await
}

/// `PUT /services/NAME/backends/ADDRESS:PORT`
pub(super) async fn put_backend(
    State(door): State<Door>,
    Extension(guest): Extension<Guest>,
    Path((service, backend)): Path<(String, String)>,
    headers: HeaderMap,
    request: Request,
) -> Response {
    let edits = async {
        let (service, backend) = (Which::Name(service), address(&backend)?);
        let version = expected(&headers)?;
        let keys: Keys = body(&guest, request).await?;
        Ok(Edits { version, edits: vec![Edit::PutBackend { service, backend, keys }] })
    };
    carry_out(&door, edits.await).await
}

/// `DELETE /services/NAME/backends/ADDRESS:PORT`
pub(super) async fn delete_backend(
    State(door): State<Door>,
    Path((service, backend)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    let edits = || {
        let (service, backend) = (Which::Name(service), address(&backend)?);
        let version = expected(&headers)?;
        Ok(Edits { version, edits: vec![Edit::DeleteBackend { service, backend }] })
    };
    carry_out(&door, edits()).await
}

fn address(text: &str) -> Result<SocketAddr, Refusal> {
    let wrong = || format!("{text} is not an address and port, like 10.44.0.11:8080");
    text.parse().map_err(|_| Refusal(StatusCode::BAD_REQUEST, wrong()))
}

/// The version that `If-Match` asks for: RFC 9110, section 13.1.1. `*` is any.
fn expected(headers: &HeaderMap) -> Result<Option<u64>, Refusal> {
    let Some(value) = headers.get(header::IF_MATCH) else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim();
    if text == "*" {
        return Ok(None);
    }
    let wrong = || format!("If-Match `{text}` is not the version of a configuration, like \"7\"");
    let version = text.trim_matches('"').parse();
    version.map(Some).map_err(|_| Refusal(StatusCode::BAD_REQUEST, wrong()))
}

/// With the version, for who will ask for it.
fn tagged(version: u64, answer: impl serde::Serialize) -> Response {
    ([(header::ETAG, format!("\"{version}\""))], Json(answer)).into_response()
}

async fn carry_out(door: &Door, edits: Result<Edits, Refusal>) -> Response {
    let edits = match edits {
        Ok(edits) => edits,
        Err(refusal) => return refusal.into_response(),
    };
    match ask(door, |reply| Command::Edit(edits, reply)).await {
        Ok(Ok(edited)) => tagged(edited.version, edited),
        Ok(Err(failure)) => (edit_code(failure.kind), Json(failure)).into_response(),
        Err(refusal) => refusal.into_response(),
    }
}

pub(super) async fn hand(
    State(door): State<Door>,
    Extension(guest): Extension<Guest>,
    request: Request,
) -> Response {
    let asked: Hand = match body(&guest, request).await {
        Ok(asked) => asked,
        Err(refusal) => return refusal.into_response(),
    };
    match ask(&door, |reply| Command::Hand(asked, reply)).await {
        Ok(Ok(handed)) => Json(handed).into_response(),
        Ok(Err(failure)) => (edit_code(failure.kind), Json(failure)).into_response(),
        Err(refusal) => refusal.into_response(),
    }
}

fn edit_code(kind: EditKind) -> StatusCode {
    match kind {
        EditKind::NoService | EditKind::NoBackend => StatusCode::NOT_FOUND,
        EditKind::ServiceExists | EditKind::BackendExists | EditKind::Refused => {
            StatusCode::CONFLICT
        }
        EditKind::Stale => StatusCode::PRECONDITION_FAILED,
        EditKind::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
    }
}

/// `POST /save`
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub(super) struct SaveParameters {
    /// Even if somebody has changed the file since it was read.
    #[serde(default)]
    force: bool,
}

pub(super) async fn save(
    State(door): State<Door>,
    parameters: Result<Query<SaveParameters>, QueryRejection>,
) -> Response {
    let force = match parameters {
        Ok(Query(SaveParameters { force })) => force,
        Err(rejection) => {
            return Refusal(rejection.status(), rejection.body_text()).into_response();
        }
    };
    match ask(&door, |reply| Command::Save(force, reply)).await {
        Ok(Ok(saved)) => Json(saved).into_response(),
        Ok(Err(error)) => Refusal::from(error).into_response(),
        Err(refusal) => refusal.into_response(),
    }
}

/// `POST /zero`: one service by name, or by protocol and address; without either, all.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub(super) struct ZeroParameters {
    /// The service's name.
    service: Option<String>,
    /// Or its protocol,
    protocol: Option<String>,
    /// and its address.
    address: Option<String>,
}

pub(super) async fn zero(
    State(door): State<Door>,
    parameters: Result<Query<ZeroParameters>, QueryRejection>,
) -> Response {
    let which = match parameters {
        Ok(Query(ZeroParameters { service: Some(name), .. })) => Some(Which::Name(name)),
        Ok(Query(ZeroParameters { protocol: Some(protocol), address: Some(address), .. })) => {
            Some(Which::Place { protocol, address })
        }
        Ok(_) => None,
        Err(rejection) => {
            return Refusal(rejection.status(), rejection.body_text()).into_response();
        }
    };
    match ask(&door, |reply| Command::Zero(which, reply)).await {
        Ok(Ok(zeroed)) => Json(zeroed).into_response(),
        Ok(Err(failure)) => (edit_code(failure.kind), Json(failure)).into_response(),
        Err(refusal) => refusal.into_response(),
    }
}

impl From<SaveError> for Refusal {
    fn from(error: SaveError) -> Self {
        let code = match &error {
            SaveError::Changed { .. } => StatusCode::CONFLICT,
            SaveError::Io { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self(code, error.to_string())
    }
}
