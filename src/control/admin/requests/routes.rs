//! All routes, in one table: the server is made of it, and so is the document that describes the API.
//!
//! A route that is not here does not exist; one that is here is described, for a line that lacks a summary or a type
//! does not compile. `docs/openapi.json` is what [`super::openapi`] makes of it.

use axum::Router;
use axum::routing::{MethodRouter, delete, get, post, put};
use schemars::{JsonSchema, Schema, SchemaGenerator};

use super::{Door, changes, handlers, openapi, page, streams};
use crate::control::admin::answers::{capture, clear, dump, events, explain, trace};
use crate::control::admin::view;

/// The schema of a type, with those it names put aside.
pub(super) type Of = fn(&mut SchemaGenerator) -> Schema;

/// A named type.
fn of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

/// A type whose fields are looked at.
fn fields_of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    T::json_schema(generator)
}

/// What a good answer is.
#[derive(Clone, Copy)]
pub(super) enum Answer {
    /// One value.
    Json(Of),
    /// A value on each line, as they come.
    Lines(Of),
    /// Frames, as they come.
    Pcapng,
    /// For a browser.
    Page,
    /// A document of JSON that describes itself.
    Document,
}

/// One route.
#[derive(Clone, Copy)]
pub(super) struct Route {
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    /// A sentence.
    pub(super) does: &'static str,
    pub(super) query: Option<Of>,
    pub(super) body: Option<Of>,
    /// Does `If-Match` with a version refuse a change that comes too late?
    pub(super) has_version: bool,
    pub(super) answer: Answer,
    /// Status codes whose body is that of success: a refusal that says as much.
    pub(super) alike: &'static [u16],
    /// Status codes of its own refusals, beside those of the door.
    pub(super) refusals: &'static [u16],
    handler: fn() -> MethodRouter<Door>,
}

impl Route {
    const fn new(
        method: &'static str,
        path: &'static str,
        does: &'static str,
        answer: Answer,
        handler: fn() -> MethodRouter<Door>,
    ) -> Self {
        let (query, body, has_version) = (None, None, false);
        let (alike, refusals): (&[u16], &[u16]) = (&[], &[]);
        Self { method, path, does, query, body, has_version, answer, alike, refusals, handler }
    }

    const fn asking(self, query: Of) -> Self {
        Self { query: Some(query), ..self }
    }

    const fn taking(self, body: Of) -> Self {
        Self { body: Some(body), ..self }
    }

    const fn at_version(self) -> Self {
        Self { has_version: true, ..self }
    }

    const fn alike(self, alike: &'static [u16]) -> Self {
        Self { alike, ..self }
    }

    const fn refusing(self, refusals: &'static [u16]) -> Self {
        Self { refusals, ..self }
    }
}

