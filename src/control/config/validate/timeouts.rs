//! `[timeouts]`, and `[service.timeouts]` for what a service has otherwise.

use std::collections::BTreeMap;

use super::super::error::Problems;
use super::super::schema::{self, TIMEOUT_MAX_S};
use super::value::integer;
use crate::dataplane::snapshot::{Protocol, Timeouts};

/// Checks `[timeouts]`.
pub(super) fn common(problems: &mut Problems, written: &schema::Timeouts) -> Timeouts {
    let mut timeouts = Timeouts::default();
    for (key, value) in written.written() {
        if let Some(place) = timeouts.named_mut(key) {
            *place = integer(problems, key, Some(value), 1..=TIMEOUT_MAX_S, *place);
        }
    }
    timeouts
}

/// Checks `[service.timeouts]`: only what its protocols' connections can have.
pub(super) fn own(
    problems: &mut Problems,
    written: &schema::Timeouts,
    spoken: &[Protocol],
) -> BTreeMap<&'static str, u32> {
    let mut timeouts = BTreeMap::new();
    for (key, value) in written.written() {
        if !spoken.is_empty() && !spoken.contains(&protocol_of(key)) {
            let spoken: Vec<_> = spoken.iter().map(ToString::to_string).collect();
            let spoken = spoken.join(" and ");
            let message = format!("`{key}` does nothing here: the service is {spoken}");
            problems.error(value.span(), message);
        }
        timeouts.insert(key, integer(problems, key, Some(value), 1..=TIMEOUT_MAX_S, 1));
    }
    timeouts
}

/// Whose connections have that state.
fn protocol_of(key: &str) -> Protocol {
    match key.split_once('_') {
        Some(("tcp", _)) => Protocol::Tcp,
        Some(("sctp", _)) => Protocol::Sctp,
        _ => Protocol::Udp,
    }
}
