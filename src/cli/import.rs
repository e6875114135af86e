//! `shunt import`: another balancer's configuration as a `shunt.toml`, for somebody who moves.
//!
//! ```text
//! keepalived.conf ─► keepalived/ ─┐ virtual services                 ┌─► shunt.toml
//!                                 ├─► lvs ─► draft ─► text ─► check ─┤
//! ipvsadm -S      ─► ipvsadm     ─┘   │                 ▲            └─► what was left out, by line
//!                                     └─► notes         base: ports, CPUs
//! ```
//!
//! Nothing is left out in silence: every line that has no counterpart is named, with the reason and
//! what to do. Exit codes: 0 all that matters was carried over, 1 something was not, 2 nothing was
//! written: the file cannot be read or is in no dialect that is known.

use std::collections::HashSet;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::control::config::{Machine, parse_for};
use crate::control::words::count;

mod base;
mod draft;
mod health;
mod input;
mod ipvsadm;
mod keepalived;
mod lvs;
mod note;

use base::Base;
use note::Notes;
pub use note::{Note, Place, Weight};

/// What is imported, and where to.
#[derive(Debug, clap::Args)]
pub struct Import {
    #[command(subcommand)]
    from: From,
}

#[derive(Debug, clap::Subcommand)]
enum From {
    /// From a `keepalived.conf`: its virtual servers
    Keepalived {
        #[command(flatten)]
        ways: Ways,
        /// Read lines with `@ID` as keepalived would with this `--config-id` [default: this host's name]
        #[arg(long, value_name = "ID")]
        config_id: Option<String>,
    },
    /// From rules of ipvsadm: what `ipvsadm -S -n` prints, or a script of such lines
    Ipvsadm {
        #[command(flatten)]
        ways: Ways,
    },
}

#[derive(Debug, clap::Args)]
struct Ways {
    /// What to import; `-` for standard input
    file: PathBuf,
    /// Write here instead of to standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace the file that is there
    #[arg(long, requires = "output")]
    force: bool,
    /// Take all but the services from this `shunt.toml`, instead of leaving gaps to fill
    #[arg(long, value_name = "FILE")]
    ports: Option<PathBuf>,
}

/// Why nothing was imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file cannot be read.
    #[error("{path}: cannot be imported: {reason}", path = path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// It is something else.
    #[error("{path}: {expected}", path = path.display())]
    Dialect {
        /// Which.
        path: PathBuf,
        /// What was looked for, and what to try.
        expected: &'static str,
    },
    /// A block has no end.
    #[error("{place}: `{what}` has no closing brace: write `}}` where it ends")]
    Unclosed {
        /// Where it begins.
        place: Place,
        /// What it is.
        what: String,
    },
    /// A block has no beginning.
    #[error("{place}: a closing brace that closes nothing: take it out, or open a block before it")]
    Unopened {
        /// Where it is.
        place: Place,
    },
    /// It would never end.
    #[error("{place}: {what}: that is a loop, or no configuration")]
    TooMuch {
        /// Where it was noticed.
        place: Place,
        /// What there is too much of.
        what: String,
    },
    /// `--ports` cannot be used.
    #[error("--ports: {0}")]
    Base(String),
    /// There is something where it should be written.
    #[error("{0} is there already: choose another name, or say --force to replace it")]
    Exists(PathBuf),
    /// It cannot be written.
    #[error("cannot write {path}: {source}", path = path.display())]
    Write {
        /// Where to.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Standard output cannot be written to.
    #[error("cannot write the answer: {0}")]
    Output(io::Error),
}

/// What came of it.
#[derive(Debug, Serialize)]
struct Outcome {
    /// The whole `shunt.toml`.
    configuration: String,
    /// What is not as it was.
    notes: Vec<Note>,
    /// What `shuntd check` says against it; nothing, if all is well.
    refused: Option<String>,
    #[serde(skip)]
    sums: String,
}

impl Outcome {
    fn is_whole(&self) -> bool {
        self.refused.is_none() && self.notes.iter().all(|note| note.weight != Weight::Lost)
    }
}

