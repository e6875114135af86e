//! The API described for programs: `OpenAPI` 3.1, made of the table of routes and the types they speak.
//!
//! ```text
//! routes::ROUTES ─► paths, parameters, status codes ─┐
//! view, events, … ─► schemars ─► JSON Schema        ─┴─► GET /openapi.json, docs/openapi.json (a test compares)
//! ```
//!
//! A type's documentation is its description here, so that there is one text for who reads the code, the document or a
//! client generated of it. Schemas are of JSON Schema 2020-12, which is what `OpenAPI` 3.1 takes as it is.

use axum::http::header;
use axum::response::{IntoResponse, Response};
use schemars::generate::SchemaSettings;
use schemars::{Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::routes::{Answer, ROUTES, Route};
use super::streams::{LINES, PCAPNG};
use crate::control::admin::door::VERSION_HEADER;
use crate::control::admin::view::{EditFailure, Failure};

/// Where schemas lie in the document.
const SCHEMAS: &str = "/components/schemas";

/// `GET /openapi.json`
pub(super) async fn document() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], text()).into_response()
}

/// The document, as it is shipped.
pub fn text() -> String {
    let text = serde_json::to_string_pretty(&described());
    text.unwrap_or_default() + "\n"
}

fn described() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|it| {
        it.definitions_path = SCHEMAS.into();
        it.meta_schema = None;
    });
    let mut generator = settings.into_generator();
    let mut paths = Map::new();
    for route in ROUTES {
        let operation = operation(route, &mut generator);
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        if let Some(path) = path.as_object_mut() {
            path.insert(route.method.to_owned(), operation);
        }
    }
    let schemas = generator.take_definitions(true);
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Shunt's admin API",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "What `shunt` asks of `shuntd`, on its admin socket or, with TLS and a token, from elsewhere.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [
            { "url": "http://shunt", "description": "The admin socket, /run/shunt/admin.sock: any host." },
            {
                "url": "https://{host}:{port}",
                "description": "The address of [admin].",
                "variables": { "host": { "default": "localhost" }, "port": { "default": "9151" } },
            },
        ],
        "security": [{}, { "token": [] }],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "token": { "type": "http", "scheme": "bearer", "description": "From elsewhere: what `token_file` holds." },
                "password": { "type": "http", "scheme": "basic", "description": "The same for a browser: user `shunt`; for GET only." },
            },
        },
    })
}

fn operation(route: &Route, generator: &mut SchemaGenerator) -> Value {
    let mut operation = json!({
        "operationId": name(route),
        "summary": route.does,
        "parameters": parameters(route, generator),
        "responses": responses(route, generator),
    });
    if let (Some(body), Some(operation)) = (route.body, operation.as_object_mut()) {
        let content = json!({ "application/json": { "schema": body(generator) } });
        operation.insert("requestBody".into(), json!({ "required": true, "content": content }));
    }
    if let (Answer::Page, Some(operation)) = (route.answer, operation.as_object_mut()) {
        operation.insert("security".into(), json!([{}, { "token": [] }, { "password": [] }]));
    }
    operation
}

/// `put_services_service_backends_backend`
fn name(route: &Route) -> String {
    let words = route.path.split(|letter: char| !letter.is_ascii_alphanumeric());
    let words = words.filter(|word| !word.is_empty());
    std::iter::once(route.method).chain(words).collect::<Vec<_>>().join("_")
}

fn parameters(route: &Route, generator: &mut SchemaGenerator) -> Vec<Value> {
    let mut all: Vec<Value> = in_path(route.path).map(path_parameter).collect();
    if let Some(query) = route.query {
        all.extend(query_parameters(&query(generator)));
    }
    if route.has_version {
        all.push(json!({
            "name": "if-match",
            "in": "header",
            "description": "Refuse with 412 if the running configuration is at another version than this, `\"7\"`.",
            "schema": { "type": "string" },
        }));
    }
    all.push(json!({
        "name": VERSION_HEADER,
        "in": "header",
        "description": "Refuse with 412 unless the daemon's version differs in its last number at most.",
        "schema": { "type": "string" },
    }));
    all
}

/// `{names}` of a path.
fn in_path(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
}