/// All of them.
#[rustfmt::skip]
pub(super) const ROUTES: &[Route] = &[
    Route::new("get", "/", "A page for a browser: services, backends, ports, workers, refused packets.",
        Answer::Page, || get(page::page)),
    Route::new("get", "/status", "Version, memory, workers, ports, refused packets, next hops, the last reload.",
        Answer::Json(of::<view::Status>), || get(handlers::status)),
    Route::new("get", "/services", "Services and their backends, with health and connections.",
        Answer::Json(of::<view::Services>), || get(handlers::services)),
    Route::new("get", "/connections", "Connections, a page at a time.",
        Answer::Json(of::<view::Connections>), || get(handlers::connections))
        .asking(fields_of::<dump::Parameters>).refusing(&[400, 404, 503]),
    Route::new("get", "/capture", "Frames as they are received and sent, as they come; one capture at a time.",
        Answer::Pcapng, || get(streams::capture))
        .asking(fields_of::<capture::Parameters>).refusing(&[400, 404, 409]),
    Route::new("get", "/explain", "What would become of a flow's next packet, and why.",
        Answer::Json(of::<explain::Explanation>), || get(handlers::explain))
        .asking(fields_of::<explain::Parameters>).refusing(&[400, 404, 409, 503]),
    Route::new("get", "/trace", "The next packets of a flow, a line each; one trace at a time.",
        Answer::Lines(of::<trace::Line>), || get(streams::trace))
        .asking(fields_of::<trace::Parameters>).refusing(&[400, 409]),
    Route::new("get", "/watch", "What happens, a line each, as it happens.",
        Answer::Lines(of::<events::Event>), || get(streams::watch))
        .asking(fields_of::<events::Parameters>).refusing(&[400, 503]),
    Route::new("post", "/clear", "Ends connections; answers when they have ended.",
        Answer::Json(of::<view::Cleared>), || post(handlers::clear))
        .asking(fields_of::<clear::Parameters>).refusing(&[400, 404, 409, 503]),
    Route::new("post", "/reload", "Reads the file again: all of it, or nothing. A refusal is answered as success is.",
        Answer::Json(of::<view::Reload>), || post(handlers::reload)).alike(&[409, 422]),
    Route::new("get", "/config", "What runs, as the text of a file, and its version (also as `ETag`).",
        Answer::Json(of::<view::Running>), || get(changes::running)),
    Route::new("get", "/drift", "How what runs differs from the file.",
        Answer::Json(of::<view::Drift>), || get(changes::drift))
        .asking(fields_of::<changes::DriftParameters>).refusing(&[400]),
    Route::new("post", "/edit", "Changes what runs: all edits of the body, or none.",
        Answer::Json(of::<view::Edited>), || post(changes::edit))
        .taking(of::<view::Edits>).at_version().refusing(&[404, 409, 412, 422]),
    Route::new("put", "/services/{service}", "A service is as the keys of the body say, whether it was there or not. \
        Without `backend` among them it keeps its backends.",
        Answer::Json(of::<view::Edited>), || put(changes::put_service))
        .taking(of::<crate::control::edit::Keys>).at_version().refusing(&[409, 412, 422]),
    Route::new("delete", "/services/{service}", "A service goes.",
        Answer::Json(of::<view::Edited>), || delete(changes::delete_service))
        .at_version().refusing(&[404, 409, 412]),
    Route::new("put", "/services/{service}/backends/{backend}",
        "A backend is as the keys of the body say, whether it was there or not.",
        Answer::Json(of::<view::Edited>), || put(changes::put_backend))
        .taking(of::<crate::control::edit::Keys>).at_version().refusing(&[404, 409, 412, 422]),
    Route::new("delete", "/services/{service}/backends/{backend}", "A backend goes.",
        Answer::Json(of::<view::Edited>), || delete(changes::delete_backend))
        .at_version().refusing(&[404, 409, 412]),
    Route::new("post", "/hand", "Drains or weighs one backend, beside the file.",
        Answer::Json(of::<view::Handed>), || post(changes::hand))
        .taking(of::<view::Hand>).refusing(&[404, 409, 422]),
    Route::new("post", "/save", "Writes what runs to the file.",
        Answer::Json(of::<view::Saved>), || post(changes::save))
        .asking(fields_of::<changes::SaveParameters>).refusing(&[400, 409, 500]),
    Route::new("post", "/zero", "Figures of lists begin anew: of one service, or of all.",
        Answer::Json(of::<view::Zeroed>), || post(changes::zero))
        .asking(fields_of::<changes::ZeroParameters>).refusing(&[400, 404]),
    Route::new("get", "/openapi.json", "This document.",
        Answer::Document, || get(openapi::document)),
];

/// The server that they make.
pub(in crate::control::admin) fn router(door: Door) -> Router {
    let all = ROUTES.iter().fold(Router::new(), |router, it| router.route(it.path, (it.handler)()));
    let all = all.method_not_allowed_fallback(handlers::not_so);
    all.fallback(handlers::unknown).with_state(door)
}

/// `GET /status, POST /edit` and so on.
pub(super) fn names() -> String {
    let name = |route: &Route| format!("{} {}", route.method.to_uppercase(), route.path);
    ROUTES.iter().map(name).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use axum::http::Method;
    use axum::routing::MethodFilter;

    use super::*;

    #[test]
    fn every_route_is_there_once_and_says_what_it_does_in_a_sentence() {
        let mut seen = std::collections::HashSet::new();
        for route in ROUTES {
            let Route { method, path, does, .. } = route;
            assert!(seen.insert((method, path)), "{method} {path} is there twice");
            assert!(does.ends_with('.') && path.starts_with('/'), "{method} {path}: {does}");
            let method: Method = method.to_uppercase().parse().unwrap();
            assert!(MethodFilter::try_from(method).is_ok());
        }
    }
}
