//! Health checks and what they decide: told, one by one, as nothing carries them over.

use super::super::note::Notes;
use super::blocks::Statement;

/// Blocks of a real server that are checks.
pub(super) const CHECKERS: [&str; 10] = [
    "TCP_CHECK",
    "HTTP_GET",
    "SSL_GET",
    "SMTP_CHECK",
    "DNS_CHECK",
    "MISC_CHECK",
    "BFD_CHECK",
    "UDP_CHECK",
    "PING_CHECK",
    "FILE_CHECK",
];

/// Settings of virtual and real servers that are about checks.
pub(super) const SETTINGS: [&str; 16] = [
    "delay_loop",
    "connect_timeout",
    "retry",
    "nb_get_retry",
    "delay_before_retry",
    "warmup",
    "alpha",
    "omega",
    "quorum",
    "hysteresis",
    "sorry_server",
    "sorry_server_inhibit",
    "sorry_server_lvs_method",
    "inhibit_on_failure",
    "virtualhost",
    "log_all_failures",
];

/// Says that there are none.
pub(super) fn lost(statement: &Statement, notes: &mut Notes) {
    let why = "Shunt checks no backends: all of them stay in service";
    let mend = "let a checker set weights in the file and reload";
    notes.lost(&statement.place, &statement.text(), why, mend);
}
