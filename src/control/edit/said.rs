//! What a table says of how its service or backend is found, read back after an edit.
//!
//! Some of the keys an edit sets are what later edits of the same request find things by. What counts is what the table
//! says then, however it came to say so: set, replaced, or taken out.

use std::net::SocketAddr;

use toml_edit::{Array, Item, Table};

use super::rows::At;
use crate::control::config::place;

/// Of a service: its name.
pub(super) fn name(service: &Table) -> Option<&str> {
    text(service, "name")
}

/// Of a service: where clients find it; `None` if that is no place.
pub(super) fn at(service: &Table) -> Option<At> {
    place(text(service, "protocol")?, text(service, "address")?)
}

/// Is a service for all clients?
pub(super) fn is_everybodys(service: &Table) -> bool {
    service.get("clients").and_then(Item::as_array).is_none_or(Array::is_empty)
}

/// Of a backend: its address; `None` if it says none.
pub(super) fn address(backend: &Table) -> Option<SocketAddr> {
    text(backend, "address")?.parse().ok()
}

fn text<'a>(table: &'a Table, key: &str) -> Option<&'a str> {
    table.get(key)?.as_str()
}
