//! `virtual_server`: a service.

use std::collections::HashMap;
use std::net::SocketAddr;

use super::super::health::Policy;
use super::super::lvs::{Real, Said, Virtual};
use super::super::note::Notes;
use super::blocks::Statement;
use super::checks::Pace;
use super::groups::Group;
use super::methods::method;
use super::reals::{Around, Read, real};
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
    let mut around = Around { mode: Mode::Nat, pace: Pace::default() };
    let mut sorry = Sorry::default();
    for statement in settings() {
        if matches!(statement.keyword(), "lvs_method" | "lb_kind") {
            around.mode = method(statement, notes).unwrap_or(around.mode);
        } else if !around.pace.take(statement, notes) && !sorry.take(statement, notes) {
            setting(&mut server, statement, notes);
        }
    }
    let reals = block.inside().iter().filter(|it| it.keyword() == "real_server");
    let reals: Vec<Read> = reals.filter_map(|it| real(it, &around, notes)).collect();
    for_all(&mut server, &reals, notes);
    server.reals = reals.into_iter().map(|read| read.real).chain(sorry.real(around.mode)).collect();
    Some(server)
}

/// What Shunt has for a whole service, and keepalived for each real server: said of one it counts for all.
fn for_all(server: &mut Virtual, reals: &[Read], notes: &mut Notes) {
    let inhibiting = reals.iter().filter(|read| read.inhibits.is_some()).count();
    let first = reals.iter().find_map(|read| read.inhibits.as_ref());
    if let Some(place) = first.filter(|_| inhibiting < reals.len() && !server.health.drains) {
        let why = "connections of every backend of the service live on when it is down";
        notes.changed(place, "inhibit_on_failure", why);
    }
    server.health.drains |= inhibiting > 0;
    let waiting = reals.iter().filter(|read| read.alpha).count();
    if let Some(read) = reals.iter().find(|read| read.alpha).filter(|_| waiting < reals.len()) {
        let why = "every backend of the service is down until its checks pass";
        notes.changed(&read.real.place, "alpha", why);
    }
    server.health.starts_down = waiting > 0;
}

/// Who serves while too little else does.
#[derive(Debug, Default)]
struct Sorry {
    server: Option<(Said<SocketAddr>, String)>,
    mode: Option<Mode>,
}

impl Sorry {
    /// Takes a setting. False if it is about something else.
    fn take(&mut self, statement: &Statement, notes: &mut Notes) -> bool {
        match statement.keyword() {
            "sorry_server" => match socket(statement.values()) {
                Some(value) => {
                    let said = Said { place: statement.place.clone(), value };
                    self.server = Some((said, statement.text()));
                }
                None => senseless(statement, "an address and a port, in numbers,", notes),
            },
            "sorry_server_lvs_method" => self.mode = method(statement, notes).or(self.mode),
            "sorry_server_inhibit" => {
                let why = "those it takes the place of go as `on_failure` says";
                notes.changed(&statement.place, &statement.text(), why);
            }
            _ => return false,
        }
        true
    }

    fn real(self, usual: Mode) -> Option<Real> {
        let (Said { place, value }, origin) = self.server?;
        Some(Real {
            place,
            origin,
            address: value.ip(),
            port: value.port(),
            mode: self.mode.unwrap_or(usual),
            weight: 1,
            thresholds: (0, 0),
            checks: Vec::new(),
            sorry: true,
        })
    }
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
        health: Policy::default(),
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
        "quorum" => server.health.quorum = number(statement, notes).map(|quorum| quorum.max(1)),
        "hysteresis" => server.health.hysteresis = number(statement, notes),
        "inhibit_on_failure" => server.health.drains = switch(statement),
        "omega" => {
            notes.remark(
                &place(),
                &statement.text(),
                "Shunt starts no scripts, at its end neither",
            );
        }
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
