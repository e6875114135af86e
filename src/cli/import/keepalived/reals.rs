//! `real_server`: a backend.

use super::super::lvs::Real;
use super::super::note::Notes;
use super::blocks::Statement;
use super::checks;
use super::methods::method;
use super::servers::{alert, script};
use super::values::{number, senseless, socket, unknown};
use crate::dataplane::snapshot::Mode;

/// Reads one, in a virtual server whose packets go that way.
pub(super) fn real(block: &Statement, usual: Mode, notes: &mut Notes) -> Option<Real> {
    let Some(address) = socket(block.values()) else {
        senseless(block, "an address and a port, in numbers,", notes);
        return None;
    };
    let mut real = Real {
        place: block.place.clone(),
        origin: block.text(),
        address: address.ip(),
        port: address.port(),
        mode: usual,
        weight: 1,
        thresholds: (0, 0),
    };
    for statement in block.inside() {
        setting(&mut real, statement, notes);
    }
    Some(real)
}

fn setting(real: &mut Real, statement: &Statement, notes: &mut Notes) {
    match statement.keyword() {
        "weight" => real.weight = number(statement, notes).unwrap_or(real.weight),
        "uthreshold" => real.thresholds.0 = number(statement, notes).unwrap_or(0),
        "lthreshold" => real.thresholds.1 = number(statement, notes).unwrap_or(0),
        "lvs_method" | "lb_kind" => real.mode = method(statement, notes).unwrap_or(real.mode),
        "notify_up" | "notify_down" => script(statement, notes),
        "smtp_alert" => alert(statement, notes),
        "snmp_name" => {}
        keyword if checks::CHECKERS.contains(&keyword) || checks::SETTINGS.contains(&keyword) => {
            checks::lost(statement, notes);
        }
        _ => unknown(statement, notes),
    }
}
