//! `real_server`: a backend.

use super::super::lvs::Real;
use super::super::note::{Notes, Place};
use super::blocks::Statement;
use super::checkers::{CHECKERS, checker};
use super::checks::Pace;
use super::methods::method;
use super::servers::{alert, script};
use super::values::{number, senseless, socket, switch, unknown};
use crate::dataplane::snapshot::Mode;

/// What a virtual server says for all of its real servers.
#[derive(Clone, Debug)]
pub(super) struct Around {
    /// How packets reach them.
    pub(super) mode: Mode,
    /// When they are checked.
    pub(super) pace: Pace,
}

/// One, and what of it Shunt has for a whole service only.
pub(super) struct Read {
    pub(super) real: Real,
    /// Does it keep its connections when it is down?
    pub(super) inhibits: Option<Place>,
    /// Is it down until it is checked?
    pub(super) alpha: bool,
}

/// Reads one.
pub(super) fn real(block: &Statement, around: &Around, notes: &mut Notes) -> Option<Read> {
    let Some(address) = socket(block.values()) else {
        senseless(block, "an address and a port, in numbers,", notes);
        return None;
    };
    let real = Real {
        place: block.place.clone(),
        origin: block.text(),
        address: address.ip(),
        port: address.port(),
        mode: around.mode,
        weight: 1,
        thresholds: (0, 0),
        checks: Vec::new(),
        sorry: false,
    };
    let mut pace = around.pace.clone();
    let mut read = Read { real, inhibits: None, alpha: false };
    // What it says counts for its checks wherever it stands.
    let (checkers, settings): (Vec<_>, Vec<_>) =
        block.inside().iter().partition(|it| CHECKERS.contains(&it.keyword()));
    for statement in settings {
        if !pace.take(statement, notes) {
            setting(&mut read, statement, notes);
        }
    }
    read.alpha = pace.alpha;
    for statement in checkers {
        let (checks, alpha) = checker(statement, &pace, notes);
        read.real.checks.extend(checks);
        read.alpha |= alpha;
    }
    Some(read)
}

fn setting(read: &mut Read, statement: &Statement, notes: &mut Notes) {
    let real = &mut read.real;
    match statement.keyword() {
        "weight" => real.weight = number(statement, notes).unwrap_or(real.weight),
        "uthreshold" => real.thresholds.0 = number(statement, notes).unwrap_or(0),
        "lthreshold" => real.thresholds.1 = number(statement, notes).unwrap_or(0),
        "lvs_method" | "lb_kind" => real.mode = method(statement, notes).unwrap_or(real.mode),
        "inhibit_on_failure" => {
            read.inhibits = switch(statement).then(|| statement.place.clone());
        }
        "notify_up" | "notify_down" => script(statement, notes),
        "smtp_alert" => alert(statement, notes),
        "snmp_name" => {}
        _ => unknown(statement, notes),
    }
}
