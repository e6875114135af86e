//! Handlers for those who change what runs, and look how it differs from the file.
//!
//! `PUT` and `DELETE` are edits as those of `POST /edit` are, of one thing each. Putting the same twice is putting it once,
//! so a program that does not know whether its request has arrived sends it again. The version of what runs comes as
//! `ETag` and may go as `If-Match`.

use std::net::SocketAddr;

use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use schemars::JsonSchema;
use serde::Deserialize;

use super::refusal::Refusal;
use super::{Door, Parameters, ask, asked, body};
use crate::control::admin::Command;
use crate::control::admin::door::Guest;
use crate::control::admin::view::{Drift, EditFailure, EditKind, Edits, Hand, Saved};
use crate::control::edit::{Edit, Keys, Which};

pub(super) async fn running(State(door): State<Door>) -> Result<Response, Refusal> {
    let running = ask(&door, Command::Running).await?;
    Ok(tagged(running.version, running))
}

/// `GET /drift`
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DriftParameters {
    /// Also what the files say by now. They are read for it.
    #[serde(default)]
    on_disk: bool,
}

pub(super) async fn drift(
    State(door): State<Door>,
    parameters: Parameters<DriftParameters>,
) -> Result<Json<Drift>, Refusal> {
    let DriftParameters { on_disk } = asked(parameters)?;
    ask(&door, |reply| Command::Drift(on_disk, reply)).await.map(Json)
}

pub(super) async fn edit(
    State(door): State<Door>,
    Extension(guest): Extension<Guest>,
    headers: HeaderMap,
    request: Request,
) -> Result<Response, Refusal> {
    let version = expected(&headers)?;
    let edits: Edits = body(&guest, request).await?;
    carry_out(&door, Edits { version: version.or(edits.version), ..edits }).await
}

/// `PUT /services/NAME`
pub(super) async fn put_service(
    State(door): State<Door>,
    Extension(guest): Extension<Guest>,
    Path(service): Path<String>,
    headers: HeaderMap,
    request: Request,
) -> Result<Response, Refusal> {
    let version = expected(&headers)?;
    let keys: Keys = body(&guest, request).await?;
    carry_out(&door, Edits { version, edits: vec![Edit::PutService { service, keys }] }).await
}

/// `DELETE /services/NAME`
pub(super) async fn delete_service(
    State(door): State<Door>,
    Path(service): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let edits = vec![Edit::DeleteService { service: Which::Name(service) }];
    carry_out(&door, Edits { version: expected(&headers)?, edits }).await
}

/// `PUT /services/NAME/backends/ADDRESS:PORT`
pub(super) async fn put_backend(
    State(door): State<Door>,
    Extension(guest): Extension<Guest>,
    Path((service, backend)): Path<(String, String)>,
    headers: HeaderMap,
    request: Request,
) -> Result<Response, Refusal> {
    let (service, backend) = (Which::Name(service), address(&backend)?);
    let version = expected(&headers)?;
    let keys: Keys = body(&guest, request).await?;
    carry_out(&door, Edits { version, edits: vec![Edit::PutBackend { service, backend, keys }] })
        .await
}

/// `DELETE /services/NAME/backends/ADDRESS:PORT`
pub(super) async fn delete_backend(
    State(door): State<Door>,
    Path((service, backend)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let (service, backend) = (Which::Name(service), address(&backend)?);
    let edits = vec![Edit::DeleteBackend { service, backend }];
    carry_out(&door, Edits { version: expected(&headers)?, edits }).await
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

async fn carry_out(door: &Door, edits: Edits) -> Result<Response, Refusal> {
    let outcome = ask(door, |reply| Command::Edit(edits, reply)).await?;
    Ok(outcome.map_or_else(failed, |edited| tagged(edited.version, edited)))
}

/// A change that was refused says its kind as well.
fn failed(failure: EditFailure) -> Response {
    (edit_code(failure.kind), Json(failure)).into_response()
}

pub(super) async fn hand(
    State(door): State<Door>,
    Extension(guest): Extension<Guest>,
    request: Request,
) -> Result<Response, Refusal> {
    let hand: Hand = body(&guest, request).await?;
    let outcome = ask(&door, |reply| Command::Hand(hand, reply)).await?;
    Ok(outcome.map_or_else(failed, |handed| Json(handed).into_response()))
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
#[serde(deny_unknown_fields)]
pub(super) struct SaveParameters {
    /// Even if somebody has changed the file since it was read.
    #[serde(default)]
    force: bool,
}

pub(super) async fn save(
    State(door): State<Door>,
    parameters: Parameters<SaveParameters>,
) -> Result<Json<Saved>, Refusal> {
    let SaveParameters { force } = asked(parameters)?;
    Ok(Json(ask(&door, |reply| Command::Save(force, reply)).await??))
}

/// `POST /zero`: one service by name, or by protocol and address; without either, all.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ZeroParameters {
    /// The service's name.
    service: Option<String>,
    /// Or its protocol,
    protocol: Option<String>,
    /// and its address.
    address: Option<String>,
}

impl ZeroParameters {
    /// Whose counters; `None` for all. What names half a service must not stand for all of them.
    fn which(self) -> Result<Option<Which>, Refusal> {
        match (self.service, self.protocol, self.address) {
            (None, None, None) => Ok(None),
            (Some(name), None, None) => Ok(Some(Which::Name(name))),
            (None, Some(protocol), Some(address)) => Ok(Some(Which::Place { protocol, address })),
            _ => {
                let said = "expected `service`, or `protocol` and `address`, or none of them";
                Err(Refusal(StatusCode::BAD_REQUEST, said.to_owned()))
            }
        }
    }
}

pub(super) async fn zero(
    State(door): State<Door>,
    parameters: Parameters<ZeroParameters>,
) -> Result<Response, Refusal> {
    let which = asked(parameters)?.which()?;
    let outcome = ask(&door, |reply| Command::Zero(which, reply)).await?;
    Ok(outcome.map_or_else(failed, |zeroed| Json(zeroed).into_response()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_service_does_not_stand_for_all_of_them() {
        let which = |service: Option<&str>, protocol: Option<&str>, address: Option<&str>| {
            let [service, protocol, address] =
                [service, protocol, address].map(|it| it.map(str::to_owned));
            let which = ZeroParameters { service, protocol, address }.which();
            which.map_err(|Refusal(code, _)| code)
        };
        let place = Which::Place { protocol: "tcp".into(), address: "198.51.100.10:80".into() };
        let bad = Err(StatusCode::BAD_REQUEST);
        assert_eq!(which(None, None, None), Ok(None));
        assert_eq!(which(Some("web"), None, None), Ok(Some(Which::Name("web".into()))));
        assert_eq!(which(None, Some("tcp"), Some("198.51.100.10:80")), Ok(Some(place)));
        assert_eq!(which(None, Some("tcp"), None), bad);
        assert_eq!(which(None, None, Some("198.51.100.10:80")), bad);
        assert_eq!(which(Some("web"), Some("tcp"), None), bad);
    }
}
