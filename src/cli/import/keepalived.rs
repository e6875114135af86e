//! `keepalived.conf`, from text to virtual services.
//!
//! ```text
//! source    includes, @conditions, $PARAMETERS, ~SEQ        text   ─► lines
//! blocks    words, quotes, braces                           lines  ─► statements
//! here      who is told of which block                      statements ─► servers, groups, the rest
//! servers, reals, checkers, methods, groups                 ─► lvs::Virtual
//! ```
//!
//! keepalived does two things: it checks and balances, which is carried over, and it holds addresses
//! between boxes (VRRP), which it goes on doing beside Shunt. Blocks of the second kind are remarked on
//! and left to it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;

use super::note::Notes;
use super::{ImportError, Imported};

mod blocks;
mod checkers;
mod checks;
mod groups;
mod methods;
mod reals;
mod sequences;
mod servers;
mod source;
mod values;
mod words;

use blocks::Statement;
use groups::Group;

/// What may stand outside of all blocks and is for others than the balancer.
const OTHERS: [&str; 27] = [
    "vrrp_instance",
    "vrrp_sync_group",
    "vrrp_script",
    "vrrp_track_process",
    "track_process",
    "track_file",
    "vrrp_track_file",
    "track_group",
    "static_ipaddress",
    "static_routes",
    "static_rules",
    "static_track_group",
    "linkbeat_interfaces",
    "garp_group",
    "interface_up_down_delays",
    "bfd_instance",
    "net_namespace",
    "net_namespace_ipvs",
    "namespace_with_ipsets",
    "instance",
    "use_pid_dir",
    "linkbeat_use_polling",
    "child_wait_time",
    "include_check",
    "config_save_dir",
    "notify_fifo",
    "SSL",
];

/// Settings of `global_defs` that change how keepalived balances.
const GLOBAL_LOST: [(&str, &str, &str); 5] = [
    (
        "lvs_sync_daemon",
        "connections are not synchronised between boxes",
        "use the scheduler `mh` and `sloppy` where connections shall outlive a box",
    ),
    ("startup_script", "Shunt starts no scripts", "start it from the unit (ExecStartPre=)"),
    ("shutdown_script", "Shunt starts no scripts", "start it from the unit (ExecStopPost=)"),
    ("lvs_notify_fifo", "Shunt writes no fifo", "follow the log or the metrics"),
    ("lvs_notify_fifo_script", "Shunt writes no fifo", "follow the log or the metrics"),
];

/// Reads a configuration with all it includes.
pub(super) fn import(
    path: &Path,
    id: Option<&str>,
    notes: &mut Notes,
) -> Result<Imported, ImportError> {
    let id = id.map_or_else(host_name, str::to_owned);
    let lines = source::read(path, &id, notes)?;
    let statements = blocks::parse(&lines)?;
    let is_one = |statement: &Statement| {
        let keyword = statement.keyword();
        keyword.starts_with("virtual_server")
            || keyword == "global_defs"
            || OTHERS.contains(&keyword)
    };
    if !statements.iter().any(is_one) {
        let expected = "no block of keepalived's is in it (virtual_server, global_defs, \
                        vrrp_instance, …); for rules of ipvsadm there is `shunt import ipvsadm`";
        return Err(ImportError::Dialect { path: path.to_owned(), expected });
    }
    Ok(whole(&statements, notes))
}

/// What keepalived takes for its id unless told: this host's name, up to the first dot.
fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().split('.').next().unwrap_or_default().to_owned()
}

fn whole(statements: &[Statement], notes: &mut Notes) -> Imported {
    let mut imported = Imported::default();
    let groups: HashMap<&str, Group> = statements
        .iter()
        .filter(|statement| statement.keyword() == "virtual_server_group")
        .filter_map(|statement| Some((statement.value()?, groups::group(statement, notes))))
        .collect();
    for statement in statements {
        match statement.keyword() {
            "virtual_server" => {
                imported.virtuals.extend(servers::server(statement, &groups, notes));
            }
            "virtual_server_group" => {}
            "global_defs" => global(statement, &mut imported, notes),
            keyword if OTHERS.contains(&keyword) => {
                notes.remark(
                    &statement.place,
                    &statement.text(),
                    "this is keepalived's to keep: it goes on beside Shunt",
                );
            }
            _ => values::unknown(statement, notes),
        }
    }
    moving_vips(statements, &imported, notes);
    imported
}

fn global(block: &Statement, imported: &mut Imported, notes: &mut Notes) {
    for statement in block.inside() {
        let keyword = statement.keyword();
        if keyword == "lvs_timeouts" {
            timeouts(statement, imported, notes);
        } else if let Some((_, why, mend)) = GLOBAL_LOST.iter().find(|(name, ..)| *name == keyword)
        {
            notes.lost(&statement.place, &statement.text(), why, mend);
        }
    }
    let why = "what concerns VRRP, mail and processes is keepalived's to keep";
    notes.remark(&block.place, "global_defs", why);
}

/// `lvs_timeouts [tcp N] [tcpfin N] [udp N]`; 0 leaves it as it is.
fn timeouts(statement: &Statement, imported: &mut Imported, notes: &mut Notes) {
    for pair in statement.values().chunks(2) {
        let key = match pair.first().map(String::as_str) {
            Some("tcp") => Some("tcp_established_s"),
            Some("tcpfin") => Some("tcp_fin_wait_s"),
            Some("udp") => Some("udp_s"),
            _ => None,
        };
        let seconds = pair.get(1).and_then(|text| text.parse::<u32>().ok());
        match (key, seconds.filter(|seconds| *seconds <= 2_678_400)) {
            (Some(_), Some(0)) => {}
            (Some(key), Some(seconds)) => {
                imported.timeouts.push((key, seconds, statement.place.clone()));
            }
            _ => {
                let mend = "write the seconds into [timeouts]";
                notes.lost(&statement.place, &statement.text(), "not understood", mend);
            }
        }
    }
}

/// A VIP that VRRP moves from box to box: with Shunt the address is on the TAPs of both.
fn moving_vips(statements: &[Statement], imported: &Imported, notes: &mut Notes) {
    let vips = imported.virtuals.iter().flat_map(|one| &one.addresses);
    let vips: std::collections::HashSet<IpAddr> = vips.map(|it| it.value.ip()).collect();
    let instances = statements.iter().filter(|it| it.keyword() == "vrrp_instance");
    let lists = instances
        .flat_map(Statement::inside)
        .filter(|it| matches!(it.keyword(), "virtual_ipaddress" | "virtual_ipaddress_excluded"));
    for line in lists.flat_map(Statement::inside) {
        let address = line.keyword().split('/').next().unwrap_or_default().parse();
        if address.is_ok_and(|address| vips.contains(&address)) {
            notes.remark(
                &line.place,
                line.keyword(),
                "VRRP moves this address, and it is a VIP, which Shunt has on its TAPs on every box \
                 that runs it: let VRRP move another address, and route the VIP to that",
            );
        }
    }
}
