//! `syn_cookies` of a service: when SYNs are answered before a backend is asked; and
//! `syn_cookies_wait_for_data`: how long that one is not.
//!
//! ```text
//! "never"                      a SYN makes a connection
//! "always"                     every SYN is answered with a cookie
//! { above_per_second = 1000 }  those above so many a second are, over all workers
//! ```

use toml::Value;

use super::super::error::Problems;
use super::super::schema::Spanned;
use super::super::{plan, schema};
use crate::dataplane::snapshot::{Mode, Protocol, SynCookies};

/// Most new connections a second that are worth counting.
const RATE_MAX: i64 = 100_000_000;
const SHAPES: &str = "\"never\", \"always\" or { above_per_second = 1000 }";

/// When SYNs are answered with cookies.
pub(super) fn syn_cookies(
    problems: &mut Problems,
    written: &schema::Service,
    spoken: &[Protocol],
    modes: &[Option<Mode>],
) -> SynCookies {
    let Some(value) = written.syn_cookies.as_ref() else { return SynCookies::Never };
    let Some(wanted) = read(problems, value) else { return SynCookies::Never };
    if wanted == SynCookies::Never {
        return wanted;
    }
    if let Some(protocol) = spoken.first().filter(|_| !spoken.contains(&Protocol::Tcp)) {
        let message = format!("`syn_cookies` is for tcp: there is no SYN in {protocol}");
        problems.error(value.span(), message);
    } else if let Some(mode) = modes.iter().flatten().find_map(|mode| answers_elsewhere(*mode)) {
        let message = format!(
            "`syn_cookies` cannot be had in mode `{mode}`: the backend's answers do not pass here, \
             so nobody can turn its sequence numbers into those the client was told"
        );
        problems.error(value.span(), message);
    }
    wanted
}

/// Are backends asked only when a client has said something?
pub(super) fn wait_for_data(
    problems: &mut Problems,
    written: &schema::Service,
    cookies: SynCookies,
) -> bool {
    let Some(value) = written.syn_cookies_wait_for_data.as_ref() else { return false };
    let wanted = *value.get_ref();
    if wanted && cookies == SynCookies::Never {
        let message = "this does nothing without `syn_cookies`";
        problems.error_help(value.span(), message, SHAPES);
    }
    wanted
}

/// Warns of a service all of whose connections come by cookies where fewer of those may live than of
/// connections: from there on its SYNs find nobody.
pub(super) fn room(
    problems: &mut Problems,
    written: &[Spanned<schema::Service>],
    services: &[plan::Service],
    daemon: &plan::Daemon,
) {
    let by_cookies = daemon.cookie_connections_max;
    for (written, service) in written.iter().zip(services) {
        let is_v6 = service.address.vip.is_ipv6();
        let all = if is_v6 { daemon.connections_ipv6_max } else { daemon.connections_max };
        let most = match service.quotas.service.connections {
            0 => all,
            own => own.min(all),
        };
        let value = written.get_ref().syn_cookies.as_ref();
        let Some(value) = value.filter(|_| service.syn_cookies == SynCookies::Always) else {
            continue;
        };
        if by_cookies < most {
            problems.warn(
                value.span(),
                format!(
                    "every connection of this service comes by a cookie, but of {most} that may \
                     live only {by_cookies} may have come so, of all services: then SYNs are \
                     dropped; `cookie_connections` in [limits] is how many"
                ),
            );
        }
    }
}

fn read(problems: &mut Problems, value: &Spanned<Value>) -> Option<SynCookies> {
    let refuse = |problems: &mut Problems, message: String| {
        problems.error_help(value.span(), message, SHAPES);
        None
    };
    match value.get_ref() {
        Value::String(word) => match word.as_str() {
            "never" => Some(SynCookies::Never),
            "always" => Some(SynCookies::Always),
            _ => refuse(problems, format!("unknown value `{word}` for syn_cookies")),
        },
        Value::Table(table) => {
            let mut entries = table.iter();
            match (entries.next(), entries.next()) {
                (Some((key, Value::Integer(rate))), None) if key == "above_per_second" => {
                    above(problems, value, *rate)
                }
                _ => refuse(problems, "this table is not one of syn_cookies".into()),
            }
        }
        _ => refuse(problems, "syn_cookies is a word or a table".into()),
    }
}

fn above(problems: &mut Problems, value: &Spanned<Value>, rate: i64) -> Option<SynCookies> {
    match u32::try_from(rate) {
        Ok(per_second) if (1..=RATE_MAX).contains(&rate) => Some(SynCookies::Above { per_second }),
        _ => {
            let message = format!("above_per_second {rate} is out of range (1 to {RATE_MAX})");
            problems.error_help(value.span(), message, "\"always\" is for none at all");
            None
        }
    }
}

/// The name of a mode whose backends answer clients by themselves.
pub(super) fn answers_elsewhere(mode: Mode) -> Option<&'static str> {
    match mode {
        Mode::Dr => Some("dr"),
        Mode::Tunnel(_) => Some("tunnel"),
        Mode::Fullnat | Mode::Nat => None,
    }
}
