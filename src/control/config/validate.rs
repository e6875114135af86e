//! From the file as written to a [`Plan`]: everything a type cannot say.
//!
//! All problems are found in one go. Every check is in the file of its table; what concerns two
//! tables is called from here, after both.

use std::path::Path;

use super::error::Problems;
use super::machine::Machine;
use super::plan::Plan;
use super::schema;

mod admin;
mod checks;
mod claims;
mod clients;
mod cookies;
mod daemon;
mod directors;
mod groups;
mod health;
mod links;
mod lists;
mod locals;
mod modes;
mod ports;
mod programs;
mod quotas;
mod scheduling;
mod secrets;
mod services;
mod sloppy;
mod suspects;
mod timeouts;
mod value;
mod vips;

pub(super) use vips::read_place as address;

/// The plan a file means. With an error in `problems` it must not be used.
///
/// `origin` is where the file is: what it names beside itself is looked for there.
pub(super) fn validate(
    file: &schema::File,
    origin: &Path,
    machine: &Machine,
    problems: &mut Problems,
) -> Plan {
    let daemon = daemon::daemon(problems, file, machine);
    let policy = daemon::policy(problems, file);
    let remote = admin::remote(problems, &file.admin, origin);
    let ports = ports::ports(problems, &file.port);
    if problems.errors.is_empty() {
        ports::buffers(problems, &ports, &daemon, file.dpdk.packet_buffers.as_ref());
    }
    let lists = lists::lists(problems, &file.list, origin);
    let known: Vec<&str> =
        file.list.iter().map(|it| it.get_ref().name.get_ref().as_str()).collect();
    let around =
        services::Around { known: &known, lists: &lists, is_sloppy: policy.sloppy, origin };
    let services = services::services(problems, &file.service, &ports, &around);
    programs::warn_of_missing(problems, &file.service, machine);
    if problems.errors.is_empty() {
        cookies::room(problems, &file.service, &services, &daemon);
    }
    Plan {
        deny: lists::names(problems, "deny", shunt_deny(file), &known),
        daemon,
        remote,
        timeouts: timeouts::common(problems, &file.timeouts),
        strays: policy.strays,
        drop_malformed_tcp: policy.drop_malformed_tcp,
        udp_reflection_ports: policy.udp_reflection_ports,
        restarts: policy.restarts,
        reset_on_end: policy.reset_on_end,
        icmp_on_end: policy.icmp_on_end,
        ping: policy.ping,
        tunnels_ignore_df: policy.tunnels_ignore_df,
        local_out: policy.local_out,
        directors: directors::directors(problems, shunt_directors(file), &ports),
        punt_per_second: policy.punt_per_second,
        drain_deadline: policy.drain_deadline,
        services,
        lists,
        ports,
    }
}

fn shunt_directors(file: &schema::File) -> Option<&schema::List<String>> {
    file.shunt.as_ref()?.get_ref().directors.as_ref()
}

fn shunt_deny(file: &schema::File) -> Option<&schema::List<String>> {
    file.shunt.as_ref()?.get_ref().deny.as_ref()
}
