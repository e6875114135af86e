//! Programs of checks, on the machine that is to run them.
//!
//! One that is not there, or is no program, is warned of and not refused: it may come with what is mounted later, and a
//! balancer that does not start for it would be worse than a check that fails. On another machine nothing is looked for.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::super::error::Problems;
use super::super::machine::Machine;
use super::super::schema::{self, Spanned};

/// Anybody may run it.
const RUNNABLE: u32 = 0o111;

/// Warns of programs that cannot be run.
pub(super) fn warn_of_missing(
    problems: &mut Problems,
    services: &[Spanned<schema::Service>],
    machine: &Machine,
) {
    if !machine.is_here {
        return;
    }
    for service in services.iter().map(Spanned::get_ref) {
        let own = service.backend.iter().flat_map(|backend| &backend.check);
        for command in service.check.iter().chain(own).filter_map(|it| it.command.as_ref()) {
            let program = command.get_ref().first().filter(|it| it.get_ref().starts_with('/'));
            let Some(program) = program else { continue };
            if let Some(reason) = fault(program.get_ref()) {
                let message = format!("{}: {reason}: its checks will fail", program.get_ref());
                problems.warn(program.span(), message);
            }
        }
    }
}

/// Why it cannot be run, if that is known.
fn fault(program: &str) -> Option<String> {
    match fs::metadata(program) {
        Ok(found) if !found.is_file() => Some("it is no file".into()),
        Ok(found) if found.permissions().mode() & RUNNABLE == 0 => {
            Some(format!("nobody may run it; chmod +x {program}"))
        }
        Ok(_) => None,
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => None,
        Err(error) => Some(format!("it cannot be run: {error}")),
    }
}
