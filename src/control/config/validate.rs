//! From the file as written to a [`Plan`]: everything a type cannot say.
//!
//! All problems are found in one go. Every check is in the file of its table; what concerns two
//! tables is called from here, after both.

use super::error::Problems;
use super::machine::Machine;
use super::plan::Plan;
use super::schema;

mod clients;
mod cookies;
mod daemon;
mod links;
mod locals;
mod modes;
mod ports;
mod services;
mod value;
mod vips;

/// The plan a file means. With an error in `problems` it must not be used.
pub(super) fn validate(file: &schema::File, machine: &Machine, problems: &mut Problems) -> Plan {
    let daemon = daemon::daemon(problems, file, machine);
    let policy = daemon::policy(problems, file);
    let ports = ports::ports(problems, &file.port);
    if problems.errors.is_empty() {
        ports::buffers(problems, &ports, &daemon, file.dpdk.packet_buffers.as_ref());
    }
    Plan {
        daemon,
        timeouts: daemon::timeouts(problems, &file.timeouts),
        strays: policy.strays,
        ping: policy.ping,
        tunnels_ignore_df: policy.tunnels_ignore_df,
        punt_per_second: policy.punt_per_second,
        drain_deadline: policy.drain_deadline,
        services: services::services(problems, &file.service, &ports),
        ports,
    }
}
