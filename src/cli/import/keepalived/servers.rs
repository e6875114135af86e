//! `virtual_server`: a service.

use std::collections::HashMap;

use super::super::lvs::{Said, Virtual};
use super::super::note::Notes;
use super::blocks::Statement;
use super::checks;
use super::groups::Group;
use super::methods::method;
use super::reals::real;
use super::values::{number, senseless, socket, switch, unknown, word};
use crate::dataplane::snapshot::{Mode, Protocol};

/// Seconds, if `persistence_timeout` does not say how many.
const PERSISTENCE_USUAL_S: u32 = 360;

/// Reads one.
pub(super) fn server(
    block: &Statement,
    groups: &HashMap<&str, Group>,
    notes: &mut Notes,
) -> Option<Virtual> {
    let mut server = opened(block, groups, notes)?;
    let settings = || block.inside().iter().filter(|it| it.keyword() != "real_server");
    // The last one said is the one that counts, wherever it stands.
    let mut mode = Mode::Nat;
    for statement in settings() {
        if matches!(statement.keyword(), "lvs_method" | "lb_kind") {
            mode = method(statement, notes).unwrap_or(mode);
        } else {
            setting(&mut server, statement, notes);
        }
    }
    let reals = block.inside().iter().filter(|it| it.keyword() == "real_server");
    server.reals = reals.filter_map(|statement| real(statement, mode, notes)).collect();
    Some(server)
}

/// What is said in front of its brace.
fn opened(block: &Statement, groups: &HashMap<&str, Group>, notes: &mut Notes) -> Option<Virtual> {
    let mut server = Virtual {
        place: block.place.clone(),
        origin: block.text(),
        name: None,
        protocol: Protocol::Tcp,
        addresses: Vec::new(),
        marks: Vec::new(),
        scheduler: None,
        flags: Vec::new(),
        one_packet: None,
        persistence: None,
        granularity: None,
        local_addresses: Vec::new(),
        reals: Vec::new(),
    };
    let place = block.place.clone();
    match block.values() {
        [keyword, name] if keyword == "group" => {
            let Some(group) = groups.get(name.as_str()) else {
                senseless(block, "the name of a virtual_server_group", notes);
                return None;
            };
            server.name = Some(name.clone());
            server.addresses.clone_from(&group.addresses);
            server.marks.clone_from(&group.marks);
        }
        [keyword, mark] if keyword == "fwmark" => {
            let Ok(value) = mark.parse() else {
                senseless(block, "a number above 0", notes);
                return None;
            };
            server.marks.push(Said { place, value });
        }
        words => {
            let Some(value) = socket(words) else {
                senseless(
                    block,
                    "an address and a port in numbers, `fwmark N` or `group NAME`",
                    notes,
                );
                return None;
            };
            server.addresses.push(Said { place, value });
        }
    }
    Some(server)
}

fn setting(server: &mut Virtual, statement: &Statement, notes: &mut Notes) {
    let place = || statement.place.clone();
    match statement.keyword() {
        "lvs_sched" | "lb_algo" => server.scheduler = word(statement, notes),
        flag @ ("sh-port" | "sh-fallback" | "mh-port" | "mh-fallback" | "flag-1" | "flag-2"
        | "flag-3") => server.flags.push(Said { place: place(), value: flag.to_owned() }),
        "ops" => server.one_packet = switch(statement).then(place),
        "protocol" => protocol(server, statement, notes),
        "persistence_timeout" => {
            let seconds = match statement.value() {
                None => Some(PERSISTENCE_USUAL_S),
                Some(_) => number(statement, notes),
            };
            let seconds = seconds.filter(|seconds| *seconds > 0);
            server.persistence = seconds.map(|value| Said { place: place(), value });
        }
        "persistence_granularity" => server.granularity = word(statement, notes),
        "persistence_engine" => {
            let why = "Shunt looks into no payload to tell clients apart";
            notes.lost(&place(), &statement.text(), why, "clients are told by their address");
        }
        "snmp_name" if server.name.is_none() => {
            server.name = statement.value().map(str::to_owned);
        }
        "quorum_up" | "quorum_down" => script(statement, notes),
        "smtp_alert" => alert(statement, notes),
        // A group's addresses have families of their own, and a mark is not carried over; the mask of
        // NAT has done nothing for twenty years.
        "snmp_name" | "ip_family" | "nat_mask" => {}
        "ha_suspend" => {
            let why = "Shunt checks whether the VIP is on this box or not";
            notes.remark(&place(), &statement.text(), why);
        }
        keyword if checks::SETTINGS.contains(&keyword) => checks::lost(statement, notes),
        _ => unknown(statement, notes),
    }
}

fn protocol(server: &mut Virtual, statement: &Statement, notes: &mut Notes) {
    match statement.value() {
        Some("TCP") => server.protocol = Protocol::Tcp,
        Some("UDP") => server.protocol = Protocol::Udp,
        Some("SCTP") => server.protocol = Protocol::Sctp,
        _ => senseless(statement, "TCP, UDP or SCTP", notes),
    }
}

/// A program that is told of something.
pub(super) fn script(statement: &Statement, notes: &mut Notes) {
    let mend = "alert on the metrics, or follow the log";
    notes.lost(&statement.place, &statement.text(), "Shunt starts no scripts", mend);
}

/// Mail.
pub(super) fn alert(statement: &Statement, notes: &mut Notes) {
    if switch(statement) {
        let why = "Shunt sends no mail: alert on its metrics (docs/metrics.md)";
        notes.remark(&statement.place, "smtp_alert", why);
    }
}
