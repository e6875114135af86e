//! `include`: which files a file includes, found and read, each once.
//!
//! ```text
//! include = ["services/*.toml", …] ──► patterns ──► names, sorted ──► text, [[service]] and [[list]] only
//!             64 at most                              1000 at most       64 MiB over all
//! ```
//!
//! A pattern that matches nothing is an error: a folder that was not copied is no empty configuration. There is no `**`:
//! how long a reload takes must not hang on how deep a tree of folders is.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::super::error::{ConfigError, ConfigErrors, Problem, render_all};
use super::super::explain::{did_you_mean, explain};
use super::super::{SIZE_MAX, read};
use super::{File, Files};

/// Most files that one may include.
const INCLUDED_MAX: usize = 1000;
/// Most patterns in `include`.
const PATTERNS_MAX: usize = 64;
/// What may stand in an included file.
const KEYS: [&str; 2] = ["service", "list"];

/// Reads every file that a pattern of `files` matches.
pub(super) fn read_all(files: &Files) -> Result<Vec<File>, ConfigErrors> {
    // A file without the word needs no second look.
    if !files.text.contains("include") {
        return Ok(Vec::new());
    }
    let refuse = |problem| refused(files, problem);
    let patterns = patterns(&files.text).map_err(refuse)?;
    let mut gathered = Gathered::new(files);
    for pattern in &patterns {
        for path in matching(pattern, &files.path).map_err(refuse)? {
            gathered.take_in(pattern, &path)?;
        }
    }
    Ok(gathered.included)
}

/// One problem of a file, told.
fn refused(files: &Files, problem: Problem) -> ConfigErrors {
    render_all(&mut [problem], files, "")
}

fn problem(at: &Spanned<String>, message: String, help: &str) -> Problem {
    Problem { span: Some(at.span()), message, help: Some(help.to_owned()) }
}

/// What `include` says.
fn patterns(text: &str) -> Result<Vec<Spanned<String>>, Problem> {
    #[derive(serde::Deserialize)]
    struct Head {
        #[serde(default)]
        include: Vec<Spanned<String>>,
    }
    let head: Head = toml::from_str(text).map_err(|error| explain(&error))?;
    match head.include.get(PATTERNS_MAX) {
        None => Ok(head.include),
        Some(excess) => {
            let message = format!("more than {PATTERNS_MAX} patterns in include");
            Err(problem(excess, message, "a `*` stands for any part of a name"))
        }
    }
}

/// The files a pattern matches, by name; from the folder of the file that includes them.
fn matching(pattern: &Spanned<String>, from: &Path) -> Result<Vec<PathBuf>, Problem> {
    let written = pattern.get_ref();
    let refuse = |what: String, help| problem(pattern, format!("include `{written}` {what}"), help);
    if written.contains("**") {
        let help = "name each folder, for example \"services/*/*.toml\"";
        return Err(refuse("looks through folders of any depth".into(), help));
    }
    let options = glob::MatchOptions {
        case_sensitive: true,
        require_literal_separator: true,
        // What editors leave behind begins with a dot.
        require_literal_leading_dot: true,
    };
    let found = glob::glob_with(&from_folder_of(from, written), options);
    let found = found.map_err(|error| {
        refuse(format!("is no pattern: {error}"), "for example \"services/*.toml\"")
    })?;
    let found: Result<Vec<PathBuf>, glob::GlobError> = found.collect();
    let found = found.map_err(|error| {
        let (path, reason) = (error.path().display(), error.error());
        refuse(format!("cannot look into {path}: {reason}"), "shuntd must be let into the folder")
    })?;
    if found.is_empty() {
        let help = "a file that is not there yet may be empty";
        return Err(refuse("matches no file".into(), help));
    }
    Ok(found)
}

/// A pattern from the folder of a file, whose own name is none.
fn from_folder_of(file: &Path, pattern: &str) -> String {
    let folder = file.parent().unwrap_or(Path::new("")).display().to_string();
    if pattern.starts_with('/') || folder.is_empty() {
        return pattern.to_owned();
    }
    format!("{}/{pattern}", glob::Pattern::escape(folder.trim_end_matches('/')))
}

