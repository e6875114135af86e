//! `mode` and the `tunnel` tables: how each backend of a service is reached.
//!
//! ```text
//! [[service]] mode ─────────► [[service.backend]] mode       the nearer one holds
//! [service.tunnel] ─────────► [service.backend.tunnel]       so here too, the whole table at once
//! ```
//!
//! A word that is not known is reported once; what would follow from it is not judged (`None`).

use super::super::error::Problems;
use super::super::mode::line;
use super::super::schema::{self, Spanned};
use super::value::{choice, integer};
use crate::dataplane::snapshot::{Encapsulation, GueChecksum, Mode};

/// What a service says for all its backends.
pub(super) struct ServiceMode {
    mode: Option<Mode>,
    encapsulation: Encapsulation,
}

impl ServiceMode {
    pub(super) fn read(problems: &mut Problems, written: &schema::Service) -> Self {
        let tunnel = written.tunnel.as_ref().map(|tunnel| encapsulation(problems, tunnel));
        Self {
            mode: mode(problems, written.mode.as_ref(), Some(Mode::Fullnat)),
            encapsulation: tunnel.unwrap_or_default(),
        }
    }

    /// The mode of one of its backends.
    pub(super) fn of_backend(
        &self,
        problems: &mut Problems,
        written: &schema::Backend,
    ) -> Option<Mode> {
        let own = written.tunnel.as_ref().map(|tunnel| (encapsulation(problems, tunnel), tunnel));
        let mode = mode(problems, written.mode.as_ref(), self.mode)?;
        match (mode, own) {
            (Mode::Tunnel(_), None) => Some(Mode::Tunnel(self.encapsulation)),
            (Mode::Tunnel(_), Some((own, _))) => Some(Mode::Tunnel(own)),
            (mode, None) => Some(mode),
            (mode, Some((_, table))) => {
                let (address, word) = (written.address.get_ref(), line(mode));
                let message = format!("backend {address} has tunnel settings and mode `{word}`");
                problems.error_help(table.span(), message, TO_TUNNEL);
                Some(mode)
            }
        }
    }

    /// Is any of these reached in FULL-NAT? Without backends it is what the next would get.
    pub(super) fn needs_local_addresses(&self, backends: &[Option<Mode>]) -> bool {
        let mut modes = backends.iter().copied();
        modes.any(|mode| mode == Some(Mode::Fullnat))
            || (backends.is_empty() && self.mode == Some(Mode::Fullnat))
    }

    /// Refuses tunnel settings that no backend takes.
    pub(super) fn refuse_idle_tunnel(
        &self,
        problems: &mut Problems,
        written: &schema::Service,
        backends: &[Option<Mode>],
    ) {
        let mut modes = backends.iter().copied().chain([self.mode]);
        let Some(table) = &written.tunnel else { return };
        // An unknown mode may have been meant to be this one.
        if modes.any(|mode| matches!(mode, None | Some(Mode::Tunnel(_)))) {
            return;
        }
        let name = written.name.get_ref();
        let message = format!("service `{name}` has tunnel settings and nothing of mode `tunnel`");
        problems.error_help(table.span(), message, TO_TUNNEL);
    }
}

const TO_TUNNEL: &str = "write `mode = \"tunnel\"`, or remove them";

const MODES: [(&str, Option<Mode>); 4] = [
    ("fullnat", Some(Mode::Fullnat)),
    ("nat", Some(Mode::Nat)),
    ("dr", Some(Mode::Dr)),
    ("tunnel", Some(Mode::Tunnel(Encapsulation::Ipip))),
];

/// The mode written, or `default` if none is; `None` if it is not known.
fn mode(
    problems: &mut Problems,
    value: Option<&Spanned<String>>,
    default: Option<Mode>,
) -> Option<Mode> {
    let default = if value.is_some() { None } else { default };
    choice(problems, "mode", value, &MODES, default)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Ipip,
    Gue,
    Gre,
}

const KINDS: [(&str, Option<Kind>); 3] =
    [("ipip", Some(Kind::Ipip)), ("gue", Some(Kind::Gue)), ("gre", Some(Kind::Gre))];

fn encapsulation(problems: &mut Problems, table: &Spanned<schema::Tunnel>) -> Encapsulation {
    let written = table.get_ref();
    let default = if written.kind.is_some() { None } else { Some(Kind::Ipip) };
    let kind = choice(problems, "kind", written.kind.as_ref(), &KINDS, default);
    let Some(kind) = kind else { return Encapsulation::default() };
    refuse_other_kinds_keys(problems, kind, written);
    let port = integer(problems, "port", written.port.as_ref(), 1..=65_535, 0);
    let is_on = |key: &schema::Maybe<bool>| key.as_ref().is_some_and(|on| *on.get_ref());
    let checksum = is_on(&written.checksum);
    match kind {
        Kind::Ipip => Encapsulation::Ipip,
        Kind::Gre => Encapsulation::Gre { checksum },
        Kind::Gue => {
            if written.port.is_none() {
                let help = "for example `port = 6080`, where the backends listen for it";
                problems.error_help(table.span(), "a tunnel of kind `gue` needs a port", help);
            }
            let checksum = match (is_on(&written.remote_checksum), checksum) {
                (true, _) => GueChecksum::Remote,
                (false, true) => GueChecksum::Outer,
                (false, false) => GueChecksum::Zero,
            };
            Encapsulation::Gue { port, checksum }
        }
    }
}

/// Keys that mean nothing for this kind.
fn refuse_other_kinds_keys(problems: &mut Problems, kind: Kind, written: &schema::Tunnel) {
    if let Some(port) = written.port.as_ref().filter(|_| kind != Kind::Gue) {
        problems.error(port.span(), "`port` is of kind `gue` only: the others have none");
    }
    if let Some(checksum) = written.checksum.as_ref().filter(|_| kind == Kind::Ipip) {
        let message = "`checksum` is of kinds `gue` and `gre` only: `ipip` has none";
        problems.error(checksum.span(), message);
    }
    if let Some(remote) = written.remote_checksum.as_ref().filter(|_| kind != Kind::Gue) {
        problems.error(remote.span(), "`remote_checksum` is of kind `gue` only");
    }
    if let (Some(checksum), Some(remote)) = (&written.checksum, &written.remote_checksum)
        && *remote.get_ref()
        && !*checksum.get_ref()
    {
        let message = "`remote_checksum` needs the outer checksum, and this turns it off";
        problems.error_help(checksum.span(), message, "leave `checksum` out: it is implied");
    }
}
