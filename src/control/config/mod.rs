//! `shunt.toml`, from text to a [`plan::Plan`].
//!
//! ```text
//! text ─► schema (shape, types, unknown keys) ─► validate (everything else) ─► Plan
//!              │ the first problem                   │ all of them                │
//!              └──────────► explain ────► error ◄────┘               diff(old, new)
//! ```
//!
//! A file is taken whole, with those it includes ([`files`]), or not at all. Whatever is wrong is said with file, line and column, the
//! line itself, and what was expected.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use error::{Problem, Problems};

pub mod client_address;
pub mod described;
pub mod diff;
mod error;
mod explain;
pub mod files;
mod machine;
pub mod mode;
pub mod plan;
mod schema;
mod validate;

pub use error::{ConfigError, ConfigErrors, REPORTED_MAX};
use files::Files;
pub use machine::{Machine, MissingCpu, cpu_list, parse_cpu_list};
use plan::Plan;

use super::edition::Written;
use super::voice::say_first;
use crate::dataplane::snapshot::{Protocol, ServiceAddress};

/// Largest file read: some hundred times what the limits on services and backends can fill.
const SIZE_MAX: u64 = 64 << 20;

/// A valid configuration, and what seemed odd about it.
#[derive(Debug)]
pub struct Reading {
    /// The configuration.
    pub plan: Plan,
    /// Rendered and bounded like errors; the configuration is used all the same.
    pub warnings: Vec<String>,
}

/// Where clients find a service, from the words of the file. `None` if that is no place.
pub fn place(protocol: &str, address: &str) -> Option<(Protocol, ServiceAddress)> {
    let protocol = Protocol::ALL.into_iter().find(|known| known.to_string() == protocol)?;
    Some((protocol, validate::address(address)?))
}

/// Reads, validates and resolves a file for this machine; warnings go to the log.
pub fn load(path: &Path, machine: &Machine) -> Result<Written, ConfigError> {
    let files = Files::read(path)?;
    let reading = parse_files(&files, machine)?;
    let said = |warning: &String| tracing::warn!(%warning, "the file can be used, but");
    if let Some(kept) = say_first(&reading.warnings, said) {
        tracing::warn!(kept, "more warnings were not logged; `shuntd check` prints all");
    }
    Ok(Written { plan: reading.plan, files })
}

/// As [`load`], without the text and handing over the warnings.
pub fn load_for(path: &Path, machine: &Machine) -> Result<Reading, ConfigError> {
    Ok(parse_files(&Files::read(path)?, machine)?)
}

/// Validates and resolves a text for this machine. `origin` names it in messages.
pub fn parse(text: &str, origin: &Path) -> Result<Plan, ConfigErrors> {
    parse_for(text, origin, &Machine::here()).map(|reading| reading.plan)
}

/// As [`parse`], for a given machine, handing over the warnings.
pub fn parse_for(text: &str, origin: &Path, machine: &Machine) -> Result<Reading, ConfigErrors> {
    parse_files(&Files::around(origin, text.to_owned())?, machine)
}

/// As [`parse_for`], of files that have been read.
pub fn parse_files(files: &Files, machine: &Machine) -> Result<Reading, ConfigErrors> {
    let refuse = |mut errors: Vec<Problem>| error::render_all(&mut errors, files, "");
    let file = files.shape().map_err(|problem| refuse(vec![problem]))?;
    let mut problems = Problems::default();
    let mut plan = validate::validate(&file, &files.path, machine, &mut problems);
    for port in &mut plan.ports {
        let written = file.port.iter().map(schema::Spanned::get_ref);
        let device =
            written.filter(|it| *it.name.get_ref() == port.name).find_map(|it| it.device.as_ref());
        port.line = device
            .map(|it| plan::Line(error::line(&files.text, it.span().start)))
            .unwrap_or_default();
    }
    if !problems.errors.is_empty() {
        return Err(refuse(problems.errors));
    }
    let rendered = error::render_all(&mut problems.warnings, files, "warning: ");
    let mut warnings = rendered.messages;
    if rendered.more > 0 {
        warnings.push(format!("{}: and {} more warnings", files.path.display(), rendered.more));
    }
    Ok(Reading { plan, warnings })
}

/// The file's text, or one sentence why there is none.
fn read(path: &Path) -> Result<String, ConfigError> {
    let refuse = |reason: String| ConfigError::Unreadable { path: path.to_owned(), reason };
    let file = File::open(path).map_err(|error| refuse(format!("cannot be opened: {error}")))?;
    if file.metadata().is_ok_and(|metadata| metadata.is_dir()) {
        return Err(refuse("is a directory; a configuration file was expected".into()));
    }
    let mut bytes = Vec::new();
    file.take(SIZE_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| refuse(format!("cannot be read: {error}")))?;
    text(bytes).map_err(refuse)
}

/// What was read, at most a byte more than [`SIZE_MAX`], as text; or what is wrong with it.
fn text(bytes: Vec<u8>) -> Result<String, String> {
    if bytes.len() as u64 > SIZE_MAX {
        return Err(format!("is larger than {} MiB", SIZE_MAX >> 20));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..at].split(|&byte| byte == b'\n').count();
        format!("is not UTF-8 text (first bad byte in line {line})")
    })
}

#[cfg(test)]
mod tests;
