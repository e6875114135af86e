//! `udp_reflection_ports`, of `[shunt]` for all services of UDP and of one service for itself.

use std::ops::RangeInclusive;

use super::super::error::Problems;
use super::super::schema::{self, List};
use super::value::integer;
use crate::dataplane::snapshot::Protocol;

const PORTS: RangeInclusive<i64> = 1..=65_535;
/// Each is looked at for every new flow.
const PORTS_MAX: usize = 64;

/// Ports, in order, each once.
pub(super) fn reflection_ports(problems: &mut Problems, written: Option<&List<i64>>) -> Vec<u16> {
    let Some(written) = written else { return Vec::new() };
    if let Some(excess) = written.get_ref().get(PORTS_MAX) {
        let message = format!("more than {PORTS_MAX} ports in udp_reflection_ports");
        problems.error(excess.span(), message);
    }
    let port = |value| integer(problems, "udp_reflection_ports:", Some(value), PORTS, 0);
    let mut ports: Vec<u16> = written.get_ref().iter().map(port).collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

/// A service's own list, if it has one.
pub(super) fn of_service(
    problems: &mut Problems,
    written: &schema::Service,
    spoken: &[Protocol],
) -> Option<Vec<u16>> {
    let value = written.udp_reflection_ports.as_ref()?;
    if let Some(protocol) = spoken.first().filter(|_| !spoken.contains(&Protocol::Udp)) {
        let message = format!("`udp_reflection_ports` is for udp: nobody reflects {protocol}");
        problems.error(value.span(), message);
    }
    Some(reflection_ports(problems, Some(value)))
}