/// One file, whatever it is called.
fn identity(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// What has been read so far.
struct Gathered<'a> {
    /// The file that includes the others.
    from: &'a Files,
    seen: BTreeSet<PathBuf>,
    included: Vec<File>,
    bytes: usize,
}

impl<'a> Gathered<'a> {
    fn new(from: &'a Files) -> Self {
        Self { from, seen: BTreeSet::new(), included: Vec::new(), bytes: from.text.len() }
    }

    /// Reads a file that `pattern` matches, unless it has been read.
    fn take_in(&mut self, pattern: &Spanned<String>, path: &Path) -> Result<(), ConfigErrors> {
        let refuse = |message, help: &str| Err(refused(self.from, problem(pattern, message, help)));
        let identity_of_it = identity(path);
        if identity_of_it == identity(&self.from.path) {
            let message = format!("include `{}` matches this very file", pattern.get_ref());
            return refuse(message, "put the files it shall include into a folder of their own");
        }
        if !self.seen.insert(identity_of_it) {
            return Ok(());
        }
        if self.included.len() == INCLUDED_MAX {
            let message = format!("more than {INCLUDED_MAX} included files");
            return refuse(message, "several services may stand in one");
        }
        let text = match text(path) {
            Ok(text) => text,
            Err(reason) => return refuse(reason, "a text file that shuntd may read was expected"),
        };
        self.bytes += text.len();
        if self.bytes as u64 > SIZE_MAX {
            let message = format!("all files together are larger than {} MiB", SIZE_MAX >> 20);
            return refuse(message, "long lists may stand in a `file` of their own");
        }
        self.included.push(understood(Files::alone(path, text))?);
        Ok(())
    }
}

/// What an included file says, or a sentence why that cannot be known.
fn text(path: &Path) -> Result<String, String> {
    // Who opens a pipe waits for whoever writes into it.
    let is_odd = path.metadata().is_ok_and(|it| !it.is_file() && !it.is_dir());
    let outcome = if is_odd { Err("is no ordinary file".to_owned()) } else { plain(path) };
    outcome.map_err(|reason| format!("included file {} {reason}", path.display()))
}

fn plain(path: &Path) -> Result<String, String> {
    read(path).map_err(|error| match error {
        ConfigError::Unreadable { reason, .. } => reason,
        ConfigError::Invalid(errors) => errors.to_string(),
    })
}

/// A file that holds what it may.
fn understood(alone: Files) -> Result<File, ConfigErrors> {
    let table = DeTable::parse(&alone.text).map_err(|error| explain(&error));
    let services = table.and_then(|table| services_in(table.get_ref()));
    match services {
        Ok(services) => Ok(File { path: alone.path, text: alone.text, services }),
        Err(problem) => Err(refused(&alone, problem)),
    }
}

/// How many they are; or what stands there and must not.
fn services_in(table: &DeTable<'_>) -> Result<usize, Problem> {
    let mut services = 0;
    for (key, value) in table {
        let name = key.get_ref().as_ref();
        let refuse = |message: String, help: String| {
            Err(Problem { span: Some(key.span()), message, help: Some(help) })
        };
        if !KEYS.contains(&name) {
            let only = || "only [[service]] and [[list]] may".to_owned();
            let help = did_you_mean(name, &KEYS).unwrap_or_else(only);
            return refuse(format!("`{name}` cannot stand in an included file"), help);
        }
        let DeValue::Array(tables) = value.get_ref() else {
            let it = value.get_ref();
            let found = if it.is_table() { "a table" } else { it.type_str() };
            let help = format!("write the header in two brackets: [[{name}]]");
            return refuse(format!("expected an array of tables, found {found}"), help);
        };
        services += if name == "service" { tables.len() } else { 0 };
    }
    Ok(services)
}
