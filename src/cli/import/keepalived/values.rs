//! Values of statements: numbers, switches, addresses with ports; and what is said of others.

use std::net::{IpAddr, SocketAddr};

use super::super::lvs::Said;
use super::super::note::Notes;
use super::blocks::Statement;
use crate::control::health::probe::sayable::Sayable;

/// A keyword nobody knows. keepalived goes on without it, but somebody meant something by it.
pub(super) fn unknown(statement: &Statement, notes: &mut Notes) {
    let why = "this keyword is not known";
    notes.lost(&statement.place, &statement.text(), why, "is it spelled as keepalived has it?");
}

/// A value that makes no sense.
pub(super) fn senseless(statement: &Statement, expected: &str, notes: &mut Notes) {
    let why = format!("{expected} was expected");
    notes.lost(&statement.place, &statement.text(), &why, "");
}

/// A whole number.
pub(super) fn number(statement: &Statement, notes: &mut Notes) -> Option<u32> {
    let number = statement.value().and_then(|text| text.parse().ok());
    if number.is_none() {
        senseless(statement, "a whole number", notes);
    }
    number
}

/// A word, with its place.
pub(super) fn word(statement: &Statement, notes: &mut Notes) -> Option<Said<String>> {
    let Some(value) = statement.value() else {
        senseless(statement, "a word", notes);
        return None;
    };
    Some(Said { place: statement.place.clone(), value: value.to_owned() })
}

/// A word that goes into a request, if it can.
pub(super) fn sayable(
    statement: &Statement,
    rule: impl Fn(&str) -> Sayable,
    notes: &mut Notes,
) -> Option<String> {
    let value = statement.value().unwrap_or_default();
    if let Err(expected) = rule(value) {
        senseless(statement, expected, notes);
        return None;
    }
    Some(value.to_owned())
}

/// A keyword that may say `off`.
pub(super) fn switch(statement: &Statement) -> bool {
    !matches!(statement.value(), Some("off" | "false" | "no"))
}

/// `ADDRESS [PORT]`; no port is 0. Names of services are not looked up.
pub(super) fn socket(words: &[String]) -> Option<SocketAddr> {
    let (address, port) = match words {
        [address] => (address, 0),
        [address, port] => (address, port.parse().ok()?),
        _ => return None,
    };
    Some(SocketAddr::new(address.parse::<IpAddr>().ok()?, port))
}