/// What a dialect yields.
#[derive(Debug, Default)]
struct Imported {
    virtuals: Vec<lvs::Virtual>,
    /// Keys of `[timeouts]`, with the line each is from.
    timeouts: Vec<(&'static str, u32, Place)>,
}

/// Imports, writes the result to `out` or a file, and what is to say of it to `err`. False if
/// something that matters was left out.
pub fn run(
    asked: &Import,
    json: bool,
    out: &mut impl Write,
    err: &mut impl Write,
) -> Result<bool, ImportError> {
    let mut notes = Notes::default();
    let (ways, imported) = match &asked.from {
        From::Keepalived { ways, config_id } => {
            (ways, keepalived::import(&ways.file, config_id.as_deref(), &mut notes)?)
        }
        From::Ipvsadm { ways } => (ways, ipvsadm::import(&ways.file, &mut notes)?),
    };
    let outcome = outcome(ways, &imported, notes)?;
    if let Some(path) = &ways.output {
        write(path, &outcome.configuration, ways.force)?;
    }
    let text = match (json, &ways.output) {
        (true, _) => serde_json::to_string_pretty(&outcome).unwrap_or_default() + "\n",
        (false, Some(_)) => String::new(),
        (false, None) => outcome.configuration.clone(),
    };
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(ImportError::Output)?;
    if !json {
        // Standard error is where we would complain about it.
        let _ = err.write_all(said(&outcome).as_bytes());
    }
    Ok(outcome.is_whole())
}

/// The notes as lines, the most important ones first, and what there is of them.
fn said(outcome: &Outcome) -> String {
    let of = |weight: Weight| outcome.notes.iter().filter(move |note| note.weight == weight);
    let kinds = [Weight::Lost, Weight::Changed, Weight::Remark];
    let lines: Vec<String> = kinds.into_iter().flat_map(of).map(ToString::to_string).collect();
    let lines: String = lines.iter().flat_map(|line| [line, "\n"]).collect();
    let refused = outcome.refused.as_ref().map_or(String::new(), |refused| {
        format!("{refused}\nthe result cannot be used as it is: shuntd check says the above\n")
    });
    let [lost, changed, remarks] = kinds.map(|kind| of(kind).count());
    let remarks = count(remarks, "remark");
    let sums = &outcome.sums;
    format!("{lines}{refused}{sums}; {lost} not carried over, {changed} changed, {remarks}\n")
}

fn outcome(ways: &Ways, imported: &Imported, mut notes: Notes) -> Result<Outcome, ImportError> {
    let base = ways.ports.as_deref().map_or_else(|| Ok(Base::frame()), Base::of)?;
    let services = lvs::services(&imported.virtuals, &HashSet::new(), &mut notes);
    let timeouts = timeouts(&base, &imported.timeouts, &mut notes);
    let mut configuration =
        format!("# Imported from {}.\n\n{}{timeouts}", ways.file.display(), base.text);
    for service in &services {
        configuration += "\n";
        configuration += &draft::service(service);
    }
    let whole = services.iter().filter(|it| !it.addresses.is_empty() && !it.has_gap);
    let backends: usize = whole.clone().map(backends).sum();
    Ok(Outcome {
        refused: refusal(ways, &configuration),
        notes: notes.into_inner(),
        sums: format!("{}, {}", count(whole.count(), "service"), count(backends, "backend")),
        configuration,
    })
}

fn backends(service: &draft::Service) -> usize {
    service.backends.iter().filter(|backend| !backend.left_out).count()
}

fn timeouts(base: &Base, timeouts: &[(&'static str, u32, Place)], notes: &mut Notes) -> String {
    let mut text = String::new();
    for (key, seconds, place) in timeouts {
        let line = format!("{key} = {seconds}");
        if base.has_timeouts {
            let mend = format!("write `{line}` there");
            notes.lost(place, &line, "the file of --ports has its own [timeouts]", &mend);
        } else {
            text += &line;
            text += "\n";
        }
    }
    if text.is_empty() { text } else { format!("\n[timeouts]\n{text}") }
}

/// What `shuntd check` says against the result: nothing is expected, and nothing is hidden.
fn refusal(ways: &Ways, configuration: &str) -> Option<String> {
    let stands = ways.output.as_deref().or(ways.ports.as_deref());
    let folder = stands.and_then(Path::parent).unwrap_or(Path::new(""));
    let machine = Machine::here().elsewhere();
    let errors = parse_for(configuration, &folder.join("(the result)"), &machine).err()?;
    Some(errors.to_string())
}

/// Writes a file as a whole or not at all, and over no other unless told to.
fn write(path: &Path, text: &str, force: bool) -> Result<(), ImportError> {
    let failed = |source| ImportError::Write { path: path.to_owned(), source };
    if force {
        let mut beside = path.as_os_str().to_owned();
        beside.push(format!(".{}", std::process::id()));
        let beside = PathBuf::from(beside);
        return fs::File::create_new(&beside)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .and_then(|()| fs::rename(&beside, path))
            .inspect_err(|_| drop(fs::remove_file(&beside)))
            .map_err(failed);
    }
    let mut file = match fs::File::create_new(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(ImportError::Exists(path.to_owned()));
        }
        other => other.map_err(failed)?,
    };
    file.write_all(text.as_bytes()).inspect_err(|_| drop(fs::remove_file(path))).map_err(failed)
}

#[cfg(test)]
mod tests;