fn path_parameter(name: &str) -> Value {
    let description = match name {
        "backend" => "Its address and port.",
        _ => "Its name.",
    };
    json!({
        "name": name, "in": "path", "required": true, "description": description,
        "schema": { "type": "string" },
    })
}

/// The fields of a struct, each a parameter.
fn query_parameters(schema: &Schema) -> Vec<Value> {
    let schema = schema.as_value();
    let required = schema["required"].as_array().cloned().unwrap_or_default();
    let fields = schema["properties"].as_object().into_iter().flatten();
    let parameter = |(name, field): (&String, &Value)| {
        let mut field = field.clone();
        let description = field.as_object_mut().and_then(|field| field.remove("description"));
        json!({
            "name": name, "in": "query", "required": required.contains(&name.as_str().into()),
            "description": description, "schema": field,
        })
    };
    fields.map(parameter).collect()
}

fn responses(route: &Route, generator: &mut SchemaGenerator) -> Value {
    let (kind, schema) = match route.answer {
        Answer::Json(of) => ("application/json", of(generator).to_value()),
        Answer::Lines(of) => (LINES, of(generator).to_value()),
        Answer::Pcapng => (PCAPNG, json!({ "type": "string", "format": "binary" })),
        Answer::Page => ("text/html", json!({ "type": "string" })),
        Answer::Document => ("application/json", json!({ "type": "object" })),
    };
    let mut all = Map::new();
    let like = |description: &str| json!({ "description": description, "content": { kind: { "schema": schema } } });
    all.insert("200".into(), like("Done."));
    all.extend(route.alike.iter().map(|code| (code.to_string(), like(meaning(*code)))));
    let failure = if route.has_version {
        generator.subschema_for::<EditFailure>()
    } else {
        generator.subschema_for::<Failure>()
    };
    let failure = failure.to_value();
    let refusal = |description: &str| {
        json!({
            "description": description,
            "content": { "application/json": { "schema": failure } },
        })
    };
    for code in route.refusals {
        all.insert(code.to_string(), refusal(meaning(*code)));
    }
    all.insert(
        "default".into(),
        refusal("A limit of the server, or a request it does not understand."),
    );
    Value::Object(all)
}

/// What a status means here.
fn meaning(code: u16) -> &'static str {
    match code {
        400 => "A parameter cannot be understood.",
        404 => "There is nothing by that name.",
        409 => "Not now, or somebody else was faster; nothing has changed.",
        412 => "The configuration is at another version; nothing has changed.",
        422 => "What would come of it is no good configuration; nothing has changed.",
        503 => "As many as may be do this already, or a worker does not answer.",
        _ => "It could not be done.",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every `$ref` of a document.
    fn references(value: &Value, into: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                into.extend(fields.get("$ref").and_then(Value::as_str).map(str::to_owned));
                fields.values().for_each(|field| references(field, into));
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, into)),
            _ => {}
        }
    }

    #[test]
    fn every_route_is_described_and_every_reference_leads_to_a_schema() {
        let document = described();
        for route in ROUTES {
            let operation = &document["paths"][route.path][route.method];
            assert_eq!(operation["summary"], route.does, "{} {}", route.method, route.path);
            let declared = operation["parameters"].as_array().unwrap();
            for name in in_path(route.path) {
                assert!(declared.iter().any(|it| it["name"] == name && it["in"] == "path"));
            }
        }
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(found.len() > 30, "only {} references", found.len());
        for reference in found {
            let place = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(place).is_some(), "{reference} leads nowhere");
        }
    }

    #[test]
    fn every_field_of_the_document_says_what_it_means() {
        let document = described();
        for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
            for (field, schema) in schema["properties"].as_object().into_iter().flatten() {
                assert!(schema["description"].is_string(), "{name}.{field}: {schema}");
            }
        }
    }

    #[test]
    fn the_document_that_is_shipped_is_this_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/openapi.json");
        if std::env::var_os("SHUNT_WRITE_DOCS").is_some() {
            std::fs::write(path, text()).unwrap();
        }
        let shipped = std::fs::read_to_string(path).unwrap_or_default();
        assert!(shipped == text(), "SHUNT_WRITE_DOCS=1 cargo nextest run openapi writes it anew");
    }
}
